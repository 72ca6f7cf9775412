"""Rows of what has learned nothing, below a table's arms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import UCF101, made_up_evaluation, made_up_run, read_csv

from vididi.analysis.floor import order_name
from vididi.analysis.paper import load_paper_table
from vididi.analysis.reading import find_runs, read_finished
from vididi.analysis.tables import render_table, write_tables
from vididi.data.stream import local_stream
from vididi.experiment import run_cell
from vididi.prepared import ensure_prepared
from vididi.protocols import protocol_settings
from vididi.protocols.finished import evaluate_run
from vididi.protocols.settings import FeatureSettings
from vididi.protocols.task import Task, complete_settings
from vididi.sweep import load_sweep
from vididi.training.context import LocalContext

CLIPS = {"clips": 10, "frames": 16, "stride": 3, "size": 112, "crop": 0.75, "batch_norm": "running"}
METRICS = {
    "unlearned/middle_frame_R@1": 0.21,
    "unlearned/middle_frame_linear": 0.22,
    "unlearned/difference_grid_R@1": 0.33,
    "unlearned/difference_grid_linear": 0.34,
}
FEATURES = ("middle frame", "difference grid")
UNTRAINED = {
    "untrained/retrieval/R@1": 0.1,
    "untrained/retrieval/order_1_R@1": 0.15,
    "untrained/retrieval/order_2_R@1": 0.16,
    "untrained/retrieval/order_0_in_1_R@1": 0.01,
}
ORDERS = {"evaluation.orders": [0, 1, 2]}


def measured_unlearned(run: Path, **changes: Any) -> Path:
    """Of the run's own clips, but for the changes."""
    return made_up_evaluation(
        run,
        "unlearned",
        "ucf101",
        METRICS,
        split=1,
        checksum="videos",
        settings={**CLIPS, **changes},
    )


def run_of(root: Path, seed: int = 0, checksum: str = "videos 1", **more: Any) -> Path:
    metrics = {"retrieval/R@1": 0.4, "retrieval/R@5": 0.5, **more.pop("metrics", {})}
    values = {**UCF101, "schedule.order": 0, "backbone.name": "r3d_18", **more}
    return made_up_run(root, values, metrics, seed=seed, checksum=checksum)


def rows_of(root: Path, name: str = "vididi_table_6") -> list[dict[str, str]]:
    return read_csv(render_table(load_paper_table(name), read_finished(find_runs(root)))[1])


def labels(rows: list[dict[str, str]]) -> list[str]:
    return [row["Method"] for row in rows]


def test_features_without_weights_are_rows_in_the_measured_columns(tmp_path: Path) -> None:
    for seed in (0, 1):
        measured_unlearned(run_of(tmp_path, seed))
    rows = rows_of(tmp_path)
    assert labels(rows)[-2:] == [f"nothing learned: {name}" for name in FEATURES]
    for row, recall in zip(rows[-2:], ("21.0", "33.0"), strict=True):
        assert row["R@1 ours"] == recall  # of two seeds, but not random
        assert {row[name] for name in ("R@1 paper", "R@5 paper", "R@5 ours", "seeds")} == {""}
    assert rows[-2]["R@1 gain ours"] == "-19.0"
    assert not [name for row in rows for name in row if name and name.endswith("(2)")]


