"""From the packets of a stream to its pictures, refusing what is damaged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from vididi.data.containers import check_size, ts_joins
from vididi.data.missing_frames import check_gaps, check_length, packet_end
from vididi.data.video_file import first_line, frame_rate
from vididi.errors import DataError

# What decoders are to look for beyond what they cannot go on without. Not "explode": it refuses
# sound H.264 for its comments.
DETECT = "crccheck+bitstream+buffer+careful"
# What is logged as an error and concerns no pixel: comments in the stream, and references that are
# given up twice.
HARMLESS = ("SEI type", "mmco: unref short failure", "unable to decode APP fields")
# What a decoder logs at the debug level only, though frames are missing that others refer to;
# unless the stream says that it leaves some out.
DEBUG_SIGNS = {"h264": "Frame num gap"}
# Decoders that read along because they find damage which those that give the pictures do not
# (docs/data.md); in PyAV's wheels, of 8 bits.
CHECKERS = {"vp9": "libvpx-vp9"}
CHECKED_PIXELS = ("yuv420p", "yuv422p", "yuv440p", "yuv444p", "gbrp")
# Containers in which neither a count nor a table says which frames there are, so that a gap in
# regular times may be the only sign. Not MPEG program streams: few of their pictures have a time,
# and FFmpeg's guess of the others jumps.
UNCOUNTED = ("matroska,webm", "mpegts", "flv", "asf")
# Codecs whose decoders notice that a frame which others refer to is missing, so that a gap is a
# frame that was not taken.
NUMBERED = ("h264", "hevc", "av1", "libdav1d", "vp9")

T = TypeVar("T")


def decoded_pictures(
    container: Any, stream: Any, seek_second: float | None = None
) -> Iterator[Any]:
    """The pictures of a stream (PyAV's VideoFrame), in the order in which they are to be shown.

    Args:
        seek_second: where the container was sought to: decoding begins at the first key frame that
            comes. None: at the start.

    Raises:
        DataError: frames are damaged or missing; at the first sign of it, or at the end.
    """
    import av

    stream_pass = _Pass(container, stream, seek_second)
    try:
        while (packet := stream_pass.next_packet()) is not None:
            yield from stream_pass.decode(packet)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(
            f"corrupt: no frame can be decoded after the first {stream_pass.position}:"
            f" {first_line(error)}"
        ) from None
    stream_pass.check_whole()


class _Pass:
    """One pass over the packets of a file, which decodes those of a stream.

    DataError is raised at the first sign that frames are damaged or missing.
    """

    def __init__(self, container: Any, stream: Any, seek_second: float | None) -> None:
        self.container, self.stream, self.seek_second = container, stream, seek_second
        # Of all streams: the last one to end may be of sound or text.
        self.remaining_packets = container.demux()
        self.decoders = _decoders(stream)
        self.debug_sign = DEBUG_SIGNS.get(self.decoders[0].name, "")
        self.begun = False
        self.first_key: int | None = None  # timestamp of the key frame that decoding began at
        self.early_error = ""  # the decoder's, of packets before the first key frame
        self.count = 0  # pictures
        self.stamps: list[int | None] = []  # of the pictures
        self.packets = self.flagged = 0  # of the stream; of these, flagged as corrupt
        self.end = 0.0  # of the last packet of any stream, in seconds

    @property
    def position(self) -> str:
        """How many pictures there were, for messages."""
        return f"{self.count}" + (
            "" if self.seek_second is None else f" from second {self.seek_second:.1f} on"
        )

    def next_packet(self) -> Any:
        """The next packet of any stream; None at the end."""
        packet, errors = _with_log(lambda: next(self.remaining_packets, None))
        for name, message in errors:
            if name == self.container.format.name:
                raise DataError(
                    f"corrupt: the file is damaged after frame {self.position}: {message}"
                )
        return packet

    def decode(self, packet: Any) -> Iterator[Any]:
        """The pictures that come with a packet; none with that of another stream."""
        self.end = max(self.end, packet_end(packet))
        if packet.stream.index != self.stream.index or not self._has_begun(packet):
            return
        if packet.has_sidedata("encryption_info"):
            raise DataError("encrypted")
        self.packets += packet.size > 0

        (pictures, *_), log = _with_log(
            lambda: [decoder.decode(packet) for decoder in self.decoders], self.debug_sign
        )
        errors = [
            message
            for _, message in log
            if not self._is_allowed(message) and not self._leads(packet.pts)
        ]
        if errors and self.first_key is None:
            self.early_error, errors = self.early_error or errors[0], []

        if any(picture.is_corrupt and not self._leads(picture.pts) for picture in pictures):
            raise DataError(f"corrupt: frame {self.position} is damaged")
        if errors or (self.early_error and self.first_key is None and pictures):
            raise DataError(
                f"corrupt: damaged after frame {self.position}: {self.early_error or errors[0]}"
            )

        for picture in pictures:
            if self._leads(picture.pts) and (
                picture.is_corrupt or self.early_error or self.seek_second is not None
            ):
                continue
            yield picture
            self.count += 1
            self.stamps.append(picture.pts)
        self._flag(packet)

    def _has_begun(self, packet: Any) -> bool:
        """Whether decoding has begun.

        It begins at the first packet; after a seek, or where a decoder cannot show what comes
        before it, at the first key frame.
        """
        if packet.is_keyframe and (not self.begun or (self.early_error and self.first_key is None)):
            self.first_key = packet.pts if packet.pts is not None else packet.dts
        self.begun = self.begun or packet.is_keyframe or self.seek_second is None
        return self.begun

    def _leads(self, stamp: int | None) -> bool:
        """Whether what has this timestamp is shown before the first key frame.

        It refers to frames that are not there, which is no damage.
        """
        return self.first_key is not None and stamp is not None and stamp < self.first_key

    def _is_allowed(self, message: str) -> bool:
        """Whether a message is of numbers of frames that are left out, and may be.

        They may before the first packet, and in a stream that was thinned out.
        """
        if not self.debug_sign or not message.startswith(self.debug_sign):
            return False
        if self.packets > 1 and _may_leave_out(self.container.name, self.stream.index):
            self.debug_sign = ""
        return self.packets == 1 or not self.debug_sign

    def _flag(self, packet: Any) -> None:
        """Refuse a packet that the demuxer flags as corrupt.

        A transport stream's are flagged at a join of two files too, so there ``check_whole``
        decides.
        """
        if packet.is_corrupt and (
            self.container.format.name != "mpegts" or self.seek_second is not None
        ):
            raise DataError(f"corrupt: the file is cut or damaged after frame {self.position}")
        self.flagged += packet.is_corrupt

    def check_whole(self) -> None:
        """Raise DataError for what shows only when all was read."""
        name, path = self.container.format.name, Path(self.container.name)
        joins = (
            ts_joins(path, self.stream.id) if name == "mpegts" and self.seek_second is None else 0
        )
        if self.flagged > joins:
            raise DataError("corrupt: the file is cut or damaged")
        codec = self.decoders[0].codec

        if name in UNCOUNTED and codec.name not in NUMBERED and not codec.intra_only:
            check_gaps(self.stamps, self.stream.time_base, joins)
        # After a seek packets were skipped: take as many as that time must hold, so that they are
        # counted only if even these are too few.
        if self.seek_second is not None:
            self.packets = round(
                (self.end - (self.container.start_time or 0) / 1e6) * frame_rate(self.stream)
            )
        sized = check_size(path, name, structure=self.seek_second is None)
        check_length(self.container, self.stream, self.packets, None if sized else self.end)


def _decoders(stream: Any) -> list[Any]:
    """The stream's decoder, set to look for damage, and one that finds more, where there is one."""
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


def _with_log(call: Callable[[], T], debug_sign: str = "") -> tuple[T, list[tuple[str, str]]]:
    """What a call returns, and what FFmpeg logs meanwhile in this thread that may concern frames.

    Args:
        debug_sign: how a message of the debug level begins that counts like an error.

    Returns:
        the result, and (who, message) of each.
    """
    import av

    if av.logging.get_level() is None:  # PyAV's default; then nothing is captured
        # What is logged at other times is not printed.
        logging.getLogger("libav").addHandler(logging.NullHandler())
        av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    level_before = av.logging.get_level()
    if debug_sign:
        av.logging.set_level(av.logging.DEBUG)
    try:
        with av.logging.Capture() as log:
            result = call()
    finally:
        av.logging.set_level(level_before)

    def limit(message: str) -> int:  # FFmpeg's levels count downwards
        is_sign = debug_sign and message.startswith(debug_sign)
        return av.logging.DEBUG if is_sign else av.logging.ERROR

    messages = [(name, message.strip()) for level, name, message in log if level <= limit(message)]
    return result, [item for item in messages if not item[1].startswith(HARMLESS)]


def _may_leave_out(path: str, index: int) -> bool:
    """Whether an H.264 stream has gaps_in_frame_num_value_allowed_flag: numbers may be left out."""
    import av

    level_before = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        with av.logging.Capture() as log, av.open(path) as container:
            stream = container.streams[index]
            headers = av.bitstream.BitStreamFilterContext("trace_headers", stream)
            headers.filter(next(container.demux(stream)))
    finally:
        av.logging.set_level(level_before)
    return any(
        "gaps_in_frame_num_allowed_flag" in message and message.rstrip().endswith("= 1")
        for _, _, message in log
    )
