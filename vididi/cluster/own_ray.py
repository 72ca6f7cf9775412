"""A Ray of this program's own, on this machine, for one sweep.

Ray lets whoever reaches it run code as its user. So this one listens on the loopback address alone,
whatever the environment says it asks for a token, and the token lies in a folder that no other user
can enter; HOME is not used. Everything that Ray writes is in that folder, which is removed with it.
A guardian, another process, waits for the end of this one however it comes (SIGKILL, too), and then
ends what Ray has left running and removes the folder.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants, services, utils
from ray._private import worker as ray_worker
from ray._private.node import Node
from ray._private.ray_constants import PROCESS_TYPE_GCS_SERVER, PROCESS_TYPE_RAYLET
from ray._raylet import AuthenticationTokenLoader, Config, GcsClient  # type: ignore[attr-defined]

from vididi.cluster.connection import ray_starting
from vididi.cluster.guardian import MARK, OWNER, end_processes, is_alive, processes_of, started_at
from vididi.cluster.ray_signals import signals_kept
from vididi.cluster.watch import OwnRay, watching
from vididi.startup_checks import PREFIX, RAY, folder_for_sockets

# What the environment could say of tokens and addresses, and does not of a Ray of our own.
_OVERRIDDEN = (
    "RAY_AUTH_MODE",
    "RAY_AUTH_TOKEN",
    "RAY_AUTH_TOKEN_PATH",
    "RAY_ADDRESS",
    "RAY_NODE_IP_ADDRESS",
    "RAY_TMPDIR",
    "TMPDIR",
    "SPT_NOENV",
    MARK,
)
TEMPORARY = "tmp"  # in the folder, of its processes
START_S, TRIES = 120, 3  # for a Ray of our own to start; it takes 3 s where nothing else runs
# How long its processes wait for each other, where the environment does not say: 30 s in Ray 2.60,
# and 60 for a worker, which is short where other programs keep cores and disk busy.
_PATIENCE = {
    "RAY_gcs_server_port_wait_time_s": f"{START_S}",
    "RAY_agent_register_timeout_ms": f"{START_S * 1000}",
    "RAY_worker_register_timeout_seconds": f"{START_S}",
    # In 3 of 8 starts the raylet called its own object store before that listened, and called
    # again after 1 s (Ray 2.60).
    "RAY_raylet_client_connect_timeout_milliseconds": "20",
    "RAY_raylet_client_num_connect_attempts": f"{START_S * 50}",
}
_WORKERS = {"RAY_preload_python_modules": "vididi.cluster.worker_start"}
# glibc gives large blocks back to the system, and gets them anew, zeroed, in each step: a tenth of
# the ablation's. With these its processes keep them; numbers of the environment come first.
_ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": f"{1 << 30}",
    "MALLOC_TRIM_THRESHOLD_": f"{1 << 31}",
    "MALLOC_ARENA_MAX": "1",  # cells train in a thread, whose own arena would give them back
}
# Of the environment, where that does not say otherwise.
_DEFAULTS = _PATIENCE | _WORKERS | _ALLOCATOR
# Where gloo and NCCL listen for the other workers of a cell.
_INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


@contextmanager
def own_ray(
    cpus: int,
    object_store_bytes: int,
    restarts: int = 0,
    memory: int = 0,
    hang_s: float = 0,
) -> Iterator[None]:
    """Be connected to a Ray that is started for it and ended with it.

    Args:
        cpus: that it is to believe this machine has.
        restarts: how often, over all Rays of a command, the program is started again where Ray
            died; otherwise it is ended (vididi.cluster.watch).
        memory: bytes that its processes may ask it for; 0: what Ray finds free.
        hang_s: after twice as long a process of it that was stopped is ended [seconds]; 0: never.
    """
    remove_left_behind()
    tempfile.gettempdir()  # this process keeps its own, which Python looks for once
    folder, environment = _new_folder(), dict(os.environ)
    token = folder / "token"
    values = {
        "RAY_AUTH_TOKEN_PATH": str(token),
        MARK: str(folder),
        "SPT_NOENV": "1",  # Ray's agents would write their titles over the mark
        # Libraries make temporary folders at their import, which a killed process leaves.
        "TMPDIR": str(folder / TEMPORARY),
        **{name: os.environ.get(name, value) for name, value in _DEFAULTS.items()},
    }
    with _environment({**values, **dict.fromkeys(_INTERFACES, "lo")}), _guarded(folder) as guardian:
        # Read once, of whatever Ray this process was connected to before.
        AuthenticationTokenLoader.instance().reset_cache()
        try:
            with ray_starting(), _on_loopback(), _alone(), _patient(folder), signals_kept():
                _start(cpus, object_store_bytes, folder, memory)
            own = OwnRay(_processes(), folder, guardian, restarts, environment, hang_s)
            with watching(own), _without_obituary():
                yield
        finally:
            with signals_kept():
                ray.shutdown()
            AuthenticationTokenLoader.instance().reset_cache()


def _start(cpus: int, object_store_bytes: int, folder: Path, memory: int) -> None:
    """Start Ray. Where cores and the disk are busy its processes give each other up (Ray 2.60); by
    then what they read is in memory, so it is tried again.
    """
    for left in reversed(range(TRIES)):
        try:
            ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                object_store_memory=object_store_bytes,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=str(folder / RAY),
                _memory=memory or None,
            )
        except Exception as error:  # Exception itself, for one
            if not left or "timed out" not in str(error).lower():
                raise
            ray.shutdown()
            end_processes(str(folder))
        else:
            return


def _processes() -> dict[str, subprocess.Popen[bytes]]:
    """Those of the Ray that was started here without which nothing goes on."""
    names = {"raylet": PROCESS_TYPE_RAYLET, "GCS": PROCESS_TYPE_GCS_SERVER}
    started = ray_worker._global_node.all_processes  # type: ignore[attr-defined]
    return {said: started[name][0].process for said, name in names.items()}


def _new_folder() -> Path:
    """A folder for Ray that only its user can enter, with a token and the mark of this process."""
    # 0700. Ray gives its own folder, in it, mode 0777.
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder_for_sockets()))
    (folder / TEMPORARY).mkdir()
    _write_private(folder / "token", secrets.token_hex(32))
    owner = {"pid": os.getpid(), "started": started_at(os.getpid())}
    _write_private(folder / OWNER, json.dumps(owner))
    return folder


def _write_private(path: Path, text: str) -> None:
    path.touch(0o600, exist_ok=False)
    path.write_text(text)


def remove_left_behind() -> None:
    """Remove folders of this user's Rays whose process is gone, where no guardian was left to."""
    parent = folder_for_sockets()
    for folder in parent.glob(f"{PREFIX}*") if parent else ():
        with suppress(OSError, ValueError, KeyError, TypeError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            owner = json.loads((folder / OWNER).read_text())
            if not is_alive(owner["pid"], owner["started"]):
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """These values for Ray and its children, and none of the others that would change them."""
    names = (*_OVERRIDDEN, *_INTERFACES, *_DEFAULTS)
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(before)
        # Ray has read RAY_AUTH_MODE, and would ask another cluster for a token after this one.
        Config.initialize("")


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Ray takes a loopback address for another of this machine, but on systems where it forms no
    clusters (Ray 2.60; tests/cluster/test_own_ray.py lists the addresses).
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _alone() -> Iterator[None]:
    """Without the processes that only clusters need: the server of the dashboard and of its APIs
    (which Ray starts without a dashboard too, and waits for), the monitor that asks for nodes, and
    the one that sends logs, which nobody asked for. They took half of the start's time, and 300 MB.
    The agent of metrics and jobs, without which no raylet lives, is told that there is no
    dashboard; otherwise a raylet waits until it serves jobs.
    """
    unneeded = ("start_api_server", "start_monitor", "start_log_monitor")
    before = {name: getattr(Node, name) for name in unneeded}
    missing = utils.get_dashboard_dependency_error
    for name in unneeded:
        setattr(Node, name, lambda node, **options: None)
    utils.get_dashboard_dependency_error = lambda: ImportError("a Ray of our own has none")
    try:
        yield
    finally:
        utils.get_dashboard_dependency_error = missing
        for name, method in before.items():
            setattr(Node, name, method)


@contextmanager
def _patient(folder: Path) -> Iterator[None]:
    """Ray gives its raylet 30 s to be there (2.60), in which one that waits for cores and the disk
    is not: as long as the process lives, it is given START_S. Ray looks once a second, too.
    """
    before, end = services.get_node, time.monotonic() + START_S

    def get_node(gcs_address: str, node_id: str) -> Any:
        nodes, wanted = GcsClient(address=gcs_address), ray.NodeID.from_hex(node_id)
        looked = time.monotonic()
        while wanted not in nodes.get_all_node_info(timeout=START_S):
            if (now := time.monotonic()) - looked > 1:
                looked = now
                if now > end or not _has_raylet(folder):
                    break  # Ray says why
            time.sleep(0.02)
        return before(gcs_address, node_id)

    services.get_node = get_node
    try:
        yield
    finally:
        services.get_node = before


@contextmanager
def _without_obituary() -> Iterator[None]:
    """Ray prints 20 lines of a dead raylet's log, which say nothing to who reads them."""
    before = ray_worker.print_to_stdstream

    def print_rest(data: dict[str, Any], *arguments: Any, **options: Any) -> None:
        if not "".join(data["lines"]).startswith("Raylet is terminated"):
            before(data, *arguments, **options)

    ray_worker.print_to_stdstream = print_rest
    try:
        yield
    finally:
        ray_worker.print_to_stdstream = before


def _has_raylet(folder: Path) -> bool:
    for pid in processes_of(str(folder)):
        with suppress(OSError):
            if Path(f"/proc/{pid}/exe").resolve().name == "raylet":
                return True
    return False


@contextmanager
def _guarded(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """With a guardian that ends what is left of the folder's Ray afterwards, or when this process
    has ended, and removes the folder.
    """
    environment = {name: value for name, value in os.environ.items() if name != MARK}
    guardian = subprocess.Popen(
        [sys.executable, "-I", str(Path(__file__).with_name("guardian.py")), str(folder)],
        stdin=subprocess.PIPE,  # it reads from it, and comes to its end when this process does
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=environment,
    )
    try:
        yield guardian
    finally:
        assert guardian.stdin is not None
        guardian.stdin.close()
        guardian.wait()
