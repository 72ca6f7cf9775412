"""Whether a sweep of many small cells leaves a machine where it was: memory, open files, threads
and processes of the driver and of its Ray, shared memory, temporary files.

    python benchmarks/soak.py --cells 100 --out benchmarks/results/soak.json

Each second all processes of the sweep are looked at. What they hold while the cells of the second
quarter end is compared with what they hold while those of the last one do (medians); and shared
memory, temporary files and processes before the sweep with those after it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from vididi.cluster.guardian import processes_with
from vididi.provenance import measured_by

REPO = Path(__file__).resolve().parents[1]
SWEEP = """name: soak
base:
  data: {{name: motion, train: 24, test: 12, size: 32, frames: 24}}
  prepare: {{short_side: 16}}
  clip: {{frames: 4, stride: 2, size: 16}}
  objective: {{name: vicreg, hidden: 16, out: 16}}
  backbone: {{name: r3d_tiny, width: 2}}
  training: {{epochs: 2, batch_size: 12}}
  evaluation: {{clips: 2, frames: 4, stride: 2}}
arms:
  base: {{order: 0}}
  vididi: {{order: 2}}
seeds: {seeds}
"""
QUARTERS = 4
SHARED = Path("/dev/shm")  # noqa: S108


def main() -> int:
    """Exit status: that of the sweep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=100, help="an even number (default: 100)")
    parser.add_argument("--out", type=Path, help="a JSON file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as place:
        result = soak(Path(place), arguments.cells)
    text = json.dumps({**result, **measured_by()}, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")
    return int(result["exit_status"])


def soak(place: Path, cells: int) -> dict:
    """Run the sweep, look at it, and say what grew."""
    (place / "soak.yaml").write_text(SWEEP.format(seeds=list(range(cells // 2))))
    temporary = place / "tmp"
    temporary.mkdir()
    before = {path.name for path in SHARED.iterdir()}
    environment = {
        **os.environ,
        "TMPDIR": str(temporary),
        "SOAK": str(place),
        "VIDIDI_CACHE": str(place / "cache"),
    }
    command = [sys.executable, str(REPO / "run_sweep.py"), "soak.yaml"]
    began, looks = time.monotonic(), []
    with (place / "printed").open("w") as printed:
        driver = subprocess.Popen(
            command, cwd=place, env=environment, stdout=printed, stderr=printed
        )
        while driver.poll() is None:
            looks.append(look(driver.pid, place, temporary))
            time.sleep(1)
    seconds = time.monotonic() - began
    time.sleep(10)
    after = {path.name for path in SHARED.iterdir()}
    return {
        "cells": cells,
        "exit_status": driver.returncode,
        "seconds": round(seconds, 1),
        "held": compared(looks, cells),
        "left": {
            "processes": len([*processes_of(place)]),
            "temporary_files": len([*temporary.rglob("*")]),
            "shared_memory_files": len(after - before),
        },
    }


def processes_of(place: Path) -> Iterator[psutil.Process]:
    """Those with the sweep's mark in their environment."""
    for pid in processes_with(f"SOAK={place}"):
        with suppress(psutil.Error):
            yield psutil.Process(pid)


def look(driver: int, place: Path, temporary: Path) -> dict[str, float]:
    """What is held now, and how many cells have finished."""
    held = {"finished": float(len([*place.glob("runs/soak/*/result.json")]))}
    every = [*processes_of(place)]
    with suppress(psutil.Error):
        of = psutil.Process(driver)
        held |= {
            "driver_private_mb": of.memory_full_info().uss / 1e6,
            "driver_open_files": of.num_fds(),
            "driver_threads": of.num_threads(),
        }
    memory = files = threads = 0
    for process in every:
        with suppress(psutil.Error):
            memory += process.memory_full_info().pss
            files += process.num_fds()
            threads += process.num_threads()
    sizes = [path.lstat().st_size for path in temporary.rglob("*") if path.is_file()]
    return held | {
        "processes": len(every),
        "all_memory_mb": memory / 1e6,
        "all_open_files": files,
        "all_threads": threads,
        "temporary_files": len(sizes),
        "temporary_mb": sum(sizes) / 1e6,
        "shared_memory_mb": sum(p.stat().st_blocks * 512 for p in SHARED.iterdir()) / 1e6,
    }


def compared(looks: list[dict[str, float]], cells: int) -> dict[str, dict[str, float]]:
    """The medians of the second quarter of the cells and of the last one, and their ratio."""
    parts = [
        [
            one
            for one in looks
            if low * cells / QUARTERS <= one["finished"] < high * cells / QUARTERS
        ]
        for low, high in ((1, 2), (QUARTERS - 1, QUARTERS))
    ]
    found = {}
    for name in looks[len(looks) // 2]:
        if name != "finished":
            early, late = (
                statistics.median(one[name] for one in part if name in one) for part in parts
            )
            found[name] = {
                "second_quarter": round(early, 2),
                "last_quarter": round(late, 2),
                "ratio": round(late / early, 3) if early else 1.0 if not late else float("inf"),
            }
    return found


if __name__ == "__main__":
    sys.exit(main())
