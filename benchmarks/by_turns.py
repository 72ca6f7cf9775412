"""Contenders by turns: what else the machine did in a turn weighs on all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any


def cpu_seconds(
    ways: Mapping[str, Callable[[int], Any]], turns: int, not_counted: int = 1
) -> dict[str, list[float]]:
    """CPU seconds of this process for each way in each turn, whose number the way is given.

    Args:
        not_counted: turns before the others, in which memory and files are found.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(not_counted + turns):
        for name, way in ways.items():
            began = time.process_time()
            way(turn)
            if turn >= not_counted:
                seconds[name].append(time.process_time() - began)
    return seconds


def median_ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """The median over the turns of one contender's figure over another's."""
    return median(a / b for a, b in zip(over, under, strict=True))


def times_as_fast(seconds: Mapping[str, Sequence[float]], name: str) -> dict[str, float]:
    """How many times as fast one contender is as each other."""
    return {
        other: median_ratio(theirs, seconds[name])
        for other, theirs in seconds.items()
        if other != name
    }
