"""``sweep``, ``extend`` and ``rerun``: prepare the data, run the cells or the search, evaluate, and
print the table.
"""

from __future__ import annotations

import argparse
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from vididi.cell_status import INTERRUPTED, CellState, cell_states
from vididi.collector import collector_at_rest
from vididi.commands.arguments import overrides
from vididi.commands.cells import plan
from vididi.commands.estimating import check_price, estimate_sweep
from vididi.commands.inputs import existing, prepare_data, runs_of
from vididi.commands.preview import preview
from vididi.commands.results import finished_runs, finished_under, paper_table, write_table
from vididi.commands.tournament import Unfinished, confirm, grid_best
from vididi.errors import ConfigError
from vididi.loggers.choices import check_installed, services
from vididi.runs.file_names import EARLIER_ERROR
from vididi.runs.mirror import has, local_path, pull
from vididi.startup_checks import check_writable, checks_of_ray, refuse
from vididi.sweep import Cell, Sweep
from vididi.words import counted
from vididi.workspace import Workspace


def run(arguments: argparse.Namespace, console: Console, program: str) -> int:
    """Run what is not finished of a sweep; returns the exit status.

    Args:
        program: that it was started with, as messages name it.
    """
    return run_work(arguments, console, program)[0]


def run_work(
    arguments: argparse.Namespace, console: Console, program: str
) -> tuple[int, Workspace | None]:
    """As ``run``, with what it worked with; None where nothing was to be run."""
    check_price(arguments)
    sweep, cells = plan(arguments, console)
    if arguments.dry_run:
        preview(arguments, console, sweep, cells)
    if arguments.estimate:
        estimate_sweep(arguments, console, sweep, cells)
    if arguments.dry_run or arguments.estimate:
        return 0, None
    paper, against = paper_table(sweep.table), baseline_of(arguments, sweep, cells)
    check_installed(sweep.loggers)
    refuse_machine(arguments.runs, arguments.address)
    shards, others = prepare_data(arguments, sweep, cells, console)
    work = Workspace(
        sweep,
        cells,
        shards,
        runs_of(arguments, sweep),
        console,
        arguments.address,
        overrides(arguments.set),
        program,
    )
    again = arguments.command == "rerun"
    if again and not sweep.searching:
        work = replace(work, cells=failed(work))
    if arguments.audit_stopping is not None:
        return audit(work, arguments.audit_stopping), None
    status, cells = search_and_confirm(work, again) if sweep.searching else run_grid(work)
    tell_loggers(work, cells)
    if status == INTERRUPTED:
        return status, work
    if sweep.evaluations:
        from vididi.cluster.driver import run_evaluations

        status = max(status, run_evaluations(replace(work, cells=cells), others))
    pull(work.runs)
    say_faults(work, cells)
    width = console.width if console.is_terminal else None
    console.print("\n" + write_table(paper, work.runs, against, width, arguments.all_rows))
    console.print(f"\nTensorBoard:  tensorboard --logdir {shlex.quote(str(work.runs))}")
    return status, work


def tell_loggers(work: Workspace, cells: Sequence[Cell]) -> None:
    """Have services mark the cells that failed, or were stopped early, and could not say so."""
    if not services(work.sweep.loggers):
        return
    from vididi.loggers.service import mark_ended

    records = {work.folder(cell): cell.describe(work.sweep.name) for cell in cells}
    mark_ended(records, work.sweep.loggers)


def say_faults(work: Workspace, cells: Sequence[Cell]) -> None:
    """Print which services failed, and why."""
    if not services(work.sweep.loggers):
        return
    from vididi.loggers.service import fault_lines

    for line in fault_lines([work.folder(cell) for cell in cells], work.sweep.loggers):
        work.console.print(line)


def refuse_machine(runs: str, address: str | None) -> None:
    """Raise ResourceError where this machine lacks what a sweep needs, before data are prepared."""
    folder = local_path(runs)
    refuse([check_writable("runs", folder, "give --runs a folder that is")])
    if address is None:
        refuse(checks_of_ray())


def baseline_of(arguments: argparse.Namespace, sweep: Sweep, cells: Sequence[Cell]) -> str | None:
    """The arm that gains are over: the one asked for, else the first of the sweep file; of a
    search, whose cells are points of one space, only one asked for.

    Raises:
        ConfigError: the sweep has no such arm.
    """
    against, arms = arguments.against, list(sweep.arms) or [cell.arm for cell in cells[:1]]
    if sweep.searching:
        return against
    if against is not None and against not in arms:
        raise ConfigError(
            f"--against: {against!r} is not valid; it is one of the sweep's arms, {', '.join(arms)}"
        )
    return against or next(iter(arms), None)


def run_grid(work: Workspace) -> tuple[int, list[Cell]]:
    """Exit status, and the cells."""
    with collector_at_rest():
        from vididi.cluster.driver import run_cells

    return run_cells(work), work.cells


def search_and_confirm(work: Workspace, again: bool) -> tuple[int, list[Cell]]:
    """Exit status, and the cells that the search drew.

    Args:
        again: whether cells that failed are run again.
    """
    with collector_at_rest():
        from vididi.cluster.studies import only_search, run_search

    search = work.sweep.search
    known = finished_under(*(existing(text, "search.warm_start") for text in search.warm_start))
    # Runs with the confirming seeds must have no part in the choice that they confirm.
    fresh = search.confirm.seeds if search.confirm else []
    known = [run for run in known if run.seed not in fresh]
    baseline = grid_best(work) if search.confirm else []
    with only_search(work.runs):
        searched = run_search(work, known, again)
        if search.confirm and searched.status != INTERRUPTED:
            try:
                confirm(work, searched, baseline)
            except Unfinished as unfinished:
                return max(searched.status, unfinished.status), searched.cells
    return searched.status, searched.cells


def failed(work: Workspace) -> list[Cell]:
    """Those of the cells that failed, and those with damaged files. One that was tried again and
    interrupted in that is still one that failed.
    """
    states = cell_states(work.cells, work.runs, work.checksum)
    names = [
        "tried" if _is_tried_again(work, cell, state) else state.name
        for cell, state in zip(work.cells, states, strict=True)
    ]
    became = Counter(names)
    said = {"damaged": " with damaged files", "tried": " being tried again"}
    more = "".join(f", {became[name]}{words}" for name, words in said.items() if became[name])
    work.console.print(f"{became['failed']} of {counted(len(work.cells), 'cell')} failed{more}")
    return [
        cell
        for cell, name in zip(work.cells, names, strict=True)
        if name in ("failed", "damaged", "tried")
    ]


def _is_tried_again(work: Workspace, cell: Cell, state: CellState) -> bool:
    return state.name == "half-done" and has(work.folder(cell) / EARLIER_ERROR)


def audit(work: Workspace, rule: str) -> int:
    """Say what early stopping would have done to the finished cells; returns the exit status."""
    from vididi.cluster.audit import audit_stopping

    finished = (
        finished_under(work.runs)
        if work.sweep.searching
        else finished_runs(map(work.folder, work.cells))
    )
    return audit_stopping(work, rule, finished)
