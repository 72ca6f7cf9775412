"""AVA's mean average precision: by hand, and against a plain re-computation on random sets with
heavy ties.
"""

from __future__ import annotations

import heapq
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vididi.cli import main
from vididi.data.actions import read_actions
from vididi.errors import DataError
from vididi.evaluation.ava_files import read_excluded, read_ground_truth, read_predictions
from vididi.evaluation.ava_map import AvaMap, AvaRows, BadRow, ava_map, average_precision

Row = tuple[str, int, float, float, float, float, int, float]
LABELS = {11: "sit", 12: "stand"}
BOX = (0.0, 0.0, 0.5, 0.5)
FAR = (0.6, 0.6, 1.0, 1.0)


def row(
    box: tuple[float, ...] = BOX,
    value: float = 1,
    action: int = 12,
    second: int = 902,
    film: str = "film",
) -> Row:
    x1, y1, x2, y2 = box
    return film, second, x1, y1, x2, y2, action, value


def score(
    truth: list[Row], found: list[Row], labels: dict[int, str] | None = None, **options: Any
) -> AvaMap:
    return ava_map(AvaRows.of(truth), AvaRows.of(found), labels or {12: "stand"}, **options)


# --- Average precision by hand --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hits", "boxes", "expected"),
    [
        ([1], 1, 1.0),
        ([0, 1], 1, 1 / 2),
        ([1, 0, 1], 2, (1 + 2 / 3) / 2),
        (
            [0, 1, 1],
            2,
            2 / 3,
        ),  # precision 1/2 at the first hit is raised to the 2/3 that comes later
        ([1, 0, 0, 1, 1, 0], 4, (1 + 3 / 5 + 3 / 5) / 4),
        ([0, 0], 3, 0.0),
        ([], 3, 0.0),
    ],
)
def test_average_precision(hits: list[int], boxes: int, expected: float) -> None:
    assert average_precision(np.array(hits, dtype=bool), boxes) == pytest.approx(
        expected, abs=1e-15
    )


def test_average_precision_of_nothing_is_not_defined() -> None:
    assert math.isnan(average_precision(np.array([False]), 0))


# --- Matching by hand -----------------------------------------------------------------------------


def test_a_second_prediction_on_one_box_is_a_false_positive() -> None:
    """Ranked: hit, miss, hit; so (1 + 2/3) / 2."""
    result = score([row(), row(FAR, 2)], [row(value=0.9), row(value=0.8), row(FAR, 0.7)])
    assert result.mean == pytest.approx((1 + 2 / 3) / 2)


def test_the_better_scored_of_two_predictions_gets_the_box_wherever_it_stands_in_the_file() -> None:
    assert score([row()], [row(value=0.8), row(value=0.9)]).mean == 1


def test_a_prediction_whose_best_box_is_taken_does_not_get_the_next_best() -> None:
    """The second overlaps the taken box by 0.9 and the free one by 0.8; ranked: hit, miss; of 2
    boxes.
    """
    taken, free = (0.0, 0.0, 1.0, 0.5), (0.0, 0.0, 1.0, 0.4)
    second = (0.0, 0.0, 1.0, 0.475)
    result = score([row(taken, 1), row(free, 2)], [row(taken, 0.9), row(second, 0.8)])
    assert result.mean == pytest.approx(1 / 2)


def test_an_overlap_of_exactly_one_half_is_enough() -> None:
    half, less = (0.0, 0.0, 0.5, 0.25), (0.0, 0.0, 0.5, 0.2499)
    assert score([row()], [row(half, 0.9)]).mean == 1
    assert score([row()], [row(less, 0.9)]).mean == 0


def test_a_box_is_found_in_its_key_frame_and_by_its_action_only() -> None:
    truth = [row(), row(action=11)]
    found = [row(second=903), row(film="other"), row(action=11, value=0.5)]
    result = score(truth, found, LABELS)
    assert [s.average_precision for s in result.actions] == [1, 0]
    assert result.mean == 1 / 2


