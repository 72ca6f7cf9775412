"""The vididi command, as a user calls it, alone and under torchrun."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
import yaml
from plain_files import plain
from safetensors.torch import load_file

from vididi.cli import main
from vididi.components import build_state, resolve
from vididi.config import build_config, read_yaml
from vididi.data.encode import Settings, encode_video
from vididi.data.motion import motion
from vididi.data.shards import ShardSet
from vididi.data.video import Video

TINY_MOTION = [
    "--set",
    "train=12",
    "--set",
    "test=4",
    "--set",
    "size=32",
    "--set",
    "frames=16",
    "--short-side",
    "16",
]


@pytest.fixture
def config_file(tmp_path: Path, tiny_values: dict[str, Any]) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_values))
    return path


def fault(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit status and what was printed as the error."""
    status = main(list(arguments))
    error = capsys.readouterr().err
    assert "error: " in error
    assert "Traceback" not in error
    return status, error


def losses(folder: Path) -> list[float]:
    return [
        json.loads(line)["train/loss"]
        for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]


# --- prepare --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def motion_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "motion"
    assert main(["prepare", "motion", "--out", str(out), *TINY_MOTION]) == 0
    return out


def test_prepare_motion_makes_a_set_with_the_given_options(motion_set: Path) -> None:
    manifest = ShardSet.open(motion_set).manifest
    assert (manifest.videos, manifest.frames, manifest.rejects) == (
        {"train": 12, "test": 4},
        16 * 16,
        0,
    )
    assert manifest.source == {
        "name": "motion",
        "train": 12,
        "test": 4,
        "size": 32,
        "frames": 16,
        "seed": 0,
        **{"camera": 0, "shake": 0, "placement": 0, "distractors": 0, "noise": 0},
        **{"scene_class": 0, "test_scenes": "same"},
    }
    assert manifest.prepare == {"short_side": 16, "quality": 95, "decoder": "pyav"}


def test_the_command_in_the_manifest_makes_the_same_set_again(
    motion_set: Path, tmp_path: Path
) -> None:
    manifest = ShardSet.open(motion_set).manifest
    words = shlex.split(manifest.command)
    assert words[0] == "vididi"
    again = tmp_path / "again"
    assert main([str(again) if word == "DIR" else word for word in words[1:]]) == 0
    assert (again / "manifest.json").read_text() == (motion_set / "manifest.json").read_text()


