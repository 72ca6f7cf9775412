"""From a configuration to a finished run folder: names become objects, and a run is the same
however often it was stopped.
"""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from boards import assert_board_is_right, read_board
from plain_files import plain, plain_lines
from safetensors.torch import load_file
from torch import Tensor

from vididi import load_encoder
from vididi.backbones import MINIMUM
from vididi.components import COMPONENTS, build_state, resolve
from vididi.config import Component, Config, build_config, read_yaml
from vididi.data.plan import Plan
from vididi.data.shards import ShardSet
from vididi.data.stream import Batch, Stream, local_stream
from vididi.dotted_keys import flatten, nest
from vididi.errors import ConfigError, DataError, TrainingError
from vididi.evaluation import recall_at, retrieval_recall
from vididi.evaluation.collapse import FLOORS
from vididi.experiment import hyperparameters, run_cell
from vididi.objectives import OBJECTIVES
from vididi.pairing import SCHEDULES
from vididi.plans import make_plans
from vididi.prepared import ensure_prepared
from vididi.runs.readers import read_stopped
from vididi.runs.run_folder import RunFolder
from vididi.sweep import VARIED
from vididi.training.context import LocalContext, Metrics

CELL = {"sweep": "tests", "arm": "a", "label": "A", "axes": {}, "seed": 0}
MakeConfig = Callable[..., Config]


def run(
    config: Config,
    folder: Path,
    shards: ShardSet,
    stream: Stream | None = None,
    context: LocalContext | None = None,
) -> dict[str, Any]:
    return run_cell(
        config, CELL, folder, shards, stream or local_stream(shards), context or LocalContext()
    )


