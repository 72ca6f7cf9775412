"""Evaluations on a Ray cluster: the features of the local path, whatever dies on the way, and clear
errors where there is no room.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from vididi.cli import main
from vididi.data.plan import EvaluationPlan, frame_counts
from vididi.data.stream import local_stream
from vididi.encoders import load_encoder
from vididi.errors import ResourceError
from vididi.evaluation.dynamics import ChangedView
from vididi.evaluation.features import FeatureView, local_extract
from vididi.experiment import run_cell
from vididi.training.context import LocalContext

pytestmark = pytest.mark.ray

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class DeadlyView(ChangedView):
    """Kills the process that sees the last video for the first time."""

    victim: int = 0
    mark: Path = Path()

    def __call__(self, encoder: Any, batch: Any) -> Any:
        if self.victim in batch.rows and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(encoder, batch)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of two CPUs each on this machine."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE.parents[1]), str(HERE)]))
        made = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 2,
                "include_dashboard": False,
                "object_store_memory": 100 << 20,
            },
        )
        made.add_node(num_cpus=2, object_store_memory=100 << 20)
        made.wait_for_nodes()
        yield made
        made.shutdown()


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory, make_config: Callable[..., Any], tiny_shards: Any
) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "base-s0"
    run_cell(
        make_config({"training.epochs": 0}),
        {"arm": "base"},
        folder,
        tiny_shards,
        local_stream(tiny_shards),
        LocalContext(),
    )
    return folder


def plan_of(shards: Any) -> EvaluationPlan:
    rows = np.concatenate([shards.rows("train"), shards.rows("test")])
    return EvaluationPlan(rows, frame_counts(shards), length=4, stride=2, clips=2, batch_size=5)


def test_actors_give_the_features_of_this_process_although_one_is_killed(
    cluster: Any, run: Path, tiny_shards: Any, tmp_path: Path
) -> None:
    from vididi.cluster.connection import connected
    from vididi.cluster.inference import Pool

    plan, encoder = plan_of(tiny_shards), load_encoder(run)
    view = DeadlyView(16, 0.75, 0, victim=int(plan.rows[-1]), mark=tmp_path / "killed")
    counts: list[tuple[int, int]] = []
    with connected(cluster.address):
        pool = Pool.on_cluster(workers=2)
        rows, features = pool.extract(tiny_shards)(
            encoder, plan, view, lambda *count: counts.append(count)
        )
    expected = local_extract(local_stream(tiny_shards))(
        encoder, plan, replace(view, victim=-1), lambda *_: None
    )
    assert view.mark.exists()
    assert counts[-1] == (8, 8)
    assert [done for done, _ in counts] == sorted({done for done, _ in counts})
    np.testing.assert_array_equal(rows, expected[0])
    assert features.keys() == expected[1].keys() == {"intact", "frozen", "reversed", "shuffled"}
    for name, values in expected[1].items():
        assert features[name].dtype == np.float32
        np.testing.assert_allclose(features[name], values, atol=1e-6, rtol=0)


def evaluate(*arguments: str) -> int:
    return main(["evaluate", *arguments])


def test_retrieval_on_a_cluster_is_retrieval_here(
    cluster: Any, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured() -> tuple[dict[str, float], Any]:
        (folder,) = run.glob("evaluations/retrieval-*")
        found = (
            json.loads((folder / "result.json").read_text())["metrics"],
            pq.read_table(folder / "features.parquet"),
        )
        shutil.rmtree(folder)
        return found

    assert evaluate("retrieval", str(run), "--no-untrained", "--address", cluster.address) == 0
    assert "features: 4 x (1 CPUs, 0 GPUs) on the cluster" in capsys.readouterr().out
    metrics, features = measured()
    assert evaluate("retrieval", str(run), "--no-untrained") == 0
    expected_metrics, expected = measured()
    assert metrics == pytest.approx(expected_metrics, abs=1e-6)
    assert features.drop(["features"]) == expected.drop(["features"])
    values, expected_values = (
        np.array(table["features"].to_pylist()) for table in (features, expected)
    )
    np.testing.assert_allclose(values, expected_values, atol=1e-6, rtol=0)


def test_pools_without_room_give_up(cluster: Any, run: Path, tiny_shards: Any) -> None:
    import ray

    from vididi.cluster.connection import connected
    from vididi.cluster.inference import Pool

    with connected(cluster.address):
        with pytest.raises(
            ResourceError,
            match="a worker needs 3 CPUs on one node, and the nodes of the cluster have 2 x 2 CPUs",
        ):
            Pool.on_cluster(cpus_per_worker=3)
        ray.get(ray.util.placement_group([{"CPU": 2}, {"CPU": 2}]).ready())  # somebody else's
        pool = replace(Pool.on_cluster(), wait_s=2)
        with pytest.raises(ResourceError, match="no worker could start for 2 s"):
            pool.extract(tiny_shards)(
                load_encoder(run), plan_of(tiny_shards), FeatureView(16, 0.75, 0), lambda *_: None
            )


def test_protocols_that_train_run_side_by_side_and_one_that_fails_is_listed(
    cluster: Any, run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        shutil.copytree(run, folder)
    (broken / "encoder.safetensors").write_bytes(b"cut short")
    quick = ["epochs=2", "batch_size=8", "clips=1", "warmup_epochs=1", "optimiser.lr=0.1"]
    arguments = [
        "linear",
        str(whole),
        str(broken),
        "--address",
        cluster.address,
        *(part for text in quick for part in ("--set", text)),
    ]
    assert evaluate(*arguments) == 1
    said = capfd.readouterr().out
    assert f"{whole} linear: finished" in said
    assert f"not finished: {broken} linear:" in said
    assert "Last result" not in said  # Tune's own
    (result,) = tmp_path.glob("*/evaluations/*/result.json")
    assert result.is_relative_to(whole)
    shutil.rmtree(broken)
    assert evaluate(*(argument for argument in arguments if argument != str(broken))) == 0
    assert "evaluations: 1 of 1 run, 0 to make" in capfd.readouterr().out
