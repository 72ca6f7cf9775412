"""What becomes of a program that a signal asks to end: its status, what it says, what is written,
and that the same command goes on. Sweeps are in tests/cluster/test_interrupted_sweep.py.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import psutil
import pytest
import torch
from programs import processes_below

from vididi.commands.starting import start
from vididi.data.stream import local_stream
from vididi.experiment import run_cell
from vididi.interrupts import AskedToStop, asked, gently
from vididi.runs.run_folder import RunFolder
from vididi.training.context import LocalContext

ROOT = Path(__file__).resolve().parents[1]
CLI = [sys.executable, "-m", "vididi.cli"]
LONG = {"training.epochs": 500, "training.checkpoint_epochs": 500}  # none is written by itself
SIGNALS = {signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGINT: 130}
SAID = {
    signal.SIGTERM: "interrupted by SIGTERM",
    signal.SIGHUP: "interrupted by SIGHUP",
    signal.SIGINT: "interrupted",
}


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", **more}


@contextmanager
def started(command: list[str], place: Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A program, which is ended whatever happens."""
    values = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    values.setdefault("env", environment())
    process = subprocess.Popen(command, cwd=place, **values)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def epochs_of(run: Path) -> int:
    file = run / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.fixture
def pretrain(tmp_path: Path, make_config: Callable[..., Any], tiny_shards: Any) -> list[str]:
    """The command of a run that would take long."""
    (tmp_path / "config.yaml").write_text(make_config(LONG).to_yaml())
    shards = str(tiny_shards.root)
    return [*CLI, "pretrain", "config.yaml", "--out", "run", "--shards", shards, "--device", "cpu"]


# --- A run ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", SIGNALS)
def test_a_run_writes_its_checkpoint_says_how_to_go_on_and_goes_on(
    number: signal.Signals, pretrain: list[str], tmp_path: Path
) -> None:
    with started(pretrain, tmp_path) as process:
        until(lambda: epochs_of(tmp_path / "run") >= 3, process)
        process.send_signal(number)
        _, errors = process.communicate()
    assert process.returncode == SIGNALS[number], errors
    last = errors.splitlines()[-1]
    assert last.startswith(f"{SAID[number]}; nothing finished is lost. To go on:  vididi pretrain ")
    assert "Traceback" not in errors
    checkpoint = RunFolder(tmp_path / "run").load_checkpoint(torch.device("cpu"))
    assert checkpoint is not None
    assert checkpoint["step"] >= 3 * 3
    if number == signal.SIGTERM:
        with started([*pretrain, "--set", "training.checkpoint_epochs=1"], tmp_path) as process:
            done = checkpoint["step"] // 3
            until(lambda: epochs_of(tmp_path / "run") > done, process)
        records = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
        steps = [json.loads(line)["step"] for line in records]
        assert steps == [3 * n for n in range(1, len(steps) + 1)], "no step is trained twice"


def test_a_signal_that_was_ignored_stays_ignored(
    tmp_path: Path, make_config: Callable[..., Any], tiny_shards: Any
) -> None:
    """As under nohup."""
    (tmp_path / "config.yaml").write_text(make_config({"training.epochs": 30}).to_yaml())
    command = [*CLI, "pretrain", "config.yaml", "--out", "run", "--shards", str(tiny_shards.root)]

    def as_nohup_does() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with started(command, tmp_path, preexec_fn=as_nohup_does) as process:
        until(lambda: epochs_of(tmp_path / "run") >= 2, process)
        process.send_signal(signal.SIGHUP)
        out, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "finished: run in " in out


def test_a_run_whose_terminal_closes_writes_its_checkpoint(
    pretrain: list[str], tmp_path: Path
) -> None:
    """What it would print nobody can read, and that is no reason to fail."""
    ours, theirs = pty.openpty()

    def as_in_a_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    terminal = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "start_new_session": True}
    reader = threading.Thread(target=_drain, args=(ours,), daemon=True)
    with started(pretrain, tmp_path, **terminal, preexec_fn=as_in_a_terminal) as process:
        os.close(theirs)
        reader.start()
        until(lambda: epochs_of(tmp_path / "run") >= 3, process)
        os.close(ours)
        assert process.wait(600) == 129
    assert (tmp_path / "run" / "checkpoint.pt").exists()


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 1 << 16):
            pass
    except OSError:
        return


