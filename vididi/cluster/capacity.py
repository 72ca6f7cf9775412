"""How many cells fit at a time, now; and requests to the cluster's autoscaler for more.

Ray's autoscaler starts nodes for what cannot be placed. Tune is given no more cells than fit, so
what the others need is requested by placement groups that only wait. Each is given back as soon as
it is granted, and they end with the driver, however it ends; a request by ray.autoscaler.sdk would
outlive it and keep nodes running.
"""

from __future__ import annotations

import time

import ray
from ray.tune.experiment import Trial
from ray.tune.search import BasicVariantGenerator
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from vididi.cell_resources import Resources
from vididi.cluster.resources import cluster_concurrency, cluster_shortage, worker_needs
from vididi.interrupts import asked

MAX_REQUESTS = 100  # cells requested at a time; clusters grow in steps anyway
POLL_S = 1.0  # between looks at the nodes, and between requests


class Capacity:
    """Of one machine: a number of cells that does not change."""

    def __init__(self, cells: int) -> None:
        self.cells = cells

    def __call__(self) -> int:
        """Cells at a time, now."""
        return self.cells

    def request(self, cells: int) -> None:
        """Request capacity for this many more; replaces earlier requests."""

    def delay(self, needs: str) -> str:
        """Why a cell that fits does not start. Nobody else is on a Ray of our own, so what it needs
        is free.
        """
        return (
            f"Ray is still starting a process of {needs}; other programs keep this machine's cores"
            " or its disk busy"
        )

    @property
    def shortage(self) -> str:
        """Why no cell fits, if one needs more than there is; else empty."""
        return ""

    def close(self) -> None:
        """Withdraw all requests."""


class ClusterCapacity(Capacity):
    """Of a cluster, whose nodes come and go.

    Args:
        resources: of each cell.
    """

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.polled_at = self.requested_at = 0.0
        self.groups: list[PlacementGroup] = []
        self._poll()

    def __call__(self) -> int:
        """Cells at a time, now; the nodes are looked at once in POLL_S."""
        if time.monotonic() - self.polled_at > POLL_S:
            self._poll()
        return self.cells

    def _poll(self) -> None:
        self.polled_at = time.monotonic()
        self.nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.cells = cluster_concurrency(self.resources, self.nodes)

    def delay(self, needs: str) -> str:
        """Why a cell that fits does not start."""
        return f"each needs {needs}, and that is not free"

    @property
    def shortage(self) -> str:
        """Why no cell fits, if one needs more than any node has."""
        return "" if self() else cluster_shortage(self.resources, self.nodes)

    def request(self, cells: int) -> None:
        """Request capacity for this many more from the autoscaler, at most once in POLL_S."""
        if time.monotonic() - self.requested_at > POLL_S:
            self.requested_at = time.monotonic()
            self._request(cells)

    def _request(self, cells: int) -> None:
        limit = self.resources.concurrency
        count = max(0, min(cells, MAX_REQUESTS if limit is None else limit - self.cells))

        granted = [group for group in self.groups if group.wait(timeout_seconds=0)]
        waiting = [group for group in self.groups if group not in granted]
        for group in [*granted, *waiting[count:]]:
            remove_placement_group(group)  # what is granted is for Tune to use

        cell = [worker_needs(self.resources)] * self.resources.workers
        self.groups = waiting[:count] + [placement_group(cell) for _ in range(count - len(waiting))]

    def close(self) -> None:
        """Withdraw all requests."""
        self._request(0)


class Queue(BasicVariantGenerator):
    """Gives Tune the cells in their order, as many at a time as fit."""

    def __init__(self, capacity: Capacity) -> None:
        super().__init__()
        self.capacity = capacity

    def next_trial(self) -> Trial | None:
        """The next cell's trial; None while no more fit."""
        self.max_concurrent = self.capacity()  # for Tune 0 would mean any number
        return super().next_trial() if self.max_concurrent else None

    def is_finished(self) -> bool:
        """Whether no more cells come: there are none, or the sweep was asked to end."""
        return asked() is not None or super().is_finished()

    def get_state(self) -> dict:
        """Nothing: Tune pickles it for a restore that we do not use."""
        return {}
