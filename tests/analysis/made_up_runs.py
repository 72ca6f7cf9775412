"""Made-up finished run folders, as vididi.experiment leaves them, and evaluations in them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vididi.config import build_config
from vididi.dotted_keys import nest

UCF101 = {"data.name": "ucf101", "data.split": 1}


def made_up_run(
    root: Path,
    values: Mapping[str, Any],
    metrics: Mapping[str, float],
    seed: int = 0,
    label: str = "A",
    checksum: str = "videos",
    first_hits: Sequence[int] | None = None,
) -> Path:
    """A finished run with these configuration values (dotted) and metrics; with ``first_hits``, a
    row for each query.
    """
    config = build_config(nest({"clip.extra_frames": 2, "training.seed": seed, **values}))
    folder = root / f"run-{len(list(root.glob('run-*')))}"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config.to_yaml())
    (folder / "cell.json").write_text(
        json.dumps({"sweep": "s", "arm": label, "label": label, "axes": {}, "seed": seed})
    )
    (folder / "result.json").write_text(
        json.dumps({"version": 1, "rules": 2, **metrics, "data_checksum": checksum, "steps": 3})
    )
    if first_hits is not None:
        write_queries(folder, "first_hit", first_hits)
    return folder


def made_up_evaluation(
    run: Path,
    protocol: str,
    data: str,
    metrics: Mapping[str, float],
    split: int | None = None,
    checksum: str = "test videos",
    settings: Mapping[str, Any] | None = None,
    correct: Sequence[bool] | None = None,
    untrained: Mapping[str, float] | None = None,
    per_class: Mapping[str, float] | None = None,
) -> Path:
    """An evaluation of a run's encoder, in a folder of its own."""
    folder = run / "evaluations" / f"{protocol}-{len(list(run.glob('evaluations/*')))}"
    folder.mkdir(parents=True)
    where = {
        "name": data,
        "split": split,
        "checksum": checksum if split is None else f"{checksum} {split}",
    }
    result = {
        "version": 1,
        "rules": 2,
        "protocol": protocol,
        "data": where,
        "settings": dict(settings or {"epochs": 100}),
        "metrics": dict(metrics),
    }
    if untrained is not None:
        result["untrained"] = dict(untrained)
    if per_class is not None:
        result["per_class"] = dict(per_class)
    (folder / "result.json").write_text(json.dumps(result))
    if correct is not None:
        write_queries(folder, "correct", correct)
    return folder


def read_csv(text: str) -> list[dict[str, str]]:
    """The rows of a table's CSV, without the apostrophe before a label that begins as a formula
    does.
    """
    return [
        {column: re.sub("^'(?=[=+@-])", "", cell) for column, cell in row.items()}
        for row in csv.DictReader(io.StringIO(text))
    ]


def write_queries(folder: Path, column: str, told: Sequence[Any]) -> None:
    videos = [f"v{i:05d}" for i in range(len(told))]
    pq.write_table(
        pa.table({"video_id": videos, "label": [0] * len(videos), column: list(told)}),
        folder / "queries.parquet",
    )


def hits_of(rate: float, queries: int = 200) -> list[int]:
    """First hits of which the first ``rate`` are at rank 1 and the others at rank 20."""
    right = round(rate * queries)
    return [0] * right + [20] * (queries - right)


def recalls(first_hits: Sequence[int]) -> dict[str, float]:
    """R@1, R@5 and R@10 of first hits."""
    return {
        f"retrieval/R@{k}": sum(hit < k for hit in first_hits) / len(first_hits) for k in (1, 5, 10)
    }