def test_equally_overlapped_boxes_go_by_the_person_s_number_highest_first() -> None:
    """A prediction between two boxes takes person 2's, so another one on that box is a miss, and
    one on person 1's a hit.
    """
    left, middle, right = (0.0, 0.0, 0.5, 1.0), (0.125, 0.0, 0.625, 1.0), (0.25, 0.0, 0.75, 1.0)
    truth = [row(left, 1), row(right, 2)]
    assert score(truth, [row(middle, 0.9), row(right, 0.8)]).mean == 1 / 2
    assert score(truth, [row(middle, 0.9), row(left, 0.8)]).mean == 1


def test_of_equal_scores_the_later_row_ranks_first() -> None:
    hit, miss = row(value=0.5), row(FAR, 0.5)
    assert score([row()], [miss, hit]).mean == 1
    assert score([row()], [hit, miss]).mean == 1 / 2


def test_of_equal_scores_on_one_box_the_earlier_row_finds_it_and_ranks_last() -> None:
    assert score([row()], [row(value=0.5), row(value=0.5)]).mean == 1 / 2


def test_equal_scores_rank_by_key_frame_as_these_first_appear() -> None:
    """Rows of key frame 902, then of 903, whatever lies between; later ones first: miss (903), hit
    (902).
    """
    found = [row(FAR, 0.5), row(FAR, 0.5, second=903), row(value=0.5)]
    assert score([row()], found).mean == 1 / 2


def test_scores_may_be_of_any_scale() -> None:
    assert score([row()], [row(value=-3), row(FAR, -4)]).mean == 1


# --- What counts ----------------------------------------------------------------------------------


def test_an_action_without_ground_truth_is_not_in_the_mean() -> None:
    result = score([row()], [row(value=0.9), row(action=11)], LABELS)
    assert result.mean == 1
    assert [s.action for s in result.without_ground_truth] == [11]
    assert math.isnan(result.actions[0].average_precision)
    assert "11 sit" in result.notes[0]
    assert [line["AP"] for line in result.to_dict()["classes"]] == [None, 1]


def test_an_action_without_predictions_is_in_the_mean() -> None:
    assert score([row(), row(action=11)], [row()], LABELS).mean == 1 / 2


def test_excluded_key_frames_count_on_neither_side() -> None:
    truth, found = [row(), row(second=903)], [row(FAR, 0.9, second=903), row(value=0.8)]
    result = score(truth, found, excluded=[("film", 903), ("elsewhere", 904)])
    assert result.mean == 1
    assert (result.counts["ground_truth_excluded"], result.counts["predictions_excluded"]) == (1, 1)
    assert score(truth, found).mean == pytest.approx(1 / 2 / 2)


def test_actions_that_are_not_in_the_list_are_ignored() -> None:
    result = score([row(), row(action=80)], [row(value=0.5), row(action=80, value=0.9)])
    assert result.mean == 1
    assert (
        result.counts["ground_truth_other_actions"],
        result.counts["predictions_other_actions"],
    ) == (1, 1)


def test_predictions_in_key_frames_without_ground_truth_are_false_positives_or_ignored() -> None:
    truth, found = (
        [row(), row(action=80, second=904)],
        [row(value=0.9, second=903), row(value=0.8, second=904), row(value=0.7)],
    )
    result = score(truth, found)
    assert result.mean == pytest.approx(1 / 3)
    assert result.counts["predictions_unannotated"] == 2
    ignored = score(
        truth, found, ignore_unannotated=True
    )  # second 904 is listed, though with another action only
    assert ignored.mean == 1 / 2
    assert (ignored.counts["predictions_unannotated"], ignored.counts["predictions"]) == (1, 2)


def test_a_repeated_ground_truth_row_counts_and_is_never_found() -> None:
    result = score([row(), row()], [row(value=0.9), row(value=0.8)])
    assert result.mean == 1 / 2
    assert result.counts["ground_truth_repeated"] == 1


def test_boxes_without_an_area() -> None:
    line = (0.1, 0.0, 0.1, 1.0)
    result = score([row(), row(line, 2)], [row(line, 0.9), row(value=0.8)])
    assert result.mean == 1 / 2
    assert (
        result.counts["predictions_without_area"],
        result.counts["ground_truth_without_area"],
    ) == (1, 1)


