"""The part of scale.py over workers: steps of the project's own distributed training, weak and
strong, and collectives by themselves.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from vididi.components import build_state, resolve
from vididi.config import build_config
from vididi.data.shards import ShardSet
from vididi.data.stream import local_stream
from vididi.dotted_keys import nest
from vididi.plans import make_fit, make_plans
from vididi.prepared import ensure_prepared
from vididi.training.context import LocalContext
from vididi.training.distributed import gather
from vididi.training.loop import distribute, train_step

CONFIG = {
    "data": {"name": "motion", "train": 128, "test": 10, "size": 48, "frames": 24},
    "prepare.short_side": 32,
    "clip": {"frames": 8, "stride": 2, "size": 32},
    "objective": {"name": "vicreg", "hidden": 128, "out": 128},
    "backbone": {"name": "r3d_tiny"},
    "training": {"epochs": 100},
    "schedule": {"order": 2},
}
BATCH = 32  # videos: of each worker (weak), of all (strong)
WARM = 3  # steps that are not timed
TRAINED, COLLECTIVE = (1, 2), (2, 4)  # workers
EMBEDDINGS = (256, 2048)  # videos of a whole batch and width: VICReg's in sweeps/paper
CHANNELS = 512  # the sums of one synchronised batch normalisation


def measure(quick: bool, work: Path) -> dict[str, Any]:
    """Seconds of a step by workers, and of a collective."""
    steps, calls = (2, 2) if quick else (20, 10)
    shards = ensure_prepared(config_of(BATCH), work / "set")
    rows = [
        trained_row(mode, workers, shards, steps, work)
        for mode in ("weak", "strong")
        for workers in TRAINED
    ]
    for row in rows:
        alone = next(one for one in rows if (one["mode"], one["workers"]) == (row["mode"], 1))
        row["clips_per_s_over_one_worker"] = round(row["clips_per_s"] / alone["clips_per_s"], 3)
    numbers = gradient_numbers()
    return {
        "backend": "gloo",
        "threads_per_worker": 1,
        "cores": len(os.sched_getaffinity(0)),
        "steps": steps,
        "training": rows,
        "calls": calls,
        "collectives": [
            row
            for workers in COLLECTIVE
            for row in spawned(collectives, workers, work, numbers, calls)
        ],
    }


def config_of(batch: int) -> Any:
    """The cell that is trained, with this global batch."""
    return resolve(build_config(nest({**CONFIG, "training.batch_size": batch})))


def gradient_numbers() -> int:
    """Numbers of the gradient of r3d_18 with VICReg's heads, as sweeps/paper train it."""
    names = {"data.name": "motion", "backbone.name": "r3d_18", "objective.name": "vicreg"}
    with torch.device("meta"):
        state = build_state(resolve(build_config(nest(names))))
    return sum(p.numel() for p in state.objective.parameters() if p.requires_grad)


def spawned(function: Callable[..., Any], workers: int, work: Path, *arguments: Any) -> Any:
    """What rank 0 of ``workers`` new processes returns, which all call the function."""
    place = work / f"{function.__name__}-{workers}-{time.monotonic_ns()}"
    place.mkdir()
    mp.spawn(_worker, (workers, place, function, arguments), nprocs=workers)
    return torch.load(place / "found.pt")


def _worker(
    rank: int, workers: int, place: Path, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{place / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=workers)
    found = function(rank, workers, *arguments)
    if rank == 0:
        torch.save(found, place / "found.pt")
    dist.destroy_process_group()


# --- Steps ----------------------------------------------------------------------------------------


def trained_row(mode: str, workers: int, shards: ShardSet, steps: int, work: Path) -> dict:
    """Seconds of a step; its clips are those of all workers."""
    batch = BATCH * workers if mode == "weak" else BATCH
    seconds = median(spawned(step_seconds, workers, work, batch, shards, steps))
    return {
        "mode": mode,
        "workers": workers,
        "batch": batch,
        "seconds_per_step": round(seconds, 4),
        "clips_per_s": round(2 * batch / seconds, 1),
    }


def step_seconds(rank: int, workers: int, batch: int, shards: ShardSet, steps: int) -> list[float]:
    """Of each step after the first few: views, loss, gradient and optimiser. The batches are
    decoded before, so that what is timed is the step.
    """
    context = LocalContext(rank, workers)
    config = config_of(batch)
    plans = make_plans(config, shards, rank, workers)
    batches = list(islice(local_stream(shards)(plans.chain, 0), WARM + steps))
    state = build_state(config, context.device)
    model, fit = distribute(state.objective, context), make_fit(config, plans.pretrain)
    state.objective.train()
    taken = []
    for one in batches:
        dist.barrier()
        began = time.perf_counter()
        train_step(state, model, one, fit, context)
        taken.append(time.perf_counter() - began)
    return taken[WARM:]


# --- Collectives ----------------------------------------------------------------------------------


def collectives(rank: int, workers: int, numbers: int, calls: int) -> list[dict[str, Any]]:
    """Seconds of a call: of the whole gradient, of the embeddings there and back, of one batch
    normalisation's sums.
    """
    videos, width = EMBEDDINGS
    gradient, sums = torch.ones(numbers), torch.ones(CHANNELS)
    z = torch.ones(videos // workers, width, requires_grad=True)

    def there_and_back() -> None:
        gather(z).sum().backward()

    measured: dict[str, tuple[Callable[[], Any], Tensor]] = {
        "all_reduce of the gradient": (lambda: dist.all_reduce(gradient), gradient),
        "gather of the embeddings, and its gradient": (there_and_back, torch.empty(videos, width)),
        "all_reduce of a batch normalisation's sums": (lambda: dist.all_reduce(sums), sums),
    }
    rows = []
    for what, (call, content) in measured.items():
        call()  # the first one connects
        taken = []
        for _ in range(calls):
            dist.barrier()
            began = time.perf_counter()
            call()
            taken.append(time.perf_counter() - began)
        size = content.numel() * content.element_size()
        rows.append({"what": what, "workers": workers, "bytes": size, "seconds": median(taken)})
    return rows
