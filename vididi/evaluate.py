"""Evaluating a finished encoder by one protocol on one prepared data set: into RUN/evaluations/NAME, where tables find it.

    result.json        version, protocol, recipe, data, settings, metrics, those of an untrained encoder, accuracy per class
    queries.parquet    per test video: video_id, label, first_hit (vididi.runs.readers.Queries); not of detection
    features.parquet   of retrieval and silhouette, per video: video_id, label, class (its name), split, features (float32)
    predictions.csv    of detection: the last epoch's, in AVA's layout; those of the untrained encoder in untrained/
    tuned.safetensors  of semi and finetune with keep_encoder: the tuned backbone; that of the untrained encoder in untrained/
    checkpoint.pt      of a classifier that is half trained; removed at the end

NAME has the protocol, the data set's name, and a digest of the settings and the data, so nothing is measured twice.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import nn

from vididi import RULES, __version__
from vididi.backbones import Backbone
from vididi.components import check_clip, make_augment, make_encoder, make_optimiser, read_run_config, resolve_component
from vididi.config import Config, flatten
from vididi.data.boxes import KeyFrames
from vididi.data.plan import Chain, EvaluationPlan, Interrupted, KeyFramePlan, Plan, PretrainPlan, frame_counts
from vididi.data.shards import ShardSet
from vididi.data.stream import Stream
from vididi.encoders import load_encoder, untrained_encoder
from vididi.errors import ConfigError, DamagedError, DataError, TrainingError
from vididi.evaluation import AvaMap, ava_map, detection, first_hits, recall_at, silhouette_table
from vididi.evaluation.classification import Classifier, Crops, Fit, accuracy, labelled_rows, predict, train_classifier, true_class_ranks
from vididi.evaluation.dynamics import ChangedView, dynamics
from vididi.evaluation.features import Extract, FeatureView, Progress, extract_here, spread
from vididi.experiment import KS, claim, gather_rows
from vididi.finite import about, check_finite, check_weights
from vididi.names import check_name, check_part
from vididi.protocols import ClassificationSettings, DetectionSettings, EvaluationEntry, Settings, protocol_settings
from vididi.runs import mirror
from vididi.runs.old_results import recheck
from vididi.runs.readers import QUERIES, Queries, queries_table, read_queries
from vididi.runs.run_folder import RunFolder, replacing
from vididi.training.context import Context, from_first

Report = Callable[[dict[str, Any]], None]  # the metrics of an epoch, for whoever watches


@dataclass(frozen=True)
class Found:
    """What a protocol measured; ``details`` are further entries of result.json."""

    metrics: dict[str, float]
    queries: pa.Table | None = None
    per_class: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    features: pa.Table | None = None


@dataclass(frozen=True)
class Task:
    """A protocol on a data set, with settings that leave nothing open."""

    protocol: str
    settings: Any
    shards: ShardSet
    open_stream: Stream
    context: Context
    report: Report
    extract: Extract | None = None  # where features are computed; None: in this process, of the batches of open_stream
    progress: Progress = lambda done, count: None  # of the batches whose features are computed

    @property
    def name(self) -> str:
        """Of the folder in RUN/evaluations."""
        text = json.dumps([self.settings.model_dump(mode="json"), self.shards.manifest.checksum], sort_keys=True)
        source = check_name(self.shards.manifest.source.get("name", "data"), f"{self.shards.root}: source.name", DataError)
        return check_part(f"{self.protocol}-{source}-{sha256(text.encode()).hexdigest()[:10]}", "evaluation", DataError)

    def measure(self, encoder: nn.Module, width: int, folder: RunFolder) -> Found:
        """Measure one encoder; what is half done lies in ``folder``."""
        if isinstance(self.settings, ClassificationSettings):
            return _classify(self, encoder, width, folder)
        if isinstance(self.settings, DetectionSettings):
            return _detect(self, encoder, width, folder)
        return _look(self, encoder)

    @property
    def device(self) -> torch.device:
        return self.context.device

    @property
    def keeps_features(self) -> bool:
        """Whether the features are worth keeping, for pictures of them; what dynamics looks at beside them is not."""
        return self.protocol in ("retrieval", "silhouette")


def find_encoders(folder: Path) -> list[Path]:
    """The finished runs in a folder: it alone if it is one, else those anywhere under it.

    Raises:
        TrainingError: there is none.
    """
    files = mirror.find(folder, "encoder.safetensors")
    found = [folder] if folder / "encoder.safetensors" in files else [file.parent for file in files]
    if not found:
        raise TrainingError(f"{mirror.place_of(folder)}: no encoder.safetensors, so there is no finished run here")
    return found


def complete_settings(settings: Settings, config: Config) -> Settings:
    """The settings with the run's own values where they leave something open, and their components checked.

    Raises:
        ConfigError: an unknown component or option, or clips that are too small for the backbone.
    """
    e = config.evaluation
    own = {"frames": e.frames, "stride": e.stride, "size": config.clip.size, "clips": e.clips, "crop": e.crop, "seed": e.seed}
    changes: dict[str, Any] = {name: own[name] for name, value in settings if value is None and name in own}
    components = [name for name in ("augment", "optimiser") if hasattr(settings, name)]
    changes |= {name: resolve_component(name, getattr(settings, name)) for name in components}
    settings = settings.model_copy(update=changes)
    assert settings.frames
    assert settings.size
    check_clip(config.backbone, settings.frames, settings.size, "frames", "size")
    return settings


def check_settings(entry: EvaluationEntry, config: Config) -> None:
    """Raise ConfigError unless an evaluation's augmentation and optimiser can be made for runs of ``config``."""
    settings = complete_settings(protocol_settings(entry.protocol, entry.recipe, flatten(entry.settings)), config)
    if isinstance(settings, ClassificationSettings):
        assert settings.size
        make_augment(settings.augment, settings.size)
    if isinstance(settings, ClassificationSettings | DetectionSettings):
        make_optimiser(settings.optimiser, nn.Linear(1, 1))


