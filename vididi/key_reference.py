"""Every key that a user can write, with what it means: what docs/reference is made from.

A key's meaning stands where the key is declared: in a field's description, or in a line ``name:
meaning`` of the docstring of the model, function or class whose parameter it is. ``name: see
other`` is the line that ``other``, a function or class which the same file knows, has for it. A
meaning may have a unit in brackets, one of UNITS, and what it is from in parentheses: ``height
[pixels] (ViDiDi E.1)``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from vididi.backbones.norm_by_order import with_norm
from vididi.backbones.weights import with_weights
from vididi.cell_resources import Resources
from vididi.components import COMPONENTS, options_model
from vididi.config import Component, Config, OnlineConfig, ScheduleConfig
from vididi.introduced import sections_of
from vididi.pairing import Schedule
from vididi.protocols import EVALUATIONS, EvaluationEntry
from vididi.search import Confirm, Dimension, Search, Stopping
from vididi.sweep import Arm, Sweep
from vididi.words import written

UNITS = (
    "pixels",
    "pixels a frame",
    "frames",
    "videos",
    "channels",
    "features",
    "epochs",
    "seconds",
    "GiB",
    "turns",
    "levels",
)
_UNIT = re.compile(rf" ?\[({'|'.join(UNITS)})\]")
_SOURCE = re.compile(r" ?\(((?:ViDiDi|CVRL|CORP)\b[^()]*)\)")
_LINE = re.compile(r"( *)(\w+(?:, \w+)*): (.+)")
_SEE = re.compile(r"see (\w+)\.?")
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}
_SPOKEN = {"integer": "whole number", "boolean": "true or false", "string": "text"}
_MARKED = {"boolean": "`true`, `false`", "null": "`null`", "string": "text"}

# Where else the lines of a model's fields, or of options that all entries of a section have, stand.
_ELSEWHERE: dict[Any, tuple[Callable, ...]] = {
    ScheduleConfig: (Schedule,),
    "backbone": (with_weights, with_norm),
}


@dataclass(frozen=True)
class Key:
    """One key: what may be written, what is taken where it is left out, and what it means."""

    name: str
    schema: Mapping[str, Any]  # of its values, as JSON schema
    default: Any
    required: bool
    meaning: str
    unit: str
    source: str


@dataclass(frozen=True)
class KeyTable:
    """The keys of a section, or of one entry of a component's section."""

    title: str
    about: str
    keys: tuple[Key, ...]


def documented_lines(thing: Any) -> dict[str, str]:
    """The meanings in a docstring's ``name: meaning`` lines, by name; more indented lines go on."""
    meanings: dict[str, str] = {}
    names: list[str] = []
    depth = 0
    for line in (inspect.getdoc(thing) or "").splitlines():
        indent = len(line) - len(line.lstrip())
        if names and line.strip() and indent > depth:
            for name in names:
                meanings[name] += f" {line.strip()}"
        elif found := _LINE.fullmatch(line):
            depth, names = indent, found[2].split(", ")
            meanings |= dict.fromkeys(names, found[3])
        else:
            names = []
    return meanings


def _followed(thing: Any, name: str, meaning: str) -> str:
    """The meaning itself, or that of whom ``see other`` names."""
    if not (found := _SEE.fullmatch(meaning)):
        return meaning
    names = inspect.unwrap(thing).__globals__
    return documented_lines(names[found[1]]).get(name, "")


def _key(name: str, field: FieldInfo, schema: Mapping[str, Any], text: str) -> Key:
    units, sources = _UNIT.findall(text), _SOURCE.findall(text)
    meaning = _SOURCE.sub("", _UNIT.sub("", text)).replace("``", "`").strip().removesuffix(".")
    return Key(
        name,
        {word: value for word, value in schema.items() if word not in ("title", "default")},
        field.get_default(),
        field.is_required(),
        meaning,
        units[0] if units else "",
        "; ".join(sources),
    )


