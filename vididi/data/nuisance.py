"""What may change from video to video of the motion set and says nothing of its class, beyond what
is always drawn: how the camera moves, what else moves, where the object is, and noise.

Without these the static background makes |differences| along time a perfect segmentation of the
object, and where it moves in the frame tells its law: features that nothing has learned find the
class (docs/log.md). Each has a draw of its own, so that the object of a video moves the same with
and without them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TURN = np.pi  # of the camera's heading over a video, at most
SMOOTH = 3  # frames over which the camera's shaking is averaged
FURTHEST = 4.0  # deviations that it shakes at most
MAX_CAMERA, MAX_SHAKE, MAX_DISTRACTORS = 8.0, 8.0, 32


@dataclass(frozen=True)
class Distractor:
    """Another thing that moves: steadily, grey, and smaller than the object.

    x, y: its centre in each frame ``[T]``, radius and centre in shares of the frame.
    """

    shape: str
    x: Array
    y: Array
    radius: float
    angle: float
    grey: float


@dataclass(frozen=True)
class Nuisance:
    """How much of each there is; nothing by default.

    Attributes:
        camera: how fast the camera pans, at most; each video draws its speed, heading and turn. The
            object and all else move with the picture [pixels a frame].
        shake: deviation of the camera's place from frame to frame, a few frames smooth [pixels].
        placement: how far the object's path is moved in the frame, in shares of it, at most.
        distractors: other things that move.
        noise: deviation of each pixel in each frame, in shares of full brightness.
    """

    camera: float = 0.0
    shake: float = 0.0
    placement: float = 0.0
    distractors: int = 0
    noise: float = 0.0

    def __post_init__(self) -> None:
        for name, most in (
            ("camera", MAX_CAMERA),
            ("shake", MAX_SHAKE),
            ("placement", 0.5),
            ("distractors", MAX_DISTRACTORS),
            ("noise", 0.5),
        ):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(
                    f"{name}: {getattr(self, name)} is not valid; it must be from 0 to {most:g}"
                )

    @property
    def options(self) -> dict[str, Any]:
        """Those that are not 0, which name a set; a set without any keeps its old name."""
        return {name: value for name, value in asdict(self).items() if value}

    def camera_path(self, frames: int, size: int, rng: np.random.Generator) -> Array:
        """Where the camera is in each frame, x and y in shares of the frame ``[T, 2]``; on average
        at 0.
        """
        heading, turn = rng.uniform(0, 2 * np.pi), rng.uniform(-TURN, TURN)
        speed = self.camera * rng.uniform(0.5, 1)
        headings = heading + turn * np.arange(frames) / frames
        path = np.cumsum(speed * np.stack([np.cos(headings), np.sin(headings)], axis=1), axis=0)
        draws = rng.normal(size=(frames + SMOOTH - 1, 2))
        kernel = np.ones(SMOOTH) / np.sqrt(SMOOTH)
        steps = np.stack([np.convolve(column, kernel, "valid") for column in draws.T], axis=1)
        path += self.shake * np.clip(steps, -FURTHEST, FURTHEST)
        return (path - path.mean(axis=0)) / size

    def offset(self, rng: np.random.Generator) -> Array:
        """How far the object's path is moved, x and y in shares of the frame ``[2]``."""
        return rng.uniform(-self.placement, self.placement, 2)

    def others(
        self, frames: int, shapes: tuple[str, ...], rng: np.random.Generator
    ) -> Iterator[Distractor]:
        """The distractors, from back to front."""
        t = np.arange(frames) / frames - 0.5
        for _ in range(self.distractors):
            heading, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.9)
            x, y = rng.uniform(0.1, 0.9, 2)
            yield Distractor(
                str(rng.choice(shapes)),
                x + t * distance * np.cos(heading),
                y + t * distance * np.sin(heading),
                float(rng.uniform(0.05, 0.1)),
                float(rng.uniform(0, 2 * np.pi)),
                float(rng.uniform()),
            )


def shifted(canvas: Array, margin: int, size: int, dx: float, dy: float) -> Array:
    """The window ``[size, size, C]`` of a canvas whose corner lies ``margin`` + (dx, dy) pixels
    from the canvas's, bilinear.
    """
    left, top = int(np.floor(margin + dx)), int(np.floor(margin + dy))
    fx, fy = margin + dx - left, margin + dy - top
    part = canvas[top : top + size + 1, left : left + size + 1]
    rows = (1 - fy) * part[:-1] + fy * part[1:]
    return (1 - fx) * rows[:, :-1] + fx * rows[:, 1:]
