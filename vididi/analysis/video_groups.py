"""Test videos that are not independent, such as clips of one long video, as groups that the
bootstrap draws whole (the cluster bootstrap: Field and Welsh, Journal of the Royal Statistical
Society B 69, 2007; Cameron, Gelbach and Miller, Review of Economics and Statistics 90, 2008).

A group is named by

    a column       of queries.parquet: ``scene`` (of GRID, the word beside the one that is read)
    ``ucf101``     the long video that a clip of UCF101 was cut from: CLASS and gNN of its name
    a pattern      a regular expression with one pair of parentheses, searched in the video's id;
                   the group is what the parentheses match

With few groups such intervals are too narrow, as every resample repeats some of them: of groups
that are all alike, ten hold the truth in 90 of 100 cases instead of 95, fifty in 94. What is few is
"from less than 20 to less than 50" (Cameron and Miller, Journal of Human Resources 50, 2015). Of
fewer than ten, the difference of two arms has Student's t interval over the groups' differences,
with one degree of freedom less than there are groups (Donald and Lang, Review of Economics and
Statistics 89, 2007); it is about these seeds and other groups.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vididi.analysis.reading import Measurement, Run
from vididi.errors import ConfigError
from vididi.runs.readers import needed, read_table
from vididi.words import counted

MIN_GROUPS = 10  # fewer are not drawn
FEWEST_GROUPS = 3  # that a difference's t interval takes
FEW_GROUPS = 50  # fewer are warned of
FILES_CACHED = 1024
PATTERNS = {"ucf101": r"(v_.+_g\d+)_c\d+"}
BY_GROUP_HELP = (
    "intervals over test videos draw whole groups: scene, or another column of queries.parquet;"
    " ucf101, the long video a clip was cut from; or a pattern of video ids with one (group)"
)
GroupNumbers = NDArray[np.int64]


class GroupsError(ValueError):
    """Test videos have no groups, or too few."""


class NoScoresError(GroupsError):
    """A metric is measured of whole runs, and of no single video."""


@dataclass(frozen=True)
class VideoGroups:
    """How test videos are put together.

    Attributes:
        name: of the grouping, as a user writes it. pattern: of video ids; None for a column.
    """

    name: str
    pattern: re.Pattern[str] | None

    @classmethod
    def named(cls, name: str) -> VideoGroups:
        """Of a name as above.

        Raises:
            ConfigError: a pattern is not valid, or has not one pair of parentheses.
        """
        text = PATTERNS.get(name, name)
        if re.fullmatch(r"\w+", text):
            return cls(name, None)
        try:
            pattern = re.compile(text)
        except re.error as error:
            raise ConfigError(f"--by-group: {name!r} is no pattern: {error}") from None
        if pattern.groups != 1:
            raise ConfigError(
                f"--by-group: {name!r} has {counted(pattern.groups, 'pair')} of parentheses; a"
                f" pattern has one. Else it is a column of queries.parquet, such as scene, or"
                f" {', '.join(PATTERNS)}"
            )
        return cls(name, pattern)

    def of(self, m: Measurement) -> GroupNumbers | None:
        """The group of each query ``[Q]``, in the order of the sorted video ids, numbered in that
        order; None where there are no queries or it is not known.
        """
        if m.queries is None:
            return None
        return _of_file(m.queries, m.queries.stat().st_mtime_ns, self)

    def checked(self, groups: GroupNumbers | None, fewest: int = MIN_GROUPS) -> GroupNumbers:
        """Groups as ``of`` gives them, where they are needed.

        Raises:
            GroupsError: they are not known, or fewer than ``fewest``.
        """
        if groups is None:
            raise GroupsError(
                f"--by-group: {self.name!r} is not known of all test videos; {self.advice}"
            )
        if (count := len(np.unique(groups))) < fewest:
            raise GroupsError(
                f"--by-group: there {'is' if count == 1 else 'are'} {counted(count, 'group')} of"
                f" {self.name}; an interval by group takes {fewest} or more"
                + ("" if fewest == FEWEST_GROUPS else f", that of two arms {FEWEST_GROUPS}")
            )
        return groups

    @property
    def advice(self) -> str:
        """How groups that are not known could be."""
        if self.pattern is not None:
            return "the pattern must be found in the id of every test video"
        return (
            "queries.parquet has no such column of every test video (scene is there where the data"
            " have scenes; earlier versions did not write it)"
        )

    def describe(self, runs: Iterable[Run]) -> str:
        """What to say of the intervals of runs: by what, of how many groups, and that they are
        few.
        """
        counts: dict[str, tuple[int, int]] = {}
        for m in (m for run in runs for m in run.measurements):
            if (groups := self.of(m)) is not None:
                where = m.data if m.split is None else f"{m.data} split {m.split}"
                counts[where] = (len(np.unique(groups)), len(groups))
        parts = [
            f"{counted(groups, 'group')} of {counted(videos, 'video')} on {where}{_few(groups)}"
            for where, (groups, videos) in counts.items()
        ]
        found = "; ".join(parts) or f"none is known; {self.advice}"
        return f"intervals over test videos are by group ({self.name}): {found}"


@lru_cache(maxsize=FILES_CACHED)
def _of_file(path: Path, changed: int, by: VideoGroups) -> GroupNumbers | None:
    """The groups of a queries.parquet; ``changed`` is part of the cache's key."""
    table = needed(path, read_table(path, ("video_id",)))
    videos = np.asarray(table["video_id"].to_pylist(), dtype=str)
    if by.pattern is None:
        if by.name not in table.column_names or table[by.name].null_count:
            return None
        groups = [str(value) for value in table[by.name].to_pylist()]
    else:
        found = [by.pattern.search(video) for video in videos]
        groups = [match[1] or "" for match in found if match]
        if len(groups) < len(found):
            return None
    return numbered(np.array(groups, dtype=str)[np.argsort(videos)])


def _few(groups: int) -> str:
    if groups < FEWEST_GROUPS:
        return f", fewer than {FEWEST_GROUPS}, so there is no interval"
    if groups < MIN_GROUPS:
        return (
            f", fewer than {MIN_GROUPS}, so a mean has no interval, and a difference has Student's"
            " t over its groups, which is about these seeds"
        )
    return ", which is few, so intervals are too narrow" if groups < FEW_GROUPS else ""


def difference_over_groups(
    differences: NDArray[np.float64], groups: GroupNumbers
) -> tuple[float, float]:
    """The 95% interval of a mean difference by Student's t over groups of queries.

    Args:
        differences: of each query ``[Q]``. groups: of each query ``[Q]``, at least two.
    """
    from scipy.stats import t

    counts = np.bincount(groups)
    count, mean = len(counts), differences.mean()
    # Of a mean over all queries, in which a large group counts for more.
    residuals = (np.bincount(groups, differences) - counts * mean) / counts.mean()
    error = np.sqrt((residuals**2).sum() / (count * (count - 1)))
    half = float(t.ppf(0.975, count - 1) * error)
    return float(mean) - half, float(mean) + half


def numbered(groups: NDArray) -> GroupNumbers:
    """Groups as numbers from 0, in the order in which they come."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    place = np.empty(len(first), np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    return place[inverse]
