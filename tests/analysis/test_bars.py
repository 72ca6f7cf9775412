"""The bars of each framework with and without ViDiDi."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from made_up_runs import hits_of, made_up_run, recalls
from PIL import Image

from vididi.analysis.bars import draw_bars, frameworks, main, printed, schedule_of
from vididi.analysis.plots import pyplot
from vididi.analysis.reading import find_runs, read_run

BASE = {"schedule.order": 0}
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


def test_the_paper_s_bars_are_its_numbers() -> None:
    assert printed("simclr") == {"frames alone": 29.6, "with ViDiDi": 38.3}
    assert printed("byol") == {"frames alone": 32.2, "with ViDiDi": 43.7}
    assert printed("vicreg") == {"frames alone": 31.1, "with ViDiDi": 47.6}
    assert printed("corp_f") == {"frames alone": None, "with ViDiDi": None}


def test_each_run_is_in_the_bar_of_its_framework_and_schedule(tmp_path: Path) -> None:
    for seed, rate in ((0, 0.4), (1, 0.5)):
        write_arm(tmp_path, "vicreg", VIDIDI, rate, seed)
    write_arm(tmp_path, "vicreg", BASE, 0.2)
    write_arm(tmp_path, "simclr", BASE, 0.1)
    other = write_arm(tmp_path, "vicreg", {**VIDIDI, "schedule.reverse": True}, 0.9)
    assert schedule_of(read_run(other)) is None
    runs = [run for run in map(read_run, find_runs(tmp_path)) if schedule_of(run)]
    (simclr, vicreg), notes = frameworks(runs)
    assert (simclr.name, vicreg.name, notes) == ("SimCLR", "VICReg", [])
    assert simclr.ours["frames alone"].values == [0.1]
    assert simclr.ours["with ViDiDi"] is None
    assert vicreg.ours["with ViDiDi"].values == [0.4, 0.5]
    heights = {round(bar.get_height(), 1) for bar in drawn_bars([simclr, vicreg])}
    assert heights >= {29.6, 38.3, 10.0, 31.1, 47.6, 20.0, 45.0}
    assert 90.0 not in heights


def drawn_bars(groups: list) -> list:
    plt = pyplot()
    figure, axis = plt.subplots()
    draw_bars(axis, groups, "here")
    plt.close(figure)
    return axis.patches


def test_runs_that_differ_in_more_than_the_schedule_do_not_share_a_group(tmp_path: Path) -> None:
    write_arm(tmp_path, "byol", BASE, 0.2)
    write_arm(tmp_path, "byol", VIDIDI, 0.4)
    write_arm(tmp_path, "byol", VIDIDI, 0.6, training__epochs=7)
    groups, (note,) = frameworks([read_run(folder) for folder in find_runs(tmp_path)])
    assert [group.name for group in groups] == ["BYOL", "BYOL (2)"]
    assert groups[0].ours["with ViDiDi"].values == [0.4]
    assert groups[1].ours["with ViDiDi"].values == [0.6]
    assert "training.epochs 7 instead of" in note


def test_an_objective_that_no_paper_has_follows_those_of_the_papers_under_its_own_name(
    tmp_path: Path,
) -> None:
    for name in ("barlow", "corp_m", "vicreg"):
        write_arm(tmp_path, name, BASE, 0.2)
    groups, _ = frameworks([read_run(folder) for folder in find_runs(tmp_path)])
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
    assert main([str(tmp_path / "runs"), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"wrote {out}\n  left out: 1 run of other schedules\n"
    if ending == "png":
        assert Image.open(out).width > 600
    first = out.read_bytes()
    time.sleep(1.1 * (ending != "png"))  # a date of the other formats would be in seconds
    assert main([str(tmp_path / "runs"), "--out", str(out)]) == 0
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
