"""Faults that a machine, a scheduler or a colleague puts into a running sweep, each at one moment.

A fault is a function of the sweep under way; it returns what it did in a few words, or None where
there was nothing to do it to (no such process at that moment).
"""

from __future__ import annotations

import random
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import stages
from stages import Stage, StageOf

from vididi.cluster.guardian import processes_with

PAUSE_S = (3.0, 12.0)  # for which a process stands still
STORE_S = (3.0, 12.0)  # for which a store fails or is slow
FULL_S = (2.0, 8.0)  # for which a disk is full or read-only
# By what is in the command line of a process of a sweep.
ROLES = {
    "trial": ("ray::ImplicitFunc", "ray::_single", "ray::_distributed"),
    "train worker": ("ray::RayTrainWorker", "ray::_RayTrainWorker", "RayTrainWorker"),
    "train controller": ("TrainController",),
    "data worker": ("ray::MapBatches", "ray::_map_task", "ray::MapWorker"),
    "raylet": ("raylet/raylet",),
    "gcs": ("gcs/gcs_server",),
    "store": ("ray::_Holder", "ray::Keeper", "ray::IDLE"),
}


@dataclass
class UnderWay:
    """A sweep that runs: its driver, the mark of all its processes, and its disk."""

    driver: subprocess.Popen[bytes]
    mark: str
    disk: Path
    start: Callable[[], subprocess.Popen[bytes]]  # another driver, with the same command
    draw: random.Random
    stage: Stage

    @property
    def processes(self) -> list[psutil.Process]:
        """All that carry the mark, the driver too."""
        return marked(self.mark)

    def of(self, role: str) -> list[psutil.Process]:
        """The processes that have a role in the sweep."""
        found = []
        for process in self.processes:
            with suppress(psutil.Error):
                line = " ".join(process.cmdline())
                if any(piece in line for piece in ROLES[role]):
                    found.append(process)
        return found


def marked(mark: str) -> list[psutil.Process]:
    """Processes with ``CHAOS=mark`` in their environment."""
    return _with(f"CHAOS={mark}")


def _with(variable: str) -> list[psutil.Process]:
    found = []
    for pid in processes_with(variable):
        with suppress(psutil.Error):
            found.append(psutil.Process(pid))
    return found


def _signalled(role: str, number: int) -> Callable[[UnderWay], str | None]:
    def fault(run: UnderWay) -> str | None:
        if role == "driver":
            run.driver.send_signal(number)
            return f"{signal.Signals(number).name} to {run.driver.pid}"
        there = run.of(role)
        if not there:
            return None
        chosen = run.draw.choice(there)
        with suppress(psutil.Error):
            chosen.send_signal(number)
            return f"{signal.Signals(number).name} to {chosen.pid}"
        return None

    return fault


def _paused(role: str) -> Callable[[UnderWay], str | None]:
    def fault(run: UnderWay) -> str | None:
        there = run.processes if role == "all" else run.of(role)
        if not there:
            return None
        chosen = there if role == "all" else [run.draw.choice(there)]
        seconds = run.draw.uniform(*PAUSE_S)
        for process in chosen:
            with suppress(psutil.Error):
                process.suspend()
        time.sleep(seconds)
        for process in chosen:
            with suppress(psutil.Error):
                process.resume()
        return f"{len(chosen)} stood still for {seconds:.1f} s"

    return fault


def disk_full(run: UnderWay) -> str | None:
    """Another user fills the disk for a moment."""
    filler, seconds = run.disk / "filler", run.draw.uniform(*FULL_S)
    with suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(bytes(1 << 16))
    free = shutil.disk_usage(run.disk).free
    time.sleep(seconds)
    filler.unlink()
    return f"{free} bytes free for {seconds:.1f} s"


def disk_read_only(run: UnderWay) -> str | None:
    """The system remounts a disk whose cable is loose."""
    if _remount(run.disk, "ro"):
        return None
    seconds = run.draw.uniform(*FULL_S)
    time.sleep(seconds)
    _remount(run.disk, "rw")
    return f"read-only for {seconds:.1f} s"


