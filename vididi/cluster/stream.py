"""Streams of clips through Ray Data.

One streaming execution serves a whole run, training and evaluation: its input is the numbers of the plan's batches, its
map reads those batches' encoded frames from the Parquet shards, and order is preserved. So there is no restart and no
pause between epochs, and a run that goes on begins at a later number. Frames travel encoded and are decoded by a thread
of the training process: moving pixels through the object store costs several times as much.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import numpy as np
import ray
import ray.data
from ray.data._internal.execution.execution_callback import ExecutionCallback

from vididi.data.plan import Plan
from vididi.data.shards import FrameReader, ShardSet
from vididi.data.stream import Batch, Packed, Stream, background, decode, fetch

BATCHES_PER_TASK = 8
_READERS: dict[str, FrameReader] = {}


def ray_stream(shards: ShardSet, cpus: float = 1.0, depth: int = 4, threads: int = 2) -> Stream:
    """A stream whose reading runs in Ray Data tasks on up to ``cpus`` CPUs, decoded ``depth`` batches ahead.

    Args:
        threads: of this process that decode; they sleep while training is the slower one.
    """

    def stream(plan: Plan, start: int) -> Iterator[Batch]:
        def unpack(row: dict[str, Any]) -> Batch:
            return decode(Packed(row["payload"], row["lengths"]), plan[int(row["number"])], shards.sizes)

        with ThreadPoolExecutor(threads) as pool:
            # One thread waits for Ray and hands out the decoding, so what is decoded never waits for what is not yet read.
            futures = background((pool.submit(unpack, row) for row in _rows(shards, plan, start, cpus)), depth)
            with closing(futures):
                for future in futures:
                    yield future.result()

    return stream


def _rows(shards: ShardSet, plan: Plan, start: int, cpus: float) -> Iterator[dict[str, Any]]:
    """The encoded batches in the plan's order."""
    count = len(plan) - start
    if count <= 0:
        return
    _set_up(ray.data.DataContext.get_current(), cpus)
    reader, frozen = ray.put(FrameReader(shards)), ray.put(plan)
    dataset = ray.data.range(count, override_num_blocks=max(1, count // BATCHES_PER_TASK)).map(
        _fetch,  # type: ignore[arg-type]
        fn_kwargs={"reader": reader, "plan": frozen, "start": start, "token": str(shards.root)},
    )
    for expected, row in enumerate(dataset.iter_rows(), start):
        number = int(row["number"])
        assert number == expected, f"batch {number} came where {expected} was due"
        yield row


class Pace(ExecutionCallback):
    """Lets the execution's control loop rest between its steps.

    While the consumer is slower than the reader, which is how it should be, Ray 2.60's loop has nothing to wait for and
    turns without a pause: 40% of a core in the training process, and the interpreter lock with it.
    """

    def on_execution_step(self, executor: Any) -> None:
        time.sleep(0.02)


def _set_up(context: ray.data.DataContext, cpus: float) -> None:
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits = context.execution_options.resource_limits.copy(cpu=cpus)
    if Pace not in context.custom_execution_callback_classes:
        context.custom_execution_callback_classes.append(Pace)


def _fetch(row: dict[str, Any], reader: Any, plan: Any, start: int, token: str) -> dict[str, Any]:
    # The reader's cache must outlive the task, so each worker process keeps one reader per data set.
    if token not in _READERS:
        _READERS[token] = ray.get(reader)
    number = int(row["id"]) + start
    packed = fetch(_READERS[token], ray.get(plan)[number])
    return {"number": number, "payload": packed.payload, "lengths": np.asarray(packed.lengths)}
