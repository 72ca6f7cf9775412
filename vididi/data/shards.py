"""Prepared data on disk: Parquet shards, an index, a reject list, and a manifest written last (docs/data.md).

    manifest.json       version, counts, classes, checksum, the settings that made it; its presence means "complete"
    index.parquet       one row per video, in plan order, without frames: where each video lies
    shard-00000.parquet the same rows with their frames: one JPEG per frame
    rejects.csv         videos that could not be prepared, and why
    notes.csv           videos that were prepared and of which something is to be known, if there are any
    boxes.parquet       one row per person box of a key frame, in data sets that have them

Nothing here imports torch: the processes that read shards for a stream stay small.
"""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
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

from vididi.data.storage import Folder, RemotePath, parquet_source, sizes, stamps
from vididi.data.video import CHANGES, READER
from vididi.errors import DamagedError, DataError

VERSION = 1

log = logging.getLogger(__name__)
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


@lru_cache  # once for each set, however often it is opened
def _warn_of_reader(root: str, reader: int) -> None:
    changed = "; ".join(f"since version {version} {what}" for version, what in CHANGES.items() if version > reader) or "which is newer"
    message = "%s: made by version %d of the video reader, this is %d: %s; `vididi prepare` into another folder makes it anew"
    log.warning(message, root, reader, READER, changed)


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
    listing_notes: list[str] = field(default_factory=list)  # what the source saw and left out, a sentence each
    reader: int = 1  # version of the rules by which files became frames (vididi/data/video.py); not part of the checksum

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"


@dataclass(frozen=True)
class ShardSet:
    """A prepared data set: its manifest, and its index as columns."""

    root: Folder
    manifest: Manifest

    @classmethod
    def open(cls, root: Folder) -> ShardSet:
        """Open a prepared folder, and make sure that its files agree with each other (vididi.data.verify); once in a process.

        Raises:
            DataError: there is no manifest, or it is of another version.
            DamagedError: a file is missing, cannot be read or does not agree with the others; it names file, field and value.
        """
        path = root / "manifest.json"
        if not path.is_file():
            raise DataError(f"{root}: no manifest.json, so this is not a (completely) prepared data set; run `vididi prepare`")
        with reading(path):
            text = path.read_text()
        shards = _opened(root, text, frozenset(stamps(root).items()))
        if shards.manifest.reader != READER:
            _warn_of_reader(str(root), shards.manifest.reader)
        return shards

    @cached_property
    def index(self) -> pa.Table:
        """INDEX_SCHEMA, one row per video."""
        return read_parquet(self.root / "index.parquet", INDEX_SCHEMA)

    @cached_property
    def boxes(self) -> pa.Table:
        """BOX_SCHEMA, one row per person box, in index order; the schema's metadata holds ``actions`` and ``evaluated`` (docs/data.md).

        Raises:
            DataError: the data set has no boxes.
        """
        path = self.root / "boxes.parquet"
        if not path.is_file():
            raise DataError(f"{self.root}: has no boxes.parquet; its source, {self.manifest.source.get('name')}, has no boxes of persons")
        return read_parquet(path, BOX_SCHEMA)

    def column(self, name: str) -> NDArray:
        return self.index.column(name).to_numpy(zero_copy_only=False)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Index rows of one split."""
        return np.flatnonzero(self.column("split") == split)

    @cached_property
    def classes(self) -> dict[int, str]:
        """The names of the classes that have videos, by label. Labels number all of the source's classes, so there may be gaps."""
        return {label: self.manifest.classes[label] for label in np.unique(self.column("label")).tolist() if label >= 0}

    @property
    def empty_classes(self) -> list[str]:
        """Those whose every video was rejected."""
        return [name for label, name in enumerate(self.manifest.classes) if label not in self.classes]

    @property
    def summary(self) -> str:
        m = self.manifest
        counts = " and ".join(f"{m.videos[split]} {name}" for split, name in (("train", "training"), ("test", "test")))
        return f"{counts} videos, {len(self.classes)} classes, {m.rejects} rejected"

    @property
    def remarks(self) -> list[str]:
        """What a user should know of the set beside its counts, a sentence each."""
        return [*self._empty, *self._equal, *self.manifest.listing_notes]

    @property
    def _empty(self) -> list[str]:
        empty = self.empty_classes
        return [f"{len(empty)} of {len(self.manifest.classes)} classes have no videos: {_first(empty)}"] if empty else []

    @property
    def _equal(self) -> list[str]:
        """A warning of different files that show the same; those of both splits first."""
        names, splits = self.column("video_id"), self.column("split")
        pairs = sorted(self.equal_frames, key=lambda pair: splits[pair[0]] == splits[pair[1]])
        across = sum(splits[one] != splits[other] for one, other in pairs)
        shown = [f"{names[other]} ({splits[other]}) and {names[one]} ({splits[one]})" for one, other in pairs]
        what = f"warning: {len(pairs)} videos have the frames of another file, {across} of them of one in the other split"
        return [f"{what}: {_first(shown, '; ')}"] if pairs else []

    @cached_property
    def equal_frames(self) -> list[tuple[int, int]]:
        """Index rows of videos from different files that have the same frames: the first with these frames, and a later one."""
        first: dict[str, int] = {}
        sources = self.column("source_sha256")
        found = [(first.setdefault(frames, row), row) for row, frames in enumerate(self.column("frames_sha256"))]
        return [(one, other) for one, other in found if sources[one] != sources[other]]

    @cached_property
    def nbytes(self) -> int:
        """Bytes of the shard files, nearly all of them frames."""
        found = sizes(self.root)
        return sum(found[shard_name(number)] for number in range(self.manifest.shards))

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """``[V, 2]`` height and width."""
        return np.stack([self.column("height"), self.column("width")], axis=1).astype(np.int64)


