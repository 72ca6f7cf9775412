"""How many cells fit at a time, and a clear error when not even one does. Pure arithmetic, no Ray.

Every worker opens its own stream, and a stream wants one whole CPU beside the trainers or it can wait for ever, so a
worker counts cpus_per_worker + 1. On one machine those extra CPUs are declared to Ray beyond the physical ones: reading
shards is light work, and what must never happen is that trainers take every slot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vididi.errors import ResourceError
from vididi.sweep import Resources

STREAM_CPUS = 1


def trainer_cpus(resources: Resources) -> int:
    """CPUs that train, of one cell."""
    return resources.workers * resources.cpus_per_worker


def declared_cpus(resources: Resources) -> int:
    """CPUs that one cell takes of Ray's count: trainers and streams."""
    streams = 0 if resources.hold_data else resources.workers
    return trainer_cpus(resources) + streams * STREAM_CPUS


def local_concurrency(resources: Resources, cores: int, gpus: float) -> int:
    """Cells at a time on a machine that Ray has to itself.

    Raises:
        ResourceError: one cell needs more than the machine has.
    """
    return _fit(resources, {"CPU": cores, "GPU": gpus}, trainer_cpus(resources), "this machine")


def cluster_concurrency(resources: Resources, total: Mapping[str, float]) -> int:
    """Cells at a time on a running cluster with ``total`` resources.

    Raises:
        ResourceError: one cell needs more than the cluster has.
    """
    return _fit(resources, total, declared_cpus(resources), "the cluster")


def _fit(resources: Resources, total: Mapping[str, float], cpus: int, where: str) -> int:
    needs = {"CPU": float(cpus), "GPU": resources.workers * resources.gpus_per_worker}
    for kind, need in needs.items():
        have = total.get(kind, 0)
        if need > have:
            each = resources.cpus_per_worker if kind == "CPU" else resources.gpus_per_worker
            raise ResourceError(
                f"resources: a cell of {resources.workers} workers with {each:g} {kind}s each needs {need:g} {kind}s, "
                f"but {where} has {have:g}; lower resources.workers or resources.{kind.lower()}s_per_worker"
            )
    fits = min(int(total.get(kind, 0) / need + 1e-9) for kind, need in needs.items() if need > 0)
    return min(fits, resources.concurrency) if resources.concurrency else fits


def pool_size(cpus: int, gpus: float, nodes: Iterable[Mapping[str, float]]) -> int:
    """Actors of ``cpus`` and ``gpus`` each that fit on nodes with these total resources; an actor lies on one node.

    Raises:
        ResourceError: none does.
    """
    needs = {"CPU": float(cpus), **({"GPU": gpus} if gpus else {})}
    nodes = list(nodes)
    fits = sum(min(int(node.get(kind, 0) / need + 1e-9) for kind, need in needs.items()) for node in nodes)
    if not fits:
        have = ", ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes)
        raise ResourceError(
            f"--cpus-per-worker, --gpus-per-worker: a worker needs {cpus} CPUs and {gpus:g} GPUs on one node, but the nodes have {have}"
        )
    return fits


def cpus_to_declare(groups: Iterable[tuple[Resources, int]]) -> int:
    """CPUs to declare to a Ray of our own for groups of (resources, cells at a time) that run one after another."""
    return max(declared_cpus(resources) * concurrency for resources, concurrency in groups)
