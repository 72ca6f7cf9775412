"""Spatial augmentation of batches of clips: the papers' lists.

It runs on the training device; each operation has a probability.

A list is a crop and then operations, in the order in which they are applied, then normalisation.
One draw per clip is held over all of its frames, or with ``consistent=False`` every frame draws
anew (CVRL Table 9). The arithmetic is in operations.py, the pool of RandAugment in randaugment.py.

Shapes: B clips, C = 3 channels, T frames, H W the padded frame size of the batch, S the output
size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vididi.draws import Use, key, uniform
from vididi.views.operations import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    centre_boxes,
    crop_resize,
    gaussian_blur,
    normalise_,
    random_sized_boxes,
    solarise,
    to_gray,
)
from vididi.views.randaugment import LEVELS, POOL

Keys = NDArray[np.uint64]
# uint8 [B, 3, T, H, W], sizes [B, 2], keys [B] -> [0, 1] [B, 3, T, S, S].
Crop = Callable[[Tensor, NDArray, Keys], Tensor]
# [0, 1] [B, 3, T, S, S], keys [B], view -> the same; may write into its input.
Operation = Callable[[Tensor, Keys, int], Tensor]

# Numbers that a CPU augments at a time: a clip of so many alone, of smaller ones a group. By
# measurement; the cache holds them, and each call has its price.
LARGE_CLIP, GROUP = 1 << 16, 1 << 19
MAX_OPERATORS = 100  # of RandAugment, one after another

# Which of a clip's random numbers is for what: the same in every list, so that lists differ in
# their operations only.
_FLIP, _BLUR, _SIGMA, _JITTER, _GRAY, _SOLARISE = 0, 1, 2, 3, 12, 13
_ORDER, _FACTORS, _BOX = slice(4, 8), slice(8, 12), slice(16, 38)
_POOL = 38  # and on: two for each operator


# --- Checks ---------------------------------------------------------------------------------------
# Each comparison is written so that nan fails it.


def _check_probabilities(**options: float) -> None:
    for name, value in options.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}: {value} is not a probability; it must lie in [0, 1]")


def _check_range(name: str, value: tuple[float, float], highest: float = math.inf) -> None:
    low, high = value
    if not (0 < low <= high <= highest and high < math.inf):
        rule = "0 < low <= high" + (f" <= {highest:g}" if highest < math.inf else " and be finite")
        raise ValueError(f"{name}: {value} is not valid; it must hold {rule}")


def _check_integer(name: str, value: int, lowest: int, highest: float) -> None:
    if not isinstance(value, int) or not lowest <= value <= highest:
        rule = f"in [{lowest}, {highest}]" if highest < math.inf else f"of at least {lowest}"
        raise ValueError(f"{name}: {value} is not valid; it must be an integer {rule}")


# --- Operations -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class RandomCrop:
    """Random sized crop, then mirrored left and right with probability ``flip``.

    The two commute, as the crop is uniform.
    """

    size: int
    scale: tuple[float, float]  # share of the frame's area
    ratio: tuple[float, float]  # width / height
    flip: float

    def __post_init__(self) -> None:
        _check_range("crop_scale", self.scale, highest=1)
        _check_range("crop_ratio", self.ratio)
        _check_probabilities(flip=self.flip)

    def __call__(self, clips: Tensor, sizes: NDArray, keys: Keys) -> Tensor:
        """Crop, resize and perhaps mirror each clip."""
        draws = uniform(keys, _BOX.stop)
        boxes = random_sized_boxes(sizes, draws[:, _BOX], self.scale, self.ratio)
        return crop_resize(clips, boxes, self.size, draws[:, _FLIP] < self.flip).clamp_(0, 1)


@dataclass(frozen=True)
class CentreCrop:
    """The centred square of the short side; nothing random."""

    size: int

    def __call__(self, clips: Tensor, sizes: NDArray, keys: Keys) -> Tensor:
        """Crop and resize each clip."""
        return crop_resize(clips, centre_boxes(sizes), self.size).clamp_(0, 1)


@dataclass(frozen=True)
class Blur:
    """Gaussian blur; ``probabilities`` of the first and of the second view."""

    probabilities: tuple[float, float]
    kernel: int
    sigma: tuple[float, float]

    def __post_init__(self) -> None:
        _check_probabilities(blur=self.probabilities[0])
        _check_range("blur_sigma", self.sigma)

    def __call__(self, x: Tensor, keys: Keys, view: int) -> Tensor:
        """Blur the clips that are drawn, each with a sigma of its own."""
        draws, (low, high) = uniform(keys, _SIGMA + 1), self.sigma
        chosen = draws[:, _BLUR] < self.probabilities[view]
        sigmas = low + (high - low) * draws[:, _SIGMA]
        return _where(x, chosen, sigmas, lambda c, s: gaussian_blur(c, s, self.kernel))


@dataclass(frozen=True)
class Jitter:
    """Brightness, contrast, saturation and hue, as torchvision's ColorJitter.

    Each clip has them in an order of its own.
    """

    probability: float
    brightness: float
    contrast: float
    saturation: float
    hue: float

    def __post_init__(self) -> None:
        _check_probabilities(jitter=self.probability)
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ValueError(
                    f"{name}: {value} is not valid; factors are drawn from [1 - {name}, 1 +"
                    f" {name}], so it must lie in [0, 1]"
                )
        if not 0 <= self.hue <= 0.5:
            raise ValueError(
                f"hue: {self.hue} is not valid; it is in turns of the colour circle and must lie in"
                " [0, 0.5]"
            )

    def __call__(self, x: Tensor, keys: Keys, view: int) -> Tensor:
        """Adjust the clips that are drawn."""
        draws = uniform(keys, _FACTORS.stop)
        chosen, order = draws[:, _JITTER] < self.probability, np.argsort(draws[:, _ORDER], axis=1)
        adjustments = (
            (adjust_brightness, 1.0, self.brightness),
            (adjust_contrast, 1.0, self.contrast),
            (adjust_saturation, 1.0, self.saturation),
            (adjust_hue, 0.0, self.hue),
        )
        for position in range(len(adjustments)):
            for number, (adjust, centre, strength) in enumerate(adjustments):
                if strength > 0:
                    factor = centre + strength * (2 * draws[:, _FACTORS][:, number] - 1)
                    x = _where(x, chosen & (order[:, position] == number), factor, adjust)
        return x


@dataclass(frozen=True)
class Gray:
    """All three channels become the luma."""

    probability: float

    def __post_init__(self) -> None:
        _check_probabilities(gray=self.probability)

    def __call__(self, x: Tensor, keys: Keys, view: int) -> Tensor:
        """Turn the clips that are drawn gray."""
        draws = uniform(keys, _GRAY + 1)[:, _GRAY]
        return _where(x, draws < self.probability, draws, lambda c, _: to_gray(c))


@dataclass(frozen=True)
class Solarise:
    """Values from 0.5 up are inverted; ``probabilities`` of the first and of the second view."""

    probabilities: tuple[float, float]

    def __call__(self, x: Tensor, keys: Keys, view: int) -> Tensor:
        """Solarise the clips that are drawn."""
        draws = uniform(keys, _SOLARISE + 1)[:, _SOLARISE]
        return _where(x, draws < self.probabilities[view], draws, lambda c, _: solarise(c))


@dataclass(frozen=True)
class RandomOperators:
    """``count`` operators of RandAugment's pool one after another.

    Each is drawn with equal chance and a sign of its own.
    """

    count: int
    magnitude: int

    def __post_init__(self) -> None:
        _check_integer("operations", self.count, 1, MAX_OPERATORS)
        _check_integer("magnitude", self.magnitude, 0, LEVELS - 1)

    def __call__(self, x: Tensor, keys: Keys, view: int) -> Tensor:
        """Apply ``count`` drawn operators to each clip, on 256 levels as RandAugment does."""
        draws = uniform(keys, _POOL + 2 * self.count)[:, _POOL:]
        # torchvision's [..., C, H, W].
        images = x.mul_(255).round_().to(torch.uint8).transpose(1, 2)
        for operators, negative in zip(
            (draws[:, 0::2] * len(POOL)).astype(np.int64).T, draws[:, 1::2].T < 0.5, strict=True
        ):
            images = self._apply_drawn(images, operators, negative)
        return images.transpose(1, 2).float().div_(255)

    def _apply_drawn(
        self, images: Tensor, operators: NDArray[np.int64], negative: NDArray[np.bool_]
    ) -> Tensor:
        """Clips that drew the same operator and sign go through it together."""
        results = torch.empty_like(images)
        for number, operator in enumerate(POOL.values()):
            for sign in (False, True):
                picked = np.flatnonzero((operators == number) & (negative == sign))
                if len(picked) > 0:
                    index = torch.as_tensor(picked, device=images.device)
                    results.index_copy_(
                        0, index, operator(images.index_select(0, index), self.magnitude, sign)
                    )
        return results


def _where(
    x: Tensor, chosen: NDArray, values: NDArray, operation: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Apply ``operation(clips, values)`` to the chosen clips only, in place.

    What is not drawn costs nothing. A CPU has a few clips at a time, which its cache holds.
    """
    picked = np.flatnonzero(chosen)
    if len(picked) == 0:
        return x
    factors = torch.as_tensor(values[picked], dtype=x.dtype, device=x.device)
    numbers = x[0].numel()
    if x.device.type == "cpu" and numbers >= LARGE_CLIP:
        for clip, factor in zip(picked.tolist(), factors.split(1), strict=True):
            x[clip : clip + 1] = operation(x[clip : clip + 1], factor)
        return x
    at_once = GROUP // numbers if x.device.type == "cpu" else len(x)
    index = torch.as_tensor(picked, device=x.device)
    for part, factor in zip(index.split(at_once), factors.split(at_once), strict=True):
        x.index_copy_(0, part, operation(x.index_select(0, part), factor))
    return x


