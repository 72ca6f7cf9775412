"""A search from wherever it got to: its study, its cells, and what it found."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from vididi.cell_status import INTERRUPTED, report_unfinished
from vididi.cluster.driver import curves_of, report_stopping
from vididi.cluster.groups import JobsRun, run_drawn
from vididi.cluster.jobs import Job
from vididi.cluster.optuna_search import MOST_DRAWS, CellSearch, StoredStudy
from vididi.dotted_keys import flatten, nest
from vididi.errors import ConfigError, DamagedError, HeldError, VididiError
from vididi.loggers.choices import LOGGERS
from vididi.plans import make_plans
from vididi.runs.file_names import ERROR, RESULT
from vididi.runs.mend import mend_run
from vididi.runs.mirror import place_of, pull
from vididi.runs.outcome import Outcome, finished, outcome
from vididi.runs.readers import folders_with, read_cell, read_config
from vididi.runs.run_folder import RunFolder
from vididi.screen import ScreenWatcher, SweepScreen
from vididi.search import Point, rounded
from vididi.study_names import study_name
from vididi.sweep import SHOWN, VARIED, Cell, Sweep, cell_at, point_in_words, point_of
from vididi.words import counted, written
from vididi.workspace import Workspace


class KnownRun(Protocol):
    """A finished run: its folder, configuration with dotted keys, and result."""

    @property
    def folder(self) -> Path:
        """The run folder."""

    @property
    def config(self) -> dict[str, Any]:
        """The configuration by dotted key."""

    @property
    def result(self) -> dict[str, Any]:
        """The content of result.json."""


@dataclass(frozen=True)
class Searched:
    """How a search ended and the cells that it drew.

    best: so many of its points' cells, the best first. find: the folder of a cell, wherever it is.
    """

    status: int
    cells: list[Cell]
    best: Callable[[int], list[Cell]]
    find: Callable[[Cell], Path]


@contextmanager
def only_search(runs: Path) -> Iterator[None]:
    """Hold the study of a runs folder, which takes one process at a time."""
    with ExitStack() as locks:
        try:
            locks.enter_context(RunFolder(runs / ".search").locked())
        except HeldError:
            raise ConfigError(
                f"{place_of(runs)}: another process is running a search in this folder"
            ) from None
        pull(runs)
        yield


class SearchCells:
    """Makes the cells of a search's points.

    Args:
        known: finished runs, anywhere, whose cells need not be run.
    """

    def __init__(self, work: Workspace, known: Sequence[KnownRun]) -> None:
        self.work, self.known = work, known
        self.study: StoredStudy | None = None  # that numbers the cells' trials
        self.screen = SweepScreen(work.console)

    def cell(self, point: Point, seed: int | None = None) -> Cell:
        """The cell of a point with a seed, or else the file's first; raises VididiError where it
        makes none.
        """
        sweep = self.work.sweep
        cell = cell_at(sweep, point, sweep.seeds[0] if seed is None else seed, self.work.changes)
        if cell is None:
            raise ConfigError("exclude: leaves this point out")
        cell = replace(cell.resolved(), shown=point_in_words(point))
        make_plans(cell.config, self.work.shards)
        return cell

    def find(self, cell: Cell) -> Path:
        """The folder of a cell, which may be a known run's."""
        identity = cell.config.identity(self.work.checksum)
        return next(
            (run.folder for run in self.known if run.folder.name.endswith(f"-{identity}")),
            self.work.folder(cell),
        )

    def job(self, point: Point, seed: int) -> Job:
        """What has to be done for a point and a seed; the cell is on the screen then, and damaged
        files of it are set aside.
        """
        cell = self.cell(point, seed)
        if self.study and (number := self.study.number_of(point, seed)) is not None:
            cell = replace(cell, shown=f"trial {number}: {cell.shown}")
        folder, record = self.find(cell), cell.describe(self.work.sweep.name)
        if folder.parent == self.work.runs:
            mend_run(
                folder,
                cell.config,
                record,
                self.work.checksum,
                lambda line: self.screen.say(f"{cell.name}: {line}"),
            )
        if cell.title not in self.screen.lines:
            result = finished(folder)
            state, epochs = "finished" if result else "waiting", cell.config.training.epochs
            self.screen.add(cell.title, state, epochs, result, name=cell.name)
        varied = [*self.work.sweep.search.space, "training.seed"]
        more = {VARIED: varied, SHOWN: cell.shown, LOGGERS: list(self.work.sweep.loggers)}
        return Job(cell, folder, {**record, **more})

    def known_points(self) -> dict[str, tuple[Point, dict[str, Any]]]:
        """Point and result of the known runs that are points of the space, by run folder."""
        points = [
            (run, known_point(self.work.sweep, run, self.cell, self.work.checksum))
            for run in self.known
        ]
        return {
            place_of(run.folder): (point, run.result) for run, point in points if point is not None
        }

    def finished_here(self, known: Collection[str]) -> Iterator[tuple[Point, int, dict[str, Any]]]:
        """Point, seed and result of the finished cells that this search's file made in the runs
        folder and that are points of the space; not those ``known``, by folder.
        """
        for folder in folders_with(self.work.runs, RESULT):
            if folder.parent != self.work.runs or place_of(folder) in known:
                continue
            with suppress(DamagedError):
                result, config = finished(folder), read_config(folder)
                made_by = (read_cell(folder) or {}).get("sweep")
                if result is None or config is None or made_by != self.work.sweep.name:
                    continue
                run = _Made(folder, flatten(config), result)
                point = known_point(self.work.sweep, run, self.cell, self.work.checksum)
                if point is not None:
                    yield point, run.config["training.seed"], result


