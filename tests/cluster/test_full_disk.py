"""A disk that is full amid a sweep: one sentence for each cell, and the same command goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import run_here
from small_disk import enlarge, small_disk
from tiny_sweep import BASE

from vididi.runs.readers import read_result

SWEEP = f"""name: full{BASE}  training: {{epochs: 6, batch_size: 12}}
  evaluation: {{clips: 2, frames: 4, stride: 2}}
arms: {{base: {{order: 0}}, vididi: {{order: 2}}}}
"""

pytestmark = pytest.mark.ray


def test_a_disk_that_is_full_amid_training(tmp_path: Path) -> None:
    (tmp_path / "full.yaml").write_text(SWEEP)
    # Room for the weights, by which the sweep may begin, and not for all that training writes.
    with small_disk(tmp_path / "disk", 400 << 10) as disk:
        first = run_here(tmp_path, "full.yaml", "--runs", str(disk))
        said = first.stdout + first.stderr
        assert first.returncode == 1, said
        assert "Traceback" not in said
        assert "fault of the program" not in said
        assert said.count("No space left on device; the disk is full; free some space, and ") >= 1
        left = [path.name for path in disk.rglob("*") if path.name.startswith(".checkpoint")]
        assert not left
        enlarge(disk, 16 << 20)
        second = run_here(tmp_path, "full.yaml", "--runs", str(disk))
        assert second.returncode == 0, second.stdout + second.stderr
        results = [read_result(folder) for folder in sorted(disk.glob("full/*-s0-*"))]
        assert [result and result["steps"] for result in results] == [12, 12]
