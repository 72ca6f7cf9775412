"""Disks that are full, read-only or somebody else's: errors that name the place and say what to do,
whichever library wrote there.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vididi.errors import ResourceError
from vididi.words import size_text

# What is to be done about a file or folder that the system refuses.
ADVICE = {
    errno.EACCES: "give a place that you may read and write, or change its permissions",
    errno.EPERM: "give a place that you may read and write, or change its permissions",
    errno.EROFS: "the file system is read-only; give a folder that can be written",
    errno.ENOSPC: "the disk is full; free some space, and give the same command again",
    errno.EDQUOT: "the quota is used up; free some space, and give the same command again",
    errno.EEXIST: "a file is where a folder is needed; give another path",
    errno.ENOTDIR: "a file is where a folder is needed; give another path",
    errno.EISDIR: "a folder is where a file is needed; give the path of a file",
    errno.ENAMETOOLONG: "give a shorter name",
}
# What a disk says while it is written to, and not because of how a file is called.
OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
# Free on a disk that counts as full where torch's writer (inline_container.cc) fails: it does not
# say why.
FULL_BYTES = 1 << 16


@contextmanager
def writing_to(place: Path) -> Iterator[None]:
    """Name the place in what a disk refuses.

    Arrow, torch and safetensors write too; their errors name no file, and torch's no reason either.

    Args:
        place: the file that is written, or the folder that all of them are in.

    Raises:
        OSError: with number and file name, where the disk of ``place`` was full or read-only.
    """
    try:
        yield
    except Exception as error:
        number = _number_of(error, place)
        if number is None or getattr(error, "filename", None) is not None:
            raise
        raise OSError(number, os.strerror(number), str(place)) from error


def check_room(folder: Path, needed: int, what: str) -> None:
    """Refuse work that a disk has no room for, before it begins.

    Args:
        folder: that is written to; needed: bytes, at least; what: needs them, with a verb.

    Raises:
        ResourceError: there are fewer free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ResourceError(
            f"runs: {folder} has {size_text(free)} free, and {what} {size_text(needed)} at"
            " least; free some space, or give --runs a folder that has it"
        )


def _number_of(error: Exception, place: Path) -> int | None:
    """The system's number of what a disk refused; None of any other error."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if error.errno in OF_DISKS else None
    for number in OF_DISKS:
        if os.strerror(number) in str(error):
            return number
    of_torch = isinstance(error, RuntimeError) and "inline_container" in str(error)
    return errno.ENOSPC if of_torch and is_full(place) else None


def is_full(place: Path) -> bool:
    """Whether the disk of a file or folder has no room for anything that is worth its name."""
    with suppress(OSError):
        return shutil.disk_usage(place if place.is_dir() else place.parent).free < FULL_BYTES
    return False


def refusal(error: OSError) -> str:
    """What the system refuses, where that is known, and what to do, in a sentence."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    advice = ADVICE.get(error.errno or 0, "give a path that is there")
    place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    return f"{place}{reason}; {advice}"
