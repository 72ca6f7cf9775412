"""Every measure against a plain re-computation, on random features with ties, zeros, absent classes
and classes of one video; and with numbers that are not finite, which each refuses.

Features are small whole numbers, so that distances and similarities tie often and sums are exact;
the re-computations use exact fractions where a tie decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from vididi.errors import NotFiniteError
from vididi.evaluation import ABSENT, first_hits, recall_at, silhouette, silhouette_table
from vididi.evaluation.classification import accuracy, true_class_ranks
from vididi.evaluation.features import spread
from vididi.evaluation.online import knn_accuracy, probe_accuracy
from vididi.evaluation.silhouette import best_retrieved_classes

quick = settings(max_examples=150, deadline=None)
BAD = st.sampled_from([np.nan, np.inf, -np.inf])


@st.composite
def features(
    draw: Any, least: int = 1, most: int = 9, width: int | None = None
) -> NDArray[np.float64]:
    shape = draw(st.integers(least, most)), width or draw(st.integers(1, 3))
    return draw(arrays.arrays(np.float64, shape, elements=st.integers(-2, 2).map(float)))


@st.composite
def labelled(
    draw: Any, least: int = 1, most: int = 9, width: int | None = None
) -> tuple[NDArray, NDArray]:
    x = draw(features(least, most, width))
    return x, np.array(draw(st.lists(st.integers(0, 4), min_size=len(x), max_size=len(x))))


@st.composite
def query_and_gallery(draw: Any) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    width = draw(st.integers(1, 3))
    return *draw(labelled(width=width)), *draw(labelled(width=width))


def nearness(a: NDArray, b: NDArray) -> tuple[int, Fraction]:
    """Cosine similarity as a number that sorts exactly: its sign, and its square with that sign."""
    product, lengths = Fraction(float(a @ b)), Fraction(float(a @ a)) * Fraction(float(b @ b))
    sign = (product > 0) - (product < 0)
    return sign, Fraction(0) if lengths == 0 else sign * product**2 / lengths


def ranked(query: NDArray, gallery: NDArray) -> list[int]:
    """The gallery's places, nearest first, ties by place."""
    return sorted(
        range(len(gallery)),
        key=lambda place: (*(-part for part in nearness(query, gallery[place])), place),
    )


# --- Retrieval ------------------------------------------------------------------------------------


def is_clear(query: NDArray, gallery: NDArray) -> bool:
    """Whether equal similarities come from equal vectors alone: others are equal but for
    rounding.
    """
    near = {nearness(query, one): one for one in gallery}
    return all((near[nearness(query, one)] == one).all() for one in gallery)


@quick
@given(query_and_gallery())
def test_ranks_and_recall(data: tuple[NDArray, NDArray, NDArray, NDArray]) -> None:
    queries, query_labels, gallery, gallery_labels = data
    hits = first_hits(*data)
    for query, label, hit in zip(queries, query_labels, hits, strict=True):
        same = [place for place, other in enumerate(gallery_labels) if other == label]
        order = [gallery_labels[place] for place in ranked(query, gallery)]
        if not same:
            assert hit == ABSENT
        elif is_clear(query, gallery):
            assert hit == order.index(label)
        else:  # within the videos that are as near
            near = [nearness(query, one) for one in gallery]
            best = max(near[place] for place in same)
            assert sum(one > best for one in near) <= hit < sum(one >= best for one in near)
    for k in (1, 2, 5, 10, 10**6):
        assert recall_at(hits, (k,))[k] == sum(hit < k for hit in hits.tolist()) / len(hits)
        assert recall_at(hits, (k,))[k] <= np.isin(query_labels, gallery_labels).mean()


@quick
@given(query_and_gallery(), st.integers(1, 12))
def test_knn(data: tuple[NDArray, NDArray, NDArray, NDArray], k: int) -> None:
    queries, query_labels, gallery, gallery_labels = data
    right, unclear = 0, 0
    for query, label in zip(queries, query_labels, strict=True):
        votes: dict[int, float] = {}
        for place in ranked(query, gallery)[:k]:
            sign, square = nearness(query, gallery[place])
            votes[gallery_labels[place]] = votes.get(gallery_labels[place], 0) + math.exp(
                sign * math.sqrt(abs(square)) / 0.07
            )
        best = max(votes.values())
        near = sorted(name for name, vote in votes.items() if vote > best * (1 - 1e-9))
        unclear += len(near) > 1 or (k < len(gallery) and not is_clear(query, gallery))
        right += near[0] == label
    found = knn_accuracy(*data, k=k) * len(queries)
    assert abs(found - right) <= unclear + 1e-9


@quick
@given(query_and_gallery())
def test_probe(data: tuple[NDArray, NDArray, NDArray, NDArray]) -> None:
    """Against the primal form: (X'X + ridge n I) w = X'(y - mean of y)."""
    queries, query_labels, gallery, gallery_labels = data
    mean, deviation = gallery.mean(axis=0), gallery.std(axis=0)
    x, q = ((part - mean) / np.where(deviation > 0, deviation, 1) for part in (gallery, queries))
    classes = sorted(set(gallery_labels.tolist()))
    y = np.array([[float(label == name) for name in classes] for label in gallery_labels])
    weights = np.linalg.solve(
        x.T @ x + 0.1 * len(x) * np.eye(x.shape[1]), x.T @ (y - y.mean(axis=0))
    )
    scores = q @ weights + y.mean(axis=0)
    chosen = [classes[place] for place in scores.argmax(axis=1)]
    top = np.sort(scores, axis=1)
    unclear = sum(top[:, -1] - top[:, -2] < 1e-9) if len(classes) > 1 else 0
    right = sum(name == label for name, label in zip(chosen, query_labels, strict=True))
    assert abs(probe_accuracy(*data) * len(queries) - right) <= unclear + 1e-9


