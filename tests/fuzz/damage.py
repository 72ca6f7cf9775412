"""Files changed at random, by a seed: what a flaky disk, a bad transfer, a slip or somebody hostile
makes of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import cast

import numpy as np

Rng = np.random.Generator
# Words that ask much of whoever reads them.
NASTY = [
    b"-1", b"0", b"1e999", b"-0.0", b"nan", b"inf", b"9" * 30, b"0x10", b"1e-400", b"true", b"null", b"~", b"''",
    b"../../etc/passwd", b"/dev/zero", b"a" * 3000, b"\xff\xfe", b"\x00", "é\u202e".encode(), b"{}", b"[]", b"[[]]",
    b"[" * 200, b"{a: " * 200, b"&a [*a]", b"*a", b"!!python/object/apply:os.system ['true']", b"!!binary aGk=", b"<<: {x: 1}",
    b"$(touch pwned)", b"%s%n", b'"', b"'", b"\\", b"#", b"- ", b"\n\n", b"\r", b"\t", b",,,,", b"2026-11-29", b"1:30", b"1_000",
]  # fmt: skip


def flip_a_bit(content: bytes, rng: Rng) -> bytes:
    changed = bytearray(content)
    changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def cut(content: bytes, rng: Rng) -> bytes:
    return content[: rng.integers(len(content))]


def lose_a_part(content: bytes, rng: Rng) -> bytes:
    begin, end = sorted(rng.integers(0, len(content) + 1, 2))
    return content[:begin] + content[end:]


def repeat_a_part(content: bytes, rng: Rng) -> bytes:
    begin, end = sorted(rng.integers(0, len(content) + 1, 2))
    return content[:end] + content[begin:end] + content[end:]


def zero_a_part(content: bytes, rng: Rng) -> bytes:
    begin, end = sorted(rng.integers(0, len(content) + 1, 2))
    return content[:begin] + bytes(end - begin) + content[end:]


def noise(content: bytes, rng: Rng) -> bytes:
    changed = bytearray(content)
    places = rng.integers(0, len(changed), 1 + int(rng.integers(20)))
    for place in places:
        changed[place] = int(rng.integers(256))
    return bytes(changed)


def lengthen(content: bytes, rng: Rng) -> bytes:
    return content + rng.bytes(int(rng.integers(1, 4096)))


def change_a_word(content: bytes, rng: Rng) -> bytes:
    words = [*re.finditer(rb"[^\s:,{}\[\]\"']+", content)]
    if not words:
        return flip_a_bit(content, rng)
    word = words[rng.integers(len(words))]
    put = NASTY[rng.integers(len(NASTY))]
    return content[: word.start()] + put + content[word.end() :]


def exchange_lines(content: bytes, rng: Rng) -> bytes:
    lines = content.splitlines(keepends=True)
    one, other = rng.integers(0, len(lines), 2)
    lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)


def drop_a_line(content: bytes, rng: Rng) -> bytes:
    lines = content.splitlines(keepends=True)
    del lines[rng.integers(len(lines))]
    return b"".join(lines)


Damage = Callable[[bytes, Rng], bytes]
OF_BYTES: list[Damage] = [
    flip_a_bit, cut, lose_a_part, repeat_a_part, zero_a_part, noise, lengthen,
]  # fmt: skip
OF_TEXT: list[Damage] = [change_a_word, change_a_word, change_a_word, exchange_lines, drop_a_line]


def damaged(content: bytes, rng: Rng, text: bool) -> bytes:
    """The content with one to three changes."""
    kinds = [*OF_BYTES, *OF_TEXT, *OF_TEXT] if text else OF_BYTES
    for _ in range(1 + int(rng.integers(3))):
        if content:
            content = cast(Damage, kinds[rng.integers(len(kinds))])(content, rng)
    return content
