"""Channels last over contiguous: how long a two-view step of a backbone takes in each format.

    python benchmarks/memory_format.py --out benchmarks/results/memory_format.json

Forward and backward of VICReg on two views, in as many passes as are in use
(vididi/backbones/view_passes.py), the two formats by turns in one process; a row is the median over
turns of the ratio of a turn. vididi/backbones/memory_formats.py has for each backbone the format
that is faster in these rows, once and for all: no time that is measured while training decides
anything.
"""

from __future__ import annotations

from statistics import median
from typing import Any

import torch
from step_table import Case, run
from train_step import make_objective, network_seconds

from vididi.backbones.memory_formats import OF_TORCH, fastest
from vididi.backbones.view_passes import one_pass_is_faster

# Pixels, frames, pairs of clips.
SMALL, LARGE = ((32, 8, 8), (64, 8, 4), (112, 8, 2)), ((112, 16, 32), (224, 16, 16))
TINY = ((16, 4, 12), (32, 8, 40), (64, 8, 16), (112, 8, 4))


def cases(backbone: str, gpu: bool) -> tuple[Case, ...]:
    """What a backbone is measured on."""
    if gpu:
        return LARGE
    return TINY if backbone == "r3d_tiny" else SMALL


def measure(backbone: str, case: Case, device: torch.device, turns: int) -> dict[str, Any]:
    """A row."""
    size, frames, pairs = case
    generator = torch.Generator().manual_seed(0)
    views = [
        torch.randn(pairs, 3, frames, size, size, generator=generator).to(device) for _ in "ab"
    ]
    steps = {}
    for name, layout in OF_TORCH.items():
        objective = make_objective("vicreg", backbone, pairs, device)
        objective.to(memory_format=layout)  # type: ignore[call-overload]
        if one_pass_is_faster(backbone, pairs * frames * size**2, device.type == "cuda"):
            objective.view_passes = "one"
        steps[name] = objective, [view.contiguous(memory_format=layout) for view in views]
    ratios, seconds = [], {name: [] for name in steps}
    for turn in range(turns + 1):
        for name, (objective, layed_out) in steps.items():
            seconds[name].append(network_seconds(objective, layed_out, device))
        if turn:  # the first chooses kernels and allocates
            ratios.append(seconds["channels_last"][-1] / seconds["contiguous"][-1])
    return {
        "backbone": backbone,
        "pixels": size,
        "frames": frames,
        "pairs": pairs,
        "contiguous_seconds": median(seconds["contiguous"][1:]),
        "channels_last_over_contiguous": median(ratios),
        "in_use": fastest(backbone, size, device.type == "cuda"),
    }


def main() -> None:
    """Measure each backbone; see run."""
    run(
        __doc__,
        cases,
        measure,
        {
            "contiguous_seconds": ("contiguous s", ".3f"),
            "channels_last_over_contiguous": ("channels last over it", ".2f"),
        },
        turns=5,
    )


if __name__ == "__main__":
    main()
