"""A file of `ray up`: its values, the line of each, and what is said of it. No Ray."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from vididi.errors import ConfigError
from vididi.files import check_regular
from vididi.values import not_yaml

PROBLEM, WARNING, NOTE = "problem", "warning", "note"
Where = tuple[str | int, ...]  # keys and places in lists, from the top


@dataclass(frozen=True)
class ClusterFinding:
    """One thing that is said of a cluster file.

    Args:
        level: ``problem`` (`ray up` would stop, or what is brought up could not do its work),
            ``warning`` (it would not be what is expected) or ``note``.
        text: what is so, one sentence.
        where: the value it is of, as a path in the file; empty for the whole, or the machine.
        line: of the file, from 1; None where it is of no line.
        advice: what to do.
    """

    level: str
    text: str
    where: str = ""
    line: int | None = None
    advice: str = ""


@dataclass
class ClusterFile:
    """What a cluster file says, as Ray reads it, and where it says it."""

    path: Path
    text: str
    config: dict[str, Any]
    lines: dict[Where, int] = field(default_factory=dict)
    findings: list[ClusterFinding] = field(default_factory=list)

    @property
    def provider(self) -> dict[str, Any]:
        """The section `provider`; empty where it is not a mapping."""
        return section(self.config, "provider")

    @property
    def kind(self) -> str:
        """``aws``, ``gcp``, ``local`` or another of Ray's providers."""
        return str(self.provider.get("type", ""))

    @property
    def node_types(self) -> dict[str, dict[str, Any]]:
        """Node types by name; those that are no mappings are left out."""
        types = section(self.config, "available_node_types")
        return {str(name): node for name, node in types.items() if isinstance(node, dict)}

    @property
    def head(self) -> str:
        """The head's node type."""
        return str(self.config.get("head_node_type", ""))

    def line(self, where: Where) -> int | None:
        """The line of a value, or of the nearest thing above it that is in the file."""
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where)

    def say(self, level: str, where: Where, text: str, advice: str = "") -> None:
        """Add a finding on the value at ``where``."""
        finding = ClusterFinding(level, text, spelled(where), self.line(where), advice)
        if finding not in self.findings:
            self.findings.append(finding)

    def texts(self) -> Iterator[tuple[Where, str]]:
        """Every text of the file, once; what an alias repeats is where its anchor is."""
        yield from _texts((), self.config, set())

    def commands(self, *keys: str) -> Iterator[tuple[Where, str]]:
        """The shell commands under these top-level keys."""
        for key in keys:
            listed = self.config.get(key)
            for place, command in enumerate(listed if isinstance(listed, list) else []):
                if isinstance(command, str):
                    yield (key, place), command


SETUP = ("initialization_commands", "setup_commands", "head_setup_commands")
START = ("head_start_ray_commands", "worker_start_ray_commands")


