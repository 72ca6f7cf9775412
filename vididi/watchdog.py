"""The process beside a worker that ends it where it hangs, or takes more memory than it may.

It is a process of its own, as a worker that hangs in C may hold Python's lock, and one that was
stopped runs no thread. It counts its own ticks: what makes it stand still too (the machine asleep,
a SIGSTOP for both, cores that others keep) is no hang.

Run as a file by vididi.cluster.worker_watch; it imports nothing but the standard library.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path

LIFE = struct.Struct("dd")  # how often the worker has beaten; within how many seconds it will again
TICK_S = 0.5
SHOW_STACK = signal.SIGUSR2  # the worker answers it by writing where each of its threads is
STACK_S = 2.0  # for that


def main(pid: int, file: int, stacks: int, memory: int, record: str, note: str) -> None:
    """Watch a process until it ends or closes this one's standard input.

    Args:
        file: descriptor of what it writes LIFE into; stacks: of what it writes its stacks into.
        memory: bytes that it may have for itself; 0: any.
        record: the file that keeps why it was ended, and where it was.
        note: the file that keeps the reason until somebody has said it.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they are the worker's to handle
    life = mmap.mmap(file, LIFE.size, prot=mmap.PROT_READ)
    last, silent, before = time.monotonic(), 0.0, -1.0
    while not select.select([0], [], [], TICK_S)[0]:
        now = time.monotonic()
        # Of a longer tick no more, as this process did not run either.
        silent += min(now - last, 2 * TICK_S)
        last = now
        beats, limit = LIFE.unpack_from(life)
        if beats != before:
            silent, before = 0.0, beats
        reason = _too_silent(silent, limit) or _too_large(pid, memory)
        if reason:
            _write(note, "w", reason)
            _send(pid, SHOW_STACK)
            time.sleep(STACK_S)
            said = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {reason}\n{_read(stacks)}\n"
            _write(record, "a", said)
            _send(pid, signal.SIGKILL)
            return


def _too_silent(silent: float, limit: float) -> str:
    if silent <= limit:
        return ""
    return (
        f"it hung: no step ended for {silent:.0f} s, which is more than {limit:.0f} s"
        " (resources.hang_s)"
    )


def _too_large(pid: int, memory: int) -> str:
    if not memory or (used := own_memory(pid)) <= memory:
        return ""
    return (
        f"it took {used / 2**30:.2f} GiB of memory, more than {memory / 2**30:g} (resources.memory)"
    )


def own_memory(pid: int) -> int:
    """The bytes of memory that a process has for itself, without files and what it shares; 0 where
    that cannot be read.
    """
    with suppress(OSError), Path(f"/proc/{pid}/status").open() as lines:
        for line in lines:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) << 10
    return 0


def _send(pid: int, number: int) -> None:
    if os.getppid() == pid:  # else it has ended, and its number may be another's
        os.kill(pid, number)


def _write(path: str, mode: str, text: str) -> None:
    with suppress(OSError), Path(path).open(mode) as file:  # a disk may be full, a folder gone
        file.write(text)


def _read(file: int) -> str:
    return os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")


if __name__ == "__main__":
    numbers, paths = list(map(int, sys.argv[1:5])), sys.argv[5:]
    main(numbers[0], numbers[1], numbers[2], numbers[3], paths[0], paths[1])
