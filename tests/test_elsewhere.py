"""Encoders from elsewhere: a configuration of no epochs around a file, evaluated like any run; and
what fine-tuning leaves for another.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from plain_files import plain
from safetensors.torch import load_file, save_file

from vididi.backbones.weights import WEIGHTS_OPTIONS
from vididi.cli import main
from vididi.components import make_encoder
from vididi.config import Component, build_config
from vididi.encoders import load_encoder
from vididi.errors import ConfigError
from vididi.protocols import protocol_settings
from vididi.protocols.finished import find_encoders

MakeConfig = Callable[..., Any]
FINETUNE = ["epochs=1", "batch_size=8", "clips=1", "steps=[]", "keep_encoder=true"]


def pretrain(folder: Path, values: dict[str, Any], *changes: str) -> Path:
    """A run of no epochs from a written-out configuration, made by the command line."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {**values, "training": {**values["training"], "epochs": 0}}
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    run = folder / "run"
    assert (
        main(
            [
                "pretrain",
                str(folder / "config.yaml"),
                "--out",
                str(run),
                *(p for c in changes for p in ("--set", c)),
            ]
        )
        == 0
    )
    return run


def evaluate(protocol: str, run: Path, *changes: str) -> tuple[Path, dict[str, Any]]:
    before = set(run.glob("evaluations/*"))
    assert (
        main(
            [
                "evaluate",
                protocol,
                str(run),
                *(part for change in changes for part in ("--set", change)),
            ]
        )
        == 0
    )
    (folder,) = set(run.glob("evaluations/*")) - before
    return folder, plain(folder / "result.json")


def test_a_file_of_torchvision_s_is_evaluated_like_a_run_and_may_be_gone_by_then(
    tiny_values: dict[str, Any], tmp_path: Path
) -> None:
    from torchvision.models.video import r3d_18

    torch.manual_seed(7)
    file = tmp_path / "r3d_18-kinetics.pth"
    torch.save(theirs := r3d_18().state_dict(), file)
    tiny_values["backbone"] = {
        "name": "r3d_18",
        "weights": str(file),
        "weights_from": "kinetics400_supervised",
    }
    run = pretrain(tmp_path / "file", tiny_values, "evaluation.untrained=true")
    random = pretrain(tmp_path / "random", {**tiny_values, "backbone": {"name": "r3d_18"}})
    written = load_file(run / "encoder.safetensors")
    assert all(
        torch.equal(tensor, theirs[name])
        for name, tensor in written.items()
        if not name.endswith("num_batches_tracked")
    )
    result, of_random = (plain(folder / "result.json") for folder in (run, random))
    assert (
        result["untrained/silhouette/all"]
        == of_random["silhouette/all"]
        != result["silhouette/all"]
    )
    file.unlink()
    _, found = evaluate("silhouette", run)
    assert found["metrics"]["silhouette/all"] == pytest.approx(result["silhouette/all"], rel=1e-4)
    assert found["untrained"]["silhouette/all"] == pytest.approx(
        of_random["silhouette/all"], rel=1e-4
    )
    assert load_encoder(run)(torch.zeros(1, 3, 4, 16, 16)).shape == (1, 512)


