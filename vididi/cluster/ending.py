"""How a sweep ends that a signal asked to: its cells hear of it, write their checkpoints and end,
within the grace.

The driver, which alone gets the signal, leaves its number in the key-value store of the Ray that it
is connected to. The process of a cell looks there twice a second, on whatever machine it is.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import ray
from ray.experimental import internal_kv

from vididi import interrupts
from vididi.cluster.jobs import Watcher

POLL_S = 0.5
BEYOND_S = 15.0  # after the grace, for Tune to end what is left, before the program ends at once
_NAMESPACE = b"vididi"


class Ending:
    """What is left to do of a sweep that was asked to end."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.told = False
        self.over = False  # whether nothing is to be waited for any more

    def look(self, running: bool) -> bool:
        """Whether the sweep was asked to end; called all the while. The first time that it was, its
        cells are told.

        Args:
            running: whether a cell is at work.
        """
        number = interrupts.asked()
        if number is None:
            return False
        if not self.told:
            self.told = True
            self.watcher.stopping()
            with suppress(Exception):  # without its store there is no cell to hear of it
                internal_kv._internal_kv_put(_key(), str(number), namespace=_NAMESPACE)
        self.over = not running or interrupts.grace_left() <= 0
        return True


@contextmanager
def hearing() -> Iterator[None]:
    """In the process of a cell: it is asked to end when its driver is.

    Raises:
        AskedToStop: it was already.
    """
    over = threading.Event()
    _hear()
    interrupts.check()
    threading.Thread(target=_listen, args=(over,), daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _listen(over: threading.Event) -> None:
    while not over.wait(POLL_S) and interrupts.asked() is None:
        _hear()


def _hear() -> None:
    # A store that is out of reach says nothing; whoever trains here finds that out otherwise.
    with suppress(Exception):
        if number := internal_kv._internal_kv_get(_key(), namespace=_NAMESPACE):
            interrupts.request_stop(int(number))


def _key() -> str:
    """Of this driver and its cells."""
    return f"stop-{ray.get_runtime_context().get_job_id()}"
