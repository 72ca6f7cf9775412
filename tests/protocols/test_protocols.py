"""The table of protocols: what is in it is measured under its own name everywhere, and nothing asks
for a protocol by name elsewhere.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow.parquet as pq
import pytest
from jobs_here import run_jobs_here
from tiny_sweep import BASE

import run_sweep
import vididi.protocols as protocols
from vididi.analysis.tables import unit
from vididi.cli import main
from vididi.config import AtEnd, Closed
from vididi.data.stream import local_stream
from vididi.errors import ConfigError
from vididi.experiment import run_cell
from vididi.prepared import ensure_prepared
from vididi.protocols import (
    EVALUATIONS,
    EvaluationProtocol,
    hits_within,
    metric_prefix,
    protocol_of,
    protocol_settings,
)
from vididi.protocols.settings import FeatureSettings
from vididi.protocols.task import measuring_function
from vididi.training.context import LocalContext

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "adding.md").read_text()
SWEEP = (
    "name: few"
    + BASE
    + """  training: {epochs: 1, batch_size: 8}
  evaluation: {clips: 1, frames: 4, stride: 2}
arms: {base: {order: 0}, vididi: {order: 2}}
evaluate: [retrieval, {protocol: means, settings: {clips: 2}}]
"""
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, make_config: Callable[..., Any]) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "base-s0"
    config = make_config({"training.epochs": 1})
    shards = ensure_prepared(config)
    run_cell(config, {"arm": "base"}, folder, shards, local_stream(shards), LocalContext())
    return folder


@pytest.fixture
def means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The protocol that docs/adding.md adds, from the page's own file and line."""
    section = PAGE[PAGE.index("## A protocol") :]
    file, line = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[:2]
    path = tmp_path / "means.py"
    path.write_text(file)
    spec = importlib.util.spec_from_file_location("vididi.protocols.means", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, spec.name, module)
    ((name, entry),) = eval(f"{{{line}}}", vars(protocols)).items()
    monkeypatch.setitem(EVALUATIONS, name, entry)


def results(run: Path, protocol: str) -> list[dict[str, Any]]:
    return [
        json.loads(path.read_text()) for path in run.glob(f"evaluations/{protocol}-*/result.json")
    ]


# --- A protocol that is added ---------------------------------------------------------------------


@pytest.mark.usefixtures("means")
def test_an_added_protocol_is_measured_under_its_own_name(trained: Path) -> None:
    assert main(["evaluate", "retrieval", str(trained)]) == 0
    assert main(["evaluate", "means", str(trained)]) == 0
    (result,) = results(trained, "means")
    assert result["protocol"] == "means"
    assert result["metrics"].keys() == result["untrained"].keys() == {"means/accuracy"}
    (kept,) = trained.glob("evaluations/retrieval-*/features.parquet")
    table = pq.read_table(kept)
    x, labels = np.array(table["features"].to_pylist()), table["label"].to_numpy()
    test = np.array(table["split"].to_pylist()) == "test"
    right = 0
    for video in np.flatnonzero(test):
        distances = {
            c: np.linalg.norm(x[video] - x[~test & (labels == c)].mean(axis=0))
            for c in set(labels.tolist())
        }
        right += min(distances, key=lambda c: distances[c]) == labels[video]
    assert result["metrics"]["means/accuracy"] == pytest.approx(right / test.sum())


@pytest.fixture
def jobs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep's jobs run in this process, one after the other."""

    run_jobs_here(monkeypatch)


@pytest.mark.usefixtures("means", "jobs_here")
def test_an_added_protocol_goes_through_a_sweep_to_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "few.yaml").write_text(SWEEP)
    assert run_sweep.main([str(tmp_path / "few.yaml"), "--runs", str(tmp_path / "runs")]) == 0
    said = capsys.readouterr().out
    assert "evaluations: 2 of 2 runs, 2 to make" in said
    header, *rows = [
        line
        for line in (tmp_path / "runs" / "few" / "results.csv").read_text().splitlines()
        if line
    ]
    (column,) = [
        i
        for i, name in enumerate(header.split(","))
        if name.startswith("means accuracy") and not name.endswith(("95%", "gain"))
    ]
    for arm in ("base", "vididi"):
        (run,) = (tmp_path / "runs" / "few").glob(f"{arm}-s0-*")
        (result,) = results(run, "means")
        assert result["settings"]["clips"] == 2
        (row,) = [row.split(",") for row in rows if row.startswith(arm)]
        assert row[column] == f"{100 * result['metrics']['means/accuracy']:.1f}"


@pytest.mark.parametrize(
    "where",
    [
        "vididi.protocols.nowhere:measure",
        "vididi.protocols.frozen:nothing",
        "nowhere.at.all:measure",
        "vididi.protocols.frozen",
    ],
)
def test_a_protocol_whose_function_is_missing_is_an_error_by_name(
    where: str,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(
        EVALUATIONS, "means", EvaluationProtocol(FeatureSettings, "", where, "features")
    )
    before = set(trained.rglob("*"))
    assert main(["evaluate", "means", str(trained), "--set", "clips=3"]) == 2
    assert (
        f"protocol: 'means' is measured by {where}, which is not there" in capsys.readouterr().err
    )
    assert set(trained.rglob("*")) == before
    (tmp_path / "few.yaml").write_text(SWEEP)
    assert run_sweep.main([str(tmp_path / "few.yaml"), "--runs", str(tmp_path / "runs")]) == 2
    assert f"evaluate: means: protocol: 'means' is measured by {where}" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_measuring_file_that_lacks_a_package_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "measures_by_more.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(
        EVALUATIONS,
        "means",
        EvaluationProtocol(FeatureSettings, "", "measures_by_more:measure", "features"),
    )
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
        measuring_function("means")


