"""Checksums that a file carries in itself: one that was changed after it was written is told from
one that is whole. Pure Python.

The checksum is ``sha256:`` and 64 digits: the SHA-256 of the whole file with zeros for the digits.
So every byte counts, and other programs read the file as they would without. Where it stands:

    .json         under the key "checksum", the last one
    .yaml         in a comment, the first line
    .parquet      in the file's key-value metadata, under "checksum"
    .safetensors  in the metadata, under "checksum"
    .pt           as the comment of the zip archive that such a file is

A line of a file that grows (.jsonl) has a CRC-32 of itself, under the key "crc32", the last one.

A file or line without a checksum is of an earlier version and is taken as it is. One in which a
checksum is damaged so that it is no longer found counts as damaged, not as one without.
"""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

KEY = "checksum"
_MARK, _DIGITS = b"sha256:", 64
# What a file is written with, until its checksum is known.
EMPTY = (_MARK + b"0" * _DIGITS).decode()
CHANGED = "was changed after it was written: its checksum does not fit"
_HIDDEN = "was changed after it was written: its checksum cannot be read"

_HEX = rb"([0-9a-f]{64})"
_IN_TEXT: dict[str, re.Pattern[bytes]] = {
    ".json": re.compile(rb'"checksum": ?"sha256:' + _HEX + rb'"'),
    ".safetensors": re.compile(rb'"checksum": ?"sha256:' + _HEX + rb'"'),
    ".yaml": re.compile(rb"\A# checksum: sha256:" + _HEX + rb"\n"),
    # Thrift's compact protocol: a text of 8 bytes, and one of 71 (hexadecimal 47).
    ".parquet": re.compile(rb"\x18\x08checksum\x18\x47sha256:" + _HEX),
}
_CHUNK = 1 << 20
_END = b"PK\x05\x06"  # of a zip archive: 22 bytes, the last two the length of its comment
_END_BYTES, _MOST_HEADER = 22, 100 << 20  # safetensors allows no longer header

_LINE = re.compile(rb', "crc32": "([0-9a-f]{8})"\}')
_NEARLY_A_LINE = re.compile(rb'"[^"]{5}": ?"[^"]{8}"\}\n?\Z')
LINE_KEY = "crc32"


# --- Writing --------------------------------------------------------------------------------------


def sealed_json(text: str) -> str:
    """A JSON file's text with its checksum and its end.

    Args:
        text: of a mapping that is not empty and has no such key, as json.dumps gives it.
    """
    begun = text.removesuffix("}").rstrip("\n")
    return _filled(f'{begun},\n  "{KEY}": "{EMPTY}"\n}}\n')


def sealed_yaml(text: str) -> str:
    """A YAML file's text with its checksum."""
    return _filled(f"# checksum: {EMPTY}\n{text}")


def sealed_line(line: str) -> str:
    """A line of JSON, a mapping that is not empty, with its checksum and its end."""
    empty = f'{line.removesuffix("}")}, "crc32": "{"0" * 8}"}}'
    return f'{line.removesuffix("}")}, "crc32": "{zlib.crc32(empty.encode()):08x}"}}\n'


def _filled(text: str) -> str:
    digits = hashlib.sha256(text.encode()).hexdigest()
    return text.replace(EMPTY, f"{_MARK.decode()}{digits}", 1)


def seal(path: Path, suffix: str | None = None) -> None:
    """Put the checksum into a file that was written with EMPTY in its place; ``suffix`` is as of
    fault_of.
    """
    with path.open("r+b") as file:
        place = _place(file, suffix or path.suffix)
        if place is None:
            raise ValueError(f"{path}: has no place for a checksum")
        digits = _digest(file, place)
        file.seek(place)
        file.write(digits)


def seal_archive(path: Path) -> None:
    """Give a zip archive without a comment its checksum as the comment."""
    with path.open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(len(EMPTY).to_bytes(2, "little") + EMPTY.encode())
        place = file.tell() - _DIGITS
        digits = _digest(file, place)
        file.seek(place)
        file.write(digits)


# --- Reading --------------------------------------------------------------------------------------