def test_50_predictions_of_a_key_frame_count() -> None:
    truth = [row(), row(second=903)]
    better = [row(FAR, 0.9, action=11, second=903)] * 50
    found = [row(value=0.5), *better, row(value=0.5, second=903)]
    limited = score(truth, found, LABELS)
    assert limited.mean == 1 / 2
    assert limited.counts["predictions_over_limit"] == 1
    assert score(truth, found, LABELS, limit=None).mean == 1
    assert score(truth, found, LABELS, limit=51).mean == 1


def test_at_the_limit_a_tie_goes_to_the_earlier_rows_and_of_these_to_the_greatest_action_and_box() -> (
    None
):
    """Two fit. Of 0.5, 0.5, 0.5 the first two are let in; 0.9 then takes the place of action 11."""
    truth = [row(action=11), row(action=12), row(FAR, 2, action=12)]
    found = [
        row(value=0.5, action=12),
        row(value=0.5, action=11),
        row(FAR, 0.5, action=12),
        row((0.9, 0.9, 1, 1), 0.9, action=11),
    ]
    result = score(truth, found, LABELS, limit=2)
    assert [(s.predictions, s.average_precision) for s in result.actions] == [(1, 0), (1, 1 / 2)]


def test_no_predictions_score_0_and_that_is_said() -> None:
    result = score([row()], [])
    assert result.mean == 0
    assert result.notes == ["no predictions to score: every average precision is 0"]


@pytest.mark.parametrize("truth", [[], [row(action=80)], [row(second=903)]])
def test_no_ground_truth_is_an_error(truth: list[Row]) -> None:
    with pytest.raises(DataError, match="ground truth: no boxes to find"):
        score(truth, [row()], excluded=[("film", 903)])


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (row((0.1, 0.0, 1.1, 1.0)), "x1 0.1 and x2 1.1 are not 0 <= x1 <= x2 <= 1"),
        (row((0.0, 0.5, 1.0, 0.4)), "y1 0.5 and y2 0.4"),
        (row((math.nan, 0.0, 1.0, 1.0)), "x1 nan"),
        (row(value=math.nan), "nan in the last column is not a finite number"),
        (row(second=-1), "second -1"),
    ],
)
def test_rows_are_checked(bad: Row, what: str) -> None:
    with pytest.raises(BadRow, match="row 1: ") as error:
        AvaRows.of([row(), bad])
    assert what in str(error.value)


