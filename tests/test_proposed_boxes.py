"""Detection in proposed boxes: a detector that was trained in the annotation's boxes is tested in
those of a file, and scored by AVA's rules against the annotation.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from jobs_here import run_jobs_here
from made_up_ava import made_up_ava
from tiny_sweep import BASE

import run_sweep
from vididi.cli import main
from vididi.components import read_run_config
from vididi.data.shards import ShardSet
from vididi.data.stream import local_stream
from vididi.errors import ConfigError, DataError
from vididi.experiment import run_cell
from vididi.prepared import ensure_prepared
from vididi.protocols import protocol_settings
from vididi.protocols.finished import evaluate_run
from vididi.protocols.settings import DetectionSettings
from vididi.protocols.task import Task, complete_settings
from vididi.training.context import LocalContext

QUICK = {"frames": 4, "stride": 2, "size": 32, "epochs": 2, "steps": [1], "batch_size": 8}
Line = tuple[str, str, str, str, str, str, str, str]


@pytest.fixture(scope="module")
def ava(tmp_path_factory: pytest.TempPathFactory, write_video: Callable[..., Path]) -> ShardSet:
    """18 training and 9 test key frames, two persons in each."""
    return made_up_ava(
        tmp_path_factory.mktemp("ava"), write_video, {"train": 2, "val": 1}, range(902, 911)
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, make_config: Callable[..., Any]) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "base-s0"
    config = make_config({"training.epochs": 1, "backbone.width": 4})
    videos = ensure_prepared(config)
    run_cell(config, {"arm": "base"}, folder, videos, local_stream(videos), LocalContext())
    return folder


def annotated(ava: ShardSet, score: float = 1.0) -> list[Line]:
    """The test list's own boxes as proposals, a line for each action as PySlowFast's file has it."""
    with (ava.root.parent / "lists" / "ava_val_v2.2.csv").open() as file:
        return [(*row[:7], f"{score}") for row in csv.reader(file)]  # type: ignore[misc]


def moved(line: Line, by: float) -> Line:
    film, second, x1, y1, x2, y2, _, score = line
    ends = [f"{min(1, max(0, float(end) + by)):.3f}" for end in (y1, y2)]
    return film, second, x1, ends[0], x2, ends[1], "", score


def write(path: Path, lines: Iterable[Iterable[str]]) -> Path:
    path.write_text("".join(f"{','.join(line)}\n" for line in lines))
    return path


def task_of(run: Path, shards: ShardSet, changes: dict[str, Any]) -> Task:
    settings = complete_settings(
        protocol_settings("detection", None, {**QUICK, **changes}), read_run_config(run)
    )
    return Task(
        "detection", settings, shards, local_stream(shards), LocalContext(), lambda metrics: None
    )


def measure(run: Path, shards: ShardSet, **changes: Any) -> dict[str, Any]:
    return evaluate_run(run, task_of(run, shards, changes), "vididi", untrained=False)


# --- What is measured -----------------------------------------------------------------------------


def test_proposals_that_are_the_annotation_s_boxes_give_its_numbers(
    trained: Path, ava: ShardSet, tmp_path: Path
) -> None:
    """The same detector, the same boxes, the same numbers: only the settings say what they are of."""
    given = measure(trained, ava)
    path = write(tmp_path / "boxes.csv", annotated(ava))
    proposed = measure(trained, ava, boxes=str(path))
    assert proposed["metrics"] == given["metrics"]
    assert proposed["mAP_by_epoch"] == given["mAP_by_epoch"]
    assert proposed["per_class"] == given["per_class"]
    assert "boxes" not in given
    actions = len(annotated(ava)) - 18
    assert proposed["boxes"] == {
        "lines": len(annotated(ava)),
        "below_score": 0,
        "without_area": 0,
        "repeated": actions,
        "of_other_films": 0,
        "of_other_key_frames": 0,
        "tested": 18,
        "key_frames": 9,
        "key_frames_without": 0,
    }


def test_persons_are_looked_for_where_the_file_says_and_scored_against_the_annotation(
    trained: Path, ava: ShardSet, tmp_path: Path
) -> None:
    boxes = sorted({(*line[:6], "", line[7]) for line in annotated(ava)})
    near = measure(
        trained, ava, boxes=str(write(tmp_path / "near.csv", [moved(b, 0.02) for b in boxes]))
    )
    assert near["metrics"]["detection/mAP"] > 0
    corner = [(*box[:2], "0.0", "0.0", "0.05", "0.05", "80", "0.99") for box in boxes]
    far = measure(trained, ava, boxes=str(write(tmp_path / "far.csv", corner)))
    assert far["metrics"]["detection/mAP"] == 0
    assert far["ava"]["counts"]["ground_truth"] == near["ava"]["counts"]["ground_truth"]
    (folder,) = (
        path.parent
        for path in trained.glob("evaluations/detection-*/result.json")
        if json.loads(path.read_text())["metrics"] == far["metrics"]
    )
    places = {
        tuple(line.split(",")[2:6]) for line in (folder / "predictions.csv").read_text().split()
    }
    assert places == {("0", "0", "0.05", "0.05")}


def test_key_frames_without_a_box_have_no_predictions_and_everything_left_out_is_counted(
    trained: Path, ava: ShardSet, tmp_path: Path
) -> None:
    boxes = sorted({(*line[:6], "", "0.95") for line in annotated(ava)})
    kept = [box for box in boxes if int(box[1]) < 904]
    more: list[Line] = [
        ("val0", "0905", "0.1", "0.1", "0.4", "0.9", "", "0.79"),
        ("val0", "0906", "0.1", "0.1", "0.1", "0.9", "", "0.9"),
        ("train0", "0902", "0.1", "0.1", "0.4", "0.9", "", "0.9"),
        ("nobody", "0902", "0.1", "0.1", "0.4", "0.9", "", "0.9"),
        ("val0", "1700", "0.1", "0.1", "0.4", "0.9", "", "0.9"),
    ]
    result = measure(trained, ava, boxes=str(write(tmp_path / "few.csv", [*kept, *more])))
    assert result["boxes"] == {
        "lines": 9,
        "below_score": 1,
        "without_area": 1,
        "repeated": 0,
        "of_other_films": 1,
        "of_other_key_frames": 2,
        "tested": 4,
        "key_frames": 9,
        "key_frames_without": 7,
    }
    notes = "\n".join(result["notes"])
    assert "7 of 9 test key frames have no proposed box, so nothing is predicted there" in notes
    assert "left out 1 proposed box without an area: line 6" in notes
    assert "left out 1 proposed box of films that the data set does not have: nobody" in notes
    assert (
        "left out 2 proposed boxes of key frames that are not tested: train0/0902, val0/1700"
    ) in notes
    # All the annotation counts all the same.
    whole = measure(trained, ava)
    assert result["ava"]["counts"]["ground_truth"] == whole["ava"]["counts"]["ground_truth"]
    assert result["metrics"]["detection/mAP"] < whole["metrics"]["detection/mAP"]


def test_a_file_with_no_box_of_a_test_key_frame_is_refused(
    trained: Path, ava: ShardSet, tmp_path: Path
) -> None:
    line = ("nobody", "0902", "0.1", "0.1", "0.4", "0.9", "", "0.9")
    path = write(tmp_path / "none.csv", [line])
    with pytest.raises(
        DataError,
        match=rf"boxes: {path} has no box with a score of 0\.8 or more in a key frame that is tested",
    ):
        measure(trained, ava, boxes=str(path))


# --- Which evaluation it is -----------------------------------------------------------------------


def test_the_content_of_the_file_is_part_of_the_name_and_its_path_is_not(
    trained: Path, ava: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = annotated(ava)
    first = task_of(trained, ava, {"boxes": str(write(tmp_path / "a.csv", lines))})
    same = task_of(trained, ava, {"boxes": str(write(tmp_path / "b.csv", lines))})
    other = task_of(trained, ava, {"boxes": str(write(tmp_path / "c.csv", lines[1:]))})
    higher = task_of(trained, ava, {"boxes": str(tmp_path / "a.csv"), "box_score": 0.9})
    given = task_of(trained, ava, {})
    assert first.name == same.name
    assert len({task.name for task in (first, other, higher, given)}) == 4
    monkeypatch.chdir(tmp_path)
    relative = task_of(trained, ava, {"boxes": "a.csv"})
    assert relative.settings == first.settings
    assert Path(first.settings.boxes).is_absolute()
    assert len(first.settings.boxes_sha256) == 64
    assert first.settings.box_score == 0.8
    # Written out, what was always done is no part of a name.
    nothing = {"boxes": None, "boxes_sha256": None, "box_score": None}
    assert task_of(trained, ava, nothing).name == given.name


def test_the_file_is_read_as_it_was_pinned(trained: Path, ava: ShardSet, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", annotated(ava))
    task = task_of(trained, ava, {"boxes": str(path), "seed": 7})
    sha256 = task.settings.boxes_sha256
    again = task_of(trained, ava, {"boxes": str(path), "boxes_sha256": sha256.upper(), "seed": 7})
    assert again.name == task.name
    path.write_text(path.read_text() + "val0,0902,0.0,0.0,0.5,0.5,,0.9\n")
    with pytest.raises(ConfigError, match=rf"boxes_sha256: {sha256} is not valid; .*{path}, has "):
        task_of(trained, ava, {"boxes": str(path), "boxes_sha256": sha256})
    with pytest.raises(DataError, match=rf"boxes: {path} was {sha256} and has changed since"):
        evaluate_run(trained, task, "vididi", untrained=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"box_score": 0.9}, r"box_score: 0\.9 is not valid; it must come with boxes"),
        ({"boxes_sha256": "0" * 64}, r"boxes_sha256: 0{64} is not valid; it must come with boxes"),
        ({"boxes": "no.csv", "box_score": 1.5}, r"box_score: 1\.5 is not valid"),
        ({"boxes": ""}, "boxes"),
        ({"boxes": "/nowhere/no.csv"}, r"boxes: /nowhere/no\.csv cannot be read: No such file"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    changes: dict[str, Any], message: str, trained: Path, ava: ShardSet
) -> None:
    with pytest.raises(ConfigError, match=message):
        task_of(trained, ava, changes)


def test_it_is_a_setting_of_the_command_line(
    trained: Path, ava: ShardSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "boxes.csv", annotated(ava, 0.85)[:3])
    values = {**QUICK, "epochs": 1, "steps": [], "boxes": path, "box_score": 0.85}
    settings = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    command = ["evaluate", "detection", str(trained), "--shards", str(ava.root), "--device", "cpu"]
    assert main([*command, *settings, "--no-untrained"]) == 0
    assert "test key frames have no proposed box" in capsys.readouterr().out
    assert main([*command, *settings[:-1], "box_score=0.86", "--no-untrained"]) == 1
    assert "has no box with a score of 0.86 or more" in capsys.readouterr().err


def test_settings_know_it() -> None:
    fields = DetectionSettings.model_fields
    assert {"boxes", "boxes_sha256", "box_score"} <= fields.keys()
    assert DetectionSettings().boxes is None


# --- In a sweep -----------------------------------------------------------------------------------

SWEEP = (
    "name: boxes"
    + BASE
    + """  training: {epochs: 1, batch_size: 8}
  evaluation: {clips: 1, frames: 4, stride: 2}
