"""Preparing over a Ray cluster: the bytes of a local preparation, whatever dies on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from vididi.cli import main
from vididi.data import prepare as preparing
from vididi.data import shard_writer
from vididi.data.encode import Encoded, Reject, Settings
from vididi.data.motion import motion
from vididi.data.prepare import prepare, versions
from vididi.data.shards import ShardSet
from vididi.data.video import Video
from vididi.data.workers import Failed
from vididi.errors import ResourceError

pytestmark = pytest.mark.ray

SETTINGS = Settings(short_side=40)
SHARD, GROUP = 60_000, 20_000  # bytes: three or four videos to a shard
HERE = Path(__file__).resolve().parent


# --- What runs on the nodes: this module is on their PYTHONPATH -----------------------------------


def misbehave(item: tuple[str, Any]) -> Any:
    what, value = item
    if what == "signal":
        os.kill(os.getpid(), value)
    elif what == "hang":
        time.sleep(600)
    elif what == "raise":
        raise RuntimeError(value)
    elif what == "third":  # needs to be alone: it works when it is tried for the third time
        value.touch() if not value.exists() else value.with_suffix(".2").touch()
        if not value.with_suffix(".3").exists():
            if value.with_suffix(".2").exists():
                value.with_suffix(".3").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    elif what == "slow":
        time.sleep(0.2)
    elif what == "mark":
        value.touch()
    return value


def encode_but_crash_on(video: Video, settings: Settings, victim: str) -> Encoded | Reject:
    if video.video_id == victim:
        os.kill(os.getpid(), signal.SIGSEGV)
    return preparing.encode_video(video, settings)


def encode_without_a_mount(video: Video, settings: Settings, hidden: str) -> Encoded | Reject:
    """As on a node where one video is not to be seen."""
    if video.video_id == hidden:
        return Reject(video.video_id, str(video.path), "missing: no such file")
    return preparing.encode_video(video, settings)


def encode_slowly(video: Video, settings: Settings) -> Encoded | Reject:
    time.sleep(0.1)
    return preparing.encode_video(video, settings)


# --- The cluster ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU each on this machine."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE.parents[1]), str(HERE)]))
        options = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 << 20}
        made = Cluster(initialize_head=True, head_node_args=options)
        made.add_node(num_cpus=1, object_store_memory=100 << 20)
        made.wait_for_nodes()
        yield made
        made.shutdown()


@pytest.fixture
def over(cluster: Any) -> Callable[..., Any]:
    """``over(items)``: the results of misbehave over the cluster."""
    from vididi.cluster.ray_prepare import over_cluster

    def run(items: list[Any], timeout: float = 60) -> Any:
        return over_cluster(cluster.address)(misbehave, items, timeout, versions(["av"]))

    return run


@pytest.fixture(scope="module")
def listed(cache: Path) -> list[Video]:
    videos = motion(cache, train=44, test=12, size=32, frames=16)
    videos[20:20] = [Video(Path("/nowhere.mp4"), "nowhere", "orbit", "train")]
    return videos


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_writer, "SHARD_BYTES", SHARD)
        patch.setattr(shard_writer, "ROW_GROUP_BYTES", GROUP)
        yield


def files(folder: Any) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(str(folder)).iterdir()}


def on_cluster(cluster: Any, videos: list[Video], out: Path, progress: Any = None) -> ShardSet:
    from vididi.cluster.ray_prepare import over_cluster

    return prepare(
        videos, out, SETTINGS, {"name": "test"}, progress, run=over_cluster(cluster.address)
    )


def in_local_processes(videos: list[Video], out: Path) -> ShardSet:
    return prepare(videos, out, SETTINGS, {"name": "test"}, workers=2)


# --- Results --------------------------------------------------------------------------------------


def test_over_a_cluster_come_the_bytes_of_this_machine(
    cluster: Any, listed: list[Video], tmp_path: Path
) -> None:
    calls: list[tuple[int, int, int]] = []
    there = on_cluster(cluster, listed, tmp_path / "there", lambda *counts: calls.append(counts))
    assert calls == [(done, 57, int(done > 20)) for done in range(1, 58)]
    assert files(there.root) == files(in_local_processes(listed, tmp_path / "here").root)


def test_every_failure_costs_one_item_on_a_cluster_too(
    over: Callable[..., Any], tmp_path: Path
) -> None:
    good = [("return", number) for number in range(12)]
    bad = [
        ("signal", signal.SIGSEGV),
        ("hang", None),
        ("raise", "bad picture"),
        ("third", tmp_path / "tried"),
    ]
    assert list(over([*good[:6], *bad, *good[6:]], timeout=2)) == [
        *range(6),
        Failed("decoder crashed twice (signal 11)"),
        Failed("no result after 2 s"),
        Failed("RuntimeError: bad picture"),
        tmp_path / "tried",
        *range(6, 12),
    ]


def test_nothing_to_do_needs_no_cluster() -> None:
    from vididi.cluster.ray_prepare import over_cluster

    assert list(over_cluster("127.0.0.1:1")(misbehave, [], 60, {})) == []


def test_all_nodes_take_part_and_what_is_under_way_ends_with_the_caller(
    over: Callable[..., Any],
) -> None:
    results = over([("slow", number) for number in range(400)])
    assert next(results) == 0
    import ray

    assert len(ray.nodes()) == 2
    deadline = time.monotonic() + 60
    while len(busy_nodes()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(busy_nodes()) == 2
    results.close()
    assert not ray.is_initialized()
    deadline = time.monotonic() + 60
    while workers_of_ray() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not workers_of_ray()


def test_a_cluster_does_not_run_far_ahead_of_the_caller(
    over: Callable[..., Any], tmp_path: Path
) -> None:
    from vididi.cluster.ray_prepare import AHEAD, CHUNK

    results = over([("mark", tmp_path / str(number)) for number in range(400)])
    next(results)
    bound, deadline = AHEAD * 2 * CHUNK, time.monotonic() + 60  # 2 CPUs
    while len(list(tmp_path.iterdir())) < bound and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    assert len(list(tmp_path.iterdir())) == bound
    results.close()


def workers_of_ray() -> list[psutil.Process]:
    """Ray worker processes that run a chunk now."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if (
                process.cmdline()
                and process.cmdline()[0].startswith("ray::")
                and "_chunk" in process.cmdline()[0]
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found


