"""What the platform costs: many cells of one training step each, and the driver's memory.

    python benchmarks/cell_cost.py --cells 200 --out benchmarks/results/cell_cost.json

Cells differ in their seed, train one step on eight videos and evaluate nothing. From the first
cell's end to the last one's, the time is divided by the cells in between, so that starting Ray does
not count. Memory is the driver's resident set when a fifth of the cells are done and at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import ray
import torch

ROOT = Path(__file__).resolve().parents[1]
SWEEP = """
name: cost
base:
  data: {name: motion, train: 8, test: 4, size: 32, frames: 24}
  prepare: {short_side: 16}
  clip: {frames: 4, stride: 2, size: 16}
  objective: {name: vicreg, hidden: 16, out: 16}
  backbone: {name: r3d_tiny, width: 2}
  training: {epochs: 1, batch_size: 8}
evaluate: []
"""


def measure(cells: int, folder: Path) -> dict[str, Any]:
    """Run a sweep of ``cells`` tiny cells in ``folder`` and follow its driver's memory."""
    (folder / "cost.yaml").write_text(SWEEP)
    command = [
        sys.executable,
        str(ROOT / "run_sweep.py"),
        "cost.yaml",
        "--seeds",
        ",".join(map(str, range(cells))),
    ]
    environment = {**os.environ, "VIDIDI_CACHE": str(folder / "cache"), "PYTHONWARNINGS": "ignore"}
    began = time.perf_counter()
    samples: list[tuple[float, int, float]] = []  # seconds, cells done, resident MiB of the driver

    with (
        (folder / "screen.txt").open("w") as screen,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=screen) as driver,
    ):
        process = psutil.Process(driver.pid)
        while driver.poll() is None:
            done = len(list((folder / "runs" / "cost").glob("*/result.json")))
            with_memory = process.memory_info().rss / 2**20 if process.is_running() else 0.0
            if done and with_memory and (not samples or done > samples[-1][1]):
                samples.append((time.perf_counter() - began, done, with_memory))
            time.sleep(0.1)
        wall_seconds = time.perf_counter() - began

    if driver.returncode:
        raise SystemExit((folder / "screen.txt").read_text()[-2000:])

    first, last = samples[0], samples[-1]
    early = next(moment for moment in samples if moment[1] >= cells / 5)
    return {
        "cells": cells,
        "wall_seconds": round(wall_seconds, 1),
        "seconds_to_first_cell": round(first[0], 1),
        "seconds_per_cell": round((last[0] - first[0]) / (last[1] - first[1]), 3),
        "driver_mib": {
            f"after {early[1]} cells": round(early[2]),
            f"after {last[1]} cells": round(last[2]),
        },
        "driver_growth_kib_per_cell": round((last[2] - early[2]) * 1024 / (last[1] - early[1]), 1),
    }


def main() -> None:
    """Measure once, print the result and write it to ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        result = measure(arguments.cells, Path(scratch))

    versions = {
        "ray": ray.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    result = {
        **result,
        "cores": len(os.sched_getaffinity(0)),
        **versions,
        "date": time.strftime("%Y-%m-%d"),
    }
    print(json.dumps(result, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
