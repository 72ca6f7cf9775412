"""A look at some videos of a source before any is prepared: how long they are by what their
containers say, and what some of them become. Bounded by a number of videos and by time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from vididi.data.encode import Encoded, Settings, encode_video
from vididi.data.video import Video
from vididi.data.video_file import frame_rate, open_container
from vididi.data.workers import run_apart
from vididi.errors import DataError

LOOKED_AT, LOOK_S = 100, 10.0  # videos whose containers are asked, and seconds for all of them
ENCODED, ENCODE_S = 5, 20.0  # videos that are prepared as a sample, likewise
MICROSECONDS = 10**6  # of a container's duration

Clock = Callable[[], float]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Lengths:
    """What the containers of some videos say.

    asked: how many were opened. counts: frames of those that say so. unreadable: those that could
    not be opened; the others of ``asked`` say nothing.
    """

    asked: int = 0
    counts: list[int] = field(default_factory=list)
    unreadable: int = 0


def stated_frames(video: Video) -> int | None:
    """The number of frames that a video's container states, or its duration and rate give; None
    where it says neither. Of a moment, the frames that are asked for.

    Nothing is decoded, so the number may be wrong; preparing counts.

    Raises:
        DataError: the file cannot be opened as a video.
    """
    if video.moment is not None:
        return video.moment.before + 1 + video.moment.after
    with open_container(video.path) as (container, stream):
        if stream.frames:
            return int(stream.frames)
        seconds = (
            stream.duration * stream.time_base
            if stream.duration and stream.time_base
            else (container.duration or 0) / MICROSECONDS
        )
        return round(seconds * frame_rate(stream)) or None


def spread_over(videos: Sequence[Video], most: int) -> list[Video]:
    """At most so many of a list, at even distances: lists are mostly sorted by class."""
    count = min(most, len(videos))
    return [videos[i * len(videos) // count] for i in range(count)]


def look_at_lengths(
    videos: Sequence[Video],
    most: int = LOOKED_AT,
    seconds: float = LOOK_S,
    clock: Clock = time.monotonic,
) -> Lengths:
    """Ask the containers of ``most`` videos, spread over the list, and none after ``seconds``."""
    counts: list[int] = []
    asked = unreadable = 0
    for video in _in_time(spread_over(videos, most), seconds, clock):
        asked += 1
        try:
            frames = stated_frames(video)
        except DataError:
            unreadable += 1
            continue
        counts += [] if frames is None else [frames]
    return Lengths(asked, counts, unreadable)


@dataclass(frozen=True)
class SampleVideo:
    """What one video was prepared to.

    seconds: of one core. size: encoded bytes. frames, height, width: of the prepared video.
    """

    seconds: float
    size: int
    frames: int
    height: int
    width: int


def prepare_sample(
    videos: Sequence[Video],
    settings: Settings,
    most: int = ENCODED,
    seconds: float = ENCODE_S,
    clock: Clock = time.monotonic,
) -> list[SampleVideo]:
    """Decode and encode ``most`` videos in memory, spread over the list, and wait for none after
    ``seconds``. Those that would be rejected are passed over.

    It happens in a process of its own, which a damaged file may crash.
    """
    chosen, found = spread_over(videos, most), []
    results = run_apart(partial(_prepared, settings=settings), chosen, 1, seconds)
    with closing(results):
        for result in _in_time(results, seconds, clock):
            found += [result] if isinstance(result, SampleVideo) else []
    return found


def _prepared(video: Video, settings: Settings) -> SampleVideo | None:
    began = time.perf_counter()
    encoded = encode_video(video, settings)
    if not isinstance(encoded, Encoded):
        return None
    return SampleVideo(
        time.perf_counter() - began,
        sum(map(len, encoded.frames)),
        len(encoded.frames),
        encoded.height,
        encoded.width,
    )


def _in_time(items: Iterable[Item], seconds: float, clock: Clock) -> Iterator[Item]:
    """The items until the time is up, one at least."""
    began = clock()
    for item in items:
        yield item
        if clock() - began > seconds:
            return
