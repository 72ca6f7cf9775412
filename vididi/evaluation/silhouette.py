"""Silhouette scores of features by class (ViDiDi F.1 and F.2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vididi.finite import check_finite

BLOCK = 1024  # videos whose distances to all others are in memory at a time


def silhouette(features: ArrayLike, labels: ArrayLike) -> float:
    """The mean silhouette coefficient with Euclidean distances (Rousseeuw 1987).

    A class of one video counts as 0.

    Args:
        features: ``[V, D]``; labels: ``[V]`` with at least 2 classes and fewer classes than videos.

    Raises:
        ValueError: the number of classes does not allow a score.
        NotFiniteError: a feature is not finite, or so large that a distance is not.
    """
    x = np.asarray(features, dtype=np.float64)
    check_finite("silhouette", features=x)
    _, classes, sizes = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    if not 2 <= len(sizes) < len(x):
        raise ValueError(
            f"labels: {len(sizes)} classes of {len(x)} videos; a silhouette needs 2 or more, and"
            " fewer than videos"
        )

    x = x - x.mean(axis=0)  # distances do not change, and their rounding error shrinks
    members = np.eye(len(sizes))[classes]
    squares = (x * x).sum(axis=1)

    scores = np.empty(len(x))
    for start in range(0, len(x), BLOCK):
        part = slice(start, start + BLOCK)
        distances = np.sqrt(
            np.maximum(0.0, squares[part, None] + squares[None] - 2 * x[part] @ x.T)
        )
        check_finite("silhouette", distances=distances)
        distances[np.arange(len(distances)), np.arange(start, start + len(distances))] = 0.0
        scores[part] = _coefficients(distances @ members, classes[part], sizes)
    return float(scores.mean())


def _coefficients(sums: NDArray, classes: NDArray, sizes: NDArray) -> NDArray:
    """(b - a) / max(a, b) from the summed distances of videos to each class."""
    rows = np.arange(len(sums))
    within = sums[rows, classes] / np.maximum(sizes[classes] - 1, 1)
    means = sums / sizes
    means[rows, classes] = np.inf
    nearest = means.min(axis=1)
    scale = np.maximum(within, nearest)
    scores = np.where(scale > 0, (nearest - within) / np.where(scale > 0, scale, 1.0), 0.0)
    return np.where(sizes[classes] == 1, 0.0, scores)


def best_retrieved_classes(hits: ArrayLike, labels: ArrayLike, count: int) -> NDArray:
    """The ``count`` classes with the highest R@1 of this model (F.2).

    Ties go by mean rank, then by label.
    """
    ranks, labels = np.asarray(hits), np.asarray(labels)
    classes = np.unique(labels)
    recall = np.array([(ranks[labels == c] < 1).mean() for c in classes])
    mean_rank = np.array([ranks[labels == c].mean() for c in classes])
    return classes[np.lexsort((classes, mean_rank, -recall))[:count]]


def silhouette_table(
    features: ArrayLike,
    labels: ArrayLike,
    hits: ArrayLike,
    counts: tuple[int, ...] = (3, 5, 10, 15, 20),
) -> dict[str, float]:
    """Table 7's columns: the best-retrieved 3, 5, 10, 15, 20 classes, and ``all``.

    A number of classes that is not less than all has no column.

    A column whose score is not defined (every class has one video) is left out.
    """
    x, y = np.asarray(features), np.asarray(labels)
    total = len(np.unique(y))
    columns = {
        str(count): np.isin(y, best_retrieved_classes(hits, y, count))
        for count in counts
        if 2 <= count < total
    }
    columns["all"] = np.ones(len(y), dtype=bool)
    defined = {
        name: chosen
        for name, chosen in columns.items()
        if 2 <= len(np.unique(y[chosen])) < chosen.sum()
    }
    return {name: silhouette(x[chosen], y[chosen]) for name, chosen in defined.items()}
