"""Evaluating a finished encoder by one protocol on one prepared data set: into
RUN/evaluations/NAME, where tables find it.

    result.json        version, protocol, recipe, data, settings, metrics, those of an untrained
                       encoder, accuracy per class
    queries.parquet    per test video: video_id, label, first_hit (vididi.runs.readers.Queries); not
                       of detection
    features.parquet   of retrieval and silhouette, per video: video_id, label, class (its name),
                       split, features (float32)
    events.out...      the metrics for TensorBoard, and projector_...: the features of test videos
    predictions.csv    of detection: the last epoch's, in AVA's layout; those of the untrained
                       encoder in untrained/
    tuned.safetensors  of semi and finetune with keep_encoder: the tuned backbone; that of the
                       untrained encoder in untrained/
    checkpoint.pt      of a classifier that is half trained, and checkpoint.previous.pt, the one
                       before; removed at the end

NAME has the protocol, the data set's name, and a digest of the settings and the data, so nothing is
measured twice.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vididi import RULES
from vididi.components import make_encoder, read_run_config
from vididi.config import Config
from vididi.data.stream import local_stream
from vididi.encoders import load_encoder, untrained_encoder
from vididi.errors import ConfigError, DamagedError, DataError, TrainingError
from vididi.evaluation.batch_statistics import recomputed
from vididi.evaluation.features import FeatureView
from vididi.experiment import claim
from vididi.finite import about
from vididi.loggers.choices import TENSORBOARD
from vididi.loggers.service import evaluation_loggers
from vididi.plans import statistics_plan
from vididi.prepared import ensure_prepared
from vididi.protocols import EVALUATIONS
from vididi.protocols.task import EvaluationResult, Task
from vididi.provenance import measured_by
from vididi.runs import mirror
from vididi.runs.board_files import write_projector
from vididi.runs.file_names import CHECKPOINT, ENCODER, ERROR, PREVIOUS, QUERIES
from vididi.runs.old_results import recheck
from vididi.runs.readers import Queries, read_queries, read_run_result
from vididi.runs.run_folder import RunFolder, while_there
from vididi.runs.trust import on_rank_0
from vididi.training.context import broadcast_from_rank_0


def find_encoders(folder: Path) -> list[Path]:
    """The finished runs in a folder: it alone if it is one, else those anywhere under it.

    Raises:
        TrainingError: there is none.
    """
    files = mirror.find(folder, ENCODER)
    runs = [folder] if folder / ENCODER in files else [file.parent for file in files]
    if not runs:
        raise TrainingError(
            f"{mirror.place_of(folder)}: no {ENCODER}, so there is no finished run here;"
            " `vididi status SWEEP.yaml` says what became of a sweep's runs"
        )
    return runs


def evaluate_run(
    run: Path, task: Task, recipe: str | None, untrained: bool, loggers: Sequence[str] = TENSORBOARD
) -> dict[str, Any]:
    """Measure the encoder of a run folder, or read what was measured before.

    Every worker calls it, and rank 0 writes.

    Args:
        task: with settings as complete_settings gives them for this run.
        untrained: also measure an encoder with the random weights that the run's seed draws, by the
            same protocol. Where the run began from those, that is the encoder as it was before its
            first step; where it also ended there, it is the same.
        loggers: by name, that show what is measured.

    Returns:
        the content of result.json, on every worker.

    Raises:
        DataError: the data set has no classes (for detection: no boxes), or no videos to train or
            test on.
        ConfigError: the batch does not divide over the workers, or detection has more than one.
        TrainingError: a loss, a weight, a feature or a score is not finite; it names the run, the
            evaluation and the measure.
    """
    _check_data(task)
    config = read_run_config(run)
    torch.set_num_threads(config.training.threads)
    folder, context = RunFolder(run / "evaluations" / task.name), task.context

    with ExitStack() as locks:
        done = claim(folder, context, locks)
        if done is not None and not broadcast_from_rank_0(_is_current(task, folder, done), context):
            done = None
        if done is not None and broadcast_from_rank_0(is_measured(task, run, untrained), context):
            return done

        began = time.perf_counter()
        if context.rank == 0:
            folder.forget(ERROR)
            folder.keep_page()
        locks.enter_context(while_there(folder.path) if context.world_size == 1 else nullcontext())
        measured, untrained_metrics = _measure(
            run, task, config, folder, untrained, done and done.get("untrained")
        )

        result = _result(task, recipe, measured, untrained_metrics, time.perf_counter() - began)
        on_rank_0(folder.path, context, partial(_save, run, folder, measured, result, loggers))
        return broadcast_from_rank_0(result, context)


def _measure(
    run: Path,
    task: Task,
    config: Config,
    folder: RunFolder,
    untrained: bool,
    untrained_metrics: dict[str, float] | None,
) -> tuple[EvaluationResult, dict[str, float] | None]:
    """What is measured of the run's encoder, and, if requested, the untrained one's metrics.

    Args:
        untrained_metrics: those that were measured before.
    """
    if EVALUATIONS[task.protocol].shares == "nothing" and task.context.world_size > 1:
        raise ConfigError(
            f"{task.protocol}: trains on one worker, not on {task.context.world_size}"
        )

    with torch.device("meta"):
        width = make_encoder(config.backbone)[1]
    with about(f"{run.name}, {task.name}"):
        encoder = _with_statistics(load_encoder(run).to(task.device), task, config, run)
        measured = task.measure(encoder, width, folder)
        if untrained and untrained_metrics is None:
            untrained_metrics = _measure_untrained(task, config, run, width, measured, folder)
    return measured, untrained_metrics


def _result(
    task: Task,
    recipe: str | None,
    measured: EvaluationResult,
    untrained: dict[str, float] | None,
    seconds: float,
) -> dict[str, Any]:
    """The content of result.json."""
    source = {
        name: value
        for name, value in task.shards.manifest.source.items()
        if name not in ("videos", "splits", "list")
    }

    return {
        "rules": RULES,
        "protocol": task.protocol,
        "recipe": recipe,
        "data": {**source, "checksum": task.shards.manifest.checksum},
        "settings": task.settings.model_dump(mode="json"),
        "metrics": measured.metrics,
        "untrained": untrained,
        "per_class": measured.per_class,
        **(
            {"classes_without_videos": task.shards.empty_classes}
            if task.shards.empty_classes
            else {}
        ),
        **measured.details,
        "seconds": seconds,
        **measured_by(),
    }


def _save(
    run: Path,
    folder: RunFolder,
    measured: EvaluationResult,
    result: dict[str, Any],
    loggers: Sequence[str],
) -> None:
    """Write what was measured, and show it."""
    if measured.queries is not None:
        folder.save_queries(measured.queries)
    if measured.features is not None:
        folder.save_features(measured.features)
    folder.save_result(result)
    for name in (CHECKPOINT, PREVIOUS):
        for checkpoint in mirror.find(folder.path, name):
            mirror.remove_file(checkpoint)
    _show(run, folder, measured, result, loggers)


def _show(
    run: Path,
    folder: RunFolder,
    measured: EvaluationResult,
    result: dict[str, Any],
    names: Sequence[str],
) -> None:
    """What loggers show of it, at the run's last step; in TensorBoard's HParams it is columns of
    the run.
    """
    untrained = {f"untrained/{name}": x for name, x in (result["untrained"] or {}).items()}
    numbers = {
        name: float(x) for name, x in {**measured.metrics, **untrained}.items() if x is not None
    }
    step = int((read_run_result(run) or {}).get("steps", 0))
    with evaluation_loggers(run, folder.path, names) as loggers:
        for logger in loggers:
            logger.scalars(numbers, step)
    if measured.features is not None:
        write_projector(folder.path, measured.features)


def _with_statistics(encoder: nn.Module, task: Task, config: Config, run: Path) -> nn.Module:
    """The encoder, with batch statistics of the run's own training videos where the settings ask
    for them, also where it is measured on another data set.

    Raises:
        DataError: the data that the run was trained on are not there any more.
    """
    s = task.settings
    if getattr(s, "batch_norm", "running") != "recomputed":
        return encoder
    shards, stream = task.shards, task.open_stream
    checksum = (read_run_result(run) or {}).get("data_checksum")
    if shards.manifest.checksum != checksum:
        shards = ensure_prepared(config)
        stream = local_stream(shards)
    if shards.manifest.checksum != checksum:
        raise DataError(
            f"{run}: batch_norm: recomputed needs the data that it was trained on, {checksum}; its"
            f" configuration now gives {shards.manifest.checksum}"
        )
    orders = getattr(s, "orders", (0,))
    plan = statistics_plan(shards, s.frames + max(orders), s.stride, s.seed)
    view = FeatureView(s.size, s.crop, s.seed, orders, s.frames)
    return recomputed(encoder, stream(plan, 0), len(plan), view)


def _measure_untrained(
    task: Task,
    config: Config,
    run: Path,
    width: int,
    measured: EvaluationResult,
    folder: RunFolder,
) -> dict[str, float]:
    if config.training.epochs == 0 and config.backbone.options.get("weights") is None:
        return measured.metrics
    with about("the untrained encoder"):
        encoder = _with_statistics(untrained_encoder(config, task.device), task, config, run)
        return task.measure(encoder, width, RunFolder(folder.path / "untrained")).metrics


def is_measured(task: Task, run: Path, untrained: bool) -> bool:
    """Whether nothing that is requested is missing or false.

    Features are missing from what was measured before they were kept.
    """
    folder = RunFolder(run / "evaluations" / task.name)
    done = folder.result
    if done is None or not _is_current(task, folder, done):
        return False
    return (done.get("untrained") is not None or not untrained) and (
        folder.has_features or not task.keeps_features
    )


def _is_current(task: Task, folder: RunFolder, done: dict[str, Any]) -> bool:
    """Whether a result is what this version would say, as far as can be told.

    One of an earlier version may not be.
    """

    def queries() -> Queries | None:
        path = folder.path / QUERIES
        return read_queries(path) if mirror.pull_file(path) else None

    size = len(task.shards.rows("train"))
    try:
        return not recheck(
            done, done["metrics"], done.get("untrained") or {}, queries, lambda: size, size
        ).notes
    except DamagedError:  # what cannot be checked any more is measured again
        return False


def _check_data(task: Task) -> None:
    """Refuse data that the protocol cannot use."""
    known, shards = EVALUATIONS[task.protocol], task.shards
    if known.needs == "boxes":
        _ = shards.boxes  # raises where there are none
    if known.needs == "classes" and not shards.manifest.classes:
        raise DataError(f"{shards.root}: has no classes")
    for split in ("train", "test"):
        if len(shards.rows(split)) == 0:
            raise DataError(f"{shards.root}: has no videos of split {split}")
