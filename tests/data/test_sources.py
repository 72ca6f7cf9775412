"""What each source makes of a data set's lists and folders: real official lists, and small layouts
of every kind.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vididi.cli import main
from vididi.data.shards import ShardSet
from vididi.data.sources import SOURCES
from vididi.data.video import Video
from vididi.errors import DataError

HERE = Path(__file__).resolve().parents[2].parent / "shared" / "realdata"
needs_real = pytest.mark.skipif(
    not (HERE / "splits").is_dir(), reason="no shared/realdata/splits beside the checkout"
)
needs_clips = pytest.mark.skipif(
    not (HERE / "action_clips").is_dir(),
    reason="no shared/realdata/action_clips beside the checkout",
)
PINNED = [
    "train20",
    "train26",
    "train27",
    "train52",
    "train54",
    "train56",
]  # of test_k200_40k_s_draw_is_pinned
HEADER = "label,youtube_id,time_start,time_end,split"


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    """``put("splits/a.txt", "line", ...)``: a file of these lines; without lines a video file's
    place.
    """

    def write(name: str, *lines: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    return write


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., list[Video]]:
    """``source("ucf101", split=2)``: lists from splits/, videos from videos/."""
    (tmp_path / "videos").mkdir(exist_ok=True)
    (tmp_path / "splits").mkdir(exist_ok=True)

    def call(name: str, **options: Any) -> list[Video]:
        lists = {} if name == "csv" else {"splits": tmp_path / "splits"}
        return SOURCES[name](tmp_path, videos=tmp_path / "videos", **{**lists, **options})

    return call


def rows(videos: list[Video], root: Path) -> list[tuple[str, str, str, str]]:
    return [
        (
            video.video_id,
            video.class_name,
            video.split,
            video.path.relative_to(root / "videos").as_posix(),
        )
        for video in videos
    ]


# --- Official lists -------------------------------------------------------------------------------


@needs_real
@pytest.mark.parametrize(
    ("split", "train", "test"), [(1, 9537, 3783), (2, 9586, 3734), (3, 9624, 3696)]
)
@pytest.mark.parametrize("folder", ["ucf101", "."])
def test_ucf101_s_official_lists(
    split: int, train: int, test: int, folder: str, tmp_path: Path
) -> None:
    videos = SOURCES["ucf101"](
        tmp_path, videos=tmp_path, splits=HERE / "splits" / folder, split=split
    )
    assert Counter(video.split for video in videos) == {"train": train, "test": test}
    assert len({video.video_id for video in videos}) == 13320
    names = (HERE / "label_maps" / "ucf101" / "label_map.txt").read_text().split()
    assert {video.class_name for video in videos} == set(names)
    groups = {
        use: {video.path.stem[:-4] for video in videos if video.split == use}
        for use in ("train", "test")
    }
    assert not groups["train"] & groups["test"], "clips of one scene are never in both splits"


@needs_real
@pytest.mark.parametrize("split", [1, 2, 3])
def test_hmdb51_s_official_lists(split: int, tmp_path: Path) -> None:
    videos = SOURCES["hmdb51"](tmp_path, videos=tmp_path, splits=HERE / "splits", split=split)
    assert Counter((video.split, video.class_name) for video in videos) == {
        (use, name): count
        for name in (HERE / "label_maps" / "hmdb51" / "label_map.txt").read_text().split()
        for use, count in (("train", 70), ("test", 30))
    }


@needs_clips
def test_real_ucf101_clips_are_prepared_by_the_command(
    tmp_path: Path,
    put: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gone = "Punch/v_Punch_g01_c01.avi"
    put(
        "lists/trainlist02.txt",
        "BaseballPitch/v_BaseballPitch_g01_c01.avi 7",
        "Punch/v_Punch_g03_c01.avi 71",
        f"{gone} 71",
    )
    put(
        "lists/testlist02.txt",
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi",
        "Biking/v_Biking_g05_c02.avi",
    )
    monkeypatch.chdir(tmp_path)
    Path("clips").symlink_to(HERE / "action_clips")
    command = [
        "prepare",
        "ucf101",
        "--videos",
        "clips",
        "--splits",
        "lists",
        "--out",
        "out",
        "--short-side",
        "16",
    ]
    assert main([*command, "--set", "data.split=2"]) == 3
    assert "2 training and 2 test videos, 4 classes, 1 rejected" in capsys.readouterr().out
    shards = ShardSet.open(tmp_path / "out")
    assert shards.manifest.source["splits"] == str(tmp_path / "lists")
    assert shards.manifest.source["split"] == 2
    found = zip(
        shards.column("video_id"), shards.column("split"), shards.column("class_name"), strict=True
    )
    assert ("Biking/v_Biking_g05_c02.avi", "test", "Biking") in found
    with (tmp_path / "out" / "rejects.csv").open() as file:
        (reject,) = csv.DictReader(file)
    assert reject["video_id"] == gone
    assert reject["reason"].startswith("missing")


# --- UCF101 and HMDB51 ----------------------------------------------------------------------------


def test_ucf101_finds_files_in_class_folders_flat_and_not_at_all(
    source: Any, put: Callable[..., Path], tmp_path: Path
) -> None:
    put("splits/ucfTrainTestlist/classInd.txt", "1 A", "2 B")
    put("splits/ucfTrainTestlist/trainlist01.txt", "A/v_1.avi 1", "B/v_1.avi 2", "B/v_2.avi 2")
    put("splits/ucfTrainTestlist/testlist01.txt", "A/v_3.avi")
    for name in ("UCF-101/A/v_1.avi", "v_2.avi", "v_3.mp4"):
        put(f"videos/{name}")
    assert rows(source("ucf101"), tmp_path) == [
        ("A/v_1.avi", "A", "train", "UCF-101/A/v_1.avi"),
        ("B/v_1.avi", "B", "train", "B/v_1.avi"),  # missing: the file of that name is of class A
        ("B/v_2.avi", "B", "train", "v_2.avi"),
        ("A/v_3.avi", "A", "test", "A/v_3.avi"),  # missing: an MP4 is not the listed AVI
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("v_2.avi 1", r"data\.splits: .*trainlist01\.txt, line 2: 'v_2\.avi 1' is not CLASS/FILE"),
        ("A/v_2.avi one", r"line 2: .* is not CLASS/FILE"),
        ("A/v_2.avi 2", r"line 2: class 'A' has number 2, but 1 in classInd\.txt"),
        ("Abd/v_2.avi 1", r"line 2: class 'Abd' is not one of the 2 in classInd\.txt$"),
        (
            "Jupm/v_2.avi 2",
            r"line 2: class 'Jupm' is not one of the 2 in classInd\.txt; is 'Jump' meant",
        ),
        ("../v_2.avi", r"line 2: class '\.\.' is not one of"),
        (
            "A/v_1.avi 1",
            r"duplicate: 1 listed more than once.*line 1 \(train, A\) and .*line 2 \(train, A\)",
        ),
        (
            "A/v_9.avi 1",
            (
                r"duplicate: .*trainlist01\.txt, line 2 \(train, A\) and .*testlist01\.txt, line 1"
                r" \(test, A\)"
            ),
        ),
    ],
)
def test_a_bad_line_is_named(line: str, said: str, source: Any, put: Callable[..., Path]) -> None:
    put("splits/classInd.txt", "1 A", "2 Jump")
    put("splits/trainlist01.txt", "A/v_1.avi 1", line)
    put("splits/testlist01.txt", "A/v_9.avi")
    with pytest.raises(DataError, match=said):
        source("ucf101")


def test_a_missing_or_empty_list_is_named(source: Any, put: Callable[..., Path]) -> None:
    put("splits/trainlist03.txt", "A/v_1.avi 1")
    with pytest.raises(DataError, match=r"data\.splits: missing list: .* testlist03\.txt"):
        source("ucf101", split=3)
    put("splits/testlist03.txt")
    with pytest.raises(DataError, match=r"testlist03\.txt is empty"):
        source("ucf101", split=3)


def test_folders_that_are_none_are_named(source: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.splits: .*nowhere is not a folder"):
        source("ucf101", splits=tmp_path / "nowhere")


def test_hmdb51_takes_1_and_2_and_leaves_0(
    source: Any, put: Callable[..., Path], tmp_path: Path
) -> None:
    put(
        "splits/testTrainMulti_7030_splits/wave_test_split2.txt",
        "a b.avi 2 ",
        "c.avi 0 ",
        "d!.avi 1 ",
    )
    put("videos/wave/a b.avi")
    assert rows(source("hmdb51", split=2), tmp_path) == [
        ("wave/a b.avi", "wave", "test", "wave/a b.avi"),
        ("wave/d!.avi", "wave", "train", "wave/d!.avi"),
    ]
    put("splits/testTrainMulti_7030_splits/run_test_split1.txt", "e.avi 1")
    with pytest.raises(DataError, match=r"missing list: .*run_test_split2\.txt"):
        source("hmdb51", split=2)
    put("splits/testTrainMulti_7030_splits/run_test_split2.txt", "e.avi 3")
    with pytest.raises(
        DataError, match=r"run_test_split2\.txt, line 1: 'e\.avi 3' is not FILE and 0, 1 or 2"
    ):
        source("hmdb51", split=2)


# --- Kinetics -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edition", "train", "validation"),
    [
        (400, "kinetics-400_train.csv", "kinetics-400_val.csv"),
        (600, "train.csv", "val.csv"),
        (700, "kinetics700/train.csv", "validate.csv"),
    ],
)
def test_kinetics_finds_clips_in_every_layout(
    edition: int, train: str, validation: str, source: Any, put: Callable[..., Path], tmp_path: Path
) -> None:
    validation = f"{train.rpartition('/')[0] or '.'}/{validation}"
    ids = ["-a_b", "flat", "nocut", "both", "gone", "twice", "twice"]
    lines = [
        f'"{"air_drumming" if n == "flat" else "air drumming"}",{n},{i},{i + 10},train'
        for i, n in enumerate(ids)
    ]
    put(f"splits/{train}", HEADER, *lines)
    put(f"splits/{validation}", HEADER, "zumba,val,4,14,validate")
    files = [
        "air_drumming/-a_b_000000_000010.mp4",
        "flat_000001_000011.mkv",
        "train/nocut.mp4",
        "twice.mp4",
    ]
    files += [
        "val/both_000003_000013.mp4",
        "train/both_000003_000013.webm",
        "val/zumba/val_000004_000014.mp4",
    ]
    for name in files:
        put(f"videos/{name}")
    found = rows(source(f"kinetics{edition}"), tmp_path)
    assert {row[1:3] for row in found} == {("air drumming", "train"), ("zumba", "test")}
    assert [row[0] for row in found][:2] == ["-a_b_000000_000010", "flat_000001_000011"]
    assert [row[3] for row in found] == [
        *files[:3],
        "train/both_000003_000013.webm",
        "air drumming/gone_000004_000014.mp4",
        "air drumming/twice_000005_000015.mp4",  # twice.mp4 may be either clip
        "air drumming/twice_000006_000016.mp4",
        files[-1],
    ]


@pytest.mark.parametrize(
    ("header", "line", "said"),
    [
        (
            "youtube_id,time_start,time_end,split",
            "x,1,2,train",
            r"train\.csv, line 1: no column label",
        ),
        (HEADER, "zumba,x,one,2,train", r"train\.csv, line 2: time_start 'one'"),
        (HEADER, "zumba,x,1,2,test", r"line 2: split 'test' in a list of split train; it is train"),
        (HEADER, "zumba,x,1", r"line 2: 'zumba,x,1' has 3 columns"),
        (HEADER, "zumba,v,1,2,train", r"duplicate: .*train\.csv, line 2 .* and .*val\.csv, line 2"),
    ],
)
def test_a_bad_csv_of_kinetics_is_named(
    header: str, line: str, said: str, source: Any, put: Callable[..., Path]
) -> None:
    put("splits/train.csv", header, line)
    put("splits/val.csv", HEADER, "zumba,v,1,2,val")
    with pytest.raises(DataError, match=said):
        source("kinetics400")


def test_lists_that_could_both_be_meant_are_refused(source: Any, put: Callable[..., Path]) -> None:
    for name in ("train", "val", "validate"):
        put(f"splits/{name}.csv", HEADER, f"zumba,{name},1,2,{name}")
    with pytest.raises(DataError, match=r"several such lists, .*val\.csv and .*validate\.csv"):
        source("kinetics400")


def test_kinetics_can_hold_out_the_test_list(source: Any, put: Callable[..., Path]) -> None:
    for name in ("train", "val", "test"):
        put(f"splits/{name}.csv", HEADER, f"zumba,{name},1,2,{name}")
    assert [video.video_id[:4] for video in source("kinetics400")] == ["trai", "val_"]
    assert [video.video_id[:4] for video in source("kinetics400", held_out="test")] == [
        "trai",
        "test",
    ]


@pytest.fixture
def many(put: Callable[..., Path]) -> None:
    """Six classes of nine training videos and two validation videos."""
    for name, count in (("train", 9), ("val", 2)):
        put(
            f"splits/{name}.csv",
            HEADER,
            *(f"class {c},{name}{c}{i},0,10,{name}" for i in range(count) for c in range(6)),
        )


@pytest.mark.usefixtures("many")
def test_k200_40k_is_drawn_from_the_lists_and_the_seed(
    source: Any, put: Callable[..., Path], tmp_path: Path
) -> None:
    options = {"classes": 4, "videos_per_class": 5}
    drawn = [source("k200_40k", seed=seed, **options) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1]
    assert {video.video_id for video in drawn[0]} != {video.video_id for video in drawn[2]}
    train = Counter(video.class_name for video in drawn[0] if video.split == "train")
    assert [*train.values()] == [5] * 4
    assert Counter(
        video.class_name for video in drawn[0] if video.split == "test"
    ) == dict.fromkeys(train, 2)
    put(f"videos/{drawn[0][0].video_id}.mp4")
    lines = (tmp_path / "splits" / "train.csv").read_text().splitlines()
    put("splits/train.csv", lines[0], *reversed(lines[1:]))
    assert [video.video_id for video in source("k200_40k", **options)] == [
        video.video_id for video in drawn[0]
    ]


@pytest.mark.usefixtures("many")
def test_k200_40k_s_draw_is_pinned(source: Any) -> None:
    """Another draw under the same seed would be another data set under the same name."""
    found = [
        video.video_id.partition("_")[0]
        for video in source("k200_40k", classes=2, videos_per_class=3)
        if video.split == "train"
    ]
    assert found == PINNED


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, r"data\.classes: 200 classes asked for, but the training list has 6"),
        ({"classes": 6}, r"data\.videos_per_class: 200 .* has 9 of class 'class 0'"),
    ],
)
def test_k200_40k_needs_enough(options: dict[str, int], said: str, source: Any) -> None:
    with pytest.raises(DataError, match=said):
        source("k200_40k", **options)
    with pytest.raises(ValueError, match="classes: 0 is not valid"):
        source("k200_40k", classes=0)


# --- Something-Something V2 -----------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["something-something-v2-", "labels/"])
def test_something_something_v2(
    prefix: str, source: Any, put: Callable[..., Path], tmp_path: Path
) -> None:
    train = [
        {
            "id": "78687",
            "label": "holding potato",
            "template": "Holding [something] next to [something]",
            "placeholders": [],
        }
    ]
    put(f"splits/{prefix}train.json", json.dumps(train))
    put(
        f"splits/{prefix}validation.json",
        json.dumps([{"id": 5, "template": "Opening [something]"}]),
    )
    put("videos/20bn-something-something-v2/78687.webm")
    expected = [
        (
            "78687",
            "Holding something next to something",
            "train",
            "20bn-something-something-v2/78687.webm",
        ),
        ("5", "Opening something", "test", "5.webm"),
    ]
    assert rows(source("something_something_v2"), tmp_path) == expected
    put(f"splits/{prefix}labels.json", json.dumps({row[1]: "0" for row in expected}))
    assert rows(source("something_something_v2"), tmp_path) == expected
    put(f"splits/{prefix}labels.json", json.dumps({"Opening something": "0"}))
    with pytest.raises(
        DataError, match=r"train\.json, entry 1: class 'Holding something .*' is not one of the 1"
    ):
        source("something_something_v2")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"id": "1",\n}]', r"train\.json, line 2: not JSON"),
        ('{"id": "1"}', r"train\.json, line 1: not a list"),
        ('[{"id": "1"}]', r"train\.json, entry 1: not an object with id and template"),
        (
            '[{"id": "2", "template": "A"}]',
            r"duplicate: .*train\.json, entry 1 .* and .*validation\.json, entry 1",
        ),
    ],
)
def test_a_bad_json_is_named(text: str, said: str, source: Any, put: Callable[..., Path]) -> None:
    put("splits/train.json", text)
    put("splits/validation.json", '[{"id": "2", "template": "A"}]')
    with pytest.raises(DataError, match=said):
        source("something_something_v2")


# --- CSV ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            ["a/1.mp4,jump,train", "./2.mp4,run,test"],
            [("a/1.mp4", "jump", "train"), ("2.mp4", "run", "test")],
        ),
        (["a/1.mp4,jump", "2.mp4,10"], [("a/1.mp4", "jump", "train"), ("2.mp4", "10", "train")]),
        (
            ["\ufeffLabel,x,Path", "jump,7,a/1.mp4", "", '"run, fast",8,"2,b.mp4"'],
            [("a/1.mp4", "jump", "train"), ("2,b.mp4", "run, fast", "train")],
        ),
        (["split,path,label", "test,1.mp4,jump"], [("1.mp4", "jump", "test")]),
    ],
    ids=["three", "two", "header", "header with split"],
)
def test_csv(
    lines: list[str],
    expected: list[tuple[str, str, str]],
    source: Any,
    put: Callable[..., Path],
    tmp_path: Path,
) -> None:
    found = rows(source("csv", list=put("list.csv", *lines)), tmp_path)
    assert found == [(*row, row[0]) for row in expected]


def test_csv_takes_absolute_paths(source: Any, put: Callable[..., Path]) -> None:
    (video,) = source("csv", list=put("list.csv", "/data/1.mp4,jump"))
    assert video.path == Path("/data/1.mp4")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            ["1.mp4,jump,val"],
            r"data\.list: .*list\.csv, line 1: split 'val' is not valid; it is train or test",
        ),
        (["1.mp4,jump", "2.mp4"], r"line 2: '2\.mp4' has 1 columns, not the 2 of path,label"),
        (["1.mp4,jump,train", "2.mp4,jump, high,train"], r"line 2: .* has 4 columns, not the 3"),
        (["1.mp4,jump,train,x"], r"line 1: .* has 4 columns, not the 3 of path,label,split"),
        (["1.mp4,"], r"line 1: no path or no label"),
        (["path,label"], "no videos after the header"),
        ([], "list.csv is empty"),
        (
            ["1.mp4,jump", "x/../1.mp4,run"],
            r"data\.list: duplicate: .*line 1 \(train, jump\) and .*line 2 \(train, run\)",
        ),
    ],
)
def test_a_bad_csv_is_named(
    lines: list[str], said: str, source: Any, put: Callable[..., Path]
) -> None:
    with pytest.raises(DataError, match=said):
        source("csv", list=put("list.csv", *lines))


def test_a_csv_that_is_not_there_is_named(source: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.list: .*nowhere\.csv cannot be read"):
        source("csv", list=tmp_path / "nowhere.csv")


# --- The command ----------------------------------------------------------------------------------


def test_prepare_takes_a_csv_with_relative_paths(
    put: Callable[..., Path],
    tmp_path: Path,
    write_video: Any,
    moving_bar: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_video(tmp_path / "clips" / "1.mp4", moving_bar(8, 32, 32))
    put("list.csv", "1.mp4,jump,train", "2.mp4,run,train")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    command = [
        "prepare",
        "csv",
        "--videos",
        "~/clips",
        "--list",
        "list.csv",
        "--out",
        "out",
        "--short-side",
        "16",
    ]
    assert main(command) == 3
    manifest = ShardSet.open(tmp_path / "out").manifest
    assert manifest.source == {
        "name": "csv",
        "videos": str(tmp_path / "clips"),
        "list": str(tmp_path / "list.csv"),
        "test_share": None,
        "group": None,
        "seed": 0,
    }
    assert (manifest.rejects, manifest.classes) == (1, ["jump", "run"])
    assert "missing" in (tmp_path / "out" / "rejects.csv").read_text()
    assert main([*command, "--strict"]) == 1


def test_an_unknown_source_is_told_all_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", "movies", "--out", str(tmp_path / "out")]) == 2
    assert f"'movies' is not valid; it is one of {', '.join(SOURCES)}" in capsys.readouterr().err


def test_a_split_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "prepare",
        "ucf101",
        "--videos",
        str(tmp_path),
        "--splits",
        str(tmp_path),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([*command, "--set", "split=4"]) == 2
    assert "data.split: 4 is not valid: it must be 1, 2 or 3" in capsys.readouterr().err
