"""Searches over Ray Tune's OptunaSearch. What was drawn and found stays in a journal beside the run folders.

OptunaSearch (Ray 2.60) is worked round in four places. Points that are evaluated already cannot be told to it where the space is
conditional, so they are put into its study directly. Its sampler would repeat its draws after a restart, so each draw has its own seed.
Trials of a killed search would run for ever in its study, so they are closed and drawn again. And it wants its metric in each report, where
ours comes at the end, so a trial is told by its run folder.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from vididi.cluster.room import Room
from vididi.cluster.stopping import EarlyStopping
from vididi.errors import ResourceError, VididiError
from vididi.mirror import push
from vididi.search import Dimension, Point, Search, digest, draw
from vididi.training.run_folder import RunFolder

if TYPE_CHECKING:
    from vididi.cluster.tune import Job

JOURNAL = "study.journal"
MOST_REFUSED = 200  # draws in a row that make no cell
AGAIN, KNOWN = "again", "known"  # attributes of trials that were drawn before, or finished before the search began

optuna.logging.set_verbosity(optuna.logging.ERROR)


class _Seeded(BaseSampler):
    """Draws each trial with a sampler whose seed follows from the search's and the trial's number: a restart changes nothing."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.number, self.sampler = -1, self._make(0)

    def _make(self, number: int) -> BaseSampler:
        seed = int(digest([self.search.seed, number]), 16)
        if self.search.name == "random":
            return RandomSampler(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # In groups: values that are drawn together, such as the weights of pairs, are modelled together.
            return TPESampler(seed=seed, multivariate=True, group=True)

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if trial.number != self.number:
            self.number, self.sampler = trial.number, self._make(trial.number)
        return self.sampler

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution) -> Any:
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)


def distribution(dimension: Dimension) -> BaseDistribution:
    """Optuna's form of it."""
    if dimension.kind == "choice":
        return CategoricalDistribution(dimension.bounds)
    low, high = dimension.bounds
    return IntDistribution(low, high) if dimension.kind == "integer" else FloatDistribution(low, high, log=dimension.kind == "log")


def _suggest(trial: Any) -> Callable[[str, Dimension], Any]:
    def suggest(name: str, dimension: Dimension) -> Any:
        if dimension.kind == "choice":
            return trial.suggest_categorical(name, dimension.bounds)
        if dimension.kind == "integer":
            return trial.suggest_int(name, *dimension.bounds)
        return trial.suggest_float(name, *dimension.bounds, log=dimension.kind == "log")

    return suggest


class StoredStudy:
    """The study of a search in a runs folder, from wherever an earlier start got to.

    Args:
        name: of the study; a search that is defined otherwise has another one in the same journal.
    """

    def __init__(self, search: Search, runs: Path, name: str) -> None:
        self.search, self.runs, self.name = search, runs, name
        runs.mkdir(parents=True, exist_ok=True)
        self.storage = JournalStorage(JournalFileBackend(str(runs / JOURNAL)))
        directions = [StudyDirection.MAXIMIZE if mode == "max" else StudyDirection.MINIMIZE for mode in search.metrics.values()]
        self.study = optuna.create_study(
            storage=self.storage, study_name=name, directions=directions, load_if_exists=True, sampler=_Seeded(search)
        )

    def push(self) -> None:
        """Bring the journal to the store, where the runs are in one."""
        push(self.runs / JOURNAL)

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    @property
    def drawn(self) -> int:
        """How many points were drawn in all; one that was drawn again after a kill counts once."""
        return sum(t.state != TrialState.WAITING and not t.user_attrs.keys() & {AGAIN, KNOWN} for t in self.trials)

    @property
    def waiting(self) -> bool:
        """Whether a point is to be drawn again."""
        return any(trial.state == TrialState.WAITING for trial in self.trials)

    def tell_known(self, points: Mapping[str, tuple[Point, dict[str, Any]]]) -> int:
        """Put finished runs, by name with point and result, into the study that are not there yet. How many were new."""
        there = {trial.user_attrs.get(KNOWN) for trial in self.trials}
        new = {name: found for name, found in points.items() if name not in there}
        for name, (point, result) in new.items():
            values = self.values(result)
            if values is not None:
                kinds = {dimension: distribution(self.search.space[dimension]) for dimension in point}
                self.study.add_trial(optuna.trial.create_trial(params=point, distributions=kinds, values=values, user_attrs={KNOWN: name}))
        return len(new)

    def take_back(self) -> int:
        """Close the trials that a killed search left running, to be drawn again; their cells go on where they were."""
        left = [trial for trial in self.trials if trial.state == TrialState.RUNNING]
        for trial in left:
            self.study.tell(trial.number, state=TrialState.FAIL)
            if trial.params:
                self.study.enqueue_trial(trial.params, user_attrs={AGAIN: trial.number})
        return len(left)

    def values(self, result: Mapping[str, Any]) -> list[float] | None:
        """The search's metrics in a result, or None if one is missing or not finite."""
        found = [result.get(metric) for metric in self.search.metrics]
        return found if all(isinstance(value, int | float) and math.isfinite(value) for value in found) else None  # type: ignore[return-value]

    def best(self, count: int) -> list[tuple[Point, float]]:
        """Points and values of the best by the first metric, each point once."""
        done = [(trial.params, trial.values[0]) for trial in self.trials if trial.state == TrialState.COMPLETE]
        sign = 1 if next(iter(self.search.metrics.values())) == "max" else -1
        ranked = sorted(done, key=lambda found: -sign * found[1])
        return [found for i, found in enumerate(ranked) if found[0] not in [other for other, _ in ranked[:i]]][:count]

    def front(self) -> list[tuple[Point, list[float]]]:
        """The points that none surpasses in all metrics at once."""
        return [(trial.params, trial.values) for trial in self.study.best_trials]


