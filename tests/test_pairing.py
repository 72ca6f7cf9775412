"""SCHEDULES against the text of ViDiDi's Algorithm 1 and appendix C."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from vididi.pairing import SCHEDULES, Pair, Schedule

# The pair of epochs 0..11 without the random step, written out from the paper.
SAME = [(1, 1), (0, 0), (1, 1), (0, 0), (1, 1), (0, 0), (1, 1), (0, 0), (1, 1), (0, 0), (1, 1), (0, 0)]
ONE_WAY = [(1, 1), (1, 0), (0, 0), (1, 1), (1, 0), (0, 0), (1, 1), (1, 0), (0, 0), (1, 1), (1, 0), (0, 0)]
ALGORITHM_1 = [(1, 1), (1, 0), (0, 1), (0, 0), (1, 1), (1, 0), (0, 1), (0, 0), (1, 1), (1, 0), (0, 1), (0, 0)]
REVERSE = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 0), (0, 1), (1, 0), (1, 1), (0, 0), (0, 1), (1, 0), (1, 1)]

FIRST_ORDER = {"schedule_1": SAME, "schedule_1_mix": ONE_WAY}
SECOND_ORDER = {"schedule_12": SAME, "schedule_12_mix": ONE_WAY, "vididi": ALGORITHM_1, "reverse": REVERSE}
RANDOM = {"random_1": 1, "random_12": 2}


def further(name: str, epoch: int, step: int, seed: int) -> int:
    """The random further differentiation of a second-order arm: its pair minus the cycle's, the same for both views."""
    a, b = SCHEDULES[name].pair(epoch, step, seed)
    cycle_a, cycle_b = SECOND_ORDER[name][epoch]
    assert a - cycle_a == b - cycle_b
    assert a - cycle_a in (0, 1)
    return a - cycle_a


def draw(name: str, seed: int, steps: int) -> list[Pair]:
    return [SCHEDULES[name].pair(0, step, seed) for step in range(steps)]


def test_the_nine_arms_of_table_6() -> None:
    assert set(SCHEDULES) == {"base", *RANDOM, *FIRST_ORDER, *SECOND_ORDER}


@pytest.mark.parametrize(("epoch", "step", "seed"), itertools.product((0, 1, 7), (0, 1, 1000), (0, 3)))
def test_base_never_differentiates(epoch: int, step: int, seed: int) -> None:
    assert SCHEDULES["base"].pair(epoch, step, seed) == (0, 0)


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_first_order_arms_follow_their_cycle_whatever_step_and_seed(name: str) -> None:
    for step, seed in itertools.product((0, 1, 17, 123456), (0, 1, 99)):
        assert [SCHEDULES[name].pair(epoch, step, seed) for epoch in range(12)] == FIRST_ORDER[name]


@pytest.mark.parametrize("name", SECOND_ORDER)
def test_second_order_arms_are_their_cycle_plus_a_step_for_both_views(name: str) -> None:
    seen = {further(name, epoch, step, seed) for epoch in range(12) for step in range(20) for seed in range(3)}
    assert seen == {0, 1}


@pytest.mark.parametrize("name", SECOND_ORDER)
def test_the_random_step_depends_on_seed_and_global_step_only(name: str) -> None:
    for step, seed in itertools.product(range(40), (0, 5)):
        assert len({further(other, epoch, step, seed) for epoch in range(12) for other in (name, "vididi")}) == 1


def test_the_random_step_does_not_repeat_with_the_epoch() -> None:
    per_epoch = [tuple(further("vididi", epoch, epoch * 20 + i, 0) for i in range(20)) for epoch in range(12)]
    assert len(set(per_epoch)) == 12


@pytest.mark.parametrize("name", SECOND_ORDER)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_random_step_happens_half_of_the_time(name: str, seed: int) -> None:
    assert np.mean([further(name, 3, step, seed) for step in range(4000)]) == pytest.approx(0.5, abs=0.03)


