"""Plans: which frames make which batch, exactly once, the same for any number of workers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vididi.data.plan import (
    Chain,
    EvaluationPlan,
    Interrupted,
    KeyFramePlan,
    PretrainPlan,
    Request,
    clip_frames,
)
from vididi.data.sampling import SAMPLINGS, span
from vididi.errors import ConfigError, DataError

COUNTS = np.array(
    [30, 25, 40, 31, 28, 50, 33, 29, 60, 26, 27, 45, 38, 5]
)  # of every index row; the last is short
ROWS = np.array([0, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12])  # the training split: 11 videos
PLAN = PretrainPlan(ROWS, COUNTS, length=6, stride=3, batch_size=4, epochs=5, seed=3)


def requests(plan: PretrainPlan | EvaluationPlan | Chain) -> list[Request]:
    return [plan[number] for number in range(len(plan))]


def rows_by_epoch(plan: PretrainPlan) -> list[NDArray]:
    rows = np.concatenate([request.rows for request in requests(plan)])
    return np.split(rows, plan.epochs)


def starts_of(rows: NDArray, counts: NDArray, epochs: int, length: int, stride: int) -> NDArray:
    """All first frames that a plan of ``epochs`` epochs draws."""
    plan = PretrainPlan(rows, counts, length, stride, batch_size=len(rows), epochs=epochs, seed=0)
    return np.stack([request.frames[..., 0] for request in requests(plan)])


# --- Pretraining: which videos --------------------------------------------------------------------


def test_an_epoch_takes_each_video_at_most_once_and_drops_a_partial_batch() -> None:
    assert (PLAN.steps_per_epoch, PLAN.dropped, len(PLAN)) == (2, 3, 10)
    for rows in rows_by_epoch(PLAN):
        assert len(rows) == 2 * 4
        assert len(set(rows)) == len(rows)
        assert set(rows) <= set(ROWS)


def test_nothing_is_dropped_when_the_batch_divides_the_split() -> None:
    plan = replace(PLAN, rows=ROWS[:8])
    assert plan.dropped == 0
    assert all(set(rows) == set(ROWS[:8]) for rows in rows_by_epoch(plan))


def test_epochs_are_shuffled_anew_and_drop_other_videos() -> None:
    epochs = rows_by_epoch(replace(PLAN, epochs=20))
    assert len({tuple(rows) for rows in epochs}) == 20
    assert set(np.concatenate(epochs)) == set(ROWS)


def test_another_seed_is_another_order_and_other_frames() -> None:
    def by_row(seed: int) -> dict[int, bytes]:
        plan = replace(PLAN, rows=ROWS[:8], batch_size=8, epochs=1, seed=seed)
        return {
            int(row): frames.tobytes()
            for row, frames in zip(plan[0].rows, plan[0].frames, strict=True)
        }

    assert list(by_row(3)) != list(by_row(4))
    assert all(by_row(3)[row] != by_row(4)[row] for row in ROWS[:8] if COUNTS[row] > 30)


def test_a_batch_larger_than_the_split_is_an_error() -> None:
    with pytest.raises(
        DataError,
        match=r"training\.batch_size: 12 is larger than the training split, which has 11 videos",
    ):
        replace(PLAN, batch_size=12)


def test_a_batch_that_does_not_divide_over_the_workers_is_an_error() -> None:
    with pytest.raises(
        ConfigError, match=r"training\.batch_size: 4 does not divide over 3 workers"
    ):
        replace(PLAN, world_size=3)


# --- Pretraining: many workers, one batch ---------------------------------------------------------


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_workers_shares_make_the_single_worker_s_batch(world_size: int) -> None:
    workers = [replace(PLAN, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert {len(worker) for worker in workers} == {len(PLAN)}
    for number in range(len(PLAN)):
        parts = [worker[number] for worker in workers]
        assert {len(part.rows) for part in parts} == {4 // world_size}
        assert np.array_equal(np.concatenate([part.rows for part in parts]), PLAN[number].rows)
        assert np.array_equal(np.concatenate([part.frames for part in parts]), PLAN[number].frames)


@pytest.mark.parametrize("name", SAMPLINGS)
def test_no_sampling_lets_the_batch_or_the_worker_change_a_video_s_clips(name: str) -> None:
    plan = replace(PLAN, rows=ROWS[:8], batch_size=8, epochs=3, sampling=SAMPLINGS[name]())
    shares = [replace(plan, rank=rank, world_size=2) for rank in (0, 1)]
    for epoch, whole in enumerate(requests(plan)):
        halves = [requests(replace(plan, batch_size=4))[2 * epoch + i] for i in (0, 1)]
        for parts in (halves, [share[epoch] for share in shares]):
            assert np.array_equal(np.concatenate([part.rows for part in parts]), whole.rows)
            assert np.array_equal(np.concatenate([part.frames for part in parts]), whole.frames)


@pytest.mark.parametrize("name", ["uniform", "same", "interval"])
def test_a_short_video_s_frames_wrap_around_the_same_on_every_worker(name: str) -> None:
    make: Any = SAMPLINGS[name]
    plan = replace(
        PLAN, rows=np.arange(12, 14), batch_size=2, sampling=make(short_videos="any_frame")
    )
    shares = [replace(plan, rank=rank, world_size=2) for rank in (0, 1)]
    begun = set()
    for number, whole in enumerate(requests(plan)):
        parts = [share[number] for share in shares]
        assert np.array_equal(np.concatenate([part.frames for part in parts]), whole.frames)
        short = whole.frames[list(whole.rows).index(13)]
        assert np.array_equal(short, (short[:, :1] + 3 * np.arange(6)) % 5), "5 frames"
        begun |= set(short[:, 0].tolist())
    assert len(begun) > 1


@pytest.mark.parametrize(
    ("name", "different"), [("uniform", {1, 2, 3, 4}), ("same", {1}), ("min_offset", {4})]
)
def test_a_plan_takes_as_many_clips_of_a_video_as_it_is_told(
    name: str, different: set[int]
) -> None:
    plan = replace(PLAN, frame_count=COUNTS + 40, clips=4, sampling=SAMPLINGS[name]())
    for request in requests(plan):
        assert request.frames.shape == (4, 4, 6)
        assert request.frames.min() >= 0
        assert (request.frames < plan.frame_count[request.rows][:, None, None]).all()
        assert (np.diff(request.frames, axis=-1) == 3).all()
        assert {len(set(starts)) for starts in request.frames[..., 0].tolist()} <= different


def test_the_first_clips_of_a_video_are_the_same_however_many_follow() -> None:
    for two, four in zip(requests(PLAN), requests(replace(PLAN, clips=4)), strict=True):
        assert np.array_equal(four.frames[:, :2], two.frames)


def test_what_a_video_s_clips_are_does_not_depend_on_the_batch_size() -> None:
    def drawn(plan: PretrainPlan) -> dict[tuple[int, int], bytes]:
        return {
            (number // plan.steps_per_epoch, int(row)): frames.tobytes()
            for number, request in enumerate(requests(plan))
            for row, frames in zip(request.rows, request.frames, strict=True)
        }

    small, large = drawn(replace(PLAN, batch_size=2)), drawn(replace(PLAN, batch_size=10))
    assert Counter(large) == Counter({key: value for key, value in small.items() if key in large})


# --- Pretraining: which frames --------------------------------------------------------------------


def test_two_clips_of_each_video_with_the_stride_inside_the_video() -> None:
    for request in requests(PLAN):
        assert request.frames.shape == (4, 2, 6)
        assert request.frames.min() >= 0
        assert (request.frames < COUNTS[request.rows][:, None, None]).all()
        assert (np.diff(request.frames, axis=-1) == 3).all()


def test_the_two_clips_are_drawn_independently() -> None:
    starts = starts_of(np.arange(40), np.full(40, 100), 10, length=6, stride=3).reshape(-1, 2)
    assert (starts[:, 0] == starts[:, 1]).mean() < 0.1
    assert abs(np.corrcoef(starts.T)[0, 1]) < 0.15


def test_starts_cover_the_whole_range_evenly() -> None:
    counts = np.full(40, 30)
    starts = starts_of(np.arange(40), counts, 20, length=6, stride=3).ravel()
    last = 30 - span(6, 3)
    assert (starts.min(), starts.max()) == (0, last) == (0, 14)
    share = np.bincount(starts, minlength=last + 1) / len(starts)
    assert np.abs(share - 1 / (last + 1)).max() < 0.03


def test_a_video_of_exactly_one_clip_always_starts_at_its_first_frame() -> None:
    assert (starts_of(np.arange(4), np.full(4, span(6, 3)), 5, length=6, stride=3) == 0).all()


def test_short_videos_start_over_and_are_counted() -> None:
    plan = PretrainPlan(
        np.array([13, 12]), COUNTS, length=6, stride=3, batch_size=2, epochs=3, seed=0
    )
    assert plan.wrapped == 1
    assert PLAN.wrapped == 0
    for request in requests(plan):
        short = request.frames[list(request.rows).index(13)]
        assert short.tolist() == [[0, 3, 1, 4, 2, 0]] * 2


def test_wrapping_is_modulo_the_video() -> None:
    assert clip_frames(np.array([[2]]), 4, 2, np.array([[5]])).tolist() == [[[2, 4, 1, 3]]]


# --- Evaluation -----------------------------------------------------------------------------------


def evaluation(clips: int = 4, rows: NDArray = ROWS, batch_size: int = 4) -> EvaluationPlan:
    return EvaluationPlan(rows, COUNTS, length=4, stride=2, clips=clips, batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [1, 4, 11, 50])
def test_evaluation_takes_every_video_once_in_order(batch_size: int) -> None:
    plan = evaluation(batch_size=batch_size)
    found = [request.rows for request in requests(plan)]
    assert np.array_equal(np.concatenate(found), ROWS)
    assert all(len(rows) == batch_size for rows in found[:-1])


def test_evaluation_clips_are_spaced_evenly_from_the_first_start_to_the_last() -> None:
    for request in requests(evaluation(clips=5)):
        for row, frames in zip(request.rows, request.frames, strict=True):
            last = COUNTS[row] - span(4, 2)
            assert (frames[0, 0], frames[-1, 0]) == (0, last)
            assert frames[-1, -1] == COUNTS[row] - 1
            assert np.abs(frames[:, 0] - np.linspace(0, last, 5)).max() <= 0.5
            assert (np.diff(frames, axis=-1) == 2).all()


def test_a_single_evaluation_clip_is_the_middle_one() -> None:
    (request,) = requests(evaluation(clips=1, rows=np.array([8])))
    assert request.frames.tolist() == [
        [[26, 28, 30, 32]]
    ]  # of 60 frames, with starts from 0 to 53: 26.5, rounded to even


def test_evaluation_of_short_videos_starts_over_and_is_counted() -> None:
    plan = evaluation(clips=2, rows=np.array([13, 0]))
    assert plan.wrapped == 1
    assert plan[0].frames[0].tolist() == [[0, 2, 4, 1]] * 2


def test_evaluation_of_nothing_has_no_batches() -> None:
    assert len(evaluation(rows=np.empty(0, np.int64))) == 0


# --- One after another ----------------------------------------------------------------------------


def test_a_chain_is_its_parts_one_after_another() -> None:
    chain = Chain((PLAN, evaluation()))
    parts = [*requests(PLAN), *requests(evaluation())]
    assert len(chain) == len(parts)
    for found, expected in zip(requests(chain), parts, strict=True):
        assert np.array_equal(found.rows, expected.rows)
        assert np.array_equal(found.frames, expected.frames)
    with pytest.raises(IndexError):
        chain[len(chain)]


def test_any_batch_can_be_asked_for_in_any_order() -> None:
    chain = Chain((PLAN, evaluation()))
    in_order = requests(chain)
    for number in np.random.default_rng(0).permutation(len(chain)):
        assert np.array_equal(chain[int(number)].frames, in_order[number].frames)
        assert np.array_equal(chain[int(number)].rows, in_order[number].rows)


# --- Interrupted ----------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 2, 5, 6])
def test_another_plan_comes_whole_after_each_so_many_epochs(every: int) -> None:
    other = EvaluationPlan(ROWS[:3], COUNTS, 6, 3, clips=1, batch_size=2)
    whole = Interrupted(PLAN, other, every)
    expected: list[Request] = []
    for step in range(len(PLAN)):
        assert whole.batch_number(step) == len(expected)
        expected.append(PLAN[step])
        epoch, rest = divmod(step + 1, PLAN.steps_per_epoch)
        if rest == 0 and epoch % every == 0:
            expected += requests(other)
    assert len(whole) == len(expected)
    for number, request in enumerate(expected):
        assert np.array_equal(whole[number].rows, request.rows)
        assert np.array_equal(whole[number].frames, request.frames)


# --- Key frames -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key_frame", "frame_count", "expected"),
    [
        (36, 73, [20, 24, 28, 32, 36, 40, 44, 48]),
        (3, 40, [0, 0, 0, 0, 3, 7, 11, 15]),  # the film begins 3 frames before the key frame
        (36, 40, [20, 24, 28, 32, 36, 39, 39, 39]),  # and ends 3 after it
        (0, 1, [0] * 8),
    ],
)
def test_a_clip_lies_round_its_key_frame_and_repeats_frames_at_the_edges(
    key_frame: int, frame_count: int, expected: list[int]
) -> None:
    plan = KeyFramePlan(
        np.array([1]), np.array([99, key_frame]), np.array([99, frame_count]), 8, 4, 3
    )
    (request,) = (plan[number] for number in range(len(plan)))
    assert request.rows.tolist() == [1]
    assert request.frames.tolist() == [[expected]]
    assert plan.cut == (frame_count < 73)


def test_key_frames_in_order_are_all_there_and_shuffled_ones_make_whole_batches() -> None:
    plan = KeyFramePlan(ROWS, COUNTS // 2, COUNTS, 4, 2, 4)
    assert (
        np.concatenate([plan[number].rows for number in range(len(plan))]).tolist() == ROWS.tolist()
    )
    epochs = []
    for epoch in (0, 1):
        shuffled = replace(plan, shuffle=(3, epoch))
        rows = np.concatenate([shuffled[number].rows for number in range(len(shuffled))])
        assert len(rows) == len(set(rows)) == 8
        assert set(rows) <= set(ROWS)
        for request in (shuffled[number] for number in range(len(shuffled))):
            assert (request.frames[:, 0, 2] == COUNTS[request.rows] // 2).all()
        epochs.append(rows.tolist())
    assert epochs[0] != epochs[1]
