"""What a cluster file's commands do on the nodes: where storage is mounted, where runs and prepared
data go, and how Ray starts. Read as text, nothing is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from vididi.cluster.check.cluster_file import (
    PROBLEM,
    SETUP,
    START,
    WARNING,
    ClusterFile,
    Where,
    section,
)

_MOUNT = re.compile(
    r"\bmount\s+(?:-\S+\s+)*?(?:-t\s+(?P<type>\S+)\s+)(?:-o\s+\S+\s+)?(?P<from>\S+)\s+(?P<on>/\S+)"
)
_EFS = re.compile(r"fs-[\w-]+\.efs\.(?P<region>[\w-]+)\.amazonaws\.com")
_CACHE = re.compile(r"VIDIDI_CACHE=(\S+?)[\s'\";]")
_BUCKET = re.compile(r"\b(?P<scheme>s3|gs)://(?P<bucket>[^/\s'\"]*)")
_SHARED_KINDS = re.compile(r"nfs|efs|lustre|ceph|glusterfs|cifs|gpfs|beegfs|fuse")


def check_commands(read: ClusterFile, runs: str, shards: str | None) -> None:
    """Add what does not go together in the commands and with where runs and shards are to lie.

    Args:
        runs: where run folders go, on the nodes or in a store; shards: prepared data likewise.
    """
    mounts = list(_mounts(read))
    _check_places(read, [on for _, on in mounts], runs, shards)
    for where, address in _addresses(read):
        efs = _EFS.search(address)
        region = read.provider.get("region")
        if efs and read.kind == "aws" and region and efs["region"] != region:
            text = f"the file system lies in {efs['region']}, and the machines in {region}"
            read.say(PROBLEM, where, text, "Put both into one region; a mount does not cross.")
    _check_buckets(read, runs, shards)
    _check_starts(read)


def _mounts(read: ClusterFile) -> Iterator[tuple[Where, str]]:
    for where, command in read.commands(*SETUP):
        for found in _MOUNT.finditer(command):
            if _SHARED_KINDS.search(found["type"]):
                yield where, found["on"].rstrip(";")
        for piece in re.finditer(r"mountpoint -q (/\S+)", command):
            yield where, piece[1]


def _addresses(read: ClusterFile) -> Iterator[tuple[Where, str]]:
    for where, command in read.commands(*SETUP):
        if _EFS.search(command):
            yield where, command


def _check_places(read: ClusterFile, mounted: list[str], runs: str, shards: str | None) -> None:
    shown = ", ".join(sorted(set(mounted))) or "none"
    for option, place in (("--runs", runs), ("--shards", shards)):
        if place and "://" not in place and not _below(place, mounted):
            text = (
                f"{option} {place} lies on no file system that the nodes share (mounted: {shown})"
            )
            advice = f"Mount one in `setup_commands`, or give {option} s3://bucket/folder."
            read.say(PROBLEM, ("setup_commands",), text, advice)
    caches = [(w, found[1]) for w, text in read.commands(*SETUP) for found in _CACHE.finditer(text)]
    for where, cache in caches:
        if "://" not in cache and not _below(cache, mounted):
            text = f"VIDIDI_CACHE={cache} lies on each node by itself, and prepared data with it"
            read.say(WARNING, where, text, f"Put it below a shared mount ({shown}).")


def _below(place: str, mounted: list[str]) -> bool:
    return any(PurePosixPath(place).is_relative_to(folder) for folder in mounted)


# --- Buckets --------------------------------------------------------------------------------------


def bucket_fault(name: str) -> str:
    """Why a name cannot be a bucket's, by the rules that S3 and Google's stores share; empty if it
    can.
    """
    if not 3 <= len(name) <= 63:
        return f"it has {len(name)} characters, and must have 3 to 63"
    if found := re.search(r"[^a-z0-9.-]", name):
        return f"{found[0]!r} may not stand in it; small letters, digits, - and . may"
    if not re.fullmatch(r"[a-z0-9].*[a-z0-9]", name):
        return "it must begin and end with a small letter or digit"
    if ".." in name or re.fullmatch(r"\d+(\.\d+){3}", name):
        return "two dots in a row, or an address, may not be one"
    return ""


def _check_buckets(read: ClusterFile, runs: str, shards: str | None) -> None:
    given = [(("--runs",), runs), (("--shards",), shards or "")]
    for where, text in [*read.texts(), *given]:
        for found in _BUCKET.finditer(text):
            if "FILL" in found["bucket"].upper() or "$" in found["bucket"]:
                continue
            if fault := bucket_fault(found["bucket"]):
                shown = f"{found['scheme']}://{found['bucket']}"
                read.say(
                    PROBLEM, where, f"{shown} cannot be a bucket: {fault}", "Correct its name."
                )
    if read.kind == "aws" and "s3://" in f"{runs} {shards}":
        for name, node in read.node_types.items():
            if "IamInstanceProfile" not in section(node, "node_config"):
                read.say(
                    WARNING,
                    ("available_node_types", name, "node_config"),
                    f"node type `{name}` has no role, by which it would read and write s3",
                    "Name an `IamInstanceProfile`, as docs/cluster.md describes it.",
                )


# --- How Ray starts -------------------------------------------------------------------------------


def _check_starts(read: ClusterFile) -> None:
    starts = {
        key: [(where, text) for where, text in read.commands(key) if "ray start" in text]
        for key in START
    }
    for key, found in starts.items():
        if read.config.get(key) and not found:
            read.say(PROBLEM, (key,), "no `ray start` is among these", "Add it; Ray does not.")
    head, worker = (next(iter(found), None) for found in starts.values())
    if head and "--head" not in head[1]:
        read.say(PROBLEM, head[0], "this starts no head", "Write `ray start --head`.")
    if head and "--autoscaling-config" not in head[1]:
        text = "the head gets no cluster file, so no worker is ever started"
        advice = "Add --autoscaling-config=~/ray_bootstrap_config.yaml."
        read.say(PROBLEM, head[0], text, advice)
    if worker and "RAY_HEAD_IP" not in worker[1]:
        text = "the worker is not told where the head is"
        read.say(PROBLEM, worker[0], text, "Write --address=$RAY_HEAD_IP:6379.")
    if not head or not worker:
        return
    port = re.search(r"--port[= ](\d+)", head[1])
    asked = re.search(r"RAY_HEAD_IP\}?:(\d+)", worker[1])
    listens = port[1] if port else "6379"
    if asked and asked[1] != listens:
        text = f"the worker asks the head at port {asked[1]}, and the head listens at {listens}"
        read.say(PROBLEM, worker[0], text, "Write one port in both.")
    host = re.search(r"--dashboard-host[= ](\S+)", head[1])
    if host and host[1] not in ("127.0.0.1", "localhost"):
        text = f"the dashboard listens at {host[1]}, for whoever reaches the head"
        read.say(WARNING, head[0], text, "Write --dashboard-host=127.0.0.1.")
