"""Files that come with the program, in a checkout or in an installed package: sweep files and the
papers' tables.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def shipped_folder(name: str, of_repository: str) -> Path:
    """A folder of them: vididi/share/``name`` of a wheel, else ``of_repository`` of the checkout
    that the package lies in.
    """
    installed = _PACKAGE / "share" / name
    return installed if installed.is_dir() else _PACKAGE.parent / of_repository


SWEEPS = shipped_folder("sweeps", "sweeps")
PAPERS = shipped_folder("papers", "analysis/papers")
