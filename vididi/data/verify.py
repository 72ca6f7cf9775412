"""Whether the files of a prepared set agree with each other: what opening one makes sure of, and
``vididi check``.

Opening reads manifest, index, boxes and the footers of all shards, a few seconds for 240,000
videos. It does not read frames: a stream compares those with their ``frames_sha256`` as it reads
them, and ``check_frames`` all of them at once.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from hashlib import sha256
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vididi.data.layout import (
    BOX_SCHEMA,
    SPLITS,
    VERSION,
    Expected,
    Manifest,
    PreparedTables,
    RowGroup,
    is_missing,
    read_footer,
    read_parquet,
    read_row_group,
    shard_name,
)
from vididi.data.storage import Folder
from vididi.errors import DamagedError, DataError
from vididi.names import check_name

FOOTERS = 16  # that are read at a time
MAX_SIDE = 65_500  # pixels, the most that libjpeg writes
SHA256 = "^[0-9a-f]{64}$"


def index_checksum(index: pa.Table, boxes: pa.Table | None) -> str:
    """A manifest's ``checksum``: over every video's id, label, split and frames, and the boxes."""
    digest = sha256()
    columns = [
        index.column(name).to_pylist() for name in ("video_id", "label", "split", "frames_sha256")
    ]
    for video, label, split, frames in zip(*columns, strict=True):
        digest.update(f"{video}\0{label}\0{split}\0{frames}\n".encode())
    if boxes is not None:
        for name in (b"actions", b"evaluated"):
            digest.update(boxes.schema.metadata[name] + b"\n")
        for batch in boxes.combine_chunks().to_batches(max_chunksize=1 << 16):
            digest.update(json.dumps(batch.to_pydict()).encode() + b"\n")
    return digest.hexdigest()


# --- Manifest -------------------------------------------------------------------------------------


def read_manifest(path: Folder, text: str) -> Manifest:
    """The content of manifest.json.

    Raises:
        DataError: it is of another version.
        DamagedError: it is not a manifest; naming the field.
    """
    from pydantic import ValidationError

    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path}: is not JSON: {error}") from None

    if not isinstance(content, dict) or "version" not in content:
        raise DamagedError(f"{path}: is not the manifest of a prepared data set: it has no version")
    if content["version"] != VERSION:
        raise DataError(
            f"{path}: version {content['version']!r}, but this program reads version {VERSION};"
            " prepare the data again"
        )
    try:
        manifest = _manifest_type().validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise DamagedError(
            f"{path}: {'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}"
        ) from None

    for field, good, allowed in _manifest_rules(manifest):
        if not good:
            raise DamagedError(
                f"{path}: {field}: {_at(manifest, field)!r} is not valid; it must be {allowed}"
            )
    if "name" in manifest.source:
        check_name(manifest.source["name"], f"{path}: source.name", DamagedError)
    return manifest


@lru_cache
def _manifest_type() -> Any:
    from pydantic import ConfigDict, TypeAdapter, with_config

    # pydantic is slow to load, and whoever only reads frames has no use for it.
    return TypeAdapter(with_config(ConfigDict(extra="forbid"))(Manifest))


def _manifest_rules(m: Manifest) -> Iterator[tuple[str, bool, str]]:
    """Field, whether it is sound, and what is allowed."""
    yield (
        "videos",
        set(m.videos) == set(SPLITS) and min(m.videos.values()) >= 0,
        f"counts of {' and '.join(SPLITS)}",
    )
    yield "frames", m.frames >= 1, "at least 1"
    yield "rejects", m.rejects >= 0, "at least 0"
    yield "shards", m.shards >= 1, "at least 1"
    yield "reader", m.reader >= 1, "at least 1"
    yield "classes", all(m.classes) and len(set(m.classes)) == len(m.classes), "names that differ"
    yield "checksum", re.fullmatch(SHA256, m.checksum) is not None, "64 hexadecimal digits"
    short_side = m.prepare.get("short_side", 1)
    yield "prepare.short_side", type(short_side) is int and short_side >= 1, "a number of pixels"


def _at(manifest: Manifest, field: str) -> Any:
    name, _, key = field.partition(".")
    value = getattr(manifest, name)
    return value[key] if key else value


# --- Index, boxes and footers ---------------------------------------------------------------------


def verify_set(shards: PreparedTables, files: Collection[str]) -> None:
    """Raise DamagedError if a file of the set is missing or does not agree with another.

    Args:
        files: the names of those that are there.
    """
    # A folder in a file's place counts as none: pyarrow would read whatever is in it.
    names = chain(["index.parquet"], map(shard_name, range(shards.manifest.shards)))
    if missing := next((name for name in names if name not in files), None):
        raise is_missing(shards.root / missing)
    index = shards.index
    # Not shards.boxes: the table is large, only detection needs it, and a set that is sent to
    # another process should not take it along.
    boxes = (
        read_parquet(shards.root / "boxes.parquet", BOX_SCHEMA)
        if "boxes.parquet" in files
        else None
    )

    _verify_index(shards)
    if boxes is not None:
        _verify_boxes(shards, boxes)

    checksum = index_checksum(index, boxes)
    if checksum != shards.manifest.checksum:
        what = "index.parquet" if boxes is None else "index.parquet and boxes.parquet"
        raise DamagedError(
            f"{shards.root / 'manifest.json'}: checksum: {shards.manifest.checksum} is not that of"
            f" {what}, {checksum}"
        )
    _verify_locations(shards)


class _Rules:
    """Conditions on the rows of a table. The first row that breaks one is named."""

    def __init__(self, path: Folder, table: pa.Table) -> None:
        self.path, self.table = path, table
        for name in table.column_names:
            if table.column(name).null_count:
                self.require(name, ~table.column(name).is_null().to_numpy(), "given")

    def column(self, name: str) -> NDArray:
        """A column's values, ``[N]``."""
        return self.table.column(name).to_numpy(zero_copy_only=False)

    def require(self, name: str, good: NDArray[np.bool_] | pa.ChunkedArray, allowed: str) -> None:
        """Raise DamagedError, with the first bad row, unless all values of a column are good.

        Args:
            name: of the column; good: ``[N]``; allowed: what a good value is, for the message.
        """
        good = np.asarray(good, dtype=np.bool_)
        if good.all():
            return
        row = int(np.argmin(good))
        value, video = (self.table.column(column)[row].as_py() for column in (name, "video_id"))
        more = (
            f"; so are {np.count_nonzero(~good) - 1} more rows"
            if np.count_nonzero(~good) > 1
            else ""
        )
        raise DamagedError(
            f"{self.path}: row {row}, video {video!r}: {name}: {value!r} is not valid; it must be"
            f" {allowed}{more}"
        )


