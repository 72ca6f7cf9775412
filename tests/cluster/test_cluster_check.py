"""`vididi cluster check` on the shipped files, and on files that are wrong in one way each."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from vididi import cli
from vididi.cluster.check.ask_aws import ask
from vididi.cluster.check.cluster_check import check_cluster_file
from vididi.cluster.check.cluster_file import ClusterFile, read_cluster_file
from vididi.cluster.check.node_types import machine_has
from vididi.cluster.check.ray_schema import PROVIDERS
from vididi.errors import ConfigError
from vididi.sweep import load_sweep

ROOT = Path(__file__).resolve().parents[2]
AWS = "ray_cluster.yaml"
SHIPPED = [AWS, "docs/clusters/gcp.yaml", "docs/clusters/on_premises.yaml"]
UCF101 = ROOT / "sweeps/paper/vididi_table_1_ucf101.yaml"
FILLED_IN = {
    "fs-FILL-IN": "fs-0123456789abcdef0",
    "project_id: FILL-IN": "project_id: my-project",
    "family/FILL-IN": "family/common-cu129-ubuntu-2404",
    "email: FILL-IN": "email: workers@my-project.iam.gserviceaccount.com",
    "head_ip: FILL-IN": "head_ip: 10.0.0.2",
    "[FILL-IN, FILL-IN]": "[10.0.0.3, 10.0.0.4]",
    "FILL-IN:/share": "10.0.0.9:/share",
}


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's machine on which nothing is missing: programs, a token, a key and credentials."""
    home, programs = tmp_path / "home", tmp_path / "bin"
    for folder in (home / ".ray", home / ".ssh", programs):
        folder.mkdir(parents=True)
    for program in ("ssh", "rsync"):
        (programs / program).write_text("#!/bin/sh\n")
        (programs / program).chmod(0o755)
    (home / ".ray/auth_token").write_text("0" * 64)
    (home / ".ray/auth_token").chmod(0o600)
    make_key(home / ".ssh/id_ed25519")
    google = home / "google.json"
    google.write_text('{"type": "service_account"}')
    # A checkout without what a developer has in it, such as .venv.
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "docs" / "clusters", checkout / "docs" / "clusters")
    shutil.copytree(ROOT / "sweeps", checkout / "sweeps")
    for name in ("ray_cluster.yaml", "run_sweep.py"):
        shutil.copy(ROOT / name, checkout)
    monkeypatch.chdir(checkout)
    for name in ("AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "HOME": str(home),
        "PATH": str(programs),
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "GOOGLE_APPLICATION_CREDENTIALS": str(google),
        "RAY_UP_enable_autoscaler_v2": "0",
    }.items():
        monkeypatch.setenv(name, value)
    return home


def make_key(path: Path, cipher: bytes = b"none") -> None:
    """The beginning of a private key in OpenSSH's format, which names how it is encrypted."""
    raw = b"openssh-key-v1\0" + len(cipher).to_bytes(4, "big") + cipher + bytes(64)
    lines = textwrap.wrap(base64.b64encode(raw).decode(), 70)
    head, foot = (f"-----{word} OPENSSH PRIVATE KEY-----" for word in ("BEGIN", "END"))
    path.write_text("\n".join([head, *lines, foot, ""]))
    path.chmod(0o600)


def filled_in(name: str) -> str:
    text = (ROOT / name).read_text()
    for open_value, value in FILLED_IN.items():
        text = text.replace(open_value, value)
    return text


def check(tmp_path: Path, text: str, **options) -> ClusterFile:
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    return check_cluster_file(path, **options)


def problems(read: ClusterFile) -> list[str]:
    return [f"{f.where}: {f.text}" for f in read.findings if f.level == "problem"]


# --- The shipped files ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_file_has_no_problem_but_what_is_to_be_filled_in(name: str) -> None:
    read = check_cluster_file(ROOT / name)
    others = [text for text in problems(read) if "is still to be filled in" not in text]
    assert [text for text in others if "google-api" not in text] == []
    lines = (ROOT / name).read_text().splitlines()
    there = {n for n, line in enumerate(lines, 1) if "FILL-IN" in line and line.strip()[0] != "#"}
    assert {finding.line for finding in read.findings if "filled in" in finding.text} == there


