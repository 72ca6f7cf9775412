"""How programs end: every error is a message with what to do, and a traceback only where asked."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from vididi.commands.starting import EXTRAS, start
from vididi.errors import ConfigError, DataError
from vididi.terminal import DEBUG_VARIABLE, say_error

ROOT = Path(__file__).resolve().parents[2]
FAULT = "This is a fault of the program; "
REFUSED = OSError(errno.EACCES, "Permission denied", "/data/runs/one")
FULL = OSError(errno.ENOSPC, "No space left on device", "/tmp/x")
NOT_A_FOLDER = NotADirectoryError(errno.ENOTDIR, "Not a directory", "file/out")


@pytest.mark.parametrize(
    ("error", "arguments", "status", "said"),
    [
        (ConfigError("key: 3 is not valid"), "", 2, "error: key: 3 is not valid\n"),
        (DataError("no videos"), "", 1, "error: no videos\n"),
        (
            REFUSED,
            "--out /data/runs",
            1,
            "error: --out: /data/runs/one: Permission denied; give a place that you may read and"
            " write, or change its permissions\n",
        ),
        (REFUSED, "--out /other --set a=1", 1, "error: /data/runs/one: Permission denied; "),
        (FULL, "", 1, "error: /tmp/x: No space left on device; the disk is full; free some space"),
        # Of a file that was opened before: a write's error has no name.
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "",
            1,
            "error: No space left on device; the disk is full; free some space, and give the same",
        ),
        (OSError(28, "[Errno 28] Error writing bytes"), "", 1, "error: No space left on device; "),
        (NOT_A_FOLDER, "--out file/out", 1, "error: --out: file/out: Not a directory; a file is"),
        (OSError("a sort of its own"), "", 1, f"error: OSError: a sort of its own\n{FAULT}"),
        (
            ModuleNotFoundError("No module named 'onnx'", name="onnx.helper"),
            "",
            1,
            "error: onnx is not installed; it is of the extra export: pip install"
            " 'vididi[export]'\n",
        ),
        (
            ModuleNotFoundError("No module named 'av'", name="av"),
            "",
            1,
            "error: av is not installed; `vididi doctor` says what is needed, and how",
        ),
        (ZeroDivisionError("division"), "", 1, f"error: ZeroDivisionError: division\n{FAULT}"),
        (KeyError(), "", 1, f"error: KeyError: without a message\n{FAULT}"),
        (KeyboardInterrupt(), "", 130, "interrupted\n"),
        # Of a process that this one talks to, not of what it prints to.
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "", 1, "error: BrokenPipeError: "),
    ],
)
def test_an_error_is_one_message(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    arguments: str,
    status: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def program(argv: list[str]) -> int:
        raise error

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert start(program, arguments.split()) == status
    printed = capsys.readouterr().err
    assert printed.startswith(said)
    assert "Traceback" not in printed


def test_the_traceback_of_a_fault_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert start(lambda argv: 1 // len(argv), []) == 1
    (file,) = tmp_path.iterdir()
    assert f"\nThis is a fault of the program; {file} says where" in capsys.readouterr().err
    text = file.read_text()
    assert text.startswith("Traceback")
    assert text.rstrip().endswith("ZeroDivisionError: integer division or modulo by zero")


def test_debug_shows_the_traceback_and_is_no_argument(capsys: pytest.CaptureFixture[str]) -> None:
    def program(argv: list[str]) -> int:
        assert argv == ["sweep", "x.yaml"]
        raise ConfigError("x.yaml: unknown key")

    assert start(program, ["sweep", "--debug", "x.yaml"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("Traceback (most recent call last):\n")
    assert printed.endswith("\nerror: x.yaml: unknown key\n")
    assert not os.environ.get(DEBUG_VARIABLE)
    say_error(ConfigError("the next"))
    assert capsys.readouterr().err == "error: the next\n"


def test_a_status_is_passed_on() -> None:
    assert start(lambda argv: len(argv), ["a", "b", "c"]) == 3


@pytest.mark.parametrize(
    "command",
    [["-m", "vididi.cli", "table", "--list"], ["analysis/paper_table.py", "--list"]],
    ids=" ".join,
)
def test_a_reader_that_is_gone_is_no_error(command: list[str]) -> None:
    """As ``| head`` is once it has enough: here from the start, so that it is not a matter of
    time.
    """
    reading, writing = os.pipe()
    os.close(reading)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_the_extras_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for package, extra in EXTRAS.items():
        name = {"sklearn": "scikit-learn"}.get(package, package)
        assert any(line.startswith(name) for line in project["optional-dependencies"][extra])