def _verify_index(shards: PreparedTables) -> None:
    path, m = shards.root / "index.parquet", shards.manifest
    if not len(shards.index):
        raise DamagedError(f"{path}: has no rows")
    rules = _Rules(path, shards.index)
    _verify_names(rules)
    _verify_labels(rules, m)
    rules.require(
        "split", pc.is_in(rules.table.column("split"), pa.array(SPLITS)), " or ".join(SPLITS)
    )
    _verify_frames(rules, m.prepare.get("short_side"))
    for name in ("source_sha256", "frames_sha256"):
        rules.require(
            name,
            pc.match_substring_regex(rules.table.column(name), SHA256),
            "64 hexadecimal digits",
        )
    rules.require(
        "shard",
        (rules.column("shard") >= 0) & (rules.column("shard") < m.shards),
        f"0 to {m.shards - 1}",
    )
    for name in ("row_group", "row"):
        rules.require(name, rules.column(name) >= 0, "at least 0")
    _verify_counts(shards, path)


def _verify_names(rules: _Rules) -> None:
    videos = rules.table.column("video_id")
    rules.require(
        "video_id",
        pc.and_(pc.not_equal(videos, ""), pc.invert(pc.match_substring(videos, "\0"))),
        "a name",
    )
    rules.require("video_id", _new(videos), "unlike that of any row before")


def _verify_frames(rules: _Rules, short_side: int | None) -> None:
    """Numbers and sizes of frames, and their rate."""
    rules.require("frame_count", rules.column("frame_count") >= 1, "at least 1")
    for name in ("height", "width"):
        rules.require(
            name, (rules.column(name) >= 1) & (rules.column(name) <= MAX_SIDE), f"1 to {MAX_SIDE}"
        )
    rules.require(
        "fps",
        np.isfinite(rules.column("fps")) & (rules.column("fps") >= 0),
        "finite and at least 0",
    )
    if short_side is not None:
        height, width = rules.column("height"), rules.column("width")
        is_short = np.minimum(height, width) == short_side
        rules.require("height", is_short | (height > width), f"{short_side}, the short side")
        rules.require("width", is_short, f"{short_side}, the short side")


