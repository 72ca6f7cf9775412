"""``extend --until-resolved``: how many seeds are run, what is looked at, and what is remembered."""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from vididi.commands import looks
from vididi.commands.arguments import add_arguments
from vididi.commands.program import main
from vididi.errors import ConfigError, DamagedError
from vididi.sweep import expand, load_sweep

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "analysis"))
from made_up_runs import hits_of, made_up_run, recalls

SWEEP = """
name: made_up
base: {backbone: {name: r3d_tiny, width: 4}, clip.size: 32, training: {epochs: 1, batch_size: 8}}
arms:
  base: {label: Base, order: 0}
  same: {label: Same, order: 1}
  better: {label: Better, order: 2}
"""
RATES = {"base": 0.2, "same": 0.2, "better": 0.5}


class Runs:
    """Instead of running cells: finished runs, as many seeds as are asked for."""

    def __init__(self, root: Path, rates: dict[str, float] = RATES) -> None:
        self.root, self.rates, self.asked = root, rates, [0]
        self.folders: dict[tuple[str, int], Path] = {}

    def folder(self, arm: str, seed: int) -> Path:
        if (arm, seed) not in self.folders:
            noise = np.random.default_rng([seed, sorted(self.rates).index(arm)]).normal(0, 0.03)
            hits = hits_of(self.rates[arm] + noise)
            order = {"schedule.order": list(self.rates).index(arm)}
            self.folders[arm, seed] = made_up_run(
                self.root, order, recalls(hits), seed, arm, first_hits=hits
            )
        return self.folders[arm, seed]

    def run_work(self, arguments: argparse.Namespace, *_: Any) -> tuple[int, Any]:
        self.asked.append(arguments.count)
        cells = [
            SimpleNamespace(arm=arm, seed=seed)
            for arm in self.rates
            for seed in range(arguments.count)
        ]
        return 0, SimpleNamespace(
            cells=cells, runs=self.root, folder=lambda cell: self.folder(cell.arm, cell.seed)
        )


def look(tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch, *more: str) -> str:
    path = tmp_path / "sweep.yaml"
    path.write_text(SWEEP)
    parser = argparse.ArgumentParser()
    add_arguments(parser, "extend")
    arguments = parser.parse_args([str(path), "--runs", str(tmp_path / "runs"), *more])
    monkeypatch.setattr(looks, "run_work", runs.run_work)
    console = Console(file=io.StringIO(), width=120)
    assert looks.run_until_resolved(arguments, console, "vididi") == 0
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "made_up"
    folder.mkdir(parents=True)
    return folder


def test_seeds_are_added_until_all_differences_stand_or_there_are_enough(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(root)
    printed = look(tmp_path, runs, monkeypatch, "--until-resolved", "12", "--look-every", "4")
    assert runs.asked[1:] == [4, 8, 12]
    kept = json.loads((root / "looks.json").read_text())["looks"]
    assert [entry["seeds"] for entry in kept] == [4, 8, 12]
    assert sum(entry["level"] for entry in kept) == pytest.approx(0.05)
    assert set(kept[0]["p"]) == {"same", "better"}
    assert "not resolved yet: same" in printed
    assert "not resolved with 12 seeds: same" in printed


def test_it_ends_with_the_first_look_that_resolves_all(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(root, {"base": 0.2, "same": 0.6, "better": 0.5})
    printed = look(tmp_path, runs, monkeypatch, "--until-resolved", "20")
    assert runs.asked[1:] == [5]
    assert "every difference is resolved" in printed
    # Begun again it looks at nothing anew.
    before = (root / "looks.json").read_text()
    look(tmp_path, runs, monkeypatch, "--until-resolved", "20")
    assert (root / "looks.json").read_text() == before


def test_looks_that_were_made_count(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(root)
    look(tmp_path, runs, monkeypatch, "--until-resolved", "8", "--look-every", "4")
    look(tmp_path, runs, monkeypatch, "--until-resolved", "16", "--look-every", "4")
    kept = json.loads((root / "looks.json").read_text())["looks"]
    assert [entry["seeds"] for entry in kept] == [4, 8, 12, 16]
    # The first plan had spent all that there was.
    assert [entry["level"] for entry in kept] == pytest.approx([0.025, 0.025, 0, 0])
    assert (kept[2]["p"]["same"], kept[2]["p"]["same"] <= kept[2]["level"]) != (0, True)


def test_another_question_of_the_same_runs_is_refused(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(root)
    look(tmp_path, runs, monkeypatch, "--until-resolved", "4", "--look-every", "4")
    with pytest.raises(ConfigError, match="earlier looks at these runs were at retrieval/R@1"):
        look(tmp_path, runs, monkeypatch, "--until-resolved", "8", "--against", "better")
    assert runs.asked == [0, 4]


def test_a_damaged_file_of_looks_is_named(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "looks.json").write_text('[{"seeds": 5')
    with pytest.raises(DamagedError, match=r"looks\.json: "):
        look(tmp_path, Runs(root), monkeypatch, "--until-resolved", "4", "--look-every", "4")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--until-resolved", "4"], "--look-every: 5 is not valid with --until-resolved 4"),
        (["--until-resolved", "9", "--look-every", "1"], "--look-every: 1 is not valid"),
        (["--until-resolved", "9", "--against", "bese"], "'bese' is not valid; it is one of"),
        (["--until-resolved", "9", "--only", "base"], "two or more arms, base"),
    ],
)
def test_what_cannot_be_is_said_before_anything_runs(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(SWEEP)
    assert len(expand(load_sweep(path))) == 3
    assert main(["extend", str(path), "--runs", str(tmp_path / "runs"), *options]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "runs").exists()
