"""Streams: exactly the plan's frames, decoded, in the plan's order, and nothing left running."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg

from vididi.data.encode import Settings
from vididi.data.plan import Chain, EvaluationPlan, Plan, PretrainPlan, Request, frame_counts
from vididi.data.prepare import prepare
from vididi.data.shards import FrameReader, ShardSet
from vididi.data.stream import Batch, Buffers, background, local_stream
from vididi.data.video import Video


@pytest.fixture(scope="module")
def mixed(
    tmp_path_factory: pytest.TempPathFactory,
    write_video: Callable[..., Path],
    moving_bar: Callable[..., Any],
) -> ShardSet:
    """Six videos of three shapes: 16 x 24, 24 x 16 and 16 x 16."""
    place = tmp_path_factory.mktemp("mixed")
    sizes = [(32, 48), (48, 32), (32, 32)] * 2
    paths = [
        write_video(place / f"{i}.mp4", moving_bar(12 + i, *size, shade=40 * i))
        for i, size in enumerate(sizes)
    ]
    videos = [Video(path, f"train/{path.stem}", "c", "train") for path in paths]
    return prepare(videos, place / "set", Settings(short_side=16), {}, workers=1)


def plan_of(shards: ShardSet, batch_size: int, epochs: int = 4) -> Chain:
    counts = frame_counts(shards)
    train = PretrainPlan(
        shards.rows("train"),
        counts,
        length=4,
        stride=2,
        batch_size=batch_size,
        epochs=epochs,
        seed=1,
    )
    return Chain(
        (train, EvaluationPlan(np.arange(len(counts)), counts, 4, 2, clips=3, batch_size=5))
    )


def directly(shards: ShardSet, request: Request) -> Iterator[tuple[int, np.ndarray]]:
    """(index row, ``[K, N, h, w, 3]``) of each video, decoded one frame at a time without a
    stream.
    """
    reader = FrameReader(shards)
    for row, frames in zip(request.rows, request.frames, strict=True):
        pixels = [
            simplejpeg.decode_jpeg(bytes(jpeg)) for jpeg in reader.frames(int(row), frames.ravel())
        ]
        yield int(row), np.stack(pixels).reshape(*frames.shape, *pixels[0].shape)


def assert_is(batch: Batch, shards: ShardSet, request: Request) -> None:
    assert np.array_equal(batch.rows, request.rows)
    assert np.array_equal(batch.sizes, shards.sizes[request.rows])
    assert batch.clips.dtype == np.uint8
    assert batch.clips.shape == (*request.frames.shape, *batch.sizes.max(axis=0), 3)
    for clips, (row, expected) in zip(batch.clips, directly(shards, request), strict=True):
        height, width = shards.sizes[row]
        assert np.array_equal(clips[:, :, :height, :width], expected)
        assert not clips[:, :, height:].any()
        assert not clips[:, :, :, width:].any()


# --- local_stream ---------------------------------------------------------------------------------


def test_a_stream_yields_the_plan_s_frames_decoded_in_order(tiny_shards: ShardSet) -> None:
    plan = plan_of(tiny_shards, batch_size=8)
    batches = list(local_stream(tiny_shards)(plan, 0))
    assert len(batches) == len(plan)
    for number, batch in enumerate(batches):
        assert_is(batch, tiny_shards, plan[number])


def test_frames_of_several_sizes_are_padded_at_the_right_and_the_bottom(mixed: ShardSet) -> None:
    plan = plan_of(mixed, batch_size=6)
    assert len({tuple(size) for size in mixed.sizes}) == 3
    for number, batch in enumerate(local_stream(mixed)(plan, 0)):
        assert_is(batch, mixed, plan[number])
        if len(batch.rows) > 3:  # one shape alone needs no padding
            assert batch.clips.shape[-3:] == (24, 24, 3)


@pytest.mark.parametrize("start", [1, 5, 11])
def test_a_stream_may_begin_anywhere(tiny_shards: ShardSet, start: int) -> None:
    plan = plan_of(tiny_shards, batch_size=8)
    batches = list(local_stream(tiny_shards)(plan, start))
    assert len(batches) == len(plan) - start
    assert_is(batches[0], tiny_shards, plan[start])
    assert_is(batches[-1], tiny_shards, plan[len(plan) - 1])


def test_a_stream_that_begins_at_the_end_is_empty(tiny_shards: ShardSet) -> None:
    plan = plan_of(tiny_shards, batch_size=8)
    assert list(local_stream(tiny_shards)(plan, len(plan))) == []


@pytest.mark.parametrize(("threads", "depth"), [(1, 1), (2, 4), (4, 2), (3, 100)])
def test_any_number_of_threads_gives_the_same(mixed: ShardSet, threads: int, depth: int) -> None:
    plan = plan_of(mixed, batch_size=3)
    batches = list(local_stream(mixed, threads, depth)(plan, 0))
    assert len(batches) == len(plan)
    for number, batch in enumerate(batches):
        assert_is(batch, mixed, plan[number])


def test_two_streams_of_one_set_do_not_disturb_each_other(tiny_shards: ShardSet) -> None:
    plan, open_stream = plan_of(tiny_shards, batch_size=8), local_stream(tiny_shards)
    for number, (one, other) in enumerate(
        zip(open_stream(plan, 0), open_stream(plan, 0), strict=True)
    ):
        assert_is(one, tiny_shards, plan[number])
        assert np.array_equal(one.clips, other.clips)


class Faulty:
    """A plan whose third batch cannot be made."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, number: int) -> Request:
        if number == 2:
            raise OSError("the disk is gone")
        return self.plan[number]


