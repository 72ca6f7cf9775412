"""Prepared data in an object store, against a local server that speaks S3."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vididi.cli import main
from vididi.data import prepare as preparing
from vididi.data import shard_writer
from vididi.data.encode import Settings
from vididi.data.motion import motion
from vididi.data.plan import PretrainPlan, frame_counts
from vididi.data.shards import ShardSet
from vididi.data.storage import RemotePath, as_folder, sizes, write_durably
from vididi.data.stream import local_stream
from vididi.data.video import Video
from vididi.errors import DataError
from vididi.prepared import ensure_prepared
from vididi.runs.mirror import local_path


@pytest.fixture(scope="module")
def remote(bucket: str, make_config: Callable[..., Any]) -> ShardSet:
    """The tiny set, prepared into the bucket."""
    return ensure_prepared(make_config(), as_folder(f"{bucket}/sets/tiny"))


def test_a_set_in_a_store_is_the_one_on_disk(remote: ShardSet, tiny_shards: ShardSet) -> None:
    assert isinstance(remote.root, RemotePath)
    assert remote.manifest == tiny_shards.manifest
    assert remote.index.equals(tiny_shards.index)


def test_it_streams_the_same_batches(remote: ShardSet, tiny_shards: ShardSet) -> None:
    plan = PretrainPlan(remote.rows("train"), frame_counts(remote), 4, 2, 8, 2, seed=0)
    for ours, expected in zip(
        local_stream(remote)(plan, 1), local_stream(tiny_shards)(plan, 1), strict=True
    ):
        np.testing.assert_array_equal(ours.clips, expected.clips)


def test_it_travels_to_other_processes_by_name_only(remote: ShardSet) -> None:
    remote.root.is_file()  # connects
    assert pickle.loads(pickle.dumps(remote)).index.equals(remote.index)


def test_what_is_there_is_not_prepared_again(
    remote: ShardSet, make_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vididi.prepared.prepare", lambda *_, **__: pytest.fail("prepared again"))
    assert ensure_prepared(make_config(), as_folder(str(remote.root))).manifest == remote.manifest


def test_a_place_with_other_things_in_it_is_refused_and_left_alone(
    bucket: str, make_config: Callable[..., Any]
) -> None:
    place = RemotePath(f"{bucket}/sets/thesis")
    write_durably(place / "thesis.txt", "long work")
    with pytest.raises(DataError, match=r"sets/thesis: exists and is not a prepared data set"):
        ensure_prepared(make_config(), place)
    with pytest.raises(DataError, match=r"no manifest\.json"):
        ShardSet.open(place)
    assert sizes(place) == {"thesis.txt": 9}


# --- Shard by shard -------------------------------------------------------------------------------

SHARD, GROUP = 60_000, 20_000  # bytes: three or four videos to a shard

PROGRAM = f"""
import os, signal, sys
from pathlib import Path
from vididi.data import prepare as preparing, shard_writer
from vididi.data.motion import motion
from vididi.data.storage import RemotePath

shard_writer.SHARD_BYTES, shard_writer.ROW_GROUP_BYTES = {SHARD}, {GROUP}
if __name__ == "__main__":
    machine, out, limit = Path(sys.argv[1]), RemotePath(sys.argv[2]), int(sys.argv[3])
    videos = motion(machine, train=24, test=12, size=32, frames=16)
    first = None
    def progress(done, *_):
        global first
        if first is None:
            first = done
            print(done, len(list((machine / "aside" / "set").glob("shard-*"))), flush=True)
        if done >= limit:
            os.kill(os.getpid(), signal.SIGKILL)
    preparing.prepare(
        videos, out, preparing.Settings(short_side=40), {{"name": "test"}}, progress, workers=1, work_dir=machine / "aside"
    )