def make_task(run: Path, entry: EvaluationEntry, shards: ShardSet, stream: Stream, context: Context, report: Report) -> Task:
    """The task of an evaluation for a run: the recipe, the entry's own settings, and the run's values for what is left open.

    Args:
        context: of this worker; several share the work of one evaluation. Detection has one.
        report: called on every worker.
    """
    settings = protocol_settings(entry.protocol, entry.recipe, flatten(entry.settings))
    return Task(entry.protocol, complete_settings(settings, read_run_config(run)), shards, stream, context, report)


def evaluate_run(run: Path, task: Task, recipe: str | None, untrained: bool) -> dict[str, Any]:
    """Measure the encoder of a run folder, or read what was measured before; every worker calls it, the first one writes.

    Args:
        task: with settings as complete_settings gives them for this run.
        untrained: also measure an encoder with the random weights that the run's seed draws, by the same protocol. Where the run
            began from those, that is the encoder as it was before its first step; where it also ended there, it is the same.

    Returns:
        the content of result.json, on every worker.

    Raises:
        DataError: the data set has no classes (for detection: no boxes), or no videos to train or test on.
        ConfigError: the batch does not divide over the workers, or detection has more than one.
        TrainingError: a loss, a weight, a feature or a score is not finite; it names the run, the evaluation and the measure.
    """
    _check_data(task)
    config = read_run_config(run)
    torch.set_num_threads(config.training.threads)
    folder = RunFolder(run / "evaluations" / task.name)
    with ExitStack() as held:
        done = claim(folder, task.context, held)
        if done is not None and not from_first(_holds(task, folder, done), task.context):
            done = None
        if done is not None and from_first(is_measured(task, run, untrained), task.context):
            return done
        began = time.perf_counter()
        if task.context.rank == 0:
            folder.forget("error.txt")
        with torch.device("meta"):
            width = make_encoder(config.backbone)[1]
        with about(f"{run.name}, {task.name}"):
            found = task.measure(load_encoder(run).to(task.device), width, folder)
            before = done and done.get("untrained")
            if untrained and before is None:
                before = _measure_untrained(task, config, width, found, folder)
        source = {name: value for name, value in task.shards.manifest.source.items() if name not in ("videos", "splits", "list")}
        result = {
            "rules": RULES,
            "protocol": task.protocol,
            "recipe": recipe,
            "data": {**source, "checksum": task.shards.manifest.checksum},
            "settings": task.settings.model_dump(mode="json"),
            "metrics": found.metrics,
            "untrained": before,
            "per_class": found.per_class,
            **({"classes_without_videos": task.shards.empty_classes} if task.shards.empty_classes else {}),
            **found.details,
            "seconds": time.perf_counter() - began,
            "versions": {"vididi": __version__, "torch": torch.__version__, "python": platform.python_version()},
        }
        if task.context.rank == 0:
            _save(folder, found, result)
        return from_first(result, task.context)


