"""A few faults in running sweeps, seeded; `make chaos N=40` puts in many (tests/chaos/chaos.py)."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from typing import Any

import chaos
import faults
import pytest
from stages import Stage

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chaos.unbroken(tmp_path_factory.mktemp("chaos"))


@pytest.mark.parametrize("fault", ["kill driver", "kill raylet"])
def test_nothing_is_lost_or_left(fault: str, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos, "LEFT_S", 45.0)  # the other tests keep this machine busy
    row = chaos.trial(0, whole.parent, whole, [fault])
    assert (row["recovered"], row["lost"], row["left"]) == ("yes", "", ""), row


def test_another_result_is_seen(whole: Path, tmp_path: Path) -> None:
    """What compares the sweeps can fail."""
    runs = whole / "disk" / "runs" / "chaos"
    assert chaos.compare(runs, runs) == ""
    other = tmp_path / "other"
    (run,) = runs.glob("base-*")
    (other / run.name).mkdir(parents=True)
    for file in run.iterdir():
        if file.is_file():
            (other / run.name / file.name).write_bytes(file.read_bytes())
    said = chaos.compare(runs, other)
    assert f"{run.name}: encoder" not in said
    assert said.count("not finished") == 3
    wrong = next(path for path in runs.glob("vididi-*")) / "encoder.safetensors"
    (other / run.name / "encoder.safetensors").write_bytes(wrong.read_bytes())
    assert f"{run.name}: encoder" in chaos.compare(runs, other)


def test_each_fault_of_signals_can_be_put_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into a driver that has no other process: those of others find nobody."""
    monkeypatch.setattr(faults, "PAUSE_S", (0.1, 0.2))
    for name in faults.FAULTS:
        if not name.startswith(("kill", "terminate", "hang", "interrupt", "pause")):
            continue
        driver = subprocess.Popen(["sleep", "60"], env={"CHAOS": "alone"})
        try:
            again: Any = None
            run = faults.UnderWay(
                driver, "alone", tmp_path, again, random.Random(0), Stage(node="none")
            )
            said = faults.FAULTS[name](run)
            assert (said is not None) == (name.endswith("driver") or name == "pause all"), name
        finally:
            driver.kill()
            driver.wait()
