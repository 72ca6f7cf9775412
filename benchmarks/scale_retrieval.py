"""The part of scale.py over retrieval: first hits among many videos."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from own_process import apart, memory_mib
from threadpoolctl import threadpool_limits

from vididi.evaluation.retrieval import first_hits

# Queries, gallery, width.
SIZES = ((2_000, 100_000, 512), (100_000, 100_000, 512))
QUICK_SIZES = ((200, 2_000, 64), (2_000, 2_000, 64))
LABELS = 101


def measure(quick: bool, work: Path) -> dict[str, Any]:
    """First hits of some sizes, each in a process of its own, on one thread."""
    sizes = QUICK_SIZES if quick else SIZES
    return {"threads": 1, "rows": [apart(measured, *size) for size in sizes]}


def measured(queries: int, gallery: int, width: int) -> dict[str, Any]:
    """Seconds, and MiB that the features take and that first_hits takes beyond them."""
    random = np.random.default_rng(0)
    q, g = (random.standard_normal((count, width)) for count in (queries, gallery))
    labels = [random.integers(0, LABELS, count) for count in (queries, gallery)]
    held = memory_mib("VmHWM")
    began, cpu = time.perf_counter(), time.process_time()
    with threadpool_limits(1):
        first_hits(q, labels[0], g, labels[1])
    return {
        "queries": queries,
        "gallery": gallery,
        "width": width,
        "seconds": round(time.perf_counter() - began, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
        "features_mib": round((q.nbytes + g.nbytes) / 2**20, 1),
        "beyond_features_mib": round(memory_mib("VmHWM") - held, 1),
    }
