"""All the papers' tables from made-up run folders: which run stands where, what never mixes, how
sure it is.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import (
    UCF101,
    hits_of,
    made_up_evaluation,
    made_up_run,
    read_csv,
    recalls,
    write_queries,
)

from vididi.analysis.formats import WIDTH, escape
from vididi.analysis.grouping import differences
from vididi.analysis.own_table import write_results
from vididi.analysis.paper import Column, PaperTable, Row, load_paper_table, table_names
from vididi.analysis.reading import find_runs, read_finished, read_run
from vididi.analysis.samples import THREE_SPLITS
from vididi.analysis.table_rows import label_of
from vididi.analysis.tables import render_table
from vididi.components import resolve
from vididi.config import build_config
from vididi.data.sources import SOURCES
from vididi.dotted_keys import nest
from vididi.errors import DataError

REPO = Path(__file__).resolve().parents[2]
TABLES = [load_paper_table(name) for name in table_names()]
ALL = pytest.mark.parametrize("table", TABLES, ids=[table.name for table in TABLES])
VIDIDI = {"schedule.order": 2, "schedule.selection": "scheduled", "schedule.mix": "both_ways"}
BASE, OURS = {**UCF101, "schedule.order": 0}, {**UCF101, **VIDIDI}
K400_CVRL = {
    "data.name": "kinetics400",
    "objective.name": "cvrl",
    "backbone.name": "r3d_50",
    "schedule.order": 0,
}


def rows_of(name: str, root: Path) -> list[dict[str, str]]:
    return read_csv(render_table(load_paper_table(name), read_finished(find_runs(root)))[1])


def row_named(rows: list[dict[str, str]], label: str, **others: str) -> dict[str, str]:
    (row,) = (row for row in rows if label in row.values() and others.items() <= row.items())
    return row


def printed(name: str, root: Path) -> str:
    return render_table(load_paper_table(name), read_finished(find_runs(root)))[0]


# --- The files ------------------------------------------------------------------------------------


@ALL
def test_a_file_fits_itself(table: PaperTable) -> None:
    titles = [row.title for row in table.rows]
    assert len(set(titles)) == len(titles)
    assert {len(row.values) for row in table.rows} == {len(table.columns)}
    assert {len(row.about) for row in table.rows} == {len(table.about)}
    assert {row.baseline for row in table.rows if row.baseline} | (
        {table.baseline} - {None}
    ) <= set(titles)
    assert (table.home in table.pretraining_data) if table.pretraining_data else table.home is None
    for column in table.columns:
        assert column.data in (None, "ava", *SOURCES)
        assert (column.split is not None) == (column.data in ("ucf101", "hmdb51"))


@ALL
def test_rows_are_configurations_of_this_project(table: PaperTable) -> None:
    for row in table.rows:
        files = ("data.", "backbone.weights")  # which are not at hand
        values = {
            key: value
            for key, value in (row.match or {}).items()
            if not key.startswith(files) and value is not None
        }
        assert (row.match or {}).get("data.name", "ucf101") in SOURCES
        assert row.metric is None or not table.also
        resolve(build_config(nest(values)))


@ALL
def test_rows_that_can_be_run_are_not_told_by_the_same_values_unless_the_paper_repeats_itself(
    table: PaperTable,
) -> None:
    told = [
        (json.dumps(row.match, sort_keys=True), row.split, row.metric)
        for row in table.rows
        if row.match is not None
    ]
    repeated = {key for key in told if told.count(key) > 1}
    assert not repeated or table.name == "corp_table_6"


# --- Every table ----------------------------------------------------------------------------------


def make_run_of(root: Path, table: PaperTable, row: Row, value: float) -> None:
    """A run that is this row, with the row's number in every column."""
    values = {**table.configuration, **(row.match or {})}
    values.setdefault("data.name", next(c.data for c in table.columns if c.data))
    if values["data.name"] in ("ucf101", "hmdb51"):
        values["data.split"] = 1
    if values["data.name"] == "ava":
        values["data.name"] = "kinetics400"
    if values.get("training.epochs") == 0:
        values["training.warmup_epochs"] = 0
    if values.get("backbone.weights_from"):
        values["backbone.weights"] = f"/files/{values['backbone.weights_from']}.pth"
    columns = [
        c
        for c in table.columns
        if c.metric and c.match.get("data.name", values["data.name"]) == values["data.name"]
    ]
    own = [
        c
        for c in columns
        if c.metric
        and c.metric.startswith(("retrieval", "silhouette"))
        and c.data == values["data.name"]
    ]
    run = made_up_run(
        root,
        values,
        {str(c.metric): value for c in own},
        label=row.label,
        checksum=values["data.name"],
    )
    for column in columns:
        for split in (
            THREE_SPLITS if (row.split or column.split) == "mean" else [row.split or column.split]
        ):
            if column not in own:
                made_up_evaluation(
                    run, "p", str(column.data), {row.metric or str(column.metric): value}, split
                )  # type: ignore[arg-type]