def busy_nodes() -> set[int]:
    """The raylets above them."""
    return {process.ppid() for process in workers_of_ray()}


def test_a_killed_ray_worker_loses_nothing(
    cluster: Any, listed: list[Video], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = files(in_local_processes(listed, tmp_path / "here").root)
    killed = []

    def kill_one(done: int, total: int, rejects: int) -> None:
        if done in (3, 25) and (running := workers_of_ray()):
            running[0].kill()
            killed.append(running[0].pid)

    monkeypatch.setattr(preparing, "encode_video", module_function("encode_slowly"))
    there = on_cluster(cluster, listed, tmp_path / "there", kill_one)
    assert killed
    assert files(there.root) == expected


def module_function(name: str) -> Any:
    """A function of this module under the name by which the nodes import it."""
    sys.path.insert(0, str(HERE))
    try:
        return getattr(__import__("test_ray_prepare"), name)
    finally:
        sys.path.remove(str(HERE))


def test_a_lost_node_loses_nothing(cluster: Any, over: Callable[..., Any]) -> None:
    node = cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
    cluster.wait_for_nodes()
    results = over([("slow", number) for number in range(36)])
    taken = [next(results) for _ in range(3)]
    cluster.remove_node(node, allow_graceful=False)
    assert [*taken, *results] == list(range(36))


def test_a_crashing_decoder_costs_one_video_on_a_cluster_too(
    cluster: Any, listed: list[Video], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = listed[5]
    monkeypatch.setattr(
        preparing,
        "encode_video",
        partial(module_function("encode_but_crash_on"), victim=victim.video_id),
    )
    there = on_cluster(cluster, listed[:16], tmp_path / "there")
    assert victim.video_id not in there.column("video_id")
    assert len(there.column("video_id")) == 15
    assert "decoder crashed twice (signal 11)" in (there.root / "rejects.csv").read_text()


# --- Errors ---------------------------------------------------------------------------------------


def test_a_node_that_does_not_see_a_video_is_an_error_and_no_reject(
    cluster: Any, listed: list[Video], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = listed[7]
    monkeypatch.setattr(
        preparing,
        "encode_video",
        partial(module_function("encode_without_a_mount"), hidden=hidden.video_id),
    )
    with pytest.raises(
        ResourceError,
        match=(
            rf"^node .+: cannot read {hidden.path} \(missing: no such file\), which this"
            r" machine can"
        ),
    ):
        on_cluster(cluster, listed, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_node_with_other_versions_is_an_error(cluster: Any) -> None:
    from vididi.cluster.ray_prepare import over_cluster

    other = {**versions(["av", "pillow"]), "av": "1.2.3"}
    with pytest.raises(
        ResourceError,
        match=(
            rf"^node .+: has av {versions(['av'])['av']} instead of 1\.2\.3, and would write other"
            r" bytes"
        ),
    ):
        list(over_cluster(cluster.address)(misbehave, [("return", 1)], 60, other))


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1:1", "[Errno 111] Connection refused"),
        ("ray://127.0.0.1:10001", "it is of Ray Client"),
    ],
)
def test_no_cluster_is_an_error_that_names_the_address(
    address: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["prepare", "motion", "--out", str(tmp_path / "set"), *TINY, "--address", address])
        == 1
    )
    assert (
        f"error: --address {address}: no Ray cluster can be reached: {why}"
        in capsys.readouterr().err
    )


# --- Commands -------------------------------------------------------------------------------------

TINY = [
    "--set",
    "train=8",
    "--set",
    "test=4",
    "--set",
    "size=32",
    "--set",
    "frames=16",
    "--short-side",
    "16",
]


@pytest.fixture(scope="module")
def prepared_here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("set") / "here"
    assert main(["prepare", "motion", "--out", str(out), *TINY]) == 0
    return files(out)


@pytest.mark.parametrize("by", ["option", "environment"])
def test_the_command_prepares_over_a_cluster(
    cluster: Any,
    by: str,
    prepared_here: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from vididi.cluster import ray_prepare as cluster_prepare

    connections = []
    real = cluster_prepare.connected
    monkeypatch.setattr(
        cluster_prepare, "connected", lambda address: connections.append(address) or real(address)
    )
    if by == "environment":
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    option = ["--address", cluster.address] if by == "option" else []
    assert main(["prepare", "motion", "--out", str(tmp_path / "there"), *TINY, *option]) == 0
    assert connections == [cluster.address if by == "option" else "auto"]
    assert files(tmp_path / "there") == prepared_here


def test_without_an_address_the_command_imports_no_ray(tmp_path: Path, repo_root: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    code = (
        "import sys; sys.modules['ray'] = None; from vididi.cli import main;"
        " sys.exit(main(sys.argv[1:]))"
    )
    command = [
        sys.executable,
        "-c",
        code,
        "prepare",
        "motion",
        "--out",
        str(tmp_path / "set"),
        *TINY,
    ]
    done = subprocess.run(
        command, cwd=repo_root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "set" / "manifest.json").read_text())["videos"] == {
        "train": 8,
        "test": 4,
    }
