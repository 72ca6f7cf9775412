"""A prepared set that lies is refused: when it is opened, when its frames are read, and by ``vididi
check``.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import simplejpeg

from vididi.cli import main
from vididi.data import shard_writer
from vididi.data.encode import Settings
from vididi.data.layout import INDEX_SCHEMA, SHARD_SCHEMA, footer, frames_sha256, shard_name
from vididi.data.motion import motion
from vididi.data.plan import EvaluationPlan, Request, frame_counts
from vididi.data.prepare import prepare
from vididi.data.shards import FrameReader, ShardSet
from vididi.data.stream import Buffers, decode, fetch, local_stream
from vididi.data.verify import check_frames, index_checksum
from vididi.data.video import Actions, Box, Boxes, Moment, Video
from vididi.errors import DamagedError, DataError

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def original(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 16 videos in several shards and row groups."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_writer, "ROW_GROUP_BYTES", 20_000)
        patch.setattr(shard_writer, "SHARD_BYTES", 50_000)
        videos = motion(cache, train=12, test=4, size=32, frames=16)
        return prepare(
            videos,
            tmp_path_factory.mktemp("original") / "set",
            Settings(short_side=20),
            {"name": "motion"},
            workers=1,
        ).root  # type: ignore[return-value]


@pytest.fixture(scope="module")
def boxed(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set without classes, with boxes."""
    files = motion(cache, train=12, test=4, size=32, frames=16)[:3]
    actions = Actions(((1, "bend"), (12, "stand"), (80, "watch")), (12, 80))
    people = (Box(0.1, 0.2, 0.5, 0.9, 1, (12, 80)), Box(0.5, 0.2, 0.75, 1.0, 2, (1,)))
    moment = Moment(0.3, 2, 2)
    videos = [
        Video(file.path, f"film/{n:04d}", "", "train", "", moment, Boxes(n, people, actions))
        for n, file in enumerate(files)
    ]
    out = tmp_path_factory.mktemp("boxed") / "set"
    return prepare(videos, out, Settings(short_side=20), {"name": "ava"}, workers=1).root  # type: ignore[return-value]


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "set"))


def change_manifest(root: Path, change: Change) -> None:
    content = json.loads((root / "manifest.json").read_text())
    change(content)
    (root / "manifest.json").write_text(json.dumps(content))


