"""The persons' boxes of a prepared set (boxes.parquet) as arrays, by index row.

Shapes: V index rows, N boxes, A evaluated actions, M boxes of a batch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vididi.data.shards import ShardSet


@dataclass(frozen=True, eq=False)
class KeyFrames:
    """What is annotated, in index order.

    Args:
        actions: names by id of the actions that scores are of, ids rising.
        film: ``[V]`` names; second: ``[V]``. The two are a key frame's name in AVA's files.
        key_frame: ``[V]``, its index among the row's frames. Where a row has no boxes this and
            second are -1.
        first: ``[V + 1]``; the boxes of row r are ``first[r]`` to ``first[r + 1]``.
        corners: ``[N, 4]``, x1, y1, x2, y2 as shares of width and height.
        person: ``[N]``.
        targets: ``[N, A]``, what each person does.
    """

    actions: dict[int, str]
    film: NDArray[np.object_]
    second: NDArray[np.int64]
    key_frame: NDArray[np.int64]
    first: NDArray[np.int64]
    corners: NDArray[np.float64]
    person: NDArray[np.int64]
    targets: NDArray[np.bool_]

    @classmethod
    def of(cls, shards: ShardSet) -> KeyFrames:
        """Those of a prepared set.

        Raises:
            DataError: the data set has no boxes.
        """
        table, videos = shards.boxes, shards.column("video_id")
        row_of = {video: row for row, video in enumerate(videos)}
        row = np.array(
            [row_of[video] for video in table.column("video_id").to_pylist()], dtype=np.int64
        )

        order = np.argsort(row, kind="stable")
        table, row = table.take(order), row[order]
        number = {
            name: table.column(name).to_numpy().astype(np.int64)
            for name in ("second", "key_frame", "person")
        }
        second, key_frame = np.full(len(videos), -1), np.full(len(videos), -1)
        second[row], key_frame[row] = number["second"], number["key_frame"]

        film = np.array(
            [
                video.removesuffix(f"/{of_second:04d}")
                for video, of_second in zip(videos, second, strict=True)
            ],
            dtype=object,
        )
        corners = np.stack(
            [table.column(name).to_numpy() for name in ("x1", "y1", "x2", "y2")], axis=1
        )
        first = np.searchsorted(row, np.arange(len(videos) + 1))

        actions = _evaluated(table)
        targets = _targets(table.column("actions").to_pylist(), list(actions))
        # The list's own decimals: 0.077 is 0.07699999958 as float32, and would be another box in a
        # file of predictions.
        return cls(
            actions,
            film,
            second,
            key_frame,
            first,
            corners.astype(str).astype(np.float64),
            number["person"],
            targets,
        )

    def boxes_of(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The boxes of some rows ``[R]``, one row's after another's.

        Returns:
            numbers ``[M]``, and for each the index in ``rows`` of its row, ``[M]``.
        """
        count = self.first[rows + 1] - self.first[rows]
        owner = np.repeat(np.arange(len(rows)), count)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        return self.first[rows][owner] + within, owner


def _evaluated(table: pa.Table) -> dict[int, str]:
    """The names of the actions that scores are of, by id, ids rising."""
    names = json.loads(table.schema.metadata[b"actions"])
    return {
        action: names[str(action)]
        for action in sorted(json.loads(table.schema.metadata[b"evaluated"]))
    }


def _targets(actions_of_boxes: list[list[int]], actions: list[int]) -> NDArray[np.bool_]:
    targets = np.zeros((len(actions_of_boxes), len(actions)), dtype=bool)
    column = {action: index for index, action in enumerate(actions)}
    for box, ids in enumerate(actions_of_boxes):
        targets[box, [column[action] for action in ids if action in column]] = True
    return targets
