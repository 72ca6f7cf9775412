"""A video as a source lists it, and decoding a video file to frames with PyAV, or with decord where
that is asked for.

PyAV is the default because it reads every file on every platform, so that prepared data do not
depend on the machine. decord was compared with it (docs/data.md, "Decoding"): it is no faster when
every frame is wanted, does not say which frames are damaged, and rounds MPEG-4 and 10-bit frames
otherwise.

READER is the version of the rules by which a file becomes frames or is refused; CHANGES says what
each version brought. A prepared set keeps the version that made it.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from vididi.data.containers import avi_chunks, check_size, ts_joins
from vididi.errors import DataError

READER = 2
CHANGES = {
    2: (
        "mirrored videos are mirrored, cover pictures left out, of two video streams the larger one"
        " is taken, damage is refused that was not seen before (VP9 most of all), and AVI of"
        " variable rate, Matroska with unusual times and joined transport streams are read"
    ),
}
DECORD_CHUNK = 64  # frames that are in memory as pictures at a time
# seconds before a window that decoding begins at the latest; where frames lie further apart it goes
# back further
SEEK_MARGIN = 1.0
# of TEXT alone at the start, which no video but Y4M has: TypeScript in .ts, and lists of files,
# which FFmpeg would follow
TEXT_BYTES = 512
TEXT = bytes({9, 10, 13, *range(32, 127), *range(128, 256)})
# a file may be this much shorter than it says; headers round, and the last frame's length is a
# guess
MISSING_SECONDS = 1.0
# What decoders are to look for beyond what they cannot go on without. Not "explode": it refuses
# sound H.264 for its comments.
DETECT = "crccheck+bitstream+buffer+careful"
# What is logged as an error and concerns no pixel: comments in the stream, and references that are
# given up twice.
HARMLESS = ("SEI type", "mmco: unref short failure", "unable to decode APP fields")
# What a decoder logs as an aside only, though frames are missing that others refer to; unless the
# stream says that it leaves some out.
ASIDES = {"h264": "Frame num gap"}
# Decoders that read along because they find damage which those that give the pictures do not
# (docs/data.md); in PyAV's wheels, of 8 bits.
CHECKERS = {"vp9": "libvpx-vp9"}
CHECKED_PIXELS = ("yuv420p", "yuv422p", "yuv440p", "yuv444p", "gbrp")
# Containers in which neither a count nor a table says which frames there are, so that a gap in
# regular times may be the only sign. Not
# MPEG program streams: few of their pictures have a time, and FFmpeg's guess of the others jumps.
UNCOUNTED = ("matroska,webm", "mpegts", "flv", "asf")
# Codecs whose decoders notice that a frame which others refer to is missing, so that a gap is a
# frame that was not taken.
NUMBERED = ("h264", "hevc", "av1", "libdav1d", "vp9")
FEWEST_STEPS = 20  # between pictures, from which to say that they are regular
MOST_GAPS = (
    2  # that are a loss; what leaves out frames more often is a camera, or a recorder of a screen
)
UNKNOWN_COUNT = 1 << 30  # frames of an AVI file that was written into a pipe
LEAST_TURN = 0.0175  # the sine of a degree: players take less for none

T = TypeVar("T")


@dataclass(frozen=True)
class Moment:
    """Part of a file: its key frame, and one frame of every ``step`` up to ``before`` frames before
    it and ``after`` frames after it.

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
    """What is annotated in a key frame. ``second`` is that of the lists, which need not be that of
    the file.
    """

    second: int
    people: tuple[Box, ...]
    actions: Actions


@dataclass(frozen=True)
class Video:
    """One row of a source.

    class_name: empty in a set without classes. scene: a second label of what is nuisance, where a
    source knows it, else empty.
    moment: the part of the file that is the row; None for all of it. boxes: of the moment's key
    frame, where a source has them.
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


def printable(name: str | Path) -> str:
    """A name as text that can be written: bytes that are not UTF-8, as a name of a file may have
    them, become ``\\xff``.
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def short_side_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """The frame size with the short side at ``short_side`` and the aspect ratio kept."""
    scale = short_side / min(height, width)
    return (
        (short_side, max(1, round(width * scale)))
        if height <= width
        else (max(1, round(height * scale)), short_side)
    )


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
    """The frames of a video file one after another ``[H, W, 3]`` (RGB, upright), at least one, and
    its frame rate.

    The video stream with most pixels is read, which ``notes`` is told if there are several; a cover
    picture is none. Frames come in the order in which they are to be shown, which the decoder
    restores from the coded order; timestamps, which may jump or go back, neither move, drop nor
    repeat a frame.

    Raises:
        DataError: there is nothing to decode, or not all of it can be decoded, with the reason;
            also while the frames are read.
    """
    with _opened(path) as (container, stream):
        _note(notes, container, stream)
        yield _frames(_pictures(container, stream)), float(_rate(stream))