arms: {base: {order: 0}}
evaluate:
  - &given
    protocol: detection
    data: {name: ava, videos: FILMS, splits: LISTS, offset: 900, window: 9, step: 1}
    settings: {frames: 4, stride: 2, size: 32, epochs: 1, steps: [], batch_size: 8}
    untrained: false
  - {<<: *given, settings: {frames: 4, stride: 2, size: 32, epochs: 1, steps: [], batch_size: 8, boxes: boxes.csv}}
"""
)


def test_a_sweep_tests_in_given_and_in_proposed_boxes(
    ava: ShardSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_jobs_here(monkeypatch)
    monkeypatch.chdir(tmp_path)
    folder = ava.root.parent
    text = SWEEP.replace("FILMS", str(folder / "films")).replace("LISTS", str(folder / "lists"))
    (tmp_path / "boxes.yaml").write_text(text)
    command = [str(tmp_path / "boxes.yaml"), "--runs", str(tmp_path / "runs")]

    assert run_sweep.main(command) == 2
    assert (
        "evaluate: detection on ava in proposed boxes: boxes: "
        f"{tmp_path / 'boxes.csv'} cannot be read"
    ) in capsys.readouterr().err
    write(tmp_path / "boxes.csv", [("val0", "0902", "0.5", "0.1", "0.4", "0.9", "", "0.9")])
    assert run_sweep.main(command) == 2
    assert (
        f"boxes: {tmp_path / 'boxes.csv'}, line 1: x1 0.5 and x2 0.4 are not 0 <= x1 <= x2 <= 1"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "runs").exists()

    write(tmp_path / "boxes.csv", annotated(ava)[:4])
    assert run_sweep.main(command) == 0
    assert "evaluations: 2 of 1 run, 2 to make" in capsys.readouterr().out
    found = [
        json.loads(path.read_text())
        for path in (tmp_path / "runs").rglob("evaluations/*/result.json")
    ]
    assert {result["settings"]["boxes"] for result in found} == {None, str(tmp_path / "boxes.csv")}
    # Found again from another folder, and made once.
    monkeypatch.chdir(folder)
    (tmp_path / "boxes.yaml").write_text(text.replace("boxes.csv", str(tmp_path / "boxes.csv")))
    assert run_sweep.main(command) == 0
    assert "evaluations: 2 of 1 run, 0 to make" in capsys.readouterr().out
