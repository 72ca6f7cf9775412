"""Run folders with any one file damaged, and copied ones, through every program that reads them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from damaged_files import DAMAGES, FILES, contents, copy_of, damaged, whole_run
from made_up_runs import hits_of, made_up_evaluation, made_up_run, recalls

from vididi.analysis import (
    bars,
    classifier_curves,
    compare,
    curves,
    paper_table,
    training_length,
    tsne,
)
from vididi.analysis.own_table import write_results
from vididi.analysis.paper import load_paper_table
from vididi.analysis.reading import find_runs, read_all, read_finished, read_run
from vididi.analysis.tables import write_tables
from vididi.cell_status import copies, folder_states, states_table
from vididi.errors import DamagedError, DataError

BASE = {"schedule.order": 0}
VIDIDI = {"schedule.order": 2, "schedule.selection": "scheduled", "schedule.mix": "both_ways"}
TABLE = load_paper_table("vididi_table_6")
Fixture = pytest.CaptureFixture[str]

# What a run is to a program when one of its files is damaged: these do not need the others.
OF_TABLES = ("result.json", "cell.json", "config.yaml", "queries.parquet")
OF_CURVES = ("cell.json", "config.yaml", "metrics.jsonl")


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("four")
    for label, schedule, rate in (("A", VIDIDI, 0.5), ("B", BASE, 0.3)):
        for seed in (0, 1):
            whole_run(root, label, seed, schedule, rate + seed / 10)
    return root


def victim(root: Path) -> Path:
    return next(root.glob("A-s1-*"))


def without(root: Path, to: Path) -> Path:
    """The same runs without the one that is damaged."""
    copy_of(root, to)
    shutil.rmtree(victim(to))
    return to


def lines_about(text: str, path: Path) -> list[str]:
    return [line for line in text.splitlines() if f"left out: {path}: " in line]


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_run_is_left_out_by_name_and_nothing_is_changed(
    four: Path, tmp_path: Path, file: str
) -> None:
    """Where a table needs the file; status says it of any."""
    root = copy_of(four, tmp_path / "runs")
    run, all_runs = victim(root), find_runs(root)
    for damage in DAMAGES:
        with damaged(run, file, damage) as path:
            before, found = contents(root), read_all(find_runs(root))
            left = [folder for folder in all_runs if folder != run or file not in OF_TABLES]
            assert [one.folder for one in found.runs] == left, damage
            assert (
                len(lines_about("\n".join(found.left_out), path))
                == len(found.left_out)
                == int(file in OF_TABLES)
            ), damage
            (state,) = [state for state in folder_states(root) if state.name == "damaged"]
            assert f"{file}: " in state.note, damage
            assert "damaged" in states_table([state])
            assert contents(root) == before, damage
    assert all(state.name == "finished" for state in folder_states(root))


@pytest.mark.parametrize("file", OF_TABLES)
def test_tables_and_compare_are_those_of_the_other_runs(
    four: Path, tmp_path: Path, capsys: Fixture, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:

    def made(root: Path) -> tuple[list[str], str]:
        folders = find_runs(root)
        tables = (
            write_results(folders, tmp_path / "out"),
            write_tables(TABLE, folders, tmp_path / "out"),
        )
        assert compare.main(["A", "B", "--runs", str(root)]) == 0
        said = capsys.readouterr()
        return [*tables, said.out], said.err

    root = copy_of(four, tmp_path / "runs")
    expected, _ = made(without(four, tmp_path / "right"))
    with damaged(victim(root), file, Random(file).choice(list(DAMAGES))) as path:
        found, said = made(root)
    assert len(lines_about(said, path)) == 1
    assert [len(lines_about(text, path)) for text in found] == [1, 1, 0]
    assert [text.partition("\n\n- left out")[0] for text in found] == expected


PROGRAMS: dict[str, tuple[Callable[[list[str]], int], list[str]]] = {
    "bars": (bars.main, ["--metric", "retrieval/R@1"]),
    "classifier_curves": (classifier_curves.main, []),
    "curves": (curves.main, []),
    "training_length": (training_length.main, ["--metric", "silhouette/all"]),
    "tsne": (tsne.main, ["--classes", "2"]),
    "paper_table": (lambda argv: paper_table.main(["vididi_table_6", *argv]), []),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_picture_leaves_a_damaged_run_out(
    four: Path, tmp_path: Path, capsys: Fixture, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """One kind of damage of each file, another one for each program."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda *_, **__: None)
    main, more = PROGRAMS[program]
    monkeypatch.setattr("vididi.analysis.tsne.tsne", lambda features, seed: features[:, :2])
    draws, root = Random(program), copy_of(four, tmp_path / "runs")
    for file in (
        *FILES,
        "evaluations/linear-0/result.json",
        "evaluations/retrieval-1/queries.parquet",
        "evaluations/retrieval-1/features.parquet",
    ):
        needed = (
            file in OF_CURVES if program == "curves" else file in OF_TABLES or "evaluations" in file
        )
        needed = needed and (program == "tsne" or not file.endswith("features.parquet"))
        with damaged(victim(root), file, draws.choice(list(DAMAGES))) as path:
            before = contents(root)
            assert main([str(root), "--out", str(tmp_path / "x.png"), *more]) == 0, (
                file,
                capsys.readouterr().err,
            )
            said = capsys.readouterr()
            assert len(lines_about(said.err + said.out, path)) == int(needed), file
            assert contents(root) == before


