"""What a result of an earlier version may say that is not true: it is computed again from what is
there, or left out with a reason.

Until rules 2 (``vididi.RULES``) a query whose class the gallery lacks had the gallery's size as its
rank, so with fewer than k gallery videos it counted as found; and a classifier whose scores were
NaN was right about every video. numpy only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vididi.runs.readers import Queries

RECALL = re.compile(r"retrieval/R@(\d+)")
ACCURACY = re.compile(r"(?:linear|semi_[^/]+|finetune)/top\d+")
Metrics = dict[str, float]


@dataclass
class Rechecked:
    """What is left of a result.

    Args:
        notes: a sentence for each metric that is not as its result.json says.
        gallery: of an old retrieval that lists what cannot be found: the rank that says so.
    """

    metrics: Metrics
    untrained: Metrics
    per_class: Metrics
    notes: list[str] = field(default_factory=list)
    gallery: int | None = None

    def drop(self, kept: Metrics, name: str, why: str) -> None:
        self._note(kept, name, f"is left out: {why}; measure it again")
        del kept[name]

    def mark(self, kept: Metrics, name: str, why: str) -> None:
        self._note(kept, name, f"may be too high: {why}; measure it again")

    def correct(self, kept: Metrics, name: str, value: float) -> None:
        if abs(value - kept[name]) > 1e-9:
            self._note(
                kept,
                name,
                f"is {value:.3f}, not the {kept[name]:.3f} of its result.json: what the gallery"
                " lacks cannot be found",
            )
            kept[name] = value

    def _note(self, kept: Metrics, name: str, text: str) -> None:
        self.notes.append(
            f"{name}{' of the untrained encoder' if kept is self.untrained else ''} {text}"
        )


def recheck(
    result: Mapping[str, Any],
    metrics: Mapping[str, float],
    untrained: Mapping[str, float],
    queries: Callable[[], Queries | None],
    size: Callable[[], int | None],
    least: int = 1,
) -> Rechecked:
    """What of a result may be believed.

    Args:
        result: the content of result.json. metrics, untrained: what it has measured, by name.
        queries: reads the queries of ``metrics``, if they are there; size: how many videos the
            gallery has, if that is known. Both are asked only where it matters.
        least: how many videos the gallery has at least.
    """
    found = Rechecked(dict(metrics), dict(untrained), dict(result.get("per_class") or {}))
    for kept in (found.metrics, found.untrained):
        for name in [name for name, value in kept.items() if not math.isfinite(value)]:
            found.drop(kept, name, f"it is {kept[name]}")
    if result.get("rules", 1) < 2:
        _recheck_accuracy(found, result)
        _recheck_recall(found, queries, size, least)
    return found


# --- Accuracy -------------------------------------------------------------------------------------


def _recheck_accuracy(found: Rechecked, result: Mapping[str, Any]) -> None:
    losses = [epoch.get("loss", math.inf) for epoch in result.get("epochs") or []]
    chance = math.log(max(2, len(found.per_class)))
    for kept, own in ((found.metrics, losses), (found.untrained, [])):
        if why := _doubt(kept, own, chance):
            for name in [name for name in kept if ACCURACY.fullmatch(name)]:
                found.drop(kept, name, why)
                found.per_class = {} if kept is found.metrics else found.per_class


def _doubt(metrics: Metrics, losses: list[float], chance: float) -> str | None:
    """Why accuracies may be those of NaN: all videos right, and no loss that such a classifier
    would have.
    """
    if not all(map(math.isfinite, losses)):
        return "a loss was not finite"
    perfect = any(
        value == 1
        for name, value in metrics.items()
        if ACCURACY.fullmatch(name) and name.endswith("/top1")
    )
    if not perfect or (losses and losses[-1] < chance / 2):
        return None
    return "every video counts as right, as where scores are NaN" + (
        f", after a loss of {losses[-1]:.3g}" if losses else ""
    )


# --- Recall ---------------------------------------------------------------------------------------


def _recheck_recall(
    found: Rechecked,
    read: Callable[[], Queries | None],
    known: Callable[[], int | None],
    least: int,
) -> None:
    doubtful = {
        name: int(match[1])
        for name in {**found.metrics, **found.untrained}
        if (match := RECALL.fullmatch(name))
    }
    doubtful = {
        name: k for name, k in doubtful.items() if k > least
    }  # a rank that the gallery's size is does not count below it
    if not doubtful:
        return
    size, queries = known(), read()
    ranks = None if queries is None or not len(queries.videos) else queries.first_hit
    absent = (
        None if queries is None or ranks is None else _absent(ranks, queries.labels, size, least)
    )
    found.gallery = size if absent is not None and absent.any() else None
    for name, k in doubtful.items():
        if k > (size or least):
            _recheck_one(found, name, k, ranks, absent)


def _recheck_one(
    found: Rechecked,
    name: str,
    k: int,
    ranks: NDArray[np.int64] | None,
    absent: NDArray[np.bool_] | None,
) -> None:
    """R@k, where the gallery may have fewer than k videos. What is ``absent`` counted as found."""
    if ranks is None or (
        name in found.metrics and abs((ranks < k).mean() - found.metrics[name]) > 1e-4
    ):
        why = f"the gallery may have fewer than {k} videos, and the queries are not kept"
        for kept in (found.metrics, found.untrained):
            if name in kept:
                found.mark(kept, name, why)
    elif absent is not None:
        for kept in (found.metrics, found.untrained):
            if name in kept:
                found.correct(kept, name, float(kept[name] - absent.mean()))
    elif k > ranks.max():
        for kept in (found.metrics, found.untrained):
            if name in kept:
                found.drop(
                    kept, name, f"the gallery may have fewer than {k} videos, and lack classes"
                )


def _absent(
    ranks: NDArray[np.int64], labels: NDArray, size: int | None, least: int
) -> NDArray[np.bool_] | None:
    """``[Q]``, which queries of an old file cannot be found; None where that is not known."""
    if size is not None:
        return ranks >= size
    last = ranks == ranks.max()
    # Of a class that the gallery lacks no query can be found, and all have the gallery's size as
    # their rank.
    if ranks.max() < least or np.isin(labels[last], labels[~last]).any():
        return np.zeros(len(ranks), dtype=bool)
    return None