@contextmanager
def open_moment(
    path: Path, moment: Moment, notes: list[str] | None = None
) -> Iterator[tuple[Iterator[NDArray[np.uint8]], float, int]]:
    """The frames of a moment as ``open_video`` gives them, their rate (divided by the step), and
    the key frame's place among them.

    The decoder starts at a frame that can be decoded by itself and early enough, so the frames are
    those of a decode from the file's start. Where the file begins or ends within the window there
    are fewer of them. Up to ``before`` + 1 pictures are in memory.

    Raises:
        DataError: as ``open_video``, for what has to be decoded to get these frames; no frame of
            the file is shown at the key frame's second; or timestamps do not say which one is.
    """
    if moment.second < 0:
        raise DataError(f"no frame at second {moment.second:g}: the file begins at second 0")
    reach: float | None = None  # seconds before the key frame from which to decode
    while True:
        with _opened(path) as (container, stream):
            reach = (
                SEEK_MARGIN + moment.before / float(_rate(stream) or 1)
                if reach is None
                else 4 * reach
            )
            found = _around(container, stream, moment, reach)
            if found is not None:
                _note(notes, container, stream)
                earlier, later = found
                yield (
                    _frames(chain(earlier, later)),
                    float(_rate(stream)) / moment.step,
                    len(earlier) - 1,
                )
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
        stream = _choose(container)
        if stream.codec_context is None:
            raise DataError("no decoder for its video stream")
        yield container, stream


def _choose(container: Any) -> Any:
    """The video stream with most pixels, of equal ones that which FFmpeg ranks best, else the
    first.
    """
    streams = _video_streams(container)
    if not streams:
        kinds = sorted({stream.type for stream in container.streams} - {"video"})
        kinds += ["a cover picture"] * len(container.streams.video[:1])
        raise DataError(f"no video stream, only {', '.join(kinds) or 'an empty container'}")
    best = container.streams.best("video")
    return max(
        streams,
        key=lambda stream: (_pixels(stream), best is not None and stream.index == best.index),
    )


def _video_streams(container: Any) -> list[Any]:
    """Without cover pictures, which containers hold as video streams too."""
    from av.stream import Disposition

    return [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
    ]


def _pixels(stream: Any) -> int:
    context = stream.codec_context
    return 0 if context is None else context.width * context.height


def _note(notes: list[str] | None, container: Any, stream: Any) -> None:
    others = [other for other in _video_streams(container) if other.index != stream.index]
    if notes is not None and others:
        sizes = ", ".join(_size_of(other) for other in others)
        notes.append(
            f"of {len(others) + 1} video streams number {stream.index} was taken,"
            f" {_size_of(stream)} pixels; left out: {sizes}"
        )


def _size_of(stream: Any) -> str:
    return (
        "of unknown size"
        if not _pixels(stream)
        else f"{stream.codec_context.width} x {stream.codec_context.height}"
    )


def _rate(stream: Any) -> Fraction:
    """Frames a second; 0 if the file does not say."""
    return Fraction(stream.average_rate or stream.guessed_rate or 0)


@contextmanager
def open_with_decord(path: Path) -> Iterator[tuple[Iterator[NDArray[np.uint8]], float]]:
    """As ``open_video``, by decord, which raises whatever it likes and may leave damaged frames as
    they are.
    """
    import decord

    _check_plain(path)
    reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
    numbers = range(len(reader))
    chunks = (
        numbers[start : start + DECORD_CHUNK] for start in range(0, len(reader), DECORD_CHUNK)
    )
    yield (
        (frame for chunk in chunks for frame in reader.get_batch(chunk).asnumpy()),
        float(reader.get_avg_fps()),
    )


