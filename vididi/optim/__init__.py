"""Optimisers and learning-rate schedules.

Each entry of OPTIMISERS takes parameters and keyword options.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.utils import get_total_norm

from vididi.checks import check_not_negative
from vididi.optim.dynamo import leave_compiler_out
from vididi.optim.lars import LARS, check_momentum
from vididi.optim.schedules import cosine_with_warmup, scale_rates, steps_with_warmup


def decay_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict]:
    """Two groups: matrices with ``weight_decay``, parameters of one dimension without."""
    parameters = list(parameters)
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def decay_penalty(optimiser: torch.optim.Optimizer) -> float:
    """Half the weight decay times the squared norm of what is decayed, all parameters but vectors.

    Its gradient is what weight decay adds (CVRL Figure 5, "regularization loss"); AdamW keeps the
    two apart.
    """
    penalty = 0.0
    for group in optimiser.param_groups:
        if decay := group.get("weight_decay", 0.0):
            matrices = [p.detach() for p in group["params"] if p.ndim > 1]
            penalty += decay / 2 * float(get_total_norm(matrices)) ** 2
    return penalty


def sgd(
    params: Iterable[nn.Parameter],
    *,
    lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 1e-6,
) -> torch.optim.Optimizer:
    """SGD with momentum, not Nesterov; decay on matrices only.

    Args:
        lr: learning rate.
        momentum: share of the last step that stays, in [0, 1).
        weight_decay: share of a weight that its gradient gets.
    """
    check_not_negative(lr=lr, weight_decay=weight_decay)
    check_momentum(momentum)
    return torch.optim.SGD(decay_groups(params, weight_decay), lr=lr, momentum=momentum)


def adamw(
    params: Iterable[nn.Parameter], *, lr: float = 0.001, weight_decay: float = 1e-6
) -> torch.optim.Optimizer:
    """AdamW; decay on matrices only.

    Args:
        lr: learning rate.
        weight_decay: share of a weight, times the rate, that a step takes off.
    """
    check_not_negative(lr=lr, weight_decay=weight_decay)
    return torch.optim.AdamW(decay_groups(params, weight_decay), lr=lr)


leave_compiler_out()

OPTIMISERS = {"lars": LARS, "sgd": sgd, "adamw": adamw}

__all__ = [
    "LARS",
    "OPTIMISERS",
    "cosine_with_warmup",
    "decay_penalty",
    "scale_rates",
    "steps_with_warmup",
]
