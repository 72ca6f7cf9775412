"""The bars of each framework with and without ViDiDi."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from made_up_runs import UCF101, hits_of, made_up_evaluation, made_up_run, recalls
from PIL import Image

from vididi.analysis.bars import (
    FIGURE_1,
    BarPanel,
    draw_bars,
    frameworks,
    main,
    panels_of,
    printed,
    schedule_of,
)
from vididi.analysis.plots import pyplot
from vididi.analysis.reading import Run, find_runs, read_run

BASE = {"schedule.order": 0}
RETRIEVAL = ["--metric", "retrieval/R@1"]
VIDIDI = {"schedule.order": 2, "schedule.selection": "scheduled", "schedule.mix": "both_ways"}


def write_arm(
    root: Path,
    objective: str,
    schedule: dict[str, object],
    rate: float,
    seed: int = 0,
    **changes: object,
) -> Path:
    hits = hits_of(rate)
    values = {
        "objective.name": objective,
        **schedule,
        **{key.replace("__", "."): value for key, value in changes.items()},
    }
    return made_up_run(root, values, recalls(hits), seed, first_hits=hits)


def panel_of(runs: list[Run], metric: str = "retrieval/R@1") -> BarPanel:
    (panel,) = panels_of(runs, metric, None)
    return panel


def test_the_paper_s_bars_are_its_numbers(tmp_path: Path) -> None:
    panel = panel_of([read_run(write_arm(tmp_path, "simclr", BASE, 0.1))])
    assert panel.title == "motion (paper: UCF101)"
    assert printed("simclr", panel) == {"frames alone": 29.6, "with ViDiDi": 38.3}
    assert printed("byol", panel) == {"frames alone": 32.2, "with ViDiDi": 43.7}
    assert printed("vicreg", panel) == {"frames alone": 31.1, "with ViDiDi": 47.6}
    assert printed("corp_f", panel) == {"frames alone": None, "with ViDiDi": None}


def tuned(root: Path, objective: str, schedule: dict[str, object], rates: dict[str, float]) -> Path:
    """A run that was pretrained on UCF101 and fine-tuned on split 1 of some data sets."""
    run = write_arm(root, objective, schedule, 0.3, data__name="ucf101", data__split=1)
    for data, rate in rates.items():
        correct = [hit == 0 for hit in hits_of(rate)]
        made_up_evaluation(run, "finetune", data, {FIGURE_1: rate}, 1, correct=correct)
    return run


def test_figure_1_is_fine_tuning_on_both_data_sets_beside_what_table_4_prints(
    tmp_path: Path,
) -> None:
    tuned(tmp_path, "byol", BASE, {"ucf101": 0.7, "hmdb51": 0.4})
    tuned(tmp_path, "byol", VIDIDI, {"ucf101": 0.8, "hmdb51": 0.5})
    runs = [read_run(folder) for folder in find_runs(tmp_path)]
    ucf101, hmdb51 = panels_of(runs, FIGURE_1, None)
    assert (ucf101.title, hmdb51.title) == ("UCF101, split 1", "HMDB51, split 1")
    for panel, paper, ours in ((ucf101, 83.4, (0.7, 0.8)), (hmdb51, 58.0, (0.4, 0.5))):
        (group,), notes = frameworks(runs, panel)
        assert (group.name, notes) == ("BYOL", [])
        assert group.printed == {"frames alone": None, "with ViDiDi": paper}
        assert tuple(samples.mean for samples in group.ours.values()) == ours
    assert [panel.title for panel in panels_of(runs, FIGURE_1, ["hmdb51"])] == ["HMDB51, split 1"]


def test_splits_that_the_paper_has_not_are_panels_without_its_bars(tmp_path: Path) -> None:
    run = tuned(tmp_path, "byol", BASE, {"ucf101": 0.7})
    made_up_evaluation(run, "finetune", "ucf101", {FIGURE_1: 0.6}, 2)
    first, second = panels_of([read_run(run)], FIGURE_1, None)
    assert (first.title, second.title) == ("UCF101, split 1", "UCF101, split 2")
    assert second.paper is None
    (group,), _ = frameworks([read_run(run)], second)
    assert group.printed == {"frames alone": None, "with ViDiDi": None}
    assert group.ours["frames alone"].values == [0.6]


def test_a_metric_that_no_paper_has_is_drawn_without_its_bars(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_up_run(tmp_path / "runs", {**UCF101, **BASE}, {"silhouette/all": 0.1})
    runs = [read_run(folder) for folder in find_runs(tmp_path / "runs")]
    panel = panel_of(runs, "silhouette/all")
    assert (panel.paper, panel.column.scale) == (None, 1)
    out = tmp_path / "bars.svg"
    arguments = [str(tmp_path / "runs"), "--metric", "silhouette/all", "--out", str(out)]
    assert main(arguments) == 0
    assert "silhouette/all" in out.read_text()
    assert main([*arguments, "--data", "motion"]) == 2
    assert (
        capsys.readouterr().err
        == "error: --data: motion is not valid; silhouette/all was measured on ucf101\n"
    )


def test_runs_that_were_not_fine_tuned_are_told_what_can_be_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_arm(tmp_path, "byol", BASE, 0.2)
    assert main([str(tmp_path), "--out", str(tmp_path / "a.png")]) == 2
    assert capsys.readouterr().err == (
        "error: --metric: of 1 run none has measured finetune/top1; --metric retrieval/R@1 was"
        " measured\n"
    )
    tuned(tmp_path, "byol", VIDIDI, {"ucf101": 0.8})
    assert main([str(tmp_path), "--out", str(tmp_path / "a.png")]) == 0
    assert "left out: 1 run without finetune/top1 on this data" in capsys.readouterr().out


def test_each_run_is_in_the_bar_of_its_framework_and_schedule(tmp_path: Path) -> None:
    for seed, rate in ((0, 0.4), (1, 0.5)):
        write_arm(tmp_path, "vicreg", VIDIDI, rate, seed)
    write_arm(tmp_path, "vicreg", BASE, 0.2)
    write_arm(tmp_path, "simclr", BASE, 0.1)
    other = write_arm(tmp_path, "vicreg", {**VIDIDI, "schedule.reverse": True}, 0.9)
    assert schedule_of(read_run(other)) is None
    runs = [run for run in map(read_run, find_runs(tmp_path)) if schedule_of(run)]
    panel = panel_of(runs)
    (simclr, vicreg), notes = frameworks(runs, panel)
    assert (simclr.name, vicreg.name, notes) == ("SimCLR", "VICReg", [])
    assert simclr.ours["frames alone"].values == [0.1]
    assert simclr.ours["with ViDiDi"] is None
    assert vicreg.ours["with ViDiDi"].values == [0.4, 0.5]
    heights = {round(bar.get_height(), 1) for bar in drawn_bars([simclr, vicreg], panel)}
    assert heights >= {29.6, 38.3, 10.0, 31.1, 47.6, 20.0, 45.0}
    assert 90.0 not in heights


def drawn_bars(groups: list, panel: BarPanel) -> list:
    plt = pyplot()
    figure, axis = plt.subplots()
    draw_bars(axis, groups, panel)
    plt.close(figure)
    return axis.patches


def test_runs_that_differ_in_more_than_the_schedule_do_not_share_a_group(tmp_path: Path) -> None:
    write_arm(tmp_path, "byol", BASE, 0.2)
    write_arm(tmp_path, "byol", VIDIDI, 0.4)
    write_arm(tmp_path, "byol", VIDIDI, 0.6, training__epochs=7)
    runs = [read_run(folder) for folder in find_runs(tmp_path)]
    groups, (note,) = frameworks(runs, panel_of(runs))
    assert [group.name for group in groups] == ["BYOL", "BYOL (2)"]
    assert groups[0].ours["with ViDiDi"].values == [0.4]
    assert groups[1].ours["with ViDiDi"].values == [0.6]
    assert "training.epochs 7 instead of" in note


def test_an_objective_that_no_paper_has_follows_those_of_the_papers_under_its_own_name(
    tmp_path: Path,
) -> None:
    for name in ("barlow", "corp_m", "vicreg"):
        write_arm(tmp_path, name, BASE, 0.2)
    runs = [read_run(folder) for folder in find_runs(tmp_path)]
    groups, _ = frameworks(runs, panel_of(runs))
    assert [group.name for group in groups] == ["VICReg", "CORP_m", "barlow"]
    assert groups[2].printed == {"frames alone": None, "with ViDiDi": None}


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_the_program_draws_a_file_always_the_same(
    ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_arm(tmp_path / "runs", "byol", BASE, 0.2)
    write_arm(tmp_path / "runs", "byol", VIDIDI, 0.4)
    write_arm(tmp_path / "runs", "byol", {"schedule.order": 1}, 0.4)
    out = tmp_path / f"bars.{ending}"
    assert main([str(tmp_path / "runs"), *RETRIEVAL, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"wrote {out}\n  left out: 1 run of other schedules\n"
    if ending == "png":
        assert Image.open(out).width > 600
    first = out.read_bytes()
    time.sleep(1.1 * (ending != "png"))  # a date of the other formats would be in seconds
    assert main([str(tmp_path / "runs"), *RETRIEVAL, "--out", str(out)]) == 0
    assert out.read_bytes() == first


def test_runs_of_other_schedules_alone_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_arm(tmp_path, "byol", {"schedule.order": 1}, 0.4)
    assert main([str(tmp_path), "--out", str(tmp_path / "a.png")]) == 2
    assert (
        capsys.readouterr().err
        == "error: of 1 run none is of frames alone or of ViDiDi's schedule\n"
    )
