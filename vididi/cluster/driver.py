"""The cells of a sweep and their evaluations: which are to run, and what became of each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from vididi.cell_status import report_unfinished
from vididi.cluster.evaluations import Evaluation, make_evaluations
from vididi.cluster.groups import JobsRun, run_jobs
from vididi.cluster.jobs import Job, JobsLeft
from vididi.components import least_bytes
from vididi.data.shards import ShardSet
from vididi.disks import check_room
from vididi.loggers.choices import LOGGERS
from vididi.protocols import EvaluationEntry
from vididi.runs.file_names import BEST, CHECKPOINT
from vididi.runs.mend import mend_run
from vididi.runs.mirror import has, place_of
from vididi.runs.outcome import DONE, finished, outcome, outcome_and_result, stopped
from vididi.runs.readers import read_metrics
from vididi.runs.run_folder import RunFolder
from vididi.screen import ScreenWatcher, SweepScreen
from vididi.search import Stopping
from vididi.sweep import VARIED, Cell, varied_keys
from vididi.words import counted
from vididi.workspace import Workspace


def run_cells(work: Workspace) -> int:
    """Run the cells that have neither finished nor been stopped early; returns the exit status."""
    sweep, console = work.sweep, work.console
    work.runs.mkdir(parents=True, exist_ok=True)
    screen = SweepScreen(console)
    jobs, done = _divide(work, screen)

    needed = sum(
        least_bytes(job.cell.config)
        for job in jobs.values()
        if not (job.folder / CHECKPOINT).is_file()
    )
    check_room(
        work.runs, needed, f"{counted(len(jobs), 'cell')} {'takes' if len(jobs) == 1 else 'take'}"
    )
    ended = partial(outcome, stopping=sweep.stopping is not None)
    left = JobsLeft(set(), set())
    if jobs:
        curves = curves_of(done, sweep.stopping)
        with screen:
            watcher = ScreenWatcher(screen, ended)
            over = JobsRun(work.shards, work.runs, watcher, work.address, sweep.stopping, curves)
            left = run_jobs(list(jobs.values()), over)

    if sweep.stopping:
        report_stopping({**done, **{folder: job.cell for folder, job in jobs.items()}}, console)
    return report_unfinished(jobs, console, ended, left.elsewhere, left.interrupted)


def _divide(work: Workspace, screen: SweepScreen) -> tuple[dict[Path, Job], dict[Path, Cell]]:
    """The cells that are to run, and those that ended before, by run folder.

    Damaged files are set aside first. All cells are on the screen then, and counted in a line.
    """
    jobs: dict[Path, Job] = {}
    done: dict[Path, Cell] = {}
    finished_before, varied = 0, varied_keys(work.cells)
    for cell in work.cells:
        folder, record = work.folder(cell), cell.describe(work.sweep.name)
        report = partial(_print_of_cell, screen, cell.name)
        mend_run(folder, cell.config, record, work.checksum, report)
        became, result = outcome_and_result(folder, work.sweep.stopping is not None)
        finished_before += result is not None
        if became in DONE:
            done[folder] = cell
        else:
            more = {VARIED: varied, LOGGERS: list(work.sweep.loggers)}
            jobs[folder] = Job(cell, folder, {**record, **more})
        state = str(became) if became in DONE else "waiting"
        screen.add(cell.title, state, cell.config.training.epochs, result, name=cell.name)

    early = len(done) - finished_before
    work.console.print(
        f"sweep {work.sweep.name}: {counted(len(work.cells), 'cell')}, {finished_before} finished"
        f" before{f', {early} stopped early before' if early else ''}, {len(jobs)} to run, in"
        f" {place_of(work.runs)}"
    )
    return jobs, done


def _print_of_cell(screen: SweepScreen, title: str, line: str) -> None:
    screen.say(f"{title}: {line}")


def run_evaluations(work: Workspace, others: dict[str, ShardSet]) -> int:
    """Make the evaluations that finished cells lack; returns the exit status.

    Args:
        others: data sets by the title of their entry, where an entry names one of its own.
    """
    runs_of_cells = {folder: cell for cell in work.cells if finished(folder := work.folder(cell))}
    evaluations = [
        Evaluation(_for_evaluation(cell, entry), run, entry, others.get(entry.title))
        for run, cell in runs_of_cells.items()
        for entry in work.sweep.evaluations
    ]
    return make_evaluations(
        evaluations, work.shards, work.runs, work.address, work.console, work.sweep.loggers
    )


def _for_evaluation(cell: Cell, entry: EvaluationEntry) -> Cell:
    """The cell with what its evaluation needs: one worker, unless several can share the work."""
    single = cell.resources.model_copy(update={"workers": 1})
    return cell if entry.measured_by.shares == "batches" else replace(cell, resources=single)


def report_stopping(cells: dict[Path, Cell], console: Console) -> None:
    """Print which cells were stopped early and where, and what that saved."""
    early = {folder: stop for folder in cells if (stop := stopped(folder))}
    for folder, stop in early.items():
        cell, metric = cells[folder], next(key for key in stop if key.startswith("online/"))
        best = " (best encoder kept)" if has(folder / BEST) else ""
        console.print(
            f"stopped early: {cell.name} at epoch {stop['epoch']} of"
            f" {cell.config.training.epochs}, {metric} {stop[metric]:.3f}{best}"
        )

    # Workers of one cell train on until the decision reaches them: what was trained counts.
    saved = sum(cells[folder].config.training.epochs - RunFolder(folder).epochs for folder in early)
    total = sum(cell.config.training.epochs for cell in cells.values())
    share, epochs_in_all = saved / max(total, 1), counted(total, "epoch")
    console.print(
        f"early stopping: {len(early)} of {counted(len(cells), 'cell')}, {saved} of {epochs_in_all}"
        f" saved ({share:.0%})"
    )


def curves_of(folders: Iterable[Path], stopping: Stopping | None) -> list[list[dict[str, Any]]]:
    """What runs that ended measured of the metric by which others are stopped; without those that
    did not measure it, and none where nothing is stopped.
    """
    if stopping is None:
        return []
    curves = [measured_epochs(folder, stopping.metric) for folder in folders]
    return [curve for curve in curves if curve]


def measured_epochs(folder: Path, metric: str) -> list[dict[str, Any]]:
    """The epochs of a run in which a metric was measured."""
    return [record for record in read_metrics(folder) if metric in record]
