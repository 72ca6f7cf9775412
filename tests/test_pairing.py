"""SCHEDULES against the text of ViDiDi's Algorithm 1 and appendix C."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from vididi.draws import Use, key, uniform
from vididi.pairing import SCHEDULES, Pair, Schedule, parse_pair

# The pair of epochs 0..11 without the random step, written out from the paper.
SAME = [
    (1, 1),
    (0, 0),
    (1, 1),
    (0, 0),
    (1, 1),
    (0, 0),
    (1, 1),
    (0, 0),
    (1, 1),
    (0, 0),
    (1, 1),
    (0, 0),
]
ONE_WAY = [
    (1, 1),
    (1, 0),
    (0, 0),
    (1, 1),
    (1, 0),
    (0, 0),
    (1, 1),
    (1, 0),
    (0, 0),
    (1, 1),
    (1, 0),
    (0, 0),
]
ALGORITHM_1 = [
    (1, 1),
    (1, 0),
    (0, 1),
    (0, 0),
    (1, 1),
    (1, 0),
    (0, 1),
    (0, 0),
    (1, 1),
    (1, 0),
    (0, 1),
    (0, 0),
]
REVERSE = [
    (0, 0),
    (0, 1),
    (1, 0),
    (1, 1),
    (0, 0),
    (0, 1),
    (1, 0),
    (1, 1),
    (0, 0),
    (0, 1),
    (1, 0),
    (1, 1),
]

FIRST_ORDER = {"schedule_1": SAME, "schedule_1_mix": ONE_WAY}
SECOND_ORDER = {
    "schedule_12": SAME,
    "schedule_12_mix": ONE_WAY,
    "vididi": ALGORITHM_1,
    "reverse": REVERSE,
}
RANDOM = {"random_1": 1, "random_12": 2}


def further(name: str, epoch: int, step: int, seed: int) -> int:
    """The random further differentiation of a second-order arm: its pair minus the cycle's, the
    same for both views.
    """
    a, b = SCHEDULES[name].pair(epoch, step, seed)
    cycle_a, cycle_b = SECOND_ORDER[name][epoch]
    assert a - cycle_a == b - cycle_b
    assert a - cycle_a in (0, 1)
    return a - cycle_a


def draw(schedule: str | Schedule, seed: int, steps: int) -> list[Pair]:
    schedule = SCHEDULES[schedule] if isinstance(schedule, str) else schedule
    return [schedule.pair(0, step, seed) for step in range(steps)]


def test_the_nine_arms_of_table_6() -> None:
    """Others may follow them."""
    assert set(list(SCHEDULES)[:9]) == {"base", *RANDOM, *FIRST_ORDER, *SECOND_ORDER}


@pytest.mark.parametrize(
    ("epoch", "step", "seed"), itertools.product((0, 1, 7), (0, 1, 1000), (0, 3))
)
def test_base_never_differentiates(epoch: int, step: int, seed: int) -> None:
    assert SCHEDULES["base"].pair(epoch, step, seed) == (0, 0)


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_first_order_arms_follow_their_cycle_whatever_step_and_seed(name: str) -> None:
    for step, seed in itertools.product((0, 1, 17, 123456), (0, 1, 99)):
        assert [SCHEDULES[name].pair(epoch, step, seed) for epoch in range(12)] == FIRST_ORDER[name]


@pytest.mark.parametrize("name", SECOND_ORDER)
def test_second_order_arms_are_their_cycle_plus_a_step_for_both_views(name: str) -> None:
    seen = {
        further(name, epoch, step, seed)
        for epoch in range(12)
        for step in range(20)
        for seed in range(3)
    }
    assert seen == {0, 1}


@pytest.mark.parametrize("name", SECOND_ORDER)
def test_the_random_step_depends_on_seed_and_global_step_only(name: str) -> None:
    for step, seed in itertools.product(range(40), (0, 5)):
        assert (
            len(
                {
                    further(other, epoch, step, seed)
                    for epoch in range(12)
                    for other in (name, "vididi")
                }
            )
            == 1
        )


def test_the_random_step_does_not_repeat_with_the_epoch() -> None:
    per_epoch = [
        tuple(further("vididi", epoch, epoch * 20 + i, 0) for i in range(20)) for epoch in range(12)
    ]
    assert len(set(per_epoch)) == 12


@pytest.mark.parametrize("name", SECOND_ORDER)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_random_step_happens_half_of_the_time(name: str, seed: int) -> None:
    assert np.mean([further(name, 3, step, seed) for step in range(4000)]) == pytest.approx(
        0.5, abs=0.03
    )


def test_vididi_makes_exactly_the_seven_pairs_of_section_2_2() -> None:
    pairs = {SCHEDULES["vididi"].pair(epoch, step, 0) for epoch in range(4) for step in range(50)}
    assert pairs == {(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 1), (2, 2)}


@pytest.mark.parametrize(("name", "order"), RANDOM.items())
@pytest.mark.parametrize("seed", [0, 1])
def test_random_arms_draw_both_orders_uniformly_and_independently(
    name: str, order: int, seed: int
) -> None:
    steps, cells = 6000, (order + 1) ** 2
    pairs = draw(name, seed, steps)
    counts = np.array([pairs.count((a, b)) for a in range(order + 1) for b in range(order + 1)])
    assert counts.sum() == steps
    chi_square = ((counts - steps / cells) ** 2 / (steps / cells)).sum()
    assert (
        chi_square < {4: 16.3, 9: 26.1}[cells]
    )  # the 0.999 quantiles of 3 and 8 degrees of freedom


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
        ({"order": 10}, "order: 10 .*0 .*1 .*2"),
        ({"order": -1}, "order: -1 .*0 .*1 .*2"),
        ({"order": 0, "mix": "same"}, "mix: 'same' needs order 1 or more"),
        ({"order": 0, "selection": "random"}, "selection: 'random' needs order 1 or more"),
        ({"order": 0, "selection": "scheduled"}, "selection: 'scheduled' needs order 1 or more"),
        ({"order": 0, "reverse": True}, "reverse: True needs order 1 or more"),
        ({"order": 1}, "selection: None .*'random', 'scheduled' or 'weighted'"),
        ({"order": 2, "mix": "same"}, "selection: None .*'random', 'scheduled' or 'weighted'"),
        (
            {"order": 2, "selection": "alternating"},
            "selection: 'alternating' .*'random', 'scheduled' or 'weighted'",
        ),
        (
            {"order": 2, "selection": "random", "mix": "both_ways"},
            "mix: 'both_ways' needs selection 'scheduled'",
        ),
        (
            {"order": 2, "selection": "random", "reverse": True},
            "reverse: True needs selection 'scheduled'",
        ),
        ({"order": 1, "selection": "scheduled"}, "mix: None .*same, one_way, both_ways"),
        (
            {"order": 2, "selection": "scheduled", "mix": "sideways"},
            "mix: 'sideways' .*same, one_way, both_ways",
        ),
        ({"order": True, "selection": "random"}, "order: True is not valid"),
        ({"order": 1.0, "selection": "random"}, "order: 1.0 is not valid"),
        ({"order": 0, "weights": {"0-0": 1.0}}, "weights: .* needs order 1 or more"),
        (
            {"order": 2, "selection": "scheduled", "mix": "same", "weights": {"0-0": 1.0}},
            "weights: .* needs selection 'weighted'",
        ),
        (
            {"order": 2, "selection": "random", "weights": {"0-0": 1.0}},
            "weights: .* needs selection 'weighted'",
        ),
        (
            {"order": 2, "selection": "weighted", "weights": {"0-0": 1.0}, "mix": "same"},
            "mix: 'same' needs selection 'scheduled'",
        ),
        (
            {"order": 2, "selection": "weighted", "weights": {"0-0": 1.0}, "reverse": True},
            "reverse: True needs selection 'scheduled'",
        ),
    ],
)
def test_impossible_axes_name_the_axis_and_what_is_valid(
    axes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(**axes)


def possible_axes() -> list[tuple[Any, ...]]:
    scheduled = itertools.product(
        (1, 2), ("same", "one_way", "both_ways"), ("scheduled",), (False, True)
    )
    random = itertools.product((1, 2), (None, "same"), ("random",), (False,))
    return [(0, None, None, False), *random, *scheduled]


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


# --- One draw for both views ----------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2, 3])
def test_random_and_same_is_one_uniform_draw_for_both_views(order: int) -> None:
    pairs = draw(Schedule(order, mix="same", selection="random"), 0, 6000)
    assert all(a == b for a, b in pairs)
    assert np.bincount([a for a, _ in pairs]) / 6000 == pytest.approx(
        np.full(order + 1, 1 / (order + 1)), abs=0.025
    )
    assert len({Schedule(order, "same", "random").pair(epoch, 5, 0) for epoch in range(8)}) == 1


# --- Beyond the second order ----------------------------------------------------------------------

CYCLES = {"same": SAME, "one_way": ONE_WAY, "both_ways": ALGORITHM_1}


@pytest.mark.parametrize("mix", CYCLES)
@pytest.mark.parametrize("order", [3, 4, 9])
def test_higher_orders_differentiate_both_views_further_by_a_uniform_number(
    order: int, mix: Any
) -> None:
    schedule = Schedule(order, mix, "scheduled")
    extra = []
    for step in range(6000):
        (a, b), (cycle_a, cycle_b) = schedule.pair(step % 12, step, 0), CYCLES[mix][step % 12]
        assert a - cycle_a == b - cycle_b
        extra.append(a - cycle_a)
    assert np.bincount(extra, minlength=order) / 6000 == pytest.approx(
        np.full(order, 1 / order), abs=0.025
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_order_2_is_algorithm_1_line_by_line(seed: int) -> None:
    for step in range(300):
        epoch = step // 10
        a, b = ((1, 1), (1, 0), (0, 1), (0, 0))[epoch % 4]
        if uniform(key(Use.PAIR, seed, step), 1)[0] < 0.5:
            a, b = a + 1, b + 1
        assert SCHEDULES["vididi"].pair(epoch, step, seed) == (a, b)


def test_random_orders_above_2_reach_the_highest() -> None:
    assert {order for pair in draw(Schedule(4, selection="random"), 0, 200) for order in pair} == {
        0,
        1,
        2,
        3,
        4,
    }


# --- Weights --------------------------------------------------------------------------------------


def weighted(weights: dict[str, float], order: int = 2) -> Schedule:
    return Schedule(order, selection="weighted", weights=weights)


@pytest.mark.parametrize(
    "weights",
    [
        {"0-0": 1.0, "1-0": 2.0, "0-1": 3.0, "2-2": 4.0},
        {"1-1": 5e-9, "0-2": 5e-9},
        {"0-0": 0, "2-1": 7, "1-2": 0},
        {"1-0": 0.05, "0-0": 0.0, "0-1": 0.95},
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", [0, 1])
def test_pairs_come_as_often_as_they_weigh_and_never_with_weight_0(
    weights: dict[str, float], seed: int
) -> None:
    pairs = draw(weighted(weights), seed, 6000)
    assert set(pairs) == {parse_pair(name) for name, weight in weights.items() if weight > 0}
    for name, weight in weights.items():
        assert pairs.count(parse_pair(name)) / 6000 == pytest.approx(
            weight / sum(weights.values()), abs=0.025
        )


def test_equal_weights_over_all_pairs_are_the_random_arm_s_distribution() -> None:
    pairs = draw(weighted({f"{a}-{b}": 1.0 for a in range(3) for b in range(3)}), 0, 9000)
    assert [pairs.count((a, b)) / 9000 for a in range(3) for b in range(3)] == pytest.approx(
        [1 / 9] * 9, abs=0.015
    )


def test_weighted_pairs_follow_from_seed_and_step_whatever_the_epoch_and_the_order_of_the_file() -> (
    None
):
    weights = {"0-0": 1.0, "1-0": 2.0, "0-1": 3.0}
    backwards = dict(reversed(weights.items()))
    assert (
        draw(weighted(weights), 0, 200)
        == draw(weighted(backwards), 0, 200)
        == draw(weighted({**weights, "2-2": 0.0}), 0, 200)
    )
    assert draw(weighted(weights), 0, 200) != draw(weighted(weights), 1, 200)
    assert len({weighted(weights).pair(epoch, 5, 0) for epoch in range(8)}) == 1


@pytest.mark.parametrize("number", [0.0, 1 - 2**-53])
def test_no_draw_falls_beside_the_weights(number: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vididi.pairing.uniform", lambda keys, count: np.full(count, number))
    for weights in (
        {"0-0": 0.0, "1-0": 0.1, "1-1": 0.2, "2-2": 0.0},
        {"1-0": 1e-300, "1-1": 1e300},
    ):
        assert weighted(weights).pair(0, 0, 0) == ((1, 1) if number else (1, 0))
    assert weighted({"0-0": 0.0, "1-0": 5e-324, "2-2": 0.0}).pair(0, 0, 0) == (1, 0)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (None, "weights: None is not valid with selection 'weighted'; give pairs and weights"),
        ({}, "weights: {} is not valid with selection 'weighted'; give pairs and weights"),
        ({"1-0": 0.0, "0-0": 0}, "weights: all are 0; at least one must be positive"),
        (
            {"1-0": 1.0, "0-0": -0.5},
            "weights: -0.5 for '0-0' is not valid; a weight is a finite number, at least 0",
        ),
        ({"1-0": float("nan")}, "weights: nan for '1-0' is not valid"),
        ({"1-0": float("inf")}, "weights: inf for '1-0' is not valid"),
        ({"3-0": 1.0}, "weights: '3-0' is beyond order 2; raise the order or leave the pair out"),
        ({"0-3": 0.0}, "weights: '0-3' is beyond order 2"),
        *(
            ({name: 1.0}, f"weights: {name!r} is not a pair")
            for name in ("1", "10", "1-", "1-0-1", "a-b", "1,0", "-1-0", " 1-0", "1-10")
        ),
    ],
    ids=str,
)
def test_weights_that_cannot_be_are_named(weights: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        weighted(weights)
    assert str(error.value).startswith(message)
