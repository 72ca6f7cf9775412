"""Names of cells, evaluations, studies and prepared sets are the committed ones: by them what was
finished once is found again.

frozen_names.json holds, for every shipped sweep file, the folders' names of its cells (of a search,
of its examples), the names of their evaluations, the study's name and what the prepared sets are
named by; and texts of config.yaml files as runs have written them, with the values that they stand
for. Only a change that is meant to train or prepare everything anew may write it anew:

    python tests/test_frozen_names.py
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vididi.components import resolve, resolve_component
from vididi.config import Component, Config, build_config, parse_value, read_yaml
from vididi.data.video import Moment, Video
from vididi.dotted_keys import flatten
from vididi.introduced import without_introduced
from vididi.prepared import _preparation_digest
from vididi.protocols import EvaluationEntry, protocol_settings
from vididi.protocols.task import Task, complete_settings
from vididi.study_names import study_name
from vididi.sweep import Cell, Sweep, examples, expand, load_sweep

REPO = Path(__file__).resolve().parents[1]
FILE = Path(__file__).with_name("frozen_names.json")
SWEEPS = sorted(str(path.relative_to(REPO)) for path in (REPO / "sweeps").rglob("*.yaml"))
IN_FULL = (
    "sweeps/ablation.yaml",
    "sweeps/search.yaml",
    "sweeps/paper/cvrl_table_6.yaml",
)  # so that one sees what a change renames
CHECKSUM = "0" * 64
EXAMPLES = 20
# Two videos that are not there, one with all that a listing may say.
VIDEOS = [
    Video(Path("/none/a.mp4"), "a/b", "a", "train"),
    Video(Path("/none/c.mp4"), "c", "", "test", moment=Moment(902.0, 32, 31, 1)),
]


@cache
def frozen() -> dict[str, Any]:
    return json.loads(FILE.read_text())


def names(path: str) -> dict[str, Any]:
    """What a sweep file names."""
    sweep = load_sweep(REPO / path)
    cells = examples(sweep, EXAMPLES)[0] if sweep.searching else expand(sweep)
    cells = [cell.resolved() for cell in cells]
    lists = {
        "cells": [cell.folder_name(CHECKSUM) for cell in cells],
        "evaluations": [name for cell in cells for name in evaluation_names(sweep, cell)],
        "prepared": list(
            dict.fromkeys(
                set_name(cell.config, entry)
                for cell in cells
                for entry in [None, *sweep.evaluations]
            )
        ),
        # As they are given: a field that is new and left out changes nothing.
        "values": [json.dumps(sweep.model_dump(mode="json", exclude_unset=True), sort_keys=True)],
    }
    found: dict[str, Any] = {name: shortened(values) for name, values in lists.items()}
    if path in IN_FULL:
        found |= {name: lists[name] for name in ("cells", "evaluations", "prepared")}
    if sweep.searching:
        found["study"] = study_name(sweep, {"training.epochs": 3}, CHECKSUM)
    return found


def evaluation_names(sweep: Sweep, cell: Cell) -> list[str]:
    return [task_name(entry, cell.config) for entry in sweep.evaluations]


def task_name(entry: EvaluationEntry, config: Config) -> str:
    settings = complete_settings(
        protocol_settings(entry.protocol, entry.recipe, flatten(entry.settings)), config
    )
    shards: Any = SimpleNamespace(
        root="none", manifest=SimpleNamespace(source={"name": "none"}, checksum=CHECKSUM)
    )
    nothing: Any = None
    return Task(entry.protocol, settings, shards, nothing, nothing, nothing).name


def set_name(config: Config, entry: EvaluationEntry | None) -> str:
    if entry is not None and entry.data is not None:
        config = config.model_copy(update={"data": resolve_component("data", entry.data)})
    return f"{config.data.name}-{_preparation_digest(config, VIDEOS)}"


def shortened(values: Iterable[str]) -> str:
    return sha256("\n".join(values).encode()).hexdigest()


@pytest.mark.parametrize("path", SWEEPS)
def test_the_names_of_a_sweep_are_the_committed_ones(path: str) -> None:
    assert names(path) == frozen()["sweeps"][path]


def test_no_sweep_is_forgotten() -> None:
    assert list(frozen()["sweeps"]) == SWEEPS


CONFIGS: dict[str, dict[str, Any]] = {
    "all defaults": {},
    "weights over pairs": {
        "schedule": {"order": 2, "weights": {"1-0": 0.3, "0-0": 1}},
        "training": {"seed": 3},
    },
    "byol on adamw": {
        "objective": {"name": "byol"},
        "optimiser": {"name": "adamw", "lr": 1e-6, "weight_decay": 0.0},
        "clip": {"frames": 16, "size": 224, "per_video": 2},
        "training": {"epochs": 0, "checkpoint_steps": 1000, "precision": "bf16"},
    },
    "a backbone from a file": {
        "data": {"name": "csv", "list": "/data/no.csv", "root": "/data"},
        "backbone": {
            "name": "r3d_50",
            "weights": "/data/none.pth",
            "weights_sha256": "ab" * 32,
            "weights_from": "imagenet",
        },
        "evaluation": {"protocols": [], "online": {"every": 2, "keep_best": "online/knn"}},
    },
}
BY_HAND = """
training: {epochs: 3, threads: 0x2, batch_size: +4}
schedule: {order: 1, reverse: no}
optimiser: {name: lars, lr: '1e-3', weight_decay: 1E-6}
evaluation: {untrained: on, crop: 1}
"""


def checked(config: Config) -> Config:
    """As a cell has it; where a file of weights would have to be there, as given."""
    return config if "weights" in config.backbone.options else resolve(config)


@pytest.mark.parametrize("name", [*CONFIGS, "by hand"])
def test_an_old_configuration_is_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    kept = frozen()["configurations"][name]
    path = tmp_path / "config.yaml"
    path.write_text(kept["text"])
    config = checked(build_config(read_yaml(path), str(path)))
    values = config.to_dict()
    for key in ("memory_format", "view_passes"):  # of the kind of machine, and of no name
        del values["training"][key]
    # What came later says nothing where it has its introduction value.
    assert without_introduced(Config, values) == without_introduced(Config, kept["values"])
    assert config.identity(CHECKSUM) == kept["identity"]


def test_component_options_keep_their_kinds() -> None:
    """1 and true are equal in Python; in a name they are not."""
    assert Config(optimiser=Component(name="lars", lr=1)).identity("") != Config(
        optimiser=Component(name="lars", lr=1.0)
    ).identity("")


def write_names() -> None:
    """Replace frozen_names.json by what the program gives now."""
    texts = {name: checked(build_config(values)).to_yaml() for name, values in CONFIGS.items()} | {
        "by hand": BY_HAND
    }
    configs = {name: checked(build_config(parse_value(text))) for name, text in texts.items()}
    content = {
        "about": (
            "Names and values that must not change, see test_frozen_names.py, which also writes"
            " this file"
        ),
        "sweeps": {path: names(path) for path in SWEEPS},
        "configurations": {
            name: {
                "text": texts[name],
                "values": config.to_dict(),
                "identity": config.identity(CHECKSUM),
            }
            for name, config in configs.items()
        },
    }
    FILE.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    write_names()
