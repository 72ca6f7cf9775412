"""Sweep files by name: what a user has comes first, then what vididi ships."""

from __future__ import annotations

from pathlib import Path

from vididi.shipped import SWEEPS


def sweep_file(given: Path, shipped: Path = SWEEPS) -> tuple[Path, str]:
    """The file that is meant, and a remark on which one it is where that could be mistaken.

    Args:
        given: a path, or the name of a shipped file, such as ``ablation`` or
            ``paper/vididi_table_2.yaml``.
    """
    ours = _shipped(given, shipped)
    if _is_there(given):
        other = (
            f"sweep file: {given}; {ours} has this name too"
            if ours and not given.samefile(ours)
            else ""
        )
        return given, other
    return (
        (ours, f"sweep file: {ours}, as shipped; there is no {given} here") if ours else (given, "")
    )


def _shipped(given: Path, shipped: Path) -> Path | None:
    if given.is_absolute() or ".." in given.parts:
        return None
    name = given.relative_to("sweeps") if given.parts[:1] == ("sweeps",) else given
    for path in (shipped / name, shipped / f"{name}.yaml"):
        if path.suffix == ".yaml" and _is_there(path):
            return path
    return None


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # such as a name that is too long, or a folder that must not be looked into
        return False
