"""From a configuration to a finished run folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import nn

from vididi import RULES
from vididi.components import build_state, read_run_config
from vididi.config import BF16_NEEDS_GPU, Config
from vididi.data.shards import ShardSet
from vididi.data.stream import Batch, Stream
from vididi.description import encoder_metadata
from vididi.disks import writing_to
from vididi.dotted_keys import flatten
from vididi.encoders import untrained_encoder
from vididi.errors import ConfigError, DamagedError, HeldError, TrainingError, VididiError
from vididi.evaluation.batch_statistics import recomputed
from vididi.evaluation.collapse import LIDAR, RANKME, SPREAD, CollapseWatch, lidar, rankme
from vididi.evaluation.features import FeatureView, measure_batches, spread
from vididi.evaluation.online import KNN, PROBE, knn_accuracy, probe_accuracy
from vididi.finite import about, check_finite
from vididi.heartbeat import rest
from vididi.interrupts import check, gently
from vididi.introduced import with_introduced
from vididi.news import tell
from vididi.plans import Plans, make_fit, make_plans
from vididi.protocols import EVALUATIONS
from vididi.protocols.frozen import features_table, score
from vididi.protocols.task import EvaluationResult, queries_of
from vididi.provenance import measured_by
from vididi.runs import mirror
from vididi.runs.file_names import BEST, CHECKPOINT, ENCODER, PREVIOUS, RESULT
from vididi.runs.readers import read_cell, read_run_result
from vididi.runs.run_folder import RunFolder, while_there
from vididi.runs.trust import is_whole, newest_checkpoint, on_rank_0, whole_or_aside
from vididi.sweep import ONE_START, SHOWN, VARIED
from vididi.training.context import (
    Context,
    LocalContext,
    StoppedEarly,
    broadcast_from_rank_0,
)
from vididi.training.distributed import gather_rows
from vididi.training.loop import EpochLog, State, train
from vididi.training.recorder import Recorder, closing
from vididi.training.stop_request import StopRequest
from vididi.values import shown

# --- Training -------------------------------------------------------------------------------------


def run_cell(
    config: Config,
    cell: Mapping[str, Any],
    path: Path,
    shards: ShardSet,
    open_stream: Stream,
    context: Context,
) -> dict[str, Any]:
    """Pretrain and evaluate one resolved configuration, from wherever an earlier attempt got to.

    Args:
        cell: what the run folder should remember of the sweep that the cell is of; and, which is
            not kept, under VARIED the dotted keys that differ between its cells, under SHOWN its
            name for people, and under LOGGERS the names of its loggers.
        path: the run folder; written by rank 0 only.
        open_stream: makes this worker's stream of batches from a plan.

    Returns:
        the content of result.json, on every worker.

    Raises:
        TrainingError: the folder holds a run of another configuration or on other data, or does not
            say which.
        StoppedEarly: on every worker, where a sweep has marked the folder as stopped.
    """
    folder, checksum = RunFolder(path), shards.manifest.checksum
    with ExitStack() as locks:
        done = claim(folder, context, locks, partial(_check_same_run, path, config, checksum))
        if done is not None:
            return done
        if context.rank == 0:
            record = {key: value for key, value in cell.items() if key not in ONE_START}
            folder.begin(config.to_yaml(), {**record, "data_checksum": checksum})
        # Of several workers rank 0 alone would raise it, and the others wait: see on_rank_0.
        there = while_there(path) if context.world_size == 1 else nullcontext()
        with about(path.name), there, writing_to(path):
            return _run(config, cell, folder, shards, open_stream, context)


def claim(
    folder: RunFolder, context: Context, locks: ExitStack, check: Callable[[], None] = lambda: None
) -> dict[str, Any] | None:
    """Rank 0 locks the folder for as long as ``locks`` is open.

    Args:
        check: rank 0 calls it when the folder is locked.

    Returns:
        the content of result.json where there is one already, on every worker.

    Raises:
        HeldError: another process has locked it. TrainingError: it cannot be used; on every worker.
    """
    outcome: tuple[str, Any] = ("", None)
    if context.rank == 0:
        try:
            locks.enter_context(folder.locked())
            check()
            outcome = ("result", folder.result)
        except HeldError as error:
            outcome = ("held", str(error))
        except VididiError as error:  # of the store that the folder is in
            outcome = ("error", str(error))

    kind, value = broadcast_from_rank_0(outcome, context)
    if kind == "held":
        raise HeldError(value)
    if kind == "error":
        raise TrainingError(value)
    return value


def _check_same_run(path: Path, config: Config, checksum: str) -> None:
    """Raise TrainingError where a folder holds another run.

    Its numbers, or its checkpoint, would pass for this one's.

    A folder that a sweep named says by its name which run it holds. A key that came later and that
    one of the two does not have counts as its introduction value; other keys that only one of them
    has are of another version.
    """
    if path.name.endswith(f"-{config.identity(checksum)}") or not any(
        mirror.has(path / name) for name in (RESULT, CHECKPOINT)
    ):
        return
    advice = "give another folder, or move this one away"
    try:
        existing, done, cell = read_run_config(path), read_run_result(path) or {}, {}
        # It says which data a half-done run is on, and nothing of the configuration.
        with suppress(DamagedError):
            cell = read_cell(path) or {}
    except DamagedError as error:
        raise TrainingError(f"{error}; nothing says which run this is: {advice}") from None

    old, new = (
        flatten(with_introduced(Config, content.identity_content()))
        for content in (existing, config)
    )
    if other := sorted(key for key in old.keys() & new.keys() if old[key] != new[key]):
        differences = "; ".join(
            f"{key}: {shown(old[key])} there, {shown(new[key])} asked for" for key in other
        )
        raise TrainingError(
            f"{path}: holds a run of another configuration ({differences}); {advice}"
        )

    if checksum != (data := done.get("data_checksum") or cell.get("data_checksum") or checksum):
        raise TrainingError(
            f"{path}: holds a run on other data (checksum {data} there, {checksum} asked for);"
            f" {advice}"
        )


def _run(
    config: Config,
    cell: Mapping[str, Any],
    folder: RunFolder,
    shards: ShardSet,
    open_stream: Stream,
    context: Context,
) -> dict[str, Any]:
    began = time.perf_counter()
    torch.set_num_threads(config.training.threads)
    if config.training.precision == "bf16" and context.device.type == "cpu":
        raise ConfigError(BF16_NEEDS_GPU)
    plans = make_plans(config, shards, context.rank, context.world_size)
    state = build_state(config, context.device)
    untrained = _measure_untrained(config, shards, open_stream, plans, context)

    _restore(state, folder, context)
    is_named_after_cell = folder.path.name.endswith(f"-{config.identity(shards.manifest.checksum)}")
    if state.step == 0 and is_named_after_cell:
        _restore_encoder(state, folder, len(plans.pretrain), context)
    if context.rank == 0 and config.evaluation.online.keep_best:
        whole_or_aside(folder.path / BEST)
    first_step = state.step

    recorder = None
    if context.rank == 0:
        recorder = _begin_recording(config, cell, folder, first_step, shards, plans)
    with closing(recorder):
        batches = open_stream(plans.chain, plans.batch_number(first_step))
        measure_online = partial(_measure_online, config, state, shards, batches, plans, context)
        request = StopRequest(context)
        on_epoch = _epoch_end(config, state, folder, recorder, context, measure_online, request)
        on_step = _step_end(config, state, folder, context, request)
        with gently():
            train(state, batches, make_fit(config, plans.pretrain), context, on_epoch, on_step)
        check()
        measured = evaluate(config, state.objective.backbone, shards, batches, plans, context)
        seconds = time.perf_counter() - began
        found = {**measured.metrics, **untrained}
        result = _result(found, state, first_step, seconds, shards, plans, context)
        finish = partial(_finish, config, cell, state, folder, recorder, measured, result)
        on_rank_0(folder.path, context, finish)
    context.report({"epoch": config.training.epochs, "step": state.step, **measured.metrics})
    return result


def _result(
    metrics: Mapping[str, float],
    state: State,
    first_step: int,
    seconds: float,
    shards: ShardSet,
    plans: Plans,
    context: Context,
) -> dict[str, Any]:
    """The content of result.json."""
    return {
        "rules": RULES,
        **metrics,
        "data_checksum": shards.manifest.checksum,
        "steps": state.step,
        "resumed_from_step": first_step or None,
        "workers": context.world_size,
        "nodes": context.nodes,
        "device": str(context.device.type),
        "seconds": seconds,
        **_left_out(shards, plans),
        **measured_by(),
    }


def record_sample(
    config: Config, state: State, folder: RunFolder, shards: ShardSet, plans: Plans
) -> int:
    """Write all that a run leaves beside its checkpoint, with made-up numbers, to see how large it
    is.

    Args:
        state: with steps in its log, whose terms are what an epoch records.

    Returns:
        the bytes that each epoch adds, the measures on the way in their share.
    """
    number = dict.fromkeys(_numbers(config), 1 / 3)
    context = LocalContext()
    cell = {"sweep": "sample", "arm": "sample", "label": "sample", "axes": {}, "seed": 0}
    folder.begin(config.to_yaml(), {**cell, "data_checksum": shards.manifest.checksum})
    recorder = _begin_recording(config, cell, folder, state.step, shards, plans)
    by_epoch = 0
    if state.log.steps:
        terms = state.log.metrics(1, state.step, 1 / 3, 1)
        by_epoch = _added(folder, recorder, {**terms, "train/regularisation": 1 / 3})
    if every := plans.online_every:
        names = (KNN, PROBE, SPREAD, RANKME, LIDAR, "time/online_seconds")
        line = {"epoch": 1, "step": state.step, **dict.fromkeys(names, 1 / 3)}
        by_epoch += _added(folder, recorder, line) // every
    if (metric := config.evaluation.online.keep_best) is not None:
        weights, said = state.objective.backbone.state_dict(), encoder_metadata(config, number)
        folder.save_best(weights, metric, 1 / 3, 1, said)
    test = shards.rows("test")
    queries = queries_of(shards, test, np.zeros(len(test), np.int64)) if number else None
    result = _result(number, state, 0, 1 / 3, shards, plans, context)
    measured = EvaluationResult(number, queries)
    _finish(config, cell, state, folder, recorder, measured, result)
    return by_epoch


def _numbers(config: Config) -> list[str]:
    """About as many names as a run measures at its end."""
    protocols = config.evaluation.protocols
    ends = {"retrieval": ("R@1", "R@5", "R@10", "scene_R@1"), "silhouette": ("5", "10", "all")}
    own = ["features/spread"] if protocols else []
    return own + [f"{protocol}/{end}" for protocol in protocols for end in ends[protocol]]


def _added(folder: RunFolder, recorder: Recorder, line: dict) -> int:
    """The bytes that a line of metrics adds to a folder."""
    before = sum(file.stat().st_size for file in folder.path.iterdir())
    recorder.epoch(line)
    return sum(file.stat().st_size for file in folder.path.iterdir()) - before


def _begin_recording(
    config: Config,
    cell: Mapping[str, Any],
    folder: RunFolder,
    step: int,
    shards: ShardSet,
    plans: Plans,
) -> Recorder:
    recorder = Recorder(folder, step, cell)
    sheet = _sheet(config, shards, plans)
    recorder.describe(config.to_yaml(), sheet, hyperparameters(config, cell))
    return recorder


def hyperparameters(config: Config, cell: Mapping[str, Any]) -> dict[str, Any]:
    """A run's row of TensorBoard's HParams: arm and label, then what differs between the cells of
    its sweep, which ``cell`` lists; of a run without a sweep, all values.
    """
    values = flatten(config.to_dict())
    labelled = {**cell, "label": cell.get(SHOWN) or cell.get("label")}
    named = {name: labelled[name] for name in ("arm", "label") if labelled.get(name)}
    shown = values if cell.get(VARIED) is None else cell[VARIED]
    return {**named, **{key: values.get(key) for key in shown}}


def _sheet(config: Config, shards: ShardSet, plans: Plans) -> Image | None:
    """What the network sees of the first training video in the first epoch."""
    from vididi.viewer import contact_sheet

    video = shards.column("video_id")[plans.pretrain.rows.min()]
    # It is a look at the data, for which no run ends.
    with suppress(VididiError, OSError):
        return contact_sheet(config, shards, str(video), 0)
    return None


def _measure_untrained(
    config: Config, shards: ShardSet, open_stream: Stream, plans: Plans, context: Context
) -> dict[str, Any]:
    """The metrics of the untrained encoder, if they are to be measured."""
    if not config.evaluation.untrained:
        return {}
    encoder = untrained_encoder(config, context.device)
    with about("the untrained encoder"):
        batches = open_stream(plans.measured, 0)
        metrics = evaluate(config, encoder, shards, batches, plans, context).metrics
    return {f"untrained/{name}": value for name, value in metrics.items()}


def _left_out(shards: ShardSet, plans: Plans) -> dict[str, Any]:
    """What result.json says of videos that are not used, or not as they are."""
    return {
        "videos_dropped_per_epoch": plans.pretrain.dropped,
        **({"classes_without_videos": shards.empty_classes} if shards.empty_classes else {}),
        "videos_too_short": shards.column("video_id")[plans.too_short].tolist(),
        "videos_wrapped": {
            "pretrain": plans.pretrain.wrapped,
            "evaluation": plans.evaluation.wrapped,
        },
    }


def _restore(state: State, folder: RunFolder, context: Context) -> None:
    checkpoint = newest_checkpoint(folder, context)
    if checkpoint is None:
        return
    try:
        state.objective.load_state_dict(checkpoint["objective"])
        state.optimiser.load_state_dict(checkpoint["optimiser"])
        state.step, state.log = checkpoint["step"], EpochLog(**checkpoint["log"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise TrainingError(
            f"{folder.path / CHECKPOINT}: does not fit this configuration: {error}"
        ) from None


def _restore_encoder(state: State, folder: RunFolder, steps: int, context: Context) -> None:
    """Restore the trained encoder of a run that has lost its result and its checkpoint.

    All that is left to do is to evaluate it.

    The encoder is written at the end, so one that is there is trained. One that is damaged, which
    is set aside, or does not fit is trained again.
    """
    path = folder.path / ENCODER
    there = broadcast_from_rank_0(context.rank == 0 and whole_or_aside(path), context)
    if not there or (context.rank > 0 and not is_whole(path)):
        return
    weights, backbone = folder.load_encoder(), state.objective.backbone
    shapes = {name: tensor.shape for name, tensor in backbone.state_dict().items()}
    if {name: tensor.shape for name, tensor in weights.items()} == shapes:
        backbone.load_state_dict(weights)
        state.step = steps


def save_state(state: State, folder: RunFolder) -> None:
    """Write all that a run goes on from, as its checkpoint."""
    weights, optimiser = state.objective.state_dict(), state.optimiser.state_dict()
    folder.save_checkpoint(
        {"objective": weights, "optimiser": optimiser, "step": state.step, "log": asdict(state.log)}
    )


def _saving(state: State, folder: RunFolder, context: Context) -> Callable[[], None]:
    """What every worker calls for a checkpoint, which the first one writes."""
    return partial(on_rank_0, folder.path, context, partial(save_state, state, folder))


def _epoch_end(
    config: Config,
    state: State,
    folder: RunFolder,
    recorder: Recorder | None,
    context: Context,
    measure_online: Callable[[int], dict[str, float]],
    request: StopRequest,
) -> Callable[[dict, int], None]:
    watch = CollapseWatch()
    save = _saving(state, folder, context)

    def keep(metrics: dict, epoch: int, saved: bool) -> None:
        assert recorder is not None
        recorder.epoch(metrics)
        if collapse := watch.look(epoch, metrics):
            tell(f"{folder.path.name}: {collapse}")
        _keep_best(config, state, folder, metrics, epoch)
        if saved:
            save_state(state, folder)
        if config.evaluation.online.keep_best:
            # A cell that is stopped in its report must leave a complete folder.
            mirror.settle(folder.path)

    def on_epoch(metrics: dict, epoch: int) -> None:
        saved = epoch % config.training.checkpoint_epochs == 0 or epoch == config.training.epochs
        metrics = {**metrics, **measure_online(epoch)}
        on_rank_0(folder.path, context, partial(keep, metrics, epoch, saved))
        context.report(metrics)
        # A cell of one worker is stopped in its report.
        stoppable = config.evaluation.online.keep_best and context.world_size > 1
        if stoppable and broadcast_from_rank_0(
            context.rank == 0 and folder.stop_requested(), context
        ):
            raise StoppedEarly(f"stopped early after epoch {epoch}")
        request.end_if_heard(None if saved else save)

    return on_epoch


def _keep_best(config: Config, state: State, folder: RunFolder, metrics: dict, epoch: int) -> None:
    metric = config.evaluation.online.keep_best
    if metric is None or metric not in metrics:
        return
    best = folder.best(metric)
    if best is None or not metrics[metric] <= best:  # of NaN that an earlier version kept
        weights, value = state.objective.backbone.state_dict(), metrics[metric]
        said = encoder_metadata(config, {str(metric): value})
        folder.save_best(weights, metric, value, epoch, said)


def _measure_online(
    config: Config,
    state: State,
    shards: ShardSet,
    batches: Iterator[Batch],
    plans: Plans,
    context: Context,
    epoch: int,
) -> dict[str, float]:
    """What is measured after this epoch, if anything; the batches for it are the next ones."""
    if not plans.online_every or epoch % plans.online_every:
        return {}
    began = time.perf_counter()

    e = config.evaluation
    view = FeatureView(config.clip.size, e.crop, e.seed, (0,), e.frames)
    encoder = _encoder_to_measure(state.objective.backbone, batches, plans, view)
    measured, local = measure_batches(encoder, batches, len(plans.online), view.clip_features)
    state.objective.train()
    rows, features = gather_rows(measured, local["intact"], context)
    _, clips = gather_rows(measured, local["clips"], context)

    labels, test = shards.column("label")[rows], shards.column("split")[rows] == "test"
    parts = features[test], labels[test], features[~test], labels[~test]
    with about(f"after epoch {epoch}"):
        metrics = {
            KNN: knn_accuracy(*parts),
            PROBE: probe_accuracy(*parts),
            SPREAD: spread(features[test]),
            RANKME: rankme(features),
            **({LIDAR: lidar(clips)} if clips.shape[1] > 1 else {}),
        }
    return {**metrics, "time/online_seconds": time.perf_counter() - began}


def _step_end(
    config: Config, state: State, folder: RunFolder, context: Context, request: StopRequest
) -> Callable[[], None]:
    every = config.training.checkpoint_steps
    save = _saving(state, folder, context)

    def on_step() -> None:
        saved = every is not None and state.step % every == 0
        if saved:
            rest()
            save()
        request.end_if_heard(None if saved else save)

    return on_step


def _finish(
    config: Config,
    cell: Mapping[str, Any],
    state: State,
    folder: RunFolder,
    recorder: Recorder | None,
    measured: EvaluationResult,
    result: dict[str, Any],
) -> None:
    assert recorder is not None  # rank 0 alone comes here
    metrics = {name: value for name, value in measured.metrics.items() if isinstance(value, float)}
    recorder.finish(hyperparameters(config, cell), metrics, state.step)
    said = encoder_metadata(config, {**metrics, "data_checksum": result["data_checksum"]})
    folder.save_encoder(state.objective.backbone.state_dict(), metadata=said)
    if measured.queries is not None:
        folder.save_queries(measured.queries)
    if measured.features is not None:
        folder.save_features(measured.features)
    mirror.remove_file(folder.path / PREVIOUS)
    folder.save_result(result)


# --- Evaluation -----------------------------------------------------------------------------------


def evaluate(
    config: Config,
    encoder: nn.Module,
    shards: ShardSet,
    batches: Iterator[Batch],
    plans: Plans,
    context: Context,
) -> EvaluationResult:
    """Run the configured protocols on frames (order 0); the same result on every worker.

    Raises:
        NotFiniteError: a feature is not finite.
    """
    e = config.evaluation
    if not e.protocols:
        return EvaluationResult({})
    view = FeatureView(config.clip.size, e.crop, e.seed, e.orders, e.frames)
    encoder = _encoder_to_measure(encoder, batches, plans, view)
    local_rows, local = measure_batches(encoder, batches, len(plans.evaluation), view)
    features = {}
    for name, part in local.items():
        rows, features[name] = gather_rows(local_rows, part, context)
    check_finite(" and ".join(e.protocols), **features)
    result = score(e.protocols, shards, rows, features, e.distance, e.centre, by_scene=True)
    if not any(EVALUATIONS[protocol].keeps_features for protocol in e.protocols):
        return result
    return replace(result, features=features_table(shards, rows, features["intact"]))


def _encoder_to_measure(
    encoder: nn.Module, batches: Iterator[Batch], plans: Plans, view: FeatureView
) -> nn.Module:
    """The encoder, with recomputed batch statistics where the configuration asks for them; the
    batches for that are the next ones.
    """
    if not len(plans.statistics):
        return encoder
    return recomputed(encoder, batches, len(plans.statistics), view)
