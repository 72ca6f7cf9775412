"""The process that outlives a driver and ends the Ray that it left behind.

Run as a file, with the folder of that Ray; it imports nothing but the standard library.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MARK = "VIDIDI_RAY"  # in the environment of every process of a Ray of our own: its folder
OWNER = "owner.json"  # in the folder: the driver's pid, and when it was started
GRACE_S = 2.0  # for what ends by itself, before it is killed
LONGEST_S = 20.0  # for all of it


def main(folder: str) -> None:
    """Wait until the driver has ended; then end the processes of its Ray and remove the folder."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they are the driver's to handle
    sys.stdin.buffer.read()  # ends with the driver, which alone holds the other end
    end_processes(folder)
    shutil.rmtree(folder, ignore_errors=True)


def end_processes(folder: str) -> None:
    """End the processes of a Ray, those that do not end by themselves by SIGKILL."""
    begun = time.monotonic()
    while time.monotonic() - begun < LONGEST_S:
        left = list(processes_of(folder))
        if not left:
            break
        number = signal.SIGTERM if time.monotonic() - begun < GRACE_S else signal.SIGKILL
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        time.sleep(0.2)


def processes_of(folder: str) -> Iterator[int]:
    """The processes of a Ray of our own."""
    return processes_with(f"{MARK}={folder}")


def processes_with(variable: str) -> Iterator[int]:
    """The processes but this one that were started with this, NAME=VALUE, in their environment."""
    wanted = variable.encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    yield int(entry.name)


def started_at(pid: int) -> str:
    """When a process was started, in the kernel's ticks; a later one of the same number differs."""
    return stat_of(pid)[19]


def stat_of(pid: int) -> list[str]:
    """What the kernel says of a process after its name, of which the first is its state.

    Raises:
        OSError: there is none of that number.
    """
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def is_alive(pid: int, started: str) -> bool:
    """Whether the process of that number and start is there."""
    try:
        return started_at(pid) == started
    except OSError:
        return False


if __name__ == "__main__":
    main(sys.argv[1])
