"""Both views in one pass of the network over a pass for each: how long a two-view step takes.

    python benchmarks/view_passes.py --out benchmarks/results/view_passes.json

Forward and backward of VICReg on two views, in the backbone's memory format, the two by turns in
one process; a row is the median over turns of the ratio of a turn. vididi/backbones/view_passes.py
has for each backbone up to where one pass is the faster one in these rows, once and for all: no
time that is measured while training decides anything.
"""

from __future__ import annotations

from statistics import median
from typing import Any, get_args

import torch
from by_turns import median_ratio
from step_table import Case, run
from train_step import make_objective, network_seconds

from vididi.backbones.memory_formats import OF_TORCH, fastest
from vididi.backbones.view_passes import ViewPasses, one_pass_is_faster

# Pixels, frames, pairs of clips.
TINY = ((32, 8, 8), (32, 8, 40), (64, 8, 16), (112, 8, 4), (112, 8, 16))
SMALL = ((32, 8, 2), (32, 8, 4), (32, 8, 8), (64, 8, 2), (64, 8, 4), (112, 8, 2))
LARGE = ((112, 8, 8), (112, 8, 64), (224, 16, 16))


def cases(backbone: str, gpu: bool) -> tuple[Case, ...]:
    """What a backbone is measured on."""
    if gpu:
        return LARGE
    return TINY if backbone == "r3d_tiny" else SMALL


def measure(backbone: str, case: Case, device: torch.device, turns: int) -> dict[str, Any]:
    """A row."""
    size, frames, pairs = case
    gpu = device.type == "cuda"
    layout = OF_TORCH[fastest(backbone, size, gpu)]
    generator = torch.Generator().manual_seed(0)
    views = [
        torch.randn(pairs, 3, frames, size, size, generator=generator)
        .to(device)
        .contiguous(memory_format=layout)
        for _ in "ab"
    ]
    objectives = {}
    for passes in get_args(ViewPasses):
        objectives[passes] = make_objective("vicreg", backbone, pairs, device)
        objectives[passes].to(memory_format=layout)  # type: ignore[call-overload]
        objectives[passes].view_passes = passes
    seconds: dict[str, list[float]] = {passes: [] for passes in objectives}
    for turn in range(turns + 1):
        for passes, objective in objectives.items():
            objective.zero_grad()
            taken = network_seconds(objective, views, device)
            if turn:  # the first chooses kernels and allocates
                seconds[passes].append(taken)
    one = one_pass_is_faster(backbone, pairs * frames * size**2, gpu)
    return {
        "backbone": backbone,
        "pixels": size,
        "frames": frames,
        "pairs": pairs,
        "two_seconds": median(seconds["two"]),
        "one_over_two": median_ratio(seconds["one"], seconds["two"]),
        "in_use": "one" if one else "two",
    }


def main() -> None:
    """Measure each backbone; see run."""
    run(
        __doc__,
        cases,
        measure,
        {"two_seconds": ("two passes s", ".3f"), "one_over_two": ("one over it", ".2f")},
        turns=7,
    )


if __name__ == "__main__":
    main()
