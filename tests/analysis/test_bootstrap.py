"""The bootstrap against brute force, against what is known, and by simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from vididi.analysis.bootstrap import gain_interval, mean_interval


def width(interval: tuple[float, float]) -> float:
    return interval[1] - interval[0]


def test_the_percentiles_are_those_of_every_possible_resample() -> None:
    scores = np.array([0.0, 1.03, 4.13, 9.71, 2.37])
    means = [np.mean(drawn) for drawn in itertools.product(scores, repeat=5)]
    found = mean_interval([scores[None]], level=0.9, replicates=200_000)
    assert found == pytest.approx(np.quantile(means, [0.05, 0.95]), abs=0.06)


def test_seeds_and_queries_are_crossed_as_in_a_loop() -> None:
    rng = np.random.default_rng(1)
    scores = (rng.random((3, 40)) < rng.random((3, 1))).astype(float)
    stretched = (
        scores.mean()
        + (scores - scores.mean(axis=0)) * np.sqrt(3 / 2)
        + (scores.mean(axis=0) - scores.mean())
    )
    drawn = [
        stretched[np.ix_(rng.integers(0, 3, 3), rng.integers(0, 40, 40))].mean()
        for _ in range(20_000)
    ]
    assert mean_interval([scores], replicates=20_000) == pytest.approx(
        np.quantile(drawn, [0.025, 0.975]), abs=0.01
    )


def test_the_gain_is_paired_as_in_a_loop() -> None:
    rng = np.random.default_rng(2)
    a, b = (rng.random((1, 60)) < 0.6).astype(float), (rng.random((1, 60)) < 0.3).astype(float)
    drawn = []
    for _ in range(20_000):
        queries = rng.integers(0, 60, 60)
        drawn.append(a[0, queries].mean() - b[0, queries].mean())
    assert gain_interval([a], [b], same_seeds=True, replicates=20_000) == pytest.approx(
        np.quantile(drawn, [0.025, 0.975]), abs=0.02
    )


def test_one_proportion_has_the_interval_of_the_binomial() -> None:
    scores = np.zeros((1, 1000))
    scores[0, :300] = 1
    half = 1.96 * np.sqrt(0.3 * 0.7 / 1000)
    assert mean_interval([scores], replicates=20_000) == pytest.approx(
        (0.3 - half, 0.3 + half), abs=0.002
    )


def test_the_same_scores_give_the_same_interval_and_another_seed_another() -> None:
    scores = [(np.random.default_rng(0).random((2, 50)) < 0.5).astype(float)]
    assert mean_interval(scores) == mean_interval(scores)
    assert mean_interval(scores) != mean_interval(scores, seed=1)


def test_chunks_do_not_change_what_is_drawn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = [(np.random.default_rng(0).random((2, 50)) < 0.5).astype(float)]
    whole = mean_interval(scores, replicates=20_000)
    monkeypatch.setattr("vididi.analysis.bootstrap._MAX_DRAWS", 1000)
    assert mean_interval(scores, replicates=20_000) == pytest.approx(whole, abs=0.01)


def test_an_arm_gains_nothing_over_itself() -> None:
    scores = [(np.random.default_rng(3).random((3, 100)) < 0.4).astype(float)]
    assert gain_interval(scores, scores, same_seeds=True) == (0, 0)
    low, high = gain_interval(scores, scores, same_seeds=False)
    assert low < 0 < high


def test_pairing_queries_narrows_the_interval_of_a_gain() -> None:
    """Two arms that fail on the same hard videos: the paired interval is far narrower than one of
    two independent means.
    """
    rng = np.random.default_rng(4)
    hard = rng.random(400) < 0.5
    base = (~hard).astype(float)
    ours = np.where(rng.random(400) < 0.05, 1.0, base)
    paired = gain_interval([ours[None]], [base[None]], same_seeds=True)
    unpaired = gain_interval([ours[None]], [rng.permutation(base)[None]], same_seeds=True)
    assert width(paired) < width(unpaired) / 2
    assert paired[0] > 0 > unpaired[0]


def test_pairing_seeds_narrows_the_interval_where_seeds_matter() -> None:
    values = np.array([[0.1], [0.4], [0.2], [0.8]])
    paired = gain_interval([values + 0.05], [values], same_seeds=True)
    assert paired == pytest.approx((0.05, 0.05))
    assert width(gain_interval([values + 0.05], [values], same_seeds=False)) > 0.3


def test_more_seeds_do_not_make_up_for_few_queries() -> None:
    one = (np.arange(50)[None] < 25).astype(float)
    assert width(mean_interval([np.repeat(one, 20, axis=0)])) == pytest.approx(
        width(mean_interval([one])), abs=0.02
    )


def test_a_mean_over_splits_is_surer_than_one_split() -> None:
    part = (np.random.default_rng(5).random((1, 300)) < 0.5).astype(float)
    assert width(mean_interval([part, part, part])) == pytest.approx(
        width(mean_interval([part])) / np.sqrt(3), rel=0.1
    )


@pytest.mark.parametrize(("seeds", "least"), [(1, 0.92), (3, 0.84), (8, 0.91)])
def test_coverage(seeds: int, least: float) -> None:
    """The share of intervals that hold the truth, over simulated experiments; with three seeds it
    is known to fall short.
    """
    rng = np.random.default_rng(6)
    held = 0
    for _ in range(300):
        skill = 0.5 + (0.05 * rng.standard_normal((seeds, 1)) if seeds > 1 else 0)
        ease = 0.2 * rng.standard_normal((1, 150))
        scores = (rng.random((seeds, 150)) < np.clip(skill + ease, 0, 1)).astype(float)
        low, high = mean_interval([scores], replicates=400)
        held += low <= 0.5 <= high
    assert held / 300 >= least


def test_a_gain_of_nothing_is_seldom_told_from_noise() -> None:
    rng = np.random.default_rng(7)
    excluded = 0
    for _ in range(300):
        ease = 0.3 * rng.standard_normal((1, 150))
        arms = [
            (
                rng.random((3, 150))
                < np.clip(0.5 + 0.03 * rng.standard_normal((3, 1)) + ease, 0, 1)
            ).astype(float)
            for _ in range(2)
        ]
        low, high = gain_interval([arms[0]], [arms[1]], same_seeds=True, replicates=400)
        excluded += low > 0 or high < 0
    assert excluded / 300 <= 0.1


def test_what_does_not_fit_is_refused() -> None:
    a, b = np.zeros((2, 5)), np.zeros((3, 5))
    with pytest.raises(ValueError, match="not empty"):
        mean_interval([])
    with pytest.raises(ValueError, match="not empty"):
        mean_interval([np.zeros((2, 0))])
    with pytest.raises(ValueError, match="same seeds"):
        mean_interval([a, b])
    with pytest.raises(ValueError, match="same queries"):
        gain_interval([a], [np.zeros((2, 4))], same_seeds=True)
    with pytest.raises(ValueError, match="2 and 3 cannot be drawn in pairs"):
        gain_interval([a], [b], same_seeds=True)
