"""Which cells a command is about: a sweep file and arguments to resolved cells, and their text."""

from __future__ import annotations

import argparse
from itertools import count, islice

from rich.console import Console

from vididi.collector import collector_at_rest
from vididi.commands.arguments import overrides, parse_seeds
from vididi.commands.inputs import named_shards
from vididi.commands.paper_reading import changes_of, read_as
from vididi.commands.results import paper_table
from vididi.commands.sweep_files import near_files, sweep_file
from vididi.errors import ConfigError
from vididi.startup_checks import warn_of_backbone
from vididi.sweep import (
    MOST_CELLS,
    Cell,
    Sweep,
    distinct,
    examples,
    expand,
    load_sweep,
    size,
    without_effect,
)
from vididi.values import shown
from vididi.words import counted

EXAMPLES = 20  # points of a search that are tried before it begins
SHOWN = 10  # lines about cells that are the same


def plan(arguments: argparse.Namespace, console: Console) -> tuple[Sweep, list[Cell]]:
    """The sweep and its cells, resolved, each once; of a search some examples of them."""
    sweep = _read(arguments, console)
    changes, searching = overrides(arguments.set), sweep.searching
    if searching and (arguments.command == "extend" or arguments.only or arguments.seeds):
        raise ConfigError("extend, --only, --seeds: are for grids; a search draws its cells")
    seeds = parse_seeds(arguments.seeds) or extended(sweep, arguments.count)
    cells, faults = (
        examples(sweep, EXAMPLES, changes)
        if searching
        else (expand(sweep, changes, arguments.only, seeds), [])
    )
    excluded = 0 if searching else size(sweep, arguments.only, seeds) - len(cells)
    written = cells
    with collector_at_rest():  # the first imports torch
        cells = [cell.resolved() for cell in cells]
    if arguments.command != "status":
        warn(console, written, cells, arguments)
    lines: list[str] = []
    if arguments.reading:
        sweep, cells, lines = read_as(sweep, cells, arguments.reading, changes)
    cells, same = distinct(cells)
    check_evaluations(sweep, cells)
    if arguments.command == "status":
        return sweep, cells
    for line in lines:
        console.print(line)
    if searching:
        print_search(console, sweep, cells[0], faults)
    else:
        print_left_out(console, excluded, same)
        for excluded_values in without_effect(sweep, changes):
            console.print(
                f"exclude: {shown(excluded_values)} leaves out no cell: none of the file's has"
                " these values, defaults aside"
            )
    return sweep, cells


def warn(
    console: Console, written: list[Cell], cells: list[Cell], arguments: argparse.Namespace
) -> None:
    """Say once where cells that ask for no GPU have a backbone that is meant for one, unsaid.

    Args:
        written: the cells as the file has them; cells: the same, resolved.
    """
    from vididi.prepared import count_training_videos

    for cell, resolved in zip(written, cells, strict=True):
        gpu = cell.resources.on_gpus
        if warn_of_backbone(cell.config, gpu):
            videos = count_training_videos(resolved.config, named_shards(arguments))
            if text := warn_of_backbone(cell.config, gpu, videos):
                console.print(text)
            return


def _read(arguments: argparse.Namespace, console: Console) -> Sweep:
    """The sweep of the file that is meant."""
    path, remark = sweep_file(arguments.spec)
    if remark:
        console.print(remark)
    try:
        sweep = load_sweep(path)
    except ConfigError as error:
        if "No such file" in str(error) and (near := near_files(path)):
            raise ConfigError(f"{error}; near ones: {', '.join(near)}") from None
        raise
    paper_table(sweep.table)  # an unknown one is refused before anything runs
    if arguments.reading:
        changes_of(sweep, arguments.reading)
    if getattr(arguments, "no_stopping", False):
        sweep = sweep.model_copy(update={"stopping": None})
    if getattr(arguments, "logger", None):
        sweep = sweep.model_copy(update={"loggers": arguments.logger})
    return sweep


def extended(sweep: Sweep, total: int | None) -> list[int]:
    """``total`` seeds: the file's, and then those from 0 that it leaves out; empty for None.

    Raises:
        ConfigError: the file has more than ``total`` seeds, or there would be too many.
    """
    if total is None:
        return []
    if total < len(sweep.seeds):
        raise ConfigError(
            f"--seeds {total}: is not valid; the file has {len(sweep.seeds)} already, {sweep.seeds}"
        )
    if total > MOST_CELLS:
        raise ConfigError(f"--seeds {total}: is not valid; at most {MOST_CELLS}")
    more = (seed for seed in count() if seed not in sweep.seeds)
    return [*sweep.seeds, *islice(more, total - len(sweep.seeds))]


def check_evaluations(sweep: Sweep, cells: list[Cell]) -> None:
    """Refuse settings of evaluations that cannot be measured, before any cell is trained.

    Raises:
        ConfigError: it names the evaluation.
    """
    from vididi.components import resolve_component
    from vididi.protocols.task import check_settings

    for entry in sweep.evaluations:
        if entry.data:
            resolve_component("data", entry.data)
        for cell in cells:
            try:
                check_settings(entry, cell.config)
            except ConfigError as error:
                raise ConfigError(f"evaluate: {entry.title}: {error}") from None


def print_left_out(console: Console, excluded: int, same: list[str]) -> None:
    """How many cells the file excludes, and which points are the same cell as another."""
    if excluded:
        console.print(
            f"exclude: {counted(excluded, 'cell')} {'is' if excluded == 1 else 'are'} left out"
        )
    for line in same[:SHOWN]:
        console.print(line)
    if len(same) > SHOWN:
        console.print(f"and {len(same) - SHOWN} more, each the same cell as another")


def print_search(console: Console, sweep: Sweep, example: Cell, faults: list[str]) -> None:
    """What a search may cost, and whether its space is sound."""
    search, epochs = sweep.search, example.config.training.epochs
    max_epochs = (
        search.trials * epochs
        if search.budget is None
        else min(search.trials * epochs, search.budget)
    )
    stopping = f"; early stopping: {sweep.stopping.summary}" if sweep.stopping else ""
    console.print(
        f"search: {search.name} with seed {search.seed}, {counted(search.trials, 'point')} of up to"
        f" {counted(epochs, 'epoch')}, {counted(max_epochs, 'epoch')} at most{stopping}"
    )
    if faults:
        console.print(
            f"{len(faults)} of {EXAMPLES} points drawn as a test make no cell, such as {faults[0]}"
        )


def print_cells(
    console: Console, cells: list[Cell], sweep: Sweep, states: list[str] | None = None
) -> None:
    """A line for each cell, with its state where it is known, and what is measured of them
    afterwards.
    """
    for i, cell in enumerate(cells):
        console.print(f"{cell.summary}; {states[i]}" if states else cell.summary)
    then = (
        f"; then of each: {', '.join(entry.title for entry in sweep.evaluations)}"
        if sweep.evaluations
        else ""
    )
    drawn = " as examples" if sweep.searching else ""
    console.print(f"{counted(len(cells), 'cell')}{drawn}{then}")
