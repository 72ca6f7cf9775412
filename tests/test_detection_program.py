"""Detection as a whole program: a made-up set in AVA's layout is prepared, a run is evaluated on
it, and going on ends the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_ava import EVALUATED, NEVER, OTHER, items, made_up_ava

from vididi.cli import main
from vididi.components import make_encoder, read_run_config
from vididi.data.boxes import KeyFrames
from vididi.data.plan import KeyFramePlan, frame_counts
from vididi.data.shards import ShardSet
from vididi.data.stream import local_stream
from vididi.encoders import load_encoder
from vididi.errors import ConfigError, DataError
from vididi.evaluation import ava_map, detection
from vididi.experiment import run_cell
from vididi.interrupts import AskedToStop
from vididi.prepared import ensure_prepared
from vididi.protocols import protocol_settings
from vididi.protocols.finished import evaluate_run
from vididi.protocols.settings import DetectionSettings
from vididi.protocols.task import Task, complete_settings
from vididi.runs.run_folder import RunFolder
from vididi.training import stop_request
from vididi.training.context import LocalContext

CLIPS = {"frames": 4, "stride": 2, "size": 64}
QUICK = {**CLIPS, "epochs": 3, "steps": [1], "batch_size": 8, "size": 32}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, write_video: Callable[..., Path]) -> ShardSet:
    return made_up_ava(tmp_path_factory.mktemp("ava"), write_video)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, write_video: Callable[..., Path]) -> ShardSet:
    return made_up_ava(
        tmp_path_factory.mktemp("ava"), write_video, {"train": 2, "val": 1}, range(902, 911)
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, make_config: Callable[..., Any]) -> Path:
    """A run whose encoder learned next to nothing; it is the detector's training that is looked at
    here.
    """
    folder = tmp_path_factory.mktemp("runs") / "base-s0"
    config = make_config({"training.epochs": 1, "backbone.width": 8})
    videos = ensure_prepared(config)
    run_cell(config, {"arm": "base"}, folder, videos, local_stream(videos), LocalContext())
    return folder


def evaluate(run: Path, shards: ShardSet, changes: dict[str, Any], *options: str) -> dict[str, Any]:
    before = set(run.glob("evaluations/*/result.json"))
    settings = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    assert (
        main(
            [
                "evaluate",
                "detection",
                str(run),
                "--shards",
                str(shards.root),
                "--device",
                "cpu",
                *settings,
                *options,
            ]
        )
        == 0
    )
    (path,) = set(run.glob("evaluations/*/result.json")) - before
    return {**json.loads(path.read_text()), "folder": path.parent}


def task_of(
    run: Path, shards: ShardSet, changes: dict[str, Any], recipe: str | None = None
) -> Task:
    settings = complete_settings(
        protocol_settings("detection", recipe, changes), read_run_config(run)
    )
    return Task(
        "detection", settings, shards, local_stream(shards), LocalContext(), lambda metrics: None
    )


def score_before_training(run: Path, shards: ShardSet) -> float:
    """mAP of the same encoder with a classifier that never saw a box."""
    key_frames = KeyFrames.of(shards)
    torch.manual_seed(0)
    width = make_encoder(read_run_config(run).backbone)[1]
    model = detection.Detector(load_encoder(run), width, len(key_frames.actions), 0.5)  # type: ignore[arg-type]
    plan = KeyFramePlan(
        shards.rows("test"),
        key_frames.key_frame,
        frame_counts(shards),
        CLIPS["frames"],
        CLIPS["stride"],
        8,
    )
    boxes, scores = detection.predict_boxes(
        model, local_stream(shards)(plan, 0), len(plan), key_frames, 64, torch.device("cpu")
    )
    return ava_map(
        detection.true_rows(key_frames, boxes),
        detection.predicted_rows(key_frames, boxes, scores),
        key_frames.actions,
    ).mean


def test_it_learns_what_persons_do(trained: Path, shards: ShardSet) -> None:
    """About 15 s on one idle core, half of it for the films. A random order of the boxes scores as
    much as the actions are frequent.
    """
    result = evaluate(trained, shards, {**CLIPS, "epochs": 7, "batch_size": 12}, "--no-untrained")
    key_frames = KeyFrames.of(shards)
    boxes, _ = key_frames.boxes_of(shards.rows("test"))
    shown = key_frames.targets[boxes].mean(axis=0)
    chance = float(shown[shown > 0].mean())
    before = score_before_training(trained, shards)
    print(f"chance {chance:.3f}, before training {before:.3f}, after it {result['metrics']}")
    assert chance < 0.45
    assert before < 0.6
    assert result["metrics"]["detection/mAP"] > max(chance, before) + 0.2
    assert min(result["per_class"].values()) > 0.5


def test_what_is_written(
    trained: Path, small: ShardSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = evaluate(trained, small, QUICK)
    assert "not in the mean, having no ground truth: 6 never" in capsys.readouterr().out
    assert (result["protocol"], result["recipe"], result["data"]["name"]) == (
        "detection",
        "vididi",
        "ava",
    )
    metrics = result["metrics"]
    assert (
        set(metrics)
        == set(result["untrained"])
        == {"detection/mAP", "detection/best_mAP", "detection/best_epoch"}
    )
    assert len(result["mAP_by_epoch"]) == 3
    assert metrics["detection/mAP"] == result["mAP_by_epoch"][-1]
    assert (
        metrics["detection/best_mAP"]
        == max(result["mAP_by_epoch"])
        == result["mAP_by_epoch"][metrics["detection/best_epoch"] - 1]
    )
    assert set(result["per_class"]) == set(EVALUATED.values()) - {EVALUATED[NEVER]}
    assert metrics["detection/mAP"] == pytest.approx(np.mean(list(result["per_class"].values())))
    assert result["clips_cut"] == {"train": 0, "test": 0}
    assert (result["ava"]["limit"], result["ava"]["counts"]["key_frames"]) == (50, 9)
    assert sorted(
        path.name
        for path in result["folder"].iterdir()
        if path.is_file() and path.name != ".lock" and "tfevents" not in path.name
    ) == [
        "predictions.csv",
        "result.json",
    ]
    assert [path.name for path in (result["folder"] / "untrained").iterdir()] == ["predictions.csv"]
    assert not list(result["folder"].rglob("checkpoint.pt"))

    # The file of predictions scores the same against AVA's own lists.
    (tmp_path / "labels.pbtxt").write_text(items(EVALUATED))
    lists = small.root.parent / "lists" / "ava_val_v2.2.csv"
    files = [
        "--ground-truth",
        str(lists),
        "--predictions",
        str(result["folder"] / "predictions.csv"),
    ]
    assert (
        main(
            [
                "evaluate",
                "ava-map",
                *files,
                "--labels",
                str(tmp_path / "labels.pbtxt"),
                "--out",
                str(tmp_path / "ava.json"),
            ]
        )
        == 0
    )
    scored = json.loads((tmp_path / "ava.json").read_text())
    assert scored["mAP"] == metrics["detection/mAP"]
    assert scored["classes"] == result["ava"]["classes"]
    lines = (result["folder"] / "predictions.csv").read_text().splitlines()
    assert len(lines) == 9 * 2 * len(EVALUATED)


def test_boxes_are_read_as_the_lists_have_them(small: ShardSet) -> None:
    key_frames = KeyFrames.of(small)
    assert key_frames.actions == EVALUATED
    assert (key_frames.film[0], key_frames.second[0], key_frames.key_frame[0]) == ("train0", 902, 4)
    lines = [
        line.split(",")
        for line in (small.root.parent / "lists" / "ava_train_v2.2.csv").read_text().splitlines()
    ]
    listed = {
        (line[0], int(line[1]), int(line[7]), int(line[6])): list(map(float, line[2:6]))
        for line in lines
        if int(line[6]) != OTHER
    }
    found = {}
    for row in small.rows("train"):
        for box in key_frames.boxes_of(np.array([row]))[0]:
            for action in np.array(list(EVALUATED))[key_frames.targets[box]]:
                place = (
                    key_frames.film[row],
                    key_frames.second[row],
                    key_frames.person[box],
                    action,
                )
                found[place] = key_frames.corners[box].tolist()
    assert found == listed


@pytest.mark.parametrize("when", ["trained", "tested"])
def test_a_detector_that_was_interrupted_ends_the_same(
    when: str, trained: Path, small: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = task_of(trained, small, {**QUICK, "seed": 1})
    folder = trained / "evaluations" / whole.name
    expected = evaluate_run(trained, whole, "vididi", untrained=False)
    predictions = (folder / "predictions.csv").read_bytes()
    for path in folder.iterdir():
        path.unlink()

    class Stop(Exception):
        pass

    def stop(metrics: dict[str, Any]) -> None:
        if metrics["epoch"] == 2:
            raise Stop

    real_train, real_predict = detection.train_epoch, detection.predict_boxes
    if when == "trained":  # its checkpoint is written, its test has not begun
        task = replace(whole, report=stop)
    else:
        task = whole
        monkeypatch.setattr(
            detection, "train_epoch", lambda *given: stop({"epoch": given[5]}) or real_train(*given)
        )
    with pytest.raises(Stop):
        evaluate_run(trained, task, "vididi", untrained=False)
    epochs, tests = [], []
    monkeypatch.setattr(
        detection, "train_epoch", lambda *given: (epochs.append(given[5]), real_train(*given))[1]
    )
    monkeypatch.setattr(
        detection, "predict_boxes", lambda *given: (tests.append(1), real_predict(*given))[1]
    )
    again = evaluate_run(trained, whole, "vididi", untrained=False)
    assert (epochs, len(tests)) == ([2], 2)
    same = ("metrics", "mAP_by_epoch", "per_class", "ava")
    assert {name: again[name] for name in same} == {name: expected[name] for name in same}
    assert (folder / "predictions.csv").read_bytes() == predictions
    (folder / "result.json").unlink()


def test_a_detector_that_was_asked_to_end_amid_an_epoch_ends_the_same(
    trained: Path, small: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = task_of(trained, small, {**QUICK, "seed": 3})
    folder = trained / "evaluations" / whole.name
    expected = evaluate_run(trained, whole, "vididi", untrained=False)
    for path in folder.iterdir():
        path.unlink()
    looks = iter(range(1, 100))
    with monkeypatch.context() as patch:
        patch.setattr(stop_request, "asked", lambda: 15 if next(looks) >= 2 else None)
        with pytest.raises(AskedToStop):
            evaluate_run(trained, whole, "vididi", untrained=False)
    checkpoint = RunFolder(folder).load_checkpoint(torch.device("cpu"))
    assert checkpoint is not None
    assert len(checkpoint["so_far"]) > 0
    again = evaluate_run(trained, whole, "vididi", untrained=False)
    same = ("metrics", "mAP_by_epoch", "per_class", "ava")
    assert {name: again[name] for name in same} == {name: expected[name] for name in same}
    (folder / "result.json").unlink()


def test_the_last_epoch_alone(trained: Path, small: ShardSet) -> None:
    each = evaluate_run(
        trained, task_of(trained, small, {**QUICK, "seed": 2}), "vididi", untrained=False
    )
    last = evaluate_run(
        trained,
        task_of(trained, small, {**QUICK, "seed": 2, "test": "last"}),
        "vididi",
        untrained=False,
    )
    assert last["metrics"] == {"detection/mAP": each["metrics"]["detection/mAP"]}
    assert last["mAP_by_epoch"] == each["mAP_by_epoch"][-1:]


def test_clips_that_reach_beyond_their_window_are_counted(trained: Path, small: ShardSet) -> None:
    result = evaluate_run(
        trained,
        task_of(trained, small, {**QUICK, "epochs": 1, "steps": [], "stride": 4}),
        "vididi",
        untrained=False,
    )
    assert result["clips_cut"] == {"train": 18, "test": 9}
    assert (
        result["notes"][0]
        == "18 of 18 train clips reach beyond the frames round their key frame, which are repeated"
    )
    assert result["key_frames_dropped_per_epoch"] == 2


def test_recipes(trained: Path, small: ShardSet) -> None:
    vididi = task_of(trained, small, {}).settings
    assert isinstance(vididi, DetectionSettings)
    assert (
        vididi.frames,
        vididi.stride,
        vididi.size,
        vididi.epochs,
        vididi.steps,
        vididi.factor,
    ) == (8, 4, 16, 20, (5,), 0.5)
    assert vididi.optimiser.name == "adamw"
    assert (vididi.optimiser.options["lr"], vididi.dropout, vididi.test) == (0.01, 0.5, "each")
    cvrl = task_of(trained, small, {}, "cvrl").settings
    assert (cvrl.epochs, cvrl.steps, cvrl.factor, cvrl.batch_size, cvrl.test) == (
        12,
        (8, 11),
        0.1,
        32,
        "last",
    )
    assert (cvrl.optimiser.options["lr"], cvrl.optimiser.options["momentum"], cvrl.frames) == (
        0.2,
        0.9,
        4,
    )


def test_what_cannot_be_is_refused(trained: Path, small: ShardSet, tiny_shards: ShardSet) -> None:
    def run(changes: dict[str, Any], shards: ShardSet = small) -> None:
        evaluate_run(trained, task_of(trained, shards, changes), None, untrained=False)

    with pytest.raises(
        DataError, match=r"has no boxes\.parquet; its source, motion, has no boxes of persons"
    ):
        run(QUICK, tiny_shards)
    with pytest.raises(DataError, match="batch_size: 32 is more than the 18 training key frames"):
        run({"size": 32})
    stepped = replace(
        small, manifest=replace(small.manifest, source={**small.manifest.source, "step": 4})
    )
    with pytest.raises(
        DataError, match=r"stride: 2 is not a multiple of 4; .* keeps one of every 4 frames"
    ):
        run({**QUICK, "seed": 3}, stepped)
    with pytest.raises(
        ConfigError,
        match=(
            r"steps: \[5\] is not valid; they are epochs in rising order, more than 0 and less"
            r" than 3"
        ),
    ):
        run({"epochs": 3})


def test_a_split_whose_boxes_show_nothing_that_is_scored_is_refused(
    trained: Path, small: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_frames = KeyFrames.of(small)
    first = key_frames.first[small.rows("test")[0]]
    key_frames.targets[first:] = False
    monkeypatch.setattr(KeyFrames, "of", lambda shards: key_frames)
    with pytest.raises(DataError, match="no box of split test shows an action that is evaluated"):
        evaluate_run(trained, task_of(trained, small, {**QUICK, "seed": 4}), None, untrained=False)


def test_a_detector_that_diverged_in_its_last_step_has_no_precision(
    trained: Path, small: ShardSet, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {
        **QUICK,
        "epochs": 1,
        "steps": [],
        "batch_size": 16,
        "optimiser.name": "sgd",
        "optimiser.lr": 1e30,
    }
    settings = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    command = [
        "evaluate",
        "detection",
        str(trained),
        "--shards",
        str(small.root),
        "--device",
        "cpu",
        *settings,
    ]
    before = set(trained.glob("evaluations/*/*.*"))
    assert main([*command, "--recipe", "cvrl", "--no-untrained"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: base-s0, detection-ava-")
    assert "not finite" in error
    assert {path.name for path in set(trained.glob("evaluations/*/*.*")) - before} <= {
        "checkpoint.pt",
        ".lock",
        ".page",
    }
