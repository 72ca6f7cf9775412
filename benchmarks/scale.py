"""How cost grows with videos, cells, queries and workers (docs/scaling.md).

    python benchmarks/scale.py --out benchmarks/results/scale.json
    python benchmarks/scale.py --only planning workers --out benchmarks/results/scale.json
    python benchmarks/scale.py --quick        small sizes: that each part runs

preparing  videos/s and videos/s/core of one set of synthetic files, by processes that decode
planning   opening a set and planning an epoch of it, by videos: seconds and memory
cells      sweeps of many cells of one step each: the driver's memory and time, and what then takes
           status, the table and TensorBoard; and a sweep of few cells of many epochs
retrieval  first hits: memory beyond the features, and seconds
workers    steps of one and two workers, and what collectives of four take by themselves

Each part writes its own section of ``--out`` and leaves the others as they are. Seconds count on an
idle machine alone: a section says what the machine's load was when it began, and whether it was
busy. What is left of the load of the part before is waited for.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from vididi.provenance import measured_by

# Each is the file scale_PART.py, imported when it is asked for: the processes that it starts import
# this file, too, and their memory is measured.
PARTS = ("preparing", "planning", "cells", "retrieval", "workers")
IDLE = 0.5  # of the cores: a load below it is none
SETTLE_S, LOOK_S = 180.0, 5.0


def main() -> int:
    """Exit status: 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS], metavar="PART")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--out", type=Path, help="a JSON file, of which other parts are kept")
    arguments = parser.parse_args()
    for name in arguments.only:
        load, began = settled(0 if arguments.quick else SETTLE_S), time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="vididi-scale-") as place:
            measured = import_module(f"scale_{name}").measure(arguments.quick, Path(place))
        about = {
            **measured_by(),
            "date": time.strftime("%Y-%m-%d"),
            "load_1_min": round(load, 2),
            "busy": load > IDLE * len(os.sched_getaffinity(0)),
            "quick": arguments.quick,
        }
        print(f"{name}: {json.dumps(measured, indent=1)}", flush=True)
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
        if arguments.out:
            write(arguments.out, name, {**about, **measured})
    return 0


def settled(seconds: float) -> float:
    """The load of the machine, once that of the part before is gone; after ``seconds`` at most."""
    deadline = time.monotonic() + seconds
    while os.getloadavg()[0] > IDLE * len(os.sched_getaffinity(0)) and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    return os.getloadavg()[0]


def write(path: Path, name: str, section: dict[str, Any]) -> None:
    """Put a section into the file, in the order of the parts."""
    sections = json.loads(path.read_text()) if path.is_file() else {}
    sections[name] = section
    ordered = {part: sections[part] for part in PARTS if part in sections}
    path.write_text(json.dumps(ordered, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
