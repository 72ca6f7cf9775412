import numpy as np
import pytest

from vididi.data import shard_writer
from vididi.data.encode import Settings
from vididi.data.motion import motion
from vididi.data.plan import PretrainPlan, frame_counts
from vididi.data.prepare import prepare
from vididi.data.stream import local_stream
from vididi.errors import ResourceError

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    path = tmp_path_factory.mktemp("held")
    with pytest.MonkeyPatch.context() as patch:  # several row groups, several shards
        patch.setattr(shard_writer, "ROW_GROUP_BYTES", 8 << 10)
        patch.setattr(shard_writer, "SHARD_BYTES", 24 << 10)
        found = prepare(
            motion(path, train=20, test=4, size=16, frames=16),
            path / "shards",
            Settings(short_side=12),
            {},
        )
    assert found.manifest.shards > 1
    return found


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


def make_plan(shards):
    return PretrainPlan(
        shards.rows("train"),
        frame_counts(shards),
        length=4,
        stride=2,
        batch_size=4,
        epochs=3,
        seed=3,
    )


def test_held_data_gives_the_batches_that_shards_give(ray_session, shards):
    from vididi.cluster.held import hold, open_stream

    plan = make_plan(shards)
    for ours, expected in zip(
        open_stream(shards, hold(shards), 2)(plan, 2), local_stream(shards)(plan, 2), strict=True
    ):
        np.testing.assert_array_equal(ours.rows, expected.rows)
        np.testing.assert_array_equal(ours.clips, expected.clips)


def test_processes_of_a_node_share_one_copy(ray_session, shards):
    """What two processes map is the object store's memory, so neither owns it: their arrays cannot
    be written to.
    """
    import ray

    from vididi.cluster.held import hold

    @ray.remote(num_cpus=0.5)
    def look(held):
        groups = ray.get(held[0])
        return (
            groups[0].data.flags.writeable,
            groups[0].data.flags.owndata,
            bytes(groups[0].data[:100]),
        )

    held = hold(shards)
    first, second = ray.get([look.remote(held), look.remote(held)])
    assert first == second
    assert first[:2] == (False, False)


def test_data_that_do_not_fit_are_refused(ray_session, shards, monkeypatch):
    from vididi.cluster.held import hold

    monkeypatch.setitem(vars(shards), "nbytes", 150 << 20)
    with pytest.raises(
        ResourceError,
        match=(
            r"resources.hold_data: .* 0.1 GiB of frames, more than 70% of the 0.2 GiB object store"
        ),
    ):
        hold(shards)
