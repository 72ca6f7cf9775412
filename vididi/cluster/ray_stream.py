"""Streams of clips through Ray Data.

One streaming execution serves a whole run, training and evaluation: its input is the numbers of the
plan's batches, its map reads those batches' encoded frames from the Parquet shards, and order is
preserved. So there is no restart and no pause between epochs, and a run that goes on begins at a
later number. Frames travel encoded and are decoded by a thread of the training process: moving
pixels through the object store costs several times as much.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import chain, pairwise, zip_longest
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from numpy.typing import NDArray
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.exceptions import RayTaskError

from vididi.cluster.connection import error_of_task
from vididi.cluster.resources import AHEAD_BYTES
from vididi.collector import wake_collector
from vididi.data.layout import binary_parts, take
from vididi.data.plan import Plan
from vididi.data.shards import FrameReader, ShardSet
from vididi.data.stream import Batch, Buffers, Stream, background, decode, fetch
from vididi.errors import DataError

# What a task reads at most: a few batches, some 64 MiB at 200 x 150 pixels.
TASK_BATCHES, TASK_FRAMES = 8, 8192
# Between steps of Ray Data's control loop: where someone waits for a block, and where nobody does.
WANTED_S, IDLE_S = 0.02, 0.1
TASKS = 256  # of one execution: Ray Data sets them all up before the first runs, 1.3 ms each
LEAD = 1 / 4  # of an execution's batches that are still to come when the next one is set up
NODE = "ray.io/node-id"  # a label that Ray gives every node
_READERS: dict[str, FrameReader] = {}
_wanted = threading.Event()  # whether a stream of this process waits for a block


def ray_stream(shards: ShardSet, depth: int = 4, threads: int = 2) -> Stream:
    """A stream whose reading runs in Ray Data tasks, one at a time on this node, decoded ``depth``
    batches ahead.

    The tasks ask Ray for no CPU: whoever opens a stream reserves one for it
    (resources.STREAM_CPUS). So the cells that fit are those that Ray counts, no trainer waits for a
    task of another's stream, and no stream for a CPU that a trainer holds.

    Args:
        threads: of this process that decode; they sleep while training is the slower one.
    """

    def stream(plan: Plan, start: int) -> Iterator[Batch]:
        buffers = Buffers()

        def unpack(number: int, jpegs: list[memoryview]) -> Batch:
            return decode(jpegs, plan[number], shards, buffers)

        with ThreadPoolExecutor(threads) as pool, closing(_encoded(shards, plan, start)) as encoded:
            # One thread waits for Ray and hands out the decoding, so what is decoded never waits
            # for what is not yet read.
            futures = background(
                (pool.submit(unpack, number, jpegs) for number, jpegs in enumerate(encoded, start)),
                depth,
            )
            with closing(futures):
                for future in futures:
                    yield future.result()

    return stream


def _encoded(shards: ShardSet, plan: Plan, start: int) -> Generator[list[memoryview], None, None]:
    """The encoded batches in the plan's order, from one execution after another, of which the next
    is begun before it is needed.
    """
    if start >= len(plan):
        return
    _set_up(ray.data.DataContext.get_current())
    arguments = {
        "reader": ray.put(FrameReader(shards)),
        "plan": ray.put(plan),
        "token": f"{shards.root} {shards.manifest.checksum}",
    }
    max_frames = max(plan[number].frames.size for number in (start, len(plan) - 1))
    per_task = max(1, min(TASK_BATCHES, TASK_FRAMES // max_frames))
    segments = [
        range(first, min(first + TASKS * per_task, len(plan)))
        for first in range(start, len(plan), TASKS * per_task)
    ]
    with ThreadPoolExecutor(1) as pool:
        coming: Future[_Execution] | None = pool.submit(
            _Execution, segments[0], per_task, arguments
        )
        try:
            for segment, following in zip_longest(segments, segments[1:]):
                assert coming
                execution, coming = coming.result(), None
                with closing(execution):
                    for number, jpegs in zip(segment, execution, strict=True):
                        if (
                            coming is None
                            and following
                            and segment.stop - number <= LEAD * len(segment)
                        ):
                            coming = pool.submit(_Execution, following, per_task, arguments)
                        yield jpegs
        finally:
            if coming:
                coming.result().close()


class _Execution:
    """One execution of Ray Data over the batches of a segment; its first tasks run when it is
    made.
    """

    def __init__(self, segment: range, per_task: int, arguments: dict[str, Any]) -> None:
        # Unlike range, which reads in tasks, this takes no CPU of the cluster.
        numbers = ray.data.from_items(
            [{"batch": number} for number in segment],
            override_num_blocks=-(-len(segment) // per_task),
        )
        dataset = numbers.map_batches(
            _fetch,  # type: ignore[arg-type]
            batch_size=None,
            batch_format="numpy",
            fn_kwargs=arguments,
            num_cpus=0,
            concurrency=1,
            label_selector={
                NODE: ray.get_runtime_context().get_node_id()
            },  # where the CPU that is reserved for it lies
        )
        self.expected = segment.start
        # Not iter_batches: left early, as by a cell that is stopped, it leaves a thread behind for
        # ever (Ray 2.60). What it would bring ahead is on this node already.
        self.blocks = _blocks(dataset)
        self.first = next(self.blocks)

    def __iter__(self) -> Iterator[list[memoryview]]:
        for block in chain([self.first], self.blocks):
            batches, (jpegs,) = block.column("batch").to_numpy(), block.column("jpeg").chunks
            data, ends = binary_parts(jpegs)
            for first, end in pairwise([0, *np.flatnonzero(np.diff(batches)) + 1, len(batches)]):
                if batches[first] != self.expected:
                    raise DataError(
                        f"Ray Data: batch {batches[first]} came where {self.expected} was due;"
                        " nothing was trained on it"
                    )
                self.expected += 1
                # Slices of the object store: nothing is copied.
                yield take(data, ends, np.arange(first, end))

    def close(self) -> None:
        self.blocks.close()


def _blocks(dataset: ray.data.Dataset) -> Generator[pa.Table, None, None]:
    """The blocks in order; what a task says of the data is raised as it was said."""
    try:
        _wanted.set()  # already this call waits for the first
        for bundle in dataset.iter_internal_ref_bundles():
            _wanted.clear()
            for block in bundle.block_refs:
                yield ray.get(block)
            _wanted.set()
    except RayTaskError as error:
        raise error_of_task(error) or error from None
    finally:
        _wanted.clear()


class Pace(ExecutionCallback):
    """Lets the execution's control loop rest between its steps.

    While the consumer is slower than the reader, as it should be, Ray 2.60's loop has nothing to
    wait for and turns without a pause: 40% of a core in the training process, and the interpreter
    lock with it. A block that someone waits for comes as soon as it can.
    """

    def on_execution_step(self, executor: Any) -> None:
        """Sleep, after each step of the loop."""
        if _wanted.is_set():
            time.sleep(WANTED_S)
        else:
            _wanted.wait(IDLE_S)


def _set_up(context: ray.data.DataContext) -> None:
    context.enable_progress_bars = False
    # So that faults of the data are raised here as they are on one machine.
    context.raise_original_map_exception = True
    context.execution_options.preserve_order = True
    # A task gives one block and ends: one that waits to give another would hold its CPU.
    context.target_max_block_size = None
    context.execution_options.resource_limits = context.execution_options.resource_limits.copy(
        object_store_memory=AHEAD_BYTES
    )
    if Pace not in context.custom_execution_callback_classes:
        context.custom_execution_callback_classes.append(Pace)


def _fetch(rows: dict[str, NDArray[np.int64]], reader: Any, plan: Any, token: str) -> pa.Table:
    """A row for each frame of the batches, in their order."""
    wake_collector()
    # The reader's cache must outlive the task, so each worker process keeps one reader per data
    # set.
    if token not in _READERS:
        _READERS[token] = ray.get(reader)
    numbers, requests = rows["batch"], ray.get(plan)
    batches = [fetch(_READERS[token], requests[int(number)]) for number in numbers]
    data, ends = _joined([jpeg for batch in batches for jpeg in batch])
    frames = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(ends) - 1, [None, pa.py_buffer(ends), data]
    )
    return pa.table(
        {"batch": np.repeat(numbers, [len(batch) for batch in batches]), "jpeg": frames}
    )


def _joined(parts: list[memoryview]) -> tuple[pa.Buffer, NDArray[np.int64]]:
    """The parts end to end, and where each begins and the last one ends. Arrow reuses its memory,
    which bytes.join does not.
    """
    ends = np.cumsum([0, *map(len, parts)])
    joined = pa.allocate_buffer(int(ends[-1]))
    view = memoryview(joined).cast("B")
    for part, start, end in zip(parts, ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        view[start:end] = part
    return joined, ends
