"""A video as a source lists it, and decoding a video file to frames with PyAV, or with decord where that is asked for.

PyAV is the default because it reads every file on every platform, so that prepared data do not depend on the machine. decord was
compared with it (docs/data.md, "Decoding"): it is no faster when every frame is wanted, does not say which frames are damaged,
and rounds MPEG-4 and 10-bit frames otherwise.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vididi.errors import DataError

DECORD_CHUNK = 64  # frames that are in memory as pictures at a time
SEEK_MARGIN = 1.0  # seconds before a window that decoding begins at the latest; where frames lie further apart it goes back further
MISSING_SECONDS = 1.0  # a file may be this much shorter than it says; headers round, and the last frame's length is a guess


@dataclass(frozen=True)
class Moment:
    """Part of a file: its key frame, and one frame of every ``step`` up to ``before`` frames before it and ``after`` frames after it.

    The key frame is the one whose time is nearest to ``second``, the earlier of two that are equally near. Seconds count from where
    the file begins, which is the smallest time in it, as players count them.
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
    """What is annotated in a key frame. ``second`` is that of the lists, which need not be that of the file."""

    second: int
    people: tuple[Box, ...]
    actions: Actions


@dataclass(frozen=True)
class Video:
    """One row of a source.

    class_name: empty in a set without classes. scene: a second label of what is nuisance, where a source knows it, else empty.
    moment: the part of the file that is the row; None for all of it. boxes: of the moment's key frame, where a source has them.
    """

    path: Path
    video_id: str
    class_name: str
    split: str
    scene: str = ""
    moment: Moment | None = None
    boxes: Boxes | None = None

    @property
    def details(self) -> list[Any]:
        """What else decides the prepared bytes, as plain values; empty for a whole file."""
        moment, boxes = self.moment, self.boxes
        return [
            *([moment.second, moment.before, moment.after, moment.step] if moment else []),
            *([boxes.second, boxes.people, _digest(boxes.actions)] if boxes else []),
        ]


@lru_cache  # all videos of a source have the same actions
def _digest(actions: Actions) -> str:
    return sha256(repr(actions).encode()).hexdigest()


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
    with _opened(path) as (container, stream):
        yield _frames(_pictures(container, stream)), float(_rate(stream))


@contextmanager
def open_moment(path: Path, moment: Moment) -> Iterator[tuple[Iterator[NDArray[np.uint8]], float, int]]:
    """The frames of a moment as ``open_video`` gives them, their rate (divided by the step), and the key frame's place among them.

    The decoder starts at a frame that can be decoded by itself and early enough, so the frames are those of a decode from the file's
    start. Where the file begins or ends within the window there are fewer of them. Up to ``before`` + 1 pictures are in memory.

    Raises:
        DataError: as ``open_video``, for what has to be decoded to get these frames; no frame of the file is shown at the key frame's
            second; or timestamps do not say which one is.
    """
    if moment.second < 0:
        raise DataError(f"no frame at second {moment.second:g}: the file begins at second 0")
    reach: float | None = None  # seconds before the key frame from which to decode
    while True:
        with _opened(path) as (container, stream):
            reach = SEEK_MARGIN + moment.before / float(_rate(stream) or 1) if reach is None else 4 * reach
            found = _around(container, stream, moment, reach)
            if found is not None:
                earlier, later = found
                yield _frames(chain(earlier, later)), float(_rate(stream)) / moment.step, len(earlier) - 1
                return


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """A container, and the stream of it that is read."""
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
        yield container, stream


def _rate(stream: Any) -> Fraction:
    """Frames a second; 0 if the file does not say."""
    return Fraction(stream.average_rate or stream.guessed_rate or 0)


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


def _frames(pictures: Iterator[Any]) -> Iterator[NDArray[np.uint8]]:
    """All pictures as frames; DataError at the first sign that one is damaged or missing."""
    from av.video.reformatter import VideoReformatter

    reformatter = VideoReformatter()  # one for all frames: setting one up takes longer than to convert a small frame
    count, size, rotation = 0, None, 0
    for picture in pictures:
        rotation = rotation if count else picture.rotation
        frame = _upright(reformatter.reformat(picture, format="rgb24", threads=1).to_ndarray(), rotation)
        size = size or frame.shape[:2]
        if frame.shape[:2] != size:
            raise DataError(f"frame {count} is {_times(frame.shape)} pixels, the frames before it {_times(size)}")
        count += 1
        yield frame
    if count == 0:
        raise DataError("no frames in its video stream")


