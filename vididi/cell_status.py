"""What became of a sweep's cells, as text: the table of ``status``, and which jobs came to no good
end.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from rich.console import Console
from tabulate import tabulate

from vididi.disks import is_full
from vididi.errors import INTERRUPTED, DamagedError
from vididi.interrupts import asked
from vididi.runs import readers
from vididi.runs.file_names import CELL, ERROR
from vididi.runs.mirror import place_of
from vididi.runs.outcome import DONE, Outcome, condition, damage, outcome
from vididi.terminal import one_line, visible
from vididi.words import counted

if TYPE_CHECKING:
    from vididi.sweep import Cell

NOTE = 200  # characters of a reason; error.txt has all of it


@dataclass(frozen=True)
class CellState:
    """What became of a cell so far: finished, stopped early, failed, half-done, waiting or damaged;
    ``note`` says more.

    epoch: how many were trained, of ``epochs``.
    """

    title: str
    epochs: int
    name: str
    epoch: int
    result: dict[str, Any]
    note: str


def cell_states(cells: Iterable[Cell], runs: Path, checksum: str) -> list[CellState]:
    """What became of each cell, from its run folder under ``runs``."""
    return [
        _state(cell.title, cell.config.training.epochs, cell.find_folder(runs, checksum))
        for cell in cells
    ]


def folder_states(runs: Path) -> list[CellState]:
    """What became of each cell that has a folder under ``runs``, with its label: the cells that a
    search drew so far.
    """
    begun = {folder for name in (CELL, ERROR) for folder in readers.folders_with(runs, name)}
    return [_labelled(path) for path in sorted(begun) if path.parent == runs and is_cell(path)]


def copies(runs: Path) -> list[Path]:
    """Folders under ``runs`` that hold a cell and do not have the name of one, such as one that was
    copied.
    """
    return [
        path
        for path in readers.folders_with(runs, CELL)
        if path.parent == runs and not is_cell(path)
    ]


def is_cell(path: Path) -> bool:
    """Whether a folder has the name of a cell's run folder, which ends in its identity."""
    return re.search(r"-[0-9a-f]{12}$", path.name) is not None


def _labelled(path: Path) -> CellState:
    title = path.name.rpartition("-")[0]
    try:
        config, record = readers.read_config(path), readers.read_cell(path)
    except DamagedError as error:
        return CellState(title, 0, "damaged", 0, {}, _of_folder(path, error))
    epochs = config["training"]["epochs"] if config else 0  # it may have failed before it began
    state = _state(title, epochs, path)
    return replace(
        state, note="; ".join(filter(None, (record["label"] if record else "", state.note)))
    )


def _of_folder(folder: Path, error: DamagedError) -> str:
    return str(error).removeprefix(f"{folder}/")


def _state(title: str, epochs: int, path: Path) -> CellState:
    became = condition(path)
    if became == "damaged":
        return CellState(
            title,
            epochs,
            became,
            0,
            {},
            "; ".join(_of_folder(path, error) for error in damage(path).values()),
        )
    if became == "waiting":
        return CellState(title, epochs, became, 0, {}, "")
    if became == "finished":
        return CellState(
            title,
            epochs,
            became,
            epochs,
            readers.read_result(path) or {},
            _damaged_evaluations(path),
        )
    reached = max((record["epoch"] for record in readers.read_metrics(path)), default=0)
    if became == "stopped":
        return CellState(title, epochs, "stopped early", reached, {}, "")
    if became == "failed":
        return CellState(title, epochs, became, reached, {}, (_reason(path) or [""])[-1])
    ago = time.time() - max(map(_written, path.iterdir()), default=_written(path))
    return CellState(title, epochs, became, reached, {}, f"last written to {ago / 60:.0f} min ago")


def _reason(folder: Path) -> list[str]:
    """The lines of a run's error, which begins with the folder's name; it stands beside the
    cell's.
    """
    return (readers.read_error(folder) or "").strip().removeprefix(f"{folder.name}: ").splitlines()


def _written(path: Path) -> float:
    """When, in seconds; 0 for a file that is gone since, as the files are that a run at work writes
    aside.
    """
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0


def _damaged_evaluations(run: Path) -> str:
    """What is wrong with evaluations of a finished run, which is finished without them."""
    folders = [path for path in (run / "evaluations").glob("*/") if path.is_dir()]
    return "; ".join(
        _of_folder(run, error) for path in sorted(folders) for error in damage(path).values()
    )


def states_table(states: Iterable[CellState]) -> str:
    """A line for each cell, beneath a header, without colours."""
    rows = [
        (
            one_line(state.title),
            state.name,
            f"{state.epoch}/{state.epochs}",
            _number(state.result.get("retrieval/R@1"), ".1%"),
            _number(state.result.get("seconds"), ".0f"),
            shorten(visible(state.note), NOTE),
        )
        for state in states
    ]
    return tabulate(
        rows,
        ("cell", "state", "epoch", "R@1", "seconds", ""),
        tablefmt="simple",
        disable_numparse=True,
    )


def _number(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)


def report_unfinished(
    jobs: dict[Path, Any],
    console: Console,
    ended: Callable[[Path], Outcome | None] = outcome,
    elsewhere: Collection[Path] = (),
    interrupted: Collection[Path] = (),
) -> int:
    """Print which jobs, by folder, are not done, and why.

    Args:
        ended: how the job of a folder ended; see vididi.runs.outcome.
        elsewhere: folders in which another driver is at work.
        interrupted: folders whose job did not end in this start, so an error there is of before.

    Returns:
        the exit status: 1 if some failed or are left to another driver, INTERRUPTED if some came to
            no end, or a signal asked the program to end when all of these had.
    """
    status, never = 0, 0
    for folder, job in jobs.items():
        became, reason = ended(folder), "run the same command again to go on"
        if became in DONE:
            continue
        if became is None and folder not in elsewhere and not folder.is_dir():
            status, never = INTERRUPTED, never + 1
            continue
        if folder in elsewhere:
            status, reason = max(status, 1), f"run by another driver; {reason}"
        elif became == "failed" and folder not in interrupted:
            status, reason = max(status, 1), "\n    ".join(_reason(folder)[-3:])
        else:
            status = INTERRUPTED
            if is_full(folder):
                reason = f"the disk is full; free some space, and {reason}"
        console.print(f"not finished: {job.name}: {reason}\n    in {place_of(folder)}")
    if never:
        console.print(f"not begun: {counted(never, 'cell or evaluation', 'cells or evaluations')}")
    return status if asked() is None else INTERRUPTED
