"""``--reading``: what each reading of a paper changes in its sweeps, and that nothing else does."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from test_paper_sweeps import FILES, read, rows_of

import run_sweep
from vididi.analysis.grouping import not_the_paper_s, protocol
from vididi.analysis.reading import Run
from vididi.commands.arguments import parse_arguments
from vididi.commands.cells import plan
from vididi.components import read_run_config
from vididi.data.stream import local_stream
from vididi.dotted_keys import flatten
from vididi.experiment import run_cell
from vididi.prepared import ensure_prepared
from vididi.protocols import protocol_settings
from vididi.protocols.task import complete_settings
from vididi.readings import CHOICES, READINGS, Change
from vididi.sweep import Cell, Sweep
from vididi.terminal import PlainConsole
from vididi.training.context import LocalContext

Values = dict[str, Any]


def paper_of(path: Path) -> str:
    return path.stem.partition("_")[0]


EVERY = [
    pytest.param(path, reading, id=f"{path.stem}-{reading}")
    for path in FILES
    for reading in READINGS[paper_of(path)]
    if reading != "default"
]


@cache
def in_reading(path: Path, reading: str) -> tuple[Sweep, list[Cell], str]:
    """The sweep and its resolved cells by the command itself, and what it printed."""
    console = PlainConsole(record=True, file=StringIO())
    sweep, cells = plan(parse_arguments([str(path), "--reading", reading, "--dry-run"]), console)
    return sweep, cells, console.export_text()


def apart(before: Values, after: Values) -> Values:
    """What differs in the second: its values by key."""
    return {
        key: after.get(key)
        for key in before.keys() | after.keys()
        if before.get(key) != after.get(key)
    }


def settings_of(sweep: Sweep, cell: Cell) -> list[tuple[str, Values]]:
    return [
        (
            entry.protocol,
            flatten(
                complete_settings(
                    protocol_settings(entry.protocol, entry.recipe, flatten(entry.settings)),
                    cell.config,
                ).model_dump(mode="json")
            ),
        )
        for entry in sweep.evaluations
    ]


def differences(path: Path, reading: str) -> tuple[dict[str, Values], list[tuple[str, Values]]]:
    """What the reading changed of each cell, by title, and of each evaluation."""
    default, _, cells, _ = read(path)
    sweep, others, _ = in_reading(path, reading)
    assert [cell.title for cell in others] == [cell.title for cell in cells]
    assert [cell.resources for cell in others] == [cell.resources for cell in cells]
    of_cells = {
        cell.title: apart(flatten(cell.config.to_dict()), flatten(other.config.to_dict()))
        for cell, other in zip(cells, others, strict=True)
    }
    pairs = zip(settings_of(default, cells[0]), settings_of(sweep, cells[0]), strict=True)
    return of_cells, [(name, apart(before, after)) for (name, before), (_, after) in pairs]


def listed(path: Path, reading: str) -> tuple[Change, ...]:
    return READINGS[paper_of(path)][reading]


# --- Every paper's sweep, in every reading --------------------------------------------------------


@pytest.mark.parametrize(("path", "reading"), EVERY)
def test_a_reading_changes_what_it_lists_and_nothing_else(path: Path, reading: str) -> None:
    of_cells, of_evaluations = differences(path, reading)
    changes = listed(path, reading)
    for title, changed in of_cells.items():
        values = {c.key: c.value for c in changes if not c.protocols}
        assert changed.items() <= values.items(), title
    for name, changed in of_evaluations:
        assert changed.items() <= {c.key: c.value for c in changes if name in c.protocols}.items()


@pytest.mark.parametrize(("path", "reading"), EVERY)
def test_what_it_prints_is_what_it_changes(path: Path, reading: str) -> None:
    text = in_reading(path, reading)[2]
    of_cells, of_evaluations = differences(path, reading)
    for change in listed(path, reading):
        begins = rf"  .+: {change.key}: " if change.protocols else f"  {change.key}: "
        lines = [line for line in text.splitlines() if re.match(begins, line)]
        if change.protocols:
            touched = sum(change.key in changed for _, changed in of_evaluations)
            said = sum(len(line.partition(f": {change.key}: ")[0].split(", ")) for line in lines)
        else:
            touched = sum(change.key in changed for changed in of_cells.values())
            said = sum(int(re.findall(r" in (\d+) cells? \(", line)[0]) for line in lines)
        assert said == touched
        assert all(line.endswith(f"({change.source})") for line in lines)


@pytest.mark.parametrize(("path", "reading"), EVERY)
def test_cells_that_it_changes_are_others_and_lie_in_its_folder(path: Path, reading: str) -> None:
    default, _, cells, _ = read(path)
    sweep, others, text = in_reading(path, reading)
    changed = differences(path, reading)[0]
    for cell, other in zip(cells, others, strict=True):
        assert (cell.config.identity("x") != other.config.identity("x")) == bool(
            changed[cell.title]
        )
    trains = any(not change.protocols for change in listed(path, reading))
    assert sweep.name == (f"{default.name}-reading_{reading}" if trains else default.name)
    assert text.startswith(f"reading {reading}, in the folder {sweep.name}")


@pytest.mark.parametrize(("path", "reading"), EVERY)
def test_its_runs_stand_in_the_rows_of_the_table(path: Path, reading: str) -> None:
    _, table, _, runs = read(path)
    others = [
        Run(Path(cell.title), flatten(cell.config.to_dict()), {}, {}, [])
        for cell in in_reading(path, reading)[1]
    ]
    for run, other in zip(runs, others, strict=True):
        assert rows_of(other, table) == rows_of(run, table)
        assert not_the_paper_s(table, other) == []
    assert len({protocol(other, table.axes, "the same") for other in others}) == 1


@pytest.mark.parametrize(
    ("paper", "reading"), [(paper, reading) for paper in READINGS for reading in READINGS[paper]]
)
def test_every_change_that_is_listed_is_one_somewhere(paper: str, reading: str) -> None:
    real: set[tuple[str, str]] = set()
    for path in FILES if reading != "default" else []:
        if paper_of(path) == paper:
            of_cells, of_evaluations = differences(path, reading)
            real |= {("", key) for changed in of_cells.values() for key in changed}
            real |= {(name, key) for name, changed in of_evaluations for key in changed}
    expected = {
        (name, change.key)
        for change in READINGS[paper][reading]
        for name in change.protocols or ("",)
    }
    assert real == expected


# --- What wins over it, and where there is none ---------------------------------------------------

TINY = """
name: tiny
table: cvrl_table_6
base:
  data: {name: motion, train: 24, test: 12, size: 32, frames: 24}
  prepare: {short_side: 16}
  clip: {frames: 4, stride: 2, size: 16}
  order: 0
  objective: {name: cvrl, hidden: 16, out: 16}
  sampling: {short_videos: first_frame}
  backbone: {name: r3d_tiny, width: 2}
  optimiser: {name: sgd}
  training: {epochs: 4, batch_size: 8}
