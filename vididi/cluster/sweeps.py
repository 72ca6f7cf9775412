"""The cells of a sweep and their evaluations: which are to run, what the screen says of them, what
became of each.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from vididi.cell_status import report_unfinished
from vididi.cluster.evaluations import Evaluation, make_evaluations
from vididi.cluster.jobs import Job
from vididi.cluster.tune import run_jobs
from vididi.data.shards import ShardSet
from vididi.protocols import EvaluationEntry
from vididi.runs.file_names import BEST
from vididi.runs.mend import mend_run
from vididi.runs.mirror import place_of
from vididi.runs.outcome import DONE, finished, outcome, stopped
from vididi.runs.readers import read_metrics
from vididi.runs.run_folder import RunFolder
from vididi.screen import ScreenWatcher, SweepScreen
from vididi.sweep import Cell
from vididi.words import counted
from vididi.workspace import Workspace


def run_cells(work: Workspace) -> int:
    """Run the cells that have neither finished nor been stopped early; returns the exit status."""
    sweep, cells, runs, console = work.sweep, work.cells, work.runs, work.console
    runs.mkdir(parents=True, exist_ok=True)
    screen = SweepScreen(console)
    jobs: dict[Path, Job] = {}
    done: dict[Path, Cell] = {}
    ended = partial(outcome, stopping=sweep.stopping is not None)
    for cell in cells:
        folder = work.folder(cell)
        mend_run(
            folder,
            cell.config,
            cell.describe(sweep.name),
            work.checksum,
            partial(_say_of, cell.title, screen),
        )
        if (became := ended(folder)) in DONE:
            done[folder] = cell
        else:
            jobs[folder] = Job(cell, folder, cell.describe(sweep.name))
        screen.add(
            cell.title,
            str(became) if folder in done else "waiting",
            cell.config.training.epochs,
            finished(folder),
        )
    before = sum(finished(folder) is not None for folder in done)
    early = f", {len(done) - before} stopped early before" if len(done) > before else ""
    counts = f"{counted(len(cells), 'cell')}, {before} finished before{early}, {len(jobs)} to run"
    console.print(f"sweep {sweep.name}: {counts}, in {place_of(runs)}")
    curves = (
        [read_curve(folder, sweep.stopping.metric) for folder in done] if sweep.stopping else []
    )
    elsewhere: set[Path] = set()
    if jobs:
        with screen:
            elsewhere = run_jobs(
                list(jobs.values()),
                work.shards,
                runs,
                ScreenWatcher(screen, ended),  # type: ignore[arg-type]
                work.address,
                sweep.stopping,
                curves,
            )
    if sweep.stopping:
        report_stopping({**done, **{folder: job.cell for folder, job in jobs.items()}}, console)
    return report_unfinished(jobs, console, ended, elsewhere)


def _say_of(title: str, screen: SweepScreen, line: str) -> None:
    screen.say(f"{title}: {line}")


def run_evaluations(work: Workspace, others: dict[str, ShardSet]) -> int:
    """Make the sweep's evaluations of every finished cell that have not been made; ``others``: data
    sets by title of their entry.
    """
    runs_of_cells = {folder: cell for cell in work.cells if finished(folder := work.folder(cell))}
    asked = [
        Evaluation(_for_evaluation(cell, entry), run, entry, others.get(entry.title))
        for run, cell in runs_of_cells.items()
        for entry in work.sweep.evaluations
    ]
    return make_evaluations(asked, work.shards, work.runs, work.address, work.console)


def _for_evaluation(cell: Cell, entry: EvaluationEntry) -> Cell:
    """The cell with what its evaluation needs: one worker, unless several can share the work."""
    alone = cell.resources.model_copy(update={"workers": 1})
    return cell if entry.measured_by.shares == "batches" else replace(cell, resources=alone)


def report_stopping(cells: dict[Path, Cell], console: Console) -> None:
    """Which cells were stopped early and where, and what that saved."""
    early = {folder: found for folder in cells if (found := stopped(folder))}
    for folder, found in early.items():
        cell, metric = cells[folder], next(key for key in found if key.startswith("online/"))
        epochs = cell.config.training.epochs
        kept = " (best encoder kept)" if (folder / BEST).is_file() else ""
        console.print(
            f"stopped early: {cell.title} at epoch {found['epoch']} of {epochs}, {metric}"
            f" {found[metric]:.3f}{kept}"
        )
    # Workers of one cell train on until the word reaches them: what was trained counts, not where
    # the rule decided.
    saved = sum(cells[folder].config.training.epochs - RunFolder(folder).epochs for folder in early)
    total = sum(cell.config.training.epochs for cell in cells.values())
    share, epochs_in_all = saved / max(total, 1), counted(total, "epoch")
    console.print(
        f"early stopping: {len(early)} of {counted(len(cells), 'cell')}, {saved} of {epochs_in_all}"
        f" saved ({share:.0%})"
    )


def read_curve(folder: Path, metric: str) -> list[dict[str, Any]]:
    """The epochs of a run in which a metric was measured."""
    return [record for record in read_metrics(folder) if metric in record]
