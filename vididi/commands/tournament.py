"""What a search found, held against a grid: its best compete over seeds, and the winner against the
grid's best arm with fresh ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING

from vididi.commands import results
from vididi.commands.inputs import existing
from vididi.config import build_config
from vididi.dotted_keys import nest
from vididi.errors import ConfigError
from vididi.search import halved
from vididi.sweep import Cell
from vididi.words import counted
from vididi.workspace import Workspace

if TYPE_CHECKING:
    from vididi.cluster.studies import Searched
    from vididi.commands.results import Run


class Unfinished(Exception):
    """Cells that something else waits for did not all finish; ``status`` is the program's."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def grid_best(work: Workspace) -> list[Run]:
    """The runs of the best arm of the grid that a search is held against."""
    search = work.sweep.search
    assert search.confirm is not None
    metric, mode = next(iter(search.metrics.items()))
    folder = existing(search.confirm.against, "search.confirm.against")
    runs = [
        run
        for run in results.finished_under(folder)
        if run.result["data_checksum"] == work.checksum
    ]
    best = results.find_best_arm(runs, metric, mode == "max")
    if not best:
        raise ConfigError(
            f"search.confirm.against: {folder} has no finished run on these videos with {metric};"
            " run that sweep first"
        )
    return best


@dataclass(frozen=True)
class Entrants:
    """Cells that are held against each other.

    Args:
        metric: that decides; the ``largest`` value of it is the best, or else the smallest.
    """

    work: Workspace
    searched: Searched
    metric: str
    largest: bool

    def finished(self, cells: list[Cell]) -> list[Run]:
        """Their runs; those that have not finished are run first, without early stopping.

        Raises:
            Unfinished: some did not finish.
        """
        from vididi.cluster.driver import run_cells

        folders = [self.searched.find(cell) for cell in cells]
        new = [
            cell
            for cell, folder in zip(cells, folders, strict=True)
            if folder.parent == self.work.runs
        ]
        unstopped = self.work.sweep.model_copy(update={"stopping": None})
        if new and (status := run_cells(replace(self.work, sweep=unstopped, cells=new))):
            raise Unfinished(status)
        return results.finished_runs(folders)

    def measure(self, cells: list[Cell]) -> list[float]:
        """The deciding metric of each."""
        return [run.result[self.metric] for run in self.finished(cells)]


def confirm(work: Workspace, searched: Searched, baseline: list[Run]) -> None:
    """Train the search's best and the grid's best arm with fresh seeds, and print their difference.

    Args:
        baseline: the runs of the grid's best arm.

    Raises:
        Unfinished: the cells that this takes did not all finish.
    """
    options, (metric, mode) = (
        work.sweep.search.confirm,
        next(iter(work.sweep.search.metrics.items())),
    )
    assert options is not None
    entrants = Entrants(work, searched, metric, mode == "max")
    candidates = searched.best(options.top)
    if not candidates:
        work.console.print("confirm: the search has no finished cell")
        raise Unfinished(1)
    against = _as_cell(baseline[0], candidates[0])
    chosen = (
        choose(entrants, candidates, against, options.choose_seeds)
        if options.choose_seeds
        else candidates[0]
    )
    if same_but_seed(chosen, against):
        work.console.print(
            f"confirm: the search found nothing better than the grid's best arm, {against.label}:"
            " the difference is 0, above"
            f" {results.scaled(metric, -options.margin)}{results.difference_unit(metric)}"
        )
        return
    both = entrants.finished(
        [with_seed(cell, seed) for cell in (chosen, against) for seed in options.seeds]
    )
    ours, theirs = both[: len(options.seeds)], both[len(options.seeds) :]
    lines = results.difference(
        ours, theirs, metric, (f"{chosen.arm} ({chosen.label})", against.label), -options.margin
    )
    work.console.print("\nthe search's best against the grid's best arm, with fresh seeds:")
    work.console.print("\n".join(lines))


def _as_cell(run: Run, like: Cell) -> Cell:
    """A finished run's cell, with the resources of another."""
    config = build_config(nest(run.config), str(run.folder))
    arm, label = run.cell["arm"], run.cell["label"]
    return replace(like, arm=arm, label=label, config=config, shown="")


def choose(entrants: Entrants, candidates: list[Cell], against: Cell, seeds: list[int]) -> Cell:
    """The best of the candidates and the grid's best over some seeds, which is printed."""
    if not any(same_but_seed(cell, against) for cell in candidates):
        candidates = [
            *candidates,
            against,
        ]  # what single seeds make look better must be better than it in these too
    values = compete(candidates, seeds, entrants.measure, entrants.largest)
    chosen = candidates[best_of(values, entrants.largest)]
    print_choice(entrants, seeds, candidates, values, chosen)
    return chosen


def compete(
    candidates: list[Cell],
    seeds: list[int],
    measure: Callable[[list[Cell]], list[float]],
    largest: bool,
) -> list[list[float]]:
    """What each candidate reached with each seed that it took part in, the worse half of them going
    after each (see `halved`).
    """
    values: list[list[float]] = [[] for _ in candidates]
    left = list(range(len(candidates)))
    for seed, taking_part in zip(seeds, halved(len(candidates), len(seeds)), strict=True):
        left = left[:taking_part]
        for i, value in zip(
            left, measure([with_seed(candidates[i], seed) for i in left]), strict=True
        ):
            values[i].append(value)
        left.sort(key=lambda i: fmean(values[i]), reverse=largest)
    return values


def best_of(values: list[list[float]], largest: bool) -> int:
    """Which has the best mean of those that were there to the end."""
    sign = 1 if largest else -1
    return max(range(len(values)), key=lambda i: (len(values[i]), sign * fmean(values[i])))


def print_choice(
    entrants: Entrants,
    seeds: Sequence[int],
    candidates: list[Cell],
    values: list[list[float]],
    chosen: Cell,
) -> None:
    """What each candidate reached over its seeds, the chosen one marked."""
    console, metric = entrants.work.console, entrants.metric
    console.print(f"\nchosen by {metric} over seeds {', '.join(map(str, seeds))}:")
    for cell, cell_values in zip(candidates, values, strict=True):
        mean, over = results.scaled(metric, fmean(cell_values)), counted(len(cell_values), "seed")
        console.print(f"{'*' if cell is chosen else ' '} {mean} ({over}): {cell.label}")


def same_but_seed(first: Cell, second: Cell) -> bool:
    """Whether two cells differ in nothing but the seed."""
    return with_seed(first, 0).config.identity("") == with_seed(second, 0).config.identity("")


def with_seed(cell: Cell, seed: int) -> Cell:
    """The cell with another seed."""
    training = cell.config.training.model_copy(update={"seed": seed})
    return replace(cell, seed=seed, config=cell.config.model_copy(update={"training": training}))
