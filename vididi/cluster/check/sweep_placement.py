"""Whether the cells of a sweep fit on the node types of a cluster file. Arithmetic, no Ray."""

from __future__ import annotations

from dataclasses import dataclass

from vididi.cell_resources import Resources
from vididi.cluster.check.cluster_file import NOTE, PROBLEM, ClusterFile
from vididi.cluster.check.node_types import Node, nodes_of
from vididi.cluster.resources import cluster_concurrency, cluster_shortage, reserved_cpus
from vididi.sweep import Sweep, examples, expand
from vididi.words import counted


@dataclass(frozen=True)
class Placement:
    """Where one cell's workers lie when the nodes are filled one after the other.

    Args:
        workers: of each node type that is used, workers on each of its nodes, and its nodes.
    """

    workers: dict[str, tuple[int, int]]

    def __str__(self) -> str:
        return ", ".join(
            f"{nodes} x {name} with {'up to ' if nodes > 1 else ''}{counted(each, 'worker')}"
            for name, (each, nodes) in self.workers.items()
        )


def place(resources: Resources, nodes: list[Node], head: str, total: int) -> Placement | None:
    """One cell on empty nodes, types with the most room first; None if it does not fit.

    Args:
        head: the head's node type, which is no worker; total: workers of all types at most.
    """
    one = resources.model_copy(update={"workers": 1, "concurrency": None})
    room = {node: cluster_concurrency(one, [node.has]) for node in nodes if node.has is not None}
    left, used = resources.workers, {}
    for node in sorted(room, key=lambda node: -room[node]):
        most = 1 if node.name == head else min(node.at_most, total)
        number = min(most, -(-left // room[node])) if room[node] else 0
        if number > 0:
            used[node.name] = (min(room[node], left), number)
            left -= number * room[node]
            total -= 0 if node.name == head else number
    return Placement(used) if left <= 0 else None


def largest_cells(sweep: Sweep) -> list[tuple[str, Resources]]:
    """Each kind of resources that the sweep's cells ask for, the largest first, with a cell.

    Raises:
        ConfigError: the sweep makes no cells.
    """
    cells = examples(sweep, 20)[0] if sweep.searching else expand(sweep)
    kinds = {cell.resources.summary: (cell.arm, cell.resources) for cell in reversed(cells)}
    return sorted(
        kinds.values(),
        key=lambda kind: (
            kind[1].workers * (1000 * kind[1].gpus_per_worker + reserved_cpus(kind[1]))
        ),
        reverse=True,
    )


def check_sweep(read: ClusterFile, sweep: Sweep) -> None:
    """Add whether the sweep's cells fit, and how the largest lies.

    Raises:
        ConfigError: the sweep makes no cells.
    """
    nodes, total = nodes_of(read), _most(read)
    where = ("available_node_types",) if read.node_types else ("provider",)
    unknown = [node.name for node in nodes if node.has is None and node.at_most]
    for number, (arm, resources) in enumerate(largest_cells(sweep)):
        placed = place(resources, nodes, read.head or "head", total)
        cell = f"a cell of {arm}, {resources.summary},"
        if placed and number == 0:
            read.say(NOTE, where, f"the largest of sweep {sweep.name}, {cell} lies on {placed}")
        elif not placed and unknown:
            text = f"whether {cell} fits is not known: nothing says what {', '.join(unknown)} have"
            advice = (
                "Write `resources` where the file may have it, or see `ray status` when it is up."
            )
            read.say(NOTE, where, text, advice)
        elif not placed:
            have = [node.has for node in nodes for _ in range(node.at_most) if node.has]
            text = f"{cell} never fits. {cluster_shortage(resources, have[: total + 1])}"
            read.say(PROBLEM, where, text, "Raise `max_workers`, or take larger machines.")


def _most(read: ClusterFile) -> int:
    """Workers of all node types at most."""
    given = read.config.get("max_workers")
    if isinstance(given, int):
        return given
    return sum(node.at_most for node in nodes_of(read)) if read.kind == "local" else 2