def _remount(disk: Path, mode: str) -> int:
    """Forced, as files are open for writing; tmpfs refuses while one is."""
    command = ["mount", "-o", f"remount,{mode}", str(disk)]
    return subprocess.run(command, capture_output=True, check=False).returncode


def out_of_memory(run: UnderWay) -> str | None:
    """The system kills a process that gets no more memory (a cgroup of version 1)."""
    there = run.of("trial") + run.of("train worker")
    group = Path("/sys/fs/cgroup/memory") / f"chaos-{run.mark}"
    if not there or not group.parent.is_dir():
        return None
    chosen = run.draw.choice(there)
    with suppress(OSError, psutil.Error):
        group.mkdir(exist_ok=True)
        (group / "memory.limit_in_bytes").write_text(str(4 << 20))
        (group / "cgroup.procs").write_text(str(chosen.pid))
        chosen.wait(60)
        group.rmdir()
        return f"{chosen.pid} got no more memory"
    return None


def node_dies(run: UnderWay) -> str | None:
    """A machine of a cluster is gone, with all its processes."""
    killed = 0
    for process in _with(f"CHAOS_NODE={run.stage.node}"):
        with suppress(psutil.Error):
            process.kill()
            killed += 1
    return f"{killed} processes of the second node killed" if killed else None


def _store_is(state: str) -> Callable[[UnderWay], str | None]:
    def fault(run: UnderWay) -> str | None:
        seconds = run.draw.uniform(*STORE_S)
        assert run.stage.state is not None
        run.stage.state.write_text(state)
        time.sleep(seconds)
        run.stage.state.write_text("well")
        return f"{state} for {seconds:.1f} s"

    return fault


def clock_jumps(run: UnderWay) -> str | None:
    """Somebody sets the clock."""
    seconds = run.draw.choice([-86400.0, -3600.0, -5.0, 5.0, 3600.0, 864000.0])
    assert run.stage.state is not None
    with run.stage.state.open("r+b") as file:
        file.write(struct.pack("d", seconds))
    return f"{seconds:+.0f} s"


def two_drivers(run: UnderWay) -> str | None:
    """A colleague gives the same command at the same time."""
    other = run.start()
    status = other.wait(600)
    return f"another driver ended with {status}"


FAULTS: dict[str, Callable[[UnderWay], str | None]] = {
    "kill driver": _signalled("driver", signal.SIGKILL),
    "terminate driver": _signalled("driver", signal.SIGTERM),
    "hang up driver": _signalled("driver", signal.SIGHUP),
    "interrupt driver": _signalled("driver", signal.SIGINT),
    "kill trial": _signalled("trial", signal.SIGKILL),
    "kill train worker": _signalled("train worker", signal.SIGKILL),
    "kill data worker": _signalled("data worker", signal.SIGKILL),
    "kill raylet": _signalled("raylet", signal.SIGKILL),
    "kill gcs": _signalled("gcs", signal.SIGKILL),
    "pause trial": _paused("trial"),
    "pause raylet": _paused("raylet"),
    "pause all": _paused("all"),
    "disk full": disk_full,
    "disk read-only": disk_read_only,
    "two drivers": two_drivers,
    "hang trial": _signalled("trial", signal.SIGSTOP),
    "hang train worker": _signalled("train worker", signal.SIGSTOP),
    "out of memory": out_of_memory,
    "kill node": node_dies,
    "store fails": _store_is("fails"),
    "store slow": _store_is("slow"),
    "clock jumps": clock_jumps,
}
# What the sweep runs on, where that is more than this machine.
STAGES: dict[str, StageOf] = {
    "hang trial": stages.watched,
    "hang train worker": stages.watched,
    "kill node": stages.two_nodes,
    "store fails": stages.store,
    "store slow": stages.store,
    "clock jumps": stages.clock,
}


@contextmanager
def disk_of(place: Path, size_bytes: int) -> Iterator[Path]:
    """A small disk at ``place``; a plain folder where file systems cannot be mounted."""
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(place)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield place
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(place)], check=False)
