"""How good an encoder is while it still trains: two cheap measures on features of some training and
test videos.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vididi.evaluation.retrieval import unit_rows
from vididi.finite import check_finite

KNN, PROBE = "online/knn", "online/probe"


def knn_accuracy(
    queries: NDArray,
    query_labels: NDArray,
    gallery: NDArray,
    gallery_labels: NDArray,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Top-1 accuracy of the votes of the k nearest neighbours (Wu et al., CVPR 2018, section 3.4).

    A vote weighs exp(cosine similarity / temperature).

    Args:
        queries: ``[Q, D]``; gallery: ``[G, D]``; labels: ``[Q]``, ``[G]``. Of equal votes the
            smaller label wins.

    Raises:
        NotFiniteError: a feature is not finite.
    """
    similar = unit_rows(KNN, "queries", queries) @ unit_rows(KNN, "gallery", gallery).T
    nearest = np.argsort(-similar, axis=1, kind="stable")[:, :k]
    weights = np.exp((np.take_along_axis(similar, nearest, axis=1) - 1) / temperature)

    classes, numbers = np.unique(gallery_labels, return_inverse=True)
    votes = np.zeros((len(queries), len(classes)))
    np.add.at(votes, (np.arange(len(queries))[:, None], numbers[nearest]), weights)
    return float((classes[votes.argmax(axis=1)] == query_labels).mean())


def probe_accuracy(
    queries: NDArray,
    query_labels: NDArray,
    gallery: NDArray,
    gallery_labels: NDArray,
    ridge: float = 0.1,
) -> float:
    """Top-1 accuracy of a linear classifier, in closed form.

    It is the ridge regression of the classes on standardised features.

    Args:
        queries: ``[Q, D]``; gallery: ``[G, D]``, which it is fitted on; labels: ``[Q]``, ``[G]``.
        ridge: the penalty per gallery video, where a feature has variance 1.

    Raises:
        NotFiniteError: a feature is not finite, or a score that is computed of them.
    """
    check_finite(PROBE, queries=queries, gallery=gallery)
    mean, deviation = gallery.mean(axis=0, dtype=np.float64), gallery.std(axis=0, dtype=np.float64)
    check_finite(PROBE, deviations=deviation)
    x, q = ((part - mean) / np.where(deviation > 0, deviation, 1) for part in (gallery, queries))
    classes, numbers = np.unique(gallery_labels, return_inverse=True)
    targets = np.eye(len(classes))[numbers] - np.bincount(numbers) / len(x)
    # The dual form: there are often fewer videos than features.
    scores = q @ (
        x.T @ np.linalg.solve(x @ x.T + ridge * len(x) * np.eye(len(x)), targets)
    ) + np.bincount(numbers) / len(x)
    check_finite(PROBE, scores=scores)
    return float((classes[scores.argmax(axis=1)] == query_labels).mean())
