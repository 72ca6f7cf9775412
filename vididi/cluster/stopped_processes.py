"""Ends processes of a Ray of our own that somebody has stopped and does not let go on.

A watchdog is beside a worker only while it trains or measures (vididi.cluster.worker_watch), and
what is its to judge is left to it. At other times, and of Ray's own processes, nobody else notices:
Tune waits for ever, and Ray Train for ten minutes (Ray 2.60).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from vididi import watchdog
from vididi.cluster.guardian import processes_of, started_at, stat_of
from vididi.news import tell

LOOK_S = 2.0  # between looks
FACTOR = 2  # times hang_s


class StoppedProcesses:
    """Those of the Ray in ``folder``.

    Args:
        hang_s: a process that is stopped for FACTOR times as long is ended [seconds]. 0: none is.
    """

    def __init__(self, folder: Path, hang_s: float) -> None:
        self.folder, self.limit_s = folder, FACTOR * hang_s
        self.last = time.monotonic()
        self.stopped_s: dict[tuple[int, str], float] = {}

    def look(self) -> None:
        """End those that are stopped for too long, and tell so; nothing within LOOK_S of the last
        look.
        """
        passed = time.monotonic() - self.last
        if not self.limit_s or passed < LOOK_S:
            return
        self.last += passed
        # Of a longer while no more, as this process did not run either.
        passed = min(passed, 2 * LOOK_S)
        before, self.stopped_s = self.stopped_s, {}
        for process in _stopped(self.folder):
            stopped_s = before.get(process, 0.0) + passed
            if stopped_s > self.limit_s:
                self._end(process[0], stopped_s)
            else:
                self.stopped_s[process] = stopped_s

    def _end(self, pid: int, stopped_s: float) -> None:
        with suppress(OSError):
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            os.kill(pid, signal.SIGKILL)
            tell(
                f"{name}, process {pid} of Ray, was ended: it had been stopped (SIGSTOP) for"
                f" {stopped_s:.0f} s, which is more than {self.limit_s:g} s (twice"
                " resources.hang_s)"
            )


def _stopped(folder: Path) -> Iterator[tuple[int, str]]:
    """The number and the start of each process that a signal has stopped; a debugger's are none."""
    stopped = {}
    for pid in (int(entry.name) for entry in Path("/proc").glob("[0-9]*")):
        with suppress(OSError):
            if stat_of(pid)[0] == "T":
                stopped[pid] = started_at(pid)
    if stopped:
        for pid in processes_of(str(folder)):
            if pid in stopped and not _has_watchdog(pid, stopped.keys()):
                yield pid, stopped[pid]


def _has_watchdog(pid: int, stopped: Collection[int]) -> bool:
    """Whether one is beside a process, and at work."""
    with suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):  # of each thread
            for child in map(int, children.read_text().split()):
                command = Path(f"/proc/{child}/cmdline").read_bytes()
                if child not in stopped and os.fsencode(watchdog.__file__) in command:
                    return True
    return False