def metric_lines(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what a clock measured."""
    lines = plain_lines(folder / "metrics.jsonl")
    return [
        {name: value for name, value in line.items() if not name.startswith("time/")}
        for line in lines
    ]


def measurements(result: dict[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in result.items()
        if name.startswith(("retrieval/", "silhouette/", "untrained/"))
    }


def assert_same_run(one: Path, other: Path) -> None:
    """The same measurements, metrics, queries and weights, bit for bit."""
    results = [plain(folder / "result.json") for folder in (one, other)]
    assert measurements(results[0]) == measurements(results[1])
    assert metric_lines(one) == metric_lines(other)
    assert pq.read_table(one / "queries.parquet").equals(pq.read_table(other / "queries.parquet"))
    assert_board_is_right(other)
    weights = [load_file(folder / "encoder.safetensors") for folder in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name


# --- Resolving ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def default() -> Config:
    return resolve(build_config({}))


@pytest.mark.parametrize("kind", COMPONENTS)
def test_all_options_of_a_component_are_filled_in_from_its_signature(
    kind: str, default: Config
) -> None:
    component = getattr(default, kind)
    entry = COMPONENTS[kind][component.name]
    parameters = inspect.signature(entry).parameters.values()
    expected = {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    found = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in component.options.items()
    }
    assert found == expected


def test_options_that_were_given_stay(default: Config) -> None:
    config = resolve(build_config({"optimiser": {"name": "lars", "lr": 0.5}}))
    assert config.optimiser.options == {**default.optimiser.options, "lr": 0.5}
    assert config.identity("x") != default.identity("x")


def test_a_default_written_out_is_the_same_run(default: Config) -> None:
    assert resolve(build_config({"optimiser": {"name": "lars", "lr": 1.2}})).identity(
        "x"
    ) == default.identity("x")


def test_resolving_again_changes_nothing(default: Config) -> None:
    assert resolve(default) == default
    assert build_config(default.to_dict()) == default


@pytest.mark.parametrize("kind", COMPONENTS)
def test_an_unknown_name_lists_the_names_there_are(kind: str) -> None:
    with pytest.raises(ConfigError) as error:
        resolve(build_config({kind: {"name": "nothing"}}))
    assert (
        f"{kind}.name: 'nothing' is not valid; it is one of {', '.join(COMPONENTS[kind])}"
        in str(error.value)
    )


def test_an_unknown_option_lists_the_valid_ones() -> None:
    with pytest.raises(ConfigError) as error:
        resolve(build_config({"optimiser": {"name": "lars", "momentun": 0.9}}))
    assert "optimiser.momentun: unknown key (did you mean 'momentum'?)" in str(error.value)
    assert "valid keys are lr, momentum, trust, weight_decay" in str(error.value)


def test_an_option_of_another_entry_is_unknown() -> None:
    with pytest.raises(ConfigError, match=r"backbone\.width: unknown key"):
        resolve(build_config({"backbone": {"name": "r3d_18", "width": 4}}))


def test_an_option_of_an_entry_that_has_none_is_unknown() -> None:
    with pytest.raises(ConfigError, match=r"sampling\.power: unknown key; valid keys are none"):
        resolve(build_config({"sampling": {"name": "min_offset", "power": 2.0}}))


def test_an_option_without_a_default_must_be_given() -> None:
    with pytest.raises(ConfigError, match=r"data\.videos: missing"):
        resolve(build_config({"data": {"name": "folder"}}))


@pytest.mark.parametrize(
    ("kind", "name", "option", "value"),
    [
        ("optimiser", "lars", "lr", "fast"),
        ("backbone", "r3d_tiny", "width", 2.5),
        ("augment", "vididi", "crop_scale", [0.1]),
        ("augment", "vididi", "crop_scale", 0.1),
        ("data", "motion", "train", None),
        ("optimiser", "adamw", "lr", float("nan")),
        ("objective", "cvrl", "temperature", float("inf")),
    ],
)
def test_an_option_of_the_wrong_type_names_the_option_and_the_value(
    kind: str, name: str, option: str, value: Any
) -> None:
    with pytest.raises(ConfigError) as error:
        resolve(build_config({kind: {"name": name, option: value}}))
    assert f"{kind}.{option}" in str(error.value)


@pytest.mark.parametrize(
    ("kind", "name", "option", "value"),
    [
        ("backbone", "r3d_tiny", "width", 0),
        ("objective", "vicreg", "eps", 0),
        ("objective", "vicreg", "hidden", 0),
        ("objective", "vicreg", "hidden_layers", -1),
        ("augment", "vididi", "flip", 2),
        ("augment", "vididi", "crop_scale", [0.5, 0.2]),
        ("augment", "vididi", "blur_kernel", 2),
        ("optimiser", "lars", "lr", -1),
        ("optimiser", "lars", "momentum", 1.0),
        ("optimiser", "sgd", "weight_decay", -0.1),
        ("objective", "simclr", "temperature", 0),
        ("objective", "byol", "momentum", 1.5),
        ("objective", "corp_f", "symmetric", 0),
        ("objective", "corp_m", "antisymmetric", 0),
        ("augment", "cvrl", "hue", 0.6),
        ("augment", "corp", "gray", -0.1),
        ("sampling", "interval", "power", 0),
    ],
)
def test_a_value_that_an_entry_refuses_is_refused_before_anything_runs(
    kind: str, name: str, option: str, value: Any
) -> None:
    with pytest.raises(ConfigError) as error:
        resolve(build_config({kind: {"name": name, option: value}}))
    assert str(error.value).startswith(f"{kind}.{option}: ")
    assert "must" in str(error.value)


@pytest.mark.parametrize(
    ("option", "value", "rule"),
    [("group", 1, "pairs of videos need at least 2"), ("perceptron_layers", 3, "it is 1 or 2")],
)
def test_what_corp_m_refuses_names_the_section_and_the_option(
    option: str, value: int, rule: str
) -> None:
    with pytest.raises(ConfigError, match=f"^objective.{option}: {value} is not valid; {rule}"):
        resolve(build_config({"objective": {"name": "corp_m", option: value}}))


@pytest.mark.parametrize(("batch", "workers"), [(12, 1), (16, 4), (24, 2), (64, 3)])
def test_corp_m_groups_that_a_worker_cannot_hold_whole_are_refused(
    batch: int, workers: int
) -> None:
    config = build_config({"objective": {"name": "corp_m"}, "training": {"batch_size": batch}})
    with pytest.raises(
        ConfigError,
        match=(
            f"^objective.group: 8 .* divide the {batch // workers} videos of a batch that a worker"
            " holds"
        ),
    ):
        resolve(config, workers)


def test_corp_m_groups_that_fit_are_accepted_for_any_number_of_workers() -> None:
    config = build_config(
        {"objective": {"name": "corp_m", "group": 4}, "training": {"batch_size": 16}}
    )
    assert resolve(config) == resolve(config, workers=2) == resolve(config, workers=4)


FRAMES, PIXELS = MINIMUM["s3d"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"clip.frames": FRAMES - 1},
            (
                f"clip.frames: {FRAMES - 1} frames of a view are too few for backbone 's3d', which"
                " needs at least"
            ),
        ),
        (
            {"clip.view_length": "shrinking"},
            f"clip.frames: {FRAMES - 2} frames of a view are too few for backbone 's3d'",
        ),
        (
            {"evaluation.frames": FRAMES - 1},
            f"evaluation.frames: {FRAMES - 1} frames of a view are too few for backbone 's3d'",
        ),
        (
            {"clip.size": PIXELS - 1},
            (
                f"clip.size: {PIXELS - 1} pixels are too few for backbone 's3d', which needs at"
                f" least {PIXELS}"
            ),
        ),
    ],
    ids=str,
)
def test_clips_too_small_for_the_backbone_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    least = {
        "backbone.name": "s3d",
        "clip.frames": FRAMES,
        "evaluation.frames": FRAMES,
        "clip.size": PIXELS,
    }
    assert resolve(build_config(nest(least))).backbone.name == "s3d"
    with pytest.raises(ConfigError) as error:
        resolve(build_config(nest({**least, **changes})))
    assert str(error.value).startswith(message)


# --- Recipes --------------------------------------------------------------------------------------

PAPERS = {
    "simclr": ("uniform", "vididi", 2),
    "byol": ("uniform", "vididi", 2),
    "vicreg": ("uniform", "vididi", 2),
    "cvrl": ("interval", "cvrl", 2),
    "corp_f": ("min_offset", "corp", 2),
    "corp_m": ("min_offset", "corp", 4),
}
# One that is added has the recipe that its class names.
RECIPES = {
    name: (each.default_sampling, each.default_augment, each.default_clips)
    for name, each in OBJECTIVES.items()
}
PAIRWISE = [name for name, each in OBJECTIVES.items() if each.max_clips == 2]


def recipe(config: Config) -> tuple[str, str, int | None]:
    return config.sampling.name, config.augment.name, config.clip.per_video


def test_the_papers_recipes() -> None:
    assert {name: RECIPES[name] for name in PAPERS} == PAPERS


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_left_open_follows_the_objective_s_paper(name: str, default: Config) -> None:
    config = resolve(build_config({"objective": {"name": name}}))
    assert recipe(config) == RECIPES[name]
    assert config.clip == default.clip.model_copy(update={"per_video": RECIPES[name][2]})
    assert resolve(config) == config
    said: dict[str, Any] = {
        "sampling": {"name": RECIPES[name][0]},
        "augment": {"name": RECIPES[name][1]},
        "objective": {"name": name},
    }
    written_out = resolve(build_config({**said, "clip": {"per_video": RECIPES[name][2]}}))
    assert written_out.identity("x") == config.identity("x")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"objective": {"name": "cvrl"}, "sampling": {"name": "same"}}, ("same", "cvrl", 2)),
        ({"objective": {"name": "cvrl"}, "augment": {"name": "vididi"}}, ("interval", "vididi", 2)),
        ({"objective": {"name": "corp_m"}, "clip": {"per_video": 2}}, ("min_offset", "corp", 2)),
        (
            {
                "objective": {"name": "corp_m"},
                "clip": {"per_video": 3},
                "augment": {"name": "cvrl"},
            },
            ("min_offset", "cvrl", 3),
        ),
        (
            {"objective": {"name": "vicreg"}, "sampling": {"name": "min_offset"}},
            ("min_offset", "vididi", 2),
        ),
        (
            {
                "sampling": {"name": "default"},
                "augment": {"name": "default"},
                "clip": {"per_video": None},
            },
            ("uniform", "vididi", 2),
        ),
    ],
    ids=str,
)
def test_what_is_said_wins_over_the_recipe(
    values: dict[str, Any], expected: tuple[str, str, int]
) -> None:
    assert recipe(resolve(build_config(values))) == expected


@pytest.mark.parametrize("name", RECIPES)
def test_options_without_a_name_are_about_the_recipe_s_entry(name: str) -> None:
    plain, changed = (
        resolve(build_config({"objective": {"name": name}, **more}))
        for more in ({}, {"augment": {"hue": 0.0}})
    )
    assert recipe(changed) == RECIPES[name]
    assert changed.augment.options == {**plain.augment.options, "hue": 0.0}
    assert changed.identity("x") != plain.identity("x")


def test_options_of_the_default_sampling_are_those_of_the_recipe_s() -> None:
    config = resolve(
        build_config({"objective": {"name": "cvrl"}, "sampling": {"shape": "increasing"}})
    )
    assert (config.sampling.name, config.sampling.options) == (
        "interval",
        {
            "shape": "increasing",
            "power": 1.0,
            "floor": 0.0,
            "short_videos": "first_frame",
        },
    )
    with pytest.raises(ConfigError, match=r"sampling\.shape: unknown key"):
        resolve(build_config({"sampling": {"shape": "increasing"}}))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        *(
            (
                name,
                {"clip.per_video": 4},
                f"clip.per_video: 4 is not valid with objective {name!r}; at most 2",
            )
            for name in PAIRWISE
        ),
        (
            "corp_m",
            {"clip.per_video": 17},
            "clip.per_video: 17 is not valid with objective 'corp_m'; at most 16",
        ),
        (
            "corp_f",
            {"sampling.name": "uniform"},
            "sampling.name: 'uniform' is not valid with objective 'corp_f'; it is 'min_offset' or"
            " 'distinct'",
        ),
        (
            "corp_m",
            {"sampling.name": "same"},
            "sampling.name: 'same' is not valid with objective 'corp_m'; it is 'min_offset'",
        ),
        ("corp_f", {"sampling.name": "nothing"}, "sampling.name: 'nothing' is not valid"),
    ],
)
def test_a_recipe_that_an_objective_cannot_use_is_refused(
    name: str, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        resolve(build_config(nest({"objective.name": name, **values})))
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "change",
    [
        {"clip.view_length": "shrinking"},
        {"clip.per_video": 3},
        {"sampling.power": 2.0},
        {"sampling.name": "same"},
        {"schedule.selection": "random", "schedule.mix": "same"},
        {"schedule.weights": {"1-0": 1.0}},
        {"schedule.order": 3, "clip.extra_frames": 3},
        {"training.cosine": "whole"},
    ],
    ids=str,
)
def test_each_new_choice_makes_another_resolved_identity(change: dict[str, Any]) -> None:
    objective = "corp_m" if "clip.per_video" in change else "cvrl"
    one, other = (
        resolve(build_config(nest({"objective.name": objective, **more}))) for more in ({}, change)
    )
    assert one.identity("x") != other.identity("x")


# --- State ----------------------------------------------------------------------------------------


def first_weights(config: Config) -> dict[str, Tensor]:
    return {
        name: tensor.clone() for name, tensor in build_state(config).objective.state_dict().items()
    }


def test_first_weights_follow_from_the_seed_alone(make_config: MakeConfig) -> None:
    torch.manual_seed(123)
    one = first_weights(make_config())
    torch.rand(7)
    again = first_weights(
        make_config({"schedule.order": 0, "training.epochs": 9, "training.batch_size": 4})
    )
    other = first_weights(make_config({"training.seed": 1}))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["backbone.stem.0.weight"], other["backbone.stem.0.weight"])


def test_a_state_begins_at_step_zero_with_every_parameter_in_the_optimiser(
    make_config: MakeConfig,
) -> None:
    state = build_state(make_config())
    held = {id(p) for group in state.optimiser.param_groups for p in group["params"]}
    assert state.step == 0
    assert held == {id(p) for p in state.objective.parameters()}


# --- Data -----------------------------------------------------------------------------------------


def test_data_are_prepared_once(make_config: MakeConfig, tiny_shards: ShardSet) -> None:
    before = (tiny_shards.root / "manifest.json").stat().st_mtime_ns
    again = ensure_prepared(make_config({"training.seed": 5}))
    assert again.root == tiny_shards.root
    assert (again.root / "manifest.json").stat().st_mtime_ns == before


def test_prepared_data_may_lie_anywhere(
    make_config: MakeConfig, tiny_shards: ShardSet, tmp_path: Path
) -> None:
    link = tmp_path / "shards"
    link.symlink_to(tiny_shards.root)
    assert ensure_prepared(make_config(), link).manifest == tiny_shards.manifest


def test_a_folder_that_is_not_a_prepared_set_is_an_error(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"no manifest\.json, so it is not a \(completely\) prepared data set"
    ):
        ensure_prepared(make_config(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_value_that_a_source_refuses_is_an_error_with_its_name(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match=r"data\.size: 33 is not valid"):
        ensure_prepared(make_config({"data.size": 33}))


# --- A whole run ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finished:
    config: Config
    folder: Path
    result: dict[str, Any]


@pytest.fixture(scope="module")
def finished(
    make_config: MakeConfig, tiny_shards: ShardSet, tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return Finished(make_config(), folder, run(make_config(), folder, tiny_shards))


def test_a_run_folder_holds_what_it_should_and_nothing_else(finished: Finished) -> None:
    names = {path.name for path in finished.folder.iterdir()}
    events = {name for name in names if name.startswith("events.out.tfevents.")}
    assert len(events) == 1
    assert names - events == {
        ".lock",
        "config.yaml",
        "cell.json",
        "metrics.jsonl",
        "checkpoint.pt",
        "encoder.safetensors",
        "queries.parquet",
        "features.parquet",
        "result.json",
    }


def test_a_run_keeps_the_features_that_its_end_was_measured_by(finished: Finished) -> None:
    table = pq.read_table(finished.folder / "features.parquet")
    x = np.stack(table["features"].to_numpy())
    labels, test = table["label"].to_numpy(), table["split"].to_numpy() == "test"
    recall = retrieval_recall(x[test], labels[test], x[~test], labels[~test], ks=(1,))
    assert recall[1] == finished.result["retrieval/R@1"]
    queries = pq.read_table(finished.folder / "queries.parquet")
    assert table["video_id"].to_numpy()[test].tolist() == queries["video_id"].to_pylist()


def test_the_written_configuration_is_the_run_s(finished: Finished, tiny_shards: ShardSet) -> None:
    assert build_config(read_yaml(finished.folder / "config.yaml")) == finished.config
    assert plain(finished.folder / "cell.json") == {
        **CELL,
        "data_checksum": tiny_shards.manifest.checksum,
    }


def test_there_is_one_line_of_metrics_per_epoch(finished: Finished) -> None:
    lines = metric_lines(finished.folder)
    assert [(line["epoch"], line["step"]) for line in lines] == [(1, 3), (2, 6), (3, 9)]
    for line in lines:
        assert {
            "train/loss",
            "train/invariance",
            "train/variance",
            "train/covariance",
            "train/lr",
            "train/pairs",
        } < line.keys()
        assert np.isfinite(line["train/loss"])
    assert [
        set(line["train/pairs"].split()) <= expected
        for line, expected in zip(lines, PAIRS, strict=True)
    ] == [True] * 3


PAIRS = (
    {"11", "22"},
    {"10", "21"},
    {"01", "12"},
)  # Algorithm 1's first three epochs, with the random second derivative


def test_tensorboard_has_the_same_numbers(finished: Finished) -> None:
    assert_board_is_right(finished.folder)
    assert {"train/loss", "train/lr", "retrieval/R@1"} < read_board(finished.folder).keys()


def test_the_result_says_what_was_measured_and_on_what(
    finished: Finished, tiny_shards: ShardSet
) -> None:
    written = plain(finished.folder / "result.json")
    assert written == {"version": 1, **finished.result}
    assert written["data_checksum"] == tiny_shards.manifest.checksum
    assert (
        written["steps"],
        written["resumed_from_step"],
        written["workers"],
        written["device"],
    ) == (9, None, 1, "cpu")
    assert written["videos_dropped_per_epoch"] == 0
    assert {
        "retrieval/R@1",
        "retrieval/R@5",
        "retrieval/R@10",
        "retrieval/scene_R@1",
        "silhouette/all",
    } <= written.keys()


def test_recall_can_be_computed_again_from_the_queries(
    finished: Finished, tiny_shards: ShardSet
) -> None:
    queries = pq.read_table(finished.folder / "queries.parquet")
    assert queries.column_names == ["video_id", "label", "first_hit", "scene"]
    assert queries.column("video_id").to_pylist() == list(
        tiny_shards.column("video_id")[tiny_shards.rows("test")]
    )
    recall = recall_at(queries.column("first_hit").to_numpy(), (1, 5, 10))
    assert {
        f"retrieval/R@{k}": value for k, value in recall.items()
    }.items() <= finished.result.items()


def test_the_learning_rate_falls_with_the_cosine(finished: Finished) -> None:
    rates = [line["train/lr"] for line in metric_lines(finished.folder)]
    expected = [1.2 * 0.5 * (np.cos(np.pi * step / 9) + 1) for step in (2, 5, 8)]
    assert rates == pytest.approx(expected)


# --- Every objective, every schedule --------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_every_objective_goes_through_a_whole_cell(
    name: str, finished: Finished, make_config: MakeConfig, tiny_shards: ShardSet, tmp_path: Path
) -> None:
    config = make_config({"objective.name": name, "training.epochs": 4})
    assert config.schedule.schedule() == SCHEDULES["vididi"]
    result = run(config, tmp_path, tiny_shards)
    # The number of classes that some video finds is an encoder's own.
    assert result.keys() - {"silhouette/3", "silhouette/5"} == finished.result.keys() - {
        "silhouette/3",
        "silhouette/5",
    }
    assert plain(tmp_path / "result.json") == {"version": 1, **result}
    assert (result["steps"], result["videos_too_short"]) == (12, [])
    assert all(np.isfinite(value) for value in measurements(result).values())
    for line, expected in zip(metric_lines(tmp_path), (*PAIRS, {"00", "11"}), strict=True):
        assert set(line["train/pairs"].split()) <= expected
        assert np.isfinite(line["train/loss"])
    assert build_config(read_yaml(tmp_path / "config.yaml")) == config
    encoder = load_encoder(tmp_path)
    assert all(
        torch.equal(tensor, encoder.state_dict()[name])
        for name, tensor in load_file(tmp_path / "encoder.safetensors").items()
    )
    with torch.inference_mode():
        assert encoder(torch.zeros(2, 3, 4, 16, 16)).shape == (2, 16)


@pytest.mark.parametrize("name", ["byol", "corp_m"])
def test_objectives_with_more_to_remember_go_on_where_they_stopped(
    name: str, make_config: MakeConfig, tiny_shards: ShardSet, tmp_path: Path
) -> None:
    config = make_config({"objective.name": name, "training.epochs": 2})
    run(config, tmp_path / "whole", tiny_shards)
    with pytest.raises(Stop):
        run(config, tmp_path / "stopped", tiny_shards, stops_at(4, tiny_shards))
    assert run(config, tmp_path / "stopped", tiny_shards)["resumed_from_step"] == 3
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.parametrize(
    ("changes", "pairs"),
    [
        ({"schedule": {"weights": {"1-0": 1, "0-1": 3, "2-2": 0}}}, "10 01"),
        ({"schedule": {"selection": "random", "mix": "same"}}, "00 11 22"),
        (
            {"schedule": {"order": 4, "mix": "one_way"}, "clip.extra_frames": 4},
            "11 22 33 44 10 21 32 43",
        ),
    ],
    ids=str,
)
def test_other_schedules_run(
    changes: dict[str, Any],
    pairs: str,
    make_config: MakeConfig,
    tiny_shards: ShardSet,
    tmp_path: Path,
) -> None:
    run(make_config({"training.epochs": 2, **changes}), tmp_path, tiny_shards)
    lines = metric_lines(tmp_path)
    assert {pair for line in lines for pair in line["train/pairs"].split()} <= set(pairs.split())
    assert all(np.isfinite(line["train/loss"]) for line in lines)


def test_views_may_shrink_with_their_order(
    finished: Finished, make_config: MakeConfig, tiny_shards: ShardSet, tmp_path: Path
) -> None:
    run(make_config({"clip.view_length": "shrinking"}), tmp_path, tiny_shards)
    for shrinking, constant in zip(
        metric_lines(tmp_path), metric_lines(finished.folder), strict=True
    ):
        assert shrinking["train/pairs"] == constant["train/pairs"]
        assert shrinking["train/loss"] != constant["train/loss"]


def test_a_cosine_over_the_whole_run_is_met_by_the_warm_up(
    make_config: MakeConfig, tiny_shards: ShardSet, tmp_path: Path
) -> None:
    changes = {
        "training.cosine": "whole",
        "training.warmup_epochs": 1,
        "schedule.order": 0,
        "evaluation.protocols": [],
    }
    run(make_config({**changes, "training.epochs": 2}), tmp_path, tiny_shards)
    rates = [line["train/lr"] for line in metric_lines(tmp_path)]
    assert rates == pytest.approx([1.2 * 0.5 * (np.cos(np.pi * step / 6) + 1) for step in (3, 5)])


LONG = (0, 1, 2, 4, 5, 6, 8, 9)


@pytest.fixture(scope="module")
def uneven_shards(
    moving_bar: Callable[..., Any],
    write_video: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> ShardSet:
    """Eight training videos of 30 frames and two of 14, two test videos of 14."""
    root = tmp_path_factory.mktemp("uneven")
    for i in range(12):
        write_video(
            root / ("train" if i < 10 else "test") / "class" / f"{i}.mp4",
            moving_bar(30 if i in LONG else 14, 16, 16, 20 * i),
        )
    return ensure_prepared(
        resolve(
            build_config(
                {"data": {"name": "folder", "videos": str(root)}, "prepare": {"short_side": 16}}
            )
        )
    )


def test_videos_too_short_for_the_least_offset_are_left_out_and_named(
    uneven_shards: ShardSet, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(
        {"objective.name": "corp_m", "training.epochs": 1, "evaluation.protocols": ["retrieval"]}
    )
    manifest = replace(uneven_shards.manifest, classes=["class", "without videos"])
    result = run(config, tmp_path, replace(uneven_shards, manifest=manifest))
    assert plain(tmp_path / "result.json")["videos_too_short"] == [
        "train/class/3.mp4",
        "train/class/7.mp4",
    ]
    assert result["classes_without_videos"] == ["without videos"]
    assert (
        result["steps"],
        result["videos_dropped_per_epoch"],
        result["videos_wrapped"]["pretrain"],
    ) == (1, 0, 0)
    plans = make_plans(config, uneven_shards)
    assert sorted(uneven_shards.column("video_id")[plans.pretrain[0].rows]) == [
        f"train/class/{i}.mp4" for i in LONG
    ]
    assert len(plans.evaluation.rows) == 12, "they are still found in retrieval"


def test_the_other_samplings_leave_no_video_out(
    uneven_shards: ShardSet, make_config: MakeConfig
) -> None:
    plans = make_plans(make_config(), uneven_shards)
    assert (len(plans.too_short), plans.pretrain.dropped) == (0, 2)


def test_too_few_videos_of_sufficient_length_are_an_error_that_counts_them(
    uneven_shards: ShardSet, make_config: MakeConfig
) -> None:
    values = {"objective.name": "corp_m", "objective.group": 5, "training.batch_size": 10}
    with pytest.raises(
        DataError,
        match=(
            "8 of 10 training videos are long enough for 4 clips of 6 frames under sampling"
            " 'min_offset'"
        ),
    ):
        make_plans(make_config(values), uneven_shards)
    with pytest.raises(DataError, match="0 of 10 training videos are long enough"):
        make_plans(make_config({**values, "clip.frames": 40}), uneven_shards)
    with pytest.raises(
        DataError,
        match=r"training\.batch_size: 12 is larger than the training split, which has 10 videos",
    ):
        make_plans(make_config({"training.batch_size": 12}), uneven_shards)


# --- The encoder ----------------------------------------------------------------------------------


def test_load_encoder_gives_the_trained_encoder_in_evaluation_mode(finished: Finished) -> None:
    encoder = load_encoder(finished.folder)
    assert not any(module.training for module in encoder.modules())
    trained = build_state(finished.config).objective.backbone
    first = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    trained.load_state_dict(load_file(finished.folder / "encoder.safetensors"))
    assert all(
        torch.equal(tensor, trained.state_dict()[name])
        for name, tensor in encoder.state_dict().items()
    )
    assert any(
        not torch.equal(tensor, first[name])
        for name, tensor in encoder.state_dict().items()
        if tensor.is_floating_point()
    )
    clips = torch.randn(2, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features = encoder(clips)
        assert features.shape == (2, 16)
        torch.testing.assert_close(features, trained.eval()(clips))


def test_load_encoder_takes_the_file_or_the_folder(finished: Finished) -> None:
    one, other = (
        load_encoder(finished.folder),
        load_encoder(str(finished.folder / "encoder.safetensors")),
    )
    assert all(
        torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items()
    )


def test_load_encoder_of_a_missing_or_unfinished_folder_is_an_error(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere", tmp_path / "encoder.safetensors"):
        with pytest.raises(TrainingError, match=r"no encoder\.safetensors"):
            load_encoder(folder)


# --- Twice, stopped, finished, locked -------------------------------------------------------------


def test_the_same_run_twice_is_the_same_to_the_bit(
    finished: Finished, tiny_shards: ShardSet, tmp_path: Path
) -> None:
    torch.manual_seed(99)
    run(finished.config, tmp_path / "again", tiny_shards, local_stream(tiny_shards, threads=2))
    assert_same_run(finished.folder, tmp_path / "again")


def test_another_seed_is_another_run(
    finished: Finished, make_config: MakeConfig, tiny_shards: ShardSet, tmp_path: Path
) -> None:
    run(make_config({"training.seed": 1}), tmp_path, tiny_shards)
    assert metric_lines(tmp_path)[0]["train/loss"] != metric_lines(finished.folder)[0]["train/loss"]


class Stop(Exception):
    """The end of a process, as far as a test can play it."""


@dataclass
class StopsAfter(LocalContext):
    """Stops the run when ``epoch`` is reported."""

    epoch: int = 0

    def report(self, metrics: Metrics) -> None:
        if metrics["epoch"] == self.epoch:
            raise Stop


def stops_at(batch: int, shards: ShardSet) -> Stream:
    """A stream that breaks off before its ``batch``-th batch."""

    def stream(plan: Plan, start: int) -> Iterator[Batch]:
        for number, found in enumerate(local_stream(shards)(plan, start), start):
            if number == batch:
                raise Stop
            yield found

    return stream


def test_a_run_stopped_after_an_epoch_goes_on_to_the_same_end(
    finished: Finished, tiny_shards: ShardSet, tmp_path: Path
) -> None:
    with pytest.raises(Stop):
        run(finished.config, tmp_path, tiny_shards, context=StopsAfter(epoch=2))
    assert not (tmp_path / "result.json").exists()
    RunFolder(tmp_path).save_error("it was stopped")
    assert run(finished.config, tmp_path, tiny_shards)["resumed_from_step"] == 6
    assert_same_run(finished.folder, tmp_path)
    assert not (tmp_path / "error.txt").exists()


@pytest.mark.parametrize("batch", [1, 7, 9, 12])
def test_a_run_stopped_anywhere_goes_on_to_the_same_end(
    finished: Finished, tiny_shards: ShardSet, tmp_path: Path, batch: int
) -> None:
    with pytest.raises(Stop):
        run(finished.config, tmp_path, tiny_shards, stops_at(batch, tiny_shards))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "st')  # a line that was being written
    assert run(finished.config, tmp_path, tiny_shards)["resumed_from_step"] == (
        min(9, batch // 3 * 3) or None
    )
    assert_same_run(finished.folder, tmp_path)


@pytest.mark.parametrize(("batch", "resumed"), [(1, None), (2, 2), (4, 4), (7, 6), (8, 8)])
def test_a_run_goes_on_in_the_middle_of_an_epoch_from_a_checkpoint_there(
    finished: Finished, tiny_shards: ShardSet, tmp_path: Path, batch: int, resumed: int | None
) -> None:
    """Epochs of three steps, a checkpoint after every two; the epoch's metrics cover its steps
    before the stop too.
    """
    training = finished.config.training.model_copy(update={"checkpoint_steps": 2})
    config = finished.config.model_copy(update={"training": training})
    with pytest.raises(Stop):
        run(config, tmp_path, tiny_shards, stops_at(batch, tiny_shards))
    assert run(config, tmp_path, tiny_shards)["resumed_from_step"] == resumed
    assert_same_run(finished.folder, tmp_path)


def test_how_often_checkpoints_are_written_does_not_change_a_cells_name(
    make_config: MakeConfig,
) -> None:
    names = {
        make_config({"training.checkpoint_steps": steps, "training.checkpoint_epochs": 2}).identity(
            "x"
        )
        for steps in (None, 1, 5)
    }
    assert names == {make_config().identity("x")}


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_every_optimiser_goes_on_where_it_stopped(
    optimiser: str, make_config: MakeConfig, tiny_shards: ShardSet, tmp_path: Path
) -> None:
    config = make_config({"training.epochs": 2}).model_copy(
        update={"optimiser": Component(name=optimiser, lr=0.01)}
    )
    run(config, tmp_path / "whole", tiny_shards)
    with pytest.raises(Stop):
        run(config, tmp_path / "stopped", tiny_shards, stops_at(4, tiny_shards))
    run(config, tmp_path / "stopped", tiny_shards)
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_epochs_after_the_last_checkpoint_are_done_again(
    make_config: MakeConfig, tiny_shards: ShardSet, tmp_path: Path
) -> None:
    config = make_config({"training.epochs": 4, "training.checkpoint_epochs": 2})
    run(config, tmp_path / "whole", tiny_shards)
    with pytest.raises(Stop):
        run(config, tmp_path / "stopped", tiny_shards, context=StopsAfter(epoch=3))
    assert len(metric_lines(tmp_path / "stopped")) == 3
    assert run(config, tmp_path / "stopped", tiny_shards)["resumed_from_step"] == 6
    assert [line["epoch"] for line in metric_lines(tmp_path / "stopped")] == [1, 2, 3, 4]
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_the_untrained_encoder_s_measures_outlast_a_stop(
    make_config: MakeConfig, tiny_shards: ShardSet, tmp_path: Path
) -> None:
    config = make_config({"training.epochs": 2, "evaluation.untrained": True})
    whole = run(config, tmp_path / "whole", tiny_shards)
    with pytest.raises(Stop):
        run(config, tmp_path / "stopped", tiny_shards, context=StopsAfter(epoch=1))
    stopped = run(config, tmp_path / "stopped", tiny_shards)
    assert "untrained/retrieval/R@1" in whole
    assert measurements(stopped) == measurements(whole)


def test_no_epochs_measure_the_untrained_encoder(
    make_config: MakeConfig, tiny_shards: ShardSet, tmp_path: Path
) -> None:
    untrained = run(
        make_config({"training.epochs": 2, "evaluation.untrained": True}),
        tmp_path / "two",
        tiny_shards,
    )
    none = run(make_config({"training.epochs": 0}), tmp_path / "none", tiny_shards)
    assert none["steps"] == 0
    assert none["retrieval/R@5"] == untrained["untrained/retrieval/R@5"]
    assert none["silhouette/all"] == untrained["untrained/silhouette/all"]


def test_a_finished_run_is_returned_and_not_run_again(
    finished: Finished, tiny_shards: ShardSet
) -> None:
    def never(plan: Plan, start: int) -> Iterator[Batch]:
        raise AssertionError("a finished run asked for batches")

    before = {
        path.name: path.stat().st_mtime_ns
        for path in finished.folder.iterdir()
        if path.name != ".lock"
    }
    assert run(finished.config, finished.folder, tiny_shards, never) == {
        "version": 1,
        **finished.result,
    }
    assert {
        path.name: path.stat().st_mtime_ns
        for path in finished.folder.iterdir()
        if path.name != ".lock"
    } == before


@pytest.mark.parametrize("lost", ["result.json", "queries.parquet"])
def test_a_run_that_is_measured_again_has_its_measures_once_on_the_board(
    finished: Finished, tiny_shards: ShardSet, tmp_path: Path, lost: str
) -> None:
    """It was killed before its result was written, or the result was lost."""
    folder = tmp_path / "copy"
    shutil.copytree(finished.folder, folder)
    for name in {lost, "result.json"}:
        (folder / name).unlink()
    assert run(finished.config, folder, tiny_shards)["resumed_from_step"] == 9
    assert_same_run(finished.folder, folder)


@pytest.mark.parametrize("finish", [True, False])
def test_a_folder_of_another_configuration_or_data_is_refused_and_stays_as_it_is(
    make_config: MakeConfig,
    tiny_shards: ShardSet,
    uneven_shards: ShardSet,
    tmp_path: Path,
    finish: bool,
) -> None:
    config = make_config({"training.epochs": 2})
    if finish:
        run(config, tmp_path, tiny_shards)
    else:
        with pytest.raises(Stop):
            run(config, tmp_path, tiny_shards, context=StopsAfter(epoch=1))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    there = re.escape(str(tmp_path))
    with pytest.raises(
        TrainingError,
        match=(
            rf"^{there}: holds a run of another configuration \(backbone\.width: 2 there, 3 asked"
            r" for\); "
        ),
    ):
        run(make_config({"training.epochs": 2, "backbone.width": 3}), tmp_path, tiny_shards)
    with pytest.raises(
        TrainingError,
        match=(
            r"optimiser\.lr: 1\.2 there, 1\.3 asked for\); give another folder, or move this one"
            r" away"
        ),
    ):
        run(make_config({"training.epochs": 2, "optimiser.lr": 1.3}), tmp_path, tiny_shards)
    with pytest.raises(TrainingError, match="holds a run on other data"):
        run(config, tmp_path, uneven_shards)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(
        TrainingError, match=r"config\.yaml: is empty; nothing says which run this is"
    ):
        run(config, tmp_path, tiny_shards)


def test_what_changes_no_result_may_be_changed_in_a_half_done_run(
    make_config: MakeConfig, tiny_shards: ShardSet, tmp_path: Path
) -> None:
    with pytest.raises(Stop):
        run(make_config(), tmp_path, tiny_shards, context=StopsAfter(epoch=1))
    assert (
        run(
            make_config({"training.checkpoint_steps": 2, "evaluation.online.every": 1}),
            tmp_path,
            tiny_shards,
        )["resumed_from_step"]
        == 3
    )


def test_a_checkpoint_that_does_not_fit_its_configuration_is_refused(
    make_config: MakeConfig, tiny_shards: ShardSet, tmp_path: Path
) -> None:
    for width, folder in ((2, tmp_path / "a"), (3, tmp_path / "b")):
        with pytest.raises(Stop):
            run(
                make_config({"backbone.width": width}),
                folder,
                tiny_shards,
                context=StopsAfter(epoch=1),
            )
    shutil.copy(tmp_path / "a" / "checkpoint.pt", tmp_path / "b")
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: does not fit this configuration"):
        run(make_config({"backbone.width": 3}), tmp_path / "b", tiny_shards)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_step_and_orders(
    make_config: MakeConfig, tiny_shards: ShardSet, tmp_path: Path
) -> None:
    config = make_config().model_copy(update={"optimiser": Component(name="sgd", lr=1e30)})
    with pytest.raises(
        TrainingError,
        match=r"not finite at step [1-8] with orders \([012], [012]\): loss .*largest gradient",
    ):
        run(config, tmp_path, tiny_shards)
    assert not (tmp_path / "result.json").exists()
    assert not (tmp_path / "encoder.safetensors").exists()


def test_without_a_test_split_there_is_no_training_in_vain(
    tiny_shards: ShardSet, make_config: MakeConfig, tmp_path: Path
) -> None:
    shards = ensure_prepared(make_config({"data.test": 0, "data.train": 10}))
    trained: list[int] = []

    class Notes(LocalContext):
        def report(self, metrics: Metrics) -> None:
            trained.append(int(metrics["epoch"]))

    with pytest.raises(DataError, match="no test split to evaluate on"):
        run(make_config({"training.epochs": 1}), tmp_path / "vain", shards, context=Notes())
    assert trained == [], "it said so only after training"
    result = run(
        make_config({"training.epochs": 1, "evaluation.protocols": []}), tmp_path / "run", shards
    )
    assert measurements(result) == {}


def test_bf16_is_refused_on_a_cpu(
    make_config: MakeConfig, tiny_shards: ShardSet, tmp_path: Path
) -> None:
    config = make_config()
    config = config.model_copy(
        update={"training": config.training.model_copy(update={"precision": "bf16"})}
    )
    with pytest.raises(ConfigError, match=r"training\.precision: 'bf16' is for GPUs"):
        run(config, tmp_path, tiny_shards)


HOLDER = (
    "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX);"
    " print('held', flush=True); sys.stdin.read()"
)


def test_a_folder_that_another_process_holds_is_an_error_until_it_lets_go(
    finished: Finished, tiny_shards: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vididi.runs.run_folder.LOCK_WAIT_S", 0.2)
    command = [sys.executable, "-c", HOLDER, str(finished.folder / ".lock")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(TrainingError, match="another process is running this cell"):
            run(finished.config, finished.folder, tiny_shards)
        holder.kill()
    assert run(finished.config, finished.folder, tiny_shards)["steps"] == 9


def test_a_folder_with_other_videos_in_it_is_prepared_anew(
    tmp_path: Path, make_config: Callable[..., Any]
) -> None:
    from vididi.data.motion import motion

    for video in motion(tmp_path / "made", train=3, test=0, size=16, frames=8):
        target = tmp_path / "videos" / video.class_name / video.path.name
        target.parent.mkdir(parents=True)
        target.write_bytes(video.path.read_bytes())
    config = make_config({"data": {"name": "folder", "videos": str(tmp_path / "videos")}})
    first = ensure_prepared(config)
    assert ensure_prepared(config).root == first.root
    target.unlink()
    assert ensure_prepared(config).manifest.videos["train"] == first.manifest.videos["train"] - 1


# --- Measured on the way --------------------------------------------------------------------------

ONLINE = {"evaluation.online.every": 2, "evaluation.online.train": 10, "evaluation.online.test": 6}


def test_what_is_measured_on_the_way_changes_nothing_else(
    finished: Finished, make_config: MakeConfig, tiny_shards: ShardSet, tmp_path: Path
) -> None:
    config = make_config(ONLINE)
    run(config, tmp_path, tiny_shards)
    lines = metric_lines(tmp_path)
    assert [sorted(name for name in line if name.startswith("online/")) for line in lines] == [
        [],
        ["online/knn", "online/probe", "online/rankme", "online/spread"],
        [],
    ]
    plain = [
        {name: value for name, value in line.items() if not name.startswith("online/")}
        for line in lines
    ]
    assert plain == metric_lines(finished.folder)
    weights = [load_file(folder / "encoder.safetensors") for folder in (finished.folder, tmp_path)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    checksum = tiny_shards.manifest.checksum
    assert config.identity(checksum) == finished.config.identity(checksum)


def test_a_collapse_is_told_while_the_run_goes_on(
    make_config: MakeConfig,
    tiny_shards: ShardSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(FLOORS, "online/rankme", 100.0)  # of 16 videos
    run(make_config({**ONLINE, "evaluation.online.every": 1}), tmp_path / "one", tiny_shards)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("one: its features have collapsed: online/rankme is below 100: ")
    assert line.endswith(" after epoch 3")


def test_lidar_is_measured_where_videos_have_several_clips(
    make_config: MakeConfig, tiny_shards: ShardSet, tmp_path: Path
) -> None:
    run(make_config({**ONLINE, "evaluation.online.clips": 2}), tmp_path, tiny_shards)
    (line,) = [line for line in metric_lines(tmp_path) if "online/lidar" in line]
    assert 0 <= line["online/lidar"] <= 16
    assert 1 <= line["online/rankme"] <= 16  # of as many videos


@pytest.mark.parametrize("batch", [3, 6, 7, 8, 10, 13])
def test_a_run_that_is_measured_on_the_way_goes_on_to_the_same_end(
    make_config: MakeConfig, tiny_shards: ShardSet, tmp_path: Path, batch: int
) -> None:
    config = make_config(
        {**ONLINE, "evaluation.batch_size": 6}
    )  # batches 6, 7, 8 are for the measurement after epoch 2
    run(config, tmp_path / "whole", tiny_shards)
    with pytest.raises(Stop):
        run(config, tmp_path / "parts", tiny_shards, stops_at(batch, tiny_shards))
    run(config, tmp_path / "parts", tiny_shards)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_nothing_can_be_measured_on_the_way_without_test_videos(
    make_config: MakeConfig, tiny_shards: ShardSet
) -> None:
    config = make_config({**ONLINE, "evaluation.protocols": []})
    shards = replace(tiny_shards)
    vars(shards)["index"] = tiny_shards.index.filter(
        pc.equal(tiny_shards.index.column("split"), "train")
    )
    with pytest.raises(DataError, match="no test split to evaluate on"):
        make_plans(config, shards)


KEEP_BEST = {**ONLINE, "evaluation.online.every": 1, "evaluation.online.keep_best": "online/knn"}


def test_the_encoder_of_the_best_epoch_is_kept_and_can_be_loaded(
    make_config: MakeConfig, tiny_shards: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([0.2, 0.6, 0.6])
    monkeypatch.setattr("vididi.experiment.knn_accuracy", lambda *parts: next(values))
    with pytest.raises(Stop):
        run(make_config(KEEP_BEST), tmp_path, tiny_shards, context=StopsAfter(epoch=2))
    second = {
        name: tensor.clone() for name, tensor in load_file(tmp_path / "best.safetensors").items()
    }
    run(make_config(KEEP_BEST), tmp_path, tiny_shards)
    folder = RunFolder(tmp_path)
    assert folder.best("online/knn") == 0.6
    assert all(
        torch.equal(second[name], tensor)
        for name, tensor in folder.load_encoder("best.safetensors").items()
    ), "a tie keeps the first"
    loaded = load_encoder(tmp_path / "best.safetensors")
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in second.items())
    assert any(
        not torch.equal(tensor, second[name])
        for name, tensor in load_encoder(tmp_path).state_dict().items()
    )


def test_no_encoder_is_kept_unless_asked_for(
    make_config: MakeConfig, tiny_shards: ShardSet, tmp_path: Path
) -> None:
    run(make_config(ONLINE), tmp_path, tiny_shards)
    assert not (tmp_path / "best.safetensors").exists()
    with pytest.raises(TrainingError, match=r"no best\.safetensors"):
        load_encoder(tmp_path / "best.safetensors")


def test_a_run_that_was_stopped_early_goes_on_when_it_is_run_again(
    make_config: MakeConfig, tiny_shards: ShardSet, tmp_path: Path
) -> None:
    config = make_config(KEEP_BEST)
    run(config, tmp_path / "whole", tiny_shards)
    with pytest.raises(Stop):
        run(config, tmp_path / "parts", tiny_shards, context=StopsAfter(epoch=1))
    RunFolder(tmp_path / "parts").save_stopped({"epoch": 1})
    assert run(config, tmp_path / "parts", tiny_shards)["resumed_from_step"] == 3
    assert read_stopped(tmp_path / "parts") is None
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("marked", [True, False])
def test_workers_that_find_their_folder_marked_as_stopped_end_after_the_epoch(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marked: bool
) -> None:
    from vididi.experiment import _epoch_end
    from vididi.training.context import StoppedEarly
    from vididi.training.stop_request import StopRequest

    monkeypatch.setattr("vididi.experiment.broadcast_from_rank_0", lambda value, context: value)
    monkeypatch.setattr("vididi.experiment.on_rank_0", lambda folder, context, action: None)
    config, folder, reported = make_config(KEEP_BEST), RunFolder(tmp_path), []

    class Two(LocalContext):
        def report(self, metrics: Metrics) -> None:
            reported.append(metrics["epoch"])

    two, nobody = Two(rank=0, world_size=2), StopRequest(LocalContext())
    on_epoch = _epoch_end(config, build_state(config), folder, None, two, lambda epoch: {}, nobody)
    on_epoch({"epoch": 1}, 1)
    if marked:
        folder.save_stopped({"epoch": 1})
        with pytest.raises(StoppedEarly):
            on_epoch({"epoch": 2}, 2)
    else:
        on_epoch({"epoch": 2}, 2)
    assert reported == [1, 2]


def test_a_run_s_hyperparameters_are_those_that_differ_and_say_arm_and_label(
    make_config: MakeConfig,
) -> None:
    config = make_config({"optimiser.lr": 0.5})
    cell = {"arm": "a", "label": "The arm", "seed": 3}
    assert list(hyperparameters(config, {**cell, VARIED: ["optimiser.lr"]}).items()) == [
        ("arm", "a"),
        ("label", "The arm"),
        ("optimiser.lr", 0.5),
    ]
    assert hyperparameters(config, {}) == flatten(config.to_dict())


def test_a_run_shows_its_configuration_and_what_its_network_sees(
    finished: Finished, make_config: MakeConfig, tiny_shards: ShardSet, tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing import plugin_event_accumulator

    board = plugin_event_accumulator.EventAccumulator(str(finished.folder)).Reload()
    assert {"configuration/text_summary", "what the network sees"} <= set(board.Tags()["tensors"])
    record = plain(finished.folder / "cell.json")
    assert VARIED not in record