def model_keys(model: type[BaseModel]) -> tuple[Key, ...]:
    """The fields of a model but for sections that say for themselves what they are."""
    known = {
        name: text
        for thing in (model, *_ELSEWHERE.get(model, ()))
        for name, text in documented_lines(thing).items()
    }
    schemas = model.model_json_schema()["properties"]
    return tuple(
        _key(name, field, schemas[name], field.description or known.get(name, ""))
        for name, field in model.model_fields.items()
        if field.description or not (model is Config or _is_section(field))
    )


def _is_section(field: FieldInfo) -> bool:
    kind = field.annotation
    return (
        isinstance(kind, type) and issubclass(kind, BaseModel) and not issubclass(kind, Component)
    )


def entry_keys(section: str, name: str) -> tuple[Key, ...]:
    """The options of an entry of a component's section, such as ``objective``, ``vicreg``."""
    entry = COMPONENTS[section][name]
    model = options_model(entry)
    schemas = model.model_json_schema().get("properties", {})
    lines: dict[str, str] = {}
    for thing in (*_ELSEWHERE.get(section, ()), entry):
        lines |= {
            option: _followed(thing, option, text)
            for option, text in documented_lines(thing).items()
            if option in model.model_fields
        }
    return tuple(
        _key(option, field, schemas[option], lines.get(option, ""))
        for option, field in model.model_fields.items()
    )


def key_tables() -> Iterator[KeyTable]:
    """Every key, section by section: of a sweep file, of the configuration, of components and of
    evaluations.
    """
    for title, model in (
        ("sweep file", Sweep),
        ("arms.NAME", Arm),
        ("resources", Resources),
        ("search", Search),
        ("search.space.KEY", Dimension),
        ("search.confirm", Confirm),
        ("stopping", Stopping),
    ):
        yield KeyTable(title, _first_paragraph(model), model_keys(model))
    yield from configuration_tables()
    for section, entries in COMPONENTS.items():
        for name, entry in entries.items():
            yield KeyTable(f"{section}: {name}", _first_paragraph(entry), entry_keys(section, name))
    entry_model = EvaluationEntry
    yield KeyTable("evaluate[]", _first_paragraph(entry_model), model_keys(entry_model))
    for name, protocol in EVALUATIONS.items():
        yield KeyTable(f"settings: {name}", protocol.help, model_keys(protocol.settings))


def configuration_tables() -> Iterator[KeyTable]:
    """The sections of the configuration that are no components."""
    for name, field in Config.model_fields.items():
        for model in sections_of(field.annotation):
            if not issubclass(model, Component):
                yield KeyTable(name, _first_paragraph(model), model_keys(model))
    yield KeyTable("evaluation.online", _first_paragraph(OnlineConfig), model_keys(OnlineConfig))


def _first_paragraph(thing: Any) -> str:
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


def schema_words(schema: Mapping[str, Any], markdown: bool = False) -> str:
    """The values that a JSON schema allows, in words.

    Args:
        markdown: as a page's table has them, ``integer at least 1, at most 100``, values marked as
            code; else as a sentence, ``whole number of at least 1 and at most 100``.
    """

    def words(part: Mapping[str, Any]) -> str:
        return schema_words(part, markdown)

    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(words, schema["anyOf"])))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        if markdown:
            return ", ".join(f"`{value}`" for value in values)
        return f"one of {', '.join(map(written, values))}"
    if "$ref" in schema:
        return "section"
    if "prefixItems" in schema:
        return f"[{', '.join(map(words, schema['prefixItems']))}]"
    if schema.get("type") == "array":
        return f"list of {words(schema['items'])}" if schema.get("items") else "list"
    kind = "path" if schema.get("format") == "path" else schema.get("type", "any value")
    names = {"object": "mapping", **(_MARKED if markdown else _SPOKEN)}
    return f"{names.get(kind, kind)} {_bounds_words(schema, markdown)}".rstrip()


def _bounds_words(schema: Mapping[str, Any], markdown: bool) -> str:
    """``at least 1, at most 1,000``, or as a sentence ``of at least 1 and at most 1000``."""
    bounds = [(word, schema[bound]) for bound, word in _BOUNDS.items() if bound in schema]
    if markdown:
        return ", ".join(f"{word} {value:,}" for word, value in bounds)
    of = "of " if "minimum" in schema else ""
    return of + " and ".join(f"{word} {value}" for word, value in bounds)
