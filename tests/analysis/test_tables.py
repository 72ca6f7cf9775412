"""The paper's table beside ours, from run folders alone."""

from __future__ import annotations

import csv
import io
import itertools
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_up_runs import UCF101, made_up_run, read_csv

from vididi.analysis.formats import csv_text
from vididi.analysis.paper import load_paper_table
from vididi.analysis.reading import find_runs, flatten, read_finished, read_run
from vididi.analysis.tables import render_table, write_tables
from vididi.config import build_config
from vididi.errors import ConfigError, DataError
from vididi.pairing import SCHEDULES

REPO = Path(__file__).resolve().parents[2]
TABLE = load_paper_table("vididi_table_6")

# ViDiDi, Table 6, read from the paper again: label, arm, R@1, R@5, R@10.
PAPER = [
    ("Base (VICReg)", "base", 31.1, 43.6, 50.9),
    ("+Random 1st", "random_1", 35.2, 47.7, 56.1),
    ("+Random 1st & 2nd", "random_12", 36.2, 48.6, 55.8),
    ("Reverse ViDiDi-VIC", "reverse", 39.1, 54.7, 62.9),
    ("+Schedule 1st", "schedule_1", 37.1, 50.3, 58.2),
    ("+Schedule 1st & Mix", "schedule_1_mix", 39.3, 53.2, 60.9),
    ("+Schedule 1st & 2nd", "schedule_12", 40.7, 56.5, 64.0),
    ("+Schedule 1st & 2nd & Mix", "schedule_12_mix", 43.0, 59.2, 66.6),
    ("ViDiDi-VIC", "vididi", 47.6, 60.9, 68.6),
]


def schedule_values(arm: str) -> dict[str, Any]:
    s = SCHEDULES[arm]
    return {"order": s.order, "mix": s.mix, "selection": s.selection, "reverse": s.reverse}


def write_run(
    root: Path,
    schedule: dict[str, Any],
    recall: float,
    seed: int = 0,
    label: str = "A",
    checksum: str = "data",
    **training: Any,
) -> Path:
    """A finished run folder as vididi.experiment leaves one, with R@1 = recall, R@5 and R@10 a
    little more.
    """
    values = {**UCF101, **{f"schedule.{key}": value for key, value in schedule.items()}}
    values |= {f"training.{key}": value for key, value in training.items()}
    metrics = {f"retrieval/R@{k}": recall + more for k, more in ((1, 0), (5, 0.1), (10, 0.2))}
    return made_up_run(
        root,
        values,
        {**metrics, "retrieval/scene_R@1": 0.5, "silhouette/all": -0.125},
        seed,
        label,
        checksum,
    )


def write_all_arms(root: Path, seeds: tuple[int, ...] = (0,)) -> None:
    for i, (label, arm, *_) in enumerate(PAPER):
        for seed in seeds:
            write_run(root, schedule_values(arm), 0.3 + 0.01 * i + 0.001 * seed, seed, label)


def tables_of(root: Path) -> list[list[dict[str, str]]]:
    """The CSV of all runs under ``root`` as rows by column name, a list for each protocol."""
    sheet = render_table(TABLE, read_finished(find_runs(root)))[1]
    rows = read_csv(sheet)
    return [
        [row for row in rows if row["protocol"] == protocol]
        for protocol in dict.fromkeys(row["protocol"] for row in rows)
    ]


def row_of(table: list[dict[str, str]], label: str) -> dict[str, str]:
    (row,) = (row for row in table if row["Method"] == label)
    return row


# --- The paper's side -----------------------------------------------------------------------------


def test_the_stored_table_is_the_paper_s_to_the_digit() -> None:
    assert [(row.label, *row.values) for row in TABLE.rows] == [
        (label, *numbers) for label, _, *numbers in PAPER
    ]


def test_the_paper_s_rows_are_printed_in_order_with_its_numbers(tmp_path: Path) -> None:
    write_all_arms(tmp_path)
    (table,) = tables_of(tmp_path)
    found = [
        (row["Method"], row["R@1 paper"], row["R@5 paper"], row["R@10 paper"]) for row in table
    ]
    assert found == [
        (label, f"{r1:.1f}", f"{r5:.1f}", f"{r10:.1f}") for label, _, r1, r5, r10 in PAPER
    ]


def test_the_paper_s_gains_are_differences_to_its_baseline(tmp_path: Path) -> None:
    write_all_arms(tmp_path)
    (table,) = tables_of(tmp_path)
    assert [row["R@1 gain paper"] for row in table] == [
        "+0.0",
        "+4.1",
        "+5.1",
        "+8.0",
        "+6.0",
        "+8.2",
        "+9.6",
        "+11.9",
        "+16.5",
    ]


def test_an_unknown_table_names_those_there_are() -> None:
    with pytest.raises(
        ConfigError, match=r"table: 'vididi_table_66' is not valid; it is one of .*vididi_table_6"
    ):
        load_paper_table("vididi_table_66")


# --- Our side -------------------------------------------------------------------------------------


