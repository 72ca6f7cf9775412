"""`make bench`: its scripts run, and a row comes of each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
# Of the others each takes a minute. Reading has rows only where others' readers are installed.
QUICK = ("memory_format", "view_passes", "train_step", "augmentation", "retrieval", "reading")
WORDS = ("step of r3d_tiny", "vicreg step of r3d_18", "augmentation", "retrieval")


def test_a_quick_look_gives_a_row_of_each(tmp_path: Path) -> None:
    only = [word for name in QUICK for word in ("--only", name)]
    command = [sys.executable, "benchmarks/bench.py", "--quick", *only]
    out = tmp_path / "performance.json"
    done = subprocess.run(
        [*command, "--out", str(out)], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    whats = " ".join(row["what"] for row in rows)
    assert all(word in whats for word in WORDS)
    assert all(row["ratio"] > 0 for row in rows)
    assert all(row["what"] in done.stdout for row in rows)
