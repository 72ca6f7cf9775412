"""What the user sees while a sweep runs: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from tabulate import tabulate

from vididi.errors import DamagedError
from vididi.runs import readers
from vididi.runs.readers import finished as read_result
from vididi.runs.readers import stopped as read_stopped
from vididi.terminal import one_line, visible
from vididi.words import counted

if TYPE_CHECKING:
    from vididi.evaluation.ava_map import AvaMap
    from vididi.sweep import Cell

INTERRUPTED = 130  # exit status, as of a shell's command after Ctrl-C
NOTE = 200  # characters of a reason; error.txt has all of it
COLUMNS = ("cell", "state", "epoch", "loss", "s/step", "data wait", "R@1", "R@5", "R@10", "silhouette", "time")


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
        m = self.metrics or {}
        seconds = self.seconds if self.seconds is not None else (time.monotonic() - self.began if self.began is not None else None)
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
    """Shows cells by title. Use as a context manager; the methods are those of a cluster.tune.Watcher by title."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.lines: dict[str, Line] = {}
        self.live = Live(console=console, get_renderable=self.table, refresh_per_second=1, transient=True)

    def add(self, title: str, state: str, epochs: int, result: dict[str, Any] | None) -> None:
        """A cell that is ``finished`` (with its result), or ``waiting``."""
        self.lines[title] = Line(state, epochs, epochs if result else 0, result, seconds=result.get("seconds") if result else None)

    def __enter__(self) -> SweepScreen:
        if self.console.is_terminal:
            self.live.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        if self.console.is_terminal:
            self.live.__exit__(*exception)
            self.console.print(self.table())

    def table(self) -> Table:
        table = Table(*COLUMNS, box=None, pad_edge=False)
        for title, line in self.lines.items():
            table.add_row(title, *line.cells())
        return table

    def start(self, title: str) -> None:
        line = self.lines[title]
        again = line.began is not None
        line.state, line.began = "running", line.began or time.monotonic()
        self._say(f"{title}: {'started again after its process died' if again else 'started'}")

    def report(self, title: str, metrics: dict[str, Any]) -> None:
        line = self.lines[title]
        line.metrics = {**(line.metrics or {}), **metrics}
        line.epoch = int(metrics["epoch"])
        if line.epoch % max(1, line.epochs // 4) == 0 and "train/loss" in metrics:
            m = metrics
            self._say(
                f"{title}: epoch {line.epoch}/{line.epochs}, loss {m['train/loss']:.3f}, "
                f"{m['time/seconds_per_step']:.2f} s/step, {m['time/data_share']:.1%} of it waiting for data"
            )

    def end(self, title: str, state: str, result: dict[str, Any] | None, note: str) -> None:
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

    def started(self, job: Any) -> None:
        self.screen.start(job.title)

    def reported(self, job: Any, metrics: dict[str, Any]) -> None:
        self.screen.report(job.title, metrics)

    def ended(self, job: Any, failures: int) -> None:
        result = read_result(job.folder)
        note = f", restarted {counted(failures, 'time')}" if failures else ""
        if result and job.evaluation:
            note += ": " + evaluation_summary(result)
        stopped = None if result else read_stopped(job.folder)
        state = f"stopped early at epoch {stopped['epoch']}" if stopped else "finished" if result else "failed"
        self.screen.end(job.title, state, result, note)

    def elsewhere(self, job: Any) -> None:
        self.screen.end(job.title, "run by another driver", read_result(job.folder), "")

    def waiting(self, seconds: float, why: str) -> None:
        self.screen.say(f"no cell could start for {seconds:.0f} s: {why}")


@dataclass(frozen=True)
class CellState:
    """What became of a cell so far: finished, stopped early, failed, half-done, waiting or damaged; ``note`` says more.

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
    return [_state(cell.title, cell.config.training.epochs, cell.find_folder(runs, checksum)) for cell in cells]


def folder_states(runs: Path) -> list[CellState]:
    """What became of each cell that has a folder under ``runs``, with its label: the cells that a search drew so far."""
    begun = {folder for name in (readers.CELL, readers.ERROR) for folder in readers.folders_with(runs, name)}
    return [_labelled(path) for path in sorted(begun) if path.parent == runs and is_cell(path)]


def copies(runs: Path) -> list[Path]:
    """Folders under ``runs`` that hold a cell and do not have the name of one, such as one that was copied."""
    return [path for path in readers.folders_with(runs, readers.CELL) if path.parent == runs and not is_cell(path)]


def is_cell(path: Path) -> bool:
    """Whether a folder has the name of a cell's run folder, which ends in its identity."""
    return re.search(r"-[0-9a-f]{12}$", path.name) is not None


def _labelled(path: Path) -> CellState:
    title = path.name.rpartition("-")[0]
    try:
        config, record = readers.read_config(path), readers.read_cell(path)
    except DamagedError as error:
        return CellState(title, 0, "damaged", 0, {}, _of_folder(path, error))
    state = _state(title, config["training"]["epochs"] if config else 0, path)  # it may have failed before it began
    return replace(state, note="; ".join(filter(None, (record["label"] if record else "", state.note))))


def _of_folder(folder: Path, error: DamagedError) -> str:
    return str(error).removeprefix(f"{folder}/")


def _state(title: str, epochs: int, path: Path) -> CellState:
    if damaged := readers.damage(path):
        return CellState(title, epochs, "damaged", 0, {}, "; ".join(_of_folder(path, error) for error in damaged.values()))
    reached = max((record["epoch"] for record in readers.read_metrics(path)), default=0)
    if result := readers.read_result(path):
        return CellState(title, epochs, "finished", epochs, result, _damaged_evaluations(path))
    if readers.read_stopped(path):
        return CellState(title, epochs, "stopped early", reached, {}, "")
    if (error := readers.read_error(path)) is not None:
        return CellState(title, epochs, "failed", reached, {}, (_reason(path, error) or [""])[-1])
    if not path.is_dir():
        return CellState(title, epochs, "waiting", 0, {}, "")
    ago = time.time() - max(map(_written, path.iterdir()), default=_written(path))
    return CellState(title, epochs, "half-done", reached, {}, f"last written to {ago / 60:.0f} min ago")


def _reason(folder: Path, error: str) -> list[str]:
    """The lines of an error, which begins with the folder's name; it stands beside the cell's."""
    return error.strip().removeprefix(f"{folder.name}: ").splitlines()


def _written(path: Path) -> float:
    """When, in seconds; 0 for a file that is gone since, as the files are that a run at work writes aside."""
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0


def _damaged_evaluations(run: Path) -> str:
    """What is wrong with evaluations of a finished run, which is finished without them."""
    made = [path for path in (run / "evaluations").glob("*/") if path.is_dir()]
    return "; ".join(_of_folder(run, error) for path in sorted(made) for error in readers.damage(path).values())


def states_table(states: Iterable[CellState]) -> str:
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
    return tabulate(rows, ("cell", "state", "epoch", "R@1", "seconds", ""), tablefmt="simple", disable_numparse=True)


def report_unfinished(
    jobs: dict[Path, Any], console: Console, finished: Callable[[Path], Any] = read_result, elsewhere: Collection[Path] = ()
) -> int:
    """Name the jobs, by folder, that came to no good end, and why.

    Args:
        elsewhere: folders in which another driver is at work.

    Returns:
        the exit status: 1 if some failed or are left to another driver, INTERRUPTED if some came to no end.
    """
    from vididi.runs.mirror import place_of

    status = 0
    for folder, job in jobs.items():
        if finished(folder) or read_stopped(folder):
            continue
        reason = "run the same command again to go on"
        if folder in elsewhere:
            status, reason = max(status, 1), f"run by another driver; {reason}"
        elif readers.outcome(folder) == "failed":
            status, reason = max(status, 1), "\n    ".join(_reason(folder, readers.read_error(folder) or "")[-3:])
        else:
            status = INTERRUPTED
        console.print(f"not finished: {job.title}: {reason}\n    in {place_of(folder)}")
    return status


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
        self.first = 0  # what was done when this began: more than one video where an earlier run's work goes on

    def __call__(self, done: int, total: int, rejects: int) -> None:
        if self.began is None:
            self.began, self.first = time.monotonic(), done
            self.progress.start()
        rate = (done - self.first) / max(time.monotonic() - self.began, 1e-3)
        self.progress.update(self.task, completed=done, total=total, rejects=rejects, rate=_rate(rate) if done > self.first else "-")
        if done == total:
            self.progress.stop()


class CheckBar:
    """Progress of checking a prepared set: videos, bad ones, time left. Use as a context manager."""

    def __init__(self, console: Console, title: str, total: int) -> None:
        columns: Iterable[Any] = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[bad]} bad"))
        self.progress = Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal)
        self.task, self.bad = self.progress.add_task(title, total=total, bad=0), 0

    def __enter__(self) -> CheckBar:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def advance(self, videos: int, bad: int) -> None:
        self.bad += bad
        self.progress.update(self.task, advance=videos, bad=self.bad)