def _save(folder: RunFolder, found: Found, result: dict[str, Any]) -> None:
    if found.queries is not None:
        folder.save_queries(found.queries)
    if found.features is not None:
        folder.save_features(found.features)
    folder.save_result(result)
    for checkpoint in mirror.find(folder.path, "checkpoint.pt"):
        mirror.remove(checkpoint)


def _measure_untrained(task: Task, config: Config, width: int, found: Found, folder: RunFolder) -> dict[str, float]:
    if config.training.epochs == 0 and config.backbone.options.get("weights") is None:
        return found.metrics
    with about("the untrained encoder"):
        return task.measure(untrained_encoder(config, task.device), width, RunFolder(folder.path / "untrained")).metrics


def is_measured(task: Task, run: Path, untrained: bool) -> bool:
    """Whether nothing is missing that is asked for, nor false; features are, in what was measured before they were kept."""
    folder = RunFolder(run / "evaluations" / task.name)
    done = folder.result
    if done is None or not _holds(task, folder, done):
        return False
    return (done.get("untrained") is not None or not untrained) and (folder.has_features or not task.keeps_features)


def _holds(task: Task, folder: RunFolder, done: dict[str, Any]) -> bool:
    """Whether a result is what this version would say, as far as can be told; one of an earlier version may not be."""

    def queries() -> Queries | None:
        path = folder.path / QUERIES
        return read_queries(path) if mirror.fetch(path) else None

    size = len(task.shards.rows("train"))
    try:
        return not recheck(done, done["metrics"], done.get("untrained") or {}, queries, lambda: size, size).notes
    except DamagedError:  # what nobody can look at any more is measured again
        return False


def _check_data(task: Task) -> None:
    shards = task.shards
    if task.protocol == "detection":
        _ = shards.boxes  # raises where there are none
    elif not shards.manifest.classes:
        raise DataError(f"{shards.root}: has no classes")
    for split in ("train", "test"):
        if len(shards.rows(split)) == 0:
            raise DataError(f"{shards.root}: has no videos of split {split}")


# --- Features ------------------------------------------------------------------------------------------------------


def _look(task: Task, encoder: nn.Module) -> Found:
    """Retrieval, silhouette and dynamics: nothing is trained."""
    s, shards = task.settings, task.shards
    rows = np.concatenate([shards.rows("train"), shards.rows("test")])
    rows = _share(rows, task.context)
    plan = EvaluationPlan(rows, frame_counts(shards), s.frames, s.stride, s.clips, 8)
    view = (ChangedView if task.protocol == "dynamics" else FeatureView)(s.size, s.crop, s.seed)
    extract = task.extract or extract_here(task.open_stream)
    own, parts = extract(encoder, plan, view, task.progress)
    found = {}
    for name, part in parts.items():
        rows, found[name] = gather_rows(own, part, task.context)
    check_finite(task.protocol, **found)
    features = found["intact"]
    labels, test = shards.column("label")[rows], shards.column("split")[rows] == "test"
    hits = first_hits(features[test], labels[test], features[~test], labels[~test])
    metrics = {"features/spread": spread(features[test])}
    if task.protocol == "dynamics":
        metrics |= dynamics(found, labels, shards.column("scene")[rows], test)
    elif task.protocol == "silhouette":
        metrics |= {f"silhouette/{count}": value for count, value in silhouette_table(features[test], labels[test], hits).items()}
    else:
        metrics |= {f"retrieval/R@{k}": value for k, value in recall_at(hits, KS).items()}
    kept = _features(shards, rows, features) if task.keeps_features else None
    return Found(metrics, _queries(shards, rows[test], hits), features=kept)


def _queries(shards: ShardSet, rows: NDArray[np.int64], first_hit: NDArray[np.int64]) -> pa.Table:
    return queries_table(shards.column("video_id")[rows], shards.column("label")[rows], first_hit)


def _features(shards: ShardSet, rows: NDArray[np.int64], features: NDArray[np.float32]) -> pa.Table:
    labels, classes = shards.column("label")[rows], np.array(shards.manifest.classes)
    columns = {
        "video_id": shards.column("video_id")[rows],
        "label": labels,
        "class": classes[labels],
        "split": shards.column("split")[rows],
    }
    return pa.table({**columns, "features": pa.FixedSizeListArray.from_arrays(features.ravel(), features.shape[1])})


# --- Classification ------------------------------------------------------------------------------------------------


