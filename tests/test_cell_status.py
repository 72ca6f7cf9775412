"""Which jobs came to no good end, and the exit status that says so."""

from __future__ import annotations

import io
import json
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vididi.cell_status import INTERRUPTED, report_unfinished
from vididi.runs.outcome import outcome
from vididi.screen import ScreenWatcher, SweepScreen
from vididi.terminal import PlainConsole

STOPPED = json.dumps({"epoch": 2, "online/knn": 0.5, "rule": "asha"})
MADE = json.dumps(
    {
        "version": 1,
        "protocol": "linear",
        "data": {"name": "motion", "checksum": "y"},
        "metrics": {"linear/top1": 0.5},
    }
)


def job_of(folder: Path, **files: str) -> Any:
    folder.mkdir()
    for name, content in files.items():
        (folder / {"error": "error.txt"}.get(name, f"{name}.json")).write_text(content)
    return SimpleNamespace(folder=folder, title="the cell", name="the cell", evaluation=None)


def told(job: Any, ended: Any, elsewhere: bool = False) -> tuple[int, str, str]:
    """The exit status, what is said of the job at the end, and what the screen said of it
    before.
    """
    screen, report = io.StringIO(), io.StringIO()
    watched = SweepScreen(PlainConsole(file=screen))
    watched.add(job.title, "waiting", 4, None)
    ScreenWatcher(watched, ended).ended(job, 0)
    status = report_unfinished(
        {job.folder: job}, PlainConsole(file=report), ended, {job.folder} if elsewhere else ()
    )
    assert re.match(r"\d\d:\d\d:\d\d +\d+% ", screen.getvalue())
    return status, report.getvalue(), screen.getvalue().partition("% ")[2]


def test_a_cell_that_was_stopped_early_is_done_unless_it_was_to_go_on(tmp_path: Path) -> None:
    """With --no-stopping it goes on: where it could not begin, its folder still says that it was
    stopped.
    """
    job = job_of(tmp_path / "run", stopped=STOPPED, error="run: no room\n")
    assert told(job, outcome) == (0, "", "the cell: stopped early at epoch 2 after 0 s\n")
    status, report, screen = told(job, partial(outcome, stopping=False))
    assert (status, screen) == (1, "the cell: failed after 0 s\n")
    assert report.startswith("not finished: the cell: no room\n    in ")
    (job.folder / "error.txt").unlink()
    assert told(job, partial(outcome, stopping=False))[0] == INTERRUPTED


def test_a_cell_whose_result_is_damaged_does_not_pass_for_one_that_was_stopped(
    tmp_path: Path,
) -> None:
    job = job_of(tmp_path / "run", stopped=STOPPED, result="")
    status, report, screen = told(job, outcome)
    assert (status, screen) == (INTERRUPTED, "the cell: failed after 0 s\n")
    assert report.startswith("not finished: the cell: run the same command again to go on\n")


def test_an_evaluation_that_is_made_again_and_fails_does_not_pass_for_the_one_before(
    tmp_path: Path,
) -> None:
    job = job_of(tmp_path / "run", result=MADE, error="too hot\n")
    status, report, screen = told(job, partial(outcome, measured=lambda folder: False))
    assert (status, screen) == (1, "the cell: failed after 0 s\n")
    assert report.startswith("not finished: the cell: too hot\n")
    assert told(job, outcome) == (0, "", "the cell: finished after 0 s\n")


@pytest.mark.parametrize(
    ("files", "status"), [({}, 1), ({"error": "too hot"}, 1), ({"stopped": STOPPED}, 0)]
)
def test_a_cell_of_another_driver_is_not_finished_unless_it_is(
    files: dict[str, str], status: int, tmp_path: Path
) -> None:
    job = job_of(tmp_path / "run", **files)
    found, report, _ = told(job, outcome, elsewhere=True)
    assert found == status
    assert ("run by another driver; run the same command again to go on" in report) == (status == 1)


def test_of_an_interrupted_sweep_only_what_began_is_listed(tmp_path: Path) -> None:
    begun = job_of(tmp_path / "begun")
    waiting = [
        SimpleNamespace(folder=tmp_path / f"w{number}", name=f"waiting {number}", evaluation=None)
        for number in range(40)
    ]
    report = io.StringIO()
    jobs = {job.folder: job for job in (begun, *waiting)}
    status = report_unfinished(jobs, PlainConsole(file=report), outcome, (), set(jobs))
    assert status == INTERRUPTED
    said = report.getvalue()
    assert "not finished: the cell: run the same command again" in said
    assert "waiting" not in said
    assert said.endswith("not begun: 40 cells or evaluations\n")
