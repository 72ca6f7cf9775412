"""What people are shown of a search's cells, whose folders are named after a digest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from vididi.cluster.jobs import Job
from vididi.screen import ScreenWatcher, SweepScreen
from vididi.sweep import Cell, Sweep, cell_at, expand, point_in_words

SPACE = {"optimiser.lr": {"log": [0.01, 1]}, "mix": {"choice": ["one_way", "same"]}}
POINT = {"optimiser.lr": 0.30001, "mix": "one_way"}


def search_cell() -> Cell:
    values = {"name": "find", "search": {"name": "random", "space": SPACE}}
    cell = cell_at(Sweep.model_validate(values), POINT)
    assert cell is not None
    return cell


def test_a_point_is_told_without_sections_where_that_is_clear() -> None:
    assert point_in_words(POINT) == "lr 0.3, mix one_way"
    assert point_in_words({"schedule.weights.1-0": 0.25}) == "weights.1-0 0.25"
    both = {"clip.frames": 8, "evaluation.frames": 16, "clip.stride": 2}
    assert point_in_words(both) == "clip.frames 8, evaluation.frames 16, stride 2"


def test_a_name_for_people_changes_neither_title_nor_folder_nor_record() -> None:
    cell = search_cell()
    named = replace(cell, shown="trial 7: lr 0.3, mix one_way")
    assert named.name == "trial 7: lr 0.3, mix one_way, seed 0"
    assert cell.name == cell.title == named.title
    assert named.folder_name("0" * 64) == cell.folder_name("0" * 64)
    assert named.describe("find") == cell.describe("find")
    (grid,) = expand(Sweep.model_validate({"name": "grid"}))
    assert grid.name == grid.title == "grid-s0"


def test_a_screen_shows_the_name_in_its_table_and_in_its_lines(tmp_path: Path) -> None:
    cell = replace(search_cell(), shown="trial 7: lr 0.3, mix one_way")
    job = Job(cell, tmp_path, {})
    for terminal in (True, False):
        console = Console(width=120, record=True, force_terminal=terminal, color_system=None)
        screen = SweepScreen(console)
        watcher = ScreenWatcher(screen)
        screen.add(cell.title, "waiting", 4, None, name=cell.name)
        watcher.started(job)
        watcher.reported(job, {"epoch": 1})
        if terminal:
            console.print(screen.table())
        said = console.export_text()
        assert "trial 7: lr 0.3, mix one_way, seed 0" in said
        assert cell.title not in said