arms:
  plain: {}
  own: {objective: {sum_over_views: false}, augment.asymmetric: false}
axes: {objective.norm_momentum: [0.1]}
evaluate:
  - {protocol: linear, settings: {epochs: 6, batch_size: 8, test_size: 32}}
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path / "tiny.yaml"


def test_an_arm_an_axis_a_setting_and_set_win_over_a_reading(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["--reading", "authors_code", "--set", "objective.sum_over_workers=false", "--dry-run"]
    sweep, cells = plan(parse_arguments([str(tiny), *line]), PlainConsole())
    plain, own = (flatten(cell.config.to_dict()) for cell in cells)
    assert {config["sampling.short_videos"] for config in (plain, own)} == {"any_frame"}, "of base"
    assert (plain["objective.sum_over_views"], own["objective.sum_over_views"]) == (True, False)
    assert (plain["augment.asymmetric"], own["augment.asymmetric"]) == (True, False)
    for config in (plain, own):
        assert config["objective.norm_momentum"] == 0.1
        assert config["objective.sum_over_workers"] is False
        assert config["training.cosine"] == "whole"
    ((_, settings),) = settings_of(sweep, cells[0])
    assert (settings["test_size"], settings["cosine"]) == (32, "whole")
    said = capsys.readouterr().out
    assert "objective.sum_over_views: false -> true in 1 cell (" in said
    assert "linear: cosine: remaining -> whole (" in said
    assert "sum_over_workers" not in said


def test_the_default_reading_is_the_file(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for more in ([], ["--reading", "default"]):
        assert run_sweep.main([str(tiny), "--dry-run", *more]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


def test_status_looks_into_the_folder_of_the_reading(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_sweep.main(["status", str(tiny), "--reading", "authors_code"]) == 1
    assert "sweep tiny-reading_authors_code: 2 cells, none has begun" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "reading", "said"),
    [
        (
            ("cvrl_table_6", "corp_table_1"),
            "authors_code",
            "--reading authors_code: there is none of corp, whose authors' code was not found; its"
            " readings are default, paper",
        ),
        (
            ("cvrl_table_6", "vididi_table_1"),
            "authors_code",
            "--reading authors_code: there is none of vididi, whose authors' code was not found;"
            " its readings are default, paper",
        ),
        (
            ("table: cvrl_table_6\n", ""),
            "paper",
            "--reading paper: is for sweeps with a table of vididi, cvrl, corp; this one names no"
            " table",
        ),
    ],
)
def test_a_reading_that_there_is_not_is_refused(
    change: tuple[str, str],
    reading: str,
    said: str,
    tiny: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiny.write_text(TINY.replace(*change))
    assert run_sweep.main([str(tiny), "--reading", reading, "--dry-run"]) == 2
    assert " ".join(capsys.readouterr().err.split()) == f"error: {said}"


def test_a_search_has_no_readings(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = TINY[: TINY.index("arms:")] + (
        "search: {name: random, trials: 2, space: {optimiser.lr: {uniform: [0.1, 1.0]}}}\n"
    )
    tiny.write_text(text)
    assert run_sweep.main([str(tiny), "--reading", "paper", "--dry-run"]) == 2
    assert "--reading paper: is for grids" in capsys.readouterr().err


def test_readings_are_those_of_the_command_line() -> None:
    assert {reading for readings in READINGS.values() for reading in readings} == set(CHOICES)
    with pytest.raises(SystemExit):
        parse_arguments(["x.yaml", "--reading", "mine"])


def test_a_cell_of_the_authors_reading_trains(
    make_config: Callable[..., Any], tmp_path: Path
) -> None:
    changes = {c.key: c.value for c in READINGS["cvrl"]["authors_code"] if not c.protocols}
    cell = {"schedule.order": 0, "optimiser.name": "sgd", "training.epochs": 2}
    heads = {"objective.name": "cvrl", "objective.hidden": 8, "objective.out": 8}
    config = make_config({**cell, **heads, **changes, "training.warmup_epochs": 1})
    shards = ensure_prepared(config)
    run_cell(config, {}, tmp_path / "run", shards, local_stream(shards), LocalContext())
    assert read_run_config(tmp_path / "run") == config
    assert (tmp_path / "run" / "result.json").exists()