def change_table(path: Path, row: int, change: dict[str, Any]) -> None:
    """Another value in a row; the manifest's checksum is made to fit."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[row] |= change
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
    index = pq.read_table(path.parent / "index.parquet")
    boxes = (
        pq.read_table(path.parent / "boxes.parquet")
        if (path.parent / "boxes.parquet").is_file()
        else None
    )
    change_manifest(path.parent, lambda m: m.update(checksum=index_checksum(index, boxes)))


def refused(root: Path, match: str) -> None:
    with pytest.raises(DamagedError, match=match) as caught:
        ShardSet.open(root)
    assert str(caught.value).startswith(str(root))


def test_who_opens_a_set_keeps_no_footers_of_its_shards(copy: Path) -> None:
    """They take megabytes each."""
    shards = ShardSet.open(copy)
    assert footer.cache_info().currsize == 0
    FrameReader(shards).frames(0, np.arange(1))
    assert footer.cache_info().currsize == 1


# --- Manifest -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "7", '{"videos": {}}', "\0" * 40, "[" * 100_000]
)
def test_a_manifest_that_is_none_is_damaged(copy: Path, content: str) -> None:
    (copy / "manifest.json").write_text(content)
    refused(copy, r"manifest\.json: is not")


def test_a_manifest_that_is_not_text_is_damaged(copy: Path) -> None:
    (copy / "manifest.json").write_bytes(b"\xff\xfe\x00{")
    refused(copy, r"manifest\.json: cannot be read")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(
            (name, value)
            for name in ("frames", "rejects", "shards", "reader")
            for value in (-1, "3", 2.5, True, None)
        ),
        ("frames", 0),
        ("shards", 0),
        *(
            ("videos", value)
            for value in (
                {"train": 12},
                {"train": 12, "test": -4},
                {"train": 12, "test": 4, "val": 0},
                [12, 4],
            )
        ),
        *(("classes", value) for value in ("ab", ["a", "a"], ["a", ""], [1], None)),
        *(("checksum", value) for value in ("", "A" * 64, "a" * 63, 7)),
        ("source", []),
        *(
            ("source", {"name": value})
            for value in (3, "", "..", "/../../../evil/x", "x\n", "x\0", "\u00e4", "a" * 300)
        ),
        *(
            ("prepare", value)
            for value in (None, {"short_side": "20"}, {"short_side": True}, {"short_side": 0})
        ),
        ("unknown", 1),
    ],
)
def test_a_manifest_with_a_field_of_another_form_is_damaged(
    copy: Path, field: str, value: Any
) -> None:
    change_manifest(copy, lambda m: m.update({field: value}))
    refused(copy, rf"manifest\.json: {field}")


@pytest.mark.parametrize("field", ["videos", "frames", "classes", "checksum", "source"])
def test_a_manifest_without_a_field_is_damaged(copy: Path, field: str) -> None:
    change_manifest(copy, lambda m: m.pop(field))
    refused(copy, rf"manifest\.json: {field}: Field required")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"checksum": "0" * 64}, r"checksum: 0{64} is not that of index\.parquet, [0-9a-f]{64}$"),
        ({"shards": 10**15}, r"shard-\d+\.parquet: is missing, though manifest\.json says"),
        ({"frames": 257}, r"frames: 257 is not what index\.parquet has, 256$"),
        (
            {"videos": {"train": 11, "test": 5}},
            r"videos\.train: 11 is not what index\.parquet has, 12$",
        ),
    ],
)
def test_a_manifest_that_does_not_fit_the_index_is_damaged(
    copy: Path, change: dict[str, Any], match: str
) -> None:
    change_manifest(copy, lambda m: m.update(change))
    refused(copy, match)


def test_a_manifest_of_another_version_is_no_damage(copy: Path) -> None:
    change_manifest(copy, lambda m: m.update(version=2, new=1))
    with pytest.raises(DataError, match="version 2, but this program reads version 1") as caught:
        ShardSet.open(copy)
    assert not isinstance(caught.value, DamagedError)


# --- Index ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *((name, None) for name in INDEX_SCHEMA.names),
        *(("video_id", value) for value in ("", "a\0b")),
        *(("label", value) for value in (-1, -7, 10, 2**31 - 1)),
        ("class_name", "another"),
        *(("split", value) for value in ("val", "", "Train")),
        *((name, value) for name in ("frame_count", "height", "width") for value in (0, -1)),
        ("width", 2**31 - 1),  # more than a JPEG can have, and than fits into memory
        *(("height", value) for value in (19, 21)),  # the shorter side must be 20
        ("width", 19),
        *(("fps", value) for value in (float("nan"), float("inf"), -1.0)),
        *(
            (name, value)
            for name in ("source_sha256", "frames_sha256")
            for value in ("", "g" * 64, "a" * 65)
        ),
        *(("shard", value) for value in (-1, 1000)),
        *((name, -1) for name in ("row_group", "row")),
    ],
)
def test_an_index_with_a_value_that_cannot_be_is_damaged(
    copy: Path, column: str, value: Any
) -> None:
    change_table(
        copy / "index.parquet",
        3,
        {column: value, **({"width": value} if column == "height" and value == 21 else {})},
    )
    refused(
        copy,
        rf"index\.parquet: row 3, video .*: {column}: {value!r} is not valid".replace(
            "\\x00", ".*"
        ),
    )


def test_an_index_that_names_a_video_twice_is_damaged(copy: Path) -> None:
    index = pq.read_table(copy / "index.parquet")
    change_table(copy / "index.parquet", 5, {"video_id": index.column("video_id")[2].as_py()})
    refused(copy, "row 5, video .*: video_id: .* must be unlike that of any row before")


def test_an_index_with_all_videos_in_one_row_is_damaged(copy: Path) -> None:
    table = pq.read_table(copy / "index.parquet")
    zeros = pa.array(np.zeros(len(table)), pa.int32())
    pq.write_table(
        table.set_column(table.column_names.index("row"), "row", zeros), copy / "index.parquet"
    )
    refused(copy, r"videos .* and .* are both in row 0 of row group \d+ of shard-0000\d")


@pytest.mark.parametrize(
    ("column", "value"), [("row", 50), ("row_group", 50), ("row_group", 2**31 - 1)]
)
def test_an_index_that_points_outside_of_a_shard_is_damaged(
    copy: Path, column: str, value: int
) -> None:
    change_table(copy / "index.parquet", 7, {column: value})
    refused(copy, r"row 7, video .*: shard-0000\d\.parquet has no row \d+ in a row group \d+")


def test_a_shard_with_videos_that_the_index_leaves_out_is_damaged(copy: Path) -> None:
    other = pq.read_table(copy / shard_name(0))
    with pq.ParquetWriter(copy / shard_name(0), SHARD_SCHEMA) as file:
        file.write_table(pa.concat_tables([other, other.slice(0, 1)]))
    refused(
        copy,
        r"shard-00000.parquet: row group 0 has \d+ videos, of which index.parquet lists \d+|has"
        r" no row",
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda table: table.drop_columns(["fps"]),
        lambda table: table.append_column("more", table.column("fps")),
        lambda table: table.set_column(1, "label", table.column("label").cast(pa.int64())),
        lambda table: table.slice(0, 0),
    ],
)
def test_an_index_of_other_columns_or_without_rows_is_damaged(
    copy: Path, make: Callable[[pa.Table], pa.Table]
) -> None:
    pq.write_table(make(pq.read_table(copy / "index.parquet")), copy / "index.parquet")
    refused(copy, r"index\.parquet: has (the columns|no rows)")


@pytest.mark.parametrize("name", ["index.parquet", "shard-00000.parquet"])
@pytest.mark.parametrize("content", [None, b"", b"\0" * 2000])
def test_a_file_that_is_missing_empty_or_of_nulls_is_named(
    copy: Path, name: str, content: bytes | None
) -> None:
    (copy / name).unlink() if content is None else (copy / name).write_bytes(content)
    refused(copy, name)


@pytest.mark.parametrize("name", ["index.parquet", "shard-00000.parquet"])
def test_a_folder_of_files_or_a_pipe_is_no_file(copy: Path, name: str) -> None:
    (copy / name).rename(copy / "aside")
    (copy / name).mkdir()
    (copy / "aside").rename(copy / name / "part.parquet")
    refused(copy, rf"{name}: is missing")
    shutil.rmtree(copy / name)
    os.mkfifo(copy / name)
    refused(copy, rf"{name}: is missing")


def test_a_set_prepared_anew_in_the_same_place_is_read_anew(
    copy: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other row groups of the same names, in one process."""
    assert len(read_all(copy)) == 16
    shutil.rmtree(copy)
    monkeypatch.setattr(shard_writer, "ROW_GROUP_BYTES", 1)
    videos = motion(cache, train=12, test=4, size=32, frames=16)
    prepare(videos[3:], copy, Settings(short_side=20), {"name": "motion"}, workers=1)
    assert len(read_all(copy)) == 13


