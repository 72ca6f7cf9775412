"""Samplings against distributions computed again from the papers: by integration, by enumeration,
by drawing again.
"""

from __future__ import annotations

from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vididi.data.plan import PretrainPlan
from vididi.data.sampling import SAMPLINGS, Sampling, span
from vididi.draws import Use, key, uniform

ALL: dict[str, Sampling] = {name: make() for name, make in SAMPLINGS.items()}


def keys_of(videos: int, clips: int = 2, seed: int = 0) -> NDArray[np.uint64]:
    return key(Use.CLIP, seed, 0, np.arange(videos)[:, None], np.arange(clips))


def draw(
    sampling: Sampling, count: int, frames: int, length: int, stride: int, clips: int = 2
) -> NDArray[np.int64]:
    """Starts ``[count, clips]`` in ``count`` videos of ``frames`` frames."""
    return sampling(keys_of(count, clips), np.full(count, frames), length, stride)


def assert_follows(counts: NDArray, probabilities: NDArray) -> None:
    """A chi-square test; the draws are the same in every run, so it either always passes or
    never.
    """
    assert counts[probabilities == 0].sum() == 0
    expected = counts.sum() * probabilities[probabilities > 0]
    assert expected.min() > 5, "too few draws to tell"
    statistic = ((counts[probabilities > 0] - expected) ** 2 / expected).sum()
    halves = torch.tensor([(len(expected) - 1) / 2, statistic / 2], dtype=torch.float64)
    assert torch.special.gammaincc(halves[0], halves[1]) > 0.001


# --- All of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_starts_follow_from_the_keys_whatever_else_is_in_the_batch(name: str) -> None:
    keys, counts = keys_of(60), np.arange(40, 100)
    starts = ALL[name](keys, counts, 6, 3)
    some = np.random.default_rng(0).permutation(60)[:17]
    assert np.array_equal(ALL[name](keys[some], counts[some], 6, 3), starts[some])
    assert np.array_equal(
        np.concatenate([ALL[name](keys[i : i + 1], counts[i : i + 1], 6, 3) for i in range(60)]),
        starts,
    )
    assert (ALL[name](keys_of(60, seed=1), counts, 6, 3) != starts).any(axis=1).mean() > 0.8


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("number", [0.0, 0.5, 1 - 2**-53], ids=["least", "half", "greatest"])
def test_no_draw_leaves_the_video(
    name: str, number: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "vididi.data.sampling.uniform",
        lambda keys, count: np.full((*np.shape(keys), count), number),
    )
    counts = np.arange(1, 3000)
    counts = counts[ALL[name].possible(counts, 2, 6, 3)]
    for sampling in (
        (ALL[name],)
        if name != "interval"
        else (interval(shape, power, 0.25) for shape in DENSITIES for power in (0.5, 1.0, 20.0))
    ):
        starts = sampling(keys_of(len(counts)), counts, 6, 3)
        assert starts.min() >= 0
        assert (starts.max(axis=1) <= np.maximum(0, counts - span(6, 3))).all()


@pytest.mark.parametrize("name", ["uniform", "same", "interval"])
def test_videos_of_one_clip_or_less_begin_at_their_first_frame(name: str) -> None:
    counts = np.arange(1, span(6, 3) + 1)
    assert ALL[name].possible(counts, 2, 6, 3).all()
    assert not ALL[name](keys_of(len(counts)), counts, 6, 3).any()


def any_frame(name: str) -> Sampling:
    make: Any = SAMPLINGS[name]
    return make(short_videos="any_frame")


@pytest.mark.parametrize("name", ["uniform", "same", "interval"])
def test_where_short_videos_begin_says_nothing_of_others(name: str) -> None:
    """A video of exactly one clip is not short."""
    counts = np.arange(span(6, 3), 100)
    drawn = [each(keys_of(len(counts)), counts, 6, 3) for each in (ALL[name], any_frame(name))]
    assert np.array_equal(*drawn)


