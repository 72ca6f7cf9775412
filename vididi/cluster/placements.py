"""Frees what a cell of several workers has left reserved.

Ray Train reserves the CPUs and GPUs of its workers by a placement group. Where the process of a
cell is killed, its workers end with it, and the group stays, as the driver that it belongs to lives
on: the cell, started again, would wait for ever for what nobody uses. Ray Train's own cleaner asks
Ray's dashboard, which a Ray of our own does not have, so it frees nothing there (Ray 2.60).
"""

from __future__ import annotations

import time
from contextlib import suppress

import ray
from ray._private.state import state
from ray._raylet import PlacementGroupID
from ray.core.generated.gcs_pb2 import (  # type: ignore[attr-defined]
    PlacementGroupTableData,
)
from ray.util.placement_group import PlacementGroup, remove_placement_group

EVERY_S = 1.0  # between looks


class Orphans:
    """The placement groups of this driver whose creator, an actor, is dead."""

    def __init__(self) -> None:
        self.looked = 0.0

    def remove(self) -> None:
        """Remove them, if EVERY_S has passed since the last look."""
        if time.monotonic() - self.looked >= EVERY_S:
            self.looked = time.monotonic()
            with suppress(Exception):  # a head that does not answer now; it is looked at again
                for group in _orphaned():
                    remove_placement_group(group)


def _orphaned() -> list[PlacementGroup]:
    job = ray.get_runtime_context().get_job_id()
    rows = state._connect_and_get_accessor().get_placement_group_table()
    tables = [PlacementGroupTableData.FromString(row) for row in rows]
    return [
        PlacementGroup(PlacementGroupID(table.placement_group_id))
        for table in tables
        if table.creator_actor_id.strip(b"\xff")  # empty: a driver made it
        and table.creator_actor_dead
        and table.creator_job_id.hex() == job
        and table.state != PlacementGroupTableData.REMOVED
    ]