def test_a_fault_while_reading_is_raised_where_the_batch_is_asked_for(
    tiny_shards: ShardSet,
) -> None:
    batches = local_stream(tiny_shards)(Faulty(plan_of(tiny_shards, batch_size=8)), 0)
    assert len([next(batches), next(batches)]) == 2
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)


def test_an_abandoned_stream_leaves_no_thread(tiny_shards: ShardSet) -> None:
    before = set(threading.enumerate())
    batches = local_stream(tiny_shards, threads=3)(plan_of(tiny_shards, batch_size=8), 0)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert set(threading.enumerate()) <= before


def test_memory_is_used_again_once_nobody_holds_any_of_it() -> None:
    buffers = Buffers()
    whole = buffers.empty((4, 8))
    part, place = whole[1:].reshape(-1)[::2], whole.ctypes.data
    del whole
    other = buffers.empty((4, 8))
    assert other.ctypes.data != place
    del part
    again = buffers.empty((3, 8))
    assert again.ctypes.data == place
    del again
    assert buffers.empty((5, 8)).size == 40  # too large for what is free


# --- background -----------------------------------------------------------------------------------


def streaming() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "vididi-stream"]


@pytest.mark.parametrize("depth", [1, 3, 50])
def test_background_keeps_the_order_and_every_item(depth: int) -> None:
    assert list(background(range(100), depth)) == list(range(100))
    assert streaming() == []


def test_background_of_nothing_is_empty() -> None:
    assert list(background([], 2)) == []


def test_background_works_ahead_by_its_depth_and_no_further() -> None:
    made = []

    def items() -> Iterator[int]:
        for i in range(100):
            made.append(i)
            yield i

    found = background(items(), 3)
    assert next(found) == 0
    for _ in range(100):  # one taken, three in the queue, one in the producer's hand
        if len(made) == 5:
            break
        time.sleep(0.02)
    assert len(made) == 5
    found.close()  # type: ignore[attr-defined]


def test_an_abandoned_background_leaves_no_thread() -> None:
    found = background(iter(int, 1), 2)  # endless zeros
    assert [next(found), next(found)] == [0, 0]
    assert len(streaming()) == 1
    found.close()  # type: ignore[attr-defined]
    assert streaming() == []


def test_a_background_that_was_never_asked_starts_no_thread() -> None:
    background(range(3), 2)
    assert streaming() == []


@pytest.mark.parametrize("error", [ValueError("no frame 3"), KeyboardInterrupt()])
def test_a_fault_in_the_producer_is_raised_in_the_consumer(error: BaseException) -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise error

    found = background(items(), 1)
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(type(error)) as raised:
        next(found)
    assert raised.value is error
    assert streaming() == []
