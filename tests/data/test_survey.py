"""A bounded look at videos before any is prepared."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vididi.data.encode import Settings, encode_video
from vididi.data.survey import (
    Lengths,
    look_at_lengths,
    prepare_sample,
    spread_over,
    stated_frames,
)
from vididi.data.video import Moment, Video
from vididi.errors import DataError

Draw = Callable[..., np.ndarray]
Write = Callable[..., Path]


def video(path: Path, moment: Moment | None = None) -> Video:
    return Video(path, path.name, "a", "train", moment=moment)


@pytest.fixture
def videos(tmp_path: Path, moving_bar: Draw, write_video: Write) -> list[Video]:
    """Eight of 9 to 16 frames."""
    return [
        video(write_video(tmp_path / f"{i}.mp4", moving_bar(9 + i, 32, 48, shade=i)))
        for i in range(8)
    ]


def test_containers_say_how_many_frames_there_are(
    videos: list[Video], tmp_path: Path, moving_bar: Draw, write_video: Write
) -> None:
    assert [stated_frames(one) for one in videos] == list(range(9, 17))
    webm = video(write_video(tmp_path / "a.mkv", moving_bar(30, 32, 48)))  # says its duration only
    assert stated_frames(webm) == 30
    assert stated_frames(video(tmp_path / "none.mp4", Moment(3.0, 4, 5))) == 10
    with pytest.raises(DataError, match="missing"):
        stated_frames(video(tmp_path / "none.mp4"))


def test_videos_are_looked_at_here_and_there_in_the_list(videos: list[Video]) -> None:
    assert [one.video_id for one in spread_over(videos, 3)] == ["0.mp4", "2.mp4", "5.mp4"]
    assert spread_over(videos, 99) == videos
    assert look_at_lengths(videos, most=3) == Lengths(3, [9, 11, 14], 0)
    assert look_at_lengths([]) == Lengths()


def test_what_cannot_be_opened_is_counted_and_time_is_bounded(
    videos: list[Video], tmp_path: Path
) -> None:
    (tmp_path / "1.mp4").write_bytes(b"no video at all \x00\x01")
    assert look_at_lengths(videos) == Lengths(8, [9, *range(11, 17)], 1)
    slow = itertools.accumulate([4.0] * 100).__next__
    assert look_at_lengths(videos, seconds=10.0, clock=slow).asked == 3


def test_a_sample_is_as_large_as_the_prepared_videos(videos: list[Video]) -> None:
    settings = Settings(short_side=16)
    sample = prepare_sample(videos[:1], settings)
    encoded = encode_video(videos[0], settings)
    assert [(one.size, one.frames, one.height, one.width) for one in sample] == [
        (sum(map(len, encoded.frames)), 9, 16, 24)
    ]
    assert sample[0].seconds > 0
