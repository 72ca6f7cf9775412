"""Processes that crash, hang or run out of memory cost the video they were at, and nothing else."""

from __future__ import annotations

import csv
import os
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from vididi.data import prepare as preparing
from vididi.data.encode import Encoded, Reject, Settings, encode_video
from vididi.data.layout import shard_name
from vididi.data.motion import motion
from vididi.data.prepare import prepare
from vididi.data.shards import ShardSet
from vididi.data.video import Video
from vididi.data.workers import Failed, run_apart
from vididi.errors import ResourceError

SETTINGS = Settings(short_side=16)


def act(item: tuple[str, Any]) -> Any:
    """What a worker does, by the item's name."""
    what, value = item
    if what == "signal":
        os.kill(os.getpid(), value)
        time.sleep(60)
    elif what == "exit":
        os._exit(value)
    elif what == "hang":
        time.sleep(600)
    elif what == "memory":
        raise MemoryError
    elif what == "raise":
        raise RuntimeError(value)
    elif what == "first":  # a crash of the neighbours' making: the second time it works
        if not Path(value).exists():
            Path(value).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "second"
    return value


def plain(values: range) -> list[tuple[str, Any]]:
    return [("return", value) for value in values]


@pytest.mark.parametrize("workers", [1, 3])
def test_every_way_to_fail_costs_one_item(workers: int, tmp_path: Path) -> None:
    bad = [
        ("signal", signal.SIGSEGV),
        ("signal", signal.SIGKILL),
        ("exit", 7),
        ("memory", None),
        ("raise", "bad picture"),
        ("first", str(tmp_path / "been")),
    ]
    items = [*plain(range(5)), *bad, *plain(range(5, 10))]
    assert list(run_apart(act, items, workers, timeout=60)) == [
        *range(5),
        Failed("decoder crashed twice (signal 11)"),
        Failed("decoder crashed twice (signal 9: killed, as it happens when memory runs out)"),
        Failed("decoder crashed twice (exit status 7)"),
        Failed("out of memory"),
        Failed("RuntimeError: bad picture"),
        "second",
        *range(5, 10),
    ]


def test_what_hangs_is_given_up_and_the_others_go_on() -> None:
    began = time.monotonic()
    results = list(
        run_apart(act, [*plain(range(3)), ("hang", None), *plain(range(3, 6))], 2, timeout=1.5)
    )
    assert results == [0, 1, 2, Failed("no result after 1.5 s"), 3, 4, 5]
    assert time.monotonic() - began < 30


def test_no_more_than_a_few_items_are_ahead_of_the_caller(tmp_path: Path) -> None:
    items = [tmp_path / str(i) for i in range(30)]
    results = run_apart(leave_mark, items, 2, timeout=60)
    next(results)
    time.sleep(1)
    assert len(list(tmp_path.iterdir())) <= 1 + 2 * 2
    results.close()


def leave_mark(path: Path) -> None:
    path.touch()


def test_processes_end_with_the_caller() -> None:
    results = run_apart(own_pid, range(6), 2, timeout=60)
    workers = {next(results), next(results)}
    results.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def own_pid(_: int) -> int:
    return os.getpid()


class _DiesOnArrival:
    """Cannot be unpickled in another process."""

    def __reduce__(self) -> Any:
        return os._exit, (3,)

    def __call__(self, item: Any) -> Any:
        return item


def test_processes_that_cannot_start_are_an_error_not_rejects() -> None:
    with pytest.raises(
        ResourceError,
        match="3 processes in a row died while they started, the last one with exit status 3",
    ):
        list(run_apart(_DiesOnArrival(), range(4), 2, timeout=60))


# --- A whole preparation --------------------------------------------------------------------------


def crash_on(video: Video, settings: Settings, where: dict[str, int]) -> Encoded | Reject:
    """encode_video, but some videos kill the process that decodes them, or make it hang."""
    number = where.get(video.video_id)
    if number == 0:
        time.sleep(600)
    elif number is not None:
        os.kill(os.getpid(), number)
    return encode_video(video, settings)


@pytest.fixture(scope="module")
def videos(cache: Path) -> list[Video]:
    return motion(cache, train=12, test=4, size=32, frames=16)


@pytest.fixture(scope="module")
def without(videos: list[Video], tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """The set without its second, third and last video."""
    return prepare(
        [videos[0], *videos[3:-1]],
        tmp_path_factory.mktemp("without") / "set",
        SETTINGS,
        {},
        workers=1,
    )


@pytest.mark.parametrize("workers", [1, 3])
def test_a_crashing_decoder_does_not_touch_the_other_videos(
    videos: list[Video],
    without: ShardSet,
    workers: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = {
        videos[1].video_id: int(signal.SIGSEGV),
        videos[2].video_id: 0,
        videos[-1].video_id: int(signal.SIGKILL),
    }
    monkeypatch.setattr(preparing, "encode_video", partial(crash_on, where=where))
    shards = prepare(videos, tmp_path / "set", SETTINGS, {}, workers=workers, timeout=2)
    with (shards.root / "rejects.csv").open(newline="") as file:
        rejects = [(row["video_id"], row["reason"].split(":")[0]) for row in csv.DictReader(file)]
    assert rejects == [
        (videos[1].video_id, "decoder crashed twice (signal 11)"),
        (videos[2].video_id, "no result after 2 s"),
        (videos[-1].video_id, "decoder crashed twice (signal 9"),
    ]
    assert (shards.root / shard_name(0)).read_bytes() == (without.root / shard_name(0)).read_bytes()
    assert shards.manifest.checksum == without.manifest.checksum
    assert shards.manifest.rejects == 3


def test_a_timeout_must_be_positive(videos: list[Video], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^timeout: 0 is not valid"):
        prepare(videos, tmp_path / "set", SETTINGS, {}, timeout=0)


# --- Duplicates -----------------------------------------------------------------------------------


def test_the_same_bytes_twice_in_a_split_are_kept_once(videos: list[Video], tmp_path: Path) -> None:
    a, b = videos[:2]
    again = [replace(a, video_id="copy"), replace(a, video_id="other", class_name=b.class_name)]
    shards = prepare([a, b, *again], tmp_path / "set", SETTINGS, {}, workers=2)
    assert list(shards.column("video_id")) == [a.video_id, b.video_id]
    with (shards.root / "rejects.csv").open(newline="") as file:
        assert [(row["video_id"], row["reason"]) for row in csv.DictReader(file)] == [
            ("copy", f"duplicate: the same bytes as {a.video_id}"),
            (
                "other",
                f"duplicate: the same bytes as {a.video_id}, which is of class {a.class_name}",
            ),
        ]
