"""The one place that fixes the order of operations of a view: augment, normalise, differentiate (ViDiDi E.1)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vididi.draws import uniform
from vididi.views.augment import crop_resize, normalise
from vididi.views.derivatives import differentiate

Augment = Callable[[Tensor, NDArray, NDArray[np.uint64]], Tensor]


def make_view(clips: Tensor, sizes: NDArray, keys: NDArray[np.uint64], order: int, frames: int, augment: Augment) -> Tensor:
    """One view: ``frames`` frames of order ``order`` from clips that are at least ``order`` frames longer.

    Args:
        clips: uint8 ``[B, 3, N, H, W]`` with N >= frames + order.
        sizes: ``[B, 2]`` true height and width; keys: ``[B]``, see ViDiDiAugment.

    Returns:
        float32 ``[B, 3, frames, S, S]``.
    """
    if clips.shape[2] < frames + order:
        raise ValueError(f"clips: {clips.shape[2]} frames, but a view of {frames} frames and order {order} needs {frames + order}")
    view = differentiate(augment(clips[:, :, : frames + order], sizes, keys), order)
    return view.contiguous(memory_format=torch.channels_last_3d)


def evaluation_view(clips: Tensor, sizes: NDArray, keys: NDArray[np.uint64], size: int, crop: float) -> Tensor:
    """Random square crop and normalisation, nothing else (ViDiDi E.4), seeded by each clip's key.

    The crop's side is ``crop`` times the short side (the paper cuts 112 from 150, about 0.75), then resized to ``size``.
    Frames (order 0) are what every downstream task sees.
    """
    side = np.maximum(1, np.rint(sizes.min(axis=1) * crop)).astype(np.int64)
    draws = uniform(keys, 2)
    top, left = (np.floor((sizes[:, i] - side + 1) * draws[:, i]).astype(np.int64) for i in (0, 1))
    boxes = np.stack([top, left, side, side], axis=1)
    view = normalise(crop_resize(clips.float().div_(255), boxes, size).clamp_(0, 1))
    return view.contiguous(memory_format=torch.channels_last_3d)
