"""What a sweep says became of its jobs, where their folders say more than one thing. No job runs,
so none needs a cluster.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_sweep import BASE

from vididi.cluster import tune
from vididi.cluster.evaluations import Evaluation, make_evaluations
from vididi.cluster.jobs import Job, Watcher
from vididi.cluster.studies import run_search
from vididi.cluster.sweeps import run_cells
from vididi.components import resolve
from vididi.data.shards import ShardSet
from vididi.data.stream import local_stream
from vididi.prepared import ensure_prepared
from vididi.protocols import EvaluationEntry
from vididi.protocols.task import make_task
from vididi.runs.run_folder import RunFolder
from vididi.sweep import Cell, Resources, Sweep, examples, expand, load_sweep
from vididi.terminal import PlainConsole
from vididi.training.context import LocalContext
from vididi.workspace import Workspace

MADE = {
    "version": 1,
    "rules": 2,
    "protocol": "retrieval",
    "data": {"name": "motion", "checksum": "y"},
    "metrics": {"retrieval/R@1": 0.5},
    "untrained": None,
}
STOPPED = json.dumps({"epoch": 1, "online/knn": 0.5, "rule": "asha"})


@pytest.fixture
def sweep(tmp_path: Path) -> tuple[Sweep, Cell, ShardSet]:
    (tmp_path / "one.yaml").write_text(
        "name: one" + BASE + "  training: {epochs: 2, batch_size: 8}\narms: {base: {order: 0}}\n"
    )
    sweep = load_sweep(tmp_path / "one.yaml")
    (cell,) = [replace(cell, config=resolve(cell.config)) for cell in expand(sweep)]
    return sweep, cell, ensure_prepared(cell.config)


def jobs_that(end: Callable[[Any], set[Path]]) -> Callable[..., set[Path]]:
    def run_jobs(jobs: list[Any], shards: ShardSet, runs: Path, watcher: Any, *_: Any) -> set[Path]:
        (job,) = jobs
        watcher.started(job)
        elsewhere = end(job)
        watcher.elsewhere(job) if elsewhere else watcher.ended(job, 0)
        return elsewhere

    return run_jobs


def fail(job: Any) -> set[Path]:
    RunFolder(job.folder).save_error("no room\n")
    return set()


def evaluation_of(cell: Cell, shards: ShardSet, run: Path) -> tuple[Evaluation, Path]:
    """An evaluation of a run, and its folder with a result that lacks the untrained encoder."""
    run.mkdir()
    (run / "config.yaml").write_text(cell.config.to_yaml())
    entry = EvaluationEntry(protocol="retrieval")
    task = make_task(run, entry, shards, local_stream(shards), LocalContext(), print)
    folder = run / "evaluations" / task.name
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(MADE))
    return Evaluation(cell, run, entry, None), folder


def test_a_cell_that_was_stopped_early_and_cannot_go_on_has_failed(
    sweep: tuple[Sweep, Cell, ShardSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, cell, shards = sweep
    folder, out = cell.find_folder(tmp_path, shards.manifest.checksum), io.StringIO()
    folder.mkdir()
    (folder / "stopped.json").write_text(STOPPED)
    monkeypatch.setattr("vididi.cluster.sweeps.run_jobs", jobs_that(fail))
    assert run_cells(Workspace(asked, [cell], shards, tmp_path, PlainConsole(file=out))) == 1
    assert f"{cell.title}: failed after" in out.getvalue()
    assert "no room" in out.getvalue()


def test_an_evaluation_that_is_made_again_and_fails_has_failed(
    sweep: tuple[Sweep, Cell, ShardSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, cell, shards = sweep
    asked, _ = evaluation_of(cell, shards, tmp_path / "run")
    monkeypatch.setattr("vididi.cluster.evaluations.run_jobs", jobs_that(fail))
    out = io.StringIO()
    assert make_evaluations([asked], shards, tmp_path, None, PlainConsole(file=out)) == 1
    assert "retrieval: failed after" in out.getvalue()
    assert "no room" in out.getvalue()


def test_a_damaged_evaluation_at_which_another_driver_works_stops_no_other(
    sweep: tuple[Sweep, Cell, ShardSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, cell, shards = sweep
    asked, folder = evaluation_of(cell, shards, tmp_path / "run")
    (folder / "result.json").write_text("")
    monkeypatch.setattr("vididi.runs.mend.WAIT_S", 0.0)
    monkeypatch.setattr("vididi.cluster.evaluations.run_jobs", jobs_that(lambda job: {job.folder}))
    out = io.StringIO()
    with RunFolder(folder).locked():
        assert make_evaluations([asked], shards, tmp_path, None, PlainConsole(file=out)) == 1
    assert "run by another driver" in out.getvalue()


def test_after_an_interruption_no_other_cells_begin_although_one_was_stopped_before(
    sweep: tuple[Sweep, Cell, ShardSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune returns as if all had ended; with --no-stopping a cell that was stopped, and has not
    gone on, has not.
    """
    _, cell, shards = sweep
    jobs = [
        Job(
            replace(cell, resources=Resources(workers=1, cpus_per_worker=cpus)),
            tmp_path / str(cpus),
            {},
        )
        for cpus in (1, 2)
    ]
    began: list[Any] = []

    def interrupted(group: Any) -> Any:
        began.extend(group.jobs)
        return SimpleNamespace(elsewhere=set(), failed=set())

    monkeypatch.setattr(tune, "_ray", lambda *_: nullcontext(lambda resources: None))
    monkeypatch.setattr("vididi.cluster.tune._Group.run", interrupted)
    jobs[0].folder.mkdir()
    (jobs[0].folder / "stopped.json").write_text(STOPPED)
    tune.run_jobs(jobs, shards, tmp_path, Watcher())
    assert began == jobs[:1]


def test_a_drawn_cell_that_was_stopped_early_and_cannot_go_on_has_failed(
    sweep: tuple[Sweep, Cell, ShardSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search that stops no cell early runs it again where its point is drawn again."""
    _, _, shards = sweep
    space = "search: {name: random, trials: 1, space: {order: {choice: [0]}}}\n"
    (tmp_path / "drawn.yaml").write_text(
        "name: drawn" + BASE + "  training: {epochs: 2, batch_size: 8}\n" + space
    )
    asked = load_sweep(tmp_path / "drawn.yaml")
    (example, *_), _ = examples(asked, 1, {})

    def search_here(cells: Any, *_: Any) -> set[Path]:
        cells.suggest("trial")
        (job,) = cells.jobs
        job.folder.mkdir()
        (job.folder / "stopped.json").write_text(STOPPED)
        fail(job)
        cells.on_trial_complete("trial")
        return set()

    monkeypatch.setattr("vididi.cluster.studies.run_drawn", search_here)
    out = io.StringIO()
    work = Workspace(asked, [example], shards, tmp_path / "runs", PlainConsole(file=out))
    searched = run_search(work, [])
    assert searched.status == 1, out.getvalue()
    assert "no room" in out.getvalue()
    assert "cells that failed are not drawn again" in out.getvalue()