def test_an_untrained_run_is_its_own_untrained_encoder(
    tiny_values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = pretrain(tmp_path, tiny_values)
    monkeypatch.setattr(
        "vididi.protocols.finished.untrained_encoder",
        lambda *_: pytest.fail("the same encoder was measured twice"),
    )
    _, found = evaluate("finetune", run, *FINETUNE)
    assert found["untrained"] == found["metrics"]


def test_what_fine_tuning_keeps_is_an_encoder_for_another_run(
    tiny_values: dict[str, Any], tmp_path: Path
) -> None:
    run = pretrain(tmp_path / "first", tiny_values)
    folder, _ = evaluate("finetune", run, *FINETUNE)
    tuned, begun = load_file(folder / "tuned.safetensors"), load_file(run / "encoder.safetensors")
    assert tuned.keys() == begun.keys()
    assert not torch.equal(tuned["stem.0.weight"], begun["stem.0.weight"])
    assert not list(folder.glob(".tuned*"))
    assert find_encoders(tmp_path) == find_encoders(run) == [run]
    file = {"weights": str(folder / "tuned.safetensors"), "weights_from": "supervised"}
    second = pretrain(
        tmp_path / "second", {**tiny_values, "backbone": {**tiny_values["backbone"], **file}}
    )
    for name, tensor in load_file(second / "encoder.safetensors").items():
        assert name.endswith("num_batches_tracked") or torch.equal(tensor, tuned[name]), name
    kept, _ = evaluate(
        "semi", second, "labels=0.5", "epochs=1", "batch_size=8", "clips=1", "keep_encoder=true"
    )
    assert not torch.equal(
        load_file(kept / "tuned.safetensors")["stem.0.weight"], tuned["stem.0.weight"]
    )
    scratch = load_file(kept / "untrained" / "tuned.safetensors")
    assert not torch.equal(scratch["stem.0.weight"], tuned["stem.0.weight"])


def test_nothing_is_kept_unasked(tiny_values: dict[str, Any], tmp_path: Path) -> None:
    folder, _ = evaluate("finetune", pretrain(tmp_path, tiny_values), *FINETUNE[:-1])
    assert not list(folder.rglob("tuned.safetensors"))


def test_a_frozen_encoder_is_not_kept() -> None:
    with pytest.raises(ConfigError, match="keep_encoder: True needs frozen False"):
        protocol_settings("linear", None, {"keep_encoder": True})


def test_supervised_learning_is_cvrl_s() -> None:
    """CVRL 4.1: linear evaluation's settings, but 200 epochs, rate 0.8, dropout 0.5, all layers, no
    normalisation of features.
    """
    ours, linear = (
        dict(protocol_settings(*names, {}))
        for names in (("finetune", "cvrl_supervised"), ("linear", "cvrl"))
    )
    assert (ours.pop("optimiser").lr, linear.pop("optimiser").lr) == (0.8, 32.0)
    changed = {name: value for name, value in ours.items() if value != linear[name]}
    assert changed == {"frozen": False, "dropout": 0.5, "epochs": 200, "features": "as_is"}


# --- Names of cells -------------------------------------------------------------------------------


@pytest.fixture
def file(make_config: MakeConfig, tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_file(make_encoder(make_config().backbone)[0].state_dict(), path)
    return path


def test_the_content_of_a_file_is_part_of_a_cell_s_name_and_its_place_is_not(
    make_config: MakeConfig, file: Path
) -> None:
    def named(path: Path, **others: str) -> str:
        return make_config(
            {
                "backbone.weights": str(path),
                **{f"backbone.{key}": value for key, value in others.items()},
            }
        ).identity("x")

    first = named(file)
    moved = file.rename(file.with_name("moved.safetensors"))
    assert named(moved) == first
    assert len({first, named(moved, weights_from="supervised"), make_config().identity("x")}) == 3
    moved.write_bytes(moved.read_bytes()[:-4] + bytes(4))
    assert named(moved) != first


def test_which_network_of_a_file(make_config: MakeConfig, tmp_path: Path) -> None:
    weights = make_encoder(make_config().backbone)[0].state_dict()
    both = {
        f"{prefix}{name}": tensor + place
        for place, prefix in enumerate(("q.", "k."))
        for name, tensor in weights.items()
    }
    torch.save({"state_dict": both}, tmp_path / "moco.pth.tar")
    file = {"backbone.weights": str(tmp_path / "moco.pth.tar")}
    with pytest.raises(
        ConfigError,
        match=(
            r"^backbone\.weights: .*moco\.pth\.tar is not valid; .* give weights_prefix: 'q\.' or"
            r" weights_prefix: 'k\.'$"
        ),
    ):
        make_config(file)
    assert (
        len(
            {
                make_config({**file, "backbone.weights_prefix": prefix}).identity("x")
                for prefix in ("q.", "k.")
            }
        )
        == 2
    )
    with pytest.raises(ConfigError, match=r"backbone\.weights_inflate"):
        make_config({**file, "backbone.weights_inflate": "often"})


def test_a_cell_without_weights_is_named_as_before_there_were_any(make_config: MakeConfig) -> None:
    config = make_config()
    before = config.model_copy(update={"backbone": Component(name="r3d_tiny", width=2)})
    assert before.identity("x") == config.identity("x")
    later = dict.fromkeys(WEIGHTS_OPTIONS) | {"norm": "shared"}
    assert config.backbone.options == {"width": 2} | later


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "e1f1d2bcef01"),
        ({"weights": "/a/b.pth"}, "49831b72481f"),
        ({"weights": "/a/b.pth", "weights_sha256": "0" * 64, "weights_from": None}, "0303c62605e3"),
        (
            {"weights": "/a/b.pth", "weights_sha256": "0" * 64, "weights_from": "imagenet"},
            "573260d6d96b",
        ),
    ],
)
def test_options_added_later_are_part_of_a_cell_s_name_where_they_are_given(
    options: dict[str, str], name: str, tiny_values: dict[str, Any]
) -> None:
    def named(**others: Any) -> str:
        return build_config(
            {**tiny_values, "backbone": {"name": "r3d_tiny", "width": 2, **options, **others}}
        ).identity("x")

    if not options:
        assert (
            named()
            == named(weights=None, weights_key=None, weights_prefix=None, weights_inflate=None)
            == name
        )
        return
    path = (
        {"weights": "/a/b.pth"} if "weights_sha256" not in options else {"weights": "/moved/b.pth"}
    )
    assert (
        named()
        == named(**path, weights_key=None, weights_prefix=None, weights_inflate=None)
        == named(weights_inflate=False)
        == name
    )
    given = [
        {},
        {"weights_key": "teacher"},
        {"weights_prefix": ""},
        {"weights_prefix": "teacher"},
        {"weights_inflate": True},
    ]
    assert len({named(**others) for others in given}) == len(given)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"weights_from": "imagenet"},
            "backbone.weights_from: imagenet is not valid; it must come with weights",
        ),
        (
            {"weights": "nowhere.pth"},
            "backbone.weights: .*nowhere.pth cannot be read: No such file",
        ),
        (
            {"weights_prefix": "encoder_q."},
            "backbone.weights_prefix: encoder_q. is not valid; it must come with weights",
        ),
        ({"weights_sha": "00"}, "backbone.weights_sha: unknown key"),
    ],
)
def test_options_are_checked_before_anything_runs(
    options: dict[str, str], said: str, make_config: MakeConfig
) -> None:
    with pytest.raises(ConfigError, match=said):
        make_config({f"backbone.{name}": value for name, value in options.items()})
