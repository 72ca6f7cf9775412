"""Encoded videos into shards."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vididi.data.encode import Encoded
from vididi.data.journal import Journal
from vididi.data.layout import SHARD_SCHEMA, frames_sha256, shard_name
from vididi.data.video import Video

# What reading one video at random costs at most, beyond the video itself.
ROW_GROUP_BYTES = 1 << 20
SHARD_BYTES = 128 << 20


class ShardWriter:
    """Writes encoded videos into shards, and has the journal record each shard that is complete.

    labels: by class name.
    """

    def __init__(self, journal: Journal, labels: dict[str, int]) -> None:
        self.journal, self.labels = journal, labels
        self.pending: list[dict[str, Any]] = []  # rows of the row group to come
        self.pending_bytes = self.shard_bytes = self.row_group = 0
        self.file: pq.ParquetWriter | None = None

    def add(self, video: Video, encoded: Encoded) -> dict[str, Any]:
        """Add a row; returns what the index says of the video."""
        row = {
            "video_id": video.video_id,
            "label": self.labels[video.class_name] if video.class_name else -1,
            "class_name": video.class_name,
            "scene": video.scene,
            "split": video.split,
            "frame_count": len(encoded.frames),
            "fps": encoded.fps,
            "height": encoded.height,
            "width": encoded.width,
            "source_sha256": encoded.source_sha256,
            "frames_sha256": frames_sha256(encoded.frames).hex(),
        }
        location = {
            "shard": self.journal.shards,
            "row_group": self.row_group,
            "row": len(self.pending),
        }
        self.journal.index.append(
            {
                **row,
                **location,
                **({} if encoded.key_frame is None else {"key_frame": encoded.key_frame}),
            }
        )

        self.pending.append({**row, "frames": encoded.frames})
        self.pending_bytes += sum(map(len, encoded.frames))
        if self.pending_bytes >= ROW_GROUP_BYTES:
            self._write_row_group()
        if self.shard_bytes >= SHARD_BYTES:
            self._close_shard()
        return row

    def _write_row_group(self) -> None:
        if self.pending:
            if self.file is None:
                path = self.journal.work / shard_name(self.journal.shards)
                # JPEG does not compress further, so neither codec nor dictionary for the frames.
                self.file = pq.ParquetWriter(
                    path, SHARD_SCHEMA, compression="none", use_dictionary=False
                )
            self.file.write_table(pa.Table.from_pylist(self.pending, SHARD_SCHEMA))
            self.row_group += 1
        self.shard_bytes += self.pending_bytes
        self.pending, self.pending_bytes = [], 0

    def _close_shard(self) -> None:
        if self.file is not None:
            self.file.close()
            self.journal.record()
            self.file, self.shard_bytes, self.row_group = None, 0, 0

    def close(self) -> None:
        """Write what is pending, and finish the last shard."""
        self._write_row_group()
        self._close_shard()