@pytest.mark.parametrize("asked_one", ["rank 1", "torchrun"])
def test_workers_of_torchrun_end_together_whichever_was_asked(
    asked_one: str, pretrain: list[str], tmp_path: Path
) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, "--nproc-per-node", "2", *pretrain[1:]]
    with started(command, tmp_path, env=environment(OMP_NUM_THREADS="1")) as process:
        until(lambda: epochs_of(tmp_path / "run") >= 2, process)
        workers = processes_below(process.pid, "pretrain")
        ranks = {worker.environ()["RANK"]: worker.pid for worker in workers}
        asked_pid = process.pid if asked_one == "torchrun" else ranks["1"]
        os.kill(asked_pid, signal.SIGTERM)
        _, errors = process.communicate()
    assert process.returncode == 1, errors
    # Both, of which torchrun names the first that it saw, or itself.
    assert "exitcode  : 143" in errors or "got signal: 15" in errors
    assert errors.count("interrupted by SIGTERM; nothing finished is lost. To go on, give ") == 1
    assert "RuntimeError" not in errors
    checkpoint = RunFolder(tmp_path / "run").load_checkpoint(torch.device("cpu"))
    assert checkpoint is not None
    assert checkpoint["step"] // 3 == epochs_of(tmp_path / "run")


# --- An evaluation --------------------------------------------------------------------------------


def test_an_evaluation_writes_its_checkpoint_and_says_how_to_go_on(
    tmp_path: Path, make_config: Callable[..., Any], tiny_shards: Any
) -> None:
    run, stream = tmp_path / "run", local_stream(tiny_shards)
    run_cell(make_config({"training.epochs": 1}), {}, run, tiny_shards, stream, LocalContext())
    settings = ["--set", "epochs=5000", "--set", "batch_size=8", "--set", "clips=2"]
    command = [*CLI, "evaluate", "linear", "run", *settings, "--device", "cpu", "--no-untrained"]
    with started(command, tmp_path) as process:
        until(lambda: list(run.glob("evaluations/linear-*/checkpoint.pt")), process)
        process.send_signal(signal.SIGHUP)
        _, errors = process.communicate()
    assert process.returncode == 129, errors
    again = "To go on:  vididi evaluate linear run --set epochs=5000"
    assert f"interrupted by SIGHUP; nothing finished is lost. {again}" in errors
    assert "Traceback" not in errors
    (folder,) = run.glob("evaluations/linear-*")
    checkpoint = RunFolder(folder).load_checkpoint(torch.device("cpu"))
    assert checkpoint is not None
    steps, epochs = checkpoint["step"], checkpoint["epochs"]
    assert steps - 3 * len(epochs) == (
        0 if checkpoint["so_far"] is None else len(checkpoint["so_far"])
    )


