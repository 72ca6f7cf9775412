"""A video as a source lists it, and decoding a video file to frames (decord, then PyAV)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vididi.errors import DataError


@dataclass(frozen=True)
class Video:
    """One row of a source. ``scene`` is a second label of what is nuisance, where a source knows it, else empty."""

    path: Path
    video_id: str
    class_name: str
    split: str
    scene: str = ""


def short_side_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """The frame size with the short side at ``short_side`` and the aspect ratio kept."""
    scale = short_side / min(height, width)
    return (short_side, max(1, round(width * scale))) if height <= width else (max(1, round(height * scale)), short_side)


def read_video(path: Path) -> tuple[NDArray[np.uint8], float]:
    """All frames ``[T, H, W, 3]`` (RGB) of a video file, and its frame rate.

    decord reads it; where decord is not installed for the platform or cannot read the file, PyAV does.

    Raises:
        DataError: neither can decode a frame, with the reason of each.
    """
    reasons = []
    for name, reader in (("decord", _read_decord), ("PyAV", _read_av)):
        try:
            frames, rate = reader(path)
        except Exception as error:  # a decoder raises whatever its library does; the reason is kept, not swallowed
            reasons.append(f"{name}: {_first_line(error)}")
            continue
        if len(frames) > 0:
            return frames, rate
        reasons.append(f"{name}: no frames")
    raise DataError("; ".join(reasons))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def _read_decord(path: Path) -> tuple[NDArray[np.uint8], float]:
    import decord

    reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
    frames = reader.get_batch(range(len(reader))).asnumpy()
    return frames, float(reader.get_avg_fps())


def _read_av(path: Path) -> tuple[NDArray[np.uint8], float]:
    import av

    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        if stream is None:
            raise DataError("no video stream")
        # As decord does: the best of several streams, turned as its metadata says.
        pictures = (frame for frame in container.decode(stream) if isinstance(frame, av.VideoFrame))
        frames = [np.rot90(picture.to_ndarray(format="rgb24"), picture.rotation // 90) for picture in pictures]
        rate = float(stream.average_rate or 0)
    return np.stack(frames) if frames else np.empty((0, 0, 0, 3), np.uint8), rate