class EvaluationScreen:
    """One line for each evaluation that ended, and on a terminal a bar for the one that runs. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
        self.bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal)
        self.title = ""

    def __enter__(self) -> EvaluationScreen:
        self.bar.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.bar.stop()

    def begin(self, title: str, epochs: int | None) -> None:
        self.title = title
        for task in self.bar.task_ids:
            self.bar.remove_task(task)
        self.bar.add_task(one_line(title), total=epochs, note="")

    def progress(self, done: int, total: int) -> None:
        """Batches whose features are computed."""
        self.bar.update(self.bar.task_ids[0], completed=done, total=total, note="batches")

    def report(self, metrics: dict[str, Any]) -> None:
        self.bar.update(self.bar.task_ids[0], completed=metrics["epoch"], note=f"loss {metrics['loss']:.3f}")

    def end(self, result: dict[str, Any]) -> None:
        self.console.print(f"{self.title}: {evaluation_summary(result)}")
        for note in result.get("notes", []):
            self.console.print(f"  {note}")


def evaluation_summary(result: dict[str, Any]) -> str:
    """One line with each metric of an evaluation, and what the untrained encoder got."""
    untrained = {name: f" (untrained {value:.3f})" for name, value in (result["untrained"] or {}).items() if not name.endswith("_epoch")}
    values = {name: f"{value:.0f}" if name.endswith("_epoch") else f"{value:.3f}" for name, value in result["metrics"].items()}
    return ", ".join(f"{name} {value}{untrained.get(name, '')}" for name, value in values.items())


def ava_map_table(result: AvaMap) -> str:
    """A line for each action, the mean in per cent, and what the mean leaves out."""
    rows = [
        (s.action, one_line(s.name), s.ground_truth, s.predictions, _number(_percent(s.average_precision), ".2f")) for s in result.actions
    ]
    scored = len(rows) - len(result.without_ground_truth)
    total = ("", f"mAP, the mean of {scored}", result.counts["ground_truth"], result.counts["predictions"], f"{100 * result.mean:.2f}")
    header = ("id", "action", "boxes", "predictions", "AP %")
    table = tabulate(
        [*rows, total], header, tablefmt="simple", disable_numparse=True, colalign=("right", "left", "right", "right", "right")
    )
    return "\n".join([table, *result.notes])


def _percent(fraction: float) -> float | None:
    return None if math.isnan(fraction) else 100 * fraction
