"""A watchdog beside a worker: what it ends, what it leaves alone, and what it says. Each worker is
a process of its own. Sweeps are in test_hanging_sweep.py.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from vididi.cluster.worker_watch import say_why_ended, watched, why_ended
from vididi.heartbeat import FACTOR, REST, beat, beating, rest
from vididi.news import telling
from vididi.watchdog import LIFE

ROOT = Path(__file__).resolve().parents[2]
WORKER = """
import ctypes, sys, time
from pathlib import Path
from vididi.cluster.worker_watch import watched
from vididi.heartbeat import beat, rest

def a_stuck_decoder(seconds):
    {hang}

hang_s, memory = float(sys.argv[1]), float(sys.argv[2]) or None
with watched(Path("run"), 0, hang_s, memory):
    for _ in range(8):
        beat()
        time.sleep(0.02)
    print("at work", flush=True)
    {then}
print("whole", flush=True)
"""
ASLEEP, HOLDING_THE_LOCK = "time.sleep(seconds)", "ctypes.PyDLL(None).sleep(int(seconds))"
HANGS = "a_stuck_decoder(60)"


@contextmanager
def worker(
    place: Path, then: str, hang_s: float = 1.0, memory: float = 0.0, hang: str = ASLEEP
) -> Iterator[subprocess.Popen[str]]:
    (place / "run").mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER.format(hang=hang, then=then), str(hang_s), str(memory)],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def files(place: Path) -> list[str]:
    return sorted(path.name for path in (place / "run").iterdir())


@pytest.mark.parametrize("hang", [ASLEEP, HOLDING_THE_LOCK])
def test_a_worker_that_hangs_is_ended_and_where_it_was_is_kept(tmp_path: Path, hang: str) -> None:
    with worker(tmp_path, HANGS, hang=hang) as process:
        assert process.wait(50) == -signal.SIGKILL
    assert files(tmp_path) == [".watchdog-0", "watchdog.txt"]
    record = (tmp_path / "run" / "watchdog.txt").read_text()
    assert " it hung: no step ended for " in record
    assert "more than 1 s (resources.hang_s)" in record
    assert "in a_stuck_decoder" in record


def test_what_was_said_is_said_once(tmp_path: Path) -> None:
    with worker(tmp_path, HANGS) as process:
        process.wait(50)
    said: list[str] = []
    with telling(said.append):
        say_why_ended(tmp_path / "run", 1)
        say_why_ended(tmp_path / "run", 0)
        say_why_ended(tmp_path / "run", 0)
    assert len(said) == 1
    assert said[0].startswith("run: its process was ended: it hung: no step ended for ")
    assert said[0].endswith("(resources.hang_s); it has started again")
    assert files(tmp_path) == ["watchdog.txt"]
    (tmp_path / "run" / ".watchdog-1").write_text("it hung")
    assert why_ended(tmp_path / "run") == "worker 1 was ended: it hung"
    assert why_ended(tmp_path / "run") == ""


def test_a_worker_that_stands_still_alone_hangs(tmp_path: Path) -> None:
    with worker(tmp_path, "[(beat(), time.sleep(0.02)) for _ in range(5000)]") as process:
        process.send_signal(signal.SIGSTOP)
        assert process.wait(50) == -signal.SIGKILL


def test_a_gap_that_the_watchdog_shares_is_no_hang(tmp_path: Path) -> None:
    with worker(tmp_path, "[(beat(), time.sleep(0.02)) for _ in range(200)]") as process:
        both = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
        assert len(both) == 2
        for one in both:
            one.suspend()
        time.sleep(4)
        for one in reversed(both):
            one.resume()
        out, _ = process.communicate(timeout=50)
        assert out == "whole\n"
    assert files(tmp_path) == []


def test_what_is_no_step_may_take_longer(tmp_path: Path) -> None:
    with worker(tmp_path, "rest(); time.sleep(4)") as process:
        out, _ = process.communicate(timeout=50)
        assert out == "whole\n"


def test_a_worker_that_takes_too_much_memory_is_ended(tmp_path: Path) -> None:
    with worker(tmp_path, "x = bytearray(600 << 20); time.sleep(60)", 0, 0.5) as process:
        assert process.wait(50) == -signal.SIGKILL
    record = (tmp_path / "run" / "watchdog.txt").read_text()
    assert "it took 0." in record
    assert " GiB of memory, more than 0.5 (resources.memory)" in record


def test_without_limits_nothing_watches(tmp_path: Path) -> None:
    with worker(tmp_path, "time.sleep(3)", 0) as process:
        assert psutil.Process(process.pid).children() == []


def test_a_watchdog_ends_with_its_worker(tmp_path: Path) -> None:
    with worker(tmp_path, HANGS, 100) as process:
        (watchdog,) = psutil.Process(process.pid).children()
        process.kill()
        process.wait()
        watchdog.wait(50)


def test_the_limit_follows_the_median_step(monkeypatch: pytest.MonkeyPatch) -> None:
    life, now = memoryview(bytearray(LIFE.size)), [0.0]
    monkeypatch.setattr("vididi.heartbeat.time.monotonic", lambda: now[0])

    def limit() -> float:
        return LIFE.unpack_from(life)[1]

    with beating(life, 60.0):  # type: ignore[arg-type]
        assert limit() == REST * 60
        beat()
        assert limit() == REST * 60  # no step is known yet
        for seconds in (10.0, 10.0, 500.0):
            now[0] += seconds
            beat()
        assert limit() == FACTOR * 10
        rest()
        assert limit() == REST * 60
        beat()
        now[0] += 0.5
        beat()
        assert limit() == 60
    with beating(life, float("inf")):  # type: ignore[arg-type]
        assert limit() == float("inf")


def test_hang_s_0_and_a_limit_of_memory_watch_memory_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with watched(tmp_path / "run", 0, 0, 1000):
        time.sleep(1.5)
    assert files(tmp_path) == []
