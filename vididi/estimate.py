"""What a sweep will take, computed from what was measured of one step of it. Pure arithmetic.

What is measured, and where, is vididi.measuring's; the text is vididi.commands.estimating's.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from vididi.words import rounded_off


class Span(NamedTuple):
    """Seconds: the middle of what was measured, and its smallest and largest."""

    middle: float
    low: float
    high: float

    def times(self, factor: float) -> Span:
        """So many of them, end to end."""
        return Span(*(factor * value for value in self))


NOTHING = Span(0.0, 0.0, 0.0)


def end_to_end(*spans: Span) -> Span:
    """The sum of spans; NOTHING of none."""
    return Span(*(sum(values) for values in zip(NOTHING, *spans, strict=True)))


def exactly(seconds: float) -> Span:
    """A time without a spread."""
    return Span(seconds, seconds, seconds)


def span_of(seconds: Sequence[float]) -> Span:
    """Median, smallest and largest of measurements; NOTHING of none."""
    return Span(median(seconds), min(seconds), max(seconds)) if seconds else NOTHING


@dataclass(frozen=True)
class RunWork:
    """What one whole run does, as counts; of a run of several workers, what one of them does.

    clips: through the encoder without gradient, at the end and on the way. checkpoints: writes.
    """

    epochs: int
    steps: int
    clips: int
    checkpoints: int


@dataclass(frozen=True)
class Measures:
    """What one process measured of a configuration.

    Attributes:
        steps: seconds of each step, with the wait for its batch.
        clips: seconds of one clip of evaluation, from each batch that was measured.
        checkpoint: seconds of writing one.
        start: seconds from the start of the process until it could take a step.
        memory: largest resident set of the process [bytes]; gpu_memory: what it had reserved on
            its GPU at most [bytes], 0 without one.
        run_bytes: of a run folder without its epochs; epoch_bytes: of one epoch's records.
        work: of a run of this configuration on these data.
        checkpoint_bytes: of a checkpoint; a run at work has the one before and one that is being
            written beside the one that its folder keeps.
    """

    steps: tuple[float, ...]
    clips: tuple[float, ...]
    checkpoint: float
    start: float
    memory: int
    gpu_memory: int
    run_bytes: int
    epoch_bytes: int
    work: RunWork
    checkpoint_bytes: int = 0

    def seconds(self, share: float = 1.0) -> Span:
        """Of a run whose training has this share still to do; its evaluation is whole."""
        work = self.work
        training = span_of(self.steps).times(work.steps * share)
        writing = self.checkpoint * work.checkpoints * share
        evaluation = span_of(self.clips).times(work.clips)
        return end_to_end(training, evaluation, exactly(writing))

    @property
    def folder_bytes(self) -> int:
        """Of a run folder when the run has finished."""
        return self.run_bytes + self.epoch_bytes * self.work.epochs

    @property
    def working_bytes(self) -> int:
        """What a run has beside that while it is at work, at most: see checkpoint_bytes."""
        return self.checkpoint_bytes * min(2, max(0, self.work.checkpoints - 1))


@dataclass(frozen=True)
class CellEstimate:
    """What one cell that is to run will take.

    needs: what it needs, as text; cells that need the same run as one group, at_once of them
    beside each other. finished: how many runs that finished before its time is from; 0: it is from
    measured steps. alike: number of the configuration that it shares a measurement with.
    """

    title: str
    seconds: Span
    needs: str
    at_once: int
    finished: int
    alike: int


def from_finished(seconds: Sequence[float], share: float) -> Span:
    """The time of a cell by cells like it that finished before.

    Args:
        share: of the training that is still to do; evaluation, which these do not tell apart, is
            taken to shrink with it.
    """
    return span_of(seconds).times(share)


def makespan(durations: Iterable[float], slots: int) -> float:
    """Seconds until all are done, one after another, each in the slot that is free first."""
    free = [0.0] * slots
    for seconds in durations:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


def wall_time(cells: Sequence[CellEstimate], starts: Sequence[float]) -> Span:
    """Of all cells: groups that need the same run one after another.

    Args:
        starts: by number of configuration, seconds until a process can take a step; each slot
            starts one.
    """
    groups: dict[str, list[CellEstimate]] = {}
    for cell in cells:
        groups.setdefault(cell.needs, []).append(cell)
    return end_to_end(*(_of_group(group, starts) for group in groups.values()))


def _of_group(group: Sequence[CellEstimate], starts: Sequence[float]) -> Span:
    begin = max(starts[cell.alike] for cell in group)
    at_once = group[0].at_once
    return Span(
        *(
            begin + makespan([cell.seconds[which] for cell in group], at_once)
            for which in range(len(NOTHING))
        )
    )


def duration(seconds: float) -> str:
    """``0.35 s``, ``42 s``, ``12 min``, ``5.2 h``, ``3.1 days``."""
    for unit, size, most in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 48)):
        if seconds / size < most:
            return f"{rounded_off(seconds / size)} {unit}"
    return f"{rounded_off(seconds / 86400)} days"


def spread_text(span: Span) -> str:
    """``12 min (11 min to 14 min)``; one time where there is no spread to be seen."""
    texts = [duration(seconds) for seconds in span]
    return texts[0] if texts[1] == texts[2] else f"{texts[0]} ({texts[1]} to {texts[2]})"
