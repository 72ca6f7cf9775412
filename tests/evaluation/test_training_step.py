"""One step of training with labels: the rate, dropout that follows from the seed, the loss in full
precision, and the update.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from vididi.errors import TrainingError
from vididi.evaluation.training_step import check_loss, training_step


def make() -> tuple[nn.Sequential, torch.optim.SGD]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2))
    return model, torch.optim.SGD(model.parameters(), lr=0.5)


def test_a_step_is_that_of_plain_torch() -> None:
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    (model, optimiser), (plain, _) = make(), make()
    seen: list[Tensor] = []
    rate, logits, value = training_step(
        model,
        optimiser,
        (x,),
        lambda given: (seen.append(given), given.square().mean())[1],
        factor=0.1,
        seed=7,
        precision="fp32",
    )
    torch.manual_seed(7)
    expected = plain(x)
    expected.square().mean().backward()
    assert rate == pytest.approx(0.05)
    assert torch.equal(logits, expected)
    assert value == expected.square().mean()
    assert not logits.requires_grad
    assert not value.requires_grad
    assert torch.equal(seen[0], expected)
    for own, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert other.grad is not None
        assert torch.allclose(own, other - 0.05 * other.grad, atol=0, rtol=1e-6)


def test_the_loss_is_of_logits_in_full_precision_and_gradients_do_not_add_up() -> None:
    model, optimiser = make()
    kinds: list[torch.dtype] = []

    def loss(logits: Tensor) -> Tensor:
        kinds.append(logits.dtype)
        return logits.mean()

    for _ in range(2):
        _, logits, _ = training_step(
            model, optimiser, (torch.ones(8, 4),), loss, factor=1.0, seed=3, precision="bf16"
        )
    bias = model[1].bias
    assert isinstance(bias, Tensor)
    assert bias.grad is not None
    assert (kinds, logits.dtype) == ([torch.float32] * 2, torch.bfloat16)
    assert bias.grad.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("mean", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_training(mean: float) -> None:
    check_loss(1e30, 1)
    with pytest.raises(TrainingError, match="the loss is not finite in epoch 3; lower optimiser"):
        check_loss(mean, 3)
