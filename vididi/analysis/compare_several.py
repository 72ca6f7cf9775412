"""One arm against several others at once: which differences stand when all are looked at together,
how many seeds would resolve one, and whether the arms come in a paper's order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from vididi.analysis.bootstrap import Interval
from vididi.analysis.grouping import check_one_arm
from vididi.analysis.multiple_comparisons import holm, intervals_of_differences
from vididi.analysis.paper import PaperTable
from vididi.analysis.power import Power, paired_p, power
from vididi.analysis.ranks import RankAgreement, rank_agreement
from vididi.analysis.reading import Run
from vididi.analysis.samples import Samples, Ways, by_group_in_words, collect
from vididi.analysis.table_rows import stands_in
from vididi.analysis.tables import column_of, unit
from vididi.analysis.video_groups import VideoGroups
from vididi.words import counted

Scores = list[NDArray[np.float64]]  # [S, Q] for each split


@dataclass(frozen=True)
class Difference:
    """An arm minus the reference.

    Attributes:
        mean: of the arm; value: the mean difference; interval: its simultaneous 95% interval.
        p: of the paired t-test over seeds, two-sided; adjusted: by Holm.
    """

    arm: str
    mean: float
    value: float
    interval: Interval
    p: float
    adjusted: float

    @property
    def stands(self) -> bool:
        """Whether 0 is outside the interval."""
        return not self.interval[0] <= 0 <= self.interval[1]


@dataclass(frozen=True)
class Family:
    """All differences to one arm, over the seeds that all arms have."""

    metric: str
    reference: str
    mean: float | None  # the reference's; None where each arm has one of its own
    seeds: list[int]
    differences: list[Difference]
    by_group: str = ""  # by which groups of test videos intervals are, in words

    def lines(self) -> list[str]:
        """What to print; shares are given in points of 100."""
        column = column_of(self.metric)
        rows = [
            [
                d.arm,
                column.scaled(d.mean),
                column.scaled(d.value, "+"),
                " to ".join(column.scaled(end, "+") for end in d.interval),
                f"{d.p:.2g}",
                f"{d.adjusted:.2g}",
                "yes" if d.stands else "no",
            ]
            for d in self.differences
        ]
        headers = ["arm", self.metric, "difference", "95%, all at once", "p", "p (Holm)", "stands"]
        text = tabulate(rows, headers, "github", disable_numparse=True)
        seeds = ", ".join(map(str, self.seeds))
        of_reference = "" if self.mean is None else f" ({column.scaled(self.mean)})"
        return [
            f"each arm less {self.reference}{of_reference}, over"
            f" {counted(len(self.seeds), 'seed')} that all have ({seeds})",
            "",
            text,
            "",
            "95%: the intervals hold all true differences at once in 95 of 100 sweeps (bootstrap of"
            " the largest t over seeds and videos). p: paired t-test over seeds, on these videos."
            " stands: 0 is outside the interval.",
            *([self.by_group] if self.by_group else []),
        ]


def compare_all(
    reference: Sequence[Run],
    arms: Mapping[str, Sequence[Run]],
    metric: str,
    name: str,
    by: VideoGroups | None = None,
) -> Family:
    """Each arm's difference to the reference.

    Args:
        reference: runs of one arm; arms: runs of each other arm by name. The seeds that all have
            count.
        by: how test videos are put together, which the bootstrap then draws together.

    Raises:
        ValueError: an arm has no runs or a seed twice, fewer than two seeds are shared, or an arm
            has not measured the metric as the others have.
    """
    samples, seeds = shared_samples({name: reference, **arms}, metric, by)
    pairs = {arm: (samples[arm], samples[name]) for arm in arms}
    by_group = by_group_in_words(samples[name], metric, reference)
    return Family(metric, name, samples[name].mean, seeds, _differences(pairs), by_group)


def compare_by_arm(
    first: Mapping[str, Sequence[Run]],
    second: Mapping[str, Sequence[Run]],
    metric: str,
    names: tuple[str, str],
    by: VideoGroups | None = None,
) -> Family:
    """Each arm of one sweep less the arm of the same name of another, all at once.

    Raises:
        ValueError: no arm is in both, or as ``compare_all``.
    """
    shared = [arm for arm in first if arm in second]
    if not shared:
        raise ValueError(f"arms: no arm is in {names[0]} and in {names[1]}")
    keyed = {("first", arm): first[arm] for arm in shared}
    keyed |= {("second", arm): second[arm] for arm in shared}
    labels = {f"{arm} of {names[side == 'second']}": key for key in keyed for side, arm in [key]}
    sets = {name: keyed[key] for name, key in labels.items()}
    samples, seeds = shared_samples(sets, metric, by)
    by_key = {key: samples[name] for name, key in labels.items()}
    pairs = {arm: (by_key["first", arm], by_key["second", arm]) for arm in shared}
    name = next(iter(sets))
    by_group = by_group_in_words(samples[name], metric, sets[name])
    other = f"the same arm of {names[1]}"
    return Family(metric, other, None, seeds, _differences(pairs), by_group)


def _differences(pairs: Mapping[str, tuple[Samples, Samples]]) -> list[Difference]:
    """Of each pair by name, with what they are worth together."""
    scores = [
        [a - b for a, b in zip(_scores(one), _scores(other), strict=True)]
        for one, other in pairs.values()
    ]
    one = next(iter(pairs.values()))[0]
    intervals = intervals_of_differences(scores, groups=one.groups() if one.scores() else None)
    p = [
        paired_p([a - b for a, b in zip(one.values, other.values, strict=True)])
        for one, other in pairs.values()
    ]
    return [
        Difference(arm, one.mean, one.mean - other.mean, interval, value, adjusted)
        for (arm, (one, other)), interval, value, adjusted in zip(
            pairs.items(), intervals, p, holm(p), strict=True
        )
    ]


def shared_samples(
    arms: Mapping[str, Sequence[Run]], metric: str, by: VideoGroups | None = None
) -> tuple[dict[str, Samples], list[int]]:
    """What each arm measured on the seeds that all of them have, and these seeds.

    Raises:
        ValueError: as ``compare_all``.
    """
    for arm, runs in arms.items():
        check_one_arm(arm, runs)
    seeds = sorted(set.intersection(*({run.seed for run in runs} for runs in arms.values())))
    if len(seeds) < 2:
        raise ValueError(
            f"seeds: {counted(len(seeds), 'seed')} that all of {', '.join(arms)} have; comparing"
            " several arms at once takes two or more"
        )
    chosen = {arm: [run for run in runs if run.seed in seeds] for arm, runs in arms.items()}
    ways, column = Ways((run for runs in chosen.values() for run in runs), by), column_of(metric)
    samples: dict[str, Samples] = {}
    for arm, runs in chosen.items():
        found = collect(runs, column, None, 0, ways)
        if found is None or len(found.seeds) < len(seeds):
            raise ValueError(f"{metric}: not measured in the same way by {arm}")
        samples[arm] = found
    _check_same_videos(samples, metric)
    return samples, seeds


def _check_same_videos(samples: Mapping[str, Samples], metric: str) -> None:
    """Raise ValueError where arms have scores of unlike videos, which cannot be paired."""
    asked = {arm: found.videos() for arm, found in samples.items() if found.scores()}
    for arm, videos in asked.items():
        first = next(iter(asked))
        if not all(map(np.array_equal, videos, asked[first])):
            raise ValueError(f"{metric}: {arm} was asked other videos than {first}")


def _scores(samples: Samples) -> Scores:
    """Of each query where they are known, else one value a seed."""
    return samples.scores() or [np.array(samples.values)[:, None]]


# --- How many seeds -------------------------------------------------------------------------------


def power_of(
    first: Sequence[Run], second: Sequence[Run], metric: str, difference: float
) -> tuple[Power, float]:
    """How many seeds resolve ``difference`` between two arms, and the hours that one seed of both
    took.

    Raises:
        ValueError: they share fewer than five seeds, or as ``compare_all``.
    """
    samples, seeds = shared_samples({"first": first, "second": second}, metric)
    a, b = (_scores(sample) for sample in samples.values())
    differences = [x - y for x, y in zip(a, b, strict=True)]
    runs = [run for run in (*first, *second) if run.seed in seeds]
    hours = sum(float(run.result.get("seconds", 0)) for run in runs) / 3600 / len(seeds)
    return power(differences, difference), hours


def power_lines(found: Power, hours: float, metric: str) -> list[str]:
    """What to print of it."""
    column, points = column_of(metric), unit(metric)

    def cost(seeds: int) -> str:
        return f"{counted(seeds, 'seed')} ({seeds * hours:.3g} hours of both arms)"

    lines = [
        f"to resolve {column.scaled(found.difference)}{points} (paired t-test over seeds on these"
        " videos, 5%, in 4 of 5 sweeps):",
        f"  {cost(found.seeds)}, by the deviation of {column.scaled(found.deviation)}{points} of"
        f" the difference over {found.measured_seeds} seeds",
        f"  {cost(found.seeds_at_most)} at its upper limit of confidence (95%)",
    ]
    if found.floor is None:
        return [*lines, "over other videos too: not known (no score of each video)"]
    resolved = "no number of seeds resolves it" if found.difference < found.floor else "it can be"
    return [
        *lines,
        f"over other videos too, no number of seeds resolves less than"
        f" {column.scaled(found.floor)}{points} on a test set of this size: {resolved}",
    ]


# --- A paper's order ------------------------------------------------------------------------------


def agreement(
    table: PaperTable,
    arms: Mapping[str, Sequence[Run]],
    metric: str,
    by: VideoGroups | None = None,
) -> RankAgreement:
    """The rank correlation of the arms' means with the paper's values of the rows that they are.

    Raises:
        ValueError: fewer than three of the arms are rows of the table with a value, or as
            ``compare_all``.
    """
    column = next((i for i, c in enumerate(table.columns) if c.metric == metric), None)
    if column is None:
        raise ValueError(f"{table.name}: has no column of {metric}")
    values: dict[str, float] = {}
    for arm, runs in arms.items():
        rows = [row for row in table.rows if runs and stands_in(runs[0], row, table)]
        if rows and rows[0].values[column] is not None:
            values[arm] = float(rows[0].values[column])  # type: ignore[arg-type]
    if len(values) < 3:
        raise ValueError(
            f"{table.name}: {counted(len(values), 'arm')} stand in it with a value of {metric}; an"
            " order takes three"
        )
    samples, _ = shared_samples({arm: arms[arm] for arm in values}, metric, by)
    one = next(iter(samples.values()))
    scores = [_scores(sample) for sample in samples.values()]
    groups = one.groups() if one.scores() else None
    return rank_agreement(scores, [*values.values()], groups=groups)


def agreement_line(table: PaperTable, found: RankAgreement) -> str:
    """What to print of it."""
    low, high = found.interval
    return (
        f"order of {table.name}: Spearman's rho {found.rho:+.2f}, 95% {low:+.2f} to {high:+.2f}"
        f" over seeds and videos, of {found.arms} arms and {counted(found.seeds, 'seed')}"
    )
