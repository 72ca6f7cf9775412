"""benchmarks/scale.py runs, and docs/scaling.md holds what benchmarks/scaling_model.py prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).resolve().parents[1]
BENCHMARKS = REPO / "benchmarks"
QUICK = ("planning", "retrieval")  # of the others each takes half a minute and more


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """benchmarks/scaling_model.py, which imports its neighbours as programs do."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import scaling_model

    return scaling_model


def test_a_quick_look_measures_parts_and_keeps_the_others(tmp_path: Path) -> None:
    out = tmp_path / "scale.json"
    out.write_text(json.dumps({"workers": {"kept": True}}))
    command = [
        sys.executable,
        "benchmarks/scale.py",
        "--quick",
        "--only",
        *QUICK,
        "--out",
        str(out),
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run(
        command, cwd=REPO, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert [*found] == [*QUICK, "workers"]
    assert found["workers"] == {"kept": True}
    assert [row["rows"] for row in found["planning"]["rows"]] == [1000, 4000]
    assert [row["shards"] for row in found["planning"]["rows"]] == [8, 32]
    for row in [*found["planning"]["rows"], *found["retrieval"]["rows"]]:
        assert all(value >= 0 for value in row.values())
    assert {"versions", "commit", "machine", "date", "load_1_min", "quick"} <= set(
        found["planning"]
    )


def test_the_page_holds_the_model_s_tables(model: Any) -> None:
    page = model.PAGE.read_text()
    assert model.written(page) == page, "python benchmarks/scaling_model.py --write"
    assert page.count("<!-- scaling_model: ") == len(model.TABLES)


def test_what_is_gathered_is_counted_from_the_objective(model: Any) -> None:
    """VICReg gathers two embeddings of 2,048 numbers of each video, BYOL four of 256, CORP_m three
    logits of each pair of 32 clips for every 8 videos, and where the clips begin.
    """
    by_name = {cell.name.partition(",")[0]: cell for cell in model.counted()}
    of_video = {
        name: (cell.gathered / cell.config.training.batch_size, cell.with_gradient / cell.gathered)
        for name, cell in by_name.items()
    }
    assert of_video["ViDiDi-VIC"] == (2 * 2048 * 4, 1)
    assert of_video["ViDiDi-BYOL"] == (4 * 256 * 4, 0.5)
    assert of_video["CORP_m"][0] == 32 * 32 * 3 * 4 / 8 + 4 * 8


def test_a_ring_sends_twice_what_it_sums_but_for_one_s_own_part(model: Any) -> None:
    assert model.ring(1, 100.0) == 0
    assert model.ring(2, 100.0) == 100
    assert model.ring(4, 100.0) == 150


def test_a_table_says_what_is_wrong_with_its_numbers(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import scaling_terms

    section = {"machine": {"cores": 2, "processor": "P"}, "date": "D", "load_1_min": 3.0}
    where = "`benchmarks/scale.py --only planning`, D, 2 cores (P)"
    for busy, quick, said in (
        (False, False, where),
        (True, False, f"{where}, **beside other programs (load 3): too slow**"),
        (False, True, f"{where}, **of small sizes (`--quick`)**"),
    ):
        content = {"planning": {**section, "busy": busy, "quick": quick}}
        monkeypatch.setattr(scaling_terms, "scale", lambda content=content: content)
        assert scaling_terms.where_from("planning") == said
        assert "too slow" not in scaling_terms.where_from("planning", timed=False)
