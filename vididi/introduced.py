"""What came later: keys that configurations did not always have, each with what the program did
before it had them.

Cells, evaluations, studies and prepared sets are named by digests of values, and tables compare
values. So that what was made before a key existed keeps its name and its place in a table, the key
is declared with its introduction value: what the program did, unwritten, when the key was
introduced. With that value the key is left out of a name, also where it is written out; with any
other it is part of it. What was written before the key existed is read with that value. It is not
the default of the day, which may change: whoever leaves the key out then gets new names.

A field of a model (config.py, protocols.py, search.py) is declared where it is:

    twist: Annotated[int, Introduced(0)] = Field(1, ge=0)

An option of a component or of a data source is a parameter of a function that this module must not
import; it is a line of INTRODUCED. Imports neither torch nor Ray.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

Path = tuple[str, ...]  # the keys that lead to a value in nested mappings


@dataclass(frozen=True)
class Introduced:
    """An introduction value; it never changes.

    Args:
        value: what the program did, unwritten, when the key was introduced; a plain value.
        same: further values that mean the same, such as False beside None.
    """

    value: Any
    same: tuple[Any, ...] = ()

    def means(self, value: Any) -> bool:
        """Whether a value is the introduction value. 1 is 1.0 and is not true."""
        return any(_plain(value) == _plain(meaning) for meaning in (self.value, *self.same))


# Options of components and data sources: SECTION.OPTION, where every entry of a section got it, or
# SECTION[ENTRY].OPTION.
INTRODUCED: dict[str, Introduced] = {
    "data[motion].camera": Introduced(0.0),
    "data[motion].shake": Introduced(0.0),
    "data[motion].placement": Introduced(0.0),
    "data[motion].distractors": Introduced(0),
    "data[motion].noise": Introduced(0.0),
    "data[motion].scene_class": Introduced(0.0),
    "data[motion].test_scenes": Introduced("same"),
    "data[folder].test_share": Introduced(None),
    "data[folder].group": Introduced(None),
    "data[folder].seed": Introduced(0),
    "data[csv].test_share": Introduced(None),
    "data[csv].group": Introduced(None),
    "data[csv].seed": Introduced(0),
    "objective[cvrl].sum_over_views": Introduced(False),
    "objective[cvrl].norm_momentum": Introduced(0.1),
    "objective[cvrl].views_together": Introduced(False),
    "sampling[uniform].short_videos": Introduced("first_frame"),
    "sampling[same].short_videos": Introduced("first_frame"),
    "sampling[interval].short_videos": Introduced("first_frame"),
    "backbone.weights_key": Introduced(None),
    "backbone.weights_prefix": Introduced(None),
    "backbone.norm": Introduced("shared"),
    "backbone.weights_inflate": Introduced(None, same=(False,)),
}


def introduced_options(section: str, entry: Any) -> dict[str, Introduced]:
    """The options of an entry that came later, by name."""
    heads = (f"{section}.", f"{section}[{entry}].")
    return {
        key.removeprefix(head): late
        for key, late in INTRODUCED.items()
        for head in heads
        if key.startswith(head)
    }


def introduction(field: FieldInfo) -> Introduced | None:
    """How a model's field was introduced; None for one that was always there."""
    return next((mark for mark in field.metadata if isinstance(mark, Introduced)), None)


def introduced_in(model: type[BaseModel], values: Mapping[str, Any]) -> dict[Path, Introduced]:
    """All keys that came later of those that nested values of a model may have, the inner ones
    before the section that they are in.

    Args:
        values: as ``model_dump`` gives them, or as they were written; by them it is known which
            entry a component is.
    """
    introduced: dict[Path, Introduced] = {}
    for field in _fields(model):
        value = values.get(field.name, {} if field.always else None)
        several = field.several and isinstance(value, Mapping)
        contents = (
            {(field.name, key): item for key, item in value.items()}
            if several
            else {(field.name,): value}
        )
        for section in field.sections:
            for path, content in contents.items():
                if isinstance(content, Mapping):
                    introduced |= {
                        (*path, *rest): late
                        for rest, late in _inside(field.name, section, content).items()
                    }
        if field.introduced is not None:
            introduced[field.name,] = field.introduced
    return introduced


@dataclass(frozen=True)
class _Field:
    """What there is to know of a model's field: the models in it, several if it is a mapping, and
    whether a value is always there.
    """

    name: str
    introduced: Introduced | None
    sections: tuple[type[BaseModel], ...]
    several: bool
    always: bool


@cache
def _fields(model: type[BaseModel]) -> tuple[_Field, ...]:
    """The fields of a model that came later or have models in them."""
    fields = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        about = _Field(
            name,
            introduction(field),
            tuple(sections_of(kind)),
            get_origin(kind) is dict,
            type(None) not in get_args(kind),
        )
        fields += [about] if about.introduced or about.sections else []
    return tuple(fields)


def _inside(
    name: str, section: type[BaseModel], content: Mapping[str, Any]
) -> dict[Path, Introduced]:
    """What came later of a section; of a component that is not there nothing is known."""
    if not is_component(section):
        return introduced_in(section, content)
    return {
        (option,): late
        for option, late in introduced_options(name, content.get("name")).items()
        if content
    }


def without_introduced(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values without the keys that have their introduction value: what enters a digest."""
    remaining = _copied(values)
    for path, late in introduced_in(model, values).items():
        holder = value_at(remaining, path[:-1])
        if isinstance(holder, dict) and path[-1] in holder and late.means(holder[path[-1]]):
            del holder[path[-1]]
            _remove_if_empty(remaining, path[:-1])
    return remaining


def with_introduced(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values as an earlier program wrote them, with the introduction value of each key that
    came later and is not there.
    """
    filled = _copied(values)
    for path, late in introduced_in(model, values).items():
        holder: Any = filled
        for part in path[:-1]:
            holder = holder.setdefault(part, {})
        holder.setdefault(path[-1], deepcopy(late.value))
    return filled


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings anew; deepcopy takes several times as long."""
    return {
        key: _copied(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
    }


def value_at(values: Any, path: Path) -> Any:
    """The value at a path of nested mappings; None where there is none."""
    for part in path:
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def is_component(model: type[BaseModel]) -> bool:
    """Whether a section is a component: a name, and options that are its entry's."""
    return model.model_config.get("extra") == "allow" and "name" in model.model_fields


def sections_of(annotation: Any) -> list[type[BaseModel]]:
    """The models that an annotation has in it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in sections_of(part)]


def _remove_if_empty(values: dict[str, Any], path: Path) -> None:
    """Of a section all of whose keys came later nothing is left."""
    if path and value_at(values, path) == {}:
        del value_at(values, path[:-1])[path[-1]]


def _plain(value: Any) -> Any:
    """A number as it is; anything else as text, so that true is not 1 and a tuple is a list."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    return json.dumps(value, sort_keys=True, default=str)
