"""Searches and early stopping as a user runs them: run_sweep.py on one cluster; the one that is
interrupted in a process of its own, with a Ray of its own.
"""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import takewhile
from pathlib import Path

import pytest
from programs import cluster_of, run_here

ROOT = Path(__file__).resolve().parents[2]

BASE = """
name: {name}
base:
  data: {{name: motion, train: 24, test: 20, size: 32, frames: 24}}
  prepare: {{short_side: 20}}
  clip: {{frames: 4, stride: 2, size: 16}}
  augment: {{name: vididi, crop_scale: [0.3, 1.0], hue: 0.0}}
  objective: {{name: vicreg, hidden: 16, out: 16}}
  backbone: {{name: r3d_tiny, width: 2}}
  optimiser: {{name: lars}}
  training: {{epochs: {epochs}, batch_size: 12}}
  evaluation: {{clips: 2, frames: 4, stride: 2}}
"""
SEARCH = """
search:
  name: optuna
  trials: 3
  space:
    order: {choice: [1, 2]}
    schedule.weights.0-0: {uniform: [0.1, 1]}
    schedule.weights.1-1: {uniform: [0.1, 1]}
    schedule.weights.2-1: {uniform: [0.1, 1], when: {order: 2}}
resources: {hold_data: true, concurrency: 2}  # its cells need no stream; STOPPING's have one
"""
STOPPING = """
  evaluation.online: {every: 1, train: 24, test: 20}
axes: {optimiser.lr: [1.2, 0.1, 0.01, 0.001, 0.0001]}
stopping: {name: asha, grace: 1, reduction: 2}
"""
WARM = """
  evaluation.online: {every: 1, train: 24, test: 20}
search:
  name: optuna
  trials: 3
  metrics: {retrieval/R@1: max, seconds: min}
  space:
    order: {choice: [0, 1, 2]}
    optimiser.lr: {log: [0.00001, 2]}
  warm_start: [runs/early]
  confirm: {against: runs/early, top: 2, choose_seeds: [1], seeds: [2]}
stopping: {name: asha, grace: 2, reduction: 2}
resources: {hold_data: true, concurrency: 1}  # a process that imports torch takes longer than its cells
"""
TWO_WORKERS = """
  evaluation.online: {every: 1, train: 24, test: 20}
arms: {good: {optimiser.lr: 1.2}, bad: {optimiser.lr: 0.00001, training.epochs: 400}}
stopping: {name: asha, grace: 2, reduction: 2}
resources: {workers: 2, cpus_per_worker: 1, concurrency: 1, hold_data: true}
"""

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def address():
    with cluster_of(cpus=4) as address:
        yield address


@pytest.fixture
def run(place, address):
    """``run(*arguments)``: run_sweep.py on the cluster."""
    return lambda *arguments: run_here(place, *arguments, "--address", address)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    path = tmp_path_factory.mktemp("search")
    (path / "search.yaml").write_text(BASE.format(name="found", epochs=60) + SEARCH)
    (path / "warm.yaml").write_text(BASE.format(name="warm", epochs=8) + WARM)
    (path / "workers.yaml").write_text(BASE.format(name="workers", epochs=8) + TWO_WORKERS)
    (path / "stopping.yaml").write_text(BASE.format(name="early", epochs=8) + STOPPING)
    return path


