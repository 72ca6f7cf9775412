"""What the tests share: a cache of their own, a tiny data set, a tiny configuration, and small
videos to order.
"""

from __future__ import annotations

import copy
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Read when numpy and torch are imported, here and in every process that a test starts: two pytest
# workers keep two cores busy, and threads that wait for each other only take time from them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # analysis and run_sweep are used from the checkout, not installed
    sys.path.insert(0, str(ROOT))

# Files that take longest, the longest first. Those that start late leave the other worker of
# ``pytest -n 2 --dist loadfile`` without work.
LONG = (
    "cluster/test_every_protocol.py",
    "cluster/test_sweep_program.py",
    "journeys/test_newcomer.py",
    "cluster/test_search_program.py",
    "cluster/test_ray_prepare.py",
    "cluster/test_interrupted_sweep.py",
    "chaos/test_chaos.py",
    "cluster/test_ray_dies.py",
    "cluster/test_ray_up.py",
    "cluster/test_store_program.py",
    "cluster/test_growth.py",
    "test_adding.py",
    "test_gpu_script.py",
    "cluster/test_ray_inference.py",
    "cluster/test_two_nodes.py",
    "training/test_distributed.py",
    "test_interrupts.py",
    "test_examples.py",
    "test_cli.py",
    "test_wheel.py",
)

TINY: dict[str, Any] = {
    "data": {"name": "motion", "train": 24, "test": 12, "size": 32, "frames": 24},
    "prepare": {"short_side": 16},
    "clip": {"frames": 4, "stride": 2, "size": 16},
    "objective": {"name": "vicreg", "hidden": 16, "out": 16},
    "backbone": {"name": "r3d_tiny", "width": 2},
    "training": {"epochs": 3, "batch_size": 8},
    "evaluation": {"clips": 2, "frames": 4, "stride": 2},
}


def pytest_configure(config: pytest.Config) -> None:
    """Let xdist keep the order below; its own begins with the files that have most tests.

    And let what tests start hear signals, which under nohup or in the background it would ignore.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """LONG first, all others as they come."""
    places = {ROOT / "tests" / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(LONG)))


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return ROOT


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or writes the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDIDI_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Threads that wait for each other make small networks and inputs many times slower on a busy
    machine.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny_values() -> dict[str, Any]:
    """Plain values of a configuration whose run takes about a second."""
    return copy.deepcopy(TINY)


@pytest.fixture(scope="session")
def make_config() -> Callable[..., Any]:
    """``make_config({"training.epochs": 1})``: the tiny configuration with other values,
    resolved.
    """
    from vididi.components import resolve
    from vididi.config import build_config
    from vididi.dotted_keys import flatten, nest

    def make(changes: dict[str, Any] | None = None) -> Any:
        return resolve(build_config(nest({**flatten(TINY), **(changes or {})})))

    return make


@pytest.fixture(scope="session")
def tiny_shards(make_config: Callable[..., Any]) -> Any:
    """The prepared data of the tiny configuration: 24 training and 12 test videos of 24 frames, 16
    x 16.
    """
    from vididi.prepared import ensure_prepared

    return ensure_prepared(make_config())


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URI of an empty bucket of a local server that speaks S3; the endpoint comes from the
    environment, as it does for users.
    """
    server = pytest.importorskip("moto.server")
    import boto3

    running = server.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    endpoint = "http://{}:{}".format(*running.get_host_and_port())
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(name, value)
        boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="clips")
        yield "s3://clips"
    running.stop()


@pytest.fixture(scope="session")
def moving_bar() -> Callable[..., NDArray[np.uint8]]:
    """``moving_bar(frames, height, width)``: smooth frames, no two alike, that survive lossy
    coding.
    """

    def draw(frames: int, height: int, width: int, shade: int = 0) -> NDArray[np.uint8]:
        t, y, x = np.mgrid[:frames, :height, :width]
        red = 127 + 120 * np.sin(2 * np.pi * (x / width + t / 17))
        green = 127 + 120 * np.cos(2 * np.pi * (y / height - t / 29))
        return np.stack([red, green, np.full_like(red, shade % 256)], axis=-1).astype(np.uint8)

    return draw


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    """``write_video(path, frames)``: an H.264 file of ``[T, H, W, 3]`` frames with even H and W."""
    import av

    def write(path: Path, frames: NDArray[np.uint8], rate: int = 20, **options: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream(
                "libx264", rate=rate, options={"crf": "10", "threads": "1", **options}
            )
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        return path

    return write
