"""A sweep file as JSON schema, for editors: keys are completed, and misspelt ones underlined.

A configuration value may be written nested, dotted or in between (``training: {epochs: 3}``,
``training.epochs: 3``), so each section has a property for every dotted key within it. A component
is one of its entries by ``name``; without one, in an arm say, it is options of any entry. What a
schema cannot say, such as which axes go together, is left to the program.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from vididi.cell_resources import Resources
from vididi.components import COMPONENTS
from vididi.config import DEFAULT, Component, Config
from vididi.introduced import sections_of
from vididi.key_reference import Key, entry_keys, model_keys
from vididi.protocols import EVALUATIONS, EvaluationEntry
from vididi.search import Confirm, Dimension, Search, Stopping
from vididi.sweep import Arm, Sweep
from vididi.sweep_keys import SHORT_NAMES, SWEEP_KEYS

Schema = dict[str, Any]
_POINTER = "#/$defs/"
_WEIGHT: Schema = {"type": "number", "minimum": 0}


def sweep_schema() -> Schema:
    """The schema of a sweep file (JSON schema, draft 2020-12)."""
    values = {**_properties(Config, ""), **_of_whole_run()}
    leaves = {name: values[name] for name in values if not _is_mapping(values[name])}
    definitions = {
        **{f"component.{kind}": _component(kind) for kind in COMPONENTS},
        **{f"options.{kind}": _closed(_any_options(kind)) for kind in COMPONENTS},
        **{
            protocol.settings.__name__: _closed(_properties(protocol.settings, "settings."))
            for protocol in EVALUATIONS.values()
        },
        "values": _closed(values) | _weights_one_by_one(_WEIGHT),
        "resources": _model(Resources),
        "dimension": _dimension(leaves),
    }
    properties = _keys(model_keys(Sweep)) | {
        "base": _ref("values"),
        "arms": {
            "type": "object",
            "additionalProperties": _closed({**_pointed(values), **_of_an_arm()})
            | _weights_one_by_one(_WEIGHT),
        },
        "axes": _closed(
            {
                name: {"type": "array", "minItems": 1, "items": place}
                for name, place in _pointed(leaves).items()
            }
        )
        | _weights_one_by_one({"type": "array", "minItems": 1, "items": _WEIGHT}),
        "exclude": {
            "type": "array",
            "items": _closed(
                {
                    name: {"anyOf": [place, {"type": "array", "items": place}]}
                    for name, place in _pointed(leaves).items()
                }
            )
            | _weights_one_by_one({"anyOf": [_WEIGHT, {"type": "array", "items": _WEIGHT}]}),
        },
        "search": _search(leaves),
        "stopping": _model(Stopping),
        "evaluate": {"type": "array", "items": _evaluation()},
        "resources": _ref("resources"),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "vididi sweep",
        **_closed(properties, ["name"]),
        "$defs": definitions,
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"{_POINTER}{name}"}


def _closed(properties: Mapping[str, Any], required: list[str] | None = None) -> Schema:
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": required} if required else {})


def _is_mapping(schema: Schema) -> bool:
    """Whether a property is a whole section, of which no axis can be made."""
    return "properties" in schema or schema.get("$ref", "").startswith(f"{_POINTER}component.")


def _pointed(values: Mapping[str, Any]) -> dict[str, Schema]:
    """Each property by reference to where the values are defined."""
    return {name: _ref(f"values/properties/{name}") for name in values}


def _described(key: Key) -> Schema:
    """A key's schema with its meaning, unit and source as an editor shows them."""
    unit = f" [{key.unit}]" if key.unit else ""
    source = f" ({key.source})" if key.source else ""
    return {**key.schema, "description": f"{key.meaning}{unit}{source}"}


def _keys(keys: tuple[Key, ...]) -> dict[str, Schema]:
    return {key.name: _described(key) for key in keys}


def _model(model: type[BaseModel]) -> Schema:
    required = [key.name for key in model_keys(model) if key.required]
    return _closed(_keys(model_keys(model)), required)


