"""Where the clips of a video begin, in pretraining. Each entry of SAMPLINGS makes a Sampling from
keyword options.

Shapes: B videos, K clips per video. L frames of a video; a clip has n frames, one of every
``stride``, and so covers (n - 1) stride + 1; S = L - (n - 1) stride starts are possible. In a video
that is too short the frames start over at the first one; its clips begin there too, or anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vididi.checks import check_positive
from vididi.draws import uniform

# Where clips begin in a video that is too short for one: S counts as 1, or as L, so that any of its
# frames may be the first (the code of CVRL's authors).
ShortVideos = Literal["first_frame", "any_frame"]


class Sampling(Protocol):
    """A way to draw starts."""

    def __call__(
        self, keys: NDArray[np.uint64], frame_count: NDArray, length: int, stride: int
    ) -> NDArray[np.int64]:
        """Starts ``[B, K]`` from one key per clip ``[B, K]`` and the videos' L ``[B]``."""

    def possible(
        self, frame_count: NDArray, clips: int, length: int, stride: int
    ) -> NDArray[np.bool_]:
        """Whether each video ``[B]`` is long enough."""


def span(length: int, stride: int) -> int:
    """How many source frames a clip covers."""
    return (length - 1) * stride + 1


def start_count(frame_count: NDArray, length: int, stride: int) -> NDArray[np.int64]:
    """S for each video, at least 1."""
    return np.maximum(1, np.asarray(frame_count, dtype=np.int64) - span(length, stride) + 1)


@dataclass(frozen=True, kw_only=True)
class _AnyLength:
    short_videos: ShortVideos = "first_frame"

    def possible(
        self, frame_count: NDArray, clips: int, length: int, stride: int
    ) -> NDArray[np.bool_]:
        """True of every video: in one that is too short the clip starts over."""
        return np.ones(len(frame_count), dtype=bool)

    def too_short(self, frame_count: NDArray, length: int, stride: int) -> NDArray[np.bool_]:
        """The videos ``[B]`` in which a clip may begin at any frame."""
        short = np.asarray(frame_count) < span(length, stride)
        return short & (self.short_videos == "any_frame")

    def start_count(self, frame_count: NDArray, length: int, stride: int) -> NDArray[np.int64]:
        """S for each video ``[B]``, L where any frame may be the first."""
        return np.where(
            self.too_short(frame_count, length, stride),
            np.asarray(frame_count, dtype=np.int64),
            start_count(frame_count, length, stride),
        )


@dataclass(frozen=True, kw_only=True)
class UniformSampling(_AnyLength):
    """Independent starts, each uniform over the video (ViDiDi: "randomly cropping two clips").

    Args:
        short_videos: where a clip begins in a video that is too short for one.
    """

    def __call__(
        self, keys: NDArray[np.uint64], frame_count: NDArray, length: int, stride: int
    ) -> NDArray[np.int64]:
        """A start of its own for each clip."""
        return (
            uniform(keys, 1)[..., 0] * self.start_count(frame_count, length, stride)[:, None]
        ).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class SameSampling(_AnyLength):
    """One uniform start for all clips of a video: spatial augmentation only (CVRL Table 9).

    Args:
        short_videos: where the clips begin in a video that is too short for one.
    """

    def __call__(
        self, keys: NDArray[np.uint64], frame_count: NDArray, length: int, stride: int
    ) -> NDArray[np.int64]:
        """The start of the first clip for all."""
        start = (
            uniform(keys[:, :1], 1)[..., 0] * self.start_count(frame_count, length, stride)[:, None]
        ).astype(np.int64)
        return np.repeat(start, keys.shape[1], axis=1)


