"""ray_cluster.yaml against Ray's own schema. Bringing a cluster up needs a cloud."""

from pathlib import Path

import yaml

FILE = Path(__file__).resolve().parents[1] / "ray_cluster.yaml"


def test_the_cluster_file_is_valid_for_ray():
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load(FILE.read_text())
    prepared = prepare_config(config)
    validate_config(prepared)
    assert prepared["head_node_type"] in prepared["available_node_types"]


def test_the_dashboard_is_not_open_to_the_network():
    commands = yaml.safe_load(FILE.read_text())["head_start_ray_commands"]
    assert any("--dashboard-host=127.0.0.1" in command for command in commands)


def test_nothing_reports_usage_unasked():
    config = yaml.safe_load(FILE.read_text())
    for command in config["head_start_ray_commands"] + config["worker_start_ray_commands"]:
        assert "ray start" not in command or "RAY_USAGE_STATS_ENABLED=0" in command
