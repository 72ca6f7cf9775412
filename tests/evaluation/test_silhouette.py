"""Silhouette scores against scikit-learn, and Table 7's columns."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import silhouette_score

from vididi.evaluation import silhouette, silhouette_table
from vididi.evaluation.silhouette import best_retrieved_classes


def make_features(
    videos: int = 200, classes: int = 7, width: int = 12, seed: int = 0, offset: float = 0.0
) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, size=videos - classes)])
    centres = rng.normal(size=(classes, width))
    return centres[labels] + rng.normal(size=(videos, width)) + offset, labels


@pytest.mark.parametrize(
    ("videos", "classes", "width"), [(200, 7, 12), (50, 2, 1), (30, 29, 4), (1500, 20, 64)]
)
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_agrees_with_sklearn(videos: int, classes: int, width: int, offset: float) -> None:
    x, labels = make_features(videos, classes, width, offset=offset)
    assert silhouette(x, labels) == pytest.approx(silhouette_score(x - offset, labels), abs=1e-6)


def test_a_class_of_one_video_counts_as_zero() -> None:
    x, labels = make_features()
    labels = labels.copy()
    labels[:3] = [100, 101, 102]
    assert silhouette(x, labels) == pytest.approx(silhouette_score(x, labels), abs=1e-6)
    assert silhouette([[0.0], [1.0], [10.0]], [0, 0, 1]) == pytest.approx((9 / 10 + 8 / 9 + 0) / 3)


def test_two_far_pairs_by_hand() -> None:
    assert silhouette([[0.0], [1.0], [10.0], [11.0]], [0, 0, 1, 1]) == pytest.approx(
        (1 - 1 / 10.5 + 1 - 1 / 9.5) / 2
    )


def test_labels_may_be_names_and_features_float32() -> None:
    x, labels = make_features()
    expected = silhouette_score(x.astype(np.float32).astype(np.float64), labels)
    assert silhouette(x.astype(np.float32), labels.astype(str)) == pytest.approx(expected, abs=1e-6)


def test_copies_of_one_point_have_score_zero_not_nan() -> None:
    assert silhouette(np.ones((6, 3)), [0, 0, 0, 1, 1, 1]) == 0.0


def test_the_order_of_the_videos_does_not_matter() -> None:
    x, labels = make_features(1500)
    order = np.random.default_rng(0).permutation(1500)
    assert silhouette(x[order], labels[order]) == pytest.approx(silhouette(x, labels), abs=1e-12)


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3]])
def test_one_class_or_as_many_as_videos_are_refused(labels: list[int]) -> None:
    with pytest.raises(ValueError, match=f"labels: {len(set(labels))} classes of 4 videos"):
        silhouette(np.eye(4), labels)


LABELS = np.repeat([0, 1, 2, 3], 4)
HITS = np.array(
    [0, 9, 9, 9, 0, 0, 0, 9, 0, 1, 1, 1, 0, 0, 9, 9]
)  # R@1: 1/4, 3/4, 1/4, 2/4; class 2 has better ranks than 0


def test_best_retrieved_classes_by_recall_then_by_mean_rank() -> None:
    assert best_retrieved_classes(HITS, LABELS, 4).tolist() == [1, 3, 2, 0]
    assert best_retrieved_classes(HITS, LABELS, 2).tolist() == [1, 3]


def test_classes_that_are_retrieved_alike_come_by_label() -> None:
    assert best_retrieved_classes(
        [0, 0, 0, 0, 1, 1], ["b", "b", "c", "a", "d", "d"], 3
    ).tolist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("classes", "columns"),
    [
        (2, ["all"]),
        (3, ["all"]),
        (4, ["3", "all"]),
        (10, ["3", "5", "all"]),
        (20, ["3", "5", "10", "15", "all"]),
        (101, ["3", "5", "10", "15", "20", "all"]),
    ],
)
def test_columns_are_those_below_the_number_of_classes_and_all(
    classes: int, columns: list[str]
) -> None:
    x, labels = make_features(300, classes)
    hits = np.random.default_rng(0).integers(0, 5, size=300)
    assert list(silhouette_table(x, labels, hits)) == columns


def test_each_column_is_the_silhouette_of_the_best_retrieved_classes() -> None:
    x, _ = make_features(16, 4)
    table = silhouette_table(x, LABELS, HITS, counts=(2, 3))
    assert table["2"] == pytest.approx(
        silhouette_score(x[4:][[0, 1, 2, 3, 8, 9, 10, 11]], [1] * 4 + [3] * 4), abs=1e-6
    )
    assert table["3"] == pytest.approx(silhouette_score(x[4:], LABELS[4:]), abs=1e-6)
    assert table["all"] == pytest.approx(silhouette_score(x, LABELS), abs=1e-6)