@dataclass(frozen=True, kw_only=True)
class IntervalSampling(_AnyLength):
    """CVRL's temporal augmentation (section 3.3, appendix A): two clips, some interval apart.

    The interval k, on 0..S - 1, has a density that falls from 1 at 0 to ``floor`` at S
    (``decreasing``: 1 - (1 - floor) (k/S)^power) or rises from ``floor`` to 1 (``increasing``), or
    is ``uniform``: up to scale every a t^b + c of appendix A. The first start is uniform on what is
    left, the second k later; which of them is clip 0 is a coin flip. In a video that is too short,
    ``any_frame`` draws the two starts independently.
    """

    shape: Literal["decreasing", "uniform", "increasing"]
    power: float
    floor: float

    def __call__(
        self, keys: NDArray[np.uint64], frame_count: NDArray, length: int, stride: int
    ) -> NDArray[np.int64]:
        """Starts of two clips; ValueError for any other number of them."""
        if keys.shape[1] != 2:
            raise ValueError(
                f"clip.per_video: {keys.shape[1]} is not valid with sampling 'interval', which"
                " places two clips"
            )
        starts = start_count(frame_count, length, stride)
        draws = uniform(keys[:, 0], 3)
        interval = np.minimum((starts * self.quantile(draws[:, 0])).astype(np.int64), starts - 1)
        first = (draws[:, 1] * (starts - interval)).astype(np.int64)
        both = np.stack([first, first + interval], axis=1)
        placed = np.where(draws[:, 2:] < 0.5, both, both[:, ::-1])
        frames = np.asarray(frame_count, dtype=np.int64)[:, None]
        anywhere = (draws[:, :2] * frames).astype(np.int64)
        return np.where(self.too_short(frame_count, length, stride)[:, None], anywhere, placed)

    def quantile(self, draws: NDArray[np.float64]) -> NDArray[np.float64]:
        """The inverse of the cumulative distribution of k/S at ``draws``."""
        if self.shape == "uniform":
            return draws
        if self.floor == 0 and self.shape == "increasing":
            return draws ** (1 / (self.power + 1))
        if self.floor == 0 and self.power == 1:
            return 1 - np.sqrt(1 - draws)

        # No closed inverse. Halving the interval 53 times gives all bits.
        low, high = np.zeros_like(draws), np.ones_like(draws)
        total = self._mass(np.ones(1))
        for _ in range(53):
            middle = (low + high) / 2
            above = self._mass(middle) > draws * total
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        return low

    def _mass(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The density's integral from 0 to x, not normalised."""
        curve = (1 - self.floor) * x ** (self.power + 1) / (self.power + 1)
        return x - curve if self.shape == "decreasing" else self.floor * x + curve


@dataclass(frozen=True)
class MinOffsetSampling:
    """CORP's rule (section 3.2, eq. 3): random starts, any two of which differ by more than Delta.

    Delta = min(max((L - D T) / K, 1), D T), with T frames a clip and D the stride. The paper draws
    again until it holds (with K = 4, about 250 times); here the same distribution is drawn at once:
    K starts g or more apart are, less i (g - 1) for the i-th in time, any K different numbers below
    S - (K - 1)(g - 1).
    """

    def __call__(
        self, keys: NDArray[np.uint64], frame_count: NDArray, length: int, stride: int
    ) -> NDArray[np.int64]:
        """Starts that keep the rule."""
        clips = keys.shape[1]
        gap, capacity = self._gap_and_capacity(frame_count, clips, length, stride)
        draws = uniform(keys[:, 0], 2 * clips)
        chosen = np.full(keys.shape, -1, dtype=np.int64)
        for i in range(clips):  # Floyd's sampling of K different numbers below `capacity`
            top = capacity - clips + i
            pick = (draws[:, i] * (top + 1)).astype(np.int64)
            taken = (chosen[:, :i] == pick[:, None]).any(axis=1)
            chosen[:, i] = np.where(taken, top, pick)
        in_time = np.sort(chosen, axis=1) + np.arange(clips) * (gap - 1)[:, None]
        # Which clip comes first is a draw of its own: clip k gets the k-th view's order of
        # derivative.
        return np.take_along_axis(in_time, np.argsort(draws[:, clips:], axis=1), axis=1)

    def possible(
        self, frame_count: NDArray, clips: int, length: int, stride: int
    ) -> NDArray[np.bool_]:
        """False where no starts keep the rule."""
        return self._gap_and_capacity(frame_count, clips, length, stride)[1] >= clips

    @staticmethod
    def _gap_and_capacity(
        frame_count: NDArray, clips: int, length: int, stride: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        frames = np.asarray(frame_count, dtype=np.int64)
        covered = length * stride
        delta = np.minimum(np.maximum((frames - covered) / clips, 1), covered)
        gap = np.floor(delta).astype(np.int64) + 1  # the least whole number greater than Delta
        return gap, start_count(frames, length, stride) - (clips - 1) * (gap - 1)


class DistinctSampling(MinOffsetSampling):
    """Random starts of which no two are equal: any of them, so that clips have an order in time.

    What is left of CORP's rule without its eq. 3, which the paper prints for CORP_m only.
    """

    @staticmethod
    def _gap_and_capacity(
        frame_count: NDArray, clips: int, length: int, stride: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        capacity = start_count(frame_count, length, stride)
        return np.ones_like(capacity), capacity


def _interval(
    *,
    shape: Literal["decreasing", "uniform", "increasing"] = "decreasing",
    power: float = 1.0,
    floor: float = 0.0,
    short_videos: ShortVideos = "first_frame",
) -> IntervalSampling:
    """CVRL's default is a density that falls linearly to 0 (its Figure 3).

    Args:
        shape: how the density of the interval changes from 0 to the longest one (CVRL Figure 3).
        power: b of the density a t^b + c (CVRL appendix A), above 0.
        floor: the least density over the greatest, 0 to 1 (CVRL appendix A: c).
        short_videos: where the clips begin in a video that is too short for one.
    """
    check_positive(power=power)
    if not 0 <= floor <= 1:
        raise ValueError(f"floor: {floor} is not valid; it must lie in [0, 1]")
    return IntervalSampling(shape=shape, power=power, floor=floor, short_videos=short_videos)


SAMPLINGS: dict[str, Callable[..., Sampling]] = {
    "uniform": UniformSampling,
    "same": SameSampling,
    "interval": _interval,
    "min_offset": MinOffsetSampling,
    "distinct": DistinctSampling,
}
