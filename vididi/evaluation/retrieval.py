"""Video retrieval: nearest neighbours of test videos among training videos (ViDiDi E.4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

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
    members = {label: np.flatnonzero(g_labels == label) for label in np.unique(q_labels)}
    for part, near in _nearness(q, g, distance):
        hits[part] = _ranks_of_own(near, q_labels[part], members)
    return hits


def _ranks_of_own(
    near: NDArray[np.float64], labels: NDArray, members: Mapping[Any, NDArray[np.int64]]
) -> NDArray[np.int64]:
    """How many of the gallery are nearer than the best of one's own class, and, of those that are
    as near, how many stand before it.

    Args:
        near: ``[Q, G]``; labels: of the queries ``[Q]``; members: of each class, in rising order.
    """
    best = np.full(len(near), np.inf)
    for label in np.unique(labels):
        if len(own := members[label]):
            rows = np.flatnonzero(labels == label)
            best[rows] = near[np.ix_(rows, own)].max(axis=1)
    ranks = np.count_nonzero(near > best[:, None], axis=1)
    # Where it alone is as near as itself nothing stands before it.
    for row in np.flatnonzero(np.count_nonzero(near >= best[:, None], axis=1) > ranks + 1):
        as_near = np.flatnonzero(near[row] == best[row])
        own = members[labels[row]]
        first = own[near[row, own] == best[row]][0]
        ranks[row] += np.searchsorted(as_near, first)
    return np.where(np.isinf(best), ABSENT, ranks)


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
    distinct, column = _distinct_rows(g)
    # |q - g|^2 = |q|^2 - 2 (q g - |g|^2 / 2), and |q|^2 is the same for the whole gallery.
    offset = np.square(distinct).sum(axis=1) / 2 if distance == "euclidean" else None
    for start in range(0, len(q), BLOCK):
        part = slice(start, start + BLOCK)
        near = q[part] @ distinct.T
        if offset is not None:
            near -= offset
        yield part, near if column is None else near[:, column]


def _distinct_rows(
    x: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
    """The rows that differ, in the order in which they first come, and which of them each row is;
    None where all differ.
    """
    sums = _row_sums(x)
    _, first, which = np.unique(sums, return_index=True, return_inverse=True)
    if len(first) == len(x):
        return x, None
    if not np.array_equal(x[first[which]], x):  # other rows have the same sum
        _, first, which = np.unique(x, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return x[first[order]], place[which.ravel()]


def _row_sums(x: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Of each row's bits with odd factors, modulo 2^64: the same for equal rows, and hardly ever
    for others.
    """
    bits = (x + 0.0).view(np.uint64)  # 0.0 and -0.0 are equal and have other bits
    factors = np.random.default_rng(0).integers(2**64, size=x.shape[1], dtype=np.uint64)
    return bits @ (factors | np.uint64(1))


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