# --- Lists ----------------------------------------------------------------------------------------


class Augmentation:
    """A crop, then operations in their order, then normalisation.

    All draws of a clip come from its key alone.

    Args:
        consistent: one draw per clip, held over its frames; else each frame draws anew, from the
            clip's key and its number.
    """

    def __init__(
        self, crop: Crop, operations: Sequence[Operation] = (), consistent: bool = True
    ) -> None:
        self.crop, self.operations, self.consistent = crop, operations, consistent

    def __call__(self, clips: Tensor, sizes: NDArray, keys: Keys, view: int) -> Tensor:
        """Augment and normalise.

        Args:
            clips: uint8 ``[B, 3, T, H, W]``, padded at the right and the bottom.
            sizes: ``[B, 2]`` the true height and width of each clip.
            keys: ``[B]`` one key per clip (vididi.draws).
            view: 0 or 1, which of the pair this is; lists may treat the two differently.

        Returns:
            float32 ``[B, 3, T, size, size]``, normalised.
        """
        if self.consistent:
            return self._augment(clips, sizes, keys, view)
        frames = [
            self._augment(frame, sizes, key(Use.AUGMENT, keys, t), view)
            for t, frame in enumerate(clips.split(1, dim=2))
        ]
        return torch.cat(frames, dim=2)

    def _augment(self, clips: Tensor, sizes: NDArray, keys: Keys, view: int) -> Tensor:
        x = self.crop(clips, sizes, keys)
        for operation in self.operations:
            x = operation(x, keys, view)
        return normalise_(x)


