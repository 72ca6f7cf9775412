"""The part of scale.py over cells: sweeps of many, all of them run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import yaml
from own_process import apart, memory_mib

ROOT = Path(__file__).resolve().parents[1]
CELLS, QUICK_CELLS = (10, 100, 1_000), (4,)
EPOCHS, QUICK_EPOCHS = 250, 10  # of each cell of the sweep of few cells
FEW, MANY = 2, 100  # from as many on memory is counted by cell
LOOK_S = 0.5


def sweep_of(cells: int, epochs: int) -> dict[str, Any]:
    """Cells of two arms that train a step an epoch, and measure retrieval at their end."""
    return {
        "name": "scale",
        "base": {
            "data": {"name": "motion", "train": 12, "test": 6, "size": 32, "frames": 24},
            "prepare": {"short_side": 16},
            "clip": {"frames": 4, "stride": 2, "size": 16},
            "objective": {"name": "vicreg", "hidden": 16, "out": 16},
            "backbone": {"name": "r3d_tiny", "width": 2},
            "training": {"epochs": epochs, "batch_size": 12},
            "evaluation": {"clips": 2, "frames": 4, "stride": 2},
        },
        "arms": {"base": {"order": 0}, "vididi": {"order": 2}},
        "seeds": list(range(cells // 2)),
    }


def measure(quick: bool, work: Path) -> dict[str, Any]:
    """Sweeps of more and more cells, and one of few cells of many epochs, which reports as often
    as many cells do. All cells are run, none is copied.
    """
    rows = []
    for cells in QUICK_CELLS if quick else CELLS:
        place = work / f"cells-{cells}"
        rows.append({**run(place, cells, 1), **read_again(place)})
    epochs = QUICK_EPOCHS if quick else EPOCHS
    reports = run(work / "reports", FEW, epochs)
    return {"at_a_time": len(os.sched_getaffinity(0)), "rows": rows, "reports": reports}


# --- The sweep ------------------------------------------------------------------------------------


class Look(NamedTuple):
    """At the driver: seconds since its start, cells done, its CPU seconds and memory [MiB]."""

    seconds: float
    done: int
    cpu: float
    resident: float


def run(place: Path, cells: int, epochs: int) -> dict[str, Any]:
    """Run a sweep, and look at its driver all the while."""
    place.mkdir()
    (place / "scale.yaml").write_text(yaml.safe_dump(sweep_of(cells, epochs)))
    looks, began = [], time.perf_counter()
    with (
        (place / "screen.txt").open("w") as screen,
        subprocess.Popen(
            command_of("scale.yaml"), cwd=place, env=environment(place), stdout=screen
        ) as driver,
    ):
        process = psutil.Process(driver.pid)
        while driver.poll() is None:
            done = len([*place.glob("runs/scale/*/result.json")])
            begun = done or next(place.glob("runs/scale/*/metrics.jsonl"), None)
            if begun and process.is_running() and (memory := process.memory_info().rss):
                cpu = sum(process.cpu_times()[:2])
                looks.append(Look(time.perf_counter() - began, done, cpu, memory / 2**20))
            time.sleep(LOOK_S)
    if driver.returncode:
        raise SystemExit((place / "screen.txt").read_text()[-2000:])
    return run_row(cells, epochs, looks, time.perf_counter() - began)


def run_row(cells: int, epochs: int, looks: list[Look], wall: float) -> dict[str, Any]:
    """What a sweep took, from the first report on: starting Ray does not count."""
    first = looks[0]
    last = next(look for look in looks if look.done == looks[-1].done)  # the table comes after it
    cpu, seconds = last.cpu - first.cpu, last.seconds - first.seconds
    row = {
        "cells": cells,
        "epochs": epochs,
        "wall_seconds": round(wall, 1),
        "seconds_to_first_report": round(first.seconds, 1),
        "driver_peak_mib": round(max(look.resident for look in looks)),
        "driver_cpu_s": round(cpu, 2),
        "driver_cpu_ms_per_report": round(1000 * cpu / (cells * epochs), 2),
        "seconds_per_report": round(seconds / (cells * epochs), 4),
    }
    if cells >= MANY:
        early = next(look for look in looks if look.done >= cells / 5)
        grown = last.resident - early.resident
        row["driver_kib_per_cell"] = round(1024 * grown / (last.done - early.done), 1)
    return row


def command_of(*arguments: str) -> list[str]:
    """run_sweep.py with arguments."""
    return [sys.executable, str(ROOT / "run_sweep.py"), *arguments]


def environment(place: Path) -> dict[str, str]:
    """That of the sweep, whose data lie in its folder."""
    return {**os.environ, "VIDIDI_CACHE": str(place / "cache"), "PYTHONWARNINGS": "ignore"}


# --- What reads run folders -----------------------------------------------------------------------


def read_again(place: Path) -> dict[str, Any]:
    """What status, the table and TensorBoard take of a finished sweep."""
    runs = place / "runs" / "scale"
    began = time.perf_counter()
    subprocess.run(
        command_of("status", "scale.yaml"),
        cwd=place,
        env=environment(place),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    status = time.perf_counter() - began
    files = [path for path in runs.rglob("*") if path.is_file()]
    events = [path for path in files if "tfevents" in path.name]
    return {
        "status_s": round(status, 2),
        "table": apart(write_the_table, runs),
        "tensorboard": {
            "files": len(events),
            "mib": round(sum(path.stat().st_size for path in events) / 2**20, 2),
            **apart(read_events, runs),
        },
        "run_files": len(files),
        "run_mib": round(sum(path.stat().st_size for path in files) / 2**20, 1),
    }


def write_the_table(runs: Path) -> dict[str, float]:
    """Seconds and memory of the sweep's own table, as its end writes it."""
    from vididi.analysis.own_table import sweep_tables
    from vididi.analysis.reading import find_runs

    began, before = time.perf_counter(), memory_mib("VmRSS")
    sweep_tables(None, find_runs(runs), runs, "base", None, all_rows=False)
    return _taken(began, before)


def read_events(runs: Path) -> dict[str, float]:
    """Seconds and memory of reading all events files, as a TensorBoard does when it starts."""
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer

    began, before = time.perf_counter(), memory_mib("VmRSS")
    board = EventMultiplexer().AddRunsFromDirectory(str(runs))
    board.Reload()
    return {**_taken(began, before), "runs": len(board.Runs())}


def _taken(began: float, before: float) -> dict[str, float]:
    return {
        "seconds": round(time.perf_counter() - began, 2),
        "more_mib": round(memory_mib("VmHWM") - before, 1),
    }
