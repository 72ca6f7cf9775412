"""What the user sees while a sweep runs: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from vididi.live_table import (
    Line,
    in_order_of_interest,
    make_table,
    progress_text,
    rest_text,
    share_done,
)
from vididi.runs.outcome import Outcome, finished, outcome, stopped
from vididi.terminal import one_line, visible
from vididi.words import counted

STDERR = 2
SAY_S = 10.0  # between lines about a preparation that is shown in lines
# Ray says so at each start where RAY_BACKEND_LOG_LEVEL is set.
NO_NEWS = "Set ray log level from environment variable"


_open: list[SweepScreen] = []


def leave_screens() -> None:
    """Give the terminal back as it was; for a process that ends without coming back to them."""
    while _open:
        _open[-1].leave()
    Console().show_cursor()  # of bars that are no SweepScreen


class SweepScreen:
    """Shows jobs by title. Use as a context manager; the methods are those of a
    cluster.jobs.Watcher by title.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.lines: dict[str, Line] = {}
        self.stopping = False
        self.foreign = ForeignLines(self.say)
        self.live = Live(
            console=console, get_renderable=self.live_table, refresh_per_second=1, transient=True
        )

    def add(
        self,
        title: str,
        state: str,
        epochs: int,
        result: dict[str, Any] | None,
        evaluation: str = "",
        encoder: str = "",
        name: str = "",
    ) -> None:
        """A job that is ``finished`` (with its result), or ``waiting``.

        Args:
            evaluation, encoder: of an evaluation, its title and that of the cell it measures.
            name: what people are shown; its title if left out.
        """
        self.lines[title] = Line(
            state,
            epochs,
            epochs if result else 0,
            dict(result or {}),
            seconds=result.get("seconds") if result else None,
            evaluation=evaluation,
            encoder=encoder,
            name=name,
        )

    def __enter__(self) -> SweepScreen:
        if self.console.is_terminal:
            self.live.__enter__()
            self.foreign.__enter__()
        _open.append(self)
        return self

    def __exit__(self, *exception: Any) -> None:
        self.leave()
        if self.console.is_terminal:
            self.console.print(self.table(), soft_wrap=False)

    def leave(self) -> None:
        """Show nothing more."""
        if self not in _open:
            return
        _open.remove(self)
        if self.console.is_terminal:
            self.foreign.__exit__()
            self.live.__exit__(None, None, None)

    def table(self) -> Table:
        """All cells that began, in the order of the sweep."""
        begun = [title for title, line in self.lines.items() if not line.waits]
        return make_table(self.lines, begun, self.console.width, whole_names=True)

    def live_table(self) -> Group:
        """As many cells as the terminal has lines for, those at work first, and how far all is."""
        titles = in_order_of_interest(self.lines)
        room = max(self.console.height - 4, 1)  # the heading, what is left out, and how far
        shown = titles if len(titles) <= room else titles[:room]
        left_out = [self.lines[title] for title in titles[len(shown) :]]
        parts: list[Any] = [make_table(self.lines, shown, self.console.width)]
        parts += [_cut(rest_text(left_out))] if left_out else []
        ends = "stopping ...  " if self.stopping else ""
        parts.append(_cut(f"{ends}{progress_text(self.lines.values())}"))
        return Group(*parts)

    def start(self, title: str) -> None:
        """A cell began, or began again."""
        line = self.lines[title]
        again = line.began is not None
        line.state, line.began = "running", line.began or time.monotonic()
        event = "started again after its process died" if again else "started"
        self._say(f"{line.name or title}: {event}")

    def report(self, title: str, metrics: dict[str, Any]) -> None:
        """A cell trained an epoch."""
        line = self.lines[title]
        if line.reported is None:  # it may go on from an earlier start
            line.first_epoch = int(metrics["epoch"]) - 1
        line.metrics |= metrics
        line.epoch, line.reported = int(metrics["epoch"]), time.monotonic()
        if line.epoch % max(1, line.epochs // 4) == 0 and "train/loss" in metrics:
            m, name = metrics, line.name or title
            self._say(
                f"{name}: epoch {line.epoch}/{line.epochs}, loss {m['train/loss']:.3f},"
                f" {m['time/seconds_per_step']:.2f} s/step, {m['time/data_share']:.1%} of it"
                " waiting for data"
            )

    def end(self, title: str, state: str, result: dict[str, Any] | None, note: str) -> None:
        """A cell ended; ``note`` follows its state in the line."""
        line = self.lines[title]
        line.state, line.ended = state, time.monotonic()
        line.seconds = line.ended - line.began if line.began is not None else 0.0
        line.metrics |= result or {}
        if result:
            line.epoch = line.epochs
            line.results = dict(result["metrics"]) if line.evaluation else {}
        self._say(f"{line.name or title}: {state} after {line.seconds:.0f} s{note}")

    def stop(self) -> None:
        """It was asked to stop, which takes a moment."""
        self.stopping = True
        if self.console.is_terminal:
            self.live.refresh()
        else:
            self._say("stopping ...")

    def say(self, text: str) -> None:
        """A message that stays on the screen."""
        self.console.print(text)

    def _say(self, text: str) -> None:
        if not self.console.is_terminal:
            self.say(f"{clock(share_done(self.lines.values()))} {text}")


def _cut(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")


def clock(share: float) -> str:
    """``12:34:56  40%``: the time of day, and how much is done."""
    # never 100 before the end
    return f"{time.strftime('%H:%M:%S')} {int(share * 100):3d}%"


class ForeignLines:
    """What libraries write to the standard error stream past Python, as Ray's C++ does, would break
    a live table. It is printed above it, a line at a time. Does nothing where that stream is no
    terminal. Use as a context manager.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.saved: int | None = None

    def __enter__(self) -> ForeignLines:
        if os.isatty(STDERR):
            self.saved = os.dup(STDERR)
            reading, writing = os.pipe()
            os.dup2(writing, STDERR)
            os.close(writing)
            self.thread = Thread(target=self._pass_on, args=(reading,), daemon=True)
            self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.saved is not None:
            os.dup2(self.saved, STDERR)
            os.close(self.saved)
            self.saved = None
            # A process that was started meanwhile may hold the stream for longer.
            self.thread.join(timeout=0.5)

    def _pass_on(self, reading: int) -> None:
        with open(reading, errors="backslashreplace") as lines:
            for line in lines:
                if NO_NEWS not in line:
                    self.say(line.rstrip("\n"))


@dataclass
class ScreenWatcher:
    """Passes the events of cluster.groups.run_jobs to a screen."""

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
        open_end = "interrupted" if self.screen.stopping else "failed"
        state = f"stopped early at epoch {early['epoch']}" if early else became or open_end
        note = f", restarted {counted(failures, 'time')}" if failures else ""
        if result and job.evaluation:
            note += ": " + evaluation_summary(result)
        self.screen.end(job.title, state, result, note)

    def elsewhere(self, job: Any) -> None:
        """See cluster.jobs.Watcher."""
        self.screen.end(job.title, "run by another driver", finished(job.folder), "")

    def stopping(self) -> None:
        """See cluster.jobs.Watcher."""
        self.screen.stop()

    def told(self, text: str) -> None:
        """See cluster.jobs.Watcher."""
        self.screen.say(visible(text))

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
        self.progress = Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        )
        self.task = self.progress.add_task(one_line(title), total=None, rejects=0, rate="-")
        self.began: float | None = None
        # what was done when this began: more than one video where an earlier run's work goes on
        self.first = 0
        self.console, self.title, self.said = console, one_line(title), 0.0

    def __call__(self, done: int, total: int, rejects: int) -> None:
        """Show how many videos are done, of how many, and how many were rejected."""
        if self.began is None:
            self.began, self.first = time.monotonic(), done
            self.progress.start()
        per_second = (done - self.first) / max(time.monotonic() - self.began, 1e-3)
        rate = _rate(per_second) if done > self.first else "-"
        self.progress.update(self.task, completed=done, total=total, rejects=rejects, rate=rate)
        self._say(done, total, f"{rate} videos/s, {rejects} rejected")
        if done == total:
            self.progress.stop()

    def _say(self, done: int, total: int, note: str) -> None:
        """A line where there is no bar: every SAY_S seconds, and at the end."""
        now = time.monotonic()
        if self.console.is_terminal or (done < total and now - self.said < SAY_S):
            return
        self.said = now
        share = done / max(total, 1)
        self.console.print(f"{clock(share)} {self.title}: {done} of {total}, {note}")


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
