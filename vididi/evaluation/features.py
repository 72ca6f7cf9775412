"""One feature vector per video: the mean of its clips' features under the frozen encoder (ViDiDi
E.4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vididi.backbones import known_orders
from vididi.data.plan import Plan
from vididi.data.stream import Batch, Stream
from vididi.draws import Use, key
from vididi.evaluation.retrieval import unit_rows
from vididi.heartbeat import beat, rest
from vididi.interrupts import check
from vididi.views import differentiate, evaluation_view

Features = dict[str, NDArray[np.float32]]  # features [B, D] by name
# (encoder in evaluation mode, batch) -> its features; picklable, so that it can run anywhere
Measure = Callable[[nn.Module, Batch], Features]
FeatureProgress = Callable[[int, int], None]  # (batches done, batches in all)
# The features of a whole plan, as of measure_batches
Extract = Callable[[nn.Module, Plan, Measure, FeatureProgress], tuple[NDArray[np.int64], Features]]


class EncoderByOrder(nn.ModuleDict):
    """One encoder with statistics of its own for each order of derivative that it is fed."""

    def __init__(self, encoders: dict[int, nn.Module]) -> None:
        super().__init__({str(order): encoder for order, encoder in encoders.items()})

    def of(self, order: int) -> nn.Module:
        """The encoder with the statistics of an order."""
        return self[str(order)]

    def forward(self, view: Tensor, order: int = 0) -> Tensor:
        """``[B, 3, T, H, W]`` of that order -> ``[B, D]``."""
        return self.of(order)(view)


@dataclass(frozen=True)
class FeatureView:
    """How an encoder sees a clip: the random crop of evaluation_view, differentiated.

    As a Measure it gives the features of the clips as they are, of each order.

    Attributes:
        size: height and width; crop: its side over the short side; seed: of the crops.
        orders: how many differences along time, for each feature.
        frames: of what the encoder is fed, of any order; clips may have more. None: all that a clip
            has, which is right for order 0 alone.
    """

    size: int
    crop: float
    seed: int
    orders: tuple[int, ...] = (0,)
    frames: int | None = None

    def __call__(self, encoder: nn.Module, batch: Batch) -> Features:
        """Features ``[B, D]`` of the clips as they are, by ``feature_name`` of their order."""
        return {
            feature_name(order): self.features(encoder, batch, batch.clips, order)
            for order in self.orders
        }

    @torch.inference_mode()
    def features(
        self, encoder: nn.Module, batch: Batch, clips: NDArray[np.uint8], order: int = 0
    ) -> NDArray[np.float32]:
        """``[B, D]``, the mean over a video's clips ``[B, K, N, H, W, 3]``.

        They have the crops of the batch's own clips.
        """
        network = encoder.of(order) if isinstance(encoder, EncoderByOrder) else encoder
        view = self.clips(batch, clips, order, next(network.parameters()).device)
        with known_orders((view, order)):
            features = network(view)
        return features.view(*clips.shape[:2], -1).mean(dim=1).float().cpu().numpy()

    @torch.inference_mode()
    def clip_features(self, encoder: nn.Module, batch: Batch) -> Features:
        """A Measure of frames: the features ``[B, D]`` of videos, ``intact`` as ever, and
        ``clips``, ``[B, K, D]``, those of each clip.
        """
        network = encoder.of(0) if isinstance(encoder, EncoderByOrder) else encoder
        view = self.clips(batch, batch.clips, 0, next(network.parameters()).device)
        with known_orders((view, 0)):
            features = network(view).view(*batch.clips.shape[:2], -1)
        parts = {feature_name(0): features.mean(dim=1), "clips": features}
        return {name: part.float().cpu().numpy() for name, part in parts.items()}

    def clips(
        self, batch: Batch, clips: NDArray[np.uint8], order: int, device: torch.device
    ) -> Tensor:
        """What the encoder is fed: ``[B * K, 3, T, size, size]`` of that order on ``device``."""
        needed = (self.frames or clips.shape[2]) + order
        pixels, sizes, keys = clips_in_a_row(batch, clips[:, :, :needed], self.seed, device)
        view = evaluation_view(pixels, sizes, keys, self.size, self.crop)
        return differentiate(view, order).contiguous(memory_format=torch.channels_last_3d)


def feature_name(order: int) -> str:
    """Of a clip's features among Features; those of frames are ``intact``."""
    return f"order_{order}" if order else "intact"


def clips_in_a_row(
    batch: Batch, clips: NDArray[np.uint8], seed: int, device: torch.device
) -> tuple[Tensor, NDArray[np.int64], NDArray[np.uint64]]:
    """All clips ``[B, K, N, H, W, 3]`` of a batch as evaluation_view takes them.

    Returns:
        pixels ``[B * K, 3, N, H, W]`` on ``device``; of each clip the true height and width, and
        the key of its random crop.
    """
    each = clips.shape[1]
    pixels = (
        torch.from_numpy(clips).to(device, non_blocking=True).flatten(0, 1).permute(0, 4, 1, 2, 3)
    )
    keys = key(Use.EVALUATION_CROP, seed, batch.rows[:, None], np.arange(each)).reshape(-1)
    return pixels, np.repeat(batch.sizes, each, axis=0), keys


def measure_batches(
    encoder: nn.Module,
    batches: Iterator[Batch],
    count: int,
    measure: Measure,
    progress: FeatureProgress = lambda done, count: None,
) -> tuple[NDArray[np.int64], Features]:
    """Features of the videos in the next ``count`` batches.

    Args:
        encoder: ``[B, 3, T, H, W]`` -> ``[B, D]``; put into evaluation mode.

    Returns:
        index rows ``[V]`` and features ``[V, D]`` by name, in the batches' order.
    """
    encoder.eval()
    rows, parts = [], []
    for number in range(count):
        check()
        batch = next(batches)
        parts.append(measure(encoder, batch))
        rows.append(batch.rows)
        progress(number + 1, count)
        beat()
    rest()
    return np.concatenate(rows), {
        name: np.concatenate([part[name] for part in parts]) for name in parts[0]
    }


def local_extract(stream: Stream) -> Extract:
    """An Extract in this process, of the batches that ``stream`` gives."""

    def extract(
        encoder: nn.Module, plan: Plan, measure: Measure, progress: FeatureProgress
    ) -> tuple[NDArray[np.int64], Features]:
        return measure_batches(encoder, stream(plan, 0), len(plan), measure, progress)

    return extract


def spread(features: NDArray) -> float:
    """How far features ``[V, D]`` point in different directions, from 0 to 1.

    It is 1 - |mean of their unit vectors|^2.

    0 is a collapsed encoder, which gives every video the same feature; its retrieval then says only
    which video comes first.

    Raises:
        NotFiniteError: a feature is not finite.
    """
    unit = unit_rows("features/spread", "features", features)
    mean = unit.mean(axis=0)
    # Features that are all zero point nowhere; they are collapsed too.
    return float(max(0.0, unit.any(axis=1).mean() - mean @ mean))
