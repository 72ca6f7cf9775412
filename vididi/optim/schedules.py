"""Learning-rate schedules: functions of the step alone."""

from __future__ import annotations

import math


def cosine_with_warmup(step: int, steps: int, warmup: int = 0) -> float:
    """The factor on the base learning rate at 0-based ``step`` of ``steps`` (ViDiDi E.3).

    Without warm-up it is 0.5 * (cos(pi * step / steps) + 1). With it, the rate rises linearly over the first ``warmup``
    steps and the cosine runs over the rest.
    """
    if steps < 1:
        raise ValueError(f"steps: {steps} is not valid; it must be at least 1")
    if not 0 <= warmup < steps:
        raise ValueError(f"warmup: {warmup} steps is not valid; it must be at least 0 and less than the {steps} steps of the run")
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (math.cos(math.pi * (step - warmup) / (steps - warmup)) + 1)
