"""How many seeds resolve a difference, and looking at the seeds as they come.

Two questions are apart. *Over seeds on this test set*: would another training of both arms show the
difference on these videos? More seeds always answer it. *Over seeds and videos*: would it show on
other videos of the kind? These videos are a sample too, so there is a floor that no number of seeds
passes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vididi.analysis.bootstrap import Floats

FEWEST_SEEDS = 5  # from which a spread over seeds says anything
LEVEL = 0.05  # chance of a false difference
POWER = 0.8  # chance to find one that is there
CONFIDENCE = 0.95  # one-sided, of the spread
MIN_SPREAD = 1e-9  # of the seeds' differences; a t-test needs one
MOST_SEEDS = 100_000


@dataclass(frozen=True)
class Power:
    """What it takes to resolve a difference of ``difference`` between two arms.

    Attributes:
        deviation: of the arms' difference from seed to seed, both with the same seed.
        seeds: for a paired t-test over seeds to find the difference with a chance of 80%.
        seeds_at_most: the same with the deviation's upper limit of confidence (95%, one-sided).
        floor: the smallest difference that any number of seeds resolves over seeds and videos;
            None where scores of single queries are not known.
    """

    difference: float
    measured_seeds: int
    deviation: float
    seeds: int
    seeds_at_most: int
    floor: float | None


def power(differences: Sequence[Floats], difference: float) -> Power:
    """How many seeds resolve ``difference``, by the spread of those that there are.

    Args:
        differences: one arm minus the other, ``[S, Q]`` for each split, or ``[S, 1]``.

    Raises:
        ValueError: there are fewer than five seeds, or ``difference`` is not positive.
    """
    count = len(differences[0])
    if count < FEWEST_SEEDS:
        raise ValueError(
            f"seeds: {count} are too few to tell their spread; it takes {FEWEST_SEEDS} that both"
            " arms have"
        )
    if not 0 < difference < math.inf:
        raise ValueError(f"power: {difference} is not valid; it is a difference above 0")
    deviation = float(np.mean([part.mean(axis=1) for part in differences], axis=0).std(ddof=1))
    return Power(
        difference,
        count,
        deviation,
        seeds_needed(deviation / difference),
        seeds_needed(upper_limit(deviation, count) / difference),
        _floor(differences),
    )


def seeds_needed(deviation: float, level: float = LEVEL, chance: float = POWER) -> int:
    """Of a two-sided paired t-test that finds a mean difference of 1, where differences deviate by
    ``deviation``; at least 2, at most 100,000.
    """
    low, high = 2, 2
    while power_of_t(high, deviation, level) < chance:
        low, high = high, 2 * high
        if high > MOST_SEEDS:
            return MOST_SEEDS
    while low < high:
        middle = (low + high) // 2
        if power_of_t(middle, deviation, level) < chance:
            low = middle + 1
        else:
            high = middle
    return high


def power_of_t(seeds: int, deviation: float, level: float = LEVEL) -> float:
    """The chance that a two-sided paired t-test over ``seeds`` finds a mean difference of 1."""
    from scipy.stats import nct, t

    if deviation <= 0:
        return 1.0
    bound, shift = t.isf(level / 2, seeds - 1), math.sqrt(seeds) / deviation
    if shift > 37:  # beyond which nct underflows
        return 1.0
    return float(nct.sf(bound, seeds - 1, shift) + nct.cdf(-bound, seeds - 1, shift))


def upper_limit(deviation: float, seeds: int) -> float:
    """Of a normal deviation that ``seeds`` values show (chi-square)."""
    from scipy.stats import chi2

    return deviation * math.sqrt((seeds - 1) / chi2.isf(CONFIDENCE, seeds - 1))


def _floor(differences: Sequence[Floats]) -> float | None:
    """(z of the level + z of the power) standard errors of a mean over the queries alone, of scores
    that infinitely many seeds would have.
    """
    from scipy.stats import norm

    variance = 0.0
    for part in differences:
        seeds, queries = part.shape
        if queries < 2:
            return None
        # Two-way components of variance: what queries' means vary by, less what seeds leave there.
        rest = part - part.mean(axis=1, keepdims=True) - part.mean(axis=0) + part.mean()
        residual = (rest**2).sum() / (seeds - 1) / (queries - 1)
        between = max(0.0, part.mean(axis=0).var(ddof=1) - residual / seeds)
        variance += between / queries / len(differences) ** 2
    return float((norm.isf(LEVEL / 2) + norm.isf(1 - POWER)) * math.sqrt(variance))


# --- Looks ----------------------------------------------------------------------------------------


def error_of_look(seeds: int, most: int, looked: Sequence[tuple[int, float]]) -> float:
    """The level at which a look after ``seeds`` seeds tests all comparisons together, by Holm.

    Each look spends of what is left of 5% as large a part as it has new seeds among those to come
    up to ``most``. Levels of all looks add up to at most 5%, so that the chance of a false
    difference in any of them does too, however they depend on each other (Bonferroni).

    Args:
        looked: earlier looks, by how many seeds and at which level; they count whatever came of
            them.

    Raises:
        ValueError: ``seeds`` are no more than an earlier look had, or more than ``most``.
    """
    before = max((count for count, _ in looked), default=0)
    if not before < seeds <= most:
        raise ValueError(
            f"seeds: a look at {seeds} is not valid after one at {before}, of {most} at most"
        )
    left = LEVEL - sum(level for _, level in looked)
    return max(0.0, left) * (seeds - before) / (most - before)


def paired_p(differences: Sequence[float]) -> float:
    """Of the two-sided t-test that the mean of differences, one a seed, is 0; 1 where it cannot be
    said.
    """
    from scipy.special import stdtr

    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2 or np.ptp(values) < MIN_SPREAD:
        return 1.0
    t = values.mean() / values.std(ddof=1) * math.sqrt(len(values))
    return float(2 * stdtr(len(values) - 1, -abs(t)))