def _check_plain(path: Path) -> None:
    """Raise DataError if a file is one that decord would read otherwise: several streams of
    pictures, or mirrored ones.
    """
    with _opened(path) as (container, stream):
        if len(container.streams.video) > 1:
            raise DataError("several video streams")
        transposed, down, right = _orientation(next(_pictures(container, stream)))
        if transposed != (down != right):
            raise DataError("mirrored")


def check_file(path: Path) -> None:
    """Raise DataError, with the reason, unless there is a file with content that may be read."""
    try:
        if path.is_dir():
            raise DataError("a folder, not a file")
        with path.open("rb") as file:
            start = file.read(TEXT_BYTES)
        if not start:
            raise DataError("empty: 0 bytes")
        if not start.translate(None, TEXT) and not start.startswith(b"YUV4MPEG2"):
            raise DataError(
                f"text, no video; it begins with {start.decode(errors='replace')[:30]!r}"
            )
    except FileNotFoundError:
        raise DataError(
            "missing: a link to a file that is not there"
            if path.is_symlink()
            else "missing: no such file"
        ) from None
    except PermissionError:
        raise DataError("unreadable: no permission to read it") from None
    except OSError as error:
        raise DataError(f"unreadable: {error.strerror or error}") from None


def _frames(pictures: Iterator[Any]) -> Iterator[NDArray[np.uint8]]:
    """All pictures as frames; DataError at the first sign that one is damaged or missing."""
    from av.video.reformatter import VideoReformatter

    reformatter = (
        VideoReformatter()
    )  # one for all frames: setting one up takes longer than to convert a small frame
    count, size, orientation = 0, None, (False, 1, 1)
    for picture in pictures:
        orientation = orientation if count else _orientation(picture)
        frame = _upright(
            reformatter.reformat(picture, format="rgb24", threads=1).to_ndarray(), orientation
        )
        size = size or frame.shape[:2]
        if frame.shape[:2] != size:
            raise DataError(
                f"frame {count} is {_times(frame.shape)} pixels, the frames before it"
                f" {_times(size)}"
            )
        count += 1
        yield frame
    if count == 0:
        raise DataError("no frames in its video stream")


def _around(
    container: Any, stream: Any, moment: Moment, reach: float
) -> tuple[list[Any], Iterator[Any]] | None:
    """A moment's pictures up to the key frame, and those after it; None if decoding did not begin
    early enough to know them all.
    """
    import av

    begin = Fraction(container.start_time or 0, 10**6)
    key = Fraction(
        round(moment.second * 10**6), 10**6
    )  # as a decimal number, not as the float next to it
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
        _check_shown(
            [after], key, MISSING_SECONDS
        )  # files often begin with a little sound, or a delay
    if after is not None and (not past or after[0] - key < key - past[-1][0]):
        past.append(after)
    elif after is not None:
        shown = chain([after], shown)
    earlier = [picture for _, picture in past][:: -moment.step][::-1]
    later = islice(shown, moment.step - 1, moment.after, moment.step)
    return earlier, (picture for _, picture in later)


def _check_shown(
    edge: Sequence[tuple[Fraction, Any]], key: Fraction, near: Fraction | float
) -> None:
    """Raise DataError unless the file's first or last frame, the last of ``edge``, is nearer to
    second ``key`` than ``near``.
    """
    if not edge:
        raise DataError("no frames in its video stream")
    if abs(edge[-1][0] - key) >= near:
        raise DataError(
            f"no frame at second {float(key):g}: the nearest one is shown at second"
            f" {float(edge[-1][0]):.2f}"
        )


def _timed(pictures: Iterator[Any], stream: Any, begin: Fraction) -> Iterator[tuple[Fraction, Any]]:
    """The pictures, each with its time in seconds from ``begin``."""
    last = None
    for picture in pictures:
        stamp = picture.pts if picture.pts is not None else picture.dts
        if stamp is None:
            raise DataError("no timestamps, so nothing says what is shown at a second")
        time = stamp * stream.time_base - begin
        if last is not None and time < last:
            raise DataError(
                f"timestamps go back from {float(last):.2f} to {float(time):.2f} s, so nothing says"
                " what is shown at a second"
            )
        last = time
        yield time, picture


