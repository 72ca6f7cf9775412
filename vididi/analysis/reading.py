"""Reading finished run folders, and the evaluations made of their encoders since.

A run folder's own ``result.json`` holds what was measured on the data of its pretraining at the end
of it. Each folder ``evaluations/<name>/`` of it holds one later evaluation: ``result.json``
(protocol, data, settings, metrics, and perhaps untrained, the same metrics of the encoder before
its first step) and ``queries.parquet`` (video_id, label, and correct or first_hit). Those of
retrieval and silhouette have ``features.parquet`` too (docs/evaluation.md).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vididi.config import build_config
from vididi.dotted_keys import flatten, nest
from vididi.errors import ConfigError, DamagedError
from vididi.introduced import introduction
from vididi.protocols import PROTOCOLS, hits_within, settings_model
from vididi.protocols.settings import FeatureSettings, RetrievalSettings, named_settings
from vididi.runs import readers
from vididi.runs.file_names import CELL, CONFIG, FEATURES, METRICS, QUERIES, RESULT
from vididi.runs.mirror import has, pull_file
from vididi.runs.old_results import recheck
from vididi.runs.readers import Queries, folders_with, is_there, needed, read_queries
from vididi.terminal import say

# Settings that do not say how something was measured; what is in a file of boxes its digest says.
NOT_HOW = ("seed", "test_every", "keep_encoder", "boxes")
SCORE_TOLERANCE = 1e-4  # of the mean of the queries' scores, which is the metric
QUERY_FILES_CACHED = 1024
IDENTITY_DIGITS, EVALUATION_DIGITS = 12, 10  # hex digits at the end of a folder's name
PER_CLASS = ("/top1", "/mAP")  # what result.json has for each class too


@dataclass(frozen=True)
class Measurement:
    """What was measured of one encoder on one data set.

    Args:
        name: the evaluation's folder; empty for what the run itself measured at its end.
        checksum: of the prepared videos. settings: how it was measured, with dotted keys.
        queries: the file with a row for each query, if there is one. gallery: in one of an earlier
            version, the rank of what the gallery lacks, if there is such a query.
        per_class: top-1 accuracy, or average precision, of each class by its name.
        result: the content of result.json. notes: what is not as it says.
    """

    name: str
    data: str
    split: int | None
    checksum: str
    settings: dict[str, Any]
    metrics: dict[str, float]
    untrained: dict[str, float]
    queries: Path | None
    per_class: dict[str, float] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()
    gallery: int | None = None

    def value(self, metric: str) -> float | None:
        """A metric, or ``METRIC/CLASS``, that of one class; None where it was not measured."""
        overall = next(
            (
                name
                for name in self.metrics
                if name.endswith(PER_CLASS) and metric.startswith(f"{name}/")
            ),
            None,
        )
        return (
            self.metrics.get(metric)
            if overall is None
            else self.per_class.get(metric.removeprefix(f"{overall}/"))
        )

    def scores(self, metric: str) -> tuple[NDArray[Any], NDArray[np.float64]] | None:
        """The queries' video ids, sorted, and 1 for each right answer, else 0; None if not known.

        Scores whose mean is not the metric are of another one (an evaluation may have several, and
        one file of queries).
        """
        within = hits_within(metric)
        if self.queries is None or within is None or metric not in self.metrics:
            return None
        queries = _queries(self.queries)
        right = queries.found(within)
        if right is None:
            return None
        if self.gallery is not None and queries.first_hit is not None:
            right = right & (queries.first_hit < self.gallery)
        order = np.argsort(queries.videos)
        scores = right[order].astype(np.float64)
        return (
            (queries.videos[order], scores)
            if len(scores) and abs(scores.mean() - self.metrics[metric]) < SCORE_TOLERANCE
            else None
        )

    def rechecked(self, size: Callable[[], int | None], min_size: int) -> Measurement:
        """Without what may be false in results of an earlier version.

        The arguments are those of vididi.runs.old_results.recheck.
        """

        def queries() -> Queries | None:
            return None if self.queries is None else _queries(self.queries)

        checked = recheck(
            {**self.result, "per_class": self.per_class},
            self.metrics,
            self.untrained,
            queries,
            size,
            min_size,
        )
        changed = replace(
            self, metrics=checked.metrics, untrained=checked.untrained, per_class=checked.per_class
        )
        return replace(changed, notes=tuple(checked.notes), gallery=checked.gallery)


@lru_cache(maxsize=QUERY_FILES_CACHED)
def _read_queries(path: Path, changed: int) -> Queries:
    """``changed`` is part of the cache's key."""
    return read_queries(path)


