"""Video retrieval against scikit-learn's nearest neighbours, and by hand where it has no answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from vididi.evaluation import ABSENT, first_hits, recall_at, retrieval_recall
from vididi.evaluation.retrieval import Distance, nearest_labels

Data = tuple[NDArray, NDArray, NDArray, NDArray]


def make_features(
    queries: int = 300, gallery: int = 150, width: int = 16, classes: int = 12, seed: int = 0
) -> Data:
    """Queries, their labels, gallery and its labels; the last gallery label is a class of one
    video.
    """
    rng = np.random.default_rng(seed)
    gallery_labels = rng.integers(0, classes, size=gallery)
    gallery_labels[-1] = classes
    query_labels = rng.integers(0, classes + 1, size=queries)
    centres = rng.normal(size=(classes + 1, width))
    noise_q, noise_g = rng.normal(size=(queries, width)), rng.normal(size=(gallery, width))
    return (
        centres[query_labels] + 2 * noise_q,
        query_labels,
        centres[gallery_labels] + 2 * noise_g,
        gallery_labels,
    )


def hits_of_sklearn(
    queries: NDArray, query_labels: NDArray, gallery: NDArray, gallery_labels: NDArray
) -> NDArray:
    neighbours = NearestNeighbors(n_neighbors=len(gallery), metric="cosine", algorithm="brute").fit(
        gallery
    )
    nearest = neighbours.kneighbors(queries, return_distance=False)
    return (gallery_labels[nearest] == query_labels[:, None]).argmax(axis=1)


@pytest.mark.parametrize("width", [2, 16, 128])
@pytest.mark.parametrize("queries", [1, 255, 256, 600])
def test_first_hits_agree_with_sklearn(queries: int, width: int) -> None:
    data = make_features(queries, width=width)
    np.testing.assert_array_equal(first_hits(*data), hits_of_sklearn(*data))


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_the_nearest_label_is_the_query_s_own_exactly_where_the_first_hit_is_0(
    distance: Distance,
) -> None:
    queries, query_labels, gallery, gallery_labels = make_features()
    gallery[1::2] = gallery[::2]  # ties
    nearest = nearest_labels(queries, gallery, gallery_labels, distance)
    hits = first_hits(queries, query_labels, gallery, gallery_labels, distance)
    np.testing.assert_array_equal(nearest == query_labels, hits == 0)
    assert 0 < (hits == 0).sum() < len(hits)


@pytest.mark.parametrize("ks", [(1, 5, 10), (1,), (3, 150)])
def test_recall_agrees_with_sklearn(ks: tuple[int, ...]) -> None:
    data = make_features()
    hits = hits_of_sklearn(*data)
    assert retrieval_recall(*data, ks=ks) == pytest.approx(
        {k: (hits < k).mean() for k in ks}, abs=1e-6
    )


def test_recall_is_a_fraction_of_the_queries() -> None:
    gallery = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-1.0, 0.0]]
    queries = [[1.0, 0.1], [1.0, 0.1], [1.0, 0.1], [1.0, 0.1]]
    data = (queries, [0, 1, 2, 3], gallery, [0, 1, 2, 3])
    assert first_hits(*data).tolist() == [0, 1, 2, 3]
    assert retrieval_recall(*data, ks=(1, 2, 3, 4)) == {1: 0.25, 2: 0.5, 3: 0.75, 4: 1.0}


def test_the_ks_of_the_paper_are_the_default() -> None:
    assert list(retrieval_recall(*make_features())) == [1, 5, 10]


def test_recall_counts_hits_nearer_than_k() -> None:
    assert recall_at([0, 4, 5, 100], (1, 5, 6, 1000)) == {1: 0.25, 5: 0.5, 6: 0.75, 1000: 1.0}


def test_a_query_of_a_class_that_the_gallery_lacks_is_never_hit() -> None:
    queries, labels, gallery, gallery_labels = make_features()
    labels = labels.copy()
    labels[:3] = 999
    hits = first_hits(queries, labels, gallery, gallery_labels)
    assert (hits[:3] == ABSENT).all()
    assert (hits[3:] < len(gallery)).all()
    assert recall_at(hits[:3], (1, len(gallery), 10**9)) == {1: 0.0, len(gallery): 0.0, 10**9: 0.0}


def test_a_gallery_smaller_than_k_holds_no_more_than_it_has() -> None:
    """4 training videos; two of the four queries are of a class that was never trained."""
    gallery, labels = np.eye(4), [0, 0, 1, 1]
    assert retrieval_recall(np.eye(4), [0, 1, 2, 3], gallery, labels) == {1: 0.25, 5: 0.5, 10: 0.5}


def test_labels_may_be_names() -> None:
    queries, labels, gallery, gallery_labels = make_features()
    named = first_hits(queries, labels.astype(str), gallery, gallery_labels.astype(str))
    np.testing.assert_array_equal(named, first_hits(queries, labels, gallery, gallery_labels))


def test_lengths_of_vectors_do_not_matter() -> None:
    queries, labels, gallery, gallery_labels = make_features()
    lengths = np.random.default_rng(1).uniform(0.1, 10, size=len(gallery))[:, None]
    scaled = first_hits(3 * queries, labels, lengths * gallery, gallery_labels)
    np.testing.assert_array_equal(scaled, first_hits(queries, labels, gallery, gallery_labels))


@pytest.mark.parametrize(
    ("gallery", "width"), [(5, 512), (13, 96), (101, 512), (300, 128), (300, 512)]
)
@pytest.mark.parametrize("queries", [1, 3, 44, 300])
def test_equal_gallery_videos_rank_by_their_index(gallery: int, width: int, queries: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        features, twin = rng.normal(size=(gallery, width)), rng.normal(size=width)
        lower, higher = sorted(rng.choice(gallery, size=2, replace=False))
        features[[lower, higher]] = twin
        near = twin + 0.01 * rng.normal(size=(queries, width))
        labels = np.zeros(gallery, dtype=int)
        labels[lower], labels[higher] = 1, 2
        lower_hits, higher_hits = (
            first_hits(near, np.full(queries, label), features, labels) for label in (1, 2)
        )
        assert (lower_hits < higher_hits).all()
        assert (higher_hits - lower_hits == 1).all()


def test_a_zero_vector_is_similar_to_nothing() -> None:
    gallery = [[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]
    assert first_hits([[1.0, 0.0]], [7], gallery, [7, 1, 2]).tolist() == [1]
    assert first_hits([[0.0, 0.0]], [7], gallery, [1, 2, 7]).tolist() == [2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gallery": np.zeros((4, 5)), "gallery_labels": np.zeros(4)}, "queries, gallery: 3 and 5"),
        ({"gallery": np.zeros((0, 3)), "gallery_labels": []}, "gallery: it is empty"),
        ({"query_labels": [0]}, "labels: 1 and 4 labels for 2 queries"),
        ({"gallery_labels": [0]}, "labels: 2 and 1 labels for 2 queries and a gallery of 4"),
        ({"queries": np.zeros(3)}, r"queries: shape \(3,\)"),
        ({"gallery": np.zeros((4, 3, 1))}, r"gallery: shape \(4, 3, 1\)"),
        (
            {"queries": [[0.0, 0.0, np.nan], [0.0, 0.0, 1.0]]},
            "retrieval: 1 of 2 rows of queries are not finite",
        ),
        ({"gallery": np.full((4, 3), np.inf)}, "retrieval: 4 of 4 rows of gallery are not finite"),
    ],
)
def test_data_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    data = {
        "queries": np.ones((2, 3)),
        "query_labels": [0, 1],
        "gallery": np.ones((4, 3)),
        "gallery_labels": [0, 1, 0, 1],
    }
    with pytest.raises(ValueError, match=message):
        first_hits(**{**data, **change})


def test_recall_of_no_queries_is_refused() -> None:
    with pytest.raises(ValueError, match="queries: there are none"):
        recall_at([], (1,))


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_ranks_are_those_of_a_full_sort(
    distance: Distance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With duplicates, ties between classes, absent classes; and where other rows share a sum."""
    rng = np.random.default_rng(0)
    for count in (1, 7, 60):
        base = rng.standard_normal((count, 5))
        gallery = base[rng.integers(0, count, 2 * count)]
        queries = np.concatenate([base, rng.standard_normal((count, 5)), np.zeros((1, 5))])
        g_labels, q_labels = rng.integers(0, 4, 2 * count), rng.integers(0, 6, len(queries))
        expected = []
        unit = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
        for query, label in zip(queries, q_labels, strict=True):
            far = -unit @ query if distance == "cosine" else np.square(gallery - query).sum(axis=1)
            order = np.argsort(np.round(far, 9), kind="stable")
            same = np.flatnonzero(g_labels[order] == label)
            expected.append(same[0] if len(same) else ABSENT)
        given = queries, q_labels, gallery, g_labels, distance
        assert first_hits(*given).tolist() == expected
        with monkeypatch.context() as patch:
            zeros = lambda x: np.zeros(len(x), np.uint64)  # noqa: E731
            patch.setattr("vididi.evaluation.retrieval._row_sums", zeros)
            assert first_hits(*given).tolist() == expected
