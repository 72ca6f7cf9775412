"""Spatial augmentation of batches of clips on the training device: one draw per clip, held over all of its frames.

Every operation agrees with torchvision.transforms.v2.functional applied clip by clip. Crop, resize and flip are one pair
of matrix products: an antialiased bilinear resize is linear and separable, so each clip gets a [size, W] and a [size, H]
matrix, whatever its own crop and frame size are, and the whole batch goes through in two batched products.

Shapes: B clips, C = 3 channels, T frames, H W the padded frame size of the batch, S the output size.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from vididi.draws import uniform

MEAN = (0.485, 0.456, 0.406)  # ViDiDi appendix E.1, the ImageNet statistics
STD = (0.229, 0.224, 0.225)
_GRAY = (0.2989, 0.587, 0.114)  # torchvision's luma weights


def normalise(clips: Tensor) -> Tensor:
    """``[B, 3, T, H, W]`` in [0, 1] to zero mean and unit deviation per channel (ViDiDi E.1)."""
    mean = torch.tensor(MEAN, dtype=clips.dtype, device=clips.device).view(1, 3, 1, 1, 1)
    std = torch.tensor(STD, dtype=clips.dtype, device=clips.device).view(1, 3, 1, 1, 1)
    return (clips - mean).div_(std)


def resize_matrix(start: NDArray, length: NDArray, size: int, width: int, flip: NDArray | None = None) -> NDArray[np.float64]:
    """Weights ``[B, size, width]`` that crop ``[start, start + length)`` of an axis and resize it to ``size``.

    The triangle filter of Pillow and of torchvision's antialiased bilinear resize: support grows with the scale when
    shrinking, weights are cut at the crop's borders and normalised. ``flip`` [B] mirrors the output.
    """
    scale = np.asarray(length, dtype=np.float64)[:, None, None] / size
    support = np.maximum(scale, 1.0)
    centre = (np.arange(size)[None, :, None] + 0.5) * scale
    position = np.arange(width)[None, None, :] - np.asarray(start)[:, None, None]
    weights = np.maximum(0.0, 1.0 - np.abs((position + 0.5 - centre) / support))
    weights *= (position >= 0) & (position < np.asarray(length)[:, None, None])
    weights /= weights.sum(axis=2, keepdims=True)
    if flip is not None:
        weights[flip] = weights[flip][:, ::-1]
    return weights


def crop_resize(clips: Tensor, boxes: NDArray, size: int, flip: NDArray | None = None) -> Tensor:
    """Crop each clip to its box and resize it to ``size`` x ``size``.

    Args:
        clips: ``[B, C, T, H, W]`` floating point.
        boxes: ``[B, 4]`` top, left, height, width in pixels.
        size: output height and width.
        flip: ``[B]`` bool, mirror left and right.

    Returns:
        ``[B, C, T, size, size]``.
    """
    batch, channels, frames, height, width = clips.shape
    top, left, box_height, box_width = boxes.T
    columns = torch.as_tensor(resize_matrix(left, box_width, size, width, flip), dtype=clips.dtype, device=clips.device)
    rows = torch.as_tensor(resize_matrix(top, box_height, size, height), dtype=clips.dtype, device=clips.device)
    narrowed = torch.bmm(clips.reshape(batch, -1, width), columns.transpose(1, 2))
    narrowed = narrowed.view(batch, channels * frames, height, size)
    return torch.matmul(rows[:, None], narrowed).view(batch, channels, frames, size, size)


def gaussian_blur(clips: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Blur with one ``sigma`` [B] per clip, a kernel x kernel window and reflected borders."""
    half = kernel // 2
    taps = torch.arange(-half, half + 1, dtype=clips.dtype, device=clips.device)
    weights = torch.exp(-0.5 * (taps[None] / sigma[:, None]) ** 2)
    weights = (weights / weights.sum(dim=1, keepdim=True)).view(len(sigma), kernel, 1, 1, 1, 1)
    for dim in (-1, -2):
        padding = (half, half, 0, 0) if dim == -1 else (0, 0, half, half)
        padded = pad(clips.flatten(0, 1), padding, mode="reflect").unflatten(0, clips.shape[:2])
        length = clips.shape[dim]
        clips = weights[:, 0] * padded.narrow(dim, 0, length)
        for i in range(1, kernel):
            clips.addcmul_(padded.narrow(dim, i, length), weights[:, i])
    return clips


