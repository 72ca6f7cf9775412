"""Batch statistics recomputed on one order: against their definition, and of whole runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_files import plain
from torch import Tensor, nn

from vididi.components import resolve
from vididi.config import Config, build_config
from vididi.data.shards import ShardSet
from vididi.data.stream import Batch, local_stream
from vididi.dotted_keys import flatten, nest
from vididi.errors import ConfigError, DataError
from vididi.evaluation.batch_statistics import recomputed
from vididi.evaluation.features import EncoderByOrder, FeatureView, measure_batches
from vididi.evaluation.retrieval import centred, first_hits, recall_at
from vididi.experiment import run_cell
from vididi.prepared import ensure_prepared
from vididi.protocols import protocol_settings
from vididi.protocols.finished import evaluate_run
from vididi.protocols.frozen import score
from vididi.protocols.task import Task, complete_settings
from vididi.training.context import LocalContext

FRAMES = 4


class Network(nn.Module):
    """One normalisation of three channels, then the mean and the spread over all else."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(3, momentum=0.3)
        with torch.no_grad():
            self.norm.running_mean.fill_(7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return torch.cat([x.mean(dim=(2, 3, 4)), x.square().mean(dim=(2, 3, 4))], dim=1)


def batch(seed: int, videos: int = 4, frames: int = FRAMES) -> Batch:
    rng = np.random.default_rng(seed)
    clips = rng.integers(0, 255, (videos, 1, frames, 12, 12, 3)).astype(np.uint8)
    return Batch(
        rows=np.arange(videos) + 10 * seed,
        sizes=np.full((videos, 2), 12),
        starts=np.zeros((videos, 1), np.int64),
        clips=clips,
    )


@pytest.mark.parametrize("order", [0, 1, 2])
def test_statistics_are_the_mean_over_batches_of_views_of_the_order(order: int) -> None:
    view = FeatureView(8, 0.9, 0, (order,), FRAMES)
    batches = [batch(seed, frames=FRAMES + 2) for seed in range(3)]
    network = Network()
    norm = recomputed(network, iter(batches), 3, view).of(order).norm
    views = [view.clips(b, b.clips, order, torch.device("cpu")) for b in batches]
    assert views[0].shape == (4, 3, FRAMES, 8, 8)
    mean = torch.stack([v.mean(dim=(0, 2, 3, 4)) for v in views]).mean(dim=0)
    variance = torch.stack([v.var(dim=(0, 2, 3, 4)) for v in views]).mean(dim=0)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, variance)
    assert norm.momentum == 0.3
    assert not norm.training
    # The encoder itself is as it was.
    assert network.norm.running_mean.tolist() == [7, 7, 7]
    assert network.norm.momentum == 0.3


def test_each_order_is_fed_to_the_encoder_with_its_statistics() -> None:
    """Frames have a mean near what normalisation makes it, differences have none: with their own
    statistics features of all orders are standardised.
    """
    view = FeatureView(8, 0.9, 0, (0, 1), FRAMES)
    batches = [batch(seed, videos=40, frames=FRAMES + 1) for seed in range(2)]
    encoder = recomputed(Network(), iter(batches), 2, view)
    assert isinstance(encoder, EncoderByOrder)
    _, features = measure_batches(encoder, iter(batches), 2, view)
    assert set(features) == {"intact", "order_1"}
    for part in features.values():
        np.testing.assert_allclose(part[:, :3].mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(part[:, 3:].mean(axis=0), 1, atol=0.02)


def test_an_encoder_without_statistics_is_unchanged() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv3d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).mean(dim=(2, 3, 4))

    network, view = Plain(), FeatureView(8, 0.9, 0)
    before = view(network, batch(0))["intact"]
    after = view(recomputed(network, iter([batch(1)]), 1, view), batch(0))["intact"]
    np.testing.assert_array_equal(before, after)


# --- Distance and centre --------------------------------------------------------------------------


def test_euclidean_hits_are_those_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    q, g = rng.normal(3, 1, (20, 5)), rng.normal(3, 1, (60, 5))
    q_labels, g_labels = rng.integers(0, 6, 20), rng.integers(0, 6, 60)
    distances = np.linalg.norm(q[:, None] - g, axis=2)
    nearest = g_labels[np.argsort(distances, axis=1, kind="stable")]
    expected = (nearest == q_labels[:, None]).argmax(axis=1)
    assert first_hits(q, q_labels, g, g_labels, "euclidean").tolist() == expected.tolist()
    assert first_hits(q, q_labels, g, g_labels).tolist() != expected.tolist()


def test_what_is_subtracted() -> None:
    x = np.array([[1.0], [3.0], [10.0], [14.0]])
    test = np.array([False, False, True, True])
    assert centred(x, test, "none").ravel().tolist() == [1, 3, 10, 14]
    assert centred(x, test, "train").ravel().tolist() == [-1, 1, 8, 12]
    assert centred(x, test, "each_split").ravel().tolist() == [-1, 1, -2, 2]


# --- Runs -----------------------------------------------------------------------------------------


CHANGES: dict[str, Any] = {
    "training.epochs": 2,
    "clip.extra_frames": 2,
    "evaluation.clips": 2,
    "evaluation.batch_norm": "recomputed",
    "evaluation.orders": [0, 1],
    "evaluation.distance": "euclidean",
    "evaluation.centre": "train",
}


