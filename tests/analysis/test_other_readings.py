"""CORP names two networks: R3D-50 in its Table 1, an I3D in its text. The rows of its tables are of
the first; runs of the second have rows of their own, which say so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_up_runs import made_up_evaluation, made_up_run, read_csv

from vididi.analysis.paper import PaperTable, load_paper_table, table_names
from vididi.analysis.reading import find_runs, read_finished
from vididi.analysis.tables import render_table

CORP = [load_paper_table(name) for name in table_names() if name.startswith("corp_")]
EACH = pytest.mark.parametrize("table", CORP, ids=[table.name for table in CORP])
READING = "I3D of the text"
K400 = {"data.name": "kinetics400", "schedule.order": 0, "clip.extra_frames": 0}
CORP_F, CORP_M = ({**K400, "objective.name": name} for name in ("corp_f", "corp_m"))


def evaluated(root: Path, values: dict[str, Any], value: float, protocol: str = "linear") -> Path:
    run = made_up_run(root, {"backbone.name": "r3d_50", **values}, {}, label=str(values))
    made_up_evaluation(run, protocol, "kinetics400", {f"{protocol}/top1": value})
    return run


def shown(name: str, root: Path) -> tuple[list[dict[str, str]], str]:
    markdown, sheet, _ = render_table(load_paper_table(name), read_finished(find_runs(root)))
    return read_csv(sheet), markdown


def ours(rows: list[dict[str, str]], column: str = "K400 top-1 ours") -> dict[str, str]:
    """What is measured, by the row's label."""
    return {
        next(iter(set(row.values()) & set(labels_of(rows)))): row[column]
        for row in rows
        if row.get(column, "no runs") != "no runs"
    }


def labels_of(rows: list[dict[str, str]]) -> list[str]:
    head = next(name for name in ("Method", "Model", "Models") if name in rows[0])
    return [row[head] for row in rows]


@EACH
def test_the_network_is_in_the_match_of_every_row(table: PaperTable) -> None:
    assert table.configuration["backbone.name"] == "r3d_50"
    networks = [row.match["backbone.name"] for row in table.rows if row.match is not None]
    supervised = [row.label for row in table.rows if row.label in ("C2D", "I3D")]
    assert networks.count("r3d_50") == len(networks) - len(supervised)
    assert [reading.name for reading in table.readings] == [READING]
    assert table.readings[0].match == {"backbone.name": "i3d_50"}


def test_a_run_of_the_other_network_does_not_fill_the_row(tmp_path: Path) -> None:
    evaluated(tmp_path, {**CORP_F, "backbone.name": "i3d_50"}, 0.5)
    rows, markdown = shown("corp_table_1", tmp_path)
    assert ours(rows) == {f"CORP_f ({READING})": "50.0"}
    assert "not in the paper" not in markdown
    assert "backbone.name i3d_50 instead of r3d_50" in markdown  # not as in the paper
    (row,) = (row for row in rows if row["Method"] == f"CORP_f ({READING})")
    assert (row["K400 top-1 paper"], row["Network (#params)"]) == ("", "I3D (27.3M)")


def test_the_default_is_the_network_of_table_1(tmp_path: Path) -> None:
    evaluated(tmp_path, CORP_F, 0.6)
    rows, markdown = shown("corp_table_1", tmp_path)
    assert ours(rows) == {"CORP_f": "60.0"}
    assert READING not in markdown


def test_a_third_network_is_in_no_row(tmp_path: Path) -> None:
    evaluated(tmp_path, {**CORP_F, "backbone.name": "r3d_18"}, 0.4)
    rows, _ = shown("corp_table_1", tmp_path)
    (label,) = ours(rows)
    assert label.endswith("(not in the paper)")


def test_the_two_stand_in_tables_of_their_own(tmp_path: Path) -> None:
    """As runs of two networks do wherever networks are not what the rows differ in."""
    evaluated(tmp_path, CORP_F, 0.6)
    evaluated(tmp_path, {**CORP_F, "backbone.name": "i3d_50"}, 0.5)
    rows, markdown = shown("corp_table_1", tmp_path)
    assert "(2 of 2 protocols)" in markdown
    assert sorted(ours(rows).items()) == [("CORP_f", "60.0"), (f"CORP_f ({READING})", "50.0")]


def test_gains_are_over_the_baseline_of_the_same_reading(tmp_path: Path) -> None:
    simclr = {**K400, "objective.name": "cvrl"}
    for network, (base, gained) in {"r3d_50": (0.6, 0.65), "i3d_50": (0.3, 0.4)}.items():
        evaluated(tmp_path, {**simclr, "backbone.name": network}, base)
        evaluated(tmp_path, {**CORP_F, "backbone.name": network}, gained)
    rows, _ = shown("corp_table_5", tmp_path)
    gains = ours(rows, "Kinetics gain ours")
    assert gains["CORP_f"] == "+5.0"
    assert gains[f"CORP_f ({READING})"] == "+10.0"
    assert gains[f"SimCLR ({READING})"] == "+0.0"


def test_the_supervised_i3d_is_no_reading(tmp_path: Path) -> None:
    """CORP's Table 5: C2D and I3D are those of Non-local Neural Networks; "ImageNet" is the
    network of the self-supervised rows.
    """
    values = {
        "data.name": "kinetics400",
        "training.epochs": 0,
        "training.warmup_epochs": 0,
        "backbone.weights": "/files/imagenet.pth",
        "backbone.weights_from": "imagenet",
    }
    evaluated(tmp_path, {**values, "backbone.name": "i3d_50"}, 0.7, "finetune")
    rows, markdown = shown("corp_table_5", tmp_path)
    assert ours(rows, "Kinetics ours") == {"I3D": "70.0"}
    assert READING not in markdown
    for run in find_runs(tmp_path):
        made_up_evaluation(run, "linear", "kinetics400", {"linear/top1": 0.2})
    evaluated(tmp_path, values, 0.5)
    rows, _ = shown("corp_table_5", tmp_path)
    assert ours(rows, "Kinetics ours") == {
        "I3D": "70.0",
        "ImageNet": "50.0",
        f"ImageNet ({READING})": "20.0",
    }