def test_a_search_interrupted_once_says_how_to_go_on_and_ends_as_if_it_had_not_been(place, run):
    environment = {
        "VIDIDI_CACHE": str(place / "cache"),
        "COLUMNS": "200",
        "PYTHONWARNINGS": "ignore",
    }
    with (place / "first.txt").open("w+") as out:
        started = {
            "cwd": place,
            "env": {**os.environ, **environment},
            "stdout": out,
            "stderr": subprocess.STDOUT,
            "start_new_session": True,
        }
        command = [sys.executable, str(ROOT / "run_sweep.py"), "search.yaml"]
        with subprocess.Popen(command, **started) as driver:
            wait_for_epochs(place / "runs" / "found", 8)
            os.killpg(driver.pid, signal.SIGINT)  # Ctrl-C reaches every process of a terminal
        first = (place / "first.txt").read_text()
    assert driver.returncode == 130, first
    assert "To go on:  python run_sweep.py search.yaml" in first
    done = run("search.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "search: 3 of 3 cells drawn" in done.stdout
    results = [
        json.loads(path.read_text()) for path in (place / "runs" / "found").glob("*/result.json")
    ]
    assert len(results) == 3
    assert any(result["resumed_from_step"] for result in results), (
        "what was interrupted went on from its checkpoint"
    )
    best = max(result["retrieval/R@1"] for result in results)
    assert f"retrieval/R@1 {best:.4g}: order" in done.stdout


def test_a_search_tries_failed_cells_again_when_asked(place, run):
    """After the search above: one of its cells is made to look as one that failed at its end."""
    path = min((place / "runs" / "found").glob("*/result.json"))
    before = json.loads(path.read_text())
    path.unlink()
    (path.parent / "error.txt").write_text("its node was lost\n")
    status = run_here(place, "status", "search.yaml")
    assert (status.returncode, "3 cells so far, 1 failed, 2 finished" in status.stdout) == (
        1,
        True,
    ), status.stdout
    same = run("search.yaml")
    assert same.returncode == 1
    assert "3 of 3 cells drawn, 0 of them run now" in same.stdout
    assert "its node was lost" in same.stdout
    assert "run_sweep.py rerun ... --failed tries them again" in same.stdout
    done = run("rerun", "search.yaml", "--failed")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 failed and to be run again" in done.stdout
    assert "3 of 3 cells drawn, 1 of them run now" in done.stdout
    assert json.loads(path.read_text())["retrieval/R@1"] == before["retrieval/R@1"]


def test_cells_are_stopped_early_stay_so_and_go_on_when_asked(place, run):
    first = run("stopping.yaml")
    assert first.returncode == 0, first.stdout + first.stderr
    folders = sorted((place / "runs" / "early").glob("early-*"))
    stopped = {
        folder: json.loads((folder / "stopped.json").read_text())
        for folder in folders
        if (folder / "stopped.json").exists()
    }
    finished = [folder for folder in folders if (folder / "result.json").exists()]
    assert len(folders) == len(stopped) + len(finished) == 5
    assert stopped, first.stdout
    assert finished
    for folder, found in stopped.items():
        epochs = [
            json.loads(line)["epoch"]
            for line in (folder / "metrics.jsonl").read_text().splitlines()
        ]
        assert epochs == list(range(1, found["epoch"] + 1)), "it ended where it was stopped"
        assert (folder / "best.safetensors").exists()
        assert f"at epoch {found['epoch']} of 8" in first.stdout
    saved = sum(8 - found["epoch"] for found in stopped.values())
    assert f"early stopping: {len(stopped)} of 5 cells, {saved} of 40 epochs saved" in first.stdout
    assert (
        f"{len(finished)} finished before, {len(stopped)} stopped early before, 0 to run"
        in run("stopping.yaml").stdout
    )
    on = run("stopping.yaml", "--no-stopping")
    assert on.returncode == 0, on.stdout + on.stderr
    assert all(
        (folder / "result.json").exists() and not (folder / "stopped.json").exists()
        for folder in folders
    )
    assert all(
        json.loads((folder / "result.json").read_text())["resumed_from_step"] for folder in stopped
    )


def test_the_audit_replays_the_finished_curves_without_training(place, run):
    before = {path: path.stat().st_mtime_ns for path in (place / "runs" / "early").rglob("*")}
    audit = run("stopping.yaml", "--audit-stopping")
    assert audit.returncode == 0, audit.stdout + audit.stderr
    assert (
        audit.stdout.count("would have finished")
        + audit.stdout.count("would have been stopped at epoch")
        == 5
    )
    assert "of 40 epochs" in audit.stdout
    assert "the best cell, early-lr=" in audit.stdout
    assert "rule: asha on online/knn, grace 1 epoch, reduction 2" in audit.stdout
    assert "rule: median on online/knn" in run("stopping.yaml", "--audit-stopping", "median").stdout
    assert before == {
        path: path.stat().st_mtime_ns for path in (place / "runs" / "early").rglob("*")
    }
    refused = run("search.yaml", "--audit-stopping")
    assert refused.returncode == 2
    assert "none of the 3 finished cells in" in refused.stderr


def test_a_search_that_a_grid_warmed_is_held_against_the_grid_s_best(place, run):
    """After the grid above has finished. With two metrics, early stopping, and both of confirm's
    steps.
    """
    done = run("warm.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 of 5 runs known before" in done.stdout
    assert "search: 3 of 3 cells drawn, 3 of them run now" in done.stdout
    assert "the points that none surpasses in all metrics:\n  retrieval/R@1 " in done.stdout
    lines = done.stdout.split("chosen by retrieval/R@1 over seeds 1:\n")[1].splitlines()
    chosen = list(takewhile(lambda line: line[:2] in ("* ", "  "), lines))
    assert len(chosen) in (2, 3), "the best two, and the grid's best arm where it is neither"
    values = [float(line[2:].split(" (1 seed): ")[0]) for line in chosen]
    assert chosen[values.index(max(values))].startswith("* ")
    folders = {
        path.parent.name.rsplit("-", 1)[0]
        for path in (place / "runs" / "warm").glob("*/result.json")
    }
    assert sum(name.endswith("-s2") for name in folders) in (
        0,
        2,
    ), "both are trained with the fresh seed, or they are the same"
    same = "confirm: the search found nothing better than the grid's best arm" in done.stdout
    assert same != ("the 95% bound is above -3.0 points:" in done.stdout)


def test_a_cell_of_two_workers_is_stopped_early_and_makes_room(place, run):
    done = run("workers.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    (stopped,) = (place / "runs" / "workers").glob("*/stopped.json")
    (finished,) = (place / "runs" / "workers").glob("*/result.json")
    assert (stopped.parent.name[:4], finished.parent.name[:5]) == ("bad-", "good-")
    epochs = [
        json.loads(line)["epoch"]
        for line in (stopped.parent / "metrics.jsonl").read_text().splitlines()
    ]
    # Its workers train on until the word reaches them, for however many of these tiny epochs.
    assert epochs == list(range(1, len(epochs) + 1))
    assert json.loads(stopped.read_text())["epoch"] <= len(epochs) < 400
    assert f"early stopping: 1 of 2 cells, {400 - len(epochs)} of 408 epochs saved" in done.stdout


def wait_for_epochs(runs, count):
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if any(
            len(path.read_text().splitlines()) >= count for path in runs.glob("*/metrics.jsonl")
        ):
            return
        time.sleep(0.01)
    pytest.fail(f"no cell reached {count} epochs")
