"""run_sweep.py at work in this process, and a cluster for it.

A program in a process of its own starts a Ray of its own, which is most of what it takes. So only
tests of what takes a process start one.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

import run_sweep


class Done(NamedTuple):
    """Like subprocess.CompletedProcess."""

    returncode: int
    stdout: str
    stderr: str


def run_here(place: Path, *arguments: str, cache: str = "cache") -> Done:
    """run_sweep.py with these arguments in ``place``, whose ``cache`` is the user's."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(place)
        patch.setenv("COLUMNS", "200")
        patch.setenv("VIDIDI_CACHE", str(place / cache))
        status = run_sweep.main(arguments)
    return Done(status, out.getvalue(), err.getvalue())


def processes_below(pid: int, command: str = "") -> list[psutil.Process]:
    """The descendants of a process whose command line holds ``command``. One that ends meanwhile,
    a zombie too, has no command line any more.
    """
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.Error):
            if command in " ".join(process.cmdline()):
                found.append(process)
    return found


@contextmanager
def cluster_of(cpus: int) -> Iterator[str]:
    """The address of a cluster of one node. Each test file has its own, and leaves nothing there:
    no cell that was killed, whose resources Ray Data would keep back for 180 s (Ray 2.60).
    """
    from ray.cluster_utils import Cluster

    import vididi.cluster.tune  # noqa: F401  (what it sets of the environment is for the workers)

    options = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": 200 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=options)
    try:
        yield cluster.address
    finally:
        cluster.shutdown()
