"""The one place that fixes the order of operations of a view: augment, normalise, differentiate
(ViDiDi E.1).
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
from vididi.views.derivatives import differentiate
from vididi.views.operations import crop_resize, normalise

Augment = Callable[[Tensor, NDArray, NDArray[np.uint64], int], Tensor]
Length = Literal["constant", "shrinking"]
MULTIPLE = 32  # of the height and width of whole_view; no backbone shrinks space more


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
    differences = differentiate(augment(clips[:, :, :needed], sizes, keys, view), order)
    return differences.contiguous(memory_format=torch.channels_last_3d)


def evaluation_view(
    clips: Tensor, sizes: NDArray, keys: NDArray[np.uint64], size: int, crop: float
) -> Tensor:
    """Random square crop and normalisation, nothing else (ViDiDi E.4), seeded by each clip's key.

    The crop's side is ``crop`` times the short side (the paper cuts 112 from 150, about 0.75), then
    resized to ``size``. Frames (order 0) are what every downstream task sees.
    """
    side = np.maximum(1, np.rint(sizes.min(axis=1) * crop)).astype(np.int64)
    draws = uniform(keys, 2)
    top, left = (np.floor((sizes[:, i] - side + 1) * draws[:, i]).astype(np.int64) for i in (0, 1))
    boxes = np.stack([top, left, side, side], axis=1)
    view = normalise(crop_resize(clips, boxes, size).clamp_(0, 1))
    return view.contiguous(memory_format=torch.channels_last_3d)


def square_view(clips: Tensor, sizes: NDArray, size: int, place: float) -> Tensor:
    """The square of the short side at ``place`` along the longer side (0 top or left, 0.5 centre, 1
    bottom or right), normalised.

    Three of them, at 0, 0.5 and 1, are the "3-crop evaluation" of CVRL 4.1 and CORP 4.1.
    """
    side = sizes.min(axis=1)
    corner = np.floor((sizes - side[:, None]) * place).astype(np.int64)
    boxes = np.concatenate([corner, np.stack([side, side], axis=1)], axis=1)
    return normalise(crop_resize(clips, boxes, size).clamp_(0, 1)).contiguous(
        memory_format=torch.channels_last_3d
    )


def whole_view(
    clips: Tensor, sizes: NDArray, size: int, flip: NDArray[np.bool_] | None = None
) -> tuple[Tensor, NDArray[np.float64]]:
    """Whole frames, their short side resized to ``size``, normalised, and padded with zeros at the
    right and the bottom.

    The padding goes up to a common height and width that are multiples of 32, so that a network
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
    height, width = (-(-int(side) // MULTIPLE) * MULTIPLE for side in shapes.max(axis=0))
    view = torch.zeros(len(clips), 3, clips.shape[2], height, width, device=clips.device)
    for i, (clip, (h, w), (to_h, to_w)) in enumerate(
        zip(clips, sizes.tolist(), shapes.tolist(), strict=True)
    ):
        own = clip[None, :, :, :h, :w].float().div_(255)
        if (h, w) != (to_h, to_w):
            own = interpolate(own[0], size=(to_h, to_w), mode="bilinear", antialias=True)[
                None
            ].clamp_(0, 1)
        own = normalise(own)
        view[i, :, :, :to_h, :to_w] = own[0].flip(-1) if flip is not None and flip[i] else own[0]
    return view.contiguous(memory_format=torch.channels_last_3d), shapes / [height, width]
