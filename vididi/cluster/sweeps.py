"""The cells of a sweep and their evaluations: which are to run, what the screen says of them, what became of each."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from vididi.cluster.evaluations import Evaluation, make_evaluations
from vididi.cluster.tune import Job, run_jobs
from vididi.data.shards import ShardSet
from vididi.protocols import SHARED, EvaluationEntry
from vididi.runs.mend import mend_run
from vididi.runs.mirror import place_of
from vididi.runs.run_folder import RunFolder
from vididi.screen import ScreenWatcher, SweepScreen, read_result, read_stopped, report_unfinished
from vididi.sweep import Cell, Sweep
from vididi.words import counted


def run_cells(sweep: Sweep, cells: list[Cell], shards: ShardSet, runs: Path, address: str | None, console: Console) -> int:
    """Run the cells that have neither finished nor been stopped early; returns the exit status."""
    runs.mkdir(parents=True, exist_ok=True)
    screen = SweepScreen(console)
    jobs: dict[Path, Job] = {}
    ended: dict[Path, Cell] = {}
    for cell in cells:
        folder = cell.find_folder(runs, shards.manifest.checksum)
        mend_run(folder, cell.config, cell.describe(sweep.name), shards.manifest.checksum, partial(_say_of, cell.title, screen))
        result, stopped = read_result(folder), sweep.stopping and read_stopped(folder)
        screen.add(cell.title, "finished" if result else "stopped" if stopped else "waiting", cell.config.training.epochs, result)
        if result or stopped:
            ended[folder] = cell
        else:
            jobs[folder] = Job(cell, folder, cell.describe(sweep.name))
    finished = sum(read_result(folder) is not None for folder in ended)
    early = f", {len(ended) - finished} stopped early before" if len(ended) > finished else ""
    counts = f"{counted(len(cells), 'cell')}, {finished} finished before{early}, {len(jobs)} to run"
    console.print(f"sweep {sweep.name}: {counts}, in {place_of(runs)}")
    curves = [read_curve(folder, sweep.stopping.metric) for folder in ended] if sweep.stopping else []
    elsewhere: set[Path] = set()
    if jobs:
        with screen:
            elsewhere = run_jobs(list(jobs.values()), shards, runs, ScreenWatcher(screen), address, sweep.stopping, curves)  # type: ignore[arg-type]
    if sweep.stopping:
        report_stopping({**ended, **{folder: job.cell for folder, job in jobs.items()}}, console)
    return report_unfinished(jobs, console, elsewhere=elsewhere)


def _say_of(title: str, screen: SweepScreen, line: str) -> None:
    screen.say(f"{title}: {line}")


def run_evaluations(
    sweep: Sweep, cells: list[Cell], shards: ShardSet, others: dict[str, ShardSet], runs: Path, address: str | None, console: Console
) -> int:
    """Make the sweep's evaluations of every finished cell that have not been made; ``others``: data sets by title of their entry."""
    finished = {folder: cell for cell in cells if read_result(folder := cell.find_folder(runs, shards.manifest.checksum))}
    asked = [
        Evaluation(_for_evaluation(cell, entry), run, entry, others.get(entry.title))
        for run, cell in finished.items()
        for entry in sweep.evaluations
    ]
    return make_evaluations(asked, shards, runs, address, console)


def _for_evaluation(cell: Cell, entry: EvaluationEntry) -> Cell:
    """The cell with what its evaluation needs: one worker, unless several can share the work."""
    alone = cell.resources.model_copy(update={"workers": 1})
    return cell if entry.protocol in SHARED else replace(cell, resources=alone)


def report_stopping(cells: dict[Path, Cell], console: Console) -> None:
    """Which cells were stopped early and where, and what that saved."""
    stopped = {folder: found for folder in cells if not read_result(folder) and (found := read_stopped(folder))}
    for folder, found in stopped.items():
        cell, metric = cells[folder], next(key for key in found if key.startswith("online/"))
        epochs = cell.config.training.epochs
        kept = " (best encoder kept)" if (folder / "best.safetensors").is_file() else ""
        console.print(f"stopped early: {cell.title} at epoch {found['epoch']} of {epochs}, {metric} {found[metric]:.3f}{kept}")
    # Workers of one cell train on until the word reaches them: what was trained counts, not where the rule decided.
    saved = sum(cells[folder].config.training.epochs - RunFolder(folder).epochs for folder in stopped)
    total = sum(cell.config.training.epochs for cell in cells.values())
    share, epochs_in_all = saved / max(total, 1), counted(total, "epoch")
    console.print(f"early stopping: {len(stopped)} of {counted(len(cells), 'cell')}, {saved} of {epochs_in_all} saved ({share:.0%})")


def read_curve(folder: Path, metric: str) -> list[dict[str, Any]]:
    """The epochs of a run in which a metric was measured."""
    return [record for record in RunFolder(folder).metrics() if metric in record]