def to_gray(clips: Tensor) -> Tensor:
    """The luma of ``[B, 3, T, H, W]``, repeated over the three channels."""
    return _luma(clips).expand_as(clips)


def _luma(clips: Tensor) -> Tensor:
    red, green, blue = clips.split(1, dim=1)
    return (red * _GRAY[0]).add_(green, alpha=_GRAY[1]).add_(blue, alpha=_GRAY[2])


def _blend(clips: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(other, clips, factor.view(-1, 1, 1, 1, 1)).clamp_(0.0, 1.0)


def adjust_brightness(clips: Tensor, factor: Tensor) -> Tensor:
    """Scale intensities by ``factor`` [B]."""
    return (clips * factor.view(-1, 1, 1, 1, 1)).clamp_(0.0, 1.0)


def adjust_contrast(clips: Tensor, factor: Tensor) -> Tensor:
    """Blend each frame with its mean luma by ``factor`` [B]."""
    return _blend(clips, _luma(clips).mean(dim=(-1, -2), keepdim=True), factor)


def adjust_saturation(clips: Tensor, factor: Tensor) -> Tensor:
    """Blend each pixel with its luma by ``factor`` [B]."""
    return _blend(clips, _luma(clips), factor)


def adjust_hue(clips: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by ``shift`` [B], in turns of the colour circle (-0.5 to 0.5)."""
    red, green, blue = clips.unbind(dim=1)
    high, low = clips.amax(dim=1), clips.amin(dim=1)
    chroma = high - low
    safe = torch.where(chroma == 0, 1.0, chroma)
    hue = torch.where(high == red, (green - blue) / safe, torch.where(high == green, 2 + (blue - red) / safe, 4 + (red - green) / safe))
    hue = torch.where(chroma == 0, 0.0, hue / 6)
    hue = torch.remainder(hue + shift.view(-1, 1, 1, 1), 1.0)
    # A channel n of HSV -> RGB: value - chroma * clip(min(k, 4 - k), 0, 1) with k = (n + 6 hue) mod 6.
    channels = []
    for n in (5, 3, 1):
        k = torch.remainder(n + 6 * hue, 6.0)
        channels.append(high - chroma * torch.minimum(k, 4 - k).clamp_(0, 1))
    return torch.stack(channels, dim=1)


_JITTER: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)


class ViDiDiAugment:
    """ViDiDi's list (appendix E.1): flip, random sized crop, blur, colour jitter, random grey; then normalise.

    Each probability and range is an option. All draws of a clip come from its key alone.
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
    ) -> None:
        for name, value in (("flip", flip), ("blur", blur), ("jitter", jitter), ("gray", gray)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name}: {value} is not a probability; it must lie in [0, 1]")
        for name, value in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name}: {value} is not valid; factors are drawn from [1 - {name}, 1 + {name}], so it must lie in [0, 1]")
        if not 0 <= hue <= 0.5:
            raise ValueError(f"hue: {hue} is not valid; it must lie in [0, 0.5]")
        if not 0 < crop_scale[0] <= crop_scale[1] <= 1:
            raise ValueError(f"crop_scale: {crop_scale} is not valid; it must hold 0 < low <= high <= 1")
        if not 0 < crop_ratio[0] <= crop_ratio[1]:
            raise ValueError(f"crop_ratio: {crop_ratio} is not valid; it must hold 0 < low <= high")
        if not 0 < blur_sigma[0] <= blur_sigma[1]:
            raise ValueError(f"blur_sigma: {blur_sigma} is not valid; it must hold 0 < low <= high")
        if blur_kernel < 1 or blur_kernel % 2 == 0:
            raise ValueError(f"blur_kernel: {blur_kernel} is not valid; it must be odd and positive")
        self.size = size
        self.flip, self.blur, self.jitter, self.gray = flip, blur, jitter, gray
        self.crop_scale, self.crop_ratio = crop_scale, crop_ratio
        self.blur_kernel, self.blur_sigma = blur_kernel, blur_sigma
        self.strengths = (brightness, contrast, saturation, hue)

    def __call__(self, clips: Tensor, sizes: NDArray, keys: NDArray[np.uint64]) -> Tensor:
        """Augment and normalise.

        Args:
            clips: uint8 ``[B, 3, T, H, W]``, padded at the right and the bottom.
            sizes: ``[B, 2]`` the true height and width of each clip.
            keys: ``[B]`` one key per clip (vididi.draws).

        Returns:
            float32 ``[B, 3, T, size, size]``, normalised.
        """
        draws = uniform(keys, 38)
        boxes = random_sized_boxes(sizes, draws[:, 16:38], self.crop_scale, self.crop_ratio)
        x = crop_resize(clips.float().div_(255), boxes, self.size, draws[:, 0] < self.flip).clamp_(0, 1)
        low, high = self.blur_sigma
        x = _where(x, draws[:, 1] < self.blur, low + (high - low) * draws[:, 2], lambda c, s: gaussian_blur(c, s, self.blur_kernel))
        x = self._colour(x, draws[:, 3] < self.jitter, draws[:, 4:12])
        x = _where(x, draws[:, 12] < self.gray, draws[:, 12], lambda c, _: to_gray(c))
        return normalise(x)

    def _colour(self, x: Tensor, chosen: NDArray, draws: NDArray) -> Tensor:
        """Brightness, contrast, saturation and hue in an order of its own for each clip, as torchvision's ColorJitter."""
        order = np.argsort(draws[:, :4], axis=1)
        for place in range(4):
            for which, (adjust, strength) in enumerate(zip(_JITTER, self.strengths, strict=True)):
                if strength > 0:
                    centre = 0.0 if adjust is adjust_hue else 1.0
                    factor = centre + strength * (2 * draws[:, 4 + which] - 1)
                    x = _where(x, chosen & (order[:, place] == which), factor, adjust)
        return x


