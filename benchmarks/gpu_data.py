"""What comes before a GPU's step: JPEG decoding on the card or on the CPU's cores, and the ways of
a batch to the card, with what a step waits for each.

    python benchmarks/gpu_data.py --out benchmarks/results/gpu_data.json
    python benchmarks/gpu_data.py --shards shards/ucf101 --out ...      frames of a prepared set

Frames are made here (seeded), encoded as preparing does; a batch has those of 64 pairs of 9 frames
of 150 x 200 pixels. The step is the bf16 one of benchmarks/gpu_steps.py, r3d_18 under VICReg.

Ways of a batch:

- ``resident``: it is there already; what a step then takes is the measure of the others.
- ``loop``: as vididi/training/loop.py copies a batch, view by view.
- ``pageable``: the whole batch at once, out of ordinary memory.
- ``pinned``: out of page-locked memory, in the stream of the step.
- ``pinned_overlapped``: the next batch in a stream of its own while the step runs.
- ``decoded_overlapped``: as that one, each batch decoded by threads of simplejpeg meanwhile.

``wait_share`` is the share of a step that goes beyond the resident one. ``copies`` is a profiler's
trace of two ways as a table: when each large copy ran, and for how much of it kernels ran too.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import numpy as np
import simplejpeg
import torch
from gpu_report import Report, Row
from gpu_steps import WAYS, Case, free, of_device, wait
from numpy.typing import NDArray
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torchvision.io import decode_jpeg
from train_step import PAIR, Clock, Step

from vididi.data.encode import Settings, encode_frames
from vididi.data.shards import FrameReader, ShardSet

Feed = Iterator[list[Tensor]]  # the clips of both views [B, 3, N, H, W], on the device
WARM_UP = 2
BUFFERS = 4  # batches in memory: one in a step, one on its way, two that are decoded
COPIES = {"cuda": "Memcpy HtoD", "cpu": "aten::copy_"}  # names in a trace
DISTINCT = 128  # made-up frames
DIRECTIONS = ((1.0, 0.3, 5), (-0.4, 1.1, 7), (0.7, -0.8, 11))  # of their waves, with the pace
TRACED = ("loop", "pinned_overlapped")


# --- Frames ---------------------------------------------------------------------------------------


def made_up_frames(count: int, height: int, width: int) -> list[bytes]:
    """JPEGs of smooth moving pictures with some noise, as preparing encodes; DISTINCT, repeated."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]

    def draw() -> Iterator[NDArray[np.uint8]]:
        for number in range(min(count, DISTINCT)):
            waves = [np.sin((x * a + y * b) / 12 + number / c) for a, b, c in DIRECTIONS]
            picture = 127 + 90 * np.stack(waves, axis=-1) + rng.normal(0, 4, (height, width, 3))
            yield picture.clip(0, 255).astype(np.uint8)

    settings = Settings(short_side=min(height, width))
    return list(islice(cycle(encode_frames(draw(), 25.0, settings, "").frames), count))


def prepared_frames(folder: Path, count: int) -> list[bytes]:
    """The first frames of a prepared set that have its first video's size, again and again."""
    shards = ShardSet.open(folder)
    reader, found = FrameReader(shards), list[bytes]()
    for row in np.flatnonzero((shards.sizes == shards.sizes[0]).all(axis=1)):
        frames = shards.column("frame_count")[row]
        found += [bytes(jpeg) for jpeg in reader.frames(int(row), np.arange(frames))]
        if len(found) >= count:
            break
    return list(islice(cycle(found), count))


# --- Decoding -------------------------------------------------------------------------------------


def decode_into(jpegs: Sequence[bytes], pixels: NDArray[np.uint8]) -> None:
    """Decode into ``[count, H, W, 3]``, as vididi/data/stream.py does."""
    for jpeg, frame in zip(jpegs, pixels, strict=True):
        simplejpeg.decode_jpeg(jpeg, buffer=frame)


