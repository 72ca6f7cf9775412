"""Rank correlation with a paper's order, against SciPy and on arms whose order is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from vididi.analysis.ranks import rank_agreement, spearman

PAPER = [31.1, 35.2, 36.2, 39.1, 37.1, 39.3, 40.7, 43.0, 47.6]  # ViDiDi's Table 6


@given(st.lists(st.integers(0, 6), min_size=9, max_size=9))
def test_it_is_scipy_s_with_ties(values: list[int]) -> None:
    if len(set(values)) > 1:
        expected = spearmanr(values, PAPER).statistic
        assert spearman(np.array(values, float)[:, None], PAPER) == pytest.approx(expected)
    else:
        assert spearman(np.array(values, float)[:, None], PAPER) == 0


def arms(spread: float, seeds: int, queries: int) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        [(rng.random((seeds, queries)) < 0.3 + spread * (value - 31.1) / 16.5).astype(float)]
        for value in PAPER
    ]


def test_arms_in_the_paper_s_order_agree_and_arms_that_are_alike_do_not() -> None:
    ordered = rank_agreement(arms(0.5, 10, 400), PAPER)
    assert ordered.rho > 0.95
    assert ordered.interval[0] > 0.85
    assert (ordered.arms, ordered.seeds) == (9, 10)
    alike = rank_agreement(arms(0, 10, 400), PAPER)
    assert alike.interval[0] < 0.3
    assert alike.interval[1] - alike.interval[0] > 0.5


def test_the_reverse_order_disagrees() -> None:
    assert rank_agreement(arms(0.5, 10, 400)[::-1], PAPER).interval[1] < -0.8


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="2 and 2 of the paper; a rank correlation needs three"):
        rank_agreement([[np.zeros((2, 3))]] * 2, [1, 2])
    with pytest.raises(ValueError, match="3 and 9 of the paper"):
        rank_agreement([[np.zeros((2, 3))]] * 3, PAPER)
    with pytest.raises(ValueError, match="the same seeds"):
        rank_agreement([[np.zeros((2, 3))]] * 2 + [[np.zeros((2, 4))]], [1, 2, 3])
