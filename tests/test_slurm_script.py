"""The SLURM recipe's bash, with stand-ins for srun, scontrol and the sweep: what its traps do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from programs import processes_below

SCRIPT = Path(__file__).resolve().parents[1] / "docs" / "clusters" / "slurm.sh"
STAND_INS = {
    "scontrol": 'if [[ $1 == show ]]; then echo node1; else echo "$@" >>scontrol.txt; fi',
    "srun": 'if [[ "$*" == *hostname* ]]; then echo 127.0.0.1; else exec sleep 1000; fi',
    "python": f"""
if [[ $1 == -c ]]; then exec {sys.executable} "$@"; fi
if [[ $1 == - ]]; then echo >waiting.txt; while [[ ! -e nodes.txt ]]; do sleep 0.05; done; exit; fi
trap 'exit "$STATUS"' TERM
echo "$@" >sweep.txt
while true; do sleep 0.05; done
""",
}


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """``job(status)``: the script at work, whose sweep ends with that status when it is asked
    to end.
    """
    for name, text in STAND_INS.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(f"#!{shutil.which('bash')}\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    of_slurm = {
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "node1",
        "SLURM_CPUS_PER_TASK": "2",
        "SLURM_MEM_PER_NODE": "3000",
    }
    started = []

    def start(status: int = 143, nodes_are_there: bool = True) -> subprocess.Popen[str]:
        if nodes_are_there:
            (tmp_path / "nodes.txt").touch()
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        process = subprocess.Popen(
            ["bash", str(SCRIPT), "sweeps/ablation.yaml", "--runs", "/shared/my runs"],
            cwd=tmp_path,
            env={**os.environ, **of_slurm, "PATH": path, "STATUS": str(status)},
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def until(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() or not path.read_text():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_is_bash() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)


@pytest.mark.parametrize(
    ("number", "of_sweep", "requeued"),
    [
        (signal.SIGUSR1, 143, "requeue 4711\n"),
        (signal.SIGUSR1, 0, ""),  # it had finished by then
        (signal.SIGUSR1, 1, ""),  # cells failed: again they would
        (signal.SIGTERM, 143, ""),
    ],
)
def test_before_its_time_is_up_the_sweep_ends_and_the_job_is_queued_again(
    number: signal.Signals,
    of_sweep: int,
    requeued: str,
    job: Callable[..., subprocess.Popen[str]],
    tmp_path: Path,
) -> None:
    process = job(of_sweep)
    until(tmp_path / "sweep.txt", process)
    assert (tmp_path / "sweep.txt").read_text() == (
        "run_sweep.py sweeps/ablation.yaml --runs /shared/my runs --address 127.0.0.1:24711"
        " --grace 90\n"
    )
    assert processes_below(process.pid, "sleep"), "Ray's node"
    children = processes_below(process.pid)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == of_sweep, errors
    asked = tmp_path / "scontrol.txt"
    assert (asked.read_text() if asked.exists() else "") == requeued
    assert not psutil.wait_procs(children, timeout=30)[1]
    assert not list(tmp_path.glob(".ray-token-*"))


def test_a_sweep_that_has_not_begun_does_not_begin(
    job: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = job(nodes_are_there=False)
    until(tmp_path / "waiting.txt", process)
    process.send_signal(signal.SIGUSR1)
    (tmp_path / "nodes.txt").touch()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 4711\n"
    assert not (tmp_path / "sweep.txt").exists()


def test_what_it_asks_of_slurm() -> None:
    lines = SCRIPT.read_text().splitlines()
    assert "#SBATCH --signal=B:USR1@120" in lines, "to the script alone, two minutes before"
    assert "#SBATCH --requeue" in lines