def _classify(task: Task, encoder: nn.Module, width: int, folder: RunFolder) -> Found:
    """Train a classifier from wherever an earlier attempt got to, and test it."""
    s, shards = task.settings, task.shards
    train, test = _plans(s, shards, task.context)
    glance = replace(test, clips=1)
    training = Interrupted(train, glance, s.test_every) if s.test_every else train
    labels = shards.column("label").astype(np.int64)
    fit = Fit(
        s.epochs,
        train.steps_per_epoch,
        s.warmup_epochs,
        s.steps,
        s.frames,
        make_augment(s.augment, s.size),
        s.seed,
        s.precision,
    )
    torch.manual_seed(s.seed)
    model = Classifier(encoder, width, len(shards.manifest.classes), s.frozen, s.features, s.dropout).to(task.device)
    optimiser = make_optimiser(s.optimiser, model.trained)
    step, epochs = 0, []
    folder.path.mkdir(parents=True, exist_ok=True)
    if checkpoint := folder.load_checkpoint(task.device):
        model.trained.load_state_dict(checkpoint["model"])
        optimiser.load_state_dict(checkpoint["optimiser"])
        step, epochs = checkpoint["step"], checkpoint["epochs"]
    place = training.place(step) if isinstance(training, Interrupted) else step
    batches = task.open_stream(Chain((training, test)), place)

    def on_epoch(metrics: dict[str, float | int]) -> None:
        if s.test_every and metrics["epoch"] % s.test_every == 0:
            rows, scores = tested(glance, "centre")
            metrics["test_top1"] = float((true_class_ranks(scores, labels[rows]) < 1).mean())
        epochs.append(metrics)
        if task.context.rank == 0:
            state = {"model": model.trained.state_dict(), "optimiser": optimiser.state_dict()}
            folder.save_checkpoint({**state, "step": metrics["step"], "epochs": epochs})
        task.report(metrics)

    def tested(plan: EvaluationPlan, crops: Crops) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Predictions for the videos of the next batches, of all workers."""
        rows, scores = predict(model, batches, len(plan), s.size, crops, s.crop, s.seed, task.device)
        return gather_rows(rows, scores, task.context)

    train_classifier(model, optimiser, batches, labels, fit, step, task.context, on_epoch)
    if s.keep_encoder and task.context.rank == 0:
        folder.save_encoder(model.encoder.state_dict(), "tuned.safetensors")
    rows, scores = tested(test, s.crops)
    ranks = true_class_ranks(scores, labels[rows])
    tops, each = accuracy(ranks, labels[rows], shards.classes)
    name = task.protocol if task.protocol != "semi" else f"semi_{100 * s.labels:g}"
    found = {f"{name}/{top}": value for top, value in tops.items()}
    return Found(found, _queries(shards, rows, ranks), each, {"epochs": epochs})


def _plans(s: ClassificationSettings, shards: ShardSet, context: Context) -> tuple[PretrainPlan, EvaluationPlan]:
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
        raise DataError(f"batch_size: {s.batch_size} is more than the {len(chosen)} training videos with labels (labels: {s.labels:g})")
    if s.batch_size % context.world_size:
        raise ConfigError(f"batch_size: {s.batch_size} does not divide over {context.world_size} workers")
    part = context.rank, context.world_size
    train = PretrainPlan(chosen, counts, s.frames, s.stride, s.batch_size, s.epochs, s.seed, *part, clips=1)
    return train, EvaluationPlan(_share(shards.rows("test"), context), counts, s.frames, s.stride, s.clips, 8)


def _share(rows: NDArray[np.int64], context: Context) -> NDArray[np.int64]:
    """This worker's part of the videos to measure.

    Raises:
        DataError: there are fewer than workers.
    """
    if len(rows) < context.world_size:
        raise DataError(f"{len(rows)} videos cannot be divided over {context.world_size} workers")
    return rows[context.rank :: context.world_size]


# --- Detection -----------------------------------------------------------------------------------------------------


def _detect(task: Task, encoder: nn.Module, width: int, folder: RunFolder) -> Found:
    """Train a detector from wherever an earlier attempt got to, and test it after the epochs that the settings say.

    A checkpoint is written after training an epoch and before testing it, so what was interrupted goes on with that test.
    """
    if task.context.world_size > 1:
        raise ConfigError(f"detection: trains on one worker, not on {task.context.world_size}")
    s, key_frames = task.settings, KeyFrames.of(task.shards)
    train, test = _key_frame_plans(s, task.shards, key_frames)
    fit = detection.Fit(len(train[0]), s.warmup_epochs, s.steps, s.factor, s.size, s.flip, s.seed, s.precision)
    assert isinstance(encoder, Backbone)
    torch.manual_seed(s.seed)
    model = detection.Detector(encoder, width, len(key_frames.actions), s.dropout).to(task.device)
    optimiser = make_optimiser(s.optimiser, model)
    trained, scores = 0, []
    folder.path.mkdir(parents=True, exist_ok=True)
    if checkpoint := folder.load_checkpoint(task.device):
        model.load_state_dict(checkpoint["model"])
        optimiser.load_state_dict(checkpoint["optimiser"])
        trained, scores = checkpoint["epoch"], checkpoint["scores"]
    tested = [s.test == "each" or epoch == s.epochs for epoch in range(1, s.epochs + 1)]
    parts: list[Plan] = [part for plan, then in zip(train, tested, strict=True) for part in (plan, test if then else Chain(()))]
    begin = sum(map(len, parts[: max(0, 2 * trained - 1)]))
    batches = task.open_stream(Chain(tuple(parts)), begin)
    truth = detection.true_rows(key_frames, key_frames.boxes_of(test.rows)[0])
    for epoch in range(max(0, trained - 1), s.epochs):
        if epoch >= trained:
            metrics = detection.train_epoch(model, optimiser, batches, key_frames, fit, epoch)
            state = {"model": model.state_dict(), "optimiser": optimiser.state_dict()}
            folder.save_checkpoint({**state, "epoch": epoch + 1, "scores": scores})
            task.report(metrics)
        check_weights("the detector", model)
        if tested[epoch]:
            boxes, found = detection.predict_boxes(model, batches, len(test), key_frames, s.size, task.device)
            predicted = detection.predicted_rows(key_frames, boxes, found)
            result = ava_map(truth, predicted, key_frames.actions, limit=s.limit or None)
            scores = [*scores, result.mean]
    with replacing(folder.path / "predictions.csv") as aside:
        detection.write_predictions(aside, predicted)
    return _detected(s, scores, result, {"train": train[0], "test": test})


def _detected(s: DetectionSettings, scores: list[float], result: AvaMap, plans: dict[str, KeyFramePlan]) -> Found:
    """The last epoch's result. The best epoch is chosen by the test set, as ViDiDi E.6 does, so it has a name of its own."""
    metrics = {"detection/mAP": scores[-1]}
    if s.test == "each":
        best = int(np.argmax(scores))
        metrics |= {"detection/best_mAP": scores[best], "detection/best_epoch": best + 1}
    cut = {split: plan.cut for split, plan in plans.items()}
    notes = [
        f"{count:,} of {len(plans[split].rows):,} {split} clips reach beyond the frames round their key frame, which are repeated"
        for split, count in cut.items()
        if count
    ]
    each = {action.name: action.average_precision for action in result.actions if action.ground_truth}
    ava = {key: value for key, value in result.to_dict().items() if key not in ("version", "mAP")}
    dropped = len(plans["train"].rows) % plans["train"].batch_size
    details = {"mAP_by_epoch": scores, "clips_cut": cut, "key_frames_dropped_per_epoch": dropped, "ava": ava}
    return Found(metrics, None, each, {**details, "notes": [*notes, *result.notes]})


