"""Leases on run folders in an object store: one process at a time writes into a folder, on whatever
machines they are.

A lease is an object ``.owner-<token>.json`` in the folder. A process that wants to write puts its
own one there and then lists the folder. If there is another, it takes its own away and tries again
after a random time; if it is alone, it holds the folder. Of two that come at once, the later one to
have put its object there sees the other's, because S3 (since 2020), GCS and MinIO show an object in
every listing that begins after it was put; so two never hold a folder, however slow they are. The
holder renews its object every REFRESH_S seconds. One whose time in the store, on the store's clock
alone, is LEASE_S ago belongs to a process that died, and may be removed; one of a process of the
same machine that is no more, at once. A holder that was suspended for longer than that finds its
object gone, at its next renewal at the latest, and pushes no more.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow.fs as pafs

from vididi.errors import DataError, HeldError, TrainingError
from vididi.runs.mirror import Mirror, mirror_of, working_in

REFRESH_S = 15.0  # between renewals of a lease
LEASE_S = 120.0  # after which one that is not renewed is over


@contextmanager
def holding(folder: Path, wait_s: float, for_dead: bool = True) -> Iterator[None]:
    """Hold a folder against processes of other machines and work on what is in the store; at the
    end all of it is there.

    Processes of one machine that share a mirror keep each other out by a lock on their disk, which
    must be held already.

    Args:
        wait_s: how long to wait for another that is at work.
        for_dead: also wait until the lease of one that died is over.

    Raises:
        HeldError: another holds it.
        TrainingError: what was written cannot be brought to the store.
    """
    mirror = mirror_of(folder)
    if mirror is None:
        yield
        return
    lease = Lease(mirror, folder)
    lease.acquire(wait_s, max(wait_s, LEASE_S + REFRESH_S) if for_dead else wait_s)
    try:
        with working_in(mirror, folder, lease.check):
            yield
    finally:
        lease.release()


class Lease:
    """A process's lease on a folder of a mirror."""

    def __init__(self, mirror: Mirror, folder: Path) -> None:
        self.mirror, self.folder = mirror, folder
        self.path = folder / f".owner-{uuid4().hex}.json"
        self.renewed = 0.0
        self.gone = False
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._renew, daemon=True)

    def acquire(self, wait_s: float, wait_for_dead_s: float) -> None:
        """Take the lease and keep renewing it in a thread.

        Args:
            wait_s: for processes that renew theirs.
            wait_for_dead_s: for processes that may be dead.

        Raises:
            HeldError: another process still holds the folder.
        """
        began = time.monotonic()
        clock: float | None = None  # what the store's clock is ahead of ours
        first: dict[str, int] = {}  # when others had last been renewed, as first seen, by path
        while True:
            others = self._others(clock)
            if not others:
                self.renewed = time.monotonic()
                clock = self._write() - time.monotonic()
                others = self._others(clock)
                # Later than that the lease may be over for somebody else.
                if not others and time.monotonic() - self.renewed < LEASE_S / 2:
                    break
                self.mirror.delete(self.path)
                if not others:
                    continue
            renewed = [
                other
                for other in others
                if first.setdefault(other.path, other.mtime_ns) != other.mtime_ns
            ]
            if time.monotonic() - began >= (
                wait_s if renewed or clock is None else wait_for_dead_s
            ):
                raise HeldError(
                    f"{self.mirror.uri_of(self.folder)}: another process is at work"
                    f" there{self._who(others[0])}"
                )
            if clock is None:
                clock = self._write() - time.monotonic()
                self.mirror.delete(self.path)
            time.sleep(random.uniform(0.3, 1.0))
        self.thread.start()

    def check(self) -> None:
        """Raise TrainingError if another process may have taken over."""
        if self.gone or time.monotonic() - self.renewed > LEASE_S:
            raise TrainingError(
                f"{self.mirror.uri_of(self.folder)}: this process was out of reach and another one"
                " may have taken over"
            )

    def release(self) -> None:
        """Give the lease up, unless it was lost."""
        self.done.set()
        self.thread.join()
        if not self.gone:
            with contextlib.suppress(TrainingError):  # it will be over by itself
                self.mirror.delete(self.path)

    def _renew(self) -> None:
        while not self.done.wait(REFRESH_S) and not self.gone:
            began = time.monotonic()
            with contextlib.suppress(DataError):  # tried again; by and by check() will tell
                self.gone = self.mirror.info(self.path) is None
                if not self.gone:
                    self._write()
                    self.renewed = began

    def _write(self) -> float:
        """Put the object there, and say at what time of the store."""
        content = {**_process(), "time": datetime.now(UTC).isoformat(timespec="seconds")}
        return self.mirror.put(self.path, json.dumps(content).encode()).mtime_ns / 1e9

    def _others(self, clock: float | None) -> list[pafs.FileInfo]:
        """The objects of processes that are not known to be dead; those of dead ones are
        removed.
        """
        alive = []
        for info in self.mirror.files(self.folder, recursive=False):
            if not info.base_name.startswith(".owner-") or info.base_name == self.path.name:
                continue
            over = clock is not None and clock + time.monotonic() - info.mtime_ns / 1e9 > LEASE_S
            if over or _died(self._read(info)):
                self.mirror.delete(self.mirror.path_of(info.path))
            else:
                alive.append(info)
        return alive

    def _read(self, info: pafs.FileInfo) -> dict[str, Any]:
        try:
            with self.mirror.filesystem.open_input_stream(info.path) as file:
                return json.loads(file.read())
        except (OSError, ValueError):
            return {}

    def _who(self, info: pafs.FileInfo) -> str:
        owner = self._read(info)
        return f" (process {owner['pid']} of {owner['host']})" if owner else ""


def _process() -> dict[str, Any]:
    """This process, so that one of the same machine can tell whether it is still there."""
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": os.getpid(),
        "began": _began(os.getpid()),
    }


def _died(process: dict[str, Any]) -> bool:
    if not process or process["machine"] is None or process["machine"] != _machine():
        return False
    return _began(process["pid"]) != process["began"]


def _machine() -> str | None:
    """This boot of this machine and its process numbers, where Linux tells."""
    try:
        return (
            f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"
            f" {Path('/proc/self/ns/pid').readlink()}"
        )
    except OSError:
        return None


def _began(pid: int) -> str | None:
    """When a process began, in ticks since boot; None where there is no such process, or it is dead
    and not reaped.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