def test_prepare_says_what_it_prepared_and_again_that_it_is_there(
    motion_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (motion_set / "manifest.json").stat().st_mtime_ns
    assert main(["prepare", "motion", "--out", str(motion_set), *TINY_MOTION]) == 0
    printed = capsys.readouterr().out
    assert "12 training and 4 test videos, 10 classes" in printed
    assert str(motion_set) in printed
    assert (motion_set / "manifest.json").stat().st_mtime_ns == before


def test_prepare_does_not_pass_another_set_off_as_the_one_asked_for(
    motion_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, error = fault(
        capsys, "prepare", "motion", "--out", str(motion_set), *TINY_MOTION, "--set", "train=13"
    )
    assert status != 0
    assert str(motion_set) in error


def test_prepare_gives_up_a_video_after_the_timeout_that_was_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vididi.data.prepare.encode_video", hang_on_the_first)
    assert (
        main(
            ["prepare", "motion", "--out", str(tmp_path / "set"), *TINY_MOTION, "--timeout", "3.5"]
        )
        == 3
    )
    assert "11 training and 4 test videos, 10 classes, 1 rejected" in capsys.readouterr().out
    assert "no result after 3.5 s" in (tmp_path / "set" / "rejects.csv").read_text()


def hang_on_the_first(video: Video, settings: Settings) -> Any:
    if video.video_id.startswith("train") and video.video_id.endswith("000000"):
        time.sleep(600)
    return encode_video(video, settings)


def write_two_streams(path: Path) -> None:
    with av.open(str(path), "w") as file:
        streams = [file.add_stream("libx264", rate=20) for _ in range(2)]
        for stream in streams:
            stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        for stream in streams:
            file.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
            file.mux(stream.encode())


def test_prepare_lists_bad_files_and_its_status_says_so(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for video in motion(cache, train=12, test=4, size=32, frames=16)[:3]:
        target = tmp_path / "videos" / video.class_name / video.path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(video.path)
    (target.parent / "broken.mp4").write_bytes(b"not a video")
    write_two_streams(target.parent / "two.mkv")
    arguments = [
        "prepare",
        "folder",
        "--videos",
        str(tmp_path / "videos"),
        "--out",
        str(tmp_path / "out"),
        "--short-side",
        "16",
    ]
    assert main(arguments) == 3
    printed = capsys.readouterr().out
    assert "1 rejected" in printed
    assert "rejects.csv" in printed
    assert "notes.csv says what was chosen of videos that hold several" in printed
    assert "broken.mp4" in (tmp_path / "out" / "rejects.csv").read_text()
    assert main([*arguments, "--strict"]) == 1
    assert "--strict: 1 video was rejected" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (
            ["prepare", "movies", "--out", "OUT"],
            2,
            "data.name: 'movies' is not valid; it is one of motion, folder",
        ),
        (["prepare", "folder", "--out", "OUT"], 2, "data.videos: missing"),
        (
            ["prepare", "folder", "--videos", "OUT/nowhere", "--out", "OUT"],
            1,
            "nowhere is not a folder",
        ),
        (
            ["prepare", "motion", "--out", "OUT", "--set", "trian=3"],
            2,
            "data.trian: unknown key (did you mean 'train'?)",
        ),
        (
            ["prepare", "motion", "--out", "OUT", "--set", "size=33"],
            2,
            "data.size: 33 is not valid",
        ),
        (
            ["prepare", "motion", "--out", "OUT", "--set", "train"],
            2,
            "--set train: must be KEY=VALUE",
        ),
        (
            ["prepare", "motion", "--out", "OUT", "--short-side", "4"],
            2,
            "prepare.short_side: 4 is not valid",
        ),
        (
            ["prepare", "motion", "--out", "OUT", "--timeout", "0"],
            2,
            "--timeout: 0.0 is not valid; it must be a finite number above 0",
        ),
        (["prepare", "motion", "--out", "OUT", "--timeout=-5"], 2, "--timeout: -5.0 is not valid"),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else None,
)
def test_what_cannot_be_prepared_is_said_on_stderr(
    arguments: list[str], status: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, error = fault(
        capsys, *(argument.replace("OUT", str(tmp_path / "out")) for argument in arguments)
    )
    assert said in error
    assert found == status
    assert not (tmp_path / "out").exists()


# --- pretrain -------------------------------------------------------------------------------------


def test_pretrain_makes_a_finished_run_folder_and_does_it_once(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs" / "mine"
    command = [
        "pretrain",
        str(config_file),
        "--out",
        str(out),
        "--device",
        "cpu",
        "--set",
        "training.epochs=2",
    ]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "epoch 1  step 3  train/loss" in printed
    assert f"finished: {out} in" in printed
    assert len(losses(out)) == 2
    cell = plain(out / "cell.json")
    assert (cell["arm"], cell["label"], cell["seed"]) == ("mine", "mine", 0)
    before = (out / "result.json").stat().st_mtime_ns
    assert main(command) == 0
    assert "train/loss" not in capsys.readouterr().out
    assert (out / "result.json").stat().st_mtime_ns == before


def test_pretrain_takes_prepared_shards(
    config_file: Path, motion_set: Path, tmp_path: Path
) -> None:
    command = [
        "pretrain",
        str(config_file),
        "--out",
        str(tmp_path / "run"),
        "--shards",
        str(motion_set),
        "--device",
        "cpu",
    ]
    assert main([*command, "--set", "training.epochs=1", "--set", "training.batch_size=6"]) == 0
    result = plain(tmp_path / "run" / "result.json")
    assert result["data_checksum"] == ShardSet.open(motion_set).manifest.checksum
    assert result["steps"] == 2


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ("training.epoch=3", 2, "training.epoch: unknown key (did you mean 'epochs'?)"),
        ("training.epochs=many", 2, "training.epochs: 'many' is not valid"),
        ("optimiser.momentun=0.5", 2, "optimiser.momentun: unknown key (did you mean 'momentum'?)"),
        ("backbone.width=0", 2, "width: 0 is not valid"),
        ("training.batch_size=[", 2, "'[' is not a YAML value"),
        (
            "training.batch_size=25",
            1,
            "training.batch_size: 25 is larger than the training split, which has 24 videos",
        ),
    ],
)
def test_what_cannot_be_pretrained_is_said_on_stderr(
    change: str,
    status: int,
    said: str,
    config_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    tiny_shards: ShardSet,
) -> None:
    with config_file.open("a") as file:
        file.write("optimiser: {name: lars}\n")
    found, error = fault(
        capsys,
        "pretrain",
        str(config_file),
        "--out",
        str(tmp_path / "run"),
        "--device",
        "cpu",
        "--set",
        change,
    )
    assert said in error
    assert found == status
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_missing_configuration_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, error = fault(
        capsys, "pretrain", str(tmp_path / "nowhere.yaml"), "--out", str(tmp_path / "run")
    )
    assert status == 2
    assert "nowhere.yaml: No such file" in error


@pytest.mark.parametrize(
    "arguments",
    [["train"], ["pretrain"], ["prepare", "motion"], ["sweep"], ["extend", "x.yaml"]],
    ids=" ".join,
)
def test_a_command_that_is_none_ends_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: vididi" in capsys.readouterr().err


# --- torchrun -------------------------------------------------------------------------------------


def torchrun(config_file: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """``vididi pretrain`` in two processes on the CPU."""
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "vididi.cli",
    ]
    command = [*launcher, "pretrain", str(config_file), "--out", str(out), "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=environment
    )


@pytest.fixture(scope="module")
def alone_and_in_two(
    tmp_path_factory: pytest.TempPathFactory, make_config: Callable[..., Any], tiny_shards: ShardSet
) -> tuple[Path, Path, Path]:
    """The configuration file, the run folder of one process, and that of two."""
    place = tmp_path_factory.mktemp("torchrun")
    (place / "config.yaml").write_text(make_config().to_yaml())
    assert (
        main(
            [
                "pretrain",
                str(place / "config.yaml"),
                "--out",
                str(place / "alone"),
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    done = torchrun(place / "config.yaml", place / "two")
    assert done.returncode == 0, done.stderr[-3000:]
    return place / "config.yaml", place / "alone", place / "two"


def test_two_processes_measure_what_one_does(alone_and_in_two: tuple[Path, Path, Path]) -> None:
    _, alone, two = alone_and_in_two
    results = [plain(folder / "result.json") for folder in (alone, two)]
    assert results[0].keys() == results[1].keys()
    assert [result["workers"] for result in results] == [1, 2]
    assert {path.name for path in alone.iterdir() if "tfevents" not in path.name} == {
        path.name for path in two.iterdir() if "tfevents" not in path.name
    }


def test_two_processes_have_the_losses_of_one(alone_and_in_two: tuple[Path, Path, Path]) -> None:
    _, alone, two = alone_and_in_two
    assert len(losses(two)) == 3
    assert losses(two) == pytest.approx(losses(alone), abs=1e-3)


def test_two_processes_train_every_weight_that_one_does(
    alone_and_in_two: tuple[Path, Path, Path],
) -> None:
    """In float32 rounding grows with the steps, so what is small is judged by how far training
    moved each tensor.
    """
    config_file, alone, two = (
        path if path.suffix else load_file(path / "encoder.safetensors")
        for path in alone_and_in_two
    )
    untrained = build_state(
        resolve(build_config(read_yaml(config_file)))
    ).objective.backbone.state_dict()
    assert alone.keys() == two.keys()
    for name, tensor in alone.items():
        if tensor.is_floating_point():
            moved = float((tensor - untrained[name]).norm())
            assert moved > 0, name
            assert float((tensor - two[name]).norm()) < 0.05 * moved, name


def test_a_run_that_two_processes_finished_is_finished_when_they_come_again(
    alone_and_in_two: tuple[Path, Path, Path],
) -> None:
    config, _, two = alone_and_in_two
    before = (two / "result.json").stat().st_mtime_ns
    done = torchrun(config, two)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (two / "result.json").stat().st_mtime_ns == before
