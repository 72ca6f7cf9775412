"""Preparing videos: what is in the shards, what is rejected and why, and that the result depends on
nothing else.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import simplejpeg
from PIL import Image

from vididi.cli import main
from vididi.data import prepare as preparing
from vididi.data import shard_writer
from vididi.data.encode import Reject, Settings, encode_video, short_side_size
from vididi.data.layout import INDEX_SCHEMA, SHARD_SCHEMA, shard_name
from vididi.data.motion import LAWS, motion
from vididi.data.prepare import prepare
from vididi.data.shards import FrameReader, ShardSet, check_no_overlap
from vididi.data.sources import folder
from vididi.data.video import Video
from vididi.data.video_reader import CHANGES, READER, read_video
from vididi.errors import DataError

SETTINGS = Settings(short_side=20, quality=95)
BAD = ("corrupt.mp4", "empty.mp4", "text.mp4")


@pytest.fixture(scope="module")
def good(cache: Path) -> list[Video]:
    return motion(cache, train=12, test=4, size=32, frames=16)


@pytest.fixture(scope="module")
def listed(good: list[Video], tmp_path_factory: pytest.TempPathFactory) -> list[Video]:
    """Good videos with three bad ones in the middle."""
    place = tmp_path_factory.mktemp("bad")
    whole = good[0].path.read_bytes()
    (place / "corrupt.mp4").write_bytes(whole[: len(whole) // 2])
    (place / "empty.mp4").write_bytes(b"")
    (place / "text.mp4").write_text("this is no video\n" * 50)
    bad = [Video(place / name, f"train/orbit/{name}", "orbit", "train") for name in BAD]
    return [*good[:5], *bad, *good[5:]]


@pytest.fixture(scope="module")
def prepared(listed: list[Video], tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    calls: list[tuple[int, int, int]] = []
    out = tmp_path_factory.mktemp("prepared") / "set"
    shards = prepare(
        listed, out, SETTINGS, {"name": "test"}, lambda *counts: calls.append(counts), workers=2
    )
    assert [call[0] for call in calls] == list(range(1, len(listed) + 1))
    assert calls[-1] == (len(listed), len(listed), 3)
    return shards


def test_a_set_keeps_the_version_of_the_reader_that_made_it(
    prepared: ShardSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert prepared.manifest.reader == READER
    assert set(CHANGES) == set(range(2, READER + 1))
    older = tmp_path / "older"
    shutil.copytree(prepared.root, older)
    content = json.loads((older / "manifest.json").read_text())
    assert content.pop("reader") == READER
    (older / "manifest.json").write_text(json.dumps(content))
    caplog.clear()
    again = [ShardSet.open(older) for _ in range(3)]
    assert again[0].manifest == replace(prepared.manifest, reader=1)
    assert again[0].manifest.checksum == prepared.manifest.checksum
    (said,) = [record.getMessage() for record in caplog.records]  # once
    assert said.startswith(
        f"{older}: made by version 1 of the video reader, this is {READER}: since version 2"
        " mirrored videos are mirrored"
    )
    assert said.endswith("`vididi prepare` into another folder makes it anew")
    assert "\n" not in said
    ShardSet.open(prepared.root)
    assert len(caplog.records) == 1, "of a set that this reader made nothing is said"


def test_a_set_in_the_cache_that_an_older_reader_made_is_kept_and_said(
    make_config: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from vididi.prepared import ensure_prepared

    monkeypatch.setenv("VIDIDI_CACHE", str(tmp_path))
    made = ensure_prepared(make_config())
    path = made.root / "manifest.json"
    path.write_text(
        json.dumps(
            {
                name: value
                for name, value in json.loads(path.read_text()).items()
                if name != "reader"
            }
        )
    )
    monkeypatch.setattr(
        "vididi.prepared.prepare", lambda *_, **__: pytest.fail("it was prepared anew")
    )
    again = ensure_prepared(make_config())
    assert (again.root, again.manifest.checksum, again.manifest.reader) == (
        made.root,
        made.manifest.checksum,
        1,
    )
    assert "made by version 1 of the video reader" in caplog.text


def test_what_another_reader_began_is_begun_anew(
    good: list[Video], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = preparing._plan(good, SETTINGS, tmp_path)
    monkeypatch.setattr(preparing, "READER", READER + 1)
    assert preparing._plan(good, SETTINGS, tmp_path) != plan


# --- What is in the shards ------------------------------------------------------------------------


def test_shards_and_index_have_their_schemas(prepared: ShardSet) -> None:
    assert pq.read_schema(prepared.root / shard_name(0)).equals(SHARD_SCHEMA)
    assert pq.read_schema(prepared.root / "index.parquet").equals(INDEX_SCHEMA)


def test_index_rows_agree_with_the_shards_rows(prepared: ShardSet) -> None:
    fields = [name for name in SHARD_SCHEMA.names if name != "frames"]
    rows = pa.concat_tables(
        pq.read_table(prepared.root / shard_name(i), columns=fields)
        for i in range(prepared.manifest.shards)
    )
    assert prepared.index.select(fields).to_pylist() == rows.to_pylist()


def test_the_rows_are_the_good_videos_in_the_source_s_order(
    prepared: ShardSet, good: list[Video]
) -> None:
    assert list(prepared.column("video_id")) == [video.video_id for video in good]
    assert list(prepared.column("split")) == [video.split for video in good]
    assert list(prepared.column("scene")) == [video.scene for video in good]


def test_labels_are_the_sorted_class_names(prepared: ShardSet, good: list[Video]) -> None:
    assert prepared.manifest.classes == sorted(LAWS)
    assert [prepared.manifest.classes[label] for label in prepared.column("label")] == [
        video.class_name for video in good
    ]


def test_frame_counts_are_those_of_another_decoder(prepared: ShardSet, good: list[Video]) -> None:
    for video, count in zip(good, prepared.column("frame_count"), strict=True):
        with av.open(str(video.path)) as container:
            assert sum(1 for _ in container.decode(video=0)) == count == 16


def test_frames_are_the_source_s_resized(prepared: ShardSet, good: list[Video]) -> None:
    reader = FrameReader(prepared)
    for row, video in enumerate(good[:4]):
        source, rate = read_video(video.path)
        assert prepared.column("fps")[row] == pytest.approx(rate)
        for jpeg, frame in zip(reader.frames(row, np.arange(16)), source, strict=True):
            decoded = simplejpeg.decode_jpeg(bytes(jpeg))
            assert decoded.shape == (20, 20, 3)
            resized = np.asarray(Image.fromarray(frame).resize((20, 20), Image.Resampling.BILINEAR))
            assert psnr(decoded, resized) > 30


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Of the luma; frames as small as these lose more of their colour, which is stored at half the
    resolution.
    """
    luma = np.array([0.299, 0.587, 0.114])
    return float(10 * np.log10(255**2 / max(1e-9, np.square(a @ luma - b @ luma).mean())))