@lru_cache(maxsize=4)
def _opened(root: Folder, manifest: str, files: frozenset[tuple[str, tuple[int, int]]]) -> ShardSet:
    """The set with this manifest and these files; a file that changes makes it another one."""
    from vididi.data.verify import read_manifest, verify_set

    forget(root)
    shards = ShardSet(root, read_manifest(root / "manifest.json", manifest))
    verify_set(shards, dict(files))
    return shards


@contextmanager
def reading(path: Folder) -> Iterator[None]:
    """Whatever says inside that a file is not what was written becomes a DamagedError; a place that is away, a DataError."""
    try:
        yield
    except FileNotFoundError:
        raise is_missing(path) from None
    except OSError as error:
        # pyarrow has no error of its own for bytes that it cannot understand; those of a system have a number.
        kind = DamagedError if error.errno is None and isinstance(path, Path) else DataError
        raise kind(f"{path}: cannot be read: {error}") from None
    except (pa.ArrowException, ValueError, OverflowError, EOFError) as error:
        raise DamagedError(f"{path}: cannot be read: {error}") from None


def is_missing(path: Folder) -> DamagedError:
    return DamagedError(f"{path}: is missing, though manifest.json says that the data set is complete")


def read_parquet(path: Folder, schema: pa.Schema) -> pa.Table:
    """A small file of a prepared set.

    Raises:
        DamagedError: it cannot be read, or has other columns.
    """
    with reading(path):
        table = pq.ParquetFile(parquet_source(path)).read()
    if not table.schema.equals(schema):
        names = ", ".join(f"{field.name} {field.type}" for field in table.schema)
        raise DamagedError(f"{path}: has the columns {names}; it must have {', '.join(f'{field.name} {field.type}' for field in schema)}")
    return table


class FrameReader:
    """Reads the encoded frames of videos by index row, keeping recently read row groups in memory.

    A row group is compared with the index the first time that a process reads it: how many frames each video has, and their
    ``frames_sha256``. Picklable; the cache is made anew in each process.
    """

    def __init__(self, shards: ShardSet, cache_bytes: int = 256 << 20) -> None:
        self.root = shards.root
        self.place = np.stack([shards.column(name) for name in ("shard", "row_group", "row")], axis=1)
        self.expected = Expected.of(shards)
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
        found = self._cache[(shard, group)] = self.read(shard, group)
        self._cached += len(found.data)
        while self._cached > self.cache_bytes and len(self._cache) > 1:
            self._cached -= len(self._cache.popitem(last=False)[1].data)
        return found

    def read(self, shard: int, group: int) -> RowGroup:
        """A row group from its file.

        Raises:
            DamagedError: it is not what the index says.
        """
        found = read_row_group(self.root, shard, group)
        rows = self.expected.rows(shard, group)
        seen = _SEEN.setdefault((str(self.root), self.expected.checksum), np.zeros(len(self.place), np.bool_))
        if not seen[rows].all():
            for _, reason in self.expected.faults(rows, found):
                raise DamagedError(f"{self.root / shard_name(shard)}: {reason}; `vididi check` names all videos that differ")
            seen[rows] = True
        return found


_SEEN: dict[tuple[str, str], NDArray[np.bool_]] = {}  # by place and checksum of a set: the index rows that this process has compared


def forget(root: Folder) -> None:
    """What this process has seen of the files in a place, which may be others now."""
    footer.cache_clear()
    for key in [key for key in _SEEN if key[0] == str(root)]:
        del _SEEN[key]


