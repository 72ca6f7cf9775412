"""How far features go that nothing has learned: the floor under every number of an encoder.

    middle_frame         the pixels of a clip's middle frame: appearance alone
    difference_grid      mean |difference| along time, on a grid of 4 x 4 x 4 of time, height and
                         width: where and when something moves
    signed_differences   the differences themselves, in order: how it moves

Each is retrieved by cosine similarity as an encoder's features are, and classified by ridge
regression on standardised features (vididi/evaluation/online.py). They need no run; the run's
evaluation says of which clips they are. An encoder with random weights is measured by `retrieval`,
of derivatives with `orders`.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool3d

from vididi.data.stream import Batch
from vididi.evaluation import first_hits, recall_at
from vididi.evaluation.features import Features, FeatureView, clips_in_a_row
from vididi.evaluation.online import probe_accuracy
from vididi.protocols.frozen import is_test, video_features
from vididi.protocols.task import EvaluationResult, Task
from vididi.runs.run_folder import RunFolder
from vididi.views import differentiate, evaluation_view

GRID = (4, 4, 4)  # of time, height and width


def measure_unlearned(
    task: Task, encoder: nn.Module, width: int, folder: RunFolder
) -> EvaluationResult:
    """R@1 and linear accuracy of features that nothing has learned; the encoder is not used."""
    rows, features = video_features(task, encoder, UnlearnedView)
    labels, test = task.shards.column("label")[rows], is_test(task.shards, rows)
    metrics = {}
    for name, x in features.items():
        parts = x[test], labels[test], x[~test], labels[~test]
        metrics[f"unlearned/{name}_R@1"] = recall_at(first_hits(*parts), (1,))[1]
        metrics[f"unlearned/{name}_linear"] = probe_accuracy(*parts)
    return EvaluationResult(metrics)


class UnlearnedView(FeatureView):
    """As a Measure it gives UNLEARNED of each video, the mean over its clips."""

    @torch.inference_mode()
    def __call__(self, encoder: nn.Module, batch: Batch) -> Features:
        """Features ``[B, D]`` by name."""
        device = next(encoder.parameters()).device
        pixels, sizes, keys = clips_in_a_row(batch, batch.clips, self.seed, device)
        view = evaluation_view(pixels, sizes, keys, self.size, self.crop)
        return {name: _of_videos(feature(view), batch) for name, feature in UNLEARNED.items()}


def _of_videos(features: Tensor, batch: Batch) -> NDArray[np.float32]:
    """``[B * K, ...]`` of clips -> ``[B, D]``, the mean over a video's clips."""
    return features.reshape(*batch.clips.shape[:2], -1).mean(dim=1).float().cpu().numpy()


def middle_frame(view: Tensor) -> Tensor:
    """``[B, 3, T, S, S]`` -> ``[B, 3, S, S]``."""
    return view[:, :, view.shape[2] // 2]


def difference_grid(view: Tensor) -> Tensor:
    """``[B, 3, T, S, S]`` -> ``[B, 1, 4, 4, 4]``, coarser in time where there are fewer frames."""
    moved = differentiate(view, 1).abs().mean(dim=1, keepdim=True)
    return adaptive_avg_pool3d(moved, (min(GRID[0], moved.shape[2]), *GRID[1:]))


def signed_differences(view: Tensor) -> Tensor:
    """``[B, 3, T, S, S]`` -> ``[B, T - 1, S, S]``, the mean over colours."""
    return differentiate(view, 1).mean(dim=1)


UNLEARNED = {
    "middle_frame": middle_frame,
    "difference_grid": difference_grid,
    "signed_differences": signed_differences,
}
