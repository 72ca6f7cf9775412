"""Prepared data on disk: Parquet shards, an index, a reject list, and a manifest written last
(docs/data.md).

    manifest.json       version, counts, classes, checksum, the settings that made it; its presence
                        means "complete"
    index.parquet       one row per video, in plan order, without frames: where each video lies
    shard-00000.parquet the same rows with their frames: one JPEG per frame
    rejects.csv         videos that could not be prepared, and why
    notes.csv           videos that were prepared and of which something is to be known, if there
                        are any
    boxes.parquet       one row per person box of a key frame, in data sets that have them

Nothing here imports torch: the processes that read shards for a stream stay small.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vididi.data.storage import Folder, RemotePath, parquet_source
from vididi.errors import DamagedError, DataError

VERSION = 1
SPLITS = ("train", "test")

VIDEO_FIELDS = [
    pa.field("video_id", pa.string()),
    pa.field("label", pa.int32()),
    pa.field("class_name", pa.string()),
    pa.field("scene", pa.string()),
    pa.field("split", pa.string()),
    pa.field("frame_count", pa.int32()),
    pa.field("fps", pa.float32()),
    pa.field("height", pa.int32()),
    pa.field("width", pa.int32()),
    pa.field("source_sha256", pa.string()),
    pa.field("frames_sha256", pa.string()),
]
SHARD_SCHEMA = pa.schema([*VIDEO_FIELDS, pa.field("frames", pa.list_(pa.binary()))])
INDEX_SCHEMA = pa.schema(
    [
        *VIDEO_FIELDS,
        pa.field("shard", pa.int32()),
        pa.field("row_group", pa.int32()),
        pa.field("row", pa.int32()),
    ]
)

BOX_SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string()),
        pa.field("key_frame", pa.int32()),
        pa.field("second", pa.int32()),
        *(pa.field(name, pa.float32()) for name in ("x1", "y1", "x2", "y2")),
        pa.field("person", pa.int32()),
        pa.field("actions", pa.list_(pa.int32())),
    ]
)


def shard_name(number: int) -> str:
    """The name of a shard's file, counted from 0."""
    return f"shard-{number:05d}.parquet"


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says.

    ``checksum`` is over every video's id, label, split and frames, in index order, and the boxes.
    """

    version: int
    videos: dict[str, int]  # split -> count
    frames: int
    rejects: int
    shards: int
    classes: list[str]
    checksum: str
    source: dict[str, Any]
    prepare: dict[str, Any]
    command: str = ""  # that makes this set again
    # What the source left out or holds to be odd, a sentence each.
    listing_notes: list[str] = field(default_factory=list)
    # Version of the rules by which files became frames (vididi/data/video_reader.py); not part of
    # the checksum.
    reader: int = 1

    def to_json(self) -> str:
        """The text of manifest.json."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"


