"""What the user sees while a sweep runs: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from vididi.runs.outcome import Outcome, finished, outcome, stopped
from vididi.terminal import one_line
from vididi.words import counted

COLUMNS = (
    "cell",
    "state",
    "epoch",
    "loss",
    "s/step",
    "data wait",
    "R@1",
    "R@5",
    "R@10",
    "silhouette",
    "time",
)


@dataclass
class Line:
    """The state of one cell on the screen."""

    state: str
    epochs: int
    epoch: int = 0
    metrics: dict[str, Any] | None = None
    began: float | None = None
    seconds: float | None = None

    def cells(self) -> list[str]:
        """The texts of its columns, without the title."""
        m = self.metrics or {}
        seconds = (
            self.seconds
            if self.seconds is not None
            else (time.monotonic() - self.began if self.began is not None else None)
        )
        return [
            self.state,
            f"{self.epoch}/{self.epochs}",
            _number(m.get("train/loss"), ".3f"),
            _number(m.get("time/seconds_per_step"), ".2f"),
            _number(m.get("time/data_share"), ".1%"),
            *(_number(m.get(f"retrieval/R@{k}"), ".1%") for k in (1, 5, 10)),
            _number(m.get("silhouette/all"), ".3f"),
            _number(seconds, ".0f") + (" s" if seconds is not None else ""),
        ]


def _number(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)


class SweepScreen:
    """Shows cells by title. Use as a context manager; the methods are those of a
    cluster.jobs.Watcher by title.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.lines: dict[str, Line] = {}
        self.live = Live(
            console=console, get_renderable=self.table, refresh_per_second=1, transient=True
        )

    def add(self, title: str, state: str, epochs: int, result: dict[str, Any] | None) -> None:
        """A cell that is ``finished`` (with its result), or ``waiting``."""
        self.lines[title] = Line(
            state,
            epochs,
            epochs if result else 0,
            result,
            seconds=result.get("seconds") if result else None,
        )

    def __enter__(self) -> SweepScreen:
        if self.console.is_terminal:
            self.live.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        if self.console.is_terminal:
            self.live.__exit__(*exception)
            self.console.print(self.table())

    def table(self) -> Table:
        """The table of all cells, as a terminal shows it."""
        table = Table(*COLUMNS, box=None, pad_edge=False)
        for title, line in self.lines.items():
            table.add_row(title, *line.cells())
        return table

    def start(self, title: str) -> None:
        """A cell began, or began again."""
        line = self.lines[title]
        again = line.began is not None
        line.state, line.began = "running", line.began or time.monotonic()
        self._say(f"{title}: {'started again after its process died' if again else 'started'}")

    def report(self, title: str, metrics: dict[str, Any]) -> None:
        """A cell trained an epoch."""
        line = self.lines[title]
        line.metrics = {**(line.metrics or {}), **metrics}
        line.epoch = int(metrics["epoch"])
        if line.epoch % max(1, line.epochs // 4) == 0 and "train/loss" in metrics:
            m = metrics
            self._say(
                f"{title}: epoch {line.epoch}/{line.epochs}, loss {m['train/loss']:.3f},"
                f" {m['time/seconds_per_step']:.2f} s/step, {m['time/data_share']:.1%} of it"
                " waiting for data"
            )

    def end(self, title: str, state: str, result: dict[str, Any] | None, note: str) -> None:
        """A cell ended; ``note`` follows its state in the line."""
        line = self.lines[title]
        line.state = state
        line.seconds = time.monotonic() - line.began if line.began is not None else 0.0
        line.metrics = {**(line.metrics or {}), **(result or {})}
        if result:
            line.epoch = line.epochs
        self._say(f"{title}: {state} after {line.seconds:.0f} s{note}")

    def say(self, text: str) -> None:
        """A message that stays on the screen."""
        self.console.print(text)

    def _say(self, text: str) -> None:
        if not self.console.is_terminal:
            self.say(text)


@dataclass
class ScreenWatcher:
    """Passes the events of cluster.tune.run_jobs to a screen."""

    screen: SweepScreen
    outcome: Callable[[Path], Outcome | None] = outcome  # how the job of a folder ended

    def started(self, job: Any) -> None:
        """See cluster.jobs.Watcher."""
        self.screen.start(job.title)

    def reported(self, job: Any, metrics: dict[str, Any]) -> None:
        """See cluster.jobs.Watcher."""
        self.screen.report(job.title, metrics)

    def ended(self, job: Any, failures: int) -> None:
        """Show how a job ended, by its folder."""
        became = self.outcome(job.folder)
        result = finished(job.folder) if became == "finished" else None
        early = stopped(job.folder) if became == "stopped" else None
        state = f"stopped early at epoch {early['epoch']}" if early else became or "failed"
        note = f", restarted {counted(failures, 'time')}" if failures else ""
        if result and job.evaluation:
            note += ": " + evaluation_summary(result)
        self.screen.end(job.title, state, result, note)

    def elsewhere(self, job: Any) -> None:
        """See cluster.jobs.Watcher."""
        self.screen.end(job.title, "run by another driver", finished(job.folder), "")

    def waiting(self, seconds: float, why: str) -> None:
        """See cluster.jobs.Watcher."""
        self.screen.say(f"no cell could start for {seconds:.0f} s: {why}")


def _rate(per_second: float) -> str:
    """Long videos take more than a second each, so a small rate needs its decimals."""
    return f"{per_second:.0f}" if per_second >= 10 else f"{per_second:.2g}"


class PrepareBar:
    """Progress of a preparation: videos, rejects, time left. Call it as prepare's ``progress``."""

    def __init__(self, console: Console, title: str) -> None:
        columns: Iterable[Any] = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]} videos/s, {task.fields[rejects]} rejected"),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=console, transient=True)
        self.task = self.progress.add_task(one_line(title), total=None, rejects=0, rate="-")
        self.began: float | None = None
        # what was done when this began: more than one video where an earlier run's work goes on
        self.first = 0

    def __call__(self, done: int, total: int, rejects: int) -> None:
        """Show how many videos are done, of how many, and how many were rejected."""
        if self.began is None:
            self.began, self.first = time.monotonic(), done
            self.progress.start()
        rate = (done - self.first) / max(time.monotonic() - self.began, 1e-3)
        self.progress.update(
            self.task,
            completed=done,
            total=total,
            rejects=rejects,
            rate=_rate(rate) if done > self.first else "-",
        )
        if done == total:
            self.progress.stop()


