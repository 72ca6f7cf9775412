"""Reading finished run folders, and the evaluations made of their encoders since.

A run folder's own ``result.json`` holds what was measured on the data of its pretraining at the end of it. Each folder
``evaluations/<name>/`` of it holds one later evaluation: ``result.json`` (protocol, data, settings, metrics, and perhaps
untrained, the same metrics of the encoder before its first step) and ``queries.parquet`` (video_id, label, and correct or first_hit).
Those of retrieval and silhouette have ``features.parquet`` too (docs/evaluation.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from vididi import RESULT_VERSION
from vididi.config import flatten

NOT_HOW = ("seed", "test_every", "keep_encoder")  # settings that do not say how something was measured
PER_CLASS = ("/top1", "/mAP")  # what result.json has for each class too
# What every query tells: whether it was found among the first k.
_OF_QUERIES = re.compile(r"(?:retrieval/R@|(?:linear|semi_1|semi_10|finetune)/top)(\d+)")


@dataclass(frozen=True)
class Measurement:
    """What was measured of one encoder on one data set.

    Args:
        name: the evaluation's folder; empty for what the run itself measured at its end.
        checksum: of the prepared videos. settings: how it was measured, with dotted keys.
        queries: the file with a row for each query, if there is one.
        per_class: top-1 accuracy, or average precision, of each class by its name.
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

    def value(self, metric: str) -> float | None:
        """A metric, or ``METRIC/CLASS``, that of one class; None where it was not measured."""
        whole = next((name for name in self.metrics if name.endswith(PER_CLASS) and metric.startswith(f"{name}/")), None)
        return self.metrics.get(metric) if whole is None else self.per_class.get(metric.removeprefix(f"{whole}/"))

    def scores(self, metric: str) -> tuple[NDArray[Any], NDArray[np.float64]] | None:
        """The queries' video ids, sorted, and 1 for each that was answered right, else 0; None where that is not known.

        Scores whose mean is not the metric are of another one (an evaluation may have several, and one file of queries).
        """
        found = _OF_QUERIES.fullmatch(metric)
        if self.queries is None or not found or metric not in self.metrics:
            return None
        videos, columns = _read_queries(self.queries, self.queries.stat().st_mtime_ns)
        k = int(found[1])
        if "first_hit" in columns:
            right = columns["first_hit"] < k
        elif k == 1 and "correct" in columns:
            right = columns["correct"]
        else:
            return None
        scores = right.astype(np.float64)
        return (videos, scores) if len(scores) and abs(scores.mean() - self.metrics[metric]) < 1e-4 else None


@lru_cache(maxsize=1024)
def _read_queries(path: Path, changed: int) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    """Video ids in order, and the columns that tell of success in the same order. ``changed`` is part of the cache's key."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    videos = np.asarray(table["video_id"].to_pylist(), dtype=str)
    order = np.argsort(videos)
    told = [name for name in ("first_hit", "correct") if name in table.column_names]
    return videos[order], {name: table[name].to_numpy()[order] for name in told}


@dataclass(frozen=True)
class Run:
    """One finished cell: its configuration with dotted keys, its place in a sweep, its measurements, its own first."""

    folder: Path
    config: dict[str, Any]
    cell: dict[str, Any]
    result: dict[str, Any]
    measurements: list[Measurement]

    @property
    def seed(self) -> int:
        return int(self.config["training.seed"])

    @property
    def data(self) -> str:
        """The data set it was pretrained on."""
        return str(self.config["data.name"])

    @property
    def split(self) -> int | None:
        return self.config.get("data.split")

    @property
    def pretrained(self) -> bool:
        """False for an encoder as it begins: random, or from elsewhere."""
        return bool(self.config["training.epochs"] > 0)

    def untrained(self) -> Run | None:
        """The same of its encoder before the first step, where that was measured."""
        found = [replace(m, metrics=m.untrained, untrained={}, queries=None, per_class={}) for m in self.measurements if m.untrained]
        return replace(self, measurements=found) if found else None


def find_runs(root: Path) -> list[Path]:
    """Finished run folders: ``root`` itself, or those anywhere under it."""
    return sorted(path.parent for path in root.rglob("result.json") if (path.parent / "cell.json").is_file())


def read_run(folder: Path) -> Run:
    """Read one finished run folder with its evaluations; ValueError if a newer program wrote a part of it."""
    result = _read_result(folder)
    config = flatten(yaml.safe_load((folder / "config.yaml").read_text()))
    later = [_read_evaluation(path.parent) for path in sorted(folder.glob("evaluations/*/result.json"))]
    return Run(folder, config, read_cell(folder), result, [_own(folder, config, result), *later])


def read_cell(folder: Path) -> dict[str, Any]:
    """What a run folder remembers of its cell."""
    return json.loads((folder / "cell.json").read_text())


def read_finished(folders: Iterable[Path]) -> list[Run]:
    return [read_run(folder) for folder in folders if (folder / "result.json").is_file()]


def _read_result(folder: Path) -> dict[str, Any]:
    result = json.loads((folder / "result.json").read_text())
    if result.get("version") != RESULT_VERSION:
        raise ValueError(f"{folder}: result.json has version {result.get('version')!r}, this program reads version {RESULT_VERSION}")
    return result


def _own(folder: Path, config: dict[str, Any], result: dict[str, Any]) -> Measurement:
    """What the run measured at its end, as an evaluation on its own data. Metrics are the keys with a slash."""
    measured = {key: value for key, value in result.items() if "/" in key and value is not None}
    before = {key.removeprefix("untrained/"): value for key, value in measured.items() if key.startswith("untrained/")}
    return Measurement(
        name="",
        data=str(config["data.name"]),
        split=config.get("data.split"),
        checksum=result["data_checksum"],
        settings={key: config.get(f"evaluation.{key}") for key in ("clips", "frames", "stride", "crop")},
        metrics={key: value for key, value in measured.items() if not key.startswith("untrained/")},
        untrained=before,
        queries=_queries_in(folder),
    )


def _read_evaluation(folder: Path) -> Measurement:
    result = _read_result(folder)
    settings = flatten(result.get("settings", {}))
    return Measurement(
        name=folder.name,
        data=result["data"]["name"],
        split=result["data"].get("split"),
        checksum=result["data"]["checksum"],
        settings={key: value for key, value in settings.items() if key.rpartition(".")[2] not in NOT_HOW},
        metrics={key: value for key, value in result["metrics"].items() if value is not None},
        untrained=result.get("untrained") or {},
        queries=_queries_in(folder),
        per_class=result.get("per_class") or {},
    )


def _queries_in(folder: Path) -> Path | None:
    path = folder / "queries.parquet"
    return path if path.is_file() else None