def _pictures(container: Any, stream: Any, sought: float | None = None) -> Iterator[Any]:
    """What the decoder shows, checked: from the start, or, after a seek to second ``sought``, from
    the first key frame that comes.
    """
    import av

    reading = _Reading(container, stream, sought)
    try:
        while (packet := reading.next_packet()) is not None:
            yield from reading.decode(packet)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(
            f"corrupt: no frame can be decoded after the first {reading.so_far}:"
            f" {_first_line(error)}"
        ) from None
    reading.check_whole()


class _Reading:
    """One pass over a stream's packets, and what it says of the file: DataError at the first sign
    that frames are damaged or missing.
    """

    def __init__(self, container: Any, stream: Any, sought: float | None) -> None:
        self.container, self.stream, self.sought = container, stream, sought
        self.packets_left = (
            container.demux()
        )  # of all streams: the last one to end may be of sound or text
        self.decoders = _decoders(stream)
        self.aside = ASIDES.get(self.decoders[0].name, "")
        self.first: int | None = None  # timestamp of the key frame that decoding began at
        self.begun, self.blind = (
            False,
            "",
        )  # what the decoder says of packets before the first key frame
        self.count, self.packets, self.flagged, self.end = 0, 0, 0, 0.0
        self.stamps: list[int | None] = []  # of the pictures

    @property
    def so_far(self) -> str:
        return f"{self.count}" + (
            "" if self.sought is None else f" from second {self.sought:.1f} on"
        )

    def next_packet(self) -> Any:
        """The next one of any stream; None at the end."""
        packet, errors = _listen(lambda: next(self.packets_left, None))
        for name, message in errors:
            if name == self.container.format.name:
                raise DataError(
                    f"corrupt: the file is damaged after frame {self.so_far}: {message}"
                )
        return packet

    def decode(self, packet: Any) -> Iterator[Any]:
        """The pictures that come with a packet; none for another stream's."""
        self.end = max(self.end, _end(packet))
        if packet.stream.index != self.stream.index or not self._has_begun(packet):
            return
        if packet.has_sidedata("encryption_info"):
            raise DataError("encrypted")
        self.packets += packet.size > 0
        (pictures, *_), heard = _listen(
            lambda: [decoder.decode(packet) for decoder in self.decoders], self.aside
        )
        errors = [
            message
            for _, message in heard
            if not self._is_allowed(message) and not self._leads(packet.pts)
        ]
        if errors and self.first is None:
            self.blind, errors = self.blind or errors[0], []
        if any(picture.is_corrupt and not self._leads(picture.pts) for picture in pictures):
            raise DataError(f"corrupt: frame {self.so_far} is damaged")
        if errors or (self.blind and self.first is None and pictures):
            raise DataError(
                f"corrupt: damaged after frame {self.so_far}: {self.blind or errors[0]}"
            )
        for picture in pictures:
            if self._leads(picture.pts) and (
                picture.is_corrupt or self.blind or self.sought is not None
            ):
                continue
            yield picture
            self.count += 1
            self.stamps.append(picture.pts)
        self._flag(packet)

    def _has_begun(self, packet: Any) -> bool:
        """From the first packet on; from the first key frame after a seek, or where a decoder
        cannot show what comes before it.
        """
        if packet.is_keyframe and (not self.begun or (self.blind and self.first is None)):
            self.first = packet.pts if packet.pts is not None else packet.dts
        self.begun = self.begun or packet.is_keyframe or self.sought is None
        return self.begun

    def _leads(self, stamp: int | None) -> bool:
        """Whether something is shown before the first key frame: it refers to frames that are not
        there, which is no damage.
        """
        return self.first is not None and stamp is not None and stamp < self.first

    def _is_allowed(self, message: str) -> bool:
        """Whether a gap in the numbers of frames is none: before the first packet, or in a stream
        that was thinned out.
        """
        if not self.aside or not message.startswith(self.aside):
            return False
        if self.packets > 1 and _may_leave_out(self.container.name, self.stream.index):
            self.aside = ""
        return self.packets == 1 or not self.aside

    def _flag(self, packet: Any) -> None:
        """A transport stream's packets are flagged at a join of two files too, so there the whole
        file decides, at the end.
        """
        if packet.is_corrupt and (
            self.container.format.name != "mpegts" or self.sought is not None
        ):
            raise DataError(f"corrupt: the file is cut or damaged after frame {self.so_far}")
        self.flagged += packet.is_corrupt

    def check_whole(self) -> None:
        """What can be said only when all was read."""
        name, path = self.container.format.name, Path(self.container.name)
        joins = ts_joins(path, self.stream.id) if name == "mpegts" and self.sought is None else 0
        if self.flagged > joins:
            raise DataError("corrupt: the file is cut or damaged")
        codec = self.decoders[0].codec
        if name in UNCOUNTED and codec.name not in NUMBERED and not codec.intra_only:
            _check_gaps(self.stamps, self.stream.time_base, joins)
        # packets were skipped: as many as that time must hold, to be counted only if these are too
        # few
        if self.sought is not None:
            self.packets = round(
                (self.end - (self.container.start_time or 0) / 1e6) * _rate(self.stream)
            )
        sized = check_size(path, name, structure=self.sought is None)
        _check_length(self.container, self.stream, self.packets, None if sized else self.end)


