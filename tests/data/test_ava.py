"""AVA: what the source makes of the lists, and what is prepared from key frames: windows, boxes,
and no classes.
"""

from __future__ import annotations

import csv
import json
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray

from vididi.cli import main
from vididi.components import resolve_component
from vididi.config import ConfigError
from vididi.data import encode, shard_writer
from vididi.data import prepare as preparing
from vididi.data.encode import Settings
from vididi.data.layout import BOX_SCHEMA
from vididi.data.prepare import prepare
from vididi.data.shards import FrameReader, ShardSet, check_no_overlap
from vididi.data.sources import SOURCES
from vididi.data.stream import local_stream
from vididi.data.video import Box, Moment, Video
from vididi.data.video_reader import read_video
from vididi.errors import DataError
from vididi.experiment import run_cell
from vididi.plans import make_plans
from vididi.training.context import local_context

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "realdata"
needs_real = pytest.mark.skipif(
    not (REAL / "ava_format").is_dir(), reason="no shared/realdata/ava_format beside the checkout"
)

NAMES = {1: "bend/bow (at the waist)", 12: "stand", 80: "watch (a person)"}
EVALUATED = {number: NAMES[number] for number in (12, 80)}
TRAIN = [
    "film a,0903,0.1,0.2,0.5,0.9,80,1",
    "film a,0903,0.1,0.2,0.5,0.9,12,1",
    "film a,0903,0.5,0.2,0.75,1.0,1,2",
    "film-b,0902,0.000,0.0,1,1,12,0",
    "film a,0902,0.25,0.2,0.5,0.9,12,7",
    "film a,0905,0.25,0.2,0.5,0.9,12,7",
]
TEST = ["held,0902,0.1,0.1,0.9,0.9,80,3"]
SETTINGS = Settings(short_side=16)
RATE = 20


def items(names: dict[int, str]) -> str:
    return "".join(
        f'item {{\n  name: "{name}"\n  id: {number}\n}}\n' for number, name in names.items()
    )


def labels(names: dict[int, str]) -> str:
    return "".join(
        f'label {{\n  name: "{name}"\n  label_id: {number}\n  label_type: PERSON\n}}\n'
        for number, name in names.items()
    )


@pytest.fixture
def lists(tmp_path: Path) -> Callable[..., Path]:
    """``lists(train=[...])``: the official files, some with other lines; None leaves one out."""

    def write(**changed: Any) -> Path:
        files = {
            "train": TRAIN,
            "val": TEST,
            "train_excluded": ["film-b,0950"],
            "val_excluded": ["held,0903"],
            "all": items(NAMES),
            "some": None,
        }
        names = {
            "train": "ava_train_v2.2.csv",
            "val": "ava_val_v2.2.csv",
            "train_excluded": "ava_train_excluded_timestamps_v2.2.csv",
            "val_excluded": "ava_val_excluded_timestamps_v2.2.csv",
            "all": "ava_action_list_v2.2.pbtxt",
            "some": "ava_action_list_v2.2_for_activitynet_2019.pbtxt",
        }
        folder = tmp_path / "splits"
        folder.mkdir(exist_ok=True)
        (tmp_path / "videos").mkdir(exist_ok=True)
        for key, content in {**files, **changed}.items():
            if content is not None:
                (folder / names[key]).write_text(
                    content
                    if isinstance(content, str)
                    else "".join(f"{line}\n" for line in content)
                )
        return folder

    return write


def listed(splits: Path, **options: Any) -> list[Video]:
    return SOURCES["ava"](splits, videos=splits.parent / "videos", splits=splits, **options)


# --- Lists ----------------------------------------------------------------------------------------


