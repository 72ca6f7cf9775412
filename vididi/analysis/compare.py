"""Two sets of runs, and how sure their difference is.

``python analysis/compare.py ARM_A ARM_B --runs runs/ablation``
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vididi.analysis.grouping import check_one_arm, differences, protocol
from vididi.analysis.power import MIN_SPREAD, paired_p
from vididi.analysis.reading import (
    Run,
    find_runs,
    notes_of,
    one_run_per_cell,
    print_to_stderr,
    read_cell_record,
    read_finished,
)
from vididi.analysis.samples import (
    MIN_SEEDS,
    Gain,
    Samples,
    Ways,
    by_group_in_words,
    collect,
    gain,
)
from vididi.analysis.tables import column_of, unit
from vididi.analysis.video_groups import BY_GROUP_HELP, FEWEST_GROUPS, VideoGroups
from vididi.errors import DamagedError, VididiError
from vididi.runs.mirror import pulled
from vididi.terminal import Parser, say, say_error

RECALL_AT_1 = "retrieval/R@1"


@dataclass(frozen=True)
class Comparison:
    """A metric of one set of runs minus that of another.

    Over the seeds that both have, or over all where they share none. ``configuration_differences``
    says in what the configurations differ.
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
    configuration_differences: str
    by_group: str = ""  # by which groups of test videos the interval is, in words
    group_gains: NDArray[np.float64] | None = None  # [G], of one split, where it is by groups

    def above(self, bound: float) -> bool | None:
        """Whether the interval lies above ``bound``; None if there is no interval."""
        return None if self.gain.interval is None else self.gain.interval[0] > bound

    def lines(self, bound: float | None = None) -> list[str]:
        """What to print; shares are given in points of 100, other metrics as they are."""
        column, points = column_of(self.metric), unit(self.metric)
        a, b = map(column.scaled, self.means)
        pairing = (
            f"paired over seeds {', '.join(map(str, self.seeds))}"
            if self.seeds
            else "over seeds that are not the same"
        )
        lines = [
            f"{self.metric}: {self.first} {a}, {self.second} {b}, {pairing}",
            f"difference {column.scaled(self.gain.value, '+')}{points}" + self._interval(),
        ]
        lines += [self.by_group] if self.by_group else []
        if self.p is not None:
            lines.append(f"paired t-test over the {len(self.seeds)} seeds: p = {self.p:.2g}")
        if bound is not None:
            answer = {True: "yes", False: "no", None: "not known"}[self.above(bound)]
            lines.append(f"the 95% bound is above {column.scaled(bound, '+')}{points}: {answer}")

        return (
            [*lines, f"{self.first} differs in {self.configuration_differences}"]
            if self.configuration_differences
            else lines
        )

    def _interval(self) -> str:
        if self.gain.interval is None:
            return ", no interval (neither the same queries nor three seeds)"
        low, high = (column_of(self.metric).scaled(end, "+") for end in self.gain.interval)
        return f", 95% {low} to {high}" + ("" if self.gain.seeds > 1 else " (of one seed)")


def _paired_samples(
    first: Sequence[Run], second: Sequence[Run], metric: str, by: VideoGroups | None
) -> tuple[list[int], Samples | None, Samples | None]:
    """The seeds that both sets of runs have, and what each measured, over these where there are."""
    shared = sorted({run.seed for run in first} & {run.seed for run in second})
    if shared:
        first, second = ([run for run in runs if run.seed in shared] for runs in (first, second))
    ways, column = Ways([*first, *second], by), column_of(metric)
    a, b = (collect(runs, column, None, 0, ways) for runs in (first, second))
    return shared, a, b


def _gains_of_groups(a: Samples, b: Samples) -> NDArray[np.float64] | None:
    """What ``a`` has over ``b`` in each group of test videos ``[G]``, of one split."""
    scores, other = a.scores(), b.scores()
    if a.by is None or scores is None or other is None or len(scores) != 1:
        return None
    groups = a.groups(FEWEST_GROUPS)
    assert groups is not None  # as there is a way to put videos together
    gains = scores[0].mean(axis=0) - other[0].mean(axis=0)
    return np.bincount(groups[0], gains).astype(np.float64) / np.bincount(groups[0])


def _measured_by_both(first: Sequence[Run], second: Sequence[Run]) -> str:
    """Which metrics runs of both sets have."""
    metrics = [
        {name for run in runs for measured in run.measurements for name in measured.metrics}
        for runs in (first, second)
    ]
    return f"--metric may be {', '.join(sorted(metrics[0] & metrics[1])) or 'none'}"