def test_frames_keep_their_aspect_ratio(
    tmp_path: Path, write_video: Callable[..., Path], moving_bar: Callable[..., Any]
) -> None:
    sizes = [(24, 40), (40, 24), (20, 20)]
    paths = [
        write_video(tmp_path / f"{i}.mp4", moving_bar(6, *size)) for i, size in enumerate(sizes)
    ]
    shards = prepare(
        [Video(path, path.stem, "c", "train") for path in paths],
        tmp_path / "out",
        SETTINGS,
        {},
        workers=1,
    )
    assert shards.sizes.tolist() == [[20, 33], [33, 20], [20, 20]]
    for row, (height, width) in enumerate(shards.sizes):
        source = read_video(paths[row])[0][3]
        decoded = simplejpeg.decode_jpeg(bytes(FrameReader(shards).frames(row, np.array([3]))[0]))
        assert decoded.shape == (height, width, 3)
        assert (
            psnr(
                decoded,
                np.asarray(
                    Image.fromarray(source).resize((width, height), Image.Resampling.BILINEAR)
                ),
            )
            > 30
        )


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((240, 320), (150, 200)),
        ((320, 240), (200, 150)),
        ((150, 150), (150, 150)),
        ((100, 900), (150, 1350)),
    ],
)
def test_the_short_side_decides_the_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert short_side_size(*size, 150) == expected


# --- Rejects and manifest -------------------------------------------------------------------------


def test_every_bad_file_is_listed_with_a_reason(prepared: ShardSet, listed: list[Video]) -> None:
    with (prepared.root / "rejects.csv").open(newline="") as file:
        rejects = list(csv.DictReader(file))
    assert [Path(reject["path"]).name for reject in rejects] == list(BAD)
    assert [reject["video_id"] for reject in rejects] == [video.video_id for video in listed[5:8]]
    assert all(len(reject["reason"]) > 10 for reject in rejects)


