"""What cells say reaches the screen of their driver, from any machine of a cluster, by the
key-value store of the Ray that both are connected to. Ray's own way prints all that any library
writes there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from uuid import uuid4

import ray
from ray.experimental import internal_kv

from vididi.news import telling

EVERY_S = 1.0  # between the driver's looks
_NAMESPACE = b"vididi"


def telling_driver() -> AbstractContextManager[None]:
    """In the process of a cell: what it tells is heard by its driver."""
    return telling(_put)


def _put(text: str) -> None:
    # Keys are read in their order. A store that is out of reach must end no cell.
    with suppress(Exception):
        key = f"{_prefix()}{time.time_ns():020}-{uuid4().hex}"
        internal_kv._internal_kv_put(key, text, namespace=_NAMESPACE)


class News:
    """What the cells of this driver have said since the last look."""

    def __init__(self) -> None:
        self.looked = 0.0

    def since_last_look(self, last: bool = False) -> Iterator[str]:
        """The lines that came, each once; none within EVERY_S of the last look, unless this is the
        last one.
        """
        if last or time.monotonic() - self.looked >= EVERY_S:
            self.looked = time.monotonic()
            yield from _heard()


def _heard() -> Iterator[str]:
    with suppress(Exception):
        for key in sorted(internal_kv._internal_kv_list(_prefix(), namespace=_NAMESPACE)):
            text = internal_kv._internal_kv_get(key, namespace=_NAMESPACE)
            internal_kv._internal_kv_del(key, namespace=_NAMESPACE)
            if text is not None:
                yield text.decode()


def _prefix() -> str:
    """Of this driver and its cells."""
    return f"news-{ray.get_runtime_context().get_job_id()}-"
