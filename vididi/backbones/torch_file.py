"""Torch files of other programs, of which only tensors and plain containers are read.

Beside the weights such files hold a Namespace, a configuration, numbers of numpy, counters of a
logger. torch's weights_only loading refuses the whole file for one class that it does not know.
Here every name that it does not know becomes a stand-in, which takes any arguments and any state
and does nothing, so that no code of the file or of an installed package is run. What torch refuses
still, such as anything of the modules os and sys, makes the file one that cannot be read.
"""

from __future__ import annotations

from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from pickletools import genops
from typing import IO, Any

import torch

ZIP = b"PK\x03\x04"  # a file of torch 1.6 or later begins so
LEGACY_PICKLES = (
    4  # an older one with four pickles: magic number, version, byte order, and the content
)


class _Called(type):
    """A class whose call gives something to hash.

    pickle calls classes for numbers of numpy, paths and enumerations.
    """

    def __call__(cls, *arguments: Any, **options: Any) -> Any:
        return object.__new__(cls)  # type: ignore[arg-type]


class StandIn(metaclass=_Called):
    """Stands for whatever else a file names: a class, what the class makes, and functions."""

    def __new__(cls, *arguments: Any) -> Any:
        """As pickle makes instances, before it gives them items and state.

        Of a dict's subclass the items are kept.
        """
        return _pairs()

    def __setstate__(self, state: Any) -> None:
        pass


def _pairs(*arguments: Any) -> Any:
    """The one container that torch lets have items, and a state that it is told to forget."""
    container: Any = Counter()
    container.__setstate__ = StandIn.__setstate__.__get__(container)
    return container


def _sequence(*arguments: Any) -> list[Any]:
    return []


# Called, not made, before their items come.
CALLED = {"collections.defaultdict": _pairs, "collections.deque": _sequence}


def read_torch_file(path: Path) -> Any:
    """What a file of ``torch.save`` holds, in either of its formats, on the CPU.

    Raises:
        Exception: of many kinds; the file cannot be read, or asks for what torch never does.
    """
    stand_ins: list[Any] = [(CALLED.get(name, StandIn), name) for name in _unknown_names(path)]
    with torch.serialization.safe_globals(stand_ins):
        return torch.load(path, map_location="cpu", weights_only=True)


def _unknown_names(path: Path) -> set[str]:
    """The names of classes and functions in a file that torch does not know.

    They are read without running the file.
    """
    with path.open("rb") as file:
        if file.read(len(ZIP)) == ZIP:
            return set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
        file.seek(0)
        # torch looks among its own first.
        return {name for _ in range(LEGACY_PICKLES) for name in _names(file)}


def _names(file: IO[bytes]) -> Iterator[str]:
    """The names in one pickle.

    Those of Python 2 also as they are in Python 3; torch takes some of them as the one or the
    other.
    """
    for operation, argument, _ in genops(file):
        if operation.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            yield f"{module}.{name}"
            yield ".".join(
                NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
            )
