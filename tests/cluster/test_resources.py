import pytest

from vididi.cell_resources import Resources
from vididi.cluster.resources import (
    cluster_concurrency,
    cluster_shortage,
    cpus_to_declare,
    local_concurrency,
    memory_to_declare,
    pool_size,
    store_to_declare,
    worker_needs,
)
from vididi.errors import ResourceError


def test_one_machine_runs_a_cell_per_training_core():
    assert local_concurrency(Resources(), cores=2, gpus=0) == 2
    assert local_concurrency(Resources(workers=2), cores=2, gpus=0) == 1
    assert local_concurrency(Resources(cpus_per_worker=2), cores=5, gpus=0) == 2


def test_a_worker_decodes_with_the_cores_that_it_has():
    assert [Resources(cpus_per_worker=n).decoding_threads for n in (1, 2, 6)] == [2, 2, 6]


def test_declared_cpus_hold_every_trainer_and_every_stream():
    assert cpus_to_declare([(Resources(), 2), (Resources(workers=2), 1)]) == 4
    assert cpus_to_declare([(Resources(workers=2, cpus_per_worker=3), 1)]) == 8


def test_the_object_store_has_room_for_every_stream_but_not_beyond_the_shared_memory():
    def store(*groups, free=100):
        return store_to_declare(groups, ahead=4, least=10, free=free)

    assert store((Resources(), 2)) == 10
    assert store((Resources(workers=8), 1), (Resources(), 2)) == 40
    assert store((Resources(), 8), free=20) == 18
    assert store((Resources(), 8), free=5) == 10
    assert store((Resources(hold_data=True), 8)) == 10


def test_a_cluster_counts_streams_too():
    assert cluster_concurrency(Resources(), [{"CPU": 8}]) == 4
    assert (
        cluster_concurrency(Resources(workers=8, gpus_per_worker=1), [{"CPU": 32, "GPU": 8}] * 2)
        == 2
    )
    assert cluster_concurrency(Resources(), []) == 0


def test_a_worker_lies_on_one_node_with_its_stream():
    nodes = [{"CPU": 3}] * 3
    assert cluster_concurrency(Resources(cpus_per_worker=3), nodes) == 0
    assert cluster_concurrency(Resources(cpus_per_worker=3, hold_data=True), nodes) == 3
    assert cluster_concurrency(Resources(cpus_per_worker=2), nodes) == 3
    assert cluster_concurrency(Resources(), nodes) == 3
    assert cluster_concurrency(Resources(workers=3, cpus_per_worker=2), nodes) == 1


def test_fractional_gpus_share():
    assert local_concurrency(Resources(gpus_per_worker=0.25), cores=16, gpus=1) == 4
    assert local_concurrency(Resources(gpus_per_worker=0.1), cores=16, gpus=1) == 10
    # Nobody trains on a third of one GPU and a bit of the next.
    assert local_concurrency(Resources(gpus_per_worker=0.4), cores=16, gpus=4) == 8
    assert (
        cluster_concurrency(Resources(workers=2, gpus_per_worker=0.5), [{"CPU": 64, "GPU": 1}] * 3)
        == 3
    )


def test_a_part_of_a_gpu_beside_whole_ones_is_refused():
    with pytest.raises(ValueError, match=r"it must be a fraction below 1, or a whole number"):
        Resources(gpus_per_worker=1.5)


def test_concurrency_is_an_upper_bound():
    assert local_concurrency(Resources(concurrency=1), cores=8, gpus=0) == 1
    assert local_concurrency(Resources(concurrency=9), cores=2, gpus=0) == 2


@pytest.mark.parametrize(
    ("resources", "cores", "gpus", "names"),
    [
        (Resources(workers=3), 2, 0, ("resources.workers", "3 workers with 1 CPUs", "has 2 CPUs")),
        (Resources(cpus_per_worker=4), 2, 0, ("resources.cpus_per_worker", "4 CPUs", "has 2")),
        (
            Resources(workers=2, gpus_per_worker=1),
            8,
            1,
            ("resources.gpus_per_worker", "2 workers with 1 CPUs and 1 GPUs", "8 CPUs and 1 GPUs"),
        ),
    ],
)
def test_a_cell_that_can_never_fit_is_refused_with_what_there_is(resources, cores, gpus, names):
    with pytest.raises(ResourceError) as error:
        local_concurrency(resources, cores, gpus)
    for name in names:
        assert name in str(error.value)


def test_a_cluster_without_room_for_streams_has_room_for_no_cell_and_says_why():
    assert cluster_concurrency(Resources(), [{"CPU": 1}]) == 0
    why = cluster_shortage(Resources(), [{"CPU": 1}, {"CPU": 0, "GPU": 2}])
    assert (
        "needs a worker with 2 CPUs (1 of the CPUs for its stream), each on one node, and the nodes"
        " of the cluster have 1 CPUs; " in why
    )
    assert "; 0 CPUs and 2 GPUs; lower resources.workers" in why
    many = cluster_shortage(Resources(cpus_per_worker=8), [{"CPU": 0}, {"CPU": 4}, {"CPU": 0}])
    assert "the nodes of the cluster have 4 CPUs; 2 x 0 CPUs; lower" in many


def test_actors_are_counted_node_by_node():
    nodes = [{"CPU": 5}, {"CPU": 3, "GPU": 2}, {}]
    assert pool_size(2, 0, nodes) == 3
    assert pool_size(1, 1, nodes) == 2
    assert pool_size(1, 0.5, nodes) == 3
    with pytest.raises(
        ResourceError,
        match=(
            "a worker needs 4 CPUs and 1 GPUs on one node, and the nodes of the cluster have 5"
            " CPUs; 3 "
        ),
    ):
        pool_size(4, 1, nodes)


def test_memory_is_shared_out_as_cores_are():
    two = Resources(memory=2)
    assert worker_needs(two)["memory"] == 2 * 2**30
    assert "memory" not in worker_needs(Resources())
    assert local_concurrency(two, cores=8, gpus=0, memory=5 * 2**30) == 2
    assert local_concurrency(Resources(), cores=8, gpus=0, memory=1) == 8
    assert memory_to_declare([(two, 2), (Resources(memory=1, workers=3), 1)]) == 4 * 2**30
    assert memory_to_declare([(Resources(), 2)]) == 0
    nodes = [{"CPU": 16, "memory": 5 * 2**30}, {"CPU": 16, "memory": 1 * 2**30}, {"CPU": 2}]
    assert cluster_concurrency(two, nodes) == 2
    assert cluster_concurrency(Resources(), nodes) == 17
    with pytest.raises(
        ResourceError,
        match=r"1 CPUs and 2 GiB of memory, each on one node, but this"
        r" machine has 8 CPUs and 1 GiB of memory; lower .*resources.memory",
    ):
        local_concurrency(two, cores=8, gpus=0, memory=2**30)
    short = cluster_shortage(Resources(memory=9), nodes)
    assert "the nodes of the cluster have 16 CPUs and 5 GiB of memory; 16 CPUs and 1 GiB" in short