@ALL
def test_without_runs_every_row_says_so(table: PaperTable) -> None:
    markdown, sheet, _ = render_table(table, [])
    rows = read_csv(sheet)
    assert [row[table.head] for row in rows] == [label_of(row) for row in table.rows]
    for shown, row in zip(rows, table.rows, strict=True):
        assert shown[table.head].removesuffix(" (quoted)").startswith(row.label)
    assert "No finished runs." in markdown
    for i, column in enumerate(table.columns):
        assert [row[f"{column.name} paper"] for row in rows] == [
            column.number(row.values[i]) for row in table.rows
        ]
        assert {row.get(f"{column.name} ours", "no runs") for row in rows} == {"no runs"}


@ALL
def test_every_row_that_can_be_run_is_found(table: PaperTable, tmp_path: Path) -> None:
    for row in (row for row in table.rows if row.match is not None):
        own = tmp_path / str(table.rows.index(row))
        make_run_of(own, table, row, 0.25)
        columns = [
            c
            for c in table.columns
            if c.metric and (not c.match or c.match["data.name"] == table.columns[0].data)
        ]
        found = row_named(
            rows_of(table.name, own),
            label_of(row),
            **about_of(table, row),
        )
        for column in columns:
            assert found[f"{column.name} ours"] == column.scaled(0.25)


def test_a_run_of_the_paper_s_text_is_in_no_printed_row_that_asks_for_less(tmp_path: Path) -> None:
    table = load_paper_table("corp_table_1")
    for row, value in ((table.rows[-2], 0.2), (table.rows[-1], 0.3)):
        make_run_of(tmp_path, table, row, value)
    rows = {row["Method"]: row for row in rows_of("corp_table_1", tmp_path)}
    assert rows["CORP_f"]["K400 top-1 ours"] == "20.0"
    text = rows["CORP_f, batch 1024 (in the text, 4.2)"]
    assert (text["K400 top-1 paper"], text["K400 top-1 ours"]) == ("66.6", "30.0")


def test_the_same_encoder_frozen_and_tuned_is_two_rows_of_corp_table_5(tmp_path: Path) -> None:
    corp = {"objective.name": "corp_m", "backbone.name": "r3d_50", "schedule.order": 0}
    run = made_up_run(tmp_path, {**corp, "data.name": "something_something_v2"}, {})
    for protocol, value in (("linear", 0.4), ("finetune", 0.6)):
        made_up_evaluation(run, protocol, "something_something_v2", {f"{protocol}/top1": value})
    rows = {row["Models"]: row for row in rows_of("corp_table_5", tmp_path)}
    assert rows["CORP_m"]["Something V2 ours"] == "40.0"
    tuned = rows["CORP_m, fine-tuned (in the text, 4.3)"]
    assert (tuned["Something V2 paper"], tuned["Something V2 ours"]) == ("61.0", "60.0")
    assert tuned["Kinetics paper"] == ""


def about_of(table: PaperTable, row: Row) -> dict[str, str]:
    return dict(zip(table.about, row.about, strict=True))


@ALL
def test_what_is_printed_is_no_wider_than_the_screen_and_latex_is_sound(
    table: PaperTable, tmp_path: Path
) -> None:
    for row in (row for row in table.rows if row.match is not None):
        make_run_of(tmp_path, table, row, 0.25)
    markdown, _, latex = render_table(table, read_finished(find_runs(tmp_path)))
    assert all(len(line) <= WIDTH for line in markdown.splitlines() if line.startswith("|"))
    check_latex(latex)


def check_latex(latex: str) -> None:
    assert latex.isascii()
    bare = re.sub(r"\\[&%$#_{}]", "", latex)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    opened = re.findall(r"\\begin\{(\w+)\}", latex)
    assert sorted(opened) == sorted(re.findall(r"\\end\{(\w+)\}", latex))
    for tabular in re.findall(
        r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", bare, flags=re.DOTALL
    ):
        rows = [line for line in tabular[1].splitlines() if line.endswith(r"\\")]
        assert {line.count("&") + 1 for line in rows} == {len(tabular[0])}
    outside = re.sub(r"(?m)^%.*$", "", re.sub(r"\\label\{.*?\}", "", bare))
    assert not re.search(r"[%#_~^]", outside)


def test_latex_special_characters_are_escaped() -> None:
    assert (
        escape("a_b & 5% of {x}~\\^#$")
        == r"a\_b \& 5\% of \{x\}\textasciitilde{}\textbackslash{}\textasciicircum{}\#\$"
    )
    assert escape("1 ± 2 × 3") == r"1 $\pm$ 2 $\times$ 3"


# --- Other data, other settings, other splits -----------------------------------------------------


