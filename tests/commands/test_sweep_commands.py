"""The commands of run_sweep.py, as far as they go without Ray."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from tiny_sweep import BASE

import run_sweep
from vididi.cell_status import cell_states, states_table
from vididi.commands.cells import extended
from vididi.components import resolve
from vididi.config import build_config
from vididi.errors import ConfigError
from vididi.sweep import expand, load_sweep

SWEEP = (
    "name: few"
    + BASE
    + """  training: {epochs: 4, batch_size: 8}
arms: {base: {order: 0}, vididi: {order: 2}, random: {order: 1, selection: random}, both: {order: 1}, late: {order: 2, reverse: true}}
seeds: [0, 2]
"""
)

RESULT = {"version": 1, "retrieval/R@1": 0.25, "seconds": 1.0, "data_checksum": "x", "steps": 12}


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "few.yaml").write_text(SWEEP)
    return tmp_path / "few.yaml"


@pytest.mark.parametrize(("asked", "seeds"), [(2, [0, 2]), (3, [0, 2, 1]), (5, [0, 2, 1, 3, 4])])
def test_more_seeds_are_the_files_and_those_it_leaves_out(
    asked: int, seeds: list[int], spec: Path
) -> None:
    assert extended(load_sweep(spec), asked) == seeds


def test_fewer_seeds_than_the_file_has_are_refused(spec: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"--seeds 1: is not valid; the file has 2 already, \[0, 2\]"
    ):
        extended(load_sweep(spec), 1)


def test_extend_plans_the_cells_of_all_seeds(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_sweep.main(["extend", str(spec), "--seeds", "3", "--only", "base", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert [line.partition(":")[0] for line in said.partition("\ndata: ")[0].splitlines()] == [
        "base-s0",
        "base-s2",
        "base-s1",
        "3 cells",
        "runs",
    ]


def test_an_arm_that_is_asked_for_twice_leaves_nothing_out(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run_sweep.main([str(spec), "--only", "base", "--only", "base", "--seeds", "0", "--dry-run"])
        == 0
    )
    said = capsys.readouterr().out.partition("\ndata: ")[0]
    assert [line.partition(":")[0] for line in said.splitlines()] == ["base-s0", "1 cell", "runs"]


def test_a_cell_s_state_is_what_its_folder_says(spec: Path, tmp_path: Path) -> None:
    cells = expand(load_sweep(spec), seeds=[0])
    runs = tmp_path / "runs"
    folders = [cell.find_folder(runs, "sum") for cell in cells]
    for folder, cell in zip(folders[:4], cells, strict=False):
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(cell.config.to_yaml())
        (folder / "cell.json").write_text(json.dumps(cell.describe("few")))
        (folder / "metrics.jsonl").write_text(
            '{"epoch": 1, "step": 3}\n{"epoch": 2, "step": 6}\n{"epoch": 3, "st'
        )
    (folders[0] / "result.json").write_text(json.dumps({**RESULT, "seconds": 12.4}))
    (folders[1] / "stopped.json").write_text(json.dumps({"epoch": 2, "online/knn": 0.5}))
    (folders[2] / "error.txt").write_text("Traceback\n  of much\nValueError: too hot\n")
    for path in folders[3].iterdir():
        os.utime(path, (time.time() - 300, time.time() - 300))
    states = cell_states(cells, runs, "sum")
    assert [(state.name, state.epoch) for state in states] == [
        ("finished", 4),
        ("stopped early", 2),
        ("failed", 2),
        ("half-done", 2),
        ("waiting", 0),
    ]
    table = states_table(states).splitlines()
    assert "25.0%" in table[2]
    assert "ValueError: too hot" in table[4]
    assert "last written to 5 min ago" in table[5]


def test_status_of_a_sweep_that_has_not_begun_needs_no_data(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_sweep.main(["status", str(spec), "--runs", str(tmp_path / "none")]) == 1
    assert (
        capsys.readouterr().out.splitlines()[-1].startswith("sweep few: 10 cells, none has begun")
    )


def test_status_finds_a_finished_sweep(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vididi.prepared import ensure_prepared

    cells = expand(load_sweep(spec), only=["base"])
    checksum = ensure_prepared(resolve(cells[0].config)).manifest.checksum
    for cell in cells:
        config = resolve(cell.config)
        folder = tmp_path / "runs" / "few" / f"{cell.title}-{config.identity(checksum)}"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(RESULT))
        (folder / "config.yaml").write_text(config.to_yaml())
        (folder / "cell.json").write_text(json.dumps(cell.describe("few")))
    assert (
        run_sweep.main(["status", str(spec), "--runs", str(tmp_path / "runs"), "--only", "base"])
        == 0
    )
    assert "sweep few: 2 cells, 2 finished" in capsys.readouterr().out
    (folder / "result.json").write_text("")
    assert (
        run_sweep.main(["status", str(spec), "--runs", str(tmp_path / "runs"), "--only", "base"])
        == 1
    )
    said = capsys.readouterr().out
    assert "damaged  0/4" in " ".join(said.split("\n")[3].split()).replace(
        "damaged 0", "damaged  0"
    )
    assert "result.json: is empty" in said
    assert "sweep few: 2 cells, 1 finished, 1 damaged" in said
    assert (folder / "result.json").read_text() == ""


@pytest.mark.parametrize(
    "arguments", [["rerun", "SPEC"], ["extend", "SPEC"], ["status", "SPEC", "--address", "auto"]]
)
def test_commands_ask_for_what_they_need(
    arguments: list[str], spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_sweep.main([str(spec) if word == "SPEC" else word for word in arguments])
    assert stopped.value.code == 2
    assert f"run_sweep.py {arguments[0]}" in capsys.readouterr().err


@pytest.fixture
def search(spec: Path) -> Path:
    text = (
        "search: {name: random, trials: 2, metrics: {retrieval/R@1: max}, space: {order: {choice:"
        " [1, 2]}}}\n"
    )
    spec.write_text(SWEEP.replace("seeds: [0, 2]", "seeds: [0]").replace("arms:", "# ") + text)
    return spec


@pytest.mark.parametrize(
    "arguments",
    [
        ["extend", "SPEC", "--seeds", "3"],
        ["SPEC", "--seeds", "3"],
        ["status", "SPEC", "--only", "a"],
    ],
)
def test_arms_and_seeds_are_for_grids(
    arguments: list[str], search: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_sweep.main([str(search) if word == "SPEC" else word for word in arguments]) == 2
    assert "are for grids" in capsys.readouterr().err


def test_status_of_a_search_is_that_of_the_cells_that_have_begun(
    search: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs" / "few"
    status = ["status", str(search), "--runs", str(tmp_path / "runs")]
    assert run_sweep.main(status) == 1
    assert "sweep few: 0 cells so far, none has begun" in capsys.readouterr().out
    files = {
        "few-ab12-s0-0123456789ab": {"result.json": json.dumps(RESULT)},
        "few-cd34-s1-456789abcdef": {
            "stopped.json": '{"epoch": 3, "online/knn": 0.5}',
            "metrics.jsonl": '{"epoch": 1, "step": 3}\n{"epoch": 4, "step": 12}\n',
        },
    }
    for name, content in files.items():
        (runs / name).mkdir(parents=True)
        cell = {
            "sweep": "few",
            "arm": "few-ab12",
            "label": f"point of {name}",
            "axes": {},
            "seed": 0,
        }
        begun = {
            "cell.json": json.dumps(cell),
            "config.yaml": build_config({"training": {"epochs": 8}}).to_yaml(),
        }
        for file, text in {**begun, **content}.items():
            (runs / name / file).write_text(text)
    (runs / ".search").mkdir()
    assert run_sweep.main(status) == 0
    table, counts = capsys.readouterr().out.split("sweep few: ")
    first, second = table.splitlines()[-2:]
    assert first.split()[:4] == ["few-ab12-s0", "finished", "8/8", "25.0%"]
    assert second.split()[:4] == ["few-cd34-s1", "stopped", "early", "4/8"]
    assert "point of few-cd34-s1" in second
    assert counts.startswith("2 cells so far, 1 finished, 1 stopped early")
    (runs / "few-ef56-s0-89abcdef0123").mkdir()
    (runs / "few-ef56-s0-89abcdef0123" / "error.txt").write_text("it could not begin\n")
    assert run_sweep.main(status) == 1
    assert "1 failed" in capsys.readouterr().out


def test_compare_is_analysis_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_sweep.main(["compare", "a", "b", "--runs", str(tmp_path)]) == 2
    assert (
        "error: a: is neither an arm that has finished runs nor a folder of some; in "
        in capsys.readouterr().err
    )
