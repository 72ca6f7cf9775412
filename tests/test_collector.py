"""The collector rests while modules are imported, and never longer."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vididi import collector
from vididi.collector import collector_at_rest, wake_collector

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_it_rests_meanwhile_whatever_happens() -> None:
    def fails() -> None:
        with collector_at_rest():
            assert not gc.isenabled()
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fails()
    assert gc.isenabled()


def test_one_rest_in_another_goes_on() -> None:
    with collector_at_rest():
        with collector_at_rest():
            pass
        assert not gc.isenabled()


def test_garbage_of_a_process_that_goes_on_is_collected() -> None:
    with collector_at_rest():
        pass
    assert gc.get_freeze_count() == 0


def test_what_a_program_has_imported_is_never_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(collector, "_alone", type(collector._alone)())
    collector.one_program_runs()
    with collector_at_rest():
        kept = [object(), []]
    assert gc.get_freeze_count() > 1000
    assert kept is not None


def test_a_process_is_woken_once() -> None:
    gc.disable()
    wake_collector()
    assert gc.isenabled()
    frozen = gc.get_freeze_count()
    later = [[] for _ in range(1000)]
    wake_collector()
    assert gc.get_freeze_count() <= frozen
    assert later


def test_a_process_that_never_works_is_woken_too() -> None:
    """As Ray's own actors are, which live as long as a sweep."""
    code = (
        "import gc, threading\n"
        "def at_once(seconds, wake): t.append((seconds, wake)); return kept\n"
        "t, kept = [], threading.Thread()\n"
        "threading.Timer = at_once\n"
        "import vididi.cluster.worker_start\n"
        "print(gc.isenabled(), kept.daemon, 0 < t[0][0] <= 60)\n"
        "t[0][1]()\n"
        "print(gc.isenabled())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True", "True", "True"]


@pytest.mark.parametrize("program", [["run_sweep.py"], ["-m", "vididi.cli"]])
def test_the_programs_say_that_they_run_alone(program: list[str], tmp_path: Path) -> None:
    """A program's own start, seen from a module that every start imports."""
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, sys\n"
        "def say():\n"
        "    c = sys.modules.get('vididi.collector')\n"
        "    print('alone', bool(c and c._alone.is_set()))\n"
        "atexit.register(say)\n"
    )
    done = subprocess.run(
        [sys.executable, *program, "--help"],
        cwd=ROOT,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "alone True"
