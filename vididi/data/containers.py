"""Whether a video file is all there, by what its container says of itself: sizes, counts,
checksums, continuity counters.

FFmpeg reads on over most of what is wrong in a container. What is read here, from the file itself,
tells a cut or damaged file from a sound one in which times alone would mislead: a last frame that
is shown for long, a first one that comes late, frames that say "same again".
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from vididi.errors import DataError

Bytes = bytes | mmap.mmap

SEGMENT, TRACKS, CLUSTER, CRC_32 = 0x18538067, 0x1654AE6B, 0x1F43B675, b"\xbf\x84"
ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
FLV_TAGS = (8, 9, 15, 18)  # sound, pictures, and two kinds of data
PICTURES = (b"dc", b"db")  # kinds of chunks of AVI, after the number of their stream
INDEX_ENTRY = np.dtype([("name", "S4"), ("flags", "<u4"), ("at", "<u4"), ("size", "<u4")])
TS_SYNC = 0x47  # the byte that every packet begins with
TS_BLOCK = 1 << 14  # packets that are read at a time
# Bytes of a packet, and the offset of its sync byte: plain, of Blu-rays, with a checksum.
TS_PACKETS = ((188, 0), (192, 4), (204, 0))


def open_bytes(path: Path) -> mmap.mmap:
    """The file's content, of which only what is used is read; close it after use."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _forget(data: Bytes) -> None:
    """Free the memory of what was read of a file, where a process can ask for that."""
    if isinstance(data, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        data.madvise(mmap.MADV_DONTNEED)


def check_size(path: Path, format_name: str, structure: bool = True) -> bool:
    """Whether the container says how large it is; then the file is that large.

    Args:
        structure: also check that what it consists of follows one another, and Matroska's
            checksums, and AVI's index.

    Raises:
        DataError: the file is cut, or its structure is damaged.
    """
    with open_bytes(path) as data:
        if "matroska" in format_name:
            return _check_matroska(data, structure)
        if format_name == "avi" and structure:
            _check_index(data)
        if format_name == "flv" and structure:
            _check_tags(data)
        if format_name in ("flv", "asf"):
            return _check_stated_size(
                data, _flv_size(data) if format_name == "flv" else _asf_size(data)
            )
    return False


def _check_stated_size(data: Bytes, size: int) -> bool:
    if size > len(data):
        raise DataError(f"corrupt: the file says that it has {size} bytes, and has {len(data)}")
    return size > 0


def _check_tags(data: Bytes) -> None:
    """Refuse an FLV file in which a tag does not end where the next one begins.

    FFmpeg would go on at the next one that it finds.
    """
    at = int.from_bytes(data[5:9], "big") + 4
    while at < (_flv_size(data) or len(data)):  # what comes after what the file says is none of it
        size = 11 + int.from_bytes(data[at + 1 : at + 4], "big")
        if data[at] & 0x1F not in FLV_TAGS or at + size > len(data):
            raise DataError(f"corrupt: no whole tag begins at byte {at}")
        at += size + 4


def _flv_size(data: Bytes) -> int:
    """By the entry of its metadata; 0 if there is none."""
    match = re.search(rb"\x00\x08filesize\x00(.{8})", data[:4096], re.DOTALL)
    size = struct.unpack(">d", match[1])[0] if match else 0.0
    return int(size) if 0 < size < 2**53 else 0


def _asf_size(data: Bytes) -> int:
    """By its file properties; 0 without them, or if they were written before the size was known."""
    offset = data[: 1 << 16].find(ASF_FILE_PROPERTIES)
    properties = data[offset : offset + 92] if offset >= 0 else b""
    broadcast = len(properties) == 92 and properties[88] & 1
    return 0 if len(properties) < 92 or broadcast else int.from_bytes(properties[40:48], "little")


# --- Matroska and WebM: https://www.rfc-editor.org/rfc/rfc8794 ------------------------------------


def _check_matroska(data: Bytes, structure: bool) -> bool:
    at, end = 0, len(data)
    while at < end:
        name, start, stop = _element(data, at, end)
        if stop is None:
            return False  # written while it was recorded, so no size is known
        if stop > end:
            raise DataError(f"corrupt: the file says that it has {stop} bytes, and has {end}")
        if name == SEGMENT:
            return not structure or _check_elements(data, start, stop)
        at = stop
    return False


def _check_elements(data: Bytes, start: int, end: int) -> bool:
    """Refuse a segment whose elements do not follow one another, or have another checksum.

    The checksum is that which an element with pictures states, if it states one. False if the
    segment's size is not known.
    """
    while start < end:
        name, inside, stop = _element(data, start, end)
        if stop is None:
            return False
        if stop > end:
            raise DataError(
                f"corrupt: the element at byte {start} reaches beyond the one that holds it"
            )

        if name in (TRACKS, CLUSTER) and data[inside : inside + 2] == CRC_32:
            stated = int.from_bytes(data[inside + 2 : inside + 6], "little")
            with memoryview(data) as view, view[inside + 6 : stop] as content:
                if crc32(content) != stated:
                    raise DataError(
                        f"corrupt: bytes {inside} to {stop} have another checksum than the file"
                        " says"
                    )
            _forget(data)
        start = stop
    return True


def _element(data: Bytes, at: int, end: int) -> tuple[int, int, int | None]:
    """Id of the EBML element at a byte, and where its content starts and stops.

    The stop is None if the element does not state its size.
    """
    name_length = 9 - data[at].bit_length()
    size_at = at + name_length
    if name_length > 4 or size_at >= end or not data[size_at]:
        raise DataError(f"corrupt: no element begins at byte {at}")
    size_length = 9 - data[size_at].bit_length()
    size = int.from_bytes(data[size_at : size_at + size_length], "big") & (
        (1 << 7 * size_length) - 1
    )
    start = size_at + size_length
    known = size != (1 << 7 * size_length) - 1
    return int.from_bytes(data[at:size_at], "big"), start, start + size if known else None


# --- AVI ------------------------------------------------------------------------------------------


def avi_chunks(path: Path, stream: int) -> int:
    """How many chunks of a stream an AVI file holds: frames, and empty ones ("the same again")."""
    names = [b"%02d%s" % (stream, kind) for kind in PICTURES]
    with open_bytes(path) as data:
        return sum(name in names for name in _riff(data, 0, len(data)))


def _check_index(data: Bytes) -> None:
    """Refuse an AVI file that is smaller than it states, or lacks a frame of its index.

    FFmpeg would go on at the next one that it finds.
    """
    if len(data) + 1 < (stated := int.from_bytes(data[4:8], "little") + 8) < 1 << 31:
        raise DataError(f"corrupt: the file says that it has {stated} bytes, and has {len(data)}")

    # Of the first part of a long file.
    chunks = {name: (start, size) for name, start, size in _chunks(data, 12, len(data))}
    start, size = chunks.get(b"idx1", (0, 0))
    movi = next(
        (
            start
            for name, start, _ in _chunks(data, 12, len(data))
            if name == b"LIST" and data[start : start + 4] == b"movi"
        ),
        0,
    )

    entries = np.frombuffer(data[start : start + size // 16 * 16], INDEX_ENTRY)
    frames = entries[
        np.isin(
            entries["name"],
            [b"%02d%s" % (stream, kind) for stream in range(100) for kind in PICTURES],
        )
    ]
    listed = [(at, (name[:2], (length + 1) // 2)) for name, _, at, length in frames.tolist()]

    # Offsets count from the file's start or from the list of chunks; an index that counts from
    # elsewhere says nothing.
    base = next(
        (
            base
            for base in (0, movi)
            for at, head in listed[:1]
            if _frame_head(data, base + at) == head
        ),
        None,
    )

    for at, head in listed if base is not None else []:
        if _frame_head(data, base + at) != head:
            raise DataError(
                f"corrupt: the file's index says that a frame lies at byte {base + at}, and none is"
                " there"
            )


def _frame_head(data: Bytes, at: int) -> tuple[bytes, int] | None:
    """The number of a picture chunk's stream, and its size in pairs of bytes; else None.

    An index may round the size, and mark key frames by another kind of chunk.
    """
    size = int.from_bytes(data[at + 4 : at + 8], "little")
    return (data[at : at + 2], (size + 1) // 2) if data[at + 2 : at + 4] in PICTURES else None


def _chunks(data: Bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, offset and size of each chunk between two bytes, as far as they follow one another."""
    while at + 8 <= end:
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        yield name, at + 8, size
        at += 8 + size + size % 2


def _riff(data: Bytes, at: int, end: int) -> Iterator[bytes]:
    """The names of all chunks between two bytes, as far as they follow one another."""
    for name, start, size in _chunks(data, at, end):
        if name in (b"RIFF", b"LIST"):
            yield from _riff(data, start + 4, min(start + size, end))
        elif start + size > end or not name.strip(b"\0"):
            return
        else:
            yield name


# --- MPEG transport streams: ISO/IEC 13818-1, 2.4.3 -----------------------------------------------


def ts_joins(path: Path, pid: int) -> int:
    """How often in a transport stream one file ends and another begins, for its packets ``pid``.

    At such a join the packets' counters break, as they do where packets are lost; but tables begin
    anew too, before anything else comes.

    Raises:
        DataError: the file ends within a packet, or the counters of ``pid`` break anywhere else.
    """
    with path.open("rb") as file:
        start = file.read(2 * TS_PACKETS[-1][0])
        size, sync = next(
            ((size, sync) for size, sync in TS_PACKETS if _in_step(start, size, sync)), (0, 0)
        )
        if not size:
            return 0  # it begins with something else; FFmpeg finds the packets
        if path.stat().st_size % size:
            raise DataError("corrupt: the file is cut within its last transport packet")
        file.seek(0)
        blocks = iter(partial(file.read, size * TS_BLOCK), b"")
        headers = [
            np.frombuffer(block, np.uint8).reshape(-1, size)[:, sync : sync + 6].copy()
            for block in blocks
        ]
    return _joins(np.concatenate(headers), pid)


def _in_step(data: Bytes, size: int, sync: int) -> bool:
    return len(data) >= 2 * size and data[sync] == data[sync + size] == TS_SYNC


def _joins(packets: NDArray[np.uint8], pid: int) -> int:
    unmarked = packets[:, 0] != TS_SYNC
    if unmarked.any():
        raise DataError(
            f"corrupt: transport packet {int(unmarked.argmax())} does not begin with its mark"
        )
    pids = (packets[:, 1] & 0x1F).astype(np.uint16) << 8 | packets[:, 2]
    positions = np.flatnonzero(pids == pid)
    if (damaged := positions[packets[positions, 1] & 0x80 > 0]).size:
        raise DataError(f"corrupt: transport packet {int(damaged[0])} says that it is damaged")

    # What the programs consist of: tables of kind 2 (byte 5), after a header without extras and a
    # pointer to the next byte.
    starts = (packets[:, 1] & 0x40 > 0) & (packets[:, 3] & 0x30 == 0x10) & (packets[:, 4] == 0)
    tables = np.unique(pids[starts & (packets[:, 5] == 2) & (pids > 0x1F)])
    joins = [
        position
        for position in _begun_anew(packets, np.flatnonzero(pids == 0))
        if np.isin(pids[position + 1 : position + 4], tables).any()
    ]

    used = set()
    for before, after in _breaks(packets, positions):
        join = next((position for position in joins if before < position < after), None)
        if join is None:
            raise DataError(f"corrupt: packets are missing before transport packet {after}")
        used.add(join)
    return len(used)


def _begun_anew(packets: NDArray[np.uint8], lists: NDArray[np.int64]) -> list[int]:
    """Which of the lists of programs may be a file's first.

    Its counter is 0, or not one more than that of the list before.
    """
    broken = {after for _, after in _breaks(packets, lists)}
    return [
        int(position)
        for position in lists[1:]
        if position in broken or packets[position, 3] & 0xF == 0
    ]


def _breaks(packets: NDArray[np.uint8], positions: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Between which packets of one stream its counter breaks."""
    flags = packets[positions, 3]
    announced = np.cumsum(
        (flags & 0x20 > 0) & (packets[positions, 4] > 0) & (packets[positions, 5] & 0x80 > 0)
    )

    # It holds something, so the counter is one more than before; FFmpeg takes in what is sent
    # twice, too.
    counted = flags & 0x10 > 0
    positions, counters, announced = positions[counted], flags[counted] & 0xF, announced[counted]
    steps = (counters[1:] - counters[:-1]) % 16
    wrong = np.flatnonzero((steps != 1) & (announced[1:] == announced[:-1]))
    return [(int(positions[number]), int(positions[number + 1])) for number in wrong]