@dataclass(frozen=True)
class _Made:
    """A finished run in the search's own folder; a KnownRun."""

    folder: Path
    config: dict[str, Any]
    result: dict[str, Any]


def run_search(work: Workspace, known: Sequence[KnownRun], again: bool = False) -> Searched:
    """Run a search from wherever it got to.

    Args:
        known: finished runs that the study gets first, where they are points of the space.
        again: whether cells that failed are run again.
    """
    sweep, console = work.sweep, work.console
    work.runs.mkdir(parents=True, exist_ok=True)
    search_cells = SearchCells(work, known)
    study = StoredStudy(
        sweep.search,
        work.runs,
        study_name(sweep, work.changes, work.checksum, work.cells[0].config),
        console.print,
    )
    search_cells.study = study
    cells = _take_up(work, study, search_cells, again)

    def ended(folder: Path) -> Outcome | None:
        """What was stopped early before stays so, but for what runs now where nothing is to be
        stopped.
        """
        runs_now = any(job.folder == folder for job in cells.jobs)
        return outcome(folder, stopping=sweep.stopping is not None or not runs_now)

    elsewhere = (
        set() if cells.ended else _run_drawn(work, cells, ScreenWatcher(search_cells.screen, ended))
    )
    status = report_unfinished(cells.cells, console, ended, elsewhere)
    if any(ended(folder) == "failed" for folder in cells.cells):
        console.print(
            f"cells that failed are not drawn again; {work.program} rerun ... --failed tries them"
            " again"
        )
    if cells.interrupted:
        return Searched(INTERRUPTED, [], lambda count: [], search_cells.find)
    report_search(study, cells, console)
    if sweep.stopping:
        report_stopping({folder: job.cell for folder, job in cells.cells.items()}, console)
    drawn_cells = [job.cell for job in cells.cells.values()]
    return Searched(
        status,
        drawn_cells,
        lambda count: [search_cells.cell(measured.point) for measured in study.best(count)],
        search_cells.find,
    )


