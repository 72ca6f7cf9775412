"""``--dry-run`` says which cells are finished and whether the data are there, and makes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import run_sweep
from tests.tiny_sweep import BASE
from vididi.components import resolve
from vididi.config import build_config
from vididi.prepared import ensure_prepared
from vididi.runs.file_names import ERROR
from vididi.sweep import expand, load_sweep

DATA: dict[str, Any] = {"name": "motion", "train": 24, "test": 12, "size": 32, "frames": 24}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIDIDI_CACHE", str(tmp_path / "cache"))
    return tmp_path


def put_sweep(place: Path, base: str = BASE) -> Path:
    path = place / "tiny.yaml"
    path.write_text(
        f"name: tiny\n{base}  training: {{batch_size: 4}}\narms:\n  one: {{order: 1}}\nseeds: [0, 1, 2]\n"
    )
    return path


def said(path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    capsys.readouterr()
    assert run_sweep.main([str(path), "--dry-run", *more]) == 0
    return capsys.readouterr().out


def test_without_data_all_is_to_run_and_nothing_is_made(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = said(put_sweep(place), capsys)
    assert out.count("; to run\n") == 3
    assert "runs: 3 to run, in runs\n" in out
    assert "data: the motion set is not made yet" in out
    assert not (place / "cache").exists()
    assert not (place / "runs").exists()


def test_cells_are_marked_by_their_run_folders(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = put_sweep(place)
    sweep = load_sweep(path)
    cells = [resolve(cell.config) for cell in expand(sweep, {})]
    shards = ensure_prepared(cells[0])
    names = [
        f"one-s{seed}-{config.identity(shards.manifest.checksum)}"
        for seed, config in enumerate(cells)
    ]
    for name in names[:2]:
        (place / "runs" / "tiny" / name).mkdir(parents=True)
    (place / "runs" / "tiny" / names[1] / ERROR).write_text("it failed\n")
    out = said(path, capsys)
    assert [line.rpartition("; ")[2] for line in out.splitlines()[:3]] == [
        "half-done",
        "failed",
        "to run",
    ]
    assert "runs: 1 half-done, 1 failed, 1 to run, in runs\n" in out
    assert f"data: 24 training and 12 test videos, 10 classes, 0 rejected, in {shards.root}" in out
    assert "data: all training videos are long enough for the clips" in out
    long = said(path, capsys, "--set", "clip.frames=10", "--set", "clip.stride=3")
    assert (
        "data: 24 training videos are shorter than one of 2 clips of 12 frames at stride 3; there a"
        " clip starts over (one-s0)\n"
    ) in long
    assert "data: problem: " in said(path, capsys, "--set", "training.batch_size=100")


def test_videos_are_counted_and_missing_ones_are_a_problem(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = BASE.replace(
        json.dumps(DATA).replace('"', ""), "{name: csv, videos: clips, list: list.csv}"
    )
    assert base != BASE
    path = put_sweep(place, base)
    assert "data: problem: data.videos: " in said(path, capsys)
    (place / "clips").mkdir()
    (place / "clips" / "1.mp4").touch()
    (place / "list.csv").write_text("1.mp4,a\n2.mp4,b\n")
    assert "data: not prepared yet; 1 of 2 listed videos is there" in said(path, capsys)
    assert said(path, capsys, "--shards", str(place / "none")).count("data: problem: ") == 1
    assert "s3://b/set is in a store" in said(path, capsys, "--shards", "s3://b/set")


def test_the_lengths_of_the_motion_set_are_told_before_it_is_made(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = put_sweep(place)
    assert "data: all training videos are long enough for the clips" in said(path, capsys)
    long = said(path, capsys, "--set", "clip.frames=10", "--set", "clip.stride=3")
    assert (
        "data: 24 training videos are shorter than one of 2 clips of 12 frames at stride 3; there a"
        " clip starts over (one-s0)\n"
    ) in long
    assert not (place / "cache").exists()


def test_videos_that_are_not_prepared_are_held_to_the_clips(
    place: Path,
    capsys: pytest.CaptureFixture[str],
    moving_bar: Callable[..., np.ndarray],
    write_video: Callable[..., Path],
) -> None:
    base = BASE.replace(
        json.dumps(DATA).replace('"', ""), "{name: csv, videos: clips, list: list.csv}"
    )
    path = put_sweep(place, base)
    for i in range(8):
        write_video(place / "clips" / f"{i}.mp4", moving_bar(24 if i < 5 else 8, 32, 32, shade=i))
    rows = [f"{i}.mp4,{'ab'[i % 2]},{'test' if i == 7 else 'train'}\n" for i in range(9)]
    (place / "list.csv").write_text("".join(rows))
    (place / "clips" / "8.mp4").write_bytes(b"no video \x00\x01")
    out = said(path, capsys)
    looked = "of 8 that were looked at, of 8 training videos"
    assert "data: not prepared yet; 9 of 9 listed videos are there" in out
    assert f"data: frames by their containers, {looked}, spread over the list: 8 to 24" in out
    assert f"data: problem: 1 {looked}, cannot be opened" in out
    assert (
        "data: 2 training videos are shorter than one of 2 clips of 6 frames at stride 2; there a"
        f" clip starts over (one-s0), {looked}\n"
    ) in out
    assert not (place / "cache").exists()


def test_what_would_be_opened_is_found(place: Path) -> None:
    from vididi.prepared import find_data

    config = resolve(build_config({"data": DATA, "backbone": {"name": "r3d_tiny", "width": 2}}))
    assert find_data(config).made
    shards = ensure_prepared(config)
    assert find_data(config).shards == shards.root