def test_a_set_that_changes_after_it_was_opened_is_checked_again(copy: Path) -> None:
    assert ShardSet.open(copy) is ShardSet.open(copy)
    change_table(copy / "index.parquet", 0, {"label": 99})
    refused(copy, "label: 99")


def test_a_folder_like_a_partition_does_not_add_columns(copy: Path, tmp_path: Path) -> None:
    assert ShardSet.open(copy.rename(tmp_path / "split=2")).manifest.shards > 1


# --- Boxes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *((name, value) for name in ("x1", "y1") for value in (-0.1, float("nan"), 1.5)),
        *((name, 1.5) for name in ("x2", "y2")),
        *(("key_frame", value) for value in (-1, 5)),
        *((name, None) for name in ("video_id", "second", "person", "x1", "actions")),
        ("video_id", "film/9999"),
        ("second", 7),
        ("actions", [2]),
        ("actions", [12, None]),
    ],
)
def test_boxes_with_a_value_that_cannot_be_are_damaged(
    boxed: Path, tmp_path: Path, column: str, value: Any
) -> None:
    root = Path(shutil.copytree(boxed, tmp_path / "set"))
    assert len(ShardSet.open(root).boxes) == 6
    change_table(root / "boxes.parquet", 3, {column: value})
    refused(root, rf"boxes\.parquet: row 3, video .*: {column}: .* is not valid")


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"actions": "{}"},
        {"actions": "7", "evaluated": "[]"},
        {"actions": '{"1": "a"}', "evaluated": "[2]"},
    ],
)
def test_boxes_whose_metadata_name_no_actions_are_damaged(
    boxed: Path, tmp_path: Path, metadata: dict[str, str] | None
) -> None:
    root = Path(shutil.copytree(boxed, tmp_path / "set"))
    table = pq.read_table(root / "boxes.parquet")
    pq.write_table(table.replace_schema_metadata(metadata), root / "boxes.parquet")
    refused(root, r"boxes\.parquet: its metadata name no actions")


