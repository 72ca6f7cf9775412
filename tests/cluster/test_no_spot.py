"""What Ray's autoscaler does when EC2 has no spot machines, which docs/cluster.md tells: its own
scheduler, reconciler and providers over the node types of ray_cluster.yaml, and a cloud that
refuses spot as EC2 does.

When a test here fails with another Ray, the page is to be changed, and ray_cluster.yaml perhaps too.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import yaml
from ray.autoscaler._private.util import prepare_config
from ray.autoscaler.node_launch_exception import NodeLaunchException
from ray.autoscaler.node_provider import NodeProvider
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.instance_manager.instance_manager import InstanceManager
from ray.autoscaler.v2.instance_manager.instance_storage import InstanceStorage
from ray.autoscaler.v2.instance_manager.node_provider import NodeProviderAdapter
from ray.autoscaler.v2.instance_manager.reconciler import Reconciler
from ray.autoscaler.v2.instance_manager.storage import InMemoryStorage
from ray.autoscaler.v2.instance_manager.subscribers.cloud_instance_updater import (
    CloudInstanceUpdater,
)
from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import (
    CloudResourceMonitor,
)
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import ClusterResourceState

ROOT = Path(__file__).resolve().parents[2]
SPOT, ON_DEMAND = "gpu_worker", "gpu_worker_on_demand"


class WithoutSpot(NodeProvider):
    """A cloud that has no spot machines left, and says so as Ray's AWS provider does."""

    def __init__(self) -> None:
        super().__init__({"type": "aws"}, "vididi")
        self.asked: list[str] = []
        self.made: dict[str, dict[str, str]] = {
            "i-head": {"ray-node-type": "head", "ray-user-node-type": "head"}
        }

    def create_node_with_resources_and_labels(
        self, node_config: Any, tags: dict[str, str], count: int, resources: Any, labels: Any
    ) -> None:
        name = tags["ray-user-node-type"]
        self.asked.append(name)
        if node_config.get("InstanceMarketOptions"):
            raise NodeLaunchException("InsufficientInstanceCapacity", "no Spot capacity", None)
        for _ in range(count):
            self.made[f"i-{len(self.made)}"] = tags

    def non_terminated_nodes(self, tag_filters: Any) -> list[str]:
        return list(self.made)

    def node_tags(self, node_id: str) -> dict[str, str]:
        return self.made[node_id]

    def is_running(self, node_id: str) -> bool:
        return True


class Config:
    def __init__(self, **most: int) -> None:
        file = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())
        for name, number in most.items():
            node = file["available_node_types"][name]
            node["max_workers"], node["resources"] = number, {"CPU": 48, "GPU": 4}
        self.config = AutoscalingConfig(prepare_config(file), skip_content_hash=True)

    def get_cached_autoscaling_config(self) -> AutoscalingConfig:
        return copy.deepcopy(self.config)

    refresh_cached_autoscaling_config = get_cached_autoscaling_config


def asked_for(config: Config, rounds: int = 6) -> tuple[list[str], WithoutSpot]:
    cloud = WithoutSpot()
    adapter = NodeProviderAdapter(v1_provider=cloud, config_reader=config)
    monitor = CloudResourceMonitor()
    manager = InstanceManager(
        instance_storage=InstanceStorage("vididi", InMemoryStorage()),
        instance_status_update_subscribers=[CloudInstanceUpdater(adapter), monitor],
    )
    scheduler = ResourceDemandScheduler()
    for number in range(rounds):
        state = ClusterResourceState(cluster_resource_state_version=number + 1)
        request = ResourceRequestUtil.make({"CPU": 3, "GPU": 1})
        state.pending_resource_requests.add(request=request, count=4)
        if number:  # the machine is there before its Ray is
            state.node_states.add(
                node_id=b"head", instance_id="i-head", ray_node_type_name="head", status="RUNNING"
            )
        Reconciler.reconcile(
            instance_manager=manager,
            scheduler=scheduler,
            cloud_provider=adapter,
            cloud_resource_monitor=monitor,
            ray_cluster_resource_state=state,
            non_terminated_cloud_instances=adapter.get_non_terminated(),
            cloud_provider_errors=adapter.poll_errors(),
            autoscaling_config=config.get_cached_autoscaling_config(),
        )
        time.sleep(0.3)
    return cloud.asked, cloud


def test_ray_asks_for_spot_again_and_again_and_never_goes_over_to_on_demand():
    asked, cloud = asked_for(Config(gpu_worker=8, gpu_worker_on_demand=8))
    assert len(asked) >= 3
    assert set(asked) == {SPOT}
    assert list(cloud.made) == ["i-head"]


def test_with_spot_switched_off_the_same_request_is_met_on_demand():
    asked, cloud = asked_for(Config(gpu_worker=0, gpu_worker_on_demand=8))
    assert set(asked) == {ON_DEMAND}
    assert len(cloud.made) == 2
