"""Sweep files to cells: what wins over what, what is refused, and that every file of sweeps/ can be
run.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from vididi.config import validate
from vididi.errors import ConfigError
from vididi.pairing import SCHEDULES, Schedule
from vididi.search import halved
from vididi.sweep import (
    Cell,
    Sweep,
    cell_at,
    expand,
    load_sweep,
    point_of,
    size,
    varied_keys,
    without_effect,
)

REPO = Path(__file__).resolve().parents[1]
SWEEPS = sorted(path.relative_to(REPO) for path in (REPO / "sweeps").glob("**/*.yaml"))


def sweep_of(**values: Any) -> Sweep:
    return validate(Sweep, {"name": "trial", **values}, "trial.yaml")


def cells_of(**values: Any) -> list[Cell]:
    return expand(sweep_of(**values))


def fault(**values: Any) -> str:
    with pytest.raises(ConfigError) as error:
        cells_of(**values)
    return str(error.value)


# --- Cells ----------------------------------------------------------------------------------------


def test_cells_are_arms_by_axes_by_seeds_in_this_order() -> None:
    cells = cells_of(
        arms={"a": {"order": 0}, "b": {"order": 1}},
        axes={"clip.stride": [2, 3], "training.epochs": [5, 6]},
        seeds=[0, 7],
    )
    assert len(cells) == 2 * 4 * 2
    assert [cell.arm for cell in cells] == ["a"] * 8 + ["b"] * 8
    assert [cell.seed for cell in cells] == [0, 7] * 8
    points = [(cell.config.clip.stride, cell.config.training.epochs) for cell in cells[:8:2]]
    assert points == [(2, 5), (2, 6), (3, 5), (3, 6)]
    assert cells[3].axes == {"clip.stride": 2, "training.epochs": 6}


def test_a_sweep_without_arms_has_one_named_after_it() -> None:
    (cell,) = cells_of(base={"training.epochs": 2})
    assert (cell.arm, cell.label, cell.seed, cell.config.training.epochs) == (
        "trial",
        "trial",
        0,
        2,
    )


def test_an_arm_without_a_label_is_labelled_by_its_name() -> None:
    assert [
        cell.label
        for cell in cells_of(arms={"a": {"order": 0}, "b": {"label": "The b", "order": 1}})
    ] == ["a", "The b"]


def test_base_loses_to_arm_loses_to_axis_loses_to_overrides() -> None:
    sweep = sweep_of(
        base={"training": {"epochs": 1, "batch_size": 10, "threads": 1, "checkpoint_epochs": 1}},
        arms={
            "a": {"training.batch_size": 20, "training.threads": 2, "training.checkpoint_epochs": 2}
        },
        axes={"training.threads": [3], "training.checkpoint_epochs": [3]},
    )
    training = expand(sweep, {"training.checkpoint_epochs": 4})[0].config.training
    assert (training.epochs, training.batch_size, training.threads, training.checkpoint_epochs) == (
        1,
        20,
        3,
        4,
    )


def test_a_component_given_whole_by_set_stands_in_the_file_s_place() -> None:
    """So a sweep of one data set is pointed at another in one word, and no option stays behind."""
    sweep = sweep_of(base={"data": {"name": "motion", "train": 40, "test": 20}})
    (cell,) = expand(sweep, {"data": {"name": "folder", "videos": "clips"}})
    assert cell.config.data.name == "folder"
    assert cell.config.data.options == {"videos": "clips"}
    (same,) = expand(sweep, {"data": {"name": "motion", "test": 30}})
    assert same.config.data.options == {"test": 30}
    (merged,) = expand(sweep, {"data.test": 30})
    assert merged.config.data.options == {"train": 40, "test": 30}


def test_seeds_and_protocols_reach_the_configuration() -> None:
    config = expand(sweep_of(seeds=[3], evaluate=["retrieval"]))[0].config
    assert (config.training.seed, config.evaluation.protocols) == (3, ("retrieval",))


@pytest.mark.parametrize("key", ["training.seed", "evaluation.protocols"])
@pytest.mark.parametrize("place", ["base", "arms", "overrides"])
def test_what_the_sweep_has_keys_for_is_refused_anywhere_else(key: str, place: str) -> None:
    sweep = sweep_of(
        **(
            {"base": {key: 1}}
            if place == "base"
            else {"arms": {"one": {key: 1}}}
            if place == "arms"
            else {}
        )
    )
    with pytest.raises(ConfigError, match=f"{key}: is what the sweep's"):
        expand(sweep, {key: 1} if place == "overrides" else {})


def test_seeds_may_be_given_instead_of_the_file_s() -> None:
    assert [cell.config.training.seed for cell in expand(sweep_of(seeds=[0, 1]), seeds=[5])] == [5]


def test_short_dotted_and_nested_names_say_the_same() -> None:
    short = {
        "order": 1,
        "mix": "one_way",
        "selection": "scheduled",
        "reverse": True,
        "framework": "vicreg",
        "backbone": "r3d_tiny",
    }
    dotted = {
        "schedule.order": 1,
        "schedule.mix": "one_way",
        "schedule.selection": "scheduled",
        "schedule.reverse": True,
        "objective.name": "vicreg",
        "backbone.name": "r3d_tiny",
    }
    nested = {
        "schedule": {"order": 1, "mix": "one_way", "selection": "scheduled", "reverse": True},
        "objective": {"name": "vicreg"},
        "backbone": {"name": "r3d_tiny"},
    }
    configs = [
        cell.config for cell in cells_of(arms={"short": short, "dotted": dotted, "nested": nested})
    ]
    assert configs[0] == configs[1] == configs[2]
    assert configs[0].schedule.mix == "one_way"


def test_an_arm_changes_one_option_of_a_component_and_keeps_the_others() -> None:
    (cell,) = cells_of(
        base={"objective": {"name": "vicreg", "hidden": 8, "out": 8}},
        arms={"a": {"objective": {"hidden": 4}}},
    )
    assert cell.config.objective.options == {"hidden": 4, "out": 8}


def test_free_weights_may_be_nested_dotted_or_an_axis() -> None:
    nested = {"schedule": {"order": 1, "weights": {"1-0": 2, "0-0": 1}}}
    dotted = {"order": 1, "schedule.weights.1-0": 2, "schedule.weights.0-0": 1}
    cells = cells_of(arms={"nested": nested, "dotted": dotted})
    cells += cells_of(base={"order": 1}, axes={"schedule.weights": [{"1-0": 2, "0-0": 1}]})
    assert {cell.config.to_yaml() for cell in cells} == {cells[0].config.to_yaml()}
    assert cells[0].config.schedule.schedule() == Schedule(
        1, selection="weighted", weights={"1-0": 2.0, "0-0": 1.0}
    )
    assert re.fullmatch(r"[A-Za-z0-9_.=-]+", cells[2].title)


def test_the_paper_s_recipe_of_a_framework_stays_open_until_it_is_resolved() -> None:

    cells = cells_of(arms={name: {"framework": name} for name in ("vicreg", "cvrl", "corp_m")})
    assert {
        (cell.config.sampling.name, cell.config.augment.name, cell.config.clip.per_video)
        for cell in cells
    } == {("default", "default", None)}
    found = [cell.resolved().config for cell in cells]
    assert [
        (config.sampling.name, config.augment.name, config.clip.per_video) for config in found
    ] == [
        ("uniform", "vididi", 2),
        ("interval", "cvrl", 2),
        ("min_offset", "corp", 4),
    ]


def test_an_arm_has_its_own_resources_beside_the_sweep_s() -> None:
    cells = cells_of(
        resources={"cpus_per_worker": 2},
        arms={"one": {"order": 0}, "two": {"order": 0, "resources": {"workers": 2}}},
    )
    assert [(cell.resources.workers, cell.resources.cpus_per_worker) for cell in cells] == [
        (1, 2),
        (2, 2),
    ]
    assert cells[0].config == cells[1].config, "resources are no part of the configuration"


def test_only_keeps_the_named_arms() -> None:
    sweep = sweep_of(arms={"a": {"order": 0}, "b": {"order": 1}, "c": {"order": 2}})
    assert [cell.arm for cell in expand(sweep, only=["c", "a"])] == ["a", "c"]


def test_a_cell_says_where_in_the_sweep_it_is() -> None:
    cell = cells_of(arms={"a": {"label": "A", "order": 0}}, axes={"clip.stride": [2]}, seeds=[4])[0]
    assert cell.describe("trial") == {
        "sweep": "trial",
        "arm": "a",
        "label": "A",
        "axes": {"clip.stride": 2},
        "seed": 4,
    }


# --- Faults ---------------------------------------------------------------------------------------


def test_an_unknown_key_of_a_sweep_names_the_file_and_the_nearest_key() -> None:
    message = fault(sedes=[0])
    assert "trial.yaml" in message
    assert "sedes: unknown key (did you mean 'seeds'?)" in message


def test_an_unknown_key_of_the_resources_is_an_error() -> None:
    assert "resources.worker: unknown key (did you mean 'workers'?)" in fault(
        resources={"worker": 2}
    )
    message = fault(arms={"a": {"resources": {"worker": 2}}})
    assert "arm 'a': resources: worker: unknown key" in message


def test_an_unknown_value_of_an_arm_lists_short_names_and_keys() -> None:
    message = fault(arms={"good": {"order": 0}, "bad": {"ordr": 1}})
    assert "arm 'bad': ordr: unknown key (did you mean 'order'?)" in message
    assert all(
        name in message
        for name in ("mix", "framework", "training.epochs", "optimiser.*", "clip.frames")
    )
    assert "good" not in message


def test_an_unknown_key_in_base_or_axes_is_an_error() -> None:
    assert "training.epoch: unknown key" in fault(base={"training": {"epoch": 3}})
    assert "optimizer.lr: unknown key" in fault(axes={"optimizer.lr": [0.1]})


def test_a_section_given_a_value_is_an_error() -> None:
    assert (
        "base: training: 3 is not valid for a whole section; give its values one by one:"
        " training.epochs," in fault(base={"training": 3})
    )
    assert (
        fault(axes={"optimiser": ["sgd"]})
        == "axes: optimiser: sgd is not valid for a whole section; did you mean 'optimiser.name'?"
    )
    assert "did you mean 'objective.name'?" in fault(
        arms={"a": {"objective": None}, "b": {"order": 1}}
    )


def test_an_impossible_combination_names_the_arm_and_the_point_once() -> None:
    message = fault(
        arms={"odd": {"selection": "random", "mix": "both_ways"}},
        axes={"order": [1]},
        seeds=[0, 1, 2],
    )
    assert "arm 'odd' at order=1" in message
    assert message.count("schedule.mix: 'both_ways' needs selection 'scheduled'") == 1


def test_gradient_accumulation_is_refused_with_the_reason_and_the_arm() -> None:
    message = fault(arms={"large": {"training.accumulate": 4}, "fine": {"order": 1}})
    assert "arm 'large'" in message
    assert "training.accumulate: 4 is not possible; gradients are not accumulated" in message


def test_every_impossible_arm_is_named() -> None:
    message = fault(
        arms={"one": {"order": 0, "mix": "same"}, "fine": {"order": 1}, "two": {"order": 10}}
    )
    assert "arm 'one'" in message
    assert "arm 'two'" in message
    assert "fine" not in message


def test_a_batch_that_does_not_divide_over_the_workers_is_an_error() -> None:
    assert "training.batch_size: 64 does not divide over 3 workers" in fault(
        arms={"a": {"resources": {"workers": 3}}}
    )


@pytest.mark.parametrize(
    ("seeds", "said"),
    [([0, 1, 0], "names a seed twice"), ([-1], "a seed is 0 or more"), ([], "seeds")],
)
def test_seeds_that_cannot_be(seeds: list[int], said: str) -> None:
    assert said in fault(seeds=seeds)


def test_an_axis_may_have_values_that_only_python_takes_for_equal() -> None:
    assert "reverse: 1 is not valid: 1 is a number; it is true or false" in fault(
        axes={"reverse": [True, 1]}
    )


def test_a_key_of_arms_is_no_key_of_base() -> None:
    assert "did you mean" not in fault(base={"label": "x"})
    assert "base: epochs: unknown key (did you mean 'training.epochs'?)" in fault(
        base={"epochs": 3}
    )


@pytest.mark.parametrize(
    "values",
    [
        {"order": True},
        {"order": "1"},
        {"order": 7},
        {"order": 0, "clip.stride": 2},
        {"clip.stride": []},
    ],
)
def test_an_exclude_that_leaves_out_no_cell_is_said(values: dict[str, Any]) -> None:
    sweep = sweep_of(
        axes={"order": [0, 1], "reverse": [False, True]}, exclude=[values, {"schedule.order": 1.0}]
    )
    assert [cell.axes["order"] for cell in expand(sweep)] == [0, 0]
    assert without_effect(sweep) == [values]


def test_an_axis_without_values_is_an_error() -> None:
    assert "axes.training.epochs: an axis needs at least one value" in fault(
        axes={"training.epochs": []}
    )


def test_an_axis_that_names_a_value_twice_is_an_error() -> None:
    assert "training.epochs" in fault(axes={"training.epochs": [3, 4, 3]})


def test_an_axis_over_seeds_is_an_error_because_seeds_would_replace_it() -> None:
    assert "training.seed" in fault(axes={"training.seed": [1, 2]}, seeds=[0])


def test_only_with_an_unknown_arm_lists_the_arms() -> None:
    with pytest.raises(ConfigError) as error:
        expand(sweep_of(arms={"base": {"order": 0}, "vididi": {}}), only=["vidid"])
    assert "--only vidid: unknown" in str(error.value)
    assert "(did you mean 'vididi'?)" in str(error.value)
    assert "base, vididi" in str(error.value)


@pytest.mark.parametrize("name", ["a/b", "../a", "", ".hidden", "a b"])
def test_a_name_that_is_no_folder_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        sweep_of(name=name)


@pytest.mark.parametrize("name", ["a/b", "../a", "", "a\nb"])
def test_an_arm_name_that_is_no_folder_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        cells_of(arms={name: {"order": 0}})


# --- Titles and run folders -----------------------------------------------------------------------


def test_titles_are_unique_and_safe_as_folder_names() -> None:
    axes = {
        "optimiser.lr": [0.3, 1e-6],
        "augment.crop_scale": [[0.3, 1.0], [0.08, 1.0]],
        "augment.note": ["a/b", "c: *"],
    }
    base = {"optimiser.name": "lars", "augment.name": "vididi"}
    cells = cells_of(base=base, arms={"base": {"order": 0}, "vididi": {}}, axes=axes, seeds=[0, 1])
    titles = [cell.title for cell in cells]
    assert len(set(titles)) == len(titles) == 2 * 8 * 2
    assert all(re.fullmatch(r"[A-Za-z0-9_.=-]+", title) for title in titles)
    assert titles[0].startswith("base-lr=0.3-crop_scale=")


def test_a_folder_is_named_by_title_and_identity() -> None:
    cell = cells_of()[0]
    assert cell.folder_name("checksum") == f"trial-s0-{cell.config.identity('checksum')}"


def test_the_folder_of_the_same_cell_is_found_under_another_title(tmp_path: Path) -> None:
    cell = cells_of(arms={"vididi": {}})[0]
    other = cells_of(arms={"renamed": {}})[0]
    assert cell.find_folder(tmp_path, "checksum") == tmp_path / cell.folder_name("checksum")
    existing = tmp_path / other.folder_name("checksum")
    existing.mkdir()
    assert cell.find_folder(tmp_path, "checksum") == existing
    for name in (f"copy-of-{existing.name}", f"{existing.name}.bak"):
        (tmp_path / name).mkdir()
    (tmp_path / f"a-file-{existing.name}").touch()
    own = tmp_path / cell.folder_name("checksum")
    own.mkdir()
    assert cell.find_folder(tmp_path, "checksum") == own
    assert cell.find_folder(tmp_path, "other data").name.startswith("vididi-s0-")


# --- The files of sweeps/ -------------------------------------------------------------------------


@pytest.mark.parametrize("path", SWEEPS, ids=str)
def test_every_sweep_file_expands_and_resolves(path: Path) -> None:
    from vididi.components import resolve

    cells = expand(load_sweep(REPO / path))
    assert len({cell.title for cell in cells}) == len(cells)
    checked = {
        cell.config.to_yaml(): resolve(cell.config) for cell in cells if cell.seed == cells[0].seed
    }
    assert all(config.training.epochs > 0 for config in checked.values())


def test_the_readme_s_sweep_file_expands_and_resolves(tmp_path: Path) -> None:
    from vididi.components import resolve

    blocks = re.findall(r"```yaml\n(.*?)```", (REPO / "README.md").read_text(), re.DOTALL)
    (text,) = (block for block in blocks if block.startswith("name:"))
    (tmp_path / "readme.yaml").write_text(text)
    cells = expand(load_sweep(tmp_path / "readme.yaml"))
    assert len(cells) == 2 * 2 * 3
    assert [resolve(cell.config).optimiser.options["lr"] for cell in cells[::3]] == [
        2.0,
        4.0,
        2.0,
        4.0,
    ]


def test_the_ablation_has_the_nine_arms_of_table_6() -> None:
    cells = expand(load_sweep(REPO / "sweeps" / "ablation.yaml"))
    assert {cell.arm: cell.config.schedule.schedule() for cell in cells} == dict(
        list(SCHEDULES.items())[:9]
    )


def test_the_ablation_s_arms_differ_in_their_schedules_only() -> None:
    cells = [
        cell for cell in expand(load_sweep(REPO / "sweeps" / "ablation.yaml")) if cell.seed == 0
    ]
    rest = {
        yaml.safe_dump(
            {key: value for key, value in cell.config.to_dict().items() if key != "schedule"}
        )
        for cell in cells
    }
    assert len(cells) == 9
    assert len(rest) == 1


def test_the_search_begins_with_the_arms_of_the_ablation_and_has_three_times_its_budget() -> None:
    from vididi.components import resolve

    search, grid = (
        load_sweep(REPO / "sweeps" / "search.yaml"),
        expand(load_sweep(REPO / "sweeps" / "ablation.yaml")),
    )
    points = {cell.arm: point_of(search, cell.config.to_dict()) for cell in grid}
    assert [arm for arm, point in points.items() if point is None] == ["base"]
    for cell in grid:
        if (point := points[cell.arm]) is not None:
            assert (found := cell_at(search, point)) is not None
            assert resolve(found.config).identity("videos") == resolve(cell.config).identity(
                "videos"
            )
    s = search.search
    assert s.budget is not None
    assert s.confirm is not None
    epochs = grid[0].config.training.epochs
    rounds = halved(
        s.confirm.top + 1, len(s.confirm.choose_seeds)
    )  # with the grid's best arm, whose first of these runs is known
    assert s.budget + (sum(rounds) - 1) * epochs <= 3 * len(grid) * epochs


def test_the_ablation_s_labels_are_the_paper_s_rows_and_match_one_each() -> None:
    from vididi.analysis.paper import load_paper_table
    from vididi.dotted_keys import flatten

    sweep = load_sweep(REPO / "sweeps" / "ablation.yaml")
    cells = [cell for cell in expand(sweep) if cell.seed == sweep.seeds[0]]
    rows = load_paper_table("vididi_table_6").rows
    assert [cell.label for cell in cells] == [row.label for row in rows]
    for cell in cells:
        flat = flatten(cell.config.to_dict())
        matching = [
            row.label for row in rows if all(flat[key] == value for key, value in row.match.items())
        ]
        assert matching == [cell.label]


def test_evaluations_are_protocols_or_entries(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(
        "name: s\nevaluate: [retrieval, {protocol: semi, recipe: corp, settings: {epochs: 3}},"
        " {protocol: linear, data: {name: hmdb51}}]\n"
    )
    sweep = load_sweep(path)
    assert (sweep.protocols, [entry.title for entry in sweep.evaluations]) == (
        ["retrieval"],
        ["semi 1%", "linear on hmdb51"],
    )
    assert expand(sweep)[0].config.evaluation.protocols == ("retrieval",)


def test_evaluations_of_a_sweep_are_told_apart_by_split_and_share_of_the_labels() -> None:
    """Their data sets are kept by title."""
    entries: list[dict[str, Any]] = [
        {"protocol": "finetune", "data": {"name": "ucf101", "split": split}} for split in (1, 2)
    ]
    entries += [{"protocol": "semi", "settings": {"labels": share}} for share in (0.01, 0.1)]
    titles = [entry.title for entry in sweep_of(evaluate=entries).evaluations]
    assert titles == [
        "finetune on ucf101 split 1",
        "finetune on ucf101 split 2",
        "semi 1%",
        "semi 10%",
    ]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{protocol: knn}", "protocol: 'knn' is not valid; it is one of retrieval"),
        (
            "{protocol: linear, recipe: vididi}",
            "'vididi' is not valid for linear; it is one of cvrl, corp",
        ),
        ("{protocol: linear, settings: {epoch: 3}}", "epoch: unknown key (did you mean 'epochs'?)"),
        ("{protocol: linear, sets: {epochs: 3}}", "sets"),
    ],
)
def test_evaluations_that_cannot_be_are_refused_at_once(
    tmp_path: Path, entry: str, said: str
) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(f"name: s\nevaluate: [{entry}]\n")
    with pytest.raises(ConfigError) as error:
        load_sweep(path)
    assert said in str(error.value)


AXES = {"clip.stride": [1, 2, 3], "clip.size": [16, 32, 64]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"base": {"trainig.epochs": 3}},
            ["base: trainig.epochs: unknown key (did you mean 'training.epochs'?)"],
        ),
        (
            {"axes": {**AXES, "clip.sice": [1, 2]}},
            ["axes: clip.sice: unknown key (did you mean 'clip.size'?)"],
        ),
        (
            {"arms": {"a": {"clp.frames": 3}, "b": {}}},
            ["arm 'a': clp.frames: unknown key (did you mean 'clip.frames'?)"],
        ),
        (
            {"exclude": [{"clip.sice": 1}]},
            ["exclude: clip.sice: unknown key (did you mean 'clip.size'?)"],
        ),
        ({"base": {"clip.frames": 0}}, ["every cell: clip.frames: 0 is not valid"]),
        ({"base": {"clip.frames": 0}, "arms": {}}, ["arm 'trial': clip.frames: 0 is not valid"]),
        (
            {"arms": {"a": {"clip.frames": 0}, "b": {"clip.frames": 0}, "c": {}}},
            ["arms 'a', 'b': clip.frames: 0 is not valid"],
        ),
        (
            {"axes": {**AXES, "clip.size": [16, 4]}, "arms": {}},
            ["arm 'trial' at clip.size=4 (3 points): clip.size: 4 is not valid"],
        ),
        (
            {"base": {"clip.frames": 0, "training.epochs": -1}},
            [
                "every cell: clip.frames: 0 is not valid",
                "every cell: training.epochs: -1 is not valid",
            ],
        ),
        (
            {"resources": {"workers": 3}, "arms": {}},
            ["arm 'trial': training.batch_size: 64 does not divide over 3 workers"],
        ),
        ({"base": {"schedule.weights": {"1-0": 1, "5-0": 3}}, "arms": {}}, ["arm 'trial': "]),
        (
            {"base": {"training.epochs": [1]}},
            ["every cell: training.epochs: [1] is not valid: it must be an integer"],
        ),
    ],
    ids=str,
)
def test_each_reason_is_said_once_however_many_cells_have_it(
    changes: dict[str, Any], said: list[str]
) -> None:
    lines = fault(
        **{"axes": AXES, "arms": {"x": {}, "y": {"order": 1}}, "seeds": [0, 1], **changes}
    ).splitlines()
    assert [line[: len(begin)] for line, begin in zip(lines, said, strict=True)] == said


def test_an_arm_named_twice_counts_once() -> None:
    sweep = sweep_of(arms={"base": {"order": 0}, "other": {"order": 1}}, seeds=[0])
    assert size(sweep, ["base", "base"], [0]) == len(expand(sweep, only=["base", "base"])) == 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"evaluate": ["foo"]},
            "evaluate.0: 'foo' is not valid: it must be 'retrieval' or 'silhouette'",
        ),
        (
            {"evaluate": [{"protocol": "linear", "recipe": "x"}]},
            "evaluate.0.recipe: 'x' is not valid for linear; it is one of cvrl, corp",
        ),
        (
            {"evaluate": [{"protocol": "linear", "data": "hmdb51"}]},
            "evaluate.0.data: 'hmdb51' is not valid: it must be a mapping of keys to values",
        ),
        (
            {"evaluate": [{"protocol": "linear", "settings": {"epochs": True, "clips": 0}}]},
            (
                "evaluate.0.settings.epochs: true is not valid: true is no number\n"
                "  evaluate.0.settings.clips: 0 is not valid: it must be greater than or equal to 1"
            ),
        ),
        (
            {"arms": {"a b": {}}},
            (
                "arms: 'a b' is not valid: it must be letters, digits, _ . and -, beginning with a"
                " letter or a digit"
            ),
        ),
        (
            {"resources": {"gpus_per_worker": 1.5}},
            (
                "resources.gpus_per_worker: 1.5 is not valid: it must be a fraction below 1, or a"
                " whole number"
            ),
        ),
        ({"axes": {"reverse": [True, True]}}, "axes.reverse: [true, true] names a value twice"),
        (
            {"search": {"name": "random", "metrics": {}}},
            "search.metrics: {} is not valid: it must have at least 1 item",
        ),
        ({"arms": [1]}, "arms: [1] is not valid: it must be a mapping of keys to values"),
        ({"seeds": 3}, "seeds: 3 is not valid: it must be a list"),
        ({"seeds": []}, "seeds: [] is not valid: it must have at least 1 item"),
        (
            {"resources": {"workers": "two"}},
            "resources.workers: 'two' is not valid: it must be an integer",
        ),
        (
            {"resources": {"workers": 0}},
            "resources.workers: 0 is not valid: it must be greater than or equal to 1",
        ),
    ],
    ids=str,
)
def test_a_value_that_cannot_be_is_said_once_and_in_the_words_of_the_file(
    values: dict[str, Any], said: str
) -> None:
    assert fault(**values) == f"trial.yaml:\n  {said}"


def test_what_varies_is_what_cells_have_two_values_of_the_seed_last(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(
        "name: few\nseeds: [0, 1]\naxes: {training.batch_size: [8, 16]}\n"
        "arms: {short: {training.epochs: 1}, long: {training.epochs: 2}}\n"
    )
    cells = expand(load_sweep(path))
    assert sorted(varied_keys(cells)[:-1]) == ["training.batch_size", "training.epochs"]
    assert varied_keys(cells)[-1] == "training.seed"
    assert varied_keys(cells[:1]) == []