# --- Where it comes -------------------------------------------------------------------------------


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("package", ["pydantic", "torch"])
def test_amid_imports_it_ends_with_one_line(
    number: signal.Signals, package: str, pretrain: list[str], tmp_path: Path
) -> None:
    """pydantic is imported with the program itself, torch by its command. The one that is found
    here is still being imported when the signal comes.
    """
    (tmp_path / "first" / package).mkdir(parents=True)
    (tmp_path / "first" / package / "__init__.py").write_text(
        f"import os, time\ntry:\n    os.kill(os.getpid(), {int(number)})\n    time.sleep(60)\n"
        "except BaseException:\n    raise ImportError('of a package that cannot be loaded')\n"
    )
    paths = f"{tmp_path / 'first'}:{ROOT}"
    done = subprocess.run(
        pretrain,
        cwd=tmp_path,
        env=environment(PYTHONPATH=paths),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == SIGNALS[number], done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith(SAID[number])


def test_while_videos_are_prepared_what_is_done_is_kept_and_no_process_stays(
    tmp_path: Path, moving_bar: Callable, write_video: Callable
) -> None:
    for number in range(60):
        name = f"{'ab'[number % 2]}/{number:02d}.mp4"
        write_video(tmp_path / "videos" / name, moving_bar(24, 96, 96, number))
    (tmp_path / "small_shards.py").write_text(
        "import sys\nfrom vididi.data import shard_writer\nfrom vididi.cli import main\n"
        "shard_writer.SHARD_BYTES, shard_writer.ROW_GROUP_BYTES = 200_000, 60_000\n"
        "if __name__ == '__main__':\n    sys.exit(main())\n"
    )
    command = [sys.executable, "small_shards.py", "prepare", "folder", "--videos", "videos"]
    command += ["--out", "set", "--short-side", "96"]
    with started(command, tmp_path, start_new_session=True) as process:
        until(lambda: (tmp_path / "set.partial" / "done-00001.json").exists(), process)
        children = processes_below(process.pid)
        os.killpg(process.pid, signal.SIGTERM)
        _, errors = process.communicate()
    assert process.returncode == 143, errors
    again = "To go on:  vididi prepare folder --videos videos --out set --short-side 96\n"
    assert errors.endswith(f"interrupted by SIGTERM; nothing finished is lost. {again}"), errors
    assert "Traceback" not in errors
    assert not psutil.wait_procs(children, timeout=30)[1]
    before = {
        path: path.stat().st_mtime_ns for path in (tmp_path / "set.partial" / "set").iterdir()
    }
    with started(command, tmp_path) as process:
        _, errors = process.communicate()
    assert process.returncode == 0, errors
    kept = [
        path for path in before if (tmp_path / "set" / path.name).stat().st_mtime_ns == before[path]
    ]
    assert len(kept) >= 2


# --- In this process ------------------------------------------------------------------------------


def test_it_is_raised_but_where_something_is_written_before_the_end() -> None:
    seen: list[object] = []

    def program(argv: list[str]) -> int:
        with gently():
            os.kill(os.getpid(), signal.SIGTERM)
            seen.append(asked())
        try:
            raise AskedToStop(asked())
        finally:
            seen.append("cleaned up")

    assert start(program, []) == 143
    assert seen == [signal.SIGTERM, "cleaned up"]
    assert asked() is None, "the next program of this process is asked nothing"


def test_another_error_that_it_ends_in_is_not_the_program_s(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As of a worker whose peers are gone."""

    def program(argv: list[str]) -> int:
        with gently():
            os.kill(os.getpid(), signal.SIGHUP)
        raise RuntimeError("Connection closed by peer")

    assert start(program, []) == 129
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted by SIGHUP"


HANGING = """
import os, sys, time
from vididi.commands.starting import start
from vididi.data.stream import local_stream
from vididi.experiment import run_cell
from vididi.interrupts import going_on, gently
def program(argv):
    going_on(["vididi", "pretrain"], float(sys.argv[1]))
    with gently():
        print("ready", flush=True)
        while True:
            time.sleep(0.1)
sys.exit(start(program, []))
"""


def first_line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


def test_what_does_not_end_within_the_grace_is_ended(tmp_path: Path) -> None:
    with started([sys.executable, "-c", HANGING, "0.5"], tmp_path) as process:
        assert first_line(process.stdout) == "ready\n"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate()
    assert process.returncode == 143
    assert errors.endswith("To go on:  vididi pretrain; after 0.5 s it was ended as it was\n")


def test_a_second_signal_ends_it_at_once_and_the_same_one_twice_does_not(tmp_path: Path) -> None:
    with started([sys.executable, "-c", HANGING, "1000"], tmp_path) as process:
        assert first_line(process.stdout) == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert first_line(process.stderr).startswith("stopping: ")
        process.send_signal(signal.SIGTERM)  # as `timeout` does
        time.sleep(1.2)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 143
    assert errors == (
        "interrupted by SIGTERM; nothing finished is lost. To go on:  vididi pretrain\n"
    )


@pytest.mark.parametrize("grace", ["-1", "inf", "nan"])
def test_a_grace_that_is_none_is_refused(
    grace: str, pretrain: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from vididi.cli import main

    assert main([*pretrain[3:], "--grace", grace]) == 2
    assert f"--grace: {grace} is not valid" in capsys.readouterr().err
