"""benchmarks/paper_costs.py: what the papers' sweeps take, and that docs/paper_sweeps.md says the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.paper_costs import (
    ASSUMED,
    FILES,
    PAGE,
    cost,
    forward_flops,
    measured_speed,
    rounded,
    table_of_the_page,
)

STATED = table_of_the_page()
SOME = ["vididi_table_1_ucf101", "vididi_table_2", "corp_table_5_ssv2", "cvrl_table_9"]


def test_the_page_has_hours_and_disk_of_every_file() -> None:
    assert set(STATED) == {path.stem for path in FILES}
    assert all(set(row) == {"pretraining", "evaluation", "gib"} for row in STATED.values())


@pytest.mark.parametrize("name", SOME)
def test_the_page_says_what_the_sweep_takes(name: str) -> None:
    """Within the page's two digits."""
    (path,) = [path for path in FILES if path.stem == name]
    evaluation = {name: row["evaluation"] for name, row in STATED.items()}
    one = cost(path, lambda _: ASSUMED, evaluation)
    assert one.pretraining == pytest.approx(STATED[name]["pretraining"], rel=0.03)
    assert rounded(one.gibibytes) == f"{STATED[name]['gib']:,.0f}"
    twice = cost(path, lambda _: 2 * ASSUMED, evaluation)
    assert twice.hours == pytest.approx(one.hours / 2)


def test_operations_are_those_of_the_page() -> None:
    """R3D-18 at 8 frames of 112 x 112: the first column of the page's table."""
    assert "| 40.7 |" in PAGE.read_text()
    assert forward_flops("r3d_18", (), 8, 112) / 1e9 == pytest.approx(40.7, abs=0.05)


def test_a_measured_step_gives_the_speed(tmp_path: Path) -> None:
    rows = [
        {"backbone": "r3d_18", "tflop_per_step": 1.0, "ours_seconds": seconds}
        for seconds in (0.05, 0.1, 0.2)
    ]
    (tmp_path / "gpu.json").write_text(json.dumps({"rows": rows}))
    speed = measured_speed(tmp_path / "gpu.json")
    assert speed("r3d_18") == speed("another") == 10.0


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.44, "0.44"), (25.9, "26"), (155.4, "155"), (1302, "1,300"), (11_512, "11,500")],
)
def test_numbers_are_rounded_as_on_the_page(value: float, text: str) -> None:
    assert rounded(value) == text
