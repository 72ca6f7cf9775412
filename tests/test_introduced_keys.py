"""Every key of which names are made was always there, or is declared with its introduction value
(vididi/introduced.py).

frozen_keys.json lists those that were always there. Entries that are new (an objective, a protocol)
bring keys of their own, which rename nothing; once they are in use they are listed by

    python tests/test_introduced_keys.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from made_up_options import with_option
from pydantic import BaseModel, Field, TypeAdapter
from pydantic.fields import FieldInfo

from vididi.components import COMPONENTS, options_model
from vididi.config import ON_THE_WAY, Config, ScheduleConfig
from vididi.introduced import (
    INTRODUCED,
    Introduced,
    introduced_options,
    introduction,
    is_component,
    sections_of,
)
from vididi.protocols import PROTOCOLS, FeatureSettings, settings_model
from vididi.search import Search
from vididi.study_names import SEARCH_IN_STUDY

FILE = Path(__file__).with_name("frozen_keys.json")
ADVICE = (
    "is new, and would give everything that is finished another name: say what the program did"
    " before it, for a field `Annotated[KIND, Introduced(VALUE)]` where it is declared, for an"
    " option a line of INTRODUCED in vididi/introduced.py (docs/adding.md, A field or an option)"
)


def field_keys(model: type[BaseModel], prefix: str = "") -> dict[str, bool]:
    """The keys of a model, and whether each came later."""
    keys: dict[str, bool] = {}
    for name, field in model.model_fields.items():
        later, inner = introduction(field) is not None, sections_of(field.annotation)
        if inner and not is_component(inner[0]):
            keys |= field_keys(inner[0], f"{prefix}{name}.")
        else:
            keys[f"{prefix}{name}.name" if inner else f"{prefix}{name}"] = later
    return keys


def keys_of_names() -> dict[str, dict[str, bool]]:
    """All keys of which names are made, and whether each came later, by where they belong; entries
    have brackets.
    """
    way = tuple(map(".".join, ON_THE_WAY))
    search = field_keys(Search)
    keys = {
        "config": {
            key: later for key, later in field_keys(Config).items() if not key.startswith(way)
        },
        "search": {
            key: later for key, later in search.items() if key.partition(".")[0] in SEARCH_IN_STUDY
        },
    }
    keys |= {
        f"evaluate[{protocol}]": field_keys(settings_model(protocol)) for protocol in PROTOCOLS
    }
    for section, entries in COMPONENTS.items():
        for entry, make in entries.items():
            late = introduced_options(section, entry)
            keys[f"{section}[{entry}]"] = {
                option: option in late for option in options_model(make).model_fields
            }
    return keys


def frozen() -> dict[str, list[str]]:
    return json.loads(FILE.read_text())["keys"]


def faults() -> list[str]:
    """What is wrong with the keys of names, a line each."""
    found, known = [], frozen()
    now = keys_of_names()
    for place, keys in now.items():
        if place not in known and "[" in place:
            continue  # an entry that is new: nothing was named by its options yet
        for key, later in keys.items():
            if later and key in known.get(place, []):
                found.append(f"{place} {key}: was always there, so it has no introduction value")
            elif not later and key not in known.get(place, []):
                found.append(f"{place} {key}: {ADVICE}")
    gone = [
        f"{place} {key}"
        for place, keys in known.items()
        for key in keys
        if key not in now.get(place, {})
    ]
    found += [
        f"{key}: is not there any more, so what it named has other names; where that is meant, take"
        f" it out of {FILE.name}"
        for key in gone
    ]
    return found + [
        f"INTRODUCED {key}: names no option" for key in INTRODUCED if not options_named(key)
    ]


def options_named(key: str) -> list[Any]:
    """The options that a key of INTRODUCED names: of every entry of its section, or of one."""
    head, _, option = key.rpartition(".")
    section, bracket, rest = head.partition("[")
    entries = COMPONENTS.get(section, {})
    wanted = [rest.removesuffix("]")] if bracket else list(entries)
    found = [
        options_model(entries[entry]).model_fields.get(option)
        for entry in wanted
        if entry in entries
    ]
    return found if None not in found else []


def test_every_key_of_a_name_was_always_there_or_is_declared_as_introduced() -> None:
    assert faults() == []


def marks() -> Iterator[tuple[str, Introduced, FieldInfo]]:
    """Every declaration, with the field or option that it is of."""
    yield from (
        (key, late, field) for key, late in INTRODUCED.items() for field in options_named(key)
    )
    models: list[type[BaseModel]] = [Config, Search, *map(settings_model, PROTOCOLS)]
    for model in models:
        models += [
            inner
            for field in model.model_fields.values()
            for inner in sections_of(field.annotation)
            if inner not in models
        ]
        yield from (
            (name, late, field)
            for name, field in model.model_fields.items()
            if (late := introduction(field))
        )


def test_introduction_values_are_values_of_their_keys() -> None:
    for key, late, field in marks():
        kind: Any = Annotated[field.annotation, field]
        for value in (late.value, *late.same):
            TypeAdapter(kind).validate_python(value), key


def test_who_adds_a_field_and_forgets_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = ScheduleConfig.model_fields
    monkeypatch.setitem(fields, "made_up", FieldInfo(annotation=int, default=0))
    assert faults() == [f"config schedule.made_up: {ADVICE}"]
    monkeypatch.setitem(
        fields,
        "made_up",
        FieldInfo.from_annotated_attribute(Annotated[int, Introduced(0)], Field(0, ge=0)),
    )
    assert faults() == []


@pytest.mark.parametrize("section", ["data", "optimiser"])
def test_who_adds_an_option_and_forgets_is_told_what_to_do(
    section: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"data": "motion", "optimiser": "sgd"}[section]
    new = with_option(COMPONENTS[section][entry], "made_up", int, 0)
    monkeypatch.setitem(COMPONENTS[section], entry, new)  # type: ignore[arg-type]
    assert faults() == [f"{section}[{entry}] made_up: {ADVICE}"]
    monkeypatch.setitem(INTRODUCED, f"{section}[{entry}].made_up", Introduced(0))
    assert faults() == []
    monkeypatch.setitem(COMPONENTS[section], "another", new)  # type: ignore[arg-type]
    assert faults() == []


def test_who_adds_a_setting_of_a_protocol_and_forgets_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(
        FeatureSettings.model_fields, "made_up", FieldInfo(annotation=int, default=0)
    )
    assert faults() == [
        f"evaluate[{protocol}] made_up: {ADVICE}" for protocol in ("silhouette", "dynamics")
    ]


@pytest.mark.parametrize(
    "key",
    [
        "schedule.made_up",
        "backbone.made_up",
        "backbone[r3d_19].weights_key",
        "optimiser.momentum",
        "made_up",
    ],
)
def test_a_declaration_that_names_nothing_is_a_fault(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(INTRODUCED, key, Introduced(0))
    assert f"INTRODUCED {key}: names no option" in faults()


def test_a_key_that_was_always_there_has_no_introduction_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(INTRODUCED, "optimiser[sgd].momentum", Introduced(0.9))
    assert faults() == [
        "optimiser[sgd] momentum: was always there, so it has no introduction value"
    ]


def test_a_key_that_is_gone_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not delitem, whose undoing would put the key last, for every test after this one.
    rest = {name: field for name, field in ScheduleConfig.model_fields.items() if name != "reverse"}
    monkeypatch.setattr(ScheduleConfig, "__pydantic_fields__", rest)
    (fault,) = faults()
    assert fault.startswith("config schedule.reverse: is not there any more")


def write_keys() -> None:
    """Add the entries that are not listed yet to frozen_keys.json; what is there stays."""
    known = frozen() if FILE.is_file() else {}
    for place, keys in keys_of_names().items():
        if not FILE.is_file() or "[" in place:
            known.setdefault(place, [key for key, later in keys.items() if not later])
    about = (
        "Keys of which names are made and that were always there, see test_introduced_keys.py,"
        " which adds new entries to this file"
    )
    FILE.write_text(json.dumps({"about": about, "keys": known}, indent=1) + "\n")


if __name__ == "__main__":
    write_keys()
