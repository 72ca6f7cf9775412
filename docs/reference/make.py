"""Writes the pages of this folder from the program: ``python docs/reference/make.py``.

configuration.md and sweep.schema.json are of vididi.key_reference, api.md of the docstrings of
vididi's public names. tests/test_reference.py holds that what is here is what this writes.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterable, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import vididi
from vididi.components import COMPONENTS
from vididi.config import DEFAULT, Component, Config
from vididi.key_reference import Key, KeyTable, key_tables, schema_words
from vididi.protocols import EVALUATIONS
from vididi.search import Search
from vididi.sweep_keys import SHORT_NAMES, SWEEP_KEYS
from vididi.sweep_schema import sweep_schema

HERE = Path(__file__).parent
MADE = "<!-- Made by docs/reference/make.py; edit the signatures, not this page. -->"
SECTION_TEXTS = {
    "data": "Where videos come from. A cell's name is of what is in them, not of where they lie.",
    "sampling": "Where in a video its clips begin. `default` is that of the objective's paper.",
    "augment": "What is drawn for each clip. `default` is that of the objective's paper.",
    "objective": "The loss with its heads. `framework` is short for `objective.name`.",
    "backbone": "The 3D network. `backbone: NAME` is short for `backbone.name`.",
    "optimiser": "The optimiser of pretraining, and of classifiers.",
}
# Names beside those of the package itself that others may rely on (docs/architecture.md).
PUBLIC = (
    "vididi.views:differentiate",
    "vididi.views:SCHEDULES",
    "vididi.views:Schedule",
    "vididi.views:Schedule.pair",
    "vididi.objectives:info_nce",
    "vididi.objectives:nt_xent",
    "vididi.objectives:byol_regression",
    "vididi.objectives:vicreg_terms",
    "vididi.objectives:corp_f_loss",
    "vididi.objectives:corp_m_loss",
    "vididi.objectives:DecouplingAttention",
    "vididi.optim:LARS",
    "vididi.backbones:BACKBONES",
    "vididi.evaluation:retrieval_recall",
)


def pages() -> dict[str, str]:
    """What this folder's files hold, by name."""
    schema = json.dumps(sweep_schema(), indent=1, ensure_ascii=False)
    return {
        "configuration.md": configuration_page(),
        "api.md": api_page(),
        "sweep.schema.json": f"{schema}\n",
    }


# --- Configuration --------------------------------------------------------------------------------


def configuration_page() -> str:
    """Every key, a table for each section."""
    tables = {table.title: table for table in key_tables()}
    sweep = [title for title in tables if title.partition(".")[0] in ("sweep file", "arms")]
    sweep += ["resources", "search", "search.space.KEY", "search.confirm", "stopping", "evaluate[]"]
    sections = [name for name in Config.model_fields if name in tables]
    parts = [
        MADE,
        "# Every key",
        "What can be written in a sweep file and in a configuration, from the program's own"
        " signatures. A value that is left out is its default. Sources are sections, tables and"
        " equations of the papers; a key without one is ours.",
        "An editor that reads JSON schemas completes these keys and marks misspelt ones, with this"
        " first line in a sweep file, where the path is from that file to"
        " [sweep.schema.json](sweep.schema.json):",
        "```yaml\n# yaml-language-server: $schema=../docs/reference/sweep.schema.json\n```",
        "[Sweep files](../sweeps.md) explains them, [evaluation](../evaluation.md) the protocols.",
        "## A sweep file",
        *(part for title in sweep for part in section(tables[title], title)),
        "## The configuration",
        "Written in `base`, in an arm or as an axis, nested or with dots:"
        " `training: {epochs: 3}` is `training.epochs: 3`. In a file for `vididi pretrain` nested.",
        short_names(),
        *(
            part
            for name in [*sections, "evaluation.online"]
            for part in section(tables[name], f"{name}")
        ),
        *(part for kind in COMPONENTS for part in component(kind, tables)),
        "## Settings of evaluations",
        "Written in `settings` of an entry of `evaluate`, or as `--set KEY=VALUE` of"
        " `vididi evaluate PROTOCOL`. A recipe's values come before these defaults.",
        *settings_parts(tables),
    ]
    return "\n\n".join(parts) + "\n"


def short_names() -> str:
    """The short names of a sweep file, and what is not written there."""
    names = ", ".join(f"`{short}` is `{full}`" for short, full in SHORT_NAMES.items())
    others = "; ".join(f"`{full}` is set by {key}" for full, key in SWEEP_KEYS.items())
    return f"In a sweep file {names}. There {others}."


def section(table: KeyTable, title: str) -> Iterable[str]:
    """A heading, what the section is, and the table of its keys."""
    yield f"### `{title}`" if title != "sweep file" else "### The file"
    yield table.about.replace("``", "`")
    yield keys_table(table.keys)