@pytest.mark.parametrize(
    ("labels", "limit", "said"),
    [({}, 50, "labels: there are none"), (LABELS, 0, "limit: 0 is not valid")],
)
def test_wrong_options(labels: dict[int, str], limit: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ava_map(AvaRows.of([row()]), AvaRows.of([]), labels, limit=limit)


# --- Against a plain re-computation ---------------------------------------------------------------


def plain_limit(found: list[Row], limit: int) -> list[Row]:
    """By a heap for each key frame, as AVA's script has it."""
    heaps: dict[tuple[str, int], list[Any]] = defaultdict(list)
    for place, (film, second, x1, y1, x2, y2, action, value) in enumerate(found):
        heap, entry = heaps[film, second], (value, action, y1, x1, y2, x2, -place)
        if len(heap) < limit:
            heapq.heappush(heap, entry)
        elif value > heap[0][0]:
            heapq.heapreplace(heap, entry)
    kept = {-entry[-1] for heap in heaps.values() for entry in heap}
    return [line for place, line in enumerate(found) if place in kept]


def plain_overlap(a: Row, b: Row) -> float:
    width, height = min(a[4], b[4]) - max(a[2], b[2]), min(a[5], b[5]) - max(a[3], b[3])
    inside = max(0.0, width) * max(0.0, height)
    return inside / ((a[4] - a[2]) * (a[5] - a[3]) + (b[4] - b[2]) * (b[5] - b[3]) - inside)


def plain_curve(ranked: list[bool], boxes: int) -> float:
    points = [(sum(ranked[:n]) / boxes, sum(ranked[:n]) / n) for n in range(1, len(ranked) + 1)]
    area, reached = 0.0, 0.0
    for place, (recall, _) in enumerate(points):
        area += (recall - reached) * max(precision for _, precision in points[place:])
        reached = recall
    return area


def by_heap(rows: list[Row]) -> list[Row]:
    """In the order in which AVA's script hands the rows of each key frame on: its heap's, sorted by
    score.
    """
    heaps: dict[tuple[str, float], list[Any]] = defaultdict(list)
    for film, second, x1, y1, x2, y2, action, value in rows:
        heapq.heappush(heaps[film, second], (value, action, y1, x1, y2, x2))
    return [
        (*frame, x1, y1, x2, y2, action, value)
        for frame, heap in heaps.items()
        for value, action, y1, x1, y2, x2 in sorted(heap, key=lambda entry: -entry[0])
    ]


def plain(
    truth: list[Row],
    found: list[Row],
    actions: list[int],
    excluded: set[tuple[str, int]],
    limit: int,
    order: str = "rows",
) -> dict[int, float]:
    """Prediction by prediction, box by box.

    Args:
        order: of equal scores in a key frame. ``rows``, as here; ``heap``, as AVA's script;
            ``file``, PySlowFast's, which matches in it whatever the scores are.
    """
    truth = [line for line in truth if line[6] in actions and line[:2] not in excluded]
    found = [line for line in found if line[6] in actions and line[:2] not in excluded]
    frames = list(dict.fromkeys(line[:2] for line in found))
    found = plain_limit(found, limit)
    if order == "heap":
        truth, found = by_heap(truth), by_heap(found)
    result = {}
    for action in actions:
        labelled: list[tuple[float, bool]] = []
        for frame in frames:
            boxes = sorted(
                (line for line in truth if line[:2] == frame and line[6] == action),
                key=lambda line: -line[7],
            )
            here = [
                line
                for line in found
                if line[:2] == frame
                and line[6] == action
                and line[2] < line[4]
                and line[3] < line[5]
            ]
            hit, taken = [False] * len(here), set()
            for place in sorted(
                range(len(here)), key=lambda place: 0 if order == "file" else -here[place][7]
            ):
                overlaps = [plain_overlap(here[place], box) for box in boxes]
                best = overlaps.index(max(overlaps)) if overlaps else -1
                if overlaps and overlaps[best] >= 0.5 and best not in taken:
                    hit[place] = True
                    taken.add(best)
            labelled += [(line[7], good) for line, good in zip(here, hit, strict=True)]
        ranked = sorted(labelled, key=lambda pair: pair[0])[::-1]
        boxes_of = sum(line[6] == action for line in truth)
        result[action] = (
            plain_curve([good for _, good in ranked], boxes_of) if boxes_of else math.nan
        )
    return result


def random_rows(rng: np.random.Generator, count: int, values: NDArray, grid: int) -> list[Row]:
    corners = (
        np.sort(rng.integers(0, grid + 1, (count, 2, 2)), axis=1) / grid
    )  # [row, first or second, x or y]
    boxes = corners.reshape(count, 4)
    films, seconds, actions = (
        rng.integers(0, 2, count),
        rng.integers(902, 905, count),
        rng.integers(1, 7, count),
    )
    return [
        (f"film{film}", int(second), *map(float, box), int(action), float(value))
        for film, second, box, action, value in zip(
            films, seconds, boxes, actions, values, strict=True
        )
    ]


@pytest.mark.parametrize("grid", [2, 4, 1000])
@pytest.mark.parametrize("levels", [1, 3, 10**6])
@pytest.mark.parametrize("limit", [1, 4, 50])
def test_random_sets_agree_with_the_plain_computation(grid: int, levels: int, limit: int) -> None:
    rng = np.random.default_rng([grid, levels, limit])
    for _ in range(20):
        count, many = int(rng.integers(1, 50)), int(rng.integers(0, 150))
        truth = random_rows(rng, count, rng.integers(0, 4, count), grid)
        found = random_rows(rng, many, rng.integers(0, levels, many) / levels, grid)
        actions, excluded = [2, 3, 5, 6], {("film0", 903)}
        expected = plain(truth, found, actions, excluded, limit)
        if all(math.isnan(value) for value in expected.values()):
            continue
        result = score(
            truth,
            found,
            {action: str(action) for action in actions},
            excluded=excluded,
            limit=limit,
        )
        ours = {s.action: s.average_precision for s in result.actions}
        assert ours == pytest.approx(expected, abs=1e-12, nan_ok=True)
        assert result.mean == pytest.approx(np.nanmean(list(expected.values())), abs=1e-12)


PLACES = [
    (0.0, 0.0, 0.5, 0.5),
    (0.0, 0.0, 0.5, 0.45),
    (0.05, 0.0, 0.5, 0.5),
    (0.5, 0.5, 1.0, 1.0),
    (0.5, 0.5, 1.0, 0.9),
    (0.4, 0.0, 0.9, 0.5),
]


def drawn_rows(values: st.SearchStrategy[float]) -> st.SearchStrategy[list[Row]]:
    """Few boxes, key frames and actions, so that much is tied, absent or there once."""
    one = st.builds(row, st.sampled_from(PLACES), values, st.integers(1, 4), st.integers(902, 904))
    return st.lists(one, min_size=1, max_size=14)


@settings(max_examples=150, deadline=None)
@given(
    drawn_rows(st.integers(0, 3).map(float)),
    drawn_rows(st.sampled_from([0.1, 0.5, 0.5, 0.9])),
    st.sets(st.sampled_from([("film", 902), ("film", 904)])),
    st.frozensets(st.sampled_from([("film", 903.0), ("other", 902.0)])),
    st.sampled_from([1, 3, 50]),
    st.booleans(),
)
def test_any_rows_agree_with_the_plain_computation(
    truth: list[Row],
    found: list[Row],
    excluded: set[tuple[str, int]],
    empty: frozenset[tuple[str, float]],
    limit: int,
    ignore: bool,
) -> None:
    actions = [1, 2, 3]
    listed = {line[:2] for line in truth} | empty
    counted = [line for line in found if line[:2] in listed] if ignore else found
    expected = plain(truth, counted, actions, excluded, limit)
    rows, names = AvaRows.of(truth, empty), {action: str(action) for action in actions}
    if all(map(math.isnan, expected.values())):
        with pytest.raises(DataError, match="no boxes to find"):
            ava_map(
                rows, AvaRows.of(found), names, excluded, limit=limit, ignore_unannotated=ignore
            )
        return
    result = ava_map(
        rows, AvaRows.of(found), names, excluded, limit=limit, ignore_unannotated=ignore
    )
    assert {s.action: s.average_precision for s in result.actions} == pytest.approx(
        expected, abs=1e-12, nan_ok=True
    )
    assert result.mean == pytest.approx(np.nanmean(list(expected.values())), abs=1e-12)


def crowded_rows(rng: np.random.Generator, frames: int, count: int, values: NDArray) -> list[Row]:
    """Rows of two actions in few boxes, so that many are about the same one."""
    places, seconds, actions = (
        rng.integers(0, len(PLACES), count),
        rng.integers(902, 902 + frames, count),
        rng.integers(1, 3, count),
    )
    return [
        row(PLACES[place], float(value), int(action), int(second))
        for place, second, action, value in zip(places, seconds, actions, values, strict=True)
    ]


def apart(order: str, levels: int, frames: int, sets: int) -> NDArray[np.float64]:
    """How far the mean is from that of another order, for random sets of so many key frames with 6
    predictions each.
    """
    rng = np.random.default_rng([levels, frames])
    labels, found = {1: "one", 2: "two"}, []
    for _ in range(sets):
        truth = crowded_rows(rng, frames, 3 * frames, np.arange(3 * frames))
        predicted = crowded_rows(
            rng, frames, 6 * frames, rng.integers(1, levels + 1, 6 * frames) / levels
        )
        theirs = plain(truth, predicted, list(labels), set(), 50, order)
        found.append(abs(score(truth, predicted, labels).mean - np.nanmean(list(theirs.values()))))
    return np.array(found)


def test_equal_scores_are_where_ava_s_heap_differs_and_by_how_much() -> None:
    """docs/evaluation.md, rule 7: nothing where scores differ, much in a single key frame, next to
    nothing in many.
    """
    assert apart("heap", 10**9, 1, 60).max() < 1e-12
    assert apart("heap", 10**9, 10, 6).max() < 1e-12
    single = apart("heap", 2, 1, 120)
    assert 0.2 < single.max() <= 0.5
    assert 0.01 < single.mean() < 0.06
    assert apart("heap", 10, 10, 12).max() < 0.03
    assert apart("heap", 10, 100, 2).max() < 0.002


def test_a_file_that_is_not_sorted_by_score_is_matched_otherwise_by_pyslowfast() -> None:
    assert apart("file", 10**9, 1, 60).max() > 0.3
    assert apart("file", 100, 100, 2).min() > 0.02


# --- Files ----------------------------------------------------------------------------------------

GOOD = "film,0902,0.077,0.151,0.283,0.811,12,1"


def file(folder: Path, content: str | bytes, name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_rows_are_read(tmp_path: Path) -> None:
    rows = read_predictions(
        file(
            tmp_path, "b,0902,0.1,0.2,0.3,0.4,12,0.5\na,1798,0,0,1,1,80,1e-3\nb,903,0,0,1,1,12,-2\n"
        )
    )
    assert [rows.films[place] for place in rows.film] == ["b", "a", "b"]
    assert rows.second.tolist() == [902, 1798, 903]
    assert rows.corners[0].tolist() == [0.1, 0.2, 0.3, 0.4]
    assert rows.action.tolist() == [12, 80, 12]
    assert rows.value.tolist() == [0.5, 0.001, -2]


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff" + GOOD + "\n",
        GOOD,
        "\n\r\n" + GOOD + "\r\n\r\n",
        "   \n" + GOOD + "\n \t \n",
        GOOD.replace(",", " , "),
        '"film",0902,"0.077",0.151,0.283,0.811,12,1\n',
    ],
    ids=["byte order mark", "no line end", "blank lines", "white lines", "spaces", "quotes"],
)
def test_what_may_be_in_a_file(content: str, tmp_path: Path) -> None:
    for read in (read_predictions, read_ground_truth):
        rows = read(file(tmp_path, content))
        assert (rows.films, rows.second.tolist(), rows.corners.tolist()) == (
            ("film",),
            [902],
            [[0.077, 0.151, 0.283, 0.811]],
        )


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff", " \n"])
def test_an_empty_file_has_no_rows(content: str, tmp_path: Path) -> None:
    assert len(read_predictions(file(tmp_path, content))) == 0
    assert len(read_ground_truth(file(tmp_path, content))) == 0


