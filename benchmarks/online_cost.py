"""The share of pretraining that the online kNN and probe take.

See docs/evaluation.md, "While training".

    python benchmarks/online_cost.py --out benchmarks/results/online_cost.json

Pretrains the arm ``vididi`` of sweeps/ablation.yaml, as long as the sweep does, measuring after
every fifth epoch and then after every one. The share is one of a single run, so other work on the
machine hardly changes it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from vididi.components import resolve
from vididi.data.stream import local_stream
from vididi.experiment import run_cell
from vididi.prepared import ensure_prepared
from vididi.sweep import expand, load_sweep
from vididi.training.context import local_context

SWEEP = Path(__file__).resolve().parents[1] / "sweeps" / "ablation.yaml"


def measure(every: int, epochs: int, folder: Path) -> dict[str, Any]:
    """Pretrain with online measures after every ``every`` epochs, and what share they took."""
    values = {"evaluation.online.every": every, "training.epochs": epochs}
    (cell,) = expand(load_sweep(SWEEP), values, ["vididi"])
    config = resolve(cell.config)
    shards = ensure_prepared(config)

    with local_context("cpu") as context:
        run_cell(
            config, cell.describe("online_cost"), folder, shards, local_stream(shards), context
        )

    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = records[-1]["step"] // len(records)
    training = sum(epoch["time/seconds_per_step"] * steps for epoch in records)
    online = [epoch["time/online_seconds"] for epoch in records if "time/online_seconds" in epoch]
    return {
        "every": every,
        "training_seconds": round(training, 1),
        "times_measured": len(online),
        "seconds_each": round(sum(online) / len(online), 2),
        "share_of_training": round(sum(online) / training, 4),
    }


def main() -> None:
    """Measure with both intervals, print the result and write it to ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--epochs", type=int, default=24, help="default: 24, the sweep's")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        runs = [measure(every, arguments.epochs, Path(scratch) / str(every)) for every in (5, 1)]
    result = {
        "runs": runs,
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }
    print(json.dumps(result, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
