"""Two small cells that share a card: both at once, over one after the other.

    python benchmarks/gpu_cells.py --motion motion --out benchmarks/results/gpu_cells.json

A cell is ``vididi pretrain`` of the ablation's settings (sweeps/ablation.yaml: r3d_tiny, 40 pairs
of 8 frames of 32 pixels) on 200 videos of the motion set, without an evaluation: a process of its
own, its start included, as in a sweep. ``--motion`` is that set, prepared where PyAV is:

    vididi prepare motion --set train=200 --set test=40 --short-side 40 --out motion

Without it, it is prepared here first.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import yaml
from gpu_report import Report, Row

from vididi.runs.file_names import METRICS

CELL: dict[str, Any] = {
    "data": {"name": "motion", "train": 200, "test": 40},
    "prepare": {"short_side": 40},
    "clip": {"frames": 8, "stride": 2, "size": 32},
    "augment": {"name": "vididi", "crop_scale": [0.3, 1.0], "hue": 0.0},
    "objective": {"name": "vicreg", "hidden": 256, "out": 256},
    "backbone": {"name": "r3d_tiny", "width": 8},
    "optimiser": {"name": "lars", "lr": 4.0},
    "training": {"epochs": 50, "batch_size": 40},
    "evaluation": {"protocols": []},
}
QUICK = {
    "data": {"name": "motion", "train": 16, "test": 4},
    "training": {"epochs": 2, "batch_size": 8},
}


def vididi(*words: str) -> subprocess.Popen:
    """A command of vididi's, begun; its output is kept for when it fails."""
    command = [sys.executable, "-m", "vididi.cli", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen) -> None:
    """Wait for it; raises RuntimeError with what it said where it failed."""
    said, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{process.args!r}:\n{said}")


def prepare(cell: dict[str, Any], out: Path) -> None:
    """The cell's data set."""
    options = [f"{name}={cell['data'][name]}" for name in ("train", "test")]
    words = [word for option in options for word in ("--set", option)]
    side = str(cell["prepare"]["short_side"])
    finish(vididi("prepare", "motion", *words, "--short-side", side, "--out", str(out)))


def epochs_of(run: Path) -> list[Row]:
    """The metrics of each epoch but the first, in which kernels are chosen."""
    return [json.loads(line) for line in (run / METRICS).read_text().splitlines()][1:]


def train(file: Path, shards: Path, runs: list[Path], device: str, at_once: bool) -> Row:
    """Train a cell for each run folder, and say how long that took."""
    began, processes = time.perf_counter(), []
    for seed, run in enumerate(runs):
        words = ["--out", str(run), "--shards", str(shards), "--device", device]
        process = vididi("pretrain", str(file), *words, "--set", f"training.seed={seed}")
        processes.append(process)
        if not at_once:
            finish(process)
    if at_once:
        for process in processes:
            finish(process)
    epochs = [epoch for run in runs for epoch in epochs_of(run)]
    return {
        "what": "cells",
        "way": "at_once" if at_once else "one_after_another",
        "cells": len(runs),
        "seconds": time.perf_counter() - began,
        "ms_per_step": 1e3 * mean(epoch["time/seconds_per_step"] for epoch in epochs),
        "data_share": mean(epoch["time/data_share"] for epoch in epochs),
    }


def main() -> None:
    """Measure both ways, write to ``--out``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--motion", type=Path, help="the motion set, prepared before")
    parser.add_argument("--quick", action="store_true", help="16 videos, 2 epochs")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    cell = CELL | (QUICK if arguments.quick else {})
    report = Report(arguments.out, torch.device(arguments.device), {"cell": cell})
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["VIDIDI_CACHE"] = str(folder / "cache")
        file = folder / "cell.yaml"
        file.write_text(yaml.safe_dump(cell))
        shards = arguments.motion or folder / "motion"
        if arguments.motion is None:
            prepare(cell, shards)
        rows = {}
        for at_once in (False, True):
            runs = [folder / f"{at_once}-{number}" for number in range(2)]
            rows[at_once] = train(file, shards, runs, arguments.device, at_once)
        ratio = rows[True]["seconds"] / rows[False]["seconds"]
        report.add(rows[False], {**rows[True], "over_one_after_another": ratio})
    for row in report.content["rows"]:
        print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