def _decoders(stream: Any) -> list[Any]:
    """The stream's decoder, told to look for damage, and one that reads along, where there is one
    that finds more.
    """
    import av

    decoders = [stream.codec_context]
    name = CHECKERS.get(decoders[0].name, "")
    if name in av.codecs_available and decoders[0].pix_fmt in CHECKED_PIXELS:
        with suppress(ValueError):  # it can only encode here
            decoders.append(av.CodecContext.create(name, "r"))
    for decoder in decoders:
        # One thread: preparing runs a process per core, and frames then come the same way every
        # time.
        decoder.thread_count = 1
        decoder.options = {"err_detect": DETECT}
    return decoders


def _listen(call: Callable[[], T], aside: str = "") -> tuple[T, list[tuple[str, str]]]:
    """What a call returns, and what FFmpeg logs meanwhile in this thread that may concern frames:
    errors and ``aside``s, (who, what).
    """
    import av

    if av.logging.get_level() is None:  # PyAV's default; then nothing is heard
        logging.getLogger("libav").addHandler(
            logging.NullHandler()
        )  # what is logged at other times is not printed
        av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    before = av.logging.get_level()
    if aside:
        av.logging.set_level(av.logging.DEBUG)
    try:
        with av.logging.Capture() as heard:
            result = call()
    finally:
        av.logging.set_level(before)
    # FFmpeg's levels count downwards: errors are 16, asides 48.
    told = [
        (name, message.strip())
        for level, name, message in heard
        if level <= (48 if aside and message.startswith(aside) else 16)
    ]
    return result, [(name, message) for name, message in told if not message.startswith(HARMLESS)]


def _may_leave_out(path: str, index: int) -> bool:
    """Whether an H.264 stream says that numbers of frames may be left out
    (gaps_in_frame_num_value_allowed_flag).
    """
    import av

    before = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        with av.logging.Capture() as heard, av.open(path) as container:
            stream = container.streams[index]
            headers = av.bitstream.BitStreamFilterContext("trace_headers", stream)
            headers.filter(next(container.demux(stream)))
    finally:
        av.logging.set_level(before)
    return any(
        "gaps_in_frame_num_allowed_flag" in message and message.rstrip().endswith("= 1")
        for _, _, message in heard
    )


