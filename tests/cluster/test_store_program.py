"""Sweeps whose run folders are in an object store, by run_sweep.py in a process of its own. Another machine has a cache of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import boto3
import pytest
from tiny_sweep import BASE

import run_sweep
from analysis import paper_table
from vididi import mirror
from vididi.experiment import ensure_prepared, resolve
from vididi.sweep import expand, load_sweep
from vididi.training.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
SWEEP = (
    "name: shared\ntable: vididi_table_6"
    + BASE
    + """  training: {epochs: 2, batch_size: 12}
  evaluation: {clips: 2, frames: 4, stride: 2}
arms:
  %s: {label: "Base (VICReg)", order: 0}
  vididi: {label: "ViDiDi-VIC", order: 2}
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
resources: {concurrency: 1}
"""
)

pytestmark = pytest.mark.ray


def run(place: Path, machine: str, spec: str, runs: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VIDIDI_CACHE": str(place / machine), "COLUMNS": "200", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(ROOT / "run_sweep.py"), spec, "--runs", runs]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=300, check=False)


def names(place: str) -> list[str]:
    bucket, _, folder = place.removeprefix("s3://").partition("/")
    return [entry["Key"] for entry in boto3.client("s3").list_objects_v2(Bucket=bucket, Prefix=f"{folder}/")["Contents"]]


def test_two_sweeps_of_two_machines_share_a_folder(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.yaml").write_text(SWEEP % "base")
    (tmp_path / "two.yaml").write_text(SWEEP % "plain" + "evaluate: [retrieval, silhouette, {protocol: retrieval, settings: {clips: 1}}]\n")
    cells = [replace(cell, config=resolve(cell.config)) for cell in expand(load_sweep(tmp_path / "one.yaml"))]
    monkeypatch.setenv("VIDIDI_CACHE", str(tmp_path / "three"))
    checksum = ensure_prepared(cells[0].config).manifest.checksum
    runs, uri = mirror.local_path(f"{bucket}/runs/shared"), f"{bucket}/runs"
    with RunFolder(cells[1].find_folder(runs, checksum)).locked():
        first = run(tmp_path, "one", "one.yaml", uri)
    assert first.returncode == 1, first.stdout + first.stderr
    assert "base-s0: finished" in first.stdout
    assert "vididi-s0: run by another driver" in first.stdout
    assert "not finished: vididi-s0: run by another driver; run the same command again to go on\n    in s3://" in first.stdout
    assert not any(name.endswith("error.txt") for name in names(uri))
    second = run(tmp_path, "two", "two.yaml", uri)
    assert second.returncode == 0, second.stdout + second.stderr
    assert f"2 cells, 1 finished before, 1 to run, in {bucket}/runs/shared" in second.stdout
    assert "evaluations: 2 of 2 runs, 2 to make" in second.stdout
    assert sum(name.endswith("/result.json") for name in names(uri)) == 4  # two cells, and an evaluation of each
    assert not any(".owner-" in name or "/." in name for name in names(uri))
    assert paper_table.main(["vididi_table_6", f"{uri}/shared"]) == 0
    table = capsys.readouterr().out.strip()
    assert table in second.stdout
    assert "no runs" not in next(line for line in table.splitlines() if line.startswith("| Base (VICReg)"))
    assert run_sweep.main(["compare", "base", "vididi", "--runs", f"{uri}/shared"]) == 0
    assert "difference " in capsys.readouterr().out


def test_a_search_in_a_store_goes_on_from_another_machine(bucket: str, tmp_path: Path) -> None:
    for machine, trials, said in (("one", 3, "0 of 3 cells drawn before"), ("two", 5, "3 of 5 cells drawn before")):
        (tmp_path / "search.yaml").write_text(SEARCH.replace("TRIALS", str(trials)))
        done = run(tmp_path, machine, "search.yaml", f"{bucket}/runs")
        assert done.returncode == 0, done.stdout + done.stderr
        assert said in done.stdout
        ended = [name for name in names(f"{bucket}/runs/found") if name.endswith(("/result.json", "/stopped.json"))]
        assert len(ended) == trials
    assert f"early stopping: {sum(name.endswith('/stopped.json') for name in ended)} of 5 cells, " in done.stdout, "of both machines"
    assert any(name.endswith("/stopped.json") for name in ended)