@dataclass(frozen=True)
class Run:
    """One finished cell.

    Its configuration with dotted keys, its place in a sweep, and its measurements, of which the
    first is its own at the end of pretraining.

    left_out: a line for each of its evaluations that is damaged or a copy of another, and so not
    among the measurements.
    """

    folder: Path
    config: dict[str, Any]
    cell: dict[str, Any]
    result: dict[str, Any]
    measurements: list[Measurement]
    left_out: list[str] = field(default_factory=list)

    @cached_property
    def identity(self) -> str:
        """The end of its folder's name, from its configuration and its data."""
        checksum = self.result["data_checksum"]
        try:
            return build_config(nest(self.config)).identity(checksum)
        except ConfigError:  # keys of a newer program
            return sha256(json.dumps([self.config, checksum], sort_keys=True).encode()).hexdigest()[
                :IDENTITY_DIGITS
            ]

    @property
    def seed(self) -> int:
        """The seed of its pretraining."""
        return int(self.config["training.seed"])

    @property
    def data(self) -> str:
        """The data set it was pretrained on."""
        return str(self.config["data.name"])

    @property
    def split(self) -> int | None:
        """The split of the data it was pretrained on; None where they have no numbered splits."""
        return self.config.get("data.split")

    @property
    def pretrained(self) -> bool:
        """False for an encoder as it begins: random, or from elsewhere."""
        return bool(self.config["training.epochs"] > 0)

    def untrained(self) -> Run | None:
        """The same of its encoder before the first step, where that was measured."""
        measurements = [
            replace(m, metrics=m.untrained, untrained={}, queries=None, per_class={})
            for m in self.measurements
            if m.untrained
        ]
        return replace(self, measurements=measurements) if measurements else None


def notes_of(runs: Iterable[Run]) -> list[str]:
    """What is not as a result.json says, by the run's name."""
    return [
        f"{run.folder.name}{', ' * bool(m.name)}{m.name}: {note}"
        for run in runs
        for m in run.measurements
        for note in m.notes
    ]


def find_runs(root: Path) -> list[Path]:
    """Finished run folders: ``root`` itself, or those anywhere under it."""
    finished = folders_with(root, RESULT)
    return [
        folder for folder in finished if any(is_there(folder / name) for name in (CELL, CONFIG))
    ]


def read_run(folder: Path) -> Run:
    """Read one finished run folder with its evaluations.

    Raises:
        DamagedError: a file of the run itself is damaged or missing. DataError: a newer program
            wrote a part of it.
    """
    result = needed(folder / RESULT, readers.read_run_result(folder))
    config = read_flat_config(folder)
    final = _final_measurement(folder, config, result)
    evaluations, left_out = _evaluations(folder)
    measurements = [
        m.rechecked(*_gallery(folder, m, config, result)) for m in (final, *evaluations)
    ]
    return Run(folder, config, read_cell_record(folder), result, measurements, left_out)


def _gallery(
    folder: Path, measured: Measurement, config: dict[str, Any], result: dict[str, Any]
) -> tuple[Callable[[], int | None], int]:
    """How many videos the gallery of a measurement has, if that is known, and at least how many."""
    if measured.checksum != result["data_checksum"]:
        return partial(_gallery_in_features, folder / "evaluations" / measured.name / FEATURES), 1
    batch, epochs, dropped = (
        config["training.batch_size"],
        config["training.epochs"],
        result.get("videos_dropped_per_epoch"),
    )
    if not epochs or dropped is None:
        return lambda: None, batch
    size = result["steps"] // epochs * batch + dropped + len(result.get("videos_too_short", []))
    return lambda: size, batch


def _gallery_in_features(features: Path) -> int | None:
    import pyarrow.compute as pc

    try:
        table = (
            readers.read_table(features, ("split",))
            if has(features) and pull_file(features)
            else None
        )
    except DamagedError:
        return None  # of a file that is no measurement
    return None if table is None else int(pc.sum(pc.equal(table["split"], "train")).as_py())


def read_flat_config(folder: Path) -> dict[str, Any]:
    """The configuration of a run folder with dotted keys, as it was written.

    Raises:
        DamagedError: it is damaged or missing.
    """
    return flatten(needed(folder / CONFIG, readers.read_config(folder)))


