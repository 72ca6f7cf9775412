"""Every operation agrees with torchvision applied clip by clip; random boxes have the ranges and
places they should.
"""

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
from vididi.views import operations
from vididi.views.operations import (
    MEAN,
    STD,
    centre_boxes,
    crop_resize,
    crop_resize_product,
    normalise_,
    random_sized_boxes,
)


def make_clips(
    batch: int = 4, frames: int = 3, height: int = 20, width: int = 26, seed: int = 0
) -> Tensor:
    return torch.rand(
        batch, 3, frames, height, width, generator=torch.Generator().manual_seed(seed)
    )


def clip_by_clip(function: Callable[..., Tensor], clips: Tensor, *values: Any) -> Tensor:
    """torchvision's function on each clip as [T, C, H, W], with that clip's values."""
    results = [
        function(clip.transpose(0, 1), *own) for clip, *own in zip(clips, *values, strict=True)
    ]
    return torch.stack(results).transpose(1, 2)


def assert_close(result: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(result, expected, rtol=0, atol=tolerance)


BOXES = {
    "shrinking": [(0, 0, 30, 40), (3, 5, 20, 21), (7, 0, 23, 35), (1, 11, 25, 17)],
    "enlarging": [(0, 0, 5, 7), (3, 5, 3, 4), (24, 31, 6, 9), (10, 2, 1, 1)],
    "mixed": [(0, 0, 30, 6), (3, 5, 4, 30), (29, 0, 1, 40), (10, 10, 12, 12)],
}


# Both ways to do it: clip by clip, which a CPU takes, and as products, which a GPU takes.
both_ways = pytest.mark.parametrize(
    "crop_resize", [crop_resize, crop_resize_product], ids=["each", "product"]
)


@both_ways
@pytest.mark.parametrize("boxes", BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize("flips", [None, [True, False, True, False]], ids=["straight", "flipped"])
def test_crop_resize_is_resized_crop_then_flip(
    crop_resize: Callable[..., Tensor],
    boxes: list[tuple[int, int, int, int]],
    flips: list[bool] | None,
) -> None:
    clips = make_clips(4, 2, 30, 40)

    def torchvision(clip: Tensor, box: tuple[int, int, int, int], flip: bool) -> Tensor:
        crop = F.resized_crop(clip, *box, size=[12, 12], antialias=True)
        return F.horizontal_flip(crop) if flip else crop

    result = crop_resize(clips, np.array(boxes), 12, None if flips is None else np.array(flips))
    assert result.shape == (4, 3, 2, 12, 12)
    assert_close(result, clip_by_clip(torchvision, clips, boxes, flips or [False] * 4))


@both_ways
def test_crop_resize_never_sees_the_padding(crop_resize: Callable[..., Tensor]) -> None:
    sizes = [(30, 40), (17, 40), (30, 9), (8, 11)]
    clips = make_clips(4, 2, 30, 40)
    for clip, (height, width) in zip(clips, sizes, strict=True):
        clip[..., height:, :] = 1e6
        clip[..., :, width:] = 1e6
    boxes = np.array([(0, 0, height, width) for height, width in sizes])
    expected = [
        F.resize(clip[..., :height, :width], [10, 10], antialias=True)
        for clip, (height, width) in zip(clips, sizes, strict=True)
    ]
    assert_close(crop_resize(clips, boxes, 10), torch.stack(expected))


@both_ways
def test_crop_resize_to_the_same_size_copies_the_pixels(crop_resize: Callable[..., Tensor]) -> None:
    clips = make_clips(2, 2, 16, 16)
    assert_close(crop_resize(clips, np.array([(0, 0, 16, 16)] * 2), 16), clips, 1e-7)
    assert_close(crop_resize(clips, np.array([(3, 4, 8, 8)] * 2), 8), clips[..., 3:11, 4:12], 1e-7)


@both_ways
def test_crop_resize_scales_bytes_to_one(crop_resize: Callable[..., Tensor]) -> None:
    pixels = (make_clips(2, 2, 16, 16) * 255).to(torch.uint8)
    boxes = np.array([(1, 2, 9, 12), (0, 0, 16, 16)])
    assert_close(crop_resize(pixels, boxes, 10), crop_resize(pixels.float() / 255, boxes, 10), 1e-7)


@pytest.mark.parametrize(
    "kernel", [1, 3, 5, 7, 9, 11, 23]
)  # shifted copies up to 7, matrices above
def test_gaussian_blur(kernel: int) -> None:
    clips, sigma = make_clips(), [0.1, 0.5, 1.0, 2.0]
    expected = clip_by_clip(
        lambda clip, s: F.gaussian_blur(clip, [kernel, kernel], [s, s]), clips, sigma
    )
    assert_close(operations.gaussian_blur(clips, torch.tensor(sigma), kernel), expected)


@pytest.mark.parametrize("name", ["adjust_brightness", "adjust_contrast", "adjust_saturation"])
def test_brightness_contrast_and_saturation(name: str) -> None:
    clips, factors = make_clips(), [0.0, 0.8, 1.0, 1.7]
    expected = clip_by_clip(getattr(F, name), clips, factors)
    assert_close(getattr(operations, name)(clips, torch.tensor(factors)), expected)


@pytest.mark.parametrize("shifts", [[-0.05, 0.0, 0.02, 0.05], [-0.5, -0.3, 0.3, 0.5]])
@pytest.mark.parametrize("levels", [256, 3], ids=["many colours", "many equal channels"])
def test_hue(shifts: list[float], levels: int) -> None:
    clips = make_clips().mul(levels).floor().div(levels - 1)
    clips[:, :, :, :2] = clips[:, :1, :, :2]
    expected = clip_by_clip(F.adjust_hue, clips, shifts)
    assert_close(operations.adjust_hue(clips, torch.tensor(shifts)), expected, 1e-4)


def test_to_gray() -> None:
    clips = make_clips()
    assert_close(
        operations.to_gray(clips),
        clip_by_clip(lambda clip: F.rgb_to_grayscale(clip, num_output_channels=3), clips),
    )


@pytest.mark.parametrize("threshold", [0.5, 0.2])
def test_solarise(threshold: float) -> None:
    clips = make_clips()
    clips[:, :, :, 0] = threshold
    assert_close(
        operations.solarise(clips, threshold),
        clip_by_clip(lambda clip: F.solarize(clip, threshold), clips),
        0,
    )


def test_normalise() -> None:
    clips = make_clips()
    expected = clip_by_clip(lambda clip: F.normalize(clip, list(MEAN), list(STD)), clips)
    before = clips.clone()
    assert_close(operations.normalise(clips), expected)
    assert torch.equal(clips, before)
    assert normalise_(clips) is clips
    assert_close(clips, expected)


def test_the_statistics_are_those_of_appendix_e1() -> None:
    assert (MEAN, STD) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_operations_leave_their_input_alone_and_keep_its_type(dtype: torch.dtype) -> None:
    clips = make_clips().to(dtype)
    before, half = clips.clone(), torch.full((4,), 0.5, dtype=dtype)
    results = [
        operations.gaussian_blur(clips, half, 3),
        operations.gaussian_blur(clips, half, 9),
        operations.adjust_brightness(clips, half),
        operations.adjust_contrast(clips, half),
        operations.adjust_saturation(clips, half),
        operations.adjust_hue(clips, half),
        operations.to_gray(clips),
        operations.solarise(clips),
        crop_resize(clips, np.array([(1, 2, 9, 8)] * 4), 12),
    ]
    assert torch.equal(clips, before)
    assert {result.dtype for result in results} == {dtype}


def box_draws(count: int) -> NDArray[np.float64]:
    return uniform(key(Use.AUGMENT, 1, np.arange(count)), 22)


def test_boxes_lie_inside_and_have_the_drawn_area_and_ratio() -> None:
    sizes = np.random.default_rng(0).integers(60, 200, size=(3000, 2))
    sizes[:, 1] = sizes[:, 0] * 4 // 3
    top, left, height, width = random_sized_boxes(
        sizes, box_draws(3000), (0.08, 1.0), (3 / 4, 4 / 3)
    ).T
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
        np.testing.assert_allclose(
            np.histogram(place, bins=5, range=(-0.01, 1.01))[0] / 4000, 0.2, atol=0.03
        )
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


@pytest.mark.parametrize(
    ("height", "width"), [(100, 11), (101, 10), (12, 150), (13, 151), (40, 300)]
)
@pytest.mark.parametrize("ratio", [(3 / 4, 4 / 3), (1.0, 1.0), (0.5, 0.9)])
def test_where_no_try_fits_the_box_is_the_largest_centred_one(
    height: int, width: int, ratio: tuple[float, float]
) -> None:
    boxes = random_sized_boxes(np.array([(height, width)] * 5), box_draws(5), (0.9, 1.0), ratio)
    assert {tuple(box) for box in boxes.tolist()} == {fallback(height, width, ratio)}


def test_where_no_try_fits_but_the_ratio_does_the_box_is_the_whole_frame() -> None:
    boxes = random_sized_boxes(
        np.array([(30, 30)]), np.full((1, 22), 1 - 1e-9), (1.0, 1.0), (0.9, 1.2)
    )
    assert boxes.tolist() == [[0, 0, 30, 30]]


@pytest.mark.parametrize(
    ("height", "width"), [(20, 20), (20, 27), (27, 20), (21, 24), (24, 23), (20, 22), (20, 26)]
)
def test_centre_boxes_are_center_crop(height: int, width: int) -> None:
    clips, side = make_clips(1, 2, height, width), min(height, width)
    cropped = crop_resize(clips, centre_boxes(np.array([(height, width)])), side)
    assert_close(cropped, F.center_crop(clips, [side, side]), 1e-7)