def test_settings_that_lack_what_the_table_says_are_refused() -> None:
    class Frames(Closed):
        frames: int = 8
        stride: int = 2

    with pytest.raises(
        ValueError, match="settings: Frames has no size and no batch_size and no labels"
    ):
        EvaluationProtocol(Frames, "", "a:b", "batches", by_labels=True)


# --- What is in the table -------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVALUATIONS)
def test_every_measuring_function_is_there_and_every_recipe_is_valid(name: str) -> None:
    assert callable(measuring_function(name))
    for recipe in EVALUATIONS[name].recipes or (None,):
        assert isinstance(protocol_settings(name, recipe, {}), EVALUATIONS[name].settings)


def test_what_a_run_measures_at_its_end_are_protocols_of_whole_videos() -> None:
    assert {EVALUATIONS[name].shares for name in get_args(AtEnd)} == {"features"}


def test_the_page_has_every_protocol_with_its_recipes() -> None:
    page = (ROOT / "docs" / "evaluation.md").read_text()
    rows = dict(
        re.findall(
            r"^\| `([a-z-]+)` \|.*\|(.*)\|$", page[: page.index("What a recipe says")], re.MULTILINE
        )
    )
    recipes = {
        name: re.findall(r"`(\w+)`", text) for name, text in rows.items() if name != "ava-map"
    }
    assert recipes == {name: list(known.recipes) for name, known in EVALUATIONS.items()}
    shared = "\n".join(page[page.index("## On a cluster") :].splitlines()[:20])
    said = [
        set(re.findall(r"\w+", bold)) & set(EVALUATIONS)
        for bold in re.findall(r"\*\*([^*]+)\*\*", shared)
    ]
    features, others = [names for names in said if names]
    assert features == {
        name for name, known in EVALUATIONS.items() if known.shares == "features"
    } & (features | others)


@pytest.mark.parametrize(
    ("metric", "within"),
    [
        ("retrieval/R@5", 5),
        ("linear/top1", 1),
        ("finetune/top5", 5),
        *((f"semi_{share}/top1", 1) for share in ("1", "10", "0.5", "50")),
        *(
            (name, None)
            for name in (
                "semi/top1",
                "linear_1/top1",
                "retrieval/scene_R@1",
                "retrieval/top1",
                "linear/R@1",
                "silhouette/3",
            )
        ),
        *(
            (name, None)
            for name in (
                "dynamics/intact_R@1",
                "detection/mAP",
                "features/spread",
                "seconds",
                "linear/top1/Run",
                "knn/R@1",
            )
        ),
    ],
)
def test_which_metrics_the_queries_tell(metric: str, within: int | None) -> None:
    assert hits_within(metric) == within


def test_metrics_are_of_the_protocol_that_names_them() -> None:
    for name in EVALUATIONS:
        for recipe in EVALUATIONS[name].recipes or (None,):
            assert (
                protocol_of(f"{metric_prefix(name, protocol_settings(name, recipe, {}))}/x")
                is EVALUATIONS[name]
            )
    assert metric_prefix("semi", protocol_settings("semi", None, {"labels": 0.1})) == "semi_10"
    assert (
        unit("silhouette/all"),
        unit("features/spread"),
        unit("retrieval/R@1"),
        unit("knn/x"),
    ) == ("", "", " points", " points")


# --- Nothing else decides by a protocol's name ----------------------------------------------------


def compared(path: Path) -> Iterator[str]:
    """The protocols that a source compares something with."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Compare):
            parts = [
                part
                for side in (node.left, *node.comparators)
                for part in getattr(side, "elts", [side])
            ]
            yield from (
                str(part.value)
                for part in parts
                if isinstance(part, ast.Constant) and part.value in EVALUATIONS
            )
        elif (
            isinstance(node, ast.MatchValue)
            and isinstance(node.value, ast.Constant)
            and node.value.value in EVALUATIONS
        ):
            yield str(node.value.value)


def test_only_the_scores_of_features_ask_for_a_protocol_by_name() -> None:
    sources = [
        ROOT / "run_sweep.py",
        *sorted((ROOT / "analysis").rglob("*.py")),
        *sorted((ROOT / "vididi").rglob("*.py")),
    ]
    found = {path.relative_to(ROOT).as_posix(): set(compared(path)) for path in sources}
    assert {path: names for path, names in found.items() if names} == {
        "vididi/protocols/frozen.py": {"retrieval", "silhouette"}
    }


def test_no_file_of_this_room_is_called_like_one_of_evaluation() -> None:
    own, others = (
        {path.stem for path in (ROOT / "vididi" / room).glob("*.py")} - {"__init__"}
        for room in ("protocols", "evaluation")
    )
    assert not own & others


def test_an_unknown_protocol_has_no_settings() -> None:
    with pytest.raises(
        ConfigError, match="protocol: 'nothing' is not valid; it is one of retrieval"
    ):
        protocol_settings("nothing", None, {})
