"""What processes that were killed have left, and who removes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vididi.errors import HeldError
from vididi.runs.left_behind import passing_folder
from vididi.runs.run_folder import RunFolder

HOLDER = """
import sys, time
from pathlib import Path
from vididi.runs.left_behind import passing_folder
with passing_folder(Path(sys.argv[1])):
    Path(sys.argv[1]).mkdir()
    print("here", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    return process.pid


def test_who_holds_a_run_folder_removes_what_killed_writers_left_there(
    tmp_path: Path, gone: int
) -> None:
    stale = [tmp_path / f".checkpoint.pt.{gone}", tmp_path / f".events.{gone}"]
    kept = [
        tmp_path / f".checkpoint.pt.{os.getpid()}",
        tmp_path / f".stopped.json.{gone}",  # a driver elsewhere may be writing it
        tmp_path / f"notes.{gone}",
        tmp_path / ".notes",
    ]
    for path in (*stale, *kept):
        path.touch()
    (tmp_path / f".folder.{gone}").mkdir()
    with RunFolder(tmp_path).locked():
        assert not any(path.exists() for path in stale)
        assert all(path.exists() for path in kept)
        for path in stale:
            path.touch()
        with pytest.raises(HeldError), RunFolder(tmp_path).locked(wait_s=0):
            pass
        assert all(path.exists() for path in stale), "it was not held"
    os.utime(kept[1], (0, 0))
    with RunFolder(tmp_path).locked():
        assert not kept[1].exists()
    assert (tmp_path / f".folder.{gone}").is_dir()


def test_folders_of_killed_processes_are_removed_and_no_others(tmp_path: Path) -> None:
    parent = tmp_path / ".tune"
    holders = [
        subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(parent / name)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("killed", "at-work")
    ]
    for holder in holders:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "here\n"
    (parent / "someones").mkdir()
    holders[0].kill()
    holders[0].wait()
    with passing_folder(parent / "new"):
        (parent / "new").mkdir()
        there = {"at-work", "at-work.lock", "new", "new.lock", "someones"}
        assert {path.name for path in parent.iterdir()} == there
    holders[1].communicate("\n", timeout=60)
    assert {path.name for path in parent.iterdir()} == {"someones"}