class CheckBar:
    """Progress of checking a prepared set: videos, bad ones, time left. Use as a context
    manager.
    """

    def __init__(self, console: Console, title: str, total: int) -> None:
        columns: Iterable[Any] = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[bad]} bad"),
        )
        self.progress = Progress(
            *columns,
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task, self.bad = self.progress.add_task(title, total=total, bad=0), 0

    def __enter__(self) -> CheckBar:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def advance(self, videos: int, bad: int) -> None:
        """So many more videos were checked, and so many of them are bad."""
        """So many more videos were checked, and so many of them are bad."""
        self.bad += bad
        self.progress.update(self.task, advance=videos, bad=self.bad)


class EvaluationScreen:
    """One line for each evaluation that ended, and on a terminal a bar for the one that runs. Use
    as a context manager.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self.bar = Progress(
            *columns,
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.title = ""

    def __enter__(self) -> EvaluationScreen:
        self.bar.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.bar.stop()

    def begin(self, title: str, epochs: int | None) -> None:
        """An evaluation begins; ``epochs``: of what it trains, or None."""
        self.title = title
        for task in self.bar.task_ids:
            self.bar.remove_task(task)
        self.bar.add_task(one_line(title), total=epochs, note="")

    def progress(self, done: int, total: int) -> None:
        """Batches whose features are computed."""
        self.bar.update(self.bar.task_ids[0], completed=done, total=total, note="batches")

    def report(self, metrics: dict[str, Any]) -> None:
        """An epoch of a classifier or detector ended."""
        self.bar.update(
            self.bar.task_ids[0], completed=metrics["epoch"], note=f"loss {metrics['loss']:.3f}"
        )

    def end(self, result: dict[str, Any]) -> None:
        """Print what was measured, with its notes."""
        self.console.print(f"{self.title}: {evaluation_summary(result)}")
        for note in result.get("notes", []):
            self.console.print(f"  {note}")


def evaluation_summary(result: dict[str, Any]) -> str:
    """One line with each metric of an evaluation, and what the untrained encoder got."""
    untrained = {
        name: f" (untrained {value:.3f})"
        for name, value in (result["untrained"] or {}).items()
        if not name.endswith("_epoch")
    }
    values = {
        name: f"{value:.0f}" if name.endswith("_epoch") else f"{value:.3f}"
        for name, value in result["metrics"].items()
    }
    return ", ".join(f"{name} {value}{untrained.get(name, '')}" for name, value in values.items())
