"""Which orders of derivative the two views of a step have (ViDiDi Algorithm 1 and appendix C). Pure Python, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vididi.draws import Use, key, uniform

Pair = tuple[int, int]
Mix = Literal["same", "one_way", "both_ways"]
Selection = Literal["random", "scheduled"]

# One pair per epoch, from higher derivatives to frames: "let learning of derivatives guide original frames" (section 2.2).
CYCLES: dict[str, tuple[Pair, ...]] = {
    "same": ((1, 1), (0, 0)),
    "one_way": ((1, 1), (1, 0), (0, 0)),
    "both_ways": ((1, 1), (1, 0), (0, 1), (0, 0)),
}


@dataclass(frozen=True)
class Schedule:
    """A pairing schedule, built from the four axes of ViDiDi's Table 6.

    order: the highest order of derivative used, 0 (frames only), 1 or 2.
    mix: the cycle of pairs over epochs; ``both_ways`` is lines 1-4 of Algorithm 1. Scheduled selection only.
    selection: ``scheduled`` goes through the cycle by epoch and, where order is 2, differentiates both views once more with
        probability 0.5 (lines 5-6). ``random`` draws each view's order uniformly from 0..order, per step and independently.
    reverse: go through the cycle backwards; the random step stays.
    """

    order: int
    mix: Mix | None = None
    selection: Selection | None = None
    reverse: bool = False

    def __post_init__(self) -> None:
        check_axes(self.order, self.mix, self.selection, self.reverse)

    def pair(self, epoch: int, step: int, seed: int) -> Pair:
        """The orders of the two views. ``step`` is global (it does not restart with the epoch); the same on every worker."""
        if self.order == 0:
            return 0, 0
        first, second = uniform(key(Use.PAIR, seed, step), 2)
        if self.selection == "random":
            return int(first * (self.order + 1)), int(second * (self.order + 1))
        assert self.mix is not None  # check_axes holds it
        cycle = CYCLES[self.mix]
        phase = epoch % len(cycle)
        a, b = cycle[len(cycle) - 1 - phase if self.reverse else phase]
        extra = int(self.order == 2 and first < 0.5)
        return a + extra, b + extra


def check_axes(order: int, mix: str | None, selection: str | None, reverse: bool) -> None:
    """Raise ValueError, naming the axis and what is valid, for a combination of axes that means nothing."""
    if order not in (0, 1, 2):
        raise ValueError(f"order: {order!r} is not valid; it is 0 (frames), 1 (velocity) or 2 (acceleration)")
    if order == 0:
        for axis, value in (("mix", mix), ("selection", selection), ("reverse", reverse or None)):
            if value is not None:
                raise ValueError(f"{axis}: {value!r} needs order 1 or 2; with order 0 there is nothing to pair, leave it out")
        return
    if selection not in ("random", "scheduled"):
        raise ValueError(f"selection: {selection!r} is not valid with order {order}; it is 'random' or 'scheduled'")
    if selection == "random":
        for axis, value in (("mix", mix), ("reverse", reverse or None)):
            if value is not None:
                raise ValueError(f"{axis}: {value!r} needs selection 'scheduled'; random selection draws each view's order alone")
    elif mix not in CYCLES:
        raise ValueError(f"mix: {mix!r} is not valid with selection 'scheduled'; it is one of {', '.join(CYCLES)}")


# The nine arms of ViDiDi's Table 6.
SCHEDULES: dict[str, Schedule] = {
    "base": Schedule(order=0),
    "random_1": Schedule(order=1, selection="random"),
    "random_12": Schedule(order=2, selection="random"),
    "reverse": Schedule(order=2, mix="both_ways", selection="scheduled", reverse=True),
    "schedule_1": Schedule(order=1, mix="same", selection="scheduled"),
    "schedule_1_mix": Schedule(order=1, mix="one_way", selection="scheduled"),
    "schedule_12": Schedule(order=2, mix="same", selection="scheduled"),
    "schedule_12_mix": Schedule(order=2, mix="one_way", selection="scheduled"),
    "vididi": Schedule(order=2, mix="both_ways", selection="scheduled"),
}
