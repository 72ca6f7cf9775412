"""How long a sweep takes to its first cell, and how much longer than its cells it takes after that.

    python benchmarks/sweep_start.py --out benchmarks/results/sweep_start.json

``python run_sweep.py sweeps/ablation.yaml`` with its data prepared and its files in the page cache.
The start is from the program's to its first line about a cell. Packed is the time that the cells
themselves took, laid out on as many slots as ran at a time; what the sweep takes beyond it, from
the first cell's start to the last one's end, is the platform's.
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
from statistics import median
from typing import Any

from vididi.provenance import measured_by

ROOT = Path(__file__).resolve().parents[1]


def packed(seconds: list[float], slots: int) -> float:
    """When the last of these ends, each begun in the slot that is free first."""
    ends = [0.0] * slots
    for one in seconds:
        ends[ends.index(min(ends))] += one
    return max(ends)


def run(place: Path, name: str, arguments: list[str]) -> dict[str, Any]:
    """One sweep: seconds to its first cell, from there to its last one's end, and of the cells."""
    command = [sys.executable, str(ROOT / "run_sweep.py"), *arguments, "--runs", str(place / name)]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONUNBUFFERED": "1"}
    began = time.monotonic()
    first = last = None
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout
        for line in program.stdout:
            now = time.monotonic() - began
            if ": started" in line and first is None:
                first = now
            if ": finished after" in line:
                last = now
    if program.returncode or first is None or last is None:
        raise SystemExit(f"{' '.join(command)}: ended with {program.returncode}")
    folders = sorted((place / name).glob("*/*/result.json"), key=lambda path: path.stat().st_mtime)
    cells = [json.loads(path.read_text())["seconds"] for path in folders]
    return {"start_s": first, "cells_s": cells, "wall_after_start_s": last - first}


def main() -> None:
    """Measure, print, write to ``--out``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sweep", default="sweeps/ablation.yaml")
    parser.add_argument("--starts", type=int, default=3, help="of which the median counts")
    parser.add_argument("--quick", action="store_true", help="sweeps/smoke.yaml, one start")
    parser.add_argument("--out", type=Path, help="a JSON file")
    arguments = parser.parse_args()
    sweep = "sweeps/smoke.yaml" if arguments.quick else arguments.sweep
    starts = 1 if arguments.quick else arguments.starts
    short = ["--set", "training.epochs=1", "--set", "evaluation.clips=1"]
    with tempfile.TemporaryDirectory() as place:
        run(Path(place), "prepared", [sweep, "--only", "base", *short])
        again = [
            run(Path(place), f"start-{number}", [sweep, "--only", "base", *short])["start_s"]
            for number in range(starts)
        ]
        whole = run(Path(place), "whole", [sweep])
    slots = len(os.sched_getaffinity(0))
    cells = packed(whole["cells_s"], slots)
    content = {
        **measured_by(),
        "sweep": sweep,
        "slots": slots,
        "start_s": median([*again, whole["start_s"]]),
        "starts_s": [*again, whole["start_s"]],
        "cells": len(whole["cells_s"]),
        "wall_after_start_s": whole["wall_after_start_s"],
        "packed_s": cells,
        "wall_over_packed": whole["wall_after_start_s"] / cells,
    }
    print(
        f"{sweep}: first cell after {content['start_s']:.1f} s; after that"
        f" {content['wall_after_start_s']:.0f} s for {cells:.0f} s of cells on {slots} slots,"
        f" {content['wall_over_packed']:.2f}"
    )
    if arguments.out:
        arguments.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
