"""What holding data in the object store saves in memory, time and waiting for data.

With 1, 2 and 4 cells at a time.

    python benchmarks/held_data.py --out benchmarks/results/held_data.json

Each turn is a whole sweep of as many cells as run at a time, on a Ray of its own: streamed through
Ray Data, as is the default, or with ``resources.hold_data``. Memory is the peak of the proportional
set size of Ray and all its processes, so what they share counts once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
import yaml
from input_pipeline import MemoryWatch
from synthetic_videos import make_videos

ROOT = Path(__file__).resolve().parents[1]
CELLS = (1, 2, 4)


def sweep_file(videos: Path, cells: int, held: bool, epochs: int) -> dict[str, Any]:
    """A sweep of ``cells`` seeds on ``videos``, streamed or held in the object store."""
    return {
        "name": f"{'held' if held else 'streamed'}-{cells}",
        "base": {
            "data": {"name": "folder", "videos": str(videos)},
            "clip": {"frames": 8, "stride": 3, "size": 32},
            "objective": {"name": "vicreg", "hidden": 32, "out": 32},
            "backbone": {"name": "r3d_tiny", "width": 2},
            "training": {"epochs": epochs, "batch_size": 16},
        },
        "arms": {"vididi": {"order": 2}},
        "seeds": list(range(cells)),
        "evaluate": [],
        "resources": {"hold_data": held},
    }


def run_sweep(work: Path, cells: int, held: bool, epochs: int) -> dict[str, float]:
    """One sweep on a Ray of its own, which has two CPUs for each cell.

    One trains, one is the stream's.
    """
    spec = sweep_file(work / "videos", cells, held, epochs)
    path = work / f"{spec['name']}.yaml"
    path.write_text(yaml.safe_dump(spec))
    context = ray.init(
        address="local",
        num_cpus=2 * cells,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=1 << 30,
    )
    command = [
        sys.executable,
        "run_sweep.py",
        str(path),
        "--runs",
        str(work / "runs"),
        "--shards",
        str(work / "shards"),
    ]
    try:
        began = time.perf_counter()
        with MemoryWatch() as watch:
            done = subprocess.run(
                [*command, "--address", context.address_info["address"]],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
        seconds = time.perf_counter() - began
    finally:
        ray.shutdown()
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stdout}\n{done.stderr}")
    metrics = [
        json.loads(line)
        for path in (work / "runs" / spec["name"]).rglob("metrics.jsonl")
        for line in path.read_text().splitlines()
    ]
    shutil.rmtree(work / "runs")
    return {
        "peak_gib": max(memory for _, memory in watch.samples) / 2**30,
        "seconds": seconds,
        "data_share": mean(line["time/data_share"] for line in metrics if line["epoch"] > 1),
    }


def main() -> None:
    """Sweeps of 1, 2 and 4 cells, streamed and held, on the same synthetic videos."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--count", type=int, default=192, help="synthetic videos, about 1 MiB of frames each"
    )
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []

    with tempfile.TemporaryDirectory(prefix="vididi-held-") as folder:
        work = Path(folder)
        make_videos(
            work / "videos" / "all", arguments.count, 120, 240, 320, len(os.sched_getaffinity(0))
        )
        run_sweep(work, 1, False, 2)  # prepares the shards
        print(f"{'cells':>5} {'':9} {'peak GiB':>9} {'seconds':>8} {'waiting for data':>17}")
        for cells in CELLS:
            for held in (False, True):
                row = {
                    "cells": cells,
                    "held": held,
                    **run_sweep(work, cells, held, arguments.epochs),
                }
                rows.append(row)
                name = "held" if held else "streamed"
                print(
                    f"{cells:5} {name:9} {row['peak_gib']:9.2f} {row['seconds']:8.1f}"
                    f" {row['data_share']:16.1%}",
                    flush=True,
                )
        frames = sum(path.stat().st_size for path in (work / "shards").glob("*.parquet"))

    if arguments.out:
        content = {
            "date": time.strftime("%Y-%m-%d"),
            "ray": ray.__version__,
            "cores": len(os.sched_getaffinity(0)),
        }
        content |= {
            "count": arguments.count,
            "epochs": arguments.epochs,
            "shards_mib": frames / 2**20,
            "rows": rows,
        }
        arguments.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