def decode_in_threads(
    jpegs: Sequence[bytes], pixels: NDArray[np.uint8], pool: ThreadPoolExecutor, threads: int
) -> list[Future]:
    """Begin to decode; each thread has every so many-th frame."""
    return [pool.submit(decode_into, jpegs[i::threads], pixels[i::threads]) for i in range(threads)]


def decode_on(device: torch.device, jpegs: Sequence[Tensor]) -> Tensor:
    """uint8 ``[count, 3, H, W]`` on the device: nvJPEG on a GPU."""
    return torch.stack(decode_jpeg(list(jpegs), device=device))


def measure_decoding(
    jpegs: list[bytes], shape: tuple[int, ...], device: torch.device, turns: int
) -> Row:
    """Frames per second of both decoders, and how far their pixels lie apart."""
    threads = len(os.sched_getaffinity(0))
    # A tensor may be written to, and bytes may not.
    encoded = [torch.frombuffer(bytearray(jpeg), dtype=torch.uint8) for jpeg in jpegs]
    pixels = np.empty((len(jpegs), *shape), np.uint8)
    rates: dict[str, list[float]] = {"card": [], "cpu": [], "one_thread": []}
    with ThreadPoolExecutor(threads) as pool:

        def in_threads() -> None:
            for future in decode_in_threads(jpegs, pixels, pool, threads):
                future.result()

        acts: dict[str, Callable[[], object]] = {
            "card": lambda: decode_on(device, encoded),
            "cpu": in_threads,
            "one_thread": lambda: decode_into(jpegs, pixels),
        }
        for turn in range(turns + 1):
            for name, act in acts.items():
                seconds = seconds_of(act, device)
                if turn:  # the first makes decoders and finds memory
                    rates[name].append(len(jpegs) / seconds)
    card = decode_on(device, encoded[:64]).permute(0, 2, 3, 1).cpu().numpy()
    off = np.abs(card.astype(np.int16) - pixels[:64])
    noise = float(np.mean(off.astype(np.float64) ** 2))
    typical = {f"{name}_frames_per_s": median(values) for name, values in rates.items()}
    return {
        "what": "jpeg",
        "frames": len(jpegs),
        "height": shape[0],
        "width": shape[1],
        "bytes_per_frame": sum(map(len, jpegs)) / len(jpegs),
        "threads": threads,
        **typical,
        "card_over_cpu": typical["card_frames_per_s"] / typical["cpu_frames_per_s"],
        "largest_difference": int(off.max()),
        "psnr_db": 10 * float(np.log10(255**2 / max(noise, 1e-6))),
    }


def seconds_of(act: Callable[[], object], device: torch.device) -> float:
    """Of one call, the device's work included."""
    wait(device)
    began = time.perf_counter()
    act()
    wait(device)
    return time.perf_counter() - began


# --- The ways of a batch --------------------------------------------------------------------------


def halves(batch: Tensor) -> list[Tensor]:
    """The clips of both views ``[B, 3, N, H, W]`` of a batch ``[B, 2, N, H, W, 3]``."""
    return [batch[:, view].permute(0, 4, 1, 2, 3) for view in (0, 1)]


def as_the_loop(batches: Iterator[Tensor], frames: int, device: torch.device) -> Feed:
    """``view_of`` of vididi/training/loop.py: each view's frames, as many as its order needs."""
    for batch in batches:
        parts = [batch.numpy()[:, view::2, : frames + order] for view, order in enumerate(PAIR)]
        yield [
            torch.from_numpy(part)
            .to(device, non_blocking=True)
            .flatten(0, 1)
            .permute(0, 4, 1, 2, 3)
            for part in parts
        ]


def copied(batches: Iterator[Tensor], device: torch.device) -> Feed:
    """In the stream of the step; from pinned memory the host does not wait."""
    for batch in batches:
        yield halves(batch.to(device, non_blocking=batch.is_pinned()))


