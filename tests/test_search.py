"""Spaces, early stopping rules and constraints as sweep files write them: what they draw, what they
mean, what is refused.
"""

from __future__ import annotations

from random import Random
from statistics import fmean
from typing import Any

import pytest

from vididi.config import validate
from vididi.errors import ConfigError
from vididi.search import Dimension, Search, draw, fits, halved, read_point, rounded, shrunk
from vididi.sweep import Cell, Sweep, cell_at, distinct, examples, expand, point_of, size

SPACE: dict[str, Any] = {
    "order": {"choice": [0, 1, 2]},
    "selection": {"choice": ["random", "scheduled", "weighted"], "when": {"order": [1, 2]}},
    "mix": {"choice": ["same", "both_ways"], "when": {"selection": "scheduled"}},
    "schedule.weights.0-0": {"uniform": [0, 1], "when": {"selection": "weighted"}},
    "schedule.weights.1-1": {"log": [0.1, 1], "when": {"selection": "weighted"}},
    "training.epochs": {"integer": [2, 5]},
}


def sweep_of(**values: Any) -> Sweep:
    return validate(Sweep, {"name": "trial", **values}, "trial.yaml")


def search_of(
    space: dict[str, Any] | None = None, base: dict[str, Any] | None = None, **values: Any
) -> Sweep:
    return sweep_of(
        base=base or {},
        search={"name": "optuna", "space": SPACE if space is None else space, **values},
    )


def fault(**values: Any) -> str:
    with pytest.raises(ConfigError) as error:
        sweep_of(**values)
    return str(error.value)


def points(count: int, space: dict[str, Any] = SPACE) -> list[dict[str, Any]]:
    dimensions, random = Search(name="random", space=space).space, Random(0)
    return [draw(dimensions, lambda _, dimension: dimension.drawn_by(random)) for _ in range(count)]


# --- Spaces ---------------------------------------------------------------------------------------


def test_a_dimension_is_drawn_only_where_its_conditions_hold() -> None:
    for point in points(200):
        assert ("selection" in point) == (point["order"] > 0)
        assert ("mix" in point) == (point.get("selection") == "scheduled")
        assert ("schedule.weights.1-1" in point) == (point.get("selection") == "weighted")


def test_draws_stay_in_their_bounds_and_reach_all_choices() -> None:
    drawn = points(300)
    assert {point["order"] for point in drawn} == {0, 1, 2}
    assert {point["training.epochs"] for point in drawn} == {2, 3, 4, 5}
    weights = [point["schedule.weights.1-1"] for point in drawn if "schedule.weights.1-1" in point]
    assert all(0.1 <= weight <= 1 for weight in weights)
    assert sum(weight < 10**-0.5 for weight in weights) / len(weights) == pytest.approx(
        0.5, abs=0.15
    ), "log: half below the geometric middle"


def test_every_drawn_point_is_read_back_from_its_cell() -> None:
    sweep = search_of()
    for point in points(60):
        cell = cell_at(sweep, point)
        assert cell is not None
        assert point_of(sweep, cell.config.to_dict()) == rounded(point)


@pytest.mark.parametrize(
    ("dimension", "value", "held"),
    [
        ({"choice": [0, 1]}, True, False),
        ({"choice": ["a", None]}, None, True),
        ({"uniform": [0, 1]}, 1, True),
        ({"uniform": [0, 1]}, 1.01, False),
        ({"integer": [1, 3]}, 2.0, False),
        ({"log": [0.1, 1]}, "1", False),
    ],
)
def test_what_a_dimension_could_have_drawn(
    dimension: dict[str, Any], value: Any, held: bool
) -> None:
    assert Dimension(**dimension).holds(value) == held


def test_a_configuration_outside_the_space_is_no_point_of_it() -> None:
    space = Search(name="optuna", space=SPACE).space
    assert read_point(space, {"order": 0, "training.epochs": 3, "mix": "same"}) == {
        "order": 0,
        "training.epochs": 3,
    }
    assert read_point(space, {"order": 3, "training.epochs": 3}) is None
    assert read_point(space, {"order": 1, "training.epochs": 3, "selection": None}) is None


