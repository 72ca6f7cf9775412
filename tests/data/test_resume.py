"""A preparation that is killed goes on, and ends with the bytes of one that was not."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest

from vididi.data import prepare as preparing
from vididi.data import shard_writer
from vididi.data.encode import Encoded, Settings
from vididi.data.motion import motion
from vididi.data.prepare import prepare
from vididi.data.shards import ShardSet
from vididi.data.video import Video
from vididi.errors import DataError

SETTINGS = Settings(short_side=40)
SHARD, GROUP = 60_000, 20_000  # bytes: three or four videos to a shard

PROGRAM = f"""
import sys
from pathlib import Path
from vididi.data import prepare as preparing, shard_writer
from vididi.data.motion import motion
from vididi.data.video import Video

shard_writer.SHARD_BYTES, shard_writer.ROW_GROUP_BYTES = {SHARD}, {GROUP}
if __name__ == "__main__":
    videos = motion(Path(sys.argv[1]), train=44, test=12, size=32, frames=16)
    videos[20:20] = [Video(Path("/nowhere.mp4"), "nowhere", "orbit", "train")]
    def progress(*counts):
        print(*counts, flush=True)
    preparing.prepare(videos, Path(sys.argv[2]), preparing.Settings(short_side=40), {{"name": "test"}}, progress, workers=int(sys.argv[3]))
"""


@pytest.fixture(scope="module")
def videos(cache: Path) -> list[Video]:
    listed = motion(cache, train=44, test=12, size=32, frames=16)
    listed[20:20] = [Video(Path("/nowhere.mp4"), "nowhere", "orbit", "train")]
    return listed


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", SHARD)
    monkeypatch.setattr(shard_writer, "ROW_GROUP_BYTES", GROUP)


@pytest.fixture(scope="module")
def whole(videos: list[Video], tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """The set, prepared in one go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_writer, "SHARD_BYTES", SHARD)
        patch.setattr(shard_writer, "ROW_GROUP_BYTES", GROUP)
        return prepare(
            videos, tmp_path_factory.mktemp("whole") / "set", SETTINGS, {"name": "test"}, workers=2
        )


