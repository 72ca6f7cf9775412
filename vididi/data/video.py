"""A video as a source lists it, and decoding a video file to frames with PyAV, or with decord where that is asked for.

PyAV is the default because it reads every file on every platform, so that prepared data do not depend on the machine. decord was
compared with it (docs/data.md, "Decoding"): it is no faster when every frame is wanted, does not say which frames are damaged,
and rounds MPEG-4 and 10-bit frames otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vididi.errors import DataError

DECORD_CHUNK = 64  # frames that are in memory as pictures at a time
MISSING_SECONDS = 1.0  # a file may be this much shorter than it says; headers round, and the last frame's length is a guess


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

    Raises:
        DataError: as ``open_video``.
    """
    with open_video(path) as (frames, rate):
        return np.stack(list(frames)), rate


@contextmanager
def open_video(path: Path) -> Iterator[tuple[Iterator[NDArray[np.uint8]], float]]:
    """The frames of a video file one after another ``[H, W, 3]`` (RGB, upright), at least one, and its frame rate.

    The best of several video streams is read, as FFmpeg ranks them. Frames come in the order in which they are to be shown, which
    the decoder restores from the coded order; timestamps, which may jump or go back, neither move, drop nor repeat a frame.

    Raises:
        DataError: there is nothing to decode, or not all of it can be decoded, with the reason; also while the frames are read.
    """
    import av

    check_file(path)
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(f"corrupt or no video file: {_first_line(error)}") from None
    with container:
        stream = container.streams.best("video")
        if stream is None:
            kinds = sorted({stream.type for stream in container.streams})
            raise DataError(f"no video stream, only {', '.join(kinds) or 'an empty container'}")
        if stream.codec_context is None:
            raise DataError("no decoder for its video stream")
        # One thread: preparing runs a process per core, and frames then come the same way every time.
        stream.codec_context.thread_count = 1
        yield _frames(container, stream), float(stream.average_rate or stream.guessed_rate or 0)


@contextmanager
def open_with_decord(path: Path) -> Iterator[tuple[Iterator[NDArray[np.uint8]], float]]:
    """As ``open_video``, by decord, which raises whatever it likes and may leave damaged frames as they are."""
    import decord

    check_file(path)
    reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
    numbers = range(len(reader))
    chunks = (numbers[start : start + DECORD_CHUNK] for start in range(0, len(reader), DECORD_CHUNK))
    yield (frame for chunk in chunks for frame in reader.get_batch(chunk).asnumpy()), float(reader.get_avg_fps())


def check_file(path: Path) -> None:
    """Raise DataError, with the reason, unless there is a file with content that may be read."""
    try:
        if path.is_dir():
            raise DataError("a folder, not a file")
        with path.open("rb") as file:
            if not file.read(1):
                raise DataError("empty: 0 bytes")
    except FileNotFoundError:
        raise DataError("missing: a link to a file that is not there" if path.is_symlink() else "missing: no such file") from None
    except PermissionError:
        raise DataError("unreadable: no permission to read it") from None
    except OSError as error:
        raise DataError(f"unreadable: {error.strerror or error}") from None


def _frames(container: Any, stream: Any) -> Iterator[NDArray[np.uint8]]:
    """All frames of ``stream``; DataError at the first sign that one is damaged or missing."""
    from av.video.reformatter import VideoReformatter

    reformatter = VideoReformatter()  # one for all frames: setting one up takes longer than to convert a small frame
    count, size, rotation = 0, None, 0
    for picture in _pictures(container, stream):
        rotation = rotation if count else picture.rotation
        frame = _upright(reformatter.reformat(picture, format="rgb24", threads=1).to_ndarray(), rotation)
        size = size or frame.shape[:2]
        if frame.shape[:2] != size:
            raise DataError(f"frame {count} is {_times(frame.shape)} pixels, the frames before it {_times(size)}")
        count += 1
        yield frame
    if count == 0:
        raise DataError("no frames in its video stream")


def _pictures(container: Any, stream: Any) -> Iterator[Any]:
    import av

    count, packets, end = 0, 0, 0.0
    try:
        for packet in container.demux(stream, *container.streams.audio):
            end = max(end, _end(packet))
            if packet.stream.index != stream.index:
                continue
            if packet.has_sidedata("encryption_info"):
                raise DataError("encrypted")
            packets += packet.size > 0
            for picture in packet.decode():
                if picture.is_corrupt:
                    raise DataError(f"corrupt: frame {count} is damaged")
                yield picture
                count += 1
            if packet.is_corrupt:
                raise DataError(f"corrupt: the file is cut or damaged after frame {count}")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(f"corrupt: no frame can be decoded after the first {count}: {_first_line(error)}") from None
    _check_whole(container, stream, packets, end)


def _end(packet: Any) -> float:
    """When a packet ends, in seconds of its stream; 0 if it does not say."""
    start = packet.pts if packet.pts is not None else packet.dts
    return 0.0 if start is None else float((start + (packet.duration or 0)) * packet.time_base)


def _check_whole(container: Any, stream: Any, packets: int, end: float) -> None:
    """Raise DataError if the container says that there is more than was found: a file that was cut between two packets decodes well.

    An MP4 or AVI file lists its frames, but an edit list may leave some of them out, so all are counted again where too few were
    shown. Matroska says only how long it is, so there the last packet of any stream is what counts.
    """
    if stream.frames:
        missing = stream.frames - packets
        if missing > MISSING_SECONDS * float(stream.average_rate or 1):
            found = _packets_without_edits(container.name)
            if stream.frames - found > MISSING_SECONDS * float(stream.average_rate or 1):
                raise DataError(f"corrupt: the file says {stream.frames} frames and holds {found}")
    elif container.duration:
        says = ((container.start_time or 0) + container.duration) / 1e6
        if says - end > MISSING_SECONDS:
            raise DataError(f"corrupt: the file says that it ends at {says:.1f} s, and its last frame or sound ends at {end:.1f} s")


def _packets_without_edits(name: str) -> int:
    import av

    with av.open(name, options={"ignore_editlist": "1"}) as container:
        return sum(packet.size > 0 for packet in container.demux(container.streams.best("video")))


def _upright(frame: NDArray[Any], rotation: int) -> NDArray[np.uint8]:
    """The frame turned as the file's metadata says (degrees, counterclockwise)."""
    if rotation % 90:
        raise DataError(f"rotation: its metadata says {rotation} degrees; a multiple of 90 can be applied")
    return np.rot90(frame, rotation // 90)


def _times(size: tuple[int, ...]) -> str:
    return f"{size[1]} x {size[0]}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
