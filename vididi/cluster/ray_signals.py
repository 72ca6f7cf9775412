"""Whose the signals are while Ray starts and ends."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from ray._private import services, utils

from vididi import interrupts


@contextmanager
def signals_kept() -> Iterator[None]:
    """Around ``ray.init`` and ``ray.shutdown``: the signals stay this program's.

    Ray handles SIGTERM twice in the driver: in Python, and in C++, where it prints a stack and ends
    the process by SIGABRT three seconds later (absl's failure handler). Its shutdown makes the
    signal the system's to handle. So one that comes meanwhile is kept for later, and what was there
    before is put back.

    And the processes of a Ray that is started are put into a session of their own: what is sent to
    the whole group of the driver, as a terminal that closes and `timeout` do, is the driver's to
    handle. Otherwise the cells would be gone before they could write anything.
    """
    popen, set_handler = services.ConsolePopen, utils.set_sigterm_handler
    services.ConsolePopen = partial(_in_new_session, popen)  # type: ignore
    utils.set_sigterm_handler = lambda handler: None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        services.ConsolePopen = popen  # type: ignore
        utils.set_sigterm_handler = set_handler
        interrupts.renew()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _in_new_session(
    popen: Callable[..., Any], *arguments: Any, preexec_fn: Callable[[], None], **options: Any
) -> Any:
    def begin() -> None:
        preexec_fn()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    return popen(*arguments, preexec_fn=begin, start_new_session=True, **options)
