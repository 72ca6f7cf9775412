"""A small sweep on the built-in set through every protocol to every table and picture, by the
programs that a user calls.

About 100 s on two idle cores. It is long enough for ViDiDi's encoder to learn motion, which is what
linear evaluation and fine-tuning are held to; of one seed and 200 test videos, so the bounds are
far from what is measured (docs/log.md).
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from made_up_ava import made_up_ava
from PIL import Image

from vididi.analysis import (
    ablation_table,
    bars,
    classifier_curves,
    curves,
    paper_table,
    silhouette_table,
    training_length,
    tsne,
)
from vididi.analysis.paper import load_paper_table, table_names
from vididi.analysis.reading import Run, read_run

ROOT = Path(__file__).resolve().parents[2]
SWEEP = """
name: every
base:
  data: {name: motion, train: 500, test: 200, frames: 32}
  prepare: {short_side: 40}
  clip: {frames: 8, stride: 2, size: 32}
  augment: {name: vididi, crop_scale: [0.3, 1.0], hue: 0.0}
  objective: {name: vicreg, hidden: 256, out: 256}
  backbone: {name: r3d_tiny, width: 8}
  optimiser: {name: lars, lr: 4.0}
  training: {epochs: 12, batch_size: 40}
  evaluation: {clips: 4, frames: 8, stride: 2, crop: 0.8, online: {every: 6, train: 100, test: 60}}
arms:
  base: {label: "Base (VICReg)", order: 0}
  vididi: {label: "ViDiDi-VIC", order: 2}
evaluate:
  - retrieval
  - silhouette
  - {protocol: retrieval, settings: {clips: 2}, untrained: false}
  - {protocol: dynamics, settings: {clips: 2}, untrained: false}
  - {protocol: linear, settings: {epochs: 6, warmup_epochs: 1, batch_size: 40, optimiser.lr: 4, clips: 2, crops: centre, test_every: 3}}
  - {protocol: semi, settings: {labels: 0.1, epochs: 6, batch_size: 20, optimiser.lr: 0.02, clips: 2, crops: centre}}
  - {protocol: finetune, settings: {epochs: 4, steps: [3], batch_size: 20, optimiser.lr: 0.02, dropout: 0, clips: 2}}
  - protocol: detection
    data: {name: ava, videos: FILMS, splits: LISTS, offset: 900, window: 9, step: 1}
    settings: {frames: 4, stride: 2, size: 32, epochs: 2, steps: [1], batch_size: 8}
    untrained: false
resources: {hold_data: true}  # detection's videos are streamed
"""
PROTOCOLS = ("detection", "dynamics", "finetune", "linear", "retrieval", "semi")

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, write_video: Callable[..., Path]) -> Path:
    place = tmp_path_factory.mktemp("every")
    made_up_ava(place / "ava", write_video, {"train": 2, "val": 1}, range(902, 914))
    (place / "every.yaml").write_text(
        SWEEP.replace("FILMS", str(place / "ava" / "films")).replace(
            "LISTS", str(place / "ava" / "lists")
        )
    )
    environment = {
        **os.environ,
        "VIDIDI_CACHE": str(place / "cache"),
        "COLUMNS": "200",
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, str(ROOT / "run_sweep.py"), "every.yaml"]
    done = subprocess.run(
        command,
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "evaluations: 12 of 2 runs, 12 to make" in done.stdout
    return place / "runs" / "every"


def run_of(runs: Path, arm: str) -> Run:
    (folder,) = runs.glob(f"{arm}-s0-*")
    return read_run(folder)


def evaluation(runs: Path, arm: str, protocol: str) -> dict[str, Any]:
    (path,) = run_of(runs, arm).folder.glob(f"evaluations/{protocol}-*/result.json")
    return json.loads(path.read_text())


def test_every_protocol_measured_both_arms(runs: Path) -> None:
    for arm in ("base", "vididi"):
        found = sorted(m.name.partition("-")[0] for m in run_of(runs, arm).measurements if m.name)
        assert found == list(PROTOCOLS)
        assert evaluation(runs, arm, "detection")["data"]["name"] == "ava"
        online = [
            json.loads(line).get("online/knn")
            for line in (run_of(runs, arm).folder / "metrics.jsonl").read_text().splitlines()
        ]
        assert [i for i, value in enumerate(online, 1) if value is not None] == [6, 12]


def test_derivatives_teach_motion(runs: Path) -> None:
    base, vididi = (run_of(runs, arm).result for arm in ("base", "vididi"))
    print(f"R@1 {base['retrieval/R@1']:.3f}, {vididi['retrieval/R@1']:.3f}")
    assert vididi["retrieval/R@1"] > base["retrieval/R@1"] + 0.08
    base_motion, vididi_motion = (
        evaluation(runs, arm, "dynamics")["metrics"]["dynamics/motion"]
        for arm in ("base", "vididi")
    )
    assert vididi_motion > base_motion + 0.05


def test_fine_tuning_from_vididi_beats_fine_tuning_from_scratch(runs: Path) -> None:
    result = evaluation(runs, "vididi", "finetune")
    print(f"fine-tuned {result['metrics']}, from scratch {result['untrained']}")
    assert result["metrics"]["finetune/top1"] > result["untrained"]["finetune/top1"] + 0.15


def test_linear_evaluation_of_an_untrained_encoder_stays_below(runs: Path) -> None:
    result = evaluation(runs, "vididi", "linear")
    print(f"trained {result['metrics']}, untrained {result['untrained']}")
    assert result["metrics"]["linear/top1"] > result["untrained"]["linear/top1"] + 0.1
    assert evaluation(runs, "base", "linear")["untrained"].keys() == {"linear/top1", "linear/top5"}


def test_every_table_shows_what_was_measured(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = {arm: run_of(runs, arm) for arm in ("base", "vididi")}
    shown = set()
    for name in table_names():
        table = load_paper_table(name)
        assert paper_table.main([name, str(runs), "--out", str(tmp_path)]) == 0
        assert table.title in capsys.readouterr().out
        assert (tmp_path / f"{name}.tex").is_file()
        text = (tmp_path / f"{name}.md").read_text()
        rows = list(csv.reader((tmp_path / f"{name}.csv").open()))
        for run in arms.values():
            own = [
                row
                for row in rows
                if any(
                    cell.startswith((run.cell["label"], "VICReg", "Base (VICReg)", "ViDiDi-VIC"))
                    for cell in row
                )
            ]
            for column in (
                column for column in table.columns if column.metric and not column.match
            ):
                values = [
                    value for m in run.measurements if (value := m.value(column.metric)) is not None
                ]
                if values:
                    assert any(column.scaled(value) in row for row in own for value in values), (
                        name,
                        column.metric,
                        text,
                    )
                    shown.add(column.metric.partition("/")[0])
    assert shown >= {"retrieval", "silhouette", "linear", "finetune", "detection"}


@pytest.mark.parametrize(
    "door", [tsne, bars, curves, classifier_curves, training_length], ids=lambda door: door.__name__
)
def test_every_picture_is_drawn(door: ModuleType, runs: Path, tmp_path: Path) -> None:
    assert door.main([str(runs), "--out", str(tmp_path / "out.png")]) == 0
    assert Image.open(tmp_path / "out.png").width > 300


@pytest.mark.parametrize("door", [ablation_table, silhouette_table], ids=lambda door: door.__name__)
def test_the_tables_of_the_readme_are_printed(
    door: ModuleType, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert door.main([str(runs), "--out", str(tmp_path)]) == 0
    assert "ViDiDi-VIC" in capsys.readouterr().out
