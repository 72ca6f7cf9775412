"""docs/reference: its pages are what the program writes, no key and no public name lacks what it
means, and editors are told the truth by the schema.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from vididi.components import COMPONENTS
from vididi.config import read_yaml
from vididi.key_reference import (
    UNITS,
    documented_lines,
    entry_keys,
    key_tables,
    model_keys,
    schema_words,
)
from vididi.protocols.settings import FeatureSettings
from vididi.sweep_keys import SHORT_NAMES, SWEEP_KEYS, configuration_keys
from vididi.sweep_schema import sweep_schema

REPO = Path(__file__).resolve().parents[1]
SWEEPS = sorted((REPO / "sweeps").rglob("*.yaml"))


def maker() -> Any:
    """docs/reference/make.py, which is no module of the package."""
    path = REPO / "docs" / "reference" / "make.py"
    spec = importlib.util.spec_from_file_location("make_reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKER = maker()


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = sweep_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_committed_pages_are_what_the_program_writes() -> None:
    for name, content in MAKER.pages().items():
        committed = (REPO / "docs" / "reference" / name).read_text()
        assert committed == content, f"{name} is old: python docs/reference/make.py"


def test_every_key_has_a_meaning_and_every_unit_is_used() -> None:
    tables = list(key_tables())
    keys = [(table.title, key) for table in tables for key in table.keys]
    assert [f"{title}: {key.name}" for title, key in keys if not key.meaning] == []
    # What is left of a unit or a source in a meaning is one that was not understood.
    assert [key.meaning for _, key in keys if re.search(r"\[\w+\]", key.meaning)] == []
    assert {key.unit for _, key in keys if key.unit} == set(UNITS)


def test_every_entry_and_every_configuration_key_has_its_place_in_the_page() -> None:
    page = MAKER.configuration_page()
    for kind, entries in COMPONENTS.items():
        for name in entries:
            assert f"### `{kind}: {{name: {name}}}`" in page
    for key in configuration_keys():
        assert f"| `{key.rpartition('.')[2]}` |" in page or key.endswith((".*", ".name")), key


def test_nothing_in_the_pages_is_taken_for_html() -> None:
    for page in (MAKER.configuration_page(), MAKER.api_page()):
        prose = re.sub(r"^```.*?^```$|`[^`\n]+`|<!-- .* -->", "", page, flags=re.M | re.S)
        assert re.findall(r"<\w.*", prose) == []


def documented(*, width: int = 1, depth: int = 2, other: int = 3) -> None:
    """Something.

    Args:
        width: how wide it is, in a line
            that goes on [pixels] (ViDiDi E.1).
        depth, other: of something else.

    Raises:
        ValueError: never.
    """


def test_meanings_are_lines_of_the_docstring() -> None:
    lines = documented_lines(documented)
    assert lines["width"] == "how wide it is, in a line that goes on [pixels] (ViDiDi E.1)."
    assert lines["depth"] == lines["other"] == "of something else."


def test_unit_and_source_are_taken_out_of_the_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMPONENTS, "toy", {"documented": documented})
    width, depth, _ = entry_keys("toy", "documented")
    assert (width.meaning, width.unit, width.source, width.default) == (
        "how wide it is, in a line that goes on",
        "pixels",
        "ViDiDi E.1",
        1,
    )
    assert (depth.meaning, depth.unit, depth.source) == ("of something else", "", "")


def test_a_line_that_refers_to_another_entry_has_its_meaning() -> None:
    assert [key.meaning for key in entry_keys("data", "kinetics700")] == [
        key.meaning for key in entry_keys("data", "kinetics400")
    ]
    assert "pans" in {key.name: key.meaning for key in entry_keys("data", "motion")}["camera"]


def test_values_are_told_in_words() -> None:
    kinds = {
        key.name: schema_words(key.schema, markdown=True) for key in model_keys(FeatureSettings)
    }
    assert kinds["clips"] == "integer at least 1, at most 10,000 or `null`"
    assert kinds["crop"] == "number above 0, at most 1 or `null`"
    assert kinds["batch_norm"] == "`running`, `recomputed` or `null`"
    spoken = {key.name: schema_words(key.schema) for key in model_keys(FeatureSettings)}
    assert spoken["clips"] == "whole number of at least 1 and at most 10000 or null"
    assert spoken["crop"] == "number above 0 and at most 1 or null"
    assert spoken["batch_norm"] == "one of running, recomputed or null"
    pair = {"prefixItems": [{"type": "number", "maximum": 1}, {"type": "boolean"}]}
    assert schema_words(pair) == "[number at most 1, true or false]"
    assert schema_words({"type": "string", "format": "path"}) == "path"
    assert schema_words({}) == "any value"


# --- The schema -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_shipped_sweep_is_valid(path: Path, validator: Any) -> None:
    faults = [
        f"{list(error.absolute_path)}: {error.message[:200]}"
        for error in validator.iter_errors(read_yaml(path))
    ]
    assert faults == []


def mappings(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a sweep file a mapping of keys of the program lies."""
    if isinstance(content, dict):
        if path not in (("arms",), ("search", "metrics")):
            yield path
        for key, value in content.items():
            yield from mappings(value, (*path, key))
    if isinstance(content, list):
        for number, value in enumerate(content):
            yield from mappings(value, (*path, number))