def test_ground_truth_may_lack_the_person(tmp_path: Path) -> None:
    short = GOOD.rpartition(",")[0]
    assert read_ground_truth(file(tmp_path, f"{short}\n{short}\n")).value.tolist() == [1, 1]
    assert read_ground_truth(file(tmp_path, f"{short}\n{short},7\n")).value.tolist() == [1, 7]
    with pytest.raises(
        DataError, match=r"rows.csv, line 1: 7 columns, not the 8 of video_id,.*,score"
    ):
        read_predictions(file(tmp_path, f"{short}\n"))


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        ("film,0902,0.1", "3 columns, not the 8"),
        (GOOD + ",1", "9 columns, not the 8"),
        ("video_id,second,x1,y1,x2,y2,action_id,score", "x1 'x1' is not a number"),
        (GOOD.replace("0902", "902s"), "second '902s' is not a number of seconds"),
        (GOOD.replace("0902", "-902"), "second '-902' is not a number of seconds"),
        ("film,nine", "second 'nine' is not a number of seconds"),
        (",0902", "video_id is empty"),
        (GOOD.replace("0902", "9999999999"), "second 9999999999 is not from 0"),
        (GOOD.replace("0.151", "left"), "y1 'left' is not a number"),
        (GOOD.replace("0.151", ""), "y1 '' is not a number"),
        (GOOD.replace("0.151", "nan"), "y1 nan and y2 0.811 are not 0 <= y1 <= y2 <= 1"),
        (GOOD.replace("0.077", "-0.077"), "x1 -0.077 and x2 0.283"),
        (GOOD.replace("0.283", "1.283"), "x1 0.077 and x2 1.283"),
        (GOOD.replace("0.283", "0.007"), "x1 0.077 and x2 0.007"),
        (GOOD.replace(",12,", ",stand,"), "action_id 'stand' is not a whole number"),
        (GOOD[:-1] + "nan", "nan in the last column is not a finite number"),
        (GOOD[:-1] + "inf", "inf in the last column is not a finite number"),
        (GOOD[:-1] + "1_0", "'1_0' is not a number"),
        (GOOD[4:], "video_id is empty"),
    ],
)
@pytest.mark.parametrize("read", [read_predictions, read_ground_truth])
def test_malformed_lines_are_named(read: Any, bad: str, what: str, tmp_path: Path) -> None:
    path = file(tmp_path, f"{GOOD}\n\n{bad}\n{GOOD}\n")
    with pytest.raises(DataError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}, line 3: ")
    assert what in str(error.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for read in (read_predictions, read_ground_truth, read_excluded, read_actions):
        with pytest.raises(DataError, match=r"missing.csv: cannot be read"):
            read(tmp_path / "missing.csv")
        with pytest.raises(DataError, match=r"rows.csv: cannot be read"):
            read(file(tmp_path, b"\xff\xfe\n"))


def test_excluded_key_frames_are_read(tmp_path: Path) -> None:
    assert read_excluded(file(tmp_path, "\ufefffilm,0902\n\nfilm,903\nfilm,0903\n")) == {
        ("film", 902),
        ("film", 903),
    }
    assert read_excluded(file(tmp_path, "")) == set()
    for bad, what in (
        ("film", "1 columns, not the 2"),
        ("film,x", "second 'x'"),
        (",902", "video_id is empty"),
    ):
        with pytest.raises(DataError, match=f"rows.csv, line 2: {what}"):
            read_excluded(file(tmp_path, f"film,0902\n{bad}\n"))


def test_ava_kinetics_files_are_read_as_the_newest_script_does(tmp_path: Path) -> None:
    """Seconds are the same to a millionth; a key frame with 2 columns is listed, and has no box."""
    truth = read_ground_truth(
        file(
            tmp_path,
            GOOD.replace("0902", "902.000000") + "\nfilm,903.000000\nclip,4.533333\n",
            "truth.csv",
        )
    )
    assert (truth.second.tolist(), truth.empty) == ([902], {("film", 903.0), ("clip", 4.533333)})
    lines = [
        GOOD.replace("0902", second)[:-1] + score
        for second, score in (("902", "0.1"), ("903", "0.9"), ("904", "0.8"), ("902.5", "0.7"))
    ]
    found = read_predictions(
        file(
            tmp_path,
            "\n".join([*lines, "film,905", "clip" + lines[0][4:].replace("902", "04.5333331")]),
            "found.csv",
        )
    )
    assert len(found) == 5
    ignored = ava_map(truth, found, LABELS, ignore_unannotated=True)
    assert (
        ignored.mean == 1 / 3
    )  # the empty key frames' are false positives, those of 904 and 902.5 are not
    assert ignored.counts["predictions_unannotated"] == 2
    assert ava_map(truth, found, LABELS).mean == 1 / 5
    excluded = read_excluded(file(tmp_path, "film,00903.0\nclip,4.533333\n"))
    assert ava_map(truth, found, LABELS, excluded, ignore_unannotated=True).mean == 1


def test_a_file_without_a_box_has_none_to_find(tmp_path: Path) -> None:
    truth = read_ground_truth(file(tmp_path, "film,902\n"))
    with pytest.raises(DataError, match="ground truth: no boxes to find"):
        ava_map(truth, AvaRows.of([row()]), LABELS)


def test_both_layouts_of_the_list_of_actions_are_read(tmp_path: Path) -> None:
    item = 'item {\n  name: "talk to (e.g., {self})"\n  id: 79\n}\n'
    label = (
        'label {\n  name: "bend/bow (at the waist)"\n  label_id: 1\n  label_type:'
        " PERSON_MOVEMENT\n}\n"
    )
    names = {79: "talk to (e.g., {self})", 1: "bend/bow (at the waist)"}
    assert read_actions(file(tmp_path, "\ufeff" + item + "\n" + label)) == names


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", ": holds no actions"),
        ("1,stand\n", ", line 1: neither item"),
        ('item { name: "a" id: 1 }\nitem { name: "b" }', ", line 2: neither item"),
        ('item { name: "a" id: 1 }\n\nitem { name: "b" id: 1 }', ", line 3: id 1 is 'a' already"),
        ('item { name: "a" id: 0 }', ", line 1: id 0 is not valid"),
    ],
)
def test_other_lists_of_actions_are_refused(content: str, what: str, tmp_path: Path) -> None:
    path = file(tmp_path, content)
    with pytest.raises(DataError) as error:
        read_actions(path)
    assert str(error.value).startswith(f"{path}{what}")