def read_cell_record(folder: Path) -> dict[str, Any]:
    """What a run folder remembers of its cell. Raises DamagedError."""
    return needed(folder / CELL, readers.read_cell(folder))


@dataclass(frozen=True)
class Finished:
    """The runs that count among some folders.

    ``left_out`` has a line for each other run, and for each evaluation that does not count.
    """

    runs: list[Run]
    left_out: list[str]


def read_all(folders: Iterable[Path]) -> Finished:
    """The finished ones of some folders, in their order, without damaged ones and copies.

    Of folders that hold the same cell of one arm of one sweep, on the same data, one counts.

    Raises:
        DataError: a newer program wrote a file, or one cannot be read.
    """
    runs, left_out = [], []
    for folder in folders:
        if not is_there(folder / RESULT):
            continue
        try:
            runs.append(read_run(folder))
        except DamagedError as error:
            left_out.append(f"left out: {error}")
    left_out += [line for run in runs for line in run.left_out]
    unique, copies = one_run_per_cell(runs, lambda run: (run.cell.get("sweep"), run.cell["arm"]))
    return Finished(unique, [*left_out, *(f"left out: {line}" for line in copies)])


def read_finished(folders: Iterable[Path]) -> list[Run]:
    """The runs of read_all; what is left out is named on the standard error stream."""
    finished = read_all(folders)
    print_to_stderr(finished.left_out)
    return finished.runs


def print_to_stderr(lines: Iterable[str]) -> None:
    """Lines beside the output of a program."""
    for line in lines:
        say(line, file=sys.stderr)


# --- Copies ---------------------------------------------------------------------------------------


class _InFolder(Protocol):
    @property
    def folder(self) -> Path: ...


InFolder = TypeVar("InFolder", bound=_InFolder)
_IDENTITY = re.compile(r"-([0-9a-f]{12})(?![0-9a-f])")  # in the name of a run folder, or of a copy


def one_run_per_cell(
    runs: Sequence[Run], group_of: Callable[[Run], Any] = lambda run: None
) -> tuple[list[Run], list[str]]:
    """One run of each cell, and a line for each copy of it.

    A seed counts once, however many folders hold it.

    Args:
        group_of: runs that differ in this count each.
    """

    def cheap_key(run: Run) -> tuple[Any, ...]:
        return group_of(run), run.seed, run.data, run.result["data_checksum"]

    ambiguous = {key for key, group in _grouped(runs, cheap_key).items() if len(group) > 1}
    return deduplicate(
        runs,
        lambda run: (cheap_key(run), run.identity if cheap_key(run) in ambiguous else ""),
        lambda run: run.identity,
    )


def deduplicate(
    items: Sequence[InFolder], key: Callable[[InFolder], Any], identity: Callable[[InFolder], str]
) -> tuple[list[InFolder], list[str]]:
    """One of the items with the same key, and a line for each other one.

    It is the one whose folder's name ends in its identity, else the newest.
    """
    chosen = {
        key: (
            group[0]
            if len(group) == 1
            else min(group, key=lambda item: _rank(item.folder, identity(item)))
        )
        for key, group in _grouped(items, key).items()
    }
    lines = [
        f"{item.folder}: the same as {best.folder}"
        for item in items
        if item is not (best := chosen[key(item)])
    ]
    return [item for item in items if item is chosen[key(item)]], lines


