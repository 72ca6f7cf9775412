"""Learning-rate schedules: functions of the step alone."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from torch.optim import Optimizer


def cosine_with_warmup(
    step: int, steps: int, warmup: int = 0, cosine: Literal["remaining", "whole"] = "remaining"
) -> float:
    """The factor on the base learning rate at 0-based ``step`` of ``steps``.

    Without warm-up it is 0.5 * (cos(pi * step / steps) + 1) (ViDiDi E.3). With it, the rate rises
    linearly over the first ``warmup`` steps to where the cosine begins. The cosine spans the
    ``remaining`` steps (CVRL 4.1, CORP 4.1), or the ``whole`` run, as ViDiDi's formula read to the
    letter, which the warm-up then meets on its way down.

    Raises:
        ValueError: fewer than one step, or a warm-up that is negative or not shorter than the run.
    """
    if steps < 1:
        raise ValueError(f"steps: {steps} is not valid; it must be at least 1")
    if not 0 <= warmup < steps:
        raise ValueError(
            f"warmup: {warmup} steps is not valid; it must be at least 0 and less than the {steps}"
            " steps of the run"
        )
    begin = warmup if cosine == "remaining" else 0
    position = max(step, warmup)
    rise = (step + 1) / warmup if step < warmup else 1.0
    return rise * 0.5 * (math.cos(math.pi * (position - begin) / (steps - begin)) + 1)


def steps_with_warmup(
    step: int, falls: Iterable[int], factor: float = 0.1, warmup: int = 0
) -> float:
    """The factor on the base learning rate at 0-based ``step``.

    It is ``factor`` for each of ``falls`` (steps) that is past, multiplied.

    Over the first ``warmup`` steps it is also multiplied by a linear rise.
    """
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return rise * factor ** sum(step >= fall for fall in falls)


def scale_rates(optimiser: Optimizer, factor: float) -> float:
    """Make each group's learning rate ``factor`` times its first one; returns the first group's.

    The group stores its first rate as ``base_lr``.
    """
    for group in optimiser.param_groups:
        group["lr"] = group.setdefault("base_lr", group["lr"]) * factor
    return optimiser.param_groups[0]["lr"]
