"""Channels last over contiguous: how long a two-view step of a backbone takes in each format.

    python benchmarks/memory_format.py --out benchmarks/results/memory_format.json

Forward and backward of VICReg on two views, in as many passes as are in use
(vididi/backbones/view_passes.py), the two formats by turns in one process; a row is the median over
turns of the ratio of a turn. vididi/backbones/memory_formats.py has for each backbone the format
that is faster in these rows, once and for all: no time that is measured while training decides
anything.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

import torch
from train_step import make_objective, network_seconds

from vididi.backbones import BACKBONES
from vididi.backbones.memory_formats import OF_TORCH, fastest
from vididi.backbones.view_passes import one_pass_is_faster
from vididi.provenance import measured_by

# Pixels, frames, pairs of clips.
SMALL, LARGE = ((32, 8, 8), (64, 8, 4), (112, 8, 2)), ((112, 16, 32), (224, 16, 16))
TINY = ((16, 4, 12), (32, 8, 40), (64, 8, 16), (112, 8, 4))


def cases(backbone: str, gpu: bool) -> tuple[tuple[int, int, int], ...]:
    """What a backbone is measured on."""
    if gpu:
        return LARGE
    return TINY if backbone == "r3d_tiny" else SMALL


def measure(
    backbone: str, case: tuple[int, int, int], device: torch.device, turns: int
) -> dict[str, Any]:
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
    """Measure each backbone, print a line for each row, write to ``--out``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=list(BACKBONES))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--quick", action="store_true", help="r3d_tiny alone, two turns")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    backbones = ["r3d_tiny"] if arguments.quick else arguments.backbones
    turns = 2 if arguments.quick else arguments.turns
    rows = []
    print("backbone      pixels frames pairs  contiguous s  channels last over it  in use")
    for backbone in backbones:
        for case in cases(backbone, device.type == "cuda"):
            row = measure(backbone, case, device, turns)
            rows.append(row)
            print(
                f"{backbone:12} {row['pixels']:7} {row['frames']:6} {row['pairs']:5}"
                f" {row['contiguous_seconds']:13.3f} {row['channels_last_over_contiguous']:21.2f}"
                f"  {row['in_use']}",
                flush=True,
            )
    if arguments.out:
        about = {**measured_by(), "threads": arguments.threads}
        arguments.out.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