def test_a_row_is_a_key_frame_and_a_film_s_are_neighbours(lists: Callable[..., Path]) -> None:
    splits = lists()
    (splits.parent / "videos" / "deep").mkdir()
    (splits.parent / "videos" / "deep" / "film-b.mkv").touch()
    videos = listed(splits)
    assert [(video.video_id, video.split, video.class_name) for video in videos] == [
        ("film a/0903", "train", ""),
        ("film a/0902", "train", ""),
        ("film a/0905", "train", ""),
        ("film-b/0902", "train", ""),
        ("held/0902", "test", ""),
    ]
    assert [
        video.path.relative_to(splits.parent / "videos").as_posix() for video in videos[2:]
    ] == [
        "film a.mp4",
        "deep/film-b.mkv",
        "held.mp4",
    ]
    assert videos[0].moment == Moment(903, 36, 36)
    boxes = videos[0].boxes
    assert boxes is not None
    assert boxes.second == 903
    assert boxes.people == (Box(0.1, 0.2, 0.5, 0.9, 1, (12, 80)), Box(0.5, 0.2, 0.75, 1.0, 2, (1,)))


def test_options_place_the_window(lists: Callable[..., Path]) -> None:
    splits = lists()
    assert listed(splits, offset=900, window=72, step=2)[0].moment == Moment(3, 36, 35, 2)
    assert listed(splits, window=1)[0].moment == Moment(903, 0, 0)
    for name, value in (("window", 0), ("step", 0), ("offset", -1.0), ("offset", float("nan"))):
        with pytest.raises(ValueError, match=f"^{name}: {value} is not valid"):
            listed(splits, **{name: value})


@pytest.mark.parametrize("layout", [items, labels])
def test_of_two_lists_of_actions_the_shorter_one_says_which_are_evaluated(
    layout: Callable[..., str], lists: Callable[..., Path]
) -> None:
    for some, evaluated in ((EVALUATED, (12, 80)), (None, (1, 12, 80))):
        splits = lists(all=layout(NAMES), some=some and layout(some))
        boxes = listed(splits)[0].boxes
        shutil.rmtree(splits)
        assert boxes is not None
        assert (boxes.actions.names, boxes.actions.evaluated) == (tuple(NAMES.items()), evaluated)


def test_with_the_evaluated_actions_alone_the_others_have_no_names(
    lists: Callable[..., Path],
) -> None:
    boxes = listed(lists(all=None, some=items(EVALUATED)))[0].boxes
    assert boxes is not None
    assert [person.actions for person in boxes.people] == [(12, 80), (1,)]
    assert dict(boxes.actions.names) == {
        number: EVALUATED.get(number, f"action {number}") for number in range(1, 81)
    }
    assert boxes.actions.evaluated == (12, 80)