class ViDiDiAugment(Augmentation):
    """ViDiDi's list (appendix E.1): flip, random sized crop, blur, colour jitter, random grey.

    Each probability and range is an option.

    Args:
        flip: probability of mirroring left and right (ViDiDi E.1).
        crop_scale: least and greatest share of the frame's area (ViDiDi E.1).
        crop_ratio: least and greatest width over height (ViDiDi E.1).
        blur: probability of a Gaussian blur (ViDiDi E.1).
        blur_kernel: odd side of its kernel [pixels] (ViDiDi E.1).
        blur_sigma: least and greatest deviation of its Gaussian [pixels] (ViDiDi E.1).
        jitter: probability of colour jitter (ViDiDi E.1).
        brightness, contrast, saturation: strength of the jitter: a factor is drawn from 1 - it to
            1 + it, 0 to 1 (ViDiDi E.1).
        hue: strength of the jitter: the greatest turn of the colour circle, 0 to 0.5 [turns]
            (ViDiDi E.1).
        gray: probability of frames without colour (ViDiDi E.1).
        consistent: one draw for all frames of a clip; false: each frame draws anew (CVRL Table 9).
    """

    def __init__(
        self,
        size: int,
        *,
        flip: float = 0.5,
        crop_scale: tuple[float, float] = (0.08, 1.0),
        crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
        blur: float = 0.5,
        blur_kernel: int = 3,
        blur_sigma: tuple[float, float] = (0.1, 2.0),
        jitter: float = 0.8,
        brightness: float = 0.2,
        contrast: float = 0.2,
        saturation: float = 0.2,
        hue: float = 0.05,
        gray: float = 0.5,
        consistent: bool = True,
    ) -> None:
        # A wider one would reflect more than there is.
        _check_integer("blur_kernel", blur_kernel, 1, 2 * size - 1)
        if blur_kernel % 2 == 0:
            raise ValueError(f"blur_kernel: {blur_kernel} is not valid; it must be odd")
        operations = (
            Blur((blur, blur), blur_kernel, blur_sigma),
            Jitter(jitter, brightness, contrast, saturation, hue),
            Gray(gray),
        )
        super().__init__(RandomCrop(size, crop_scale, crop_ratio, flip), operations, consistent)


