"""One step of training an encoder with labels, as classification and detection take it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vididi.errors import TrainingError
from vididi.optim import scale_rates


def training_step(
    model: nn.Module,
    optimiser: Optimizer,
    inputs: tuple[Tensor, ...],
    loss: Callable[[Tensor], Tensor],
    factor: float,
    seed: int,
    precision: str,
) -> tuple[float, Tensor, Tensor]:
    """Set the rate, forward, loss, backward, step. Nothing here waits for a GPU.

    Args:
        model: ``inputs`` -> logits.
        loss: of logits in float32.
        factor: on the base learning rate.
        seed: of the dropout, so that a step is the same after a restart.
        precision: ``bf16`` computes the logits under autocast.

    Returns:
        the first group's learning rate, the logits and the loss, both without gradient.
    """
    rate = scale_rates(optimiser, factor)
    torch.manual_seed(seed)
    with torch.autocast(inputs[0].device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        logits = model(*inputs)
    value = loss(logits.float())
    optimiser.zero_grad(set_to_none=True)
    value.backward()
    optimiser.step()
    return rate, logits.detach(), value.detach()


def check_loss(mean: float, epoch: int) -> None:
    """Refuse an epoch whose mean loss is not finite.

    Once an epoch: reading the loss of each step would make a GPU wait, and a worker that raised
    alone would leave the others waiting.

    Args:
        mean: over the epoch's steps and all workers, so that every worker raises; epoch: from 1.

    Raises:
        TrainingError: it names the epoch.
    """
    if not np.isfinite(mean):
        raise TrainingError(f"the loss is not finite in epoch {epoch}; lower optimiser.lr")
