"""LARS against steps computed by hand in numpy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from vididi.optim import LARS, OPTIMISERS, cosine_with_warmup

OPTIONS: dict[str, float] = {"lr": 0.5, "momentum": 0.9, "weight_decay": 0.01, "trust": 0.02}


def parameter(values: Any) -> nn.Parameter:
    return nn.Parameter(torch.as_tensor(np.array(values), dtype=torch.float64))


def steps_by_hand(
    w: NDArray,
    gradients: list[NDArray],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    trust: float,
) -> NDArray:
    velocity = np.zeros_like(w)
    for gradient in gradients:
        g = gradient.copy()
        if w.ndim > 1:
            g = g + weight_decay * w
            norm_w, norm_g = np.sqrt((w**2).sum()), np.sqrt((g**2).sum())
            if norm_w > 0 and norm_g > 0:
                g = g * trust * norm_w / norm_g
        velocity = momentum * velocity + g
        w = w - lr * velocity
    return w


def take_steps(w: nn.Parameter, gradients: list[NDArray], **options: float) -> NDArray:
    optimiser = LARS([w], **options)
    for gradient in gradients:
        w.grad = torch.from_numpy(gradient.copy())
        optimiser.step()
    return w.detach().numpy()


def random_gradients(shape: tuple[int, ...], count: int = 3) -> list[NDArray]:
    return list(np.random.default_rng(1).normal(size=(count, *shape)))


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 1, 2, 2)])
def test_three_steps_of_a_matrix(shape: tuple[int, ...]) -> None:
    w, gradients = np.random.default_rng(0).normal(size=shape), random_gradients(shape)
    np.testing.assert_allclose(
        take_steps(parameter(w), gradients, **OPTIONS),
        steps_by_hand(w, gradients, **OPTIONS),
        rtol=1e-12,
    )


def test_the_first_step_of_a_matrix_written_out() -> None:
    w = parameter([[3.0, 4.0]])
    result = take_steps(
        w, [np.array([[0.0, 2.0]])], lr=0.5, momentum=0.9, weight_decay=0.0, trust=0.1
    )
    np.testing.assert_allclose(result, [[3.0, 4.0 - 0.5 * (0.1 * 5 / 2 * 2)]], rtol=1e-14)


def test_a_bias_is_neither_decayed_nor_scaled() -> None:
    b, gradients = np.array([1.0, -2.0, 0.5]), random_gradients((3,))
    velocity, expected = np.zeros(3), b.copy()
    for gradient in gradients:
        velocity = 0.9 * velocity + gradient
        expected -= 0.5 * velocity
    np.testing.assert_allclose(take_steps(parameter(b), gradients, **OPTIONS), expected, rtol=1e-12)


def test_zero_weights_move_by_the_plain_gradient() -> None:
    gradient = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_allclose(
        take_steps(parameter(np.zeros((2, 2))), [gradient], **OPTIONS), -0.5 * gradient, rtol=1e-14
    )


def test_zero_gradients_without_decay_move_nothing() -> None:
    w = np.ones((2, 2))
    result = take_steps(parameter(w), [np.zeros((2, 2))] * 3, **{**OPTIONS, "weight_decay": 0.0})
    np.testing.assert_array_equal(result, w)


def test_zero_gradients_with_decay_shrink_the_matrix() -> None:
    w, gradients = np.array([[3.0, 4.0]]), [np.zeros((1, 2))] * 3
    np.testing.assert_allclose(
        take_steps(parameter(w), gradients, **OPTIONS),
        steps_by_hand(w, gradients, **OPTIONS),
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        take_steps(parameter(w), gradients[:1], **OPTIONS), w * (1 - 0.5 * 0.02), rtol=1e-12
    )


def test_zero_weights_and_zero_gradients_stay_finite() -> None:
    np.testing.assert_array_equal(
        take_steps(parameter(np.zeros((2, 2))), [np.zeros((2, 2))] * 2, **OPTIONS), np.zeros((2, 2))
    )


def test_the_step_of_a_matrix_does_not_depend_on_the_size_of_its_gradient() -> None:
    w, gradients = np.random.default_rng(0).normal(size=(4, 3)), random_gradients((4, 3))
    options = {**OPTIONS, "weight_decay": 0.0}
    huge = [1e6 * gradient for gradient in gradients]
    np.testing.assert_allclose(
        take_steps(parameter(w), huge, **options),
        take_steps(parameter(w), gradients, **options),
        rtol=1e-10,
    )


def test_a_parameter_without_gradient_is_left_alone() -> None:
    trained, frozen = parameter(np.ones((2, 2))), parameter(np.ones((2, 2)))
    optimiser = LARS([trained, frozen], **OPTIONS)
    trained.grad = torch.ones(2, 2, dtype=torch.float64)
    optimiser.step()
    assert torch.equal(frozen, torch.ones(2, 2, dtype=torch.float64))
    assert not torch.equal(trained, frozen)


def test_a_group_has_its_own_learning_rate() -> None:
    still, moving = parameter([1.0]), parameter([1.0])
    optimiser = LARS([{"params": [still], "lr": 0.0}, {"params": [moving]}], **OPTIONS)
    still.grad, moving.grad = torch.ones(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    optimiser.step()
    assert (still.item(), moving.item()) == (1.0, 0.5)


def test_the_defaults_are_those_of_appendix_e3() -> None:
    assert LARS([parameter([1.0])]).defaults == {
        "lr": 1.2,
        "momentum": 0.9,
        "weight_decay": 1e-6,
        "trust": 0.001,
    }


def test_a_closure_is_called_with_gradient() -> None:
    w = parameter([[2.0]])
    optimiser = LARS([w], **OPTIONS)

    def closure() -> float:
        optimiser.zero_grad()
        loss = w.square().sum()
        loss.backward()
        return loss.item()

    assert optimiser.step(closure) == 4.0
    assert w.item() < 2.0


def train_a_line(steps: int) -> tuple[nn.Linear, float]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 5, generator=generator)
    y = x @ torch.randn(5, 3, generator=generator) + torch.randn(3, generator=generator)
    model = nn.Linear(5, 3)
    with torch.no_grad():
        model.weight.copy_(torch.randn(3, 5, generator=generator))
        model.bias.zero_()
    optimiser = LARS(model.parameters(), lr=0.3, momentum=0.9, weight_decay=0.0, trust=0.02)
    loss = torch.zeros(())
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 0.3 * cosine_with_warmup(step, steps)
        loss = (model(x) - y).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model, loss.item()


def test_solves_a_least_squares_problem() -> None:
    _, loss = train_a_line(400)
    assert loss < 1e-3


def test_is_deterministic_to_the_bit() -> None:
    (first, _), (second, _) = train_a_line(50), train_a_line(50)
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)


def test_goes_on_from_its_state_to_the_bit() -> None:
    gradients = random_gradients((4, 3), 4)
    through = take_steps(parameter(np.ones((4, 3))), gradients, **OPTIONS)
    w = parameter(np.ones((4, 3)))
    first = LARS([w], **OPTIONS)
    for gradient in gradients[:2]:
        w.grad = torch.from_numpy(gradient)
        first.step()
    second = LARS([w], lr=9.0)
    second.load_state_dict(first.state_dict())
    for gradient in gradients[2:]:
        w.grad = torch.from_numpy(gradient)
        second.step()
    np.testing.assert_array_equal(w.detach().numpy(), through)


BAD = [
    ("lr", -0.1),
    ("weight_decay", -1e-6),
    ("trust", -0.001),
    ("momentum", -0.1),
    ("momentum", 1.0),
]
NOT_FINITE = [(name, float(value)) for name in OPTIONS for value in ("nan", "inf", "-inf")]


@pytest.mark.parametrize(("name", "value"), [*BAD, *NOT_FINITE])
def test_bad_values_name_the_field(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name}: {value} is not valid"):
        LARS([parameter([1.0])], **{name: value})


@pytest.mark.parametrize(
    ("entry", "names"),
    [("sgd", ("lr", "momentum", "weight_decay")), ("adamw", ("lr", "weight_decay"))],
)
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_the_other_optimisers_refuse_the_same(
    entry: str, names: tuple[str, ...], value: float
) -> None:
    make: Any = OPTIMISERS[entry]
    for name in names:
        with pytest.raises(ValueError, match=f"^{name}: {value} is not valid; it must"):
            make([parameter([1.0])], **{name: value})
