"""Preparing videos over a Ray cluster: what vididi.data.workers.run_apart does on one machine, on
all CPUs of the nodes.

The items go out in chunks. A chunk is a Ray task of one CPU that runs its items in a child process
(run_apart), so a decoder that crashes costs that child and not the Ray worker. This process takes
the results in order and lets no more than a few chunks per CPU run ahead of it. A chunk whose Ray
worker or node is lost is run again by Ray.
"""

from __future__ import annotations

import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from vididi.cluster.connection import connected, wait_for_cpus
from vididi.data.encode import Reject
from vididi.data.prepare import Runner, versions
from vididi.data.workers import Failed, run_apart
from vididi.errors import ResourceError, VididiError

CHUNK = 32  # items; starting a child costs 0.2 s, and decoding a short clip about 0.1 s
AHEAD = 2  # chunks per CPU that may be under way or finished before the one that is due
RETRIES = 5  # of a chunk whose Ray worker or node is lost


def over_cluster(address: str) -> Runner:
    """A ``run`` for vididi.data.prepare.prepare, on the cluster at ``address`` (``auto``: the one
    this machine belongs to).

    It connects when the first result is wanted and disconnects when the last one was taken or the
    caller stops, which ends all tasks that are still under way.

    Raises (while the results are taken):
        ResourceError: there is no such cluster; a node cannot read a file that is there on this
            machine, or has other versions of the libraries; or a chunk was lost again and again.
    """
    return partial(_run, address)


def _run(
    address: str,
    function: Callable[[Any], Any],
    items: Sequence[Any],
    timeout: float,
    made_with: dict[str, str],
) -> Generator[Any]:
    if not items:
        return
    with connected(address):
        frozen = ray.put(function)

        def start(chunk: Sequence[Any]) -> Any:
            return _chunk.remote(frozen, chunk, timeout, made_with)

        try:
            yield from _in_order(start, items)
        except RayTaskError as error:
            raise (
                error.cause
                if isinstance(error.cause, VididiError)
                else ResourceError(f"cluster: a node cannot work: {error}")
            ) from None
        except RayError as error:
            raise ResourceError(
                f"cluster: a part of the work was lost {RETRIES + 1} times, or the connection was:"
                f" {error}"
            ) from None


def _in_order(start: Callable[[Sequence[Any]], Any], items: Sequence[Any]) -> Iterator[Any]:
    waiting = deque(_split(items))
    running: deque[tuple[Sequence[Any], Any]] = deque()
    while waiting or running:
        while waiting and len(running) < AHEAD * _cpus():
            chunk = waiting.popleft()
            running.append((chunk, start(chunk)))
        wait_for_cpus("prepare")
        chunk, results = running.popleft()
        for item, reference in zip(chunk, results, strict=True):
            node, result = ray.get(reference)
            if isinstance(result, Failed) and result.crashed:
                node, result = _alone(start, item, [results, *(other for _, other in running)])
            _check_visible(item, node, result)
            yield result


def _cpus() -> int:
    """Of the cluster as it is now; nodes come and go."""
    return max(1, int(ray.cluster_resources().get("CPU", 0)))


def _split(items: Sequence[Any]) -> list[Sequence[Any]]:
    """Chunks, small enough that every CPU has some."""
    size = max(1, min(CHUNK, len(items) // (AHEAD * _cpus())))
    return [items[begin : begin + size] for begin in range(0, len(items), size)]


def _alone(start: Callable[[Sequence[Any]], Any], item: Any, running: list[Any]) -> Any:
    """Run an item once more while none of the others runs: their memory may have been what it
    lacked (as in run_apart).
    """
    ends = [results.completed() for results in running]
    ray.wait(ends, num_returns=len(ends), fetch_local=False)
    (reference,) = start([item])
    return ray.get(reference)


def _check_visible(item: Any, node: str, result: Any) -> None:
    if (
        isinstance(result, Reject)
        and result.reason.startswith(("missing", "unreadable"))
        and os.access(item.path, os.R_OK)
    ):
        raise ResourceError(
            f"node {node}: cannot read {item.path} ({result.reason}), which this machine can; "
            "over a cluster, videos must lie on storage that all nodes share, under the same path"
        )


@ray.remote(num_cpus=1, num_returns="streaming", max_retries=RETRIES)
def _chunk(
    function: Callable[[Any], Any], items: Sequence[Any], timeout: float, made_with: dict[str, str]
) -> Iterator[tuple[str, Any]]:
    """The node's name with each result, in the order of the items."""
    node = f"{socket.gethostname()} ({ray.util.get_node_ip_address()})"
    installed = versions(made_with)
    if installed != made_with:
        others = ", ".join(
            f"{name} {installed[name]} instead of {made_with[name]}"
            for name in made_with
            if installed[name] != made_with[name]
        )
        raise ResourceError(
            f"node {node}: has {others}, and would write other bytes; install the same versions on"
            " all nodes"
        )
    # Else the child would run this worker's main module first, which imports Ray: 0.4 s.
    with suppress(AttributeError):
        del sys.modules["__main__"].__file__
    for result in run_apart(function, items, 1, timeout):
        yield node, result
