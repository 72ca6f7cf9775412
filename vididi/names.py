"""Names that become parts of paths: what they may be, and errors for those that are not. Pure
Python.

Two kinds. A *name* is what a user or a file calls something (a sweep, an arm, a source): letters,
digits, ``_``, ``.`` and ``-``. A *part* is what the program makes of names and values for one
folder or file (a cell's title): whatever a file system takes as one entry. Nothing is escaped: what
is not valid is refused, so that a name on disk is the name that was written.
"""

from __future__ import annotations

import re

from vididi.errors import ConfigError, VididiError

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
NAME_RULE = "letters, digits, _ . and -, beginning with a letter or a digit"
MOST_BYTES = 255  # of one entry of a folder, on the file systems of Linux and macOS


def check_name(name: object, what: str, error: type[VididiError] = ConfigError) -> str:
    """The name, if it is letters, digits, ``_``, ``.`` and ``-``, begins with a letter or a digit,
    and is not too long.

    Args:
        what: field or file, with which the message begins.
        error: raised if it is not; a subclass of DataError where a file says the name.
    """
    if not isinstance(name, str) or not re.fullmatch(NAME[1:-1], name):
        raise error(f"{what}: {_shortened(name)} is not valid; it must be {NAME_RULE}")
    return check_part(name, what, error)


def check_part(part: str, what: str, error: type[VididiError] = ConfigError) -> str:
    """``part``, if it can be one entry of a folder: not empty, ``.`` or ``..``, without ``/`` and
    control characters, and not too long.
    """
    if part in ("", ".", "..") or re.search(r"[/\x00-\x1f\x7f\ud800-\udfff]", part):
        raise error(
            f"{what}: {_shortened(part)} is not valid; it must be the name of one folder or file,"
            " without / or control characters"
        )
    size = len(part.encode())
    if size > MOST_BYTES:
        raise error(
            f"{what}: {_shortened(part)} is not valid; it has {size} bytes, and a folder's or"
            f" file's name at most {MOST_BYTES}"
        )
    return part


def check_inside(path: str, what: str, error: type[VididiError] = ConfigError) -> str:
    """``path``, if it is a relative one of parts, so that it leads to a place below the folder that
    it is joined to.
    """
    for part in path.split("/"):
        check_part(part, what if part == path else f"{what}: {_shortened(path)}", error)
    return path


def _shortened(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"