def test_excluded_key_frames_are_left_out_and_counted(
    lists: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    videos = listed(lists(train_excluded=["film a,0903", "film a,1700", "film-b,902"]))
    assert [video.video_id for video in videos] == ["film a/0902", "film a/0905", "held/0902"]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "left out 2 key frames (4 lines) of the train list" in caplog.text


def test_lists_as_ava_kinetics_writes_them(
    lists: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    def seconds(lines: list[str]) -> list[str]:
        return [re.sub(r",(\d{4})(?=,|$)", r",\1.000000", line) for line in lines]

    plain = listed(lists(train_excluded=["film a,0903"]))
    caplog.clear()
    kinetics = lists(
        train=[*seconds(TRAIN), "film a,1000.000000"],
        val=seconds(TEST),
        train_excluded=["film a,903.000000"],
    )
    assert listed(kinetics) == plain
    assert "left out 1 lines of" in caplog.text
    assert "that have no box: 7" in caplog.text


GOOD = "film a,0910,0.1,0.2,0.5,0.9,80,1"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("film a,0910,0.1,0.2,0.5,0.9,80", "has 7 columns, not the 8"),
        (f"{GOOD},x", "has 9 columns, not the 8"),
        (
            "film a,0910.5,0.1,0.2,0.5,0.9,80,1",
            "second '0910.5' is not a whole number from 902 to 1798",
        ),
        ("film a,0901", "second '0901' is not a whole number from 902 to 1798"),
        (",0910,0.1,0.2,0.5,0.9,80,1", "video_id '' is not the name of a film"),
        ("film a,x,0.1,0.2,0.5,0.9,80,1", "second 'x' is not a whole number from 902 to 1798"),
        ("film a,901,0.1,0.2,0.5,0.9,80,1", "second '901' is not"),
        ("film a,1799,0.1,0.2,0.5,0.9,80,1", "second '1799' is not"),
        ("film a,0910,0.1,0.2,0.5,x,80,1", "is not four numbers"),
        ("film a,0910,-0.1,0.2,0.5,0.9,80,1", "does not have 0 <= x1 <= x2 <= 1"),
        ("film a,0910,0.1,0.2,0.5,1.01,80,1", "does not have 0 <= x1 <= x2 <= 1"),
        ("film a,0910,0.6,0.2,0.5,0.9,80,1", "does not have 0 <= x1 <= x2 <= 1"),
        ("film a,0910,0.1,0.9,0.5,0.2,80,1", "0 <= y1 <= y2 <= 1"),
        ("film a,0910,nan,0.2,0.5,0.9,80,1", "does not have 0 <= x1 <= x2 <= 1"),
        (
            "film a,0910,0.1,0.2,0.5,0.9,2,1",
            "action '2' is not one of the 3 in the list of actions",
        ),
        ("film a,0910,0.1,0.2,0.5,0.9,80,", "person '' is not a number"),
    ],
)
@pytest.mark.parametrize("which", ["train", "val"])
def test_a_malformed_line_is_named(
    which: str, line: str, said: str, lists: Callable[..., Path]
) -> None:
    lines = [
        GOOD.replace("film a", "other") if which == "val" else TRAIN[i]
        for i in range(1 if which == "val" else 6)
    ]
    good, line = (
        text.replace("film a", "held") if which == "val" else text for text in (GOOD, line)
    )
    splits = lists(**{which: [*lines, good, line]})
    with pytest.raises(DataError) as caught:
        listed(splits)
    place = len(lines) + 2
    assert f"data.splits: {splits / f'ava_{which}_v2.2.csv'}, line {place}: " in str(caught.value)
    assert said in str(caught.value)


def test_lines_that_say_nothing_are_left_out_and_counted(
    lists: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    splits = lists(
        train=[
            *TRAIN,
            TRAIN[0],
            "film a,0910,0.5,0.2,0.5,0.9,80,1",
            "film a,0911,0.1,0.2,0.5,0.2,80,1",
        ]
    )
    assert listed(splits) == listed(lists(train=TRAIN))
    place = len(TRAIN) + 1
    assert (
        f"left out 1 lines of {splits / 'ava_train_v2.2.csv'} that repeat an earlier line: {place}"
        in caplog.text
    )
    assert f"that have a box without an area: {place + 1}, {place + 2}" in caplog.text


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"val": ["film a,0902,0.1,0.1,0.9,0.9,80,3"]},
            (
                r"1 films are in .*ava_train_v2\.2\.csv and in .*ava_val_v2\.2\.csv; the first is"
                r" film a"
            ),
        ),
        ({"val": None}, r"missing list: .* holds ava_val_v2\.2\.csv"),
        ({"val_excluded": None}, r"missing list: .* holds ava_val_excluded_timestamps_v2\.2\.csv"),
        ({"all": None}, r"missing list: .* holds ava_action_list_v2\.2\.pbtxt or ava_action_list"),
        ({"train": []}, r"ava_train_v2\.2\.csv is empty"),
        (
            {"train_excluded": ["film a"]},
            r"excluded_timestamps_v2\.2\.csv, line 1: 'film a' has 1 columns, not the 2",
        ),
        (
            {"train_excluded": ["film a,0903", "film a,x"]},
            r"excluded_timestamps_v2\.2\.csv, line 2: second 'x' is not",
        ),
        (
            {"some": items(NAMES) + items({12: "again"})},
            r"2019\.pbtxt, line 13: id 12 is 'stand' already",
        ),
        (
            {"some": items(NAMES) + 'item {\n name: "no id"\n}\n'},
            r"2019\.pbtxt, line 13: neither item",
        ),
        ({"some": "\nstand 12\n" + items(NAMES)}, r"2019\.pbtxt, line 2: neither item"),
    ],
)
def test_lists_that_cannot_be_are_refused(
    changed: dict[str, Any], said: str, lists: Callable[..., Path]
) -> None:
    with pytest.raises(DataError, match=rf"^data\.splits: {said}|^data\.splits: .*{said}"):
        listed(lists(**changed))


