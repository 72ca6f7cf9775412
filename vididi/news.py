"""What a run says of itself while it is at work, to people: on standard error, and to whoever
listens, as the driver of a sweep does, which is another process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vididi.terminal import say

_listeners: list[Callable[[str], None]] = []


def tell(text: str) -> None:
    """Say what names its run folder or its cell."""
    say(text, file=sys.stderr)
    for listener in _listeners:
        listener(text)


@contextmanager
def telling(listener: Callable[[str], None]) -> Iterator[None]:
    """Hand all that is told meanwhile to a listener, too."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
