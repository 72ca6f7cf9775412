"""A Ray of our own: who can reach it, where its files are, and what is left when its driver dies."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.tiny_sweep import BASE
from vididi.cluster.guardian import is_alive, processes_of, started_at
from vididi.cluster.own_ray import remove_left_behind
from vididi.startup_checks import PREFIX

LOOPBACK = {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
DRIVER = """
import os, sys, tempfile, time
os.umask(0)
import ray
from vididi.cluster.guardian import MARK
from vididi.cluster.own_ray import own_ray
with own_ray(1, 100 * 2**20):
    def ask():
        # What a library makes at its import and removes at its end, unless it is killed.
        return os.environ[MARK], os.environ.get("RAY_AUTH_MODE"), tempfile.mkdtemp()
    folder, mode, made = ray.get(ray.remote(ask).remote())
    assert made.startswith(folder), made
    assert not tempfile.mkdtemp().startswith(folder)
    print(folder, mode, os.getpid(), flush=True)
    sys.stdin.readline()
print("ended", "RAY_AUTH_MODE=" + os.environ["RAY_AUTH_MODE"], flush=True)
"""


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder for sockets, whose path may not be as long as pytest's are."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def driver(short_folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process with a Ray of its own, started by someone whose environment leaves doors open, and
    is small.
    """
    environment = {
        "PATH": os.environ["PATH"],
        "RAY_AUTH_MODE": "disabled",
        "RAY_TMPDIR": str(short_folder),
        "HOME": "/nonexistent",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    yield process
    process.kill()
    process.wait()


def answer(driver: subprocess.Popen[str]) -> tuple[Path, str]:
    assert driver.stdout is not None
    folder, mode, _ = driver.stdout.readline().split()
    return Path(folder), mode


def listening(pid: int) -> set[tuple[str, str]]:
    """The name of a process with each address that it listens on; nothing of one that is gone."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        return {
            (process.name(), connection.laddr.ip)
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
    return set()


def below(pid: int) -> list[psutil.Process]:
    """The processes below another, when Ray's agents have their titles."""
    assert until(lambda: sum("Agent" in p.name() for p in psutil.Process(pid).children(True)) == 2)
    return psutil.Process(pid).children(recursive=True)


def until(condition: object, seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.1)
    return False


def test_nobody_else_can_reach_it_and_nothing_stays(
    driver: subprocess.Popen[str], short_folder: Path
) -> None:
    folder, mode = answer(driver)
    assert mode == "token"
    assert folder.parent == short_folder
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "token").stat().st_mode & 0o777 == 0o600

    # Ray's agents write their titles over their environment, the mark with it.
    agents = [child for child in below(driver.pid) if "Agent" in child.name()]
    assert {child.pid for child in agents} <= {*processes_of(str(folder))}
    assert len(agents) == 2
    commands = [" ".join(psutil.Process(pid).cmdline()) for pid in processes_of(str(folder))]
    assert not [line for line in commands if re.search(r"dashboard\.py|/(log_)?monitor\.py", line)]
    heard = [found for pid in [driver.pid, *processes_of(str(folder))] for found in listening(pid)]
    assert {"gcs_server", "raylet"} <= {name for name, _ in heard}
    assert {ip for _, ip in heard} <= LOOPBACK
    paths = [p for p in folder.rglob("*") if p.is_socket()]
    assert paths
    assert max(len(os.fsencode(p)) for p in paths) <= 107

    assert driver.stdin is not None
    assert driver.stdout is not None
    driver.stdin.write("\n")
    driver.stdin.flush()
    assert driver.stdout.readline() == "ended RAY_AUTH_MODE=disabled\n"
    assert driver.wait(60) == 0
    assert not list(processes_of(str(folder)))
    assert not list(short_folder.iterdir())


