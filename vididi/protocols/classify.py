"""Measuring by a classifier that is trained on the encoder: linear evaluation, semi-supervised
learning and fine-tuning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from vididi.components import make_augment, make_optimiser
from vididi.config import EVALUATION_BATCH
from vididi.data.plan import Chain, EvaluationPlan, Interrupted, PretrainPlan, frame_counts
from vididi.data.sampling import UniformSampling
from vididi.data.shards import ShardSet
from vididi.data.stream import Batch
from vididi.errors import ConfigError, DataError
from vididi.evaluation.classification import (
    Classifier,
    ClassifierFit,
    Crops,
    OnStep,
    accuracy,
    labelled_rows,
    predict,
    train_classifier,
    true_class_ranks,
)
from vididi.interrupts import check, gently
from vididi.protocols import metric_prefix
from vididi.protocols.settings import ClassificationSettings
from vididi.protocols.task import EvaluationResult, Task, queries_of, share_of_worker
from vididi.runs.file_names import TUNED
from vididi.runs.run_folder import RunFolder
from vididi.runs.trust import newest_checkpoint, on_rank_0
from vididi.training.context import Context
from vididi.training.distributed import gather_rows
from vididi.training.stop_request import StopRequest

Epochs = list[dict[str, float | int]]  # the metrics of each


def measure_classification(
    task: Task, encoder: nn.Module, width: int, folder: RunFolder
) -> EvaluationResult:
    """Train a classifier from wherever an earlier attempt got to, and test it."""
    s, shards, labels = task.settings, task.shards, task.shards.column("label").astype(np.int64)
    train, test = classifier_plans(s, shards, task.context)
    glance = replace(test, clips=1)
    training = Interrupted(train, glance, s.test_every) if s.test_every else train
    fit = classifier_fit(s, train.steps_per_epoch)

    torch.manual_seed(s.seed)
    model = Classifier(
        encoder, width, len(shards.manifest.classes), s.frozen, s.features, s.dropout
    ).to(task.device)
    optimiser = make_optimiser(s.optimiser, model.trained)
    step, epochs, so_far = _restore(model, optimiser, folder, task.context)

    first = training.batch_number(step) if isinstance(training, Interrupted) else step
    batches = task.open_stream(Chain((training, test)), first)

    def glance_top1() -> float:
        rows, scores = _predict(task, model, batches, glance, "centre")
        return float((true_class_ranks(scores, labels[rows]) < 1).mean())

    def save(step: int, so_far: Tensor | None = None) -> None:
        write = partial(_save, model, optimiser, folder, epochs, step, so_far)
        on_rank_0(folder.path, task.context, write)

    request = StopRequest(task.context)
    on_epoch = _epoch_end(task, save, epochs, glance_top1, request)
    on_step = _step_end(save, request)
    with gently():
        train_classifier(
            model, optimiser, batches, labels, fit, step, task.context, on_epoch, on_step, so_far
        )
    check()
    if s.keep_encoder:
        keep = partial(folder.save_encoder, model.encoder.state_dict(), TUNED)
        on_rank_0(folder.path, task.context, keep)

    rows, scores = _predict(task, model, batches, test, s.crops)
    ranks = true_class_ranks(scores, labels[rows])
    tops, each = accuracy(ranks, labels[rows], shards.classes)
    prefix = metric_prefix(task.protocol, s)
    metrics = {f"{prefix}/{top}": value for top, value in tops.items()}
    queries = queries_of(shards, rows, ranks, predicted=scores.argmax(axis=1))
    return EvaluationResult(metrics, queries, each, {"epochs": epochs})


def _restore(
    model: Classifier, optimiser: Optimizer, folder: RunFolder, context: Context
) -> tuple[int, Epochs, Tensor | None]:
    """How many steps an earlier attempt has trained, its epochs, and what it measured of the one
    that it was in; their weights are put back.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    checkpoint = newest_checkpoint(folder, context)
    if checkpoint is None:
        return 0, [], None
    model.trained.load_state_dict(checkpoint["model"])
    optimiser.load_state_dict(checkpoint["optimiser"])
    return checkpoint["step"], checkpoint["epochs"], checkpoint.get("so_far")


