"""Signs of life of a process that trains or measures, for the watchdog beside it.

Whoever takes steps calls ``beat`` after each, and ``rest`` before what is none: an epoch's end, a
score. Where no watchdog was started, both do nothing.
"""

from __future__ import annotations

import mmap
import statistics
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from vididi.watchdog import LIFE

FACTOR = 20  # a step may take as many times the median one
REST = 30  # what is no step may take as many times what a step always may
KEPT = 50  # steps of which the median is taken


class _Heart:
    """Writes how often it has beaten, and within how many seconds it will again."""

    def __init__(self, life: mmap.mmap, shortest: float) -> None:
        self.life, self.shortest = life, shortest
        self.beats = 0
        self.last: float | None = None  # when the last step ended; None: what goes on is no step
        self.steps: deque[float] = deque(maxlen=KEPT)
        self.rest()

    def beat(self) -> None:
        now = time.monotonic()
        if self.last is not None:
            self.steps.append(now - self.last)
        self.last = now
        if not self.steps:
            self._write(REST * self.shortest)
        else:
            self._write(max(self.shortest, FACTOR * statistics.median(self.steps)))

    def rest(self) -> None:
        self.last = None
        self.steps.clear()  # the steps to come may be others
        self._write(REST * self.shortest)

    def _write(self, limit: float) -> None:
        self.beats += 1
        LIFE.pack_into(self.life, 0, self.beats, limit)


_hearts: list[_Heart] = []


def beat() -> None:
    """A step has ended, or a batch of a measurement; the next is expected to take about as long."""
    for heart in _hearts:
        heart.beat()


def rest() -> None:
    """What follows is no step, and may take longer."""
    for heart in _hearts:
        heart.rest()


@contextmanager
def beating(life: mmap.mmap, shortest: float) -> Iterator[None]:
    """Write the signs of life of what is done here, as LIFE.

    Args:
        shortest: seconds that a step always may take; a longer one FACTOR times the median step.
    """
    heart = _Heart(life, shortest)
    _hearts.append(heart)
    try:
        yield
    finally:
        _hearts.remove(heart)
