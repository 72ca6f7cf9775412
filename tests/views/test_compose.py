"""The order of operations of a view, and its number of frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from vididi.draws import Use, key
from vididi.views import differentiate, evaluation_view, make_view, whole_view
from vididi.views.augment import CVRLAugment, ViDiDiAugment
from vididi.views.operations import MEAN, STD, normalise_

FRAMES = 4


def make_pixels(frames: int, batch: int = 5) -> Tensor:
    return torch.randint(
        0,
        256,
        (batch, 3, frames, 18, 22),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(0),
    )


def make_keys(batch: int, seed: int = 0) -> NDArray[np.uint64]:
    return key(Use.AUGMENT, seed, np.arange(batch))


SIZES = np.array([(18, 22), (17, 20), (18, 12), (10, 22), (15, 15)])
AUGMENT = ViDiDiAugment(12)
CROP_ONLY = ViDiDiAugment(12, flip=0, blur=0, jitter=0, gray=0)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_a_view_is_the_derivative_of_the_augmented_clip(order: int) -> None:
    pixels = make_pixels(FRAMES + order)
    view = make_view(pixels, SIZES, make_keys(5), order, FRAMES, AUGMENT, 0)
    assert torch.equal(view, differentiate(AUGMENT(pixels, SIZES, make_keys(5), 0), order))


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("extra", [2, 3, 7])
def test_a_view_has_its_frames_whatever_its_order(order: int, extra: int) -> None:
    view = make_view(make_pixels(FRAMES + extra), SIZES, make_keys(5), order, FRAMES, AUGMENT, 0)
    assert view.shape == (5, 3, FRAMES, 12, 12)
    assert view.dtype == torch.float32


@pytest.mark.parametrize("order", [0, 1, 2])
def test_a_view_begins_at_the_first_frame_of_the_clip(order: int) -> None:
    pixels = make_pixels(FRAMES + 2)
    longer, shorter = (
        make_view(pixels[:, :, :n], SIZES, make_keys(5), order, FRAMES, AUGMENT, 0)
        for n in (FRAMES + 2, FRAMES + order)
    )
    assert torch.equal(longer, shorter)


@pytest.mark.parametrize("order", [1, 2])
def test_a_still_clip_has_no_motion(order: int) -> None:
    pixels = make_pixels(1).expand(-1, -1, FRAMES + 2, -1, -1)
    view = make_view(pixels, SIZES, make_keys(5), order, FRAMES, AUGMENT, 0)
    torch.testing.assert_close(view, torch.zeros_like(view), rtol=0, atol=5e-6)


def test_a_steady_brightening_is_normalised_before_it_is_differentiated() -> None:
    pixels = torch.arange(0, 60, 10, dtype=torch.uint8).view(1, 1, 6, 1, 1).expand(5, 3, 6, 18, 22)
    velocity, acceleration = (
        make_view(pixels, SIZES, make_keys(5), order, FRAMES, CROP_ONLY, 0) for order in (1, 2)
    )
    expected = (10 / 255 / torch.tensor(STD)).view(1, 3, 1, 1, 1).expand_as(velocity)
    torch.testing.assert_close(velocity, expected, rtol=0, atol=5e-6)
    torch.testing.assert_close(acceleration, torch.zeros_like(acceleration), rtol=0, atol=5e-6)


def test_the_same_keys_give_the_same_crop_at_every_order() -> None:
    pixels = make_pixels(FRAMES + 2)
    frames, velocity = (
        make_view(pixels, SIZES, make_keys(5), order, FRAMES, AUGMENT, 0) for order in (0, 1)
    )
    torch.testing.assert_close(
        velocity[:, :, : FRAMES - 1], frames[:, :, 1:] - frames[:, :, :-1], rtol=0, atol=5e-6
    )


@pytest.mark.parametrize("order", [0, 1, 2])
def test_too_short_a_clip_says_how_many_frames_are_needed(order: int) -> None:
    with pytest.raises(
        ValueError, match=f"{FRAMES + order - 1} frames, .* order {order} needs {FRAMES + order}"
    ):
        make_view(make_pixels(FRAMES + order - 1), SIZES, make_keys(5), order, FRAMES, AUGMENT, 0)


@pytest.mark.parametrize("view", [0, 1])
def test_the_augmentation_is_told_which_view_it_makes(view: int) -> None:
    pixels, augment = make_pixels(FRAMES), CVRLAugment(20, asymmetric=True)
    result = make_view(pixels, SIZES, make_keys(5), 0, FRAMES, augment, view)
    assert torch.equal(result, augment(pixels, SIZES, make_keys(5), view))
    assert not torch.equal(result, augment(pixels, SIZES, make_keys(5), 1 - view))


@pytest.mark.parametrize("order", [0, 1, 2])
def test_a_shrinking_view_is_the_derivative_of_its_first_frames(order: int) -> None:
    pixels = make_pixels(FRAMES + 2)
    result = make_view(pixels, SIZES, make_keys(5), order, FRAMES, AUGMENT, 0, "shrinking")
    assert result.shape == (5, 3, FRAMES - order, 12, 12)
    assert torch.equal(
        result, make_view(pixels, SIZES, make_keys(5), order, FRAMES - order, AUGMENT, 0)
    )
    assert torch.equal(
        result,
        make_view(
            pixels[:, :, :FRAMES], SIZES, make_keys(5), order, FRAMES, AUGMENT, 0, "shrinking"
        ),
    )


@pytest.mark.parametrize(("order", "frames"), [(1, 1), (2, 2), (2, 1)])
def test_a_shrinking_view_with_no_frames_left_says_how_many_are_needed(
    order: int, frames: int
) -> None:
    with pytest.raises(
        ValueError,
        match=f"^frames: {frames} is too few; .* order {order} needs at least {order + 1}",
    ):
        make_view(make_pixels(8), SIZES, make_keys(5), order, frames, AUGMENT, 0, "shrinking")


def test_too_short_a_clip_for_a_shrinking_view_says_how_many_frames_are_needed() -> None:
    with pytest.raises(
        ValueError, match=rf"^clips: {FRAMES - 1} frames, .* order 1 needs {FRAMES}$"
    ):
        make_view(make_pixels(FRAMES - 1), SIZES, make_keys(5), 1, FRAMES, AUGMENT, 0, "shrinking")


def test_evaluation_view_has_all_frames_in_its_size() -> None:
    view = evaluation_view(make_pixels(16), SIZES, make_keys(5), 10, 0.75)
    assert view.shape == (5, 3, 16, 10, 10)
    assert view.dtype == torch.float32


def test_evaluation_view_follows_from_the_keys_clip_by_clip() -> None:
    pixels = make_pixels(3)
    view = evaluation_view(pixels, SIZES, make_keys(5), 10, 0.6)
    assert torch.equal(view, evaluation_view(pixels, SIZES, make_keys(5), 10, 0.6))
    torch.testing.assert_close(
        view[2:3],
        evaluation_view(pixels[2:3], SIZES[2:3], make_keys(5)[2:3], 10, 0.6),
        rtol=0,
        atol=1e-5,
    )
    other = evaluation_view(pixels, SIZES, make_keys(5, seed=1), 10, 0.6)
    assert (view - other).abs().amax(dim=(1, 2, 3, 4)).min() > 0.01


def test_evaluation_view_of_the_whole_square_is_normalisation_alone() -> None:
    pixels = make_pixels(2)[..., :16, :16]
    view = evaluation_view(pixels, np.array([(16, 16)] * 5), make_keys(5), 16, 1.0)
    torch.testing.assert_close(view, normalise_(pixels.float() / 255), rtol=0, atol=1e-5)


def test_evaluation_crops_are_squares_of_three_quarters_everywhere_inside() -> None:
    count = 600
    columns = torch.arange(16, dtype=torch.uint8).view(1, 1, 1, 1, 16).expand(count, 3, 1, 12, 16)
    rows = torch.arange(12, dtype=torch.uint8).view(1, 1, 1, 12, 1).expand(count, 3, 1, 12, 16)
    sizes = np.array([(12, 16)] * count)
    lefts, tops = (
        (evaluation_view(pixels, sizes, make_keys(count), 9, 0.75)[:, 0, 0] * STD[0] + MEAN[0])
        * 255
        for pixels in (columns, rows)
    )
    torch.testing.assert_close(
        lefts, (lefts[:, :1, :1] + torch.arange(9.0)).expand(-1, 9, 9), rtol=0, atol=1e-3
    )
    torch.testing.assert_close(
        tops, (tops[:, :1, :1] + torch.arange(9.0)[:, None]).expand(-1, 9, 9), rtol=0, atol=1e-3
    )
    places = torch.stack([tops[:, 0, 0], lefts[:, 0, 0]], dim=1).round()
    assert {tuple(place) for place in places.int().tolist()} == {
        (top, left) for top in range(4) for left in range(8)
    }


def test_evaluation_crops_never_touch_the_padding() -> None:
    batch = 200
    sizes = np.random.default_rng(0).integers(5, 20, size=(batch, 2))
    pixels = torch.full((batch, 3, 1, 20, 20), 255, dtype=torch.uint8)
    for clip, (height, width) in zip(pixels, sizes, strict=True):
        clip[..., :height, :width] = 0
    view = evaluation_view(pixels, sizes, make_keys(batch), 8, 0.75)
    torch.testing.assert_close(view, normalise_(torch.zeros(batch, 3, 1, 8, 8)), rtol=0, atol=1e-6)


def test_a_whole_view_keeps_every_pixel_where_the_size_is_the_frames_own() -> None:
    pixels = make_pixels(3, batch=2)
    view, shares = whole_view(pixels, np.array([(18, 22), (18, 20)]), 18)
    assert view.shape == (2, 3, 3, 32, 32)
    np.testing.assert_allclose(shares, [(18 / 32, 22 / 32), (18 / 32, 20 / 32)])
    wanted = normalise_(pixels.float() / 255)
    torch.testing.assert_close(view[0, :, :, :18, :22], wanted[0])
    torch.testing.assert_close(view[1, :, :, :18, :20], wanted[1, :, :, :, :20])
    assert (view[0, :, :, 18:] == 0).all()
    assert (view[1, :, :, :, 20:] == 0).all()


def test_a_whole_view_scales_each_clip_by_its_own_short_side_and_mirrors_inside_it() -> None:
    pixels = make_pixels(2, batch=2)
    sizes = np.array([(18, 22), (18, 9)])
    plain, shares = whole_view(pixels, sizes, 36)
    assert plain.shape == (2, 3, 2, 96, 64)  # 36 x 44 and 72 x 36
    np.testing.assert_allclose(shares * [96, 64], [(36, 44), (72, 36)])
    mirrored, _ = whole_view(pixels, sizes, 36, np.array([False, True]))
    assert torch.equal(mirrored[0], plain[0])
    assert torch.equal(mirrored[1, :, :, :72, :36], plain[1, :, :, :72, :36].flip(-1))
    assert (mirrored[1, :, :, :, 36:] == 0).all()
