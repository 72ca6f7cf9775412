"""Mean average precision of action detection on AVA, by the rules of AVA's own script
(docs/evaluation.md). numpy only.

The rules are those of ``Evaluation/get_ava_performance.py`` in github.com/activitynet/ActivityNet
(commit 1212804, which takes a list of excluded key frames) and of the PascalDetectionEvaluator from
TensorFlow's object detection API that it uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vididi.errors import DataError

VERSION = 1  # of AvaMap.to_dict
IOU = 0.5  # overlap from which a prediction finds a box
LIMIT = 50  # predictions of a key frame that AVA's script looks at
# So that a film and a second, to its millionth, are one number of 63 bits.
MAX_SECONDS, MAX_FILMS = 2**23, 2**20
_MILLIONTHS = 43  # bits


class BadRow(ValueError):
    """A row that is not valid; ``row`` counts from 0, and ``what`` says what is wrong."""

    def __init__(self, row: int, what: str) -> None:
        super().__init__(f"row {row}: {what}")
        self.row, self.what = row, what


@dataclass(frozen=True, eq=False)
class AvaRows:
    """The rows of a file in AVA's layout, in its order: one action of one box in each.

    Args:
        films: the distinct names of films.
        film: ``[N]``, indices of ``films``; second: ``[N]``. The two make the key frame; seconds
            are the same where their millionths are.
        corners: ``[N, 4]``, x1, y1, x2, y2 as fractions of width and height.
        action: ``[N]``, ids as in the list of actions.
        value: ``[N]``, the score of a prediction, or the number of the person in a ground-truth
            box.
        empty: key frames, film and second, that are listed without a box.

    Raises:
        BadRow: a second below 0 or from 8388608 on, a box that is not 0 <= x1 <= x2 <= 1 and 0 <=
            y1 <= y2 <= 1, or a value that is not finite.
        ValueError: more than 1048576 films.
    """

    films: tuple[str, ...]
    film: NDArray[np.int64]
    second: NDArray[np.float64]
    corners: NDArray[np.float64]
    action: NDArray[np.int64]
    value: NDArray[np.float64]
    empty: frozenset[tuple[str, float]] = frozenset()

    def __post_init__(self) -> None:
        if len(self.films) > MAX_FILMS:
            raise ValueError(f"films: {len(self.films)} are too many; at most {MAX_FILMS}")
        x1, y1, x2, y2 = self.corners.T
        for good, what in (
            (
                (self.second >= 0) & (self.second < MAX_SECONDS),
                f"second {{second:.15g}} is not from 0 to {MAX_SECONDS - 1}",
            ),
            ((x1 >= 0) & (x1 <= x2) & (x2 <= 1), "x1 {x1} and x2 {x2} are not 0 <= x1 <= x2 <= 1"),
            ((y1 >= 0) & (y1 <= y2) & (y2 <= 1), "y1 {y1} and y2 {y2} are not 0 <= y1 <= y2 <= 1"),
            (np.isfinite(self.value), "{value} in the last column is not a finite number"),
        ):
            if not good.all():
                row = int(np.argmin(good))
                corners = dict(
                    zip(("x1", "y1", "x2", "y2"), map(float, self.corners[row]), strict=True)
                )
                raise BadRow(
                    row,
                    what.format(second=self.second[row], value=float(self.value[row]), **corners),
                )

    @classmethod
    def of(
        cls,
        rows: Sequence[tuple[str, float, float, float, float, float, int, float]],
        empty: Iterable[tuple[str, float]] = (),
    ) -> AvaRows:
        """From rows of film, second, x1, y1, x2, y2, action, and score or person.

        ``empty``: key frames without a box.
        """
        names: dict[str, int] = {}
        film = np.array([names.setdefault(row[0], len(names)) for row in rows], dtype=np.int64)
        second = np.array([row[1] for row in rows], dtype=np.float64)
        action = np.array([row[6] for row in rows], dtype=np.int64)
        corners = np.array([row[2:6] for row in rows], dtype=np.float64).reshape(-1, 4)
        value = np.array([row[7] for row in rows], dtype=np.float64)
        return cls(tuple(names), film, second, corners, action, value, frozenset(empty))

    def __len__(self) -> int:
        return len(self.second)

    def take(self, rows: NDArray) -> AvaRows:
        """Some rows, in the order of their indices ``[M]``."""
        return AvaRows(
            self.films,
            self.film[rows],
            self.second[rows],
            self.corners[rows],
            self.action[rows],
            self.value[rows],
        )


@dataclass(frozen=True)
class ActionScore:
    """One line of the result.

    The ground-truth boxes and the predictions that count, and the average precision, NaN without a
    box.
    """

    action: int
    name: str
    ground_truth: int
    predictions: int
    average_precision: float


@dataclass(frozen=True)
class AvaMap:
    """The result.

    Args:
        mean: of the average precisions (0 to 1) of the actions that have ground truth.
        actions: in the order of their ids.
        limit: how many predictions of a key frame were looked at; None: all.
        ignore_unannotated: whether predictions in key frames without ground truth were left out.
        counts: rows by what became of them.
    """

    mean: float
    actions: tuple[ActionScore, ...]
    limit: int | None
    ignore_unannotated: bool
    counts: dict[str, int]

    @property
    def without_ground_truth(self) -> list[ActionScore]:
        """The actions that have no ground truth, which the mean leaves out."""
        return [score for score in self.actions if score.ground_truth == 0]

    def to_dict(self) -> dict[str, Any]:
        """For JSON; an average precision that is not defined is None."""
        classes = [
            {
                "id": score.action,
                "name": score.name,
                "ground_truth": score.ground_truth,
                "predictions": score.predictions,
                "AP": score.average_precision if score.ground_truth else None,
            }
            for score in self.actions
        ]
        how = {"iou": IOU, "limit": self.limit, "ignore_unannotated": self.ignore_unannotated}
        return {
            "version": VERSION,
            "mAP": self.mean,
            **how,
            "classes": classes,
            "counts": self.counts,
        }

    @property
    def notes(self) -> list[str]:
        """What a reader of the mean has to know, a sentence each."""
        missing = ", ".join(f"{score.action} {score.name}" for score in self.without_ground_truth)
        unannotated = "left out" if self.ignore_unannotated else "false positives"
        texts = {
            "predictions_over_limit": (
                f"predictions left out: beyond the {self.limit} best-scored ones of their key frame"
            ),
            "predictions_unannotated": (
                f"predictions in key frames without ground truth: {unannotated}"
            ),
            "predictions_without_area": "predictions left out: their boxes have no area",
            "predictions_excluded": "predictions left out: in excluded key frames",
            "predictions_other_actions": "predictions left out: their actions are not in the list",
            "ground_truth_excluded": "ground-truth rows left out: in excluded key frames",
            "ground_truth_other_actions": (
                "ground-truth rows left out: their actions are not in the list"
            ),
            "ground_truth_repeated": (
                "ground-truth rows repeat an earlier one: they count, and cannot be found"
            ),
            "ground_truth_without_area": (
                "ground-truth boxes have no area: they count, and cannot be found"
            ),
        }
        lines = [
            f"{count:,} {text}" for name, text in texts.items() if (count := self.counts[name])
        ]
        lines = (
            [f"not in the mean, having no ground truth: {missing}", *lines] if missing else lines
        )
        return (
            lines
            if self.counts["predictions"]
            else ["no predictions to score: every average precision is 0", *lines]
        )


def ava_map(
    ground_truth: AvaRows,
    predictions: AvaRows,
    labels: Mapping[int, str],
    excluded: Iterable[tuple[str, float]] = (),
    *,
    limit: int | None = LIMIT,
    ignore_unannotated: bool = False,
) -> AvaMap:
    """Average precision of each action at an intersection over union of 0.5, and their mean.

    In a key frame, a prediction belongs to the ground-truth box of its action that it overlaps
    most, and finds it if the overlap is at least 0.5 and no better-scored prediction found it
    already. Anything else is a false positive. docs/evaluation.md has all rules.

    Args:
        ground_truth: ``value`` is the person's number; predictions: ``value`` is the score, of any
            scale.
        labels: names by id of the actions that are scored; rows of others are left out and counted.
        excluded: key frames, film and second, that are left out and counted.
        limit: look at this many predictions of a key frame over all actions, the best-scored ones;
            None: at all.
        ignore_unannotated: leave out predictions in key frames that ``ground_truth`` does not list,
            neither with a row of any action nor as empty. Otherwise they are false positives.

    Raises:
        ValueError: there are no labels, or ``limit`` is below 1.
        DataError: no ground truth is left.
    """
    if not labels:
        raise ValueError("labels: there are none")
    if limit is not None and limit < 1:
        raise ValueError(
            f"limit: {limit} is not valid; it must be at least 1, or None for no limit"
        )

    ids = np.array(sorted(labels), dtype=np.int64)
    truth, predicted, counts = _counted(
        ground_truth, predictions, ids, excluded, limit, ignore_unannotated
    )
    hits = _find_boxes(*truth, *predicted, ids)
    actions = tuple(_score(int(action), labels, truth.rows, predicted.rows, hits) for action in ids)
    mean = float(np.nanmean([score.average_precision for score in actions]))
    return AvaMap(mean, actions, limit, ignore_unannotated, counts)


# --- Which rows count -----------------------------------------------------------------------------


class _KeyedRows(NamedTuple):
    """Rows, and the number of the key frame of each, ``[N]``."""

    rows: AvaRows
    key: NDArray[np.int64]


def _counted(
    ground_truth: AvaRows,
    predictions: AvaRows,
    ids: NDArray[np.int64],
    excluded: Iterable[tuple[str, float]],
    limit: int | None,
    ignore_unannotated: bool,
) -> tuple[_KeyedRows, _KeyedRows, dict[str, int]]:
    """The rows of the ground truth and of the predictions that count, and ``AvaMap.counts``."""
    films: dict[str, int] = {}
    truth_key, key = _key_frames(ground_truth, films), _key_frames(predictions, films)
    left_out = _numbers_of(excluded, films)
    # With any action or none, as AVA's later script counts them.
    frames = np.union1d(truth_key, _numbers_of(ground_truth.empty, films))

    truth_rows, counts = _truth_rows(ground_truth, truth_key, ids, left_out)
    truth = _KeyedRows(ground_truth.take(truth_rows), truth_key[truth_rows])
    known = frames if ignore_unannotated else np.unique(truth.key)
    rows, prediction_counts = _prediction_rows(
        predictions, key, ids, left_out, limit, known, ignore_unannotated
    )
    predicted = _KeyedRows(predictions.take(rows), key[rows])

    counts |= prediction_counts
    counts |= {
        "key_frames": len(np.unique(truth.key)),
        "ground_truth": len(truth.rows),
        "predictions": len(rows),
    }
    return truth, predicted, counts


def _key_frames(rows: AvaRows, films: dict[str, int]) -> NDArray[np.int64]:
    """The key frame of each row as a number, ``[N]``; ``films`` numbers the films, and grows."""
    film_numbers = np.array(
        [films.setdefault(name, len(films)) for name in rows.films], dtype=np.int64
    )
    return film_numbers[rows.film] << _MILLIONTHS | np.rint(rows.second * 1e6).astype(np.int64)


def _numbers_of(
    key_frames: Iterable[tuple[str, float]], films: Mapping[str, int]
) -> NDArray[np.int64]:
    """The same for key frames that are named, of films that are there."""
    return np.array(
        [
            films[film] << _MILLIONTHS | round(second * 1e6)
            for film, second in key_frames
            if film in films
        ],
        dtype=np.int64,
    )


def _listed_rows(
    rows: AvaRows,
    key: NDArray[np.int64],
    ids: NDArray[np.int64],
    left_out: NDArray[np.int64],
    what: str,
) -> tuple[NDArray[np.int64], dict[str, int]]:
    """The rows with a listed action in a key frame that is not excluded; counts of the others."""
    listed = np.flatnonzero(np.isin(rows.action, ids))
    counted = listed[~np.isin(key[listed], left_out)]
    return counted, {
        f"{what}_other_actions": len(rows) - len(listed),
        f"{what}_excluded": len(listed) - len(counted),
    }


def _truth_rows(
    ground_truth: AvaRows,
    key: NDArray[np.int64],
    ids: NDArray[np.int64],
    left_out: NDArray[np.int64],
) -> tuple[NDArray[np.int64], dict[str, int]]:
    """The rows of the ground truth that count; counts of those that do not, or count for nothing.

    Raises:
        DataError: none is left.
    """
    rows, counts = _listed_rows(ground_truth, key, ids, left_out, "ground_truth")
    if not len(rows):
        raise DataError(
            f"ground truth: no boxes to find: of {len(ground_truth)} rows none has an action of the"
            " list and a key frame that counts"
        )
    truth = ground_truth.take(rows)
    distinct = np.unique(
        np.column_stack([key[rows], truth.action, truth.corners, truth.value]), axis=0
    )
    counts["ground_truth_repeated"] = len(truth) - len(distinct)
    counts["ground_truth_without_area"] = int((~_with_area(truth.corners)).sum())
    return rows, counts


def _prediction_rows(
    predictions: AvaRows,
    key: NDArray[np.int64],
    ids: NDArray[np.int64],
    left_out: NDArray[np.int64],
    limit: int | None,
    known: NDArray[np.int64],
    only_known: bool,
) -> tuple[NDArray[np.int64], dict[str, int]]:
    """The rows of the predictions that count, and how many of them do not, by reason.

    Args:
        known: key frames with ground truth; predictions in others count too, as false ones, unless
            ``only_known``.
    """
    rows, counts = _listed_rows(predictions, key, ids, left_out, "predictions")
    # In AVA's order: by key frame, in the order in which these first appear, then by row.
    rows = rows[np.argsort(_by_first_appearance(key[rows]), kind="stable")]
    best = _best(predictions, rows, key, limit)
    counts["predictions_over_limit"] = len(rows) - len(best)
    rows = best[_with_area(predictions.corners[best])]
    counts["predictions_without_area"] = len(best) - len(rows)
    annotated = np.isin(key[rows], known)
    counts["predictions_unannotated"] = int((~annotated).sum())
    return (rows[annotated] if only_known else rows), counts


def _with_area(corners: NDArray[np.float64]) -> NDArray[np.bool_]:
    x1, y1, x2, y2 = corners.T
    return (x1 < x2) & (y1 < y2)


def _by_first_appearance(key: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers for keys ``[N]``, from 0 in the order in which these first appear."""
    change = np.flatnonzero(key[1:] != key[:-1]) + 1
    begins = np.concatenate(
        [np.zeros(min(len(key), 1), dtype=np.int64), change]
    )  # of runs of one key: sorting these is quicker
    _, first, distinct = np.unique(key[begins], return_index=True, return_inverse=True)
    return np.repeat(np.argsort(np.argsort(first))[distinct], np.diff(np.append(begins, len(key))))