def _verify_labels(rules: _Rules, m: Manifest) -> None:
    labels, names = rules.column("label"), rules.column("class_name")
    if not m.classes:
        rules.require("label", labels == -1, "-1, because manifest.json names no classes")
        rules.require("class_name", names == "", "empty, because manifest.json names no classes")
        return
    rules.require(
        "label",
        (labels >= 0) & (labels < len(m.classes)),
        f"0 to {len(m.classes) - 1}, the place in manifest.json's classes",
    )
    rules.require(
        "class_name",
        np.array(m.classes, dtype=object)[labels] == names,
        "the class in manifest.json that label is the place of",
    )


def _new(values: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which values no row before has."""
    new = np.zeros(len(values), np.bool_)
    new[
        np.unique(
            values.combine_chunks().dictionary_encode().indices.to_numpy(), return_index=True
        )[1]
    ] = True
    return new


def _verify_counts(shards: PreparedTables, path: Folder) -> None:
    m = shards.manifest
    counted: list[tuple[str, int, int]] = [
        *((f"videos.{split}", m.videos[split], len(shards.rows(split))) for split in SPLITS),
        ("frames", m.frames, int(shards.column("frame_count").sum(dtype=np.int64))),
        ("shards", m.shards, len(np.unique(shards.column("shard")))),
    ]
    for name, stated, counted_number in counted:
        if stated != counted_number:
            raise DamagedError(
                f"{shards.root / 'manifest.json'}: {name}: {stated} is not what {path.name} has,"
                f" {counted_number}"
            )


def _verify_boxes(shards: PreparedTables, boxes: pa.Table) -> None:
    path = shards.root / "boxes.parquet"
    actions = _actions(path, boxes)
    rules = _Rules(path, boxes)
    row = pc.index_in(boxes.column("video_id"), shards.index.column("video_id").combine_chunks())
    rules.require("video_id", row.is_valid(), "that of a video in index.parquet")
    row, key_frame = row.to_numpy(), rules.column("key_frame")
    rules.require(
        "key_frame",
        (key_frame >= 0) & (key_frame < shards.column("frame_count")[row]),
        "one of the video's frames",
    )

    first = np.full(len(shards.index), -1)
    first[row[::-1]] = np.arange(len(row))[::-1]  # the first box of each video
    for name in ("key_frame", "second"):
        rules.require(
            name,
            rules.column(name) == rules.column(name)[first[row]],
            "the same in all boxes of a video",
        )

    for low, high in (("x1", "x2"), ("y1", "y2")):
        rules.require(
            low,
            (rules.column(low) >= 0) & (rules.column(low) <= rules.column(high)),
            f"0 to {high}",
        )
        rules.require(high, rules.column(high) <= 1, "at most 1")

    known = pc.is_in(pc.list_flatten(boxes.column("actions")), pa.array(actions, pa.int32()))
    good = np.ones(len(boxes), np.bool_)
    good[pc.list_parent_indices(boxes.column("actions")).to_numpy()[~known.to_numpy()]] = False
    rules.require("actions", good, "ids of the actions that the file names")


def _actions(path: Folder, boxes: pa.Table) -> list[int]:
    """The ids of the actions that a table of boxes names."""
    try:
        metadata = boxes.schema.metadata or {}
        names, evaluated = json.loads(metadata[b"actions"]), json.loads(metadata[b"evaluated"])
        actions = [int(action) for action in names]
        sound = all(isinstance(name, str) for name in names.values()) and set(
            map(str, evaluated)
        ) <= set(names)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DamagedError(f"{path}: its metadata name no actions: {error!r}") from None
    if not sound:
        raise DamagedError(f"{path}: its metadata name no actions, or evaluate one without a name")
    return actions


def _verify_locations(shards: PreparedTables) -> None:
    """Each row of each row group is that of one video of the index, and none is another's."""
    path, videos = shards.root / "index.parquet", shards.index.column("video_id")
    location = np.stack(
        [shards.column(name) for name in ("shard", "row_group", "row")], axis=1
    ).astype(np.int64)
    order = np.lexsort(location.T[::-1])
    same = (np.diff(location[order], axis=0) == 0).all(axis=1)
    if same.any():
        pair = order[int(np.argmax(same)) :][:2]
        one, other = (videos[row].as_py() for row in pair.tolist())
        shard, group, row = location[pair[0]].tolist()
        raise DamagedError(
            f"{path}: videos {one!r} and {other!r} are both in row {row} of row group {group} of"
            f" {shard_name(shard)}"
        )

    with ThreadPoolExecutor(FOOTERS) as pool:
        group_sizes = list(
            pool.map(
                lambda shard: _group_sizes(shards.root / shard_name(shard)),
                range(shards.manifest.shards),
            )
        )
    # Of all row groups, shard after shard.
    first, sizes = np.cumsum([0, *map(len, group_sizes)]), np.concatenate(group_sizes)

    inside = location[:, 1] < np.diff(first)[location[:, 0]]
    number = first[location[:, 0]] + np.where(inside, location[:, 1], 0)
    inside &= location[:, 2] < np.append(sizes, 0)[number]
    if not inside.all():
        row = int(np.argmin(inside))
        shard, group, row_in_group = location[row].tolist()
        raise DamagedError(
            f"{path}: row {row}, video {videos[row].as_py()!r}: {shard_name(shard)} has no row"
            f" {row_in_group} in a row group {group}"
        )

    listed = np.bincount(number, minlength=len(sizes))
    for group in np.flatnonzero(listed != sizes):
        shard = int(np.searchsorted(first, group, "right")) - 1
        where = f"{shards.root / shard_name(shard)}: row group {group - first[shard]}"
        raise DamagedError(
            f"{where} has {sizes[group]} videos, of which {path.name} lists {listed[group]}"
        )


def _group_sizes(path: Folder) -> NDArray[np.int64]:
    # Not kept: parsed, that of 128 videos takes more than a megabyte in each process that opens.
    metadata = read_footer(path)
    return np.array(
        [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)],
        dtype=np.int64,
    )