def test_other_boxes_than_those_of_the_checksum_are_refused(boxed: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(boxed, tmp_path / "set"))
    (root / "boxes.parquet").rename(tmp_path / "boxes.parquet")
    refused(root, r"manifest\.json: checksum: .* is not that of index\.parquet")


# --- Frames ---------------------------------------------------------------------------------------


def read_all(root: Path) -> list[np.ndarray]:
    """The first frames of all videos, as a stream gives them."""
    shards = ShardSet.open(root)
    plan = EvaluationPlan(np.arange(len(shards.index)), frame_counts(shards), 4, 1, 1, 8)
    return [clip for batch in local_stream(shards)(plan, 0) for clip in batch.clips]


def replace_frame(root: Path, video: int, frame: int, jpeg: bytes, fitting: bool = True) -> str:
    """Put another JPEG into a video's place; with a checksum of the frames that fits, if asked for.
    The video's name.
    """
    index = pq.read_table(root / "index.parquet").to_pylist()
    row = index[video]
    path = root / shard_name(row["shard"])
    with pq.ParquetFile(path) as file:
        groups = [file.read_row_group(group).to_pylist() for group in range(file.num_row_groups)]
    frames = groups[row["row_group"]][row["row"]]["frames"]
    frames[frame] = jpeg
    with pq.ParquetWriter(path, SHARD_SCHEMA, compression="none", use_dictionary=False) as file:
        for group in groups:
            file.write_table(pa.Table.from_pylist(group, SHARD_SCHEMA))
    if fitting:
        change_table(root / "index.parquet", video, {"frames_sha256": frames_sha256(frames).hex()})
    return row["video_id"]


def picture(height: int, width: int) -> bytes:
    return simplejpeg.encode_jpeg(np.full((height, width, 3), 200, np.uint8))


@pytest.mark.parametrize("size", [(10, 20), (20, 10), (8, 8), (21, 20), (40, 40)])
def test_a_frame_of_another_size_never_shows_the_pixels_of_another_video(
    copy: Path, size: tuple[int, int]
) -> None:
    name = replace_frame(copy, 5, 7, picture(*size))
    with pytest.raises(DamagedError, match=rf"set: video '{name}', frame 7: .*20 x 20") as caught:
        read_all(copy)
    assert str(caught.value).startswith(str(copy))


@pytest.mark.parametrize("jpeg", [b"", b"\xff\xd8 no picture", picture(20, 20)[:-40]])
def test_a_frame_that_cannot_be_decoded_is_named(copy: Path, jpeg: bytes) -> None:
    name = replace_frame(copy, 5, 7, jpeg)
    with pytest.raises(DamagedError, match=rf"video '{name}', frame 7: cannot be decoded"):
        read_all(copy)