def test_a_short_video_may_begin_at_any_frame() -> None:
    """As sample_ssl_sequence and sample_sequence of tensorflow/models: uniform on all L frames, the
    two clips of a video independent of each other.
    """
    for name in ("uniform", "interval"):
        first, second = draw(any_frame(name), 20000, 7, 6, 3).T
        assert_follows(np.bincount(7 * first + second, minlength=49), np.full(49, 1 / 49))
    first, second = draw(any_frame("same"), 20000, 7, 6, 3).T
    assert np.array_equal(first, second)
    assert_follows(np.bincount(first, minlength=7), np.full(7, 1 / 7))


# --- Uniform and same -----------------------------------------------------------------------------


def test_uniform_starts_are_those_of_the_formula_to_the_bit() -> None:
    keys, counts = keys_of(500, clips=5), np.random.default_rng(0).integers(1, 400, 500)
    expected = (uniform(keys, 1)[..., 0] * np.maximum(1, counts - span(6, 3) + 1)[:, None]).astype(
        np.int64
    )
    assert np.array_equal(ALL["uniform"](keys, counts, 6, 3), expected)


def test_a_plan_s_uniform_starts_stay_what_they_were_in_the_first_release() -> None:
    counts = np.array([30, 25, 40, 31, 28, 50, 33, 29, 60, 26, 27, 45, 38, 5])
    rows = np.array([0, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12])
    plan = PretrainPlan(rows, counts, length=6, stride=3, batch_size=4, epochs=5, seed=3)
    assert plan[0].rows.tolist() == [12, 2, 11, 5]
    assert plan[0].frames[..., 0].tolist() == [[14, 2], [22, 3], [4, 18], [33, 4]]
    assert plan[9].rows.tolist() == [2, 12, 3, 8]
    assert plan[9].frames[..., 0].tolist() == [[14, 21], [7, 2], [7, 4], [3, 35]]


def test_uniform_clips_are_uniform_and_independent() -> None:
    first, second = draw(ALL["uniform"], 20000, 24, 6, 3).T  # 9 starts
    assert_follows(np.bincount(9 * first + second, minlength=81), np.full(81, 1 / 81))


def test_same_is_one_uniform_start_for_all_clips() -> None:
    starts = draw(ALL["same"], 20000, 24, 6, 3, clips=4)
    assert (starts == starts[:, :1]).all()
    assert_follows(np.bincount(starts[:, 0], minlength=9), np.full(9, 1 / 9))


# --- CVRL's interval ------------------------------------------------------------------------------

DENSITIES = {
    "decreasing": lambda x, power, floor: 1 - (1 - floor) * x**power,
    "uniform": lambda x, power, floor: np.ones_like(x),
    "increasing": lambda x, power, floor: floor + (1 - floor) * x**power,
}
LAWS = [
    ("decreasing", 1.0, 0.0),
    ("decreasing", 0.5, 0.0),
    ("decreasing", 2.0, 0.0),
    ("decreasing", 1.0, 0.3),
    ("decreasing", 3.0, 0.9),
    ("uniform", 1.0, 0.0),
    ("increasing", 1.0, 0.0),
    ("increasing", 2.0, 0.0),
    ("increasing", 1.0, 0.5),
]


def interval(shape: str = "decreasing", power: float = 1.0, floor: float = 0.0) -> Sampling:
    make: Any = SAMPLINGS["interval"]
    return make(shape=shape, power=power, floor=floor)


def interval_law(shape: str, power: float, floor: float, starts: int) -> NDArray:
    """The probability of every whole interval, by integrating the density numerically."""
    x = (np.arange(starts * 2000) + 0.5) / (starts * 2000)
    mass = DENSITIES[shape](x, power, floor).reshape(starts, 2000).sum(axis=1)
    return mass / mass.sum()


@pytest.mark.parametrize(("shape", "power", "floor"), LAWS)
def test_intervals_follow_their_density(shape: str, power: float, floor: float) -> None:
    first, second = draw(interval(shape, power, floor), 60000, 35, 6, 3).T  # 20 starts
    assert_follows(
        np.bincount(np.abs(second - first), minlength=20), interval_law(shape, power, floor, 20)
    )