def _grouped(
    items: Iterable[InFolder], key: Callable[[InFolder], Any]
) -> dict[Any, list[InFolder]]:
    groups: dict[Any, list[InFolder]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _rank(folder: Path, identity: str) -> tuple[int, int, str]:
    """The least is the original."""
    name_rank = (
        0
        if folder.name.endswith(f"-{identity}")
        else 1
        if re.search(r"-[0-9a-f]{12}$", folder.name)
        else 2
    )
    files = (folder / name for name in (RESULT, METRICS))
    written = next((path.stat().st_mtime_ns for path in files if path.is_file()), 0)
    return name_rank, -written, str(folder)


def identity_in_name(folder: Path) -> str:
    """The identity in a run folder's name, or in that of a copy; empty where there is none."""
    return (_IDENTITY.findall(folder.name) or [""])[-1]


# --- Measurements ---------------------------------------------------------------------------------


# Of a run's configuration, what decides how its features are measured and compared.
FEATURE_SETTINGS = (
    *("clips", "frames", "stride", "crop"),
    *("batch_norm", "orders", "distance", "centre"),
)


def _final_measurement(folder: Path, config: dict[str, Any], result: dict[str, Any]) -> Measurement:
    """What the run measured at its end, as an evaluation on its own data.

    Metrics are the keys with a slash.
    """
    measured = {key: value for key, value in result.items() if "/" in key and value is not None}
    before = {
        key.removeprefix("untrained/"): value
        for key, value in measured.items()
        if key.startswith("untrained/")
    }
    return Measurement(
        name="",
        data=str(config["data.name"]),
        split=config.get("data.split"),
        checksum=result["data_checksum"],
        settings={key: config.get(f"evaluation.{key}") for key in FEATURE_SETTINGS},
        metrics={key: value for key, value in measured.items() if not key.startswith("untrained/")},
        untrained=before,
        queries=_queries_in(folder),
        result=result,
    )


@dataclass(frozen=True)
class _Evaluation:
    folder: Path
    result: dict[str, Any]
    measurement: Measurement

    @property
    def content_key(self) -> str:
        """What was measured on what and how, as text."""
        m = self.measurement
        what = [
            self.result["protocol"],
            sorted(self.result["metrics"]),
            m.data,
            m.split,
            m.checksum,
        ]
        return json.dumps([*what, self._named], sort_keys=True)

    @property
    def identity(self) -> str:
        """The end of its folder's name (see vididi.protocols.task.Task.name)."""
        text = json.dumps([self._named, self.measurement.checksum], sort_keys=True)
        return sha256(text.encode()).hexdigest()[:EVALUATION_DIGITS]

    @property
    def _named(self) -> dict[str, Any]:
        """The settings that its name is made of."""
        protocol, settings = self.result["protocol"], self.result.get("settings", {})
        if protocol not in PROTOCOLS:
            return dict(settings)
        return named_settings(settings_model(protocol), settings)


def _evaluations(run: Path) -> tuple[list[Measurement], list[str]]:
    """Those made since, and a line for each that is damaged or a copy of another."""
    root, evaluations, left_out = run / "evaluations", [], []
    for folder in folders_with(root, RESULT):
        if folder.parent != root:
            continue
        try:
            evaluations.append(_read_evaluation(folder))
        except DamagedError as error:
            left_out.append(f"left out: {error}")
    unique, copies = deduplicate(
        evaluations,
        lambda evaluation: evaluation.content_key,
        lambda evaluation: evaluation.identity,
    )
    return [evaluation.measurement for evaluation in unique], [
        *left_out,
        *(f"left out: {line}" for line in copies),
    ]


def _read_evaluation(folder: Path) -> _Evaluation:
    result = needed(folder / RESULT, readers.read_evaluation_result(folder))
    settings = {**_of_all_features(result["protocol"]), **flatten(result.get("settings", {}))}
    measurement = Measurement(
        name=folder.name,
        data=result["data"]["name"],
        split=result["data"].get("split"),
        checksum=result["data"]["checksum"],
        settings={
            key: value for key, value in settings.items() if key.rpartition(".")[2] not in NOT_HOW
        },
        metrics={key: value for key, value in result["metrics"].items() if value is not None},
        untrained=result.get("untrained") or {},
        queries=_queries_in(folder),
        per_class=result.get("per_class") or {},
        result=result,
    )
    return _Evaluation(folder, result, measurement)


def is_introduction(key: str, value: Any) -> bool:
    """Whether a setting of a protocol came later and has the value that was always meant."""
    fields = [settings_model(protocol).model_fields.get(key) for protocol in PROTOCOLS]
    late = [introduction(field) for field in fields if field]
    return any(mark is not None and mark.means(value) for mark in late)


def _of_all_features(protocol: str) -> dict[str, Any]:
    """What retrieval's settings are where a protocol of features does without them, so that its
    settings are comparable with those of others.
    """
    if protocol not in PROTOCOLS or not issubclass(settings_model(protocol), FeatureSettings):
        return {}
    return {
        name: late.value
        for name, field in RetrievalSettings.model_fields.items()
        if name not in FeatureSettings.model_fields and (late := introduction(field))
    }


def _queries_in(folder: Path) -> Path | None:
    """The file of queries, if there is one.

    A damaged one raises here, before anything is made of it.
    """
    path = folder / QUERIES
    if not is_there(path):
        return None
    _queries(path)
    return path


def _queries(path: Path) -> Queries:
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        changed = 0  # reading says what is wrong
    return _read_queries(path, changed)