def test_the_linear_tables_have_them_by_the_classifier(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    made_up_evaluation(run, "linear", "ucf101", {"linear/top1": 0.6}, 1, "videos", CLIPS)
    measured_unlearned(run)
    table = load_paper_table("cvrl_table_6")
    assert "linear/top1" in {column.metric for column in table.columns}
    rows = read_csv(render_table(table, read_finished(find_runs(tmp_path)))[1])
    floor = {row[table.head]: row for row in rows if row[table.head].startswith("nothing learned")}
    assert list(floor) == [f"nothing learned: {name}" for name in FEATURES]
    assert "22.0" in floor["nothing learned: middle frame"].values()


def test_a_table_of_another_kind_does_not_have_them(tmp_path: Path) -> None:
    measured_unlearned(run_of(tmp_path, metrics=UNTRAINED, **ORDERS))
    written = render_table(load_paper_table("vididi_table_3"), read_finished(find_runs(tmp_path)))
    assert not any("nothing learned" in text or "velocity" in text for text in written)


def test_other_clips_are_a_column_of_their_own(tmp_path: Path) -> None:
    measured_unlearned(run_of(tmp_path), clips=2)
    rows = rows_of(tmp_path)
    row = next(row for row in rows if row["Method"] == "nothing learned: middle frame")
    assert row["R@1 ours"] == ""
    assert row["R@1 ucf101 split 1 (2)"] == "21.0"


@pytest.mark.parametrize(
    "setting", [{"batch_norm": "recomputed"}, {"orders": [0, 1, 2]}], ids=lambda s: next(iter(s))
)
def test_what_is_of_encoders_alone_makes_no_other_way(
    tmp_path: Path, setting: dict[str, Any]
) -> None:
    changes = {f"evaluation.{name}": value for name, value in setting.items()}
    measured_unlearned(run_of(tmp_path, **changes))
    assert rows_of(tmp_path)[-1]["R@1 ours"] == "33.0"


def test_an_untrained_encoder_has_a_row_for_each_order_that_was_measured(tmp_path: Path) -> None:
    for seed in (0, 1):
        run_of(tmp_path, seed, metrics=UNTRAINED, **ORDERS)
    rows = rows_of(tmp_path)
    assert labels(rows)[-3:] == [
        "untrained encoder, frames",
        "untrained encoder, velocity",
        "untrained encoder, acceleration",
    ]
    assert [row["R@1 ours"] for row in rows[-3:]] == ["10.0 ± 0.0", "15.0 ± 0.0", "16.0 ± 0.0"]
    assert {row["R@1 paper"] for row in rows[-3:]} == {""}
    assert [row["R@5 ours"] for row in rows[-3:]] == ["no runs", "", ""]  # it has no such metric
    assert rows[-1]["seeds"] == "0 1"
    assert order_name(3) == "order 3"


def test_of_frames_alone_it_keeps_its_name(tmp_path: Path) -> None:
    run_of(tmp_path, metrics={"untrained/retrieval/R@1": 0.1})
    assert labels(rows_of(tmp_path))[-1] == "untrained encoder"


def test_every_kind_of_text_has_them(tmp_path: Path) -> None:
    measured_unlearned(run_of(tmp_path, metrics=UNTRAINED, **ORDERS))
    printed = write_tables(load_paper_table("vididi_table_6"), find_runs(tmp_path), tmp_path)
    texts = [(tmp_path / f"vididi_table_6.{kind}").read_text() for kind in ("md", "csv", "tex")]
    for text in (printed, *texts):
        assert "nothing learned: difference grid" in text
        assert "untrained encoder, velocity" in text
    assert "ridge regression in closed form" in printed


# --- Whole runs -----------------------------------------------------------------------------------


def test_a_sweep_may_ask_for_them(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("name: s\nevaluate: [retrieval, unlearned]\n")
    sweep = load_sweep(tmp_path / "s.yaml")
    assert sweep.protocols == ["retrieval"]
    assert [entry.protocol for entry in sweep.evaluations] == ["unlearned"]
    (tmp_path / "s.yaml").write_text("name: s\nevaluate: [retrieval, {protocol: unlearned}]\n")
    assert load_sweep(tmp_path / "s.yaml") == sweep


def test_a_run_s_own_evaluations_make_these_rows(
    make_config: Callable[..., Any], tmp_path: Path
) -> None:
    """What the protocols write is what the tables read, down to which clips are the same."""
    config = make_config({"training.epochs": 1, "clip.extra_frames": 2, "schedule.order": 0})
    shards, context = ensure_prepared(config), LocalContext()
    folder, stream = tmp_path / "base-s0", local_stream(shards)
    cell = {"sweep": "s", "arm": "base", "label": "Base", "axes": {}, "seed": 0}
    run_cell(config, cell, folder, shards, stream, context)
    found = {}
    for protocol, settings in (("retrieval", {"orders": [0, 1]}), ("unlearned", {})):
        complete = complete_settings(protocol_settings(protocol, None, settings), config)
        assert isinstance(complete, FeatureSettings)
        task = Task(protocol, complete, shards, stream, context, lambda metrics: None)
        found[protocol] = evaluate_run(folder, task, None, untrained=protocol == "retrieval")
    rows = rows_of(tmp_path)
    assert labels(rows)[-5:] == [
        "untrained encoder, frames",
        "untrained encoder, velocity",
        *(f"nothing learned: {n}" for n in (*FEATURES, "signed differences")),
    ]
    column = "R@1 motion"
    unlearned = found["unlearned"]["metrics"]
    assert [row[column] for row in rows[-3:]] == [
        f"{100 * unlearned[f'unlearned/{name}_R@1']:.1f}"
        for name in ("middle_frame", "difference_grid", "signed_differences")
    ]
    velocity = found["retrieval"]["untrained"]["retrieval/order_1_R@1"]
    assert f"{100 * velocity:.1f}" in rows[-4].values()