def test_measurements_on_other_data_are_columns_of_their_own(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, {**VIDIDI, "data.name": "motion"}, recalls(hits_of(0.4)))
    made_up_evaluation(run, "retrieval", "hmdb51", recalls(hits_of(0.3)), split=1)
    made_up_evaluation(run, "retrieval", "hmdb51", recalls(hits_of(0.1)), split=2)
    rows = rows_of("vididi_table_1", tmp_path)
    row = row_named(rows, "ViDiDi-VIC", Pretrained="UCF101")
    assert (row["UCF101 R@1 ours"], row["HMDB51 R@1 ours"]) == ("no runs", "30.0")
    assert (row["R@1 motion"], row["R@1 hmdb51 split 2"]) == ("40.0", "10.0")
    markdown = printed("vididi_table_1", tmp_path)
    assert "Ours: motion data, r3d_18" in markdown
    assert {row["R@1 motion"] for row in rows if row["Method"] != "ViDiDi-VIC"} == {"no runs"}


def test_another_split_than_the_column_s_is_not_in_it(tmp_path: Path) -> None:
    made_up_run(tmp_path, {**OURS, "data.split": 2}, recalls(hits_of(0.4)))
    row = row_named(rows_of("vididi_table_6", tmp_path), "ViDiDi-VIC")
    assert row["R@1 ucf101 split 2"] == "40.0"
    assert "R@1 ours" not in row


def test_another_way_to_evaluate_is_a_column_of_its_own_and_is_described(tmp_path: Path) -> None:
    for seed in (0, 1):
        run = made_up_run(tmp_path, K400_CVRL, {}, seed)
        made_up_evaluation(
            run,
            "linear",
            "kinetics400",
            {"linear/top1": 0.6},
            settings={"epochs": 100, "seed": seed},
        )
    made_up_evaluation(run, "linear", "kinetics400", {"linear/top1": 0.2}, settings={"epochs": 5})
    row = row_named(rows_of("cvrl_table_6", tmp_path), "A (not in the paper)")
    assert (row["K400 top-1 ours"], row["linear top1 kinetics400 (2)"]) == ("60.0 ± 0.0", "20.0")
    assert "linear kinetics400 (2): with epochs 5." in printed("cvrl_table_6", tmp_path)


def test_the_same_settings_on_other_videos_are_another_way(tmp_path: Path) -> None:
    for seed, checksum in enumerate(("a", "a", "b")):
        run = made_up_run(tmp_path, K400_CVRL, {}, seed)
        made_up_evaluation(
            run,
            "linear",
            "kinetics400",
            {"linear/top1": 0.3 if checksum == "a" else 0.9},
            checksum=checksum,
        )
    row = row_named(rows_of("cvrl_table_6", tmp_path), "A (not in the paper)")
    assert (row["K400 top-1 ours"], row["linear top1 kinetics400 (2)"]) == ("30.0 ± 0.0", "90.0")
    assert "linear kinetics400 (2): with other videos." in printed("cvrl_table_6", tmp_path)


def test_a_run_and_a_later_evaluation_in_the_same_way_share_a_column(tmp_path: Path) -> None:
    made_up_run(
        tmp_path, {**OURS, "evaluation.clips": 10}, recalls(hits_of(0.4)), checksum="test videos 1"
    )
    k400 = made_up_run(tmp_path, {**OURS, "data.name": "kinetics400"}, {}, checksum="k400")
    made_up_evaluation(
        k400,
        "retrieval",
        "ucf101",
        recalls(hits_of(0.5)),
        split=1,
        settings={"clips": 10, "frames": 16, "batch_size": 4},
    )
    rows = rows_of("vididi_table_1", tmp_path)
    assert [
        row_named(rows, "ViDiDi-VIC", Pretrained=name)["UCF101 R@1 ours"]
        for name in ("UCF101", "K400")
    ] == ["40.0", "50.0"]
    assert {row["protocol"] for row in rows} == {rows[0]["protocol"]}


def test_two_preparations_of_the_pretraining_data_are_two_protocols(tmp_path: Path) -> None:
    for checksum in ("one", "two"):
        made_up_run(tmp_path, OURS, recalls(hits_of(0.4)), checksum=checksum)
    assert len({row["protocol"] for row in rows_of("vididi_table_1", tmp_path)}) == 2


def test_a_mean_over_splits_says_how_many_there_are(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, K400_CVRL, {})
    for split, value in ((1, 0.5), (2, 0.6)):
        made_up_evaluation(run, "linear", "ucf101", {"linear/top1": value}, split)
    rows = [
        row
        for row in rows_of("cvrl_table_10", tmp_path)
        if row["Dataset (duration)"] == "K400 (28d)"
    ]
    assert row_named(rows, "CVRL (3 splits)")["UCF101 top-1 ours"] == "55.0 (2 of 3 splits)"
    assert row_named(rows, "CVRL (split-1)")["UCF101 top-1 ours"] == "50.0"
    made_up_evaluation(run, "linear", "ucf101", {"linear/top1": 0.7}, 3)
    rows = [
        row
        for row in rows_of("cvrl_table_10", tmp_path)
        if row["Dataset (duration)"] == "K400 (28d)"
    ]
    assert row_named(rows, "CVRL (3 splits)")["UCF101 top-1 ours"] == "60.0"


