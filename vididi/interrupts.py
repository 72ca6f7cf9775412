"""Signals that ask a program to end: SIGINT (Ctrl-C), SIGTERM and SIGHUP.

The first one asks. Where something is to be written before the end (``gently``), it only leaves its
number, for whoever works there to look at (``asked``); everywhere else it is raised as AskedToStop.
A second one ends the process at once. A signal that was ignored when the program started, as
SIGHUP is under nohup, stays ignored.

The exit status is 128 + the signal's number, as a shell says of a program that a signal ended. The
program exits with it, and does not send itself the signal again: buffers are flushed, and what is
to be cleaned up is.

Standard library alone: it is imported before what is slow to import.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_S = 30.0
# One signal may come twice: `timeout` sends it to its command and to the command's whole group,
# and a terminal's Ctrl-C reaches a program whose parent passes it on too.
ONCE_S = 1.0
LOOK_S = 0.2
_STOPPING = b"stopping: what is done so far is being written; a second signal ends it at once\n"
_SHOW_CURSOR = "\x1b[?25h"  # a live table hides it


class AskedToStop(KeyboardInterrupt):
    """The program was asked to end, and what it goes on from is written."""


@dataclass
class _State:
    """Of this process.

    Attributes:
        number: of the signal that asked it to end, if one did; since: when, as time.monotonic says.
        running: whether the program itself is at work, and not what it imports first.
        gentle: how many `gently` are open.
        grace: seconds that what is to be written may take.
        command: what to type to go on, if that is known.
    """

    number: int | None = None
    since: float = 0.0
    running: bool = False
    gentle: int = 0
    grace: float = GRACE_S
    command: Sequence[str] = ()


_state = _State()


def asked() -> int | None:
    """The number of the signal by which this process was asked to end; None where it was not."""
    return _state.number


def request_stop(number: int) -> None:
    """Ask this process to end, as the signal of that number does in a `gently`: it reached another
    process of the same work.
    """
    if _state.number is None:
        _state.since = time.monotonic()
        _state.number = number


def check() -> None:
    """Raise AskedToStop where this process was asked to end, but for what is done `gently`."""
    if _state.number is not None and not _state.gentle:
        raise AskedToStop(_state.number)


def grace_left() -> float:
    """How much of the grace is left, once asked."""
    return _state.since + _state.grace - time.monotonic()


def going_on(command: Sequence[str], grace: float | None = None) -> None:
    """Say what to type to go on after the end, and how many seconds may pass until then."""
    _state.command = command
    _state.grace = GRACE_S if grace is None else grace


def exit_status() -> int:
    """Of a program that was asked to end."""
    return 128 + (_state.number or signal.SIGINT)


def by_what() -> str:
    """``interrupted``, with the signal's name where it was not Ctrl-C."""
    number = _state.number or signal.SIGINT
    by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
    return f"interrupted{by}"


def farewell() -> str:
    """What is said at the end, with how to go on."""
    if not _state.command:
        return by_what()
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun's own command line is not known
        return f"{by_what()}; nothing finished is lost. To go on, give the same command again"
    return f"{by_what()}; nothing finished is lost. To go on:  {shlex.join(_state.command)}"


def catch_from_the_start() -> None:
    """Handle the signals while the program's own modules are imported: it ends at once then, with
    its line and its status. For programs alone, before their other imports.
    """
    _install()


@contextmanager
def caught() -> Iterator[None]:
    """Handle the signals while a program runs, and put the earlier handlers back after it."""
    global _state
    if threading.current_thread() is not threading.main_thread() or _state.running:
        yield
        return
    _state = _State(running=True)
    before = _install()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _state = _State()


@contextmanager
def gently(beyond: float = 0.0) -> Iterator[None]:
    """While it is open a signal raises nothing. Whoever works here looks whether this process was
    `asked` to end; what has not ended with the grace, and so many seconds ``beyond``, is ended.
    """
    _state.gentle += 1
    if _state.running and threading.current_thread() is threading.main_thread():
        threading.Thread(target=_watch, args=(_state, beyond), daemon=True).start()
    try:
        yield
    finally:
        _state.gentle -= 1


@contextmanager
def held() -> Iterator[None]:
    """Keep the signals for later while processes are started, which inherit that: what is sent to a
    whole group of processes does not reach them, and is for this one to handle.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_all() -> None:
    """In a process whose parent handles the signals and ends it."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def renew() -> None:
    """Handle the signals as before, after a library has put handlers of its own, in C, over it."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if (handler := signal.getsignal(number)) is not None:
                signal.signal(number, handler)


def _install() -> dict[signal.Signals, Any]:
    """Handle those that are not ignored; returns the handlers before."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    # None: a handler that was not set from Python, which cannot be put back.
    ours = {number: h for number, h in before.items() if h not in (signal.SIG_IGN, None)}
    for number in ours:
        signal.signal(number, _handle)
    return ours


def _handle(number: int, frame: FrameType | None) -> None:
    if _state.number is not None and time.monotonic() - _state.since < ONCE_S:
        return
    if _state.number is not None:
        _leave()
    request_stop(number)
    if number == signal.SIGHUP:
        _let_go_of_terminal()
    if _state.gentle:
        if os.environ.get("RANK", "0") == "0":
            with suppress(OSError):
                os.write(2, _STOPPING)
        return
    # An exception within an import may be taken for a package that is not there, or be swallowed.
    if not _state.running or _is_importing(frame):
        with suppress(Exception):
            sys.stdout.flush()
        _leave()
    raise AskedToStop(number)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _watch(state: _State, beyond: float) -> None:
    """End the process when the grace is over: its main thread may be in a call that does not
    return.
    """
    while _state is state and (state.gentle or state.number is not None):
        if state.number is not None and time.monotonic() > state.since + state.grace + beyond:
            _leave(f"; after {state.grace:g} s it was ended as it was")
        time.sleep(LOOK_S)


def _leave(more: str = "") -> None:
    """End at once."""
    with suppress(OSError):
        cursor = _SHOW_CURSOR if os.isatty(2) else ""
        os.write(2, f"{cursor}{farewell()}{more}\n".encode(errors="replace"))
    os._exit(exit_status())


def _let_go_of_terminal() -> None:
    """A terminal that is gone refuses what is printed, which is no reason to fail."""
    for descriptor in (1, 2):
        with suppress(OSError):
            polled = select.poll()
            polled.register(descriptor, 0)
            if any(event & (select.POLLHUP | select.POLLERR) for _, event in polled.poll(0)):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