def _where(x: Tensor, chosen: NDArray, values: NDArray, operation: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Apply ``operation(clips, values)`` to the chosen clips only, in place: what is not drawn costs nothing."""
    picked = np.flatnonzero(chosen)
    if len(picked) == 0:
        return x
    index = torch.as_tensor(picked, device=x.device)
    factor = torch.as_tensor(values[picked], dtype=x.dtype, device=x.device)
    return x.index_copy_(0, index, operation(x.index_select(0, index), factor))


def random_sized_boxes(sizes: NDArray, draws: NDArray, scale: tuple[float, float], ratio: tuple[float, float]) -> NDArray[np.int64]:
    """Inception crops: area and log-uniform aspect ratio, ten tries, else the largest centred crop (as torchvision's).

    Args:
        sizes: ``[B, 2]`` height and width.
        draws: ``[B, 22]`` uniform numbers.

    Returns:
        ``[B, 4]`` top, left, height, width.
    """
    tries = 10  # two draws each; the last two draws place the crop
    height, width = sizes[:, :1].astype(np.float64), sizes[:, 1:].astype(np.float64)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * draws[:, 0 : 2 * tries : 2])
    aspect = np.exp(math.log(ratio[0]) + (math.log(ratio[1]) - math.log(ratio[0])) * draws[:, 1 : 2 * tries : 2])
    h, w = np.rint(np.sqrt(area / aspect)), np.rint(np.sqrt(area * aspect))
    fits = (h > 0) & (w > 0) & (h <= height) & (w <= width)
    first = fits.argmax(axis=1)[:, None]
    h, w = np.take_along_axis(h, first, 1), np.take_along_axis(w, first, 1)
    none = ~fits.any(axis=1, keepdims=True)
    h = np.where(none, np.minimum(height, np.rint(width / ratio[0])), h)
    w = np.where(none, np.minimum(width, np.rint(height * ratio[1])), w)
    top, left = np.floor((height - h + 1) * draws[:, 20:21]), np.floor((width - w + 1) * draws[:, 21:22])
    top, left = np.where(none, (height - h) // 2, top), np.where(none, (width - w) // 2, left)
    return np.concatenate([top, left, h, w], axis=1).astype(np.int64)


AUGMENTATIONS = {"vididi": ViDiDiAugment}
