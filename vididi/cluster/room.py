"""How many cells there is room for, now; and asking the cluster's autoscaler for more.

Ray's autoscaler starts nodes for what cannot be placed. Tune is given no more cells than fit, so
what the others need is asked for by placement groups that only wait. Each is given back at once
when there is room for it, and they end with the driver, however it ends; a request by
ray.autoscaler.sdk would outlive it and keep nodes running.
"""

from __future__ import annotations

import time

import ray
from ray.tune.experiment import Trial
from ray.tune.search import BasicVariantGenerator
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from vididi.cluster.resources import cluster_concurrency, cluster_shortage, worker_needs
from vididi.sweep import Resources

MOST_ASKED = 100  # cells that are asked for at a time; clusters grow in steps anyway
LOOK_S = 1.0


class Room:
    """Room on a machine of its own: a number that stays."""

    def __init__(self, cells: int) -> None:
        self.cells = cells

    def __call__(self) -> int:
        """Cells at a time, now."""
        return self.cells

    def ask(self, cells: int) -> None:
        """Ask for room for this many more."""

    @property
    def shortage(self) -> str:
        """Why there is no room, if a cell needs more than there is."""
        return ""

    def close(self) -> None:
        """Ask for nothing any more."""


class ClusterRoom(Room):
    """Room on a cluster, whose nodes come and go."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.looked = self.asked = 0.0
        self.groups: list[PlacementGroup] = []
        self._look()

    def __call__(self) -> int:
        if time.monotonic() - self.looked > LOOK_S:
            self._look()
        return self.cells

    def _look(self) -> None:
        self.looked = time.monotonic()
        self.nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.cells = cluster_concurrency(self.resources, self.nodes)

    @property
    def shortage(self) -> str:
        return "" if self() else cluster_shortage(self.resources, self.nodes)

    def ask(self, cells: int) -> None:
        if time.monotonic() - self.asked > LOOK_S:
            self.asked = time.monotonic()
            self._ask(cells)

    def _ask(self, cells: int) -> None:
        limit = self.resources.concurrency
        wanted = max(0, min(cells, MOST_ASKED if limit is None else limit - self.cells))
        granted = [group for group in self.groups if group.wait(timeout_seconds=0)]
        waiting = [group for group in self.groups if group not in granted]
        for group in [*granted, *waiting[wanted:]]:
            remove_placement_group(group)  # there is room for a cell now, and Tune is to have it
        cell = [worker_needs(self.resources)] * self.resources.workers
        self.groups = waiting[:wanted] + [
            placement_group(cell) for _ in range(wanted - len(waiting))
        ]

    def close(self) -> None:
        self._ask(0)


class Queue(BasicVariantGenerator):
    """Gives Tune the cells in their order, as many at a time as there is room for."""

    def __init__(self, room: Room) -> None:
        super().__init__()
        self.room = room

    def next_trial(self) -> Trial | None:
        self.max_concurrent = self.room()  # where 0 would mean any number
        return super().next_trial() if self.max_concurrent else None

    # Tune pickles it for a restore that we do not use.
    def get_state(self) -> dict:
        return {}
