"""A sweep that a signal asks to end: its cells write their checkpoints, alone and with several
workers, and nothing of its Ray stays.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from programs import cluster_of, processes_below

from tests.tiny_sweep import BASE
from vididi.runs.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
# None of the checkpoints is written by itself.
LONG = f"""name: long
{BASE}  training: {{epochs: 2000, batch_size: 8, threads: 1, checkpoint_epochs: 2000}}
arms: {{one: {{}}}}
"""

pytestmark = pytest.mark.ray


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder for sockets, whose path may not be as long as pytest's are."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def sweep(tmp_path: Path, short_folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """``sweep(text)``: run_sweep.py at work on that sweep file, in a group of processes of its
    own, as a shell starts it.
    """
    processes = []

    def start(text: str, *more: str) -> subprocess.Popen[str]:
        (tmp_path / "long.yaml").write_text(text)
        values = {"RAY_TMPDIR": str(short_folder), "VIDIDI_CACHE": str(tmp_path), "COLUMNS": "200"}
        with (tmp_path / "printed").open("w") as printed:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "run_sweep.py"), "long.yaml", "--grace", "300", *more],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", **values},
                stdout=printed,
                stderr=printed,
                start_new_session=True,
            )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def until(condition: Callable[[], Any], process: subprocess.Popen[str], place: Path) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert process.poll() is None, (place / "printed").read_text()
        assert time.monotonic() < deadline, (place / "printed").read_text()
        time.sleep(0.05)


def at_work(place: Path) -> list[Path]:
    """The run folders in which epochs were trained."""
    return sorted(path.parent for path in place.glob("runs/long/one-*/metrics.jsonl"))


def assert_ended(process: subprocess.Popen[str], number: signal.Signals, place: Path) -> str:
    """By a signal to the whole group, as a terminal and `timeout` send it; what it printed."""
    children = processes_below(process.pid)
    os.killpg(process.pid, number)
    status, printed = process.wait(600), (place / "printed").read_text()
    assert status == 128 + number, printed
    again = "To go on:  python run_sweep.py long.yaml --grace 300"
    assert f"interrupted by {number.name}; nothing finished is lost. {again}" in printed
    for word in ("Traceback", "Check failure", "*** SIG", "failed"):
        assert word not in printed, printed
    assert not psutil.wait_procs(children, timeout=60)[1]
    return printed


def test_cells_write_their_checkpoints_and_those_that_wait_do_not_begin(
    sweep: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = sweep(LONG + "seeds: [0, 1, 2]\nresources: {concurrency: 2}\n")
    until(lambda: len(at_work(tmp_path)) == 2, process, tmp_path)
    printed = assert_ended(process, signal.SIGTERM, tmp_path)
    folders = at_work(tmp_path)
    assert len(folders) == 2, printed
    for folder in folders:
        checkpoint = RunFolder(folder).load_checkpoint(torch.device("cpu"))
        assert checkpoint is not None, printed
        assert checkpoint["step"] // 3 == RunFolder(folder).epochs
        assert not (folder / "error.txt").exists()
    assert printed.count(": interrupted after ") == 2
    assert "not begun: 1 cell" in printed
    assert not (tmp_path / "runs" / "long" / ".tune").exists() or not any(
        (tmp_path / "runs" / "long" / ".tune").iterdir()
    )


def test_workers_of_one_cell_end_at_the_same_step(
    sweep: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = sweep(LONG + "seeds: [0]\nresources: {workers: 2, cpus_per_worker: 1}\n")
    until(lambda: at_work(tmp_path), process, tmp_path)
    printed = assert_ended(process, signal.SIGHUP, tmp_path)
    (folder,) = at_work(tmp_path)
    checkpoint = RunFolder(folder).load_checkpoint(torch.device("cpu"))
    assert checkpoint is not None, printed
    assert checkpoint["step"] // 3 == RunFolder(folder).epochs
    assert printed.count(": interrupted after ") == 1


def test_on_a_cluster_its_cell_writes_its_checkpoint_and_the_cluster_is_left(
    sweep: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    with cluster_of(cpus=4) as address:
        process = sweep(LONG + "seeds: [0]\n", "--address", address)
        until(lambda: at_work(tmp_path), process, tmp_path)
        assert_ended(process, signal.SIGTERM, tmp_path)
        (folder,) = at_work(tmp_path)
        checkpoint = RunFolder(folder).load_checkpoint(torch.device("cpu"))
        assert checkpoint is not None
        assert checkpoint["step"] // 3 == RunFolder(folder).epochs
        assert not processes_below(os.getpid(), "ray::ImplicitFunc")
        assert len(processes_below(os.getpid(), "raylet/raylet")) == 1


def test_while_ray_starts_it_waits_until_ray_has(
    sweep: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = sweep(LONG)
    until(
        lambda: processes_below(process.pid, "gcs_server"),
        process,
        tmp_path,
    )
    children = processes_below(process.pid)
    os.killpg(process.pid, signal.SIGTERM)
    status, printed = process.wait(600), (tmp_path / "printed").read_text()
    assert status == 143, printed
    assert "interrupted by SIGTERM; nothing finished is lost. To go on:  python " in printed
    for word in ("Traceback", "Check failure", "*** SIG", ": started"):
        assert word not in printed, printed
    assert not psutil.wait_procs(children, timeout=60)[1]
    assert not at_work(tmp_path)
