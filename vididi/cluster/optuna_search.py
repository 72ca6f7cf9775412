"""Searches over Ray Tune's OptunaSearch. What was drawn and found stays in a journal beside the run
folders.

OptunaSearch (Ray 2.60) is worked round in four places. Points that are evaluated already cannot be
told to it where the space is conditional, so they are put into its study directly. Its sampler
would repeat its draws after a restart, so each draw has its own seed. Trials of a killed search
would run for ever in its study, so they are closed and drawn again. And it wants its metric in each
report, where ours comes at the end, so a trial is told by its run folder.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from vididi.cluster.capacity import Capacity
from vididi.cluster.jobs import Job
from vididi.cluster.stopping import EarlyStopping
from vididi.cluster.study_journal import CheckedJournal, mend_journal
from vididi.cluster.watch import hold_while_dead
from vididi.errors import ResourceError, VididiError
from vididi.interrupts import asked
from vididi.runs.file_names import JOURNAL
from vididi.runs.mirror import push
from vididi.runs.outcome import damage, finished, outcome
from vididi.runs.run_folder import RunFolder
from vididi.search import Dimension, Point, Search, digest, draw, rounded, shrunk

MOST_DRAWS = 200  # in a row that give no cell to run
# after so many of them points are drawn evenly: where choices are few, TPE comes back to the same
# ones
PATIENCE = 20
# Attributes of trials: the seed of its cell; the epochs after which that was stopped; the finished
# run that it tells of.
SEED, STOPPED, KNOWN = "seed", "stopped", "known"

optuna.logging.set_verbosity(optuna.logging.ERROR)


class _Seeded(BaseSampler):
    """Draws each trial with a sampler whose seed follows from the search's and the trial's number:
    a restart changes nothing.

    Attributes:
        evenly: whether the trials to come are drawn without regard to what is known.
    """

    def __init__(self, search: Search) -> None:
        self.search, self.evenly = search, False
        self.number, self.sampler = -1, self._make(0)

    def _make(self, number: int) -> BaseSampler:
        seed = int(digest([self.search.seed, number]), 16)
        if self.search.name == "random" or self.evenly:
            return RandomSampler(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # In groups: values that are drawn together, such as the weights of pairs, are modelled
            # together.
            return TPESampler(seed=seed, multivariate=True, group=True)

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if trial.number != self.number:
            self.number, self.sampler = trial.number, self._make(trial.number)
        return self.sampler

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)


def distribution(dimension: Dimension) -> BaseDistribution:
    """Optuna's form of it."""
    if dimension.kind == "choice":
        return CategoricalDistribution(dimension.bounds)
    low, high = dimension.bounds
    return (
        IntDistribution(low, high)
        if dimension.kind == "integer"
        else FloatDistribution(low, high, log=dimension.kind == "log")
    )


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
        report: is called where the journal was cut back to whole records.

    Attributes:
        incomplete: whether the journal may lack records, or is a new one.

    Raises:
        DamagedError: the journal is damaged otherwise.
    """

    def __init__(
        self,
        search: Search,
        runs: Path,
        name: str,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.search, self.runs, self.name = search, runs, name
        runs.mkdir(parents=True, exist_ok=True)
        self.incomplete = mend_journal(runs / JOURNAL, report)
        self.storage = JournalStorage(CheckedJournal(str(runs / JOURNAL)))
        directions = [
            StudyDirection.MAXIMIZE if mode == "max" else StudyDirection.MINIMIZE
            for mode in search.metrics.values()
        ]
        self.study = optuna.create_study(
            storage=self.storage,
            study_name=name,
            directions=directions,
            load_if_exists=True,
            sampler=_Seeded(search),
        )

    def push(self) -> None:
        """Bring the journal to the store, where the runs are in one."""
        push(self.runs / JOURNAL)

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials of the study, in the order of their numbers."""
        return self.study.get_trials(deepcopy=False)

    @property
    def waiting(self) -> bool:
        """Whether a point is to be drawn again."""
        return any(trial.state == TrialState.WAITING for trial in self.trials)

    def tell_known(self, points: Mapping[str, tuple[Point, dict[str, Any]]]) -> int:
        """Put finished runs, by name with point and result, into the study that are not there yet.
        How many were new.
        """
        recorded = {trial.user_attrs.get(KNOWN) for trial in self.trials}
        new = {name: run for name, run in points.items() if name not in recorded}
        for name, (point, result) in new.items():
            values = self.values(result)
            if values is not None:
                self._add(point, values, {KNOWN: name})
        return len(new)

    def tell_finished(self, made: Iterable[tuple[Point, int, dict[str, Any]]]) -> int:
        """Tell of finished cells, by point, seed and result, what the journal lacks. How many.

        A trial that was left open is told how its cell ended, as a kill between the two leaves it.
        Where the journal may lack records, cells of which no trial tells have one added.
        """
        told = {
            (_written(trial.params), trial.user_attrs.get(SEED))
            for trial in self.trials
            if trial.state == TrialState.COMPLETE
        }
        left = [t for t in self.trials if t.state == TrialState.RUNNING and t.params]
        count = 0
        for point, seed, result in made:
            values, key = self.values(result), _written(point)
            if values is None or (key, seed) in told:
                continue
            of_it = [
                trial
                for trial in left
                if _written(trial.params) == key and trial.user_attrs.get(SEED, seed) == seed
            ]
            if of_it:
                left.remove(of_it[0])
                self.storage.set_trial_user_attr(of_it[0]._trial_id, SEED, seed)
                self.study.tell(of_it[0].number, values)
            elif self.incomplete:
                self._add(point, values, {SEED: seed})
            else:
                continue
            count += 1
        return count

    def _add(self, point: Point, values: list[float], attributes: dict[str, Any]) -> None:
        kinds = {dimension: distribution(self.search.space[dimension]) for dimension in point}
        self.study.add_trial(
            optuna.trial.create_trial(
                params=point, distributions=kinds, values=values, user_attrs=attributes
            )
        )

    def take_back(self) -> int:
        """Close the trials that a killed search left running, to be drawn again; their cells go on
        where they were.
        """
        left = [trial for trial in self.trials if trial.state == TrialState.RUNNING]
        for trial in left:
            self.study.tell(trial.number, state=TrialState.FAIL)
            if trial.params:
                self.draw_again(trial.params)
        return len(left)

    def draw_lost_again(self, is_lost: Callable[[Point, int], bool]) -> int:
        """Have points drawn again whose cell had ended and is not finished any more, by point and
        seed. How many.
        """
        waiting = [
            trial.system_attrs.get("fixed_params")
            for trial in self.trials
            if trial.state == TrialState.WAITING
        ]
        ended = [
            (trial.params, seed)
            for trial, seed in self.seeded
            if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        ]
        lost = [
            (point, seed) for point, seed in ended if point not in waiting and is_lost(point, seed)
        ]
        distinct = {json.dumps(each, sort_keys=True): each[0] for each in lost}
        for point in distinct.values():
            self.draw_again(point)
        return len(distinct)

    def draw_again(self, point: Point) -> None:
        """Have this point drawn before others."""
        self.study.enqueue_trial(point)

    @property
    def seeded(self) -> list[tuple[FrozenTrial, int]]:
        """The draws that a cell was run for, and its seed."""
        return [
            (trial, trial.user_attrs[SEED])
            for trial in self.trials
            if SEED in trial.user_attrs and trial.params
        ]

    def number_of(self, point: Point, seed: int) -> int | None:
        """Of the draw that a point's cell with a seed is of; before that is known the latest of the
        point.
        """
        same = [trial for trial in self.trials if rounded(trial.params) == rounded(point)]
        with_seed = [trial for trial in same if trial.user_attrs.get(SEED) == seed]
        found = with_seed[:1] or same[-1:]
        return found[0].number if found else None

    def values(self, result: Mapping[str, Any]) -> list[float] | None:
        """The search's metrics in a result, or None if one is missing or not finite."""
        measured = [result.get(metric) for metric in self.search.metrics]
        if any(
            not isinstance(value, int | float) or not math.isfinite(value) for value in measured
        ):
            return None
        return measured  # type: ignore[return-value]

    def measured_points(self) -> list[MeasuredPoint]:
        """Each point that has a finished run; of a seed that was run again, the last values
        count.
        """
        values: dict[str, dict[Any, list[float]]] = {}
        points: dict[str, Point] = {}
        for trial in self.trials:
            if trial.state == TrialState.COMPLETE:
                key = json.dumps(trial.params, sort_keys=True)
                points[key] = trial.params
                run = trial.user_attrs.get(
                    SEED, trial.user_attrs.get(KNOWN, f"trial {trial.number}")
                )
                values.setdefault(key, {})[run] = list(trial.values)
        return [MeasuredPoint(points[key], list(seeds.values())) for key, seeds in values.items()]

    def best(self, count: int) -> list[MeasuredPoint]:
        """The best by the first metric, the best first, by an estimate from all seeds of each (see
        `shrunk`).
        """
        points = self.measured_points()
        estimates = shrunk([[values[0] for values in point.values] for point in points])
        keys = [
            (-self.signs[0] * estimate, -self.signs[0] * point.means[0])
            for estimate, point in zip(estimates, points, strict=True)
        ]
        return [points[i] for i in sorted(range(len(points)), key=keys.__getitem__)[:count]]

    def front(self) -> list[MeasuredPoint]:
        """The points that none surpasses in all metrics at once, by their means over seeds."""
        points = self.measured_points()
        means = [
            [sign * mean for sign, mean in zip(self.signs, point.means, strict=True)]
            for point in points
        ]
        return [
            point
            for point, point_means in zip(points, means, strict=True)
            if not any(_surpasses(other, point_means) for other in means)
        ]

    @property
    def signs(self) -> list[int]:
        """For each metric 1 where it is maximised, else -1."""
        return [1 if mode == "max" else -1 for mode in self.search.metrics.values()]


