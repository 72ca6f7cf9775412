"""What one worker and two drift apart by is rounding: a bound for each step (docs/reliability.md)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
FIRST, GROWTH = 1e-15, 3.0  # of the first step in float64, and from step to step


def test_two_workers_drift_as_one_does_whose_weights_are_rounded_otherwise(tmp_path: Path) -> None:
    program = str(REPO / "benchmarks" / "worker_rounding.py")
    command = [sys.executable, program, "--steps", "6", "--seeds", "1", "--out", "found.json"]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    found = json.loads((tmp_path / "found.json").read_text())["seeds"]["float64 0"]
    for kind in ("two_workers", "rounded_otherwise"):
        for step, distance in enumerate(found[kind]):
            assert 0 < distance < FIRST * GROWTH**step, (kind, step, distance)
