"""Features of all videos of a plan by batch inference over Ray Data.

The numbers of the plan's batches go to a pool of actors. An actor holds the encoder, fetches the
encoded frames of its batches from the shards, decodes them and gives back features. All of this is
one operator of Ray Data, whose input lies in the object store: so no actor ever waits for a CPU
that another operator needs, and one actor alone finishes the work.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import ray.data
import torch
from numpy.typing import NDArray
from ray.data import ActorPoolStrategy, DataContext
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.exceptions import RayError, RayTaskError
from ray.util.annotations import RayDeprecationWarning
from torch import nn

from vididi.cluster.connection import error_of_task, wait_for_cpus
from vididi.cluster.resources import pool_size
from vididi.data.plan import Picked, Plan
from vididi.data.shards import ShardSet
from vididi.data.stream import local_stream
from vididi.errors import ResourceError
from vididi.evaluation.features import Extract, FeatureProgress, Features, Measure, measure_batches

# Read by ray.init, and of this process alone. What matters is raised; Ray prints an error for every
# pool of actors of Ray Data.
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

# Of a task at most: what is lost when an actor dies, and how finely progress shows.
TASK_BATCHES = 8
# At least, where there are batches enough: actors that are slow or come late then hold up nobody.
TASKS_PER_ACTOR = 4
RETRIES = 3  # of a task whose actor died; Ray Data's own number is without end
WAIT_S = "vididi_wait_s"  # name in the DataContext: give up when no actor has run for this long


@dataclass(frozen=True)
class Pool:
    """How many actors compute features, and what each takes. Needs a connection to Ray where it is
    used.
    """

    workers: int
    cpus_per_worker: int = 1
    gpus_per_worker: float = 0.0
    wait_s: float = 600.0

    @property
    def summary(self) -> str:
        """For people: ``2 x (1 CPUs, 0 GPUs)``."""
        return f"{self.workers} x ({self.cpus_per_worker} CPUs, {self.gpus_per_worker:g} GPUs)"

    @classmethod
    def on_cluster(
        cls,
        workers: int | None = None,
        cpus_per_worker: int | None = None,
        gpus_per_worker: float | None = None,
    ) -> Pool:
        """Of the connected cluster: as many actors as fit, of 1 CPU each, and of 1 GPU where it has
        some, where an argument is None.

        Raises:
            ResourceError: one fits on no node, even if nothing else ran there.
        """
        wait_for_cpus("compute features")
        cpus, gpus = (
            cpus_per_worker or 1,
            default_gpus() if gpus_per_worker is None else gpus_per_worker,
        )
        fits = pool_size(cpus, gpus, [node["Resources"] for node in ray.nodes() if node["Alive"]])
        return cls(workers or fits, cpus, gpus)

    def extract(self, shards: ShardSet) -> Extract:
        """Features by the pool. ``shards`` must be where every node can read them.

        Raises (while features are computed):
            ResourceError: no actor could start for ``wait_s``, a node cannot work, or actors died
                again and again.
        """

        def extract(
            encoder: nn.Module, plan: Plan, measure: Measure, progress: FeatureProgress
        ) -> tuple[NDArray[np.int64], Features]:
            work = ray.put(_Work(encoder.cpu(), shards, plan, measure))
            received = []
            done = 0
            for part in self._blocks(work, len(plan)):
                received.append(part)
                done += len(np.unique(part["batch"]))
                progress(done, len(plan))
            return _in_order(received)

        return extract

    def _blocks(self, work: ray.ObjectRef, count: int) -> Iterator[dict[str, NDArray]]:
        """Rows and features of some batches after others, in any order."""
        tasks = min(count, max(-(-count // TASK_BATCHES), TASKS_PER_ACTOR * self.workers))
        # Unlike range, which reads in tasks, and from_arrow, which looks at its tables in tasks,
        # this takes no CPU of the cluster.
        numbers = [{"batch": number} for number in range(count)]
        with DataContext.current(self._context()), warnings.catch_warnings():
            # Ray 2.60 takes max_task_retries in no other way.
            warnings.simplefilter("ignore", RayDeprecationWarning)
            dataset = ray.data.from_items(numbers, override_num_blocks=tasks).map_batches(
                _Encoder,  # type: ignore[arg-type]
                fn_constructor_args=(work, self.cpus_per_worker, self.gpus_per_worker > 0),
                batch_size=None,
                batch_format="numpy",
                compute=ActorPoolStrategy(
                    size=min(self.workers, tasks), max_tasks_in_flight_per_actor=2
                ),
                num_cpus=self.cpus_per_worker,
                num_gpus=self.gpus_per_worker,
                max_task_retries=RETRIES,
            )
            try:
                yield from dataset.iter_batches(batch_size=None, batch_format="numpy")  # type: ignore[misc]
            except RayTaskError as error:
                raise error_of_task(error) or ResourceError(
                    f"cluster: a node cannot work: {error}"
                ) from None
            except RayError as error:
                raise ResourceError(
                    f"cluster: actors died more than {RETRIES} times with the same batches, or the"
                    f" connection was lost: {error}"
                ) from None

    def _context(self) -> DataContext:
        context = DataContext.get_current().copy()
        context.enable_progress_bars = False
        context.raise_original_map_exception = True
        context.custom_execution_callback_classes = [_StartTimeout]
        context.set_config(WAIT_S, self.wait_s)
        return context


def default_gpus() -> float:
    """Of a worker on the connected cluster: 1 where there are any."""
    wait_for_cpus("compute features")
    return 1.0 if ray.cluster_resources().get("GPU") else 0.0


@dataclass(frozen=True)
class _Work:
    """What all actors share; it lies in the object store once."""

    encoder: nn.Module
    shards: ShardSet
    plan: Plan
    measure: Measure


class _Encoder:
    """An actor: numbers of batches to their rows and features."""

    def __init__(self, work: ray.ObjectRef, threads: int, gpu: bool) -> None:
        torch.set_num_threads(threads)
        self.work: _Work = ray.get(work)
        self.encoder = self.work.encoder.to("cuda" if gpu else "cpu")
        self.stream = local_stream(self.work.shards, threads)

    def __call__(self, block: dict[str, NDArray]) -> dict[str, NDArray]:
        plan = Picked(self.work.plan, block["batch"])
        rows, features = measure_batches(
            self.encoder, self.stream(plan, 0), len(plan), self.work.measure
        )
        return {
            "batch": np.repeat(plan.numbers, [len(plan[i].rows) for i in range(len(plan))]),
            "row": rows,
            **features,
        }


def _in_order(parts: list[dict[str, NDArray]]) -> tuple[NDArray[np.int64], Features]:
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(joined.pop("batch"), kind="stable")
    rows = joined.pop("row")[order]
    return rows, {name: values[order] for name, values in joined.items()}


class _StartTimeout(ExecutionCallback):
    """Ends an execution none of whose actors runs; Ray Data would wait without end."""

    def __init__(self) -> None:
        self.active_at = time.monotonic()

    def on_execution_step(self, executor: Any) -> None:
        now = time.monotonic()
        wait_s = executor._data_context.get_config(WAIT_S)
        if any(operator.get_actor_info().running for operator in executor._topology):
            self.active_at = now
        elif now - self.active_at > wait_s:
            raise ResourceError(
                f"cluster: no worker could start for {wait_s:g} s; other work takes the CPUs or"
                " GPUs that it needs"
            )


logging.getLogger("ray.data").setLevel(logging.ERROR)
