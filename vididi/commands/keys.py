"""``config``: what a key of the configuration is, and the resolved defaults."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vididi.config import Config, build_config, unknown_key
from vididi.errors import ConfigError
from vididi.sweep_keys import SHORT_NAMES, configuration_keys, full_name
from vididi.terminal import say
from vididi.words import written

if TYPE_CHECKING:
    from vididi.key_reference import Key

CONFIG_COMMAND: dict[str, Any] = {
    "description": (
        "Say of a key its type, default, meaning, unit and source; or print the defaults as YAML,"
        " with all options of the components that they name."
    ),
    "epilog": (
        "example: vididi config clip.stride\n"
        "         vididi config backbone.width    an option, of each entry that has it\n"
        "         vididi config training          every key of a section\n"
        "         vididi config --defaults > config.yaml"
    ),
}


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
    """What is known of a key; ``where``: the entries whose option it is, if it is one."""

    name: str
    where: str
    kind: str
    default: str
    meaning: str
    unit: str = ""
    source: str = ""

    @property
    def text(self) -> str:
        """A line for the key and each thing that is known of it."""
        lines = {
            "type": self.kind,
            "default": self.default,
            "meaning": self.meaning,
            "unit": self.unit,
            "source": self.source,
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
    from vididi.key_reference import model_keys

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
            yield from (_about(known, key) for key in model_keys(model) if key.name == name)


def _of_entries(section: str, option: str) -> Iterator[AboutKey]:
    """The option of each entry of a component's section that has it; those alike together."""
    from vididi.components import COMPONENTS
    from vididi.key_reference import entry_keys

    alike: dict[AboutKey, list[str]] = {}
    for name in COMPONENTS.get(section, {}):
        for key in entry_keys(section, name):
            if key.name == option:
                alike.setdefault(_about(f"{section}.{option}", key), []).append(name)
    for about, names in alike.items():
        yield replace(about, where=f"of {', '.join(names)}")


def _about(full: str, key: Key) -> AboutKey:
    from vididi.key_reference import schema_words

    return AboutKey(
        full,
        "",
        schema_words(key.schema),
        "(must be given)" if key.required else written(key.default),
        key.meaning,
        key.unit,
        key.source,
    )
