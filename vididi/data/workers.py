"""Run a function over items in processes of their own: an item that crashes or hangs its process
costs that item, not the run.

concurrent.futures' pool breaks as a whole when one of its processes dies, and waits for ever for
one that hangs. Here each process has a pipe of its own, so that what was lost with it is known.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

from vididi.errors import ResourceError
from vididi.interrupts import held, ignore_all

# Items per process that may be under way or finished before the caller took the one that is due.
AHEAD = 2
STARTS = 3  # processes in a row that may die before they are ready
EXIT_WAIT_S = 1.0  # the pipe ends a moment before the process does


@dataclass(frozen=True)
class Failed:
    """An item without a result, and why."""

    reason: str
    # Whether its process died each time that it was run.
    crashed: bool = field(default=False, compare=False)


class ChildKilledError(Exception):
    """A process that the function started was killed: the item counts as one whose own did."""


def run_apart(
    function: Callable[[Any], Any], items: Sequence[Any], workers: int, timeout: float
) -> Generator[Any]:
    """``function(item)`` of each item, in the order of the items, or ``Failed``.

    An item whose process died is run once more, in a fresh process while no other item runs: memory
    that ran out may have been its neighbours' doing. Only if that fails too has the item failed, so
    the results do not depend on how many workers there are. An item without a result after
    ``timeout`` seconds has failed; it is not run again.

    Args:
        function: what can be pickled by name; an exception it raises is a ``Failed`` too.

    Raises:
        ResourceError: processes die before they are ready to work.
    """
    pool = _Pool(function, items, min(workers, len(items)), timeout)
    try:
        yield from pool.results()
    finally:
        pool.close()


class _Worker:
    """A process, the parent's end of its pipe, and the item it works on."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        # spawn: decoders start threads, and a fork would copy their locks.
        context = get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, function), daemon=True)
        with held():
            self.process.start()
        other.close()  # so that the pipe ends when the process does
        self.ready = False
        self.item: int | None = None
        self.deadline = float("inf")

    def give(self, number: int, item: Any, timeout: float) -> None:
        """Send it an item to work on."""
        self.item, self.deadline = number, time.monotonic() + timeout
        # If it died while it had nothing to do, reading from the pipe will find that out.
        with suppress(OSError):
            self.pipe.send(item)

    def end(self) -> int | None:
        """Kill it if it lives; its exit code."""
        self.process.kill()
        self.process.join()
        self.pipe.close()
        return self.process.exitcode


class _Pool:
    def __init__(
        self, function: Callable[[Any], Any], items: Sequence[Any], workers: int, timeout: float
    ) -> None:
        self.function, self.items, self.timeout = function, items, timeout
        self.started = 0  # items handed to a worker for the first time
        self.delivered = 0  # results handed to the caller
        self.done: dict[int, Any] = {}
        self.again: deque[int] = deque()  # items whose process died
        self.alone: int | None = None  # the item that is run for the second time
        self.failed_starts = 0
        self.workers = [_Worker(function) for _ in range(workers)]

    def results(self) -> Iterator[Any]:
        """Of each item, in the order of the items."""
        while self.delivered < len(self.items):
            self._give()
            if self.delivered in self.done:
                yield self.done.pop(self.delivered)
                self.delivered += 1
            else:
                self._collect()

    def close(self) -> None:
        """End all processes."""
        for worker in self.workers:
            worker.end()

    def _give(self) -> None:
        for worker in self.workers:
            if worker.ready and worker.item is None and (number := self._next()) is not None:
                worker.give(number, self.items[number], self.timeout)

    def _next(self) -> int | None:
        """The item to run next, if any.

        None while one is run alone or waits to be, and where enough are ahead of the caller.
        """
        if self.alone is not None:
            return None
        if self.again:
            if all(worker.item is None for worker in self.workers):
                self.alone = self.again.popleft()
                return self.alone
            return None
        if self.started < min(len(self.items), self.delivered + AHEAD * len(self.workers)):
            self.started += 1
            return self.started - 1
        return None

    def _collect(self) -> None:
        """Wait for the first news of any worker, or the first deadline."""
        left = min(worker.deadline for worker in self.workers) - time.monotonic()
        news = wait(
            [worker.pipe for worker in self.workers],
            None if left == float("inf") else max(0.0, left),
        )
        for index, worker in enumerate(self.workers):
            if worker.pipe in news:
                self._read(index, worker)
            elif worker.deadline <= time.monotonic():
                worker.end()
                self._finish(worker, Failed(f"no result after {self.timeout:g} s"))
                self.workers[index] = _Worker(self.function)

    def _read(self, index: int, worker: _Worker) -> None:
        try:
            result = worker.pipe.recv()
        except (EOFError, OSError):
            self._bury(worker)
            self.workers[index] = _Worker(self.function)
            return
        if worker.ready:
            self._finish(worker, result)
        worker.ready, self.failed_starts = True, 0

    def _finish(self, worker: _Worker, result: Any) -> None:
        assert worker.item is not None
        self.done[worker.item] = result
        if self.alone == worker.item:
            self.alone = None
        worker.item, worker.deadline = None, float("inf")

    def _bury(self, worker: _Worker) -> None:
        worker.process.join(EXIT_WAIT_S)  # killing it would hide why it died
        code = worker.end()
        if not worker.ready:
            self.failed_starts += 1
            if self.failed_starts >= STARTS:
                raise ResourceError(
                    f"workers: {STARTS} processes in a row died while they started, the last one"
                    f" with {exit_cause(code)}"
                )
        elif worker.item is not None and worker.item != self.alone:
            self.again.append(worker.item)
        elif worker.item is not None:
            self._finish(
                worker, Failed(f"decoder crashed twice ({exit_cause(code)})", crashed=True)
            )


def exit_cause(code: int | None) -> str:
    """What an exit code says, in words; a negative one is that of a signal."""
    if code is not None and code < 0:
        hint = ": killed, as it happens when memory runs out" if code == -signal.SIGKILL else ""
        return f"signal {-code}{hint}"
    return f"exit status {code}"


def _serve(pipe: Connection, function: Callable[[Any], Any]) -> None:
    """What a worker process does until its parent ends the pipe."""
    ignore_all()  # they are the parent's to handle
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        pipe.send(None)  # ready
        while True:
            pipe.send(_result(function, pipe.recv()))
    except ChildKilledError:
        os.kill(os.getpid(), signal.SIGKILL)
    except (EOFError, OSError):  # the parent is gone, or wants no more
        return


def _result(function: Callable[[Any], Any], item: Any) -> Any:
    try:
        return function(item)
    except ChildKilledError:
        raise
    except MemoryError:
        return Failed("out of memory")
    except Exception as error:  # libraries raise what they like; the reason is kept, not swallowed
        return Failed(f"{type(error).__name__}: {error}")


def _die_with_parent() -> None:
    """A killed parent cannot end a worker that hangs."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
