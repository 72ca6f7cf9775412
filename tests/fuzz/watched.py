"""What reading a file must not do: start a program, or write anywhere but where it may.

Python tells audit hooks of it. A hook stays for the life of a process, so it looks only while asked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STARTS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "pty.spawn",
    "subprocess.Popen",
)
CHANGES = (
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.chmod",
    "os.link",
    "os.symlink",
    "shutil.rmtree",
)

_allowed: list[str] | None = None
_seen: list[str] = []


def _inside(path: Any) -> bool:
    assert _allowed is not None
    try:
        place = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  (links stay as they are)
    except TypeError:  # a descriptor that is open already
        return True
    return any(place == folder or place.startswith(f"{folder}/") for folder in _allowed)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _allowed is None:
        return
    if event in STARTS:
        _seen.append(f"{event} {arguments[:2]}")
    elif event == "open":
        path, mode, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes and path is not None and not _inside(path):
            _seen.append(f"open {path!r} {mode}")
    elif event in CHANGES and not _inside(arguments[0]):
        _seen.append(f"{event} {arguments[0]!r}")


sys.addaudithook(_hook)


@contextmanager
def watched(*allowed: Path) -> Iterator[list[str]]:
    """The list of what was done meanwhile that must not be done; files below ``allowed`` may be
    written.
    """
    global _allowed
    _seen.clear()
    _allowed = [*(str(folder.resolve()) for folder in allowed), "/dev/null"]
    try:
        yield _seen
    finally:
        _allowed = None
