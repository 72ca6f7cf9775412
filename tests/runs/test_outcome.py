"""What became of a run, from what its folder holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vididi.config import build_config
from vididi.errors import DamagedError
from vididi.runs.outcome import DONE, condition, damage, finished, has_new_result, outcome, stopped

RESULT = json.dumps({"version": 1, "retrieval/R@1": 0.5, "data_checksum": "x", "steps": 3})
CELL = json.dumps({"sweep": None, "arm": "a", "label": "A", "axes": {}, "seed": 0})
STOPPED = json.dumps({"epoch": 2, "online/knn": 0.5, "rule": "asha"})
WHOLE = {"config.yaml": build_config({}).to_yaml(), "cell.json": CELL, "result.json": RESULT}


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


@pytest.mark.parametrize(
    ("files", "kept", "going_on", "shown"),
    [
        ({}, None, None, "half-done"),
        ({"cell.json": CELL}, None, None, "half-done"),
        ({"error.txt": "too hot"}, "failed", "failed", "failed"),
        ({"stopped.json": STOPPED}, "stopped", None, "stopped"),
        ({"stopped.json": STOPPED, "error.txt": "too hot"}, "stopped", "failed", "stopped"),
        (WHOLE, "finished", "finished", "finished"),
        (
            {**WHOLE, "stopped.json": STOPPED, "error.txt": "too hot"},
            "finished",
            "finished",
            "finished",
        ),
        ({**WHOLE, "metrics.jsonl": "\0\n"}, "finished", "finished", "damaged"),
        ({**WHOLE, "stopped.json": ""}, "finished", "finished", "damaged"),
        ({"result.json": RESULT}, "finished", "finished", "damaged"),
        ({**WHOLE, "result.json": ""}, None, None, "damaged"),
        (
            {**WHOLE, "result.json": "", "stopped.json": STOPPED, "error.txt": "too hot"},
            None,
            None,
            "damaged",
        ),
        ({"stopped.json": "[]", "error.txt": "too hot"}, None, "failed", "damaged"),
        ({"cell.json": "[]", "error.txt": "too hot"}, "failed", "failed", "damaged"),
    ],
)
def test_what_became_of_a_run(
    files: dict[str, str], kept: str | None, going_on: str | None, shown: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "run", files)
    assert (outcome(folder), outcome(folder, stopping=False), condition(folder)) == (
        kept,
        going_on,
        shown,
    )
    assert (finished(folder) is not None) == (kept == "finished")
    assert (stopped(folder) is not None) == (kept == "stopped"), (
        "a result that is damaged or whole comes first"
    )
    assert bool(damage(folder)) == (shown == "damaged")


def test_a_run_without_a_folder_waits(tmp_path: Path) -> None:
    assert (outcome(tmp_path / "none"), condition(tmp_path / "none")) == (None, "waiting")


def test_there_is_no_more_to_do_where_a_run_is_finished_or_stopped(tmp_path: Path) -> None:
    ended = [
        outcome(write(tmp_path / str(i), files))
        for i, files in enumerate((WHOLE, {"stopped.json": STOPPED}, {"error.txt": ""}, {}))
    ]
    assert [each in DONE for each in ended] == [True, True, False, False]


def test_a_result_that_lacks_what_is_asked_for_is_no_end(tmp_path: Path) -> None:
    """As of an evaluation that was made without the untrained encoder, and is then asked for with
    it.
    """
    folder = write(tmp_path / "run", {"result.json": RESULT})

    def unreadable(folder: Path) -> bool:
        raise DamagedError(f"{folder}: is damaged")

    assert outcome(folder, measured=lambda folder: False) is None
    assert outcome(folder, measured=has_new_result) == "finished"
    assert outcome(folder, measured=unreadable) is None
    (folder / "error.txt").write_text("too hot")
    assert outcome(folder, measured=lambda folder: False) == "failed"
    assert outcome(folder, measured=has_new_result) == "failed"
    assert outcome(folder, measured=lambda folder: True) == "finished"
