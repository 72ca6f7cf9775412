"""Clusters that grow while a sweep runs: what it waits for is what the autoscaler sees, and it
starts on nodes that join.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import pytest
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.cluster_utils import Cluster
from tiny_sweep import BASE

from vididi.cluster.connection import connected
from vididi.cluster.inference import Pool

ROOT = Path(__file__).resolve().parents[2]
SWEEP = (
    "name: grow"
    + BASE
    + """  optimiser: {name: lars}
  training: {epochs: EPOCHS, batch_size: 12}
  evaluation: {clips: 2, frames: 4, stride: 2}
"""
)
STORE = 200 << 20

pytestmark = pytest.mark.ray


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head on which nothing can be trained."""
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE},
    )
    try:
        yield cluster
    finally:
        cluster.shutdown()


class Driver:
    """run_sweep.py at work."""

    def __init__(self, place: Path, text: str, epochs: int, address: str) -> None:
        (place / "grow.yaml").write_text(SWEEP.replace("EPOCHS", str(epochs)) + text)
        self.place = place
        self.out: IO[str] = (place / "out.txt").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "run_sweep.py"), "grow.yaml", "--address", address],
            cwd=place,
            env={**os.environ, "VIDIDI_CACHE": str(place / "cache"), "COLUMNS": "200"},
            stdout=self.out,
            stderr=subprocess.STDOUT,
        )

    @property
    def said(self) -> str:
        return " ".join((self.place / "out.txt").read_text().split())

    def until(self, what: str, happened: Callable[[], Any], seconds: float = 120) -> Any:
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            if found := happened():
                return found
            assert self.process.poll() is None, f"ended before {what}: {self.said[-3000:]}"
            time.sleep(0.2)
        raise AssertionError(f"{what} did not happen: {self.said[-3000:]}")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.out.close()


@pytest.fixture
def drive(tmp_path: Path, cluster: Cluster) -> Iterator[Callable[..., Driver]]:
    drivers: list[Driver] = []

    def start(text: str, epochs: int = 2) -> Driver:
        drivers.append(Driver(tmp_path, text, epochs, cluster.address))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.close()


def asked(cluster: Cluster) -> list[list[dict[str, float]]]:
    """What the autoscaler is to find nodes for: a list of bundles for each cell."""
    demands = get_cluster_status(cluster.address).resource_demands.placement_group_demand
    return [
        [request.bundle for request in demand.bundles_by_count for _ in range(request.count)]
        for demand in demands
    ]


def wait_until_idle(cluster: Cluster) -> None:
    """Return when nothing is left on any node but the head, so that an autoscaler would release
    it.
    """
    limit = time.monotonic() + 60
    head = cluster.head_node.node_id
    while busy := {
        n.node_id: n.node_activity
        for n in get_cluster_status(cluster.address).active_nodes
        if n.node_id != head
    }:
        assert time.monotonic() < limit, busy
        time.sleep(0.5)


def results(place: Path) -> dict[str, dict[str, Any]]:
    return {
        path.parent.name.rpartition("-")[0]: json.loads(path.read_text())
        for path in (place / "runs" / "grow").glob("*/result.json")
    }


def test_cells_start_on_nodes_that_join_while_others_run(
    cluster: Cluster, drive: Callable[..., Driver], tmp_path: Path
) -> None:
    cluster.add_node(num_cpus=2, object_store_memory=STORE)
    driver = drive("seeds: [0, 1, 2]\n", epochs=3000)
    runs = tmp_path / "runs" / "grow"
    driver.until("the first cell", lambda: len(list(runs.glob("*/metrics.jsonl"))) == 1)
    assert driver.until("asking", lambda: asked(cluster)) == [[{"CPU": 2.0}]] * 2
    cluster.add_node(num_cpus=2, object_store_memory=STORE, node_ip_address="127.0.0.2")
    driver.until("the second cell", lambda: len(list(runs.glob("*/metrics.jsonl"))) == 2)
    assert not results(tmp_path), (
        "the first cell had ended: the second one did not need the new node"
    )
    driver.until("asking for one", lambda: asked(cluster) == [[{"CPU": 2.0}]])


def test_a_cell_too_large_for_the_cluster_waits_for_nodes_and_says_so(
    cluster: Cluster, drive: Callable[..., Driver], tmp_path: Path
) -> None:
    driver = drive("arms: {one: {}, two: {augment.flip: 0.500001, resources: {workers: 2}}}\n")
    # Preparing comes first, and has to wait as well.
    driver.until(
        "a word",
        lambda: "the cluster has no CPUs to prepare with; waiting for nodes" in driver.said,
    )
    node = cluster.add_node(num_cpus=2, object_store_memory=STORE)
    need = (
        "needs 2 workers with 2 CPUs (1 of the CPUs for its stream), each on one node, and the"
        " nodes of the cluster have 2 CPUs; 0 CPUs"
    )
    driver.until("a word", lambda: need in driver.said)
    assert driver.until("asking", lambda: asked(cluster)) == [[{"CPU": 2.0}] * 2]
    assert len(results(tmp_path)) == 1
    wait_until_idle(cluster)
    cluster.add_node(num_cpus=4, object_store_memory=STORE)
    cluster.remove_node(node)
    assert driver.process.wait(timeout=240) == 0, driver.said[-3000:]
    assert sorted(result["workers"] for result in results(tmp_path).values()) == [1, 2]
    assert not asked(cluster)


def test_evaluating_waits_for_the_first_node_as_well(cluster: Cluster) -> None:
    with connected(cluster.address), ThreadPoolExecutor(1) as apart:
        pool = apart.submit(Pool.on_cluster)
        limit = time.monotonic() + 60
        while asked(cluster) != [[{"CPU": 1.0}]]:
            assert time.monotonic() < limit, "nothing is asked for"
            time.sleep(0.2)
        cluster.add_node(num_cpus=2, object_store_memory=STORE)
        assert pool.result(timeout=60).workers == 2
        assert not asked(cluster)


def test_a_killed_driver_asks_for_nothing(cluster: Cluster, drive: Callable[..., Driver]) -> None:
    cluster.add_node(num_cpus=1, object_store_memory=STORE)
    driver = drive("")
    driver.until("asking", lambda: asked(cluster))
    driver.process.kill()
    driver.process.wait()
    limit = time.monotonic() + 60
    while asked(cluster):
        assert time.monotonic() < limit, "what a killed driver asked for keeps nodes running"
        time.sleep(0.5)
