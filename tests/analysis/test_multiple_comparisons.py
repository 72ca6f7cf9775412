"""Comparisons made together: Holm against its definition, and simultaneous intervals on sweeps
whose truth is known.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vididi.analysis.bootstrap import gain_interval
from vididi.analysis.multiple_comparisons import freedom, holm, simultaneous_intervals


def test_holm_by_hand() -> None:
    # 0.01 * 4; 0.02 * 3; 0.03 * 2, which is not below the one before; 0.2.
    assert holm([0.2, 0.01, 0.03, 0.02]) == pytest.approx([0.2, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(ValueError, match="not all in"):
        holm([0.1, float("nan")])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_holm_rejects_what_the_closed_test_of_bonferroni_does(p: list[float]) -> None:
    """A hypothesis is rejected if every set of hypotheses that it is in has a p-value below the
    level divided by the set's size.
    """
    closed = [
        max(
            min(1.0, len(others) * min(p[i] for i in others))
            for size in range(1, len(p) + 1)
            for others in itertools.combinations(range(len(p)), size)
            if k in others
        )
        for k in range(len(p))
    ]
    assert holm(p) == pytest.approx(closed)


def sweep(
    rng: np.random.Generator, arms: int, seeds: int, queries: int, gain: float = 0.0
) -> list[list[np.ndarray]]:
    """0 or 1 for each seed and query: queries are hard or easy for all, seeds are lucky by 3
    points, arms differ by query too; arm 1 is ``gain`` better.
    """
    hard = rng.normal(0, 0.15, (1, queries))
    return [
        [
            (
                rng.random((seeds, queries))
                < 0.4
                + hard
                + rng.normal(0, 0.03, (seeds, 1))
                + rng.normal(0, 0.05, (1, queries))
                + (gain if arm == 1 else 0)
            ).astype(float)
        ]
        for arm in range(arms)
    ]


def test_all_true_differences_are_held_at_once_in_95_of_100_sweeps() -> None:
    """400 sweeps of nine arms, five seeds and 100 queries; the binomial error is 1.1 points."""
    rng = np.random.default_rng(0)
    false = 0
    for _ in range(400):
        base, *arms = sweep(rng, 9, 5, 100)
        intervals = simultaneous_intervals(arms, base, replicates=300)
        false += any(low > 0 or high < 0 for low, high in intervals)
    assert false <= 400 * (0.05 + 3 * 0.011)


def test_a_difference_that_is_there_is_found() -> None:
    base, arm, *others = sweep(np.random.default_rng(1), 9, 10, 200, gain=0.25)
    (low, high), *rest = simultaneous_intervals([arm, *others], base)
    assert 0.1 < low < 0.25 < high < 0.4
    assert sum(low > 0 or high < 0 for low, high in rest) == 0


def test_one_comparison_is_about_the_paired_interval_and_eight_are_wider() -> None:
    base, *arms = sweep(np.random.default_rng(2), 9, 12, 200)
    (one,) = simultaneous_intervals(arms[:1], base)
    pair = gain_interval(arms[0], base, same_seeds=True)
    eight = simultaneous_intervals(arms, base)[0]
    assert one == pytest.approx(pair, abs=0.012)
    assert eight[1] - eight[0] > 1.2 * (one[1] - one[0])


def test_degrees_of_freedom_come_from_what_varies() -> None:
    rng = np.random.default_rng(3)
    seeds = np.repeat(rng.normal(size=(5, 1)), 200, axis=1)
    queries = np.repeat(rng.normal(size=(1, 200)), 5, axis=0)
    assert freedom([seeds]) == pytest.approx(4)
    assert freedom([queries]) == pytest.approx(199)
    assert 4 < freedom([0.1 * seeds + queries]) < 199
    assert freedom([np.zeros((5, 200))]) == np.inf


def test_arms_that_do_not_fit_are_refused() -> None:
    a, b = np.zeros((3, 4)), np.zeros((3, 5))
    with pytest.raises(ValueError, match="the same seeds and the same queries"):
        simultaneous_intervals([[a]], [b])
    with pytest.raises(ValueError, match="two seeds or more"):
        simultaneous_intervals([[a[:1]]], [a[:1]])


def test_equal_arms_differ_by_nothing() -> None:
    a = np.random.default_rng(4).random((3, 10))
    assert simultaneous_intervals([[a], [a + 0.5]], [a]) == [(0, 0), (0.5, 0.5)]
