"""How many cells fit at a time, and a clear error when not even one does. Pure arithmetic, no Ray.

Every worker opens a stream of its own, whose tasks ask Ray for no CPU: the worker reserves one for
it, beside those that train. On one machine those extra CPUs are declared to Ray beyond the physical
ones: reading shards is light work.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from vididi.cell_resources import Resources
from vididi.errors import ResourceError

STREAM_CPUS = 1
AHEAD_BYTES = 256 << 20  # of the object store that a stream's execution may fill before it is read
# of a node's object store that held data may take; the rest is for frames in flight and results
HELD_SHARE = 0.7
GIB = 2**30
LOWER = (
    "lower resources.workers, resources.cpus_per_worker, resources.gpus_per_worker or"
    " resources.memory"
)


def reserved_cpus(resources: Resources) -> int:
    """CPUs that Ray reserves for one worker: those that train, and its stream's."""
    return resources.cpus_per_worker + (0 if resources.hold_data else STREAM_CPUS)


def worker_needs(resources: Resources) -> dict[str, float]:
    """What Ray is asked for one worker, on one node."""
    return {
        "CPU": float(reserved_cpus(resources)),
        **({"GPU": resources.gpus_per_worker} if resources.gpus_per_worker else {}),
        **({"memory": float(_bytes(resources))} if resources.memory else {}),
    }


def _bytes(resources: Resources) -> int:
    """Of memory that one worker may have; 0 where that is not said."""
    return int((resources.memory or 0) * GIB)


def local_concurrency(
    resources: Resources, cores: int, gpus: float, memory: float = math.inf
) -> int:
    """Cells at a time on a machine that Ray has to itself, with ``memory`` bytes.

    Raises:
        ResourceError: one cell needs more than the machine has.
    """
    fits = (
        _slots(
            {"CPU": cores, "GPU": gpus, "memory": memory},
            resources.cpus_per_worker,
            resources.gpus_per_worker,
            _bytes(resources),
        )
        // resources.workers
    )
    if not fits:
        raise ResourceError(
            f"{_need(resources, resources.cpus_per_worker)}, but this machine has"
            f" {_have(cores, gpus, memory if resources.memory else 0)}; {LOWER}"
        )
    return min(fits, resources.concurrency or fits)


def cluster_concurrency(resources: Resources, nodes: Sequence[Mapping[str, float]]) -> int:
    """Cells at a time on a running cluster whose nodes have these total resources; 0 if not even
    one fits.
    """
    cpus, memory = reserved_cpus(resources), _bytes(resources)
    slots = sum(_slots(node, cpus, resources.gpus_per_worker, memory) for node in nodes)
    fits = slots // resources.workers
    return min(fits, resources.concurrency or fits)


def cluster_shortage(resources: Resources, nodes: Sequence[Mapping[str, float]]) -> str:
    """Why no cell fits on a cluster, and what would help."""
    need = _need(resources, reserved_cpus(resources))
    available = _available(nodes, with_memory=resources.memory is not None)
    return f"{need}, and {available}; {LOWER}, or add nodes"


def _need(resources: Resources, cpus: int) -> str:
    stream = (
        "" if cpus == resources.cpus_per_worker else f" ({STREAM_CPUS} of the CPUs for its stream)"
    )
    workers = "a worker" if resources.workers == 1 else f"{resources.workers} workers"
    return (
        f"resources: a cell needs {workers} with"
        f" {_have(cpus, resources.gpus_per_worker, _bytes(resources))}{stream}, each on one node"
    )


def _available(nodes: Iterable[Mapping[str, float]], with_memory: bool = False) -> str:
    kinds = ("CPU", "GPU", *(["memory"] if with_memory else []))
    sizes = sorted(
        Counter(tuple(node.get(kind, 0) for kind in kinds) for node in nodes).items(), reverse=True
    )
    have = (
        "; ".join((f"{count} x " if count > 1 else "") + _have(*size) for size, count in sizes)
        or "nothing"
    )
    return f"the nodes of the cluster have {have}"


def _have(cpus: float, gpus: float, memory: float = 0) -> str:
    parts = [f"{cpus:g} CPUs"] + ([f"{gpus:g} GPUs"] if gpus else [])
    parts += [f"{memory / GIB:.4g} GiB of memory"] if memory else []
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _slots(node: Mapping[str, float], cpus: int, gpus: float, memory: int = 0) -> int:
    """Processes of ``cpus`` and ``gpus`` each that fit on a node, and ``memory`` bytes; several may
    share a GPU, but none has parts of two.
    """
    slots = int(node.get("CPU", 0) / cpus + 1e-9)
    if memory:
        slots = int(min(slots, node.get("memory", 0) // memory))
    if not gpus:
        return slots
    have = node.get("GPU", 0)
    return min(slots, int(have / gpus + 1e-9) if gpus >= 1 else int(have) * int(1 / gpus + 1e-9))


def pool_size(cpus: int, gpus: float, nodes: Iterable[Mapping[str, float]]) -> int:
    """Actors of ``cpus`` and ``gpus`` each that fit on nodes with these total resources; an actor
    lies on one node.

    Raises:
        ResourceError: none does.
    """
    nodes = list(nodes)
    fits = sum(_slots(node, cpus, gpus) for node in nodes)
    if not fits:
        raise ResourceError(
            f"--cpus-per-worker, --gpus-per-worker: a worker needs {_have(cpus, gpus)} on one node,"
            f" and {_available(nodes)}"
        )
    return fits


def cpus_to_declare(groups: Iterable[tuple[Resources, int]]) -> int:
    """CPUs to declare to a Ray of our own for groups of (resources, cells at a time) that run one
    after another.
    """
    return max(
        concurrency * resources.workers * reserved_cpus(resources)
        for resources, concurrency in groups
    )


def store_to_declare(
    groups: Iterable[tuple[Resources, int]], ahead: int, least: int, free: int
) -> int:
    """Bytes of the object store of a Ray of our own, as cpus_to_declare, without held data.

    Args:
        ahead: bytes of frames that one stream has there at most. least: for the rest, and for few
            streams. free: of the shared memory; Ray takes the disk for a store beyond it.
    """
    streams = max(
        0 if resources.hold_data else concurrency * resources.workers
        for resources, concurrency in groups
    )
    return max(least, min(streams * ahead * 5 // 4, free * 9 // 10))


def memory_to_declare(groups: Iterable[tuple[Resources, int]]) -> int:
    """Bytes to declare to a Ray of our own, as cpus_to_declare; 0 where no cell says what it may
    have.
    """
    return max(
        concurrency * resources.workers * _bytes(resources) for resources, concurrency in groups
    )