def _around(container: Any, stream: Any, moment: Moment, reach: float) -> tuple[list[Any], Iterator[Any]] | None:
    """A moment's pictures up to the key frame, and those after it; None if decoding did not begin early enough to know them all."""
    import av

    begin = Fraction(container.start_time or 0, 10**6)
    key = Fraction(round(moment.second * 10**6), 10**6)  # as a decimal number, not as the float next to it
    sought = moment.second - reach if reach < moment.second else None
    if sought is not None:
        try:
            container.seek(int((begin + Fraction(sought)) / stream.time_base), stream=stream)
        except (av.FFmpegError, OSError):
            return None
    shown = _timed(_pictures(container, stream, sought), stream, begin)
    past: deque[tuple[Fraction, Any]] = deque(maxlen=moment.before + 1)
    after = None
    for entry in shown:
        if entry[0] >= key:
            after = entry
            break
        past.append(entry)
    if sought is not None and len(past) <= moment.before:
        return None
    if after is None:
        _check_shown(past, key, 1 / (_rate(stream) or 1))
    elif not past:
        _check_shown([after], key, MISSING_SECONDS)  # files often begin with a little sound, or a delay
    if after is not None and (not past or after[0] - key < key - past[-1][0]):
        past.append(after)
    elif after is not None:
        shown = chain([after], shown)
    earlier = [picture for _, picture in past][:: -moment.step][::-1]
    later = islice(shown, moment.step - 1, moment.after, moment.step)
    return earlier, (picture for _, picture in later)


def _check_shown(edge: Sequence[tuple[Fraction, Any]], key: Fraction, near: Fraction | float) -> None:
    """Raise DataError unless the file's first or last frame, the last of ``edge``, is nearer to second ``key`` than ``near``."""
    if not edge:
        raise DataError("no frames in its video stream")
    if abs(edge[-1][0] - key) >= near:
        raise DataError(f"no frame at second {float(key):g}: the nearest one is shown at second {float(edge[-1][0]):.2f}")


def _timed(pictures: Iterator[Any], stream: Any, begin: Fraction) -> Iterator[tuple[Fraction, Any]]:
    """The pictures, each with its time in seconds from ``begin``."""
    last = None
    for picture in pictures:
        stamp = picture.pts if picture.pts is not None else picture.dts
        if stamp is None:
            raise DataError("no timestamps, so nothing says what is shown at a second")
        time = stamp * stream.time_base - begin
        if last is not None and time < last:
            raise DataError(f"timestamps go back from {float(last):.2f} to {float(time):.2f} s, so nothing says what is shown at a second")
        last = time
        yield time, picture


def _pictures(container: Any, stream: Any, sought: float | None = None) -> Iterator[Any]:
    """What the decoder shows, checked: from the start, or, after a seek to second ``sought``, from the first key frame that comes."""
    import av

    since = "" if sought is None else f" from second {sought:.1f} on"
    first = None  # timestamp of the key frame
    count, packets, end = 0, 0, 0.0
    try:
        for packet in container.demux(stream, *container.streams.audio):
            end = max(end, _end(packet))
            if packet.stream.index != stream.index:
                continue
            if packet.has_sidedata("encryption_info"):
                raise DataError("encrypted")
            packets += packet.size > 0
            if sought is not None and first is None:
                if not packet.is_keyframe:
                    continue
                first = packet.pts if packet.pts is not None else packet.dts
            for picture in packet.decode():
                if first is not None and picture.pts is not None and picture.pts < first:
                    continue  # shown before the key frame, it may need frames from before the seek
                if picture.is_corrupt:
                    raise DataError(f"corrupt: frame {count}{since} is damaged")
                yield picture
                count += 1
            if packet.is_corrupt:
                raise DataError(f"corrupt: the file is cut or damaged after frame {count}{since}")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(f"corrupt: no frame can be decoded after the first {count}{since}: {_first_line(error)}") from None
    if sought is not None:  # packets were skipped: as many as that time must hold, to be counted only if these are too few
        packets = round((end - (container.start_time or 0) / 1e6) * _rate(stream))
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
