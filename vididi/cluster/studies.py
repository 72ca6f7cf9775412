"""A search from wherever it got to: its study, its cells, and what it found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from vididi.cluster import tune
from vididi.cluster.search import MOST_DRAWS, CellSearch, StoredStudy
from vididi.cluster.sweeps import read_curve, report_stopping
from vididi.components import resolve
from vididi.config import nest
from vididi.data.shards import ShardSet
from vididi.errors import ConfigError, HeldError, VididiError
from vididi.plans import make_plans
from vididi.runs.mend import mend_run
from vididi.runs.mirror import place_of, pull
from vididi.runs.readers import outcome
from vididi.runs.run_folder import RunFolder
from vididi.screen import INTERRUPTED, ScreenWatcher, SweepScreen, read_result, read_stopped, report_unfinished
from vididi.search import Point, rounded
from vididi.sweep import Cell, Sweep, cell_at, point_of, study_name
from vididi.words import counted, written


class Run(Protocol):
    """A finished run: its folder, configuration with dotted keys, and result."""

    @property
    def folder(self) -> Path: ...

    @property
    def config(self) -> dict[str, Any]: ...

    @property
    def result(self) -> dict[str, Any]: ...


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
    with ExitStack() as held:
        try:
            held.enter_context(RunFolder(runs / ".search").locked())
        except HeldError:
            raise ConfigError(f"{place_of(runs)}: another process is running a search in this folder") from None
        pull(runs)
        yield


def run_search(
    sweep: Sweep,
    changes: dict[str, Any],
    example: Cell,
    known: Sequence[Run],
    shards: ShardSet,
    runs: Path,
    address: str | None,
    console: Console,
    again: bool = False,
) -> Searched:
    """Run a search from wherever it got to.

    Args:
        again: whether cells that failed are run again.
        changes: values that win over the file's. example: any cell of the space, for what all of them need.
        known: finished runs that the study is told first, where they are points of the space.
    """
    search, checksum = sweep.search, shards.manifest.checksum
    runs.mkdir(parents=True, exist_ok=True)
    screen = SweepScreen(console)

    def cell_of(point: Point, seed: int = sweep.seeds[0]) -> Cell:
        cell = cell_at(sweep, point, seed, changes)
        if cell is None:
            raise ConfigError("exclude: leaves this point out")
        cell = replace(cell, config=resolve(cell.config, cell.resources.workers))
        make_plans(cell.config, shards)
        return cell

    def find(cell: Cell) -> Path:
        identity = cell.config.identity(checksum)
        return next((run.folder for run in known if run.folder.name.endswith(f"-{identity}")), cell.find_folder(runs, checksum))

    def make(point: Point, seed: int) -> Any:
        cell = cell_of(point, seed)
        folder = find(cell)
        if folder.parent == runs:
            mend_run(folder, cell.config, cell.describe(sweep.name), checksum, lambda line: screen.say(f"{cell.title}: {line}"))
        if cell.title not in screen.lines:
            result = read_result(folder)
            screen.add(cell.title, "finished" if result else "waiting", cell.config.training.epochs, result)
        return tune.Job(cell, folder, cell.describe(sweep.name))

    study = StoredStudy(search, runs, study_name(sweep, changes, checksum))
    seen = [(run, known_point(sweep, run, cell_of, checksum)) for run in known]
    points = {place_of(run.folder): (point, run.result) for run, point in seen if point is not None}
    study.tell_known(points)
    halves = study.take_back()
    lost = study.draw_lost_again(lambda point, seed: outcome(make(point, seed).folder) is None)
    failed = f", {lost} to be measured again" if lost else ""
    failed += f", {retry_failed(study, make)} failed and to be run again" if again else ""
    cells = CellSearch(study, make, sweep.seeds, example.config.training.epochs)
    said = f", {len(points)} of {len(known)} runs known before" if known else ""
    before = f"{cells.drawn} of {search.trials} cells drawn before, {halves} of them half-done{failed}{said}"
    console.print(f"search {sweep.name}: {before}, in {place_of(runs)}")
    curves = [read_curve(folder, sweep.stopping.metric) for folder in cells.cells] if sweep.stopping else []
    watcher: Any = ScreenWatcher(screen)
    elsewhere: set[Path] = set()
    if not cells.ended:
        with screen:
            elsewhere = tune.run_search(cells, example.resources, shards, runs, watcher, address, sweep.stopping, [c for c in curves if c])
    drawn = {folder: job for folder, job in cells.cells.items() if read_result(folder) is None}
    status = report_unfinished({folder: job for folder, job in drawn.items() if not read_stopped(folder)}, console, elsewhere=elsewhere)
    if any(outcome(folder) == "failed" for folder in drawn):
        console.print("cells that failed are not drawn again; run_sweep.py rerun ... --failed tries them again")
    if cells.interrupted:
        return Searched(INTERRUPTED, [], lambda count: [], find)
    report_search(study, cells, console)
    if sweep.stopping:
        report_stopping({folder: job.cell for folder, job in cells.cells.items()}, console)
    drawn_cells = [job.cell for job in cells.cells.values()]
    return Searched(status, drawn_cells, lambda count: [cell_of(found.point) for found in study.best(count)], find)


def retry_failed(study: StoredStudy, make: Callable[[Point, int], tune.Job]) -> int:
    """Forget that cells failed and have their points drawn again; how many."""
    jobs = [(make(trial.params, seed), trial.params) for trial, seed in study.seeded]
    failed = {job.folder: point for job, point in jobs if outcome(job.folder, stopping=False) == "failed"}
    for folder, point in failed.items():
        RunFolder(folder).forget("error.txt")
        study.draw_again(point)
    return len(failed)


def known_point(sweep: Sweep, run: Run, cell_of: Callable[[Point, int], Cell], checksum: str) -> Point | None:
    """The point of the space whose cell a finished run is, or None."""
    point = point_of(sweep, nest(run.config))
    try:
        if point is None or not run.folder.name.endswith(f"-{cell_of(point, run.config['training.seed']).config.identity(checksum)}"):
            return None
        return point
    except VididiError:
        return None


def report_search(study: Any, cells: Any, console: Console) -> None:
    search = study.search
    budget = f" of {search.budget}" if search.budget else ""
    counts = f"{len(cells.jobs)} of them run now; {cells.spent}{budget} epochs spent"
    console.print(f"search: {cells.drawn} of {search.trials} cells drawn, {counts}")
    if cells.exhausted:
        console.print(f"search: {MOST_DRAWS} draws in a row gave no cell that had not been run, so it ended there")
    for reason, count in cells.refused.items():
        console.print(f"{counted(count, 'point')} {'makes' if count == 1 else 'make'} no cell: {reason}")
    metrics = list(search.metrics)
    found = study.front() if len(metrics) > 1 else study.best(5)
    console.print("the points that none surpasses in all metrics:" if len(metrics) > 1 else "the best points:")
    for each in found:
        measured = ", ".join(f"{metric} {value:.4g}" for metric, value in zip(metrics, each.means, strict=True))
        seeds = f" ({len(each.values)} seeds)" if len(each.values) > 1 else ""
        words = ", ".join(f"{name} {written(value)}" for name, value in rounded(each.point).items())
        console.print(f"  {measured}{seeds}: {words}")
