"""One cell over two nodes: two raylets of this machine with addresses and object stores of their
own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from made_up_machines import objects
from plain_files import plain
from programs import run_here
from ray.cluster_utils import Cluster
from tiny_sweep import BASE

from vididi.data.storage import as_folder
from vididi.prepared import ensure_prepared

SWEEP = (
    "name: nodes"
    + BASE
    + """  optimiser: {name: lars}
  training: {epochs: 3, batch_size: 12}
  evaluation: {clips: 2, frames: 4, stride: 2}
arms:
  alone: {label: "One worker, the whole batch"}
  # Each node has room for one worker of two CPUs and its stream. The flip's sixth digit makes it a cell of its own.
  two_nodes: {label: "Two nodes", augment.flip: 0.500001, resources: {workers: 2, cpus_per_worker: 2}}
"""
)

pytestmark = pytest.mark.ray


@contextmanager
def two_nodes(**second: Any) -> Iterator[str]:
    node = {"num_cpus": 3, "object_store_memory": 200 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        cluster.add_node(**node, node_ip_address="127.0.0.2", **second)
        yield cluster.address
    finally:
        cluster.shutdown()


@pytest.fixture
def address() -> Iterator[str]:
    with two_nodes() as address:
        yield address


def measured(runs: Path, arm: str) -> tuple[dict[str, Any], list[float]]:
    (folder,) = (runs / "nodes").glob(f"{arm}-s0-*")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return plain(folder / "result.json"), [json.loads(line)["train/loss"] for line in lines]


def test_a_cell_over_two_nodes_is_the_cell_of_one_worker(address: str, tmp_path: Path) -> None:
    """Float32 sums in another order: losses agree to 1e-3, as they do for two workers of one node;
    3 epochs of 2 steps.
    """
    (tmp_path / "nodes.yaml").write_text(SWEEP)
    done = run_here(tmp_path, "nodes.yaml", "--address", address)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (alone, alone_losses), (two, two_losses) = (
        measured(tmp_path / "runs", arm) for arm in ("alone", "two_nodes")
    )
    assert (alone["workers"], alone["nodes"]) == (1, 1)
    assert (two["workers"], two["nodes"]) == (2, 2)
    assert two["steps"] == alone["steps"] == 6
    assert two_losses == pytest.approx(alone_losses, rel=1e-3)
    assert two["features/spread"] == pytest.approx(alone["features/spread"], rel=0.05)


def test_a_cell_over_two_machines_that_share_nothing_but_a_store(
    bucket: str, make_config: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each node mirrors the run folder under a cache of its own."""
    shards, runs = f"{bucket}/sets/tiny", f"{bucket}/runs"
    ensure_prepared(make_config(), as_folder(shards))
    (tmp_path / "nodes.yaml").write_text(SWEEP)
    caches = {machine: tmp_path / machine for machine in ("one", "two")}
    monkeypatch.setenv("VIDIDI_CACHE", str(caches["one"]))
    with two_nodes(env_vars={"VIDIDI_CACHE": str(caches["two"])}) as address:
        options = ("--only", "two_nodes", "--runs", runs, "--shards", shards, "--address", address)
        done = run_here(tmp_path, "nodes.yaml", *options, cache="one")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    stored = {Path(name).name: content for name, content in objects(f"{runs}/nodes").items()}
    result = json.loads(stored["result.json"])
    assert (result["workers"], result["nodes"], result["steps"]) == (2, 2, 6)
    assert {"encoder.safetensors", "checkpoint.pt", "metrics.jsonl"} <= stored.keys()
    assert all(any(cache.rglob("mirror/*")) for cache in caches.values())
