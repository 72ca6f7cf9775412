"""The keys of a sweep file, as dotted keys of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from vididi.config import ACCUMULATION, Closed, Component, Config, unknown_key
from vididi.dotted_keys import flatten
from vididi.errors import ConfigError
from vididi.words import written

SHORT_NAMES = {
    "order": "schedule.order",
    "mix": "schedule.mix",
    "selection": "schedule.selection",
    "reverse": "schedule.reverse",
    "framework": "objective.name",
    "backbone": "backbone.name",
}
# Values that a sweep gives by keys of its own.
SWEEP_KEYS = {"training.seed": "`seeds` (or --seeds)", "evaluation.protocols": "`evaluate`"}


def full_name(name: str) -> str:
    """The dotted configuration key that a key of a sweep file stands for."""
    return SHORT_NAMES.get(name, name)


def by_full_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values, nested or dotted, by dotted configuration key, unchecked."""
    return {full_name(name): value for name, value in flatten(values).items()}


def full_names(source: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Values by dotted configuration key, each key checked.

    Args:
        where: the part of the sweep file that they are from, for messages.

    Raises:
        ConfigError: a key is not one of the configuration, is given twice, or is for the sweep to
            set.
    """
    values: dict[str, Any] = {}
    keys = configuration_keys()
    for name, value in flatten(source).items():
        full = full_name(name)
        if full in SWEEP_KEYS:
            raise ConfigError(
                f"{where}: {name}: is what the sweep's {SWEEP_KEYS[full]} is for; set it there"
            )
        if inside := [key for key in keys if key.startswith(f"{full}.")]:
            hint = (
                f"did you mean '{full}.name'?"
                if f"{full}.name" in keys
                else f"give its values one by one: {', '.join(inside)}"
            )
            raise ConfigError(
                f"{where}: {name}: {written(value)} is not valid for a whole section; {hint}"
            )
        known = any(f"{full}.".startswith(f"{key.removesuffix('.*')}.") for key in keys)
        # Of keys in ACCUMULATION build_config says more.
        if not known and full.rpartition(".")[2] not in ACCUMULATION:
            of_arms = ["label", "resources"] if where.startswith("arm ") else []
            raise ConfigError(f"{where}: {unknown_key(name, [*of_arms, *SHORT_NAMES, *keys])}")
        if full in values:
            raise ConfigError(f"{where}: {full}: is given twice")
        values[full] = value
    return values


@cache
def configuration_keys() -> list[str]:
    """Every dotted key of the configuration; ``*`` stands for the options of a component."""
    keys = []
    for name, about in Config.model_fields.items():
        section = about.annotation
        assert isinstance(section, type)
        if issubclass(section, Component):
            keys += [f"{name}.name", f"{name}.*"]
        else:
            keys += _keys_of(section, f"{name}.")
    return keys


def _keys_of(section: type[Any], prefix: str) -> list[str]:
    parts = [(f"{prefix}{key}", about.annotation) for key, about in section.model_fields.items()]
    nested = [
        _keys_of(kind, f"{key}.") if isinstance(kind, type) and issubclass(kind, Closed) else [key]
        for key, kind in parts
    ]
    return [key for keys in nested for key in keys]
