"""Nested mappings as dotted keys, as sweep files and the command line write them, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vididi.errors import ConfigError
from vididi.values import DEPTH, cut


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings to dotted keys: {"training": {"epochs": 3}} -> {"training.epochs": 3}.

    Raises:
        ConfigError: a value is given twice, dotted and nested.
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        path = f"{prefix}{name}"
        # An empty mapping is a value: it must reach whoever checks it.
        entries = (
            flatten(value, f"{path}.") if isinstance(value, Mapping) and value else {path: value}
        )
        if twice := flat.keys() & entries.keys():
            raise ConfigError(f"{min(twice)}: is given twice")
        flat.update(entries)
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of flatten."""
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, name = path.split(".")
        if len(parents) >= DEPTH:
            raise ConfigError(
                f"{cut(path)}: has {len(parents)} dots; at most {DEPTH} levels are taken"
            )
        section = nested
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise ConfigError(f"{path}: {parent} is a value, not a section")
        section[name] = value
    return nested
