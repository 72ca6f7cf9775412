"""benchmarks/gpu.sh, rehearsed on a CPU without Ray, decord and Optuna: every part leaves its rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vididi.objectives import OBJECTIVES

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "benchmarks"))
ABSENT = ("ray", "decord", "optuna")
FILES = {
    f"gpu_{name}" for name in ("steps_r3d_18", "steps_r3d_50", "steps_compiled", "data", "cells")
}
EAGER = {"plain", "fp32", "bf16", "bf16_contiguous", "bf16_one_pass"}


def run(place: Path, *arguments: str, absent: tuple[str, ...] = ABSENT) -> Any:
    """The script, in whose every process the ``absent`` packages cannot be imported."""
    (place / "sitecustomize.py").write_text(
        f"import sys\nfor name in {absent}: sys.modules[name] = None\n"
    )
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(place)}
    command = [str(REPO / "benchmarks" / "gpu.sh"), *arguments, "--out", str(place / "out")]
    return subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Any]]:
    place = tmp_path_factory.mktemp("rehearsal")
    done = run(place, "--device", "cpu", "--quick")
    contents = {path.stem: json.loads(path.read_text()) for path in (place / "out").iterdir()}
    return done, contents


def test_every_part_ends_well_and_leaves_a_file_that_names_the_machine(rehearsal: Any) -> None:
    done, contents = rehearsal
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(contents) == FILES | {"gpu"}
    for content in contents.values():
        assert content["card"] is None
        assert content["versions"]["torch"]
        assert content["machine"]["cores"]
    parts = contents["gpu"]["settings"]["parts"]
    assert [part["status"] for part in parts] == ["0"] * 6


def test_each_way_of_each_objective_has_a_row(rehearsal: Any) -> None:
    rows = rehearsal[1]["gpu_steps_r3d_18"]["rows"]
    measured = {(row["objective"], row["way"]) for row in rows if row.get("ms", 0) > 0}
    assert measured == {(name, way) for name in OBJECTIVES for way in EAGER}
    left_out = [row for row in rows if row["way"] == "bf16_cuda_graph"]
    assert [row["left_out"] for row in left_out] == ["no GPU"] * len(OBJECTIVES)
    first = rows[: len(EAGER)]
    assert all(row["of_bf16_rate"] > 0 and row["over_plain"] > 0 for row in first)
    # The same weights and views, but for the plain step's, which draws its own.
    losses = [row["first_loss"] for row in first if row["way"] != "plain"]
    assert losses == pytest.approx([losses[0]] * len(losses), rel=0.02)


def test_the_compiled_step_has_the_loss_of_the_eager_one(rehearsal: Any) -> None:
    eager, compiled = rehearsal[1]["gpu_steps_compiled"]["rows"]
    assert (eager["way"], compiled["way"]) == ("bf16", "bf16_compiled")
    assert compiled["first_loss"] == pytest.approx(eager["first_loss"], rel=0.02)


def test_the_kernels_of_a_step_are_a_table(rehearsal: Any) -> None:
    *slowest, everything = rehearsal[1]["gpu_steps_r3d_18"]["kernels"]
    assert len(slowest) == 10
    assert everything["ms"] >= sum(row["ms"] for row in slowest)
    assert slowest[0]["share"] == max(row["share"] for row in slowest)


def test_decoding_copies_and_cells_have_rows(rehearsal: Any) -> None:
    rows = rehearsal[1]["gpu_data"]["rows"]
    (jpeg,) = (row for row in rows if row["what"] == "jpeg")
    assert jpeg["psnr_db"] > 40
    ways = [row["way"] for row in rows if row["what"] == "step"]
    assert ways[0] == "resident"
    assert ways[-2:] == ["pinned_overlapped", "decoded_overlapped"]
    assert {row["way"] for row in rehearsal[1]["gpu_data"]["copies"]} == {
        "loop",
        "pinned_overlapped",
    }
    alone, at_once = rehearsal[1]["gpu_cells"]["rows"]
    assert at_once["over_one_after_another"] == pytest.approx(at_once["seconds"] / alone["seconds"])


def test_the_table_stands_beside_the_aims(rehearsal: Any) -> None:
    done, contents = rehearsal
    rows = contents["gpu"]["rows"]
    assert {">= 3", "< 0.02", ">= 40", "< 1"} <= {row["aim"] for row in rows}
    assert all(row["what"] in done.stdout for row in rows)
    assert {row["met"] for row in rows if row["aim"]} <= {"yes", "no"}


def test_what_is_missing_is_said_in_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, "--device", "cpu", "--quick", absent=(*ABSENT, "simplejpeg", "yaml"))
    assert done.returncode == 1
    assert done.stderr == "gpu.sh: missing: yaml, simplejpeg\n"


def test_a_cpu_is_for_rehearsals(tmp_path: Path) -> None:
    done = run(tmp_path, "--device", "cpu")
    assert (done.returncode, done.stdout) == (2, "")


def test_how_long_kernels_ran_beside_a_copy() -> None:
    from gpu_data import copy_table, covered

    assert covered((0.0, 4.0), [(-1.0, 1.0), (0.5, 2.0), (3.0, 9.0)]) == pytest.approx(3.0)
    rows = copy_table("loop", [(7.0, 9.0), (1.0, 4.0), (5.0, 5.1)], [(2.0, 8.0)])
    assert [(row["start_ms"], row["kernels_meanwhile_ms"]) for row in rows] == [(0, 2), (6, 1)]