def section(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A mapping within another; empty where there is none."""
    value = config.get(key)
    return value if isinstance(value, dict) else {}


def spelled(where: Where) -> str:
    """``setup_commands[4]``, ``available_node_types.head.resources``."""
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{part}"
    return text


def hint_at(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` where a word is nearly a known one, else nothing."""
    found = difflib.get_close_matches(word, list(known), 1, 0.7)
    return f"; did you mean {found[0]!r}?" if found else ""


def read_cluster_file(path: Path) -> ClusterFile:
    """Read a file as Ray does, by YAML 1.1, and note where each value stands.

    Raises:
        ConfigError: it is not there, not text, not YAML, or no mapping.
    """
    try:
        with check_regular(path).open(encoding="utf-8") as opened:
            text = opened.read()
        root = yaml.compose(text, yaml.SafeLoader)
        config = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file in UTF-8") from None
    except (yaml.YAMLError, RecursionError) as error:
        if isinstance(error, yaml.YAMLError):
            raise ConfigError(not_yaml(error, str(path))) from None
        raise ConfigError(f"{path}: not valid YAML: nested too deeply") from None
    if not isinstance(config, dict) or not isinstance(root, MappingNode):
        what = "empty" if config is None else f"a {type(config).__name__}"
        raise ConfigError(f"{path}: must be a mapping of keys to values, and is {what}")
    read = ClusterFile(path, text, config)
    _note_lines(read, root, (), set())
    return read


def _note_lines(read: ClusterFile, node: Node, where: Where, within: set[int]) -> None:
    if id(node) in within:  # an alias to a value that it is part of
        return
    within = {*within, id(node)}
    if isinstance(node, SequenceNode):
        for place, item in enumerate(node.value):
            read.lines[(*where, place)] = item.start_mark.line + 1
            _note_lines(read, item, (*where, place), within)
    if not isinstance(node, MappingNode):
        return
    for key, value in node.value:
        at = (*where, key.value if isinstance(key, ScalarNode) else "?")
        line = key.start_mark.line + 1
        if at in read.lines and at[-1] != "<<":
            read.findings.append(
                ClusterFinding(
                    PROBLEM,
                    f"`{key.value}` is given twice (line {read.lines[at]} too), and Ray would take"
                    " the last",
                    spelled(at),
                    line,
                    "Leave one of the two.",
                )
            )
        read.lines[at] = line
        _note_lines(read, value, at, within)


def _texts(where: Where, value: Any, seen: set[int]) -> Iterator[tuple[Where, str]]:
    if isinstance(value, str):
        yield where, value
        return
    if not isinstance(value, dict | list) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, list):
        items: list[tuple[str | int, Any]] = [*enumerate(value)]
    else:
        items = [(str(key), item) for key, item in value.items()]
    for key, item in items:
        yield from _texts((*where, key), item, seen)


# --- Values still to be filled in -----------------------------------------------------------------

_TO_FILL_IN = re.compile(r"\S*\bFILL[-_ ]?IN\b\S*", re.IGNORECASE)
_LEFT_OPEN = re.compile(r"<[A-Za-z_][\w-]*>|\bCHANGE[-_]?ME\b|\bYOUR[-_][A-Z_-]+\b")
_MEANT = {  # by a piece of the value's path or text, what belongs there
    "project_id": "the id of your Google Cloud project",
    "sourceImage": "an image with NVIDIA's driver; the comment above it has the command that lists"
    " them",
    "email": "the e-mail address of the workers' service account",
    "head_ip": "the address of the machine that drives",
    "worker_ips": "the addresses of the machines that train",
    "efs": "the id of your EFS file system (fs-...), as its page in AWS's console has it",
    "mount -t nfs": "the address of your NFS server",
    "Bucket": "the name of your bucket",
}


def check_filled_in(read: ClusterFile) -> None:
    """Say where a value is still to be filled in, with the line that has it."""
    lines = read.text.splitlines()
    for where, text in read.texts():
        for found in [*_TO_FILL_IN.finditer(text), *_LEFT_OPEN.finditer(text)]:
            if where[-1:] == ("<<",):
                continue
            known = f"{spelled(where)} {text}"
            meant = next((what for piece, what in _MEANT.items() if piece in known), "your own")
            line = _line_of(lines, found[0], read.line(where))
            read.findings.append(
                ClusterFinding(
                    PROBLEM,
                    f"`{found[0]}` is still to be filled in",
                    spelled(where),
                    line,
                    f"Write {meant}.",
                )
            )


def _line_of(lines: list[str], piece: str, first: int | None) -> int | None:
    """The first line at or after ``first`` that has the piece outside a comment."""
    for number in range((first or 1) - 1, len(lines)):
        if piece in lines[number].split(" #")[0] and not lines[number].lstrip().startswith("#"):
            return number + 1
    return first


def on_this_machine(text: str) -> Path:
    """A path on this machine, with ``~`` and variables, as Ray reads it."""
    return Path(os.path.expandvars(text)).expanduser()