def _check_gaps(stamps: Sequence[int | None], time_base: Fraction, joins: int) -> None:
    """Raise DataError if pictures follow one another regularly but for one or two short gaps more
    than are ``joins``.

    Regular is what lies within a tenth, or two ticks of the clock, of the median. Where more than a
    twentieth of all steps (of a short video, three) are not, where gaps are many, or one lasts for
    more than a second, which a picture that stands still does, the rate is a variable one, and
    steps say nothing. Nor do the first and the last one: a film may begin with a title, and a cut
    leaves out frames that are shown before the last one.
    """
    steps = np.diff([stamp for stamp in stamps if stamp is not None])[1:-1]
    if len(steps) < FEWEST_STEPS or None in stamps:
        return
    step = float(np.median(steps))
    irregular = np.abs(steps - step) > max(step / 10, 2)
    gaps = np.flatnonzero(steps > 1.5 * step + 2)
    still = (steps[gaps] * float(time_base) > MISSING_SECONDS).any()
    if (
        irregular.sum() <= max(3, len(steps) // 20) + joins
        and joins < len(gaps) <= joins + MOST_GAPS
        and not still
    ):
        at = int(gaps[0])
        gap, usual = float(steps[at] * time_base), float(step * time_base)
        raise DataError(
            f"corrupt: {gap:.3g} s pass after frame {at + 1}, and {usual:.3g} s after others:"
            " frames are missing"
        )


def _end(packet: Any) -> float:
    """When a packet ends, in seconds of its stream; 0 if it does not say."""
    start = packet.pts if packet.pts is not None else packet.dts
    return 0.0 if start is None else float((start + (packet.duration or 0)) * packet.time_base)


def _check_length(container: Any, stream: Any, packets: int, end: float | None) -> None:
    """Raise DataError if the container says that there is more than was found: a file that was cut
    between two packets decodes well.

    An MP4 or AVI file lists its frames, but an edit list may leave some of them out, and chunks of
    AVI may be empty, so all are counted again where too few were shown. Elsewhere the last packet
    of any stream is what counts; ``end``: its end in seconds, or None where the container says how
    large it is and that is known to be right, so that the last frame may be shown for as long as it
    likes.
    """
    if stream.frames == UNKNOWN_COUNT:
        return
    if stream.frames:
        most = MISSING_SECONDS * float(stream.average_rate or 1)
        if (
            stream.frames - packets > most
            and stream.frames - (found := _count_again(container, stream)) > most
        ):
            raise DataError(f"corrupt: the file says {stream.frames} frames and holds {found}")
    elif container.duration and end is not None:
        # Matroska and FLV count from 0, or from their first frame, whichever is less; the others
        # from their first frame.
        from_zero = container.format.name in ("matroska,webm", "flv")
        says = ((0 if from_zero else container.start_time or 0) + container.duration) / 1e6
        if says - end > MISSING_SECONDS:
            raise DataError(
                f"corrupt: the file says that it ends at {says:.1f} s, and its last frame or sound"
                f" ends at {end:.1f} s"
            )


def _count_again(container: Any, stream: Any) -> int:
    if container.format.name == "avi":
        return avi_chunks(Path(container.name), stream.index)
    return _packets_without_edits(container.name, stream.index)


def _packets_without_edits(name: str, index: int) -> int:
    import av

    with av.open(name, options={"ignore_editlist": "1"}) as container:
        return sum(packet.size > 0 for packet in container.demux(container.streams[index]))


def _orientation(picture: Any) -> tuple[bool, int, int]:
    """How a picture is to be shown: whether rows become columns, and then which way the rows and
    the columns go, 1 or -1.

    From the display matrix, which sends the point (x, y) to (a x + c y, b x + d y); its scale is
    left out, as the pixels' aspect is, and one of zeros says nothing.
    """
    from av.sidedata.sidedata import Type

    found = picture.side_data.get(Type.DISPLAYMATRIX)
    if found is None:
        return False, 1, 1
    a, b, _, c, d = np.frombuffer(bytes(found), np.int32)[:5].tolist()
    small = max(map(abs, (a, b, c, d))) * LEAST_TURN
    if not small:
        return False, 1, 1
    if abs(a) > small < abs(d) and abs(b) <= small >= abs(c):
        return False, _sign(d), _sign(a)
    if abs(b) > small < abs(c) and abs(a) <= small >= abs(d):
        return True, _sign(b), _sign(c)
    raise DataError(
        f"rotation: its metadata turns pictures by the matrix {a / 65536:g} {b / 65536:g}"
        f" {c / 65536:g} {d / 65536:g}; turns by multiples of 90 degrees can be applied, and"
        " mirroring"
    )


def _sign(number: int) -> int:
    return 1 if number > 0 else -1


def _upright(frame: NDArray[Any], orientation: tuple[bool, int, int]) -> NDArray[np.uint8]:
    transposed, down, right = orientation
    return (frame.transpose(1, 0, 2) if transposed else frame)[::down, ::right]


def _times(size: tuple[int, ...]) -> str:
    return f"{size[1]} x {size[0]}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
