"""Measuring in a process of its own, whose memory is what the measured part takes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def memory_mib(name: str) -> float:
    """``VmHWM`` (the peak) or ``VmRSS`` of this process. Not getrusage's peak: that of a process
    begins with what its parent had.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(value) / 1024


def apart(function: Callable[..., T], *arguments: Any) -> T:
    """The result of a function in a new process, whose memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()