def test_numbers_keep_three_digits() -> None:
    assert rounded({"a": 0.0123456, "b": 3, "c": "x", "d": 12345.6}) == {
        "a": 0.0123,
        "b": 3,
        "c": "x",
        "d": 12300.0,
    }


@pytest.mark.parametrize(
    ("values", "wanted", "held"),
    [
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1}, {"a": [2, 1]}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"b": 1}, False),
        ({}, {}, True),
    ],
)
def test_fits(values: dict[str, Any], wanted: dict[str, Any], held: bool) -> None:
    assert fits(wanted, values) == held


# --- Cells of a search ----------------------------------------------------------------------------


def test_a_point_has_one_name_whatever_digits_are_lost_and_its_values_as_label() -> None:
    sweep = search_of()
    first, same, other = (
        cell_at(
            sweep,
            {
                "order": 1,
                "selection": "weighted",
                "schedule.weights.1-1": weight,
                "training.epochs": 3,
            },
        )
        for weight in (0.50001, 0.5, 0.6)
    )
    assert first is not None
    assert first == same
    assert first != other
    assert first.label == "order 1, selection weighted, weights.1-1 0.5, training.epochs 3"
    assert first.title.startswith("trial-")
    assert first.config.schedule.weights == {"1-1": 0.5}


def test_the_same_point_with_another_seed_is_the_same_arm() -> None:
    sweep, point = search_of(), {"order": 0, "training.epochs": 3}
    cells = [cell_at(sweep, point, seed) for seed in (None, 7)]
    assert cells[0] is not None
    assert cells[1] is not None
    assert (cells[0].arm, cells[0].seed, cells[1].arm, cells[1].seed) == (
        cells[0].arm,
        0,
        cells[0].arm,
        7,
    )


def test_values_that_mean_nothing_at_a_point_are_left_out() -> None:
    unconditional = {name: {**dimension, "when": {}} for name, dimension in SPACE.items()}
    sweep = search_of(unconditional)
    point = {
        "order": 0,
        "selection": "weighted",
        "mix": "same",
        "schedule.weights.1-1": 0.3,
        "training.epochs": 3,
    }
    cell = cell_at(sweep, point)
    assert cell == cell_at(sweep, {"order": 0, "training.epochs": 3})


def test_settings_of_an_objective_are_drawn_with_it_and_read_back() -> None:
    space = {
        "framework": {"choice": ["simclr", "vicreg"]},
        "objective.temperature": {"log": [0.03, 0.5], "when": {"framework": "simclr"}},
        "objective.variance": {"log": [0.3, 10], "when": {"framework": "vicreg"}},
    }
    sweep = search_of(space, base={"objective.hidden": 16})
    cells, faults = examples(sweep, 20)
    assert not faults
    assert {cell.config.objective.name for cell in cells} == {"simclr", "vicreg"}
    for cell in cells:
        drawn = {"simclr": "temperature", "vicreg": "variance"}[cell.config.objective.name]
        assert cell.label.startswith(f"framework {cell.config.objective.name}, objective.{drawn} ")
        point = point_of(sweep, cell.config.to_dict())
        assert point is not None
        assert cell_at(sweep, point) == cell


def test_a_space_of_which_no_point_makes_a_cell_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match="none of 5 points makes a cell") as error:
        examples(search_of({"schedule.ordr": {"choice": [1]}}), 5)
    assert "schedule.ordr: unknown key" in str(error.value) or "schedule.ordr" in str(error.value)


def test_points_that_make_no_cell_are_told_beside_those_that_do() -> None:
    cells, faults = examples(search_of({"order": {"choice": [1, 3]}}), 40)
    assert cells
    assert all("clip.extra_frames: 2 is less than schedule.order 3" in fault for fault in faults)
    assert len(cells) + len(faults) == 40


