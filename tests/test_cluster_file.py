"""ray_cluster.yaml and its variants against Ray's own schema, and the AWS file against a simulated
AWS.

tests/cluster/test_ray_up.py brings a cluster up with the same commands.
"""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
FILES = {name: yaml.safe_load((ROOT / path).read_text()) for name, path in {
    "aws": "ray_cluster.yaml", "gcp": "docs/clusters/gcp.yaml", "on_premises": "docs/clusters/on_premises.yaml",
}.items()}  # fmt: skip
AWS = FILES["aws"]
every_file = pytest.mark.parametrize("config", FILES.values(), ids=list(FILES))


@every_file
def test_the_file_is_valid_for_ray(config):
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(config)
    validate_config(prepared)
    assert prepared["head_node_type"] in prepared["available_node_types"]


@every_file
def test_the_dashboard_is_not_open_to_the_network(config):
    assert any(
        "--dashboard-host=127.0.0.1" in command for command in config["head_start_ray_commands"]
    )


@every_file
def test_no_node_starts_without_the_token_or_reports_usage(config):
    assert config["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    for command in config["head_start_ray_commands"] + config["worker_start_ray_commands"]:
        assert (
            "ray start" not in command or "RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0" in command
        )


@pytest.mark.parametrize("name", ["gcp", "on_premises"])
def test_a_variant_has_the_commands_of_the_aws_file_but_for_the_address_of_the_storage(name):
    variant = FILES[name]
    for key in (
        "file_mounts",
        "rsync_exclude",
        "rsync_filter",
        "head_start_ray_commands",
        "worker_start_ray_commands",
    ):
        assert variant[key] == AWS[key]
    differing = [
        (a, b)
        for a, b in zip(AWS["setup_commands"], variant["setup_commands"], strict=True)
        if a != b
    ]
    assert [
        a.startswith("mountpoint -q /mnt/shared ||")
        and b.startswith("mountpoint -q /mnt/shared ||")
        for a, b in differing
    ] == [True]


def test_aws_makes_the_machines_that_the_file_names(monkeypatch, tmp_path):
    moto, boto3 = pytest.importorskip("moto"), pytest.importorskip("boto3")
    for name, value in {
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-west-2",
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / ".ssh").mkdir()  # Ray puts the key that it makes there
    with moto.mock_aws():
        from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
        from ray.autoscaler._private.util import prepare_config

        nodes = AWS["available_node_types"].values()
        for profile in {node["node_config"]["IamInstanceProfile"]["Name"] for node in nodes}:
            boto3.client("iam").create_instance_profile(InstanceProfileName=profile)
        config = AWSNodeProvider.bootstrap_config(
            AWSNodeProvider.fillout_available_node_types_resources(prepare_config(AWS))
        )
        provider = AWSNodeProvider(config["provider"], "vididi")
        for name, node in config["available_node_types"].items():
            provider.create_node(node["node_config"], {"ray-user-node-type": name}, 1)
        made = [
            i
            for reservation in boto3.client("ec2").describe_instances()["Reservations"]
            for i in reservation["Instances"]
        ]
    types = config["available_node_types"]
    assert (
        types["head"]["resources"]["CPU"],
        types["gpu_worker"]["resources"]["CPU"],
        types["gpu_worker"]["resources"]["GPU"],
    ) == (
        0,
        48,
        4,
    )
    assert [(i["InstanceType"], i.get("InstanceLifecycle")) for i in made] == [
        ("m6i.2xlarge", None),
        ("g6.12xlarge", "spot"),
        ("g6.12xlarge", None),
    ]
    assert all(i["ImageId"].startswith("resolve:ssm:/aws/service/") for i in made)
    assert [i["IamInstanceProfile"]["Arn"].rpartition("/")[2] for i in made] == [
        "vididi-head",
        "vididi-worker",
        "vididi-worker",
    ]


def without_spot(node_config):
    """A node on demand: neither AWS's market options nor Google's provisioning model."""
    kept = {key: value for key, value in node_config.items() if key != "InstanceMarketOptions"}
    if "scheduling" in kept:
        kept["scheduling"] = [one for one in kept["scheduling"] if "provisioningModel" not in one]
    return kept


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_on_demand_workers_are_the_spot_workers_without_spot_and_switched_off(name):
    types = FILES[name]["available_node_types"]
    spot, other = types["gpu_worker"], types["gpu_worker_on_demand"]
    assert other["node_config"] == without_spot(spot["node_config"]) != spot["node_config"]
    assert other["resources"] == spot["resources"]
    assert (spot["max_workers"], other["max_workers"]) == (8, 0)
    assert spot["priority"] > other.get("priority", 0)
