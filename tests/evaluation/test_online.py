"""kNN and the linear probe of an encoder that still trains, against other implementations and by
hand.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from vididi.evaluation.online import knn_accuracy, probe_accuracy

Parts = tuple[NDArray, NDArray, NDArray, NDArray]


def blobs(seed: int, spread: float, features: int = 8) -> Parts:
    """Queries and gallery round three centres."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(3, features))
    labels = [np.arange(30) % 3 + 5, np.arange(60) % 3 + 5]
    x = [centres[label - 5] + spread * rng.normal(size=(len(label), features)) for label in labels]
    return x[0].astype(np.float32), labels[0], x[1].astype(np.float32), labels[1]


def by_votes(
    queries: NDArray, query_labels: NDArray, gallery: NDArray, gallery_labels: NDArray, k: int
) -> float:
    hits = 0
    for query, label in zip(queries, query_labels, strict=True):
        similar = [float(query @ g / np.linalg.norm(query) / np.linalg.norm(g)) for g in gallery]
        votes = dict.fromkeys(sorted(set(gallery_labels.tolist())), 0.0)
        for i in sorted(range(len(gallery)), key=lambda i: -similar[i])[:k]:
            votes[int(gallery_labels[i])] += np.exp(similar[i] / 0.07)
        hits += max(votes, key=lambda name: votes[name]) == label
    return hits / len(queries)


@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("k", [1, 5, 20, 100])
def test_knn_votes_by_similarity(spread: float, k: int) -> None:
    parts = blobs(int(10 * spread), spread)
    assert knn_accuracy(*parts, k=k) == by_votes(*parts, k=k)


@pytest.mark.parametrize(("spread", "features"), [(0.1, 8), (1.0, 8), (2.0, 100)])
def test_the_probe_is_ridge_regression_of_the_classes(spread: float, features: int) -> None:
    queries, query_labels, gallery, gallery_labels = blobs(3, spread, features)
    scale = StandardScaler().fit(gallery.astype(np.float64))
    ridge = Ridge(alpha=0.1 * len(gallery)).fit(
        scale.transform(gallery.astype(np.float64)), np.eye(3)[gallery_labels - 5]
    )
    expected = (
        ridge.predict(scale.transform(queries.astype(np.float64))).argmax(axis=1) + 5
        == query_labels
    ).mean()
    assert probe_accuracy(queries, query_labels, gallery, gallery_labels) == expected


def test_good_features_score_well_and_random_ones_by_chance() -> None:
    assert knn_accuracy(*blobs(0, 0.05)) == probe_accuracy(*blobs(0, 0.05)) == 1
    rng = np.random.default_rng(0)
    noise = (
        rng.normal(size=(900, 8)),
        np.arange(900) % 3,
        rng.normal(size=(900, 8)),
        np.arange(900) % 3,
    )
    assert knn_accuracy(*noise) == pytest.approx(1 / 3, abs=0.06)
    assert probe_accuracy(*noise) == pytest.approx(1 / 3, abs=0.06)


def test_collapsed_and_zero_features_are_measured_too() -> None:
    labels = np.arange(30) % 3
    for features in (np.zeros((30, 4)), np.ones((30, 4))):
        assert knn_accuracy(features, labels, features, labels) <= 0.5
        assert probe_accuracy(features, labels, features, labels) == pytest.approx(1 / 3)
