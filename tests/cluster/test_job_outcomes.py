"""What a sweep says became of its jobs, where their folders say more than one thing. No job runs,
so none needs a cluster.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_sweep import BASE

from vididi.cell_resources import Resources
from vididi.cell_status import INTERRUPTED
from vididi.cluster import groups, tune
from vididi.cluster.driver import report_stopping, run_cells
from vididi.cluster.evaluations import Evaluation, make_evaluations
from vididi.cluster.groups import JobsRun
from vididi.cluster.jobs import Job, JobsLeft
from vididi.cluster.studies import run_search
from vididi.components import resolve
from vididi.data.shards import ShardSet
from vididi.data.stream import local_stream
from vididi.prepared import ensure_prepared
from vididi.protocols import EvaluationEntry
from vididi.protocols.task import make_task
from vididi.runs.mirror import local_path, push
from vididi.runs.readers import read_result
from vididi.runs.run_folder import RunFolder
from vididi.screen import ScreenWatcher, SweepScreen
from vididi.sweep import Cell, Sweep, examples, expand, load_sweep
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
SILENT = ScreenWatcher(SweepScreen(PlainConsole(file=io.StringIO())))
RESULT = {
    "version": 1,
    "data_checksum": "y",
    "steps": 6,
    "seconds": 1.0,
    "retrieval/R@1": 0.5,
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


def jobs_of_two_groups(cell: Cell, folder: Path) -> list[Job]:
    """Jobs that need different resources, so that one runs after the other."""
    return [
        Job(
            replace(cell, resources=Resources(workers=1, cpus_per_worker=cpus)),
            folder / str(cpus),
            {},
        )
        for cpus in (1, 2)
    ]


def jobs_that(end: Callable[[Any], set[Path]]) -> Callable[..., JobsLeft]:
    def run_jobs(jobs: list[Any], over: JobsRun) -> JobsLeft:
        (job,) = jobs
        over.watcher.started(job)
        elsewhere = end(job)
        over.watcher.elsewhere(job) if elsewhere else over.watcher.ended(job, 0)
        return JobsLeft(elsewhere, set())

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
    monkeypatch.setattr("vididi.cluster.driver.run_jobs", jobs_that(fail))
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
    jobs = jobs_of_two_groups(cell, tmp_path)
    began: list[Any] = []

    def interrupted(group: Any) -> Any:
        began.extend(group.jobs)
        return SimpleNamespace(elsewhere=set(), failed=set(), ended=set())

    monkeypatch.setattr(groups, "_ray", lambda *_: nullcontext(lambda resources: None))
    monkeypatch.setattr("vididi.cluster.tune.JobGroup.run", interrupted)
    jobs[0].folder.mkdir()
    (jobs[0].folder / "stopped.json").write_text(STOPPED)
    groups.run_jobs(jobs, JobsRun(shards, tmp_path, SILENT))
    assert began == jobs[:1]


@pytest.mark.parametrize(
    "earlier",
    [{"result.json": json.dumps(MADE)}, {"error.txt": "no room\n"}],
    ids=["made again", "failed before"],
)
def test_after_an_interruption_no_other_jobs_begin_whatever_an_earlier_start_left(
    earlier: dict[str, str],
    sweep: tuple[Sweep, Cell, ShardSet],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What lies in its folder is of before: a job has ended where Tune said so."""
    _, cell, shards = sweep
    jobs = jobs_of_two_groups(cell, tmp_path)
    for job in jobs:
        job.folder.mkdir()
        for name, content in earlier.items():
            (job.folder / name).write_text(content)
    began: list[Any] = []

    def interrupted(group: Any) -> Any:
        began.extend(group.jobs)
        return SimpleNamespace(elsewhere=set(), failed=set(), ended=set())

    monkeypatch.setattr(groups, "_ray", lambda *_: nullcontext(lambda resources: None))
    monkeypatch.setattr("vididi.cluster.tune.JobGroup.run", interrupted)
    left = groups.run_jobs(jobs, JobsRun(shards, tmp_path, SILENT))
    assert began == jobs[:1]
    assert left == JobsLeft(elsewhere=set(), interrupted={job.folder for job in jobs})