def compare(
    first: Sequence[Run],
    second: Sequence[Run],
    metric: str = RECALL_AT_1,
    names: tuple[str, str] = ("first", "second"),
    by: VideoGroups | None = None,
) -> Comparison:
    """What ``first`` has over ``second``, with the paired bootstrap of bootstrap.py.

    ``by``: how test videos are put together, which the bootstrap then draws together.

    Raises:
        ValueError: a set is empty, has a seed twice, or has not measured the metric as the other
            has; or its test videos have no such groups, or too few.
    """
    for name, runs in zip(names, (first, second), strict=True):
        check_one_arm(name, runs)

    shared, a, b = _paired_samples(first, second, metric, by)
    difference = gain(a, b)
    if a is None or b is None or difference is None:
        missing = [name for name, samples in zip(names, (a, b), strict=True) if samples is None]
        raise ValueError(
            f"{metric}: not measured in the same way by {' and '.join(missing or names)};"
            f" {_measured_by_both(first, second)}"
        )

    by_group = by_group_in_words(a, metric, first)
    configuration_differences = differences(protocol(second[0]), protocol(first[0]))
    return Comparison(
        metric,
        *names,
        (a.mean, b.mean),
        difference,
        shared,
        _paired_t(a, b) if shared else None,
        configuration_differences,
        by_group,
        _gains_of_groups(a, b),
    )


def _paired_t(a: Samples, b: Samples) -> float | None:
    differences = (
        [x - y for x, y in zip(a.values, b.values, strict=True)] if a.seeds == b.seeds else []
    )
    if len(differences) < MIN_SEEDS or max(differences) - min(differences) < MIN_SPREAD:
        return None
    return paired_p(differences)


