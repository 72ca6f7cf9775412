"""Notices that Ray has died, and ends the program or starts it again.

What calls Ray does not get over that. Without its GCS a call blocks in C++, where no exception and
no signal reaches it, and after 60 s Ray ends the process without a word; without its raylet Tune
waits for ever, and what puts something into the object store ends the process at once (Ray 2.60).
So a thread watches. It ends what Ray has left, and puts a new program of the same command line in
the place of this one (``os.execve``), which goes on from the run folders as any command does that
is given again. The process keeps its number, its terminal and its parent.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from vididi.cluster.guardian import processes_of
from vididi.cluster.stopped_processes import StoppedProcesses
from vididi.errors import ResourceError
from vididi.screen import leave_screens
from vididi.terminal import say, say_error

DEATHS = "VIDIDI_RAY_DEATHS"  # in the environment: how many Rays of this command have died
POLL_S = 0.5
# A head may be started again meanwhile, and Ray itself goes on then; it gives up after 60 s.
SILENT_S = 30.0
SEEN_S = 1.0  # between connections to a head that answers
GRACE_S = 10.0  # for a program that was asked to end, as its Ray was
PROGRAMS = ("vididi", "run_sweep.py", "cli.py")  # that may be started again
ASKED = (0, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)  # statuses of what was asked to end
AGAIN = "the same command goes on from the checkpoints"


class Ray(Protocol):
    """A Ray that is watched."""

    def wait(self) -> None:
        """Return in POLL_S, or earlier where something happens."""

    def fault(self) -> str:
        """What is wrong with it now; empty where nothing is."""

    def ended(self, stop: threading.Event) -> None:
        """Called when something is wrong; does not return unless it is over, or ``stop`` is set."""

    def close(self) -> None:
        """Called when it is watched no more."""


_watched: list[Ray] = []


def hold_while_dead() -> None:
    """Return when Ray is there; what is told meanwhile of cells would be of its death alone.

    Where it stays away the process ends in here.
    """
    while any(ray.fault() for ray in list(_watched)):
        time.sleep(POLL_S)


@contextmanager
def watching(ray: Ray) -> Iterator[None]:
    """Watch a Ray in a thread."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            ray.wait()
            if ray.fault() and not stop.is_set():
                ray.ended(stop)

    thread = threading.Thread(target=watch, daemon=True, name="ray watch")
    _watched.append(ray)
    thread.start()
    try:
        yield
    except Exception:
        hold_while_dead()  # else this is what is said, and not why
        raise
    finally:
        stop.set()
        _watched.remove(ray)
        thread.join()
        ray.close()


class OwnRay:
    """A Ray of our own, whose processes are children of this one.

    Args:
        processes: by the names that people are told. folder: its own, as in MARK.
        guardian: reads from a pipe that this process holds.
        restarts: deaths in all after which the program is started again. environment: for that.
        hang_s: see StoppedProcesses.
    """

    def __init__(
        self,
        processes: Mapping[str, subprocess.Popen[bytes]],
        folder: Path,
        guardian: subprocess.Popen[bytes],
        restarts: int,
        environment: Mapping[str, str],
        hang_s: float,
    ) -> None:
        self.stopped = StoppedProcesses(folder, hang_s)
        self.processes, self.folder, self.guardian = processes, folder, guardian
        self.restarts, self.environment = restarts, environment
        self.files: list[int] = []
        with suppress(OSError):  # of a Linux before 5.3
            self.files = [os.pidfd_open(process.pid) for process in processes.values()]

    def wait(self) -> None:
        """See Ray. At once where a process ends: some calls of Ray would end this one then."""
        select.select(self.files, [], [], POLL_S)
        self.stopped.look()

    def close(self) -> None:
        """See Ray."""
        for file in self.files:
            os.close(file)

    def fault(self) -> str:
        """Which process is gone, and how it ended."""
        for name, process in self.processes.items():
            status = _status(process)
            if status is not None:
                return f"its {name} {_how(status)}"
        return ""

    def ended(self, stop: threading.Event) -> None:
        """Start the program again, or end it."""
        if any(_status(process) in ASKED for process in self.processes.values()):
            # Whoever ends a group of processes, or all of a job, means this one, too.
            if not stop.wait(GRACE_S):
                self._end(f"Ray was ended by someone else: {self.fault()}; {AGAIN}")
            return
        deaths = int(self.environment.get(DEATHS, "0")) + 1
        if deaths > self.restarts or Path(sys.argv[0]).name not in PROGRAMS:
            self._end(f"Ray died: {self.fault()}; {AGAIN}")
        leave_screens()
        say(
            f"Ray died: {self.fault()}. It is started again ({deaths} of {self.restarts}), and"
            " cells go on from their checkpoints"
        )
        self._end_leftovers()
        _replace_program({**self.environment, DEATHS: str(deaths)})

    def _end(self, reason: str) -> None:
        self._end_leftovers()
        end_program(reason)

    def _end_leftovers(self) -> None:
        """No cell may write any more, and no process be left to whoever comes after."""
        for pid in list(processes_of(str(self.folder))):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self.guardian.stdin is not None
        with suppress(OSError):
            self.guardian.stdin.close()
        self.guardian.wait()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