def test_a_mean_over_splits_and_seeds_counts_the_splits_that_all_seeds_have(tmp_path: Path) -> None:
    for seed, splits in ((0, (1, 2, 3)), (1, (1, 2))):
        run = made_up_run(tmp_path, K400_CVRL, {}, seed)
        for split in splits:
            made_up_evaluation(run, "linear", "ucf101", {"linear/top1": 0.1 * split}, split)
    row = row_named(
        rows_of("cvrl_table_10", tmp_path),
        "CVRL (3 splits)",
        **{"Dataset (duration)": "K400 (28d)"},
    )
    assert row["UCF101 top-1 ours"] == "15.0 ± 0.0 (2 of 3 splits)"


def test_a_column_counts_the_runs_it_is_for(tmp_path: Path) -> None:
    """CORP's Table 5: Something V2's number is of a network pretrained there, not of a transfer."""
    corp = {"objective.name": "corp_m", "backbone.name": "r3d_50", "schedule.order": 0}
    run = made_up_run(tmp_path, {**corp, "data.name": "kinetics400"}, {})
    for data in ("kinetics400", "something_something_v2"):
        made_up_evaluation(run, "linear", data, {"linear/top1": 0.5})
    row = row_named(rows_of("corp_table_5", tmp_path), "CORP_m")
    assert (row["Kinetics ours"], row["Something V2 ours"]) == ("50.0", "no runs")


def test_runs_of_one_row_that_differ_are_parted_and_the_paper_s_comes_first(tmp_path: Path) -> None:
    for seed in (0, 1):
        made_up_run(tmp_path, {**OURS, "objective.hidden": 64}, recalls(hits_of(0.2)), seed)
    made_up_run(tmp_path, {**OURS, "training.batch_size": 32}, recalls(hits_of(0.3)))
    rows = rows_of("vididi_table_1", tmp_path)
    row = row_named(rows, "ViDiDi-VIC", Pretrained="UCF101")
    assert (row["UCF101 R@1 ours"], row_named(rows, "ViDiDi-VIC (2)")["UCF101 R@1 ours"]) == (
        "20.0 ± 0.0",
        "30.0",
    )
    assert (
        "ViDiDi-VIC (2); with no objective.hidden instead of 64, training.batch_size 32 instead"
        " of 64." in printed("vididi_table_1", tmp_path)
    )


def test_what_is_not_the_paper_s_is_said(tmp_path: Path) -> None:
    made_up_run(
        tmp_path, {**OURS, "training.epochs": 24, "evaluation.clips": 2}, recalls(hits_of(0.2))
    )
    said = printed("vididi_table_6", tmp_path)
    assert re.search(
        r"Not as in the paper: training.epochs 24 instead of 400, .*evaluation.clips 2 instead"
        r" of 10",
        said,
    )


def test_a_run_may_be_several_rows(tmp_path: Path) -> None:
    table = load_paper_table("corp_table_6")
    make_run_of(tmp_path, table, table.rows[-1], 0.4)
    found = [
        row["Part"]
        for row in rows_of("corp_table_6", tmp_path)
        if row["Something V2 ours"] == "40.0"
    ]
    assert found == ["(a) task", "(b) # clips", "(c) attention", "(d) # layers", "(e) epoch 200"]


def test_untrained_encoders_of_evaluations_are_measured_too(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, K400_CVRL, {})
    made_up_evaluation(
        run, "linear", "kinetics400", {"linear/top1": 0.6}, untrained={"linear/top1": 0.1}
    )
    assert (
        row_named(rows_of("cvrl_table_6", tmp_path), "untrained encoder")["K400 top-1 ours"]
        == "10.0"
    )


def test_untrained_encoders_of_two_backbones_are_two_rows(tmp_path: Path) -> None:
    for backbone in ("mc3_18", "s3d"):
        made_up_run(tmp_path, {**OURS, "backbone.name": backbone}, {"untrained/retrieval/R@1": 0.1})
    assert [row["Method"] for row in rows_of("vididi_table_2", tmp_path)][-2:] == [
        "untrained mc3_18",
        "untrained s3d",
    ]


def test_an_evaluation_of_another_version_is_an_error(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, K400_CVRL, {})
    folder = made_up_evaluation(run, "linear", "kinetics400", {"linear/top1": 0.6})
    (folder / "result.json").write_text(json.dumps({"version": 2}))
    with pytest.raises(DataError, match=r"linear-0: result\.json has version 2"):
        read_run(run)


