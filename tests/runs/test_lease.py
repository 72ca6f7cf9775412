"""Leases on run folders in an object store, against a local server that speaks S3. Another machine
is one with a cache of its own.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_machines import machine, objects, put

from vididi.data.shards import ShardSet
from vididi.data.stream import local_stream
from vididi.errors import HeldError, TrainingError
from vididi.experiment import run_cell
from vididi.runs import lease, mirror
from vididi.runs.lease import Lease
from vididi.runs.run_folder import RunFolder
from vididi.training.context import LocalContext


def test_of_many_machines_that_come_at_once_one_works_at_a_time(
    bucket: str, tmp_path: Path
) -> None:
    roots = []
    for number in range(4):
        with machine(tmp_path / str(number)):
            roots.append(mirror.local_path(f"{bucket}/crowd/a"))
    inside, most, turns = 0, 0, 0
    guard = threading.Lock()

    def work(lease: Lease) -> None:
        nonlocal inside, most, turns
        lease.acquire(60, 60)
        with guard:
            inside += 1
            most, turns = max(most, inside), turns + 1
        time.sleep(0.1)
        with guard:
            inside -= 1
        lease.release()

    leases = [Lease(mirror.Mirror(root.parents[1], bucket), root) for root in roots]
    threads = [threading.Thread(target=work, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (turns, most) == (4, 1)
    assert objects(f"{bucket}/crowd/a") == {}


def owner(**changes: Any) -> bytes:
    return json.dumps({**lease._process(), **changes}).encode()


def test_a_lease_of_a_process_of_this_machine_that_is_no_more_is_free_at_once(
    bucket: str, tmp_path: Path
) -> None:
    put(f"{bucket}/died/a/.owner-1.json", owner(began="long ago"))
    with machine(tmp_path), RunFolder(mirror.local_path(f"{bucket}/died/a")).locked(0):
        assert ".owner-1.json" not in objects(f"{bucket}/died/a")


def test_a_lease_that_is_not_renewed_is_over_and_one_that_is_is_not(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LEASE_S", 3.0)
    monkeypatch.setattr(lease, "REFRESH_S", 0.5)
    put(f"{bucket}/over/a/.owner-1.json", owner(machine="another", host="far"))
    with machine(tmp_path / "here"):
        folder = RunFolder(mirror.local_path(f"{bucket}/over/a"))
        with pytest.raises(
            HeldError,
            match=(
                rf"{bucket}/over/a: another process is at work there \(process {os.getpid()} of"
                r" far\)"
            ),
        ):
            folder.locked(0).__enter__()
        began = time.monotonic()
        with folder.locked():
            assert time.monotonic() - began > 1
            time.sleep(4)  # it would be over if it were not renewed
            with (
                machine(tmp_path / "there"),
                pytest.raises(HeldError),
                RunFolder(mirror.local_path(f"{bucket}/over/a")).locked(0),
            ):
                pass


def test_a_process_whose_lease_was_taken_pushes_no_more(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "REFRESH_S", 1.0)
    with machine(tmp_path):
        folder = RunFolder(mirror.local_path(f"{bucket}/taken/a"))
        with (  # noqa: PT012
            pytest.raises(TrainingError, match="another one may have taken over"),
            folder.locked(),
        ):
            (name,) = objects(f"{bucket}/taken/a")
            mirror.remove_file(folder.path / name)
            time.sleep(1.5)
            folder.save_result({})
    assert objects(f"{bucket}/taken/a") == {}


def test_two_machines_do_not_run_one_cell(
    bucket: str,
    make_config: Callable[..., Any],
    tiny_shards: ShardSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vididi.runs.run_folder.LOCK_WAIT_S", 0.0)
    monkeypatch.setattr(lease, "LEASE_S", 3.0)
    monkeypatch.setattr(lease, "REFRESH_S", 1.0)
    uri = f"{bucket}/twice/cell"
    with (
        machine(tmp_path / "one"),
        RunFolder(mirror.local_path(uri)).locked(),
        machine(tmp_path / "two"),
    ):
        folder = mirror.local_path(uri)
        with pytest.raises(HeldError, match="another process is at work there"):
            run_cell(
                make_config(), {}, folder, tiny_shards, local_stream(tiny_shards), LocalContext()
            )
        RunFolder(folder).save_error("what another process does is no error of the cell")
        assert not (folder / "error.txt").exists()
    assert objects(uri) == {}