def overlapped(batches: Iterator[Tensor], device: torch.device) -> Feed:
    """Each batch is on its way in a stream of its own while the step before it runs."""
    if device.type == "cpu":
        yield from copied(batches, device)
        return
    side = torch.cuda.Stream()

    def send() -> Tensor:
        with torch.cuda.stream(side):
            return next(batches).to(device, non_blocking=True)

    coming = send()
    while True:
        main = torch.cuda.current_stream()
        main.wait_stream(side)
        now, coming = coming, send()
        now.record_stream(main)  # its memory is not given away while the step reads it
        yield halves(now)


def decoded(
    jpegs: list[bytes], shape: tuple[int, ...], pool: ThreadPoolExecutor, threads: int, pin: bool
) -> Iterator[Tensor]:
    """Endless batches ``shape`` that threads decode, two ahead."""
    buffers = [torch.empty(shape, dtype=torch.uint8, pin_memory=pin) for _ in range(BUFFERS)]
    turn = cycle(buffers)
    ahead: deque[tuple[Tensor, list[Future]]] = deque()
    while True:
        while len(ahead) < 2:
            batch = next(turn)
            pixels = batch.flatten(0, 2).numpy()
            ahead.append((batch, decode_in_threads(jpegs, pixels, pool, threads)))
        batch, futures = ahead.popleft()
        for future in futures:
            future.result()
        yield batch


def step_seconds(step: Step, clips: list[Tensor], feed: Feed, count: int) -> list[float]:
    """Seconds of each of ``count`` steps with what it waited for its batch; as in training, the
    host reads something of every step.
    """
    clock, marks = Clock(step.device, waits=False), []
    for now in islice(feed, WARM_UP + count):
        clips[:] = now
        float(step(clock))
        marks.append(time.perf_counter())
    return list(np.diff(marks)[WARM_UP - 1 :])


class Ways:
    """The step, batches of the same pixels in ordinary, pinned and device memory, and the feeds."""

    def __init__(self, case: Case, jpegs: list[bytes], pool: ThreadPoolExecutor) -> None:
        self.case, self.device, self.gpu = case, case.device, case.device.type == "cuda"
        self.step = case.step(WAYS["bf16"])
        height, width = case.setting.source
        frames = case.setting.frames + max(PAIR)
        shape = case.setting.pairs, 2, frames, height, width, 3
        threads = max(1, len(os.sched_getaffinity(0)) - 1)  # one core is the training loop's

        def decode(pin: bool) -> Iterator[Tensor]:
            return decoded(jpegs, shape, pool, threads, pin)

        self.batch = next(decode(pin=False))
        pinned = self.batch.pin_memory() if self.gpu else self.batch
        resident = self.batch.to(self.device)
        self.feeds: dict[str, Callable[[], Feed]] = {
            "resident": lambda: cycle([halves(resident)]),
            "loop": lambda: as_the_loop(cycle([self.batch]), case.setting.frames, self.device),
            "pageable": lambda: copied(cycle([self.batch]), self.device),
            "pinned": lambda: copied(cycle([pinned]), self.device),
            "pinned_overlapped": lambda: overlapped(cycle([pinned]), self.device),
            "decoded_overlapped": lambda: overlapped(decode(pin=self.gpu), self.device),
        }

    def measure(self, turns: int, count: int) -> list[Row]:
        """A row for each way, by turns."""
        seconds: dict[str, list[float]] = {name: [] for name in self.feeds}
        for _ in range(turns):
            for name, feed in self.feeds.items():
                seconds[name] += step_seconds(self.step, self.case.clips, feed(), count)
        typical = {name: median(values) for name, values in seconds.items()}
        resident = typical["resident"]
        return [
            {
                "what": "step",
                "way": name,
                "ms": 1e3 * value,
                "wait_share": (value - resident) / value,
                "batch_mb": self.batch.nbytes / 1e6,
                "pinned": self.gpu and name.endswith(("pinned", "overlapped")),
            }
            for name, value in typical.items()
        ]

    def trace(self, name: str, count: int = 3) -> list[Row]:
        """The large copies of some steps, in milliseconds from the first one's begin."""
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.gpu else [])]
        with profile(activities=activities) as profiled:
            step_seconds(self.step, self.case.clips, self.feeds[name](), count)
            wait(self.device)
        copies, kernels = [], []
        for event in profiled.events():
            if of_device(event, self.device):
                span = event.time_range.start / 1e3, event.time_range.end / 1e3
                if event.name.startswith(COPIES[self.device.type]):
                    copies.append(span)
                elif not event.name.startswith("Mem"):
                    kernels.append(span)
        return copy_table(name, copies, kernels)


