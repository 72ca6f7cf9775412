"""Python's garbage collector, at rest while modules are imported.

It looks at all objects whenever their number has grown by a quarter. Importing torch and Ray Tune
makes half a million, none of them garbage, and a fifth of the time goes into looking at them.
Standard library alone, as it is imported before what is slow to import.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_alone = threading.Event()  # whether this process runs one program


def one_program_runs() -> None:
    """Say that this process runs one program and ends, so that what is there after an import need
    never be looked at again. In one that goes on, as a notebook's, some of it would be garbage that
    nobody collects.
    """
    _alone.set()


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Collect no garbage meanwhile; for what imports much and makes little else."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            if _alone.is_set():
                gc.freeze()
            gc.enable()


def wake_collector() -> None:
    """Collect again in a process that began without (vididi.cluster.worker_start), but never look
    at what is there by now: it is what was imported, which stays.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
