"""Batched augmentation agrees with torchvision applied clip by clip, and follows from each clip's key alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from vididi.draws import Use, key, uniform
from vididi.views import augment
from vididi.views.augment import MEAN, STD, ViDiDiAugment, crop_resize, normalise, random_sized_boxes

NOTHING: dict[str, Any] = {"flip": 0.0, "blur": 0.0, "jitter": 0.0, "gray": 0.0}
WHOLE: dict[str, Any] = {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0)}


def make_clips(batch: int = 4, frames: int = 3, height: int = 20, width: int = 26, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, frames, height, width, generator=torch.Generator().manual_seed(seed))


def make_pixels(batch: int = 6, frames: int = 3, height: int = 20, width: int = 26, seed: int = 0) -> Tensor:
    return (make_clips(batch, frames, height, width, seed) * 256).to(torch.uint8)


def make_keys(batch: int) -> NDArray[np.uint64]:
    return key(Use.AUGMENT, 0, np.arange(batch))


def full_sizes(clips: Tensor) -> NDArray[np.int64]:
    return np.tile(np.array(clips.shape[-2:]), (len(clips), 1))


def clip_by_clip(function: Callable[..., Tensor], clips: Tensor, *values: Any) -> Tensor:
    """torchvision's function on each clip as [T, C, H, W], with that clip's values."""
    results = [function(clip.transpose(0, 1), *own) for clip, *own in zip(clips, *values, strict=True)]
    return torch.stack(results).transpose(1, 2)


def assert_close(result: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(result, expected, rtol=0, atol=tolerance)


BOXES = {
    "shrinking": [(0, 0, 30, 40), (3, 5, 20, 21), (7, 0, 23, 35), (1, 11, 25, 17)],
    "enlarging": [(0, 0, 5, 7), (3, 5, 3, 4), (24, 31, 6, 9), (10, 2, 1, 1)],
    "mixed": [(0, 0, 30, 6), (3, 5, 4, 30), (29, 0, 1, 40), (10, 10, 12, 12)],
}


@pytest.mark.parametrize("boxes", BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize("flips", [None, [True, False, True, False]], ids=["straight", "flipped"])
def test_crop_resize_is_resized_crop_then_flip(boxes: list[tuple[int, int, int, int]], flips: list[bool] | None) -> None:
    clips = make_clips(4, 2, 30, 40)

    def torchvision(clip: Tensor, box: tuple[int, int, int, int], flip: bool) -> Tensor:
        crop = F.resized_crop(clip, *box, size=[12, 12], antialias=True)
        return F.horizontal_flip(crop) if flip else crop

    result = crop_resize(clips, np.array(boxes), 12, None if flips is None else np.array(flips))
    assert result.shape == (4, 3, 2, 12, 12)
    assert_close(result, clip_by_clip(torchvision, clips, boxes, flips or [False] * 4))


def test_crop_resize_never_sees_the_padding() -> None:
    sizes = [(30, 40), (17, 40), (30, 9), (8, 11)]
    clips = make_clips(4, 2, 30, 40)
    for clip, (height, width) in zip(clips, sizes, strict=True):
        clip[..., height:, :] = 1e6
        clip[..., :, width:] = 1e6
    boxes = np.array([(0, 0, height, width) for height, width in sizes])
    expected = [F.resize(clip[..., :height, :width], [10, 10], antialias=True) for clip, (height, width) in zip(clips, sizes, strict=True)]
    assert_close(crop_resize(clips, boxes, 10), torch.stack(expected))


def test_crop_resize_to_the_same_size_copies_the_pixels() -> None:
    clips = make_clips(2, 2, 16, 16)
    assert_close(crop_resize(clips, np.array([(0, 0, 16, 16)] * 2), 16), clips, 1e-7)
    assert_close(crop_resize(clips, np.array([(3, 4, 8, 8)] * 2), 8), clips[..., 3:11, 4:12], 1e-7)


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_gaussian_blur(kernel: int) -> None:
    clips, sigma = make_clips(), [0.1, 0.5, 1.0, 2.0]
    expected = clip_by_clip(lambda clip, s: F.gaussian_blur(clip, [kernel, kernel], [s, s]), clips, sigma)
    assert_close(augment.gaussian_blur(clips, torch.tensor(sigma), kernel), expected)


@pytest.mark.parametrize("name", ["adjust_brightness", "adjust_contrast", "adjust_saturation"])
def test_brightness_contrast_and_saturation(name: str) -> None:
    clips, factors = make_clips(), [0.0, 0.8, 1.0, 1.7]
    expected = clip_by_clip(getattr(F, name), clips, factors)
    assert_close(getattr(augment, name)(clips, torch.tensor(factors)), expected)


@pytest.mark.parametrize("shifts", [[-0.05, 0.0, 0.02, 0.05], [-0.5, -0.3, 0.3, 0.5]])
@pytest.mark.parametrize("levels", [256, 3], ids=["many colours", "many equal channels"])
def test_hue(shifts: list[float], levels: int) -> None:
    clips = make_clips().mul(levels).floor().div(levels - 1)
    clips[:, :, :, :2] = clips[:, :1, :, :2]
    expected = clip_by_clip(F.adjust_hue, clips, shifts)
    assert_close(augment.adjust_hue(clips, torch.tensor(shifts)), expected, 1e-4)


def test_to_gray() -> None:
    clips = make_clips()
    assert_close(augment.to_gray(clips), clip_by_clip(lambda clip: F.rgb_to_grayscale(clip, num_output_channels=3), clips))


def test_normalise() -> None:
    clips = make_clips()
    before = clips.clone()
    assert_close(normalise(clips), clip_by_clip(lambda clip: F.normalize(clip, list(MEAN), list(STD)), clips))
    assert torch.equal(clips, before)


def test_the_statistics_are_those_of_appendix_e1() -> None:
    assert (MEAN, STD) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_operations_leave_their_input_alone_and_keep_its_type(dtype: torch.dtype) -> None:
    clips = make_clips().to(dtype)
    before, half = clips.clone(), torch.full((4,), 0.5, dtype=dtype)
    results = [
        augment.gaussian_blur(clips, half, 3),
        augment.adjust_brightness(clips, half),
        augment.adjust_contrast(clips, half),
        augment.adjust_saturation(clips, half),
        augment.adjust_hue(clips, half),
        augment.to_gray(clips),
        normalise(clips),
        crop_resize(clips, np.array([(1, 2, 9, 8)] * 4), 12),
    ]
    assert torch.equal(clips, before)
    assert {result.dtype for result in results} == {dtype}


def test_augment_gives_normalised_float32_of_its_size() -> None:
    pixels = make_pixels()
    view = ViDiDiAugment(12)(pixels, full_sizes(pixels), make_keys(6))
    assert view.shape == (6, 3, 3, 12, 12)
    assert view.dtype == torch.float32
    plain = view * torch.tensor(STD).view(3, 1, 1, 1) + torch.tensor(MEAN).view(3, 1, 1, 1)
    assert plain.min() > -1e-5
    assert plain.max() < 1 + 1e-5


def test_augment_leaves_its_input_alone() -> None:
    pixels = make_pixels()
    before = pixels.clone()
    ViDiDiAugment(12, jitter=1, blur=1, gray=1)(pixels, full_sizes(pixels), make_keys(6))
    assert torch.equal(pixels, before)


def test_augment_follows_from_the_keys() -> None:
    pixels = make_pixels()
    first, again = (ViDiDiAugment(12)(pixels, full_sizes(pixels), make_keys(6)) for _ in range(2))
    assert torch.equal(first, again)
    other = ViDiDiAugment(12)(pixels, full_sizes(pixels), make_keys(7)[1:])
    assert (first - other).abs().amax(dim=(1, 2, 3, 4)).min() > 0.01


def test_a_clip_does_not_depend_on_the_others_nor_on_the_padding() -> None:
    pixels = make_pixels(24, 2)
    sizes = np.array([(20 - i % 5, 26 - i % 7) for i in range(24)])
    transform = ViDiDiAugment(12)
    together = transform(pixels, sizes, make_keys(24))
    for i, (height, width) in enumerate(sizes):
        alone = transform(pixels[i : i + 1, ..., :height, :width], sizes[i : i + 1], make_keys(24)[i : i + 1])
        assert_close(alone[0], together[i])


def test_one_draw_is_held_over_all_frames() -> None:
    pixels = make_pixels(24, 1).expand(-1, -1, 5, -1, -1)
    view = ViDiDiAugment(12)(pixels, full_sizes(pixels), make_keys(24))
    assert_close(view, view[:, :, :1].expand_as(view), 1e-6)


def test_frames_are_augmented_alike_whatever_the_number_of_frames() -> None:
    pixels, transform = make_pixels(24, 5), ViDiDiAugment(12)
    long = transform(pixels, full_sizes(pixels), make_keys(24))
    short = transform(pixels[:, :, :2], full_sizes(pixels), make_keys(24))
    assert_close(long[:, :, :2], short)


def test_without_operations_only_crop_and_normalisation_remain() -> None:
    pixels = make_pixels(4, 2, 16, 16)
    view = ViDiDiAugment(16, **NOTHING, **WHOLE)(pixels, full_sizes(pixels), make_keys(4))
    assert_close(view, normalise(pixels.float() / 255))


@pytest.mark.parametrize("option", ["flip", "blur", "gray", "jitter"])
@pytest.mark.parametrize("probability", [0.3, 1.0])
def test_an_operation_happens_with_its_probability(option: str, probability: float) -> None:
    pixels = make_pixels(400, 1, 8, 8)
    options = {**NOTHING, **WHOLE, "blur_sigma": (0.5, 2.0), option: probability}
    view = ViDiDiAugment(8, **options)(pixels, full_sizes(pixels), make_keys(400))
    plain = normalise(pixels.float() / 255)
    changed = (view - plain).abs().amax(dim=(1, 2, 3, 4)) > 1e-4
    assert changed.double().mean().item() == pytest.approx(probability, abs=0.08 if probability < 1 else 0.02)


def test_flip_one_mirrors_and_gray_one_has_equal_channels() -> None:
    pixels = make_pixels(5, 2, 8, 8)
    plain = pixels.float() / 255
    options = {**NOTHING, **WHOLE}
    flipped = ViDiDiAugment(8, **{**options, "flip": 1})(pixels, full_sizes(pixels), make_keys(5))
    assert_close(flipped, normalise(plain.flip(-1)))
    gray = ViDiDiAugment(8, **{**options, "gray": 1})(pixels, full_sizes(pixels), make_keys(5))
    assert_close(gray, normalise(augment.to_gray(plain)))


@pytest.mark.parametrize(("option", "strength", "lowest", "highest"), [("brightness", 0.2, 0.8, 1.2), ("brightness", 1.0, 0.0, 2.0)])
def test_brightness_factors_fill_their_range_uniformly(option: str, strength: float, lowest: float, highest: float) -> None:
    pixels = torch.full((500, 3, 1, 8, 8), 100, dtype=torch.uint8)
    options = {**NOTHING, **WHOLE, "jitter": 1, "contrast": 0, "saturation": 0, "hue": 0, option: strength}
    view = ViDiDiAugment(8, **options)(pixels, full_sizes(pixels), make_keys(500))
    factors = (view[:, 0, 0, 0, 0] * STD[0] + MEAN[0]) * 255 / 100
    assert factors.min().item() == pytest.approx(lowest, abs=0.02 * strength)
    assert factors.max().item() == pytest.approx(highest, abs=0.02 * strength)
    assert factors.mean().item() == pytest.approx(1.0, abs=0.1 * strength)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[(name, value) for name in ("flip", "blur", "jitter", "gray") for value in (-0.1, 1.1, float("nan"))],
        *[(name, value) for name in ("brightness", "contrast", "saturation") for value in (-0.1, 1.1)],
        *[("hue", value) for value in (-0.1, 0.6)],
        *[("crop_scale", value) for value in ((0.0, 1.0), (0.5, 0.2), (0.5, 1.5))],
        *[("crop_ratio", value) for value in ((0.0, 1.0), (2.0, 1.0))],
        *[("blur_sigma", value) for value in ((0.0, 1.0), (2.0, 1.0))],
        *[("blur_kernel", value) for value in (0, 2, -1)],
    ],
)
def test_bad_options_are_named(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{option}: "):
        ViDiDiAugment(12, **{option: value})


def box_draws(count: int) -> NDArray[np.float64]:
    return uniform(key(Use.AUGMENT, 1, np.arange(count)), 22)


def test_boxes_lie_inside_and_have_the_drawn_area_and_ratio() -> None:
    sizes = np.random.default_rng(0).integers(60, 200, size=(3000, 2))
    sizes[:, 1] = sizes[:, 0] * 4 // 3
    top, left, height, width = random_sized_boxes(sizes, box_draws(3000), (0.08, 1.0), (3 / 4, 4 / 3)).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (height >= 1).all()
    assert (width >= 1).all()
    assert (top + height <= sizes[:, 0]).all()
    assert (left + width <= sizes[:, 1]).all()
    share = height * width / sizes.prod(axis=1)
    assert 0.07 < share.min() < 0.1
    assert 0.95 < share.max() <= 1
    ratio = width / height
    assert 0.72 < ratio.min() < 0.77
    assert 1.3 < ratio.max() < 1.37


def test_boxes_have_uniform_area_and_log_uniform_ratio_where_all_fit() -> None:
    sizes = np.full((4000, 2), 1000)
    _, _, height, width = random_sized_boxes(sizes, box_draws(4000), (0.1, 0.5), (3 / 4, 4 / 3)).T
    area_place = (height * width / 1e6 - 0.1) / 0.4
    ratio_place = np.log(width / height) / (2 * np.log(4 / 3)) + 0.5
    for place in (area_place, ratio_place):
        np.testing.assert_allclose(np.histogram(place, bins=5, range=(-0.01, 1.01))[0] / 4000, 0.2, atol=0.03)
    assert abs(np.corrcoef(area_place, ratio_place)[0, 1]) < 0.05


def test_boxes_reach_every_place() -> None:
    boxes = random_sized_boxes(np.full((2000, 2), 12), box_draws(2000), (0.25, 0.25), (1.0, 1.0))
    assert (boxes[:, 2:] == 6).all()
    counts = np.zeros((7, 7))
    np.add.at(counts, tuple(boxes[:, :2].T), 1)
    assert counts.min() > 15
    assert counts.max() < 75


def fallback(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int, int, int]:
    """The central crop of torchvision's RandomResizedCrop.get_params."""
    shape = width / height
    if shape < min(ratio):
        w = width
        h = round(w / min(ratio))
    elif shape > max(ratio):
        h = height
        w = round(h * max(ratio))
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize(("height", "width"), [(100, 11), (101, 10), (12, 150), (13, 151), (40, 300)])
@pytest.mark.parametrize("ratio", [(3 / 4, 4 / 3), (1.0, 1.0), (0.5, 0.9)])
def test_where_no_try_fits_the_box_is_the_largest_centred_one(height: int, width: int, ratio: tuple[float, float]) -> None:
    boxes = random_sized_boxes(np.array([(height, width)] * 5), box_draws(5), (0.9, 1.0), ratio)
    assert {tuple(box) for box in boxes.tolist()} == {fallback(height, width, ratio)}


def test_where_no_try_fits_but_the_ratio_does_the_box_is_the_whole_frame() -> None:
    boxes = random_sized_boxes(np.array([(30, 30)]), np.full((1, 22), 1 - 1e-9), (1.0, 1.0), (0.9, 1.2))
    assert boxes.tolist() == [[0, 0, 30, 30]]