def test_a_folder_that_is_deleted_under_its_cell_is_said_and_the_sweep_ends_with_1(
    sweep: tuple[Sweep, Cell, ShardSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial's own function, whose process would be Ray's."""
    asked, cell, shards = sweep
    folder, out = cell.find_folder(tmp_path, shards.manifest.checksum), io.StringIO()

    def deleting(_: Any, metrics: dict[str, Any]) -> None:
        if metrics["epoch"] == 1:
            shutil.rmtree(folder)

    def end(job: Any) -> set[Path]:
        data = {"shards": str(shards.root), "held": None}
        tune._single(None, data, Resources())({"job": json.dumps(job.plain())})
        return set()

    stream = local_stream(shards)
    monkeypatch.setattr("vididi.cluster.train.open_stream", lambda *_: stream)
    monkeypatch.setattr(tune.TuneContext, "report", deleting)
    monkeypatch.setattr("vididi.cluster.driver.run_jobs", jobs_that(end))
    work = Workspace(asked, [cell], shards, tmp_path, PlainConsole(file=out, width=400))
    assert run_cells(work) == 1
    said = out.getvalue()
    assert f"{folder}: the run folder was deleted while a process worked in it; the same" in said
    assert f"in {folder}" in said
    assert "Traceback" not in said
    assert "FileNotFoundError" not in said

    monkeypatch.setattr(tune.TuneContext, "report", lambda *_: None)
    assert run_cells(work) == 0


def test_groups_follow_each_other_while_their_jobs_end(
    sweep: tuple[Sweep, Cell, ShardSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, cell, shards = sweep
    jobs = jobs_of_two_groups(cell, tmp_path)
    began: list[Any] = []

    def ended(group: Any) -> Any:
        began.extend(group.jobs)
        for job in group.jobs:
            job.folder.mkdir()
            (job.folder / "result.json").write_text(json.dumps(MADE))
        folders = {job.folder for job in group.jobs}
        return SimpleNamespace(elsewhere=set(), failed=set(), ended=folders)

    monkeypatch.setattr(groups, "_ray", lambda *_: nullcontext(lambda resources: None))
    monkeypatch.setattr("vididi.cluster.tune.JobGroup.run", ended)
    assert groups.run_jobs(jobs, JobsRun(shards, tmp_path, SILENT)) == JobsLeft(set(), set())
    assert began == jobs


def test_an_interrupted_cell_that_failed_before_is_not_said_to_have_failed(
    sweep: tuple[Sweep, Cell, ShardSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, cell, shards = sweep
    folder, out = cell.find_folder(tmp_path, shards.manifest.checksum), io.StringIO()
    folder.mkdir()
    (folder / "error.txt").write_text("no room\n")
    monkeypatch.setattr(
        "vididi.cluster.driver.run_jobs", lambda *_, **__: JobsLeft(set(), {folder})
    )
    work = Workspace(asked, [cell], shards, tmp_path, PlainConsole(file=out))
    assert run_cells(work) == INTERRUPTED
    assert "run the same command again to go on" in out.getvalue()
    assert "no room" not in out.getvalue()


def test_each_finished_result_is_read_once(
    sweep: tuple[Sweep, Cell, ShardSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, cell, shards = sweep
    folder, reads = cell.find_folder(tmp_path, shards.manifest.checksum), []
    folder.mkdir()
    (folder / "config.yaml").write_text(cell.config.to_yaml())
    record = {**cell.describe("one"), "data_checksum": shards.manifest.checksum}
    (folder / "cell.json").write_text(json.dumps(record))
    (folder / "result.json").write_text(json.dumps(RESULT))

    def counting(path: Path) -> Any:
        reads.append(path)
        return read_result(path)

    monkeypatch.setattr("vididi.runs.outcome.read_result", counting)
    assert run_cells(Workspace(asked, [cell], shards, tmp_path, PlainConsole())) == 0
    assert reads == [folder]


def test_a_best_encoder_that_lies_in_the_store_alone_is_reported(
    sweep: tuple[Sweep, Cell, ShardSet],
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Weights are pulled only where they are asked for."""
    _, cell, _ = sweep
    monkeypatch.setenv("VIDIDI_CACHE", str(tmp_path / "cache"))
    folder, out = local_path(f"{bucket}/best/run"), io.StringIO()
    folder.mkdir(parents=True)
    for name, content in (("stopped.json", STOPPED), ("best.safetensors", "weights")):
        (folder / name).write_text(content)
        push(folder / name)
    (folder / "best.safetensors").unlink()
    report_stopping({folder: cell}, PlainConsole(file=out))
    assert "online/knn 0.500 (best encoder kept)" in out.getvalue()


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
