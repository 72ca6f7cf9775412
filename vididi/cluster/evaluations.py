"""Evaluations as trials of Ray Tune, several at a time: those of a sweep's cells, and those of any
finished runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from vididi.cell_resources import Resources
from vididi.cell_status import report_unfinished
from vididi.cluster.connection import connected
from vididi.cluster.groups import JobsRun, run_jobs
from vididi.cluster.jobs import Job, JobsLeft
from vididi.components import read_run_config
from vididi.data.shards import ShardSet
from vididi.data.stream import local_stream
from vididi.loggers.choices import LOGGERS, TENSORBOARD
from vididi.protocols import EvaluationEntry
from vididi.protocols.finished import is_measured
from vididi.protocols.task import make_task, pinned
from vididi.runs.mend import mend_evaluation
from vididi.runs.outcome import Outcome, has_new_result, outcome
from vididi.screen import ScreenWatcher, SweepScreen
from vididi.sweep import Cell
from vididi.training.context import LocalContext
from vididi.words import counted


@dataclass(frozen=True)
class Evaluation:
    """What is to be measured of a finished run. ``cell`` says what that takes."""

    cell: Cell
    run: Path
    entry: EvaluationEntry
    shards: ShardSet | None  # where they are not those of all


class FinishedRun(Cell):
    """A finished run, whatever made it; its title is its label."""

    @property
    def title(self) -> str:
        """Its label, the path of the run folder."""
        return self.label

    @classmethod
    def of(cls, run: Path, resources: Resources) -> FinishedRun:
        """The run in a folder. Raises DamagedError where its configuration cannot be read."""
        config = read_run_config(run)
        return cls(
            arm=run.name,
            label=str(run),
            axes={},
            seed=config.training.seed,
            config=config,
            resources=resources,
        )


def make_evaluations(
    evaluations: Sequence[Evaluation],
    shards: ShardSet,
    runs: Path,
    address: str | None,
    console: Console,
    loggers: Sequence[str] = TENSORBOARD,
) -> int:
    """Make the evaluations that have not been made; one that fails does not stop the others.

    Args:
        shards, runs, address: as of JobsRun.
        loggers: by name, that show what is measured.

    Returns:
        the exit status: 0, or 1 where some failed or are unfinished, which are listed.
    """
    screen = SweepScreen(console)
    jobs: dict[Path, Job] = {}
    measured: dict[Path, Callable[[], bool]] = {}

    def ended(folder: Path) -> Outcome | None:
        return outcome(folder, measured=lambda folder: measured[folder]())

    for one in evaluations:
        data, entry = one.shards or shards, pinned(one.entry)
        task = make_task(one.run, entry, data, local_stream(data), LocalContext(), print)
        folder = one.run.resolve() / "evaluations" / task.name
        mend_evaluation(folder, screen.say)
        measured[folder] = partial(is_measured, task, one.run, one.entry.untrained)
        if ended(folder) != "finished":
            jobs[folder] = Job(one.cell, folder, {LOGGERS: list(loggers)}, entry, one.shards)
            epochs = getattr(task.settings, "epochs", 1)
            job = jobs[folder]
            screen.add(job.title, "waiting", epochs, None, entry.title, one.cell.name, job.name)
    runs_measured = {evaluation.run for evaluation in evaluations}
    console.print(
        f"evaluations: {len(evaluations)} of {counted(len(runs_measured), 'run')}, {len(jobs)} to"
        " make"
    )
    left = JobsLeft(set(), set())
    if jobs:
        # While jobs run only local files are read: a store may be out of reach for a moment.
        watcher = ScreenWatcher(screen, partial(outcome, measured=has_new_result))
        with screen:
            left = run_jobs(list(jobs.values()), JobsRun(shards, runs, watcher, address))
    return report_unfinished(jobs, console, ended, left.elsewhere, left.interrupted)


def evaluate_runs(
    data: Mapping[Path, ShardSet],
    entry: EvaluationEntry,
    options: Mapping[str, Any],
    address: str,
    console: Console,
) -> int:
    """Make one evaluation of each of some finished runs on a cluster.

    Args:
        data: the prepared set that each run is measured on.
        options: ``workers``, how many runs at a time, and ``cpus_per_worker`` and
            ``gpus_per_worker``; None is what the cluster has. Under LOGGERS the names of loggers.
    """
    from vididi.cluster.inference import default_gpus  # Ray Data is slow to import

    with connected(address):
        gpus = default_gpus() if options["gpus_per_worker"] is None else options["gpus_per_worker"]
    resources = Resources(
        cpus_per_worker=options["cpus_per_worker"] or 1,
        gpus_per_worker=gpus,
        concurrency=options["workers"],
    )
    evaluations = [
        Evaluation(FinishedRun.of(run, resources), run, entry, shards)
        for run, shards in data.items()
    ]
    first = next(iter(data))
    runs, loggers = first.resolve().parent, options.get(LOGGERS, TENSORBOARD)
    return make_evaluations(evaluations, data[first], runs, address, console, loggers)