def copy_table(
    way: str, copies: list[tuple[float, float]], kernels: list[tuple[float, float]]
) -> list[Row]:
    """Copies of at least half the longest one's time, each with how long kernels ran meanwhile."""
    longest = max((end - start for start, end in copies), default=0.0)
    large = sorted(span for span in copies if span[1] - span[0] >= longest / 2)
    return [
        {
            "way": way,
            "start_ms": start - large[0][0],
            "ms": end - start,
            "kernels_meanwhile_ms": covered((start, end), kernels),
        }
        for start, end in large[:20]
    ]


def covered(span: tuple[float, float], others: list[tuple[float, float]]) -> float:
    """How much of a span (start, end) lies in any of the others."""
    total, at = 0.0, span[0]
    for start, end in sorted(others):
        start, end = max(start, at), min(end, span[1])
        if end > start:
            total, at = total + end - start, end
    return total


# --- The run --------------------------------------------------------------------------------------


def copy_rates(batch: Tensor, device: torch.device, turns: int) -> Row:
    """Bytes per second of one batch to the device, out of ordinary and of pinned memory."""
    sources = {"pageable": batch, "pinned": batch.pin_memory() if device.type == "cuda" else batch}
    rates = {}
    for name, source in sources.items():

        def copy(source: Tensor = source) -> Tensor:
            return source.to(device, copy=True)

        fastest = min(seconds_of(copy, device) for _ in range(turns + 1))
        rates[f"{name}_gb_per_s"] = batch.nbytes / 1e9 / fastest
    return {"what": "copy", "batch_mb": batch.nbytes / 1e6, **rates}


def main() -> None:
    """Measure, write after each part to ``--out``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--shards", type=Path, help="a prepared set instead of made-up frames")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6, help="of each way in each turn")
    parser.add_argument("--quick", action="store_true", help="r3d_tiny, few small frames")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.steps = 2
    device = torch.device(arguments.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    settings = {name: value for name, value in vars(arguments).items() if name != "shards"}
    frames = "prepared" if arguments.shards else "made up"
    report = Report(
        arguments.out, device, {**settings, "out": str(arguments.out), "frames": frames}
    )

    case = Case("r3d_18", "vicreg", arguments.quick, device)
    count = case.setting.pairs * 2 * (case.setting.frames + max(PAIR))
    jpegs = (
        prepared_frames(arguments.shards, count)
        if arguments.shards
        else made_up_frames(count, *case.setting.source)
    )
    shape = simplejpeg.decode_jpeg(jpegs[0]).shape
    case.setting = case.setting._replace(source=shape[:2])
    show(report, measure_decoding(jpegs, shape, device, arguments.turns))
    free(device)
    with ThreadPoolExecutor() as pool:
        ways = Ways(case, jpegs, pool)
        show(report, copy_rates(ways.batch, device, arguments.turns))
        show(report, *ways.measure(arguments.turns, arguments.steps))
        report.content["copies"] = [row for name in TRACED for row in ways.trace(name)]
    report.write()


def show(report: Report, *rows: Row) -> None:
    """Print and keep rows."""
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    report.add(*rows)


if __name__ == "__main__":
    main()
