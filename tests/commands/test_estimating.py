"""``--estimate``: what is not finished of a sweep, from steps that are measured here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain_files import plain

import run_sweep
from tests.tiny_sweep import BASE
from vididi import cli
from vididi.commands.arguments import parse_arguments
from vididi.commands.estimating import alike, at_once, divide, representative
from vididi.components import resolve
from vididi.data.stream import local_stream
from vididi.experiment import run_cell
from vididi.prepared import ensure_prepared
from vididi.provenance import machine
from vididi.runs.file_names import ERROR, METRICS, RESULT
from vididi.runs.readers import read_run_result
from vididi.sweep import Cell, expand, load_sweep
from vididi.training.context import LocalContext
from vididi.words import size_text

SWEEP = (
    f"name: tiny\n{BASE}  training: {{epochs: 3, batch_size: 8}}\n"
    "  evaluation: {clips: 2, frames: 4, stride: 2}\n"
    "arms:\n  one: {order: 1}\n  base: {order: 0}\n"
    "evaluate: [retrieval, silhouette, {protocol: linear, recipe: corp}]\n"
)


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(SWEEP)
    return tmp_path / "tiny.yaml"


def cells_of(spec: Path, changes: dict[str, Any] | None = None) -> list[Cell]:
    return [
        replace(cell, config=resolve(cell.config)) for cell in expand(load_sweep(spec), changes)
    ]


def test_a_sweep_is_estimated_without_its_finished_cells(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run one cell, and hold the estimate of the other to what it left on the disk."""
    first, other = cells_of(spec)
    shards = ensure_prepared(first.config)
    folder = spec.parent / "runs" / "tiny" / first.folder_name(shards.manifest.checksum)
    record = first.describe("tiny")
    run_cell(first.config, record, folder, shards, local_stream(shards), LocalContext())
    left = sum(file.stat().st_size for file in folder.iterdir())
    before = {path: path.stat().st_mtime_ns for path in spec.parent.rglob("*")}
    capsys.readouterr()

    # The other arm has another order only, so it would take the time of the first: forget that.
    content = plain(folder / RESULT)
    (folder / RESULT).write_text(json.dumps({**content, "machine": {}}))
    assert run_sweep.main([str(spec), "--estimate", "--price", "2.50"]) == 0
    out = capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in spec.parent.rglob("*")}.keys() == (
        before.keys()
    )
    assert f"measuring 1 of 1 configuration: {other.title}, on the prepared data, 24 train" in out
    (line,) = re.findall(r"(?m)^  .* a step, of [1-5] steps?; .*$", out)
    assert re.search(r"a clip of evaluation; .* a checkpoint; .* of memory; .* could begin", line)
    assert re.search(rf"(?m)^{other.title} +to run +[\d.]+ (s|min) .*configuration 1$", out)
    assert first.title not in out
    assert "not counted: 1 cell that finished before" in out
    assert re.search(r"(?m)^time: 1 cell, \d+ at a time: [\d.]+ (s|min|h)", out)
    assert re.search(r"(?m)^memory: [\d.]+ [MG]B at the peak of a process, times \d+ proc", out)
    assert re.search(r"(?m)^money: [\d.]+ \([\d.]+ to [\d.]+\) at 2.5 per hour of this mac", out)
    (number, unit) = re.findall(r"(?m)^disk: run folders ([\d.]+) ([KM]B) ", out)[0]
    said = float(number) * {"KB": 1e3, "MB": 1e6}[unit]
    assert abs(said - left) < 0.2 * left, f"{size_text(said)} said, {size_text(left)} left"
    assert "not in it: " in out
    assert "evaluation linear" in out.rpartition("not in it: ")[2]

    (folder / RESULT).write_text(json.dumps(content))
    assert run_sweep.main([str(spec), "--estimate"]) == 0
    out = capsys.readouterr().out
    seconds = (read_run_result(folder) or {})["seconds"]
    assert re.search(rf"(?m)^{other.title} +to run .* 1 cell like it that finished here$", out)
    assert seconds > 0
    assert "money" not in out


