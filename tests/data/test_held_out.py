"""A test split drawn where a data set has none."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from vididi.cli import main
from vididi.data.sources import SOURCES
from vididi.data.sources.held_out import draw_sides
from vididi.data.video import Video
from vididi.errors import ConfigError, DataError


def people(classes: int = 3, groups: int = 10, takes: int = 4) -> list[tuple[str, str, str]]:
    """Rows (video, class, group): every class has its own groups, of ``takes`` videos each."""
    return [
        (f"c{c}/p{c}{g:02d}_t{t}.mp4", f"c{c}", f"p{c}{g:02d}")
        for c in range(classes)
        for g in range(groups)
        for t in range(takes)
    ]


def sides_of(rows: list[tuple[str, str, str]], share: float = 0.2, seed: int = 0) -> dict[str, str]:
    """The side of each video."""
    classes, groups = [row[1] for row in rows], [row[2] for row in rows]
    sides = draw_sides(classes, groups, share, seed)
    return {row[0]: sides[row[2]] for row in rows}


def put_videos(root: Path, names: list[str]) -> Path:
    """Files that are listed and never opened."""
    for name in names:
        path = root / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root / "videos"


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_every_class_has_the_share_and_whole_groups_are_on_one_side(
    share: float, seed: int
) -> None:
    rows = people()
    sides = sides_of(rows, share, seed)
    for name in ("c0", "c1", "c2"):
        mine = [row for row in rows if row[1] == name]
        assert sum(sides[row[0]] == "test" for row in mine) == share * len(mine)
    by_group: dict[str, set[str]] = defaultdict(set)
    for video, _, group in rows:
        by_group[group].add(sides[video])
    assert all(len(both) == 1 for both in by_group.values())


def test_groups_of_several_classes_are_on_one_side_and_no_class_is_left_without() -> None:
    rows = [
        (f"{c}/p{p}_{take}.mp4", c, f"p{p}") for p in range(8) for c in "abc" for take in range(2)
    ]
    rows += [("d/p0_0.mp4", "d", "p0"), ("d/p1_0.mp4", "d", "p1")]
    for seed in range(20):
        sides = sides_of(rows, 0.25, seed)
        for name in "abcd":
            assert {sides[v] for v, c, _ in rows if c == name} == {"train", "test"}
        for name in "abc":
            assert sum(sides[v] == "test" for v, c, _ in rows if c == name) == 4


def test_the_order_of_listing_does_not_matter_and_the_seed_does() -> None:
    rows = people()
    shuffled = random.Random(1).sample(rows, len(rows))
    assert sides_of(rows) == sides_of(shuffled)
    assert sides_of(rows, seed=1) != sides_of(rows)
    # The same group on every machine.
    assert sorted(g for g, side in draw_sides(["a"] * 5, [*"vwxyz"], 0.4, 0).items()) == [*"vwxyz"]


def test_a_new_video_of_its_own_moves_at_most_one_other_of_its_class_and_none_of_others() -> None:
    rows = people(takes=1)
    before = sides_of(rows)
    moved = []
    for number in range(40):
        after = sides_of([*rows, ("c0/new.mp4", "c0", f"new{number}")])
        others = [video for video, side in before.items() if after[video] != side]
        assert len(others) <= 1
        assert all(video.startswith("c0/") for video in others)
        moved += others
    assert moved  # the share is kept, so some do


def test_groups_too_large_for_the_share_stay_for_training() -> None:
    classes = ["a"] * 100
    groups = ["large"] * 96 + ["k", "l", "m", "n"]
    for seed in range(5):
        assert draw_sides(classes, groups, 0.04, seed)["large"] == "train"


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_each_side_of_a_class_has_a_group(share: float) -> None:
    assert set(draw_sides(["a"] * 3, [*"xyz"], share, 0).values()) == {"train", "test"}


def listed(root: Path, **options: Any) -> list[Video]:
    return SOURCES["folder"](root, videos=root / "videos", **options)


def test_a_folder_is_split_and_the_counts_are_said(tmp_path: Path) -> None:
    put_videos(tmp_path, [row[0] for row in people(classes=2)])
    found = listed(tmp_path, test_share=0.2, group=r"/(p\d+)_")
    expected = sides_of(people(classes=2))
    assert {video.video_id: video.split for video in found} == expected
    notes = getattr(found, "notes")  # noqa: B009
    assert notes[0] == (
        "test_share 0.2: drawn with seed 0, 64 training videos of 16 groups and 16 test videos of"
        " 4 groups, a share of 0.2"
    )
    assert notes[1] == (
        "training and test videos (groups) of each class: c0 32 (8) and 8 (2), c1 32 (8) and 8 (2)"
    )
    assert {video.split for video in listed(tmp_path)} == {"train"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"test_share": 0.0}, r"test_share: 0\.0 is not valid; it must be above 0 and below 1"),
        ({"test_share": 1.0}, r"test_share: 1\.0 is not valid; it must be above 0 and below 1"),
        ({"test_share": float("nan")}, r"test_share: nan is not valid"),
        ({"test_share": 0.2, "group": r"p\d+"}, "group: .* has 0 pairs of parentheses"),
        ({"test_share": 0.2, "group": r"(p)(\d+)"}, "group: .* has 2 pairs of parentheses"),
        ({"test_share": 0.2, "group": r"(p"}, r"group: '\(p' is no pattern"),
        ({"test_share": 0.2, "seed": -1}, "seed: -1 is not valid"),
        ({"group": r"(p)"}, r"group: '\(p\)' is for test_share, which is not given"),
        ({"seed": 3}, r"seed: 3 is for test_share, which is not given"),
    ],
)
def test_options_that_are_not_valid(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    put_videos(tmp_path, [row[0] for row in people(classes=2)])
    with pytest.raises((ConfigError, ValueError), match=said):
        listed(tmp_path, **options)


def test_what_cannot_be_split_is_named(tmp_path: Path) -> None:
    put_videos(tmp_path, ["a/p1_1.mp4", "a/p1_2.mp4", "b/p2_1.mp4", "b/p3_1.mp4", "b/x.mp4"])
    with pytest.raises(DataError, match=r"data\.group: '\(p.\)_' is not in 1 of 5 videos.*b/x.mp4"):
        listed(tmp_path, test_share=0.2, group="(p.)_")
    (tmp_path / "videos" / "b" / "x.mp4").unlink()
    with pytest.raises(
        DataError, match=r"data\.test_share: class 'a' has one group, 'p1', which cannot be on both"
    ):
        listed(tmp_path, test_share=0.2, group="(p.)_")


def test_a_class_whose_groups_all_fell_on_one_side_is_named() -> None:
    # x and y are each other's test in c; the pairs of a triangle cannot all be split.
    classes, groups = [*"aabbcc"], [*"xyyzzx"]
    with pytest.raises(DataError, match=r"data\.test_share: class '.'.*all.*other classes"):
        draw_sides(classes, groups, 0.5, 0)


def test_a_folder_with_split_folders_has_its_split(tmp_path: Path) -> None:
    put_videos(tmp_path, ["train/a/1.mp4", "test/a/2.mp4"])
    with pytest.raises(DataError, match=r"data\.test_share: 0\.2 .* has train/ and test/ already"):
        listed(tmp_path, test_share=0.2)


# --- CSV ------------------------------------------------------------------------------------------


def as_csv(root: Path, *lines: str) -> dict[str, Path]:
    (root / "videos").mkdir(exist_ok=True)
    (root / "list.csv").write_text("".join(f"{line}\n" for line in lines))
    return {"videos": root / "videos", "list": root / "list.csv"}


def test_a_csv_is_split_by_a_column_or_a_pattern(tmp_path: Path) -> None:
    rows = people(classes=2)
    files = as_csv(tmp_path, "path,label,person", *(",".join(row) for row in rows))
    by_column = SOURCES["csv"](tmp_path, **files, test_share=0.2, group="Person")
    by_pattern = SOURCES["csv"](tmp_path, **files, test_share=0.2, group=r"/(p\d+)_")
    assert {video.video_id: video.split for video in by_column} == sides_of(rows)
    assert by_column == by_pattern


@pytest.mark.parametrize(
    ("lines", "options", "said"),
    [
        (
            ["path,label,who", "1.mp4,a,x"],
            {"test_share": 0.2, "group": "person"},
            r"data\.group: 'person' is no column of .*list\.csv, which has path, label, who",
        ),
        (
            ["1.mp4,a", "2.mp4,a"],
            {"test_share": 0.2, "group": "person"},
            r"data\.group: 'person' is no column of .*list\.csv, which has no header",
        ),
        (
            ["path,label,split", "1.mp4,a,train"],
            {"test_share": 0.2},
            r"data\.test_share: 0\.2 .*list\.csv has a split already",
        ),
        (
            ["path,label,who", "1.mp4,a,x", "2.mp4,a,"],
            {"test_share": 0.2, "group": "who"},
            r"list\.csv, line 3: no group in '2\.mp4,a,'",
        ),
    ],
)
def test_a_csv_that_cannot_be_split_is_named(
    lines: list[str], options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said):
        SOURCES["csv"](tmp_path, **as_csv(tmp_path, *lines), **options)


# --- The command ----------------------------------------------------------------------------------


def test_the_command_writes_a_list_that_source_csv_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = people(classes=2)
    videos = put_videos(tmp_path, [row[0] for row in rows])
    command = ["split", str(videos), "--test-share", "0.2", "--out", str(tmp_path / "list.csv")]
    assert main([*command, "--group", r"/(p\d+)_"]) == 0
    found = SOURCES["csv"](tmp_path, videos=videos, list=tmp_path / "list.csv")
    assert {video.video_id: video.split for video in found} == sides_of(rows)
    assert (tmp_path / "list.csv").read_text().splitlines()[0] == "path,label,split,group"
    printed = capsys.readouterr().out
    assert "c1" in printed
    assert "64 training videos of 16 groups and 16 test videos of 4 groups" in printed
    assert main(command) == 2
    assert "list.csv: is there already" in capsys.readouterr().err


def test_the_command_takes_a_csv(tmp_path: Path) -> None:
    rows = people(classes=2)
    files = as_csv(tmp_path, "path,label,person", *(",".join(row) for row in rows))
    arguments = ["split", str(files["videos"]), "--list", str(files["list"]), "--test-share", "0.2"]
    out = str(tmp_path / "out.csv")
    assert main([*arguments, "--group", "person", "--seed", "0", "--out", out]) == 0
    found = SOURCES["csv"](tmp_path, videos=files["videos"], list=tmp_path / "out.csv")
    assert {video.video_id: video.split for video in found} == sides_of(rows)


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos = put_videos(tmp_path, ["a/1.mp4", "a/2.mp4"])
    out = str(tmp_path / "out.csv")
    assert main(["split", str(videos), "--test-share", "1.5", "--out", out]) == 2
    assert "--test-share: 1.5 is not valid" in capsys.readouterr().err
    assert main(["split", str(videos), "--test-share", "0.2", "--group", "a", "--out", out]) == 2
    assert "--group: 'a' has 0 pairs of parentheses" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()
