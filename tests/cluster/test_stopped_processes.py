"""Processes of a Ray of our own that somebody stopped are ended, others are not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from vididi.cluster import stopped_processes
from vididi.cluster.guardian import MARK
from vididi.cluster.stopped_processes import LOOK_S, StoppedProcesses

ROOT = Path(__file__).resolve().parents[2]
HANG_S = 4.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stopped_processes, "time", clock)
    return clock


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """One of the Ray in the folder, and one of another."""
    command = [sys.executable, "-c", "print(flush=True); input()"]
    started = [
        subprocess.Popen(
            command,
            env={**os.environ, MARK: str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for folder in (tmp_path, tmp_path / "other")
    ]
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()
    yield started
    for process in started:
        process.kill()
        process.communicate()


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)


def looks(stopped: StoppedProcesses, clock: Clock, count: int, seconds: float = LOOK_S) -> None:
    for _ in range(count):
        clock.now += seconds
        stopped.look()
        time.sleep(0.02)


def test_one_that_stays_stopped_is_ended_and_told_of(
    tmp_path: Path,
    processes: list[subprocess.Popen[bytes]],
    clock: Clock,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stopped, (ours, other) = StoppedProcesses(tmp_path, HANG_S), processes
    for process in processes:
        stop(process)
    looks(stopped, clock, 4)
    assert ours.poll() is None
    looks(stopped, clock, 1)
    assert ours.wait(10) == -signal.SIGKILL
    assert other.poll() is None
    said = capsys.readouterr().err
    assert f"process {ours.pid} of Ray, was ended: it had been stopped (SIGSTOP) for 10 s" in said
    assert "more than 8 s (twice resources.hang_s)" in " ".join(said.split())


def test_one_that_goes_on_in_between_is_left(
    tmp_path: Path, processes: list[subprocess.Popen[bytes]], clock: Clock
) -> None:
    stopped, (ours, _) = StoppedProcesses(tmp_path, HANG_S), processes
    for _ in range(3):
        stop(ours)
        looks(stopped, clock, 4)
        ours.send_signal(signal.SIGCONT)
        os.waitid(os.P_PID, ours.pid, os.WCONTINUED)
        looks(stopped, clock, 1)
    assert ours.poll() is None


def test_while_this_process_stood_still_nothing_was_stopped_for_long(
    tmp_path: Path, processes: list[subprocess.Popen[bytes]], clock: Clock
) -> None:
    """The machine was asleep, or the whole sweep was stopped."""
    stopped, (ours, _) = StoppedProcesses(tmp_path, HANG_S), processes
    stop(ours)
    looks(stopped, clock, 2, seconds=86400)
    assert ours.poll() is None


def test_one_with_a_watchdog_is_left_to_it(
    tmp_path: Path, processes: list[subprocess.Popen[bytes]], clock: Clock
) -> None:
    """But for one whose watchdog was stopped, too."""
    body = (
        "import sys, threading\nfrom pathlib import Path\n"
        "from vididi.cluster.worker_watch import watched\n"
        "def work():\n    with watched(Path(sys.argv[1]), 0, 3600, None):\n"
        "        print(flush=True)\n        input()\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join()\n"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", body, str(tmp_path)],
        env={**os.environ, MARK: str(tmp_path), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert worker.stdout is not None
        worker.stdout.readline()
        stopped = StoppedProcesses(tmp_path, HANG_S)
        stop(worker)
        looks(stopped, clock, 8)
        assert worker.poll() is None
        (beside,) = psutil.Process(worker.pid).children()
        beside.suspend()
        looks(stopped, clock, 8)
        assert worker.wait(10) == -signal.SIGKILL
    finally:
        worker.kill()
        worker.communicate()


def test_without_a_limit_none_is_ended(
    tmp_path: Path, processes: list[subprocess.Popen[bytes]], clock: Clock
) -> None:
    stopped, (ours, _) = StoppedProcesses(tmp_path, 0), processes
    stop(ours)
    looks(stopped, clock, 10)
    assert ours.poll() is None
