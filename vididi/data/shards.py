"""A prepared data set to read from: opened, which makes sure that its files agree with each other,
and its frames by video.

Nothing here imports torch: the processes that read shards for a stream stay small.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vididi.data.layout import (
    Expected,
    PreparedTables,
    RowGroup,
    footer,
    read_row_group,
    reading,
    shard_name,
)
from vididi.data.storage import Folder, sizes, stamps
from vididi.data.video_reader import CHANGES, READER
from vididi.errors import DamagedError, DataError

log = logging.getLogger(__name__)


@lru_cache  # once for each set, however often it is opened
def _warn_of_reader(root: str, reader: int) -> None:
    changed = (
        "; ".join(
            f"since version {version} {what}"
            for version, what in CHANGES.items()
            if version > reader
        )
        or "which is newer"
    )
    message = (
        "%s: made by version %d of the video reader, this is %d: %s; `vididi prepare` into another"
        " folder makes it anew"
    )
    log.warning(message, root, reader, READER, changed)


@dataclass(frozen=True)
class ShardSet(PreparedTables):
    """A prepared data set: its manifest, and its index as columns."""

    @classmethod
    def open(cls, root: Folder) -> ShardSet:
        """Open a prepared folder, and make sure that its files agree; once in a process.

        vididi.data.verify says what that means.

        Raises:
            DataError: there is no manifest, or it is of another version.
            DamagedError: a file is missing, cannot be read or does not agree with the others; it
                names file, field and value.
        """
        path = root / "manifest.json"
        if not path.is_file():
            raise DataError(
                f"{root}: no manifest.json, so this is not a (completely) prepared data set; run"
                " `vididi prepare`"
            )
        with reading(path):
            text = path.read_text()
        shards = _opened(root, text, frozenset(stamps(root).items()))
        if shards.manifest.reader != READER:
            _warn_of_reader(str(root), shards.manifest.reader)
        return shards

    @cached_property
    def classes(self) -> dict[int, str]:
        """The names of the classes that have videos, by label.

        Labels number all of the source's classes, so there may be gaps.
        """
        return {
            label: self.manifest.classes[label]
            for label in np.unique(self.column("label")).tolist()
            if label >= 0
        }

    @property
    def empty_classes(self) -> list[str]:
        """Those whose every video was rejected."""
        return [
            name for label, name in enumerate(self.manifest.classes) if label not in self.classes
        ]

    @property
    def summary(self) -> str:
        """The counts of videos, classes and rejects, as text."""
        m = self.manifest
        counts = " and ".join(
            f"{m.videos[split]} {name}" for split, name in (("train", "training"), ("test", "test"))
        )
        return f"{counts} videos, {len(self.classes)} classes, {m.rejects} rejected"

    @property
    def remarks(self) -> list[str]:
        """What a user should know of the set beside its counts, a sentence each."""
        return [*self._empty, *self._equal, *self.manifest.listing_notes]

    @property
    def _empty(self) -> list[str]:
        empty = self.empty_classes
        return (
            [
                f"{len(empty)} of {len(self.manifest.classes)} classes have no videos:"
                f" {_first(empty)}"
            ]
            if empty
            else []
        )

    @property
    def _equal(self) -> list[str]:
        """A warning of different files that show the same; those of both splits first."""
        names, splits = self.column("video_id"), self.column("split")
        pairs = sorted(self.equal_frames, key=lambda pair: splits[pair[0]] == splits[pair[1]])
        across = sum(splits[one] != splits[other] for one, other in pairs)
        described = [
            f"{names[other]} ({splits[other]}) and {names[one]} ({splits[one]})"
            for one, other in pairs
        ]
        what = (
            f"warning: {len(pairs)} videos have the frames of another file, {across} of them of one"
            " in the other split"
        )
        return [f"{what}: {_first(described, '; ')}"] if pairs else []

    @cached_property
    def equal_frames(self) -> list[tuple[int, int]]:
        """Videos from different files that have the same frames, as pairs of index rows.

        Of each pair one is the first with these frames, the other a later one.
        """
        first: dict[str, int] = {}
        sources = self.column("source_sha256")
        pairs = [
            (first.setdefault(frames, row), row)
            for row, frames in enumerate(self.column("frames_sha256"))
        ]
        return [(one, other) for one, other in pairs if sources[one] != sources[other]]

    @cached_property
    def nbytes(self) -> int:
        """Bytes of the shard files, nearly all of them frames."""
        file_sizes = sizes(self.root)
        return sum(file_sizes[shard_name(number)] for number in range(self.manifest.shards))


@lru_cache(maxsize=4)
def _opened(root: Folder, manifest: str, files: frozenset[tuple[str, tuple[int, int]]]) -> ShardSet:
    """The set with this manifest and these files; a file that changes makes it another one."""
    # Whoever only reads frames has no use for it.
    from vididi.data.verify import read_manifest, verify_set

    forget(root)
    shards = ShardSet(root, read_manifest(root / "manifest.json", manifest))
    verify_set(shards, dict(files))
    return shards


class FrameReader:
    """Reads the encoded frames of videos by index row, keeping recently read row groups in memory.

    A row group is compared with the index the first time that a process reads it: how many frames
    each video has, and their ``frames_sha256``. Picklable; the cache is made anew in each process.
    """

    def __init__(self, shards: ShardSet, cache_bytes: int = 256 << 20) -> None:
        self.root = shards.root
        self.location = np.stack(
            [shards.column(name) for name in ("shard", "row_group", "row")], axis=1
        )
        self.expected = Expected.of(shards)
        self.cache_bytes = cache_bytes
        self._cache: OrderedDict[tuple[int, int], RowGroup] = OrderedDict()
        self._cached = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": OrderedDict(), "_cached": 0}

    def frames(self, row: int, picks: NDArray) -> list[memoryview]:
        """The JPEG bytes of frames ``picks`` of the video at index ``row``."""
        shard, group, position = (int(value) for value in self.location[row])
        return self._row_group(shard, group).frames(position, picks)

    def _row_group(self, shard: int, group: int) -> RowGroup:
        content = self._cache.get((shard, group))
        if content is not None:
            self._cache.move_to_end((shard, group))
            return content
        content = self._cache[(shard, group)] = self.read(shard, group)
        self._cached += len(content.data)
        while self._cached > self.cache_bytes and len(self._cache) > 1:
            self._cached -= len(self._cache.popitem(last=False)[1].data)
        return content

    def read(self, shard: int, group: int) -> RowGroup:
        """A row group from its file.

        Raises:
            DamagedError: it is not what the index says.
        """
        content = read_row_group(self.root, shard, group)
        rows = self.expected.rows(shard, group)
        verified = _VERIFIED.setdefault(
            (str(self.root), self.expected.checksum), np.zeros(len(self.location), np.bool_)
        )
        if not verified[rows].all():
            for _, reason in self.expected.faults(rows, content):
                raise DamagedError(
                    f"{self.root / shard_name(shard)}: {reason}; `vididi check` names all videos"
                    " that differ"
                )
            verified[rows] = True
        return content


# By path and checksum of a set: which index rows this process has compared with their frames.
_VERIFIED: dict[tuple[str, str], NDArray[np.bool_]] = {}


def forget(root: Folder) -> None:
    """Drop what this process knows of the files in a folder, which may be others now."""
    footer.cache_clear()
    for key in [key for key in _VERIFIED if key[0] == str(root)]:
        del _VERIFIED[key]


def check_no_overlap(shards: ShardSet) -> None:
    """Raise DataError if a file of the test split is, byte for byte, also in the training split."""
    checksums, splits, names = (
        shards.column(name) for name in ("source_sha256", "split", "video_id")
    )
    train: dict[str, str] = {}
    for name, checksum in zip(names[splits == "train"], checksums[splits == "train"], strict=True):
        train.setdefault(checksum, name)
    test = zip(names[splits == "test"], checksums[splits == "test"], strict=True)
    if both := [(name, train[checksum]) for name, checksum in test if checksum in train]:
        raise overlap(str(shards.root), both)


def overlap(where: str, both: list[tuple[str, str]]) -> DataError:
    """The error of test videos that are training videos too.

    Args:
        both: of each the name in the test split, and that in the training split.
    """
    examples = _first([f"{test} (test) is {train} (train)" for test, train in both], "; ")
    many = (
        "1 test video is also a training video"
        if len(both) == 1
        else f"{len(both)} test videos are also training videos"
    )
    return DataError(
        f"{where}: {many}, so retrieval would find {'it' if len(both) == 1 else 'them'}: {examples}"
    )


def _first(names: list[str], mark: str = ", ", count: int = 5) -> str:
    return mark.join(names[:count]) + (
        f" and {len(names) - count} more" if len(names) > count else ""
    )