def test_a_damaged_evaluation_is_left_out_and_the_run_stays(four: Path, tmp_path: Path) -> None:
    root = copy_of(four, tmp_path / "runs")
    with damaged(victim(root), "evaluations/linear-0/result.json", "NULs") as path:
        run = read_run(victim(root))
        assert [m.name for m in run.measurements] == ["", "retrieval-1"]
        (line,) = run.left_out
        assert line.startswith(f"left out: {path}: ")
        (state,) = [state for state in folder_states(root) if state.note.count("linear-0")]
        assert (state.name, "evaluations/linear-0/result.json: " in state.note) == (
            "finished",
            True,
        )


@pytest.mark.parametrize("file", ["config.yaml", "cell.json"])
def test_a_finished_run_that_lacks_a_file_is_named(four: Path, tmp_path: Path, file: str) -> None:
    root = copy_of(four, tmp_path / "runs")
    (victim(root) / file).unlink()
    found = read_all(find_runs(root))
    assert len(found.runs) == 3
    assert found.left_out == [f"left out: {victim(root) / file}: is missing"]


def test_storage_that_is_away_and_newer_files_are_errors(
    four: Path, tmp_path: Path, capsys: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy_of(four, tmp_path / "runs")
    (victim(root) / "result.json").write_text('{"version": 99}')
    with pytest.raises(DataError, match=r"result\.json has version 99"):
        read_all(find_runs(root))
    assert paper_table.main(["vididi_table_6", str(root)]) == 2
    assert f"error: {victim(root)}: result.json has version 99" in capsys.readouterr().err

    def away(path: Path, *_: object, **__: object) -> object:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(Path, "open", away)
    with pytest.raises(DataError, match=r"cannot be read: Input/output error$") as raised:
        read_all([victim(root)])
    assert not isinstance(raised.value, DamagedError)


# --- Copies ---------------------------------------------------------------------------------------


def test_a_copied_run_is_no_other_seed(four: Path, tmp_path: Path, capsys: Fixture) -> None:
    root = copy_of(four, tmp_path / "runs")
    expected = (
        write_results(find_runs(root), tmp_path / "out"),
        write_tables(TABLE, find_runs(root), tmp_path / "out"),
    )
    assert compare.main(["A", "B", "--runs", str(root)]) == 0
    told = capsys.readouterr().out
    original = victim(root)
    for name in (
        f"{original.name}.bak",
        f"0-copy-of-{original.name}",
        "zz",
    ):  # the second ends in the identity too
        shutil.copytree(original, root / name)
        os.utime(root / name / "result.json", (1, 1))
    found = read_all(find_runs(root))
    assert [run.folder for run in found.runs] == sorted(
        path for path in root.glob("[AB]-s*-*") if not path.name.endswith(".bak")
    )
    lines = [
        f"left out: {root / name}: the same as {original}"
        for name in (f"0-copy-of-{original.name}", f"{original.name}.bak", "zz")
    ]
    assert found.left_out == lines
    tables = (
        write_results(find_runs(root), tmp_path / "out"),
        write_tables(TABLE, find_runs(root), tmp_path / "out"),
    )
    assert tuple(table.partition("\n\n- left out")[0] for table in tables) == expected
    assert compare.main(["A", "B", "--runs", str(root)]) == 0
    said = capsys.readouterr()
    assert said.out == told
    assert all(line in said.err for line in lines)
    assert len(curves.read_curves(curves.find_curves(root))) in (
        4,
        5,
    )  # an unfinished run is known by its name alone, and zz has none
    assert copies(root) == [root / f"{original.name}.bak", root / "zz"]
    assert len(folder_states(root)) == 5


def test_of_copies_without_a_cell_s_name_the_newest_counts(tmp_path: Path) -> None:
    old, new = (made_up_run(tmp_path, BASE, {"retrieval/R@1": 0.5}) for _ in range(2))
    os.utime(old / "result.json", (1, 1))
    found = read_all([old, new])
    assert [run.folder for run in found.runs] == [new]
    assert found.left_out == [f"left out: {old}: the same as {new}"]


def test_a_set_and_its_copy_are_said_to_be_the_same(
    four: Path, tmp_path: Path, capsys: Fixture
) -> None:
    root = copy_of(four, tmp_path / "runs")
    copy_of(root, tmp_path / "bak")
    for place in (root, tmp_path / "bak"):
        for run in place.glob("B-*"):
            shutil.rmtree(run)
    assert compare.main([str(root), str(tmp_path / "bak"), "--runs", str(four)]) == 0
    assert (
        f"seeds 0, 1: {root} and {tmp_path / 'bak'} hold the same cell" in capsys.readouterr().out
    )


def test_two_arms_and_two_sweeps_may_hold_a_cell_which_counts_once_in_a_row(
    tmp_path: Path, capsys: Fixture
) -> None:
    hits = hits_of(0.5)
    for sweep, label in (("one", "A"), ("two", "A"), ("two", "other")):
        run = made_up_run(tmp_path, BASE, recalls(hits), 0, label, first_hits=hits)
        (run / "cell.json").write_text(
            json.dumps({**json.loads((run / "cell.json").read_text()), "sweep": sweep})
        )
    made_up_run(tmp_path, VIDIDI, recalls(hits_of(0.4)), 0, "B", first_hits=hits_of(0.4))
    assert [run.cell["sweep"] for run in read_finished(find_runs(tmp_path))] == [
        "one",
        "two",
        "two",
        "s",
    ]
    table = write_results(find_runs(tmp_path), tmp_path / "out")
    assert [
        line.split("|")[-2].strip()
        for line in table.splitlines()
        if line.startswith(("| A ", "| other "))
    ] == ["0", "0"]
    assert f"counted once: {tmp_path / 'run-0'}: the same as {tmp_path / 'run-1'}" in table.replace(
        " ", " "
    )
    assert compare.main(["A", "B", "--runs", str(tmp_path)]) == 0
    assert "paired over seeds 0" in capsys.readouterr().out


def test_a_copied_evaluation_counts_once(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, BASE, {})
    first = made_up_evaluation(run, "linear", "ucf101", {"linear/top1": 0.5})
    made_up_evaluation(run, "linear", "ucf101", {"linear/top1": 0.6}, settings={"epochs": 50})
    shutil.copytree(first, first.with_name(f"{first.name}.bak"))
    os.utime(first / "result.json", (1, 1))
    found = read_run(run)
    assert [m.name for m in found.measurements] == ["", f"{first.name}.bak", "linear-1"]
    assert found.left_out == [f"left out: {first}: the same as {first}.bak"]
    digest = "linear-ucf101-" + read_digest(first)
    shutil.copytree(first, first.with_name(digest))
    os.utime(first.with_name(digest) / "result.json", (1, 1))
    assert [m.name for m in read_run(run).measurements] == ["", "linear-1", digest]


def read_digest(folder: Path) -> str:
    from hashlib import sha256

    told = json.loads((folder / "result.json").read_text())
    return sha256(
        json.dumps([told["settings"], told["data"]["checksum"]], sort_keys=True).encode()
    ).hexdigest()[:10]


def test_a_file_that_is_gone_while_a_run_is_looked_at_stops_no_status(
    four: Path, tmp_path: Path
) -> None:
    run = next(copy_of(four, tmp_path / "runs").glob("A-s0-*"))
    (run / "result.json").unlink()
    (run / "events.out").symlink_to("nowhere")
    (state,) = (state for state in folder_states(run.parent) if state.title == "A-s0")
    assert (state.name, state.note) == ("half-done", "A; last written to 0 min ago")