def test_an_unfinished_evaluation_is_left_out(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, K400_CVRL, {})
    (run / "evaluations" / "linear").mkdir(parents=True)
    assert [m.name for m in read_run(run).measurements] == [""]


# --- Baselines ------------------------------------------------------------------------------------


PRETRAINED = {
    **K400_CVRL,
    "backbone.width": 1,
    "training.epochs": 800,
    "training.batch_size": 1024,
    "training.warmup_epochs": 5,
    "clip.frames": 16,
    "clip.stride": 2,
    "clip.size": 224,
    "optimiser.name": "sgd",
    "optimiser.lr": 0.32,
}
# No step was taken with this optimiser.
RAND = {
    **K400_CVRL,
    "training.epochs": 0,
    "clip.size": 224,
    "backbone.width": 1,
    "evaluation.protocols": [],
    "optimiser.name": "adamw",
}


def elsewhere(name: str, seed: int = 0, **others: object) -> dict[str, object]:
    """An encoder from elsewhere, from a file that this seed's cell alone begins from."""
    file = {
        "backbone.weights": f"/files/{name}-{seed}.pth",
        "backbone.weights_sha256": f"{name} {seed}",
        "backbone.weights_from": name,
    }
    return {**RAND, **file, **others}


def test_baselines_stand_beside_the_paper_s_rows_and_are_no_other_protocol(tmp_path: Path) -> None:
    options = {
        "backbone.weights_key": "model",
        "backbone.weights_prefix": "encoder_q.",
        "backbone.weights_inflate": True,
    }
    found = {
        "Rand.": RAND,
        "ImageNet infla.": elsewhere("imagenet"),
        "SimCLR infla.": elsewhere("simclr_kinetics400", **options),
    }
    found |= {"CVRL": PRETRAINED, "Sup.": elsewhere("supervised")}
    for place, values in enumerate(found.values()):
        made_up_evaluation(
            made_up_run(tmp_path, values, {}),
            "detection",
            "ava",
            {"detection/mAP": 0.1 + 0.01 * place},
        )
    rows = rows_of("cvrl_table_5", tmp_path)
    assert {row["Method"]: row["AVA mAP ours"] for row in rows} == {
        name: f"{10 + place}.0" for place, name in enumerate(found)
    }
    assert [row["AVA mAP gain ours"] for row in rows] == ["+0.0", "+1.0", "+2.0", "+3.0", "+4.0"]
    said = printed("cvrl_table_5", tmp_path)
    assert "Ours: kinetics400 data, r3d_50, sgd, 800 epochs" in said
    assert "Not as in the paper" not in said


def test_a_baseline_stands_beside_every_pretraining_that_is_evaluated_as_it_is(
    tmp_path: Path,
) -> None:
    made_up_run(tmp_path, PRETRAINED, {})
    made_up_run(tmp_path, {**PRETRAINED, "training.epochs": 100}, {})
    made_up_run(tmp_path, {**PRETRAINED, "clip.size": 112}, {})
    made_up_evaluation(made_up_run(tmp_path, RAND, {}), "detection", "ava", {"detection/mAP": 0.07})
    assert [
        row["AVA mAP ours"] for row in rows_of("cvrl_table_5", tmp_path) if row["Method"] == "Rand."
    ] == ["7.0", "7.0", "no runs"]
    assert "training.epochs 100 instead of 800." in printed("cvrl_table_5", tmp_path)


def test_baselines_alone_make_a_table(tmp_path: Path) -> None:
    for values in (RAND, elsewhere("imagenet")):
        made_up_evaluation(
            made_up_run(tmp_path, values, {}), "detection", "ava", {"detection/mAP": 0.07}
        )
    rows = rows_of("cvrl_table_5", tmp_path)
    assert [row["Method"] for row in rows if row["AVA mAP ours"] == "7.0"] == [
        "Rand.",
        "ImageNet infla.",
    ]
    said = printed("cvrl_table_5", tmp_path)
    assert "Ours: kinetics400 data, r3d_50, not pretrained, " in said
    assert "Not as in the paper" not in said


def test_seeds_that_began_from_files_of_their_own_share_a_row(tmp_path: Path) -> None:
    for seed in (0, 1):
        run = made_up_run(tmp_path, elsewhere("supervised", seed), {}, seed)
        made_up_evaluation(run, "detection", "ava", {"detection/mAP": 0.1 + 0.1 * seed})
    assert row_named(rows_of("cvrl_table_5", tmp_path), "Sup.")["seeds"] == "0 1"
    made_up_run(tmp_path, elsewhere("supervised", 2), {}, 1)
    assert [
        row["Method"]
        for row in rows_of("cvrl_table_5", tmp_path)
        if row["Method"].startswith("Sup.")
    ] == [
        "Sup.",
        "Sup. (2)",
        "Sup. (3)",
    ]


