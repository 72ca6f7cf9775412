"""The node types of a cluster file: what their machines have, and whether image, resources and
numbers of workers go together. Tables and arithmetic, no Ray and no network.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from vididi.cluster.check.cluster_file import NOTE, PROBLEM, WARNING, ClusterFile, Where, section

# GPUs of EC2's machines by family and size (the part before `xlarge`); every size of a family that
# is not named has one. EC2's DescribeInstanceTypes, by way of moto 5.2's copy, which a test holds
# this to.
_EC2_GPUS = {
    "g4dn": {"12": 4},
    "g5": {"12": 4, "24": 4, "48": 8},
    "g6": {"12": 4, "24": 4, "48": 8},
    "g6e": {"12": 4, "24": 4, "48": 8},
    "gr6": {},
    "p3dn": {"24": 8},
    "p4d": {"24": 8},
    "p4de": {"24": 8},
    "p5": {"4": 1, "48": 8},
    "p5e": {"48": 8},
    "p5en": {"48": 8},
}
_EC2_SIZE = re.compile(r"(?P<family>[a-z]+\d+[a-z]*(?:-[a-z0-9]+)?)\.(?P<size>\d*)xlarge")
_EC2_NAME = re.compile(r"[a-z][a-z0-9-]*\.[a-z0-9-]+")
_EC2_ARM = re.compile(r"(a1|[a-z]+\d+g[a-z]*)\..*")
# Families whose sizes say another thing, or that have accelerators which are not listed above.
_EC2_UNKNOWN = ("c1", "c4", "d2", "hpc", "m2", "inf", "trn", "vt", "dl", "f", "g", "p")

# Of Google Cloud's machines with GPUs: CPUs and GPUs.
_GCP_GPUS = {
    **{f"g2-standard-{n}": (n, 1) for n in (4, 8, 12, 16, 32)},
    **{f"g2-standard-{n}": (n, n // 12) for n in (24, 48, 96)},
    **{f"a2-highgpu-{n}g": (12 * n, n) for n in (1, 2, 4, 8)},
    **{f"a2-ultragpu-{n}g": (12 * n, n) for n in (1, 2, 4, 8)},
    "a2-megagpu-16g": (96, 16),
    "a3-highgpu-8g": (208, 8),
}
_GCP_PLAIN = re.compile(r"(?:n1|n2|n2d|n4|e2|c2|c2d|c3|t2d)-(?:standard|highmem|highcpu)-(\d+)")


@dataclass(frozen=True, eq=False)
class Node:
    """A node type of the file, as far as it is known.

    Args:
        has: CPUs and GPUs of a machine; None where neither the file nor a table tells.
        machine: what the cloud calls it.
        spot: whether it may be taken away.
    """

    name: str
    has: dict[str, float] | None
    machine: str
    at_most: int
    spot: bool


def machine_has(kind: str, machine: str) -> dict[str, float] | None:
    """CPUs and GPUs of a cloud's machine type; None where they are not known here.

    Args:
        kind: ``aws`` or ``gcp``.
    """
    if kind == "gcp":
        if machine in _GCP_GPUS:
            return dict(zip(("CPU", "GPU"), map(float, _GCP_GPUS[machine]), strict=True))
        plain = _GCP_PLAIN.fullmatch(machine)
        return {"CPU": float(plain[1])} if plain else None
    found = _EC2_SIZE.fullmatch(machine) if kind == "aws" else None
    if found is None:
        return None
    family, size = found["family"], found["size"]
    cpus = {"CPU": 4.0 * int(size or 1)}
    if family in _EC2_GPUS:
        return {**cpus, "GPU": float(_EC2_GPUS[family].get(size, 1))}
    return None if family.startswith(_EC2_UNKNOWN) else cpus


def nodes_of(read: ClusterFile) -> list[Node]:
    """The node types of a file, the head among them, with at most how many there may be."""
    if read.kind == "local":
        addresses = read.provider.get("worker_ips")
        number = len(addresses) if isinstance(addresses, list) else 0
        limit = min(number, _whole(read.config.get("max_workers"), number))
        return [Node("head", {"CPU": 0.0}, "", 1, False), Node("workers", None, "", limit, False)]
    total = _whole(read.config.get("max_workers"), 2)  # 2 is Ray's default
    nodes = []
    for name, node in read.node_types.items():
        config = section(node, "node_config")
        machine = str(config.get("InstanceType") or config.get("machineType") or "")
        given = {
            key: float(value)
            for key, value in section(node, "resources").items()
            if key in ("CPU", "GPU") and isinstance(value, int)
        }
        known = machine_has(read.kind, machine)
        has = {**(known or {}), **given} if known or "CPU" in given else None
        limit = 1 if name == read.head else min(total, _whole(node.get("max_workers"), total))
        nodes.append(Node(name, has, machine, limit, _is_spot(config)))
    return nodes


def _whole(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise


def _is_spot(config: dict[str, Any]) -> bool:
    if section(config, "InstanceMarketOptions").get("MarketType") == "spot":
        return True
    scheduling = config.get("scheduling")
    return any(
        isinstance(item, dict)
        and (item.get("provisioningModel") == "SPOT" or item.get("preemptible"))
        for item in (scheduling if isinstance(scheduling, list) else [scheduling])
    )


# --- Whether they go together ---------------------------------------------------------------------


def check_node_types(read: ClusterFile) -> None:
    """Add what does not go together in the node types."""
    _check_numbers(read)
    for node in nodes_of(read):
        if node.name not in read.node_types:
            continue
        where: Where = ("available_node_types", node.name)
        _check_machine(read, node, where)
        _check_resources(read, node, where)
        _check_image(read, node, where)
    _check_docker(read)


def _check_numbers(read: ClusterFile) -> None:
    types = read.node_types
    if not types:
        if read.kind in ("aws", "gcp"):
            text = "the file has no node types, and Ray takes small machines without GPUs"
            read.say(WARNING, (), text, "Write `available_node_types`, as ray_cluster.yaml does.")
        return
    total = _whole(read.config.get("max_workers"), 2)
    if "max_workers" not in read.config:
        read.say(
            WARNING, (), "there is no `max_workers`, and Ray's default is 2", "Write how many."
        )
    for name, node in types.items():
        least, most = _whole(node.get("min_workers"), 0), _whole(node.get("max_workers"), total)
        where = ("available_node_types", name, "min_workers")
        if least > most:
            read.say(
                PROBLEM, where, f"{least} workers at least and {most} at most", "Lower this one."
            )
    workers = [node for name, node in types.items() if name != read.head]
    if not workers or not any(_whole(node.get("max_workers"), total) for node in workers):
        at = ("available_node_types",)
        read.say(WARNING, at, "no node type is of workers that may start", "Raise `max_workers`.")
    elif total == 0:
        read.say(WARNING, ("max_workers",), "no worker may ever start", "Raise `max_workers`.")
    _check_spot(read)


def _check_spot(read: ClusterFile) -> None:
    workers = [n for n in nodes_of(read) if n.name in read.node_types and n.name != read.head]
    spot = [node for node in workers if node.spot and node.at_most]
    for node in workers:
        if node.at_most and not node.spot and any(s.machine == node.machine for s in spot):
            read.say(
                NOTE,
                ("available_node_types", node.name),
                "Ray starts these when all its spot machines run, not when there is no spot",
                "docs/cluster.md, Spot and on demand.",
            )


def _check_machine(read: ClusterFile, node: Node, where: Where) -> None:
    key = {"aws": "InstanceType", "gcp": "machineType"}.get(read.kind)
    if key is None:
        return
    at = (*where, "node_config", key)
    if not node.machine:
        level = NOTE if "LaunchTemplate" in read.node_types[node.name]["node_config"] else PROBLEM
        read.say(level, at, f"node type `{node.name}` has no `{key}`", "Name a machine type.")
    elif read.kind == "aws" and not _EC2_NAME.fullmatch(node.machine):
        read.say(
            PROBLEM,
            at,
            f"{node.machine!r} is no name of an EC2 machine",
            "They have a family and a size, as in g6.12xlarge.",
        )
    elif node.has is None:
        read.say(
            NOTE,
            at,
            f"what a {node.machine} has is not known here",
            "Write it into `resources`, or add --ask.",
        )


def _check_resources(read: ClusterFile, node: Node, where: Where) -> None:
    known = machine_has(read.kind, node.machine)
    given = section(read.node_types[node.name], "resources")
    for key in ("GPU", "CPU"):
        said, real = given.get(key), (known or {}).get(key, 0)
        if known is None or not isinstance(said, int) or said <= real:
            continue
        read.say(
            PROBLEM if key == "GPU" else WARNING,
            (*where, "resources", key),
            f"{said} {key}s are declared, and a {node.machine} has {real:g}",
            f"Write {real:g}, or take another machine.",
        )
    if node.name != read.head and "GPU" in given and known and given["GPU"] < known.get("GPU", 0):
        read.say(
            WARNING,
            (*where, "resources", "GPU"),
            f"{given['GPU']} GPUs are declared, and a {node.machine} has {known['GPU']:g}",
            f"Write {known['GPU']:g}.",
        )


_NO_DRIVER = re.compile(r"/canonical/ubuntu/|ubuntu-os-cloud|debian-cloud|/al20\d\d-ami")


def _check_image(read: ClusterFile, node: Node, where: Where) -> None:
    config = section(read.node_types[node.name], "node_config")
    image, at = str(config.get("ImageId", "")), (*where, "node_config", "ImageId")
    if read.kind == "gcp":
        disks = config.get("disks")
        first = disks[0] if isinstance(disks, list) and disks else {}
        image = str(section(first, "initializeParams").get("sourceImage", ""))
        at = (*where, "node_config", "disks", 0, "initializeParams", "sourceImage")  # type: ignore[assignment]
        _check_maintenance(read, node, where, config)
    gpus = (node.has or {}).get("GPU", 0)
    if gpus and _NO_DRIVER.search(image):
        read.say(
            PROBLEM,
            at,
            f"this image has no NVIDIA driver, and `{node.name}` has {gpus:g} GPUs",
            "Take an image with the driver, as gpu_worker of ray_cluster.yaml has.",
        )
    arm = bool(_EC2_ARM.fullmatch(node.machine)) and read.kind == "aws"
    if arm and re.search(r"amd64|x86_64", image):
        text = f"the image is for x86_64, and a {node.machine} is an ARM machine"
        read.say(PROBLEM, at, text, "Take an image for arm64, or another machine.")
    elif not arm and node.machine and re.search(r"arm64|aarch64", image):
        text = f"the image is for ARM, and a {node.machine} is an x86_64 machine"
        read.say(PROBLEM, at, text, "Take an image for x86_64, or another machine.")


def _check_maintenance(read: ClusterFile, node: Node, where: Where, config: dict[str, Any]) -> None:
    gpus = (machine_has("gcp", node.machine) or {}).get("GPU", 0) or config.get("guestAccelerators")
    if gpus and "TERMINATE" not in str(config.get("scheduling", "")):
        read.say(
            PROBLEM,
            (*where, "node_config", "scheduling"),
            "Google Cloud starts a machine with GPUs only where it may be ended for maintenance",
            "Write `scheduling: [{onHostMaintenance: TERMINATE}]`.",
        )


_TAG = re.compile(r"rayproject/ray(?:-ml)?:(?P<ray>\d+\.\d+\.\d+)?(?P<rest>[^@\s]*)")


def _check_docker(read: ClusterFile) -> None:
    import ray

    docker = section(read.config, "docker")
    gpus = any((n.has or {}).get("GPU") for n in nodes_of(read) if n.name != read.head)
    for key in ("image", "head_image", "worker_image"):
        found = _TAG.search(str(docker.get(key, "")))
        if found is None:
            continue
        where = ("docker", key)
        if found["ray"] and found["ray"] != ray.__version__:
            read.say(
                PROBLEM,
                where,
                f"the image has Ray {found['ray']}, and this machine {ray.__version__}",
                f"Take the tag {ray.__version__}.",
            )
        python = re.search(r"py(3)(\d+)", found["rest"])
        if python and python[2] not in ("11", "12"):
            text = f"the image has Python 3.{python[2]}, and vididi takes 3.11 or 3.12"
            read.say(PROBLEM, where, text, "Take a tag with py311 or py312.")
        for_workers = key == "worker_image" or (key == "image" and "worker_image" not in docker)
        if gpus and for_workers and not re.search(r"gpu|cu\d", found["rest"]):
            read.say(
                PROBLEM,
                where,
                "the workers have GPUs, and this image has no CUDA",
                "Take a tag that ends in -gpu or names CUDA, as in 2.60.0-py312-gpu.",
            )
