"""How far one worker and two drift apart, step by step, and how far one worker drifts from itself
when its first weights are rounded otherwise.

    python benchmarks/worker_rounding.py --out benchmarks/results/worker_rounding.json

Two workers sum gradients and batch statistics in another order. If all that they differ by is
rounding, their distance begins at the size of a rounding error, and grows as fast as the distance
of two runs of one worker whose first weights differ by one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from vididi.components import build_state, resolve
from vididi.config import build_config
from vididi.data.shards import ShardSet
from vididi.data.stream import local_stream
from vididi.dotted_keys import nest
from vididi.plans import make_fit, make_plans
from vididi.prepared import ensure_prepared
from vididi.provenance import measured_by
from vididi.training.context import LocalContext
from vididi.training.loop import distribute, train_step, view_of

CONFIG = {
    "data": {"name": "motion", "train": 24, "test": 12, "size": 32, "frames": 24},
    "prepare.short_side": 16,
    "clip": {"frames": 4, "stride": 2, "size": 16},
    "objective": {"name": "vicreg", "hidden": 16, "out": 16},
    "backbone": {"name": "r3d_tiny", "width": 2},
    "training": {"batch_size": 12},
    "evaluation": {"clips": 2, "frames": 4, "stride": 2},
    "schedule": {"order": 2},
}
WORKERS = 2


def main() -> int:
    """Exit status: 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=48, help="of training (default: 48)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each kind (default: 3)")
    parser.add_argument("--out", type=Path, help="a JSON file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {"steps": arguments.steps, "seeds": {}}
    for dtype in ("float32", "float64"):
        for seed in range(arguments.seeds):
            found["seeds"][f"{dtype} {seed}"] = distances(arguments.steps, seed, dtype)
    print(table(found["seeds"], arguments.steps))
    if arguments.out:
        arguments.out.write_text(json.dumps({**found, **measured_by()}, indent=1) + "\n")
    return 0


def distances(steps: int, seed: int, dtype: str) -> dict[str, list[float]]:
    """Of the weights after each step, relative to their norm: two workers from one, and one whose
    first weights are rounded otherwise from one.
    """
    config = resolve(
        build_config(nest({**CONFIG, "training.seed": seed, "training.epochs": steps}))
    )
    shards = ensure_prepared(config)
    one = weights(config, shards, LocalContext(), steps, dtype)
    other = weights(config, shards, LocalContext(), steps, dtype, rounded=True)
    with tempfile.TemporaryDirectory() as place:
        arguments = (config, shards, steps, dtype, place)
        mp.spawn(_worker, arguments, nprocs=WORKERS)
        two = torch.load(Path(place) / "weights.pt")
    return {
        "two_workers": [_distance(a, b) for a, b in zip(one, two, strict=True)],
        "rounded_otherwise": [_distance(a, b) for a, b in zip(one, other, strict=True)],
    }


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / one.norm())


def weights(
    config: Any,
    shards: ShardSet,
    context: LocalContext,
    steps: int,
    dtype: str,
    rounded: bool = False,
) -> list[torch.Tensor]:
    """All trained weights in a row, after each step.

    Args:
        rounded: each first weight is the next larger or smaller number of the data type.
    """
    plans = make_plans(config, shards, context.rank, context.world_size)
    state = build_state(config, context.device)
    state.objective.to(getattr(torch, dtype))
    generator = torch.Generator().manual_seed(1)
    if rounded:
        with torch.no_grad():
            for p in state.objective.parameters():
                towards = torch.randn(p.shape, generator=generator).sign().mul(1e3).to(p.dtype)
                p.copy_(torch.nextafter(p, towards))
    model = distribute(state.objective, context)
    state.objective.train()
    fit, batches = make_fit(config, plans.pretrain), local_stream(shards)(plans.chain, 0)
    after = []
    # Views are float32; here the whole step is computed in the data type.
    in_dtype = lambda *given: view_of(*given).to(getattr(torch, dtype))  # noqa: E731
    with mock.patch("vididi.training.loop.view_of", in_dtype):
        for _ in range(steps):
            train_step(state, model, next(batches), fit, context)
            trained = [p.detach().double().flatten() for p in state.objective.parameters()]
            after.append(torch.cat(trained))
    return after


def _worker(rank: int, config: Any, shards: ShardSet, steps: int, dtype: str, place: str) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{Path(place) / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=WORKERS)
    found = weights(config, shards, LocalContext(rank, WORKERS), steps, dtype)
    if rank == 0:
        torch.save(found, Path(place) / "weights.pt")
    dist.destroy_process_group()


def table(found: dict[str, dict[str, list[float]]], steps: int) -> str:
    """Distances after some steps."""
    shown = sorted({1, 2, 4, 8, 12, 16, 24, 32, 48, steps} & set(range(1, steps + 1)))
    lines = [f"{'':12}{'':20}" + "".join(f"{step:>10}" for step in shown)]
    for name, kinds in found.items():
        for kind, values in kinds.items():
            cells = "".join(f"{values[step - 1]:10.1e}" for step in shown)
            lines.append(f"{name:12}{kind:20}{cells}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