class CVRLAugment(Augmentation):
    """CVRL's list (Algorithm 1): random sized crop, flip, colour jitter, random grey, blur.

    The paper prints neither the jitter's strengths nor the blur's; they are those of its TensorFlow
    code, which are SimCLR's at strength 1: brightness, contrast and saturation 0.8, hue 0.2, a
    kernel of a tenth of the size, made odd. As printed, every clip is blurred. ``asymmetric`` is
    what that code does instead: the first view is blurred as before and the second with probability
    0.1, then solarised with probability 0.2.

    Args:
        flip: probability of mirroring left and right (CVRL Algorithm 1).
        crop_scale: least and greatest share of the frame's area (CVRL Algorithm 1).
        crop_ratio: least and greatest width over height (CVRL Algorithm 1).
        jitter: probability of colour jitter (CVRL Algorithm 1).
        brightness, contrast, saturation: strength of the jitter: a factor is drawn from 1 - it to
            1 + it, 0 to 1.
        hue: strength of the jitter: the greatest turn of the colour circle, 0 to 0.5 [turns].
        gray: probability of frames without colour (CVRL Algorithm 1).
        blur: probability of a Gaussian blur (CVRL Algorithm 1: every clip).
        blur_sigma: least and greatest deviation of its Gaussian [pixels].
        asymmetric: blur and solarise the second view otherwise than the first, as the authors'
            code.
        consistent: one draw for all frames of a clip; false: each frame draws anew (CVRL Table 9).
    """

    def __init__(
        self,
        size: int,
        *,
        flip: float = 0.5,
        crop_scale: tuple[float, float] = (0.3, 1.0),
        crop_ratio: tuple[float, float] = (0.5, 2.0),
        jitter: float = 0.8,
        brightness: float = 0.8,
        contrast: float = 0.8,
        saturation: float = 0.8,
        hue: float = 0.2,
        gray: float = 0.2,
        blur: float = 1.0,
        blur_sigma: tuple[float, float] = (0.1, 2.0),
        asymmetric: bool = False,
        consistent: bool = True,
    ) -> None:
        kernel = 2 * (size // 10 // 2) + 1
        operations = (
            Jitter(jitter, brightness, contrast, saturation, hue),
            Gray(gray),
            Blur((blur, 0.1 if asymmetric else blur), kernel, blur_sigma),
            Solarise((0.0, 0.2 if asymmetric else 0.0)),
        )
        super().__init__(RandomCrop(size, crop_scale, crop_ratio, flip), operations, consistent)


class PlainAugment(Augmentation):
    """The centred square of the short side, resized: no spatial augmentation.

    CVRL Table 9, "temporal only".

    Nothing is drawn, so there is no ``consistent`` to choose.
    """

    def __init__(self, size: int) -> None:
        super().__init__(CentreCrop(size))


class RandAugment(Augmentation):
    """RandAugment held over time (CVRL Table 12, appendix B.3).

    Operators of the pool of 14 after a random crop and flip.

    The paper says how many operators, not how strong, nor what they follow: the magnitude is
    torchvision's default of 31 levels, and crop and flip are those of Algorithm 1, as the operators
    alone leave every pixel of a clip in view.

    Args:
        flip: probability of mirroring left and right (CVRL Algorithm 1).
        crop_scale: least and greatest share of the frame's area (CVRL Algorithm 1).
        crop_ratio: least and greatest width over height (CVRL Algorithm 1).
        operations: how many operators of the pool a clip gets, one after another (CVRL Table 12).
        magnitude: their strength, 0 to 30 [levels].
        consistent: one draw for all frames of a clip; false: each frame draws anew (CVRL Table 9).
    """

    def __init__(
        self,
        size: int,
        *,
        flip: float = 0.5,
        crop_scale: tuple[float, float] = (0.3, 1.0),
        crop_ratio: tuple[float, float] = (0.5, 2.0),
        operations: int = 2,
        magnitude: int = 9,
        consistent: bool = True,
    ) -> None:
        crop = RandomCrop(size, crop_scale, crop_ratio, flip)
        super().__init__(crop, (RandomOperators(operations, magnitude),), consistent)


AUGMENTATIONS: dict[str, Callable[..., Augmentation]] = {
    "vididi": ViDiDiAugment,
    "cvrl": CVRLAugment,
    "corp": CVRLAugment,  # "we follow [37]" (CORP section 3.2), which is CVRL
    "plain": PlainAugment,
    "randaugment": RandAugment,
}
