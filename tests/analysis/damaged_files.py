"""The ways in which one file can be damaged, and made-up runs that have every file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from made_up_runs import hits_of, made_up_evaluation, made_up_run, recalls

CLASSES = 3


def whole_run(root: Path, label: str, seed: int, schedule: dict[str, Any], rate: float) -> Path:
    """A finished run with metrics, queries, a classifier's epochs and features, in a folder named
    as a cell's.
    """
    hits = hits_of(rate, 60)
    values = {"objective.name": "vicreg", **schedule}
    run = made_up_run(
        root, values, {**recalls(hits), "silhouette/all": 0.1}, seed, label, first_hits=hits
    )
    run = run.rename(root / f"{label}-s{seed}-{identity_of(run)}")
    lines = [
        {"epoch": epoch, "step": 3 * epoch, "train/loss": 1 / epoch, "train/lr": 0.1}
        for epoch in (1, 2, 3)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    linear = made_up_evaluation(
        run, "linear", "motion", {"linear/top1": rate}, correct=[hit < 1 for hit in hits]
    )
    told = json.loads((linear / "result.json").read_text())
    epochs = [{"epoch": epoch, "train_top1": rate, "test_top1": rate} for epoch in (1, 2)]
    (linear / "result.json").write_text(json.dumps({**told, "epochs": epochs}))
    write_features(
        made_up_evaluation(
            run, "retrieval", "motion", {"retrieval/R@1": 0.5}, settings={"clips": 2}
        ),
        seed,
    )
    return run


def identity_of(run: Path) -> str:
    from vididi.config import build_config

    checksum = json.loads((run / "result.json").read_text())["data_checksum"]
    return build_config(yaml.safe_load((run / "config.yaml").read_text())).identity(checksum)


def write_features(folder: Path, seed: int) -> None:
    labels = np.repeat(np.arange(CLASSES), 8)
    features = (
        4 * np.eye(4)[labels] + np.random.default_rng(seed).normal(size=(len(labels), 4))
    ).astype(np.float32)
    test = np.tile(np.repeat([True, False], 4), CLASSES)
    columns = {
        "video_id": [f"v{i}" for i in range(len(labels))],
        "label": labels,
        "class": [f"class {label}" for label in labels],
        "split": np.where(test, "test", "train"),
        "features": pa.FixedSizeListArray.from_arrays(features.ravel(), 4),
    }
    pq.write_table(pa.table(columns), folder / "features.parquet")
    queries = {
        "video_id": [f"v{i}" for i in np.flatnonzero(test)],
        "label": labels[test],
        "first_hit": np.zeros(test.sum(), int),
    }
    pq.write_table(pa.table(queries), folder / "queries.parquet")


def folder_instead(path: Path) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


def far_too_large(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(
            1 << 34
        )  # sparse: it takes no room, and reading it whole would take all memory


def other_types(path: Path) -> None:
    """Every value is a text, or every column."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return pq.write_table(
            pa.table({name: ["x"] * len(table) for name in table.column_names}), path
        )
    values = yaml.safe_load(
        path.read_text().splitlines()[0] if path.suffix == ".jsonl" else path.read_text()
    )
    write_values(path, {key: ["x"] for key in values})
    return None


def not_finite(path: Path) -> None:
    text = path.read_text()
    path.write_text(text.replace("3", "NaN").replace("1", "Infinity").replace("0", "-Infinity"))


def write_values(path: Path, content: Any) -> None:
    path.write_text(
        yaml.safe_dump(content) if path.suffix == ".yaml" else json.dumps(content) + "\n"
    )


# All but the last make a file that cannot be what was written, whichever it is.
DAMAGES: dict[str, Callable[[Path], None]] = {
    "empty line": lambda path: path.write_bytes(b"\n"),
    "cut": lambda path: path.write_bytes(
        path.read_bytes()[: path.stat().st_size // 3].rstrip(b"\n") + b"\x00\n"
    ),
    "empty mapping": lambda path: path.write_text("{}\n"),
    "NULs": lambda path: path.write_bytes(bytes(path.stat().st_size) + b"\n"),
    "NULs and then the rest": lambda path: path.write_bytes(bytes(64) + path.read_bytes()[64:]),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe{\xe9}" + path.read_bytes()[7:]),
    "a list": lambda path: write_values(path, [1, 2]),
    "other types": other_types,
    "deep": lambda path: path.write_text("[" * 20_000 + "]" * 20_000 + "\n"),
    "a long number": lambda path: path.write_text('{"epoch": ' + "1" * 5000 + "}\n"),
    "a folder": folder_instead,
    "huge": far_too_large,
}
FILES = (
    "result.json",
    "cell.json",
    "config.yaml",
    "metrics.jsonl",
    "queries.parquet",
    "stopped.json",
)


def add_stopped(run: Path) -> None:
    (run / "stopped.json").write_text(json.dumps({"epoch": 2, "online/knn": 0.5, "rule": "asha"}))


@contextmanager
def damaged(run: Path, file: str, damage: str) -> Iterator[Path]:
    """The file, damaged for as long as the context lasts."""
    path, whole = run / file, copy_of(run, run.parents[1] / "whole")
    if file == "stopped.json":
        add_stopped(run)
    DAMAGES[damage](path)
    yield path
    shutil.rmtree(run)
    whole.rename(run)


def contents(root: Path) -> dict[str, Any]:
    """Every path below a folder, with what a file holds; of a huge one its size."""
    return {
        str(path.relative_to(root)): (
            path.read_bytes() if path.stat().st_size < 1 << 20 else path.stat().st_size
        )
        for path in root.rglob("*")
        if path.is_file()
    } | {str(path.relative_to(root)): None for path in root.rglob("*") if path.is_dir()}


def copy_of(root: Path, to: Path) -> Path:
    return Path(shutil.copytree(root, to))
