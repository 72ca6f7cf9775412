"""How fast clips reach a training process, as ratios between ways to read the same videos.

All are measured on the same cores, in one run.

    python benchmarks/input_pipeline.py --out benchmarks/results/input_pipeline.json
    python benchmarks/input_pipeline.py --videos DIR          real files instead of synthetic ones
    python benchmarks/input_pipeline.py --quick               a look, in less than a minute

The contenders give two uint8 clips of 10 frames (8 and 2 to differentiate) per video, one frame of
every 3:

    ray       vididi.cluster.ray_stream.ray_stream, as a sweep uses it
    local     vididi.data.stream.local_stream: threads, no Ray
    held      the same cells' stream with resources.hold_data: the frames lie in the object store
    bare      the same fetch and decode in a loop in one process per core, and the clips thrown
              away: the upper limit
    loader    a torch DataLoader over the same shards, a worker process per core
    decord    a torch DataLoader that opens the source file and seeks for each clip, the usual way

All are pinned to the same cores, take turns, start anew each turn, and are timed once warm. What is
not of this project runs in the environment that this program was started in: a Ray of our own sets
variables of malloc, with which a DataLoader has a fifth more clips, or two. A pause
is how much longer the first batch of an epoch took than batches in between. Memory is the
proportional set size of this process and all below it.
"""

from __future__ import annotations

import argparse
import atexit
import json
import logging
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from statistics import mean, median
from typing import Any
from unittest.mock import patch

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Trainers are workers of Ray too, so in a sweep they and the stream have the same priority; here
# this process is the trainer.
os.environ.setdefault("RAY_worker_niceness", "0")

import numpy as np
import psutil
import ray
import torch
from by_turns import median_ratio
from sweep_cost import tree_memory
from synthetic_videos import make_videos
from torch.utils.data import DataLoader, Dataset

from vididi.cluster.held import hold, open_stream
from vididi.cluster.own_ray import own_ray
from vididi.cluster.ray_stream import ray_stream
from vididi.components import resolve
from vididi.config import build_config
from vididi.data.plan import PretrainPlan, frame_counts
from vididi.data.shards import FrameReader, ShardSet
from vididi.data.stream import Buffers, Stream, decode, fetch, local_stream
from vididi.prepared import ensure_prepared
from vididi.startup_checks import OBJECT_STORE_BYTES

LENGTH, STRIDE, CLIPS, BATCH = 10, 3, 2, 32
ENDLESS = 400  # epochs, more than a turn takes
ROOT = Path(__file__).resolve().parents[1]
TARGETS = {"ray/decord": 10.0, "ray/bare": 0.88, "ray/loader": 2.0, "held/bare": 0.95}


def make_plan(shards: ShardSet, epochs: int = ENDLESS) -> PretrainPlan:
    """Batches for pretraining on all training videos."""
    return PretrainPlan(
        shards.rows("train"), frame_counts(shards), LENGTH, STRIDE, BATCH, epochs, seed=0
    )


# --- The contenders: each yields the number of clips of each batch --------------------------------

Contender = Callable[[], Generator[int, None, None]]


def stream_clips(open_stream: Stream, plan: PretrainPlan) -> Generator[int, None, None]:
    """The clips of each batch of one of the project's streams."""
    with closing(open_stream(plan, 0)) as batches:  # type: ignore[type-var]
        for batch in batches:
            yield batch.starts.size


def held_clips(shards: ShardSet, plan: PretrainPlan, cores: int) -> Generator[int, None, None]:
    """The clips of each batch of a cell whose data are held."""
    yield from stream_clips(open_stream(shards, hold(shards), cores), plan)


def as_started(contender: Contender) -> Contender:
    """The contender, whose processes have the environment that this program was started in."""
    before = dict(os.environ)

    def start() -> Generator[int, None, None]:
        with closing(contender()) as batches:
            with patch.dict(os.environ, before, clear=True):
                first = next(batches)  # its processes are there by then
            yield first
            yield from batches

    return start


def bare_worker(shards: ShardSet, plan: PretrainPlan, rank: int, cores: int, done: Any) -> None:
    """Fetch and decode every ``cores``-th batch, and put its number of clips into ``done``."""
    reader, buffers = FrameReader(shards), Buffers()
    for number in range(rank, len(plan), cores):
        request = plan[number]
        done.put(decode(fetch(reader, request), request, shards, buffers).starts.size)


