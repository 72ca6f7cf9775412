"""A connection to a running Ray cluster, for commands that may use one."""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray._private import worker as ray_worker
from ray.exceptions import RayTaskError
from ray.util.placement_group import placement_group, remove_placement_group

from vididi.cluster.ray_signals import signals_kept
from vididi.cluster.watch import ClusterRay, watching
from vididi.errors import ResourceError, VididiError

WAIT_S, POLL_S = 600, 1.0  # for the first CPU of a cluster that has none yet


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Be connected to the cluster at ``address`` (``auto``: the one this machine belongs to);
    leaving ends what still runs there.

    Raises:
        ResourceError: there is no such cluster.
    """
    # Slow to import, and a Ray of our own does without it.
    from ray.data._internal.cluster_autoscaler import default_autoscaling_coordinator as coordinator

    try:
        _check_reachable(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
        with signals_kept():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise ResourceError(
            f"--address {address}: no Ray cluster can be reached: {error}"
        ) from None
    # Ray Data and Train share one of these, which outlives them. Whoever needs it first has it on
    # its own node: a worker, which would then never be idle and never be released (Ray 2.60).
    coordinator.get_or_create_autoscaling_coordinator()
    raylet = ray_worker._global_node.raylet_socket_name  # type: ignore[attr-defined]
    try:
        with watching(ClusterRay(address, ray.get_runtime_context().gcs_address, raylet)):
            yield
    finally:
        with signals_kept():
            ray.shutdown()


@contextmanager
def ray_starting() -> Iterator[None]:
    """While a Ray of our own is started on this machine: what keeps it from that, in words.

    Raises:
        ResourceError: it does not start.
    """
    try:
        yield
    except Exception as error:  # of many kinds, Exception itself among them
        ray.shutdown()
        reason = " ".join(str(error).split())
        raise ResourceError(
            f"Ray did not start on this machine: {reason} Where the machine is busy, give the same"
            " command again when less runs on it; `vididi doctor` checks what else Ray needs"
        ) from error


def wait_for_cpus(purpose: str) -> None:
    """Return when the connected cluster has a CPU; one whose workers come when they are needed may
    have none, and is asked for one.

    Raises:
        ResourceError: it has none for WAIT_S.
    """
    if ray.cluster_resources().get("CPU"):
        return
    print(
        f"the cluster has no CPUs to {purpose} with; waiting for nodes", file=sys.stderr, flush=True
    )
    since, request = time.monotonic(), placement_group([{"CPU": 1}])
    try:
        while not ray.cluster_resources().get("CPU"):
            if time.monotonic() - since > WAIT_S:
                raise ResourceError(
                    f"cluster: it had no CPUs to {purpose} with for {WAIT_S:.0f} s; start nodes"
                    " that have some"
                )
            time.sleep(POLL_S)
    finally:
        remove_placement_group(request)


def _check_reachable(address: str) -> None:
    """Raise OSError or ValueError where nothing answers; ray.init would try for minutes."""
    if "://" in address:
        raise ValueError(
            "it is of Ray Client; run this on a node of the cluster and give its host:port, or"
            " 'auto'"
        )
    host, _, port = address.rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def error_of_task(error: RayTaskError) -> VididiError | None:
    """What a task of Ray Data said of data or configuration, as it said it; None if it failed
    otherwise.

    The context needs ``raise_original_map_exception``. Ray Data appends advice on retries to the
    message.
    """
    cause = error.cause
    return (
        type(cause)(str(cause).partition("\nFailed to apply UDF transform")[0])
        if isinstance(cause, VididiError)
        else None
    )
