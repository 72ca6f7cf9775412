"""A sweep's cells over Ray Tune. What counts as the result are the run folders; Tune only decides
what runs when.

Cells of one worker run directly in a Tune trial process that is reused from cell to cell (0.6 s a
cell, where a TorchTrainer costs 10); cells of more run under Ray Train. Both run
vididi.experiment.run_cell.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import ray
import torch
from ray import tune
from ray.air._internal import usage
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback

from vididi.cell_resources import Resources
from vididi.cluster.capacity import POLL_S, Capacity, Queue
from vididi.cluster.cell_news import News, telling_driver
from vididi.cluster.ending import BEYOND_S, Ending
from vididi.cluster.held import Held
from vididi.cluster.jobs import Job, Watcher
from vididi.cluster.placements import Orphans
from vididi.cluster.resources import worker_needs
from vididi.cluster.stopping import Curve, EarlyStopping
from vididi.cluster.train import train_distributed, work
from vididi.cluster.watch import hold_while_dead
from vididi.cluster.worker_watch import why_ended
from vididi.data.shards import ShardSet
from vididi.disks import OF_DISKS, refusal
from vididi.errors import DataError, HeldError, ResourceError, VididiError
from vididi.interrupts import asked, gently
from vididi.runs.left_behind import passing_folder
from vididi.runs.mirror import local_path, pull
from vididi.runs.outcome import outcome
from vididi.runs.run_folder import RunFolder
from vididi.search import Stopping
from vididi.training.context import Metrics

if TYPE_CHECKING:
    from vididi.cluster.optuna_search import CellSearch

# For a report of usage, which is off, Ray would import W&B and MLflow where they are installed.
# They make temporary folders at their import, which a killed process leaves.
usage.tag_callbacks = lambda callbacks: False
# Of a trial that only drives workers: Ray wants some resource, and each cluster's head has 1 of it.
DRIVER = {"node:__internal_head__": 0.001}
WARN_S = 30  # between warnings that nothing can start


class TuneContext:
    """One worker alone, in a Tune trial."""

    rank, world_size, nodes = 0, 1, 1

    def __init__(self, gpu: bool) -> None:
        self.device = torch.device("cuda:0" if gpu else "cpu")

    def report(self, metrics: Metrics) -> None:
        """Report metrics to Tune, which may end the process here."""
        tune.report(dict(metrics))


@contextmanager
def started_workers() -> Iterator[None]:
    """Let trials have the workers that Ray starts at its own start. Tune gives them environment
    variables, of clouds and of Ray Train, and so each a worker of its own; on this machine they
    have those of this process without it.
    """
    before = class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE
    class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE = {}, set()
    try:
        yield
    finally:
        class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE = before


def early_stopping(
    stopping: Stopping | None,
    jobs: list[Job],
    resources: Resources,
    longest: int,
    curves: Sequence[Curve],
) -> EarlyStopping | None:
    """The scheduler of a group of cells; None where none is to end early."""
    if stopping is None:
        return None
    kill = resources.workers == 1
    scheduler = EarlyStopping(
        stopping,
        longest,
        lambda trial: jobs[trial.config["cell"]].cell.config.training.epochs,
        kill,
    )
    scheduler.learn(curves)
    return scheduler


class JobData(NamedTuple):
    """What the cells of a group read, and the folder that they write into."""

    shards: ShardSet
    held: Held | None
    runs: Path


class Ended(NamedTuple):
    """Folders of jobs whose trials ended in this start: all, those whose trial had an error, and
    those in which another driver is at work.
    """

    ended: set[Path]
    failed: set[Path]
    elsewhere: set[Path]


@dataclass(frozen=True)
class JobGroup:
    """Jobs that need the same: those given, or those that ``search`` adds to them one by one."""

    jobs: list[Job]
    resources: Resources
    capacity: Capacity
    data: JobData
    watcher: Watcher
    stopping: EarlyStopping | None = None
    search: CellSearch | None = None

    def run(self) -> Ended:
        """Run them to their end.

        Raises:
            ResourceError: none could start for ``resources.wait_s``.
        """
        # Tune's own records; a stopped sweep goes on from the run folders.
        storage = self.data.runs / ".tune" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        with passing_folder(storage):
            events = self._run(storage)
        return Ended(events.ended, events.failed, events.elsewhere)

    def _run(self, storage: Path) -> _Events:
        events = _Events(
            self.jobs, self.watcher, self.resources, self.stopping, self.capacity, self.search
        )
        tuner = tune.Tuner(
            tune.with_resources(self._trainable(), _trial_resources(self.resources)),
            param_space=(
                {} if self.search else {"cell": tune.grid_search(list(range(len(self.jobs))))}
            ),
            tune_config=self._tune_config(),
            run_config=self._run_config(storage, events),
        )
        try:
            with gently(BEYOND_S):
                # Where Tune has nothing to run it waits for a trial and calls nobody.
                while not self.capacity() and not events.gave_up and asked() is None:
                    events.on_step_end(0, [])
                    time.sleep(POLL_S)
                if not events.gave_up and asked() is None:
                    tuner.fit()
        finally:
            self.capacity.close()
            events.pass_on_news(last=True)
        if events.gave_up:
            raise ResourceError(
                f"no cell could start for {self.resources.wait_s:g} s (resources.wait_s);"
                f" {events.why}"
            )
        return events

    @property
    def _alone(self) -> bool:
        return self.resources.workers == 1

    def _trainable(self) -> Callable[[dict[str, Any]], None]:
        # Not in the trainable itself, which Tune unpickles in the driver for each trial.
        values = ray.put([job.values(self.data.shards, self.data.held) for job in self.jobs])
        data = {"shards": str(self.data.shards.root), "held": self.data.held}
        return (
            _single(values, data, self.resources)
            if self._alone
            else _distributed(values, data, self.resources)
        )

    def _tune_config(self) -> tune.TuneConfig:
        return tune.TuneConfig(
            search_alg=self.search or Queue(self.capacity),
            num_samples=-1 if self.search else 1,  # a search says itself when it ends
            scheduler=self.stopping,
            # Reused trial processes and TorchTrainer together hang for ever when a trial is stopped
            # early.
            reuse_actors=self._alone,
            trial_dirname_creator=lambda trial: f"cell-{trial.config['cell']}",
        )

    def _run_config(self, storage: Path, events: _Events) -> tune.RunConfig:
        return tune.RunConfig(
            name=storage.name,
            storage_path=str(storage.parent),
            verbose=0,
            callbacks=[events],
            stop=events.stopper,
            failure_config=tune.FailureConfig(max_failures=self.resources.max_failures),
        )


def _trial_resources(resources: Resources) -> tune.PlacementGroupFactory:
    # Ray Train requests the workers of a cell all at once; its trial only drives them.
    if resources.workers > 1:
        return tune.PlacementGroupFactory([DRIVER])
    return tune.PlacementGroupFactory([worker_needs(resources)])


@lru_cache(maxsize=1)  # a trial's process runs one cell of a group after another
def _values_of_group(values: ray.ObjectRef) -> list[dict[str, Any]]:
    group: list[dict[str, Any]] = ray.get(values)
    return group


def _job_values(
    values: ray.ObjectRef, data: dict[str, Any], parameters: dict[str, Any]
) -> dict[str, Any]:
    """The values of a trial's job: one of those known from the start, or one that a search brings
    along.
    """
    if "job" not in parameters:
        return _values_of_group(values)[parameters["cell"]]
    return {**json.loads(parameters["job"]), **data}


def _single(
    values: ray.ObjectRef, data: dict[str, Any], resources: Resources
) -> Callable[[dict[str, Any]], None]:
    def run(parameters: dict[str, Any]) -> None:
        job = _job_values(values, data, parameters)
        context = TuneContext(gpu=resources.on_gpus)
        with telling_driver():
            try:
                work(job, context)
            except HeldError:
                context.report({"elsewhere": 1})
            except Exception as error:
                # What raises here would raise again: record it and end. Only the death of the
                # process is tried again.
                RunFolder(local_path(job["folder"])).save_error(_reason(error))

    return run


def _distributed(
    values: ray.ObjectRef, data: dict[str, Any], resources: Resources
) -> Callable[[dict[str, Any]], None]:
    def run(parameters: dict[str, Any]) -> None:
        from ray.tune.integration.ray_train import TuneReportCallback

        job = _job_values(values, data, parameters)
        # Ray Train gives up a group of workers that it could not place for a minute, three times;
        # others may be at work there.
        os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(resources.wait_s)
        try:
            train_distributed(job, resources, [TuneReportCallback()])
        except Exception as error:
            folder = local_path(job["folder"])
            with telling_driver():
                RunFolder(folder).save_error(why_ended(folder) or _reason(error))

    return run


def _reason(error: Exception) -> str:
    if isinstance(error, VididiError):
        return f"{error}\n"
    if isinstance(error, OSError) and error.errno in OF_DISKS and error.filename is not None:
        return f"{refusal(error)}\n"
    return "".join(traceback.format_exception(error))


class _Events(TrialProgressCallback):
    """Passes Tune's events on, and notices when nothing can start.

    Stands where Tune's own printer would be: that one prints a line for every trial that ends
    without a report, whatever ``verbose`` says.
    """

    def __init__(
        self,
        jobs: list[Job],
        watcher: Watcher,
        resources: Resources,
        stopping: EarlyStopping | None,
        capacity: Capacity,
        search: CellSearch | None,
    ) -> None:
        super().__init__()
        self.stopping, self.capacity, self.search = stopping, capacity, search
        self.jobs, self.watcher, self.wait_s = jobs, watcher, resources.wait_s
        self.needs = resources.summary
        self.idle_since: float | None = None
        self.warned: float | None = None
        self.gave_up = False
        self.elsewhere: set[Path] = set()  # folders in which another driver is at work
        self.ended: set[Path] = set()  # folders whose trial ended, well or not
        self.failed: set[Path] = set()  # of these, those whose trial had an error
        self.stopper = _Stop(self)
        self.ending = Ending(watcher)
        self.news, self.orphans = News(), Orphans()

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks for a restore that we do not use (a stopped sweep is a new
        # Tuner), and a screen cannot be pickled.
        return {
            **self.__dict__,
            "watcher": None,
            "ending": None,
            "stopping": None,
            "jobs": [],
            "capacity": None,
            "search": None,
        }

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        hold_while_dead()

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        hold_while_dead()
        self.watcher.started(self._job(trial))

    def _mark_stopped(self, trial: Trial) -> None:
        """Write where a cell was stopped early into its folder, if it was."""
        folder = RunFolder(self._job(trial).folder)
        if (
            self.stopping
            and trial.trial_id in self.stopping.stopped
            and outcome(folder.path) != "stopped"
        ):
            folder.save_stopped(self.stopping.stopped[trial.trial_id])

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict, **info: Any
    ) -> None:
        self._mark_stopped(trial)
        if "elsewhere" in result:
            self.elsewhere.add(self._job(trial).folder)
        if "epoch" in result:
            self.watcher.reported(self._job(trial), result)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        self._mark_stopped(trial)
        self._notify_end(trial)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        hold_while_dead()
        folder = RunFolder(self._job(trial).folder)
        self.failed.add(folder.path)
        text = (
            Path(trial.error_file).read_text()
            if trial.error_file and Path(trial.error_file).is_file()
            else "its process died"
        )
        folder.save_error(why_ended(folder.path) or text)
        self._notify_end(trial)

    def _notify_end(self, trial: Trial) -> None:
        job = self._job(trial)
        self.ended.add(job.folder)
        # The store may be out of reach for a moment; all is pulled again at the end.
        with suppress(DataError):
            pull(job.folder)
        if job.folder in self.elsewhere:
            self.watcher.elsewhere(job)
        else:
            self.watcher.ended(job, trial.num_failures)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        hold_while_dead()
        self.pass_on_news()
        self.orphans.remove()
        statuses = [trial.status for trial in trials]
        if self.ending.look(Trial.RUNNING in statuses):
            return
        waiting = self.search.left if self.search else len(self.jobs) - len(trials)
        self.capacity.request(
            waiting
            - max(
                0, self.capacity() - statuses.count(Trial.RUNNING) - statuses.count(Trial.PENDING)
            )
        )
        if Trial.RUNNING in statuses or (Trial.PENDING not in statuses and not waiting):
            self.idle_since = self.warned = None
            return
        now = time.monotonic()
        self.idle_since = self.idle_since or now
        self._warn(now)
        self.gave_up = now - self.idle_since > self.wait_s

    def pass_on_news(self, last: bool = False) -> None:
        """Hand on what cells have said; ``last``: they will say no more."""
        for text in self.news.since_last_look(last):
            self.watcher.told(text)

    def _warn(self, now: float) -> None:
        """Say why nothing runs: at once if a cell needs more than there is, in half a minute if
        others are at work there.
        """
        assert self.idle_since
        if now - (self.warned or self.idle_since) > WARN_S or (
            self.warned is None and self.capacity.shortage
        ):
            self.warned = now
            self.watcher.waiting(now - self.idle_since, self.why)

    @property
    def why(self) -> str:
        """Why nothing starts."""
        return self.capacity.shortage or self.capacity.delay(self.needs)

    def _job(self, trial: Trial) -> Job:
        return self.jobs[trial.config["cell"]]


class _Stop(tune.Stopper):
    def __init__(self, events: _Events) -> None:
        self.events = events

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.events.gave_up or self.events.ending.over
