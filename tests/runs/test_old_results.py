"""Results of earlier versions: what was false is computed again, what may be is left out or marked,
and all of it is said.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vididi.errors import DamagedError
from vididi.evaluation import ABSENT, recall_at
from vididi.runs.old_results import Rechecked, recheck
from vididi.runs.readers import Queries, queries_table, read_queries

KS = (1, 5, 10)
HALF = np.array([0, 3, 4, 4])  # a gallery of 4, which lacks the class of the last two


def queries_of(ranks: Any, labels: Any) -> Queries:
    return Queries(
        np.array([f"v{i}" for i in range(len(ranks))]), np.asarray(labels), np.asarray(ranks)
    )


def recalls(ranks: Any) -> dict[str, float]:
    return {f"retrieval/R@{k}": value for k, value in recall_at(ranks, KS).items()}


def recheck_old(
    ranks: Any,
    labels: Any,
    size: int | None,
    least: int = 1,
    untrained: dict[str, float] | None = None,
    kept: bool = True,
) -> Rechecked:
    queries = queries_of(ranks, labels) if kept else None
    return recheck({}, recalls(ranks), untrained or {}, lambda: queries, lambda: size, least)


# --- Recall ---------------------------------------------------------------------------------------


def test_what_the_gallery_lacks_is_not_found_where_its_size_is_known() -> None:
    found = recheck_old(
        HALF, [0, 1, 2, 2], 4, untrained={"retrieval/R@1": 0.0, "retrieval/R@5": 0.75}
    )
    assert found.metrics == {"retrieval/R@1": 0.25, "retrieval/R@5": 0.5, "retrieval/R@10": 0.5}
    assert found.untrained == {"retrieval/R@1": 0.0, "retrieval/R@5": 0.25}
    assert found.gallery == 4
    assert (
        found.notes[0]
        == "retrieval/R@5 is 0.500, not the 1.000 of its result.json: what the gallery lacks cannot"
        " be found"
    )
    assert found.notes[1].startswith(
        "retrieval/R@5 of the untrained encoder is 0.250, not the 0.750"
    )


def test_a_rank_that_some_of_a_class_have_is_a_rank() -> None:
    found = recheck_old(HALF, [0, 1, 2, 0], None)
    assert (found.metrics, found.notes) == (recalls(HALF), [])


def test_what_may_be_false_is_left_out() -> None:
    found = recheck_old(HALF, [0, 1, 2, 2], None)
    assert found.metrics == {"retrieval/R@1": 0.25}
    assert [note.split(":")[0] for note in found.notes] == [
        "retrieval/R@5 is left out",
        "retrieval/R@10 is left out",
    ]


def test_what_cannot_be_looked_at_is_marked() -> None:
    found = recheck_old(HALF, [0, 1, 2, 2], None, kept=False)
    assert found.metrics == recalls(HALF)
    assert [note.split(":")[0] for note in found.notes] == [
        "retrieval/R@5 may be too high",
        "retrieval/R@10 may be too high",
    ]


@pytest.mark.parametrize(("size", "least"), [(10, 1), (None, 10)])
def test_a_gallery_of_10_was_always_right(size: int | None, least: int) -> None:
    found = recheck_old([0, 3, 10, 10], [0, 1, 2, 2], size, least)
    assert (found.metrics, found.notes) == (recalls([0, 3, 10, 10]), [])


def test_a_result_of_this_version_is_not_looked_at() -> None:
    found = recheck(
        {"rules": 2}, {"retrieval/R@5": 1.0, "linear/top1": 1.0}, {}, pytest.fail, pytest.fail
    )
    assert (found.metrics, found.notes) == ({"retrieval/R@5": 1.0, "linear/top1": 1.0}, [])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_old_recalls_come_out_right_or_are_said_to_be_doubtful(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 12))
    classes = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=8))
    lacking = data.draw(st.sets(st.integers(0, 4)))
    right = np.array(
        [ABSENT if label in lacking else data.draw(st.integers(0, size - 1)) for label in classes]
    )
    old = np.minimum(right, size)
    known = data.draw(st.booleans())
    least = data.draw(st.integers(1, size))
    found = recheck_old(old, classes, size if known else None, least, untrained=recalls(old))
    for kept in (found.metrics, found.untrained):
        for name, value in recalls(right).items():
            if known or name in kept:
                assert kept[name] == pytest.approx(value, abs=1e-12)
            else:
                assert any(note.startswith(f"{name} is left out") for note in found.notes)
    assert bool(found.notes) == (found.metrics != recalls(old))


# --- Accuracy -------------------------------------------------------------------------------------

TWELVE = {f"class {number}": 1.0 for number in range(12)}


@pytest.mark.parametrize(
    ("losses", "value", "kept"),
    [
        ([2.5, 2.4], 1.0, False),  # the loss of guessing, and all right
        ([1e9], 1.0, False),
        ([2.5, float("nan")], 0.3, False),
        ([2.5, float("inf"), 0.1], 1.0, False),
        ([], 1.0, False),
        ([2.5, 0.1], 1.0, True),
        ([2.5, 2.4], 0.3, True),
    ],
)
def test_accuracy_where_a_loss_says_that_scores_were_nan(
    losses: list[float], value: float, kept: bool
) -> None:
    result = {"epochs": [{"loss": loss} for loss in losses], "per_class": TWELVE}
    found = recheck(
        result, {"finetune/top1": value, "finetune/top5": 1.0}, {}, lambda: None, lambda: 24
    )
    assert bool(found.metrics) == bool(found.per_class) == kept
    assert len(found.notes) == (0 if kept else 2)


def test_an_untrained_encoder_that_is_always_right_is_left_out() -> None:
    result = {"epochs": [{"loss": 0.1}], "per_class": TWELVE}
    found = recheck(result, {"semi_1/top1": 0.9}, {"semi_1/top1": 1.0}, lambda: None, lambda: 24)
    assert (found.metrics, found.untrained) == ({"semi_1/top1": 0.9}, {})
    assert found.notes[0].startswith(
        "semi_1/top1 of the untrained encoder is left out: every video counts as right"
    )


@pytest.mark.parametrize("rules", [1, 2])
def test_what_is_no_number_is_left_out_of_any_result(rules: int) -> None:
    found = recheck(
        {"rules": rules},
        {"silhouette/all": float("nan"), "detection/mAP": 0.1},
        {},
        lambda: None,
        lambda: None,
    )
    assert (found.metrics, found.notes) == (
        {"detection/mAP": 0.1},
        ["silhouette/all is left out: it is nan; measure it again"],
    )


# --- queries.parquet ------------------------------------------------------------------------------


def test_what_is_absent_is_null_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "queries.parquet"
    pq.write_table(queries_table(["a", "b", "c"], [0, 1, 2], np.array([3, ABSENT, 0])), path)
    assert pq.read_table(path)["first_hit"].to_pylist() == [3, None, 0]
    read = read_queries(path)
    assert read.first_hit is not None
    assert (read.videos.tolist(), read.labels.tolist(), read.first_hit.tolist()) == (
        ["a", "b", "c"],
        [0, 1, 2],
        [3, ABSENT, 0],
    )


def test_a_file_that_only_says_what_was_correct_tells_of_top_1(tmp_path: Path) -> None:
    path = tmp_path / "queries.parquet"
    pq.write_table(
        pa.table({"video_id": ["a", "b"], "label": [0, 1], "correct": [True, False]}), path
    )
    read = read_queries(path)
    found = read.found(1)
    assert found is not None
    assert (found.tolist(), read.found(5)) == ([True, False], None)


GOOD = {"video_id": ["a"], "label": [0], "first_hit": [1]}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"video_id": ["a"], "label": [0]}, "has no column first_hit or correct"),
        ({"first_hit": [1]}, "has no column label and video_id"),
        ({}, "has no column label and video_id"),
        (
            {**GOOD, "video_id": ["a", None], "label": [0, 1], "first_hit": [1, 1]},
            "column video_id has 1 values that are null",
        ),
        ({**GOOD, "first_hit": [-3]}, "first_hit holds -3, which is no rank"),
        ({**GOOD, "first_hit": [0.5]}, "column first_hit is of type double"),
        ({"video_id": ["a"], "label": [0], "correct": ["yes"]}, "column correct is of type string"),
    ],
)
def test_a_file_of_other_columns_is_damaged(
    columns: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "queries.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(DamagedError) as error:
        read_queries(path)
    assert str(error.value).startswith(f"{path}: {said}")


def test_a_file_that_was_cut_or_is_missing_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "queries.parquet"
    with pytest.raises(DamagedError, match=r"queries\.parquet: is missing$"):
        read_queries(path)
    pq.write_table(pa.table(GOOD), path)
    content = path.read_bytes()
    for part in (
        b"",
        b"{}",
        b"\0" * 100,
        content[:20],
        content[:-8],
        content[: len(content) // 2],
        content[:4] + b"\0" * (len(content) - 4),
    ):
        path.write_bytes(part)
        with pytest.raises(DamagedError) as error:
            read_queries(path)
        assert str(error.value).startswith(f"{path}: is not a Parquet file that can be decoded: ")
