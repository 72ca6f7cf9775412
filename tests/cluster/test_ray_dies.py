"""Ray dies under a sweep, and what is left of those that were killed before."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from jobs_here import run_jobs_here
from programs import run_here
from safetensors.torch import load_file

from tests.tiny_sweep import BASE
from vididi.cluster.guardian import MARK, processes_of
from vididi.cluster.own_ray import _PATIENCE, _patient
from vididi.startup_checks import PREFIX

PROGRAM = Path(__file__).resolve().parents[2] / "run_sweep.py"
SWEEP = f"name: two\n{BASE}" + (
    "  training: {epochs: 40, batch_size: 8, threads: 1}\n"
    "arms: {first: {order: 0}, second: {order: 1}}\nseeds: [0]\n"
    "resources: {concurrency: 1, ray_restarts: 2}\n"
)
AGAIN = re.compile(r"Ray died: (.*)\. It is started again \((\d) of 2\)")


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder for sockets, whose path may not be as long as pytest's are."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def ray_process(name: str, folders: Path) -> int | None:
    """A process of the one Ray whose folder is there, by the name of its program."""
    for folder in folders.glob(f"{PREFIX}*"):
        for pid in processes_of(str(folder)):
            with suppress(OSError):
                if Path(f"/proc/{pid}/exe").resolve().name == name:
                    return pid
    return None


def checkpoints(place: Path) -> dict[Path, int]:
    found = {}
    for path in (place / "runs").rglob("checkpoint.pt"):
        with suppress(OSError):
            found[path] = path.stat().st_mtime_ns
    return found


def until(condition: Callable[[], object], program: subprocess.Popen[bytes], place: Path) -> None:
    while not condition():
        assert program.poll() is None, (place / "printed").read_text()
        time.sleep(0.05)


def since_deaths(place: Path, deaths: int) -> str:
    """What was printed since so many Rays have died; nothing where they have not."""
    return "".join((place / "printed").read_text().split("Ray died")[deaths : deaths + 1])


def encoders(place: Path) -> dict[str, dict[str, bytes]]:
    """The bytes of each tensor; their order in a file is safetensors' own."""
    return {
        path.parent.name: {
            name: tensor.numpy().tobytes() for name, tensor in load_file(path).items()
        }
        for path in (place / "runs").rglob("encoder.safetensors")
    }


def start(place: Path, sockets: Path, *more: str) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "RAY_TMPDIR": str(sockets),
        "VIDIDI_CACHE": str(place / "cache"),
        "PYTHONUNBUFFERED": "1",
    }
    with (place / "printed").open("ab") as printed:
        return subprocess.Popen(
            [sys.executable, str(PROGRAM), "two.yaml", *more],
            cwd=place,
            env=environment,
            stdout=printed,
            stderr=printed,
        )


def test_a_sweep_goes_on_when_its_ray_is_killed(
    tmp_path: Path, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its raylet first, then the GCS of the Ray that was started instead."""
    place, unbroken = tmp_path / "killed", tmp_path / "unbroken"
    for folder in (place, unbroken):
        folder.mkdir()
        (folder / "two.yaml").write_text(SWEEP)

    program = start(place, short_folder)
    for deaths, name in enumerate(("raylet", "gcs_server")):
        # A cell is under way: it has written a checkpoint since this Ray's beginning.
        until(lambda deaths=deaths: ": started" in since_deaths(place, deaths), program, place)
        begun = checkpoints(place)
        until(lambda begun=begun: checkpoints(place).items() - begun.items(), program, place)
        pid = ray_process(name, short_folder)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    assert program.wait() == 0, (place / "printed").read_text()

    printed = (place / "printed").read_text()
    was_killed = "was killed (SIGKILL), as the system does where memory runs out"
    assert AGAIN.findall(printed) == [
        (f"its raylet {was_killed}", "1"),
        (f"its GCS {was_killed}", "2"),
    ]
    assert "Traceback" not in printed
    assert "not free" not in printed
    assert "Raylet is terminated" not in printed
    assert not list(short_folder.iterdir())

    run_jobs_here(monkeypatch)
    done = run_here(unbroken, "two.yaml")
    assert done.returncode == 0, done.stderr
    assert len(encoders(place)) == 2
    assert encoders(place) == encoders(unbroken)


def test_one_sentence_where_ray_is_not_to_be_started_again_and_the_next_start_works_at_once(
    tmp_path: Path, short_folder: Path
) -> None:
    """The second program is started while what the first one left is still being ended."""
    (tmp_path / "two.yaml").write_text(SWEEP.replace("ray_restarts: 2", "ray_restarts: 0"))
    program = start(tmp_path, short_folder)
    until(lambda: checkpoints(tmp_path), program, tmp_path)
    pid = ray_process("gcs_server", short_folder)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert program.wait() == 1
    printed = (tmp_path / "printed").read_text()
    assert printed.splitlines()[-1] == (
        "error: Ray died: its GCS was killed (SIGKILL), as the system does where memory runs out;"
        " the same command goes on from the checkpoints"
    )
    assert "Traceback" not in printed
    assert not list(short_folder.iterdir())

    killed = start(tmp_path, short_folder)
    begun = checkpoints(tmp_path)
    until(lambda: checkpoints(tmp_path).items() - begun.items(), killed, tmp_path)
    killed.kill()
    killed.wait()
    assert list((tmp_path / "runs" / "two" / ".tune").iterdir())
    at_once = start(tmp_path, short_folder)
    assert at_once.wait() == 0, (tmp_path / "printed").read_text()
    assert not list((tmp_path / "runs" / "two" / ".tune").iterdir())
    assert len(encoders(tmp_path)) == 2
    assert not list(short_folder.iterdir())


USER = """
import sys, time
from vididi.cluster import watch
from vididi.cluster.connection import connected
watch.SILENT_S = 1
with connected(sys.argv[1]):
    print("connected", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize(
    ("process", "said"),
    [
        ("raylet", "Ray's raylet on this machine is gone"),
        ("gcs_server", r"its head, [\d.]+:\d+, does not answer \(Connection refused\)"),
    ],
)
def test_one_sentence_where_somebody_s_cluster_dies(
    process: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.cluster_utils import Cluster

    options = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 << 20}
    with monkeypatch.context() as patch, _patient(tmp_path):
        patch.setenv(MARK, str(tmp_path))  # by which it is known to be starting still
        for name, value in _PATIENCE.items():
            patch.setenv(name, value)
        cluster = Cluster(initialize_head=True, head_node_args=options)
    address = cluster.address
    try:
        user = subprocess.Popen(
            [sys.executable, "-c", USER, address],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert user.stdout is not None
        assert user.stdout.readline() == "connected\n"
        assert user.poll() is None
        os.kill(cluster.head_node.all_processes[process][0].process.pid, signal.SIGKILL)
        _, errors = user.communicate(timeout=120)
    finally:
        cluster.shutdown()
    assert user.returncode == 1
    # Ray's C++ says of its own log level first, where the environment has one.
    ours = [line for line in errors.splitlines() if "logging.cc" not in line]
    expected = (
        rf"error: --address {re.escape(address)}: {said}; when the cluster is back, the same"
        r" command goes on from the checkpoints"
    )
    assert len(ours) == 1, errors
    assert re.fullmatch(expected, ours[0]), errors