def test_videos_that_are_not_prepared_are_estimated_by_a_sample(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    moving_bar: Callable[..., np.ndarray],
    write_video: Callable[..., Path],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIDIDI_CACHE", str(tmp_path / "cache"))
    for i in range(12):
        write_video(tmp_path / "clips" / f"{i}.mp4", moving_bar(24, 32, 48, shade=i))
    rows = "".join(f"{i}.mp4,{'ab'[i % 2]},{'train' if i < 8 else 'test'}\n" for i in range(12))
    (tmp_path / "list.csv").write_text(rows)
    (tmp_path / "one.yaml").write_text(
        "data: {name: csv, videos: clips, list: list.csv}\nprepare: {short_side: 16}\n"
        "clip: {frames: 4, stride: 2, size: 16}\nobjective: {name: vicreg, hidden: 16, out: 16}\n"
        "backbone: {name: r3d_tiny, width: 2}\ntraining: {epochs: 1, batch_size: 4}\n"
        "evaluation: {clips: 1, frames: 4, stride: 2}\n"
    )
    assert cli.main(["pretrain", "one.yaml", "--out", "runs/one", "--estimate"]) == 0
    out = capsys.readouterr().out
    said = "on random clips, as the data are not prepared; a sample of [1-5] of 12 videos was"
    assert re.search(said, out)
    assert re.search(r"(?m)^one-s0 +to run +", out)
    assert re.search(
        r"(?m)^disk: prepared data [\d.]+ KB \(12 videos, .* by a sample of [1-5]\)", out
    )
    assert ", with preparing, " in out
    assert "reading and decoding frames in each step" in out
    assert not (tmp_path / "cache" / "shards").exists()
    assert not (tmp_path / "runs").exists()


# --- What is counted ------------------------------------------------------------------------------


def put_run(folder: Path, **result: Any) -> None:
    folder.mkdir(parents=True)
    content = {"version": 1, "rules": 2, "data_checksum": "x", "steps": 3, **result}
    (folder / RESULT).write_text(json.dumps(content))


def test_cells_are_divided_by_what_became_of_them(spec: Path, tmp_path: Path) -> None:
    cell = cells_of(spec)[0]
    here = machine()
    folders = [tmp_path / name for name in ("done", "resumed", "elsewhere", "half", "failed")]
    put_run(folders[0], seconds=7.0, machine=here)
    put_run(folders[1], seconds=1.0, machine=here, resumed_from_step=4)
    put_run(folders[2], seconds=2.0, machine={**here, "cores": 999})
    for folder in folders[3:]:
        folder.mkdir()
    (folders[3] / METRICS).write_text('{"epoch": 1, "step": 3}\n')
    (folders[4] / ERROR).write_text("no\n")
    left, finished = divide([cell] * 6, [*folders, tmp_path / "none"], True)
    assert [one.state for one in left] == ["half-done", "failed", "to run"]
    assert [one.share for one in left] == pytest.approx([2 / 3, 1, 1])
    assert finished == {alike(cell): [7.0]}


def test_cells_that_differ_in_coefficients_share_a_measurement(spec: Path) -> None:
    one, base = cells_of(spec)
    assert alike(one) == alike(base)
    assert representative([base, one]) is one
    assert alike(cells_of(spec, {"optimiser.lr": 0.7})[0]) == alike(one)
    for changes in (
        {"clip.size": 24},
        {"training.batch_size": 4},
        {"backbone.width": 4},
        {"objective.hidden": 32},
        {"optimiser.name": "adamw"},
        {"training.threads": 2},
    ):
        assert alike(cells_of(spec, changes)[0]) != alike(one), changes
    assert at_once(replace(one, resources=one.resources.model_copy(update={"concurrency": 1}))) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--price", "2"], "--price 2: is for --estimate; give both"),
        (["--estimate", "--price", "-1"], "--price -1: must be a number of 0 or more"),
        (["--estimate", "--price", "nan"], "--price nan: must be a number of 0 or more"),
    ],
)
def test_a_price_that_is_none_is_refused(
    words: list[str], said: str, spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_sweep.main([str(spec), *words]) == 2
    assert said in capsys.readouterr().err


def test_the_help_says_what_a_price_is_of() -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--help"])