def _save(
    model: Classifier,
    optimiser: Optimizer,
    folder: RunFolder,
    epochs: Epochs,
    step: int,
    so_far: Tensor | None = None,
) -> None:
    state = {"model": model.trained.state_dict(), "optimiser": optimiser.state_dict()}
    folder.save_checkpoint({**state, "step": step, "epochs": epochs, "so_far": so_far})


def _epoch_end(
    task: Task,
    save: Callable[[int], None],
    epochs: Epochs,
    glance: Callable[[], float],
    request: StopRequest,
) -> Callable[[dict[str, float | int]], None]:
    """What happens after each epoch: it is tested if the settings say so, kept and reported."""
    every = task.settings.test_every

    def on_epoch(metrics: dict[str, float | int]) -> None:
        if every and metrics["epoch"] % every == 0:
            metrics["test_top1"] = glance()
        epochs.append(metrics)
        save(int(metrics["step"]))
        task.report(metrics)
        request.end_if_heard(None)

    return on_epoch


def _step_end(save: Callable[[int, Tensor], None], request: StopRequest) -> OnStep:
    """What happens after every other step: where the evaluation was asked to end, it is kept."""

    def on_step(step: int, so_far: Callable[[], Tensor]) -> None:
        if request.heard():
            measured = so_far()  # of all workers
            request.end(lambda: save(step, measured))

    return on_step


def _predict(
    task: Task, model: Classifier, batches: Iterator[Batch], plan: EvaluationPlan, crops: Crops
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Class probabilities ``[V, K]`` of the videos ``[V]`` of all workers' next batches.

    These are ``plan``'s.
    """
    s: Any = task.settings
    size = s.test_size or s.size
    rows, scores = predict(model, batches, len(plan), size, crops, s.crop, s.seed, task.device)
    return gather_rows(rows, scores, task.context)


def classifier_fit(s: ClassificationSettings, steps_per_epoch: int) -> ClassifierFit:
    """How the settings train a classifier."""
    assert s.frames
    assert s.size
    augment = make_augment(s.augment, s.size)
    return ClassifierFit(
        s.epochs,
        steps_per_epoch,
        s.warmup_epochs,
        s.steps,
        s.frames,
        augment,
        s.seed,
        s.precision,
        s.cosine,
    )


def classifier_plans(
    s: ClassificationSettings, shards: ShardSet, context: Context
) -> tuple[PretrainPlan, EvaluationPlan]:
    """One clip of each labelled video an epoch, and then the test videos: this worker's part.

    Raises:
        DataError: there are fewer labelled videos than make a batch.
        ConfigError: the batch does not divide over the workers.
    """
    assert s.frames
    assert s.stride
    counts, rows = frame_counts(shards), shards.rows("train")
    chosen = labelled_rows(rows, shards.column("label")[rows], s.labels, s.balance, s.seed)

    if len(chosen) < s.batch_size:
        raise DataError(
            f"batch_size: {s.batch_size} is more than the {len(chosen)} training videos with labels"
            f" (labels: {s.labels:g})"
        )
    if s.batch_size % context.world_size:
        raise ConfigError(
            f"batch_size: {s.batch_size} does not divide over {context.world_size} workers"
        )

    part = context.rank, context.world_size
    train = PretrainPlan(
        chosen,
        counts,
        s.frames,
        s.stride,
        s.batch_size,
        s.epochs,
        s.seed,
        *part,
        clips=1,
        sampling=UniformSampling(short_videos=s.short_videos),
    )
    return train, EvaluationPlan(
        share_of_worker(shards.rows("test"), context),
        counts,
        s.frames,
        s.stride,
        s.clips,
        EVALUATION_BATCH,
    )
