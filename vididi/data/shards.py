"""Prepared data on disk: Parquet shards, an index, a reject list, and a manifest written last (docs/data.md).

    manifest.json       version, counts, classes, checksum, the settings that made it; its presence means "complete"
    index.parquet       one row per video, in plan order, without frames: where each video lies
    shard-00000.parquet the same rows with their frames: one JPEG per frame
    rejects.csv         videos that could not be prepared, and why
    boxes.parquet       one row per person box of a key frame, in data sets that have them

Nothing here imports torch: the processes that read shards for a stream stay small.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vididi.data.storage import Folder, RemotePath, parquet_source, sizes
from vididi.errors import DataError

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
INDEX_SCHEMA = pa.schema([*VIDEO_FIELDS, pa.field("shard", pa.int32()), pa.field("row_group", pa.int32()), pa.field("row", pa.int32())])

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
    return f"shard-{number:05d}.parquet"


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says. ``checksum`` is over every video's id, label, split and frames, in index order, and the boxes."""

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

    @property
    def summary(self) -> str:
        counts = " and ".join(f"{self.videos[split]} {name}" for split, name in (("train", "training"), ("test", "test")))
        return f"{counts} videos, {len(self.classes)} classes, {self.rejects} rejected"

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"


@dataclass(frozen=True)
class ShardSet:
    """A prepared data set: its manifest, and its index as columns."""

    root: Folder
    manifest: Manifest

    @classmethod
    def open(cls, root: Folder) -> ShardSet:
        """Open a prepared folder.

        Raises:
            DataError: there is no manifest, or it is of another version.
        """
        path = root / "manifest.json"
        if not path.is_file():
            raise DataError(f"{root}: no manifest.json, so this is not a (completely) prepared data set; run `vididi prepare`")
        content = json.loads(path.read_text())
        if content.get("version") != VERSION:
            raise DataError(f"{path}: version {content.get('version')!r}, but this program reads version {VERSION}; prepare the data again")
        return cls(root, Manifest(**content))

    @cached_property
    def index(self) -> pa.Table:
        """INDEX_SCHEMA, one row per video."""
        return pq.read_table(parquet_source(self.root / "index.parquet"), schema=INDEX_SCHEMA)

    @cached_property
    def boxes(self) -> pa.Table:
        """BOX_SCHEMA, one row per person box, in index order; the schema's metadata holds ``actions`` and ``evaluated`` (docs/data.md).

        Raises:
            DataError: the data set has no boxes.
        """
        path = self.root / "boxes.parquet"
        if not path.is_file():
            raise DataError(f"{self.root}: has no boxes.parquet; its source, {self.manifest.source.get('name')}, has no boxes of persons")
        return pq.read_table(parquet_source(path))

    def column(self, name: str) -> NDArray:
        return self.index.column(name).to_numpy(zero_copy_only=False)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Index rows of one split."""
        return np.flatnonzero(self.column("split") == split)

    @cached_property
    def nbytes(self) -> int:
        """Bytes of the shard files, nearly all of them frames."""
        found = sizes(self.root)
        return sum(found[shard_name(number)] for number in range(self.manifest.shards))

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """``[V, 2]`` height and width."""
        return np.stack([self.column("height"), self.column("width")], axis=1).astype(np.int64)


class FrameReader:
    """Reads the encoded frames of videos by index row, keeping recently read row groups in memory.

    Picklable; the cache is made anew in each process.
    """

    def __init__(self, shards: ShardSet, cache_bytes: int = 256 << 20) -> None:
        self.root = shards.root
        self.place = np.stack([shards.column(name) for name in ("shard", "row_group", "row")], axis=1)
        self.cache_bytes = cache_bytes
        self._cache: OrderedDict[tuple[int, int], RowGroup] = OrderedDict()
        self._cached = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": OrderedDict(), "_cached": 0}

    def frames(self, row: int, picks: NDArray) -> list[memoryview]:
        """The JPEG bytes of frames ``picks`` of the video at index ``row``."""
        shard, group, position = (int(value) for value in self.place[row])
        return self._row_group(shard, group).frames(position, picks)

    def _row_group(self, shard: int, group: int) -> RowGroup:
        found = self._cache.get((shard, group))
        if found is not None:
            self._cache.move_to_end((shard, group))
            return found
        found = self._cache[(shard, group)] = self._read(shard, group)
        self._cached += len(found.data)
        while self._cached > self.cache_bytes and len(self._cache) > 1:
            self._cached -= len(self._cache.popitem(last=False)[1].data)
        return found

    def _read(self, shard: int, group: int) -> RowGroup:
        return read_row_group(self.root, shard, group)


@dataclass(frozen=True)
class RowGroup:
    """The encoded frames of some videos, end to end.

    ends: ``[F + 1]`` where each frame begins in ``data``, and the last one ends. first: ``[R + 1]`` number of each video's first frame.
    """

    data: NDArray[np.uint8]
    ends: NDArray[np.int32]
    first: NDArray[np.int32]

    def frames(self, position: int, picks: NDArray) -> list[memoryview]:
        return take(self.data, self.ends, self.first[position] + picks)


def take(data: NDArray[np.uint8], ends: NDArray, numbers: NDArray) -> list[memoryview]:
    """Parts of ``data``: part n lies from ``ends[n]`` to ``ends[n + 1]``. An Arrow scalar for each part would cost more than copying it."""
    view = data.data
    return [view[start:end] for start, end in zip(ends[numbers].tolist(), ends[numbers + 1].tolist(), strict=True)]


def read_row_group(root: Folder, shard: int, group: int) -> RowGroup:
    # Opening a file again costs little once its footer is known; holding thousands of handles would not do.
    path = root / shard_name(shard)
    with pq.ParquetFile(parquet_source(path), metadata=_footer(path), pre_buffer=isinstance(root, RemotePath)) as file:
        videos = file.read_row_group(group, columns=["frames"]).column("frames").combine_chunks()
    if isinstance(videos, pa.ChunkedArray):
        (videos,) = videos.chunks
    return RowGroup(*binary_parts(videos.values), videos.offsets.to_numpy())


@lru_cache(maxsize=512)  # 64 GiB of shards; parsing one takes as long as reading a video
def _footer(path: Folder) -> pq.FileMetaData:
    return pq.read_metadata(parquet_source(path))


def binary_parts(array: pa.BinaryArray | pa.LargeBinaryArray) -> tuple[NDArray[np.uint8], NDArray]:
    """The bytes of all values of an Arrow array, and where each begins and the last one ends; nothing is copied."""
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64 if pa.types.is_large_binary(array.type) else np.int32)
    return np.frombuffer(data, np.uint8), ends[array.offset : array.offset + len(array) + 1]


def check_no_overlap(shards: ShardSet) -> None:
    """Raise DataError if a file of the test split is, byte for byte, also in the training split."""
    checksums, splits, names = (shards.column(name) for name in ("source_sha256", "split", "video_id"))
    train = set(checksums[splits == "train"])
    both = [name for name, checksum, split in zip(names, checksums, splits, strict=True) if split == "test" and checksum in train]
    if both:
        raise DataError(
            f"{shards.root}: {len(both)} test videos are also training videos, so retrieval would find them: {', '.join(both[:5])}"
        )
