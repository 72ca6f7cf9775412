"""A sweep whose workers stand still or take too much memory goes on, and says what happened; and
what else cells say reaches the screen.
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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from programs import processes_below, run_here

from tests.tiny_sweep import BASE
from vididi.runs.file_names import CHECKPOINT, ENCODER, PREVIOUS
from vididi.runs.readers import read_result

ROOT = Path(__file__).resolve().parents[2]
TRAINED = "training: {epochs: 60, batch_size: 8, threads: 1, checkpoint_epochs: 5}"
LONG = f"name: long\n{BASE}  {TRAINED}\narms: {{one: {{}}}}\n"
WAIT_S = 600

pytestmark = pytest.mark.ray


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """With a folder for sockets, whose path may not be as long as pytest's are."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    (tmp_path / "sockets").symlink_to(folder)
    yield tmp_path
    shutil.rmtree(folder, ignore_errors=True)


def environment(place: Path) -> dict[str, str]:
    sockets = str((place / "sockets").resolve())
    more = {"RAY_TMPDIR": sockets, "VIDIDI_CACHE": str(place), "COLUMNS": "300"}
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", **more}


def until(condition: Callable[[], Any], place: Path) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, (place / "printed").read_text()
        time.sleep(0.02)
    return found


@contextmanager
def running(place: Path, resources: str) -> Iterator[subprocess.Popen]:
    """The sweep at work; it is ended here unless it has ended by itself."""
    (place / "long.yaml").write_text(f"{LONG}resources: {resources}\n")
    with (place / "printed").open("w") as printed:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "run_sweep.py"), "long.yaml"],
            cwd=place,
            env=environment(place),
            stdout=printed,
            stderr=printed,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def run_with_a_still_worker(place: Path, resources: str) -> tuple[Path, str]:
    """Run the sweep; the first worker that is seen at work after a checkpoint is stopped. The run
    folder of its cell, which has gone on from there, and what was printed.
    """
    with running(place, resources) as process:
        until(lambda: list(place.glob(f"runs/long/one-*/{CHECKPOINT}")), place)
        beside = processes_below(process.pid, "watchdog.py")
        os.kill(beside[-1].ppid(), signal.SIGSTOP)
        assert process.wait(WAIT_S) == 0, (place / "printed").read_text()
    (folder,) = place.glob("runs/long/one-*")
    result = read_result(folder)
    assert result is not None
    assert result["resumed_from_step"] >= 15
    return folder, (place / "printed").read_text()


def test_a_cell_whose_process_stands_still_goes_on(place: Path) -> None:
    folder, printed = run_with_a_still_worker(place, "{hang_s: 1, max_failures: 9}")
    assert f"{folder.name}: its process was ended: it hung: no step ended for " in printed
    assert "started again after its process died" in printed
    assert "it hung" in (folder / "watchdog.txt").read_text()
    assert not list(folder.glob(".watchdog-*"))


def test_a_cell_of_two_workers_of_which_one_stands_still_goes_on(place: Path) -> None:
    folder, printed = run_with_a_still_worker(place, "{workers: 2, hang_s: 1, max_failures: 9}")
    assert f"{folder.name}: " in printed
    assert "was ended: it hung: no step ended for " in printed


def test_a_worker_that_is_stopped_when_its_work_is_done_keeps_nobody_waiting(place: Path) -> None:
    """No watchdog is beside it any more; Ray Train alone waits for ten minutes."""
    with running(place, "{workers: 2, hang_s: 2}") as process:
        until(lambda: list(place.glob("runs/long/one-*/result.json")), place)
        until(lambda: not processes_below(process.pid, "watchdog.py"), place)
        workers = processes_below(process.pid, "RayTrainWorker")
        for worker in workers:
            worker.suspend()
        assert process.wait(120) == 0, (place / "printed").read_text()
    said = " ".join((place / "printed").read_text().split())
    assert workers
    assert "of Ray, was ended: it had been stopped (SIGSTOP) for" in said


def test_a_cell_that_takes_more_memory_than_it_may_says_so(place: Path) -> None:
    (place / "long.yaml").write_text(f"{LONG}resources: {{memory: 0.1, max_failures: 1}}\n")
    ended = run_here(place, "long.yaml")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    (folder,) = place.glob("runs/long/one-*")
    for text in (" ".join(ended.stdout.split()), (folder / "error.txt").read_text()):
        assert "its process was ended: it took 0." in text, ended.stdout + ended.stderr
        assert " GiB of memory, more than 0.1 (resources.memory)" in text
    assert not (folder / ENCODER).exists()


def test_what_a_cell_says_of_its_files_is_on_the_screen(place: Path) -> None:
    (place / "long.yaml").write_text(LONG.replace("epochs: 60", "epochs: 10"))
    first = run_here(place, "long.yaml")
    assert first.returncode == 0, first.stdout + first.stderr
    (folder,) = place.glob("runs/long/one-*")
    for name in ("result.json", ENCODER):
        (folder / name).unlink()
    (folder / PREVIOUS).write_bytes((folder / CHECKPOINT).read_bytes())
    (folder / CHECKPOINT).write_bytes((folder / CHECKPOINT).read_bytes()[:-100])
    second = run_here(place, "long.yaml")
    assert second.returncode == 0, second.stdout + second.stderr
    said = " ".join((second.stdout + second.stderr).split())
    assert f"set aside as {CHECKPOINT}.damaged-1" in said
    assert f"{folder.name}: goes on from {PREVIOUS}, the one before" in said