class Expected:
    """What the index says of the frames of each video.

    Args:
        order: ``[V]`` index rows, by where they lie. groups: ``[V]`` the row group of each, as one number.
    """

    def __init__(self, checksum: str, videos: pa.ChunkedArray, count: NDArray, sha: NDArray, place: NDArray) -> None:
        self.checksum, self.videos, self.count, self.sha = checksum, videos, count, sha
        self.order = np.lexsort(place.T[::-1])
        self.groups = place[self.order, 0].astype(np.int64) << 32 | place[self.order, 1]

    @classmethod
    def of(cls, shards: ShardSet) -> Expected:
        sha = np.frombuffer(bytes.fromhex("".join(shards.index.column("frames_sha256").to_pylist())), np.uint8).reshape(-1, 32)
        place = np.stack([shards.column(name) for name in ("shard", "row_group", "row")], axis=1)
        return cls(shards.manifest.checksum, shards.index.column("video_id"), shards.column("frame_count"), sha, place)

    def rows(self, shard: int, group: int) -> NDArray[np.int64]:
        """The index rows of a row group, in its order."""
        key = shard << 32 | group
        return self.order[np.searchsorted(self.groups, key) : np.searchsorted(self.groups, key, "right")]

    def faults(self, rows: NDArray[np.int64], found: RowGroup) -> Iterator[tuple[str, str]]:
        """The videos of a row group whose frames are not those of the index, and what is wrong with each."""
        if len(rows) != len(found.first) - 1:
            reason = f"a row group has {len(found.first) - 1} videos, where index.parquet lists {len(rows)}"
            yield from ((self.videos[row].as_py(), reason) for row in rows.tolist())
            return
        for position, row in enumerate(rows.tolist()):
            video, count = self.videos[row].as_py(), int(found.first[position + 1] - found.first[position])
            if count != self.count[row]:
                yield video, f"video {video!r} has {count} frames, where index.parquet says {self.count[row]}"
            elif frames_sha256(found.frames(position, np.arange(count))) != self.sha[row].tobytes():
                yield video, f"video {video!r} has other frames than those of its frames_sha256"


def frames_sha256(frames: Iterable[bytes | memoryview]) -> bytes:
    """The digest of a video's encoded frames, which tells where each ends too."""
    return sha256(b"".join(sha256(frame).digest() for frame in frames)).digest()


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
    with (
        reading(path),
        pq.ParquetFile(parquet_source(path), metadata=footer(path), pre_buffer=isinstance(root, RemotePath)) as file,
    ):
        videos = file.read_row_group(group, columns=["frames"]).column("frames").combine_chunks()
        if isinstance(videos, pa.ChunkedArray):
            (videos,) = videos.chunks
        if videos.type != SHARD_SCHEMA.field("frames").type or videos.null_count:
            raise ValueError(f"its frames are {videos.type} with {videos.null_count} nulls")
    return RowGroup(*binary_parts(videos.values), videos.offsets.to_numpy())


@lru_cache(maxsize=512)  # 64 GiB of shards; parsing one takes as long as reading a video
def footer(path: Folder) -> pq.FileMetaData:
    with reading(path):
        return pq.read_metadata(parquet_source(path))


def binary_parts(array: pa.BinaryArray | pa.LargeBinaryArray) -> tuple[NDArray[np.uint8], NDArray]:
    """The bytes of all values of an Arrow array, and where each begins and the last one ends; nothing is copied."""
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64 if pa.types.is_large_binary(array.type) else np.int32)
    return np.frombuffer(data, np.uint8), ends[array.offset : array.offset + len(array) + 1]


def check_no_overlap(shards: ShardSet) -> None:
    """Raise DataError if a file of the test split is, byte for byte, also in the training split."""
    checksums, splits, names = (shards.column(name) for name in ("source_sha256", "split", "video_id"))
    train: dict[str, str] = {}
    for name, checksum in zip(names[splits == "train"], checksums[splits == "train"], strict=True):
        train.setdefault(checksum, name)
    test = zip(names[splits == "test"], checksums[splits == "test"], strict=True)
    if both := [(name, train[checksum]) for name, checksum in test if checksum in train]:
        raise overlap(str(shards.root), both)


def overlap(where: str, both: list[tuple[str, str]]) -> DataError:
    """The error of test videos that are training videos too. both: the name in the test split, and that in the training split."""
    shown = _first([f"{test} (test) is {train} (train)" for test, train in both], "; ")
    many = "1 test video is also a training video" if len(both) == 1 else f"{len(both)} test videos are also training videos"
    return DataError(f"{where}: {many}, so retrieval would find {'it' if len(both) == 1 else 'them'}: {shown}")


def _first(names: list[str], mark: str = ", ", most: int = 5) -> str:
    return mark.join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