"""


def keys(bucket: str, folder: str) -> dict[str, bytes]:
    """The objects below a folder, without the empty ones that stand for folders."""
    import boto3

    store = boto3.client("s3")
    listed = store.list_objects_v2(Bucket=bucket.removeprefix("s3://"), Prefix=f"{folder}/").get(
        "Contents", []
    )
    names = [entry["Key"] for entry in listed if not entry["Key"].endswith("/")]
    return {
        name.removeprefix(f"{folder}/"): store.get_object(Bucket="clips", Key=name)["Body"].read()
        for name in names
    }


@pytest.mark.usefixtures("small_shards")
def test_of_a_set_with_the_same_bytes_in_both_splits_nothing_stays(
    bucket: str, tmp_path: Path
) -> None:
    videos = motion(tmp_path / "motion", train=9, test=0, size=32, frames=16)
    (tmp_path / "copy.mp4").write_bytes(videos[0].path.read_bytes())
    copy = Video(tmp_path / "copy.mp4", "copy", "c", "test")
    place = RemotePath(f"{bucket}/leak")
    with pytest.raises(DataError, match=r"copy \(test\) is .*\(train\)"):
        preparing.prepare(
            [*videos, copy], place, Settings(40), {}, workers=1, work_dir=tmp_path / "aside"
        )
    assert keys(bucket, "leak") == {}
    assert not (tmp_path / "aside").exists()


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", SHARD)
    monkeypatch.setattr(shard_writer, "ROW_GROUP_BYTES", GROUP)


@pytest.mark.usefixtures("small_shards")
def test_killed_and_started_on_another_machine_it_goes_on_to_the_same_bytes(
    bucket: str, repo_root: Path, tmp_path: Path, cache: Path
) -> None:
    (tmp_path / "prepare_there.py").write_text(PROGRAM)
    whole = preparing.prepare(
        motion(cache, train=24, test=12, size=32, frames=16),
        tmp_path / "whole",
        Settings(short_side=40),
        {"name": "test"},
        workers=2,
    )
    starts = []
    for machine, limit in (("one", 17), ("two", 30), ("three", 99)):
        command = [
            sys.executable,
            str(tmp_path / "prepare_there.py"),
            str(tmp_path / machine),
            f"{bucket}/sets/moved",
            str(limit),
        ]
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": str(repo_root)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) == (machine == "three"), done.stderr
        starts.append(int(done.stdout.split()[0]))
        if machine != "three":
            there = keys(bucket, "sets/moved")
            assert "manifest.json" not in there
            assert {"partial/plan.json", "partial/done-00000.json", "shard-00000.parquet"} <= set(
                there
            )
            assert len(list((tmp_path / machine / "aside" / "set").iterdir())) <= 1, (
                "finished shards are not kept here"
            )
    assert starts[0] == 1
    assert 12 < starts[1] <= 17
    assert 24 < starts[2] <= 30
    assert keys(bucket, "sets/moved") == {
        path.name: path.read_bytes() for path in Path(str(whole.root)).iterdir()
    }
    assert not (tmp_path / "three" / "aside").exists()


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("change", ["settings", "torn"])
def test_a_store_with_other_or_torn_work_ends_with_the_right_bytes(
    change: str, bucket: str, tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    videos, place = (
        motion(cache, train=24, test=12, size=32, frames=16),
        RemotePath(f"{bucket}/sets/{change}"),
    )

    def stop(done: int, total: int, rejects: int) -> None:
        if done == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        preparing.prepare(
            videos, place, Settings(short_side=40), {}, stop, workers=2, work_dir=tmp_path / "aside"
        )
    settings = Settings(short_side=20) if change == "settings" else Settings(short_side=40)
    if change == "torn":
        write_durably(place / "shard-00001.parquet", "half of it")
    preparing.prepare(videos, place, settings, {}, workers=2, work_dir=tmp_path / "aside")
    whole = preparing.prepare(videos, tmp_path / "whole", settings, {}, workers=2)
    assert keys(bucket, f"sets/{change}") == {
        path.name: path.read_bytes() for path in Path(str(whole.root)).iterdir()
    }
    assert ("starting anew" in caplog.text) == (change == "settings")


def test_the_commands_take_a_uri(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        "--set",
        "train=6",
        "--set",
        "test=3",
        "--set",
        "size=32",
        "--set",
        "frames=16",
        "--short-side",
        "16",
    ]
    assert main(["prepare", "motion", "--out", f"{bucket}/sets/motion", *options]) == 0
    assert f"in {bucket}/sets/motion" in capsys.readouterr().out
    assert ShardSet.open(RemotePath(f"{bucket}/sets/motion")).manifest.videos == {
        "train": 6,
        "test": 3,
    }
    assert main(["check", f"{bucket}/sets/motion"]) == 0
    assert "all 144 frames of 9 videos are as they were" in capsys.readouterr().out
    shard = keys(bucket, "sets/motion")["shard-00000.parquet"]
    middle = len(shard) // 2
    filesystem, place = RemotePath(f"{bucket}/sets/motion/shard-00000.parquet").location
    with filesystem.open_output_stream(place) as file:
        file.write(shard[:middle] + bytes([shard[middle] ^ 1]) + shard[middle + 1 :])
    assert main(["check", f"{bucket}/sets/motion"]) == 1
    assert "1 of 9 videos are bad" in capsys.readouterr().out


def test_paths_and_uris_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert as_folder("sets/tiny") == tmp_path / "sets" / "tiny"
    assert as_folder("s3://bucket/a") == RemotePath("s3://bucket/a")
    with pytest.raises(
        DataError,
        match=r"ftp://host/a: 'ftp' is not a known scheme; it is a path, or one of s3://, gs://",
    ):
        as_folder("ftp://host/a")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a\0b", "a NUL character is in its name"),
        ("x" * 5000, "File name too long"),
        ("~nobody-of-this-name/x", "home directory"),
        ("/dev/zero", "it is a device, not a folder"),
        (__file__, "it is a regular file, not a folder"),
    ],
    ids=["nul", "long", "home", "device", "file"],
)
def test_a_place_that_cannot_be_a_folder_is_refused_in_one_sentence(text: str, why: str) -> None:
    with pytest.raises(DataError, match=why) as error:
        as_folder(text)
    assert len(str(error.value)) < 300
    if "folder" not in why and "home" not in why:
        with pytest.raises(DataError, match=why):
            local_path(text)


def test_names_below_a_uri_keep_its_query() -> None:
    assert (
        str(RemotePath("s3://bucket/a/?scheme=http") / "b.parquet")
        == "s3://bucket/a/b.parquet?scheme=http"
    )
    assert (RemotePath("s3://bucket/a?scheme=http") / "b").name == "b"