class CellSearch(Searcher):
    """Gives Tune a cell for each point that the study draws, where that cell has not been run.

    A point whose cell is finished already is told to the study at once, one whose cell is running when that ends, and one that makes
    no cell is closed as failed; all three count as drawn.

    Args:
        make: the job of a point; raises VididiError for a point that makes no cell.
        epochs: that a cell has.
    """

    def __init__(self, study: StoredStudy, make: Callable[[Point], Job], epochs: int) -> None:
        super().__init__()
        self.study, self.make, self.epochs = study, make, epochs
        self.stopping: EarlyStopping | None = None
        self.room = Room(1)
        self.jobs: list[Job] = []  # that Tune was given, by number
        self.cells: dict[Path, Job] = {}  # of all points drawn so far, by folder
        self.live: dict[str, tuple[Job, list[str]]] = {}  # by Tune's trial: what runs, and the draws that wait for it
        self.refused: dict[str, int] = {}
        self.found_finished = 0
        self.draws = 0
        metrics = study.search.metrics
        single = len(metrics) == 1
        self.inner = OptunaSearch(
            space=lambda trial: draw(study.search.space, _suggest(trial)) and None,
            metric=next(iter(metrics)) if single else list(metrics),
            mode=next(iter(metrics.values())) if single else list(metrics.values()),
            sampler=_Seeded(study.search),
            study_name=study.name,
            storage=study.storage,
        )
        for trial in study.trials:
            if KNOWN not in trial.user_attrs and trial.params:
                self._remember(trial.params)

    def _remember(self, point: Point) -> Job | None:
        try:
            job = self.make(point)
        except VididiError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            self.refused[reason] = self.refused.get(reason, 0) + 1
            return None
        return self.cells.setdefault(job.folder, job)

    @property
    def spent(self) -> int:
        """Epochs of training of all cells drawn so far, those that run now in full; runs of another folder cost nothing."""
        running = {job.folder for job, _ in self.live.values()}
        own = [folder for folder in self.cells if folder.parent == self.study.runs]
        return sum(self.epochs if folder in running else epochs_done(folder) for folder in own)

    @property
    def interrupted(self) -> bool:
        """Whether there is more to do."""
        return bool(self.live) or not self.ended

    @property
    def ended(self) -> bool:
        """Whether no more points are to be drawn."""
        search = self.study.search
        if self.study.waiting:
            return False
        return self.study.drawn >= search.trials or (search.budget is not None and self.spent + self.epochs > search.budget)

    @property
    def left(self) -> int:
        """How many points may still be drawn."""
        return 0 if self.ended else max(1, self.study.search.trials - self.study.drawn)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        if len(self.live) >= self.room():
            return None
        for _ in range(MOST_REFUSED):
            if self.ended:
                return None if self.live else Searcher.FINISHED  # a cell that is stopped early leaves some of the budget
            asked = f"draw-{self.draws}"
            self.draws += 1
            job = self._remember(self.inner.suggest(asked) or {})
            if job is None:
                self.inner.on_trial_complete(asked, error=True)
            elif twin := next((keys for other, keys in self.live.values() if other.folder == job.folder), None):
                twin.append(asked)
            elif self._tell(asked, job):
                self.found_finished += 1
            else:
                self.live[trial_id] = job, [asked]
                self.jobs.append(job)
                self.study.push()
                return {"cell": len(self.jobs) - 1, "job": json.dumps(job.plain())}
        raise ResourceError(f"search: {MOST_REFUSED} draws in a row gave no cell to run: {_counted(self.refused)}")

    def _tell(self, asked: str, job: Job, stopped: bool = False, failed: bool = False) -> bool:
        """Tell the study what became of a cell, if anything has."""
        folder = RunFolder(job.folder)
        result = folder.result
        if result is not None:
            values = self.study.values(result)
            metrics = dict(zip(self.study.search.metrics, values, strict=True)) if values else None
            self.inner.on_trial_complete(asked, metrics, error=values is None)
        elif stopped or (self.stopping and folder.stopped):
            self.inner.on_trial_complete(asked)  # without a value and an error it counts as pruned
        elif failed or (job.folder / "error.txt").is_file():
            self.inner.on_trial_complete(asked, error=True)
        else:
            return False
        return True

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        stopping = self.stopping and self.stopping.stopping.metric
        if stopping in result and isinstance(self.inner.metric, str):
            # How far a cell got that is stopped, and how well it did, is what TPE ranks such cells by.
            for asked in self.live[trial_id][1]:
                self.inner.on_trial_result(asked, {self.inner.metric: result[stopping], "training_iteration": result["epoch"]})

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        job, keys = self.live[trial_id]
        stopped = self.stopping is not None and trial_id in self.stopping.stopped
        told = [asked for asked in keys if self._tell(asked, job, stopped, error)]
        # A cell that another driver runs is left open in the study: the next start draws its point again.
        if told or "elsewhere" in (result or {}):
            del self.live[trial_id]
        self.study.push()

    # Tune pickles a searcher for a restore that we do not use: the study is in its journal.
    def __getstate__(self) -> dict[str, Any]:
        return {}

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default", **options: Any) -> None: ...

    def save(self, checkpoint_path: str) -> None: ...

    def restore(self, checkpoint_path: str) -> None: ...


def epochs_done(folder: Path) -> int:
    """How many epochs a run folder has."""
    records = RunFolder(folder).metrics()
    return int(records[-1]["epoch"]) if records else 0


def _counted(reasons: Mapping[str, int]) -> str:
    return "; ".join(f"{count} x {reason}" for reason, count in reasons.items()) or "their cells have been run"
