"""One video to the frames of a prepared set: decoded, resized to the short side, each as JPEG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from hashlib import file_digest
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vididi.data.video import Picture, Video, printable
from vididi.data.video_file import check_file
from vididi.data.video_reader import open_moment, open_video, open_with_decord
from vididi.errors import DataError

# Of a video's frames: with the rest of its row group they must stay below Arrow's 2 GiB a column.
MAX_BYTES = (2 << 30) - (2 << 20)


@dataclass(frozen=True)
class Settings:
    """What decides the frames of a prepared set.

    short_side: pixels (ViDiDi E.1: 150). quality: of JPEG, 1 to 100. decoder: ``pyav``; or
    ``decord``, and PyAV where that fails.
    """

    short_side: int = 150
    quality: int = 95
    decoder: Literal["pyav", "decord"] = "pyav"

    def __post_init__(self) -> None:
        if self.decoder not in ("pyav", "decord"):
            raise ValueError(f"decoder: {self.decoder!r} is not valid; it is 'pyav' or 'decord'")
        if self.decoder == "decord" and find_spec("decord") is None:
            raise ValueError(
                "decoder: 'decord' is not installed (its wheels are for Linux on x86-64 only); it"
                " must be 'pyav' here"
            )
        if self.short_side < 8:
            raise ValueError(
                f"short_side: {self.short_side} is not valid; it must be at least 8 pixels"
            )
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality: {self.quality} is not valid; it must lie in 1 to 100")


@dataclass(frozen=True)
class Encoded:
    """A video ready for a shard.

    key_frame: its index among the frames, where the video is a moment. note: what was chosen of the
    file, where there was a choice.
    """

    frames: list[bytes]
    fps: float
    height: int
    width: int
    source_sha256: str
    key_frame: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Reject:
    """A video that could not be prepared, and why."""

    video_id: str
    path: str
    reason: str


def encode_video(video: Video, settings: Settings) -> Encoded | Reject:
    """Decode, resize and encode one video, or say why that cannot be done.

    It works a frame at a time: a long video is never in memory as pictures.
    """
    if printable(video.path) != str(video.path):
        return Reject(
            video.video_id,
            printable(video.path),
            "its name, or that of a folder that it is in, is not UTF-8; rename it",
        )

    if video.problem:
        return Reject(video.video_id, str(video.path), video.problem)

    notes: list[str] = []
    try:
        check_file(video.path)
        checksum = _file_sha256(video.path)
        if video.moment is not None:
            with open_moment(video.path, video.moment, notes) as (frames, fps, key_frame):
                frames = _cut(frames, video.picture)
                return encode_frames(frames, fps, settings, checksum, key_frame, notes)
        if settings.decoder == "decord":
            with suppress(DataError), open_with_decord(video.path) as (frames, fps):
                frames = _cut(frames, video.picture)
                return encode_frames(frames, fps, settings, checksum)
            # Where decord refused or crashed, PyAV reads the file or says what is wrong with it.
        with open_video(video.path, notes) as (frames, fps):
            frames = _cut(frames, video.picture)
            return encode_frames(frames, fps, settings, checksum, notes=notes)
    except (DataError, OSError) as error:
        return Reject(video.video_id, str(video.path), str(error))


def _cut(
    frames: Iterator[NDArray[np.uint8]], picture: Picture | None
) -> Iterator[NDArray[np.uint8]]:
    return map(picture.cut, frames) if picture else frames


def _file_sha256(path: Path) -> str:
    status = path.stat()
    return _content_sha256(path, status.st_size, status.st_mtime_ns)


@lru_cache  # many moments are of one film
def _content_sha256(path: Path, size: int, mtime_ns: int) -> str:
    """Of the file while it has this size and time."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def encode_frames(
    frames: Iterable[NDArray[np.uint8]],
    fps: float,
    settings: Settings,
    checksum: str,
    key_frame: int | None = None,
    notes: Sequence[str] = (),
) -> Encoded:
    """Resize and encode frames ``[H, W, 3]`` (RGB), one at a time.

    Raises:
        DataError: they are more than a prepared set can hold of one video.
    """
    jpegs: list[bytes] = []
    size = 0
    for frame in frames:
        height, width = short_side_size(frame.shape[0], frame.shape[1], settings.short_side)
        jpegs.append(_encode_frame(frame, height, width, settings.quality))
        size += len(jpegs[-1])
        if size > MAX_BYTES:
            raise DataError(
                f"too long: the first {len(jpegs)} frames are more than {MAX_BYTES / 2**30:.3g}"
                " GiB; cut it into parts"
            )
    return Encoded(jpegs, fps, height, width, checksum, key_frame, "; ".join(notes))


def _encode_frame(frame: NDArray[np.uint8], height: int, width: int, quality: int) -> bytes:
    import simplejpeg
    from PIL import Image

    if frame.shape[:2] != (height, width):
        frame = np.asarray(
            Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR)
        )
    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(frame), quality=quality, colorsubsampling="420"
    )


def short_side_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """The frame size with the short side at ``short_side`` and the aspect ratio kept."""
    scale = short_side / min(height, width)
    return (
        (short_side, max(1, round(width * scale)))
        if height <= width
        else (max(1, round(height * scale)), short_side)
    )
