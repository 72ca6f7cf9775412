"""How a program starts and ends: whatever a command raises becomes a message and an exit status."""

from __future__ import annotations

import os
import select
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import TextIO

from vididi import interrupts
from vididi.disks import OF_DISKS, refusal
from vididi.errors import INTERRUPTED, ConfigError, VididiError
from vididi.terminal import DEBUG_VARIABLE, say, say_error

DEBUG = "--debug"
PIPE_CLOSED = 128 + 13  # as a shell says of a program that SIGPIPE ended
# The extra that brings a package, by the name that is imported.
EXTRAS = {
    "matplotlib": "plots",
    "sklearn": "plots",
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "export",
    "argcomplete": "completion",
}


def start(program: Callable[[list[str]], int], argv: Sequence[str]) -> int:
    """Run a program of the command line; every one of vididi's is started here.

    Args:
        program: takes the arguments, gives the exit status.
        argv: the arguments; with ``--debug`` anywhere among them an error has its traceback.

    Returns:
        the program's exit status; 2 where it cannot be run as written, 1 where it failed on the
            way, 130, 143 or 129 where Ctrl-C, SIGTERM or SIGHUP interrupted it, 141 where nobody
            reads what is printed any more.
    """
    arguments = [word for word in argv if word != DEBUG]
    with _debugging(len(arguments) < len(argv)), interrupts.caught():
        try:
            try:
                status = program(arguments)
            finally:
                sys.stdout.flush()
            return interrupts.exit_status() if status == INTERRUPTED else status
        except KeyboardInterrupt:
            return _interrupted()
        except BrokenPipeError as error:
            if not any(map(_reader_is_gone, (sys.stdout, sys.stderr))):
                return _fail(error, arguments)
            _discard_output()
            return PIPE_CLOSED
        except Exception as error:
            # What a signal was raised in may have made another error of it.
            return _interrupted() if interrupts.asked() else _fail(error, arguments)


def _interrupted() -> int:
    """Say so, and how to go on; returns the exit status."""
    if os.environ.get("RANK", "0") == "0":  # torchrun's first worker speaks for all
        with suppress(OSError):  # the terminal may be gone
            say(interrupts.farewell(), file=sys.stderr)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        # torch's threads have ended a worker by SIGABRT on its way out, once in thirty (2.14).
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(interrupts.exit_status())
    return interrupts.exit_status()


def _fail(error: Exception, arguments: Sequence[str]) -> int:
    """Say what is wrong, and what to do; returns the exit status."""
    if isinstance(error, VididiError):
        say_error(error)
    elif isinstance(error, ModuleNotFoundError):
        say_error(error, _missing(error))
    elif isinstance(error, OSError) and isinstance(error.filename, str | bytes | os.PathLike):
        say_error(error, _refused(error, arguments))
    elif isinstance(error, OSError) and error.errno in OF_DISKS:
        say_error(error, refusal(error))
    else:
        say_error(error, _unforeseen(error))
    return 2 if isinstance(error, ConfigError) else 1


@contextmanager
def _debugging(wanted: bool) -> Iterator[None]:
    """Tell ``say_error`` for a while that tracebacks are wanted."""
    before = os.environ.get(DEBUG_VARIABLE, "")
    if wanted:
        os.environ[DEBUG_VARIABLE] = "1"
    try:
        yield
    finally:
        if wanted:
            os.environ[DEBUG_VARIABLE] = before


def _missing(error: ModuleNotFoundError) -> str:
    """What to install where a package is not there."""
    package = (error.name or str(error)).partition(".")[0]
    if package in EXTRAS:
        extra = EXTRAS[package]
        return (
            f"{package} is not installed; it is of the extra {extra}: pip install 'vididi[{extra}]'"
        )
    return f"{package} is not installed; `vididi doctor` says what is needed, and how to install it"


def _refused(error: OSError, arguments: Sequence[str]) -> str:
    """What the system refuses, with the option that it is of and what to do."""
    return f"{_argument_of(os.fsdecode(error.filename), arguments)}{refusal(error)}"


def _argument_of(path: str, arguments: Sequence[str]) -> str:
    """``--out: `` where the option's value is the path, or a folder above or below it."""
    place = Path(path).absolute()
    for option, value in pairwise(arguments):
        if not option.startswith("--") or not value:
            continue
        with suppress(OSError, ValueError):
            given = Path(value).absolute()
            beside = place.parent == given.parent and place.name.startswith(given.name)
            here = (Path.cwd(), *Path.cwd().parents)
            above = place in given.parents and (Path(value).is_absolute() or place not in here)
            if beside or above or given in place.parents:
                return f"{option}: "
    return ""


def _unforeseen(error: Exception) -> str:
    """An error that no message was written for. What was to be seen of it must not be lost after
    hours, so its traceback goes into a file.
    """
    reason = " ".join(str(error).split()) or "without a message"
    said = f"{type(error).__name__}: {reason}\nThis is a fault of the program; "
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="vididi-", suffix=".txt", delete=False, encoding="utf-8", errors="replace"
        ) as file:
            file.write("".join(traceback.format_exception(error)))
    except OSError:
        return f"{said}the same command with {DEBUG} shows where it is."
    return f"{said}{file.name} says where it is, as does the same command with {DEBUG}."


def _reader_is_gone(stream: TextIO) -> bool:
    """Whether a stream is a pipe that nobody reads any more."""
    with suppress(OSError, ValueError, AttributeError):  # no descriptor, or a system without poll
        asked = select.poll()
        asked.register(stream.fileno(), select.POLLOUT)
        return any(event & select.POLLERR for _, event in asked.poll(0))
    return False


def _discard_output() -> None:
    """Let what is still in Python's buffers go nowhere, so that its end says nothing of them."""
    for stream in (sys.stdout, sys.stderr):
        if _reader_is_gone(stream):
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
