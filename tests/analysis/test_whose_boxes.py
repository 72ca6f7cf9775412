"""A table of detection says whose boxes its measured numbers are of, in Markdown and in LaTeX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_up_runs import UCF101, made_up_evaluation, made_up_run

from vididi.analysis.formats import escape, markdown_line
from vididi.analysis.paper import load_paper_table
from vididi.analysis.paper_table import main as table
from vididi.analysis.reading import find_runs, read_finished, read_run
from vididi.analysis.tables import render_table

VICREG = {**UCF101, "objective.name": "vicreg", "backbone.name": "r3d_18", "schedule.order": 0}
SIMCLR = {**VICREG, "objective.name": "simclr"}
CVRL = {"data.name": "kinetics400", "objective.name": "cvrl", "backbone.name": "r3d_50"}
SHA = "ab" * 32
PROPOSED = {"boxes": "/data/ava_val_predicted_boxes.csv", "boxes_sha256": SHA, "box_score": 0.8}
GIVEN = (
    "Detection here is of given boxes, the annotation's, in training and in testing: no person is"
    " looked for"
)
OF_FILE = (
    "Detection here is tested in proposed boxes, those of ava_val_predicted_boxes.csv (SHA-256"
    f" {SHA}) with a score of 0.8 or more, and trained in the annotation's"
)


def detected(root: Path, values: dict[str, Any], boxes: dict[str, Any] | None = None) -> Path:
    run = made_up_run(root, {"schedule.order": 0, **values}, {})
    metrics = {"detection/mAP": 0.1, "detection/best_mAP": 0.2, "detection/best_epoch": 2}
    settings = {"epochs": 20, **(boxes or {})}
    made_up_evaluation(run, "detection", "ava", metrics, settings=settings)
    return run


def printed(name: str, root: Path) -> tuple[str, str, str]:
    return render_table(load_paper_table(name), read_finished(find_runs(root)))


@pytest.mark.parametrize(("name", "values"), [("vididi_table_3", VICREG), ("cvrl_table_5", CVRL)])
@pytest.mark.parametrize(("boxes", "line"), [(None, GIVEN), (PROPOSED, OF_FILE)])
def test_both_papers_tables_say_it(
    name: str, values: dict[str, Any], boxes: dict[str, Any] | None, line: str, tmp_path: Path
) -> None:
    """A result from before there was a choice is of given boxes."""
    detected(tmp_path, values, boxes)
    markdown, _, latex = printed(name, tmp_path)
    assert f"\n{markdown_line(line)}.\n" in f"{markdown}\n"
    assert f"{escape(line)}." in latex
    for other in {GIVEN, OF_FILE} - {line}:
        assert markdown_line(other) not in markdown
        assert escape(other) not in latex


def test_what_is_printed_and_written_says_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detected(tmp_path / "runs", VICREG)
    assert table(["vididi_table_3", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    assert f"{GIVEN}." in capsys.readouterr().out
    assert f"{GIVEN}." in (tmp_path / "out" / "vididi_table_3.md").read_text()
    assert f"{escape(GIVEN)}." in (tmp_path / "out" / "vididi_table_3.tex").read_text()


def test_where_runs_differ_each_line_names_its_runs(tmp_path: Path) -> None:
    given, proposed = detected(tmp_path, VICREG), detected(tmp_path, SIMCLR, PROPOSED)
    higher = detected(
        tmp_path, {**SIMCLR, "objective.name": "byol"}, {**PROPOSED, "box_score": 0.9}
    )
    markdown, _, latex = printed("vididi_table_3", tmp_path)
    for line, run in (
        (GIVEN, given),
        (OF_FILE, proposed),
        (OF_FILE.replace("0.8", "0.9"), higher),
    ):
        assert f"{markdown_line(f'{line}: {run.name}')}." in markdown
        assert f"{escape(f'{line}: {run.name}')}." in latex


def test_a_table_without_detection_says_nothing_of_boxes(tmp_path: Path) -> None:
    detected(tmp_path, VICREG)
    for name in ("vididi_table_1", "cvrl_table_2"):
        assert "boxes" not in "".join(printed(name, tmp_path))
    assert "Detection here" not in "".join(printed("vididi_table_3", tmp_path / "nothing"))


def test_given_and_proposed_boxes_never_share_a_column(tmp_path: Path) -> None:
    run = detected(tmp_path, VICREG)
    settings = {"epochs": 20, **PROPOSED}
    made_up_evaluation(run, "detection", "ava", {"detection/best_mAP": 0.15}, settings=settings)
    detected(tmp_path, SIMCLR)
    markdown, sheet, _ = printed("vididi_table_3", tmp_path)
    assert "detection ava (2): with box_score 0.8, boxes_sha256" in markdown
    assert "best_mAP ava (2)" in sheet.replace("detection ", "")
    # Where the file lay is not how it was measured, and what was always done is not said.
    assert "/data/" not in markdown
    assert "box_score None" not in markdown


def test_copies_are_known_by_the_name_that_the_program_gives(tmp_path: Path) -> None:
    """The name has the file's digest and not its path, as the evaluation's folder has."""
    run = detected(tmp_path, VICREG, PROPOSED)
    (folder,) = (run / "evaluations").iterdir()
    moved = (folder / "result.json").read_text().replace("/data/", "/moved/")
    copy = run / "evaluations" / "detection-copy"
    copy.mkdir()
    (copy / "result.json").write_text(moved)
    found = read_run(run)
    assert len([m for m in found.measurements if m.name]) == 1
    assert len(found.left_out) == 1