def best_arm(runs: Iterable[Run], metric: str = RECALL_AT_1, largest: bool = True) -> list[Run]:
    """The runs of the arm with the best mean of a metric; none if no run has it.

    The metric is one that runs measured at their end.
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


def select_runs(name: str, cells: Mapping[Path, dict[str, Any]], root: str) -> list[Run]:
    """The finished runs of an arm, or else those in the folder that ``name`` is.

    Args:
        cells: the finished runs' folders in ``root``, and what each remembers of its cell. Only
            those of the arm are read further.

    Raises:
        ValueError: there are none.
    """
    # Folders come second: a checkout has one named vididi, as the arm is.
    folders = [
        folder for folder, cell in cells.items() if name in (cell["arm"], cell["label"])
    ] or find_runs(pulled(name))
    if not folders:
        arms = ", ".join(dict.fromkeys(cell["arm"] for cell in cells.values())) or "no finished run"
        raise ValueError(
            f"{name}: is neither an arm that has finished runs nor a folder of some; in {root}"
            f" (--runs) there is {arms}"
        )
    runs, copies = one_run_per_cell(read_finished(folders))
    print_to_stderr(f"left out: {line}" for line in copies)
    return runs


def read_cells(folders: Iterable[Path]) -> dict[Path, dict[str, Any]]:
    """What runs remember of their cells; where that is damaged, they are named and left out."""
    cells = {}
    for folder in folders:
        try:
            cells[folder] = read_cell_record(folder)
        except DamagedError as error:
            print_to_stderr([f"left out: {error}"])
    return cells


def seeds_of_shared_cells(first: Iterable[Run], second: Iterable[Run]) -> list[int]:
    """The seeds of runs of which both sets hold the cell: one may be a copy of the other."""
    second_cells = {run.identity for run in second}
    return sorted(run.seed for run in first if run.identity in second_cells)


def _parser(prog: str | None) -> Parser:
    about = (
        "The difference between two sets of runs, with its paired bootstrap interval and, over"
        " seeds, the paired t-test."
    )
    example = (
        "example: vididi compare vididi base --runs runs/clips\n"
        "         vididi compare base --runs runs/clips     every other arm with base"
    )
    parser = Parser(prog, description=about, epilog=example)
    parser.add_argument(
        "first",
        metavar="A",
        help="an arm's name or label under --runs, or a folder (s3://...) that holds its runs",
    )
    parser.add_argument(
        "others",
        metavar="B",
        nargs="*",
        help="the same; several, or without any all other arms, are compared with A all at once",
    )
    parser.add_argument(
        "--by-arm",
        action="store_true",
        help="A and B are folders: each arm of A with the arm of that name of B, all at once",
    )
    parser.add_argument(
        "--runs",
        default="runs",
        metavar="URI",
        help="a folder (s3://...) where arms are looked for (default: runs)",
    )
    parser.add_argument(
        "--metric", default=RECALL_AT_1, help=f"of a result.json (default: {RECALL_AT_1})"
    )
    parser.add_argument("--by-group", metavar="GROUP", help=BY_GROUP_HELP)
    _add_questions(parser)
    return parser


def _add_questions(parser: Parser) -> None:
    group = parser.add_argument_group("further questions")
    group.add_argument(
        "--above",
        type=float,
        metavar="POINTS",
        help=(
            "also say whether the bound is above this, such as -3 (a silhouette's is a number such"
            " as -0.03); of two arms"
        ),
    )
    group.add_argument(
        "--power",
        type=float,
        metavar="POINTS",
        help="how many seeds and hours would resolve this difference, by the seeds so far; of two"
        " arms",
    )
    group.add_argument(
        "--order",
        metavar="TABLE",
        help="also Spearman's rho with the order of a paper's table, such as vididi_table_6",
    )


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    """Exit status: 0 compared, 1 the bound is not above --above, 2 there is nothing to compare."""
    parser = _parser(prog)
    arguments = parser.parse_args(argv)
    try:
        if arguments.by_arm or len(arguments.others) != 1 or arguments.order:
            return _compare_several(arguments)
        return _compare_two(arguments)
    except (VididiError, ValueError) as error:
        say_error(error)
        return 2


def _compare_two(arguments: argparse.Namespace) -> int:
    column, names = column_of(arguments.metric), (arguments.first, arguments.others[0])
    bound = None if arguments.above is None else arguments.above / column.scale
    cells = read_cells(find_runs(pulled(arguments.runs)))
    first, second = (select_runs(name, cells, arguments.runs) for name in names)
    comparison = compare(first, second, arguments.metric, names, _by_group(arguments))
    lines = comparison.lines(bound)
    if arguments.power is not None:
        if arguments.by_group is not None:
            raise ValueError("--power: is over single test videos; ask for it without --by-group")
        from vididi.analysis.compare_several import power_lines, power_of

        found, hours = power_of(first, second, arguments.metric, arguments.power / column.scale)
        lines += power_lines(found, hours, arguments.metric)

    say("\n".join([*lines, *notes_of([*first, *second])]))
    if shared_seeds := seeds_of_shared_cells(first, second):
        seeds = ", ".join(map(str, shared_seeds))
        say(
            f"seeds {seeds}: {names[0]} and {names[1]} hold the same cell, which"
            " says nothing of a difference"
        )
    return 1 if bound is not None and not comparison.above(bound) else 0


def _compare_several(arguments: argparse.Namespace) -> int:
    from vididi.analysis import compare_several
    from vididi.analysis.paper import load_paper_table

    for option in ("above", "power"):
        if getattr(arguments, option) is not None:
            raise ValueError(f"--{option}: is of two arms; several are compared without it")
    if arguments.by_arm:
        if len(arguments.others) != 1 or arguments.order:
            raise ValueError("--by-arm: is of two folders, A and B, and of no paper's order")
        names = (arguments.first, arguments.others[0])
        first, second = (_arms_in(name) for name in names)
        by = _by_group(arguments)
        found = compare_several.compare_by_arm(first, second, arguments.metric, names, by)
        runs = [run for arms in (first, second) for arm in arms.values() for run in arm]
        say("\n".join([*found.lines(), *notes_of(runs)]))
        return 0

    cells = read_cells(find_runs(pulled(arguments.runs)))
    others = arguments.others or _other_arms(arguments.first, cells)
    reference = select_runs(arguments.first, cells, arguments.runs)
    arms = {name: select_runs(name, cells, arguments.runs) for name in others}
    by = _by_group(arguments)
    found = compare_several.compare_all(reference, arms, arguments.metric, arguments.first, by)
    lines = found.lines()
    if arguments.order:
        table = load_paper_table(arguments.order)
        every = {arguments.first: reference, **arms}
        agreement = compare_several.agreement(table, every, arguments.metric, by)
        lines.append(compare_several.agreement_line(table, agreement))
    say(
        "\n".join(
            [*lines, *notes_of([run for runs in (reference, *arms.values()) for run in runs])]
        )
    )
    return 0


def _by_group(arguments: argparse.Namespace) -> VideoGroups | None:
    return None if arguments.by_group is None else VideoGroups.named(arguments.by_group)


def _other_arms(first: str, cells: Mapping[Path, dict[str, Any]]) -> list[str]:
    """The arms of all runs but the one of that name or label."""
    return list(
        dict.fromkeys(
            cell["arm"] for cell in cells.values() if first not in (cell["arm"], cell["label"])
        )
    )


def _arms_in(folder: str) -> dict[str, list[Run]]:
    """The finished runs of each arm in a folder."""
    cells = read_cells(find_runs(pulled(folder)))
    if not cells:
        raise ValueError(f"{folder}: holds no finished run")
    arms = dict.fromkeys(cell["arm"] for cell in cells.values())
    return {arm: select_runs(arm, cells, folder) for arm in arms}
