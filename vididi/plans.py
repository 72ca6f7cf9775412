"""The batches of a run, planned: training, what is measured on the way, and evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vididi.backbones.memory_formats import OF_TORCH
from vididi.components import make_augment, make_sampling
from vididi.config import Config
from vididi.data.plan import Chain, EvaluationPlan, Interrupted, PretrainPlan, frame_counts
from vididi.data.shards import ShardSet
from vididi.draws import Use, permutation
from vididi.errors import DataError
from vididi.training.loop import PretrainFit

STATISTICS_VIDEOS = 400  # training videos that batch statistics are recomputed on, at most
STATISTICS_BATCH = 40  # videos, one clip of each


@dataclass(frozen=True)
class Plans:
    """All batches of a run in one chain: training with online measures, then evaluation."""

    pretrain: PretrainPlan
    evaluation: EvaluationPlan
    too_short: NDArray[np.int64]  # training videos in which the sampling cannot place its clips
    online: EvaluationPlan
    online_every: int  # epochs; 0: never
    # Training videos that batch statistics are recomputed on; no batches where they are not.
    statistics: EvaluationPlan

    @property
    def chain(self) -> Chain:
        """Training, then what evaluation needs."""
        return Chain((self._training, self.measured))

    @property
    def measured(self) -> Chain:
        """The batches of an evaluation: those of the statistics first."""
        return Chain((self.statistics, self.evaluation))

    def batch_number(self, step: int) -> int:
        """The number in ``chain`` of the batch of a training step."""
        training = self._training
        return step if isinstance(training, PretrainPlan) else training.batch_number(step)

    @property
    def _training(self) -> PretrainPlan | Interrupted:
        return (
            Interrupted(self.pretrain, Chain((self.statistics, self.online)), self.online_every)
            if self.online_every
            else self.pretrain
        )


def make_plans(config: Config, shards: ShardSet, rank: int = 0, world_size: int = 1) -> Plans:
    """The plans of worker ``rank``. Evaluation deals the videos out to the workers in turn.

    Raises:
        DataError: the data does not do for the configuration: too few videos for a batch, or no
            test split or no classes to evaluate on.
    """
    counts, e = frame_counts(shards), config.evaluation
    pretrain, too_short = _pretrain_plan(config, shards, counts, rank, world_size)
    _check_measured(config, shards)

    length = e.frames + max(e.orders)

    def plan(videos: NDArray[np.int64], clips: int) -> EvaluationPlan:
        return EvaluationPlan(
            videos[rank::world_size], counts, length, e.stride, clips, e.batch_size
        )

    train, test = shards.rows("train"), shards.rows("test")
    evaluated = np.concatenate([train, test]) if e.protocols else np.empty(0, np.int64)
    online = np.concatenate([_subset(train, e.online.train), _subset(test, e.online.test)])
    recomputed = e.batch_norm == "recomputed" and (e.protocols or e.online.every)
    statistics = statistics_plan(shards, length, e.stride, e.seed if recomputed else None)
    return Plans(
        pretrain,
        plan(evaluated, e.clips),
        too_short,
        plan(online, e.online.clips),
        e.online.every,
        statistics,
    )


def statistics_plan(shards: ShardSet, length: int, stride: int, seed: int | None) -> EvaluationPlan:
    """The training videos that batch statistics are recomputed on: the middle clip of each.

    Every worker takes them all, so that statistics do not depend on how many there are.

    Args:
        length: frames of a clip, with those that differences take.
        seed: which videos; None: none.
    """
    train = shards.rows("train")
    drawn = permutation(len(train), Use.STATISTICS, seed or 0)[:STATISTICS_VIDEOS]
    rows = train[:0] if seed is None else train[drawn]
    return EvaluationPlan(rows, frame_counts(shards), length, stride, 1, STATISTICS_BATCH)


def _pretrain_plan(
    config: Config, shards: ShardSet, counts: NDArray[np.int64], rank: int, world_size: int
) -> tuple[PretrainPlan, NDArray[np.int64]]:
    """The plan of training, and the training videos in which its clips cannot be placed."""
    t = config.training
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
    return pretrain, rows[~possible]


def _check_measured(config: Config, shards: ShardSet) -> None:
    """Raise DataError if the data lack what is to be measured on: a test split, or classes."""
    e = config.evaluation
    measured = [*e.protocols, *(["online"] if e.online.every else [])]
    if measured and len(shards.rows("test")) == 0:
        raise DataError(
            f"{shards.root}: there is no test split to evaluate on; set evaluation.protocols to []"
            " to pretrain only, or hold out a share: data.test_share of sources folder and csv, or"
            " vididi split"
        )
    if measured and not shards.manifest.classes:
        raise DataError(
            f"{shards.root}: has no classes for {' and '.join(measured)}; set evaluation.protocols"
            " to [] to pretrain only"
        )


def _subset(rows: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """At most ``size`` videos, the same in every run."""
    return np.sort(rows[permutation(len(rows), Use.ONLINE)[:size]])


def make_fit(config: Config, plan: PretrainPlan) -> PretrainFit:
    """How a configuration trains."""
    return PretrainFit(
        schedule=config.schedule.schedule(),
        augment=make_augment(config.augment, config.clip.size),
        frames=config.clip.frames,
        seed=config.training.seed,
        epochs=config.training.epochs,
        steps_per_epoch=plan.steps_per_epoch,
        warmup_epochs=config.training.warmup_epochs,
        cosine=config.training.cosine,
        view_length=config.clip.view_length,
        precision=config.training.precision,
        memory_format=OF_TORCH[config.training.memory_format],
    )