def test_too_few_frames_are_no_batch(original: Path) -> None:
    shards = ShardSet.open(original)
    request = Request(np.array([0, 1]), np.zeros((2, 1, 3), np.int64))
    jpegs = fetch(FrameReader(shards), request)
    with pytest.raises(DamagedError, match="5 frames came where 6 were asked for"):
        decode(jpegs[:5], request, shards, Buffers())


def test_frames_are_compared_with_their_digest_when_a_process_first_reads_them(copy: Path) -> None:
    name = replace_frame(copy, 5, 7, picture(20, 20), fitting=False)
    with pytest.raises(
        DamagedError,
        match=(
            rf"shard-0000\d\.parquet: video '{name}' has other frames than those of its"
            r" frames_sha256"
        ),
    ):
        read_all(copy)


def test_frames_are_compared_once_in_a_process(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_all(copy)
    monkeypatch.setattr(
        "vididi.data.layout.frames_sha256", lambda frames: pytest.fail("compared again")
    )
    assert len(read_all(copy)) == 16


def test_a_video_of_another_length_is_named(copy: Path) -> None:
    change_table(copy / "index.parquet", 4, {"frame_count": 15})
    change_manifest(copy, lambda m: m.update(frames=255))
    with pytest.raises(DamagedError, match=r"has 16 frames, where index.parquet says 15"):
        read_all(copy)


def test_a_flipped_bit_is_an_error_or_changes_nothing(copy: Path, original: Path) -> None:
    whole, random = read_all(original), np.random.default_rng(0)
    found = 0
    content = (original / shard_name(1)).read_bytes()
    for number in range(150):
        bytes_ = bytearray(content)
        bytes_[random.integers(len(bytes_))] ^= 1 << random.integers(8)
        root = copy.with_name(
            f"flip-{number}"
        )  # what a process has compared it does not compare again
        copy = copy.rename(root)
        (copy / shard_name(1)).write_bytes(bytes_)
        try:
            pixels = read_all(copy)
        except DataError:
            found += 1
        else:
            assert all(np.array_equal(a, b) for a, b in zip(pixels, whole, strict=True))
    assert found > 100  # nearly all bytes of a shard are frames


# --- vididi check ---------------------------------------------------------------------------------


def test_check_says_that_all_is_well(original: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(original)]) == 0
    assert capsys.readouterr().out == f"{original}: all 256 frames of 16 videos are as they were\n"


def test_check_names_each_bad_video(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = replace_frame(copy, 2, 7, picture(20, 20), fitting=False)
    small = replace_frame(copy, 9, 15, picture(10, 20))
    no_picture = replace_frame(copy, 11, 0, b"no picture")
    assert main(["check", str(copy)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [changed, small, no_picture, str(copy)]
    assert "other frames than those of its frames_sha256" in lines[0]
    assert (
        "frame 15: is 10 x 20 pixels (height x width), where index.parquet says 20 x 20" in lines[1]
    )
    assert "frame 0: is no JPEG" in lines[2]
    assert lines[3].endswith("3 of 16 videos are bad")


def test_check_names_all_videos_of_a_row_group_that_cannot_be_read(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = ShardSet.open(copy)
    with pq.ParquetFile(copy / shard_name(1)) as file:
        column = file.metadata.row_group(0).column(len(SHARD_SCHEMA) - 1)
        videos = file.read_row_group(0).column("video_id").to_pylist()
    with (copy / shard_name(1)).open("r+b") as file:
        file.seek(column.data_page_offset)
        file.write(b"\xff" * 64)
    assert [name for _, bad in check_frames(shards) for name, _ in bad] == videos
    assert main(["check", str(copy)]) == 1
    assert capsys.readouterr().out.count(shard_name(1)) == len(videos)


def test_check_of_a_set_that_cannot_be_opened_is_an_error(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "index.parquet").write_bytes(b"")
    assert main(["check", str(copy)]) == 1
    assert f"error: {copy / 'index.parquet'}: cannot be read" in capsys.readouterr().err
