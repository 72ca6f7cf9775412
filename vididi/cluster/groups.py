"""Jobs and searches on a Ray that is there for them: on this machine, or a cluster's.

Starting Ray is mostly waiting for other processes, and importing Ray Tune takes a second; so a
thread imports while Ray starts, and this module imports no Ray Tune itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from ray._common.utils import get_system_memory

from vididi.cell_resources import Resources
from vididi.cluster.connection import connected
from vididi.cluster.jobs import Job, JobsLeft, Watcher
from vididi.cluster.own_ray import own_ray
from vididi.cluster.resources import (
    AHEAD_BYTES,
    HELD_SHARE,
    cpus_to_declare,
    local_concurrency,
    memory_to_declare,
    store_to_declare,
)
from vididi.collector import collector_at_rest
from vididi.data.shards import ShardSet
from vididi.runs.mirror import pull
from vididi.runs.outcome import outcome
from vididi.search import Stopping
from vididi.startup_checks import OBJECT_STORE_BYTES, checks_of_ray, free_shared_memory, refuse

if TYPE_CHECKING:
    from vididi.cluster.capacity import Capacity
    from vididi.cluster.optuna_search import CellSearch
    from vididi.cluster.stopping import Curve
    from vididi.cluster.tune import Ended, JobGroup


@dataclass(frozen=True)
class JobsRun:
    """What one run of jobs works with, whether they are known or drawn.

    Args:
        shards: what they read. runs: the folder that they write into. watcher: who is told of them.
        address: of a running cluster (``auto`` for the one this node belongs to); without it Ray
            starts on this machine alone and is stopped at the end.
        stopping: which cells end early, compared with each other and with ``curves``, of cells that
            ended before.
    """

    shards: ShardSet
    runs: Path
    watcher: Watcher
    address: str | None = None
    stopping: Stopping | None = None
    curves: Sequence[Curve] = ()

    @contextmanager
    def groups(self, needs: list[Resources]) -> Iterator[Callable[..., JobGroup]]:
        """On a Ray that is there for jobs of some resources: makes their groups.

        What is yielded takes jobs, their resources, the most epochs that one has, and the search
        that adds to them, if one does.
        """
        holding = any(resources.hold_data for resources in needs)
        with _ray(needs, self.address, self.shards.nbytes if holding else 0) as capacity_of:
            from vididi.cluster.held import hold
            from vididi.cluster.tune import JobData, JobGroup, early_stopping

            held = hold(self.shards) if holding else None

            def group_of(
                jobs: list[Job], resources: Resources, epochs: int, search: CellSearch | None = None
            ) -> JobGroup:
                stop = early_stopping(self.stopping, jobs, resources, epochs, self.curves)
                data = JobData(self.shards, held if resources.hold_data else None, self.runs)
                capacity = capacity_of(resources)
                return JobGroup(jobs, resources, capacity, data, self.watcher, stop, search)

            yield group_of


def run_jobs(jobs: Sequence[Job], over: JobsRun) -> JobsLeft:
    """Run every job to its end; what became of each is in its run folder.

    Jobs with equal resources run as one group, the groups one after the other. When one is
    interrupted, no other begins.

    Returns:
        which jobs did not end, and why.

    Raises:
        ResourceError: a cell needs more than there is, or no cell could start for
            ``resources.wait_s``.
    """
    left = JobsLeft(elsewhere=set(), interrupted={job.folder for job in jobs})
    sets = [list(equal) for _, equal in groupby(sorted(jobs, key=_group_key), key=_group_key)]
    needs = [equal[0].cell.resources for equal in sets]
    early = over.stopping is not None
    with over.groups(needs) as group_of:
        for group, resources in zip(sets, needs, strict=True):
            longest = max(job.cell.config.training.epochs for job in group)
            became = group_of(group, resources, longest).run()
            left.elsewhere.update(became.elsewhere)
            unended = {job.folder for job in group if not _has_ended(job, became, early)}
            left.interrupted.difference_update({job.folder for job in group} - unended)
            if unended:
                break  # Tune returns normally when it is interrupted

    for folder in left.elsewhere:
        pull(folder)  # it may have been finished by now
    return left


def run_drawn(search: CellSearch, resources: Resources, over: JobsRun) -> set[Path]:
    """Run the cells that a search draws until it draws no more. Errors are those of run_jobs.

    Returns:
        the folders that were left to another driver, which is at work there.
    """
    with over.groups([resources]) as group_of:
        group = group_of(search.jobs, resources, search.epochs, search)
        search.stopping, search.capacity = group.stopping, group.capacity
        return group.run().elsewhere


def _has_ended(job: Job, became: Ended, stopping: bool) -> bool:
    """Whether a job ended in this start. Its folder alone cannot tell: a result or an error may be
    of an earlier one.
    """
    if job.folder in became.elsewhere | became.failed:
        return True
    return job.folder in became.ended and outcome(job.folder, stopping) is not None


def _group_key(job: Job) -> str:
    return job.cell.resources.model_dump_json()


@contextmanager
def _ray(
    needs: list[Resources], address: str | None, held_bytes: int
) -> Iterator[Callable[[Resources], Capacity]]:
    """A connection to Ray, and the capacity there for cells of some resources."""
    if address:
        from vididi.cluster.capacity import ClusterCapacity

        with connected(address):
            yield ClusterCapacity
        return
    refuse(checks_of_ray())
    cores, gpus = len(os.sched_getaffinity(0)), float(torch.cuda.device_count())

    def fit(resources: Resources) -> int:
        return local_concurrency(resources, cores, gpus, get_system_memory())

    # An impossible group fails here, before any other has run for hours.
    groups = [(resources, fit(resources)) for resources in needs]
    cpus, memory = cpus_to_declare(groups), memory_to_declare(groups)
    restarts = max(resources.ray_restarts for resources in needs)
    hangs = [resources.hang_s for resources in needs]
    hang_s = max(hangs) if all(hangs) else 0
    store = store_to_declare(groups, AHEAD_BYTES, OBJECT_STORE_BYTES, free_shared_memory())
    store += int(held_bytes / HELD_SHARE)
    with ThreadPoolExecutor(1) as beside, ExitStack() as entered:
        with collector_at_rest():
            importing = beside.submit(import_module, "vididi.cluster.tune")
            entered.enter_context(own_ray(cpus, store, restarts, memory, hang_s))
            importing.result()
        from vididi.cluster.capacity import Capacity
        from vididi.cluster.tune import started_workers

        entered.enter_context(started_workers())
        yield lambda resources: Capacity(fit(resources))
