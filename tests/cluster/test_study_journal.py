"""The journal of a search, cut short at any byte or changed: whole records are kept, finished cells
come from their folders, and what is damaged otherwise is named.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from test_search_study import Place, finish, states
from tiny_sweep import BASE

from vididi.data.shards import ShardSet
from vididi.errors import DamagedError
from vididi.prepared import ensure_prepared
from vididi.search import Search
from vididi.sweep import Cell, Sweep, examples, load_sweep
from vididi.terminal import PlainConsole
from vididi.workspace import Workspace

SPACE = {"order": {"choice": [0, 1]}, "x": {"uniform": [0, 1]}}
JOURNAL = "study.journal"


def opened(runs: Path, said: list[str]) -> Any:
    from vididi.cluster.optuna_search import StoredStudy

    search = Search.model_validate({"name": "optuna", "space": SPACE, "trials": 3})
    return StoredStudy(search, runs, "study", said.append)


def made(runs: Path) -> Iterator[tuple[dict[str, Any], int, dict[str, Any]]]:
    """The finished cells, from their folders, which have their points' names."""
    for path in sorted(runs.glob("*/result.json")):
        point, _, seed = path.parent.name.rpartition(" ")
        yield json.loads(point), int(seed), json.loads(path.read_text())


@pytest.fixture
def searched(tmp_path: Path) -> Path:
    place = Place(tmp_path / "runs", trials=3, space=SPACE)
    place.run_all()
    assert states(place).count("COMPLETE") == 3
    return tmp_path / "runs"


def test_a_journal_cut_at_any_byte_of_its_last_record_is_cut_back_and_nothing_is_lost(
    searched: Path,
) -> None:
    path, whole = searched / JOURNAL, (searched / JOURNAL).read_bytes()
    expected = [(each.point, each.values) for each in opened(searched, []).best(3)]
    before, lines = whole.rfind(b"\n", 0, -1) + 1, whole.count(b"\n") - 1
    for length in range(before, len(whole)):
        path.write_bytes(whole[:length])
        said: list[str] = []
        study = opened(searched, said)
        assert path.read_bytes().startswith(whole[:before] + b"{")  # what opening it appends
        if length > before:
            count = length - before
            assert said == [
                f"{path}: its last record was cut short; it is cut back by {count}"
                f" byte{'s' * (count > 1)} to {lines} whole records"
            ]
        assert study.tell_finished(made(searched)) == 1
        assert [(each.point, each.values) for each in study.best(3)] == expected
        assert study.take_back() == 0
        assert len(study.seeded) == 3


def test_a_journal_that_lost_more_or_all_of_it_takes_finished_cells_from_their_folders(
    searched: Path,
) -> None:
    path, whole = searched / JOURNAL, (searched / JOURNAL).read_bytes()
    expected = [(each.point, each.values) for each in opened(searched, []).best(3)]
    draws = Random(0)
    for length in (0, *sorted(draws.randrange(len(whole)) for _ in range(12))):
        path.write_bytes(whole[:length])
        study = opened(searched, [])
        study.tell_finished(made(searched))
        study.take_back()
        assert [(each.point, each.values) for each in study.best(3)] == expected, length
        assert len({json.dumps(trial.params) for trial, _ in study.seeded}) == 3
    path.unlink()
    study = opened(searched, [])
    assert study.tell_finished(made(searched)) == 3
    assert study.tell_finished(made(searched)) == 0


def test_a_whole_journal_is_told_only_of_cells_whose_trial_was_left_open(searched: Path) -> None:
    finish(searched / '{"order": 0, "x": 0.25} 0', {"retrieval/R@1": 0.9})
    assert opened(searched, []).tell_finished(made(searched)) == 0


def test_any_other_damage_names_the_file_and_its_line(searched: Path) -> None:
    path, draws = searched / JOURNAL, Random(1)
    whole = path.read_bytes()
    for _ in range(60):
        changed = bytearray(whole)
        # Not the last end of a line, without which the last record is cut short.
        changed[draws.randrange(len(whole) - 1)] ^= 1 << draws.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(DamagedError, match=f"^{path}: line \\d+ .*; move the file away"):
            opened(searched, [])
        assert path.read_bytes() == bytes(changed)
    path.write_bytes(b"[]\n" + whole)
    with pytest.raises(DamagedError, match="line 1 is no record of a study"):
        opened(searched, [])


def test_a_journal_of_an_earlier_version_goes_on(searched: Path) -> None:
    path = searched / JOURNAL
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(len(record.pop("crc32")) == 8 for record in records)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    study = opened(searched, [])
    assert len(study.best(3)) == 3
    study.draw_again({"order": 0, "x": 0.5})
    assert "crc32" in json.loads(path.read_text().splitlines()[-1])
    assert len(opened(searched, []).trials) == len(study.trials)


# --- A search -------------------------------------------------------------------------------------

SWEEP = (
    "name: drawn"
    + BASE
    + """  training: {epochs: 1, batch_size: 8}
search: {name: random, trials: 2, space: {optimiser.lr: {log: [0.1, 1.0]}}}
"""
)


@pytest.fixture
def asked(tmp_path: Path) -> tuple[Sweep, Cell, ShardSet]:
    (tmp_path / "drawn.yaml").write_text(SWEEP)
    sweep = load_sweep(tmp_path / "drawn.yaml")
    (example, *_), _ = examples(sweep, 1, {})
    return sweep, example, ensure_prepared(example.config)


def test_a_search_says_that_its_journal_was_cut_back_and_draws_nothing_twice(
    asked: tuple[Sweep, Cell, ShardSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vididi.cluster.studies import run_search
    from vididi.runs.run_folder import RunFolder

    sweep, example, shards = asked
    runs, drawn = tmp_path / "runs", []

    def search_here(cells: Any, *_: Any) -> set[Path]:
        while isinstance(cells.suggest(f"trial-{len(drawn)}"), dict):
            job = cells.jobs[-1]
            folder = RunFolder(job.folder)
            folder.begin(job.cell.config.to_yaml(), {**job.record, "varied": None})
            folder.save_result({"data_checksum": "x", "steps": 1, "retrieval/R@1": 0.5})
            cells.on_trial_complete(f"trial-{len(drawn)}")
            drawn.append(job.folder)
        return set()

    monkeypatch.setattr("vididi.cluster.studies.run_drawn", search_here)

    def started() -> str:
        out = io.StringIO()
        work = Workspace(sweep, [example], shards, runs, PlainConsole(file=out, width=400))
        assert run_search(work, []).status == 0
        return out.getvalue()

    assert "0 of 2 cells drawn before" in started()
    path = runs / JOURNAL
    path.write_bytes(path.read_bytes()[:-1])
    said = started()
    assert f"{path}: its last record was cut short" in said
    assert "2 of 2 cells drawn before, 0 of them half-done, 1 finished cell taken" in said
    assert len(drawn) == 2
    shutil.move(path, tmp_path / "away")
    assert "2 of 2 cells drawn before, 0 of them half-done, 2 finished cells taken" in started()
    assert len(drawn) == 2