def fault_of(path: Path, suffix: str | None = None) -> str | None:
    """What is wrong with a file by its checksum; None where it fits, or has none.

    Args:
        suffix: of its kind, where its name does not end in it.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        try:
            place = _place(file, suffix or path.suffix)
        except ValueError:
            return _HIDDEN
        if place is None:
            return None
        file.seek(place)
        return None if file.read(_DIGITS) == _digest(file, place) else CHANGED


def content_fault(content: bytes, suffix: str) -> str | None:
    """``fault_of`` of a text file's content."""
    found = list(_IN_TEXT[suffix].finditer(content))
    if not found:
        return _HIDDEN if _nearly(content) else None
    place = found[-1].start(1)
    zeros = content[:place] + b"0" * _DIGITS + content[place + _DIGITS :]
    return None if hashlib.sha256(zeros).hexdigest().encode() == found[-1][1] else CHANGED


def line_fault(line: bytes) -> str | None:
    """What is wrong with a line by its checksum; None where it fits, or has none."""
    body = line.removesuffix(b"\n")
    found = list(_LINE.finditer(body))
    if not found or found[-1].end() != len(body):
        return _HIDDEN if found or _NEARLY_A_LINE.search(body) else None
    at = found[-1].start(1)
    zeros = body[:at] + b"0" * 8 + body[at + 8 :]
    return None if f"{zlib.crc32(zeros):08x}".encode() == found[-1][1] else CHANGED


def whole_at_end(tail: bytes) -> bool:
    """Whether what stands after the last end of a line holds a whole line: a kill cuts a line, and
    leaves none.
    """
    return _LINE.search(tail) is not None


def _place(file: BinaryIO, suffix: str) -> int | None:
    """Where the digits stand; None where there are none. Raises ValueError where there were."""
    size = file.seek(0, os.SEEK_END)
    if suffix == ".pt":
        return _place_in_archive(file, size)
    begin, end = _region(file, suffix, size)
    file.seek(begin)
    region = file.read(end - begin)
    found = list(_IN_TEXT[suffix].finditer(region))
    if found:
        return begin + found[-1].start(1)
    if _nearly(region):
        raise ValueError(_HIDDEN)
    return None


def _region(file: BinaryIO, suffix: str, size: int) -> tuple[int, int]:
    """Where in a file of this kind the checksum may stand."""
    if suffix == ".safetensors":
        file.seek(0)
        return 8, 8 + min(int.from_bytes(file.read(8), "little"), size, _MOST_HEADER)
    if suffix == ".parquet":
        file.seek(max(0, size - 8))
        length = int.from_bytes(file.read(4), "little")
        return max(0, size - 8 - min(length, _MOST_HEADER)), max(0, size - 8)
    return 0, size


def _place_in_archive(file: BinaryIO, size: int) -> int | None:
    file.seek(max(0, size - _END_BYTES - len(EMPTY)))
    end = file.read()
    if end.startswith(_END) and end[_END_BYTES:].startswith(_MARK):
        return size - _DIGITS
    if end[-_END_BYTES:].startswith(_END) and end.endswith(b"\0\0"):
        return None  # of an earlier version
    raise ValueError(_HIDDEN)


def _nearly(content: bytes) -> bool:
    """Whether a checksum stands there that is damaged itself, or its key."""
    for found in re.finditer(_MARK, content):
        after = content[found.end() : found.end() + _DIGITS + 1]
        hexadecimal = [byte in b"0123456789abcdef" for byte in after]
        # "sha256: " before 64 digits is another program's, and the digits end one later.
        if sum(hexadecimal[:_DIGITS]) >= _DIGITS - 1 and not any(hexadecimal[_DIGITS:]):
            return True
    # Overlapping ones: a mark whose end became a digit begins seven bytes before its own digits.
    for found in re.finditer(rb"(?s)(?=(.{7})[0-9a-f]{64})", content):
        if sum(a == b for a, b in zip(found[1], _MARK, strict=True)) >= len(_MARK) - 1:
            return True
    return False


def _digest(file: BinaryIO, place: int) -> bytes:
    """The digits of a file, whatever stands in their place."""
    digest = hashlib.sha256()
    file.seek(0)
    for part in _parts(file, place):
        digest.update(part)
    digest.update(b"0" * _DIGITS)
    file.seek(place + _DIGITS)
    for part in _parts(file, None):
        digest.update(part)
    return digest.hexdigest().encode()


def _parts(file: BinaryIO, end: int | None) -> Iterator[bytes]:
    while part := file.read(_CHUNK if end is None else min(_CHUNK, end - file.tell())):
        yield part