# --- Faults of a file -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"name": "optuna"}, "search.space: is missing; optuna draws from it"),
        ({"name": "grid", "trials": 3}, "search.trials: is for optuna and random"),
        ("annealing", "search.name: 'annealing' is not valid"),
        (
            {"name": "optuna", "space": {"order": {}}},
            "search.space.order.distribution: none is given; it is one of choice, uniform",
        ),
        (
            {"name": "optuna", "space": {"order": {"choice": [1], "log": [1, 2]}}},
            "choice and log is given",
        ),
        (
            {"name": "optuna", "space": {"a": {"log": [0, 1]}}},
            "search.space.a.log: [0.0, 1.0] is not valid",
        ),
        (
            {"name": "optuna", "space": {"a": {"uniform": [2, 1]}}},
            "uniform: [2.0, 1.0] is not valid",
        ),
        ({"name": "optuna", "space": {"a": {"choice": [[1]]}}}, "choices are numbers, words"),
        (
            {"name": "optuna", "space": {"a": {"choise": [1]}}},
            "choise: unknown key (did you mean 'choice'?)",
        ),
        (
            {"name": "optuna", "space": {"a": {"choice": [1], "when": {"b": 1}}}},
            "search.space.a.when.b: is not drawn before it",
        ),
        (
            {
                "name": "optuna",
                "space": {"b": {"choice": [2]}, "a": {"choice": [1], "when": {"b": 1}}},
            },
            "space.a.when.b: 1 is never drawn",
        ),
        ({"name": "optuna", "space": SPACE, "metrics": {}}, "search.metrics: {} is not valid"),
        (
            {"name": "optuna", "space": SPACE, "metrics": {"retrieval/R@1": "up"}},
            "'up' is not valid",
        ),
        (
            {
                "name": "optuna",
                "space": SPACE,
                "confirm": {"against": "runs/a", "seeds": [1], "choose_seeds": [1]},
            },
            "a comparison needs fresh ones",
        ),
        (
            {
                "name": "optuna",
                "space": SPACE,
                "confirm": {"against": "runs/a", "seeds": [1], "top": 3},
            },
            "top: 3 needs choose_seeds",
        ),
    ],
)
def test_searches_that_cannot_be(search: Any, said: str) -> None:
    assert said in fault(search=search)


@pytest.mark.parametrize("key", ["arms", "axes"])
def test_a_search_has_neither_arms_nor_axes(key: str) -> None:
    values = {"arms": {"a": {"order": 0}}, "axes": {"order": [0]}}[key]
    assert f"{key}: are for search: grid" in fault(
        **{key: values}, search={"name": "random", "space": SPACE}
    )


def test_a_comparison_has_seeds_that_the_search_has_not() -> None:
    confirm = {"against": "runs/a", "seeds": [1, 2]}
    assert "search.confirm.seeds: [1] are in seeds too" in fault(
        seeds=[0, 1], search={"name": "random", "space": SPACE, "confirm": confirm}
    )


def test_the_estimate_of_a_lucky_single_value_lies_below_a_mean_of_many() -> None:
    lucky, proven, others = [0.60], [0.45, 0.68, 0.50, 0.62], [[0.3, 0.4], [0.35, 0.42], [0.2, 0.3]]
    estimates = shrunk([lucky, proven, *others])
    assert estimates[0] < estimates[1] < fmean(proven) < lucky[0]
    assert min(estimates) > 0.25, "low ones are drawn up"
    exact = shrunk([[0.60], [0.559, 0.561], [0.3, 0.3001]])
    assert exact == pytest.approx([0.60, 0.56, 0.3], abs=1e-3), (
        "where seeds agree there is little to correct"
    )


@pytest.mark.parametrize("values", [[[0.3], [0.5]], [[0.3, 0.9]], []])
def test_without_repeats_or_with_one_point_estimates_are_the_means(
    values: list[list[float]],
) -> None:
    assert shrunk(values) == [sum(own) / len(own) for own in values]


def test_points_that_differ_less_than_their_seeds_are_all_worth_the_same() -> None:
    assert shrunk([[0.1, 0.9], [0.2, 0.8], [0.15, 0.9]]) == pytest.approx([0.5083] * 3, abs=1e-4)