@pytest.fixture
def program(tmp_path: Path, repo_root: Path, cache: Path) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a process that prepares the same set; give it ``out`` and
    ``workers``.
    """
    (tmp_path / "program").mkdir()
    path = tmp_path / "program" / "prepare_it.py"
    path.write_text(PROGRAM)
    return [sys.executable, str(path), str(cache)], {**os.environ, "PYTHONPATH": str(repo_root)}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(
    whole: ShardSet, program: tuple[list[str], dict[str, str]], tmp_path: Path
) -> None:
    command, environment = program
    out, rng = tmp_path / "out" / "set", random.Random(0)
    starts = []
    for attempt in range(20):
        process = subprocess.Popen(
            [*command, str(out), str(1 + attempt % 3)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(rng.randint(1, 20))]  # one for each video
        starts.append(int(lines[0].split()[0]))
        time.sleep(rng.uniform(0, 0.005))
        process.send_signal(signal.SIGKILL)
        process.stdout.read()
        process.wait()
        if (out / "manifest.json").exists():
            break
    assert out.exists(), f"after 20 attempts it was at {starts}"
    assert len(starts) > 2
    assert starts == sorted(starts), "what was done stays done"
    ShardSet.open(out)
    assert contents(out) == contents(whole.root)


@pytest.mark.parametrize("point", ["record", "finish", "_publish"])
def test_stopped_between_any_two_files_it_goes_on(
    point: str,
    whole: ShardSet,
    videos: list[Video],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An exception at each place where the state on disk changes, before and after the change."""
    owner = preparing if point == "_publish" else preparing.Journal
    real, calls = getattr(owner, point), []

    def stop(*arguments: object) -> None:
        calls.append(point)
        if len(calls) == 1:
            raise KeyboardInterrupt  # before
        real(*arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt  # after

    monkeypatch.setattr(owner, point, stop)
    out = tmp_path / "out" / "set"
    stopped = 0
    while not out.exists():
        try:
            prepare(videos, out, SETTINGS, {"name": "test"}, workers=2)
        except KeyboardInterrupt:
            stopped += 1
    assert stopped == (2 if point == "record" else 1)
    assert contents(out) == contents(whole.root)
    assert [path.name for path in out.parent.iterdir()] == ["set"]


def stop_after(videos: list[Video], out: Path, count: int) -> None:
    """Prepare until ``count`` videos are done, then stop as Ctrl-C does."""

    def progress(done: int, total: int, rejects: int) -> None:
        if done >= count:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(videos, out, SETTINGS, {"name": "test"}, progress, workers=2)


def test_progress_begins_where_the_work_goes_on(videos: list[Video], tmp_path: Path) -> None:
    out, calls = tmp_path / "set", []
    stop_after(videos, out, 40)
    prepare(
        videos, out, SETTINGS, {"name": "test"}, lambda *counts: calls.append(counts), workers=2
    )
    assert 30 < calls[0][0] <= 40
    assert calls[0][1:] == (57, 1)
    assert [call[0] for call in calls] == list(range(calls[0][0], 58))


def test_other_settings_start_anew_and_say_so(
    whole: ShardSet, videos: list[Video], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "set"
    stop_after([*videos[1:], videos[0]], out, 40)
    prepare(videos, out, SETTINGS, {"name": "test"}, workers=2)
    assert "set.partial: was of other videos, settings or versions; starting anew" in caplog.text
    assert contents(out) == contents(whole.root)


def test_a_file_that_changed_meanwhile_starts_anew(
    tmp_path: Path, videos: list[Video], caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "copy.mp4"
    place.write_bytes(videos[0].path.read_bytes())
    listed = [Video(place, "copy", "orbit", "train"), *videos[1:30]]
    stop_after(listed, tmp_path / "set", 25)
    place.write_bytes(videos[40].path.read_bytes())
    prepare(listed, tmp_path / "set", SETTINGS, {}, workers=2)
    assert "starting anew" in caplog.text


def test_a_torn_shard_is_written_again(
    whole: ShardSet, videos: list[Video], tmp_path: Path
) -> None:
    out = tmp_path / "set"
    stop_after(videos, out, 40)
    shards = sorted((tmp_path / "set.partial" / "set").glob("shard-*"))
    done = list((tmp_path / "set.partial").glob("done-*"))
    assert len(shards) >= len(done) > 2
    shards[len(done) - 1].write_bytes(b"")
    prepare(videos, out, SETTINGS, {"name": "test"}, workers=2)
    assert contents(out) == contents(whole.root)


@pytest.mark.parametrize("file", ["done-00001.json", "plan.json"])
@pytest.mark.parametrize("how", ["flipped", "cut"])
def test_a_damaged_file_of_the_journal_is_named_and_what_it_stood_for_is_made_again(
    whole: ShardSet,
    videos: list[Video],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    file: str,
    how: str,
) -> None:
    out = tmp_path / "set"
    stop_after(videos, out, 40)
    path = tmp_path / "set.partial" / file
    content = bytearray(path.read_bytes())
    place = random.Random(file).randrange(len(content))
    content[place] ^= 1
    path.write_bytes(content if how == "flipped" else content[:place])
    prepare(videos, out, SETTINGS, {"name": "test"}, workers=2)
    assert f"{path}: " in caplog.text
    assert contents(out) == contents(whole.root)


def test_two_processes_prepare_the_same_set_once(
    whole: ShardSet, program: tuple[list[str], dict[str, str]], tmp_path: Path
) -> None:
    command, environment = program
    out = tmp_path / "out" / "set"
    both = [
        subprocess.Popen(
            [*command, str(out), "1"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    texts = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], texts
    assert sorted(len(stdout.splitlines()) for stdout, _ in texts) == [
        0,
        57,
    ], "one did all the work"
    assert "another process is preparing this data set" in texts[0][1] + texts[1][1]
    assert contents(out) == contents(whole.root)
    assert [path.name for path in out.parent.iterdir()] == ["set"]


def test_what_came_meanwhile_is_left_alone_and_so_is_the_work(
    videos: list[Video], tmp_path: Path
) -> None:
    out = tmp_path / "set"

    def progress(done: int, total: int, rejects: int) -> None:
        out.mkdir(exist_ok=True)
        (out / "thesis.txt").write_text("long work")

    with pytest.raises(DataError, match="set: exists and is not a prepared data set"):
        prepare(videos[:4], out, SETTINGS, {}, progress, workers=1)
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def test_what_is_noted_of_videos_stays_noted(tmp_path: Path) -> None:
    """As an index row does: once, in order, where the preparation was stopped between."""
    videos = [Video(tmp_path / f"{number}.mp4", f"{number}", "", "train") for number in range(12)]
    frames = [bytes([number]) * SHARD for number in range(12)]  # a shard each

    def run(
        function: object, left: Sequence[Video], timeout: float, made_with: object
    ) -> Generator[Encoded]:
        for video in left:
            number = int(video.video_id)
            if number == stop:
                raise KeyboardInterrupt
            yield Encoded(
                [frames[number]],
                20.0,
                40,
                40,
                f"{number:064x}",
                note=f"note {number}" if number % 3 == 0 else "",
            )

    stop = 7
    with pytest.raises(KeyboardInterrupt):
        prepare(videos, tmp_path / "out", SETTINGS, {"name": "test"}, run=run)
    stop = 12
    shards = prepare(videos, tmp_path / "out", SETTINGS, {"name": "test"}, run=run)
    assert shards.manifest.shards == 12
    with (shards.root / "notes.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["video_id", "path", "note"],
            *(
                [f"{number}", str(tmp_path / f"{number}.mp4"), f"note {number}"]
                for number in (0, 3, 6, 9)
            ),
        ]
