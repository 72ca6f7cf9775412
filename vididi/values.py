"""YAML text to plain values, each of them what its writer sees. Imports nothing of this package but
its errors.

PyYAML reads YAML 1.1, in which 010 is eight, 1:30 is ninety, 2001-01-01 is a date, a key ``on`` is
true and 1e-6 is a word, and in which a kilobyte of aliases stands for a hundred million keys. Here
a number is decimal (1_000, 0x1F and 0b1, which can be read in one way only, stay numbers), what
would be another one than it seems is refused, a key is the text that it is written as and is given
once, a date is a word, and how much a text stands for is bounded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TextIO

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.resolver import Resolver

from vididi.errors import ConfigError

DEPTH = 50  # levels of lists and mappings within each other
NODES = 20_000  # values that a text may stand for, each alias counted as all that it stands for
LARGEST = 2**63 - 1  # whole numbers, as torch, NumPy and Parquet keep them
SHOWN = 100  # characters of a value in a message

_STR, _NULL, _BOOL, _INT, _FLOAT, _SEQ, _MAP, _MERGE = (
    f"tag:yaml.org,2002:{name}"
    for name in ("str", "null", "bool", "int", "float", "seq", "map", "merge")
)
_SCALARS = {
    _NULL: re.compile(r"~|null|Null|NULL|"),
    _BOOL: re.compile(
        r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF"
    ),
    _INT: re.compile(r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F][0-9a-fA-F_]*|0b[01][01_]*)"),
    # The last form is that of infinity and of no number, which are read as numbers to be refused as
    # such.
    _FLOAT: re.compile(
        r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.(?i:inf|nan)"
    ),
}
_FITS = {**dict.fromkeys([_STR, *_SCALARS], ScalarNode), _SEQ: SequenceNode, _MAP: MappingNode}
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")


def load(stream: str | TextIO, name: str = "") -> Any:
    """The value of a YAML document.

    Args:
        name: of the file, for messages.

    Raises:
        ConfigError: a value that would be read as another than it seems, has no place in a
            configuration or is too large; it names the line and the key. A key that is given twice.
        yaml.YAMLError: the text is not YAML.
        UnicodeDecodeError: the file is not UTF-8.
    """
    try:
        return _Loader(stream, name).get_single_data()
    except UnicodeDecodeError:
        raise
    except (ValueError, OverflowError) as error:  # such as \U00110000, which is no character
        raise ConfigError(": ".join(filter(None, (name, "not valid YAML", str(error))))) from None


def load_quickly(content: bytes) -> Any:
    """As ``load``, of what programs write: by libyaml, where PyYAML has it, in a third of the time.

    None for what is refused; ``load`` says why.
    """
    if not yaml.__with_libyaml__:
        return None
    try:
        return _quick_loader()(content.decode()).get_single_data()
    except (yaml.YAMLError, ConfigError, ValueError, OverflowError):
        return None


def not_yaml(error: yaml.YAMLError, name: str) -> str:
    """What is wrong with a file that is not YAML, on one line."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    if problem.startswith("but "):
        problem = f"{error.context} {problem}"  # type: ignore[attr-defined]
    if "'\\t'" in problem:
        problem = "a tab stands where only spaces may"
    return (
        f"{name}{f', line {mark.line + 1}' if mark else ''}: not valid YAML:"
        f" {' '.join(problem.split())}"
    )


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with all checks made while a document is composed, before anything is
    made of it.
    """

    # What stands without quotes is a number, true, false, null or a merge by the patterns above,
    # else a word.
    yaml_implicit_resolvers: dict = {}

    def __init__(self, stream: str | TextIO, name: str) -> None:
        super().__init__(stream)
        self._begin(name)

    def _begin(self, name: str) -> None:
        self._name = name
        self._path: list[str] = []
        self._composed = 0
        self._extent: dict[
            Node, tuple[int, int]
        ] = {}  # of each whole node: values that it stands for, and levels

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        if self.check_event(yaml.AliasEvent):
            node = super().compose_node(parent, index)
            if node is not None and node not in self._extent:
                self._refuse(node, "an alias stands for a value that it is part of")
            return node
        is_key = isinstance(parent, MappingNode) and index is None
        self._path.append("" if is_key or index is None else str(getattr(index, "value", index)))
        self._composed += 1
        if self._composed > NODES or len(self._path) > DEPTH:
            self._refuse(
                self.peek_event(),
                (
                    f"more than {NODES} values"
                    if self._composed > NODES
                    else f"more than {DEPTH} levels"
                ),
            )
        node = super().compose_node(parent, index)
        assert node is not None
        self._check(node, is_key)
        self._path.pop()
        return node

    def _check(self, node: Node, is_key: bool) -> None:
        if is_key and not isinstance(node, ScalarNode):
            self._refuse(node, "a list or a mapping cannot be a key")
        if isinstance(node, ScalarNode):
            self._check_scalar(node, is_key)
        elif not isinstance(node, _FITS.get(node.tag, ())):
            self._refuse(
                node,
                f"a value of kind {_spoken(node.tag)} cannot be a"
                f" {'mapping' if isinstance(node, MappingNode) else 'list'}",
            )
        if isinstance(node, MappingNode):
            self._check_keys(node)
        self._measure(node)

    def _check_scalar(self, node: ScalarNode, is_key: bool) -> None:
        text = node.value = _joined(node.value)
        if any(0xD800 <= ord(character) < 0xE000 or character == "\0" for character in text):
            self._refuse(
                node,
                f"{shown(text)} is not valid: it has half a character or a NUL in it; write the"
                " characters themselves",
            )
        if is_key or node.tag == _MERGE:
            return
        fault = _scalar_fault(node)
        if fault:
            self._refuse(node, f"{cut(text)} is not valid: {fault}")

    def _check_keys(self, node: MappingNode) -> None:
        seen = set()
        for key, _ in node.value:
            if key.tag != _MERGE and key.value in seen:
                self._refuse(key, f"{shown(key.value)} is given twice")
            seen.add(key.value)

    def _measure(self, node: Node) -> None:
        inner = [] if isinstance(node, ScalarNode) else node.value
        parts = [
            self._extent[part]
            for item in inner
            for part in (item if isinstance(item, tuple) else (item,))
        ]
        size, depth = (
            1 + sum(size for size, _ in parts),
            1 + max((depth for _, depth in parts), default=0),
        )
        if size > NODES or depth > DEPTH:
            self._refuse(
                node,
                f"with its aliases it stands for {size} values in {depth} levels; at most {NODES}"
                f" in {DEPTH}",
            )
        self._extent[node] = size, depth

    def _refuse(self, place: Any, why: str) -> None:
        path = ".".join(filter(None, self._path))
        where = f"{self._name}, line {place.start_mark.line + 1}" if self._name else ""
        raise ConfigError(": ".join(filter(None, (where, cut(path), why))))


@cache
def _quick_loader() -> Any:
    """The loader, whose events come from libyaml."""
    from yaml.cyaml import CParser  # type: ignore[attr-defined]  # not there without libyaml

    class Quick(_Loader, CParser):
        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)
            Composer.__init__(self)
            SafeConstructor.__init__(self)
            Resolver.__init__(self)
            self._begin("")

        check_event, peek_event, get_event = (
            CParser.check_event,
            CParser.peek_event,
            CParser.get_event,
        )

    return Quick


def _joined(text: str) -> str:
    """A text with the two halves of a character, which JSON writes for an emoji, made one; a half
    alone stays.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _scalar_fault(node: ScalarNode) -> str:
    """Why a value is not what it seems, or cannot be one at all; empty for a sound one."""
    tag, text = node.tag, node.value
    if tag == _STR:
        return "" if node.style else _misread(text)  # None, of libyaml an empty text: no quotes
    if tag not in _SCALARS:
        return (
            f"a value of kind {_spoken(tag)} is not taken; values are numbers, words, true, false,"
            " null, lists and mappings"
        )
    if not _SCALARS[tag].fullmatch(text) and not (tag == _FLOAT and _SCALARS[_INT].fullmatch(text)):
        return f"it is not of the kind {_spoken(tag)}"
    if tag == _INT and (len(text) > 100 or abs(_int(text)) > LARGEST):
        return f"whole numbers go up to {LARGEST}"
    if tag == _FLOAT and not math.isfinite(_float(text)):
        return "it must be a finite number"
    return ""