@pytest.mark.parametrize("name", ["ablation", "search", "paper/vididi_table_6", "search_settings"])
def test_each_misspelt_key_of_a_sweep_is_refused(name: str, validator: Any) -> None:
    content = read_yaml(REPO / "sweeps" / f"{name}.yaml")
    tried = 0
    for path in mappings(content):
        wrong = deepcopy(content)
        section = wrong
        for part in path:
            section = section[part]
        for key in list(section):
            misspelt = {f"{key}x": section[key], **{k: section[k] for k in section if k != key}}
            before = dict(section)
            section.clear()
            section.update(misspelt)
            assert not validator.is_valid(wrong), (path, key)
            section.clear()
            section.update(before)
            tried += 1
    assert validator.is_valid(content)
    assert tried > 20


def in_base(values: dict[str, Any]) -> dict[str, Any]:
    return {"name": "a", "base": values}


GOOD: list[Callable[[], dict[str, Any]]] = [
    lambda: in_base({"objective": {"name": "vicreg", "gamma": 2}}),
    lambda: in_base({"objective": {"temperature": 0.2}, "framework": "simclr"}),
    lambda: in_base({"evaluation.online": {"every": 1}, "evaluation": {"online.test": 3}}),
    lambda: in_base({"backbone": "r3d_tiny", "schedule.weights.1-0": 1}),
    lambda: in_base({"backbone": {"name": "r3d_50", "width": 2}, "optimiser.lr": 1}),
    lambda: {"name": "a", "arms": {"b": {"order": 1, "resources": {"workers": 2}}}},
    lambda: {"name": "a", "evaluate": ["linear", {"protocol": "semi", "settings": {"labels": 1}}]},
]
BAD: list[Callable[[], dict[str, Any]]] = [
    lambda: {},
    lambda: in_base({"objective": {"name": "vicreg", "temperature": 0.1}}),
    lambda: in_base({"objective": {"name": "vic_reg"}}),
    lambda: in_base({"training": {"seed": 1}}),
    lambda: in_base({"training.epochs": "many"}),
    lambda: in_base({"clip.frames": 0}),
    lambda: in_base({"backbone": "r3d"}),
    lambda: {"name": "a", "axes": {"objective": [{"name": "vicreg"}]}},
    lambda: {"name": "a", "axes": {"optimiser.lr": []}},
    lambda: {"name": "a", "evaluate": [{"protocol": "linear", "settings": {"test": "each"}}]},
    lambda: {"name": "a", "stopping": {"metric": "online/knn"}},
]


@pytest.mark.parametrize("sweep", [make() for make in GOOD], ids=json.dumps)
def test_what_the_program_takes_is_valid(sweep: dict[str, Any], validator: Any) -> None:
    assert validator.is_valid(sweep)


@pytest.mark.parametrize("sweep", [make() for make in BAD], ids=json.dumps)
def test_what_it_refuses_is_not(sweep: dict[str, Any], validator: Any) -> None:
    assert not validator.is_valid(sweep)


def test_the_schema_has_every_key_of_the_configuration_and_a_description_for_it() -> None:
    values = sweep_schema()["$defs"]["values"]["properties"]
    keys = {key for key in configuration_keys() if not key.endswith(".*")} - set(SWEEP_KEYS)
    assert keys | set(SHORT_NAMES) <= set(values)
    assert not set(SWEEP_KEYS) & set(values)
    assert [key for key in keys if not values[key].get("description")] == []


# --- Public names ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [path for path, _ in MAKER.public_names()])
def test_a_public_name_says_what_each_of_its_arguments_is(path: str) -> None:
    thing = dict(MAKER.public_names())[path]
    if not callable(thing):
        return
    text = inspect.getdoc(thing) or ""
    assert text, path
    parameters = [name for name in inspect.signature(thing).parameters if name != "self"]
    unsaid = [name for name in parameters if not re.search(rf"``{name}``|\b{name}\b[\w, ]*:", text)]
    assert unsaid == [], f"{path}: {unsaid}"