class ClusterRay:
    """A cluster that this process is connected to.

    Args:
        address: as it was given. gcs: host:port. raylet: the path of the local raylet's socket.
    """

    def __init__(self, address: str, gcs: str, raylet: str) -> None:
        host, _, port = gcs.rpartition(":")
        self.address, self.gcs = address, (host.strip("[]"), int(port))
        # Not to be seen from here where the raylet is in another container.
        self.raylet = raylet if is_listening(raylet) else None
        self.answered = -SEEN_S

    def wait(self) -> None:
        """See Ray."""
        time.sleep(POLL_S)

    def close(self) -> None:
        """See Ray."""

    def fault(self) -> str:
        """What does not answer."""
        if self.raylet and not is_listening(self.raylet):
            return "Ray's raylet on this machine is gone"
        if time.monotonic() - self.answered < SEEN_S:
            return ""
        try:
            socket.create_connection(self.gcs, timeout=5).close()
            self.answered = time.monotonic()
        except OSError as error:
            reason = error.strerror or error
            return f"its head, {self.gcs[0]}:{self.gcs[1]}, does not answer ({reason})"
        return ""

    def ended(self, stop: threading.Event) -> None:
        """Wait for a while, then end the program."""
        since = time.monotonic()
        while fault := self.fault():
            if time.monotonic() - since > SILENT_S or not fault.startswith("its head"):
                end_program(f"--address {self.address}: {fault}; when the cluster is back, {AGAIN}")
            if stop.wait(POLL_S):
                return


def is_listening(path: str) -> bool:
    """Whether a process of this machine listens on a Unix socket."""
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split(maxsplit=7)  # the fourth has SO_ACCEPTCON, the last is the path
        if len(fields) == 8 and fields[7] == path and int(fields[3], 16) & 0x10000:
            return True
    return False


def end_program(reason: str) -> None:
    """End this process with status 1, whatever its other threads wait for."""
    leave_screens()
    say_error(ResourceError(reason))
    _flush()
    os._exit(1)


def _replace_program(environment: Mapping[str, str]) -> None:
    _flush()
    # Ray opens files and receives some, the object store's among them, that would stay open.
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if int(entry.name) > 2:
                os.set_inheritable(int(entry.name), False)
    os.execve(sys.executable, sys.orig_argv, dict(environment))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


def _status(process: subprocess.Popen[bytes]) -> int | None:
    """As ``Popen.poll``, which whoever started the process must be left to call."""
    try:
        found = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return process.returncode if process.returncode is not None else 1
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def _how(status: int) -> str:
    if status == -signal.SIGKILL:
        return "was killed (SIGKILL), as the system does where memory runs out"
    if status < 0:
        return f"was killed ({signal.Signals(-status).name})"
    return f"ended with status {status}"
