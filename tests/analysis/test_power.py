"""How many seeds: against simulated experiments; and 2,000 sweeps without any difference, looked at
again and again.
"""

from __future__ import annotations

import numpy as np
import pytest

from vididi.analysis.multiple_comparisons import holm
from vididi.analysis.power import (
    LEVEL,
    error_of_look,
    paired_p,
    power,
    power_of_t,
    seeds_needed,
    upper_limit,
)


def test_seeds_needed_find_the_difference_in_four_of_five_experiments() -> None:
    """Deviation 1.5 times the difference: 20 seeds (Cohen's d of 0.67; tables say 20)."""
    n = seeds_needed(1.5)
    assert n == 20
    assert power_of_t(n - 1, 1.5) < 0.8 <= power_of_t(n, 1.5)
    rng = np.random.default_rng(0)
    experiments = 1 + 1.5 * rng.normal(size=(4000, n))
    t = experiments.mean(axis=1) / experiments.std(axis=1, ddof=1) * np.sqrt(n)
    assert (np.abs(t) > 2.093).mean() == pytest.approx(0.8, abs=0.02)


def test_limits_of_what_can_be_said() -> None:
    assert seeds_needed(0) == 2
    assert seeds_needed(1e6) == 100_000
    assert seeds_needed(0.01) == 2


def test_the_upper_limit_of_a_deviation_holds_in_95_of_100() -> None:
    rng = np.random.default_rng(1)
    held = [upper_limit(float(x.std(ddof=1)), 5) >= 1 for x in rng.normal(size=(4000, 5))]
    assert np.mean(held) == pytest.approx(0.95, abs=0.012)


def test_p_is_scipy_s() -> None:
    from scipy.stats import ttest_1samp

    values = np.random.default_rng(4).normal(0.5, 1, 7)
    assert paired_p(values) == pytest.approx(ttest_1samp(values, 0).pvalue, rel=1e-12)
    assert paired_p([0.1]) == 1.0 == paired_p([0.1, 0.1, 0.1])


def test_a_spread_gives_seeds_their_limit_and_the_floor() -> None:
    rng = np.random.default_rng(2)
    seeds, queries = 8, 200
    scores = 0.05 + rng.normal(0, 0.03, (seeds, 1)) + rng.normal(0, 0.4, (1, queries))
    found = power([scores], 0.05)
    assert found.measured_seeds == seeds
    assert found.deviation == pytest.approx(scores.mean(axis=1).std(ddof=1))
    assert found.seeds < found.seeds_at_most
    # (1.96 + 0.84) * 0.4 / sqrt(200)
    assert found.floor == pytest.approx(0.0792, rel=0.1)
    # What differs by chance alone, anew for each seed, has no floor.
    noise = power([rng.normal(0, 0.4, (seeds, queries))], 0.05)
    assert noise.floor is not None
    assert noise.floor < 0.03
    assert power([scores.mean(axis=1, keepdims=True)], 0.05).floor is None


def test_what_cannot_be_told_is_refused() -> None:
    with pytest.raises(ValueError, match="seeds: 4 are too few"):
        power([np.zeros((4, 10))], 0.05)
    with pytest.raises(ValueError, match="above 0"):
        power([np.zeros((5, 10))], 0)


def test_levels_of_looks_add_up_and_earlier_looks_count() -> None:
    looked: list[tuple[int, float]] = []
    for seeds in (5, 10, 15, 20):
        looked.append((seeds, error_of_look(seeds, 20, looked)))
    assert [level for _, level in looked] == pytest.approx([LEVEL / 4] * 4)
    with pytest.raises(ValueError, match="not valid after one at 20"):
        error_of_look(20, 20, looked)
    # All is spent; a larger maximum buys nothing.
    assert error_of_look(30, 40, looked) == pytest.approx(0, abs=1e-12)
    # After a look that was to be one of four, a new plan shares what is left.
    assert error_of_look(10, 10, looked[:1]) == pytest.approx(0.75 * LEVEL)


def test_2000_sweeps_without_a_difference_give_at_most_one_false_one_in_twenty() -> None:
    """Nine arms, eight comparisons with the first, looked at after 5, 10, 15 and 20 seeds. What is
    printed of a sweep is false if any of 32 tests is.
    """
    rng = np.random.default_rng(3)
    scores = rng.normal(0, 0.03, (2000, 9, 20))
    differences = scores[:, 1:] - scores[:, :1]
    false = 0
    naive = 0
    for sweep in differences:
        looked: list[tuple[int, float]] = []
        wrong = lucky = False
        for seeds in (5, 10, 15, 20):
            level = error_of_look(seeds, 20, looked)
            looked.append((seeds, level))
            p = [paired_p(arm[:seeds]) for arm in sweep]
            wrong |= min(holm(p)) <= level
            lucky |= min(p) <= LEVEL
        false += wrong
        naive += lucky
    assert false <= 2000 * LEVEL
    assert naive > 2000 * 0.3  # what looking as often without this would give