@pytest.mark.parametrize("name", SHIPPED)
def test_filled_in_nothing_is_said_but_notes(name: str, tmp_path: Path) -> None:
    read = check(tmp_path, filled_in(name), sweep=load_sweep(UCF101))
    said = [f.text for f in read.findings if f.level != "note" and "google-api" not in f.text]
    assert said == []


# --- Files that are wrong -------------------------------------------------------------------------

# What is changed in the file for AWS, and what is said of it: level, place, words.
WRONG: dict[str, tuple[str, str, str]] = {
    # Spelling, kinds and shape
    "idle_timeout_minutes: 10 -> idle_timeout_minute: 10": (
        "problem", "idle_timeout_minute", "Ray knows no key `idle_timeout_minute` here; did you mean 'idle_timeout_minutes'?"),
    "max_workers: 8\nidle -> max_workers: '8'\nidle": (
        "problem", "max_workers", "this must be a whole number, and is the text '8'"),
    "max_workers: 8\nidle -> max_workers:\nidle": (
        "problem", "max_workers", "this must be a whole number, and is nothing"),
    "resources: {CPU: 0} -> resources: {CPU: 0.5}": (
        "problem", "available_node_types.head.resources.CPU", "this must be a whole number, and is 0.5"),
    "resources: {CPU: 0} -> resources: {CPU: -1}": (
        "problem", "available_node_types.head.resources.CPU", "this must be at least 0, and is -1"),
    "cluster_name: vididi -> cluster_name: 5": (
        "problem", "cluster_name", "this must be a text, and is 5"),
    "file_mounts: -> setup_commands: []\nfile_mounts:": (
        "problem", "setup_commands", "`setup_commands` is given twice (line 58 too), and Ray would take the last"),
    "cluster_name: vididi -> cluster_name: vididi\nhead_node: {InstanceType: m5.large}": (
        "problem", "head_node", "`head_node` was of Ray 1"),
    "cluster_name: vididi -> cluster_name: vididi\nmin_workers: 2": (
        "warning", "min_workers", "Ray drops this `min_workers` and starts no worker for it"),
    # Provider and node types
    "type: aws -> type: amazon": (
        "problem", "provider.type", "Ray has no provider 'amazon'"),
    "  region: us-west-2\n -> ": (
        "problem", "provider.region", "provider aws has no `region`, without which `ray up` ends"),
    "head_node_type: head -> head_node_type: heads": (
        "problem", "head_node_type", "'heads' is none of the node types; did you mean 'head'?"),
    "head_node_type: head\n -> ": (
        "problem", "available_node_types", "there is no `head_node_type`, which says which of the node types is the head"),
    "min_workers: 0  # sweeps -> min_workers: 9  # sweeps": (
        "problem", "max_workers", "the node types start 9 workers at least, and all may be 8"),
    "InstanceType: m6i.2xlarge -> InstanceType: m6i": (
        "problem", "available_node_types.head.node_config.InstanceType", "'m6i' is no name of an EC2 machine"),
    "      InstanceType: m6i.2xlarge\n -> ": (
        "problem", "available_node_types.head.node_config.InstanceType", "node type `head` has no `InstanceType`"),
    # Machines and images
    "resources: {}  # what -> resources: {GPU: 8}  # what": (
        "problem", "available_node_types.gpu_worker.resources.GPU", "8 GPUs are declared, and a g6.12xlarge has 4"),
    "InstanceType: g6.12xlarge\n      # The same -> InstanceType: g5g.16xlarge\n      # The same": (
        "problem", "available_node_types.gpu_worker.node_config.ImageId", "the image is for x86_64, and a g5g.16xlarge is an ARM machine"),
    "ImageId: resolve:ssm:/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id\n      InstanceMarket -> ImageId: resolve:ssm:/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id\n      InstanceMarket": (
        "problem", "available_node_types.gpu_worker.node_config.ImageId", "this image has no NVIDIA driver, and `gpu_worker` has 4 GPUs"),
    "file_mounts: -> docker: {image: 'rayproject/ray:2.60.0-py312', container_name: ray}\nfile_mounts:": (
        "problem", "docker.image", "the workers have GPUs, and this image has no CUDA"),
    "file_mounts: -> docker: {image: 'rayproject/ray:2.9.0-py310-gpu', container_name: ray}\nfile_mounts:": (
        "problem", "docker.image", "the image has Ray 2.9.0, and this machine 2.60.0"),
    "file_mounts: -> docker: {image: 'rayproject/ray:2.60.0-py312-gpu'}\nfile_mounts:": (
        "problem", "docker", "an image is named and no `container_name`"),
    "  cache_stopped ->   availability_zone: us-east-1a\n  cache_stopped": (
        "problem", "provider.availability_zone", "us-east-1a is no zone of region us-west-2"),
    # Keys and tokens
    "ssh_user: ubuntu -> ssh_user: ubuntu\n  ssh_private_key: ~/.ssh/none": (
        "problem", "auth.ssh_private_key", "there is no key ~/.ssh/none"),
    "ssh_user: ubuntu -> ssh_user: ubuntu\n  ssh_private_key: ~/.ssh/id_ed25519": (
        "problem", "available_node_types.head.node_config", "`auth` names a key, and node type `head` has no `KeyName`"),
    "ssh_user: ubuntu -> ssh_user: ec2-user": (
        "problem", "file_mounts./home/ubuntu/vididi", "this goes to the home of ubuntu, and `ssh_user` is ec2-user"),
    "  /home/ubuntu/.ray/auth_token: ~/.ray/auth_token\n -> ": (
        "problem", "file_mounts", "Ray asks for a token, and none travels to the nodes"),
    "RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 ray start --address -> RAY_USAGE_STATS_ENABLED=0 ray start --address": (
        "problem", "worker_start_ray_commands", "the head asks for a token, and workers start without RAY_AUTH_MODE=token"),
    # Storage
    "efs.us-west-2 -> efs.eu-west-1": (
        "problem", "setup_commands[4]", "the file system lies in eu-west-1, and the machines in us-west-2"),
    "VIDIDI_CACHE=/mnt/shared/cache -> VIDIDI_CACHE=/home/ubuntu/cache": (
        "warning", "setup_commands[6]", "VIDIDI_CACHE=/home/ubuntu/cache lies on each node by itself, and prepared data with it"),
    "VIDIDI_CACHE=/mnt/shared/cache -> VIDIDI_CACHE=s3://My_Bucket/cache": (
        "problem", "setup_commands[6]", "s3://My_Bucket cannot be a bucket: 'M' may not stand in it; small letters, digits, - and . may"),
    "/home/ubuntu/vididi: . -> /home/ubuntu/vididi: ../nowhere": (
        "problem", "file_mounts./home/ubuntu/vididi", "there is no ../nowhere here, which is to travel to the nodes"),
    # How Ray starts
    "--address=$RAY_HEAD_IP:6379 -> --address=$RAY_HEAD_IP:6380": (
        "problem", "worker_start_ray_commands[1]", "the worker asks the head at port 6380, and the head listens at 6379"),
    "    --autoscaling-config=~/ray_bootstrap_config.yaml\n -> ": (
        "problem", "head_start_ray_commands[1]", "the head gets no cluster file, so no worker is ever started"),
    "--dashboard-host=127.0.0.1 -> --dashboard-host=0.0.0.0": (
        "warning", "head_start_ray_commands[1]", "the dashboard listens at 0.0.0.0, for whoever reaches the head"),
}  # fmt: skip


