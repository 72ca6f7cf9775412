import gc
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from vididi.data.encode import Settings
from vididi.data.motion import motion
from vididi.data.plan import Chain, EvaluationPlan, PretrainPlan, frame_counts
from vididi.data.prepare import prepare
from vididi.data.shards import ShardSet
from vididi.data.stream import local_stream
from vididi.errors import DamagedError

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    path = tmp_path_factory.mktemp("stream")
    return prepare(
        motion(path, train=12, test=6, size=16, frames=16),
        path / "shards",
        Settings(short_side=12),
        {},
    )


@pytest.fixture(scope="module")
def ray_session():
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=200 << 20,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def plan(shards):
    counts = frame_counts(shards)
    training = PretrainPlan(
        shards.rows("train"), counts, length=4, stride=2, batch_size=4, epochs=7, seed=3
    )
    return Chain(
        (
            training,
            EvaluationPlan(shards.rows("test"), counts, length=4, stride=2, clips=3, batch_size=4),
        )
    )


@pytest.mark.parametrize("start", [0, 13])
def test_ray_data_gives_the_batches_that_threads_give(ray_session, shards, plan, start):
    from vididi.cluster.ray_stream import ray_stream

    batches = zip(ray_stream(shards)(plan, start), local_stream(shards)(plan, start), strict=True)
    count = 0
    for ours, expected in batches:
        np.testing.assert_array_equal(ours.rows, expected.rows)
        np.testing.assert_array_equal(ours.clips, expected.clips)
        np.testing.assert_array_equal(ours.sizes, expected.sizes)
        count += 1
    assert count == len(plan) - start


@pytest.mark.parametrize("lead", [0.25, 1.0])
def test_one_execution_after_another_gives_the_same_batches(
    ray_session, shards, plan, monkeypatch, lead
):
    from vididi.cluster import ray_stream as stream

    for name, value in {"TASKS": 2, "TASK_BATCHES": 3, "LEAD": lead}.items():
        monkeypatch.setattr(stream, name, value)
    for ours, expected in zip(
        stream.ray_stream(shards)(plan, 1), local_stream(shards)(plan, 1), strict=True
    ):
        np.testing.assert_array_equal(ours.rows, expected.rows)
        np.testing.assert_array_equal(ours.clips, expected.clips)


def test_large_batches_make_small_tasks(ray_session, shards, plan, monkeypatch):
    from vididi.cluster import ray_stream as stream

    monkeypatch.setattr(stream, "TASK_FRAMES", 1)
    assert [batch.rows.tolist() for batch in stream.ray_stream(shards)(plan, 20)] == [
        plan[n].rows.tolist() for n in range(20, len(plan))
    ]


def test_what_is_waited_for_comes_however_long_the_loop_rests_otherwise(
    ray_session, shards, plan, monkeypatch
):
    from vididi.cluster import ray_stream as stream

    monkeypatch.setattr(stream, "IDLE_S", 10_000.0)
    monkeypatch.setattr(stream, "TASK_BATCHES", 2)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(lambda: len(list(stream.ray_stream(shards)(plan, 0))))
        assert reading.result(timeout=120) == len(plan)


@pytest.mark.parametrize("work", ["cell", "task of a stream"])
def test_whatever_works_wakes_the_collector_of_its_process(work, monkeypatch):
    """A Ray of our own starts processes whose collector rests."""
    from vididi.cluster import ray_stream, train

    def begun(*_):
        raise InterruptedError

    monkeypatch.setattr(train, "local_path", begun)
    monkeypatch.setattr(ray_stream.ray, "get", begun)
    begin = {
        "cell": partial(train.work, {"folder": "somewhere"}, None),
        "task of a stream": partial(
            ray_stream._fetch, {"batch": np.arange(2)}, None, None, "a new one"
        ),
    }
    gc.disable()
    try:
        with pytest.raises(InterruptedError):
            begin[work]()
        assert gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()


def test_a_stream_that_is_left_early_stops(ray_session, shards, plan, monkeypatch):
    import threading

    from vididi.cluster import ray_stream as stream

    for name, value in {
        "TASKS": 2,
        "TASK_BATCHES": 3,
        "LEAD": 1.0,
    }.items():  # the next execution is begun already
        monkeypatch.setattr(stream, name, value)
    batches = stream.ray_stream(shards)(plan, 0)
    next(batches)
    batches.close()
    names = [thread.name for thread in threading.enumerate()]
    assert not [
        name
        for name in names
        if name.startswith(("vididi-stream", "StreamingExecutor", "Prefetcher"))
    ]


def test_a_shard_that_is_not_what_the_index_says_ends_the_stream_and_the_holding(
    ray_session, shards, plan, tmp_path
):
    from vididi.cluster.held import hold
    from vididi.cluster.ray_stream import ray_stream

    root = shutil.copytree(shards.root, tmp_path / "set")
    path = root / "shard-00000.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    damaged = ShardSet.open(root)
    for read in (lambda: list(ray_stream(damaged)(plan, 0)), lambda: hold(damaged)):
        with pytest.raises(
            DamagedError,
            match=rf"^{path}: video '.*' has other frames than those of its frames_sha256",
        ):
            read()
