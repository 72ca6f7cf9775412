"""The command line of a benchmark that measures steps of each backbone: a row for each case."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vididi.backbones import BACKBONES
from vididi.provenance import measured_by

Case = tuple[int, int, int]  # pixels, frames, pairs of clips


def run(
    about: str | None,
    cases: Callable[[str, bool], tuple[Case, ...]],
    measure: Callable[[str, Case, torch.device, int], dict[str, Any]],
    figures: dict[str, tuple[str, str]],
    turns: int,
) -> None:
    """Measure each backbone, print a line for each row, write to ``--out``.

    Args:
        about: the help's text.
        cases: of a backbone, on a GPU or not.
        measure: gives the row of a case on a device, in so many turns.
        figures: heading and format of a row's figures, by their keys.
        turns: where ``--turns`` says nothing.
    """
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=list(BACKBONES))
    parser.add_argument("--turns", type=int, default=turns)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--quick", action="store_true", help="r3d_tiny alone, two turns")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    backbones = ["r3d_tiny"] if arguments.quick else arguments.backbones
    turns = 2 if arguments.quick else arguments.turns
    rows = []
    headings = "".join(f"  {heading}" for heading, _ in figures.values())
    print(f"backbone      pixels frames pairs{headings}  in use")
    for backbone in backbones:
        for case in cases(backbone, device.type == "cuda"):
            row = measure(backbone, case, device, turns)
            rows.append(row)
            values = "".join(
                f"  {row[key]:{len(heading)}{form}}" for key, (heading, form) in figures.items()
            )
            print(
                f"{backbone:12} {row['pixels']:7} {row['frames']:6} {row['pairs']:5}{values}"
                f"  {row['in_use']}",
                flush=True,
            )
    if arguments.out:
        said = {**measured_by(), "threads": arguments.threads}
        arguments.out.write_text(json.dumps({**said, "rows": rows}, indent=1) + "\n")
