"""How hard the motion set is with some options: what finds its classes without learning, and what
a network reaches that is told them.

python benchmarks/set_difficulty.py --set shake=2 placement=0.15 --seed 100

nothing learned   R@1 and ridge accuracy of `vididi evaluate unlearned` on the ablation's clips
supervised        top-1 of r3d_tiny, trained from random weights with all labels (`vididi evaluate
                  finetune`), 300 epochs

Options are chosen by one generator seed and reported on another that was not looked at before.
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
import yaml

from vididi.cli import main as vididi
from vididi.sweep import expand, load_sweep

SWEEP = Path(__file__).resolve().parents[1] / "sweeps" / "ablation.yaml"

SUPERVISED = {
    "epochs": 300,
    "batch_size": 40,
    "warmup_epochs": 3,
    "dropout": 0.0,
    "steps": None,
    "clips": 10,
    "crops": "random",
    "crop": 0.8,
    "optimiser": {"name": "adamw", "lr": 0.003, "weight_decay": 0.05},
    "augment": {"name": "vididi", "crop_scale": [0.5, 1.0], "hue": 0.0},
}


def measure(
    options: dict[str, Any], seed: int, supervised: bool, scratch: Path
) -> dict[str, float]:
    """The metrics of the evaluations, on the set with ``options`` drawn by ``seed``."""
    cell = next(cell for cell in expand(load_sweep(SWEEP)) if cell.arm == "base")
    config = cell.config.model_dump(mode="json")
    config = {
        **config,
        "data": {"name": "motion", "train": 600, "test": 200, "seed": seed, **options},
        # The encoder is hardly trained: evaluations need a run, and this is the shortest. What is
        # reported is measured without it, and from random weights.
        "training": {**config["training"], "epochs": 1},
        "optimiser": {"name": "lars", "lr": 1e-9},
    }
    (scratch / "config.yaml").write_text(yaml.safe_dump(config))
    run = str(scratch / "run")
    _vididi("pretrain", str(scratch / "config.yaml"), "--out", run, "--device", "cpu")
    _vididi("evaluate", "unlearned", run, "--device", "cpu", "--no-untrained")
    if supervised:
        settings = [f"{key}={json.dumps(value)}" for key, value in SUPERVISED.items()]
        sets = [part for setting in settings for part in ("--set", setting)]
        _vididi("evaluate", "finetune", run, "--device", "cpu", "--no-untrained", *sets)
    metrics: dict[str, float] = {}
    for result in sorted((scratch / "run").glob("evaluations/*/result.json")):
        metrics |= json.loads(result.read_text())["metrics"]
    return metrics


def _vididi(*arguments: str) -> None:
    if status := vididi(list(arguments)):
        raise SystemExit(status)


def main() -> None:
    """Measure one choice of options, print it, and add it to ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--set", nargs="*", default=[], metavar="OPTION=VALUE", dest="options")
    parser.add_argument("--seed", type=int, default=100, help="of the generator; default: 100")
    parser.add_argument("--no-supervised", action="store_false", dest="supervised")
    parser.add_argument("--out", type=Path, help="a JSON list that the result is added to")
    arguments = parser.parse_args()
    options = {key: yaml.safe_load(text) for key, text in (o.split("=") for o in arguments.options)}
    with tempfile.TemporaryDirectory() as scratch:
        metrics = measure(options, arguments.seed, arguments.supervised, Path(scratch))
    result = {
        "options": options,
        "seed": arguments.seed,
        "metrics": metrics,
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }
    print(json.dumps(result, indent=2))
    if arguments.out:
        earlier = json.loads(arguments.out.read_text()) if arguments.out.is_file() else []
        arguments.out.write_text(json.dumps([*earlier, result], indent=2) + "\n")


if __name__ == "__main__":
    main()
