"""What scaling_model.py is made of: what was measured, by whom and when, and what is assumed."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

RESULTS = Path(__file__).resolve().parent / "results"
STORED_FRAMES = 120  # of a video of storage_format.py


def number(value: float) -> str:
    """Two digits, as text."""
    if value == 0:
        return "0"
    digits = int(np.floor(np.log10(abs(value))))
    rounded = round(value, 1 - digits)
    return f"{rounded:,.0f}" if digits >= 1 else f"{rounded:.{1 - digits}f}"


def span(low: float, high: float) -> str:
    """A range, or one number where both ends are the same."""
    return number(low) if number(low) == number(high) else f"{number(low)} to {number(high)}"


class Range(NamedTuple):
    """What is assumed: from, to, and in what."""

    low: float
    high: float
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g} {self.unit}".strip()


ASSUMED = {
    "arithmetic of a GPU on 3D convolutions": Range(10, 150, "TFLOP/s"),
    "all-reduce within a node, of each GPU": Range(10, 300, "GB/s"),
    "all-reduce between nodes, of each GPU": Range(0.4, 50, "GB/s"),
    "a small collective within a node": Range(20, 50, "µs"),
    "a small collective between nodes": Range(30, 200, "µs"),
    "reading shards, of a node": Range(1, 10, "GB/s"),
    "reading shards, of the whole store": Range(10, 100, "GB/s"),
    "memory of a node": Range(512, 2048, "GiB"),
}
SPEED, WITHIN, BETWEEN, SMALL_WITHIN, SMALL_BETWEEN, NODE_READS, STORE, MEMORY = ASSUMED.values()


# --- What is measured -----------------------------------------------------------------------------


class Measured(NamedTuple):
    """A number, what it is of, and where it is from."""

    what: str
    value: float
    unit: str
    where: str


def results(name: str) -> dict[str, Any]:
    """A file of benchmarks/results."""
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return content


@cache
def scale() -> dict[str, Any]:
    """What benchmarks/scale.py has measured."""
    return results("scale")


def where_from(part: str, timed: bool = True) -> str:
    """Script, date and machine of a part of scale.py; and what is wrong with the numbers, if
    anything is.

    timed: whether seconds were measured, rather than memory.
    """
    section = scale()[part]
    machine = section["machine"]
    words = [
        f"`benchmarks/scale.py --only {part}`",
        section["date"],
        f"{machine['cores']} cores ({machine['processor']})",
    ]
    if section["quick"]:
        words.append("**of small sizes (`--quick`)**")
    if section["busy"] and timed:
        words.append(f"**beside other programs (load {section['load_1_min']:g}): too slow**")
    return ", ".join(words)


@cache
def measured() -> dict[str, Measured]:
    """The terms of the model, by a short name."""
    return {**_of_sets(), **_of_sweeps(), **_of_frames()}


def _of_sets() -> dict[str, Measured]:
    rows = scale()["planning"]["rows"]
    first, last = rows[0], rows[-1]
    memory, time = where_from("planning", timed=False), where_from("planning")

    def grown(name: str) -> float:
        return (last[name] - first[name]) * 2**20 / (last["rows"] - first["rows"])

    reader, plan = (last[name] / last["rows"] for name in ("reader_bytes", "plan_bytes"))
    footer = "the footer of a shard of 128 row groups"
    return {
        "kept": Measured("an open set, of each video", grown("kept_mib"), "B", memory),
        "reader": Measured("a stream's reader, of each video", reader, "B", memory),
        "plan": Measured("a stream's plan, of each video", plan, "B", memory),
        "index": Measured(
            "the index while preparing, of each video", grown("writer_peak_mib"), "B", memory
        ),
        "footer_kept": Measured(f"{footer}, kept", last["footer_kept_kib"], "KiB", memory),
        "footer": Measured(f"{footer}, read", last["footer_ms"], "ms", time),
    }


def _of_sweeps() -> dict[str, Measured]:
    most, reports = scale()["cells"]["rows"][-1], scale()["cells"]["reports"]
    memory, cells = where_from("cells", timed=False), f"{most['cells']:,} cells"
    cpu = reports["driver_cpu_ms_per_report"]
    return {
        "driver": Measured(f"a sweep's driver, {cells}", most["driver_peak_mib"], "MiB", memory),
        "per_cell": Measured("of that each cell", most["driver_kib_per_cell"], "KiB", memory),
        "report": Measured(
            "the driver's CPU for a report of a cell", cpu, "ms", where_from("cells")
        ),
    }


def _of_frames() -> dict[str, Measured]:
    stored = results("storage_format")
    jpeg, smaller = stored["ways"]["JPEG 95"], stored["ways"]["JPEG 85"]
    where = f"`benchmarks/storage_format.py`, {stored['date']}"
    return {
        "decoded": Measured(
            "decoding clips of 10 frames of 150 x 200",
            jpeg["clips_per_second_per_core"],
            "clips/s of a core",
            where,
        ),
        "frame": Measured(
            "a frame of 150 x 200", jpeg["kib_per_video"] / STORED_FRAMES, "KiB", where
        ),
        "smaller": Measured(
            "JPEG of quality 85 over 95",
            smaller["kib_per_video"] / jpeg["kib_per_video"],
            "of the bytes",
            where,
        ),
    }
