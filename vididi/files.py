"""Files that a user names. Pure Python."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFREG: "a regular file",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def check_regular(path: Path) -> Path:
    """``path`` itself if it is a regular file or a link to one: opening a pipe waits for its
    writer, and a device may have no end.

    Raises:
        OSError: it is something else or is not there; ``strerror`` says what.
    """
    try:
        mode = path.stat().st_mode
    except ValueError:
        raise OSError(errno.EINVAL, "a NUL character is in its name", repr(str(path))) from None
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"it is {kind_of(mode)}, not a regular file", str(path))
    return path


def kind_of(mode: int) -> str:
    """What a file mode (``st_mode``) is of, in words."""
    return _KINDS.get(stat.S_IFMT(mode), "no file")
