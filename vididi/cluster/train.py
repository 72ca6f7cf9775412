"""One cell over several workers, by Ray Train's TorchTrainer. The loop inside is the one that runs
alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import ray.train
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device
from ray.train.v2._internal.callbacks.placement_group_callback import (
    PlacementGroupCleanerCallback,
)

from vididi.cell_resources import Resources
from vididi.cluster.cell_news import telling_driver
from vididi.cluster.ending import hearing
from vididi.cluster.guardian import MARK
from vididi.cluster.held import open_stream
from vididi.cluster.meeting import torch_config
from vididi.cluster.resources import worker_needs
from vididi.cluster.worker_watch import say_why_ended, watched
from vididi.collector import wake_collector
from vididi.config import Config
from vididi.data.shards import ShardSet
from vididi.data.storage import as_folder
from vididi.errors import HeldError, VididiError
from vididi.experiment import run_cell
from vididi.interrupts import AskedToStop
from vididi.loggers.choices import LOGGERS, TENSORBOARD
from vididi.protocols import EvaluationEntry
from vididi.protocols.finished import evaluate_run
from vididi.protocols.task import make_task
from vididi.runs.mirror import local_path, pull
from vididi.runs.run_folder import RunFolder
from vididi.training.context import Context, Metrics, StoppedEarly


class TrainContext:
    """A worker of a TorchTrainer."""

    def __init__(self) -> None:
        context = ray.train.get_context()
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        self.nodes = _nodes(context.get_node_rank(), self.world_size)
        self.device: torch.device = get_device()

    def report(self, metrics: Metrics) -> None:
        """Report metrics to Ray Train; all workers call it alike."""
        ray.train.report(dict(metrics))


def _nodes(node_rank: int, world_size: int) -> int:
    """How many nodes the workers are on, which nothing but their ranks tells."""
    ranks: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(ranks, node_rank)
    return len(set(ranks))


def work(job: Mapping[str, Any], context: Context) -> None:
    """Train the cell, or make the evaluation, of ``job``, as one of its workers; when its driver is
    asked to end, what is gone on from is written, and it ends here too.
    """
    wake_collector()
    folder = local_path(job["folder"])
    with suppress(AskedToStop), hearing():
        say_why_ended(folder, context.rank)
        with watched(folder, context.rank, job["hang_s"], job["memory"]):
            _work(job, context)


def _work(job: Mapping[str, Any], context: Context) -> None:
    folder, shards = local_path(job["folder"]), ShardSet.open(as_folder(job["shards"]))
    stream = open_stream(shards, job["held"], job["threads"])
    if job["evaluation"] is None:
        run_cell(Config.model_validate(job["config"]), job["cell"], folder, shards, stream, context)
        return
    run, entry = folder.parents[1], EvaluationEntry.model_validate(job["evaluation"])
    pull(run)
    evaluate_run(
        run,
        make_task(run, entry, shards, stream, context, context.report),
        entry.recipe,
        entry.untrained,
        job["cell"].get(LOGGERS, TENSORBOARD),
    )


def _worker(job: Mapping[str, Any]) -> None:
    context = TrainContext()
    with suppress(StoppedEarly), telling_driver():
        _train(job, context)


def _train(job: Mapping[str, Any], context: TrainContext) -> None:
    try:
        work(job, context)
    except HeldError:
        context.report({"elsewhere": 1})
    except VididiError as error:
        # All workers raise it alike and would again, so it must not count as a failure that is
        # worth a restart.
        if context.rank == 0:
            RunFolder(local_path(job["folder"])).save_error(f"{error}\n")


class _HereTrainer(TorchTrainer):
    """On a Ray of our own, without two processes that would be started with each cell: what removes
    placement groups, as the driver does it (vididi.cluster.placements), and what hears of machines
    that a cloud takes back.
    """

    def _create_default_callbacks(self) -> list[Any]:
        os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
        callbacks: list[Any] = super()._create_default_callbacks()  # type: ignore[misc]
        return [one for one in callbacks if not isinstance(one, PlacementGroupCleanerCallback)]


def train_distributed(job: Mapping[str, Any], resources: Resources, callbacks: list[Any]) -> None:
    """Run one cell, or the evaluation of one, over ``resources.workers`` workers and wait for it.

    Args:
        job: config, cell, evaluation, folder, shards as plain values with absolute paths; and held,
            where the data are held.

    Raises:
        ray.train.TrainingFailedError: a worker raised, or died more often than allowed.
    """
    gpu = resources.on_gpus
    folder = local_path(job["folder"])
    storage = folder.parent / ".train" / folder.name
    trainer = (_HereTrainer if MARK in os.environ else TorchTrainer)(
        _worker,
        train_loop_config=dict(job),
        torch_config=torch_config("nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=resources.workers, use_gpu=gpu, resources_per_worker=worker_needs(resources)
        ),
        run_config=RunConfig(
            name=storage.name,
            storage_path=str(storage.parent),
            # A worker or node that dies is replaced and the cell goes on from its checkpoint.
            # Trying for ever to place a group that does not fit would look like a hang.
            failure_config=FailureConfig(
                max_failures=resources.max_failures, controller_failure_limit=3
            ),  # type: ignore[call-arg]
            callbacks=callbacks,
        ),
    )
    try:
        trainer.fit()
    finally:
        # Train's own records; our checkpoint is in the run folder.
        shutil.rmtree(storage, ignore_errors=True)
