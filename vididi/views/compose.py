"""What a view is: one clip augmented, normalised and differentiated, in this order (ViDiDi E.1).

Augmenting and normalising is one call, of an entry of AUGMENTATIONS (augment.py). Views for
evaluation are frames (order 0) with a crop and no other augmentation.

Shapes: B clips, T frames, H W pixels padded to a common size, S the side of a square view.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from vididi.draws import uniform
from vididi.views.operations import crop_resize, normalise_

# What an Augmentation is: (uint8 clips [B, 3, T, H, W], sizes [B, 2], keys [B], view 0 or 1) ->
# augmented and normalised float32 [B, 3, T, S, S].
Augment = Callable[[Tensor, NDArray, NDArray[np.uint64], int], Tensor]
Length = Literal["constant", "shrinking"]
SIDE_MULTIPLE = 32  # of whole_view's height and width; no backbone shrinks space more


def make_view(
    clips: Tensor,
    sizes: NDArray,
    keys: NDArray[np.uint64],
    order: int,
    frames: int,
    augment: Augment,
    view: int,
    length: Length = "constant",
) -> Tensor:
    """One view of order ``order`` from the first frames of each clip.

    Args:
        clips: uint8 ``[B, 3, N, H, W]``.
        sizes: ``[B, 2]`` true height and width.
        keys: ``[B]``, see Augmentation.
        view: 0 or 1, which of the pair this is.
        length: ``constant`` differentiates frames + order source frames, so that every view has
            ``frames``; ``shrinking`` differentiates ``frames`` of them, so that a view has frames -
            order (ViDiDi does not say which).

    Returns:
        float32 ``[B, 3, frames, S, S]``, or frames - order of them.

    Raises:
        ValueError: the clips or ``frames`` are too few for the order.
    """
    if length == "shrinking" and frames <= order:
        raise ValueError(
            f"frames: {frames} is too few; a shrinking view of order {order} needs at least"
            f" {order + 1}"
        )
    needed = frames + order if length == "constant" else frames
    if clips.shape[2] < needed:
        raise ValueError(
            f"clips: {clips.shape[2]} frames, but a {length} view of {frames} frames and order"
            f" {order} needs {needed}"
        )
    normalised = augment(clips[:, :, :needed], sizes, keys, view)
    return differentiate(normalised, order)


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


def evaluation_view(
    clips: Tensor, sizes: NDArray, keys: NDArray[np.uint64], size: int, crop: float
) -> Tensor:
    """Random square crop and normalisation, nothing else (ViDiDi E.4), seeded by each clip's key.

    The crop's side is ``crop`` times the short side (the paper cuts 112 from 150, about 0.75), then
    resized to ``size``. Frames (order 0) are what every downstream task sees.

    Returns:
        float32 ``[B, 3, T, size, size]``.
    """
    side = np.maximum(1, np.rint(sizes.min(axis=1) * crop)).astype(np.int64)
    draws = uniform(keys, 2)
    top, left = (np.floor((sizes[:, i] - side + 1) * draws[:, i]).astype(np.int64) for i in (0, 1))
    boxes = np.stack([top, left, side, side], axis=1)
    view = normalise_(crop_resize(clips, boxes, size).clamp_(0, 1))
    return view.contiguous(memory_format=torch.channels_last_3d)


def square_view(clips: Tensor, sizes: NDArray, size: int, position: float) -> Tensor:
    """The square of the short side at ``position`` along the longer side, normalised.

    Position 0 is top or left, 0.5 the centre, 1 bottom or right. The three of them are the "3-crop
    evaluation" of CVRL 4.1 and CORP 4.1.
    """
    side = sizes.min(axis=1)
    corner = np.floor((sizes - side[:, None]) * position).astype(np.int64)
    boxes = np.concatenate([corner, np.stack([side, side], axis=1)], axis=1)
    return normalise_(crop_resize(clips, boxes, size).clamp_(0, 1)).contiguous(
        memory_format=torch.channels_last_3d
    )


def whole_view(
    clips: Tensor, sizes: NDArray, size: int, flip: NDArray[np.bool_] | None = None
) -> tuple[Tensor, NDArray[np.float64]]:
    """Whole frames, their short side resized to ``size``, normalised, padded with zeros.

    The padding, at the right and the bottom, goes up to a common height and width that are
    multiples of 32, so that a network
    that shrinks space 2, 4, ... or 32 times gives features that lie over the frame evenly.

    Args:
        clips: uint8 ``[B, 3, T, H, W]``.
        sizes: ``[B, 2]`` true height and width.
        flip: ``[B]``, mirror left and right.

    Returns:
        float32 ``[B, 3, T, H', W']``, and ``[B, 2]``, what share of H' and W' each clip fills.
    """
    scale = size / sizes.min(axis=1, keepdims=True)
    shapes = np.maximum(1, np.rint(sizes * scale)).astype(np.int64)
    height, width = (-(-int(side) // SIDE_MULTIPLE) * SIDE_MULTIPLE for side in shapes.max(axis=0))
    view = torch.zeros(len(clips), 3, clips.shape[2], height, width, device=clips.device)
    for i, (clip, (h, w), (to_h, to_w)) in enumerate(
        zip(clips, sizes.tolist(), shapes.tolist(), strict=True)
    ):
        frames = clip[:, :, :h, :w].float().div_(255)
        if (h, w) != (to_h, to_w):
            frames = interpolate(frames, size=(to_h, to_w), mode="bilinear", antialias=True)
            frames = frames.clamp_(0, 1)
        (frames,) = normalise_(frames[None])
        view[i, :, :, :to_h, :to_w] = frames.flip(-1) if flip is not None and flip[i] else frames
    return view.contiguous(memory_format=torch.channels_last_3d), shapes / [height, width]