def run(config: Config, folder: Path) -> dict[str, Any]:
    shards = ensure_prepared(config)
    return run_cell(config, {"arm": "a"}, folder, shards, local_stream(shards), LocalContext())


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory, make_config: Callable[..., Any]) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "a-s0"
    config = make_config({**CHANGES, "evaluation.online.every": 1})
    run(config, folder)
    return folder


def task(run_folder: Path, shards: ShardSet, **settings: Any) -> Task:
    from vididi.components import read_run_config

    complete = complete_settings(
        protocol_settings("retrieval", None, settings), read_run_config(run_folder)
    )
    return Task(
        "retrieval", complete, shards, local_stream(shards), LocalContext(), lambda metrics: None
    )


def retrieval(result: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in result.items() if name.startswith("retrieval/R@")} | {
        name: value for name, value in result.items() if name.startswith("retrieval/order")
    }


def test_what_a_run_measures_at_its_end_is_what_is_measured_of_it_later(
    finished_run: Path, make_config: Callable[..., Any]
) -> None:

    shards = ensure_prepared(make_config(CHANGES))
    at_end = retrieval(plain(finished_run / "result.json"))
    assert set(at_end) == {
        "retrieval/R@1",
        "retrieval/R@5",
        "retrieval/R@10",
        "retrieval/order_1_R@1",
        "retrieval/order_0_in_1_R@1",
        "retrieval/order_1_in_0_R@1",
    }
    later = evaluate_run(finished_run, task(finished_run, shards), None, untrained=True)
    assert retrieval(later["metrics"]) == at_end
    assert set(later["untrained"]) == set(later["metrics"])
    assert later["settings"]["orders"] == [0, 1]


def test_other_data_take_the_statistics_of_the_run_s_own(
    finished_run: Path, make_config: Callable[..., Any]
) -> None:
    """With the statistics of frames that are all dark, features of the run's videos would differ."""
    other = ensure_prepared(make_config({"data.seed": 5}))
    result = evaluate_run(finished_run, task(finished_run, other), None, untrained=False)
    running = evaluate_run(
        finished_run, task(finished_run, other, batch_norm="running"), None, untrained=False
    )
    assert result["data"]["seed"] == running["data"]["seed"] == 5
    assert result["metrics"]["features/spread"] != running["metrics"]["features/spread"]


def test_data_that_changed_are_no_source_of_statistics(
    finished_run: Path, make_config: Callable[..., Any], tmp_path: Path
) -> None:
    import json
    import shutil

    copy = shutil.copytree(finished_run, tmp_path / "a-s0", ignore=lambda *_: ["evaluations"])
    result = plain(copy / "result.json")
    (copy / "result.json").write_text(json.dumps({**result, "data_checksum": "0" * 64}))
    with pytest.raises(DataError, match="needs the data that it was trained on, 0000"):
        evaluate_run(copy, task(copy, ensure_prepared(make_config({}))), None, untrained=False)


def test_recomputing_on_the_way_changes_nothing_in_training(
    finished_run: Path, make_config: Callable[..., Any], tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    run(make_config({"training.epochs": 2, "clip.extra_frames": 2}), tmp_path / "b-s0")
    one, other = (load_file(f / "encoder.safetensors") for f in (finished_run, tmp_path / "b-s0"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_names_have_them_only_where_they_differ_from_before(
    make_config: Callable[..., Any],
) -> None:
    written_out = {
        "evaluation.batch_norm": "running",
        "evaluation.orders": [0],
        "evaluation.distance": "cosine",
        "evaluation.centre": "none",
    }
    before, same = make_config({}), make_config(written_out)
    assert before.identity("0" * 64) == same.identity("0" * 64)
    for key in written_out:
        assert make_config({key: CHANGES[key]}).identity("0" * 64) != before.identity("0" * 64), key


@pytest.mark.parametrize("orders", [[], [1], [1, 0], [0, 0], [0, 10]])
def test_orders_that_cannot_be_are_refused(orders: list[int]) -> None:
    with pytest.raises(ConfigError, match="orders"):
        resolve(build_config(nest(flatten({"evaluation": {"orders": orders}}))))
    with pytest.raises(ConfigError, match="orders"):
        protocol_settings("retrieval", None, {"orders": orders})
    with pytest.raises(ConfigError, match="orders"):
        protocol_settings("dynamics", None, {"orders": [0, 1]})  # it has frames alone


def test_scores_across_orders_are_those_of_their_features(tiny_shards: ShardSet) -> None:
    rng = np.random.default_rng(1)
    rows = np.concatenate([tiny_shards.rows("train"), tiny_shards.rows("test")])
    features = {
        "intact": rng.normal(size=(len(rows), 6)).astype(np.float32),
        "order_1": rng.normal(size=(len(rows), 6)).astype(np.float32),
    }
    labels = tiny_shards.column("label")[rows]
    test = tiny_shards.column("split")[rows] == "test"
    metrics = score(("retrieval",), tiny_shards, rows, features).metrics
    hits = first_hits(
        features["intact"][test], labels[test], features["order_1"][~test], labels[~test]
    )
    assert metrics["retrieval/order_0_in_1_R@1"] == recall_at(hits, (1,))[1]
    without = score(("retrieval",), tiny_shards, rows, {"intact": features["intact"]}).metrics
    assert {k: v for k, v in metrics.items() if "order" not in k} == without
