"""Both views in one pass of the network over a pass for each: how long a two-view step takes.

    python benchmarks/view_passes.py --out benchmarks/results/view_passes.json

Forward and backward of VICReg on two views, in the backbone's memory format, the two by turns in
one process; a row is the median over turns of the ratio of a turn. vididi/backbones/view_passes.py
has for each backbone up to where one pass is the faster one in these rows, once and for all: no
time that is measured while training decides anything.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any, get_args

import torch
from by_turns import median_ratio
from train_step import make_objective, network_seconds

from vididi.backbones import BACKBONES
from vididi.backbones.memory_formats import OF_TORCH, fastest
from vididi.backbones.view_passes import ViewPasses, one_pass_is_faster
from vididi.provenance import measured_by

# Pixels, frames, pairs of clips.
TINY = ((32, 8, 8), (32, 8, 40), (64, 8, 16), (112, 8, 4), (112, 8, 16))
SMALL = ((32, 8, 2), (32, 8, 4), (32, 8, 8), (64, 8, 2), (64, 8, 4), (112, 8, 2))
LARGE = ((112, 8, 8), (112, 8, 64), (224, 16, 16))


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
    """Measure each backbone, print a line for each row, write to ``--out``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=list(BACKBONES))
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--quick", action="store_true", help="r3d_tiny alone, two turns")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    backbones = ["r3d_tiny"] if arguments.quick else arguments.backbones
    turns = 2 if arguments.quick else arguments.turns
    rows = []
    print("backbone      pixels frames pairs  two passes s  one over it  in use")
    for backbone in backbones:
        for case in cases(backbone, device.type == "cuda"):
            row = measure(backbone, case, device, turns)
            rows.append(row)
            print(
                f"{backbone:12} {row['pixels']:7} {row['frames']:6} {row['pairs']:5}"
                f" {row['two_seconds']:13.3f} {row['one_over_two']:12.2f}  {row['in_use']}",
                flush=True,
            )
    if arguments.out:
        about = {**measured_by(), "threads": arguments.threads}
        arguments.out.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
