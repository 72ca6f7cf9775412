"""Plans: which frames of which videos make which batch, as a pure function of a batch's number.

A plan is the input of a stream. Because any batch can be asked for by number, a run that goes on in
the middle is a plan that begins later, there is no pause between epochs, and how many workers read
a batch does not change what is in it.

Shapes: B videos, K clips per video, N source frames per clip.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vididi.data.sampling import Sampling, UniformSampling, span
from vididi.data.shards import ShardSet
from vididi.draws import Use, key, permutation
from vididi.errors import ConfigError, DataError


@dataclass(frozen=True)
class Request:
    """The frames of one batch: index rows ``[B]`` and frame numbers ``[B, K, N]``."""

    rows: NDArray[np.int64]
    frames: NDArray[np.int64]


class Plan(Protocol):
    """Batches by number, 0 to ``len(plan) - 1``."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Request: ...


def clip_frames(
    starts: NDArray, length: int, stride: int, frame_count: NDArray
) -> NDArray[np.int64]:
    """Frame numbers ``[..., length]`` of clips that begin at ``starts``.

    In a video that is too short a clip starts over.
    """
    return (starts[..., None] + stride * np.arange(length)) % frame_count[..., None]


@dataclass(frozen=True)
class PretrainPlan:
    """``clips`` clips of each training video per epoch, which begin where ``sampling`` says.

    Videos are shuffled anew each epoch.
    ``batch_size`` is the global batch, of which worker ``rank`` of ``world_size`` gets its own
    equal part. A partial last batch of an epoch is dropped (``dropped`` videos), so that every
    worker takes the same number of steps.
    """

    rows: NDArray[np.int64]
    frame_count: NDArray[np.int64]  # of every index row
    length: int
    stride: int
    batch_size: int
    epochs: int
    seed: int
    rank: int = 0
    world_size: int = 1
    clips: int = 2
    sampling: Sampling = field(default_factory=UniformSampling)

    def __post_init__(self) -> None:
        if len(self.rows) < self.batch_size:
            raise DataError(
                f"training.batch_size: {self.batch_size} is larger than the training split, which"
                f" has {len(self.rows)} videos"
            )
        if self.batch_size % self.world_size:
            raise ConfigError(
                f"training.batch_size: {self.batch_size} does not divide over {self.world_size}"
                " workers"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of an epoch."""
        return len(self.rows) // self.batch_size

    @property
    def dropped(self) -> int:
        """Videos left out of each epoch, other ones each time."""
        return len(self.rows) % self.batch_size

    @property
    def wrapped(self) -> int:
        """Training videos shorter than a clip, in which frames start over at the first one."""
        return int((self.frame_count[self.rows] < span(self.length, self.stride)).sum())

    def __len__(self) -> int:
        return self.epochs * self.steps_per_epoch

    def __getitem__(self, number: int) -> Request:
        epoch, step = divmod(number, self.steps_per_epoch)
        share = self.batch_size // self.world_size
        first = step * self.batch_size + self.rank * share
        rows = self.rows[
            permutation(len(self.rows), Use.SHUFFLE, self.seed, epoch)[first : first + share]
        ]
        count = self.frame_count[rows]
        keys = key(Use.CLIP, self.seed, epoch, rows[:, None], np.arange(self.clips))
        starts = self.sampling(keys, count, self.length, self.stride)
        return Request(
            rows,
            clip_frames(
                starts, self.length, self.stride, np.broadcast_to(count[:, None], starts.shape)
            ),
        )


@dataclass(frozen=True)
class EvaluationPlan:
    """``clips`` clips of every video in ``rows`` (ViDiDi E.4).

    They are spaced uniformly from the first to the last possible start.
    """

    rows: NDArray[np.int64]
    frame_count: NDArray[np.int64]
    length: int
    stride: int
    clips: int
    batch_size: int  # videos

    @property
    def wrapped(self) -> int:
        """Videos shorter than a clip, whose clips start over at the first frame."""
        return int((self.frame_count[self.rows] < span(self.length, self.stride)).sum())

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, number: int) -> Request:
        rows = self.rows[number * self.batch_size : (number + 1) * self.batch_size]
        count = self.frame_count[rows][:, None]
        last = np.maximum(0, count - span(self.length, self.stride))
        starts = np.rint(
            last * np.linspace(0, 1, self.clips) if self.clips > 1 else last / 2
        ).astype(np.int64)
        return Request(
            rows,
            clip_frames(starts, self.length, self.stride, np.broadcast_to(count, starts.shape)),
        )


@dataclass(frozen=True)
class KeyFramePlan:
    """A clip round the key frame of every row in ``rows``.

    To train on, they come in random order and without a partial last batch.
    As SlowFast's: the first frame lies ``length * stride // 2`` before the key frame, and where the
    clip reaches beyond the first or the last frame that there is, that one is repeated.
    """

    rows: NDArray[np.int64]
    key_frame: NDArray[np.int64]  # of every index row: its index among the row's frames
    frame_count: NDArray[np.int64]
    length: int
    stride: int
    batch_size: int
    # Seed and epoch; None: in the order of ``rows``, all of them.
    shuffle: tuple[int, int] | None = None

    @property
    def cut(self) -> int:
        """Rows whose clip reaches beyond their frames, so that frames are repeated."""
        first = self.key_frame[self.rows] - self.length * self.stride // 2
        last = first + (self.length - 1) * self.stride
        return int(((first < 0) | (last >= self.frame_count[self.rows])).sum())

    def __len__(self) -> int:
        return (
            len(self.rows) // self.batch_size
            if self.shuffle
            else -(-len(self.rows) // self.batch_size)
        )

    def __getitem__(self, number: int) -> Request:
        batch = slice(number * self.batch_size, (number + 1) * self.batch_size)
        if self.shuffle:
            rows = self.rows[permutation(len(self.rows), Use.SHUFFLE, *self.shuffle)[batch]]
        else:
            rows = self.rows[batch]
        first = self.key_frame[rows] - self.length * self.stride // 2
        frames = first[:, None] + self.stride * np.arange(self.length)
        return Request(rows, np.clip(frames, 0, self.frame_count[rows, None] - 1)[:, None])


@dataclass(frozen=True)
class Chain:
    """Plans one after another: a single stream feeds training and then evaluation."""

    parts: tuple[Plan, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, number: int) -> Request:
        for part in self.parts:
            if number < len(part):
                return part[number]
            number -= len(part)
        raise IndexError(number)


@dataclass(frozen=True)
class Picked:
    """Some batches of a plan, by their numbers in it."""

    plan: Plan
    numbers: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, number: int) -> Request:
        return self.plan[int(self.numbers[number])]


@dataclass(frozen=True)
class Interrupted:
    """A training plan, and after each ``every`` of its epochs the whole of another plan."""

    training: PretrainPlan
    other: Plan
    every: int

    @property
    def _stretch(self) -> int:
        """Training batches between two interruptions."""
        return self.every * self.training.steps_per_epoch

    def batch_number(self, step: int) -> int:
        """The number of the batch of training step ``step``, from 0.

        Batches of the other plan that come between it and the step before have lower ones.
        """
        return step + step // self._stretch * len(self.other)

    def __len__(self) -> int:
        return self.batch_number(len(self.training))

    def __getitem__(self, number: int) -> Request:
        stretch, position = divmod(number, self._stretch + len(self.other))
        return (
            self.training[stretch * self._stretch + position]
            if position < self._stretch
            else self.other[position - self._stretch]
        )


def frame_counts(shards: ShardSet) -> NDArray[np.int64]:
    """How many frames the video of each index row has, ``[V]``."""
    return shards.column("frame_count").astype(np.int64)