def test_what_a_pretraining_began_from_is_said(tmp_path: Path) -> None:
    """A run that goes on from other weights is not the paper's row, and no baseline either."""
    began = {"backbone.weights": "/files/imagenet.pth", "backbone.weights_from": "imagenet"}
    made_up_evaluation(
        made_up_run(tmp_path, {**PRETRAINED, **began}, {}),
        "detection",
        "ava",
        {"detection/mAP": 0.2},
    )
    rows = rows_of("cvrl_table_5", tmp_path)
    assert [row["Method"] for row in rows if row["AVA mAP ours"] == "20.0"] == [
        "A (not in the paper)"
    ]


def test_a_row_of_another_metric_stands_in_the_column(tmp_path: Path) -> None:
    """CVRL's Table 2 is linear evaluation, but for the supervised network, all of which is
    trained.
    """
    for seed in (0, 1):
        for values, metrics in ((PRETRAINED, {"linear/top1": 0.6}), (RAND, {"linear/top1": 0.05})):
            made_up_evaluation(
                run := made_up_run(tmp_path, values, {}, seed), "linear", "kinetics400", metrics
            )
        kept = {"epochs": 200, "keep_encoder": seed == 1}  # which is no other way to evaluate
        made_up_evaluation(run, "finetune", "kinetics400", {"finetune/top1": 0.7}, settings=kept)
    rows = rows_of("cvrl_table_2", tmp_path)
    assert {
        row["Method"]: row["K400 top-1 ours"] for row in rows if row["K400 top-1 ours"] != "no runs"
    } == {
        "CVRL": "60.0 ± 0.0",
        "Supervised (K400)": "70.0 ± 0.0",
    }


def test_a_row_of_another_metric_on_other_data(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, {**RAND, "data.name": "motion"}, {})
    made_up_evaluation(run, "finetune", "motion", {"finetune/top1": 0.7})
    rows = rows_of("cvrl_table_2", tmp_path)
    assert {
        row["Method"]: row["linear top1 motion"]
        for row in rows
        if row["linear top1 motion"] != "no runs"
    } == {"Supervised (K400)": "70.0"}


def test_one_network_is_two_rows_of_corp_s_table_5(tmp_path: Path) -> None:
    values = elsewhere(
        "imagenet", **{"backbone.name": "i3d_50", "data.name": "something_something_v2"}
    )
    run = made_up_run(tmp_path, values, {})
    for metric, value in (("linear", 0.1), ("finetune", 0.6)):
        made_up_evaluation(run, metric, "something_something_v2", {f"{metric}/top1": value})
    rows = rows_of("corp_table_5", tmp_path)
    names = ("I3D", "ImageNet (I3D of the text)", "ImageNet")
    assert [row_named(rows, name)["Something V2 ours"] for name in names] == [
        "60.0",
        "10.0",
        "no runs",
    ]


def test_runs_from_before_backbones_took_weights_stand_with_later_ones(tmp_path: Path) -> None:
    for seed, values in enumerate(
        (PRETRAINED, {**PRETRAINED, "backbone.weights": None, "backbone.weights_from": None})
    ):
        made_up_evaluation(
            made_up_run(tmp_path, values, {}, seed), "detection", "ava", {"detection/mAP": 0.1}
        )
    assert row_named(rows_of("cvrl_table_5", tmp_path), "CVRL")["seeds"] == "0 1"


# --- How sure it is -------------------------------------------------------------------------------


def two_arms(
    root: Path, base: float, ours: float, seeds: tuple[int, ...] = (0,), queries: int = 200
) -> dict[str, str]:
    """ViDiDi-VIC's row of Table 6 beside a baseline, both with query files."""
    for seed in seeds:
        for values, rate in ((BASE, base), (OURS, ours)):
            hits = hits_of(rate + 0.01 * seed, queries)
            made_up_run(root, values, recalls(hits), seed, first_hits=hits)
    return row_named(rows_of("vididi_table_6", root), "ViDiDi-VIC")


def test_intervals_are_of_queries_and_a_gain_of_one_seed_says_so(tmp_path: Path) -> None:
    row = two_arms(tmp_path, 0.3, 0.5)
    low, high = (float(end) for end in row["R@1 95%"].split(" to "))
    assert low == pytest.approx(50 - 6.9, abs=1)
    assert high == pytest.approx(50 + 6.9, abs=1)
    assert row["R@1 gain ours"] == "+20.0"
    assert re.fullmatch(r"\+1\d\.\d to \+2\d\.\d", row["R@1 gain 95%"])
    assert row["beyond noise"] == "yes, of one seed"


def test_a_gain_over_seeds_is_beyond_noise_or_is_not(tmp_path: Path) -> None:
    assert two_arms(tmp_path / "clear", 0.3, 0.5, (0, 1, 2))["beyond noise"] == "yes"
    row = two_arms(tmp_path / "none", 0.3, 0.3, (0, 1))
    assert (row["R@1 gain ours"], row["beyond noise"]) == ("+0.0", "no")