@pytest.mark.parametrize("change", WRONG)
def test_what_is_wrong_is_said_where_it_is(change: str, tmp_path: Path) -> None:
    level, where, text = WRONG[change]
    before, _, after = change.partition(" -> ")
    good = filled_in(AWS)
    assert good.count(before) >= 1, before
    read = check(tmp_path, good.replace(before, after, 1))
    said = [(finding.level, finding.where, finding.text) for finding in read.findings]
    assert (level, where, text) in said
    (finding,) = [finding for finding in read.findings if finding.text == text][:1]
    assert finding.advice
    assert finding.line is not None or not where or where == "provider.region"


def test_a_file_of_the_local_provider_names_each_machine_once(tmp_path: Path) -> None:
    text = filled_in(SHIPPED[2])
    read = check(tmp_path, text.replace("[10.0.0.3, 10.0.0.4]", "[10.0.0.3, 10.0.0.2, 10.0.0.3]"))
    assert problems(read) == [
        "provider.worker_ips[1]: 10.0.0.2 is the head too, and one machine runs one Ray of the"
        " cluster",
        "provider.worker_ips[2]: 10.0.0.3 is listed twice",
    ]
    read = check(tmp_path, text + "available_node_types: {a: {resources: {}, node_config: {}}}\n")
    assert problems(read) == [
        "available_node_types: machines that are there already have no node types"
    ]


