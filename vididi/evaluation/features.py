"""One feature vector per video: the mean of its clips' features under the frozen encoder (ViDiDi E.4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vididi.data.stream import Batch
from vididi.draws import Use, key
from vididi.views import evaluation_view


@dataclass(frozen=True)
class FeatureView:
    """How an encoder sees a clip: the random crop of evaluation_view, and on which device."""

    size: int
    crop: float
    seed: int
    device: torch.device

    @torch.inference_mode()
    def features(self, encoder: nn.Module, batch: Batch, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """``[B, D]``, the mean over a video's clips ``[B, K, N, H, W, 3]``, which have the crops of the batch's own clips."""
        videos, each = clips.shape[:2]
        pixels = torch.from_numpy(clips).to(self.device, non_blocking=True).flatten(0, 1).permute(0, 4, 1, 2, 3)
        keys = key(Use.EVALUATION_CROP, self.seed, batch.rows[:, None], np.arange(each)).reshape(-1)
        view = evaluation_view(pixels, np.repeat(batch.sizes, each, axis=0), keys, self.size, self.crop)
        return encoder(view).view(videos, each, -1).mean(dim=1).float().cpu().numpy()


def video_features(
    encoder: nn.Module, batches: Iterator[Batch], count: int, view: FeatureView
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Features of the videos in the next ``count`` batches.

    Args:
        encoder: ``[B, 3, T, H, W]`` -> ``[B, D]``; put into evaluation mode.

    Returns:
        index rows ``[V]`` and features ``[V, D]``, in the batches' order.
    """
    encoder.eval()
    rows, features = [], []
    for _ in range(count):
        batch = next(batches)
        features.append(view.features(encoder, batch, batch.clips))
        rows.append(batch.rows)
    return np.concatenate(rows), np.concatenate(features)


def spread(features: NDArray) -> float:
    """How far features ``[V, D]`` point in different directions: 1 - |mean of their unit vectors|^2, from 0 to 1.

    0 is a collapsed encoder, which gives every video the same feature; its retrieval then says only which video comes first.
    """
    length = np.linalg.norm(features, axis=1, keepdims=True)
    mean = (features / np.where(length == 0, 1, length)).mean(axis=0, dtype=np.float64)
    # Features that are all zero point nowhere; they are collapsed too.
    return float(max(0.0, (length > 0).mean() - mean @ mean))
