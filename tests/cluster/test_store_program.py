"""Sweeps whose run folders are in an object store. Another machine has a cache and a Ray of its
own.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest
from made_up_machines import objects, put
from programs import Done, run_here
from tiny_sweep import BASE

import run_sweep
from vididi.analysis import paper_table
from vididi.components import resolve
from vididi.prepared import ensure_prepared
from vididi.runs import mirror
from vididi.runs.run_folder import RunFolder
from vididi.sweep import expand, load_sweep

SWEEP = (
    "name: shared\ntable: vididi_table_6"
    + BASE
    + """  training: {epochs: 2, batch_size: 12}
  evaluation: {clips: 2, frames: 4, stride: 2}
arms:
  %s: {label: "Base (VICReg)", order: 0}
  vididi: {label: "ViDiDi-VIC", order: 2}
resources: {hold_data: true}
"""
)
SEARCH = (
    "name: found"
    + BASE
    + """  training: {epochs: 8, batch_size: 12}
  evaluation: {clips: 2, frames: 4, stride: 2}
  evaluation.online: {every: 1, train: 24, test: 12}
search: {name: optuna, trials: TRIALS, space: {order: {choice: [1, 2]}, optimiser.lr: {log: [0.01, 2]}}}
stopping: {name: asha, grace: 1, reduction: 2}
resources: {hold_data: true, concurrency: 1}
"""
)

pytestmark = pytest.mark.ray


def run(place: Path, machine: str, spec: str, runs: str) -> Done:
    return run_here(place, spec, "--runs", runs, cache=machine)


def test_two_sweeps_of_two_machines_share_a_folder(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.yaml").write_text(SWEEP % "base")
    (tmp_path / "two.yaml").write_text(
        SWEEP % "plain"
        + "evaluate: [retrieval, silhouette, {protocol: retrieval, settings: {clips: 1}}]\n"
    )
    cells = [
        replace(cell, config=resolve(cell.config))
        for cell in expand(load_sweep(tmp_path / "one.yaml"))
    ]
    monkeypatch.setenv("VIDIDI_CACHE", str(tmp_path / "three"))
    checksum = ensure_prepared(cells[0].config).manifest.checksum
    runs, uri = mirror.local_path(f"{bucket}/runs/shared"), f"{bucket}/runs"
    with RunFolder(cells[1].find_folder(runs, checksum)).locked():
        first = run(tmp_path, "one", "one.yaml", uri)
    assert first.returncode == 1, first.stdout + first.stderr
    assert "base-s0: finished" in first.stdout
    assert "vididi-s0: run by another driver" in first.stdout
    assert (
        "not finished: vididi-s0: run by another driver; run the same command again to go on\n   "
        " in s3://" in first.stdout
    )
    assert not any(name.endswith("error.txt") for name in objects(uri))
    second = run(tmp_path, "two", "two.yaml", uri)
    assert second.returncode == 0, second.stdout + second.stderr
    assert f"2 cells, 1 finished before, 1 to run, in {bucket}/runs/shared" in second.stdout
    assert "evaluations: 2 of 2 runs, 2 to make" in second.stdout
    assert (
        sum(name.endswith("/result.json") for name in objects(uri)) == 4
    )  # two cells, and an evaluation of each
    assert not any(".owner-" in name or "/." in name for name in objects(uri))
    assert paper_table.main(["vididi_table_6", f"{uri}/shared"]) == 0
    table = capsys.readouterr().out.strip()
    assert table.splitlines()[0] in second.stdout  # which leaves out its rows without runs
    assert "no runs" not in next(
        line for line in table.splitlines() if line.startswith("| Base (VICReg)")
    )
    assert run_sweep.main(["compare", "base", "vididi", "--runs", f"{uri}/shared"]) == 0
    assert "difference " in capsys.readouterr().out


def test_a_search_in_a_store_goes_on_from_another_machine_past_damaged_files(
    bucket: str, tmp_path: Path
) -> None:
    runs = f"{bucket}/runs/found"
    first = search(tmp_path, "one", 3, bucket)
    assert "0 of 3 cells drawn before" in first.stdout
    before = objects(runs)
    assert len(ends(before)) == 3
    result = next(name for name in before if name.endswith("/result.json"))
    metrics = next(name for name in before if name.endswith("/metrics.jsonl"))
    put(f"{runs}/{result}", b"\0")
    put(f"{runs}/{metrics}", before[metrics] + b"\0\n")
    second = search(tmp_path, "two", 5, bucket)
    assert "3 of 5 cells drawn before" in second.stdout
    after = objects(runs)
    stopped = sum(name.endswith("/stopped.json") for name in after)
    assert len(ends(after)) == 5
    assert stopped
    assert f"early stopping: {stopped} of 5 cells, " in second.stdout, "of both machines"
    for name in (result, metrics):
        assert f"set aside as {name.rpartition('/')[2]}.damaged-1" in second.stdout
    assert (after[f"{result}.damaged-1"], after[metrics]) == (b"\0", before[metrics])
    again, once = json.loads(after[result]), json.loads(before[result])
    assert again["resumed_from_step"] == again["steps"] == once["steps"], (
        "measured again, and not trained"
    )
    assert again["retrieval/R@1"] == once["retrieval/R@1"]


def search(place: Path, machine: str, trials: int, bucket: str) -> Done:
    (place / "search.yaml").write_text(SEARCH.replace("TRIALS", str(trials)))
    done = run(place, machine, "search.yaml", f"{bucket}/runs")
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def ends(objects: Collection[str]) -> list[str]:
    """Of cells that have ended."""
    return [name for name in objects if name.endswith(("/result.json", "/stopped.json"))]