def test_lists_may_lie_in_a_folder_inside_and_be_of_v2_1(lists: Callable[..., Path]) -> None:
    splits = lists()
    inner = splits / "ava_v2.1"
    inner.mkdir()
    for path in [path for path in splits.iterdir() if path.is_file()]:
        path.rename(inner / path.name.replace("v2.2", "v2.1"))
    assert len(listed(splits)) == 5


@needs_real
def test_sample_files_of_the_format(
    lists: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    sample = REAL / "ava_format"
    names = dict(
        line.split(": ", 1)
        for line in (REAL / "label_maps" / "ava" / "label_map.txt").read_text().splitlines()
    )
    files = {"train": "ava_sample.csv", "train_excluded": "ava_excluded_timestamps_sample.csv"}
    contents = {key: (sample / name).read_text() for key, name in files.items()}
    every = items({int(number): name for number, name in names.items()})
    splits = lists(**contents, some=(sample / "action_list.txt").read_text(), all=every)
    videos = listed(splits)
    assert [video.video_id for video in videos] == ["0f39OWEqJ24/0902", "held/0902"]
    assert videos[0].boxes is not None
    assert videos[0].boxes.people == (Box(0.031, 0.162, 0.670, 0.995, 0, (12, 17, 79)),)
    assert videos[0].boxes.actions.evaluated == (12, 17, 79, 80)
    assert len(videos[0].boxes.actions.names) == 60
    assert "left out 2 key frames (5 lines) of the train list" in caplog.text


# --- Prepared -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def films(
    tmp_path_factory: pytest.TempPathFactory,
    write_video: Callable[..., Path],
    moving_bar: Callable[..., NDArray],
) -> Path:
    """Films that were cut to begin at second 900, eight seconds long."""
    folder = tmp_path_factory.mktemp("films")
    for shade, name in enumerate(["film a", "film-b", "held"]):
        write_video(folder / f"{name}.mp4", moving_bar(8 * RATE, 24, 32, 50 * shade), rate=RATE)
    return folder


@pytest.fixture
def videos(lists: Callable[..., Path], films: Path) -> list[Video]:
    return SOURCES["ava"](films, videos=films, splits=lists(), offset=900.0, window=21)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rejects(shards: ShardSet) -> list[tuple[str, str]]:
    with (shards.root / "rejects.csv").open(newline="") as file:
        return [(row["video_id"], row["reason"]) for row in csv.DictReader(file)]