def bare_clips(shards: ShardSet, plan: PretrainPlan, cores: int) -> Generator[int, None, None]:
    """The clips of each batch that one of ``cores`` processes has decoded and thrown away."""
    spawn = multiprocessing.get_context("spawn")
    done = spawn.SimpleQueue()
    workers = [
        spawn.Process(target=bare_worker, args=(shards, plan, rank, cores, done), daemon=True)
        for rank in range(cores)
    ]
    for worker in workers:
        worker.start()
    try:
        while True:
            yield done.get()
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


class Shards(Dataset):
    """A video of the shards: two random clips, ``[2, N, H, W, 3]``."""

    def __init__(self, shards: ShardSet) -> None:
        self.reader, self.rows, self.counts, self.sizes = (
            FrameReader(shards),
            shards.rows("train"),
            frame_counts(shards),
            shards.sizes,
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> torch.Tensor:
        import simplejpeg

        row = int(self.rows[i])
        picks = random_picks(int(self.counts[row]))
        out = np.empty((picks.size, *self.sizes[row], 3), np.uint8)
        for frame, jpeg in zip(out, self.reader.frames(row, picks.ravel()), strict=True):
            simplejpeg.decode_jpeg(bytes(jpeg), buffer=frame)
        return torch.from_numpy(out.reshape(CLIPS, LENGTH, *out.shape[1:]))


class Files(Dataset):
    """A video file: two random clips, decoded at the size of the shards' frames."""

    def __init__(self, shards: ShardSet, videos: Path) -> None:
        self.rows, self.sizes = shards.rows("train"), shards.sizes
        self.paths = [str(videos / name) for name in shards.column("video_id")]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> torch.Tensor:
        import decord

        row, clips = int(self.rows[i]), []
        height, width = (int(side) for side in self.sizes[row])
        for clip in range(CLIPS):
            reader = decord.VideoReader(
                self.paths[row], ctx=decord.cpu(0), width=width, height=height, num_threads=1
            )
            clips.append(reader.get_batch(random_picks(len(reader))[clip]).asnumpy())
        return torch.from_numpy(np.stack(clips))


def random_picks(count: int) -> np.ndarray:
    """Frame numbers ``[CLIPS, LENGTH]`` of random clips of a video of ``count`` frames."""
    starts = torch.randint(max(1, count - (LENGTH - 1) * STRIDE), (CLIPS, 1)).numpy()
    return (starts + STRIDE * np.arange(LENGTH)) % count


def keep_list(videos: list[torch.Tensor]) -> list[torch.Tensor] | torch.Tensor:
    """Stacked where sizes agree, as in a set of one size; otherwise the list as it is."""
    return torch.stack(videos) if len({video.shape for video in videos}) == 1 else videos


def leave_at_once(worker: int) -> None:
    """decord's threads abort a process that ends in the ordinary way."""
    atexit.register(os._exit, 0)


def loader_clips(dataset: Dataset, cores: int) -> Generator[int, None, None]:
    """The clips of each batch of a torch DataLoader with ``cores`` worker processes."""
    loader = DataLoader(
        dataset,
        BATCH,
        shuffle=True,
        num_workers=cores,
        drop_last=True,
        persistent_workers=True,
        collate_fn=keep_list,
        multiprocessing_context="spawn",
        worker_init_fn=leave_at_once,
    )
    for _ in range(ENDLESS):
        for batch in loader:
            yield len(batch) * CLIPS


# --- Speed ----------------------------------------------------------------------------------------


def time_contender(contender: Contender, warm: int, seconds: float) -> list[tuple[float, int]]:
    """(time, clips) of each batch of a warm contender.

    From batch ``warm`` on for ``seconds``, but five batches at least.
    """
    marks: list[tuple[float, int]] = []
    with closing(contender()) as batches:
        for number, clips in enumerate(batches):
            if number < warm:
                continue
            marks.append((time.perf_counter(), clips))
            if marks[-1][0] - marks[0][0] > seconds and len(marks) > 4:
                return marks
    raise AssertionError("a contender ended")


def clips_per_second(marks: list[tuple[float, int]]) -> float:
    """Of the batches after the first, which only starts the clock."""
    return sum(clips for _, clips in marks[1:]) / (marks[-1][0] - marks[0][0])


def epoch_pause(marks: list[tuple[float, int]], warm: int, steps: int) -> float:
    """Median seconds by which the wait for the first batch of an epoch exceeds the mean wait."""
    gaps = np.diff([moment for moment, _ in marks])
    first = [gap for number, gap in enumerate(gaps, warm + 1) if number % steps == 0]
    return float(median(first) - gaps.mean()) if first else float("nan")


def measure_speed(
    contenders: dict[str, Contender], steps: int, turns: int, seconds: float
) -> dict[str, dict[str, Any]]:
    """Median clips per second and pause between epochs of each contender, which take turns."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    pauses: dict[str, list[float]] = {name: [] for name in contenders}
    warm = max(2 * steps, 16)  # batches; Ray Data hands them over in lumps of 8
    for _ in range(turns):
        for name, contender in contenders.items():
            marks = time_contender(contender, warm, seconds)
            rates[name].append(clips_per_second(marks))
            pauses[name].append(epoch_pause(marks, warm, steps))
    return {
        name: {
            "clips_per_second": median(rates[name]),
            "turns": rates[name],
            "epoch_pause_seconds": median(pauses[name]),
        }
        for name in contenders
    }


# --- Memory ---------------------------------------------------------------------------------------


class MemoryWatch:
    """Samples the memory of this process and all below it.

    ``epoch`` says what a sample belongs to.
    """

    def __init__(self) -> None:
        self.epoch, self.samples, self._stop = 0, [], threading.Event()  # type: ignore[var-annotated]
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        process = psutil.Process()
        while not self._stop.wait(0.1):
            epoch = self.epoch
            self.samples.append((epoch, tree_memory(process)[0]))

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def measure_memory(shards: ShardSet, epochs: int, epoch_seconds: float) -> dict[str, Any]:
    """Peak memory in early and in late epochs of a slow consumer.

    Each is the median of ten epochs' peaks.
    """
    plan = make_plan(shards, epochs=epochs + 1)
    with MemoryWatch() as watch, closing(ray_stream(shards)(plan, 0)) as batches:  # type: ignore[type-var]
        for number, _ in enumerate(batches):
            # Epoch 0 starts Ray's workers and fills caches.
            watch.epoch = number // plan.steps_per_epoch
            time.sleep(epoch_seconds / plan.steps_per_epoch)

    peaks: dict[int, int] = defaultdict(int)
    for epoch, memory in watch.samples:
        peaks[epoch] = max(peaks[epoch], memory)

    first, last = (
        median(peaks[epoch] for epoch in chosen if epoch in peaks)
        for chosen in (range(1, 11), range(epochs - 9, epochs + 1))
    )
    return {
        "epochs": epochs,
        "first_mib": first / 2**20,
        "last_mib": last / 2**20,
        "highest_mib": max(peaks.values()) / 2**20,
        "growth_percent": 100 * (last / first - 1),
    }


# --- Training -------------------------------------------------------------------------------------


def measure_wait() -> dict[str, Any]:
    """Share of its time that an arm of the ablation waits for data.

    Two cells run at a time, as on any machine of two cores.
    """
    changes = {"data.train": 200, "data.test": 10, "training.epochs": 4, "evaluation.clips": 1}
    with tempfile.TemporaryDirectory() as runs:
        command = [
            sys.executable,
            "run_sweep.py",
            "sweeps/ablation.yaml",
            "--only",
            "vididi",
            "--only",
            "base",
            "--runs",
            runs,
        ]
        command += [
            text for name, value in changes.items() for text in ("--set", f"{name}={value}")
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}:\n{done.stdout}\n{done.stderr}")
        lines = [
            json.loads(line)
            for path in sorted(Path(runs).rglob("metrics.jsonl"))
            for line in path.read_text().splitlines()
        ]

    warm = [line["time/data_share"] for line in lines if line["epoch"] > 1]
    return {
        "mean": mean(warm),
        "largest": max(warm),
        "first_epoch": max(x["time/data_share"] for x in lines if x["epoch"] == 1),
    }


# --- The run --------------------------------------------------------------------------------------


def ray_session(cores: int) -> AbstractContextManager[None]:
    """A Ray as a sweep has it: CPUs for ``cores`` trainers, and one for a stream."""
    return own_ray(cores + 1, OBJECT_STORE_BYTES)


def prepare_videos(arguments: argparse.Namespace, work: Path) -> tuple[Path, ShardSet]:
    """The folder of the source files, and its shards; both are kept in ``--work`` if given."""
    videos = arguments.videos
    if videos is None:
        videos = work / f"videos-{arguments.count}"
        if not videos.is_dir():
            make_videos(
                videos / "all",
                arguments.count,
                arguments.frames,
                arguments.height,
                arguments.width,
                arguments.cores,
            )
    config = resolve(build_config({"data": {"name": "folder", "videos": str(videos.resolve())}}))
    return videos.resolve(), ensure_prepared(config, work.resolve() / f"shards-{videos.name}")


def run(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    """All measurements, on the videos of ``prepare_videos``."""
    videos, shards = prepare_videos(arguments, work)
    source = sum(path.stat().st_size for path in videos.rglob("*") if path.is_file())
    plan, cores = make_plan(shards), arguments.cores
    print(
        f"{shards.summary}, {shards.manifest.frames} frames, source {source / 2**20:.1f} MiB;"
        f" {cores} cores",
        flush=True,
    )
    contenders: dict[str, Contender] = {
        "ray": lambda: stream_clips(ray_stream(shards, threads=cores), plan),
        "local": lambda: stream_clips(local_stream(shards, threads=cores), plan),
        "held": lambda: held_clips(shards, plan, cores),
        "bare": as_started(lambda: bare_clips(shards, plan, cores)),
        "loader": as_started(lambda: loader_clips(Shards(shards), cores)),
        "decord": as_started(lambda: loader_clips(Files(shards, videos), cores)),
    }

    with ray_session(cores):
        speed = measure_speed(contenders, plan.steps_per_epoch, arguments.turns, arguments.seconds)

    result = {"ratios": ratios_by_turn(speed), "speed": speed, "frames": shards.manifest.frames}
    if not arguments.quick:
        with ray_session(cores):
            result["memory"] = measure_memory(
                shards, arguments.memory_epochs, arguments.epoch_seconds
            )
        result["data_share_of_a_step"] = measure_wait()

    return result


def ratios_by_turn(speed: dict[str, dict[str, Any]]) -> dict[str, float]:
    """The median over the turns of ray over each other contender, and of held over bare."""
    pairs = [("ray", name) for name in speed if name != "ray"] + [("held", "bare")]
    return {
        f"{one}/{other}": median_ratio(speed[one]["turns"], speed[other]["turns"])
        for one, other in pairs
    }


def print_table(result: dict[str, Any]) -> None:
    """The result beside its targets."""
    print(
        f"\n{'':12} {'clips/s':>8} {'ray over it':>12} {'target':>7} {'pause between epochs':>21}"
    )
    for name, row in result["speed"].items():
        ratio = result["ratios"].get(f"ray/{name}")
        ratio_text = "" if ratio is None else f"{ratio:.2f}"
        target = TARGETS.get(f"ray/{name}", "")
        print(
            f"{name:12} {row['clips_per_second']:8.0f} {ratio_text:>12} {target!s:>7}"
            f" {row['epoch_pause_seconds'] * 1000:18.0f} ms"
        )

    held = result["ratios"]["held/bare"]
    print(f"\nheld over bare: {held:.2f} (target {TARGETS['held/bare']})")
    if "memory" not in result:
        return

    memory, wait = result["memory"], result["data_share_of_a_step"]
    print(
        f"\nmemory over {memory['epochs']} epochs: {memory['first_mib']:.0f} to"
        f" {memory['last_mib']:.0f} MiB, {memory['growth_percent']:+.1f}% (target < 5%)"
    )
    print(
        f"share of a step that waits for data: {wait['mean']:.2%}, at most {wait['largest']:.2%}"
        " (target < 5%)"
    )


def parse_arguments() -> argparse.Namespace:
    """The arguments, with smaller numbers for ``--quick``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--videos", type=Path, metavar="DIR", help="a folder of class folders of real videos"
    )
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="keep the synthetic videos and the shards here"
    )
    parser.add_argument(
        "--cores",
        type=int,
        default=min(2, len(os.sched_getaffinity(0))),
        help="cores to use (default: 2)",
    )
    parser.add_argument("--count", type=int, default=128, help="synthetic videos")
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="timed in each turn")
    parser.add_argument("--memory-epochs", type=int, default=50)
    parser.add_argument(
        "--epoch-seconds",
        type=float,
        default=0.5,
        help="least length of an epoch while memory is measured",
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer videos, one turn, speed only: rough numbers"
    )
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.count, arguments.frames, arguments.turns, arguments.seconds = 64, 60, 1, 2.0

    return arguments


def main() -> None:
    """Pin the process to its cores, measure, print, and write to ``--out``."""
    arguments = parse_arguments()
    # Every process started from here inherits it.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    torch.set_num_threads(1)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    began = time.perf_counter()
    work = arguments.work or Path(tempfile.mkdtemp(prefix="vididi-input-"))

    try:
        result = run(arguments, work)
    finally:
        if arguments.work is None:
            shutil.rmtree(work)

    print_table(result)
    print(f"{time.perf_counter() - began:.0f} s")
    if arguments.out:
        settings = {
            name: getattr(arguments, name)
            for name in ("cores", "count", "frames", "height", "width", "turns", "seconds")
        }
        machine = {
            "machine": platform.machine(),
            "torch": torch.__version__,
            "ray": ray.__version__,
            "date": time.strftime("%Y-%m-%d"),
        }
        content = {
            **machine,
            "settings": {**settings, "videos": "real" if arguments.videos else "synthetic"},
            **result,
        }
        arguments.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