def test_a_video_whose_frames_a_column_cannot_hold_is_rejected(
    good: list[Video], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vididi.data.encode.MAX_BYTES", 1000)
    found = encode_video(good[0], SETTINGS)
    assert isinstance(found, Reject)
    assert found.reason.startswith("too long: the first ")


def test_the_manifest_counts_what_is_there(prepared: ShardSet) -> None:
    m = json.loads((prepared.root / "manifest.json").read_text())
    assert m["videos"] == {"train": 12, "test": 4}
    assert (m["frames"], m["rejects"], m["shards"], m["version"]) == (16 * 16, 3, 1, 1)
    assert m["source"] == {"name": "test"}
    assert m["prepare"] == {"short_side": 20, "quality": 95, "decoder": "pyav"}


def test_the_checksum_does_not_depend_on_how_many_workers_there_were(
    listed: list[Video], prepared: ShardSet, tmp_path: Path
) -> None:
    again = prepare(listed, tmp_path / "again", SETTINGS, {"name": "elsewhere"}, workers=1)
    assert again.manifest.checksum == prepared.manifest.checksum
    assert again.index.equals(prepared.index)
    assert (again.root / shard_name(0)).read_bytes() == (prepared.root / shard_name(0)).read_bytes()


def test_the_checksum_changes_with_frames_labels_and_splits(
    good: list[Video], tmp_path: Path
) -> None:
    a, b = good[:2]
    made = [
        prepare([a, b], tmp_path / "a", SETTINGS, {}, workers=1),
        prepare([a, b], tmp_path / "b", Settings(short_side=16), {}, workers=1),
        prepare(
            [replace(a, class_name=b.class_name), replace(b, class_name=a.class_name)],
            tmp_path / "c",
            SETTINGS,
            {},
            workers=1,
        ),
        prepare([replace(a, split="test"), b], tmp_path / "d", SETTINGS, {}, workers=1),
    ]
    assert len({shards.manifest.checksum for shards in made}) == 4


def test_nothing_is_left_beside_a_prepared_set(prepared: ShardSet) -> None:
    assert [path.name for path in prepared.root.parent.iterdir()] == ["set"]
    assert sorted(path.name for path in prepared.root.iterdir()) == [
        "index.parquet",
        "manifest.json",
        "rejects.csv",
        "shard-00000.parquet",
    ]


def test_when_nothing_can_be_read_nothing_is_left_behind(
    listed: list[Video], tmp_path: Path
) -> None:
    with pytest.raises(
        DataError, match=r"none of 3 videos could be prepared; the first: .*corrupt\.mp4: "
    ):
        prepare(listed[5:8], tmp_path / "out", SETTINGS, {}, workers=1)
    assert list(tmp_path.iterdir()) == []


def test_no_videos_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lists no videos"):
        prepare([], tmp_path / "out", SETTINGS, {})


def test_what_could_not_be_opened_is_refused_before_anything_is_prepared(
    good: list[Video], tmp_path: Path
) -> None:
    mixed = [good[0], replace(good[1], class_name=""), *good[2:4]]
    with pytest.raises(
        DataError,
        match=(
            rf"^data: 1 of 4 videos have no class, the first is {good[1].video_id}; all have one or"
            r" none$"
        ),
    ):
        prepare(
            mixed,
            tmp_path / "set",
            SETTINGS,
            {"name": "test"},
            run=lambda *_: pytest.fail("decoded"),
        )
    with pytest.raises(DataError, match=r"^data\.name: '\.\./x' is not valid"):
        prepare(
            good[:2],
            tmp_path / "set",
            SETTINGS,
            {"name": "../x"},
            run=lambda *_: pytest.fail("decoded"),
        )
    assert not [*tmp_path.iterdir()]


def test_a_folder_of_something_else_is_left_alone(good: list[Video], tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("long work")
    with pytest.raises(DataError, match=r"thesis: exists and is not a prepared data set"):
        prepare(good[:1], tmp_path / "thesis", SETTINGS, {}, workers=1)
    assert [path.name for path in tmp_path.rglob("*")] == ["thesis", "chapter.txt"]


def test_an_empty_folder_may_be_filled(good: list[Video], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert (
        prepare(good[:1], tmp_path / "empty", SETTINGS, {}, workers=1).manifest.videos["train"] == 1
    )


@pytest.mark.parametrize(("field", "value"), [("short_side", 7), ("quality", 0), ("quality", 101)])
def test_settings_that_cannot_be_are_refused_by_name(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"^{field}: {value} is not valid"):
        Settings(**{field: value})


# --- Opening and reading --------------------------------------------------------------------------


def test_a_folder_without_a_manifest_is_not_opened(prepared: ShardSet, tmp_path: Path) -> None:
    (tmp_path / shard_name(0)).write_bytes((prepared.root / shard_name(0)).read_bytes())
    with pytest.raises(DataError, match=r"no manifest\.json"):
        ShardSet.open(tmp_path)


def test_a_manifest_of_another_version_is_refused(prepared: ShardSet, tmp_path: Path) -> None:
    content = json.loads((prepared.root / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**content, "version": 2, "new": "field"}))
    with pytest.raises(DataError, match="version 2, but this program reads version 1"):
        ShardSet.open(tmp_path)


@pytest.fixture(scope="module")
def split_up(good: list[Video], tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """The same videos in many small shards and row groups."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_writer, "ROW_GROUP_BYTES", 20_000)
        patch.setattr(shard_writer, "SHARD_BYTES", 50_000)
        return prepare(good, tmp_path_factory.mktemp("split") / "set", SETTINGS, {}, workers=1)


@pytest.mark.parametrize(("free", "said"), [(200_000, 1), (1 << 40, 0)])
def test_a_set_that_the_disk_has_no_room_for_is_told_once_as_soon_as_that_shows(
    free: int,
    said: int,
    good: list[Video],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(shard_writer, "ROW_GROUP_BYTES", 6_000)
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 12_000)
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr("vididi.data.prepare.shutil.disk_usage", lambda _: usage)
    prepare(good, tmp_path / "set", SETTINGS, {}, workers=1)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == said
    for line in lines:
        assert line.startswith(f"{tmp_path / 'set.partial'} has 200 KB free, and the other ")
        assert line.endswith(
            " KB if they are like those before; prepare goes on, and ends where the disk is full"
        )


def test_large_sets_are_split_into_shards_and_row_groups(
    split_up: ShardSet, prepared: ShardSet
) -> None:
    assert split_up.manifest.shards == len(list(split_up.root.glob("shard-*.parquet"))) > 2
    assert max(split_up.column("row_group")) > 0
    assert max(split_up.column("row")) > 0
    assert split_up.manifest.checksum == prepared.manifest.checksum


def test_index_places_are_where_the_videos_lie(split_up: ShardSet) -> None:
    for row in split_up.index.to_pylist():
        with pq.ParquetFile(split_up.root / shard_name(row["shard"])) as file:
            names = (
                file.read_row_group(row["row_group"], columns=["video_id"])
                .column("video_id")
                .to_pylist()
            )
        assert names[row["row"]] == row["video_id"]


@pytest.mark.parametrize("cache_bytes", [0, 30_000, 1 << 30])
def test_every_video_is_read_right_with_any_cache(
    split_up: ShardSet, prepared: ShardSet, cache_bytes: int
) -> None:
    reader, whole = FrameReader(split_up, cache_bytes), FrameReader(prepared)
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(16), 3))
    for row in order:
        picks = np.array([15, 0, 7, 7])
        found = [bytes(frame) for frame in reader.frames(int(row), picks)]
        assert found == [bytes(frame) for frame in whole.frames(int(row), picks)]


def test_an_older_set_with_a_training_file_in_the_test_split_is_refused(
    prepared: ShardSet, good: list[Video], tmp_path: Path
) -> None:
    check_no_overlap(prepared)
    shutil.copytree(prepared.root, tmp_path / "set")
    sources = prepared.column("source_sha256").tolist()
    sources[-1] = sources[1]
    place = INDEX_SCHEMA.get_field_index("source_sha256")
    pq.write_table(
        prepared.index.set_column(place, "source_sha256", pa.array(sources)),
        tmp_path / "set" / "index.parquet",
    )
    with pytest.raises(
        DataError,
        match=(
            rf"1 test video is also .*: {good[-1].video_id} \(test\) is {good[1].video_id}"
            r" \(train\)"
        ),
    ):
        check_no_overlap(ShardSet.open(tmp_path / "set"))


@pytest.mark.parametrize("link", [True, False], ids=["link", "hard link"])
def test_one_file_in_both_splits_is_refused_before_anything_is_prepared(
    link: bool, good: list[Video], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.mp4"
    (other.symlink_to if link else other.hardlink_to)(good[1].path)
    monkeypatch.setattr(preparing, "run_apart", pytest.fail)
    with pytest.raises(
        DataError,
        match=(
            rf"1 test video is also a training video.*: test/other \(test\) is {good[1].video_id}"
            r" \(train\)"
        ),
    ):
        prepare(
            [*good[:3], Video(other, "test/other", "c", "test")],
            tmp_path / "out",
            SETTINGS,
            {},
            workers=1,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["other.mp4"]


@pytest.mark.parametrize("test_first", [True, False])
@pytest.mark.parametrize("small", [True, False], ids=["shards before it", "in the first shard"])
def test_the_same_bytes_in_both_splits_are_refused_when_they_come(
    test_first: bool,
    small: bool,
    good: list[Video],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if small:
        monkeypatch.setattr(shard_writer, "ROW_GROUP_BYTES", 6_000)
        monkeypatch.setattr(shard_writer, "SHARD_BYTES", 12_000)
    (tmp_path / "copy.mp4").write_bytes(good[1].path.read_bytes())
    copy = Video(tmp_path / "copy.mp4", "test/copy", good[1].class_name, "test")
    done: list[int] = []
    videos = [copy, *good[:8]] if test_first else [*good[:4], copy, *good[4:8]]
    with pytest.raises(
        DataError,
        match=(
            rf"1 test video is also a training video.*: test/copy \(test\) is {good[1].video_id}"
            r" \(train\)"
        ),
    ):
        prepare(
            videos,
            tmp_path / "out",
            SETTINGS,
            {},
            lambda *counts: done.append(counts[0]),
            workers=1,
        )
    assert max(done) == (2 if test_first else 4), "it stops at once"
    assert [path.name for path in tmp_path.iterdir()] == ["copy.mp4"], "nothing of it stays"


def test_equal_frames_of_different_files_are_a_warning_that_names_both(
    good: list[Video], tmp_path: Path
) -> None:
    other = tmp_path / "other.mp4"  # a free box at its end: other bytes, the same frames
    other.write_bytes(good[1].path.read_bytes() + b"\0\0\0\x0cfreeMORE")
    again = tmp_path / "again.mp4"
    again.write_bytes(good[0].path.read_bytes() + b"\0\0\0\x0cfreeMORE")
    videos = [
        *good[:3],
        Video(again, "again", good[0].class_name, "train"),
        Video(other, "test/other", good[1].class_name, "test"),
    ]
    shards = prepare(videos, tmp_path / "out", SETTINGS, {}, workers=1)
    check_no_overlap(shards)
    assert shards.manifest.rejects == 0
    (remark,) = shards.remarks
    assert (
        remark == "warning: 2 videos have the frames of another file, 1 of them of one in the other"
        f" split: test/other (test) and {good[1].video_id} (train); again (train) and"
        f" {good[0].video_id} (train)"
    )


# --- Classes without videos -----------------------------------------------------------------------


def test_a_class_whose_every_video_was_rejected_keeps_its_number_and_is_not_counted(
    good: list[Video], tmp_path: Path
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"\0" * 100)
    names = [
        replace(good[0], class_name="a"),
        Video(tmp_path / "broken.mp4", "b", "b", "train"),
        replace(good[2], class_name="c"),
    ]
    shards = prepare(names, tmp_path / "out", SETTINGS, {}, workers=1)
    assert shards.manifest.classes == ["a", "b", "c"]
    assert shards.column("label").tolist() == [0, 2]
    assert shards.classes == {0: "a", 2: "c"}
    assert shards.summary == "2 training and 0 test videos, 2 classes, 1 rejected"
    assert shards.remarks == ["1 of 3 classes have no videos: b"]


# --- Names ----------------------------------------------------------------------------------------


def test_a_name_that_is_not_utf8_is_rejected_and_the_others_are_prepared(
    good: list[Video], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (b"run/a.mp4", b"run/caf\xe9.mp4", b"b\xe4r/b.mp4"):
        path = Path(os.fsdecode(os.fsencode(tmp_path / "videos") + b"/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(good[len(name) % 3].path.read_bytes())
    touch(tmp_path, "videos/run/notes.txt", "videos/loose.mp4")
    assert (
        main(
            [
                "prepare",
                "folder",
                "--videos",
                str(tmp_path / "videos"),
                "--out",
                str(tmp_path / "out"),
                "--short-side",
                "16",
            ]
        )
        == 3
    )
    said = capsys.readouterr().out
    assert "1 training and 0 test videos, 1 classes, 2 rejected" in said
    assert r"1 of 2 classes have no videos: b\xe4r" in said
    left_out = [
        "1 video left out: in no class folder: loose.mp4",
        "1 file is no video by its suffix: 1 .txt",
    ]
    assert ShardSet.open(tmp_path / "out").manifest.listing_notes == left_out
    assert "\n".join(left_out) in said
    with (tmp_path / "out" / "rejects.csv").open(newline="") as file:
        found = [(row["video_id"], row["path"], row["reason"]) for row in csv.DictReader(file)]
    assert [row[0] for row in found] == [r"b\xe4r/b.mp4", r"run/caf\xe9.mp4"]
    assert found[1][1] == rf"{tmp_path}/videos/run/caf\xe9.mp4"
    assert all("is not UTF-8; rename it" in row[2] for row in found)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.ts", "export const x: number = 1;\n" * 99),
        ("a.mp4", "ffconcat version 1.0\nfile b.mp4\n"),
        ("a.mov", "größe\n"),
    ],
)
def test_text_is_no_video_whatever_its_suffix(
    name: str, text: str, good: list[Video], tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "b.mp4").write_bytes(
        good[0].path.read_bytes()
    )  # which FFmpeg would show for a list that names it
    found = encode_video(Video(tmp_path / name, "a", "c", "train"), SETTINGS)
    assert isinstance(found, Reject)
    assert found.reason.startswith("text, no video; it begins with")


# --- The folder source ----------------------------------------------------------------------------


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def test_class_folders_are_one_training_split(tmp_path: Path) -> None:
    touch(tmp_path, "walk/b.avi", "walk/a.MP4", "run/c.mkv", "run/notes.txt", "readme.mp4")
    videos = folder(tmp_path, videos=tmp_path)
    assert [(v.video_id, v.class_name, v.split) for v in videos] == [
        ("run/c.mkv", "run", "train"),
        ("walk/a.MP4", "walk", "train"),
        ("walk/b.avi", "walk", "train"),
    ]


def test_class_folders_and_videos_may_be_links(tmp_path: Path) -> None:
    touch(tmp_path, "disk/walk/a.mp4", "disk/run/b.mp4")
    (tmp_path / "set" / "run").mkdir(parents=True)
    (tmp_path / "set" / "walk").symlink_to(tmp_path / "disk" / "walk")
    (tmp_path / "set" / "run" / "b.mp4").symlink_to(tmp_path / "disk" / "run" / "b.mp4")
    assert [v.video_id for v in folder(tmp_path, videos=tmp_path / "set")] == [
        "run/b.mp4",
        "walk/a.mp4",
    ]


def test_split_folders_hold_class_folders(tmp_path: Path) -> None:
    touch(tmp_path, "train/walk/a.mp4", "train/run/b.mp4", "test/walk/c.mp4")
    videos = folder(tmp_path, videos=tmp_path)
    assert [(v.video_id, v.class_name, v.split) for v in videos] == [
        ("train/run/b.mp4", "run", "train"),
        ("train/walk/a.mp4", "walk", "train"),
        ("test/walk/c.mp4", "walk", "test"),
    ]


def test_split_folders_may_have_other_names(tmp_path: Path) -> None:
    touch(tmp_path, "fit/walk/a.mp4", "val/walk/c.mp4")
    assert {
        v.split: v.video_id for v in folder(tmp_path, videos=tmp_path, train="fit", test="val")
    } == {
        "train": "fit/walk/a.mp4",
        "test": "val/walk/c.mp4",
    }


def test_one_split_folder_alone_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "train/walk/a.mp4")
    with pytest.raises(DataError, match="holds train/ but not both of train/ and test/"):
        folder(tmp_path, videos=tmp_path)


def test_a_folder_without_videos_names_the_known_suffixes(tmp_path: Path) -> None:
    touch(tmp_path, "walk/a.txt", "loose.mp4")
    with pytest.raises(
        DataError,
        match=(
            r"no video files in class folders under .*\.avi.*\.mp4.*1 file is no video by its"
            r" suffix: 1 \.txt"
        ),
    ):
        folder(tmp_path, videos=tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.videos: .*nowhere is not a folder"):
        folder(tmp_path, videos=tmp_path / "nowhere")
