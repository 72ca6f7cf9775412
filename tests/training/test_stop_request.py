"""Workers end after the same step, whichever of them was asked to."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch.distributed as dist
import torch.multiprocessing as mp

from vididi.commands.starting import start
from vididi.interrupts import AskedToStop, asked, gently, request_stop
from vididi.training.context import LocalContext
from vididi.training.stop_request import StopRequest

WORKERS, STEPS = 2, 100_000


def work(rank: int, place: Path) -> None:
    """Steps in lockstep, as gradients make them; the second worker is asked amid them."""
    dist.init_process_group(
        "gloo", init_method=f"file://{place / 'meeting'}", rank=rank, world_size=WORKERS
    )
    context, saved, ended = LocalContext(rank, WORKERS), [], 0
    request, began = StopRequest(context), time.monotonic()
    try:
        for step in range(1, STEPS):
            ended = step
            dist.barrier()
            if rank == 1 and step == 300:
                request_stop(signal.SIGTERM)
            request.end_if_heard(lambda step=step: saved.append(step))  # all workers call it
    except AskedToStop:
        result = {"step": ended, "saved": saved, "asked": asked(), "every": request.every}
        result["seconds"] = time.monotonic() - began
        (place / f"{rank}.json").write_text(json.dumps(result))
    dist.destroy_process_group()


def test_all_end_after_the_same_step_and_save(tmp_path: Path) -> None:
    mp.spawn(work, (tmp_path,), nprocs=WORKERS)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(WORKERS))
    assert first["step"] == second["step"] >= 300
    assert first["saved"] == [first["step"]]
    assert second["saved"] == first["saved"]
    assert first["asked"] == second["asked"] == signal.SIGTERM
    assert first["every"] == second["every"] > 1, "short steps are not each asked about"


def test_alone_it_ends_after_the_step() -> None:
    saved: list[str] = []

    def program(argv: list[str]) -> int:
        request = StopRequest(LocalContext())
        with gently():
            request.end_if_heard(lambda: saved.append("too early"))
            os.kill(os.getpid(), signal.SIGTERM)
            with pytest.raises(AskedToStop):
                request.end_if_heard(lambda: saved.append("once"))
        return 0

    assert start(program, []) == 0
    assert saved == ["once"]
