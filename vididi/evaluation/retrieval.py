"""Video retrieval: nearest neighbours of test videos among training videos (ViDiDi E.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vididi.finite import check_finite

BLOCK = 256  # queries whose similarities to the gallery are in memory at a time
Distance = Literal["cosine", "euclidean"]
Centre = Literal["none", "train", "each_split"]
ABSENT = np.iinfo(np.int64).max  # the rank of what is not there, which no k reaches


def first_hits(
    queries: ArrayLike,
    query_labels: ArrayLike,
    gallery: ArrayLike,
    gallery_labels: ArrayLike,
    distance: Distance = "cosine",
) -> NDArray[np.int64]:
    """For each query, how many gallery videos are nearer than the first one of its own class.

    0 is a hit at rank one.

    Nearness is cosine similarity (ViDiDi E.4) or Euclidean distance, in float64; ties go to the
    lower gallery index. A query whose class is not in the gallery is ABSENT. A zero vector has
    similarity 0 to everything.

    Args:
        queries: ``[Q, D]``; query_labels: ``[Q]``; gallery: ``[G, D]``; gallery_labels: ``[G]``.
        distance: ``cosine`` or ``euclidean``.

    Returns:
        ``[Q]``.

    Raises:
        ValueError: shapes do not fit, or the gallery is empty.
        NotFiniteError: a feature is not finite, or so large that a vector's length is not.
    """
    q, g = _rows(queries, "queries", distance), _rows(gallery, "gallery", distance)
    q_labels, g_labels = np.asarray(query_labels), np.asarray(gallery_labels)
    _check_sizes(q, q_labels, g, g_labels)

    hits = np.empty(len(q), dtype=np.int64)
    for part, near in _nearness(q, g, distance):
        nearest = np.argsort(-near, axis=1, kind="stable")
        same = g_labels[nearest] == q_labels[part, None]
        hits[part] = np.where(same.any(axis=1), same.argmax(axis=1), ABSENT)
    return hits


def nearest_labels(
    queries: ArrayLike,
    gallery: ArrayLike,
    gallery_labels: ArrayLike,
    distance: Distance = "cosine",
) -> NDArray:
    """The label of each query's nearest gallery video ``[Q]``, by the rules of first_hits: it is
    the query's own exactly where first_hits is 0.

    Args:
        queries: ``[Q, D]``; gallery: ``[G, D]``; gallery_labels: ``[G]``.

    Raises:
        ValueError, NotFiniteError: as first_hits.
    """
    q, g = _rows(queries, "queries", distance), _rows(gallery, "gallery", distance)
    labels = np.asarray(gallery_labels)
    _check_sizes(q, np.zeros(len(q)), g, labels)
    nearest = [near.argmax(axis=1) for _, near in _nearness(q, g, distance)]
    return labels[np.concatenate(nearest)] if nearest else labels[:0]


def _nearness(
    q: NDArray[np.float64], g: NDArray[np.float64], distance: Distance
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Blocks of queries, and how near the gallery is to each ``[BLOCK, G]``, greater is nearer."""
    # A product with equal rows is rounded differently from column to column, so equal rows are
    # multiplied once: else ties would not be ties.
    distinct, column = np.unique(g, axis=0, return_inverse=True)
    # |q - g|^2 = |q|^2 - 2 (q g - |g|^2 / 2), and |q|^2 is the same for the whole gallery.
    offset = np.square(distinct).sum(axis=1) / 2 if distance == "euclidean" else 0.0
    for start in range(0, len(q), BLOCK):
        part = slice(start, start + BLOCK)
        yield part, (q[part] @ distinct.T - offset)[:, column.ravel()]


def _check_sizes(q: NDArray, q_labels: NDArray, g: NDArray, g_labels: NDArray) -> None:
    if q.shape[1] != g.shape[1]:
        raise ValueError(
            f"queries, gallery: {q.shape[1]} and {g.shape[1]} features; both must have the same"
            " number"
        )
    if len(q) != len(q_labels) or len(g) != len(g_labels):
        raise ValueError(
            f"labels: {len(q_labels)} and {len(g_labels)} labels for {len(q)} queries and a gallery"
            f" of {len(g)}"
        )
    if len(g) == 0:
        raise ValueError("gallery: it is empty")


def _rows(features: ArrayLike, name: str, distance: Distance) -> NDArray[np.float64]:
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2:
        raise ValueError(f"{name}: shape {x.shape}; it must be [V, D]")
    unit = unit_rows("retrieval", name, x)  # it checks them too
    return unit if distance == "cosine" else x


def centred(features: NDArray, test: NDArray[np.bool_], centre: Centre) -> NDArray[np.float64]:
    """Features ``[V, D]`` less a mean, before they are compared.

    Args:
        test: ``[V]``, which videos are queries; the others are the gallery.
        centre: ``none``; ``train``, the gallery's mean for all; ``each_split``, the queries' own
            mean for the queries, as CoCLR's published code does (Han et al. 2020): transductive,
            since it looks at all queries at once.
    """
    x = np.asarray(features, dtype=np.float64)
    if centre == "none":
        return x
    mean = x[~test].mean(axis=0)
    queries = x[test].mean(axis=0) if centre == "each_split" else mean
    return x - np.where(test[:, None], queries, mean)


def unit_rows(measure: str, name: str, features: NDArray) -> NDArray[np.float64]:
    """Features ``[V, D]`` as unit vectors; a zero vector stays.

    Raises:
        NotFiniteError: a feature or a vector's length is not finite; it names ``measure`` and
            ``name``.
    """
    x = np.asarray(features, dtype=np.float64)
    lengths = np.linalg.norm(x, axis=1, keepdims=True)  # not finite if a feature is not
    check_finite(measure, **{name: lengths})
    return x / np.where(lengths == 0, 1.0, lengths)


def recall_at(hits: ArrayLike, ks: Sequence[int]) -> dict[int, float]:
    """The fraction of queries with a hit among the first k, for each k; ABSENT is no hit."""
    ranks = np.asarray(hits)
    if len(ranks) == 0:
        raise ValueError("queries: there are none")
    return {k: float((ranks < k).mean()) for k in ks}


def retrieval_recall(
    queries: ArrayLike,
    query_labels: ArrayLike,
    gallery: ArrayLike,
    gallery_labels: ArrayLike,
    ks: Sequence[int] = (1, 5, 10),
) -> dict[int, float]:
    """R@k as fractions, by k.

    A query counts if at least one of its k nearest gallery videos has its class (see first_hits).

    Args:
        queries: features ``[Q, D]`` of test videos. query_labels: their classes ``[Q]``.
        gallery: features ``[V, D]`` of training videos. gallery_labels: their classes ``[V]``.
        ks: how many of the nearest are looked at.

    Raises:
        ValueError: as first_hits.
    """
    return recall_at(first_hits(queries, query_labels, gallery, gallery_labels), ks)