def test_the_command_prepares_key_frames_with_their_boxes(
    lists: Callable[..., Path], films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [*TRAIN, "film a,1500,0.25,0.2,0.5,0.9,12,7", "gone,0902,0.25,0.2,0.5,0.9,12,7"]
    splits = lists(train=lines, all=items(NAMES), some=labels(EVALUATED))
    command = [
        "prepare",
        "ava",
        "--videos",
        str(films),
        "--splits",
        str(splits),
        "--out",
        str(tmp_path / "set"),
        "--short-side",
        "16",
    ]
    assert main([*command, "--set", "offset=900", "--set", "window=73"]) == 3
    assert "4 training and 1 test videos, 0 classes, 2 rejected" in capsys.readouterr().out
    shards = ShardSet.open(tmp_path / "set")
    assert shards.manifest.classes == []
    assert set(shards.column("label")) == {-1}
    assert set(shards.column("class_name")) == {""}
    assert rejects(shards) == [
        ("film a/1500", "no frame at second 600: the nearest one is shown at second 7.95"),
        ("gone/0902", "missing: no such file"),
    ]
    assert list(shards.column("video_id")) == [
        "film a/0903",
        "film a/0902",
        "film a/0905",
        "film-b/0902",
        "held/0902",
    ]
    assert list(shards.column("frame_count")) == [73, 73, 73, 73, 73]
    assert shards.boxes.schema.equals(BOX_SCHEMA)
    assert {key: json.loads(value) for key, value in shards.boxes.schema.metadata.items()} == {
        b"actions": {str(number): name for number, name in NAMES.items()},
        b"evaluated": [12, 80],
    }
    first, second, *_, last = shards.boxes.to_pylist()
    assert (
        first["video_id"],
        first["key_frame"],
        first["second"],
        first["person"],
        first["actions"],
    ) == (
        "film a/0903",
        36,
        903,
        1,
        [12, 80],
    )
    assert [first[name] for name in ("x1", "y1", "x2", "y2")] == [
        float(np.float32(value)) for value in (0.1, 0.2, 0.5, 0.9)
    ]
    assert (second["person"], second["actions"]) == (2, [1])
    assert (last["video_id"], last["actions"]) == ("held/0902", [80])
    assert set(shards.boxes.column("video_id").to_pylist()) == set(shards.column("video_id"))


def test_the_key_frame_is_the_film_s_frame_at_that_second(
    videos: list[Video], films: Path, tmp_path: Path
) -> None:
    edge = replace(
        videos[0],
        video_id="film a/0900",
        moment=Moment(0.2, 10, 10),
        boxes=replace(videos[0].boxes, second=900),
    )  # type: ignore[type-var]
    stepped = replace(
        videos[0],
        video_id="film a/0904",
        moment=Moment(4, 10, 10, 2),
        boxes=replace(videos[0].boxes, second=904),
    )  # type: ignore[type-var]
    shards = prepare([*videos, edge, stepped], tmp_path / "set", SETTINGS, {}, workers=2)
    places = dict(
        zip(
            shards.boxes.column("video_id").to_pylist(),
            shards.boxes.column("key_frame").to_pylist(),
            strict=True,
        )
    )
    assert places == {
        **dict.fromkeys([video.video_id for video in videos], 10),
        "film a/0900": 4,
        "film a/0904": 5,
    }
    reader = FrameReader(shards)
    for row, video in enumerate([*videos, edge, stepped]):
        assert video.moment is not None
        frame = read_video(video.path)[0][round(video.moment.second * RATE)]
        jpeg = encode._encode_frame(frame, 16, 21, 95)
        assert bytes(reader.frames(row, np.array([places[video.video_id]]))[0]) == jpeg
        assert simplejpeg.decode_jpeg(jpeg).shape == (16, 21, 3)
    assert shards.column("fps")[-1] == RATE / 2
    assert shards.column("frame_count")[-2:].tolist() == [15, 11]


def test_a_moment_that_was_prepared_before_is_a_duplicate_and_another_of_the_film_is_not(
    videos: list[Video], films: Path, tmp_path: Path
) -> None:
    (tmp_path / "copy.mp4").write_bytes((films / "film a.mp4").read_bytes())
    copy = replace(videos[0], video_id="copy/0903", path=tmp_path / "copy.mp4")
    shards = prepare([*videos, copy], tmp_path / "set", SETTINGS, {}, workers=1)
    assert rejects(shards) == [("copy/0903", "duplicate: the same bytes as film a/0903")]
    assert "copy/0903" not in shards.boxes.column("video_id").to_pylist()
    check_no_overlap(shards)
    with pytest.raises(
        DataError,
        match=(
            r"1 test video is also a training video.*: copy/0903 \(test\) is film a/090[235]"
            r" \(train\)"
        ),
    ):
        prepare(
            [*videos, replace(copy, split="test", moment=Moment(5, 3, 3))],
            tmp_path / "spoilt",
            SETTINGS,
            {},
            workers=1,
        )


def test_stopped_anywhere_it_ends_with_the_same_bytes(
    videos: list[Video], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 12_000)
    monkeypatch.setattr(shard_writer, "ROW_GROUP_BYTES", 6_000)
    whole = prepare(videos, tmp_path / "whole", SETTINGS, {"name": "ava"}, workers=1)
    assert whole.manifest.shards > 2
    real = preparing.Journal.finish

    def interrupted(self: Any, *arguments: Any) -> None:
        real(self, *arguments)
        (self.work / "manifest.json").unlink()  # a kill after boxes.parquet and before the manifest
        raise KeyboardInterrupt

    def stop(done: int, total: int, rejects: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    out = tmp_path / "stopped" / "set"
    with pytest.raises(KeyboardInterrupt):
        prepare(videos, out, SETTINGS, {"name": "ava"}, stop, workers=1)
    monkeypatch.setattr(preparing.Journal, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(videos, out, SETTINGS, {"name": "ava"}, workers=2)
    monkeypatch.setattr(preparing.Journal, "finish", real)
    prepare(videos, out, SETTINGS, {"name": "ava"}, workers=1)
    assert contents(out) == contents(whole.root)


def test_the_checksum_covers_the_boxes(videos: list[Video], tmp_path: Path) -> None:
    boxes = videos[0].boxes
    assert boxes is not None
    moved = replace(boxes, people=(boxes.people[0]._replace(x2=0.51), *boxes.people[1:]))
    renamed = [
        replace(video, boxes=replace(video.boxes, actions=replace(boxes.actions, evaluated=(1,))))
        for video in videos
    ]  # type: ignore[type-var]
    sets = [videos, [replace(videos[0], boxes=moved), *videos[1:]], renamed]
    made = [
        prepare(listed, tmp_path / str(number), SETTINGS, {}, workers=1)
        for number, listed in enumerate(sets)
    ]
    assert len({shards.manifest.checksum for shards in made}) == 3
    assert len({(shards.root / "shard-00000.parquet").read_bytes() for shards in made}) == 1


def test_a_film_s_checksum_is_computed_once(
    videos: list[Video], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    real = encode.file_digest
    monkeypatch.setattr(
        encode, "file_digest", lambda file, kind: opened.append(file.name) or real(file, kind)
    )
    encode._content_sha256.cache_clear()
    for video in videos:
        encode.encode_video(video, SETTINGS)
    assert len(opened) == len(set(opened)) == 3


def test_a_whole_video_lists_no_details() -> None:
    assert Video(Path("a"), "a", "c", "train").details == []


def test_a_set_without_boxes_says_so(tiny_shards: ShardSet) -> None:
    assert not (tiny_shards.root / "boxes.parquet").exists()
    with pytest.raises(
        DataError, match=r"has no boxes\.parquet; its source, motion, has no boxes of persons"
    ):
        _ = tiny_shards.boxes


def test_without_classes_it_pretrains_and_refuses_what_needs_labels(
    videos: list[Video], make_config: Callable[..., Any], tmp_path: Path
) -> None:
    shards = prepare(videos, tmp_path / "set", SETTINGS, {"name": "ava"}, workers=2)
    changes = {"training.batch_size": 4, "training.epochs": 1}
    for protocols in (["retrieval"], ["silhouette"], ["retrieval", "silhouette"]):
        config = make_config({**changes, "evaluation.protocols": protocols})
        with pytest.raises(
            DataError,
            match=(
                rf"has no classes for {' and '.join(protocols)}; set evaluation\.protocols to \[\]"
            ),
        ):
            make_plans(config, shards)
    config = make_config({**changes, "evaluation.protocols": []})
    with local_context("cpu") as context:
        result = run_cell(config, {}, tmp_path / "run", shards, local_stream(shards), context)
    assert result["steps"] == 1


def test_unknown_options_are_told(tmp_path: Path) -> None:
    from vididi.config import Component

    with pytest.raises(ConfigError, match="windows"):
        resolve_component("data", Component(name="ava", videos=".", splits=".", windows=3))
