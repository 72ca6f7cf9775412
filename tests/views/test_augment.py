"""The lists are torchvision's operations in their order, clip by clip, and follow from each clip's
key alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from vididi.draws import Use, key, uniform
from vididi.views import AUGMENTATIONS
from vididi.views.augment import CVRLAugment, PlainAugment, RandAugment, ViDiDiAugment
from vididi.views.operations import MEAN, STD, crop_resize, normalise_, random_sized_boxes, to_gray
from vididi.views.randaugment import POOL

NOTHING: dict[str, Any] = {"flip": 0.0, "blur": 0.0, "jitter": 0.0, "gray": 0.0}
WHOLE: dict[str, Any] = {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0)}
LISTS: dict[str, dict[str, Any]] = {
    "vididi": {},
    "cvrl": {"asymmetric": True},
    "corp": {},
    "plain": {},
    "randaugment": {},
}
RANDOM = [name for name in LISTS if name != "plain"]


def make_pixels(
    batch: int = 6, frames: int = 3, height: int = 20, width: int = 26, seed: int = 0
) -> Tensor:
    shape = (batch, 3, frames, height, width)
    return torch.randint(
        0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def make_keys(batch: int, epoch: int = 0) -> NDArray[np.uint64]:
    return key(Use.AUGMENT, epoch, np.arange(batch))


def full_sizes(clips: Tensor) -> NDArray[np.int64]:
    return np.tile(np.array(clips.shape[-2:]), (len(clips), 1))


def assert_close(result: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(result, expected, rtol=0, atol=tolerance)


def differs(a: Tensor, b: Tensor) -> Tensor:
    """Which clips of two batches are not the same, [B] bool."""
    return (a - b).abs().amax(dim=(1, 2, 3, 4)) > 1e-4


def test_every_list_is_tested() -> None:
    assert set(LISTS) == set(AUGMENTATIONS)


# --- Against torchvision, clip by clip ------------------------------------------------------------


def cropped(
    clip: Tensor,
    draws: NDArray,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    size: int,
    flip: float = 0.5,
) -> Tensor:
    """``clip`` [3, T, H, W] uint8 -> [T, 3, size, size] in [0, 1]."""
    box = random_sized_boxes(np.array([clip.shape[-2:]]), draws[None, 16:38], scale, ratio)[0]
    crop = F.resized_crop(
        clip.transpose(0, 1).float() / 255, *box.tolist(), size=[size, size], antialias=True
    )
    return F.horizontal_flip(crop) if draws[0] < flip else crop


def blurred(x: Tensor, draws: NDArray, probability: float, kernel: int) -> Tensor:
    sigma = 0.1 + 1.9 * draws[2]
    return F.gaussian_blur(x, [kernel, kernel], [sigma, sigma]) if draws[1] < probability else x


def jittered(
    x: Tensor, draws: NDArray, brightness: float, contrast: float, saturation: float, hue: float
) -> Tensor:
    change = 2 * draws[8:12] - 1
    adjustments: list[Callable[[Tensor], Tensor]] = [
        lambda x: F.adjust_brightness(x, 1 + brightness * change[0]),
        lambda x: F.adjust_contrast(x, 1 + contrast * change[1]),
        lambda x: F.adjust_saturation(x, 1 + saturation * change[2]),
        lambda x: F.adjust_hue(x, hue * change[3]),
    ]
    for which in np.argsort(draws[4:8]):
        x = adjustments[which](x) if draws[3] < 0.8 else x
    return x


def grayed(x: Tensor, draws: NDArray, probability: float) -> Tensor:
    return F.rgb_to_grayscale(x, num_output_channels=3) if draws[12] < probability else x


def vididi(clip: Tensor, draws: NDArray, size: int, view: int) -> Tensor:
    x = cropped(clip, draws, (0.08, 1.0), (3 / 4, 4 / 3), size)
    x = blurred(x, draws, 0.5, 3)
    x = jittered(x, draws, 0.2, 0.2, 0.2, 0.05)
    return grayed(x, draws, 0.5)


def cvrl(clip: Tensor, draws: NDArray, size: int, view: int) -> Tensor:
    x = cropped(clip, draws, (0.3, 1.0), (0.5, 2.0), size)
    x = jittered(x, draws, 0.8, 0.8, 0.8, 0.2)
    x = grayed(x, draws, 0.2)
    return blurred(x, draws, 1.0, {24: 3, 112: 11, 224: 23}[size])


def cvrl_code(clip: Tensor, draws: NDArray, size: int, view: int) -> Tensor:
    if view == 0:
        return cvrl(clip, draws, size, view)
    x = cropped(clip, draws, (0.3, 1.0), (0.5, 2.0), size)
    x = jittered(x, draws, 0.8, 0.8, 0.8, 0.2)
    x = grayed(x, draws, 0.2)
    x = blurred(x, draws, 0.1, 3)
    return F.solarize(x, 0.5) if draws[13] < 0.2 else x


def plain(clip: Tensor, draws: NDArray, size: int, view: int) -> Tensor:
    frames, side = clip.transpose(0, 1).float() / 255, min(clip.shape[-2:])
    return F.resize(F.center_crop(frames, [side, side]), [size, size], antialias=True)


CASES: dict[str, tuple[Any, Any, int]] = {
    "vididi": (vididi, ViDiDiAugment(24), 24),
    "cvrl": (cvrl, CVRLAugment(24), 24),
    "cvrl at 112": (cvrl, CVRLAugment(112), 112),
    "cvrl at 224": (cvrl, CVRLAugment(224), 224),
    "cvrl, asymmetric": (cvrl_code, CVRLAugment(24, asymmetric=True), 24),
    "corp": (cvrl, AUGMENTATIONS["corp"](24), 24),
    "plain": (plain, PlainAugment(24), 24),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("view", [0, 1])
def test_a_list_is_torchvisions_operations_in_the_papers_order(case: str, view: int) -> None:
    slow, fast, size = CASES[case]
    batch = 24 if size == 24 else 3
    pixels, keys = make_pixels(batch, 2, 40, 52), make_keys(batch)
    sizes = np.array([(40 - i % 9, 52 - i % 11) for i in range(batch)])
    results = fast(pixels, sizes, keys, view)
    for clip, (height, width), draws, result in zip(
        pixels, sizes, uniform(keys, 38), results, strict=True
    ):
        expected = F.normalize(
            slow(clip[..., :height, :width], draws, size, view), list(MEAN), list(STD)
        )
        assert_close(result, expected.transpose(0, 1), 2e-4)


@pytest.mark.parametrize("operations", [1, 2, 3])
def test_randaugment_is_torchvisions_operators_after_the_crop(operations: int) -> None:
    pixels, keys = make_pixels(60, 2, 40, 52), make_keys(60)
    sizes, draws = full_sizes(pixels), uniform(keys, 38 + 2 * operations)
    boxes = random_sized_boxes(sizes, draws[:, 16:38], (0.3, 1.0), (0.5, 2.0))
    crops = crop_resize(pixels.float() / 255, boxes, 24, draws[:, 0] < 0.5).clamp(
        0, 1
    )  # rounding: the very same crop
    results = RandAugment(24, operations=operations)(pixels, sizes, keys, 0)
    names = list(POOL)
    for crop, own, result in zip(crops, draws[:, 38:], results, strict=True):
        images = (crop.transpose(0, 1) * 255).round().to(torch.uint8)
        for i in range(operations):
            images = POOL[names[int(own[2 * i] * 14)]](images, 9, bool(own[2 * i + 1] < 0.5))
        assert_close(
            result, F.normalize(images.float() / 255, list(MEAN), list(STD)).transpose(0, 1)
        )


def test_randaugment_uses_every_operator_with_either_sign() -> None:
    pixels = (
        make_pixels(1, 1, 24, 24).clamp(40, 220).expand(1400, -1, -1, -1, -1)
    )  # neither AutoContrast nor Solarize is idle
    results = RandAugment(24, operations=1, flip=0, **WHOLE)(
        pixels, full_sizes(pixels), make_keys(1400), 0
    )
    results = (
        (results * torch.tensor(STD).view(3, 1, 1, 1) + torch.tensor(MEAN).view(3, 1, 1, 1))
        .mul(255)
        .round()
    )
    image, found = pixels[0].transpose(0, 1), 0
    for operator in POOL.values():
        outcomes = [operator(image, 9, negative).transpose(0, 1) for negative in (False, True)]
        counts = [int((results == outcome).flatten(1).all(dim=1).sum()) for outcome in outcomes]
        if operator.signed:
            assert min(counts) > 25
        assert 60 < (sum(counts) if operator.signed else counts[0]) < 145
        found += sum(counts) if operator.signed else counts[0]
    assert found == 1400


# --- Every list -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("view", [0, 1])
def test_a_list_gives_normalised_float32_of_its_size_and_leaves_its_input_alone(
    name: str, view: int
) -> None:
    pixels = make_pixels()
    before = pixels.clone()
    result = AUGMENTATIONS[name](12, **LISTS[name])(pixels, full_sizes(pixels), make_keys(6), view)
    assert result.shape == (6, 3, 3, 12, 12)
    assert result.dtype == torch.float32
    values = result * torch.tensor(STD).view(3, 1, 1, 1) + torch.tensor(MEAN).view(3, 1, 1, 1)
    assert values.min() > -1e-5
    assert values.max() < 1 + 1e-5
    assert torch.equal(pixels, before)


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("consistent", [True, False])
def test_a_list_follows_from_the_keys(name: str, consistent: bool) -> None:
    pixels = make_pixels()
    transform = AUGMENTATIONS[name](12, consistent=consistent, **LISTS[name])
    first, again = (transform(pixels, full_sizes(pixels), make_keys(6), 1) for _ in range(2))
    assert torch.equal(first, again)
    for keys in (make_keys(6, epoch=1), make_keys(7)[1:]):
        assert differs(first, transform(pixels, full_sizes(pixels), keys, 1)).all()


@pytest.mark.parametrize("name", LISTS)
def test_a_clip_depends_neither_on_the_others_nor_on_the_padding(name: str) -> None:
    pixels, keys = make_pixels(24, 2), make_keys(24)
    sizes = np.array([(20 - i % 5, 26 - i % 7) for i in range(24)])
    transform = AUGMENTATIONS[name](12, **LISTS[name])
    together = transform(pixels, sizes, keys, 1)
    for i, (height, width) in enumerate(sizes):
        alone = transform(
            pixels[i : i + 1, ..., :height, :width], sizes[i : i + 1], keys[i : i + 1], 1
        )
        assert_close(alone[0], together[i])


@pytest.mark.parametrize("name", LISTS)
def test_one_draw_is_held_over_all_frames(name: str) -> None:
    pixels = make_pixels(24, 1).expand(-1, -1, 5, -1, -1)
    view = AUGMENTATIONS[name](12, **LISTS[name])(pixels, full_sizes(pixels), make_keys(24), 1)
    assert_close(view, view[:, :, :1].expand_as(view), 1e-6)


@pytest.mark.parametrize("name", RANDOM)
def test_without_consistency_every_frame_draws_anew(name: str) -> None:
    pixels = make_pixels(12, 1).expand(-1, -1, 4, -1, -1)
    transform = AUGMENTATIONS[name](12, consistent=False, **LISTS[name])
    view = transform(pixels, full_sizes(pixels), make_keys(12), 1)
    for t in range(1, 4):
        assert differs(view[:, :, t - 1 : t], view[:, :, t : t + 1]).all()
    later = transform(pixels[:, :, :2], full_sizes(pixels), make_keys(12), 1)
    assert_close(
        later, view[:, :, :2]
    )  # a frame's draw is its number's, whatever the number of frames


@pytest.mark.parametrize("name", LISTS)
def test_frames_are_augmented_alike_whatever_the_number_of_frames(name: str) -> None:
    pixels, transform = make_pixels(24, 5), AUGMENTATIONS[name](12, **LISTS[name])
    long = transform(pixels, full_sizes(pixels), make_keys(24), 1)
    short = transform(pixels[:, :, :2], full_sizes(pixels), make_keys(24), 1)
    assert_close(long[:, :, :2], short)


@pytest.mark.parametrize("name", ["vididi", "corp", "plain", "randaugment"])
def test_a_symmetric_list_treats_both_views_alike(name: str) -> None:
    pixels, transform = make_pixels(24), AUGMENTATIONS[name](12)
    assert torch.equal(
        *(transform(pixels, full_sizes(pixels), make_keys(24), view) for view in (0, 1))
    )


# --- CVRL's asymmetry -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asymmetric", "blurs", "inversions"),
    [(False, (1.0, 1.0), (0.0, 0.0)), (True, (1.0, 0.1), (0.0, 0.2))],
)
def test_how_often_each_view_is_blurred_and_solarised(
    asymmetric: bool, blurs: tuple[float, float], inversions: tuple[float, float]
) -> None:
    transform = CVRLAugment(
        20, flip=0, jitter=0, gray=0, blur_sigma=(0.5, 2.0), asymmetric=asymmetric, **WHOLE
    )
    dark, keys = make_pixels(800, 1, 20, 20) // 4, make_keys(800)  # not changed by solarising
    flat = torch.full_like(dark, 200)  # not changed by blurring
    for view in (0, 1):
        for pixels, expected in ((dark, blurs[view]), (flat, inversions[view])):
            changed = differs(
                transform(pixels, full_sizes(pixels), keys, view), normalise_(pixels.float() / 255)
            )
            assert changed.double().mean().item() == pytest.approx(
                expected, abs=0.04 if 0 < expected < 1 else 0
            )


def test_blur_zero_switches_it_off_in_both_views() -> None:
    pixels = make_pixels(20, 1, 20, 20)
    transform = CVRLAugment(20, flip=0, jitter=0, gray=0, blur=0, **WHOLE)
    for view in (0, 1):
        assert_close(
            transform(pixels, full_sizes(pixels), make_keys(20), view),
            normalise_(pixels.float() / 255),
        )


def test_operations_for_some_clips_follow_one_for_all() -> None:
    pixels = make_pixels(40, 1, 20, 20)
    transform = CVRLAugment(
        20, flip=0, jitter=0, gray=1, blur_sigma=(0.5, 2.0), asymmetric=True, **WHOLE
    )
    changed = differs(
        transform(pixels, full_sizes(pixels), make_keys(40), 1),
        normalise_(to_gray(pixels.float() / 255).contiguous()),
    )
    assert 0 < changed.sum() < 40


# --- Options --------------------------------------------------------------------------------------


def test_without_operations_only_crop_and_normalisation_remain() -> None:
    pixels = make_pixels(4, 2, 16, 16)
    view = ViDiDiAugment(16, **NOTHING, **WHOLE)(pixels, full_sizes(pixels), make_keys(4), 0)
    assert_close(view, normalise_(pixels.float() / 255))


@pytest.mark.parametrize("option", ["flip", "blur", "gray", "jitter"])
@pytest.mark.parametrize("probability", [0.3, 1.0])
def test_an_operation_happens_with_its_probability(option: str, probability: float) -> None:
    pixels = make_pixels(400, 1, 8, 8)
    options = {**NOTHING, **WHOLE, "blur_sigma": (0.5, 2.0), option: probability}
    view = ViDiDiAugment(8, **options)(pixels, full_sizes(pixels), make_keys(400), 0)
    plain = normalise_(pixels.float() / 255)
    changed = (view - plain).abs().amax(dim=(1, 2, 3, 4)) > 1e-4
    assert changed.double().mean().item() == pytest.approx(
        probability, abs=0.08 if probability < 1 else 0.02
    )


def test_flip_one_mirrors_and_gray_one_has_equal_channels() -> None:
    pixels = make_pixels(5, 2, 8, 8)
    plain = pixels.float() / 255
    options = {**NOTHING, **WHOLE}
    flipped = ViDiDiAugment(8, **{**options, "flip": 1})(
        pixels, full_sizes(pixels), make_keys(5), 0
    )
    assert_close(flipped, normalise_(plain.flip(-1)))
    gray = ViDiDiAugment(8, **{**options, "gray": 1})(pixels, full_sizes(pixels), make_keys(5), 0)
    assert_close(gray, normalise_(to_gray(plain).contiguous()))


@pytest.mark.parametrize(
    ("option", "strength", "lowest", "highest"),
    [("brightness", 0.2, 0.8, 1.2), ("brightness", 1.0, 0.0, 2.0)],
)
def test_brightness_factors_fill_their_range_uniformly(
    option: str, strength: float, lowest: float, highest: float
) -> None:
    pixels = torch.full((500, 3, 1, 8, 8), 100, dtype=torch.uint8)
    options = {
        **NOTHING,
        **WHOLE,
        "jitter": 1,
        "contrast": 0,
        "saturation": 0,
        "hue": 0,
        option: strength,
    }
    view = ViDiDiAugment(8, **options)(pixels, full_sizes(pixels), make_keys(500), 0)
    factors = (view[:, 0, 0, 0, 0] * STD[0] + MEAN[0]) * 255 / 100
    assert factors.min().item() == pytest.approx(lowest, abs=0.02 * strength)
    assert factors.max().item() == pytest.approx(highest, abs=0.02 * strength)
    assert factors.mean().item() == pytest.approx(1.0, abs=0.1 * strength)


INF, NAN = float("inf"), float("nan")
BAD: dict[str, list[Any]] = {
    **{
        name: [-0.1, 1.1, NAN, INF]
        for name in ("flip", "blur", "jitter", "gray", "brightness", "contrast", "saturation")
    },
    "hue": [-0.1, 0.6, NAN, INF],
    "crop_scale": [(0.0, 1.0), (0.5, 0.2), (0.5, 1.5), (NAN, 1.0), (0.1, NAN), (0.1, INF)],
    **{
        name: [(0.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (NAN, 1.0), (1.0, NAN), (1.0, INF), (INF, INF)]
        for name in ("crop_ratio", "blur_sigma")
    },
    "blur_kernel": [0, 2, -1, 25, 3.0, NAN, INF],
    "operations": [0, -1, 1.5, NAN, INF],
    "magnitude": [-1, 31, 1.5, NAN, INF],
}


@pytest.mark.parametrize("name", LISTS)
def test_bad_options_are_named(name: str) -> None:
    options = set(inspect.signature(AUGMENTATIONS[name]).parameters) - {
        "size",
        "consistent",
        "asymmetric",
    }
    assert options <= set(BAD)
    for option in options:
        for value in BAD[option]:
            with pytest.raises(ValueError, match=rf"^{option}: .*(must|probability)") as caught:
                AUGMENTATIONS[name](12, **{option: value})
            assert str(value) in str(caught.value)


def test_the_widest_blur_is_the_last_that_can_be_reflected() -> None:
    pixels = make_pixels(2, 1, 12, 12)
    view = ViDiDiAugment(12, blur=1, blur_kernel=23)(pixels, full_sizes(pixels), make_keys(2), 0)
    assert view.isfinite().all()