def _written(point: Point) -> str:
    return json.dumps(rounded(point), sort_keys=True)


@dataclass(frozen=True)
class MeasuredPoint:
    """A point, and for each of its finished runs, that differ by seed, the values of the search's
    metrics.
    """

    point: Point
    values: list[list[float]]

    @property
    def means(self) -> list[float]:
        """The mean over seeds of each metric."""
        return [fmean(metric) for metric in zip(*self.values, strict=True)]


def _surpasses(first: Sequence[float], second: Sequence[float]) -> bool:
    return first != second and all(a >= b for a, b in zip(first, second, strict=True))


class Live(NamedTuple):
    """A cell that runs, the name of its draw, and its trial in the study."""

    job: Job
    draw_name: str
    trial: optuna.Trial


class CellSearch(Searcher):
    """Gives Tune a cell for each point that the study draws.

    A point that is drawn again is trained with the next of the seeds, so a search looks again at
    what it holds good. A draw that gives nothing new is closed as failed, which TPE learns nothing
    from: the point makes no cell, or has been trained with all seeds.

    Args:
        make: the job of a point and a seed; raises VididiError for a point that makes no cell.
        seeds: that a point is trained with, in this order.
        epochs: that a cell has.
    """

    def __init__(
        self,
        study: StoredStudy,
        make: Callable[[Point, int], Job],
        seeds: Sequence[int],
        epochs: int,
    ) -> None:
        super().__init__()
        self.study, self.make, self.seeds, self.epochs = study, make, seeds, epochs
        self.stopping: EarlyStopping | None = None
        self.capacity = Capacity(1)
        self.jobs: list[Job] = []  # that Tune was given, by number
        self.cells: dict[Path, Job] = {}  # that were drawn, by folder
        self.live: dict[str, Live] = {}  # by Tune's trial
        # Epochs that the search gave to cells that ended; cached, for each step of Tune's.
        self.trained: dict[Path, int] = {}
        self.refused: dict[str, int] = {}
        self.exhausted = False
        self.draws = 0
        self.sampler = _Seeded(study.search)
        metrics = study.search.metrics
        single = len(metrics) == 1
        self.inner = OptunaSearch(
            space=self._define,
            metric=next(iter(metrics)) if single else list(metrics),
            mode=next(iter(metrics.values())) if single else list(metrics.values()),
            sampler=self.sampler,
            study_name=study.name,
            storage=study.storage,
        )
        for trial, seed in study.seeded:
            job = self.make(trial.params, seed)
            self.cells.setdefault(job.folder, job)
            self.trained.pop(job.folder, None)  # its last draw says what the search gave it
            # it may have gone on since, without early stopping, when the best were held against
            # each other
            if STOPPED in trial.user_attrs:
                self.trained[job.folder] = trial.user_attrs[STOPPED]

    def _define(self, trial: optuna.Trial) -> None:
        self.trial = trial
        draw(self.study.search.space, _suggest(trial))

    def _draw(self) -> tuple[str, Job | None]:
        """A draw, and the first of its point's cells that nothing has become of and that does not
        run; None if there is none.
        """
        draw_name = f"draw-{self.draws}"
        self.draws += 1
        point = self.inner.suggest(draw_name) or {}
        running = {live.job.folder for live in self.live.values()}
        try:
            for seed in self.seeds:
                job = self.make(point, seed)
                if job.folder not in running and not self._outcome(job):
                    self.trial.set_user_attr(SEED, seed)
                    return draw_name, job
        except VididiError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            self.refused[reason] = self.refused.get(reason, 0) + 1
        return draw_name, None

    @property
    def drawn(self) -> int:
        """How many cells were drawn in all."""
        return len(self.cells)

    @property
    def spent(self) -> int:
        """Epochs of training of all cells drawn so far, those that run now in full."""
        running = {live.job.folder for live in self.live.values()}
        return sum(
            self.epochs if folder in running else self._trained(job)
            for folder, job in self.cells.items()
        )

    def _trained(self, job: Job) -> int:
        epochs = self.trained.get(job.folder)
        if epochs is None:
            epochs = RunFolder(job.folder).epochs
            if self._outcome(job):
                self.trained[job.folder] = epochs
        return epochs

    @property
    def interrupted(self) -> bool:
        """Whether there is more to do."""
        return bool(self.live) or not self.ended

    @property
    def ended(self) -> bool:
        """Whether no more points are to be drawn."""
        search = self.study.search
        if self.exhausted:
            return True
        if self.study.waiting:
            return False
        return self.drawn >= search.trials or (
            search.budget is not None and self.spent + self.epochs > search.budget
        )

    @property
    def left(self) -> int:
        """How many cells may still be drawn."""
        return 0 if self.ended else max(1, self.study.search.trials - self.drawn)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """The next cell for Tune, if one fits; see Searcher."""
        if asked() is not None:
            return Searcher.FINISHED
        if len(self.live) >= self.capacity():
            return None
        for number in range(MOST_DRAWS):
            self.sampler.evenly = number >= PATIENCE
            if self.ended:
                # A cell that is stopped early leaves some of the budget for others.
                return None if self.live else Searcher.FINISHED
            draw_name, job = self._draw()
            if job is None:
                self.inner.on_trial_complete(draw_name, error=True)
                continue
            self.cells[job.folder] = job
            self.live[trial_id] = Live(job, draw_name, self.trial)
            self.jobs.append(job)
            self.study.push()
            return {"cell": len(self.jobs) - 1, "job": json.dumps(job.plain())}
        if not self.cells and self.refused:
            raise ResourceError(
                f"search: {MOST_DRAWS} draws in a row gave no cell to run: {_counted(self.refused)}"
            )
        self.exhausted = True
        return None if self.live else Searcher.FINISHED

    def _outcome(self, job: Job) -> str | None:
        """What became of a cell, if anything has."""
        return outcome(job.folder, stopping=self.stopping is not None)

    def _tell(self, live: Live, outcome: str) -> None:
        folder = RunFolder(live.job.folder)
        self.trained.pop(folder.path, None)
        if outcome == "stopped":
            live.trial.set_user_attr(STOPPED, folder.epochs)
            # Without a value and an error it counts as pruned.
            self.inner.on_trial_complete(live.draw_name)
            return

        values = self.study.values(finished(folder.path) or {})
        metrics = dict(zip(self.study.search.metrics, values, strict=True)) if values else None
        self.inner.on_trial_complete(live.draw_name, metrics, error=values is None)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Pass an epoch's online metric of a running cell on to the sampler."""
        stopping = self.stopping and self.stopping.stopping.metric
        if stopping in result and isinstance(self.inner.metric, str):
            # How far a cell got that is stopped, and how well it did, is what TPE ranks such cells
            # by.
            report = {self.inner.metric: result[stopping], "training_iteration": result["epoch"]}
            self.inner.on_trial_result(self.live[trial_id].draw_name, report)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Close the draw of a cell that ended, by what its run folder says."""
        if error:
            hold_while_dead()
        live = self.live[trial_id]
        stopped = self.stopping is not None and trial_id in self.stopping.stopped
        outcome = self._outcome(live.job) or ("stopped" if stopped else "failed" if error else None)
        if outcome:
            self._tell(live, outcome)
        # A cell that another driver runs, or whose result is damaged, is left open in the study:
        # the next start draws its point again.
        if outcome or "elsewhere" in (result or {}) or damage(live.job.folder):
            del self.live[trial_id]
        self.study.push()

    # Tune pickles a searcher for a restore that we do not use: the study is in its journal.
    def __getstate__(self) -> dict[str, Any]:
        return {}

    def save_to_dir(
        self, checkpoint_dir: str, session_str: str = "default", **options: Any
    ) -> None:
        """Nothing: the study is in its journal."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is in its journal."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the study is in its journal."""


def _counted(reasons: Mapping[str, int]) -> str:
    return "; ".join(f"{count} x {reason}" for reason, count in reasons.items())
