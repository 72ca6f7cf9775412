"""Early stopping by Tune's schedulers, in a sweep and, without training, over the curves of a
finished one.

Time is the epoch, whatever was restarted in between. A cell of one worker is stopped by Tune while
it waits in its report of an epoch, after everything of that epoch has been written, so its folder
is whole and its process is free at once.

A cell of several workers finds ``stopped.json`` in its folder and ends by itself. Were its trial
killed, what its Train group and Ray Data executions have asked of Ray's autoscaling coordinator
would stay asked for, in Ray 2.60 for 180 s, and the next cell's executions would be given nothing
for so long.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from vididi.search import Stopping

Curve = list[dict[str, Any]]  # of each epoch that was measured: ``epoch`` and metrics


@dataclass(eq=False)
class _Replayed:
    """What a scheduler needs of a trial, and its curve."""

    trial_id: str
    curve: Curve


class EarlyStopping(FIFOScheduler):
    """Asks Tune's rule after each epoch, and remembers which trials it stopped where.

    Args:
        longest: epochs of the longest cell.
        length: epochs of a trial's cell. One that got to its last epoch is not stopped: what is
            left to do is to evaluate it.
        kill: whether Tune is to end the trial, or only ``stopped`` to be filled.
    """

    def __init__(
        self, stopping: Stopping, longest: int, length: Callable[[Any], int], kill: bool = True
    ) -> None:
        super().__init__()
        self.stopping, self.length, self.kill = stopping, length, kill
        self.rule = _rule(stopping, longest)
        self.stopped: dict[str, dict[str, Any]] = {}  # by trial

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Let the rule know of a new trial."""
        self.rule.on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Ask the rule about an epoch; STOP ends the trial, where ``kill`` is set."""
        if trial.trial_id in self.stopped or result.get("epoch", 0) >= self.length(trial):
            return TrialScheduler.CONTINUE
        action = self.rule.on_trial_result(tune_controller, trial, result)
        if action == TrialScheduler.STOP:
            metric = self.stopping.metric
            self.stopped[trial.trial_id] = {
                "epoch": result["epoch"],
                metric: result[metric],
                "rule": self.stopping.summary,
            }
            return action if self.kill else TrialScheduler.CONTINUE
        return TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Nothing: the last report lacks the online metric that the rules need."""

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Nothing: the rules have all the epochs of the trial."""

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Nothing: the rules have all the epochs of the trial."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # pickled by Tune for a restore that we do not use

    def learn(self, curves: Iterable[Curve]) -> None:
        """Take in cells that ended before this sweep began: those to come are compared with them
        too.
        """
        for number, curve in enumerate(curves):
            trial = _Replayed(f"before-{number}", curve)
            self.rule.on_trial_add(None, trial)  # type: ignore[arg-type]
            for record in curve:
                self.rule.on_trial_result(None, trial, record)  # type: ignore[arg-type]


def _rule(stopping: Stopping, longest: int) -> Any:
    common: dict[str, Any] = {
        "time_attr": "epoch",
        "metric": stopping.metric,
        "mode": "max",
        "grace_period": stopping.grace,
    }
    if stopping.name == "asha":
        longest = max(longest, stopping.grace)
        return AsyncHyperBandScheduler(
            **common, reduction_factor=stopping.reduction, max_t=longest, stop_last_trials=False
        )
    # Without a time slice the rule would pause cells, which would then start anew, while there is
    # too little to compare with.
    return MedianStoppingRule(
        **common,
        min_samples_required=stopping.least,
        min_time_slice=float("inf"),  # type: ignore[arg-type]
    )


def replay(curves: Mapping[str, Curve], stopping: Stopping, slots: int) -> dict[str, int]:
    """Where a rule would have stopped cells whose whole curves are known: title to epoch.

    Args:
        curves: in the order in which cells start; ``slots`` run at a time, all epochs take equally
            long, and one that is stopped makes room for the next.
    """
    trials = [_Replayed(title, curve) for title, curve in curves.items() if curve]
    longest = max((trial.curve[-1]["epoch"] for trial in trials), default=1)
    scheduler = EarlyStopping(stopping, longest, lambda trial: trial.curve[-1]["epoch"])
    running: list[tuple[int, int, int]] = []  # time of its next record, which trial, which record
    begun, now = 0, 0
    while running or begun < len(trials):
        while begun < len(trials) and len(running) < slots:
            scheduler.on_trial_add(None, trials[begun])
            heapq.heappush(running, (now + trials[begun].curve[0]["epoch"], begun, 0))
            begun += 1
        now, which, number = heapq.heappop(running)
        curve = trials[which].curve
        action = scheduler.on_trial_result(None, trials[which], curve[number])
        if action != TrialScheduler.STOP and number + 1 < len(curve):
            heapq.heappush(
                running,
                (now + curve[number + 1]["epoch"] - curve[number]["epoch"], which, number + 1),
            )
    return {title: record["epoch"] for title, record in scheduler.stopped.items()}


__all__ = ["Curve", "EarlyStopping", "replay"]
