"""Kinds of values: a boolean is never a number nor a number a boolean, and a number is decimal,
finite and of a size that computes.

pydantic alone takes true for 1, 1 for true, and '010', '1_0', ' 7 ' and 'inf' for numbers. What it
does well stays with it: that '1e-3' is a number where one is due, 2 a float and 1e3 a whole number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from vididi.values import LARGEST, shown

# torch.float32 ends at 3.4e38; the rest is room for what is computed of a value, such as Adam's
# first steps
LARGEST_FLOAT = 1e30
_DECIMAL = re.compile(
    r"[-+]?(0|[1-9][0-9]*|(0|[1-9][0-9]*)?\.[0-9]+|(0|[1-9][0-9]*)\.)([eE][-+]?[0-9]+)?"
)


def misfit(annotation: Any, value: Any) -> str:
    """Why a value is not of the kind that a field's annotation asks for, inside lists and mappings
    too; empty if it may be.
    """
    parts = list(_alternatives(annotation))
    if isinstance(value, list | tuple):
        inner = [
            pair
            for part in parts
            for pair in zip(_item_annotations(part, len(value)), value, strict=False)
        ]
    elif isinstance(value, Mapping):
        inner = [
            (get_args(part)[1], item)
            for part in parts
            if get_origin(part) is dict
            for item in value.values()
        ]
    else:
        return _scalar_misfit(
            {type(option) for part in parts for option in _options(part)} | set(parts), value
        )
    return next((why for part, item in inner if (why := misfit(part, item))), "")


def _alternatives(annotation: Any) -> Iterator[Any]:
    """What an annotation may stand for, without unions and metadata."""
    if get_origin(annotation) is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from _alternatives(part)
    else:
        yield annotation


def _options(part: Any) -> tuple[Any, ...]:
    return get_args(part) if get_origin(part) is Literal else ()


def _item_annotations(part: Any, count: int) -> list[Any]:
    """Of each item of a list that is to be a ``part``."""
    arguments = get_args(part) if get_origin(part) in (list, tuple) else ()
    return (
        [arguments[0]] * count
        if get_origin(part) is list or arguments[1:] == (...,)
        else list(arguments)
    )


def _scalar_misfit(kinds: set[Any], value: Any) -> str:
    number = bool(kinds & {int, float})
    if isinstance(value, bool):
        return f"{shown(value)} is no number" if number and bool not in kinds else ""
    if bool in kinds and not number and (isinstance(value, int | float) or _numeric(value)):
        return f"{shown(value)} is a number; it is true or false"
    if not number or (isinstance(value, str) and (str in kinds or not _numeric(value))):
        return ""
    if isinstance(value, str) and not _DECIMAL.fullmatch(value):
        return (
            f"{shown(value)} is no number as it is written here; a number is like 10, 0.1 or 1e-3"
        )
    return _too_large(value, float in kinds) if isinstance(value, int | float | str) else ""


def _numeric(value: Any) -> bool:
    """Whether Python takes a word for a number."""
    try:
        return isinstance(value, str) and float(value) is not None
    except ValueError:
        return False


def _too_large(value: float | str, may_be_float: bool) -> str:
    size = abs(float(value) if isinstance(value, str) else value)
    if may_be_float:
        return (
            f"numbers go up to {LARGEST_FLOAT:g}"
            if size > LARGEST_FLOAT and value != math.inf and value != -math.inf
            else ""
        )
    return f"whole numbers go up to {LARGEST}" if size > LARGEST else ""
