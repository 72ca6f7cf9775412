"""The files of sweeps/paper: each can be run, says what it costs, and makes the runs and the
numbers of its paper's table.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import run_sweep
from benchmarks.paper_resources import evaluations
from vididi.analysis.grouping import not_the_paper_s, protocol
from vididi.analysis.paper import Column, PaperTable, Row, load_paper_table
from vididi.analysis.reading import Run
from vididi.analysis.table_rows import matches
from vididi.commands.inputs import one_data_set
from vididi.components import resolve_component
from vididi.config import Config
from vididi.dotted_keys import flatten
from vididi.protocols import metric_prefix, protocol_settings
from vididi.protocols.settings import DetectionSettings
from vididi.protocols.task import complete_settings
from vididi.shipped import PAPERS
from vididi.sweep import Cell, Sweep, expand, load_sweep
from vididi.words import counted

REPO = Path(__file__).resolve().parents[1]
FILES = sorted((REPO / "sweeps" / "paper").glob("*.yaml"))
TABLES = sorted(path.stem for path in PAPERS.glob("*.yaml"))
EACH = pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])


@cache
def read(path: Path) -> tuple[Sweep, PaperTable, list[Cell], list[Run]]:
    """A file, its table, its cells with resolved configurations, and the runs that these would
    be.
    """
    sweep = load_sweep(path)
    assert sweep.table
    cells = [cell.resolved() for cell in expand(sweep)]
    runs = [Run(Path(cell.title), flatten(cell.config.to_dict()), {}, {}, []) for cell in cells]
    return sweep, load_paper_table(sweep.table), cells, runs


def header(path: Path) -> str:
    return "\n".join(
        line.removeprefix("#").strip()
        for line in path.read_text().splitlines()
        if line.startswith("#")
    )


def rows_of(run: Run, table: PaperTable) -> list[Row]:
    """The rows that a run stands in, but for those that ask for less than another of them."""
    found = [row for row in table.rows if row.match is not None and matches(run, row.match, table)]
    return [row for row in found if not any(asks(row) < asks(other) for other in found)]


def asks(row: Row) -> set[tuple[str, Any]]:
    return set((row.match or {}).items())


def measured(sweep: Sweep, config: Config) -> set[tuple[str, str, int | None]]:
    """What stands before a metric's slash, the data set and its split, for all that the sweep
    measures of a cell.
    """
    found = set()
    for entry in sweep.evaluations:
        settings = complete_settings(
            protocol_settings(entry.protocol, entry.recipe, flatten(entry.settings)), config
        )
        name = metric_prefix(entry.protocol, settings)
        data = resolve_component("data", entry.data or config.data)
        found.add((name, data.name, data.options.get("split")))
        if isinstance(settings, DetectionSettings) and settings.test == "each":
            found.add(("best detection", data.name, None))
    return found


def needed(column: Column, row: Row) -> set[tuple[str, str | None, int | None]]:
    split = row.split or column.split
    counted = row.metric or str(column.metric)
    metric = "best detection" if counted == "detection/best_mAP" else counted.partition("/")[0]
    return {(metric, column.data, s) for s in ((1, 2, 3) if split == "mean" else (split,))}  # type: ignore[misc]


# --- One file -------------------------------------------------------------------------------------


@EACH
def test_it_can_be_run(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_sweep.main([str(path), "--dry-run"]) == 0
    assert f"{counted(len(read(path)[2]), 'cell')}; then of each: " in capsys.readouterr().out


@EACH
def test_its_header_says_how_on_what_and_how_long(path: Path) -> None:
    text = header(path)
    assert re.search(rf"^python run_sweep\.py sweeps/paper/{path.name}( |$)", text, re.MULTILINE)
    for key in ("Data", "Hardware", "Time", "Paper"):
        assert re.search(rf"^{key} +\S", text, re.MULTILINE), key
    assert "an estimate, nothing of it measured" in text


@EACH
def test_its_header_says_what_evaluations_ask_of_each_gpu(path: Path) -> None:
    line = " ".join(" ".join(header(path).split()).partition(" Evaluate ")[2].split())
    assert line.startswith(f"{evaluations(path)} Time "), (
        "python benchmarks/paper_resources.py --write"
    )


def test_a_classifier_s_batch_is_shared_by_the_cell_s_gpus(tmp_path: Path) -> None:
    text = (REPO / "sweeps/paper/cvrl_table_7.yaml").read_text()
    assert evaluations(REPO / "sweeps/paper/cvrl_table_7.yaml") == (
        "linear: 1,024 clips of 32 frames a batch, 64 or 32 or 16 or 8 on each of a cell's 16 or 32"
        " or 64 or 128 GPUs"
    )
    (tmp_path / "one.yaml").write_text(re.sub(r"resources: \{workers: \d+\}", "order: 0", text))
    assert "16 on each of a cell's 64 GPUs" in evaluations(tmp_path / "one.yaml")


@EACH
def test_its_name_is_its_table_s(path: Path) -> None:
    """Files of one table differ in the data of pretraining, or one fine-tunes what the others do
    not; all files of a paper share a folder of runs.
    """
    sweep, table, _, _ = read(path)
    assert re.fullmatch(rf"{table.name}(_tuned)?(_(ucf101|k200_40k|k400|k600|ssv2))?", path.stem)
    assert sweep.name == f"paper_{table.name.partition('_')[0]}"


@EACH
def test_each_arm_is_one_configuration_of_the_table(path: Path) -> None:
    _, table, cells, runs = read(path)
    taken = []
    for cell, run in zip(cells, runs, strict=True):
        rows = rows_of(run, table)
        assert len({frozenset(asks(row)) for row in rows}) == 1, (
            f"{cell.arm} is {[row.title for row in rows]}"
        )
        assert not_the_paper_s(table, run) == []
        taken.append(asks(rows[0]))
    assert all(taken.count(row) == 1 for row in taken)


@EACH
def test_its_arms_stand_in_one_table(path: Path) -> None:
    _, table, _, runs = read(path)
    assert len({protocol(run, table.axes, "the same") for run in runs}) == 1


@EACH
def test_its_cells_have_one_data_set(path: Path) -> None:
    one_data_set(read(path)[2])


@EACH
def test_every_number_of_its_rows_is_measured(path: Path) -> None:
    """By the file, or by another of the table that has the same cell."""
    _, table, cells, runs = read(path)
    others = [read(other) for other in FILES if read(other)[0].table == table.name]
    for cell, run in zip(cells, runs, strict=True):
        there = set().union(
            *(
                measured(other_sweep, same.config)
                for other_sweep, _, other_cells, _ in others
                for same in other_cells
                if same.config.identity("the same") == cell.config.identity("the same")
            )
        )
        for row in rows_of(run, table):
            for column, value in zip(table.columns, row.values, strict=True):
                if column.metric is not None and value is not None and matches(run, column.match):
                    assert needed(column, row) <= there, f"{cell.arm}, {column.name}"


@EACH
def test_its_evaluations_are_told_apart(path: Path) -> None:
    titles = [entry.title for entry in read(path)[0].evaluations]
    assert len(set(titles)) == len(titles)


# --- All of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [name for name in TABLES if name.startswith(("vididi_", "cvrl_", "corp_"))]
)
def test_each_row_that_can_be_run_is_in_a_file_or_named_as_not_there(name: str) -> None:
    files = [path for path in FILES if read(path)[0].table == name]
    assert files
    made = [
        row
        for path in files
        for run in read(path)[3]
        for row in load_paper_table(name).rows
        if row.match and matches(run, row.match)
    ]
    told = " ".join(" ".join(header(path).split()) for path in files)
    _, _, absent = told.partition("Not here ")
    for row in load_paper_table(name).rows:
        if row.match is not None and row not in made:
            assert row.label in absent, (
                f"{row.title} is in no file of {name}, and no header says so"
            )


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("vididi_table_1_ucf101", "vididi_table_7", 6),
        ("vididi_table_1_ucf101", "vididi_table_3", 6),
        ("vididi_table_1_ucf101", "vididi_table_4_ucf101", 2),
        ("vididi_table_1_ucf101", "vididi_table_5_ucf101", 1),
        ("vididi_table_1_ucf101", "vididi_table_6", 2),
        ("vididi_table_1_k400", "vididi_table_4_k400", 1),
        ("vididi_table_1_k400", "vididi_table_5_k400", 1),
        ("vididi_table_1_k200_40k", "vididi_table_4_k200_40k", 1),
        ("vididi_table_1_k200_40k", "vididi_table_5_k200_40k", 1),
        ("cvrl_table_2_k400", "cvrl_table_3", 1),
        ("cvrl_table_2_k400", "cvrl_table_4_k400", 1),
        ("cvrl_table_2_k400", "cvrl_table_5", 1),
        ("cvrl_table_2_k400", "cvrl_table_8", 1),
        ("cvrl_table_2_k400", "cvrl_table_10_k400", 1),
        ("cvrl_table_2_k600", "cvrl_table_4_k600", 1),
        ("cvrl_table_2_k600", "cvrl_table_10_k600", 1),
        ("cvrl_table_2_k600", "cvrl_table_11", 1),
        ("cvrl_table_6", "cvrl_table_7", 1),
        ("cvrl_table_6", "cvrl_table_8", 1),
        ("cvrl_table_6", "cvrl_table_9", 1),
        ("cvrl_table_6", "cvrl_table_12", 1),
        ("corp_table_1", "corp_table_3", 1),
        ("corp_table_1", "corp_table_4", 1),
        ("corp_table_2", "corp_table_5_k400", 1),
        ("corp_table_5_ssv2", "corp_table_6", 3),
        ("corp_table_6", "corp_table_7", 3),
        ("vididi_table_1_ucf101", "vididi_figure_1", 6),
        ("cvrl_table_6", "cvrl_figure_3", 1),
        ("cvrl_table_8", "cvrl_figure_4_k400", 2),
        ("cvrl_table_2_k600", "cvrl_figure_4_k600", 1),
        ("corp_table_5_ssv2", "corp_table_5_tuned_ssv2", 1),
    ],
)
def test_what_two_tables_share_is_trained_once(first: str, second: str, shared: int) -> None:
    """The same identity on the same data, in the same folder of runs."""
    identities = []
    for name in (first, second):
        sweep, _, cells, _ = read(REPO / "sweeps" / "paper" / f"{name}.yaml")
        data = str((sweep.name, cells[0].config.data, cells[0].config.prepare))
        identities.append({cell.config.identity(data) for cell in cells})
    assert len(identities[0] & identities[1]) == shared


def test_the_docs_list_every_file_and_its_cells() -> None:
    listed = re.findall(
        r"^\| `(\w+)` \|[^|]+\| (\d+) \|",
        (REPO / "docs" / "paper_sweeps.md").read_text(),
        re.MULTILINE,
    )
    assert sorted(listed) == sorted((path.stem, str(len(read(path)[2]))) for path in FILES)


# --- The same tables at the built-in set's size ---------------------------------------------------


def test_frameworks_are_all_objectives_of_the_papers_with_and_without_derivatives_in_one_table() -> (
    None
):
    _, table, cells, runs = read(REPO / "sweeps" / "frameworks.yaml")
    of_papers = {
        value
        for name in TABLES
        for row in load_paper_table(name).rows
        if (value := (row.match or {}).get("objective.name"))
    }
    assert {(cell.config.objective.name, cell.config.schedule.order) for cell in cells} == {
        (name, k) for name in of_papers for k in (0, 2)
    }
    assert len({protocol(run, table.axes, "the same") for run in runs}) == 1
    for name in ("vididi_table_1", "vididi_table_7"):
        rows = {row.title for run in runs for row in rows_of(run, load_paper_table(name))}
        assert rows == {
            row.title for row in load_paper_table(name).rows if row.about in ([], ["UCF101"])
        }


def test_backbones_are_the_networks_of_table_2_and_of_table_1() -> None:
    _, table, cells, runs = read(REPO / "sweeps" / "backbones.yaml")
    rows = [row.title for run in runs for row in rows_of(run, table)]
    assert sorted(rows) == sorted(row.title for row in table.rows)
    assert [
        cell.config.schedule.order for cell in cells if cell.config.backbone.name == "r3d_18"
    ] == [0, 2]
    assert len({protocol(run, table.axes, "the same") for run in runs}) == 1
