"""Sweep files by name: what a user has comes first, then what vididi ships."""

from __future__ import annotations

from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from vididi.shipped import SWEEPS


def sweep_file(requested: Path, shipped: Path = SWEEPS) -> tuple[Path, str]:
    """The file that is meant, and a remark on which one it is where that could be mistaken.

    Args:
        given: a path, or the name of a shipped file, such as ``ablation`` or
            ``paper/vididi_table_2.yaml``.
    """
    ours = _shipped(requested, shipped)
    if _exists(requested):
        other = (
            f"sweep file: {requested}; {ours} has this name too"
            if ours and not requested.samefile(ours)
            else ""
        )
        return requested, other
    return (
        (ours, f"sweep file: {ours}, as shipped; there is no {requested} here")
        if ours
        else (requested, "")
    )


def near_files(requested: Path, shipped: Path = SWEEPS) -> list[str]:
    """What a name of which there is no sweep file may mean: files beside it, and shipped ones."""
    with suppress(OSError, ValueError):
        here = [str(path) for path in requested.parent.glob("*.yaml")]
        names = [path.relative_to(shipped).with_suffix("") for path in shipped.rglob("*.yaml")]
        return get_close_matches(str(requested), [*here, *map(str, names)], cutoff=0.7)
    return []


def _shipped(requested: Path, shipped: Path) -> Path | None:
    if requested.is_absolute() or ".." in requested.parts:
        return None
    name = requested.relative_to("sweeps") if requested.parts[:1] == ("sweeps",) else requested
    for path in (shipped / name, shipped / f"{name}.yaml"):
        if path.suffix == ".yaml" and _exists(path):
            return path
    return None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # such as a name that is too long, or a folder that must not be looked into
        return False
