"""Temporal derivatives of clips by finite forward differences (ViDiDi section 2.2)."""

from __future__ import annotations

from torch import Tensor


def differentiate(clip: Tensor, order: int, dim: int = -3) -> Tensor:
    """Forward differences along time, ``order`` times: x[t + 1] - x[t].

    Args:
        clip: floating point, any shape; time is axis ``dim`` (-3 for ``[..., T, H, W]``).
        order: 0 returns the clip itself, 1 its velocity, 2 its acceleration, and so on.
        dim: the time axis.

    Returns:
        The same shape with T - order frames.

    Raises:
        TypeError: the clip is not floating point (differences of uint8 would wrap around).
        ValueError: ``order`` is negative, or the clip has fewer than order + 1 frames.
    """
    if not clip.is_floating_point():
        raise TypeError(
            f"clip: differences need a floating point clip, not {clip.dtype}; convert and normalise"
            " it first"
        )
    if order < 0:
        raise ValueError(
            f"order: {order} is negative; an order is 0 (frames), 1 (velocity), 2 (acceleration) or"
            " more"
        )
    frames = clip.shape[dim]
    if frames <= order:
        raise ValueError(
            f"clip: {frames} frames along axis {dim}, but order {order} needs at least {order + 1}"
        )
    for _ in range(order):
        length = clip.shape[dim]
        clip = clip.narrow(dim, 1, length - 1) - clip.narrow(dim, 0, length - 1)
    return clip
