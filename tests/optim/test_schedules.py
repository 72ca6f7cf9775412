"""The learning rate over a run (ViDiDi E.3)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from vididi.optim import cosine_with_warmup, steps_with_warmup


def factors(steps: int, warmup: int = 0) -> list[float]:
    return [cosine_with_warmup(step, steps, warmup) for step in range(steps)]


@pytest.mark.parametrize("steps", [1, 2, 10, 1000])
def test_without_warmup_it_is_the_formula_of_appendix_e3(steps: int) -> None:
    expected = [0.5 * (math.cos(k / steps * math.pi) + 1) for k in range(steps)]
    assert factors(steps) == pytest.approx(expected, abs=1e-15)


def test_begins_at_one_is_half_in_the_middle_and_ends_just_above_zero() -> None:
    curve = factors(100)
    assert curve[0] == 1.0
    assert curve[50] == pytest.approx(0.5)
    assert curve[-1] == pytest.approx(0.5 * (math.cos(0.99 * math.pi) + 1))
    assert 0 < curve[-1] < 0.001


def test_warmup_rises_in_equal_steps_to_one() -> None:
    curve = factors(50, 10)
    assert curve[:10] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert curve[9] == 1.0


def test_after_warmup_the_cosine_runs_over_the_rest() -> None:
    assert factors(50, 10)[10:] == factors(40)


@pytest.mark.parametrize("warmup", [0, 1, 10])
def test_never_rises_after_warmup_and_stays_between_zero_and_one(warmup: int) -> None:
    curve = np.array(factors(60, warmup))
    assert (np.diff(curve[warmup:]) < 0).all()
    assert (curve > 0).all()
    assert (curve <= 1).all()


@pytest.mark.parametrize(("steps", "warmup"), [(10, -1), (10, 10), (10, 11), (1, 1)])
def test_a_warmup_that_does_not_fit_is_refused(steps: int, warmup: int) -> None:
    with pytest.raises(ValueError, match=f"warmup: {warmup} steps .* less than the {steps} steps"):
        cosine_with_warmup(0, steps, warmup)


# --- What the cosine spans ------------------------------------------------------------------------

LENGTHS = [(10, 1), (10, 9), (200, 5), (1000, 25), (1000, 500)]


def by_hand(step: int, steps: int, warmup: int, span: str) -> float:
    """Linear to where the cosine begins; then the printed half period, over what is left (CVRL 4.1,
    CORP 4.1) or over all.
    """
    k, total = (step - warmup, steps - warmup) if span == "remaining" else (step, steps)
    if step >= warmup:
        return 0.5 * (math.cos(math.pi * k / total) + 1)
    return (step + 1) / warmup * by_hand(warmup, steps, warmup, span)


@pytest.mark.parametrize("span", ["remaining", "whole"])
@pytest.mark.parametrize(("steps", "warmup"), [*LENGTHS, (10, 0), (1, 0)])
def test_every_step_is_that_of_the_printed_formula(steps: int, warmup: int, span: Any) -> None:
    curve = [cosine_with_warmup(step, steps, warmup, span) for step in range(steps)]
    assert curve == pytest.approx(
        [by_hand(step, steps, warmup, span) for step in range(steps)], abs=1e-15
    )


def test_without_warmup_both_spans_are_the_same() -> None:
    assert factors(100) == [cosine_with_warmup(step, 100, 0, "whole") for step in range(100)]


def test_the_whole_cosine_after_warmup_is_the_curve_without_warmup() -> None:
    assert [cosine_with_warmup(step, 100, 10, "whole") for step in range(10, 100)] == factors(100)[
        10:
    ]


@pytest.mark.parametrize("span", ["remaining", "whole"])
@pytest.mark.parametrize(("steps", "warmup"), LENGTHS)
def test_warmup_ends_where_the_cosine_begins_and_nothing_leaves_zero_to_one(
    steps: int, warmup: int, span: Any
) -> None:
    curve = np.array([cosine_with_warmup(step, steps, warmup, span) for step in range(steps)])
    assert curve[warmup - 1] == curve[warmup] == curve.max()
    assert np.diff(curve[:warmup], prepend=0) == pytest.approx(curve[warmup] / warmup)
    assert (np.diff(curve[warmup:]) < 0).all()
    assert (curve > 0).all()
    assert (curve <= 1).all()


@pytest.mark.parametrize("steps", [0, -3])
def test_a_run_without_steps_is_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps: {steps} is not valid; it must be at least 1"):
        cosine_with_warmup(0, steps)


def test_the_rate_falls_in_steps() -> None:
    assert [steps_with_warmup(step, [2, 5], 0.5) for step in range(7)] == [
        1,
        1,
        0.5,
        0.5,
        0.5,
        0.25,
        0.25,
    ]
    assert [steps_with_warmup(step, [3], 0.1, warmup=4) for step in range(5)] == pytest.approx(
        [0.25, 0.5, 0.75, 0.1, 0.1]
    )