def test_every_arm_lands_in_its_own_row(tmp_path: Path) -> None:
    write_all_arms(tmp_path)
    (table,) = tables_of(tmp_path)
    assert [row["R@1 ours"] for row in table] == [f"{30 + i}.0" for i in range(9)]
    assert [row["R@5 ours"] for row in table] == [f"{40 + i}.0" for i in range(9)]
    assert [row["R@10 ours"] for row in table] == [f"{50 + i}.0" for i in range(9)]
    assert [row["R@1 gain ours"] for row in table] == [f"+{i}.0" for i in range(9)]
    assert {(row["silhouette all"], row["scene R@1"], row["seeds"]) for row in table} == {
        ("-0.125", "50.0", "0")
    }


def test_seeds_are_averaged_with_their_deviation(tmp_path: Path) -> None:
    values = {2: 0.30, 0: 0.34, 1: 0.35}
    for seed, recall in values.items():
        write_run(tmp_path, schedule_values("vididi"), recall, seed, "ViDiDi-VIC")
    write_run(tmp_path, {"order": 0}, 0.2, 0, "Base (VICReg)")
    (table,) = tables_of(tmp_path)
    row = row_of(table, "ViDiDi-VIC")
    mean, deviation = (
        statistics.mean(values.values()) * 100,
        statistics.stdev(values.values()) * 100,
    )
    assert row["R@1 ours"] == f"{mean:.1f} ± {deviation:.1f}" == "33.0 ± 2.6"
    assert row["seeds"] == "0 1 2"
    assert row["R@1 gain ours"] == f"+{mean - 20:.1f}"
    assert row_of(table, "Base (VICReg)")["R@1 ours"] == "20.0"


def test_rows_without_runs_say_so_and_have_no_gain(tmp_path: Path) -> None:
    write_run(tmp_path, schedule_values("vididi"), 0.4, label="ViDiDi-VIC")
    (table,) = tables_of(tmp_path)
    assert len(table) == 9
    assert {row["R@1 ours"] for row in table if row["Method"] != "ViDiDi-VIC"} == {"no runs"}
    assert {row["R@1 gain ours"] for row in table} == {""}, "there is no baseline to compare with"


def test_an_arm_that_the_paper_has_not_is_added_at_the_end(tmp_path: Path) -> None:
    write_all_arms(tmp_path)
    write_run(
        tmp_path,
        {"order": 1, "mix": "both_ways", "selection": "scheduled", "reverse": True},
        0.9,
        label="Mine",
    )
    (table,) = tables_of(tmp_path)
    assert [row["Method"] for row in table][-1] == "Mine (not in the paper)"
    assert len(table) == 10
    assert (table[-1]["R@1 paper"], table[-1]["R@1 ours"], table[-1]["R@1 gain ours"]) == (
        "",
        "90.0",
        "+60.0",
    )


def test_labels_do_not_decide_the_row_but_the_schedule_does(tmp_path: Path) -> None:
    write_run(tmp_path, schedule_values("schedule_1"), 0.4, label="ViDiDi-VIC")
    (table,) = tables_of(tmp_path)
    assert row_of(table, "+Schedule 1st")["R@1 ours"] == "40.0"
    assert row_of(table, "ViDiDi-VIC")["R@1 ours"] == "no runs"


def test_the_untrained_encoder_is_a_row_of_its_own(tmp_path: Path) -> None:
    folder = write_run(tmp_path, {"order": 0}, 0.4, label="Base (VICReg)")
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(
        json.dumps({**result, "untrained/retrieval/R@1": 0.1, "untrained/retrieval/R@5": 0.2})
    )
    (table,) = tables_of(tmp_path)
    assert (table[-1]["Method"], table[-1]["R@1 ours"], table[-1]["R@1 gain ours"]) == (
        "untrained encoder",
        "10.0",
        "-30.0",
    )


# --- Protocols ------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [{"epochs": 7}, {"batch_size": 32}], ids=str)
def test_runs_of_another_protocol_are_a_table_of_their_own(
    tmp_path: Path, other: dict[str, int]
) -> None:
    write_all_arms(tmp_path)
    write_run(tmp_path, schedule_values("vididi"), 0.99, label="ViDiDi-VIC", **other)
    first, second = tables_of(tmp_path)
    assert row_of(first, "ViDiDi-VIC")["R@1 ours"] == "38.0"
    assert row_of(second, "ViDiDi-VIC")["R@1 ours"] == "99.0"
    assert {row["R@1 ours"] for row in second if row["Method"] != "ViDiDi-VIC"} == {"no runs"}
    markdown = render_table(TABLE, read_finished(find_runs(tmp_path)))[0]
    assert "(1 of 2 protocols)" in markdown
    assert "(2 of 2 protocols)" in markdown


def test_runs_on_other_data_never_mix(tmp_path: Path) -> None:
    for checksum, recall in (("one", 0.2), ("two", 0.6)):
        write_run(tmp_path, {"order": 0}, recall, label="Base (VICReg)", checksum=checksum)
    markdown, sheet, _ = render_table(TABLE, read_finished(find_runs(tmp_path)))
    ours = [
        row["R@1 ours"]
        for row in csv.DictReader(io.StringIO(sheet))
        if row["Method"] == "Base (VICReg)"
    ]
    assert sorted(ours) == ["20.0", "60.0"]
    assert "2 protocols" in markdown


