"""``config``: what a key of the configuration is, and the resolved defaults."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from vididi.config import Config, build_config, unknown_key
from vididi.errors import ConfigError
from vididi.pairing import Schedule
from vididi.sweep_keys import SHORT_NAMES, configuration_keys, full_name
from vididi.terminal import say
from vididi.words import written

CONFIG_COMMAND: dict[str, Any] = {
    "formatter_class": argparse.RawDescriptionHelpFormatter,
    "description": (
        "Say of a key its type, default, meaning, unit and source; or print the defaults as YAML,"
        " with all options of the\ncomponents that they name."
    ),
    "epilog": (
        "example: vididi config clip.stride\n"
        "         vididi config backbone.width    an option, of each entry that has it\n"
        "         vididi config training          every key of a section\n"
        "         vididi config --defaults > config.yaml"
    ),
}
_UNIT = re.compile(r"^(pixels|frames|videos|epochs|clips|seconds)\b|\[([\w ]+)\]")
_SOURCE = re.compile(r"\(((?:ViDiDi|CVRL|CORP)\b[^()]*)\)")
_LINE = re.compile(r" {4,}(\w+(?:, \w+)*): (.+)")


def add_config(parser: argparse.ArgumentParser) -> None:
    """Give a parser the arguments of ``config``."""
    either = parser.add_mutually_exclusive_group(required=True)
    either.add_argument("key", nargs="?", metavar="KEY", help="dotted, such as clip.stride")
    either.add_argument("--defaults", action="store_true", help="print the resolved defaults")
    parser.set_defaults(run=config_command)


def config_command(arguments: argparse.Namespace) -> int:
    """Print what is known of the key; returns the exit status."""
    if arguments.defaults:
        from vididi.components import resolve

        say(resolve(build_config({})).to_yaml().rstrip())
        return 0
    say("\n\n".join(about.text for about in find_keys(arguments.key)))
    return 0


@dataclass(frozen=True)
class AboutKey:
    """What is known of a key; ``where``: the entry whose option it is, if it is one."""

    name: str
    where: str
    kind: str
    default: str
    meaning: str

    @property
    def text(self) -> str:
        """A line for the key and each thing that is known of it."""
        unit, sources = _UNIT.search(self.meaning), _SOURCE.findall(self.meaning)
        lines = {
            "type": self.kind,
            "default": self.default,
            "meaning": self.meaning or "(not described)",
            "unit": (unit[1] or unit[2]) if unit else "",
            "source": "; ".join(sources),
        }
        title = f"{self.name} ({self.where})" if self.where else self.name
        return "\n".join([title, *(f"  {word:<8} {line}" for word, line in lines.items() if line)])


def find_keys(key: str) -> list[AboutKey]:
    """The key, as a sweep file may write it; of a section all its keys; of an option one for each
    entry that has it.

    Raises:
        ConfigError: there is none; it says which there are.
    """
    full = full_name(key)
    found = [*_of_sections(full)]
    section, _, option = full.partition(".")
    if not found and section in Config.model_fields and option:
        found = [*_of_entries(section, option)]
    if not found:
        raise ConfigError(unknown_key(key, [*SHORT_NAMES, *configuration_keys()]))
    return found


def _of_sections(full: str) -> Iterator[AboutKey]:
    """The key itself, or those below it; of a component its name."""
    from vididi.components import COMPONENTS

    for known in configuration_keys():
        if known.endswith(".*") or not f"{known}.".startswith(f"{full}."):
            continue
        *parents, name = known.split(".")
        if parents and parents[0] in COMPONENTS:
            names = ", ".join(COMPONENTS[parents[0]])
            default = Config.model_fields[parents[0]].default.name
            of_paper = " (the objective's)" if default == "default" else ""
            yield AboutKey(
                known, "", f"one of {names}", f"{default}{of_paper}", f"which {parents[0]}"
            )
        else:
            model: Any = Config
            for parent in parents:
                model = model.model_fields[parent].annotation
            yield _about(known, "", model, name, _lines(model))


def _of_entries(section: str, option: str) -> Iterator[AboutKey]:
    """The option of each entry of a component's section that has it; those alike together."""
    from vididi.components import COMPONENTS, options_model

    alike: dict[AboutKey, list[str]] = {}
    for name, entry in COMPONENTS.get(section, {}).items():
        model = options_model(entry)
        if option in model.model_fields:
            about = _about(f"{section}.{option}", "", model, option, _lines(entry))
            alike.setdefault(about, []).append(name)
    for about, names in alike.items():
        where = f"of {', '.join(names)}"
        yield AboutKey(about.name, where, about.kind, about.default, about.meaning)


def _about(
    full: str, where: str, model: type[BaseModel], name: str, lines: Mapping[str, str]
) -> AboutKey:
    field = model.model_fields[name]
    schema = model.model_json_schema()["properties"][name]
    default = field.get_default(call_default_factory=True)
    text = "" if field.is_required() else written(default)
    return AboutKey(
        full,
        where,
        schema_words(schema),
        text or "(must be given)",
        (field.description or lines.get(name, "")).replace("``", "`"),
    )


def schema_words(schema: Mapping[str, Any]) -> str:
    """A JSON schema in words, such as ``whole number of at least 1 and at most 100``."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(schema_words, schema["anyOf"])))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return f"one of {', '.join(map(written, values))}"
    if schema.get("type") == "array":
        return f"list of {schema_words(schema['items'])}" if "items" in schema else "list"
    kinds = {"integer": "whole number", "boolean": "true or false", "string": "text"}
    kind = kinds.get(schema.get("type", ""), schema.get("type", "mapping"))
    limits = {
        "minimum": "of at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    said = [f"{words} {schema[limit]}" for limit, words in limits.items() if limit in schema]
    return f"{kind} {' and '.join(said)}" if said else kind


def _lines(thing: Any) -> dict[str, str]:
    """Meanings in a docstring's lines ``name: meaning``; more indented lines go on."""
    things = [thing, Schedule] if thing.__name__ == "ScheduleConfig" else [thing]
    meanings: dict[str, str] = {}
    for one in things:
        names: list[str] = []
        depth = 0
        for line in (inspect.getdoc(one) or "").splitlines():
            indent = len(line) - len(line.lstrip())
            if match := _LINE.fullmatch(line):
                names, depth = match[1].split(", "), indent
                meanings.update(dict.fromkeys(names, match[2]))
            elif line.strip() and indent > depth > 0:
                meanings.update({name: f"{meanings[name]} {line.strip()}" for name in names})
            else:
                names, depth = [], 0
    return meanings
