"""A connection to a running Ray cluster, for commands that may use one."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import get_or_create_autoscaling_coordinator

from vididi.errors import ResourceError


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Be connected to the cluster at ``address`` (``auto``: the one this machine belongs to); leaving ends what still runs there.

    Raises:
        ResourceError: there is no such cluster.
    """
    try:
        _check_reachable(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise ResourceError(f"--address {address}: no Ray cluster can be reached: {error}") from None
    # Ray Data and Train share one of these, which outlives them. Whoever needs it first has it on its own node: a worker, which would
    # then never be idle and never be released (Ray 2.60).
    get_or_create_autoscaling_coordinator()
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise OSError or ValueError where nothing answers; ray.init would try for minutes."""
    if "://" in address:
        raise ValueError("it is of Ray Client; run this on a node of the cluster and give its host:port, or 'auto'")
    host, _, port = address.rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
