"""The reader: a video file, or a moment of one, as frames; by PyAV, or by decord on request.

PyAV is the default because it reads every file on every platform, so that prepared data do not
depend on the machine. decord was compared with it (docs/data.md, "Decoding"): it is no faster when
every frame is wanted, does not say which frames are damaged, and rounds MPEG-4 and 10-bit frames
otherwise.

READER is the version of the rules by which a file becomes frames or is refused; CHANGES says what
each version brought. A prepared set keeps the version that made it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vididi.data.decoding import decoded_pictures
from vididi.data.decord_process import open_in_child
from vididi.data.moments import pictures_around
from vididi.data.orientation import orientation_of, upright
from vididi.data.video import Moment
from vididi.data.video_file import frame_rate, note_other_streams, open_container
from vididi.errors import DataError

READER = 2
CHANGES = {
    2: (
        "mirrored videos are mirrored, cover pictures left out, of two video streams the larger one"
        " is taken, damage is refused that was not seen before (VP9 most of all), and AVI of"
        " variable rate, Matroska with unusual times and joined transport streams are read"
    ),
}
# Decoding begins at least so many seconds before a window; where frames lie further apart, earlier.
SEEK_MARGIN = 1.0
LONGER = 4  # times as long a lead, where the one before was too short


def read_video(path: Path) -> tuple[NDArray[np.uint8], float]:
    """All frames ``[T, H, W, 3]`` (RGB) of a video file, and its frame rate.

    Raises:
        DataError: as ``open_video``.
    """
    with open_video(path) as (frames, rate):
        return np.stack(list(frames)), rate


@contextmanager
def open_video(
    path: Path, notes: list[str] | None = None
) -> Iterator[tuple[Iterator[NDArray[np.uint8]], float]]:
    """The frames of a video file ``[H, W, 3]`` (RGB, upright), at least one, and its frame rate.

    The video stream with most pixels is read; a cover picture is none. Frames come in the order in
    which they are to be shown, which the decoder restores from the coded order. Timestamps, which
    may jump or go back, neither move, drop nor repeat a frame.

    Args:
        notes: gets a sentence on which stream was read, if there are several.

    Raises:
        DataError: there is nothing to decode, or not all of it can be decoded, with the reason;
            also while the frames are read.
    """
    with open_container(path) as (container, stream):
        note_other_streams(notes, container, stream)
        yield _frames(decoded_pictures(container, stream)), float(frame_rate(stream))


@contextmanager
def open_moment(
    path: Path, moment: Moment, notes: list[str] | None = None
) -> Iterator[tuple[Iterator[NDArray[np.uint8]], float, int]]:
    """The frames of a moment, their rate, and the key frame's index among them.

    Frames and notes are as ``open_video`` gives them; the rate is divided by the step. The decoder
    starts early enough, at a frame that can be decoded by itself, so the frames are those of a
    decode from the file's start. Where the file begins or ends within the window there are fewer
    of them. Up to ``before`` + 1 pictures are in memory.

    Raises:
        DataError: as ``open_video``, for what has to be decoded to get these frames; no frame of
            the file is shown at the key frame's second; or timestamps do not say which one is.
    """
    if moment.second < 0:
        raise DataError(f"no frame at second {moment.second:g}: the file begins at second 0")
    lead: float | None = None  # seconds before the key frame from which to decode
    while True:
        with open_container(path) as (container, stream):
            rate = float(frame_rate(stream))
            lead = SEEK_MARGIN + moment.before / (rate or 1) if lead is None else LONGER * lead
            pictures = pictures_around(container, stream, moment, lead)
            if pictures is not None:
                note_other_streams(notes, container, stream)
                earlier, later = pictures
                yield _frames(chain(earlier, later)), rate / moment.step, len(earlier) - 1
                return


@contextmanager
def open_with_decord(path: Path) -> Iterator[tuple[Iterator[NDArray[np.uint8]], float]]:
    """As ``open_video``, by decord in a process of its own, which may not notice damaged frames.

    Raises:
        DataError: decord refuses the file, crashed at it, or would read it otherwise than PyAV.
        ChildKilledError, RuntimeError: as ``vididi.data.decord_process.open_in_child``.
    """
    _check_plain(path)
    with open_in_child(path) as (frames, rate):
        yield frames, rate


def _check_plain(path: Path) -> None:
    """Raise DataError if decord would read a file otherwise: several video streams, or mirrored."""
    with open_container(path) as (container, stream):
        if len(container.streams.video) > 1:
            raise DataError("several video streams")
        picture = next(decoded_pictures(container, stream), None)
        if picture is None:
            raise DataError("no frames in its video stream")
        transposed, down, right = orientation_of(picture)
        if transposed != (down != right):
            raise DataError("mirrored")


def _frames(pictures: Iterator[Any]) -> Iterator[NDArray[np.uint8]]:
    """All pictures as frames; DataError at the first sign that one is damaged or missing."""
    from av.video.reformatter import VideoReformatter

    # One for all frames: setting one up takes longer than to convert a small frame.
    reformatter = VideoReformatter()
    count, size, orientation = 0, None, (False, 1, 1)
    for picture in pictures:
        if count == 0:
            orientation = orientation_of(picture)
        pixels = reformatter.reformat(picture, format="rgb24", threads=1).to_ndarray()
        frame = upright(pixels, orientation)

        size = size or frame.shape[:2]
        if frame.shape[:2] != size:
            raise DataError(
                f"frame {count} is {_width_x_height(frame.shape)} pixels, the frames before it"
                f" {_width_x_height(size)}"
            )

        count += 1
        yield frame
    if count == 0:
        raise DataError("no frames in its video stream")


def _width_x_height(size: tuple[int, ...]) -> str:
    return f"{size[1]} x {size[0]}"
