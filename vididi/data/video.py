"""A video as a source lists it: a file or a moment of one, its class and split, and its boxes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vididi.errors import DataError


@dataclass(frozen=True)
class Moment:
    """Part of a file: a key frame and the frames around it.

    Of up to ``before`` frames before it and ``after`` frames after it, one of every ``step``.

    The key frame is the one whose time is nearest to ``second``, the earlier of two that are
    equally near. Seconds count from where the file begins, which is the smallest time in it, as
    players count them.
    """

    second: float
    before: int
    after: int
    step: int = 1


class Box(NamedTuple):
    """A person in a key frame: corners as shares of width and height, and action ids in order."""

    x1: float
    y1: float
    x2: float
    y2: float
    person: int
    actions: tuple[int, ...]


@dataclass(frozen=True)
class Actions:
    """Names by id, and the ids that the data set's scores are of."""

    names: tuple[tuple[int, str], ...]
    evaluated: tuple[int, ...]


@dataclass(frozen=True)
class Boxes:
    """What is annotated in a key frame.

    ``second`` is that of the lists, which need not be that of the file.
    """

    second: int
    people: tuple[Box, ...]
    actions: Actions


@dataclass(frozen=True)
class Picture:
    """The part of each frame that is kept: its corner nearest the first pixel, and its size, in
    pixels of the upright frame.
    """

    x: int
    y: int
    width: int
    height: int

    @classmethod
    def of(cls, values: Sequence[int]) -> Picture:
        """From ``[x, y, width, height]``; ValueError if that is no part of a picture."""
        if len(values) != 4 or min(values[:2]) < 0 or min(values[2:]) < 1:
            raise ValueError(
                f"picture: {list(values)} is not valid; it is [x, y, width, height] in pixels, with"
                " x and y at least 0 and a size of at least 1"
            )
        return cls(*values)

    def cut(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """``[H, W, 3]`` -> ``[height, width, 3]``; DataError where the frame is too small."""
        height, width = frame.shape[:2]
        if self.x + self.width > width or self.y + self.height > height:
            raise DataError(
                f"picture: {self.width} x {self.height} pixels from ({self.x}, {self.y}) do not lie"
                f" in its frames, which are {width} x {height}"
            )
        return frame[self.y : self.y + self.height, self.x : self.x + self.width]


@dataclass(frozen=True)
class Video:
    """One row of a source.

    class_name: empty in a set without classes. scene: a second label of what is nuisance, where a
    source knows it, else empty.
    moment: the part of the file that is the row; None for all of it. boxes: of the moment's key
    frame, where a source has them.
    picture: the part of each frame that is kept; None for all of it. problem: why the source
    already knows that this row cannot be prepared; it is then a reject.
    """

    path: Path
    video_id: str
    class_name: str
    split: str
    scene: str = ""
    moment: Moment | None = None
    boxes: Boxes | None = None
    picture: Picture | None = None
    problem: str = ""

    @property
    def details(self) -> list[Any]:
        """What else decides the prepared bytes, as plain values; empty for a whole file."""
        moment, boxes = self.moment, self.boxes
        return [
            *([moment.second, moment.before, moment.after, moment.step] if moment else []),
            *([boxes.second, boxes.people, _digest(boxes.actions)] if boxes else []),
            *(["picture", *astuple(self.picture)] if self.picture else []),
            *(["problem", self.problem] if self.problem else []),
        ]


@lru_cache  # all videos of a source have the same actions
def _digest(actions: Actions) -> str:
    return sha256(repr(actions).encode()).hexdigest()


def printable(name: str | Path) -> str:
    """A name as text that can be written: bytes that are not UTF-8 become ``\\xff``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