def _position_in_group(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many earlier members of its group each has, ``[N]``; groups are contiguous."""
    change = np.flatnonzero(groups[1:] != groups[:-1]) + 1
    begins = np.concatenate([np.zeros(min(len(groups), 1), dtype=np.int64), change])
    return np.arange(len(groups)) - np.repeat(begins, np.diff(np.append(begins, len(groups))))


def _best(
    predictions: AvaRows, rows: NDArray[np.int64], key: NDArray[np.int64], limit: int | None
) -> NDArray[np.int64]:
    """Those of ``rows``, in their order, that are among the ``limit`` best of their key frame.

    ``rows`` has key frames together.

    AVA's script keeps them in a heap, and lets a row in only if it is better than the worst in it,
    which then goes. So of equal scores at the limit the candidates are the rows among the first
    ``limit`` that reach this score, and those of them stay whose (action, y1, x1, y2, x2) is
    greatest.
    """
    if limit is None:
        return rows

    frame = _by_first_appearance(key[rows])
    crowded = np.flatnonzero(np.bincount(frame)[frame] > limit)
    frame, score = frame[crowded], predictions.value[rows[crowded]]
    order = np.lexsort((-score, frame))
    last = order[
        _position_in_group(frame) == limit - 1
    ]  # frame is sorted, so it is the same in this order
    edge = score[last][_by_first_appearance(frame)]
    reach = np.flatnonzero(score >= edge)
    reach = reach[(score[reach] > edge[reach]) | (_position_in_group(frame[reach]) < limit)]

    x1, y1, x2, y2 = predictions.corners[rows[crowded[reach]]].T
    action = predictions.action[rows[crowded[reach]]]
    order = np.lexsort((-x2, -y2, -x1, -y1, -action, -score[reach], frame[reach]))
    chosen = reach[order][_position_in_group(frame[reach]) < limit]

    keep = np.ones(len(rows), dtype=bool)
    keep[crowded] = False
    keep[crowded[chosen]] = True
    return rows[keep]


# --- Matching -------------------------------------------------------------------------------------


def _find_boxes(
    truth: AvaRows,
    truth_key: NDArray[np.int64],
    predictions: AvaRows,
    key: NDArray[np.int64],
    ids: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Which predictions ``[N]`` find a ground-truth box."""
    frames = np.unique(truth_key)
    group = np.searchsorted(frames, truth_key) * len(ids) + np.searchsorted(ids, truth.action)
    # Boxes that overlap a prediction equally: the person with the highest number comes first,
    # because AVA's script sorts by that column.
    order = np.lexsort((-truth.value, group))
    boxes = truth.corners[order]
    counts = np.bincount(group, minlength=len(frames) * len(ids))
    begins = np.cumsum(counts) - counts

    candidates = np.flatnonzero(np.isin(key, frames))
    group = np.searchsorted(frames, key[candidates]) * len(ids) + np.searchsorted(
        ids, predictions.action[candidates]
    )
    overlap, box = np.zeros(len(candidates)), np.zeros(len(candidates), dtype=np.int64)
    left, turn = np.flatnonzero(counts[group]), 0
    while len(left):  # one turn for the n-th box of every key frame and action
        other = begins[group[left]] + turn
        now = _overlap(predictions.corners[candidates[left]], boxes[other])
        more = now > overlap[left]
        overlap[left[more]], box[left[more]] = now[more], other[more]
        turn += 1
        left = left[counts[group[left]] > turn]

    near = np.flatnonzero(overlap >= IOU)
    near = near[np.argsort(-predictions.value[candidates[near]], kind="stable")]
    _, first = np.unique(box[near], return_index=True)
    hits = np.zeros(len(predictions), dtype=bool)
    hits[candidates[near[first]]] = True
    return hits


def _overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of boxes ``[N, 4]``, pair by pair: ``[N]``.

    In AVA's order of operations, so 0.5 is 0.5 in both.
    """
    width = np.maximum(0.0, np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0]))
    height = np.maximum(0.0, np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1]))
    intersection = height * width
    union = _area(a) + _area(b) - intersection
    return np.divide(intersection, union, out=np.zeros(len(a)), where=union > 0)


def _area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes[:, 3] - boxes[:, 1]) * (boxes[:, 2] - boxes[:, 0])


# --- Average precision ----------------------------------------------------------------------------


def _score(
    action: int,
    labels: Mapping[int, str],
    truth: AvaRows,
    predictions: AvaRows,
    hits: NDArray[np.bool_],
) -> ActionScore:
    rows = np.flatnonzero(predictions.action == action)
    # Of equal scores the later one comes first: AVA's script sorts upwards and reverses. Its sort
    # is not stable, ours is.
    ranked = rows[np.argsort(predictions.value[rows], kind="stable")[::-1]]
    boxes = int((truth.action == action).sum())
    return ActionScore(
        action, labels[action], boxes, len(rows), average_precision(hits[ranked], boxes)
    )


def average_precision(hits: NDArray[np.bool_], boxes: int) -> float:
    """The area under the curve of precision over recall.

    Precision is made non-increasing from the end.

    Args:
        hits: ``[N]``, whether each prediction finds a box, best-scored first.
        boxes: how many boxes there are to find.

    Returns:
        0 to 1; NaN if there are no boxes.
    """
    if boxes == 0:
        return float("nan")
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(precision[hits].sum() / boxes)  # recall grows by 1 / boxes at each hit
