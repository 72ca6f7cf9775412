"""`vididi cluster check`: all that can be said of a file of `ray up` before it is used."""

from __future__ import annotations

import re
from pathlib import Path

from vididi.cluster.check.ask_aws import ask
from vididi.cluster.check.cluster_file import (
    NOTE,
    PROBLEM,
    WARNING,
    ClusterFile,
    check_filled_in,
    read_cluster_file,
)
from vididi.cluster.check.credentials import check_machine
from vididi.cluster.check.node_commands import check_commands
from vididi.cluster.check.node_types import check_node_types
from vididi.cluster.check.ray_schema import check_schema
from vididi.cluster.check.sweep_placement import check_sweep
from vididi.sweep import Sweep

LEVELS = (PROBLEM, WARNING, NOTE)


def check_cluster_file(
    path: Path,
    sweep: Sweep | None = None,
    runs: str = "/mnt/shared/runs",
    shards: str | None = None,
    asking: bool = False,
) -> ClusterFile:
    """Read a file and look at everything; its findings come problems first, then by line.

    Args:
        sweep: whose cells are to fit on the node types.
        runs: where run folders will go, on the nodes or in a store; shards: prepared data likewise.
        asking: ask AWS, where the file is of it.

    Raises:
        ConfigError: the file cannot be read at all, or the sweep makes no cells.
    """
    read = read_cluster_file(path)
    check_filled_in(read)
    if check_schema(read):
        check_node_types(read)
        check_commands(read, runs, shards)
        check_machine(read)
        if sweep is not None:
            check_sweep(read, sweep)
        if asking:
            found = re.findall(r"s3://([^/\s]+)", f"{runs} {shards or ''}")
            ask(read, sorted(set(found)))
    read.findings.sort(key=lambda finding: (LEVELS.index(finding.level), finding.line or 0))
    return read
