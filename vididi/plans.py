"""The batches of a run, planned: training, what is measured on the way, and evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vididi.components import make_sampling
from vididi.config import Config
from vididi.data.plan import Chain, EvaluationPlan, Interrupted, PretrainPlan, frame_counts
from vididi.data.shards import ShardSet
from vididi.draws import Use, permutation
from vididi.errors import DataError


@dataclass(frozen=True)
class Plans:
    """All batches of a run in one chain: training, interrupted for what is measured on the way,
    then evaluation.
    """

    pretrain: PretrainPlan
    evaluation: EvaluationPlan
    too_short: NDArray[np.int64]  # training videos in which the sampling cannot place its clips
    online: EvaluationPlan
    online_every: int  # epochs; 0: never

    @property
    def whole(self) -> Chain:
        return Chain((self._training, self.evaluation))

    def place(self, step: int) -> int:
        """The number in ``whole`` of the batch of a training step."""
        return step if isinstance(self._training, PretrainPlan) else self._training.place(step)

    @property
    def _training(self) -> PretrainPlan | Interrupted:
        return (
            Interrupted(self.pretrain, self.online, self.online_every)
            if self.online_every
            else self.pretrain
        )


def make_plans(config: Config, shards: ShardSet, rank: int = 0, world_size: int = 1) -> Plans:
    """The plans of worker ``rank``. Evaluation deals the videos out to the workers in turn.

    Raises:
        DataError: the data does not do for the configuration: too few videos for a batch, or no
            test split or no classes to evaluate on.
    """
    counts = frame_counts(shards)
    e, t = config.evaluation, config.training
    sampling = make_sampling(config)
    assert config.clip.per_video is not None  # resolve fills it in
    rows = shards.rows("train")
    possible = sampling.possible(
        counts[rows], config.clip.per_video, config.clip.length, config.clip.stride
    )
    if possible.sum() < t.batch_size <= len(rows):
        raise DataError(
            f"{shards.root}: {possible.sum()} of {len(rows)} training videos are long enough for"
            f" {config.clip.per_video} clips of {config.clip.length} frames under sampling"
            f" {config.sampling.name!r}, fewer than training.batch_size {t.batch_size}"
        )
    pretrain = PretrainPlan(
        rows[possible],
        counts,
        config.clip.length,
        config.clip.stride,
        t.batch_size,
        t.epochs,
        t.seed,
        rank,
        world_size,
        config.clip.per_video,
        sampling,
    )
    asked = [*e.protocols, *(["online"] if e.online.every else [])]
    if asked and len(shards.rows("test")) == 0:
        raise DataError(
            f"{shards.root}: there is no test split to evaluate on; set evaluation.protocols to []"
            " to pretrain only"
        )
    if asked and not shards.manifest.classes:
        raise DataError(
            f"{shards.root}: has no classes for {' and '.join(asked)}; set evaluation.protocols to"
            " [] to pretrain only"
        )
    videos = np.concatenate([rows, shards.rows("test")]) if e.protocols else np.empty(0, np.int64)
    evaluation = EvaluationPlan(
        videos[rank::world_size], counts, e.frames, e.stride, e.clips, e.batch_size
    )
    some = np.concatenate(
        [
            _some(shards.rows(split), most)
            for split, most in (("train", e.online.train), ("test", e.online.test))
        ]
    )
    online = EvaluationPlan(
        some[rank::world_size], counts, e.frames, e.stride, e.online.clips, e.batch_size
    )
    return Plans(pretrain, evaluation, rows[~possible], online, e.online.every)


def _some(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many videos, the same in every run."""
    return np.sort(rows[permutation(len(rows), Use.ONLINE)[:most]])
