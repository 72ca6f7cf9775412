"""Lists as people write them: other headers and delimiters, other spellings, and slips, which never
make a class or lead outside.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vididi.data.sources import SOURCES, Listing
from vididi.data.sources.table import OTHER_NAMES
from vididi.errors import DataError

HEADER = "label,youtube_id,time_start,time_end,split"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """``write("splits/a.txt", "line", ...)``: a file of these lines."""

    def make(name: str, *lines: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    return make


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., Listing]:
    """``source("ucf101")``: lists from splits/ or list.csv, videos from videos/."""

    def call(name: str) -> Listing:
        (tmp_path / "videos").mkdir(exist_ok=True)
        lists = (
            {"list": tmp_path / "list.csv"} if name == "csv" else {"splits": tmp_path / "splits"}
        )
        return SOURCES[name](tmp_path, videos=tmp_path / "videos", **lists)  # type: ignore[return-value]

    return call


def rows(videos: Listing) -> list[tuple[str, str, str]]:
    return [(video.video_id, video.class_name, video.split) for video in videos]


# --- CSV ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        ["video,label", "a/1.mp4,jump", "2.mp4,run"],
        ["Class\tFileName", "jump\ta/1.mp4", "run\t2.mp4"],
        ["a/1.mp4\tjump", "2.mp4\trun"],
        ["a/1.mp4;jump", "2.mp4;run"],
        ["\ufefffile;category", "a/1.mp4;jump", "2.mp4;run"],
        ['"video","label"\r', '"a/1.mp4","jump"\r', '"2.mp4","run"\r'],
        ["id,video,path,label", "9,x,a/1.mp4,jump", "8,y,2.mp4,run"],
        ["a/1.mp4 jump ", "2.mp4  run"],
        ["filepath target", '"a/1.mp4" jump', "2.mp4 run"],
        ["class_id,class,clip", "7,jump,a/1.mp4", "8,run,2.mp4"],
        [",video_path,y", "0,a/1.mp4,jump", "1,2.mp4,run"],
    ],
    ids=[
        *(
            "video",
            "tabs and filename",
            "tabs",
            "semicolons",
            "byte order mark",
            "quotes and CRLF",
            "our own name goes first",
        ),
        *("blanks", "blanks and a header", "a name goes before a number", "an index and numbers"),
    ],
)
def test_csv_with_other_headers_and_delimiters(
    lines: list[str], source: Any, write: Callable[..., Path]
) -> None:
    write("list.csv", *lines)
    assert rows(source("csv")) == [("a/1.mp4", "jump", "train"), ("2.mp4", "run", "train")]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            ["clips,labels", "1.mp4,jump"],
            (
                r"line 1: 'clips' is no video, so this may be a header.*path: path, video,"
                r" file.*label: label, class"
            ),
        ),
        (
            ["video,file,label", "1.mp4,1.mp4,jump"],
            r"line 1: several columns are a path: video,file,label",
        ),
        (
            ["1.mp4 jump high"],
            (
                r"line 1: .* has 1 columns.*commas, tabs or semicolons separate columns, or blanks"
                r" where each line is"
            ),
        ),
        (
            ["1.mp4 jump", "2.mp4 jump high"],
            r"line 2: '2\.mp4 jump high' is not as line 1, two columns with a blank between",
        ),
        (["1.mp4 2", "3 4"], r"line 2: '3 4' is not as line 1"),
        (["1.mp4 2", "3.mp4,4"], r"line 2: '3\.mp4,4' is not as line 1"),
        (
            ["id,name,label", "7,1.mp4,jump"],
            r"line 1: 'id' is no video, so this may be a header, but not one that is known",
        ),
        (
            ['"1.mp4,jump', '2.mp4",run'],
            r"line 2: a value goes on over a line's end; is there a quotation mark too many",
        ),
        (
            ["../1.mp4,jump"],
            r"list\.csv, line 1: '\.\./1\.mp4' of class 'jump' lies outside .*videos",
        ),
        (["1.mp4,jump", "../..,jump"], r"list\.csv, line 2: '\.\./\.\.' .* lies outside"),
        (
            [f"run/{i}.mp4,run" for i in range(3)] + ["run/9.mp4,rnu"],
            r"line 4: label 'rnu' of run/9\.mp4: is the label meant .*'run'",
        ),
        (["a\0.mp4,jump"], r"line 1: "),
    ],
)
def test_a_csv_that_says_something_else_is_refused_by_line(
    lines: list[str], said: str, source: Any, write: Callable[..., Path]
) -> None:
    write("list.csv", *lines)
    with pytest.raises(DataError, match=said):
        source("csv")


def test_blanks_in_names_of_lists_with_blanks_are_kept(
    source: Any, write: Callable[..., Path]
) -> None:
    write("list.csv", "a, b/c  d.mp4 12", "e.mp4 3")
    assert rows(source("csv")) == [("a, b/c  d.mp4", "12", "train"), ("e.mp4", "3", "train")]


def test_a_quoted_value_may_hold_a_line_break(source: Any, write: Callable[..., Path]) -> None:
    write("list.csv", "path,label", '"a\nb.mp4","one\ntwo"', "c.mp4,run")
    assert rows(source("csv")) == [("a\nb.mp4", "one\ntwo", "train"), ("c.mp4", "run", "train")]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_lists_may_be_in_utf_16_as_spreadsheets_save_them(
    encoding: str, source: Any, tmp_path: Path, write: Callable[..., Path]
) -> None:
    mark = "\ufeff" if encoding != "utf-16" else ""
    write("list.csv").write_bytes(f"{mark}path\tlabel\r\na.mp4\té\r\n".encode(encoding))
    assert rows(source("csv")) == [("a.mp4", "é", "train")]
    for use in ("train", "test"):
        write(f"splits/{use}list01.txt").write_bytes(f"{mark}É/{use}.avi 1\r\n".encode(encoding))
    assert [video.video_id for video in source("ucf101")] == ["É/train.avi", "É/test.avi"]


def test_paths_may_be_written_with_backslashes(
    source: Any, write: Callable[..., Path], tmp_path: Path
) -> None:
    for name in ("videos/a/1.mp4", r"videos/a\2.mp4", "videos/a/2.mp4", "outside.mp4"):
        write(name)
    write("list.csv", r"a\1.mp4,jump", r"a\2.mp4,jump", r"b\3.mp4,jump")
    assert [video.path.relative_to(tmp_path / "videos").as_posix() for video in source("csv")] == [
        "a/1.mp4",
        r"a\2.mp4",
        r"b\3.mp4",
    ]
    write("list.csv", r"..\outside.mp4,jump")
    with pytest.raises(DataError, match=r"line 1: .* lies outside"):
        source("csv")


def test_a_video_in_the_folder_of_another_class_of_nearly_its_name_may_be_meant(
    source: Any, write: Callable[..., Path]
) -> None:
    listed = [
        f"{name}/{i}.mp4,{name}"
        for name, count in (("pullup", 9), ("pushup", 2))
        for i in range(count)
    ]
    write("list.csv", *listed, "pullup/10.mp4,pushup")
    assert source("csv")[-1].class_name == "pushup"


def test_labels_may_be_finer_than_folders(source: Any, write: Callable[..., Path]) -> None:
    lines = [f"jump/{i}.mp4,{'jump up' if i > 9 else 'jump'}" for i in range(12)]
    write("list.csv", *lines)
    assert [video.class_name for video in source("csv")] == [
        line.partition(",")[2] for line in lines
    ]


def test_a_label_that_may_be_another_one_misspelt_is_named(
    source: Any, write: Callable[..., Path]
) -> None:
    write(
        "list.csv",
        *(f"{i}.mp4,jump" for i in range(10)),
        "10.mp4,jmup",
        *(f"{i}.mp4,class 1" for i in range(11, 21)),
        "21.mp4,class 2",
    )
    (note,) = source("csv").notes
    assert (
        note
        == "class 'jmup' has 1 of the listed videos, and 'jump', which is nearly its name, 10; is"
        " it misspelt?"
    )


def test_a_list_of_a_long_tail_of_classes_is_not_searched_for_slips(
    source: Any, write: Callable[..., Path]
) -> None:
    often = [
        f"{i}_{j}.mp4,open the door with {chr(97 + i)}{chr(97 + i)} hand"
        for i in range(26)
        for j in range(10)
    ]
    write(
        "list.csv",
        *often,
        *(
            f"r{i}.mp4,hand the cup of {i:b} over".translate({48: "o", 49: "l"})
            for i in range(9000)
        ),
    )
    start = time.process_time()
    assert source("csv").notes == []
    assert time.process_time() - start < 5


def test_notes_on_many_classes_are_few(source: Any, write: Callable[..., Path]) -> None:
    letters = "abcdefghij"
    write(
        "list.csv",
        *(f"{i}.mp4,jump" for i in range(10)),
        *(f"{letter}.mp4,jump{letter}" for letter in letters),
    )
    *notes, last = source("csv").notes
    assert len(notes) == 5
    assert last == "5 more classes may be misspelt"


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_may_be_written_in_either_form(
    forms: tuple[str, str], source: Any, write: Callable[..., Path], tmp_path: Path
) -> None:
    listed, there = (unicodedata.normalize(form, "café/été.mp4") for form in forms)
    write(f"videos/{there}")
    write("list.csv", f"{listed},drink", f"{unicodedata.normalize(forms[0], 'ñ')}.mp4,gone")
    assert [video.path.exists() for video in source("csv")] == [True, False]
    assert source("csv")[0].video_id == listed
    write("splits/trainlist01.txt", f"{unicodedata.normalize(forms[0], 'Café/v_été.avi')} 1")
    write("splits/testlist01.txt", "B/v_2.avi")
    name = write(f"videos/{unicodedata.normalize(forms[1], 'Café/v_été.avi')}")
    assert source("ucf101")[0].path == name


# --- UCF101 and HMDB51 ----------------------------------------------------------------------------


@pytest.mark.parametrize("class_list", [True, False])
def test_ucf101_s_two_spellings_are_one_class(
    class_list: bool, source: Any, write: Callable[..., Path], tmp_path: Path
) -> None:
    if class_list:
        write("splits/classInd.txt", "1\tHandstandPushups", "2\tPunch")
    write(
        "splits/trainlist01.txt",
        "HandStandPushups/v_HandStandPushups_g08_c01.avi\t1",
        "Punch/v_Punch_g08_c01.avi 2",
    )
    write("splits/testlist01.txt", "HandstandPushups/v_HandstandPushups_g01_c01.avi")
    files = [f"HandstandPushups/v_HandStandPushups_g{group}_c01.avi" for group in ("08", "01")]
    for name in files:
        write(f"videos/UCF-101/{name}")
    videos = source("ucf101")
    assert [video.class_name for video in videos] == [
        "HandstandPushups",
        "Punch",
        "HandstandPushups",
    ]
    assert [
        video.path.relative_to(tmp_path / "videos/UCF-101").as_posix()
        for video in (videos[0], videos[2])
    ] == files
    assert videos[0].video_id == "HandStandPushups/v_HandStandPushups_g08_c01.avi"


def test_two_spellings_that_no_folder_decides_are_refused(
    source: Any, write: Callable[..., Path]
) -> None:
    write("splits/trainlist01.txt", "HandStand/v_1.avi 1")
    write("splits/testlist01.txt", "Handstand/v_2.avi")
    with pytest.raises(
        DataError,
        match=(
            r"'HandStand' \(.*trainlist01\.txt, line 1\) and class 'Handstand' \(.*testlist01\.txt,"
            r" line 1\)"
        ),
    ):
        source("ucf101")
    write("videos/HandStand/v_1.avi")
    write("videos/Handstand/v_2.avi")
    assert [video.class_name for video in source("ucf101")] == ["HandStand", "Handstand"]


def test_a_class_whose_file_lies_in_the_folder_of_one_of_nearly_its_name_is_refused(
    source: Any, write: Callable[..., Path]
) -> None:
    write("videos/Punch/v_Punch_g1.avi")
    write("splits/trainlist01.txt", "Punhc/v_Punch_g1.avi", "Punch/v_Punch_g2.avi")
    write("splits/testlist01.txt", "Biking/v_Biking_g1.avi")
    with pytest.raises(
        DataError,
        match=(
            r"line 1: class 'Punhc' has no folder under .*, but v_Punch_g1\.avi lies in 'Punch'; is"
        ),
    ):
        source("ucf101")


def test_folders_may_be_named_somewhat_otherwise_than_the_list_s_classes(
    source: Any, write: Callable[..., Path]
) -> None:
    path = write("videos/massaging persons head/x_000001_000002.mp4")
    write("splits/train.csv", HEADER, "massaging person's head,x,1,2,train")
    write("splits/val.csv", HEADER, "zumba,v,1,2,val")
    videos = source("kinetics400")
    assert (videos[0].path, videos[0].class_name) == (path, "massaging person's head")
    assert videos.notes == [
        "1 class without a folder, but nearly: massaging person's head (is massaging persons head"
        " meant?)"
    ]


def test_a_class_that_is_only_not_there_is_listed_and_a_folder_of_nearly_its_name_is_named(
    source: Any, write: Callable[..., Path]
) -> None:
    write("videos/digits/five/1.avi")
    write("videos/Biking/v_Biking_g1.avi")
    write("splits/trainlist01.txt", "dive/v_dive_g1.avi")
    write("splits/testlist01.txt", "Biking/v_Biking_g1.avi")
    videos = source("ucf101")
    assert [video.class_name for video in videos] == ["dive", "Biking"]
    assert videos.notes == ["1 class without a folder, but nearly: dive (is five meant?)"]


def test_classes_that_are_nearly_the_same_may_both_be_meant(
    source: Any, write: Callable[..., Path]
) -> None:
    for name in ("hit", "sit", "run", "turn"):
        write(f"splits/{name}_test_split1.txt", "1.avi 1", "2.avi\t2", "3.avi;0")
    write("videos/sit/1.avi")
    write("videos/turn/1.avi")
    videos = source("hmdb51")
    assert not videos.notes
    assert sorted({video.class_name for video in videos}) == ["hit", "run", "sit", "turn"]
    assert len(videos) == 8


def test_hidden_lists_are_none(source: Any, write: Callable[..., Path]) -> None:
    write("splits/run_test_split1.txt", "1.avi 1")
    write("splits/._run_test_split1.txt", "what a Mac keeps beside a file")
    write("splits/.ipynb_checkpoints/walk_test_split1.txt", "1.avi 1")
    assert [video.class_name for video in source("hmdb51")] == ["run"]


def test_a_listed_file_that_is_there_under_nearly_its_name_is_named(
    source: Any, write: Callable[..., Path]
) -> None:
    write("videos/Punch/v_Punch_g01_c02.mp4")
    write("videos/Punch/v_Punch_g01_c03.avi")
    write("splits/trainlist01.txt", *(f"Punch/v_Punch_g01_c0{i}.avi 1" for i in (1, 2, 3)))
    write("splits/testlist01.txt", "Biking/v_Biking_g01_c01.avi")
    (note,) = source("ucf101").notes
    assert (
        note == "1 listed file not there, but nearly: v_Punch_g01_c02.avi (is v_Punch_g01_c02.mp4"
        " meant?)"
    )


# --- Kinetics and Something-Something -------------------------------------------------------------


def test_kinetics_lists_with_tabs_and_with_a_label_in_two_cases(
    source: Any, write: Callable[..., Path]
) -> None:
    write("splits/train.csv", HEADER.replace(",", "\t"), "Air Drumming\tx\t1\t2\ttrain")
    write("splits/val.csv", HEADER, "air drumming,y,1,2,val")
    write("videos/air_drumming/x_000001_000002.mp4")
    assert rows(source("kinetics400")) == [
        ("x_000001_000002", "air drumming", "train"),
        ("y_000001_000002", "air drumming", "test"),
    ]


def test_kinetics_folders_of_splits_are_no_misspelt_classes(
    source: Any, write: Callable[..., Path]
) -> None:
    write("splits/train.csv", HEADER, "vault,aaaaaaaaaaa,1,11,train")
    write("splits/val.csv", HEADER, "vault,bbbbbbbbbbb,1,11,val")
    write("videos/val/bbbbbbbbbbb_000001_000011.mp4")
    assert source("kinetics400").notes == []


def test_ids_of_other_case_are_other_videos(source: Any, write: Callable[..., Path]) -> None:
    write("splits/train.csv", HEADER, "zumba,aB,1,2,train")
    write("splits/val.csv", HEADER, "zumba,Ab,1,2,val")
    write("videos/zumba/Ab_000001_000002.mp4")
    assert [video.path.exists() for video in source("kinetics400")] == [False, True]


@pytest.mark.parametrize(
    ("label", "clip", "said"),
    [
        ("../../x", "y", r"train\.csv, line 3: class '\.\./\.\./x' is not a name below"),
        ("/etc", "y", r"line 3: class '/etc' is not a name below"),
        ("..", "y", r"line 3: class '\.\.' is not"),
        ("zumba", "../y", r"line 3: no label or no youtube_id"),
        (
            "zmuba",
            "flat",
            r"line 3: class 'zmuba' has no folder under .*, but flat_000001_000002 lies in 'zumba'",
        ),
    ],
)
def test_a_line_of_kinetics_that_leads_elsewhere_is_named(
    label: str, clip: str, said: str, source: Any, write: Callable[..., Path]
) -> None:
    write("splits/train.csv", HEADER, "zumba,x,1,2,train", f"{label},{clip},1,2,train")
    write("splits/val.csv", HEADER, "zumba,v,1,2,val")
    write("videos/zumba/flat_000001_000002.mp4")
    with pytest.raises(DataError, match=said):
        source("kinetics400")


@pytest.mark.parametrize(
    ("video", "template", "said"),
    [
        ("/etc/passwd", "A", r"train\.json, entry 2: id '/etc/passwd' is not the name of a video"),
        ("../x", "A", r"entry 2: id '\.\./x' is not the name"),
        ("a\0", "A", r"entry 2: video 'a\\x00' has letters that no name can have"),
        ("a", "\ud800", r"entry 2: class '\\ud800' has letters that no name can have"),
    ],
)
def test_an_entry_of_something_something_that_leads_elsewhere_is_named(
    video: str, template: str, said: str, source: Any, write: Callable[..., Path]
) -> None:
    write(
        "splits/train.json",
        json.dumps([{"id": "1", "template": "A"}, {"id": video, "template": template}]),
    )
    write("splits/validation.json", json.dumps([{"id": "2", "template": "A"}]))
    with pytest.raises(DataError, match=said):
        source("something_something_v2")


@pytest.mark.parametrize(
    ("name", "said"),
    [("../v_1.avi", r"video '\.\./v_1\.avi' is not"), ("A/..", r"'A/\.\.' of class 'A' lies")],
)
def test_a_line_of_ucf101_that_leads_elsewhere_is_named(
    name: str, said: str, source: Any, write: Callable[..., Path]
) -> None:
    write("splits/trainlist01.txt", "A/v_1.avi", name)
    write("splits/testlist01.txt", "A/v_2.avi")
    with pytest.raises(DataError, match=rf"trainlist01\.txt, line 2: {said}"):
        source("ucf101")


def test_a_line_of_hmdb51_that_leads_elsewhere_is_named(
    source: Any, write: Callable[..., Path]
) -> None:
    write("splits/run_test_split1.txt", "a.avi 1", "../../x.avi 2")
    with pytest.raises(DataError, match=r"line 2: '\.\./\.\./x\.avi 2' is not FILE"):
        source("hmdb51")


def test_a_name_that_is_too_long_is_a_reject(
    write: Callable[..., Path], tmp_path: Path, write_video: Any, moving_bar: Any
) -> None:
    from vididi.components import resolve
    from vididi.config import build_config
    from vididi.prepared import ensure_prepared

    write_video(tmp_path / "videos" / "1.mp4", moving_bar(4, 16, 16))
    path = write("list.csv", "1.mp4,jump", f"{'x' * 300}.mp4,jump")
    data = {"name": "csv", "videos": str(tmp_path / "videos"), "list": str(path)}
    assert (
        ensure_prepared(
            resolve(build_config({"data": data, "prepare": {"short_side": 16}}))
        ).manifest.rejects
        == 1
    )


# --- Any list -------------------------------------------------------------------------------------

CLASSES = ("BaseballPitch", "Handstand Pushups", "Biking", "Punch", "Ärger, laut; sehr")
words = (
    st.text(st.sampled_from("ab c,;'\"é-_."), min_size=1, max_size=8)
    .map(str.strip)
    .filter(lambda text: text.strip(".") != "")
)
names = st.lists(words.map(lambda text: f"{text}x.mp4"), min_size=1, max_size=6, unique=True)
headers = st.tuples(
    st.sampled_from(["path", *OTHER_NAMES["path"]]),
    st.sampled_from(["label", *OTHER_NAMES["label"]]),
)


@given(names, st.data())
@settings(max_examples=150, deadline=None)
def test_a_csv_is_read_as_it_was_meant_however_it_is_written(
    names: list[str], data: st.DataObject
) -> None:
    draw = data.draw
    truth = [
        (name, draw(st.sampled_from(CLASSES)), draw(st.sampled_from(["train", "test"])))
        for name in names
    ]
    header = draw(st.none() | headers)
    order = [0, 1, 2] if header is None else draw(st.permutations([0, 1, 2]))
    lines = [*([(*header, "split")] if header else []), *truth]
    text = io.StringIO()
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    ending = draw(st.sampled_from(["\n", "\r\n", "\n\n"]))
    csv.writer(
        text, delimiter=draw(st.sampled_from(",\t;")), quoting=quoting, lineterminator=ending
    ).writerows([line[place] for place in order] for line in lines)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "list.csv")
        path.write_bytes((draw(st.sampled_from(["", "\ufeff"])) + text.getvalue()).encode())
        assert rows(SOURCES["csv"](Path(folder), videos=Path(folder), list=path)) == truth  # type: ignore[arg-type]


@given(names, st.data())
@settings(max_examples=60, deadline=None)
def test_a_list_with_blanks_is_read_as_it_was_meant(names: list[str], data: st.DataObject) -> None:
    """As MMAction2 and PySlowFast write them."""
    truth = [(name, str(data.draw(st.integers(0, 400)))) for name in names if '"' not in name]
    lines = [
        " ".join(line) + data.draw(st.sampled_from(["\n", " \n", "\r\n", "\n\n"])) for line in truth
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "list.txt")
        path.write_text("".join(lines) or "0.mp4 1")
        videos = SOURCES["csv"](Path(folder), videos=Path(folder), list=path)
    assert [(video.video_id, video.class_name) for video in videos] == (truth or [("0.mp4", "1")])


def slip(data: st.DataObject, word: str) -> str:
    """The word with a letter more, less or other, or two changed over."""
    place = data.draw(st.integers(0, len(word) - 2))
    before, one, two, after = word[:place], word[place], word[place + 1], word[place + 2 :]
    return before + data.draw(
        st.sampled_from([one + after, one + two + two + after, two + one + after, f"{one}q{after}"])
    )


@given(st.data(), st.booleans())
@settings(max_examples=80, deadline=None)
def test_a_slip_never_makes_a_class_with_videos(data: st.DataObject, upper: bool) -> None:
    """UCF101's lists and its folders: the class of one line is misspelt."""
    classes = ("BaseballPitch", "HandstandPushups", "Biking", "Punch")
    lines = {
        use: [f"{name}/v_{name}_g0{group}_c01.avi" for name in classes]
        for use, group in (("train", 2), ("test", 1))
    }
    place = data.draw(st.integers(0, 3))
    right = classes[place]
    wrong = right.swapcase() if upper else slip(data, right)
    lines["train"][place] = lines["train"][place].replace(f"{right}/", f"{wrong}/")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for use, listed in lines.items():
            (root / f"{use}list01.txt").write_text("\n".join(listed))
            for video in listed:
                path = root / "videos" / video.replace(f"{wrong}/", f"{right}/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        assert _classes_or_error(root) in (
            set(classes),
            f"{root}/trainlist01.txt, line {place + 1}: class {wrong!r}",
        )


def _classes_or_error(root: Path) -> Any:
    try:
        return {
            video.class_name
            for video in SOURCES["ucf101"](root, videos=root / "videos", splits=root)
        }
    except DataError as error:
        return str(error).removeprefix("data.splits: ").partition(" has no folder")[0]
