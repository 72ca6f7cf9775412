"""What early stopping would have done to a sweep that is finished, without training."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich.console import Console

from vididi.cluster.driver import measured_epochs
from vididi.cluster.stopping import Curve, replay
from vididi.cluster.studies import KnownRun
from vididi.errors import ConfigError, DamagedError
from vididi.search import Stopping
from vididi.words import counted
from vididi.workspace import Workspace


def audit_stopping(work: Workspace, name: str, finished: Sequence[KnownRun]) -> int:
    """Replay the curves of finished cells under a rule, and print what it would have done.

    Args:
        name: of the rule; the sweep file's where it is empty.

    Returns:
        the exit status.

    Raises:
        ConfigError: none of the cells has the rule's metric.
    """
    sweep, console = work.sweep, work.console
    rule = sweep.stopping or Stopping(name=name or "asha")  # type: ignore[arg-type]
    stopping = rule.model_copy(update={"name": name}) if name else rule
    metric, mode = next(iter(sweep.search.metrics.items()))
    curves = {
        run.folder.name: _curve(run, stopping.metric, console)
        for run in finished
        if metric in run.result
    }
    measured = [run for run in finished if curves.get(run.folder.name)]
    if not measured:
        raise ConfigError(
            f"--audit-stopping: none of the {len(finished)} finished cells in {work.runs} has"
            f" {stopping.metric}; it is measured with --set evaluation.online.every=1 (a finished"
            " sweep is not run again, so with another --runs too)"
        )
    if len(measured) < len(finished):
        console.print(
            f"{len(finished) - len(measured)} of {len(finished)} finished cells have no"
            f" {stopping.metric} and are left out"
        )
    slots = work.cells[0].resources.concurrency or max(
        1, (os.cpu_count() or 1) // work.cells[0].resources.workers
    )
    stopped = replay(curves, stopping, slots)
    print_audit(
        {run.folder.name: (run, stopped.get(run.folder.name)) for run in measured},
        metric,
        mode == "max",
        console,
    )
    order = "the order of their names" if sweep.searching else "the sweep's order"
    console.print(f"rule: {stopping.summary}; {counted(slots, 'cell')} at a time, in {order}")
    return 0


def _curve(run: KnownRun, metric: str, console: Console) -> Curve:
    """The epochs of a run in which a metric was measured; none where they are damaged, which is
    printed.
    """
    try:
        return measured_epochs(run.folder, metric)
    except DamagedError as error:
        console.print(str(error))
        return []


def print_audit(
    runs: dict[str, tuple[KnownRun, int | None]], metric: str, largest: bool, console: Console
) -> None:
    """Print what the rule would have done to each run, best first, and what it would have saved.

    Args:
        runs: by name, each with the epoch that it would have been stopped at, or None.
        largest: whether the largest value of ``metric`` is the best.
    """
    epochs = {name: int(run.config["training.epochs"]) for name, (run, _) in runs.items()}
    ranked = sorted(runs, key=lambda name: runs[name][0].result[metric], reverse=largest)
    for name in ranked:
        run, epoch = runs[name]
        fate = (
            "would have finished"
            if epoch is None
            else f"would have been stopped at epoch {epoch} of {epochs[name]}"
        )
        console.print(f"{name}: {metric} {run.result[metric]:.3f}, {fate}")
    saved = sum(epochs[name] - epoch for name, (_, epoch) in runs.items() if epoch is not None)
    total = sum(epochs.values())
    console.print(f"saved: {saved} of {counted(total, 'epoch')} ({saved / total:.0%})")
    survivors = [name for name in ranked if runs[name][1] is None]
    if survivors and survivors[0] == ranked[0]:
        console.print(f"the best cell, {ranked[0]}, would have been kept")
    else:
        left = "none would have been left"
        if survivors:
            value = runs[survivors[0]][0].result[metric]
            left = f"the best one left is {survivors[0]}, {metric} {value:.3f}"
        console.print(f"the best cell, {ranked[0]}, would have been lost; {left}")