def _key_frame_plans(s: DetectionSettings, shards: ShardSet, key_frames: KeyFrames) -> tuple[list[KeyFramePlan], KeyFramePlan]:
    """The key frames with boxes: those to train on, shuffled anew for each epoch, and those to test on.

    Raises:
        DataError: there are fewer than make a batch, the boxes of a split show no action that is scored, or the frames that the
            set keeps are further apart than the stride.
    """
    assert s.frames
    assert s.stride
    counts, step = frame_counts(shards), int(shards.manifest.source.get("step", 1))
    if s.stride % step:
        raise DataError(f"stride: {s.stride} is not a multiple of {step}; {shards.root} keeps one of every {step} frames")
    rows = {split: shards.rows(split) for split in ("train", "test")}
    rows = {split: found[key_frames.key_frame[found] >= 0] for split, found in rows.items()}
    for split, found in rows.items():
        if not key_frames.targets[key_frames.boxes_of(found)[0]].any():
            raise DataError(f"{shards.root}: no box of split {split} shows an action that is evaluated")
    if len(rows["train"]) < s.batch_size:
        raise DataError(f"batch_size: {s.batch_size} is more than the {len(rows['train'])} training key frames")
    clip = (key_frames.key_frame, counts, s.frames, s.stride // step)
    train = [KeyFramePlan(rows["train"], *clip, s.batch_size, (s.seed, epoch)) for epoch in range(s.epochs)]
    return train, KeyFramePlan(rows["test"], *clip, 8)