@dataclass(frozen=True)
class PreparedTables:
    """The manifest, index and boxes of the prepared set in ``root``.

    They are not compared with each other; ShardSet.open does that.
    """

    root: Folder
    manifest: Manifest

    @cached_property
    def index(self) -> pa.Table:
        """INDEX_SCHEMA, one row per video."""
        return read_parquet(self.root / "index.parquet", INDEX_SCHEMA)

    @cached_property
    def boxes(self) -> pa.Table:
        """BOX_SCHEMA, one row per person box, in index order.

        The schema's metadata holds ``actions`` and ``evaluated`` (docs/data.md).

        Raises:
            DataError: the data set has no boxes.
        """
        path = self.root / "boxes.parquet"
        if not path.is_file():
            raise DataError(
                f"{self.root}: has no boxes.parquet; its source,"
                f" {self.manifest.source.get('name')}, has no boxes of persons"
            )
        return read_parquet(path, BOX_SCHEMA)

    def column(self, name: str) -> NDArray:
        """A column of the index, ``[V]``."""
        return self.index.column(name).to_numpy(zero_copy_only=False)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Index rows of one split."""
        return np.flatnonzero(self.column("split") == split)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """``[V, 2]`` height and width."""
        return np.stack([self.column("height"), self.column("width")], axis=1).astype(np.int64)


@contextmanager
def reading(path: Folder) -> Iterator[None]:
    """Turn errors of reading ``path`` into ours.

    Raises:
        DamagedError: the file is missing, or not what was written.
        DataError: the disk or store that it is on cannot be reached.
    """
    try:
        yield
    except FileNotFoundError:
        raise is_missing(path) from None
    except OSError as error:
        # pyarrow has no error of its own for bytes that it cannot understand; those of a system
        # have a number.
        kind = DamagedError if error.errno is None and isinstance(path, Path) else DataError
        raise kind(f"{path}: cannot be read: {error}") from None
    except (pa.ArrowException, ValueError, OverflowError, EOFError) as error:
        raise DamagedError(f"{path}: cannot be read: {error}") from None


def is_missing(path: Folder) -> DamagedError:
    """The error of a file of a prepared set that is not there."""
    return DamagedError(
        f"{path}: is missing, though manifest.json says that the data set is complete"
    )


def read_parquet(path: Folder, schema: pa.Schema) -> pa.Table:
    """A small file of a prepared set.

    Raises:
        DamagedError: it cannot be read, or has other columns.
    """
    with reading(path):
        table = pq.ParquetFile(parquet_source(path)).read()
    if not table.schema.equals(schema):
        names = ", ".join(f"{field.name} {field.type}" for field in table.schema)
        raise DamagedError(
            f"{path}: has the columns {names}; it must have"
            f" {', '.join(f'{field.name} {field.type}' for field in schema)}"
        )
    return table


@dataclass(frozen=True)
class RowGroup:
    """The encoded frames of some videos, end to end.

    ends: ``[F + 1]`` where each frame begins in ``data``, and the last one ends. first: ``[R + 1]``
    number of each video's first frame.
    """

    data: NDArray[np.uint8]
    ends: NDArray[np.int32]
    first: NDArray[np.int32]

    def frames(self, position: int, picks: NDArray) -> list[memoryview]:
        """Frames ``picks`` of the video at a row of the group, as JPEG bytes."""
        return take(self.data, self.ends, self.first[position] + picks)


def take(data: NDArray[np.uint8], ends: NDArray, numbers: NDArray) -> list[memoryview]:
    """Some parts of ``data``, of which part n goes from ``ends[n]`` to ``ends[n + 1]``.

    An Arrow scalar for each part would cost more than copying it.
    """
    view = data.data
    return [
        view[start:end]
        for start, end in zip(ends[numbers].tolist(), ends[numbers + 1].tolist(), strict=True)
    ]


def read_row_group(root: Folder, shard: int, group: int) -> RowGroup:
    """The frames of a row group of a shard.

    Raises:
        DamagedError: it cannot be read, or is not of frames.
    """
    # Opening a file again costs little once its footer is known; holding thousands of handles would
    # not do.
    path = root / shard_name(shard)
    with (
        reading(path),
        pq.ParquetFile(
            parquet_source(path), metadata=footer(path), pre_buffer=isinstance(root, RemotePath)
        ) as file,
    ):
        videos = file.read_row_group(group, columns=["frames"]).column("frames").combine_chunks()
        if isinstance(videos, pa.ChunkedArray):
            (videos,) = videos.chunks
        if videos.type != SHARD_SCHEMA.field("frames").type or videos.null_count:
            raise ValueError(f"its frames are {videos.type} with {videos.null_count} nulls")
    return RowGroup(*binary_parts(videos.values), videos.offsets.to_numpy())


def read_footer(path: Folder) -> pq.FileMetaData:
    """The metadata of a shard; DamagedError if they cannot be read."""
    with reading(path):
        return pq.read_metadata(parquet_source(path))


# 64 GiB of shards; parsing one takes as long as reading a video.
footer = lru_cache(maxsize=512)(read_footer)


def binary_parts(array: pa.BinaryArray | pa.LargeBinaryArray) -> tuple[NDArray[np.uint8], NDArray]:
    """The bytes of all values of an Arrow array, and where each begins and the last one ends.

    Nothing is copied.
    """
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64 if pa.types.is_large_binary(array.type) else np.int32)
    return np.frombuffer(data, np.uint8), ends[array.offset : array.offset + len(array) + 1]


class Expected:
    """What the index says of the frames of each video.

    Args:
        order: ``[V]`` index rows, by where they lie. groups: ``[V]`` the row group of each, as one
            number.
    """

    def __init__(
        self,
        checksum: str,
        videos: pa.ChunkedArray,
        count: NDArray,
        sha: NDArray,
        location: NDArray,
    ) -> None:
        self.checksum, self.videos, self.count, self.sha = checksum, videos, count, sha
        self.order = np.lexsort(location.T[::-1])
        self.groups = location[self.order, 0].astype(np.int64) << 32 | location[self.order, 1]

    @classmethod
    def of(cls, shards: PreparedTables) -> Expected:
        """What the index of a prepared set says."""
        sha = np.frombuffer(
            bytes.fromhex("".join(shards.index.column("frames_sha256").to_pylist())), np.uint8
        ).reshape(-1, 32)
        location = np.stack([shards.column(name) for name in ("shard", "row_group", "row")], axis=1)
        return cls(
            shards.manifest.checksum,
            shards.index.column("video_id"),
            shards.column("frame_count"),
            sha,
            location,
        )

    def rows(self, shard: int, group: int) -> NDArray[np.int64]:
        """The index rows of a row group, in its order."""
        key = shard << 32 | group
        return self.order[
            np.searchsorted(self.groups, key) : np.searchsorted(self.groups, key, "right")
        ]

    def faults(self, rows: NDArray[np.int64], content: RowGroup) -> Iterator[tuple[str, str]]:
        """The videos of a row group whose frames are not those of the index, and what is wrong."""
        if len(rows) != len(content.first) - 1:
            reason = (
                f"a row group has {len(content.first) - 1} videos, where index.parquet lists"
                f" {len(rows)}"
            )
            yield from ((self.videos[row].as_py(), reason) for row in rows.tolist())
            return
        for position, row in enumerate(rows.tolist()):
            video, count = (
                self.videos[row].as_py(),
                int(content.first[position + 1] - content.first[position]),
            )
            if count != self.count[row]:
                yield (
                    video,
                    (
                        f"video {video!r} has {count} frames, where index.parquet says"
                        f" {self.count[row]}"
                    ),
                )
            elif (
                frames_sha256(content.frames(position, np.arange(count))) != self.sha[row].tobytes()
            ):
                yield video, f"video {video!r} has other frames than those of its frames_sha256"


def frames_sha256(frames: Iterable[bytes | memoryview]) -> bytes:
    """The digest of a video's encoded frames, which tells where each ends too."""
    return sha256(b"".join(sha256(frame).digest() for frame in frames)).digest()
