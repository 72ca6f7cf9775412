"""An evaluation to make: what a measuring function gets, and what it gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import nn

from vididi.components import (
    check_clip,
    make_augment,
    make_optimiser,
    read_run_config,
    resolve_component,
)
from vididi.config import Config, flatten
from vididi.data.shards import ShardSet
from vididi.data.stream import Stream
from vididi.errors import ConfigError, DataError
from vididi.evaluation.features import Extract, FeatureProgress
from vididi.introduced import without_introduced
from vididi.names import check_name, check_part
from vididi.protocols import EVALUATIONS, EvaluationEntry, ProtocolSettings, protocol_settings
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
        settings = without_introduced(type(self.settings), self.settings.model_dump(mode="json"))
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
    """The settings, with the run's values for what they leave open, and with checked components.

    Raises:
        ConfigError: an unknown component or option, or clips that are too small for the backbone.
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

    settings = settings.model_copy(update=changes)
    assert settings.frames
    assert settings.size
    check_clip(config.backbone, settings.frames, settings.size, "frames", "size")
    return settings


def check_settings(entry: EvaluationEntry, config: Config) -> None:
    """Raise ConfigError unless what an evaluation names exists: its augmentation and optimiser for
    runs of ``config``, and its measuring function.
    """
    settings = complete_settings(
        protocol_settings(entry.protocol, entry.recipe, flatten(entry.settings)), config
    )
    assert settings.size
    if augment := getattr(settings, "augment", None):
        make_augment(augment, settings.size)
    if optimiser := getattr(settings, "optimiser", None):
        make_optimiser(optimiser, nn.Linear(1, 1))
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


def queries_of(shards: ShardSet, rows: NDArray[np.int64], first_hit: NDArray[np.int64]) -> pa.Table:
    """The rows of queries.parquet.

    Args:
        rows: index rows of the test videos, ``[V]``.
        first_hit: ``[V]``, how many wrong ones come before the first right one.
    """
    return queries_table(shards.column("video_id")[rows], shards.column("label")[rows], first_hit)
