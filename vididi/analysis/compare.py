"""Two sets of runs, and how sure their difference is: ``python analysis/compare.py ARM_A ARM_B
--runs runs/ablation``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vididi.analysis.reading import (
    Run,
    each_cell_once,
    find_runs,
    notes_of,
    read_cell,
    read_finished,
    tell,
)
from vididi.analysis.samples import FEWEST_SEEDS, Gain, Samples, Ways, collect, gain
from vididi.analysis.tables import column_of, differences, protocol
from vididi.errors import DamagedError, VididiError
from vididi.runs.mirror import pulled
from vididi.terminal import Parser, say

R1 = "retrieval/R@1"


@dataclass(frozen=True)
class Comparison:
    """A metric of one set of runs minus that of another, over the seeds that both have, or over all
    where they share none.
    """

    metric: str
    first: str
    second: str
    means: tuple[float, float]
    gain: Gain
    seeds: list[int]  # that both have; they are compared in pairs
    # of the paired t-test over these seeds, two-sided; from three on, unless all differences are
    # the same
    p: float | None
    apart: str  # in what the configurations differ

    def above(self, bound: float) -> bool | None:
        """Whether the interval lies above ``bound``; None if there is no interval."""
        return None if self.gain.interval is None else self.gain.interval[0] > bound

    def lines(self, bound: float | None = None) -> list[str]:
        """What to print; shares are given in points of 100, other metrics as they are."""
        column, points = column_of(self.metric), unit(self.metric)
        a, b = map(column.scaled, self.means)
        over = (
            f"paired over seeds {', '.join(map(str, self.seeds))}"
            if self.seeds
            else "over seeds that are not the same"
        )
        lines = [
            f"{self.metric}: {self.first} {a}, {self.second} {b}, {over}",
            f"difference {column.scaled(self.gain.value, '+')}{points}" + self._interval(),
        ]
        if self.p is not None:
            lines.append(f"paired t-test over the {len(self.seeds)} seeds: p = {self.p:.2g}")
        if bound is not None:
            said = {True: "yes", False: "no", None: "not known"}[self.above(bound)]
            lines.append(f"the 95% bound is above {column.scaled(bound, '+')}{points}: {said}")
        return [*lines, f"{self.first} differs in {self.apart}"] if self.apart else lines

    def _interval(self) -> str:
        if self.gain.interval is None:
            return ", no interval (neither the same queries nor three seeds)"
        low, high = (column_of(self.metric).scaled(end, "+") for end in self.gain.interval)
        return f", 95% {low} to {high}" + ("" if self.gain.seeds > 1 else " (of one seed)")


def unit(metric: str) -> str:
    """What follows a number of a metric as it is printed: points of 100 for a share, nothing for a
    silhouette.
    """
    return " points" if column_of(metric).scale == 100 else ""


def compare(
    first: Sequence[Run],
    second: Sequence[Run],
    metric: str = R1,
    names: tuple[str, str] = ("first", "second"),
) -> Comparison:
    """What ``first`` has over ``second``: the paired bootstrap over queries and seeds
    (analysis/bootstrap.py).

    Raises:
        ValueError: a set is empty, has a seed twice, or has not measured the metric as the other
            has.
    """
    for name, runs in zip(names, (first, second), strict=True):
        _check(name, runs)
    shared = sorted({run.seed for run in first} & {run.seed for run in second})
    if shared:
        first, second = ([run for run in runs if run.seed in shared] for runs in (first, second))
    ways, column = Ways([*first, *second]), column_of(metric)
    a, b = (collect(runs, column, None, 0, ways) for runs in (first, second))
    found = gain(a, b)
    if a is None or b is None or found is None:
        missing = [name for name, samples in zip(names, (a, b), strict=True) if samples is None]
        raise ValueError(
            f"{metric}: not measured in the same way by {' and '.join(missing or names)}"
        )
    apart = differences(protocol(second[0]), protocol(first[0]))
    return Comparison(
        metric, *names, (a.mean, b.mean), found, shared, _paired_t(a, b) if shared else None, apart
    )


def _paired_t(a: Samples, b: Samples) -> float | None:
    from scipy.stats import (
        ttest_rel,
    )  # half a second, which commands that compare nothing need not wait

    differences = (
        [x - y for x, y in zip(a.values, b.values, strict=True)] if a.seeds == b.seeds else []
    )
    if len(differences) < FEWEST_SEEDS or max(differences) - min(differences) < 1e-9:
        return None
    return float(ttest_rel(a.values, b.values).pvalue)


def _check(name: str, runs: Sequence[Run]) -> None:
    if not runs:
        raise ValueError(f"{name}: has no finished runs")
    seeds = [run.seed for run in runs]
    if len(set(seeds)) < len(seeds) or len({protocol(run) for run in runs}) > 1:
        raise ValueError(f"{name}: its runs differ in more than the seed; name one arm of them")


def best_arm(runs: Iterable[Run], metric: str = R1, largest: bool = True) -> list[Run]:
    """The runs of the arm with the best mean of a metric that the runs measured at their end; none
    if none has it.
    """
    arms: dict[str, list[Run]] = {}
    for run in runs:
        if run.measurements[0].metrics.get(metric) is not None:
            arms.setdefault(protocol(run), []).append(run)
    sign = 1 if largest else -1
    return max(
        arms.values(),
        key=lambda arm: sign * sum(run.measurements[0].metrics[metric] for run in arm) / len(arm),
        default=[],
    )


def named(name: str, cells: Mapping[Path, dict[str, Any]], place: str) -> list[Run]:
    """The finished runs of an arm, or else those in the folder that ``name`` is.

    Args:
        cells: the finished runs' folders in ``place``, and what each remembers of its cell. Only
            those of the arm are read further.

    Raises:
        ValueError: there are none.
    """
    # Folders come second: a checkout has one named vididi, as the arm is.
    found = [
        folder for folder, cell in cells.items() if name in (cell["arm"], cell["label"])
    ] or find_runs(pulled(name))
    if not found:
        arms = ", ".join(dict.fromkeys(cell["arm"] for cell in cells.values())) or "no finished run"
        raise ValueError(
            f"{name}: is neither an arm that has finished runs nor a folder of some; in {place}"
            f" (--runs) there is {arms}"
        )
    runs, copies = each_cell_once(read_finished(found))
    tell(f"left out: {line}" for line in copies)
    return runs


def read_cells(folders: Iterable[Path]) -> dict[Path, dict[str, Any]]:
    """What runs remember of their cells; where that is damaged, they are named and left out."""
    cells = {}
    for folder in folders:
        try:
            cells[folder] = read_cell(folder)
        except DamagedError as error:
            tell([f"left out: {error}"])
    return cells


def same_cells(first: Iterable[Run], second: Iterable[Run]) -> list[int]:
    """The seeds of runs of which both sets hold the cell: one may be a copy of the other."""
    known = {run.identity for run in second}
    return sorted(run.seed for run in first if run.identity in known)


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    """Exit status: 0 compared, 1 the bound is not above --above, 2 there is nothing to compare."""
    about = (
        "The difference between two sets of runs, with its paired bootstrap interval and, over"
        " seeds, the paired t-test."
    )
    parser = Parser(prog, description=about)
    parser.add_argument(
        "first",
        metavar="A",
        help="an arm's name or label under --runs, or a folder (s3://...) that holds its runs",
    )
    parser.add_argument("second", metavar="B", help="the same")
    parser.add_argument(
        "--runs",
        default="runs",
        metavar="URI",
        help="a folder (s3://...) where arms are looked for (default: runs)",
    )
    parser.add_argument("--metric", default=R1, help=f"of a result.json (default: {R1})")
    parser.add_argument(
        "--above",
        type=float,
        metavar="POINTS",
        help=(
            "also say whether the bound is above this, such as -3 (a silhouette's is a number such"
            " as -0.03)"
        ),
    )
    arguments = parser.parse_args(argv)
    bound = None if arguments.above is None else arguments.above / column_of(arguments.metric).scale
    try:
        cells = read_cells(find_runs(pulled(arguments.runs)))
        sets = [named(name, cells, arguments.runs) for name in (arguments.first, arguments.second)]
        found = compare(sets[0], sets[1], arguments.metric, (arguments.first, arguments.second))
    except (VididiError, ValueError) as error:
        say(f"error: {error}", file=sys.stderr)
        return 2
    say("\n".join([*found.lines(bound), *notes_of([*sets[0], *sets[1]])]))
    if twins := same_cells(*sets):
        seeds = ", ".join(map(str, twins))
        say(
            f"seeds {seeds}: {arguments.first} and {arguments.second} hold the same cell, which"
            " says nothing of a difference"
        )
    return 1 if bound is not None and not found.above(bound) else 0
