"""Whether frames are missing from a file that decodes well: gaps in its times, and its length."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vididi.data.containers import avi_chunks
from vididi.errors import DataError

# A file may be this much shorter than it says: headers round, and the last frame's length is a
# guess.
MISSING_SECONDS = 1.0
MIN_STEPS = 20  # between pictures, from which to say that they are regular
# More gaps than this are no loss, but a camera or a recorder of a screen that leaves out frames.
MAX_GAPS = 2
UNKNOWN_COUNT = 1 << 30  # frames of an AVI file that was written into a pipe


def check_gaps(stamps: Sequence[int | None], time_base: Fraction, joins: int) -> None:
    """Raise DataError if pictures are regular in time but for one or two short gaps.

    A step between two pictures is regular if it lies within a tenth, or two ticks of the clock, of
    the median. The rate is a variable one, and gaps say nothing, where more than a twentieth of all
    steps (of a short video, three) are irregular, where gaps are many, or where one lasts for more
    than a second, as a still picture does. The first and the last step never count: a film may
    begin with a title, and a cut leaves out frames that are shown before the last one.

    Args:
        stamps: of the pictures, in ticks of ``time_base`` seconds.
        joins: so many gaps are those between files that were joined.
    """
    steps = np.diff([stamp for stamp in stamps if stamp is not None])[1:-1]
    if len(steps) < MIN_STEPS or None in stamps:
        return
    step = float(np.median(steps))
    irregular = np.abs(steps - step) > max(step / 10, 2)
    gaps = np.flatnonzero(steps > 1.5 * step + 2)
    still = (steps[gaps] * float(time_base) > MISSING_SECONDS).any()

    if (
        irregular.sum() <= max(3, len(steps) // 20) + joins
        and joins < len(gaps) <= joins + MAX_GAPS
        and not still
    ):
        at = int(gaps[0])
        gap, usual = float(steps[at] * time_base), float(step * time_base)
        raise DataError(
            f"corrupt: {gap:.3g} s pass after frame {at + 1}, and {usual:.3g} s after others:"
            " frames are missing"
        )


def packet_end(packet: Any) -> float:
    """When a packet ends, in seconds of its stream; 0 if it does not say."""
    start = packet.pts if packet.pts is not None else packet.dts
    return 0.0 if start is None else float((start + (packet.duration or 0)) * packet.time_base)


def check_length(container: Any, stream: Any, packets: int, end: float | None) -> None:
    """Raise DataError if there is less than the container says.

    A file that was cut between two packets decodes well. An MP4 or AVI file lists its frames; but
    an edit list may leave some of them out, and chunks of AVI may be empty, so all are counted
    again where too few were shown. Elsewhere the last packet of any stream is what counts.

    Args:
        packets: of the stream, that were read.
        end: of the last packet of any stream, in seconds; None where the container's size is known
            to be right, so that the last frame may be shown for as long as it likes.
    """
    if stream.frames == UNKNOWN_COUNT:
        return
    if stream.frames:
        tolerance = MISSING_SECONDS * float(stream.average_rate or 1)
        if (
            stream.frames - packets > tolerance
            and stream.frames - (count := _count_again(container, stream)) > tolerance
        ):
            raise DataError(f"corrupt: the file says {stream.frames} frames and holds {count}")
    elif container.duration and end is not None:
        # Matroska and FLV count from 0, or from their first frame, whichever is less; the others
        # from their first frame.
        from_zero = container.format.name in ("matroska,webm", "flv")
        stated = ((0 if from_zero else container.start_time or 0) + container.duration) / 1e6
        if stated - end > MISSING_SECONDS:
            raise DataError(
                f"corrupt: the file says that it ends at {stated:.1f} s, and its last frame or"
                f" sound ends at {end:.1f} s"
            )


def _count_again(container: Any, stream: Any) -> int:
    if container.format.name == "avi":
        return avi_chunks(Path(container.name), stream.index)
    return _packets_without_edits(container.name, stream.index)


def _packets_without_edits(name: str, index: int) -> int:
    import av

    with av.open(name, options={"ignore_editlist": "1"}) as container:
        return sum(packet.size > 0 for packet in container.demux(container.streams[index]))