# --- Frames ---------------------------------------------------------------------------------------


def check_frames(
    shards: PreparedTables, workers: int | None = None
) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """Compare all frames of a set with the index: their digests, and the size of each JPEG.

    Yields:
        for each shard, in order: how many videos were checked, and of each bad one its id and what
            is wrong.
    """
    expected, sizes = Expected.of(shards), shards.sizes
    groups = np.unique(
        np.stack([shards.column("shard"), shards.column("row_group")], axis=1), axis=0
    )

    def check(shard: int) -> tuple[int, list[tuple[str, str]]]:
        count, bad = 0, []
        for group in groups[groups[:, 0] == shard, 1].tolist():
            rows = expected.rows(shard, group)
            count += len(rows)
            bad += _faults(shards, expected, rows, sizes, shard, group)
        return count, bad

    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        yield from pool.map(check, range(shards.manifest.shards))


def _faults(
    shards: PreparedTables,
    expected: Expected,
    rows: NDArray[np.int64],
    sizes: NDArray[np.int64],
    shard: int,
    group: int,
) -> list[tuple[str, str]]:
    try:
        content = read_row_group(shards.root, shard, group)
    except DataError as error:
        return [(expected.videos[row].as_py(), str(error)) for row in rows.tolist()]
    bad = dict(expected.faults(rows, content))
    for position, row in enumerate(rows.tolist()):
        video = expected.videos[row].as_py()
        if video not in bad and (reason := _wrong_size(content, position, sizes[row])):
            bad[video] = f"video {video!r}, {reason}"
    return list(bad.items())


def _wrong_size(content: RowGroup, position: int, size: NDArray[np.int64]) -> str | None:
    """What is wrong with the first frame of another size than the index says, if there is one."""
    import simplejpeg

    expected = (int(size[0]), int(size[1]))
    for number, jpeg in enumerate(
        content.frames(position, np.arange(content.first[position + 1] - content.first[position]))
    ):
        try:
            have = simplejpeg.decode_jpeg_header(jpeg)[:2]
        except ValueError as error:
            return f"frame {number}: is no JPEG: {error}"
        if have != expected:
            return (
                f"frame {number}: is {have[0]} x {have[1]} pixels (height x width), where"
                f" index.parquet says {expected[0]} x {expected[1]}"
            )
    return None
