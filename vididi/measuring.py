"""A few real steps of a configuration on this machine, measured in a process of its own: seconds,
memory, and the bytes of what a run writes.

The step is the training loop's own (vididi.training.loop.train_step), on the prepared data where
they are there. Where they are not, an index is made up of what is known of the videos, and its
clips are random pixels of the right shape; then reading and decoding is no part of a step.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from vididi.components import build_state
from vididi.config import BF16_NEEDS_GPU, Config
from vididi.data.layout import INDEX_SCHEMA, VERSION, Manifest
from vididi.data.plan import EvaluationPlan, Plan
from vididi.data.shards import ShardSet
from vididi.data.storage import as_folder
from vididi.data.stream import Batch, Stream, local_stream
from vididi.errors import ConfigError, ResourceError
from vididi.estimate import Measures, RunWork
from vididi.evaluation.features import FeatureView, measure_batches
from vididi.experiment import record_sample, save_state
from vididi.plans import Plans, make_fit, make_plans
from vididi.runs.run_folder import RunFolder
from vididi.training.context import LocalContext
from vididi.training.loop import State, train_step

# The first step finds its memory and its kernels, and is not counted unless it is the only one.
WARM_UP, STEPS, STEPS_S = 1, 5, 60.0
BATCHES, BATCHES_S = 3, 20.0  # of evaluation, after one that is not counted

Clock = Callable[[], float]


@dataclass(frozen=True)
class MadeUpVideos:
    """What is known of videos that are not prepared: the rows of an index without frames.

    Attributes:
        ids, splits, classes: of each video. frames, sizes: frames, and height and width, of some of
            them, which all others are taken to have in turn.
    """

    ids: Sequence[str]
    splits: Sequence[str]
    classes: Sequence[str]
    frames: Sequence[int]
    sizes: Sequence[tuple[int, int]]


class MadeUpSet(ShardSet):
    """A data set that is not prepared: an index, and nowhere a frame."""

    @classmethod
    def of(cls, videos: MadeUpVideos) -> MadeUpSet:
        """A set of such videos."""
        names = sorted(set(videos.classes) - {""})
        counts = {split: list(videos.splits).count(split) for split in ("train", "test")}
        manifest = Manifest(VERSION, counts, 0, 0, 0, names, "", {}, {})
        made = cls(Path("videos that are not prepared"), manifest)
        made.__dict__["videos"] = videos
        return made

    @cached_property
    def index(self) -> pa.Table:
        """INDEX_SCHEMA, one row per video."""
        videos: MadeUpVideos = self.__dict__["videos"]
        count = len(videos.ids)
        sizes = np.resize(np.array(videos.sizes, np.int32).reshape(-1, 2), (count, 2))
        labels = {name: label for label, name in enumerate(self.manifest.classes)}
        columns = {
            "video_id": list(videos.ids),
            "label": [labels.get(name, -1) for name in videos.classes],
            "class_name": list(videos.classes),
            "scene": [""] * count,
            "split": list(videos.splits),
            "frame_count": np.resize(np.array(videos.frames, np.int32), count),
            "fps": np.zeros(count, np.float32),
            "height": sizes[:, 0],
            "width": sizes[:, 1],
            **dict.fromkeys(("source_sha256", "frames_sha256"), [""] * count),
            **dict.fromkeys(("shard", "row_group", "row"), np.zeros(count, np.int32)),
        }
        return pa.table(columns, schema=INDEX_SCHEMA)


def random_stream(shards: ShardSet) -> Stream:
    """A stream of random pixels in the sizes that the index says; starts are those of the plan."""
    rng = np.random.default_rng(0)

    def stream(plan: Plan, start: int) -> Iterator[Batch]:
        for number in range(start, len(plan)):
            request = plan[number]
            sizes = shards.sizes[request.rows]
            shape = (*request.frames.shape, *sizes.max(axis=0), 3)
            pixels = rng.integers(0, 256, shape, np.uint8)
            yield Batch(request.rows, sizes, request.frames[:, :, 0], pixels)

    return stream


def measure_apart(
    config: Config, data: str | MadeUpVideos, gpu: bool, workers: int = 1
) -> Measures:
    """``measure_run`` in a process of its own, whose memory is that of this alone.

    Args:
        config: resolved. data: a folder of shards, as a user writes it, or videos that are not
            prepared. workers: of which one is measured, alone.

    Raises:
        VididiError: as a run on these data would. ResourceError: memory does not do.
    """
    began = time.time()
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            return pool.submit(measure_run, config.to_dict(), data, gpu, workers, began).result()
    except BrokenProcessPool:
        reason = "the process that measured was killed, as happens where memory runs out"
    except torch.OutOfMemoryError as error:
        reason = str(error).partition("\n")[0]
    raise ResourceError(
        f"--estimate: {reason}; lower training.batch_size, clip.size or clip.frames, or take a"
        " smaller backbone"
    )


def measure_run(
    values: dict, data: str | MadeUpVideos, gpu: bool, workers: int, began: float
) -> Measures:
    """Measure a configuration in this process.

    Args:
        values: of a resolved configuration. began: when the process was asked for, in seconds since
            the epoch, as other processes count them.
    """
    config = Config.model_validate(values)
    torch.set_num_threads(config.training.threads)
    context = LocalContext(device=torch.device("cuda" if gpu else "cpu"))
    if config.training.precision == "bf16" and not gpu:
        raise ConfigError(BF16_NEEDS_GPU)
    real = isinstance(data, str)
    shards = ShardSet.open(as_folder(data)) if isinstance(data, str) else MadeUpSet.of(data)
    stream = local_stream(shards) if real else random_stream(shards)
    plans = make_plans(config, shards, 0, workers)
    state = build_state(config, context.device)
    start = time.time() - began

    steps = measure_steps(config, state, plans, stream, context)
    clips = measure_clips(config, state.objective.backbone, plans, stream)
    checkpoint, checkpoint_bytes, run_bytes, epoch_bytes = _written(config, state, shards, plans)
    reserved = torch.cuda.max_memory_reserved() if gpu else 0
    work = work_of(config, plans)
    return Measures(
        steps,
        clips,
        checkpoint,
        start,
        peak_memory(),
        reserved,
        run_bytes,
        epoch_bytes,
        work,
        checkpoint_bytes,
    )


def measure_steps(
    config: Config,
    state: State,
    plans: Plans,
    stream: Stream,
    context: LocalContext,
    clock: Clock = time.perf_counter,
) -> tuple[float, ...]:
    """Seconds of each of some steps of training; none where nothing is trained."""
    fit = make_fit(config, plans.pretrain)
    state.objective.train()
    batches = stream(plans.pretrain, 0)

    def step() -> None:
        batch = next(batches)
        terms, pair, _ = train_step(state, state.objective, batch, fit, context)
        state.log.add(terms, pair, batch.starts.size, 0.0, 1.0)  # what an epoch's line is made of

    return timed(step, min(WARM_UP + STEPS, len(plans.pretrain)), STEPS_S, clock)


def measure_clips(
    config: Config,
    encoder: nn.Module,
    plans: Plans,
    stream: Stream,
    clock: Clock = time.perf_counter,
) -> tuple[float, ...]:
    """Seconds of a clip of evaluation, in all orders that are measured, by each of some batches;
    none where nothing is evaluated.
    """
    plan: EvaluationPlan = plans.evaluation if len(plans.evaluation) else plans.online
    if plan is plans.online and not plans.online_every:
        return ()
    e = config.evaluation
    view = FeatureView(config.clip.size, e.crop, e.seed, e.orders, e.frames)
    batches = stream(plan, 0)
    # A last batch that is not whole has fewer clips.
    whole = max(len(plan.rows) // plan.batch_size, min(1, len(plan)))
    in_a_batch = min(plan.batch_size, len(plan.rows)) * plan.clips

    def batch() -> None:
        measure_batches(encoder, batches, 1, view)

    seconds = timed(batch, min(WARM_UP + BATCHES, whole), BATCHES_S, clock)
    return tuple(value / in_a_batch for value in seconds)


def timed(act: Callable[[], None], most: int, seconds: float, clock: Clock) -> tuple[float, ...]:
    """Seconds of each of at most ``most`` acts, without the first WARM_UP where there are more.

    None is begun ``seconds`` after the first.
    """
    times: list[float] = []
    began = clock()
    while len(times) < most and (not times or clock() - began < seconds):
        before = clock()
        act()
        times.append(clock() - before)
    return tuple(times[WARM_UP:] or times)


def work_of(config: Config, plans: Plans) -> RunWork:
    """What a run does, as counts; of a run of several workers, the first one's part."""
    e, training = config.evaluation, config.training
    looks = training.epochs // e.online.every if e.online.every else 0
    statistics = len(plans.statistics.rows)
    whole = len(plans.evaluation.rows) * e.clips + (statistics if e.protocols else 0)
    # On the way only frames are measured, and a measured clip is one of all orders.
    online = (len(plans.online.rows) * e.online.clips + statistics) / len(e.orders)
    return RunWork(
        training.epochs,
        len(plans.pretrain),
        round(whole * (2 if e.untrained else 1) + online * looks),
        -(-training.epochs // training.checkpoint_epochs)
        + (len(plans.pretrain) // training.checkpoint_steps if training.checkpoint_steps else 0),
    )


def _written(
    config: Config, state: State, shards: ShardSet, plans: Plans
) -> tuple[float, int, int, int]:
    """Seconds of writing a checkpoint, and its bytes; bytes of a run folder without epochs, and of
    an epoch.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place) / "run")
        folder.path.mkdir()
        began = time.perf_counter()
        save_state(state, folder)
        checkpoint = time.perf_counter() - began
        checkpoint_bytes = sum(file.stat().st_size for file in folder.path.iterdir())
        by_epoch = record_sample(config, state, folder, shards, plans)
        whole = sum(file.stat().st_size for file in folder.path.iterdir())
    return checkpoint, checkpoint_bytes, whole - by_epoch, by_epoch


def peak_memory() -> int:
    """The largest resident set of this process so far [bytes].

    Linux's getrusage counts that of the process that this one was forked from.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        (kib,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
        return int(kib) * 1024
    except (OSError, ValueError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