# --- Silhouette -----------------------------------------------------------------------------------


def plain_silhouette(x: NDArray, labels: NDArray) -> float:
    scores = []
    for i, label in enumerate(labels):
        far = {
            name: [math.dist(x[i], x[j]) for j in range(len(x)) if labels[j] == name and j != i]
            for name in set(labels.tolist())
        }
        own = far.pop(label)
        within, nearest = (
            sum(own) / max(1, len(own)),
            min(sum(other) / len(other) for other in far.values()),
        )
        scale = max(within, nearest)
        scores.append((nearest - within) / scale if own and scale > 0 else 0.0)
    return sum(scores) / len(scores)


@quick
@given(labelled(2, 12))
def test_silhouette(data: tuple[NDArray, NDArray]) -> None:
    x, labels = data
    if not 2 <= len(set(labels.tolist())) < len(x):
        with pytest.raises(ValueError, match="classes of"):
            silhouette(x, labels)
        return
    assert silhouette(x, labels) == pytest.approx(plain_silhouette(x, labels), abs=1e-6)


@quick
@given(labelled(1, 12), st.sets(st.integers(0, 4)), st.data())
def test_best_retrieved_classes_and_their_silhouette(
    data: tuple[NDArray, NDArray], lacking: set[int], more: st.DataObject
) -> None:
    """A class that the gallery lacks is retrieved worst, after one whose every query has the last
    rank.
    """
    x, labels = data
    hits = np.array(
        [ABSENT if label in lacking else more.draw(st.integers(0, 3)) for label in labels]
    )

    def order(name: int) -> tuple[Any, ...]:
        own = [int(hit) for hit, label in zip(hits, labels, strict=True) if label == name]
        return (
            name in lacking,
            -Fraction(sum(hit < 1 for hit in own), len(own)),
            Fraction(sum(own), len(own)),
            name,
        )

    expected = sorted(set(labels.tolist()), key=order)
    present = [name for name in expected if name not in lacking]
    found = best_retrieved_classes(hits, labels, 5).tolist()
    assert found == expected
    assert found[: len(present)] == present
    for name, value in silhouette_table(x, labels, hits, (2, 3)).items():
        chosen = np.isin(labels, expected if name == "all" else expected[: int(name)])
        assert value == pytest.approx(plain_silhouette(x[chosen], labels[chosen]), abs=1e-6)


# --- Accuracy -------------------------------------------------------------------------------------


@quick
@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 8), st.integers(1, 7)),
        elements=st.integers(0, 3).map(float),
    ),
    st.data(),
)
def test_ranks_of_the_true_class_and_accuracy(scores: NDArray, data: st.DataObject) -> None:
    count = scores.shape[1]
    labels = np.array([data.draw(st.integers(0, count - 1)) for _ in scores])
    ranks = true_class_ranks(scores, labels)
    for row, label, rank in zip(scores, labels, ranks, strict=True):
        assert sorted(range(count), key=lambda name: (-row[name], name)).index(label) == rank
    names = [f"class {name}" for name in range(count)]
    tops, each = accuracy(ranks, labels, dict(enumerate(names)))
    assert tops["top1"] == sum(rank == 0 for rank in ranks) / len(ranks)
    assert ("top5" in tops) == (count > 5)
    if "top5" in tops:
        assert tops["top5"] == sum(rank < 5 for rank in ranks) / len(ranks)
    own = {
        name: [rank == 0 for rank, label in zip(ranks, labels, strict=True) if label == place]
        for place, name in enumerate(names)
    }
    assert each == {
        name: pytest.approx(sum(right) / len(right)) for name, right in own.items() if right
    }


@quick
@given(features())
def test_spread(x: NDArray) -> None:
    unit = [row / np.linalg.norm(row) if row.any() else row for row in x]
    pairs = sum(float(a @ b) for a in unit for b in unit) / len(x) ** 2
    assert spread(x) == pytest.approx(
        max(0.0, sum(row.any() for row in x) / len(x) - pairs), abs=1e-9
    )


# --- Not finite -----------------------------------------------------------------------------------

MEASURES: dict[str, Callable[[NDArray, NDArray, NDArray, NDArray], Any]] = {
    "retrieval": first_hits,
    "online/knn": knn_accuracy,
    "online/probe": probe_accuracy,
    "silhouette": lambda x, labels, *_: silhouette(x, labels),
    "features/spread": lambda x, *_: spread(x),
    "accuracy": lambda x, labels, *_: true_class_ranks(x, np.zeros(len(x), int)),
}


@settings(max_examples=60, deadline=None)
@given(query_and_gallery(), BAD, st.data())
def test_no_measure_takes_what_is_not_finite(
    data: tuple[NDArray, NDArray, NDArray, NDArray], bad: float, more: st.DataObject
) -> None:
    queries, *others = data
    spoiled = queries.copy()
    rows = more.draw(st.sets(st.integers(0, len(queries) - 1), min_size=1))
    spoiled[list(rows), more.draw(st.integers(0, queries.shape[1] - 1))] = bad
    for name, measure in MEASURES.items():
        with pytest.raises(
            NotFiniteError,
            match=rf"^{name}: {len(rows)} of {len(queries)} rows of \w+ are not finite",
        ):
            measure(spoiled, *others)
