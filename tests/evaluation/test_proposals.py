"""Files of proposed boxes: what is read of them, and what is refused by line, field and value."""

from __future__ import annotations

from pathlib import Path

import pytest

from vididi.errors import DataError
from vididi.evaluation.ava_files import Proposals, read_proposals


def read(tmp_path: Path, text: str, least: float = 0.8) -> Proposals:
    path = tmp_path / "boxes.csv"
    path.write_text(text)
    return read_proposals(path, least)


def test_boxes_are_read_once_whatever_actions_they_were_given(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "a,0902,0.1,0.2,0.3,0.4,,0.95\n"
        "a,0902,0.1,0.2,0.3,0.4,12,0.95\n"
        "a,902.000000,0.10,0.2,0.3,0.4,stand,0.81\n"
        "\n"
        "a,0903,0.1,0.2,0.3,0.4,80,0.95\n"
        "b,0902,0.0,0.0,1.0,1.0,-1,0.8\n"
        "b,0903\n",
    )
    assert found.films == ("a", "a", "b")
    assert found.second.tolist() == [902, 903, 902]
    assert found.corners.tolist() == [[0.1, 0.2, 0.3, 0.4]] * 2 + [[0.0, 0.0, 1.0, 1.0]]
    assert (found.lines, found.repeated, found.below_score) == (5, 2, 0)


def test_boxes_below_the_score_and_without_an_area_are_left_out(tmp_path: Path) -> None:
    text = (
        "a,0902,0.1,0.2,0.3,0.4,,0.79\n"
        "a,0902,0.1,0.2,0.1,0.4,,0.9\n"
        "a,0902,0.1,0.2,0.3,0.2,,0.9\n"
        "a,0902,0.1,0.2,0.3,0.4,,0.8\n"
    )
    found = read(tmp_path, text)
    assert (len(found.films), found.below_score, found.without_area) == (1, 1, (2, 3))
    assert len(read(tmp_path, text, 0.0).films) == 1
    assert read(tmp_path, text, 0.0).repeated == 1
    assert read(tmp_path, "", 0.8).films == ()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,0902,-0.01,0.2,0.3,0.4,,0.9", r"x1 -0\.01 and x2 0\.3 are not 0 <= x1 <= x2 <= 1"),
        ("a,0902,0.1,0.2,1.01,0.4,,0.9", r"x1 0\.1 and x2 1\.01 are not 0 <= x1 <= x2 <= 1"),
        ("a,0902,0.4,0.2,0.3,0.4,,0.9", r"x1 0\.4 and x2 0\.3 are not 0 <= x1 <= x2 <= 1"),
        ("a,0902,0.1,0.5,0.3,0.4,,0.9", r"y1 0\.5 and y2 0\.4 are not 0 <= y1 <= y2 <= 1"),
        ("a,0902,0.1,nan,0.3,0.4,,0.9", r"y1 nan and y2 0\.4 are not 0 <= y1 <= y2 <= 1"),
        ("a,0902,0.1,0.2,0.3,0.4,,1.5", r"score 1\.5 is not from 0 to 1"),
        ("a,0902,0.1,0.2,0.3,0.4,,nan", r"score nan is not from 0 to 1"),
        ("a,0902,0.1,0.2,0.3,0.4,,", r"score '' is not a number"),
        ("a,0902,0.1,0.2,x,0.4,,0.9", r"x2 'x' is not a number"),
        ("a,now,0.1,0.2,0.3,0.4,,0.9", r"second 'now' is not a number of seconds"),
        (",0902,0.1,0.2,0.3,0.4,,0.9", r"video_id is empty"),
        (
            "a,0902,0.1,0.2,0.3,0.4,0.9",
            r"7 columns, not the 8 of video_id,second,x1,y1,x2,y2,action_id,score",
        ),
    ],
)
def test_a_line_that_cannot_be_is_refused_with_what_is_allowed(
    line: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=rf"boxes\.csv, line 2: {message}"):
        read(tmp_path, f"a,0902,0.1,0.2,0.3,0.4,,0.9\n{line}\n")


def test_a_line_below_the_score_is_checked_too(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 1: x1 0\.4 and x2 0\.3"):
        read(tmp_path, "a,0902,0.4,0.2,0.3,0.4,,0.1\n")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.csv: cannot be read"):
        read_proposals(tmp_path / "no.csv", 0.8)
