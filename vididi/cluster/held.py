"""Data that fits, held once in the object store of a node and shared by all cells that run there.

A cell then reads frames where they lie, without Ray Data tasks and without a cache of its own: Ray
copies each shard to a node when a first cell there asks for it, and every process of the node maps
the same memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import ray

from vididi.cluster.ray_stream import ray_stream
from vididi.cluster.resources import HELD_SHARE
from vididi.data.layout import RowGroup
from vididi.data.shards import FrameReader, ShardSet
from vididi.data.stream import Stream, local_stream
from vididi.errors import ResourceError

Held = list[ray.ObjectRef]  # a list of RowGroups for each shard


def hold(shards: ShardSet) -> Held:
    """Put the frames of all videos into the object store, each compared with the index. They stay
    for as long as the result does.

    Raises:
        DamagedError: a shard is not what the index says.
        ResourceError: the object store of a node is too small.
    """
    for node in ray.nodes():
        store = node["Resources"].get("object_store_memory", 0)
        if node["Alive"] and shards.nbytes > HELD_SHARE * store:
            raise ResourceError(
                f"resources.hold_data: {shards.root} has {shards.nbytes / 2**30:.1f} GiB of frames,"
                f" more than {HELD_SHARE:.0%} of the {store / 2**30:.1f} GiB object store of node"
                f" {node['NodeManagerAddress']}; leave it out to stream them"
            )
    reader = FrameReader(shards)
    return [
        ray.put([reader.read(shard, group) for group in range(count)])
        for shard, count in enumerate(_groups(shards))
    ]


def _groups(shards: ShardSet) -> list[int]:
    """How many row groups each shard has."""
    shard, group = shards.column("shard"), shards.column("row_group")
    return [int(group[shard == number].max()) + 1 for number in range(shards.manifest.shards)]


def open_stream(shards: ShardSet, held: Held | None, threads: int) -> Stream:
    """The stream of a cell: from the object store where the data are held there, else through Ray
    Data.

    Args:
        threads: of this process that decode.
    """
    return (
        ray_stream(shards, threads=threads)
        if held is None
        else local_stream(shards, threads, reader=_HeldReader(shards, held))
    )


class _HeldReader(FrameReader):
    def __init__(self, shards: ShardSet, held: Held) -> None:
        # The row groups that it caches lie in the object store, not in this process's memory.
        super().__init__(shards, cache_bytes=np.iinfo(np.int64).max)
        self.held = held

    def read(self, shard: int, group: int) -> RowGroup:
        groups: list[Any] = ray.get(self.held[shard])
        return groups[group]
