"""ray_cluster.yaml brought up by `ray up` over real SSH on two hosts, a sweep run there, and
everything taken down.

The hosts are network, process and mount namespaces of this machine (hosts.sh), each with an sshd.
So `ray stop`, which the file and `ray down` run, sees the processes of its host alone. The cluster
file is ray_cluster.yaml with another provider; its set-up, mount and start commands run as they
stand. What stands in for something else: the hosts have vididi's dependencies already, as an image
would (so there is nothing to install), /mnt/shared is mounted already, and `sudo` does nothing,
since the user is root.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config

ROOT = Path(__file__).resolve().parents[2]
HOSTS = {"head": "10.77.0.2", "worker": "10.77.0.3"}
CONFIG = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())
AWS_ALONE = ("provider", "auth", "available_node_types", "head_node_type", "max_workers")
IDLE_MINUTES = 1.0  # before a worker is released


def missing() -> str:
    """Why hosts cannot be made here; empty where they can."""
    tools = [
        tool
        for tool in ("sshd", "ssh", "ssh-keygen", "rsync", "ip", "unshare", "nsenter")
        if not find(tool)
    ]
    if tools:
        return f"not installed: {', '.join(tools)}"
    trial = [
        "unshare",
        "--fork",
        "--pid",
        "--net",
        "--mount",
        "--mount-proc",
        "ip",
        "link",
        "add",
        "veth1",
        "type",
        "veth",
    ]
    if subprocess.run(trial, capture_output=True, check=False).returncode:
        return "network namespaces cannot be made here (that takes root)"
    return ""


def find(tool: str) -> str | None:
    return shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


pytestmark = [pytest.mark.ray, pytest.mark.skipif(bool(reason := missing()), reason=reason)]


class Hosts:
    """The user's machine, with a checkout and a cluster file, and two hosts that it reaches by
    SSH.
    """

    def __init__(self, place: Path) -> None:
        self.place, self.home, self.checkout = place, place / "user/home", place / "user/vididi"
        self.home.mkdir(parents=True)
        self.make_checkout()
        self.make_keys()
        for name in HOSTS:
            self.make_home(place / name / "home/ubuntu")
        with (place / "worker/home/ubuntu/.bashrc").open("a") as file:
            # As many CPUs as the sweep wants, said as a cloud's provider says it.
            file.write("export RAY_OVERRIDE_RESOURCES='{\"CPU\": 4}'\n")
        line = "ubuntu:x:0:0::/home/ubuntu:/bin/bash\n"
        (place / "hosts").write_text(
            "127.0.0.1 localhost\n"
            + "".join(f"{address} {name}\n" for name, address in HOSTS.items())
        )
        (place / "passwd").write_text(line + Path("/etc/passwd").read_text())
        keep = " ".join({str(place), sys.prefix, sys.base_prefix})
        start = [
            "unshare",
            "--fork",
            "--kill-child",
            "--pid",
            "--net",
            "--mount",
            "--mount-proc",
            "bash",
        ]
        self.process = subprocess.Popen(
            [*start, str(Path(__file__).with_name("hosts.sh")), str(place), keep, *HOSTS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"

    def make_checkout(self) -> None:
        """What git holds or would hold; rsync's own rules are tried on a folder that is not to
        travel.
        """
        files = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for name in files:
            if (ROOT / name).is_file():
                (self.checkout / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.checkout / name)
        (self.checkout / "runs").mkdir()
        (self.checkout / "runs/large").write_text("stays here")
        (self.checkout / "local.yaml").write_text(
            yaml.safe_dump(on_hosts(CONFIG, self.home / "key"))
        )

    def make_keys(self) -> None:
        for name in ("key", "host_key"):
            subprocess.run(
                [find("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(self.home / name)],
                check=True,
            )

    def make_home(self, home: Path) -> None:
        """An image: sshd's files, and an environment with the dependencies, made from the one that
        runs this test.
        """
        (home / "bin").mkdir(parents=True)
        shutil.copy(self.home / "key.pub", home / "authorized_keys")
        shutil.copy(self.home / "host_key", home / "host_key")
        (home / "sshd_config").write_text(
            "HostKey /home/ubuntu/host_key\nAuthorizedKeysFile /home/ubuntu/authorized_keys\nUsePAM"
            " no\nPidFile none\n"
        )
        (home / "bin/sudo").write_text('#!/bin/sh\nexec "$@"\n')
        (home / "bin/sudo").chmod(0o755)
        (home / ".bashrc").write_text("PATH=/home/ubuntu/bin:$PATH\n")
        make_environment(home)

    def user(
        self, *command: str, timeout: float = 300, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the user's machine, in the checkout."""
        pid = self.process.pid
        enter = [
            "nsenter",
            f"--target={pid}",
            "--net",
            "--mount",
            f"--pid=/proc/{pid}/ns/pid_for_children",
        ]
        values = {
            "HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin",
            "LC_ALL": "C.UTF-8",
            **variables,
        }
        # Version 2 of the autoscaler does not start workers of the local provider.
        values = {
            "RAY_UP_enable_autoscaler_v2": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "COLUMNS": "200",
        } | values
        return subprocess.run(
            [
                *enter,
                "env",
                "-i",
                "-C",
                str(self.checkout),
                *(f"{k}={v}" for k, v in values.items()),
                *command,
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def ssh(self, host: str, command: str) -> subprocess.CompletedProcess[str]:
        options = [
            "-q",
            "-i",
            str(self.home / "key"),
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ]
        return self.user("ssh", *options, f"ubuntu@{HOSTS[host]}", command)

    def on_head(self, command: str) -> subprocess.CompletedProcess[str]:
        return self.ssh("head", f". ~/.bashrc && {command}")

    def close(self) -> None:
        """End every process on the hosts, and see that none is left."""
        assert self.process.stdin
        processes = psutil.Process(self.process.pid).children(recursive=True)
        self.process.stdin.close()
        self.process.wait(timeout=30)
        assert processes
        assert not [process for process in processes if process.is_running()]


def make_environment(home: Path) -> None:
    """What the set-up's `pip install` leaves in /home/ubuntu, with the packages of the environment
    that runs this test.
    """
    venv = home / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    activate = venv / "bin/activate"
    activate.write_text(activate.read_text().replace(str(home), "/home/ubuntu"))
    (packages,) = venv.glob("lib/python*/site-packages")
    (packages / "image.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    (venv / "bin/ray").write_text(
        "#!/home/ubuntu/venv/bin/python\nfrom ray.scripts.scripts import main\n\nmain()\n"
    )
    (venv / "bin/ray").chmod(0o755)
    (venv / "installed").write_bytes(
        (ROOT / "pyproject.toml").read_bytes() + (ROOT / "constraints.txt").read_bytes()
    )


def on_hosts(config: dict, key: Path) -> dict:
    """The cluster file with the local provider; set-up, mounts, start commands and the least number
    of workers as they are.
    """
    kept = {name: value for name, value in config.items() if name not in AWS_ALONE}
    provider = {"type": "local", "head_ip": HOSTS["head"], "worker_ips": [HOSTS["worker"]]}
    auth = {"ssh_user": "ubuntu", "ssh_private_key": str(key)}
    local = prepare_config(
        {**kept, "provider": provider, "auth": auth, "idle_timeout_minutes": IDLE_MINUTES}
    )
    # By itself, Ray starts every host of the local provider at once. And a cloud's provider knows
    # what its machines have.
    (kind,) = local["available_node_types"].values()
    kind |= {
        "min_workers": config["available_node_types"]["gpu_worker"]["min_workers"],
        "resources": {"CPU": 4},
    }
    return local


@pytest.fixture(scope="module")
def hosts(tmp_path_factory) -> Iterator[Hosts]:
    hosts = Hosts(tmp_path_factory.mktemp("hosts"))
    yield hosts
    hosts.close()


@pytest.fixture(scope="module")
def cluster(hosts) -> Hosts:
    """What `ray up` alone makes of the file: a head, and no worker yet."""
    assert_ok(hosts.user("ray", "get-auth-token", "--generate"))
    assert_ok(hosts.user("ray", "up", "--yes", "local.yaml"))
    return hosts


def assert_ok(done: subprocess.CompletedProcess[str]) -> None:
    assert not done.returncode, (done.stdout + done.stderr)[-6000:]


def test_without_a_token_nothing_is_started(hosts):
    assert hosts.user("ray", "up", "--yes", "local.yaml").returncode
    assert not ray_processes(hosts, "head")


def test_a_sweep_brings_the_worker_up_runs_there_and_comes_back(cluster):
    assert not ray_processes(cluster, "worker")
    sweep = "/home/ubuntu/vididi/sweeps/smoke.yaml"
    options = ("--address", "auto", "--runs", "/mnt/shared/runs")
    assert_ok(
        done := cluster.user(
            "ray", "submit", "local.yaml", "run_sweep.py", sweep, *options, timeout=500
        )
    )
    assert "the cluster has no CPUs to prepare with; waiting for nodes" in " ".join(
        (done.stdout + done.stderr).split()
    )
    assert "sweep smoke: 3 cells, 0 finished before, 3 to run" in done.stdout
    assert_ok(cluster.user("ray", "rsync-down", "local.yaml", "/mnt/shared/runs/", "back/"))
    results = [
        json.loads(path.read_text())
        for path in (cluster.checkout / "back/smoke").glob("*/result.json")
    ]
    assert len(results) == 3
    assert all(result["retrieval/R@1"] >= 0 for result in results)
    assert "ViDiDi-VIC" in (cluster.checkout / "back/smoke/vididi_table_6.md").read_text()
    # The head trains nothing: TensorBoard's files carry the name of the host that wrote them.
    assert {
        path.name.split(".")[4]
        for path in (cluster.checkout / "back/smoke").glob("*/events.out.tfevents.*")
    } == {"worker"}
    # And as a job, which goes on when the user's machine is shut: everything is finished already.
    job = f"ray job submit -- python /home/ubuntu/vididi/run_sweep.py {sweep} {' '.join(options)}"
    assert_ok(again := cluster.user("ray", "exec", "local.yaml", job))
    assert "sweep smoke: 3 cells, 3 finished before, 0 to run" in again.stdout


def test_the_working_tree_and_the_token_are_on_both_hosts(cluster):
    token = (cluster.home / ".ray/auth_token").read_text()
    for name in HOSTS:
        home = cluster.place / name / "home/ubuntu"
        assert (home / ".ray/auth_token").read_text() == token
        assert (home / ".ray/auth_token").stat().st_mode & 0o777 == 0o600
        assert (home / "vididi/run_sweep.py").read_bytes() == (ROOT / "run_sweep.py").read_bytes()
        assert not (home / "vididi/runs").exists(), "what git ignores does not travel"
        assert (home / "vididi/vididi/runs/readers.py").exists(), "the code of that name does"


def test_the_dashboard_listens_on_localhost_and_asks_for_the_token(cluster):
    listening = cluster.ssh("head", "ss -ltnH").stdout.split()
    assert "127.0.0.1:8265" in listening
    assert not [
        address
        for address in listening
        if address.endswith(":8265") and address != "127.0.0.1:8265"
    ]
    ask = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8265/api/version"
    nodes = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8265/nodes?view=summary"
    assert (cluster.ssh("head", ask).stdout, cluster.ssh("head", nodes).stdout) == ("401", "401")
    assert (
        cluster.ssh("head", f'{nodes} -H "Authorization: Bearer $(cat ~/.ray/auth_token)"').stdout
        == "200"
    )


def test_nobody_without_the_token_reaches_the_cluster(cluster):
    asked = ["ray", "status", "--address", f"{HOSTS['head']}:6379"]
    assert "4.0 CPU" in cluster.user(*asked, RAY_AUTH_MODE="token").stdout
    assert (
        "4.0 CPU"
        not in (
            refused := cluster.user(*asked, HOME=str(cluster.place), RAY_AUTH_MODE="disabled")
        ).stdout
    )
    assert "Unauthenticated" in refused.stdout + refused.stderr


def test_the_object_store_lies_in_shared_memory_and_has_four_fifths_of_it(cluster):
    for name in HOSTS:
        size = int(cluster.ssh(name, "df --output=size -B 1 /dev/shm | tail -n 1").stdout)
        started = cluster.ssh(
            name, "tr '\\0' '\\n' < /proc/$(pgrep -x raylet)/cmdline"
        ).stdout.splitlines()
        assert "--plasma_directory=/dev/shm" in started
        assert f"--object_store_memory={size // 5 * 4}" in started


def test_an_idle_worker_is_released(cluster):
    limit = time.monotonic() + 60 * IDLE_MINUTES + 120
    while ray_processes(cluster, "worker"):
        assert time.monotonic() < limit, cluster.on_head("ray status -v").stdout
        time.sleep(1)
    assert ray_processes(cluster, "head")


def test_it_is_taken_down(cluster):
    """Last."""
    assert_ok(cluster.user("ray", "down", "--yes", "local.yaml"))
    assert not ray_processes(cluster, "head")
    assert not ray_processes(cluster, "worker")


def ray_processes(cluster: Hosts, host: str) -> list[str]:
    return [
        line
        for line in cluster.ssh(host, "ps -eo args").stdout.splitlines()
        if "ray" in line.split("/")[-1] or "ray::" in line
    ]
