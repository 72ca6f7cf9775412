"""What a sweep measured, as a table of its own: written beside the run folders, and on a screen."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from made_up_runs import hits_of, made_up_evaluation, made_up_run, recalls
from rich.cells import cell_len

from vididi.analysis.own_table import sweep_tables, write_results
from vididi.analysis.paper import load_paper_table
from vididi.analysis.reading import find_runs
from vididi.pairing import SCHEDULES

PAPER = load_paper_table("vididi_table_6")
OURS = {"data.name": "motion", "training.epochs": 12}
ARMS = {"base": ("Base (VICReg)", 0.30), "vididi": ("ViDiDi-VIC", 0.45)}


def schedule(arm: str) -> dict[str, object]:
    s = SCHEDULES[arm]
    values = {"order": s.order, "mix": s.mix, "selection": s.selection, "reverse": s.reverse}
    return {f"schedule.{key}": value for key, value in values.items()}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two arms of two seeds, with an untrained encoder, what learned nothing, and a classifier."""
    root = tmp_path / "runs"
    for arm, (label, rate) in ARMS.items():
        for seed in (0, 1):
            hits = hits_of(rate)
            values = {**OURS, **schedule(arm)}
            metrics = {**recalls(hits), "untrained/retrieval/R@1": 0.1, "silhouette/all": -0.1}
            run = made_up_run(root, values, metrics, seed, label, first_hits=hits)
            cell = json.loads((run / "cell.json").read_text()) | {"arm": arm}
            (run / "cell.json").write_text(json.dumps(cell))
            made_up_evaluation(
                run,
                "linear",
                "motion",
                {"linear/top1": rate + 0.2},
                correct=[i < (rate + 0.2) * 200 for i in range(200)],
                untrained={"linear/top1": 0.15},
            )
            made_up_evaluation(run, "unlearned", "motion", {"unlearned/middle_frame_R@1": 0.08})
    return root


def rows_of(out: Path) -> dict[str, dict[str, str]]:
    return {row["Arm"]: row for row in csv.DictReader((out / "results.csv").open(newline=""))}


def test_every_metric_has_its_gain_over_the_named_baseline_with_its_interval(
    runs: Path, tmp_path: Path
) -> None:
    text = write_results(find_runs(runs), tmp_path, "base")
    rows = rows_of(tmp_path)
    ours, base = rows["ViDiDi-VIC"], rows["Base (VICReg)"]
    assert (ours["R@1"], ours["R@1 gain"]) == ("45.0 ± 0.0", "+15.0")
    low, high = map(float, ours["R@1 gain 95%"].split(" to "))
    assert 0 < low < 15 < high < 30
    assert ours["linear top1 motion gain"] == "+15.0"
    assert (ours["silhouette all gain"], base["R@1 gain"]) == ("+0.000", "")
    assert "gain: over base, at the same point" in text


def test_the_untrained_encoder_and_what_learned_nothing_are_rows(
    runs: Path, tmp_path: Path
) -> None:
    write_results(find_runs(runs), tmp_path, "base")
    rows = rows_of(tmp_path)
    untrained = rows["untrained encoder"]
    assert (untrained["R@1"], untrained["linear top1 motion"]) == ("10.0 ± 0.0", "15.0 ± 0.0")
    nothing = rows["nothing learned: middle frame"]
    assert [value for value in nothing.values() if "8.0" in value] == ["8.0"]
    assert nothing["seeds"] == ""
    assert untrained["R@1 gain"] == ""


def test_it_is_written_as_text_markdown_csv_and_latex(runs: Path, tmp_path: Path) -> None:
    write_results(find_runs(runs), tmp_path / "out", "base")
    texts = {path.suffix: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert set(texts) == {".txt", ".md", ".csv", ".tex"}
    assert all("ViDiDi-VIC" in text and "45.0" in text for text in texts.values())
    assert texts[".md"].startswith("| Arm")
    assert r"\toprule" in texts[".tex"]
    assert "|" not in texts[".txt"].splitlines()[0]


def test_a_baseline_that_did_not_finish_is_said(runs: Path, tmp_path: Path) -> None:
    text = write_results(find_runs(runs), tmp_path, "never")
    assert "gain: none, as never has no finished runs" in text
    assert not any("gain" in column for column in rows_of(tmp_path)["ViDiDi-VIC"])


@pytest.mark.parametrize("width", [80, 140])
def test_on_a_terminal_nothing_is_wider_than_it(runs: Path, tmp_path: Path, width: int) -> None:
    text = sweep_tables(PAPER, find_runs(runs), tmp_path, "base", width=width)
    widths = [cell_len(line) for line in text.splitlines()]
    assert max(widths) <= width
    assert max(widths) > width - 30, "what room there is is used"
    for said in ("45.0 ± 0.0", "+15.0", "untrained encoder", "65.0 ± 0.0"):
        assert said in text


@pytest.mark.parametrize("width", [80, None])
def test_its_own_table_comes_first_and_rows_without_runs_are_hidden_and_counted(
    runs: Path, tmp_path: Path, width: int | None
) -> None:
    text = sweep_tables(PAPER, find_runs(runs), tmp_path, "base", width=width)
    own, _, paper = text.partition(PAPER.title)
    assert "45.0" in own
    assert "31.1" not in own
    assert "31.1" in paper
    assert "+Random 1st" not in paper
    assert "no runs" not in paper
    without = len(PAPER.rows) - 2
    assert f"{without} rows without runs are hidden" in " ".join(paper.split())
    assert "--all-rows shows them" in " ".join(paper.split())
    written = (tmp_path / "vididi_table_6.md").read_text()
    assert "+Random 1st" in written
    assert "hidden" not in written


def test_all_rows_are_shown_where_they_are_asked_for(runs: Path, tmp_path: Path) -> None:
    text = sweep_tables(PAPER, find_runs(runs), tmp_path, "base", all_rows=True)
    assert "+Random 1st" in text
    assert "no runs" in text
    assert "hidden" not in text
    assert (tmp_path / "vididi_table_6.md").read_text().strip() in text


def test_a_long_label_is_broken_and_never_cut(tmp_path: Path) -> None:
    label = "a label of an arm that says everything of what it is, and goes on " * 3
    made_up_run(tmp_path / "runs", OURS, recalls(hits_of(0.4)), label=label)
    text = sweep_tables(None, find_runs(tmp_path / "runs"), tmp_path, None, width=80)
    assert max(map(cell_len, text.splitlines())) <= 80
    assert all(word in text for word in label.split())


def test_points_of_one_arm_have_gains_over_the_first(tmp_path: Path) -> None:
    for number, size in enumerate((64, 32)):
        run = made_up_run(
            tmp_path / "runs",
            {**OURS, "training.batch_size": size},
            recalls(hits_of(0.3 + number / 10)),
        )
        cell = {"sweep": "s", "arm": "only", "label": "Only", "seed": 0}
        cell["axes"] = {"training.batch_size": size}
        (run / "cell.json").write_text(json.dumps(cell))
    text = write_results(find_runs(tmp_path / "runs"), tmp_path, "only")
    rows = list(csv.DictReader((tmp_path / "results.csv").open(newline="")))
    assert [row["R@1 gain"] for row in rows] == ["", "+10.0"]
    assert "gain: over only training.batch_size=64" in text
