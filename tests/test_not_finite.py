"""Runs whose numbers are not finite, as whole programs: they end with one sentence that names run
and measure, and leave no result.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from plain_files import plain
from safetensors.torch import load_file, save_file
from torch import nn

import vididi.experiment as experiment
from vididi.cli import main
from vididi.data.stream import local_stream
from vididi.errors import NotFiniteError, TrainingError
from vididi.evaluation import classification, features, recall_at
from vididi.experiment import run_cell
from vididi.prepared import ensure_prepared
from vididi.protocols import finished
from vididi.runs.run_folder import RunFolder
from vididi.training.context import LocalContext

ONE_STEP = ["epochs=1", "batch_size=24", "clips=1"]  # whose loss is that of the weights before it


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, make_config: Callable[..., Any]) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "base-s0"
    train(folder, make_config({"training.epochs": 1}))
    return folder


def train(folder: Path, config: Any) -> dict[str, Any]:
    shards = ensure_prepared(config)
    return run_cell(config, {"arm": "base"}, folder, shards, local_stream(shards), LocalContext())


def evaluate(protocol: str, run: Path, *texts: str) -> int:
    return main(
        [
            "evaluate",
            protocol,
            str(run),
            "--no-untrained",
            *(part for text in texts for part in ("--set", text)),
        ]
    )


def results(run: Path) -> list[Path]:
    return sorted(run.glob("evaluations/*/result.json"))


# --- Evaluations ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "own"),
    [
        ("finetune", ["optimiser.lr=1e8", "steps=[]"]),
        ("semi", ["optimiser.lr=1e8", "labels=1"]),
    ],
)
def test_a_classifier_that_diverged_has_no_accuracy(
    protocol: str, own: list[str], trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = results(trained)
    for _ in range(2):  # again, from the checkpoint of its last epoch
        assert evaluate(protocol, trained, *ONE_STEP, *own) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"error: base-s0, {protocol}-motion-")
        assert "not finite" in error
        assert error.count("\n") == 1
        assert results(trained) == before


def test_a_loss_that_is_not_finite_names_the_evaluation(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        evaluate(
            "finetune",
            trained,
            "epochs=2",
            "batch_size=8",
            "clips=1",
            "steps=[1]",
            "optimiser.lr=1e8",
        )
        == 1
    )
    assert "the loss is not finite in epoch 1; lower optimiser.lr" in (
        error := capsys.readouterr().err
    )
    assert error.startswith("error: base-s0, finetune-motion-")


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("protocol", ["retrieval", "linear"])
def test_an_encoder_whose_statistics_are_not_finite_is_not_measured(
    protocol: str, bad: float, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "old-s0"
    run.mkdir()
    (run / "config.yaml").write_text((trained / "config.yaml").read_text())
    weights = load_file(trained / "encoder.safetensors")
    name = next(name for name in weights if name.endswith("running_var"))
    weights[name][0] = bad
    save_file(weights, run / "encoder.safetensors")
    assert evaluate(protocol, run) == 1
    error = capsys.readouterr().err
    assert (
        f"encoder.safetensors: 1 of {len(weights)} weights and statistics are not finite: {name}"
        in error
    )
    assert not results(run)


@pytest.mark.parametrize("protocol", ["retrieval", "silhouette", "dynamics"])
def test_features_that_are_not_finite_name_run_and_measure(
    protocol: str,
    trained: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = features.FeatureView.features

    def spoiled(self: Any, *given: Any) -> Any:
        found = original(self, *given)
        found[0] = torch.nan
        return found

    monkeypatch.setattr(features.FeatureView, "features", spoiled)
    before = results(trained)
    assert evaluate(protocol, trained, "clips=1") == 1
    assert f"error: base-s0, {protocol}-motion-" in (error := capsys.readouterr().err)
    assert f": {protocol}: 5 of 36 rows of intact are not finite" in error.replace(
        "features", "intact"
    )
    assert results(trained) == before


def test_a_logit_that_is_infinite_is_no_probability() -> None:
    found = classification._probabilities(
        torch.tensor([[0.0, -torch.inf], [torch.inf, 0.0], [torch.nan, 0.0], [0.0, 0.0]])
    )
    assert found.isnan().all(dim=1).tolist() == [True, True, True, False]


# --- Pretraining ----------------------------------------------------------------------------------


def blow_up(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """From this step on, which has a finite loss, a statistic of the encoder is not finite; train
    mode does not read it.
    """
    original = experiment.build_state

    def build(*given: Any) -> Any:
        state = original(*given)
        after = type(state.objective).after_step

        def spoil(self: Any, at: int, *more: Any) -> None:
            after(self, at, *more)
            if at == step:
                next(
                    m for m in self.backbone.modules() if isinstance(m, nn.BatchNorm3d)
                ).running_var[0] = torch.nan

        state.objective.after_step = spoil.__get__(state.objective)
        return state

    monkeypatch.setattr(experiment, "build_state", build)


def test_an_online_measure_that_is_not_finite_ends_the_run(
    make_config: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blow_up(monkeypatch, 4)
    config = make_config(
        {"evaluation.online.every": 1, "evaluation.online.keep_best": "online/probe"}
    )
    with pytest.raises(
        TrainingError,
        match=r"^cell-s0: after epoch 2: online/knn: 12 of 12 rows of queries are not finite",
    ):
        train(tmp_path / "cell-s0", config)
    lines = [
        json.loads(line) for line in (tmp_path / "cell-s0/metrics.jsonl").read_text().splitlines()
    ]
    assert [line["epoch"] for line in lines] == [1]
    assert not (tmp_path / "cell-s0/result.json").exists()


@pytest.mark.parametrize("protocols", [["retrieval", "silhouette"], []])
def test_a_network_that_is_not_finite_after_its_last_step_is_no_result(
    protocols: list[str],
    make_config: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blow_up(monkeypatch, 8)
    config = make_config({"evaluation.protocols": protocols})
    for _ in range(2):  # again, from the checkpoint of its last epoch
        with pytest.raises(
            NotFiniteError,
            match=r"^cell-s0: the network after its last step: 1 of \d+ weights and statistics",
        ):
            train(tmp_path / "cell-s0", config)
        assert not (tmp_path / "cell-s0/result.json").exists()
        assert not (tmp_path / "cell-s0/encoder.safetensors").exists()


def test_no_result_holds_what_is_not_a_number(tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError, match=r"^result\.json: metrics\.linear/top1 is nan"):
        RunFolder(tmp_path).save_result({"metrics": {"linear/top1": float("nan")}})
    with pytest.raises(NotFiniteError, match=r"^result\.json: epochs\.1\.loss is inf"):
        RunFolder(tmp_path).save_result({"epochs": [{"loss": 1.0}, {"loss": float("inf")}]})
    assert not list(tmp_path.iterdir())


# --- What an earlier version wrote ----------------------------------------------------------------


def test_an_accuracy_that_may_be_of_nan_is_measured_again(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["epochs=1", "batch_size=8", "clips=1", "warmup_epochs=0", "seed=9"]
    before = set(results(trained))
    assert evaluate("linear", trained, *texts) == 0
    (path,) = set(results(trained)) - before
    result = plain(path)
    assert result.pop("rules") == 2
    path.write_text(json.dumps({**result, "metrics": {"linear/top1": 1.0, "linear/top5": 1.0}}))
    capsys.readouterr()
    assert evaluate("linear", trained, *texts) == 0
    assert f"linear/top1 {result['metrics']['linear/top1']:.3f}" in capsys.readouterr().out
    again = json.loads(path.read_text())
    assert (again["rules"], again["metrics"]) == (2, result["metrics"])


@pytest.mark.parametrize(
    ("ranks", "videos", "holds"),
    [
        ([0, 3, 4, 4], 4, False),
        ([0, 3, 3, 2], 4, True),
        ([0, 3, 10, 10], 10, True),
        (None, 4, False),
    ],
)
def test_a_recall_that_counts_what_cannot_be_found_is_measured_again(
    ranks: list[int] | None, videos: int, holds: bool, tmp_path: Path
) -> None:
    """None is a file of queries that was cut."""
    path = tmp_path / "queries.parquet"
    table = pa.table(
        {"video_id": list("abcd"), "label": [0, 1, 2, 2], "first_hit": ranks or [0, 0, 0, 0]}
    )
    pq.write_table(table, path)
    if ranks is None:
        path.write_bytes(path.read_bytes()[:-9])
    task = SimpleNamespace(shards=SimpleNamespace(rows=lambda split: range(videos)))
    measured = {
        f"retrieval/R@{k}": value
        for k, value in recall_at(ranks or [0, 0, 0, 0], (1, 5, 10)).items()
    }
    assert (
        finished._is_current(task, RunFolder(tmp_path), {"metrics": measured, "untrained": None})
        == holds
    )  # type: ignore[arg-type]