def _misread(text: str) -> str:
    """Why a word without quotes is not taken for one: YAML 1.1 has a number for it that its writer
    may not expect.
    """
    if len(text) <= SHOWN and _LEADING_ZERO.fullmatch(text):
        return (
            f"a number has no leading zero, which in YAML means base 8; write {int(text)}, or"
            f" '{text}' in quotes if it is a word"
        )
    if len(text) <= SHOWN and _BASE_60.fullmatch(text):
        return (
            f"YAML would read it in base 60; write {_in_base_60(text)} if it is that number, or"
            f" '{text}' in quotes if it is a word"
        )
    return ""


def _in_base_60(text: str) -> float:
    value = 0.0
    for part in text.lstrip("+-").split(":"):
        value = 60 * value + float(part)
    value = -value if text.startswith("-") else value
    return int(value) if value == int(value) else value


def _int(text: str) -> int:
    digits = text.replace("_", "").lower()
    return int(digits, 16 if "x" in digits else 2 if "0b" in digits else 10)


def _float(text: str) -> float:
    return float(re.sub(r"\.(?=[in])", "", text.replace("_", "").lower()))


def _spoken(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")


def _mapping(loader: _Loader, node: MappingNode) -> dict[str, Any]:
    loader.flatten_mapping(node)  # merges: what a mapping says itself comes after, and wins
    return {key.value: loader.construct_object(value, deep=True) for key, value in node.value}


_MAKERS: dict[str, Callable[[_Loader, Any], Any]] = {
    _NULL: lambda loader, node: None,
    _BOOL: lambda loader, node: node.value.lower() in ("yes", "true", "on"),
    _INT: lambda loader, node: _int(node.value),
    _FLOAT: lambda loader, node: _float(node.value),
    _MAP: _mapping,
}
for _tag, _pattern in {**_SCALARS, _MERGE: re.compile("<<")}.items():
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern.pattern})$"), None)
for _tag, _maker in _MAKERS.items():
    _Loader.add_constructor(_tag, _maker)


def shown(value: Any) -> str:
    """A value as a message shows it: as one writes it in YAML, on one line, and cut where it is
    long.
    """
    return cut(_written(value, 3))


def _written(value: Any, levels: int) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping | list | tuple) and not levels:
        return "..."
    if isinstance(value, Mapping):
        items = [
            f"{cut(repr(key))}: {_written(inner, levels - 1)}"
            for key, inner in list(value.items())[:SHOWN]
        ]
        return "{" + ", ".join(items) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_written(inner, levels - 1) for inner in value[:SHOWN]) + "]"
    return repr(value[: SHOWN + 1]) if isinstance(value, str) else _number(value)


def _number(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:  # a whole number with more digits than Python writes
        return "a number of thousands of digits"


def cut(text: str) -> str:
    """The beginning of a text that is too long for a message."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
