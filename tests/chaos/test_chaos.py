"""A few faults in running sweeps, seeded; `make chaos N=40` puts in many (tests/chaos/chaos.py)."""

from __future__ import annotations

from pathlib import Path

import chaos
import pytest

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
