"""A sweep's jobs without a cluster: they run in this process, one after the other."""

from __future__ import annotations

from typing import Any

import pytest

from vididi.cluster.groups import JobsRun
from vididi.cluster.jobs import JobsLeft
from vididi.data.stream import local_stream
from vididi.experiment import run_cell
from vididi.loggers.choices import LOGGERS
from vididi.protocols.finished import evaluate_run
from vididi.protocols.task import make_task
from vididi.training.context import LocalContext


def run_jobs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the cells and the evaluations of a sweep run here."""
    monkeypatch.setattr("vididi.cluster.driver.run_jobs", run_here)
    monkeypatch.setattr("vididi.cluster.evaluations.run_jobs", run_here)


def run_here(jobs: list[Any], over: JobsRun) -> JobsLeft:
    for job in jobs:
        over.watcher.started(job)
        data = job.shards or over.shards
        stream, context, run = local_stream(data), LocalContext(), job.folder.parents[1]
        if job.evaluation:
            task = make_task(run, job.evaluation, data, stream, context, print)
            entry, loggers = job.evaluation, job.record[LOGGERS]
            evaluate_run(run, task, entry.recipe, entry.untrained, loggers)
        else:
            run_cell(job.cell.config, job.record, job.folder, data, stream, context)
        over.watcher.ended(job, 0)
    return JobsLeft(set(), set())
