"""The learning rate over a run (ViDiDi E.3)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vididi.optim import cosine_with_warmup


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
