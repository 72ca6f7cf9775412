import numpy as np
import pytest

from vididi.data.motion import motion
from vididi.data.plan import Chain, EvaluationPlan, PretrainPlan, frame_counts
from vididi.data.prepare import Settings, prepare
from vididi.data.stream import local_stream

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    path = tmp_path_factory.mktemp("stream")
    return prepare(motion(path, train=12, test=6, size=16, frames=16), path / "shards", Settings(short_side=12), {})


@pytest.fixture(scope="module")
def ray_session():
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=200 << 20)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def plan(shards):
    counts = frame_counts(shards)
    training = PretrainPlan(shards.rows("train"), counts, length=4, stride=2, batch_size=4, epochs=7, seed=3)
    return Chain((training, EvaluationPlan(shards.rows("test"), counts, length=4, stride=2, clips=3, batch_size=4)))


@pytest.mark.parametrize("start", [0, 13])
def test_ray_data_gives_the_batches_that_threads_give(ray_session, shards, plan, start):
    from vididi.cluster.stream import ray_stream

    batches = zip(ray_stream(shards)(plan, start), local_stream(shards)(plan, start), strict=True)
    count = 0
    for ours, expected in batches:
        np.testing.assert_array_equal(ours.rows, expected.rows)
        np.testing.assert_array_equal(ours.clips, expected.clips)
        np.testing.assert_array_equal(ours.sizes, expected.sizes)
        count += 1
    assert count == len(plan) - start


def test_a_stream_that_is_left_early_stops(ray_session, shards, plan):
    import threading

    from vididi.cluster.stream import ray_stream

    batches = ray_stream(shards)(plan, 0)
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "vididi-stream"]
