"""What the runs of a row measured for a column, and how sure it is."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vididi.analysis.bootstrap import Interval, gain_interval, mean_interval
from vididi.analysis.paper import Column, Split
from vididi.analysis.reading import Measurement, Run, is_introduction
from vididi.analysis.video_groups import (
    FEWEST_GROUPS,
    MIN_GROUPS,
    GroupNumbers,
    GroupsError,
    NoScoresError,
    VideoGroups,
    difference_over_groups,
)

THREE_SPLITS = (1, 2, 3)
MIN_SEEDS = 3  # for an interval over seeds alone


class Ways:
    """The ways in which a group of runs was evaluated, the most used first.

    They are numbered from 0 for each protocol and data set.

    Two evaluations are made in one way if they have the same videos and no setting has two values
    in them.
    """

    def __init__(self, runs: Iterable[Run], by: VideoGroups | None = None) -> None:
        self.by = by  # how test videos are put together, for intervals
        counts = Counter(
            (protocol, *_how_measured(m))
            for run in runs
            for m in run.measurements
            for protocol in _protocols(m)
        )
        videos: Counter[tuple[Any, ...]] = Counter()
        for (*split_key, checksum, _), count in counts.items():
            videos[*split_key, checksum] += count

        # Splits have different videos; the place of a checksum among those of its split says which
        # belong together.
        self._checksum_rank: dict[tuple[Any, ...], int] = {}
        for *split_key, checksum in sorted(videos, key=lambda key: -videos[key]):
            self._checksum_rank[*split_key, checksum] = sum(
                list(key[:-1]) == split_key for key in self._checksum_rank
            )

        self._ways: dict[tuple[str, str], list[tuple[int, dict[str, Any]]]] = {}
        self._number: dict[tuple[Any, ...], int] = {}
        for key in sorted(counts, key=lambda key: -counts[key]):
            self._add(*key)

    def _add(
        self, protocol: str, data: str, split: int | None, checksum: str, settings: str
    ) -> None:
        ways = self._ways.setdefault((protocol, data), [])
        rank, values = self._checksum_rank[protocol, data, split, checksum], json.loads(settings)
        same = (
            i
            for i, (other_rank, other_values) in enumerate(ways)
            if other_rank == rank and all(other_values.get(k, v) == v for k, v in values.items())
        )
        number = next(same, len(ways))
        if number == len(ways):
            ways.append((rank, {}))
        ways[number][1].update(values)
        self._number[protocol, data, split, checksum, settings] = number

    def join(self, runs: Iterable[Run]) -> None:
        """Number the ways of further runs, too; those that there are keep theirs.

        What was measured as one of them counts there, else it is a way of its own.
        """
        for run in runs:
            for m in run.measurements:
                for protocol in _protocols(m):
                    key = (protocol, *_how_measured(m))
                    if key not in self._number:
                        known = sum(of[:-1] == key[:3] for of in self._checksum_rank)
                        self._checksum_rank.setdefault(key[:-1], known)
                        self._add(*key)

    def number(self, measurement: Measurement, metric: str) -> int:
        """The number of the way in which a metric of a measurement was measured."""
        return self._number[(_protocol(metric), *_how_measured(measurement))]

    def describe(self) -> Iterator[tuple[str, str, int, str]]:
        """Protocol, data set, number and words for each way.

        Beyond the first way the words are what sets it apart. What came later and is as it always
        was is no word of the first.
        """
        for (protocol, data), ways in self._ways.items():
            first_rank, first = ways[0]
            for number, (rank, values) in enumerate(ways):
                differing = {
                    key: value
                    for key, value in values.items()
                    if (first.get(key) != value if number else not is_introduction(key, value))
                }
                words = [f"{key} {value}" for key, value in sorted(differing.items())] + [
                    "other videos"
                ] * (rank != first_rank)
                yield protocol, data, number, ", ".join(words)


def _protocol(metric: str) -> str:
    return metric.partition("/")[0]


def _protocols(measurement: Measurement) -> list[str]:
    """The protocols of a measurement, each once, in the order of its metrics.

    The order of a set would be another one in each process.
    """
    return list(
        dict.fromkeys(
            _protocol(metric) for metric in (*measurement.metrics, *measurement.untrained)
        )
    )


def _how_measured(m: Measurement) -> tuple[str, int | None, str, str]:
    return m.data, m.split, m.checksum, json.dumps(m.settings, sort_keys=True)


@dataclass(frozen=True)
class Sample:
    """One metric of one run on one split.

    With the video ids and scores of its queries where they are known, and the group of each where
    it is asked for and known.
    """

    value: float
    queries: tuple[NDArray[Any], NDArray[np.float64]] | None
    groups: GroupNumbers | None = None


@dataclass(frozen=True)
class Samples:
    """For each split, one sample of each seed, in the seeds' order.

    ``by``: how test videos are put together; None: each is for itself.
    """

    seeds: list[int]
    splits: dict[Split, list[Sample]]
    by: VideoGroups | None = None

    @property
    def values(self) -> list[float]:
        """One for each seed, the mean over splits."""
        return [
            statistics.mean(part[i].value for part in self.splits.values())
            for i in range(len(self.seeds))
        ]

    @property
    def mean(self) -> float:
        """Over seeds and splits."""
        return statistics.mean(self.values)

    def of(self, splits: Iterable[Split]) -> Samples:
        """The samples of some of the splits."""
        return Samples(self.seeds, {split: self.splits[split] for split in splits}, self.by)

    def scores(self) -> list[NDArray[np.float64]] | None:
        """``[S, Q]`` for each split, if all seeds were asked the same queries."""
        parts = []
        for samples in self.splits.values():
            queries = [sample.queries for sample in samples]
            if any(q is None or not np.array_equal(q[0], queries[0][0]) for q in queries):  # type: ignore[index]
                return None
            parts.append(np.stack([q[1] for q in queries]))  # type: ignore[index]
        return parts

    def groups(self, fewest: int = MIN_GROUPS) -> list[GroupNumbers] | None:
        """The group of each query of each split; only where there are scores.

        Raises:
            GroupsError: they are not known, or fewer than ``fewest``.
        """
        if self.by is None:
            return None
        return [self.by.checked(samples[0].groups, fewest) for samples in self.splits.values()]

    def videos(self) -> list[NDArray[Any]]:
        """The queries of each split; only where there are scores."""
        return [samples[0].queries[0] for samples in self.splits.values()]  # type: ignore[index]


def collect(
    runs: Iterable[Run], column: Column, split: Split, way: int, ways: Ways
) -> Samples | None:
    """What ``runs`` measured for a column, or None.

    Of a mean over splits, those that all of the runs have count; where there is none, the one that
    most runs have.
    """
    requested: tuple[Split, ...] = THREE_SPLITS if split == "mean" else (split,)
    measured: list[tuple[Run, dict[Split, Sample]]] = []
    for run in sorted(runs, key=lambda run: run.seed):
        samples = {s: sample for s in requested if (sample := _sample(run, column, s, way, ways))}
        if samples:
            measured.append((run, samples))
    if not measured:
        return None
    counts = Counter(s for _, samples in measured for s in samples)
    splits = [s for s, count in counts.items() if count == len(measured)] or [
        max(counts, key=lambda s: counts[s])
    ]
    complete = [(run, samples) for run, samples in measured if splits[0] in samples]
    return Samples(
        [run.seed for run, _ in complete],
        {s: [samples[s] for _, samples in complete] for s in splits},
        ways.by,
    )


def _sample(run: Run, column: Column, split: Split, way: int, ways: Ways) -> Sample | None:
    metric = column.metric
    assert metric is not None
    data, split = (run.data, run.split) if column.data is None else (column.data, split)
    for m in run.measurements:
        fits = m.data == data and (split is None or m.split == split)
        if fits and (value := m.value(metric)) is not None and ways.number(m, metric) == way:
            return Sample(value, m.scores(metric), None if ways.by is None else ways.by.of(m))
    return None


def interval(samples: Samples) -> Interval | None:
    """The 95% interval of a mean, over queries and, where there are several, seeds.

    Without queries it is over three seeds or more. There is none by groups that are not known.
    """
    scores = samples.scores()
    if scores is not None:
        try:
            low, high = mean_interval(scores, groups=samples.groups())
        except GroupsError:
            return None
        return max(low, 0.0), min(high, 1.0)
    return (
        mean_interval([np.array(samples.values)[:, None]])
        if len(samples.seeds) >= MIN_SEEDS
        else None
    )


@dataclass(frozen=True)
class Gain:
    """A difference to the baseline; ``seeds`` is how many the arm with the fewer has."""

    value: float
    interval: Interval | None
    seeds: int

    @property
    def beyond_noise(self) -> str:
        """Whether its interval excludes 0, in words."""
        if self.interval is None:
            return ""
        low, high = self.interval
        if low <= 0 <= high:
            return "no"
        return "yes" if self.seeds > 1 else "yes, of one seed"


def gain(ours: Samples | None, base: Samples | None) -> Gain | None:
    """What ``ours`` has over ``base``, on the splits that both have.

    Seeds are taken in pairs where both have the same ones.
    """
    if ours is None or base is None or not (splits := [s for s in ours.splits if s in base.splits]):
        return None
    ours, base = ours.of(splits), base.of(splits)
    same = ours.seeds == base.seeds
    seeds = min(len(ours.seeds), len(base.seeds))
    a, b = ours.scores(), base.scores()
    ends = None
    if a is not None and b is not None:
        if all(np.array_equal(x, y) for x, y in zip(ours.videos(), base.videos(), strict=True)):
            with suppress(GroupsError):
                ends = _paired_ends(a, b, same, ours)
    elif seeds >= MIN_SEEDS:
        ends = gain_interval(
            [np.array(ours.values)[:, None]], [np.array(base.values)[:, None]], same_seeds=same
        )
    return Gain(ours.mean - base.mean, ends, seeds)


def _paired_ends(
    a: list[NDArray[np.float64]], b: list[NDArray[np.float64]], same_seeds: bool, ours: Samples
) -> Interval:
    """The interval of a difference over the same queries; of few groups by Student's t."""
    groups = ours.groups(FEWEST_GROUPS)
    if groups is None or len(groups) > 1 or len(np.unique(groups[0])) >= MIN_GROUPS:
        return gain_interval(a, b, same_seeds=same_seeds, groups=ours.groups())
    return difference_over_groups(a[0].mean(axis=0) - b[0].mean(axis=0), groups[0])


def by_group_in_words(samples: Samples, metric: str, runs: Iterable[Run]) -> str:
    """What to say of intervals by groups of test videos; nothing where they are not by groups.

    Raises:
        GroupsError: there is no score of each video, or the groups are not known, or few.
    """
    if samples.by is None:
        return ""
    if samples.scores() is None:
        raise NoScoresError(f"--by-group: there is no score of each video for {metric}")
    samples.groups(FEWEST_GROUPS if len(samples.splits) == 1 else MIN_GROUPS)
    return samples.by.describe(runs)