def test_vididi_makes_exactly_the_seven_pairs_of_section_2_2() -> None:
    pairs = {SCHEDULES["vididi"].pair(epoch, step, 0) for epoch in range(4) for step in range(50)}
    assert pairs == {(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 1), (2, 2)}


@pytest.mark.parametrize(("name", "order"), RANDOM.items())
@pytest.mark.parametrize("seed", [0, 1])
def test_random_arms_draw_both_orders_uniformly_and_independently(name: str, order: int, seed: int) -> None:
    steps, cells = 6000, (order + 1) ** 2
    pairs = draw(name, seed, steps)
    counts = np.array([pairs.count((a, b)) for a in range(order + 1) for b in range(order + 1)])
    assert counts.sum() == steps
    chi_square = ((counts - steps / cells) ** 2 / (steps / cells)).sum()
    assert chi_square < {4: 16.3, 9: 26.1}[cells]  # the 0.999 quantiles of 3 and 8 degrees of freedom


@pytest.mark.parametrize("name", RANDOM)
def test_random_arms_draw_per_step_whatever_the_epoch(name: str) -> None:
    for step in range(40):
        assert len({SCHEDULES[name].pair(epoch, step, 0) for epoch in range(8)}) == 1


@pytest.mark.parametrize("name", [*RANDOM, *SECOND_ORDER])
def test_same_seed_same_pairs_and_other_seed_other_pairs(name: str) -> None:
    assert draw(name, 0, 60) == draw(name, 0, 60)
    assert draw(name, 0, 60) != draw(name, 1, 60)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"order": 3}, "order: 3 .*0 .*1 .*2"),
        ({"order": -1}, "order: -1 .*0 .*1 .*2"),
        ({"order": 0, "mix": "same"}, "mix: 'same' needs order 1 or 2"),
        ({"order": 0, "selection": "random"}, "selection: 'random' needs order 1 or 2"),
        ({"order": 0, "selection": "scheduled"}, "selection: 'scheduled' needs order 1 or 2"),
        ({"order": 0, "reverse": True}, "reverse: True needs order 1 or 2"),
        ({"order": 1}, "selection: None .*'random' or 'scheduled'"),
        ({"order": 2, "mix": "same"}, "selection: None .*'random' or 'scheduled'"),
        ({"order": 2, "selection": "alternating"}, "selection: 'alternating' .*'random' or 'scheduled'"),
        ({"order": 1, "selection": "random", "mix": "same"}, "mix: 'same' needs selection 'scheduled'"),
        ({"order": 2, "selection": "random", "mix": "both_ways"}, "mix: 'both_ways' needs selection 'scheduled'"),
        ({"order": 2, "selection": "random", "reverse": True}, "reverse: True needs selection 'scheduled'"),
        ({"order": 1, "selection": "scheduled"}, "mix: None .*same, one_way, both_ways"),
        ({"order": 2, "selection": "scheduled", "mix": "sideways"}, "mix: 'sideways' .*same, one_way, both_ways"),
    ],
)
def test_impossible_axes_name_the_axis_and_what_is_valid(axes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(**axes)


def possible_axes() -> list[tuple[Any, ...]]:
    scheduled = itertools.product((1, 2), ("same", "one_way", "both_ways"), ("scheduled",), (False, True))
    return [(0, None, None, False), (1, None, "random", False), (2, None, "random", False), *scheduled]


def test_exactly_the_possible_combinations_of_axes_are_accepted() -> None:
    mixes, selections = (None, "same", "one_way", "both_ways"), (None, "random", "scheduled")
    accepted = []
    for axes in itertools.product((0, 1, 2), mixes, selections, (False, True)):
        try:
            Schedule(*axes)  # type: ignore[arg-type]
        except ValueError:
            continue
        accepted.append(axes)
    assert sorted(accepted, key=str) == sorted(possible_axes(), key=str)
