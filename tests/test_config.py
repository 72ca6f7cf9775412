"""The configuration: closed, typed, hashable, and with errors that say what to write instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from vididi.config import ACCUMULATION, Config, build_config, parse_value, read_yaml
from vididi.dotted_keys import flatten, nest
from vididi.errors import ConfigError
from vididi.pairing import Schedule
from vididi.values import shown


def fault(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as error:
        build_config(values, "here.yaml")
    return str(error.value)


def read(tmp_path: Path, text: str) -> dict[str, Any]:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    return read_yaml(path)


# --- Faults ---------------------------------------------------------------------------------------


def test_an_unknown_section_is_an_error_that_lists_the_sections_and_the_nearest() -> None:
    message = fault({"trainig": {"epochs": 3}})
    assert "trainig: unknown key (did you mean 'training'?)" in message
    assert all(name in message for name in Config.model_fields)


def test_an_unknown_key_of_a_section_is_an_error_that_lists_the_section_s_keys() -> None:
    message = fault({"training": {"epoch": 3}})
    assert "training.epoch: unknown key (did you mean 'epochs'?)" in message
    assert "batch_size" in message
    assert "short_side" not in message


def test_a_key_that_is_near_to_nothing_gets_no_hint() -> None:
    message = fault({"clip": {"zzzzzz": 1}})
    assert (
        "clip.zzzzzz: unknown key; valid keys are extra_frames, frames, per_video, size, stride,"
        " view_length" in message
    )


def test_every_fault_is_listed_under_the_file_s_name() -> None:
    message = fault({"training": {"epoch": 3, "batch_size": 1}, "clip": {"frames": 0}})
    assert message.startswith("here.yaml:\n")
    assert [line.split(":")[0].strip() for line in message.splitlines()[1:]] == [
        "clip.frames",
        "training.batch_size",
        "training.epoch",
    ]


@pytest.mark.parametrize(
    ("section", "key", "value", "allowed"),
    [
        ("training", "epochs", "many", "integer"),
        ("training", "epochs", 1.5, "integer"),
        ("training", "epochs", -1, "greater than or equal to 0"),
        ("training", "batch_size", 1, "greater than or equal to 2"),
        ("training", "precision", "fp16", "'fp32' or 'bf16'"),
        ("training", "seed", None, "integer"),
        ("clip", "stride", 0, "greater than or equal to 1"),
        ("prepare", "quality", 101, "less than or equal to 100"),
        ("schedule", "order", 10, "less than or equal to 9"),
        ("schedule", "order", -1, "greater than or equal to 0"),
        ("schedule", "mix", "half", "'same', 'one_way' or 'both_ways'"),
        ("schedule", "selection", "planned", "'random', 'scheduled' or 'weighted'"),
        ("evaluation", "crop", 0, "greater than 0"),
        ("clip", "view_length", "growing", "'constant' or 'shrinking'"),
        ("clip", "per_video", 1, "greater than or equal to 2"),
        ("clip", "per_video", 2.5, "integer"),
        ("training", "cosine", "half", "'remaining' or 'whole'"),
    ],
)
def test_a_wrong_value_names_the_field_the_value_and_what_is_allowed(
    section: str, key: str, value: Any, allowed: str
) -> None:
    message = fault({section: {key: value}})
    assert f"{section}.{key}: {shown(value)} is not valid" in message
    assert allowed in message


def test_an_unknown_protocol_names_the_protocols_there_are() -> None:
    message = fault({"evaluation": {"protocols": ["retrieval", "linaer"]}})
    assert "evaluation.protocols.1: 'linaer' is not valid" in message
    assert "'retrieval' or 'silhouette'" in message


def test_a_section_that_is_no_mapping_is_an_error() -> None:
    assert "training: 3 is not valid" in fault({"training": 3})


def test_a_component_without_a_name_is_its_section_s_default() -> None:
    optimiser = build_config({"optimiser": {"lr": 4.0}}).optimiser
    assert (optimiser.name, optimiser.options) == ("lars", {"lr": 4.0})


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().training.epochs = 3  # type: ignore[misc]


# --- Schedules and sections that depend on each other ---------------------------------------------


@pytest.mark.parametrize("order", [1, 2])
def test_orders_above_zero_are_scheduled_both_ways_unless_told_otherwise(order: int) -> None:
    schedule = build_config({"schedule": {"order": order}}).schedule
    assert (schedule.selection, schedule.mix, schedule.reverse) == ("scheduled", "both_ways", False)


def test_the_default_schedule_is_algorithm_1() -> None:
    assert (
        build_config({}).schedule
        == build_config(
            {"schedule": {"order": 2, "mix": "both_ways", "selection": "scheduled"}}
        ).schedule
    )


def test_order_zero_has_no_other_axis() -> None:
    schedule = build_config({"schedule": {"order": 0}}).schedule
    assert (schedule.selection, schedule.mix, schedule.reverse) == (None, None, False)


def test_random_selection_has_no_mix() -> None:
    assert build_config({"schedule": {"order": 1, "selection": "random"}}).schedule.mix is None


@pytest.mark.parametrize(
    ("schedule", "named"),
    [
        ({"order": 0, "mix": "same"}, "schedule.mix: 'same' needs order 1 or more"),
        ({"order": 0, "selection": "random"}, "schedule.selection: 'random' needs order 1 or more"),
        ({"order": 0, "reverse": True}, "schedule.reverse: True needs order 1 or more"),
        (
            {"order": 0, "weights": {"0-0": 1}},
            "schedule.weights: {'0-0': 1.0} needs order 1 or more",
        ),
        (
            {"order": 1, "selection": "random", "mix": "one_way"},
            "schedule.mix: 'one_way' needs selection 'scheduled'",
        ),
        (
            {"order": 2, "selection": "random", "reverse": True},
            "schedule.reverse: True needs selection 'scheduled'",
        ),
        (
            {"selection": "scheduled", "weights": {"1-0": 1}},
            "schedule.weights: {'1-0': 1.0} needs selection 'weighted'",
        ),
        (
            {"weights": {"1-0": 1}, "mix": "same"},
            "schedule.mix: 'same' needs selection 'scheduled'; with 'weighted'",
        ),
        (
            {"selection": "weighted"},
            "schedule.weights: None is not valid with selection 'weighted'",
        ),
        ({"weights": {}}, "schedule.weights: {} is not valid with selection 'weighted'"),
        ({"weights": {"1-3": 1}}, "schedule.weights: '1-3' is beyond order 2"),
        ({"weights": {"velocity": 1}}, "schedule.weights: 'velocity' is not a pair"),
        ({"weights": {"1-0": "much"}}, "schedule.weights.1-0: 'much' is not valid"),
    ],
)
def test_axes_that_mean_nothing_together_are_refused(schedule: dict[str, Any], named: str) -> None:
    assert named in fault({"schedule": schedule})


def test_random_selection_takes_one_draw_for_both_views() -> None:
    schedule = build_config(
        {"schedule": {"order": 2, "selection": "random", "mix": "same"}}
    ).schedule
    assert schedule.schedule() == Schedule(2, "same", "random")
    assert schedule.summary == "order 2, random, same"


def test_weights_alone_make_the_selection_weighted() -> None:
    schedule = build_config({"schedule": {"weights": {"1-0": 1, "2-2": 3}}}).schedule
    assert schedule.schedule() == Schedule(
        2, selection="weighted", weights={"1-0": 1.0, "2-2": 3.0}
    )
    assert (schedule.mix, schedule.summary) == (None, "order 2, weighted")


def test_weights_are_read_from_yaml_and_written_back(tmp_path: Path) -> None:
    config = build_config(
        read(tmp_path, "schedule:\n  order: 1\n  weights: {1-0: 0.25, 0-0: 1e-1, 0-1: 0}\n")
    )
    assert config.schedule.weights == {"1-0": 0.25, "0-0": 0.1, "0-1": 0.0}
    again = build_config(read(tmp_path, config.to_yaml()))
    assert again == config
    assert nest(flatten(config.to_dict())) == config.to_dict()


def test_the_order_of_the_weights_in_the_file_does_not_change_the_identity() -> None:
    one, other = (
        {"schedule": {"weights": weights}}
        for weights in ({"1-0": 1, "0-1": 2}, {"0-1": 2, "1-0": 1})
    )
    assert build_config(one).identity("x") == build_config(other).identity("x")


def test_a_clip_needs_as_many_extra_frames_as_the_order() -> None:
    assert "clip.extra_frames: 1 is less than schedule.order 2" in fault(
        {"clip": {"extra_frames": 1}}
    )
    assert "clip.extra_frames: 2 is less than schedule.order 3" in fault({"schedule": {"order": 3}})
    assert (
        build_config({"clip": {"extra_frames": 3}, "schedule": {"order": 3}}).schedule.mix
        == "both_ways"
    )
    assert build_config({"clip": {"extra_frames": 1}, "schedule": {"order": 1}}).clip.length == 9


def test_warm_up_must_end_before_the_run_does() -> None:
    assert "training.warmup_epochs: 5 must be less than the 5 epochs" in fault(
        {"training": {"epochs": 5, "warmup_epochs": 5}}
    )
    assert build_config({"training": {"epochs": 5, "warmup_epochs": 4}}).training.warmup_epochs == 4


def test_a_shrinking_view_needs_more_frames_than_the_order() -> None:
    clip = {"view_length": "shrinking", "frames": 2}
    assert "clip.frames: 2 is too few for view_length 'shrinking' with order 2" in fault(
        {"clip": clip}
    )
    assert build_config({"clip": clip, "schedule": {"order": 1}}).clip.frames == 2
    assert build_config({"clip": {**clip, "view_length": "constant"}}).clip.frames == 2


@pytest.mark.parametrize("name", ACCUMULATION)
def test_gradient_accumulation_is_refused_with_the_reason(name: str) -> None:
    message = fault({"training": {name: 4, "epochs": 3}})
    assert f"training.{name}: 4 is not possible; gradients are not accumulated" in message
    assert "another objective" in message
    assert "use more workers" in message


def test_no_epochs_at_all_is_allowed() -> None:
    assert build_config({"training": {"epochs": 0}}).training.epochs == 0


# --- YAML -----------------------------------------------------------------------------------------


def test_a_key_given_twice_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"line 3: training: 'epochs' is given twice"):
        read(tmp_path, "training:\n  epochs: 3\n  epochs: 4\n")


def test_a_section_given_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'training' is given twice"):
        read(tmp_path, "training: {epochs: 3}\nclip: {frames: 4}\ntraining: {seed: 1}\n")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-6", 1e-6), ("1E3", 1000.0), ("-2.5e-2", -0.025), (".5e1", 5.0), ("+1.e2", 100.0)],
)
def test_numbers_with_an_exponent_are_floats(tmp_path: Path, text: str, value: float) -> None:
    found = read(tmp_path, f"lr: {text}\n")["lr"]
    assert isinstance(found, float)
    assert found == value
    assert parse_value(text) == value


def test_names_with_an_e_in_them_stay_names() -> None:
    assert [parse_value(text) for text in ("e5", "1e", "12 e3", "r3d_18")] == [
        "e5",
        "1e",
        "12 e3",
        "r3d_18",
    ]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: No such file"):
        read_yaml(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words\n", "3\n"])
def test_a_file_that_is_no_mapping_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="must be a mapping"):
        read(tmp_path, text)


def test_a_file_that_is_not_yaml_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        read(tmp_path, "training: {epochs: 3\n")
    assert str(error.value).endswith(
        ".yaml, line 2: not valid YAML: expected ',' or '}', but got '<stream end>'"
    )
    with pytest.raises(
        ConfigError,
        match="line 2: not valid YAML: expected a single document in the stream but found another",
    ):
        read(tmp_path, "a: 1\n---\nb: 1\n")
    with pytest.raises(
        ConfigError, match="line 2: not valid YAML: a tab stands where only spaces may"
    ):
        read(tmp_path, "training:\n\tepochs: 3\n")


def test_a_file_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    for content in (
        b"\xff\xfe\x00\x80\x81",
        "name: x\n".encode("utf-16"),
        "name: \xe9\n".encode("latin-1"),
    ):
        (tmp_path / "video.yaml").write_bytes(content)
        with pytest.raises(ConfigError, match=r"video\.yaml: not a text file in UTF-8"):
            read_yaml(tmp_path / "video.yaml")


def test_a_list_as_a_key_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"file\.yaml"):
        read(tmp_path, "? [a, b]\n: 3\n")


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system",
        "!!python/object/apply:subprocess.check_call",
        "!!python/name:os.system",
    ],
)
def test_tags_that_run_code_are_refused_and_run_nothing(tmp_path: Path, tag: str) -> None:
    witness = tmp_path / "was_here"
    with pytest.raises(ConfigError, match=r"line 1: training: a value of kind !!python"):
        read(tmp_path, f'training: {tag} ["touch {witness}"]\n')
    assert not witness.exists()


def test_a_value_of_the_command_line_is_yaml_and_as_safe() -> None:
    assert parse_value("[0.3, 1.0]") == [0.3, 1.0]
    assert parse_value("true") is True
    for text, why in (("[0.3", "is not a YAML value"), ("!!python/name:os.system", "is not taken")):
        with pytest.raises(ConfigError, match=why):
            parse_value(text)


# --- Plain values ---------------------------------------------------------------------------------


def test_flatten_and_nest_are_inverses() -> None:
    nested = build_config({}).to_dict()
    flat = flatten(nested)
    assert flat["training.epochs"] == 400
    assert nest(flat) == nested
    assert flatten(nest(flat)) == flat


def test_a_key_under_a_value_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"training\.epochs: training is a value, not a section"):
        nest({"training": 3, "training.epochs": 4})


def test_a_written_configuration_reads_back_as_the_same(tmp_path: Path) -> None:
    config = build_config(
        {
            "augment": {"name": "vididi", "crop_scale": [0.3, 1.0]},
            "optimiser": {"name": "lars", "weight_decay": 1e-6},
        }
    )
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    again = build_config(read_yaml(tmp_path / "config.yaml"))
    assert again == config
    assert again.identity("x") == config.identity("x")
    assert yaml.safe_load(config.to_yaml()).keys() == Config.model_fields.keys()


# --- Identity -------------------------------------------------------------------------------------


def test_an_identity_is_twelve_hex_digits_and_stays_the_same() -> None:
    identity = Config().identity("checksum")
    assert len(identity) == 12
    assert int(identity, 16) >= 0
    assert build_config({}).identity("checksum") == identity


@pytest.mark.parametrize(
    "change",
    [
        {"schedule": {"order": 1}},
        {"schedule": {"order": 2, "reverse": True}},
        {"schedule": {"selection": "random"}},
        {"schedule": {"weights": {"1-0": 1}}},
        {"clip": {"stride": 2}},
        {"clip": {"extra_frames": 3}},
        {"clip": {"view_length": "shrinking"}},
        {"clip": {"per_video": 4}},
        {"sampling": {"name": "same"}},
        {"sampling": {"name": "interval", "power": 2.0}},
        {"augment": {"name": "vididi", "flip": 0.0}},
        {"objective": {"name": "vicreg", "covariance": 0.04}},
        {"backbone": {"name": "r3d_tiny"}},
        {"optimiser": {"name": "lars", "lr": 1.0}},
        {"training": {"epochs": 399}},
        {"training": {"seed": 1}},
        {"training": {"batch_size": 32}},
        {"training": {"precision": "bf16"}},
        {"training": {"threads": 2}},
        {"training": {"cosine": "whole"}},
        {"evaluation": {"clips": 2}},
        {"evaluation": {"seed": 3}},
        {"evaluation": {"protocols": ["retrieval"]}},
    ],
    ids=str,
)
def test_whatever_changes_the_result_changes_the_identity(change: dict[str, Any]) -> None:
    assert build_config(change).identity("checksum") != Config().identity("checksum")


@pytest.mark.parametrize(
    "change",
    [{"data": {"name": "folder", "videos": "/elsewhere"}}, {"prepare": {"short_side": 64}}],
    ids=str,
)
def test_where_the_data_lay_does_not_change_the_identity(change: dict[str, Any]) -> None:
    assert build_config(change).identity("checksum") == Config().identity("checksum")


@pytest.mark.parametrize("other", [{"1-0": 2}, {"1-0": 1, "0-1": 1}, {"0-1": 1}], ids=str)
def test_other_weights_are_another_identity(other: dict[str, float]) -> None:
    one, two = ({"schedule": {"weights": weights}} for weights in ({"1-0": 1}, other))
    assert build_config(one).identity("x") != build_config(two).identity("x")


def test_which_data_it_was_changes_the_identity() -> None:
    assert Config().identity("checksum") != Config().identity("another")
