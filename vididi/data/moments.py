"""A moment's pictures: its key frame, found by the times of pictures, and those around it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain, islice
from typing import Any

from vididi.data.decoding import decoded_pictures
from vididi.data.missing_frames import MISSING_SECONDS
from vididi.data.video import Moment
from vididi.data.video_file import frame_rate
from vididi.errors import DataError


def pictures_around(
    container: Any, stream: Any, moment: Moment, lead: float
) -> tuple[list[Any], Iterator[Any]] | None:
    """A moment's pictures up to the key frame, and those after it.

    Args:
        lead: seconds before the key frame from which to decode.

    Returns:
        None if decoding did not begin early enough to know them all.

    Raises:
        DataError: no frame is shown at the moment's second, or times do not say which one is; or as
            ``decoded_pictures``, also while the pictures are taken.
    """
    import av

    begin = Fraction(container.start_time or 0, 10**6)
    # As a decimal number, not as the float next to it.
    key = Fraction(round(moment.second * 10**6), 10**6)
    seek_second = moment.second - lead if lead < moment.second else None
    if seek_second is not None:
        try:
            container.seek(int((begin + Fraction(seek_second)) / stream.time_base), stream=stream)
        except (av.FFmpegError, OSError):
            return None

    timed = _with_times(decoded_pictures(container, stream, seek_second), stream, begin)
    before: deque[tuple[Fraction, Any]] = deque(maxlen=moment.before + 1)
    after = None  # the first at the key second or later
    for time, picture in timed:
        if time >= key:
            after = time, picture
            break
        before.append((time, picture))
    if seek_second is not None and len(before) <= moment.before:
        return None

    if after is None:
        _check_near(before, key, 1 / (frame_rate(stream) or 1))
    elif not before:  # files often begin with a little sound, or a delay
        _check_near([after], key, MISSING_SECONDS)
    if after is not None and (not before or after[0] - key < key - before[-1][0]):
        before.append(after)
    elif after is not None:
        timed = chain([after], timed)
    earlier = [picture for _, picture in before][:: -moment.step][::-1]
    later = islice(timed, moment.step - 1, moment.after, moment.step)
    return earlier, (picture for _, picture in later)


def _check_near(
    edge: Sequence[tuple[Fraction, Any]], key: Fraction, tolerance: Fraction | float
) -> None:
    """Raise DataError unless the file's first or last frame is near to second ``key``.

    Args:
        edge: pictures with their times, the last of which is that frame.
        tolerance: seconds; nearer is near.
    """
    if not edge:
        raise DataError("no frames in its video stream")
    if abs(edge[-1][0] - key) >= tolerance:
        raise DataError(
            f"no frame at second {float(key):g}: the nearest one is shown at second"
            f" {float(edge[-1][0]):.2f}"
        )


def _with_times(
    pictures: Iterator[Any], stream: Any, begin: Fraction
) -> Iterator[tuple[Fraction, Any]]:
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
