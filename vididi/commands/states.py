"""``status``: what became of each cell of a sweep so far."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from vididi.cell_status import CellState, cell_states, copies, folder_states, states_table
from vididi.commands.cells import plan
from vididi.commands.inputs import given_shards, one_data_set, runs_of
from vididi.runs.mirror import place_of
from vididi.sweep import Cell, Sweep
from vididi.words import counted


def report_status(arguments: argparse.Namespace, console: Console) -> int:
    """Print it; returns 0 if all cells are finished or were stopped early, else 1."""
    sweep, cells = plan(arguments, console)
    runs = runs_of(arguments, sweep)
    states = states_of(arguments, sweep, cells, runs)
    if states:
        console.print(states_table(states))
    if sweep.searching:
        for path in copies(runs):
            console.print(f"left out: {path}: its name does not end in a cell's identity")
    counts = {
        name: sum(state.name == name for state in states)
        for name in dict.fromkeys(state.name for state in states)
    }
    states_text = (
        ", ".join(f"{number} {name}" for name, number in counts.items()) or "none has begun"
    )
    cells_text = (
        f"{counted(len(states), 'cell')} so far" if sweep.searching else counted(len(cells), "cell")
    )
    console.print(f"sweep {sweep.name}: {cells_text}, {states_text}, in {place_of(runs)}")
    return 0 if counts and set(counts) <= {"finished", "stopped early"} else 1


def states_of(
    arguments: argparse.Namespace, sweep: Sweep, cells: list[Cell], runs: Path
) -> list[CellState]:
    """What became of the sweep's cells; of a search, of those that have a folder. None where
    nothing has begun, which needs no data.
    """
    if not runs.is_dir():
        return []
    if sweep.searching:
        return folder_states(runs)
    from vididi.prepared import ensure_prepared

    shards = ensure_prepared(one_data_set(cells), given_shards(arguments))
    return cell_states(cells, runs, shards.manifest.checksum)
