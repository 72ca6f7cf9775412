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

    def drop(self, values: Metrics, name: str, why: str) -> None:
        """Leave a metric out, with a note."""
        self._note(values, name, f"is left out: {why}; measure it again")
        del values[name]

    def mark(self, values: Metrics, name: str, why: str) -> None:
        """Keep a metric that may be too high, with a note."""
        self._note(values, name, f"may be too high: {why}; measure it again")

    def correct(self, values: Metrics, name: str, value: float) -> None:
        """Replace the value of a metric, with a note where it differs."""
        if abs(value - values[name]) > 1e-9:
            self._note(
                values,
                name,
                f"is {value:.3f}, not the {values[name]:.3f} of its result.json: what the gallery"
                " lacks cannot be found",
            )
            values[name] = value

    def _note(self, values: Metrics, name: str, text: str) -> None:
        self.notes.append(
            f"{name}{' of the untrained encoder' if values is self.untrained else ''} {text}"
        )


def recheck(
    result: Mapping[str, Any],
    metrics: Mapping[str, float],
    untrained: Mapping[str, float],
    queries: Callable[[], Queries | None],
    size: Callable[[], int | None],
    min_size: int = 1,
) -> Rechecked:
    """What of a result may be believed.

    Args:
        result: the content of result.json. metrics, untrained: what it has measured, by name.
        queries: reads the queries of ``metrics``; None where there are none.
        size: gives the number of videos in the gallery; None where it is not known. Both are
            called only where it matters.
        min_size: how many videos the gallery has at least.
    """
    rechecked = Rechecked(dict(metrics), dict(untrained), dict(result.get("per_class") or {}))
    for values in (rechecked.metrics, rechecked.untrained):
        for name in [name for name, value in values.items() if not math.isfinite(value)]:
            rechecked.drop(values, name, f"it is {values[name]}")
    if result.get("rules", 1) < 2:
        _recheck_accuracy(rechecked, result)
        _recheck_recall(rechecked, queries, size, min_size)
    return rechecked


# --- Accuracy -------------------------------------------------------------------------------------


def _recheck_accuracy(rechecked: Rechecked, result: Mapping[str, Any]) -> None:
    losses = [epoch.get("loss", math.inf) for epoch in result.get("epochs") or []]
    chance = math.log(max(2, len(rechecked.per_class)))
    for values, losses_of in ((rechecked.metrics, losses), (rechecked.untrained, [])):
        if why := _doubt(values, losses_of, chance):
            for name in [name for name in values if ACCURACY.fullmatch(name)]:
                rechecked.drop(values, name, why)
                rechecked.per_class = {} if values is rechecked.metrics else rechecked.per_class


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
    rechecked: Rechecked,
    read: Callable[[], Queries | None],
    known: Callable[[], int | None],
    min_size: int,
) -> None:
    doubtful = {
        name: int(match[1])
        for name in {**rechecked.metrics, **rechecked.untrained}
        if (match := RECALL.fullmatch(name))
    }
    doubtful = {
        name: k for name, k in doubtful.items() if k > min_size
    }  # a rank that the gallery's size is does not count below it
    if not doubtful:
        return
    size, queries = known(), read()
    ranks = None if queries is None or not len(queries.videos) else queries.first_hit
    absent = (
        None if queries is None or ranks is None else _absent(ranks, queries.labels, size, min_size)
    )
    rechecked.gallery = size if absent is not None and absent.any() else None
    for name, k in doubtful.items():
        if k > (size or min_size):
            _recheck_one(rechecked, name, k, ranks, absent)


def _recheck_one(
    rechecked: Rechecked,
    name: str,
    k: int,
    ranks: NDArray[np.int64] | None,
    absent: NDArray[np.bool_] | None,
) -> None:
    """R@k, where the gallery may have fewer than k videos. What is ``absent`` counted as found."""
    if ranks is None or (
        name in rechecked.metrics and abs((ranks < k).mean() - rechecked.metrics[name]) > 1e-4
    ):
        why = f"the gallery may have fewer than {k} videos, and the queries are not kept"
        for values in (rechecked.metrics, rechecked.untrained):
            if name in values:
                rechecked.mark(values, name, why)
    elif absent is not None:
        for values in (rechecked.metrics, rechecked.untrained):
            if name in values:
                rechecked.correct(values, name, float(values[name] - absent.mean()))
    elif k > ranks.max():
        for values in (rechecked.metrics, rechecked.untrained):
            if name in values:
                rechecked.drop(
                    values, name, f"the gallery may have fewer than {k} videos, and lack classes"
                )


def _absent(
    ranks: NDArray[np.int64], labels: NDArray, size: int | None, min_size: int
) -> NDArray[np.bool_] | None:
    """``[Q]``, which queries of an old file cannot be found; None where that is not known."""
    if size is not None:
        return ranks >= size
    last = ranks == ranks.max()
    # Of a class that the gallery lacks no query can be found, and all have the gallery's size as
    # their rank.
    if ranks.max() < min_size or np.isin(labels[last], labels[~last]).any():
        return np.zeros(len(ranks), dtype=bool)
    return None