@pytest.mark.parametrize(("every", "possible"), [(0, False), (2, True), (4, True), (5, False)])
def test_stopping_needs_its_metric_within_the_grace(every: int, possible: bool) -> None:
    sweep = sweep_of(base={"evaluation.online.every": every}, stopping={"name": "asha", "grace": 4})
    if possible:
        assert expand(sweep)[0].config.evaluation.online.keep_best == "online/knn"
        return
    with pytest.raises(
        ConfigError, match=f"evaluation.online.every: {every} is not valid with stopping"
    ):
        expand(sweep)


def test_stopping_and_what_is_kept_do_not_change_a_cell_s_name() -> None:
    base = {"evaluation.online.every": 1}
    plain, stopped = (
        expand(sweep_of(base=base, stopping=stopping))[0].config
        for stopping in (None, {"name": "median"})
    )
    assert plain != stopped
    assert plain.identity("x") == stopped.identity("x")


# --- Constraints of a grid ------------------------------------------------------------------------


def grid(**values: Any) -> list[Cell]:
    return expand(sweep_of(**values))


def test_crossed_axes_become_the_cells_that_differ() -> None:
    axes = {
        "order": [0, 1, 2],
        "selection": ["random", "scheduled"],
        "mix": ["same", "one_way", "both_ways"],
        "reverse": [False, True],
    }
    cells, same = distinct(grid(axes=axes))
    assert len(cells) + len(same) == 36
    # Order 0 is one cell; with random selection each order has two (independent, or the same draw
    # for both); scheduled has 3 x 2.
    assert len(cells) == 1 + 2 * (2 + 6)
    assert len({cell.title for cell in cells}) == len(cells)
    assert same[0] == "trial-order=0-s0: the same cell as trial-order=0-s0, which runs once"


def test_an_axis_of_orders_takes_what_base_says_of_mixing_where_it_means_something() -> None:
    cells = grid(base={"mix": "one_way"}, axes={"order": [0, 1]})
    assert [cell.config.schedule.mix for cell in cells] == [None, "one_way"]


def test_what_an_arm_says_in_so_many_words_is_refused_not_left_out() -> None:
    with pytest.raises(ConfigError, match=r"schedule\.mix: 'same' needs order 1 or more"):
        grid(arms={"a": {"order": 0, "mix": "same"}})


def test_exclude_leaves_out_cells_by_their_values() -> None:
    sweep = sweep_of(
        axes={"order": [1, 2], "mix": ["same", "one_way", "both_ways"]},
        seeds=[0, 1],
        exclude=[{"order": 2, "mix": ["same", "one_way"]}],
    )
    cells = expand(sweep)
    assert (size(sweep), len(cells)) == (12, 8)
    assert {
        (cell.config.schedule.order, cell.config.schedule.mix)
        for cell in cells
        if cell.config.schedule.order == 2
    } == {(2, "both_ways")}


def test_exclude_may_take_out_points_that_would_make_no_cell() -> None:
    assert len(grid(axes={"order": [2, 3]}, exclude=[{"order": 3}])) == 1


def test_exclude_that_leaves_nothing_or_names_no_value_is_an_error() -> None:
    with pytest.raises(ConfigError, match="exclude: leaves no cell"):
        grid(axes={"order": [1]}, exclude=[{"order": 1}])
    with pytest.raises(ConfigError, match="exclude: ordr: unknown key"):
        grid(axes={"order": [1]}, exclude=[{"ordr": 1}])


@pytest.mark.parametrize(
    ("candidates", "rounds", "taking_part"),
    [
        (8, 3, [8, 4, 2]),
        (7, 3, [7, 4, 2]),
        (6, 4, [6, 3, 2, 2]),
        (2, 3, [2, 2, 2]),
        (1, 2, [1, 1]),
        (5, 1, [5]),
    ],
)
def test_half_of_the_candidates_go_after_each_round_but_the_last_two(
    candidates: int, rounds: int, taking_part: list[int]
) -> None:
    assert halved(candidates, rounds) == taking_part