def component(kind: str, tables: Mapping[str, KeyTable]) -> Iterable[str]:
    """A component's section: each of its entries with its options."""
    default = Config.model_fields[kind].default.name
    yield f"## `{kind}`"
    names = [*COMPONENTS[kind], *([DEFAULT] if default == DEFAULT else [])]
    yield (
        f"{SECTION_TEXTS[kind]} `{kind}.name` is one of {', '.join(f'`{n}`' for n in names)};"
        f" `{default}` where left out."
    )
    shared = shared_keys([tables[f"{kind}: {name}"].keys for name in COMPONENTS[kind]])
    if shared:
        yield f"Options of every {kind}:"
        yield keys_table(shared)
    for name in COMPONENTS[kind]:
        table = tables[f"{kind}: {name}"]
        yield f"### `{kind}: {{name: {name}}}`"
        yield table.about.replace("``", "`")
        if own := [key for key in table.keys if key not in shared]:
            yield keys_table(own)


def shared_keys(entries: list[tuple[Key, ...]]) -> list[Key]:
    """The keys that all entries of a section have, each alike."""
    return [key for key in entries[0] if all(key in keys for keys in entries)]


def settings_parts(tables: Mapping[str, KeyTable]) -> Iterable[str]:
    """The protocols, those with the same settings together."""
    groups: dict[Any, list[str]] = {}
    for name, protocol in EVALUATIONS.items():
        groups.setdefault(protocol.settings, []).append(name)
    for names in groups.values():
        yield "### " + ", ".join(f"`{name}`" for name in names)
        yield "\n".join(
            f"- `{name}`: {EVALUATIONS[name].help}."
            + (
                f" Recipes: {', '.join(f'`{r}`' for r in EVALUATIONS[name].recipes)}."
                if EVALUATIONS[name].recipes
                else ""
            )
            for name in names
        )
        yield keys_table(tables[f"settings: {names[0]}"].keys)


def keys_table(keys: Iterable[Key]) -> str:
    """A table in Markdown, a row for each key."""
    rows = ["| key | values | default | unit | meaning | source |", "|---|---|---|---|---|---|"]
    for key in keys:
        default = "required" if key.required else f"`{plain(key.default)}`"
        cells = (
            f"`{key.name}`",
            schema_words(key.schema, markdown=True),
            default,
            key.unit,
            key.meaning,
            key.source,
        )
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def plain(value: Any) -> str:
    """A default as YAML writes it on one line."""
    if isinstance(value, Component):
        return value.name
    if isinstance(value, Search):
        return value.name
    if isinstance(value, BaseModel):
        return "{}"
    if isinstance(value, float):
        return f"{value:.4g}" if value != int(value) or abs(value) > 1e6 else f"{value:.1f}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(plain(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {plain(item)}" for name, item in value.items()) + "}"
    return value if isinstance(value, str) else json.dumps(value)


# --- Public names ---------------------------------------------------------------------------------


def public_names() -> list[tuple[str, Any]]:
    """Each public name with the object that it is."""
    own = [(f"vididi.{name}", getattr(vididi, name)) for name in vididi.__all__]
    paths = (path.partition(":") for path in PUBLIC)
    others = [
        (f"{module}.{name}", attrgetter(name)(importlib.import_module(module)))
        for module, _, name in paths
    ]
    return own + others


def api_page() -> str:
    """The public names with their signatures and docstrings."""
    parts = [
        MADE,
        "# Public names",
        "What programs of others may import. These names stay; all else may move. Shapes: B batch,"
        " C channels, T frames, H W pixels, D embedding, K classes, V videos, Q queries.",
    ]
    for path, thing in public_names():
        parts.append(f"## `{path}`")
        if isinstance(thing, Mapping):
            parts.append(f"A mapping of {', '.join(f'`{key}`' for key in thing)}.")
            continue
        if not callable(thing):
            parts.append(f"`{thing!r}`, a {type(thing).__name__}.")
            continue
        parts.append(f"```python\n{signature(path.rpartition('.')[2], thing)}\n```")
        parts.append(f"```text\n{inspect.getdoc(thing)}\n```")
    return "\n\n".join(parts) + "\n"


def signature(name: str, thing: Any) -> str:
    """A callable as it is written, one parameter a line where they are many."""
    shape = inspect.signature(thing)
    head = "class " if inspect.isclass(thing) else "def "
    back = shape.return_annotation
    end = "" if back is inspect.Signature.empty or inspect.isclass(thing) else f" -> {text(back)}"
    stars, parameters = False, []
    for parameter in shape.parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not stars:
            stars = True
            parameters.append("*")
        kind = parameter.annotation
        typed = "" if kind is inspect.Parameter.empty else f": {text(kind)}"
        value = parameter.default
        default = "" if value is inspect.Parameter.empty else f" = {value!r}"
        parameters.append(f"{parameter.name}{typed}{default}")
    line = f"{head}{name}({', '.join(parameters)}){end}"
    if len(line) <= 100:
        return line
    return f"{head}{name}(\n    " + ",\n    ".join(parameters) + f",\n){end}"


def text(annotation: Any) -> str:
    """An annotation as it is written in the source."""
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


if __name__ == "__main__":
    for name, content in pages().items():
        (HERE / name).write_text(content, encoding="utf-8")
