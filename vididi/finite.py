"""Numbers that are NaN or infinite are refused, never measured: the one check of all measures.
numpy only.

NaN is neither above nor below anything, so a comparison or an argmax makes a rank, and a rank an
accuracy, of it without a word.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from vididi.errors import NotFiniteError, TrainingError

if TYPE_CHECKING:
    from torch import nn

NAMED = 3  # tensors that an error names


def check_finite(measure: str, **arrays: ArrayLike) -> None:
    """Refuse arrays ``[N, ...]`` of numbers that are not all finite.

    Args:
        measure: what was to be measured, or how.

    Raises:
        NotFiniteError: it names the measure, the array and how many of its rows.
    """
    for name, array in arrays.items():
        finite = np.isfinite(array)
        if not finite.all():
            bad = int((~finite.reshape(len(finite), -1).all(axis=1)).sum())
            raise NotFiniteError(f"{measure}: {bad} of {len(finite)} rows of {name} are not finite")


def check_weights(what: str, module: nn.Module) -> None:
    """Refuse a network with a weight, or a statistic of its batch normalisation, that is not
    finite.

    Raises:
        NotFiniteError: it begins with ``what``, and names the first of them.
    """
    state = {
        name: tensor for name, tensor in module.state_dict().items() if hasattr(tensor, "isfinite")
    }
    bad = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if bad:
        names = ", ".join(bad[:NAMED]) + (
            f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        )
        raise NotFiniteError(
            f"{what}: {len(bad)} of {len(state)} weights and statistics are not finite: {names}"
        )


def finite_json(what: str, content: Any, indent: int | None = None) -> str:
    """JSON of plain values, which has no NaN and no infinity.

    Raises:
        NotFiniteError: there are some; it begins with ``what``, and names the first.
    """
    for name, value in _floats(content):
        if not math.isfinite(value):
            raise NotFiniteError(f"{what}: {name} is {value}, which is no measurement")
    return json.dumps(content, indent=indent, allow_nan=False)


def _floats(content: Any, name: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(content, float):
        yield name, content
    elif isinstance(content, (dict, list, tuple)):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from _floats(value, f"{name}.{key}" if name else str(key))


@contextmanager
def about(subject: object) -> Iterator[None]:
    """A training or a measure that fails says of what: the message gets ``subject`` before it,
    once.
    """
    try:
        yield
    except TrainingError as error:
        if str(error).startswith(f"{subject}: "):
            raise
        raise type(error)(f"{subject}: {error}") from error