@pytest.mark.parametrize(("shape", "power", "floor"), LAWS)
def test_given_the_interval_the_first_start_is_uniform_and_the_order_a_coin(
    shape: str, power: float, floor: float
) -> None:
    starts = 5
    first, second = draw(interval(shape, power, floor), 40000, starts + 15, 6, 3).T
    law, a, b = interval_law(shape, power, floor, starts), *np.indices((starts, starts))
    apart = np.abs(a - b)
    joint = law[apart] / (starts - apart) / np.where(apart == 0, 1, 2)
    assert joint.sum() == pytest.approx(1)
    assert_follows(np.bincount(starts * first + second, minlength=starts**2), joint.ravel())


def algorithm_2(v: float, power: float, upper: int) -> int:
    """CVRL's Algorithm 2 as printed, with F of its eq. 3: P(t) = a t^b + c that falls to 0 at T."""
    a, c = -(power + 1) / (power * upper ** (power + 1)), (power + 1) / (power * upper)
    upper_bound, lower_bound = upper, 0
    while upper_bound - lower_bound > 1:
        t = int((upper_bound + lower_bound) / 2)
        if a / (power + 1) * t ** (power + 1) + c * t > v:
            upper_bound = t
        else:
            lower_bound = t
    return lower_bound


@pytest.mark.parametrize("power", [1.0, 0.5, 3.0])
@pytest.mark.parametrize("starts", [1, 2, 7, 220])
def test_the_interval_is_that_of_cvrl_s_binary_search(power: float, starts: int) -> None:
    first, second = draw(interval("decreasing", power), 500, starts + 15, 6, 3).T
    drawn = uniform(keys_of(500)[:, 0], 1)[:, 0]
    assert np.abs(second - first).tolist() == [algorithm_2(v, power, starts) for v in drawn]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("power", 0.0),
        ("power", float("nan")),
        ("floor", -0.1),
        ("floor", 1.1),
        ("floor", float("nan")),
    ],
)
def test_intervals_that_cannot_be_are_refused(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{option}: {value} is not valid; it must"):
        interval(**{option: value})


def test_the_interval_places_two_clips() -> None:
    with pytest.raises(
        ValueError,
        match=r"clip\.per_video: 4 is not valid with sampling 'interval', which places two clips",
    ):
        draw(ALL["interval"], 3, 100, 6, 3, clips=4)


@pytest.mark.parametrize("power", [0.0, -1.0, float("nan"), float("inf")])
def test_a_power_that_cannot_be_is_refused(power: float) -> None:
    with pytest.raises(ValueError, match=r"^power: .* above 0"):
        interval(power=power)


# --- CORP's least offset --------------------------------------------------------------------------


def too_near(
    apart: NDArray | int, frames: NDArray | int, length: int, stride: int, clips: int
) -> Any:
    """Whether clips ``apart`` frames from each other break eq. 3, in whole numbers: multiplied by
    K.
    """
    covered = length * stride
    return apart * clips <= np.minimum(np.maximum(frames - covered, clips), clips * covered)


SIZES = [(16, 2, 4), (16, 1, 2), (6, 3, 3), (8, 3, 5), (1, 1, 2), (1, 1, 4), (2, 2, 8)]


@pytest.mark.parametrize(("length", "stride", "clips"), SIZES)
def test_any_two_clips_differ_by_more_than_the_offset_of_eq_3(
    length: int, stride: int, clips: int
) -> None:
    frames = np.arange(1, 600)
    frames = np.repeat(frames[ALL["min_offset"].possible(frames, clips, length, stride)], 20)
    starts = ALL["min_offset"](keys_of(len(frames), clips), frames, length, stride)
    assert starts.min() >= 0
    assert (starts.max(axis=1) <= frames - span(length, stride)).all()
    for i, j in combinations(range(clips), 2):
        assert not too_near(
            np.abs(starts[:, i] - starts[:, j]), frames, length, stride, clips
        ).any()


def valid_tuples(frames: int, length: int, stride: int, clips: int) -> list[tuple[int, ...]]:
    """All starts in time order that hold eq. 3, by trying all there are."""
    return [
        starts
        for starts in combinations(range(frames - span(length, stride) + 1), clips)
        if not any(
            too_near(b - a, frames, length, stride, clips) for a, b in combinations(starts, 2)
        )
    ]


@pytest.mark.parametrize(
    ("length", "stride", "clips"),
    [(1, 1, 2), (2, 1, 2), (2, 2, 2), (2, 1, 3), (2, 2, 3), (3, 2, 3), (2, 1, 4)],
)
def test_possible_is_exactly_that_some_starts_hold_the_rule(
    length: int, stride: int, clips: int
) -> None:
    frames = range(1, 17)
    found = ALL["min_offset"].possible(np.array(frames), clips, length, stride)
    assert found.tolist() == [bool(valid_tuples(count, length, stride, clips)) for count in frames]
    assert found.any()
    assert not found.all()


@pytest.mark.parametrize(
    ("frames", "length", "stride", "clips"),
    [(20, 3, 2, 2), (12, 2, 1, 3), (14, 2, 2, 3), (13, 2, 1, 4), (11, 1, 1, 4), (6, 1, 1, 2)],
)
def test_all_starts_that_hold_the_rule_are_equally_likely_in_any_order(
    frames: int, length: int, stride: int, clips: int
) -> None:
    valid = [
        order
        for starts in valid_tuples(frames, length, stride, clips)
        for order in permutations(starts)
    ]
    drawn = draw(ALL["min_offset"], 20 * len(valid), frames, length, stride, clips)
    places = {starts: place for place, starts in enumerate(valid)}
    counts = np.bincount([places[tuple(starts)] for starts in drawn.tolist()], minlength=len(valid))
    assert_follows(counts, np.full(len(valid), 1 / len(valid)))


def test_the_distribution_is_that_of_drawing_again_until_it_holds() -> None:
    """CORP's rule as printed, at its own size: 250 frames, T = 16, D = 2, K = 4."""
    tries = np.random.default_rng(0).integers(0, 250 - span(16, 2) + 1, (400_000, 4))
    pairs = list(combinations(range(4), 2))
    again = tries[
        ~np.any(
            [too_near(np.abs(tries[:, i] - tries[:, j]), 250, 16, 2, 4) for i, j in pairs], axis=0
        )
    ]
    drawn = draw(ALL["min_offset"], 8 * len(again), 250, 16, 2, clips=4)
    for measure in (
        lambda s: s[:, 0],
        lambda s: s.min(axis=1),
        lambda s: np.sort(s)[:, 2],
        lambda s: np.abs(s[:, 3] - s[:, 1]),
    ):
        edges = np.quantile(measure(drawn), np.linspace(0, 1, 16))
        edges[-1] += 1
        law = np.histogram(measure(drawn), edges)[0] / len(drawn)
        assert_follows(np.histogram(measure(again), edges)[0], law)


def test_every_clip_is_the_first_in_time_as_often() -> None:
    order = np.argsort(draw(ALL["min_offset"], 24000, 250, 16, 2, clips=4), axis=1)
    assert_follows(np.unique(order @ [64, 16, 4, 1], return_counts=True)[1], np.full(24, 1 / 24))


# --- Without the least offset ---------------------------------------------------------------------


def test_distinct_starts_are_any_that_differ() -> None:
    """CORP_f, whose section prints no offset: 3 clips in 6 starts."""
    orders = list(permutations(range(6), 3))
    drawn = draw(ALL["distinct"], 12000, 21, 6, 3, clips=3)
    places = {starts: place for place, starts in enumerate(orders)}
    counts = np.bincount([places[tuple(starts)] for starts in drawn.tolist()], minlength=120)
    assert_follows(counts, np.full(120, 1 / 120))


def test_distinct_starts_need_as_many_places() -> None:
    frames = np.arange(14, 22)  # 1 start at 16 frames
    assert ALL["distinct"].possible(frames, 3, 6, 3).tolist() == [False] * 4 + [True] * 4
