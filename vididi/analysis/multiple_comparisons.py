"""Several comparisons that are made together: p-values by Holm (Scandinavian Journal of Statistics
6, 1979) and simultaneous intervals by the bootstrap of the largest t (Westfall and Young,
Resampling-Based Multiple Testing, 1993; Romano and Wolf, Econometrica 73, 2005).

Scores are as in vididi/analysis/bootstrap.py: ``[S, Q]`` for each split, the same seeds and queries
in all arms. A difference is an arm's score minus the reference's, seed by seed and query by query.

With few seeds the quantile of a normal variable is too small. Each interval is therefore as wide as
Student's t of as many degrees of freedom as its difference has (Satterthwaite, Biometrics Bulletin
2, 1946): few where seeds differ, many where only queries do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from vididi.analysis.bootstrap import (
    LEVEL,
    REPLICATES,
    Floats,
    Groups,
    Interval,
    checked_scores,
    replicates_of_all,
)


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values: those up to a level are rejected with at most that chance of one false
    rejection, however the tests depend on each other.

    Raises:
        ValueError: a p-value is not in [0, 1].
    """
    values = np.asarray(p, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p: {list(p)} are not all in [0, 1]")
    order = np.argsort(values, kind="stable")
    scaled = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return adjusted.tolist()


def simultaneous_intervals(
    arms: Sequence[Sequence[ArrayLike]],
    reference: Sequence[ArrayLike],
    *,
    level: float = LEVEL,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> list[Interval]:
    """Intervals of each arm's mean minus the reference's, which hold all true differences at once
    with probability ``level``.

    Args:
        arms: for each arm, one ``[S, Q]`` array for each split, as the reference has them.
        seed: of the resampling; the same scores always give the same intervals.

    Raises:
        ValueError: the arrays do not fit each other or are empty, or there is one seed only.
    """
    base = checked_scores(reference)
    differences = [_difference(checked_scores(arm), base) for arm in arms]
    return intervals_of_differences(differences, level=level, replicates=replicates, seed=seed)


def intervals_of_differences(
    differences: Sequence[Sequence[ArrayLike]],
    *,
    groups: Groups = None,
    level: float = LEVEL,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> list[Interval]:
    """As ``simultaneous_intervals``, of differences ``[S, Q]`` that need not be to one arm.

    ``groups``: of queries, for each split; drawn whole (vididi/analysis/bootstrap.py).

    Raises:
        ValueError: as there.
    """
    parts = [checked_scores(difference) for difference in differences]
    if len(parts[0][0]) < 2:
        raise ValueError("seeds: simultaneous intervals need two seeds or more")
    drawn = replicates_of_all(parts, replicates, seed, groups)
    estimates = np.array([_mean(difference) for difference in parts])
    errors = drawn.std(axis=1, ddof=1)
    certain = errors <= 1e-12  # all scores differ by the same
    t = np.abs(drawn - estimates[:, None]) / np.where(certain, np.inf, errors)[:, None]
    widest = float(np.quantile(t.max(axis=0), level))
    half = [
        error * _student(widest, freedom(difference, groups))
        for error, difference in zip(errors, parts, strict=True)
    ]
    return [(float(mean - h), float(mean + h)) for mean, h in zip(estimates, half, strict=True)]


def freedom(difference: Sequence[Floats], groups: Groups = None) -> float:
    """Degrees of freedom of the mean of ``[S, Q]`` differences over seeds and queries, or groups of
    queries, which are crossed.
    """
    by_seed = np.mean([part.mean(axis=1) for part in difference], axis=0)
    parts = [(by_seed.var(ddof=1) / len(by_seed), len(by_seed) - 1)]
    for i, part in enumerate(difference):
        of_query = part.mean(axis=0)
        # What each group adds to the deviation of the mean; a query alone is a group of one.
        rest = of_query - of_query.mean()
        added = rest if groups is None else np.bincount(groups[i], weights=rest)
        count = len(added)
        if count > 1:
            variance = (added**2).sum() * count / (count - 1) / part.shape[1] ** 2
            parts.append((variance / len(difference) ** 2, count - 1))
    total = sum(variance for variance, _ in parts)
    if total <= 0:
        return np.inf
    return total**2 / sum(variance**2 / count for variance, count in parts)


def _student(z: float, degrees: float) -> float:
    """Student's quantile at the probability that a normal variable has at ``z``."""
    if not np.isfinite(degrees):
        return z
    from scipy.stats import norm, t

    return float(t.isf(norm.sf(z), degrees))


def _difference(arm: list[Floats], base: list[Floats]) -> list[Floats]:
    if [part.shape for part in arm] != [part.shape for part in base]:
        raise ValueError("scores: all arms need the same seeds and the same queries")
    return [a - b for a, b in zip(arm, base, strict=True)]


def _mean(difference: Sequence[Floats]) -> float:
    return float(np.mean([part.mean() for part in difference]))