def test_the_workers_of_a_cell_listen_to_each_other_alone(
    tmp_path: Path, short_folder: Path
) -> None:
    (tmp_path / "two.yaml").write_text(
        f"name: two\n{BASE}  training: {{epochs: 2, batch_size: 8, threads: 1}}\n"
        "arms: {one: {}}\nseeds: [0]\nresources: {workers: 2, cpus_per_worker: 1}\n"
    )
    environment = {**os.environ, "RAY_TMPDIR": str(short_folder), "VIDIDI_CACHE": str(tmp_path)}
    program = Path(__file__).resolve().parents[2] / "run_sweep.py"
    with (tmp_path / "printed").open("w") as printed:
        sweep = subprocess.Popen(
            [sys.executable, str(program), "two.yaml"],
            cwd=tmp_path,
            env=environment,
            stdout=printed,
            stderr=printed,
        )
        heard: set[tuple[str, str]] = set()
        while sweep.poll() is None:
            for folder in short_folder.glob(f"{PREFIX}*"):
                for pid in [sweep.pid, *processes_of(str(folder))]:
                    heard |= listening(pid)
            time.sleep(0.3)
    assert sweep.returncode == 0, (tmp_path / "printed").read_text()
    result = next((tmp_path / "runs").rglob("result.json"))
    assert json.loads(result.read_text())["workers"] == 2
    assert {name for name, _ in heard if "Worker" in name}, heard
    assert {ip for _, ip in heard} <= LOOPBACK, heard
    assert not list(short_folder.iterdir())


AFTERWARDS = """
import ray
from ray.cluster_utils import Cluster
from vididi.cluster.connection import connected
from vididi.cluster.own_ray import own_ray
with own_ray(1, 100 * 2**20):
    pass
node = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 << 20}
cluster = Cluster(initialize_head=True, head_node_args=node)
try:
    with connected(cluster.address):
        print("answer", ray.get(ray.remote(lambda: 2).remote()))
finally:
    cluster.shutdown()
"""


AT_REST = """
import ray
from vididi.cluster.own_ray import own_ray

@ray.remote
def collecting():
    import gc
    return gc.isenabled()

with own_ray(1, 100 << 20):
    print("collecting", ray.get(collecting.remote()))
"""


def test_the_collector_of_its_processes_rests_until_there_is_work(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_REST],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "collecting False" in done.stdout, done.stderr[-3000:]


def test_afterwards_another_cluster_is_reached_as_before(tmp_path: Path) -> None:
    """One without tokens is asked for none."""
    environment = {name: v for name, v in os.environ.items() if not name.startswith("RAY_AUTH")}
    done = subprocess.run(
        [sys.executable, "-c", AFTERWARDS],
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "answer 2" in done.stdout, done.stderr[-3000:]


def test_what_a_killed_driver_leaves_is_ended(
    driver: subprocess.Popen[str], short_folder: Path
) -> None:
    folder, _ = answer(driver)
    assert list(processes_of(str(folder)))
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert until(lambda: not list(processes_of(str(folder))) and not folder.exists())
    assert not list(short_folder.iterdir())


def test_folders_of_processes_that_are_gone_are_removed_and_no_others(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(short_folder))
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    owner_of_gone = {"pid": gone.pid, "started": started_at(gone.pid)}
    gone.wait()
    here = {"pid": os.getpid(), "started": started_at(os.getpid())}
    assert is_alive(**here)
    reused = {**here, "started": "1"}  # another process had this number
    for name, owner in {"gone": owner_of_gone, "here": here, "reused": reused}.items():
        (short_folder / f"{PREFIX}{name}").mkdir()
        (short_folder / f"{PREFIX}{name}" / "owner.json").write_text(json.dumps(owner))
    (short_folder / f"{PREFIX}notes").mkdir()  # someone's own
    (short_folder / f"{PREFIX}odd").mkdir()
    (short_folder / f"{PREFIX}odd" / "owner.json").write_text("[]")
    remove_left_behind()
    kept = {path.name.removeprefix(PREFIX) for path in short_folder.iterdir()}
    assert kept == {"here", "notes", "odd"}
