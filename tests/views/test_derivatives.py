"""differentiate: forward differences along any axis, with gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vididi.views import differentiate


def differences_by_loop(x: NDArray, order: int, dim: int) -> NDArray:
    x = np.moveaxis(x, dim, 0)
    for _ in range(order):
        x = np.stack([x[t + 1] - x[t] for t in range(len(x) - 1)])
    return np.moveaxis(x, 0, dim)


@pytest.mark.parametrize("order", range(5))
@pytest.mark.parametrize("dim", [-3, 0, 1, 2, 4, -1])
def test_agrees_with_a_loop(order: int, dim: int) -> None:
    x = np.random.default_rng(0).normal(size=(6, 5, 8, 7, 6))
    result = differentiate(torch.from_numpy(x), order, dim=dim)
    np.testing.assert_array_equal(result.numpy(), differences_by_loop(x, order, dim))


def test_time_is_the_third_axis_from_the_end_unless_told_otherwise() -> None:
    clip = torch.randn(2, 3, 6, 4, 5)
    assert torch.equal(differentiate(clip, 2), differentiate(clip, 2, dim=2))
    assert differentiate(clip[0], 1).shape == (3, 5, 4, 5)


def test_order_zero_is_the_clip_itself() -> None:
    clip = torch.randn(2, 3, 4, 5, 5)
    assert torch.equal(differentiate(clip, 0), clip)


def test_a_parabola_has_linear_velocity_constant_acceleration_and_no_jerk() -> None:
    t = torch.arange(8, dtype=torch.float64)
    clip = (t**2).view(1, 1, 8, 1, 1)
    assert torch.equal(differentiate(clip, 1).flatten(), 2 * t[:-1] + 1)
    assert torch.equal(differentiate(clip, 2).flatten(), torch.full((6,), 2.0, dtype=torch.float64))
    assert torch.equal(differentiate(clip, 3).flatten(), torch.zeros(5, dtype=torch.float64))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_is_linear(order: int) -> None:
    x, y = torch.randn(2, 1, 3, 6, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(
        differentiate(2.5 * x - y, order), 2.5 * differentiate(x, order) - differentiate(y, order)
    )


@pytest.mark.parametrize("order", range(4))
def test_gradcheck(order: int) -> None:
    clip = torch.randn(1, 2, 5, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: differentiate(x, order), (clip,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_keeps_the_floating_point_type(dtype: torch.dtype) -> None:
    assert differentiate(torch.zeros(1, 3, 4, 2, 2, dtype=dtype), 2).dtype == dtype


def test_does_not_change_its_input() -> None:
    clip = torch.randn(1, 3, 5, 2, 2)
    before = clip.clone()
    differentiate(clip, 2)
    assert torch.equal(clip, before)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_integers_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=str(dtype).removeprefix("torch.")):
        differentiate(torch.zeros(1, 3, 4, 2, 2, dtype=dtype), 1)


def test_a_negative_order_is_refused() -> None:
    with pytest.raises(ValueError, match="order: -1"):
        differentiate(torch.zeros(1, 3, 4, 2, 2), -1)


@pytest.mark.parametrize(("frames", "order"), [(1, 1), (2, 2), (1, 2), (0, 0)])
def test_too_few_frames_says_how_many_are_needed(frames: int, order: int) -> None:
    with pytest.raises(
        ValueError, match=f"{frames} frames .* order {order} needs at least {order + 1}"
    ):
        differentiate(torch.zeros(1, 3, frames, 2, 2), order)