def test_the_baseline_has_no_interval_of_its_gain(tmp_path: Path) -> None:
    two_arms(tmp_path, 0.3, 0.5)
    row = row_named(rows_of("vididi_table_6", tmp_path), "Base (VICReg)")
    assert (row["R@1 gain ours"], row["R@1 gain 95%"], row["beyond noise"]) == ("+0.0", "", "")


def test_without_queries_seeds_alone_make_an_interval_from_three_on(tmp_path: Path) -> None:
    for seed, value in enumerate((0.1, 0.2, 0.3)):
        made_up_run(tmp_path, BASE, {"silhouette/3": value}, seed)
        row = row_named(rows_of("vididi_table_7", tmp_path), "VICReg")
        assert (row["3 classes 95%"] != "") == (seed == 2)


def test_queries_that_do_not_make_the_metric_make_no_interval(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, OURS, recalls(hits_of(0.5)), first_hits=hits_of(0.4))
    assert row_named(rows_of("vididi_table_6", tmp_path), "ViDiDi-VIC")["R@1 95%"] == ""
    write_queries(run, "first_hit", hits_of(0.5, 100))
    assert row_named(rows_of("vididi_table_6", tmp_path), "ViDiDi-VIC")["R@1 95%"] != ""


def test_an_evaluation_s_queries_tell_of_top_1(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, {**OURS, "data.name": "kinetics400"}, {})
    right = [True] * 60 + [False] * 40
    made_up_evaluation(run, "finetune", "ucf101", {"finetune/top1": 0.6}, 1, correct=right)
    row = row_named(rows_of("vididi_table_4", tmp_path), "ViDiDi-VIC", Pretrained="K400")
    assert re.fullmatch(r"5\d\.\d to [67]\d\.\d", row["UCF101 top-1 95%"])


def test_other_queries_than_the_baseline_s_make_no_interval_of_a_gain(tmp_path: Path) -> None:
    made_up_run(tmp_path, BASE, recalls(hits_of(0.3)), first_hits=hits_of(0.3))
    made_up_run(tmp_path, OURS, recalls(hits_of(0.5, 100)), first_hits=hits_of(0.5, 100))
    row = row_named(rows_of("vididi_table_6", tmp_path), "ViDiDi-VIC")
    assert (row["R@1 gain ours"], row["R@1 gain 95%"]) == ("+20.0", "")


def test_a_row_s_gain_is_over_its_own_baseline(tmp_path: Path) -> None:
    for name, rate in (("simclr", 0.1), ("byol", 0.2)):
        made_up_run(tmp_path, {**BASE, "objective.name": name}, recalls(hits_of(rate)))
        made_up_run(tmp_path, {**OURS, "objective.name": name}, recalls(hits_of(0.5)))
    rows = rows_of("vididi_table_1", tmp_path)
    assert [
        row_named(rows, f"ViDiDi-{name}")["UCF101 R@1 gain ours"] for name in ("SimCLR", "BYOL")
    ] == ["+40.0", "+30.0"]
    assert [
        row_named(rows, f"ViDiDi-{name}")["UCF101 R@1 gain paper"] for name in ("SimCLR", "BYOL")
    ] == ["+8.7", "+11.5"]


# --- Results without a table, and the doors -------------------------------------------------------


def test_a_column_may_be_one_class_of_an_evaluation(tmp_path: Path) -> None:
    run = made_up_run(
        tmp_path,
        {
            "data.name": "something_something_v2",
            "objective.name": "corp_f",
            "backbone.name": "r3d_50",
            "schedule.order": 0,
        },
        {},
    )
    each = {"Moving something up": 0.625, "Moving something up and down": 0.5}
    made_up_evaluation(
        run, "linear", "something_something_v2", {"linear/top1": 0.25}, per_class=each
    )
    row = row_named(rows_of("corp_table_7", tmp_path), "CORP_f")
    assert row["Move something up ours"] == "62.5"
    assert row["Move something down ours"] == "no runs"
    assert read_run(run).measurements[1].value("linear/top1") == 0.25


