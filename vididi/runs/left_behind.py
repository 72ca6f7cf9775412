"""What processes that were killed have left, removed by those that come after them."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from vididi.runs.file_names import STOPPED

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<pid>[0-9]+)")  # as vididi.runs.run_folder.replacing
_LOCK = ".lock"
# A driver writes stopped.json without the folder's lock, and may be on another machine.
UNLOCKED_S = 60.0


def remove_temporaries(folder: Path) -> None:
    """Remove files ``.NAME.PID`` of processes that are gone, in a folder whose lock is held."""
    for path in folder.glob(".*"):
        found = _TEMPORARY.fullmatch(path.name)
        if found is None or Path(f"/proc/{found['pid']}").exists():
            continue
        with suppress(OSError):
            written = path.lstat()
            if found["name"] == STOPPED and time.time() - written.st_mtime < UNLOCKED_S:
                continue
            if path.is_file() and written.st_uid == os.getuid():
                path.unlink()


@contextmanager
def passing_folder(place: Path) -> Iterator[None]:
    """Let a folder be this process's, and remove it at the end. Those beside it that were such a
    one's are removed first, if their process is gone and was this user's.

    Each has a file beside it, NAME.lock, that its process holds a lock on for as long as it lives.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    _remove_passed(place.parent)
    lock = place.with_name(place.name + _LOCK)
    held = _new_lock(lock)
    try:
        yield
    finally:
        shutil.rmtree(place, ignore_errors=True)
        lock.unlink(missing_ok=True)
        held.close()


def _remove_passed(parent: Path) -> None:
    for lock in parent.glob(f"*{_LOCK}"):
        with suppress(OSError):
            if lock.is_symlink() or lock.stat().st_uid != os.getuid():
                continue
            with lock.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.with_name(lock.name.removesuffix(_LOCK)), ignore_errors=True)
                lock.unlink(missing_ok=True)


def _new_lock(path: Path) -> IO[str]:
    """The file, which is locked and still there; one that was just made may have been removed."""
    while True:
        file = path.open("w")
        with suppress(OSError):  # file systems without locks: nobody removes anything there
            fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
            return file
        file.close()
