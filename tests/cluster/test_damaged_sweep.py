"""A sweep over damaged run folders. Its jobs run in this process, one after the other, without a
cluster.
"""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jobs_here import run_jobs_here
from tiny_sweep import BASE

from vididi.components import resolve
from vididi.data.shards import ShardSet
from vididi.prepared import ensure_prepared
from vididi.runs.outcome import damage
from vididi.runs.readers import read_metrics
from vididi.sweep import Cell, Sweep, expand, load_sweep
from vididi.terminal import PlainConsole
from vididi.training import loop
from vididi.workspace import Workspace

SWEEP = (
    "name: few"
    + BASE
    + """  training: {epochs: 2, batch_size: 8}
  evaluation: {clips: 1, frames: 4, stride: 2}
arms: {base: {order: 0}, vididi: {order: 2}}
evaluate: [retrieval, {protocol: retrieval, untrained: false, settings: {clips: 2}}]
"""
)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each step of training; jobs run here."""

    taken: list[int] = []
    step = loop.train_step
    monkeypatch.setattr(
        loop, "train_step", lambda *arguments: [taken.append(1), step(*arguments)][1]
    )
    run_jobs_here(monkeypatch)
    return taken


def run_sweep(sweep: Sweep, cells: list[Cell], shards: ShardSet, runs: Path) -> tuple[int, str]:
    from vididi.cluster.driver import run_cells, run_evaluations

    out = io.StringIO()
    console = PlainConsole(file=out)
    work = Workspace(sweep, cells, shards, runs, console)
    status = run_cells(work)
    return max(status, run_evaluations(work, {})), out.getvalue()


def content(path: Path) -> dict[str, Any]:
    return {
        key: value
        for key, value in json.loads(path.read_text()).items()
        if "/" in key or key == "metrics"
    }


def test_only_what_damaged_files_stood_for_is_made_again(tmp_path: Path, steps: list[int]) -> None:
    (tmp_path / "few.yaml").write_text(SWEEP)
    sweep = load_sweep(tmp_path / "few.yaml")
    cells = [replace(cell, config=resolve(cell.config)) for cell in expand(sweep)]
    shards, runs = ensure_prepared(cells[0].config), tmp_path / "few"
    assert run_sweep(sweep, cells, shards, runs)[0] == 0
    assert len(steps) == 12
    base, vididi = (next(runs.glob(f"{arm}-s0-*")) for arm in ("base", "vididi"))
    (made,) = vididi.glob("evaluations/retrieval-*")
    expected = {
        path: content(path)
        for path in (base / "result.json", vididi / "result.json", made / "result.json")
    }
    (base / "checkpoint.pt").unlink()
    (base / "result.json").write_text("")
    for path in (vididi / "cell.json", made / "result.json"):
        path.write_text("[]")
    with (vididi / "metrics.jsonl").open("a") as file:
        file.write("\0\0\n")
    (vididi / "stopped.json").mkdir()
    status, said = run_sweep(sweep, cells, shards, runs)
    assert status == 0, said
    for path in (
        base / "result.json",
        vididi / "cell.json",
        vididi / "metrics.jsonl",
        vididi / "stopped.json",
        made / "result.json",
    ):
        assert f"{path}: " in said
        assert f"set aside as {path.name}.damaged-1" in said
        assert path.with_name(f"{path.name}.damaged-1").exists()
    assert "2 cells, 1 finished before, 1 to run" in said
    assert "evaluations: 2 of 2 runs, 1 to make" in said
    assert len(steps) == 12, "nothing is trained again"
    assert {path: content(path) for path in expected} == expected
    assert [damage(folder) for folder in (base, vididi, made)] == [{}] * 3
    assert [record["epoch"] for record in read_metrics(vididi)] == [1, 2]
    assert "2 cells, 2 finished before, 0 to run" in run_sweep(sweep, cells, shards, runs)[1]
