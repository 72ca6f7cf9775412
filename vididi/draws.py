"""Counter-based random draws: every number is a pure function of integers.

What a clip sampled, how it was augmented and which pair a step got must not depend on which worker
asks, in which order, or after which restart. A sequential generator cannot give that; a hash of the
counters can. The mixer is the finaliser of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), applied
once per counter.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class Use(IntEnum):
    """What a draw is for. Two uses of the same counters never share a random number."""

    PAIR = 1
    SHUFFLE = 2
    CLIP = 3
    AUGMENT = 4
    EVALUATION_CROP = 5
    MOTION = 6
    INITIAL_WEIGHTS = 7
    SUBSET = 8
    LABELS = 9
    CLASSIFIER = 10
    FRAME_ORDER = 11
    ONLINE = 12
    STATISTICS = 13
    HELD_OUT = 14


def _finalise(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


def key(use: Use, *counters: ArrayLike) -> NDArray[np.uint64]:
    """One 64-bit key per element of the broadcast counters, non-negative integers or arrays."""
    with np.errstate(over="ignore"):
        state = _finalise(np.asarray(int(use), dtype=np.uint64) + _GOLDEN)
        for counter in counters:
            state = _finalise((state ^ np.asarray(counter).astype(np.uint64)) + _GOLDEN)
    return np.asarray(state, dtype=np.uint64)


def uniform(keys: ArrayLike, count: int) -> NDArray[np.float64]:
    """``count`` uniform numbers in [0, 1) for each key: shape ``keys.shape + (count,)``."""
    columns = np.arange(1, count + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        bits = _finalise(np.asarray(keys, dtype=np.uint64)[..., None] + columns * _GOLDEN)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


@lru_cache(maxsize=4)  # a plan asks for the same epoch's again and again
def permutation(size: int, use: Use, *counters: int) -> NDArray[np.int64]:
    """A permutation of ``range(size)``, the same on every machine for the same counters.

    The array is shared, so it is read-only.
    """
    order = np.argsort(key(use, *counters, np.arange(size)), kind="stable")
    order.flags.writeable = False
    return order
