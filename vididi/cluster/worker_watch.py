"""A watchdog beside each worker, which ends it where it hangs or takes too much memory (its cell
then starts again); and what becomes of the reason.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from vididi import watchdog
from vididi.heartbeat import beating
from vididi.news import tell
from vididi.runs.file_names import WATCHDOG, WATCHDOG_NOTE
from vididi.runs.readers import read_text_note
from vididi.watchdog import LIFE, SHOW_STACK


@contextmanager
def watched(folder: Path, rank: int, hang_s: float, memory: float | None) -> Iterator[None]:
    """With a watchdog beside this process, for what is done in a run folder.

    Args:
        rank: of this worker.
        hang_s: seconds that a step always may take, see vididi.heartbeat. 0: any number.
        memory: that this process may have for itself, in GiB; None: any.
    """
    if not hang_s and memory is None:
        yield
        return
    with ExitStack() as stack:
        # In memory, as a disk may be full when they are needed.
        files = [os.memfd_create(name) for name in ("life", "stacks")]
        for file in files:
            stack.callback(os.close, file)
        os.truncate(files[0], LIFE.size)
        life = stack.enter_context(mmap.mmap(files[0], LIFE.size))
        faulthandler.register(SHOW_STACK, files[1], all_threads=True)
        stack.callback(faulthandler.unregister, SHOW_STACK)
        stack.enter_context(beating(life, hang_s or float("inf")))
        limit = int((memory or 0) * 2**30)
        notes = folder / WATCHDOG, folder / f"{WATCHDOG_NOTE}{rank}"
        stack.enter_context(_beside(files, [*files, limit, *notes]))
        yield


def say_why_ended(folder: Path, rank: int) -> None:
    """Tell why a watchdog ended the worker of this rank, if one did: in the next attempt."""
    if reason := _take_note(folder / f"{WATCHDOG_NOTE}{rank}"):
        tell(f"{folder.name}: {_worker(rank)} was ended: {reason}; it has started again")


def why_ended(folder: Path) -> str:
    """Why watchdogs ended workers of a cell that does not start again; empty where they did not."""
    notes = {path: _take_note(path) for path in sorted(folder.glob(f"{WATCHDOG_NOTE}*"))}
    return "; ".join(
        f"{_worker(int(path.name.removeprefix(WATCHDOG_NOTE)))} was ended: {reason}"
        for path, reason in notes.items()
        if reason
    )


def _take_note(path: Path) -> str:
    text = read_text_note(path)
    with suppress(OSError):
        path.unlink(missing_ok=True)
    return text


def _worker(rank: int) -> str:
    return f"worker {rank}" if rank else "its process"


@contextmanager
def _beside(files: list[int], arguments: list[object]) -> Iterator[None]:
    process = subprocess.Popen(
        # -S: it starts in 10 ms, and is 9 MB large.
        [sys.executable, "-I", "-S", watchdog.__file__, *map(str, [os.getpid(), *arguments])],
        stdin=subprocess.PIPE,  # it ends when this process closes it, however that ends
        stdout=subprocess.DEVNULL,
        pass_fds=files,
    )
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
