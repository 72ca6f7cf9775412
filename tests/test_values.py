"""A value is what its writer sees, or is refused: no boolean for a number, no number in another
base, nothing too large to compute.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

import run_sweep
from vididi.backbones.weights import load_weights
from vididi.cli import main
from vididi.commands.arguments import overrides, parse_seeds
from vididi.commands.cells import check_evaluations
from vididi.components import resolve
from vididi.config import build_config, parse_value, read_yaml
from vididi.data.actions import read_actions
from vididi.data.sources.lists import read_list
from vididi.dotted_keys import flatten, nest
from vididi.errors import ConfigError, DataError
from vididi.evaluation.ava_files import read_predictions
from vididi.sweep import cell_at, examples, expand, load_sweep
from vididi.values import load, load_quickly

ROOT = Path(__file__).resolve().parents[1]


def read(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    return read_yaml(path)["a"]


def resolved(values: dict[str, Any]) -> dict[str, Any]:
    return flatten(resolve(build_config(nest(values))).to_dict())


# --- Text to values -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("010", "10"),
        ("014", "14"),
        ("-07", "-7"),
        ("08", "8"),
        ("00", "0"),
        ("1:30", "90"),
        ("-1:30", "-90"),
        ("1:30:00", "5400"),
        ("1:30.5", "90.5"),
    ],
)
def test_a_number_that_yaml_reads_in_another_base_is_refused_and_told_what_to_write(
    tmp_path: Path, text: str, instead: str
) -> None:
    with pytest.raises(ConfigError) as error:
        read(tmp_path, f"b: 1\na: {{c: [0, {text}]}}\n")
    assert f"{tmp_path}/file.yaml, line 2: a.c.1: {text} is not valid: " in str(error.value)
    assert f"write {instead}" in str(error.value)
    assert f"'{text}' in quotes if it is a word" in str(error.value)
    with pytest.raises(ConfigError, match=f"--set b: {text} is not valid: .* write {instead}"):
        overrides([f"b={text}"])
    assert read(tmp_path, f"a: '{text}'\n") == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10),
        ("+4", 4),
        ("0", 0),
        ("-0", 0),
        ("1_000", 1000),
        ("0x1F", 31),
        ("0b101", 5),
        ("1e-3", 1e-3),
        ("1E3", 1000.0),
        ("0.5", 0.5),
        ("9223372036854775807", 2**63 - 1),
        ("'1e-3'", "1e-3"),
        ("0o17", "0o17"),
        ("0x_", "0x_"),
        ("2001-01-01", "2001-01-01"),
        ("12:75", "12:75"),
        ("=", "="),
        ("y", "y"),
        ("yes", True),
        ("On", True),
        ("off", False),
        ("NO", False),
        ("~", None),
        ("", None),
        ("[~, null]", [None, None]),
        ("{<<: {b: 1, c: 2}, c: 3}", {"b": 1, "c": 3}),
    ],
)
def test_what_can_be_read_in_one_way_is_taken(tmp_path: Path, text: str, value: Any) -> None:
    found = read(tmp_path, f"a: {text}\n")
    assert (found, type(found)) == (value, type(value))


def test_a_key_is_the_text_that_it_is_written_as(tmp_path: Path) -> None:
    text = "a: {on: 1, no: 2, y: 3, 010: 4, 1: 5, ~: 6, 2001-01-01: 7, 1.50: 8}\n"
    assert read(tmp_path, text) == {
        "on": 1,
        "no": 2,
        "y": 3,
        "010": 4,
        "1": 5,
        "~": 6,
        "2001-01-01": 7,
        "1.50": 8,
    }
    with pytest.raises(ConfigError, match="line 1: a: 'on' is given twice"):
        read(tmp_path, "a: {on: 1, 'on': 2}\n")


def test_json_and_tags_are_read_as_they_are_meant(tmp_path: Path) -> None:
    text = json.dumps({"a": "\U0001f600 \xe9", "\U0001f600": 1})
    assert "\\ud83d" in text  # as JSON writes what YAML does not know
    assert read(tmp_path, f"a: {text}") == {"a": "\U0001f600 \xe9", "\U0001f600": 1}
    assert isinstance(read(tmp_path, "a: !!float 3\n"), float)


def test_a_merge_may_be_merged_again(tmp_path: Path) -> None:
    text = "a: {b: {<<: &x {<<: {c: 1}, c: 2}}, d: *x}\n"
    assert read(tmp_path, text) == {"b": {"c": 2}, "d": {"c": 2}}


LAUGHS = (
    "["
    + ", ".join(["&a0 {k: v}", *(f"&a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9))])
    + "]"
)
MERGES = (
    "["
    + ", ".join(
        ["&a0 {k: v}", *(f"&a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 9))]
    )
    + "]"
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("9223372036854775808", "whole numbers go up to 9223372036854775807"),
        ("-9223372036854775808", "whole numbers go up to"),
        ("0x" + "F" * 9000, "whole numbers go up to"),
        ("9" * 5000, "whole numbers go up to"),
        ("1e400", "it must be a finite number"),
        (".inf", "it must be a finite number"),
        ("-.INF", "it must be a finite number"),
        (".NaN", "it must be a finite number"),
        (r'"\ud800"', "half a character"),
        (r'"\0"', "NUL"),
        (r'"\U00110000"', "not valid YAML"),
        ("!!binary aGVsbG8=", "a value of kind !!binary is not taken"),
        ("!!timestamp 2001-01-01", "a value of kind !!timestamp is not taken"),
        ("!!set {b}", "a value of kind !!set cannot be a mapping"),
        ("!!omap [b: 1]", "a value of kind !!omap cannot be a list"),
        ("!!seq {b: 1}", "a value of kind !!seq cannot be a mapping"),
        ("!!map b", "a value of kind !!map is not taken"),
        ("!!int '010'", "it is not of the kind !!int"),
        ("!!bool maybe", "it is not of the kind !!bool"),
        ("!!float much", "it is not of the kind !!float"),
        ("!!null some", "it is not of the kind !!null"),
        ("!mine 3", "a value of kind !mine is not taken"),
        ("[" * 1200, "more than 50 levels"),
        ("{b: " * 1200, "more than 50 levels"),
        ("&b [*b]", "an alias stands for a value that it is part of"),
        ("&b {c: {d: *b}}", "an alias stands for a value that it is part of"),
        ("[" + "1, " * 20_000 + "1]", "more than 20000 values"),
        (LAUGHS, "with its aliases it stands for"),
        (MERGES, "with its aliases it stands for"),
        ("[&a0 [], " + ", ".join(f"&a{i} [*a{i - 1}]" for i in range(1, 60)) + "]", "in 51 levels"),
    ],
    ids=lambda value: value[:24],
)
def test_what_has_no_place_in_a_configuration_is_refused_soon_and_named(
    tmp_path: Path, text: str, why: str
) -> None:
    began = time.perf_counter()
    with pytest.raises(ConfigError) as error:
        read(tmp_path, f"b: 1\na: {text}\n")
    message = str(error.value)
    assert why in message
    assert len(message) < 600
    assert message.startswith(
        f"{tmp_path}/file.yaml, line 2: a"
        if "not valid YAML" not in why
        else f"{tmp_path}/file.yaml: "
    )
    with pytest.raises(ConfigError):
        parse_value(text)
    assert time.perf_counter() - began < 20  # for ever, without the bounds


def test_keys_with_more_dots_than_levels_are_refused() -> None:
    with pytest.raises(ConfigError, match="at most 50 levels"):
        build_config(nest({"optimiser." + "a." * 1200 + "b": 1}))


# --- Kinds ----------------------------------------------------------------------------------------

MOST = "whole numbers go up to 9223372036854775807"
NO_NUMBER = "is no number"
BOOLEAN = "is a number; it is true or false"


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("training.epochs", True, NO_NUMBER),
        ("training.epochs", "010", NO_NUMBER),
        ("training.epochs", "1_0", NO_NUMBER),
        ("training.epochs", " 7 ", NO_NUMBER),
        ("training.epochs", "٣", NO_NUMBER),
        ("training.epochs", None, "integer"),
        ("training.epochs", 1e20, MOST),
        ("training.epochs", 10**9, "less than or equal to 100000000"),
        ("training.seed", 2**64, MOST),
        ("training.seed", 10**4000, MOST),
        ("training.checkpoint_steps", False, NO_NUMBER),
        ("schedule.order", True, NO_NUMBER),
        ("schedule.reverse", 1, BOOLEAN),
        ("schedule.reverse", "0", BOOLEAN),
        ("schedule.reverse", 0.0, BOOLEAN),
        ("schedule.weights", {"1-0": True}, NO_NUMBER),
        ("schedule.weights", {"1-0": "inf"}, NO_NUMBER),
        ("clip.per_video", True, NO_NUMBER),
        ("evaluation.crop", True, NO_NUMBER),
        ("evaluation.crop", float("nan"), "finite"),
        ("evaluation.untrained", 1, BOOLEAN),
        ("evaluation.online.every", True, NO_NUMBER),
        ("prepare.quality", True, NO_NUMBER),
        ("optimiser.lr", True, NO_NUMBER),
        ("optimiser.lr", "inf", NO_NUMBER),
        ("optimiser.lr", float("inf"), "finite"),
        ("optimiser.lr", 2e30, "numbers go up to 1e+30"),
        ("optimiser.lr", "1e39", "numbers go up to 1e+30"),
        ("optimiser.lr", 10**400, "numbers go up to 1e+30"),
        ("objective.hidden", True, NO_NUMBER),
        ("objective.hidden_layers", 10**9, "must be 0 to 1000"),
        ("objective.halve_variance", 0, BOOLEAN),
        ("augment.crop_scale", [True, 1], NO_NUMBER),
        ("augment.crop_scale", [0.5, "1e99"], "numbers go up to"),
        ("augment.consistent", 1, BOOLEAN),
    ],
)
def test_a_value_of_another_kind_or_size_is_refused_with_its_field(
    key: str, value: Any, why: str
) -> None:
    with pytest.raises(ConfigError) as error:
        resolved({"augment.name": "cvrl", key: value})
    assert f"{key}: " in str(error.value)
    assert why in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("key", "value", "taken"),
    [
        ("optimiser.lr", "1e-3", 1e-3),
        ("optimiser.lr", 1, 1.0),
        ("optimiser.lr", "2", 2.0),
        ("training.epochs", 1e2, 100),
        ("training.epochs", "12", 12),
        ("training.seed", 2**63 - 1, 2**63 - 1),
        ("schedule.reverse", True, True),
        ("schedule.reverse", "yes", True),
        ("augment.crop_scale", [0.5, "1.0"], [0.5, 1.0]),
        ("data.seed", 2**62, 2**62),
    ],
)
def test_numbers_and_booleans_as_they_are_written_are_taken(
    key: str, value: Any, taken: Any
) -> None:
    found = resolved({key: value})[key]
    assert (found, type(found)) == (taken, type(taken))


def test_a_literal_number_is_no_boolean() -> None:
    for value in (True, 1.5, "01"):
        with pytest.raises(ConfigError, match=r"data\.split"):
            resolved(
                {
                    "data.name": "ucf101",
                    "data.videos": "/v",
                    "data.splits": "/s",
                    "data.split": value,
                }
            )


@pytest.mark.parametrize("width", [10**10, 2**62])
def test_a_network_beyond_64_bits_is_refused_by_name(width: int) -> None:
    with pytest.raises(
        ConfigError, match=rf"backbone.*'r3d_tiny' cannot be made with width: {width}"
    ):
        resolved({"backbone.name": "r3d_tiny", "backbone.width": width})


SWEEP = """
name: values
base: {training: {epochs: 1, batch_size: 2}, objective.hidden: 8, objective.out: 8, backbone: {name: r3d_tiny, width: 1}}
"""


def cells(tmp_path: Path, text: str) -> list[Any]:
    path = tmp_path / "sweep.yaml"
    path.write_text(text, errors="surrogatepass")
    sweep = load_sweep(path)
    found = examples(sweep, 3)[0] if sweep.searching else expand(sweep)
    check_evaluations(sweep, found)
    for cell in found:
        cell.resolved()
    return found


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("seeds: [yes, no]", "seeds: [true, false] is not valid: true is no number"),
        ("seeds: [18446744073709551616]", "seeds.0: 18446744073709551616 is not valid"),
        ("resources: {workers: true}", "resources.workers: true is not valid"),
        ("resources: {hold_data: 1}", "resources.hold_data: 1 is not valid"),
        ("resources: {wait_s: '.inf'}", "resources.wait_s"),
        ("arms: {b: {resources: {concurrency: on}}}", "concurrency: true is not valid"),
        ("axes: {order: [on]}", "schedule.order: true is not valid"),
        ("axes: {optimiser.lr: [1:30]}", "axes.optimiser.lr.0: 1:30 is not valid"),
        ("stopping: {name: asha, grace: true}", "stopping.grace: true is not valid"),
        ("stopping: {name: asha, reduction: 1.000000001}", "stopping.reduction: "),
        (
            "search: {name: random, trials: true, space: {order: {choice: [1]}}}",
            "search.trials: true is not valid",
        ),
        (
            "search: {name: random, space: {order: {integer: [true, 2]}}}",
            "search.space.order.integer: [true, 2] is not valid",
        ),
        (
            "search: {name: random, space: {optimiser.lr: {log: [1, 1e39]}}}",
            "search.space.optimiser.lr.log: ",
        ),
        ("evaluate: [{protocol: linear, untrained: 1}]", "untrained: 1 is not valid"),
        ("evaluate: [{protocol: linear, settings: {epochs: true}}]", "epochs: true is not valid"),
        (
            "evaluate: [{protocol: linear, settings: {optimiser: {lr: true}}}]",
            "optimiser.lr: true is not valid",
        ),
        (
            "evaluate: [{protocol: linear, settings: {augment: {name: cvrl, flip: 7}}}]",
            "evaluate: linear: augment.flip: 7",
        ),
        ("axes: {training.seed: [1]}", "training.seed"),
        (
            "axes: {training.epochs: [1, 2], "
            + ", ".join(f"optimiser.o{i}: {list(range(99))}" for i in range(3))
            + "}",
            "1940598 cells",
        ),
    ],
)
def test_every_part_of_a_sweep_keeps_kinds(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError) as error:
        cells(tmp_path, f"{SWEEP}{text}\n")
    assert named in str(error.value)


def test_words_that_are_booleans_elsewhere_are_names(tmp_path: Path) -> None:
    assert [
        cell.arm
        for cell in cells(
            tmp_path, f"{SWEEP}arms: {{on: {{}}, no: {{order: 1}}, 010: {{order: 0}}}}\n"
        )
    ] == [
        "on",
        "no",
        "010",
    ]


@pytest.mark.parametrize(
    "text", ["1,true", "010", "1_0", "٣", "18446744073709551616", "9" * 5000, "1,-1", "1;2", "+1"]
)
def test_seeds_of_the_command_line_are_whole_numbers(text: str) -> None:
    with pytest.raises(ConfigError, match="--seeds"):
        parse_seeds(text)
    assert parse_seeds("0, 3,9223372036854775807") == [0, 3, 2**63 - 1]


# --- Names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (f"arms: {{{'a' * 300}: {{}}}}", "name: aaa"),
        (f"axes: {{augment.name: [{'b' * 300}]}}", "name: values-name=bbb"),
        (f"axes: {{backbone.weights_from: [{'ü' * 120}]}}", "name: values-weights_from=ü"),
    ],
)
def test_a_title_for_which_no_folder_can_be_made_is_refused_before_anything_runs(
    tmp_path: Path, text: str, named: str
) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(f"{SWEEP}{text}\n")
    with pytest.raises(ConfigError, match=r"at most 242\.") as error:
        expand(load_sweep(path))
    assert named in str(error.value)


@pytest.mark.parametrize("search", ["grid", "{name: random, space: {order: {integer: [0, 2]}}}"])
def test_the_longest_name_makes_a_folder(tmp_path: Path, search: str) -> None:
    for length in (200, 201):
        path = tmp_path / "sweep.yaml"
        path.write_text(SWEEP.replace("values", "s" * length) + f"search: {search}\n")
        if length == 201:
            with pytest.raises(ConfigError, match=r"name: 'sss.* at most 200"):
                load_sweep(path)
            return
        sweep = load_sweep(path)
        cell = (
            cell_at(sweep, {"order": 1}, 2**63 - 1)
            if sweep.searching
            else expand(sweep, seeds=[2**63 - 1])[0]
        )
        assert cell is not None
        (tmp_path / cell.folder_name("")).mkdir()


def test_the_longest_title_makes_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(f"{SWEEP}arms: {{{'a' * 239}: {{}}}}\n")
    (cell,) = expand(load_sweep(path))
    (tmp_path / cell.folder_name("0" * 64)).mkdir()


# --- Files ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """What is there and no regular file."""
    folder = tmp_path_factory.mktemp("others")
    os.mkfifo(folder / "pipe.yaml")
    place = Path.cwd()
    os.chdir(folder)  # a socket's path may have 100 bytes
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.yaml")
        os.chdir(place)
        (folder / "link.yaml").symlink_to("/dev/zero")
        yield {
            "device": Path("/dev/zero"),
            "pipe": folder / "pipe.yaml",
            "socket": folder / "socket.yaml",
            "folder": folder,
        }


READERS: dict[str, Callable[[Path], Any]] = {
    "configuration": read_yaml,
    "weights": lambda path: resolve(
        build_config({"backbone": {"name": "r3d_tiny", "weights": str(path)}})
    ),
    "pinned weights": lambda path: load_weights(None, str(path)),  # type: ignore[arg-type]
    "list": read_list,
    "actions": read_actions,
    "predictions": read_predictions,
}


@pytest.mark.parametrize("kind", ["device", "pipe", "socket", "folder"])
@pytest.mark.parametrize("reader", READERS)
def test_only_regular_files_are_read(others: dict[str, Path], reader: str, kind: str) -> None:
    with pytest.raises((ConfigError, DataError, ValueError)) as error:
        READERS[reader](others[kind])
    assert str(others[kind]) in str(error.value)
    assert f"it is a {kind}, not a regular file" in str(error.value)


def test_a_link_is_what_it_leads_to(others: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="it is a device"):
        read_yaml(others["folder"] / "link.yaml")
    (tmp_path / "file.yaml").write_text("a: 1\n")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "file.yaml")
    assert read_yaml(tmp_path / "link.yaml") == {"a": 1}


@pytest.mark.parametrize("path", ["x" * 300, "a\0b", "/dev/zero", "nowhere"])
def test_a_path_that_cannot_be_opened_is_one_sentence(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Callable[[], int]] = [
        lambda: run_sweep.main([path, "--dry-run"]),
        lambda: main(["pretrain", path, "--out", "out"]),
        lambda: main(["prepare", "csv", "--videos", path, "--list", path, "--out", "out"]),
        lambda: main(["prepare", "folder", "--videos", path, "--out", "out"]),
        lambda: main(["prepare", "ucf101", "--videos", path, "--splits", path, "--out", "out"]),
    ]
    for call in calls:
        assert call() in (1, 2)
        assert len(capsys.readouterr().err.splitlines()) == 1


# --- Anything anywhere ----------------------------------------------------------------------------

SNIPPETS = [
    "010",
    "1:30",
    "on",
    "~",
    "1e400",
    "!!set {a}",
    "&a [*a]",
    "*a",
    "!!int x",
    '"\\ud800"',
    "{",
    "1e39",
    "0x" + "f" * 40,
    "- -",
    "<<",
]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 0, 1, 2, 3, 8, 100, 10**4, 10**10, 2**31, 2**62, 2**63, 2**64, 10**400]),
    st.floats(),
    st.sampled_from([1e-300, 1e20, 1e39, 0.1, 0.999, -0.0]),
    st.text(max_size=20),
    st.sampled_from(
        [
            "r3d_tiny",
            "vicreg",
            "byol",
            "corp_m",
            "cvrl",
            "vididi",
            "min_offset",
            "interval",
            "sgd",
            "scheduled",
            "1e-3",
            "01",
        ]
    ),
    st.text(min_size=300, max_size=300),
)
VALUES = st.one_of(
    SCALARS,
    st.recursive(
        SCALARS,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(max_size=5) | SCALARS, inner, max_size=3)
        ),
        max_leaves=5,
    ),
).map(
    lambda value: (
        yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()
    )
)
OPTIONS = [
    *(
        "name",
        "width",
        "weights",
        "weights_sha256",
        "lr",
        "momentum",
        "weight_decay",
        "trust",
        "hidden",
        "out",
        "hidden_layers",
        "eps",
    ),
    *(
        "temperature",
        "group",
        "symmetric",
        "heads",
        "crop_scale",
        "blur_kernel",
        "blur_sigma",
        "jitter",
        "consistent",
        "operations",
    ),
    *("magnitude", "power", "floor", "shape", "train", "size", "seed", "nothing"),
]
KEYS = st.one_of(
    st.sampled_from(
        sorted(set(flatten(build_config({}).to_dict())) - {"training.seed", "evaluation.protocols"})
    ).map("base.{}".format),
    st.builds(
        "base.{}.{}".format,
        st.sampled_from(["data", "sampling", "augment", "objective", "backbone", "optimiser"]),
        st.sampled_from(OPTIONS),
    ),
    st.sampled_from(
        [
            "name",
            "table",
            "base",
            "axes",
            "arms",
            "seeds",
            "exclude",
            "search",
            "stopping",
            "evaluate",
            "resources",
        ]
    ),
    st.sampled_from(
        ["workers", "cpus_per_worker", "gpus_per_worker", "concurrency", "hold_data", "wait_s"]
    ).map("resources.{}".format),
    st.sampled_from(
        [
            "arms.x",
            "arms.x.label",
            "arms.x.order",
            "arms.x.resources",
            "axes.order",
            "axes.augment.name",
            "axes.optimiser.lr",
        ]
    ),
)


@given(KEYS, st.one_of(VALUES, st.sampled_from(SNIPPETS)))
@settings(max_examples=200, deadline=None)
@example("base.backbone.width", "10000000000")
@example("axes.order", "[0, true]")
@example("exclude", "[{order: 0}]")
def test_anything_anywhere_makes_cells_or_is_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, key: str, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    values = {
        "name": "fuzzed",
        "base": nest({"training.epochs": 1, "training.batch_size": 2, "backbone.name": "r3d_tiny"}),
    }
    flat = {
        name: value
        for name, value in flatten(values).items()
        if name != key and not name.startswith(f"{key}.")
    }
    lines = yaml.safe_dump(nest({**flat, key: "PLACE"}), width=10**6)
    path.write_text(lines.replace("PLACE", text), errors="surrogatepass")
    began = time.perf_counter()
    try:
        sweep = load_sweep(path)
        found = examples(sweep, 2)[0] if sweep.searching else expand(sweep)[:4]
        for cell in found:
            cell.resolved()
            assert len(os.fsencode(cell.folder_name("0" * 64))) <= 255
    except ConfigError as error:
        message = str(error)
        # What is given in place of a section may have keys of its own, which are then named.
        assert key.rpartition(".")[2] in message or any(
            told in message for told in ("not valid YAML", "unknown key")
        )
        assert len(message) < 10_000
    assert time.perf_counter() - began < 30


# --- Quickly --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(ROOT.glob("sweeps/**/*.yaml")), ids=lambda p: p.stem)
def test_what_is_read_quickly_is_the_same(path: Path) -> None:
    content = path.read_text()
    assert load_quickly(content.encode()) == load(content)


@pytest.mark.parametrize(
    "text",
    ["a: 010", "a: .inf", "a: {b: 1, b: 2}", "a: [", "a: !!python/none x", "a: &x [*x]", "\0"],
)
def test_what_is_refused_is_not_read_quickly(text: str) -> None:
    with pytest.raises((ConfigError, yaml.YAMLError)):
        load(text)
    assert load_quickly(text.encode()) is None
