"""Confidence intervals by the bootstrap.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993.

Scores are arrays ``[S, Q]``: S seeds, Q queries (test videos), 0 or 1 for each. All seeds are asked
the same queries, so seeds and queries are crossed: a replicate draws S seeds and Q queries with
replacement, independently of each other, and every seed drawn is asked the same queries (the
pigeonhole bootstrap: Owen, Annals of Applied Statistics 1, 2007). Were the queries drawn anew for
each seed, as in nested designs, more seeds would seem to make up for few test videos. A metric
without queries is ``[S, 1]``, one value for each seed. A metric that is a mean over splits has one
array for each split; the seeds drawn are the same in all of them, the queries are each split's own.

Queries that are not independent are given as groups, which are drawn whole: as many groups as there
are, and of what was drawn the mean over all its queries. A group for each query is then the same as
no groups.

Intervals are percentile intervals (Efron and Tibshirani, chapter 13). With few seeds the
percentiles are too narrow, because a resample of S values varies by (S - 1) / S of what S values
do; deviations of seeds from their mean are therefore taken sqrt(S / (S - 1)) times (on the
narrowness bias: Hesterberg, The American Statistician 69, 2015). It stays an interval from few
seeds: docs/tables.md says how far it can be trusted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

REPLICATES = 2000
LEVEL = 0.95
_MAX_DRAWS = 4_000_000  # in memory at once
Floats = NDArray[np.float64]
Interval = tuple[float, float]
# For each split the group of each query ``[Q]``, numbers from 0; None: every query for itself.
Groups = Sequence[NDArray[np.int64]] | None


def mean_interval(
    splits: Sequence[ArrayLike],
    *,
    groups: Groups = None,
    level: float = LEVEL,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Interval:
    """The interval of a mean over seeds and queries (and splits).

    Args:
        splits: one ``[S, Q]`` array for each split; a single one for what has no splits.
        groups: of queries, for each split.
        level: share of intervals that should hold the true value.
        seed: of the resampling; the same scores always give the same interval.

    Raises:
        ValueError: the arrays do not fit each other or are empty.
    """
    scores = checked_scores(splits)
    drawn = [
        _replicate_means(
            scores,
            _seed_weights(rng, count, len(scores[0])),
            _query_weights(rng, count, scores, groups),
        )
        for rng, count in _chunks(scores, replicates, seed)
    ]
    return _percentiles(drawn, level)


def gain_interval(
    ours: Sequence[ArrayLike],
    base: Sequence[ArrayLike],
    *,
    same_seeds: bool,
    groups: Groups = None,
    level: float = LEVEL,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Interval:
    """The interval of the mean of ``ours`` minus the mean of ``base`` (the paired bootstrap).

    Both arms are asked the same queries of every replicate. What makes a video hard for both then
    cancels, as in a paired test.

    Args:
        ours, base: as in mean_interval; the columns of a split are the same queries, in the same
            order, in both arms.
        groups: of queries, for each split; of both arms.
        same_seeds: row s of both arms is the same seed, so that seeds are drawn in pairs; otherwise
            independently.

    Raises:
        ValueError: the arrays do not fit each other or are empty.
    """
    a, b = checked_scores(ours), checked_scores(base)
    if [x.shape[1] for x in a] != [x.shape[1] for x in b]:
        raise ValueError("queries: a gain is over the same queries in both arms")
    if same_seeds and len(a[0]) != len(b[0]):
        raise ValueError(f"seeds: {len(a[0])} and {len(b[0])} cannot be drawn in pairs")
    drawn = []
    for rng, count in _chunks(a, replicates, seed):
        queries = _query_weights(rng, count, a, groups)
        seeds_a = _seed_weights(rng, count, len(a[0]))
        seeds_b = seeds_a if same_seeds else _seed_weights(rng, count, len(b[0]))
        drawn.append(_replicate_means(a, seeds_a, queries) - _replicate_means(b, seeds_b, queries))
    return _percentiles(drawn, level)


def checked_scores(splits: Sequence[ArrayLike]) -> list[Floats]:
    """One ``[S, Q]`` array of floats for each split; ValueError if they do not fit each other."""
    scores = [np.asarray(part, dtype=np.float64) for part in splits]
    if not scores or any(part.ndim != 2 or part.size == 0 for part in scores):
        raise ValueError("scores: each split needs an array [S, Q] that is not empty")
    if len({len(part) for part in scores}) > 1:
        raise ValueError("scores: all splits need the same seeds")
    return scores


def _draw_replicates(
    scores: list[Floats], replicates: int, seed: int, groups: Groups
) -> Iterator[tuple[Floats, list[Floats]]]:
    """Weights of seeds ``[n, S]`` and, for each split, of queries ``[n, Q]``, some at a time."""
    for rng, count in _chunks(scores, replicates, seed):
        queries = _query_weights(rng, count, scores, groups)
        yield _seed_weights(rng, count, len(scores[0])), queries


def replicates_of_all(
    arms: Sequence[list[Floats]], replicates: int, seed: int, groups: Groups = None
) -> Floats:
    """The means of all replicates ``[arms, replicates]``; each draws the same seeds and queries for
    every arm.

    Raises:
        ValueError: the arms do not have the same seeds and queries.
    """
    if len({tuple(part.shape for part in arm) for arm in arms}) > 1:
        raise ValueError("scores: all arms need the same seeds and the same queries")
    drawn = [
        np.stack([_replicate_means(arm, seeds, queries) for arm in arms])
        for seeds, queries in _draw_replicates(arms[0], replicates, seed, groups)
    ]
    return np.concatenate(drawn, axis=1)


def _chunks(
    scores: list[Floats], replicates: int, seed: int
) -> Iterator[tuple[np.random.Generator, int]]:
    """The generator, and how many replicates to draw at a time."""
    rng = np.random.default_rng(seed)
    size = max(1, _MAX_DRAWS // max(part.shape[1] for part in scores))
    for start in range(0, replicates, size):
        yield rng, min(size, replicates - start)


def _counts(rng: np.random.Generator, replicates: int, n: int) -> NDArray[np.int64]:
    """How often each of n is drawn in n draws with replacement: ``[replicates, n]``."""
    drawn = rng.integers(0, n, (replicates, n)) + n * np.arange(replicates)[:, None]
    return np.bincount(drawn.ravel(), minlength=replicates * n).reshape(replicates, n)


def _seed_weights(rng: np.random.Generator, replicates: int, seeds: int) -> Floats:
    """``[replicates, S]``, summing to 1.

    Deviations from 1 / S are stretched against the narrowness of few seeds.
    """
    stretch = np.sqrt(seeds / (seeds - 1)) if seeds > 1 else 1.0
    return (1 + stretch * (_counts(rng, replicates, seeds) - 1)) / seeds


def _query_weights(
    rng: np.random.Generator, replicates: int, scores: list[Floats], groups: Groups
) -> list[Floats]:
    """For each split ``[replicates, Q]``, summing to 1."""
    if groups is None:
        return [_counts(rng, replicates, part.shape[1]) / part.shape[1] for part in scores]
    weights = []
    for of_part in checked_groups(scores, groups):
        drawn = _counts(rng, replicates, int(of_part.max()) + 1)[:, of_part]
        weights.append(drawn / drawn.sum(axis=1, keepdims=True))
    return weights


def checked_groups(
    scores: Sequence[Floats], groups: Sequence[NDArray[np.int64]]
) -> list[NDArray[np.int64]]:
    """The groups of each split; ValueError if they are not numbers from 0 without a gap, one for
    each query.
    """
    if [part.shape[1] for part in scores] != [len(part) for part in groups]:
        raise ValueError("groups: each query of each split needs one")
    for part in groups:
        if not np.array_equal(np.unique(part), np.arange(part.max() + 1)):
            raise ValueError("groups: their numbers must go from 0 on without a gap")
    return list(groups)


def _replicate_means(scores: list[Floats], seeds: Floats, queries: list[Floats]) -> Floats:
    """The mean of every replicate: over seeds, queries and splits."""
    by_seed = np.mean(
        [weights @ part.T for part, weights in zip(scores, queries, strict=True)], axis=0
    )
    return (seeds * by_seed).sum(axis=1)


def _percentiles(drawn: list[Floats], level: float) -> Interval:
    low, high = np.quantile(np.concatenate(drawn), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
