"""An evaluation to make: what a measuring function gets, and what it gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from vididi.backbones.weights import file_sha256
from vididi.components import (
    check_clip,
    make_augment,
    make_optimiser,
    read_run_config,
    resolve_component,
)
from vididi.config import Config
from vididi.data.shards import ShardSet
from vididi.data.stream import Stream
from vididi.dotted_keys import flatten
from vididi.errors import ConfigError, DataError
from vididi.evaluation.ava_files import read_proposals
from vididi.evaluation.features import Extract, FeatureProgress
from vididi.names import check_name, check_part
from vididi.protocols import EVALUATIONS, EvaluationEntry, ProtocolSettings, protocol_settings
from vididi.protocols.settings import BOX_SCORE, DetectionSettings, named_settings
from vididi.runs.readers import queries_table
from vididi.runs.run_folder import RunFolder
from vididi.training.context import Context

Report = Callable[[dict[str, Any]], None]  # the metrics of an epoch, for whoever watches


@dataclass(frozen=True)
class EvaluationResult:
    """What was measured of one encoder.

    Args:
        metrics: by name, PROTOCOL/METRIC.
        queries: a row for each test video, if there is one (vididi.runs.readers.queries_table).
        per_class: accuracy, or average precision, by class name.
        details: further entries of result.json.
        features: a row for each video, where they are kept.
    """

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
    # Where features are computed; None: in this process, of the batches of open_stream.
    extract: Extract | None = None
    # Of the batches whose features are computed.
    progress: FeatureProgress = lambda done, count: None

    @property
    def name(self) -> str:
        """Of the folder in RUN/evaluations."""
        settings = named_settings(type(self.settings), self.settings.model_dump(mode="json"))
        text = json.dumps([settings, self.shards.manifest.checksum], sort_keys=True)
        source = check_name(
            self.shards.manifest.source.get("name", "data"),
            f"{self.shards.root}: source.name",
            DataError,
        )
        return check_part(
            f"{self.protocol}-{source}-{sha256(text.encode()).hexdigest()[:10]}",
            "evaluation",
            DataError,
        )

    def measure(self, encoder: nn.Module, width: int, folder: RunFolder) -> EvaluationResult:
        """Measure one encoder; what is half done lies in ``folder``."""
        return measuring_function(self.protocol)(self, encoder, width, folder)

    @property
    def device(self) -> torch.device:
        """Of this worker."""
        return self.context.device

    @property
    def keeps_features(self) -> bool:
        """Whether the features are worth keeping, for pictures of them."""
        return EVALUATIONS[self.protocol].keeps_features


# (task, encoder, its feature width, the evaluation's folder) -> what was measured
Measuring = Callable[[Task, nn.Module, int, RunFolder], EvaluationResult]


def measuring_function(protocol: str) -> Measuring:
    """What EVALUATIONS names.

    Raises:
        ConfigError: there is no such function.
    """
    where = EVALUATIONS[protocol].measure
    module, _, name = where.partition(":")
    try:
        function = getattr(import_module(module), name, None)
    except ModuleNotFoundError as error:
        # Otherwise it exists, and imports something that does not.
        if not f"{module}.".startswith(f"{error.name}."):
            raise
        function = None
    if function is None:
        raise ConfigError(f"protocol: {protocol!r} is measured by {where}, which is not there")
    return function


def complete_settings(settings: ProtocolSettings, config: Config) -> ProtocolSettings:
    """The settings, with the run's values for what they leave open, with checked components, and
    with a file of boxes pinned.

    Raises:
        ConfigError: an unknown component or option, clips that are too small for the backbone, or
            a file of boxes that cannot be read or is not the one that is meant.
    """
    e = config.evaluation
    run_values = {
        "frames": e.frames,
        "stride": e.stride,
        "size": config.clip.size,
        "clips": e.clips,
        "crop": e.crop,
        "seed": e.seed,
        "batch_norm": e.batch_norm,
        "orders": e.orders,
        "distance": e.distance,
        "centre": e.centre,
    }
    changes: dict[str, Any] = {
        name: run_values[name] for name, value in settings if value is None and name in run_values
    }

    components = [name for name in ("augment", "optimiser") if hasattr(settings, name)]
    changes |= {name: resolve_component(name, getattr(settings, name)) for name in components}

    if isinstance(settings, DetectionSettings):
        changes |= _pinned_boxes(settings)

    settings = settings.model_copy(update=changes)
    assert settings.frames
    assert settings.size
    check_clip(config.backbone, settings.frames, settings.size, "frames", "size")
    if test_size := getattr(settings, "test_size", None):
        check_clip(config.backbone, settings.frames, test_size, "frames", "test_size")
    return settings


def _pinned_boxes(settings: DetectionSettings) -> dict[str, Any]:
    """What pins a file of proposed boxes, as of weights: an absolute path, which holds in any
    process, and the digest, which enters the evaluation's name; and from which score they count.
    """
    if settings.boxes is None:
        return {}
    path = Path(settings.boxes).expanduser().absolute()
    try:
        digest = file_sha256(path)
    except OSError as error:
        raise ConfigError(f"boxes: {path} cannot be read: {error.strerror}") from None
    if settings.boxes_sha256 is not None and settings.boxes_sha256.lower() != digest:
        raise ConfigError(
            f"boxes_sha256: {settings.boxes_sha256} is not valid; the file given as boxes, {path},"
            f" has {digest}"
        )
    score = BOX_SCORE if settings.box_score is None else settings.box_score
    return {"boxes": str(path), "boxes_sha256": digest, "box_score": score}


def pinned(entry: EvaluationEntry) -> EvaluationEntry:
    """An entry that means the same in another process: its file of boxes is pinned.

    Raises:
        ConfigError: as complete_settings.
    """
    settings = protocol_settings(entry.protocol, entry.recipe, flatten(entry.settings))
    if not isinstance(settings, DetectionSettings) or settings.boxes is None:
        return entry
    changed = {**entry.settings, **_pinned_boxes(settings)}
    return entry.model_copy(update={"settings": changed})


@lru_cache(maxsize=16)
def _check_boxes(path: str, sha256: str, score: float) -> None:
    """Raise ConfigError for a file of boxes that is malformed; ``sha256`` is part of the cache's
    key.
    """
    try:
        read_proposals(Path(path), score)
    except DataError as error:
        raise ConfigError(f"boxes: {error}") from None


def check_settings(entry: EvaluationEntry, config: Config) -> None:
    """Raise ConfigError unless what an evaluation names exists: its augmentation and optimiser for
    runs of ``config``, its file of boxes, and its measuring function.
    """
    settings = complete_settings(
        protocol_settings(entry.protocol, entry.recipe, flatten(entry.settings)), config
    )
    assert settings.size
    if augment := getattr(settings, "augment", None):
        make_augment(augment, settings.size)
    if optimiser := getattr(settings, "optimiser", None):
        make_optimiser(optimiser, nn.Linear(1, 1))
    if isinstance(settings, DetectionSettings) and settings.boxes is not None:
        assert settings.boxes_sha256 is not None
        assert settings.box_score is not None
        _check_boxes(settings.boxes, settings.boxes_sha256, settings.box_score)
    measuring_function(entry.protocol)


def make_task(
    run: Path,
    entry: EvaluationEntry,
    shards: ShardSet,
    stream: Stream,
    context: Context,
    report: Report,
) -> Task:
    """The task of an evaluation for a run.

    Its settings are the recipe's, changed by the entry's, and the run's for what these leave open.

    Args:
        context: of this worker; several share the work of one evaluation, where the protocol can
            share.
        report: called on every worker.

    Raises:
        ConfigError: a setting is not valid for the run, or the protocol's measuring function is not
            there.
    """
    measuring_function(entry.protocol)
    settings = protocol_settings(entry.protocol, entry.recipe, flatten(entry.settings))
    return Task(
        entry.protocol,
        complete_settings(settings, read_run_config(run)),
        shards,
        stream,
        context,
        report,
    )


def share_of_worker(rows: NDArray[np.int64], context: Context) -> NDArray[np.int64]:
    """This worker's part of the videos to measure.

    Raises:
        DataError: there are fewer than workers.
    """
    if len(rows) < context.world_size:
        raise DataError(f"{len(rows)} videos cannot be divided over {context.world_size} workers")
    return rows[context.rank :: context.world_size]


def queries_of(
    shards: ShardSet, rows: NDArray[np.int64], first_hit: NDArray[np.int64], **more: ArrayLike
) -> pa.Table:
    """The rows of queries.parquet, with the scene where every video has one.

    Args:
        rows: index rows of the test videos, ``[V]``.
        first_hit: ``[V]``, how many wrong ones come before the first right one.
        more: further columns, ``[V]``.
    """
    scenes = shards.column("scene")[rows]
    more = {**({"scene": scenes} if all(scenes) else {}), **more}
    videos, labels = (shards.column(name)[rows] for name in ("video_id", "label"))
    return queries_table(videos, labels, first_hit, **more)