def test_where_the_same_data_lay_is_no_protocol(tmp_path: Path) -> None:
    write_run(tmp_path, {"order": 0}, 0.2, 0, "Base (VICReg)")
    folder = write_run(tmp_path, {"order": 0}, 0.4, 1, "Base (VICReg)")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(
        yaml.safe_dump({**config, "data": {**config["data"], "videos": "/elsewhere"}})
    )
    (table,) = tables_of(tmp_path)
    assert row_of(table, "Base (VICReg)")["seeds"] == "0 1"


# --- Reading and writing --------------------------------------------------------------------------


def test_unfinished_runs_are_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path, {"order": 0}, 0.2)
    (folder / "result.json").unlink()
    assert find_runs(tmp_path) == []
    assert read_finished([folder]) == []


def test_a_result_of_another_version_is_an_error(tmp_path: Path) -> None:
    folder = write_run(tmp_path, {"order": 0}, 0.2)
    (folder / "result.json").write_text(json.dumps({"version": 2}))
    with pytest.raises(
        DataError, match=r"result\.json has version 2, this program reads version 1"
    ):
        read_run(folder)


def test_flatten_agrees_with_the_configuration_s() -> None:
    from vididi.dotted_keys import flatten as of_config

    values = build_config({}).to_dict()
    assert flatten(values) == of_config(values)


def test_markdown_and_csv_are_written_and_hold_the_same(tmp_path: Path) -> None:
    write_all_arms(tmp_path / "runs", seeds=(0, 1))
    markdown = write_tables(TABLE, find_runs(tmp_path / "runs"), tmp_path / "out")
    assert (tmp_path / "out" / "vididi_table_6.md").read_text() == markdown + "\n"
    with (tmp_path / "out" / "vididi_table_6.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert {len(row) for row in rows} == {len(header)}
    for block in printed_blocks(markdown):
        places = [header.index(column) for column in block[0]]
        assert [[csv_text(row[0]), *row[1:]] for row in block[1:]] == [
            [row[i] for i in places] for row in rows
        ]
    shown = {column for block in printed_blocks(markdown) for column in block[0]}
    assert all(
        row[header.index(column)] == ""
        for column in header[1:]
        if column not in shown
        for row in rows
    )


def printed_blocks(markdown: str) -> list[list[list[str]]]:
    """The cells of each table of a Markdown text, without the rule below the header."""
    blocks: list[list[list[str]]] = []
    for before, line in itertools.pairwise(["", *markdown.splitlines()]):
        if line.startswith("|"):
            if not before.startswith("|"):
                blocks.append([])
            blocks[-1].append([cell.strip() for cell in line.strip("|").split("|")])
    return [[head, *rows] for head, _, *rows in blocks]


# --- The script -----------------------------------------------------------------------------------


def script(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """analysis/ablation_table.py in a process of its own in which torch and Ray cannot be
    imported.
    """
    path = str(REPO / "analysis" / "ablation_table.py")
    code = (
        "import runpy, sys\n"
        "sys.modules['torch'] = sys.modules['ray'] = None\n"
        f"sys.argv = [{path!r}, *{list(arguments)!r}]\n"
        f"runpy.run_path({path!r}, run_name='__main__')\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_the_script_prints_the_table_from_anywhere_without_torch_and_ray(tmp_path: Path) -> None:
    write_all_arms(tmp_path / "runs" / "ablation")
    done = script("runs/ablation", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == render_table(TABLE, read_finished(find_runs(tmp_path / "runs")))[0] + "\n"
    assert (tmp_path / "runs" / "ablation" / "vididi_table_6.csv").is_file()


def test_the_script_runs_as_it_is_called(tmp_path: Path) -> None:
    write_all_arms(tmp_path / "runs")
    command = [
        sys.executable,
        str(REPO / "analysis" / "ablation_table.py"),
        "runs",
        "--out",
        "tables",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| ViDiDi-VIC" in done.stdout
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {
        "vididi_table_6.md",
        "vididi_table_6.csv",
        "vididi_table_6.tex",
    }


def test_the_script_without_runs_ends_with_1(tmp_path: Path) -> None:
    done = script(str(tmp_path), cwd=tmp_path)
    assert done.returncode == 1
    assert "No finished runs." in done.stdout


def test_the_script_of_a_missing_folder_ends_with_2_and_says_so(tmp_path: Path) -> None:
    done = script("nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "error: nowhere: there is no such folder; give one that holds run folders, such as"
        " runs/NAME of a sweep (`vididi table --list` names the papers' tables)\n"
    )


def test_the_script_of_a_result_of_another_version_says_so_without_a_traceback(
    tmp_path: Path,
) -> None:
    folder = write_run(tmp_path, {"order": 0}, 0.2)
    (folder / "result.json").write_text(json.dumps({"version": 2}))
    done = script(str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2
    assert "has version 2" in done.stderr
    assert "Traceback" not in done.stderr
