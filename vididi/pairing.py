"""Which orders the two views of a step have (ViDiDi Algorithm 1, appendix C). No torch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from vididi.draws import Use, key, uniform

Pair = tuple[int, int]
Mix = Literal["same", "one_way", "both_ways"]
Selection = Literal["random", "scheduled", "weighted"]

MAX_ORDER = 9  # the orders of a pair are written as one digit each

# One pair per epoch, from higher derivatives to frames: "let learning of derivatives guide original
# frames" (section 2.2).
CYCLES: dict[str, tuple[Pair, ...]] = {
    "same": ((1, 1), (0, 0)),
    "one_way": ((1, 1), (1, 0), (0, 0)),
    "both_ways": ((1, 1), (1, 0), (0, 1), (0, 0)),
}


@dataclass(frozen=True)
class Schedule:
    """A pairing schedule: the four axes of ViDiDi's Table 6, or free weights over pairs.

    order: the highest order of derivative used: 0 (frames only), 1, 2, or, beyond the paper, more
        (ViDiDi Table 6).
    mix: how orders are paired. With scheduled selection, the cycle of pairs over epochs;
        ``both_ways`` is lines 1-4 of Algorithm 1. With random selection, None draws the orders of
        the two views independently, and ``same`` makes one draw for both (ViDiDi Table 6).
    selection: ``scheduled`` goes through the cycle by epoch and then differentiates both views e
        more times, e uniform over 0..order - 1; with order 2 this is lines 5-6, once more with
        probability 0.5. ``random`` draws orders uniformly from 0..order, per step. ``weighted``
        draws each step's pair in proportion to ``weights`` (ViDiDi Algorithm 1).
    reverse: go through the cycle backwards; the random step stays (ViDiDi Table 6).
    weights: for ``weighted``: pairs written "a-b" (orders of the first and the second view) to
        weights, at least 0; a pair left out has weight 0.
    """

    order: int
    mix: Mix | None = None
    selection: Selection | None = None
    reverse: bool = False
    weights: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        check_axes(self.order, self.mix, self.selection, self.reverse, self.weights)

    def pair(self, epoch: int, step: int, seed: int) -> Pair:
        """The orders of the two views, the same on every worker.

        ``step`` is global: it does not restart with the ``epoch``. Draws follow from it and the
        ``seed`` alone.
        """
        if self.order == 0:
            return 0, 0
        first, second = uniform(key(Use.PAIR, seed, step), 2)
        if self.selection == "random":
            a, b = int(first * (self.order + 1)), int(second * (self.order + 1))
            return (a, a) if self.mix == "same" else (a, b)
        if self.selection == "weighted":
            return self._weighted(first)
        assert self.mix is not None  # check_axes holds it
        cycle = CYCLES[self.mix]
        phase = epoch % len(cycle)
        a, b = cycle[len(cycle) - 1 - phase if self.reverse else phase]
        extra = self.order - 1 - int(first * self.order)
        return a + extra, b + extra

    def _weighted(self, draw: float) -> Pair:
        assert self.weights is not None  # check_axes holds it
        # In an order of their own, so that the order in a file does not matter; a weight of 0 never
        # wins.
        pairs = sorted(
            (parse_pair(name), weight) for name, weight in self.weights.items() if weight > 0
        )
        ends = list(accumulate(weight for _, weight in pairs))
        return next(
            (pair for (pair, _), end in zip(pairs, ends, strict=True) if draw * ends[-1] < end),
            pairs[-1][0],
        )


def parse_pair(name: str) -> Pair:
    """ "1-0" -> (1, 0).

    Raises:
        ValueError: it is not two orders with a hyphen between them.
    """
    match = re.fullmatch(r"(\d)-(\d)", name)
    if match is None:
        raise ValueError(
            f"weights: {name!r} is not a pair; a pair is written as two orders, like '1-0'"
        )
    return int(match[1]), int(match[2])


def check_axes(
    order: int,
    mix: str | None,
    selection: str | None,
    reverse: bool,
    weights: Mapping[str, float] | None = None,
) -> None:
    """Raise ValueError for a combination of axes that means nothing.

    It names the axis and what is valid.
    """
    if isinstance(order, bool) or not isinstance(order, int) or not 0 <= order <= MAX_ORDER:
        raise ValueError(
            f"order: {order!r} is not valid; it is 0 (frames), 1 (velocity), 2 (acceleration) or"
            " more, up to 9"
        )

    cycle_axes = {"mix": mix, "reverse": reverse or None}
    if order == 0:
        _refuse(
            {**cycle_axes, "selection": selection, "weights": weights},
            "needs order 1 or more; with order 0 there is nothing to pair, leave it out",
        )
        return
    if selection not in ("random", "scheduled", "weighted"):
        raise ValueError(
            f"selection: {selection!r} is not valid with order {order}; it is 'random', 'scheduled'"
            " or 'weighted'"
        )
    if selection == "weighted":
        _refuse(
            cycle_axes, "needs selection 'scheduled'; with 'weighted' the weights say everything"
        )
        _check_weights(order, weights)
        return

    _refuse({"weights": weights}, "needs selection 'weighted'")
    if selection == "random":
        _refuse(
            {**cycle_axes, "mix": None if mix == "same" else mix},
            "needs selection 'scheduled'; random selection takes no mix but 'same'",
        )
    elif mix not in CYCLES:
        raise ValueError(
            f"mix: {mix!r} is not valid with selection 'scheduled'; it is one of"
            f" {', '.join(CYCLES)}"
        )


def needless(order: int, mix: str | None, selection: str | None) -> set[str]:
    """The axes that mean nothing beside these values.

    With order 0 there is nothing to pair, and so on, as in check_axes.
    """
    if order == 0:
        return {"mix", "selection", "reverse", "weights"}
    if selection == "random":
        return {"reverse", "weights"} | ({"mix"} if mix != "same" else set())
    return (
        {"mix", "reverse"}
        if selection == "weighted"
        else {"weights"}
        if selection == "scheduled"
        else set()
    )


def _refuse(axes: Mapping[str, object], reason: str) -> None:
    for axis, value in axes.items():
        if value is not None:
            raise ValueError(f"{axis}: {value!r} {reason}")


def _check_weights(order: int, weights: Mapping[str, float] | None) -> None:
    if not weights:
        raise ValueError(
            f"weights: {weights!r} is not valid with selection 'weighted'; give pairs and weights,"
            " like {'1-0': 1.0}"
        )
    for name, weight in weights.items():
        if max(parse_pair(name)) > order:
            raise ValueError(
                f"weights: {name!r} is beyond order {order}; raise the order or leave the pair out"
            )
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(
                f"weights: {weight!r} for {name!r} is not valid; a weight is a finite number, at"
                " least 0"
            )
    if not any(weights.values()):
        raise ValueError("weights: all are 0; at least one must be positive")


# The nine arms of ViDiDi's Table 6 first; others follow them.
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