def _take_up(
    work: Workspace, study: StoredStudy, search_cells: SearchCells, again: bool
) -> CellSearch:
    """The search as its study has it, with known runs added and lost ones to be drawn again.

    Prints how far it is.
    """
    sweep = work.sweep
    points = search_cells.known_points()
    study.tell_known(points)
    found = study.tell_finished(search_cells.finished_here(points))
    halves = study.take_back()
    lost = study.draw_lost_again(
        lambda point, seed: outcome(search_cells.job(point, seed).folder) is None
    )
    failed = f", {counted(found, 'finished cell')} taken from the run folders" if found else ""
    failed += f", {lost} to be measured again" if lost else ""
    failed += (
        f", {retry_failed(study, search_cells.job)} failed and to be run again" if again else ""
    )
    cells = CellSearch(study, search_cells.job, sweep.seeds, work.cells[0].config.training.epochs)
    known_before = (
        f", {len(points)} of {len(search_cells.known)} runs known before"
        if search_cells.known
        else ""
    )
    before = (
        f"{cells.drawn} of {sweep.search.trials} cells drawn before, {halves} of them"
        f" half-done{failed}{known_before}"
    )
    work.console.print(f"search {sweep.name}: {before}, in {place_of(work.runs)}")
    return cells


def _run_drawn(work: Workspace, cells: CellSearch, watcher: ScreenWatcher) -> set[Path]:
    """Run the cells that the search draws; returns the folders that were left to another driver."""
    stopping = work.sweep.stopping
    curves = curves_of(cells.cells, stopping)
    over = JobsRun(work.shards, work.runs, watcher, work.address, stopping, curves)
    with watcher.screen:
        return run_drawn(cells, work.cells[0].resources, over)


def retry_failed(study: StoredStudy, make: Callable[[Point, int], Job]) -> int:
    """Forget that cells failed and have their points drawn again; how many."""
    jobs = [(make(trial.params, seed), trial.params) for trial, seed in study.seeded]
    failed = {
        job.folder: point for job, point in jobs if outcome(job.folder, stopping=False) == "failed"
    }
    for folder, point in failed.items():
        RunFolder(folder).forget(ERROR)
        study.draw_again(point)
    return len(failed)


def known_point(
    sweep: Sweep, run: KnownRun, cell_of: Callable[[Point, int], Cell], checksum: str
) -> Point | None:
    """The point of the space whose cell a finished run is, or None."""
    point = point_of(sweep, nest(run.config))
    try:
        if point is None or not run.folder.name.endswith(
            f"-{cell_of(point, run.config['training.seed']).config.identity(checksum)}"
        ):
            return None
        return point
    except VididiError:
        return None


def report_search(study: Any, cells: Any, console: Console) -> None:
    """Print how far a search got, why points make no cell, and the best points or the front."""
    search = study.search
    budget = f" of {search.budget}" if search.budget else ""
    counts = f"{len(cells.jobs)} of them run now; {cells.spent}{budget} epochs spent"
    console.print(f"search: {cells.drawn} of {search.trials} cells drawn, {counts}")
    if cells.exhausted:
        console.print(
            f"search: {MOST_DRAWS} draws in a row gave no cell that had not been run, so it ended"
            " there"
        )
    for reason, count in cells.refused.items():
        console.print(
            f"{counted(count, 'point')} {'makes' if count == 1 else 'make'} no cell: {reason}"
        )
    metrics = list(search.metrics)
    points = study.front() if len(metrics) > 1 else study.best(5)
    console.print(
        "the points that none surpasses in all metrics:" if len(metrics) > 1 else "the best points:"
    )
    for each in points:
        measured = ", ".join(
            f"{metric} {value:.4g}" for metric, value in zip(metrics, each.means, strict=True)
        )
        seeds = f" ({len(each.values)} seeds)" if len(each.values) > 1 else ""
        words = ", ".join(f"{name} {written(value)}" for name, value in rounded(each.point).items())
        console.print(f"  {measured}{seeds}: {words}")
