"""Every name that becomes part of a path is of a checked alphabet, whoever wrote it; what was valid
stays byte for byte.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vididi.config import validate
from vididi.data.layout import shard_name
from vididi.errors import ConfigError, DamagedError, VididiError
from vididi.names import check_inside, check_name, check_part
from vididi.protocols import PROTOCOLS, EvaluationEntry, protocol_settings
from vididi.sweep import Sweep, cell_at, expand

HOSTILE = [
    "/../../../evil/x",
    "..",
    ".",
    "",
    "/etc/passwd",
    "a/b",
    "a\0b",
    "a\n",
    "a\x1b[2J",
    "-rf",
    ".hidden",
    "\ud800",
    "a b",
    "\u00e4",
    "\u202egnp",
]
BELOW = Path("/runs/here")


def stays_below(path: str) -> bool:
    """Whether joining leads to a place below, as the system resolves paths."""
    whole = Path(f"{BELOW}/{path}")
    return ".." not in whole.parts and whole.is_relative_to(BELOW) and whole != BELOW


# --- The function ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*HOSTILE, "a" * 256, 7, None, ["a"]])
def test_a_name_of_another_alphabet_is_refused_with_its_place(name: Any) -> None:
    with pytest.raises(DamagedError, match=r"^set: source\.name: .* is not valid") as caught:
        check_name(name, "set: source.name", DamagedError)
    assert len(str(caught.value)) < 250
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "name", ["something_something_v2", "r3d_18.b-2", "0", "A.", "a..b", "a" * 255]
)
def test_a_name_that_was_valid_stays_as_it_is(name: str) -> None:
    assert check_name(name, "name") == name


@given(st.text())
@example("a" * 256)
@example("..")
@settings(max_examples=300, deadline=None)
def test_what_is_taken_for_a_part_is_one_entry_of_a_folder(text: str) -> None:
    try:
        check_part(text, "part")
    except ConfigError:
        return
    assert (BELOW / text).parent == BELOW
    assert (BELOW / text).name == text
    assert len(text.encode()) <= 255


@given(
    st.lists(
        st.sampled_from(["a", "..", ".", "", "b.c", "a\0", "\u00e4"]), min_size=1, max_size=6
    ).map("/".join)
)
@settings(max_examples=300, deadline=None)
def test_what_is_taken_for_a_path_inside_stays_below(text: str) -> None:
    try:
        check_inside(text, "path")
    except ConfigError:
        assert not stays_below(text) or any(
            part in ("", ".", "..") or "\0" in part for part in text.split("/")
        )
    else:
        assert stays_below(text)
        assert (BELOW / text).relative_to(BELOW).as_posix() == text


# --- Where names come from ------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE)
def test_sweeps_and_arms_of_hostile_names_are_refused(name: str) -> None:
    for content in ({"name": name}, {"name": "s", "arms": {name: {}}}):
        with pytest.raises(ConfigError, match=r"name|arms"):
            validate(Sweep, content, "sweep.yaml")


@pytest.mark.parametrize(
    "value", ["/../../../evil/x", "..", "a\0b", "a\n", "\u00e4/\u00df", "-", "a.", "x" * 200]
)
def test_a_cell_s_folder_is_one_entry_whatever_its_axes_are(value: str) -> None:
    (cell,) = expand(
        validate(Sweep, {"name": "s", "axes": {"backbone.weights": [value]}}, "sweep.yaml")
    )
    folder = cell.folder_name("0" * 64)
    assert check_part(folder, "folder") == folder
    assert folder.startswith("s-weights=")
    assert stays_below(folder)


def test_a_cell_whose_folder_would_have_too_long_a_name_is_refused_before_anything_runs() -> None:
    sweep = validate(Sweep, {"name": "s", "axes": {"backbone.weights": ["w" * 300]}}, "sweep.yaml")
    with pytest.raises(ConfigError, match=r"^arm 's': name: s-weights=w.* has 313 bytes"):
        expand(sweep)


def test_a_search_s_folders_have_short_names_however_many_axes_it_has() -> None:
    space = {f"backbone.option_{number:02d}": {"choice": ["x" * 40, "y"]} for number in range(12)}
    sweep = validate(
        Sweep,
        {"name": "s", "search": {"name": "random", "space": space, "trials": 3}},
        "sweep.yaml",
    )
    cell = cell_at(sweep, dict.fromkeys(space, "x" * 40))
    assert cell
    assert len(cell.folder_name("")) < 60


@pytest.mark.parametrize("name", HOSTILE)
def test_protocols_are_those_that_there_are(name: str) -> None:
    with pytest.raises(VididiError):
        protocol_settings(name, None, {})
    with pytest.raises(VididiError):
        validate(EvaluationEntry, {"protocol": name}, "sweep.yaml")


@pytest.mark.parametrize("name", [*PROTOCOLS, *map(shard_name, (0, 7, 99_999, 100_000))])
def test_protocols_and_shards_have_names_that_are_valid(name: str) -> None:
    assert check_name(name, "name") == name
