"""Opening a video file with PyAV, and choosing the stream of it that is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

from vididi.errors import DataError

# A file that begins with so many bytes of TEXT is no video, but for Y4M: it is TypeScript in .ts,
# or a list of files, which FFmpeg would follow.
TEXT_BYTES = 512
TEXT = bytes({9, 10, 13, *range(32, 127), *range(128, 256)})


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


@contextmanager
def open_container(path: Path) -> Iterator[tuple[Any, Any]]:
    """A container, and the stream of it that is read, both PyAV's.

    Raises:
        DataError: the file cannot be opened, or holds no video stream that can be decoded.
    """
    import av

    check_file(path)
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(f"corrupt or no video file: {first_line(error)}") from None
    with container:
        stream = _choose_stream(container)
        if stream.codec_context is None:
            raise DataError("no decoder for its video stream")
        yield container, stream


def _choose_stream(container: Any) -> Any:
    """The video stream with most pixels; of equal ones FFmpeg's best, else the first."""
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


def note_other_streams(notes: list[str] | None, container: Any, stream: Any) -> None:
    """Add a sentence to ``notes`` if the container has video streams beside ``stream``."""
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


def frame_rate(stream: Any) -> Fraction:
    """Frames a second; 0 if the file does not say."""
    return Fraction(stream.average_rate or stream.guessed_rate or 0)


def first_line(error: Exception) -> str:
    """The kind of an error and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