def test_a_machine_of_google_with_gpus_may_be_ended_for_maintenance(tmp_path: Path) -> None:
    text = filled_in(SHIPPED[1]).replace("TERMINATE", "MIGRATE")
    text = text.replace("cluster_name: vididi", "cluster_name: Vididi")
    said = [text for text in problems(check(tmp_path, text)) if "google-api" not in text]
    assert said == [
        "cluster_name: 'Vididi' cannot be a label of Google Cloud",
        *(
            f"available_node_types.{name}.node_config.scheduling: Google Cloud starts a machine"
            " with GPUs only where it may be ended for maintenance"
            for name in ("gpu_worker", "gpu_worker_on_demand")
        ),
    ]


def test_what_an_alias_repeats_is_to_be_filled_in_once(tmp_path: Path) -> None:
    said = problems(check(tmp_path, (ROOT / SHIPPED[1]).read_text()))
    assert len([text for text in said if "sourceImage" in text]) == 1
    assert len([text for text in said if "email" in text]) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be a mapping of keys to values, and is empty"),
        ("- a\n- b\n", "must be a mapping of keys to values, and is a list"),
        ("provider: {type: aws\n", ", line 2: not valid YAML: expected ',' or '}'"),
        (
            "provider:\n\ttype: aws\n",
            ", line 2: not valid YAML: a tab stands where only spaces may",
        ),
        ("provider: *aws\n", ", line 1: not valid YAML: found undefined alias 'aws'"),
        ("a: !!python/object:os.system x\n", "not valid YAML: could not determine a constructor"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_error_with_its_line(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(text)
    assert cli.main(["cluster", "check", str(tmp_path / "c.yaml")]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_file_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: No such file or directory"):
        read_cluster_file(tmp_path / "none.yaml")


# --- This machine ---------------------------------------------------------------------------------


def with_key(tmp_path: Path, key: str) -> list[str]:
    text = filled_in(SHIPPED[2]).replace("~/.ssh/id_ed25519", key)
    return [f.text for f in check(tmp_path, text).findings if "id_ed25519" in f.text]


def test_a_key_that_ssh_would_refuse_is_named(machine: Path, tmp_path: Path) -> None:
    key = machine / ".ssh/id_ed25519"
    assert with_key(tmp_path, "~/.ssh/id_ed25519") == []
    key.chmod(0o644)
    assert with_key(tmp_path, "~/.ssh/id_ed25519") == [
        "~/.ssh/id_ed25519 has mode 644, and ssh refuses a key that others may read"
    ]
    make_key(key, b"aes256-ctr")
    assert with_key(tmp_path, "~/.ssh/id_ed25519") == [
        "~/.ssh/id_ed25519 has a passphrase, which nobody types on the head"
    ]
    key.write_text("ssh-ed25519 AAAA me@here")
    assert with_key(tmp_path, "~/.ssh/id_ed25519") == [
        "~/.ssh/id_ed25519 is the public half of a key"
    ]


def test_a_token_is_there_and_nobody_else_reads_it(machine: Path, tmp_path: Path) -> None:
    token = machine / ".ray/auth_token"

    def said() -> list[tuple[str, str]]:
        found = check(tmp_path, filled_in(AWS)).findings
        return [(f.text, f.advice) for f in found if "token" in f.text]

    token.chmod(0o644)
    assert said() == [
        (
            "others on this machine may read the token at ~/.ray/auth_token",
            "chmod 600 ~/.ray/auth_token",
        )
    ]
    token.write_text("\n")
    assert said()[0][0] == "the token at ~/.ray/auth_token is empty"
    token.unlink()
    assert said() == [
        ("there is no token at ~/.ray/auth_token yet", "Make one: ray get-auth-token --generate")
    ]


def test_credentials_of_aws_are_looked_for_without_the_network(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said() -> list[str]:
        return problems(check(tmp_path, filled_in(AWS)))

    assert said() == []
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert [text for text in said() if "partial" in text.lower()]
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert said() == ["provider.type: there are no AWS credentials on this machine"]
    (machine / ".aws").mkdir()
    (machine / ".aws/credentials").write_text(
        "[default]\naws_access_key_id = x\naws_secret_access_key = x\n"
    )
    assert said() == []
    monkeypatch.setenv("AWS_PROFILE", "other")
    assert said() == [
        "provider.type: AWS credentials here: The config profile (other) could not be found"
    ]


def test_programs_that_ray_up_calls_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert problems(check(tmp_path, filled_in(AWS))) == [
        ": `ssh` is not installed here",
        ": `rsync` is not installed here",
    ]


def test_ray_up_starts_in_a_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert problems(check(tmp_path, filled_in(AWS))) == [
        f"file_mounts./home/ubuntu/vididi: the working folder ({tmp_path}) travels, and it is no"
        " clone of vididi"
    ]


# --- Sweeps, runs, buckets ------------------------------------------------------------------------


def test_the_largest_cell_is_placed_on_the_nodes(tmp_path: Path) -> None:
    read = check(tmp_path, filled_in(AWS), sweep=load_sweep(UCF101))
    assert [finding.text for finding in read.findings] == [
        "the largest of sweep paper_vididi, a cell of simclr, 8 x (2 CPUs, 1 GPUs), lies on 2 x"
        " gpu_worker with up to 4 workers"
    ]


@pytest.mark.parametrize(
    ("change", "after"),
    [
        ("max_workers: 8\nidle", "max_workers: 1\nidle"),
        (
            "InstanceType: g6.12xlarge",
            "InstanceType: g6.xlarge",
        ),  # a worker wants 3 CPUs: 8 nodes do
        ("InstanceType: g6.12xlarge", "InstanceType: m6i.12xlarge"),
        ("resources: {}  # what", "resources: {CPU: 2}  # what"),
    ],
)
def test_a_cell_that_never_fits_is_a_problem(change: str, after: str, tmp_path: Path) -> None:
    read = check(tmp_path, filled_in(AWS).replace(change, after, 1), sweep=load_sweep(UCF101))
    fits = "g6.xlarge" in after
    assert [
        "a cell of simclr, 8 x (2 CPUs, 1 GPUs), never fits. resources: a cell needs 8 workers with"
        " 3 CPUs and 1 GPUs (1 of the CPUs for its stream), each on one node" in text
        for text in problems(read)
        if "GPU" in text
    ] == ([] if fits else [True])


def test_runs_lie_where_all_nodes_see_them(tmp_path: Path) -> None:
    def said(**options: str) -> list[str]:
        return problems(check(tmp_path, filled_in(AWS), **options))

    assert said(runs="s3://my-bucket/runs", shards="/mnt/shared/ucf101") == []
    assert said(runs="/home/ubuntu/runs") == [
        "setup_commands: --runs /home/ubuntu/runs lies on no file system that the nodes share"
        " (mounted: /mnt/shared)"
    ]
    assert said(runs="s3://my_bucket/runs") == [
        "--runs: s3://my_bucket cannot be a bucket: '_' may not stand in it; small letters, digits,"
        " - and . may"
    ]


# --- Output ---------------------------------------------------------------------------------------


def test_piped_each_finding_is_one_line_that_begins_with_its_place(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["cluster", "check", AWS]) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert re.match(r"ray_cluster\.yaml:\d+: problem: setup_commands\[4\]: `fs-FILL-IN\.", first)
    assert last == "ray_cluster.yaml: 1 problem, 0 warnings"


def test_a_file_without_problems_has_status_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(filled_in(AWS))
    sweep = ["--sweep", "paper/vididi_table_1_ucf101"]
    assert cli.main(["cluster", "check", str(tmp_path / "c.yaml"), *sweep]) == 0
    assert capsys.readouterr().out.count("\n") == 2


def test_on_a_terminal_lines_fit_80_columns(tmp_path: Path) -> None:
    import io

    from vididi.commands.cluster_files import print_findings
    from vididi.terminal import PlainConsole

    text = filled_in(AWS).replace("~/.ray/auth_token", "~/" + "long/" * 30 + "token")
    read = check(tmp_path, text, sweep=load_sweep(UCF101))
    screen = io.StringIO()
    print_findings(read, PlainConsole(file=screen, width=80, force_terminal=True))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue()).splitlines()
    assert len(lines) > 3
    own = [line.rstrip() for line in lines if not line.startswith(str(read.path))]
    assert max(map(len, own)) <= 80


def test_the_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["cluster", "check", "--help"])
    assert ended.value.code == 0
    assert "example: vididi cluster check ray_cluster.yaml" in capsys.readouterr().out


# --- Tables ---------------------------------------------------------------------------------------


def test_what_ec2_s_machines_have_is_what_ec2_says() -> None:
    """As far as a machine is known here; what moto holds was asked of EC2."""
    pytest.importorskip("moto")
    from moto.ec2.models.instance_types import INSTANCE_TYPES

    compared = 0
    for name, machine in INSTANCE_TYPES.items():
        if (known := machine_has("aws", name)) is None:
            continue
        gpus = sum(gpu.get("Count", 0) for gpu in machine.get("GpuInfo", {}).get("Gpus", []))
        has = {"CPU": machine["VCpuInfo"]["DefaultVCpus"], **({"GPU": gpus} if gpus else {})}
        assert known == has, name
        compared += 1
    assert compared > 300
    assert machine_has("aws", "g6.12xlarge") == {"CPU": 48, "GPU": 4}


# --- What AWS says --------------------------------------------------------------------------------


def simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quotas: dict[str, float]) -> list:
    """What --ask adds in a simulated AWS. moto has no quotas of EC2: these are put into the client's
    answers, which botocore holds to AWS's own description of them.
    """
    moto, boto3 = pytest.importorskip("moto"), pytest.importorskip("boto3")
    from botocore.stub import Stubber

    with moto.mock_aws():
        session = boto3.Session(region_name="us-west-2")
        for name in ("vididi-head", "vididi-worker"):
            session.client("iam").create_instance_profile(InstanceProfileName=name)
        role = {"RoleName": "worker", "AssumeRolePolicyDocument": "{}"}
        session.client("iam").create_role(**role)
        session.client("iam").add_role_to_instance_profile(
            InstanceProfileName="vididi-worker", RoleName="worker"
        )
        place = {"LocationConstraint": "us-west-2"}
        session.client("s3").create_bucket(Bucket="mine", CreateBucketConfiguration=place)
        client = session.client("service-quotas")
        stub = Stubber(client)
        listed = [{"QuotaName": name, "Value": value} for name, value in quotas.items()]
        if quotas:
            stub.add_response("list_service_quotas", {"Quotas": listed}, {"ServiceCode": "ec2"})
        else:
            stub.add_client_error("list_service_quotas", "AccessDeniedException")
        stub.activate()
        original = session.client
        monkeypatch.setattr(
            session, "client", lambda name: client if name == "service-quotas" else original(name)
        )
        read = read_cluster_file(tmp_path / "cluster.yaml")
        ask(read, ["mine", "other"], session)
        return [(finding.level, finding.text) for finding in read.findings]


def test_aws_is_asked_for_machines_roles_buckets_and_quotas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cluster.yaml").write_text(filled_in(AWS))
    quotas = {"All G and VT Spot Instance Requests": 100.0, "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances": 5.0, "Running On-Demand G and VT instances": 0.0}  # fmt: skip
    said = simulated(tmp_path, monkeypatch, quotas)
    assert said[0][1].startswith("AWS knows you as arn:aws:sts::123456789012:")
    assert said[1:] == [
        (
            "problem",
            "your quota 'Running On-Demand Standard' is 5 vCPUs, and one m6i.2xlarge has 8",
        ),
        ("warning", "your quota 'All G and VT Spot' is 100 vCPUs, which is 2 of up to 8 machines"),
        ("problem", "instance profile vididi-head has no role"),
        ("problem", "there is no bucket other"),
    ]


def test_what_aws_has_not_or_does_not_tell_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = filled_in(AWS).replace("g6.12xlarge", "g6.13xlarge").replace("vididi-worker", "workers")
    (tmp_path / "cluster.yaml").write_text(text)
    said = simulated(tmp_path, monkeypatch, {})
    assert ("problem", "us-west-2 has no machines g6.13xlarge") in said
    assert ("problem", "your account has no instance profile workers") in said
    assert any(level == "warning" and "did not tell your quotas" in text for level, text in said)


def test_ray_s_providers_are_listed() -> None:
    assert {"aws", "gcp", "local", "azure"} <= set(PROVIDERS)


def test_the_core_and_the_command_line_do_without_it() -> None:
    code = (
        "import sys; sys.modules['ray'] = None; import vididi.commands.cluster_files, vididi.cli;"
        " vididi.cli.make_parser()"
    )
    assert not subprocess.run([sys.executable, "-c", code], check=False).returncode