def test_a_table_is_the_same_text_in_each_process(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "runs", BASE, {"silhouette/all": 0.5})
    made_up_evaluation(
        run, "retrieval", "ucf101", {"features/spread": 0.5, "retrieval/R@1": 0.25}, split=1
    )
    command = [
        sys.executable,
        str(REPO / "analysis" / "paper_table.py"),
        "vididi_table_6",
        str(tmp_path / "runs"),
        "--out",
        str(tmp_path),
    ]
    printed = [
        subprocess.run(
            command,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "12345"
    ]
    assert len(set(printed)) == 1


def test_results_hold_later_evaluations(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, OURS, recalls(hits_of(0.4)), label="Mine", first_hits=hits_of(0.4))
    made_up_evaluation(run, "linear", "hmdb51", {"linear/top1": 0.25}, 1)
    made_up_evaluation(
        run, "detection", "ava", {"detection/best_mAP": 0.5, "detection/best_epoch": 2}
    )
    write_results(find_runs(tmp_path), tmp_path)
    (row,) = csv.DictReader((tmp_path / "results.csv").open(newline=""))
    assert (row["Arm"], row["R@1"], row["linear top1 hmdb51 split 1"]) == ("Mine", "40.0", "25.0")
    assert re.fullmatch(r"3\d\.\d to 4\d\.\d", row["R@1 95%"])
    assert (row["detection best_mAP ava"], row["detection best_epoch ava"]) == (
        "50.0",
        "2",
    ), "an epoch is no share"


def test_the_point_of_an_arm_is_its_axes_and_what_sets_it_apart(tmp_path: Path) -> None:
    axes = [{}, {}, {"schedule.reverse": True, "clip.per_video": None}]
    for number, (batch, point) in enumerate(zip((64, 32, 64), axes, strict=True)):
        run = made_up_run(
            tmp_path,
            {**OURS, "training.batch_size": batch},
            {"retrieval/R@1": 0.5},
            seed=number,
            label="A",
        )
        (run / "cell.json").write_text(
            json.dumps({"sweep": "s", "arm": "a", "label": "A", "axes": point, "seed": number})
        )
    write_results(find_runs(tmp_path), tmp_path)
    points = [row["Point"] for row in csv.DictReader((tmp_path / "results.csv").open(newline=""))]
    assert points == [
        "",
        "with training.batch_size 32 instead of 64",
        "schedule.reverse=true clip.per_video=null",
    ]


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ({"a": 1}, {"a": 2}, "a 1 instead of 2"),
        ({"a": True}, {"a": None}, "a true"),
        ({}, {"a": "x"}, "no a instead of x"),
        ({"a": [0.5, 1]}, {"a": False, "b": 1}, "a [0.5, 1] instead of false, no b instead of 1"),
        ({"a": 1}, {"a": 1}, ""),
    ],
)
def test_differences_are_told_in_the_words_of_a_file(
    ours: dict[str, Any], theirs: dict[str, Any], said: str
) -> None:
    assert (
        differences(json.dumps([theirs, "videos", True]), json.dumps([ours, "videos", True]))
        == said
    )


def door(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A script of analysis/ in a process of its own in which torch, Ray and SciPy cannot be
    imported.
    """
    path = str(REPO / "analysis" / name)
    code = (
        "import runpy, sys\n"
        "for blocked in ('torch', 'ray', 'scipy'): sys.modules[blocked] = None\n"
        f"sys.argv = [{path!r}, *{list(arguments)!r}]\n"
        f"runpy.run_path({path!r}, run_name='__main__')\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_the_door_lists_all_tables(tmp_path: Path) -> None:
    done = door("paper_table.py", "--list", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split(maxsplit=1) for line in done.stdout.splitlines()] == [
        [table.name, table.title] for table in TABLES
    ]


@pytest.mark.parametrize(
    ("script", "name"),
    [("paper_table.py", "vididi_table_7"), ("silhouette_table.py", ""), ("ablation_table.py", "")],
)
def test_the_doors_print_and_write(script: str, name: str, tmp_path: Path) -> None:
    hits = hits_of(0.4)
    made_up_run(tmp_path / "runs", OURS, {**recalls(hits), "silhouette/3": 0.5}, first_hits=hits)
    done = door(script, *[name][: bool(name)], "runs", "--out", "tables", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    written = "vididi_table_6" if script == "ablation_table.py" else "vididi_table_7"
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {
        f"{written}.md",
        f"{written}.csv",
        f"{written}.tex",
    }
    assert (tmp_path / "tables" / f"{written}.md").read_text() == done.stdout


def test_the_door_of_an_unknown_table_names_those_there_are(tmp_path: Path) -> None:
    done = door("paper_table.py", "vididi_table_8", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: table: 'vididi_table_8' is not valid; it is one of corp_table_1,"
    )


def test_the_door_asks_for_what_it_needs(tmp_path: Path) -> None:
    done = door("paper_table.py", "vididi_table_7", cwd=tmp_path)
    assert done.returncode == 2
    assert "NAME and RUNS are needed" in done.stderr


def test_a_column_prints_negative_and_missing_numbers() -> None:
    column = Column("x", "silhouette/3", 1, 3)
    assert (column.number(-0.026), column.number(None), column.scaled(0.5, "+")) == (
        "-0.026",
        "",
        "+0.500",
    )


def test_nothing_is_written_where_the_runs_cannot_be_read(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, OURS, {})
    (run / "result.json").write_text(json.dumps({"version": 2}))
    done = door("paper_table.py", "vididi_table_1", str(tmp_path), "--out", "tables", cwd=tmp_path)
    assert done.returncode == 2
    assert not (tmp_path / "tables").exists()