def _properties(model: type[BaseModel], prefix: str) -> dict[str, Schema]:
    """Properties of a section: its own keys and, dotted, those of the sections in it.

    Args:
        prefix: where it lies in the configuration, to leave out what a sweep has keys of its own
            for.
    """
    own = {key.name: _described(key) for key in model_keys(model)}
    properties: dict[str, Schema] = {}
    for name, field in model.model_fields.items():
        inner = sections_of(field.annotation)
        if inner and issubclass(inner[0], Component):
            properties |= {name: _ref(f"component.{name}"), **_options(name)}
        elif inner:
            nested = _properties(inner[0], f"{prefix}{name}.")
            properties[name] = _closed(nested)
            properties |= {f"{name}.{key}": schema for key, schema in nested.items()}
        elif f"{prefix}{name}" not in SWEEP_KEYS:
            properties[name] = own[name]
    return properties


def _of_whole_run() -> dict[str, Schema]:
    """The short names of a sweep file."""
    schemas = _properties(Config, "")
    short = {name: schemas[full] for name, full in SHORT_NAMES.items()}
    return short | {"backbone": {"anyOf": [short["backbone"], _ref("component.backbone")]}}


def _weights_one_by_one(schema: Schema) -> Schema:
    """Weights of pairs by dotted keys, such as ``schedule.weights.1-0``."""
    return {"patternProperties": {r"^schedule\.weights\.\d-\d$": schema}}


def _options(kind: str) -> dict[str, Schema]:
    """A component's name and the options of all its entries, dotted."""
    options = _any_options(kind)
    return {f"{kind}.name": _names(kind)} | {
        f"{kind}.{name}": _ref(f"options.{kind}/properties/{name}") for name in options
    }


def _names(kind: str) -> Schema:
    open_ones = [DEFAULT] if kind in ("sampling", "augment") else []
    return {"enum": [*COMPONENTS[kind], *open_ones], "description": f"which {kind}"}


def _any_options(kind: str) -> dict[str, Schema]:
    """The options of all entries of a kind, each as any of the entries has it."""
    found: dict[str, list[Schema]] = {}
    for name in COMPONENTS[kind]:
        for key in entry_keys(kind, name):
            known = found.setdefault(key.name, [])
            if (schema := _described(key)) not in known:
                known.append(schema)
    return {
        name: schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        for name, schemas in found.items()
    }


def _component(kind: str) -> Schema:
    """One of a kind's entries by name; without a name, options of any."""
    options = _any_options(kind)
    places = {name: _ref(f"options.{kind}/properties/{name}") for name in options}
    # What all entries that have an option say alike is defined once.
    entries = [
        _closed(
            {
                "name": {"const": name},
                **{
                    key: places[key] if options[key] == schema else schema
                    for key, schema in _keys(entry_keys(kind, name)).items()
                },
            },
            ["name"],
        )
        for name in COMPONENTS[kind]
    ]
    if kind in ("sampling", "augment"):
        entries.append(_closed({"name": {"const": DEFAULT}, **places}, ["name"]))
    return {"oneOf": [*entries, _ref(f"options.{kind}")]}


def _of_an_arm() -> dict[str, Schema]:
    own = _keys(model_keys(Arm))
    resources = dict(_model(Resources))
    resources.pop("required", None)
    return {"label": own["label"], "resources": resources}


def _dimension(leaves: Mapping[str, Schema]) -> Schema:
    """One value of a search's space; its conditions name others."""
    own = _model(Dimension)
    own["properties"]["when"] |= {"propertyNames": {"enum": [*leaves]}}
    return own


def _search(leaves: Mapping[str, Schema]) -> Schema:
    own = _model(Search)
    own["properties"] |= {
        "space": _closed({name: _ref("dimension") for name in leaves})
        | _weights_one_by_one(_ref("dimension")),
        "confirm": _model(Confirm),
    }
    names = own["properties"]["name"]
    return {"anyOf": [names, own]}


def _evaluation() -> Schema:
    """A protocol's name alone, or an entry whose settings are those of its protocol."""
    own = _keys(model_keys(EvaluationEntry))
    entries = []
    for name, protocol in EVALUATIONS.items():
        own_of_protocol = {
            "protocol": {"const": name, "description": protocol.help},
            "recipe": {"enum": [*protocol.recipes, None]},
            "data": _ref("component.data"),
            "settings": _ref(protocol.settings.__name__),
        }
        entries.append(_closed({**own, **own_of_protocol}, ["protocol"]))
    return {"oneOf": [{"enum": [*EVALUATIONS]}, *entries]}