# --- The command ----------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    labels = file(
        tmp_path, 'item { name: "sit" id: 11 }\nitem { name: "stand" id: 12 }\n', "labels.pbtxt"
    )
    truth = file(
        tmp_path,
        "f,0902,0,0,0.5,0.5,12,1\nf,0902,0.6,0.6,1,1,12,2\nf,0903,0,0,1,1,12,1\nf,0902,0,0,1,1,80,1\n",
        "truth.csv",
    )
    found = file(
        tmp_path,
        "f,0902,0,0,0.5,0.5,12,0.9\nf,0903,0,0,1,1,12,0.8\nf,0902,0,0,1,1,80,1\n",
        "found.csv",
    )
    excluded = file(tmp_path, "f,0903\n", "excluded.csv")
    files = [
        "--ground-truth",
        truth,
        "--predictions",
        found,
        "--labels",
        labels,
        "--excluded",
        excluded,
    ]
    return ["evaluate", "ava-map", *map(str, files)]


def test_the_command_prints_a_table_and_writes_the_result(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results" / "ava.json"
    assert main([*command, "--out", str(out)]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "11 sit 0 0" in lines
    assert "12 stand 2 1 50.00" in lines
    assert "mAP, the mean of 1 2 1 50.00" in lines
    assert "not in the mean, having no ground truth: 11 sit" in lines
    assert "1 predictions left out: in excluded key frames" in lines
    result = json.loads(out.read_text())
    assert (result["version"], result["mAP"], result["iou"], result["limit"]) == (1, 0.5, 0.5, 50)
    assert result["classes"][1] == {
        "id": 12,
        "name": "stand",
        "ground_truth": 2,
        "predictions": 1,
        "AP": 0.5,
    }
    assert result["counts"]["ground_truth_other_actions"] == 1
    assert [path.name for path in out.parent.iterdir()] == ["ava.json"]


def test_the_command_s_options(command: list[str], tmp_path: Path) -> None:
    out = tmp_path / "ava.json"
    assert main([*command, "--limit", "0", "--ignore-unannotated", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert (result["limit"], result["ignore_unannotated"]) == (None, True)


@pytest.mark.parametrize(
    ("name", "content", "more", "status", "said"),
    [
        ("truth.csv", "", [], 1, "ground truth: no boxes to find"),
        ("found.csv", "f,0902,0,0,1,1,12\n", [], 1, "found.csv, line 1: 7 columns"),
        ("labels.pbtxt", "", [], 1, "labels.pbtxt: holds no actions"),
        ("found.csv", "", ["--limit", "-1"], 2, "--limit: -1 is not valid"),
        (
            "found.csv",
            "",
            ["--out", "FOLDER/found.csv/result.json"],
            1,
            "result.json cannot be written",
        ),
    ],
)
def test_what_cannot_be_scored_is_said_on_stderr(
    name: str,
    content: str,
    more: list[str],
    status: int,
    said: str,
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file(tmp_path, content, name)
    assert main([*command, *(text.replace("FOLDER", str(tmp_path)) for text in more)]) == status
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_a_missing_option_or_protocol_is_a_usage_error(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["evaluate"], ["evaluate", "ava-map"], command[:-4]):
        with pytest.raises(SystemExit) as error:
            main(arguments)
        assert error.value.code == 2
    assert "--labels" in capsys.readouterr().err
