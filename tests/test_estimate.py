"""What a sweep will take: the arithmetic, with made-up measurements."""

from __future__ import annotations

import pytest

from vididi.estimate import (
    CellEstimate,
    Measures,
    RunWork,
    Span,
    duration,
    end_to_end,
    from_finished,
    makespan,
    span_of,
    spread_text,
    wall_time,
)
from vididi.words import size_text


def measured(**changes: object) -> Measures:
    values: dict = {
        "steps": (1.0, 2.0, 4.0),
        "clips": (0.1, 0.3),
        "checkpoint": 0.5,
        "start": 3.0,
        "memory": 10**9,
        "gpu_memory": 0,
        "run_bytes": 1000,
        "epoch_bytes": 10,
        "work": RunWork(epochs=4, steps=100, clips=50, checkpoints=4),
    }
    return Measures(**{**values, **changes})


def test_a_run_is_its_steps_clips_and_checkpoints() -> None:
    span = measured().seconds()
    assert span == pytest.approx((100 * 2 + 50 * 0.2 + 2, 100 * 1 + 50 * 0.1 + 2, 400 + 15 + 2))
    assert measured().folder_bytes == 1040


def test_a_run_at_work_has_the_checkpoint_before_and_one_that_is_being_written() -> None:
    of_work = {n: RunWork(n, 100, 50, checkpoints=n) for n in (0, 1, 2, 3, 9)}
    bytes_at_work = {
        n: measured(checkpoint_bytes=300, work=work).working_bytes for n, work in of_work.items()
    }
    assert bytes_at_work == {0: 0, 1: 0, 2: 300, 3: 600, 9: 600}


def test_half_a_run_has_half_its_steps_and_all_of_its_evaluation() -> None:
    assert measured().seconds(0.5) == pytest.approx((100 + 10 + 1, 50 + 5 + 1, 200 + 15 + 1))


def test_what_is_not_measured_takes_no_time() -> None:
    nothing = measured(steps=(), clips=(), work=RunWork(0, 0, 0, 0), checkpoint=9.0)
    assert nothing.seconds() == (0, 0, 0)


def test_cells_like_one_that_finished_take_as_long() -> None:
    assert from_finished([10, 30, 12], 1.0) == (12, 10, 30)
    assert from_finished([10, 30, 12], 0.5) == (6, 5, 15)


def test_cells_go_where_a_place_is_free_first() -> None:
    assert makespan([4, 1, 1, 1], 2) == 4
    assert makespan([1, 1, 1], 2) == 2
    assert makespan([3, 2], 8) == 3
    assert makespan([], 2) == 0


def cell(seconds: float, at_once: int, alike: int = 0) -> CellEstimate:
    span = Span(seconds, seconds / 2, seconds * 2)
    return CellEstimate("c", span, f"{alike} CPUs", at_once, 0, alike)


def test_groups_that_need_other_resources_run_one_after_another() -> None:
    cells = [cell(10, 2), cell(10, 2), cell(10, 2), cell(10, 1, alike=1)]
    assert wall_time([cell(10, 2), cell(10, 2, alike=1)], starts=[1, 5]) == (26, 16, 46)
    assert wall_time(cells, starts=[1, 5]) == (20 + 1 + 10 + 5, 10 + 1 + 5 + 5, 40 + 1 + 20 + 5)


def test_spans_are_added_end_to_end() -> None:
    assert end_to_end(Span(1, 2, 3), Span(1, 1, 1)) == (2, 3, 4)
    assert end_to_end() == (0, 0, 0)
    assert span_of([3, 1, 2]) == (2, 1, 3)
    assert span_of([]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.00413, "0.0041 s"),
        (0.35, "0.35 s"),
        (42.4, "42 s"),
        (119.0, "119 s"),
        (121.0, "2 min"),
        (7199.0, "120 min"),
        (7300.0, "2 h"),
        (3600 * 5.24, "5.2 h"),
        (86400 * 3.1, "3.1 days"),
        (86400 * 317.0, "317 days"),
    ],
)
def test_durations_are_written_as_people_do(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (812, "812 B"),
        (3400, "3.4 KB"),
        (999_400, "999 KB"),
        (57_000_000, "57 MB"),
        (1_234_000_000, "1.2 GB"),
        (7.5e12, "7500 GB"),
    ],
)
def test_sizes_are_in_powers_of_1000(count: float, text: str) -> None:
    assert size_text(count) == text


def test_a_spread_is_told_where_there_is_one() -> None:
    assert spread_text(Span(12, 11, 14)) == "12 s (11 s to 14 s)"
    assert spread_text(Span(12, 12, 12.1)) == "12 s"
