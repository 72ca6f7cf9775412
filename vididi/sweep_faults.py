"""What is wrong with cells of a sweep, in words for its user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from vididi.search import Point
from vididi.words import counted, written


@dataclass
class Faults:
    """What is wrong with cells of a grid: each reason once, with the cells that it is of.

    Args:
        tried: how many points of each arm were tried.
        points: for each reason, the points that it was found at, by arm.
    """

    tried: Counter[str] = field(default_factory=Counter)
    points: dict[str, dict[str, list[Point]]] = field(default_factory=dict)

    def add(self, arm: str, point: Point, message: str) -> None:
        """Take up an error message: a reason alone, or a cell in words with a line a reason."""
        head, *lines = message.removeprefix(cell_in_words(arm, point)).split("\n  ")
        for reason in lines or [head]:
            part = head.rstrip(":").removeprefix(", ") if lines else ""
            text = f"{part}: {reason}" if part else reason.removeprefix(": ")
            self.points.setdefault(text, {}).setdefault(arm, []).append(point)

    def __str__(self) -> str:
        return "\n".join(
            f"{cells}: {reason}" if (cells := self._cells(reason)) else reason
            for reason in self.points
        )

    def _cells(self, reason: str) -> str:
        """Its cells in words; empty where the reason names a part of the file itself."""
        if reason.startswith(_PARTS):
            return ""
        arms = self.points[reason]
        complete = [
            arm
            for arm, points in arms.items()
            if len(points) == self.tried[arm] and (len(points) > 1 or not points[0])
        ]
        if len(complete) == len(self.tried) > 1:
            return "every cell"

        texts = [_some(arm, points) for arm, points in arms.items() if arm not in complete]
        if complete:
            names = ", ".join(map(repr, complete))
            texts.insert(0, f"arm{'s' if len(complete) > 1 else ''} {names}")
        return "; ".join(texts)


# Beginnings of a message that names the part of a sweep file, or the option, that a value is from.
_PARTS = ("base: ", "axes: ", "exclude: ", "--set: ", "arm ")


def _some(arm: str, points: Sequence[Point]) -> str:
    """Some of an arm's points: by what they share, if they are several."""
    if len(points) == 1:
        return cell_in_words(arm, points[0])
    shared = {
        axis: value
        for axis, value in points[0].items()
        if all(point[axis] == value for point in points)
    }
    return (
        f"{cell_in_words(arm, shared or points[0])}"
        f" ({counted(len(points), 'point')}{'' if shared else ', this and others'})"
    )


def cell_in_words(arm: str, point: Point) -> str:
    """A cell without its seed, in words; one of a search where ``arm`` is empty."""
    at = ", ".join(f"{axis}={written(value)}" for axis, value in point.items())
    return (f"arm {arm!r}" if arm else "search") + (f" at {at}" if point else "")
