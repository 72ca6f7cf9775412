"""Evaluating finished runs: every protocol from the command line, what is written, and going on
where it stopped.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pytest
import torch
from plain_files import plain

from vididi.cli import main
from vididi.components import read_run_config
from vididi.config import Component
from vididi.data.sampling import UniformSampling
from vididi.data.stream import local_stream
from vididi.data.verify import index_checksum
from vididi.errors import ConfigError, DataError
from vididi.evaluation import classification, first_hits
from vididi.experiment import run_cell
from vididi.interrupts import AskedToStop
from vididi.prepared import ensure_prepared
from vididi.protocols import EVALUATIONS, classify, finished, protocol_settings
from vididi.protocols.finished import evaluate_run, find_encoders
from vididi.protocols.task import Task, complete_settings
from vididi.runs.run_folder import RunFolder
from vididi.training import stop_request
from vididi.training.context import LocalContext
from vididi.views import square_view

OF_FEATURES, OF_CLASSIFIERS = (
    ("retrieval", "silhouette", "dynamics"),
    ("linear", "semi", "finetune"),
)
QUICK = ["epochs=2", "batch_size=8", "clips=2", "optimiser.lr=0.1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, make_config: Callable[..., Any]) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "base-s0"
    config = make_config({"training.epochs": 1})
    shards = ensure_prepared(config)
    run_cell(config, {"arm": "base"}, folder, shards, local_stream(shards), LocalContext())
    return folder


def evaluate(
    protocol: str, run: Path, *texts: str, options: tuple[str, ...] = ()
) -> dict[str, Any]:
    before = set(run.glob("evaluations/*/result.json"))
    settings = [part for text in texts for part in ("--set", text)]
    assert main(["evaluate", protocol, str(run), *settings, *options]) == 0
    (path,) = set(run.glob("evaluations/*/result.json")) - before
    return {**json.loads(path.read_text()), "folder": path.parent}


def quick(protocol: str) -> list[str]:
    if protocol not in OF_CLASSIFIERS:
        return []
    return [
        *QUICK,
        *(["warmup_epochs=1"] if protocol == "linear" else []),
        *(["steps=[1]"] if protocol == "finetune" else []),
    ] + (["labels=0.5"] if protocol == "semi" else [])


@pytest.mark.parametrize(
    "protocol", [protocol for protocol in EVALUATIONS if protocol != "detection"]
)  # tests/test_detection_program.py
def test_every_protocol_measures_the_encoder_and_the_untrained_one(
    protocol: str, trained: Path
) -> None:
    result = evaluate(protocol, trained, *quick(protocol))
    assert (result["version"], result["protocol"]) == (1, protocol)
    assert result["data"]["name"] == "motion"
    assert len(result["data"]["checksum"]) == 64
    assert result["metrics"]
    assert result["metrics"].keys() == result["untrained"].keys()
    assert not list(result["folder"].rglob("checkpoint.pt"))
    if protocol in OF_FEATURES:  # of a classifier the few test videos may say the same
        assert result["metrics"] != result["untrained"]
    if protocol in (*OF_FEATURES, *OF_CLASSIFIERS):
        queries = pq.read_table(result["folder"] / "queries.parquet")
        more = ["predicted"] if protocol in OF_CLASSIFIERS else []
        assert queries.column_names == ["video_id", "label", "first_hit", "scene", *more]
        assert queries.num_rows == 12
    if protocol in OF_CLASSIFIERS:
        right = queries["predicted"].to_numpy() == queries["label"].to_numpy()
        assert right.tolist() == (queries["first_hit"].to_numpy() == 0).tolist()
        top1 = next(value for name, value in result["metrics"].items() if name.endswith("/top1"))
        hits = queries.column("first_hit").to_numpy()
        assert top1 == pytest.approx((hits == 0).mean())
        assert set(result["per_class"]) == set(
            ensure_prepared(read_run_config(trained)).manifest.classes
        )


def test_names_of_metrics(trained: Path) -> None:
    names = {
        path.parent.name.split("-")[0]: set(json.loads(path.read_text())["metrics"])
        for path in trained.glob("evaluations/*/result.json")
    }
    assert names["linear"] == {"linear/top1", "linear/top5"}
    assert names["semi"] == {"semi_50/top1", "semi_50/top5"}
    assert names["retrieval"] >= {"retrieval/R@1", "retrieval/R@5", "retrieval/R@10"}
    assert names["dynamics"] >= {
        f"dynamics/{name}"
        for name in ("motion", "frozen_R@1", "reversed_R@1", "shuffled_R@1", "class_over_scene")
    }


def test_retrieval_of_a_run_s_own_data_is_what_the_run_measured(trained: Path) -> None:
    (path,) = trained.glob("evaluations/retrieval-*/result.json")
    measured, own = (
        json.loads(path.read_text())["metrics"],
        plain(trained / "result.json"),
    )
    assert {name: own[name] for name in measured} == measured


def test_what_was_measured_is_not_measured_again(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Task, "measure", lambda *_: pytest.fail("measured again"))
    assert main(["evaluate", "dynamics", str(trained.parent)]) == 0


@pytest.mark.parametrize("protocol", ["retrieval", "silhouette"])
def test_features_are_kept_in_the_order_of_the_queries(protocol: str, trained: Path) -> None:
    task = task_of(trained, protocol, {"clips": 1})
    evaluate_run(trained, task, None, untrained=False)
    folder = trained / "evaluations" / task.name
    kept, queries = (
        pq.read_table(folder / "features.parquet"),
        pq.read_table(folder / "queries.parquet"),
    )
    assert kept.column_names == ["video_id", "label", "class", "split", "features"]
    test = kept.filter(pa.compute.equal(kept["split"], "test"))
    assert test["video_id"].to_pylist() == queries["video_id"].to_pylist()
    assert (kept.num_rows, test.num_rows) == (36, 12)
    classes = task.shards.manifest.classes
    assert kept["class"].to_pylist() == [classes[label] for label in kept["label"].to_pylist()]
    train = kept.filter(pa.compute.equal(kept["split"], "train"))
    x, gallery = (np.array(part["features"].to_pylist(), np.float32) for part in (test, train))
    assert (
        first_hits(x, test["label"], gallery, train["label"]).tolist()
        == queries["first_hit"].to_pylist()
    )


@pytest.mark.parametrize("features_are", ["not kept", "cut", "of another form"])
def test_features_that_are_missing_or_damaged_are_computed_again(
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    features_are: str,
) -> None:
    task = task_of(trained, "retrieval", {"clips": 3})
    before = evaluate_run(trained, task, None, untrained=True)
    features = trained / "evaluations" / task.name / "features.parquet"
    kept = pq.read_table(features)
    if features_are == "not kept":  # by an earlier version
        features.unlink()
    elif features_are == "cut":
        features.write_bytes(features.read_bytes()[:-9])
    else:
        pq.write_table(kept.drop(["split"]), features)
    monkeypatch.setattr(
        finished,
        "untrained_encoder",
        lambda *_: pytest.fail("the untrained encoder was measured again"),
    )
    assert main(["evaluate", "retrieval", str(trained), "--set", "clips=3"]) == 0
    assert ("set aside as features.parquet.damaged-" in capsys.readouterr().out) == (
        features_are != "not kept"
    )
    assert pq.read_table(features).equals(kept)
    again = evaluate_run(trained, task, None, untrained=True)
    assert (again["metrics"], again["untrained"]) == (before["metrics"], before["untrained"])


def task_of(run: Path, protocol: str, changes: dict[str, Any]) -> Task:
    config = read_run_config(run)
    shards = ensure_prepared(config)
    settings = complete_settings(protocol_settings(protocol, None, changes), config)
    return Task(
        protocol, settings, shards, local_stream(shards), LocalContext(), lambda metrics: None
    )


CLASSIFIER = {"epochs": 3, "batch_size": 8, "clips": 1, "steps": [1, 2], "optimiser.lr": 0.05}


def test_testing_a_classifier_on_the_way_changes_nothing(trained: Path) -> None:
    alone, tested = (
        evaluate_run(
            trained,
            task_of(trained, "finetune", {**CLASSIFIER, "seed": 1, "test_every": every}),
            None,
            untrained=False,
        )
        for every in (0, 2)
    )
    assert alone["metrics"] == tested["metrics"]
    assert [sorted(epoch) for epoch in alone["epochs"]] == [
        ["epoch", "loss", "lr", "step", "train_top1"]
    ] * 3
    assert ["test_top1" in epoch for epoch in tested["epochs"]] == [False, True, False]
    assert [epoch.get("loss") for epoch in alone["epochs"]] == [
        epoch.get("loss") for epoch in tested["epochs"]
    ]
    # 12 test videos, of which one clip's centre is seen; 24 training clips.
    assert tested["epochs"][1]["test_top1"] * 12 == pytest.approx(
        round(tested["epochs"][1]["test_top1"] * 12)
    )
    assert tested["epochs"][2]["train_top1"] * 24 == pytest.approx(
        round(tested["epochs"][2]["train_top1"] * 24)
    )


def test_a_classifier_that_was_interrupted_ends_the_same(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = task_of(trained, "finetune", {**CLASSIFIER, "test_every": 1})
    expected = evaluate_run(trained, whole, "vididi", untrained=False)
    (trained / "evaluations" / whole.name / "result.json").unlink()

    class Stop(Exception):
        pass

    def stop(metrics: dict[str, Any]) -> None:
        if metrics["epoch"] == 2:
            raise Stop

    steps = []
    with pytest.raises(Stop):
        evaluate_run(trained, replace(whole, report=stop), "vididi", untrained=False)
    original = classify.train_classifier
    monkeypatch.setattr(
        classify, "train_classifier", lambda *given: (steps.append(given[5]), original(*given))
    )
    again = evaluate_run(trained, whole, "vididi", untrained=False)
    assert {name: again[name] for name in ("metrics", "epochs")} == {
        name: expected[name] for name in ("metrics", "epochs")
    }
    assert steps == [6]


def test_a_classifier_that_was_asked_to_end_amid_an_epoch_ends_the_same(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = task_of(trained, "finetune", {**CLASSIFIER, "seed": 1})
    expected = evaluate_run(trained, whole, "vididi", untrained=False)
    folder = trained / "evaluations" / whole.name
    (folder / "result.json").unlink()
    steps = iter(range(1, 100))
    with monkeypatch.context() as patch:
        patch.setattr(stop_request, "asked", lambda: 15 if next(steps) >= 5 else None)
        with pytest.raises(AskedToStop):
            evaluate_run(trained, whole, "vididi", untrained=False)
    assert RunFolder(folder).load_checkpoint(torch.device("cpu"))["step"] == 5  # of epochs of 3
    again = evaluate_run(trained, whole, "vididi", untrained=False)
    assert {name: again[name] for name in ("metrics", "epochs")} == {
        name: expected[name] for name in ("metrics", "epochs")
    }


def test_a_sweep_s_folder_is_all_of_its_runs(trained: Path, tmp_path: Path) -> None:
    assert find_encoders(trained.parent) == [trained]
    with pytest.raises(Exception, match=r"no encoder\.safetensors"):
        find_encoders(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["linear", "--set", "epoch=3"], "epoch: unknown key (did you mean 'epochs'?)"),
        (["linear", "--set", "epochs=5"], "warmup_epochs: 5 must be less than the 5 epochs"),
        (["linear", "--set", "optimiser.rate=3"], "optimiser.rate: unknown key"),
        (["finetune", "--set", "steps=[60, 120]"], "steps: [60, 120] is not valid"),
        (["semi", "--set", "labels=2"], "labels: 2 is not valid"),
        (["finetune", "--set", "cosine=whole"], "cosine: 'whole' means nothing with steps"),
        (["linear", "--set", "test_size=4"], "test_size: 4 is not valid"),
        (["retrieval", "--set", "epochs=2"], "epochs: unknown key"),
    ],
)
def test_bad_settings_are_named(
    arguments: list[str], said: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    protocol, *rest = arguments
    assert main(["evaluate", protocol, str(trained), *rest]) == 2
    assert said in capsys.readouterr().err


def test_clips_that_are_too_small_for_the_backbone_are_refused(trained: Path) -> None:
    config = read_run_config(trained).model_copy(update={"backbone": Component(name="s3d")})
    with pytest.raises(
        ConfigError,
        match="frames: 4 frames of a view are too few for backbone 's3d', which needs at least 8",
    ):
        complete_settings(protocol_settings("finetune", None, {}), config)
    with pytest.raises(ConfigError, match="test_size: 8 pixels are too few for backbone 's3d'"):
        complete_settings(
            protocol_settings("finetune", None, {"frames": 8, "size": 32, "test_size": 8}), config
        )


def test_the_settings_of_cvrl_s_code_reach_the_classifier(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(
        classification,
        "square_view",
        lambda *given: (sizes.append(given[2]), square_view(*given))[1],
    )
    theirs = {"cosine": "whole", "test_size": 24, "short_videos": "any_frame"}
    short = {"epochs": 6, "batch_size": 8, "clips": 1}
    plain, changed = (
        task_of(trained, "linear", {**short, **more}) for more in ({"test_every": 3}, theirs)
    )
    assert plain.name != changed.name
    evaluate_run(trained, plain, None, untrained=False)
    assert set(sizes) == {plain.settings.size} != {24}, "the glances on the way included"
    sizes.clear()
    evaluate_run(trained, changed, None, untrained=False)
    assert set(sizes) == {24}

    rates = [classify.classifier_fit(task.settings, 1).rate(5) for task in (plain, changed)]
    assert rates == [1, pytest.approx(0.5 * (1 + math.cos(math.pi * 5 / 6)))]
    plan = classify.classifier_plans(changed.settings, changed.shards, LocalContext())[0]
    assert plan.sampling == UniformSampling(short_videos="any_frame")


def test_a_batch_that_the_labelled_videos_do_not_fill_is_refused(trained: Path) -> None:
    with pytest.raises(
        DataError, match="batch_size: 1024 is more than the 24 training videos with labels"
    ):
        evaluate_run(trained, task_of(trained, "linear", {}), "cvrl", untrained=False)


def test_protocols_and_recipes_are_checked() -> None:
    with pytest.raises(ConfigError, match="protocol: 'knn' is not valid; it is one of retrieval"):
        protocol_settings("knn", None, {})
    with pytest.raises(
        ConfigError,
        match=(
            "recipe: 'corp' is not valid for finetune; it is one of vididi, cvrl, cvrl_supervised"
        ),
    ):
        protocol_settings("finetune", "corp", {})


# --- Names that a prepared set brings -------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    ["/../../../evil/x", "..", "/evil", "x/../../evil", "a\n", "a\0", "a" * 300, "\u00e4", 7],
)
def test_a_prepared_set_whose_source_is_no_name_writes_nothing(
    source: Any, trained: Path, tmp_path: Path, tiny_shards: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(tiny_shards.root, tmp_path / "set"))
    run = Path(
        shutil.copytree(
            trained, tmp_path / "deep" / "run", ignore=shutil.ignore_patterns("evaluations")
        )
    )
    content = json.loads((root / "manifest.json").read_text())
    (root / "manifest.json").write_text(
        json.dumps({**content, "source": {**content["source"], "name": source}})
    )
    before = {*tmp_path.rglob("*")}
    assert main(["evaluate", "retrieval", str(run), "--shards", str(root)]) == 1
    assert f"error: {root / 'manifest.json'}: source.name: " in capsys.readouterr().err
    assert {*tmp_path.rglob("*")} == before


def test_the_names_of_videos_are_text_and_no_paths(
    trained: Path, tmp_path: Path, tiny_shards: Any
) -> None:
    root = Path(shutil.copytree(tiny_shards.root, tmp_path / "set"))
    run = Path(
        shutil.copytree(
            trained, tmp_path / "deep" / "run", ignore=shutil.ignore_patterns("evaluations")
        )
    )
    index = pq.read_table(root / "index.parquet")
    hostile = [
        *("/../../../evil/x", "..", "/evil", "a\n", "a" * 3000, "\u00e4."),
        *index.column("video_id").to_pylist()[6:],
    ]
    index = index.set_column(0, "video_id", pa.array(hostile[::-1]))
    pq.write_table(index, root / "index.parquet")
    content = json.loads((root / "manifest.json").read_text())
    (root / "manifest.json").write_text(
        json.dumps({**content, "checksum": index_checksum(index, None)})
    )
    before = {*tmp_path.rglob("*")}
    result = evaluate(
        "retrieval", run, "clips=1", options=("--shards", str(root), "--no-untrained")
    )
    assert all(path.is_relative_to(run / "evaluations") for path in {*tmp_path.rglob("*")} - before)
    assert set(
        pq.read_table(result["folder"] / "queries.parquet").column("video_id").to_pylist()
    ) >= set(hostile[:6])
