"""Ways to take a two-view training step on a GPU, by turns: the plain one, ours in float32 and
bf16, in either memory format, both views in one pass, compiled, and as a CUDA graph.

    python benchmarks/gpu_steps.py --cases r3d_18:vicreg r3d_18:byol
    --out benchmarks/results/gpu_steps_r3d_18.json

The plain step is that of benchmarks/train_step.py: torchvision's transforms clip by clip, float32,
contiguous, torch's own settings (TensorFloat-32 in convolutions). The other ways are rows of WAYS.
A row is the median of ``--turns`` steps after two that are not counted; the first of these compiles
and captures, and its seconds stand in the row. A step is timed whole, with nothing waited for
inside; its parts come from one step more. ``of_bf16_rate`` is the networks' arithmetic (forward and
backward, torch's FlopCounterMode) over the time and over the card's own speed in bf16, the faster
of a large matrix product and a large 3D convolution. Of the first case the ten kernels that take
most of the bf16 step stand in ``kernels``.

Counts: one plain step of 64 pairs augments 128 clips one by one, some 60 launches each, and takes
about as long as ten of ours, so turns are few.
"""

from __future__ import annotations

import argparse
import gc
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from by_turns import median_ratio
from gpu_report import Report, Row
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from train_step import PAIR, Clock, Step, make_objective, our_views, plain_views, top_speed

from vididi.backbones import Backbone
from vididi.backbones.memory_formats import OF_TORCH, MemoryFormat
from vididi.backbones.view_passes import ViewPasses
from vididi.objectives import OBJECTIVES

WARM_UP = 2
PRINTED = ("backbone", "objective", "way", "ms", "over_plain", "over_bf16", "left_out", "error")


class Way(NamedTuple):
    """How a step is taken. ``views``: plain or ours. ``run``: eager, compiled (the backbones, which
    all objectives share; heads and loss are small) or captured. ``passes``: of the network for the
    two views.
    """

    views: str
    precision: str
    layout: MemoryFormat
    run: str
    passes: ViewPasses = "two"


WAYS = {
    "plain": Way("plain", "fp32", "contiguous", "eager"),
    "fp32": Way("ours", "fp32", "channels_last", "eager"),
    "bf16": Way("ours", "bf16", "channels_last", "eager"),
    "bf16_contiguous": Way("ours", "bf16", "contiguous", "eager"),
    "bf16_one_pass": Way("ours", "bf16", "channels_last", "eager", "one"),
    "bf16_cuda_graph": Way("ours", "bf16", "channels_last", "captured"),
    "bf16_compiled": Way("ours", "bf16", "channels_last", "compiled"),
}
# A graph cannot be captured while the host reads or sends something.
NOT_CAPTURED = dict.fromkeys(("corp_f", "corp_m"), "its starts come from the host in every step")


class Setting(NamedTuple):
    """Sizes. ``source``: height and width of the stored frames."""

    pairs: int
    frames: int
    pixels: int
    source: tuple[int, int]


SETTINGS = {
    "r3d_18": Setting(64, 8, 112, (150, 200)),
    "r3d_50": Setting(16, 16, 224, (256, 340)),
}
SMALL_CARD_GIB = 100  # the plain step of 16 pairs of r3d_50 takes some 50 GiB, a graph 25 more
QUICK = Setting(4, 4, 16, (20, 28))


def setting_of(backbone: str, quick: bool, device: torch.device) -> Setting:
    """What a backbone is measured on; half the pairs of r3d_50 on cards of little memory."""
    if quick:
        return QUICK
    setting = SETTINGS[backbone]
    memory = torch.cuda.mem_get_info()[1] / 2**30 if device.type == "cuda" else 0.0
    half = backbone == "r3d_50" and memory < SMALL_CARD_GIB
    return setting._replace(pairs=setting.pairs // 2) if half else setting


class Captured(Step):
    """A step whose forward and backward are one CUDA graph, captured at its first call.

    The views are made outside of it, as their draws are the host's, and so is the optimiser's step,
    as its rate is a number of Python's.
    """

    def backward(self, views: list[Tensor], clock: Clock) -> Tensor:
        """Replay the graph on these views; the gradients are those of its own memory."""
        if not hasattr(self, "graph"):
            self._capture(views)
        with clock.part("backward"):
            for own, view in zip(self.inputs, views, strict=True):
                own.copy_(view)
            self.graph.replay()
        return self.loss

    def _capture(self, views: list[Tensor]) -> None:
        self.inputs = [view.clone() for view in views]
        side, main = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(main)
        with torch.cuda.stream(side):  # kernels are chosen and libraries loaded before a capture
            for _ in range(3):
                self.optimiser.zero_grad(set_to_none=True)
                self.loss_of(self.inputs).backward()
        main.wait_stream(side)
        # Without gradients, backward in the graph writes them where it would else add to them.
        self.optimiser.zero_grad(set_to_none=True)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            loss = self.loss_of(self.inputs)
            loss.backward()
        self.loss = loss.detach()


class Case:
    """What the ways of a backbone and objective have in common: sizes, and clips on the device."""

    def __init__(
        self,
        backbone: str,
        objective: str,
        quick: bool,
        device: torch.device,
        compiler: str = "inductor",
    ) -> None:
        self.setting = setting_of(backbone, quick, device)
        self.backbone, self.objective = "r3d_tiny" if quick else backbone, objective
        self.device, self.compiler = device, compiler
        self.per_video = OBJECTIVES[objective].default_clips
        # The same number of clips for every objective.
        self.videos = self.setting.pairs * 2 // self.per_video
        generator = torch.Generator().manual_seed(0)
        shape = (self.setting.pairs, 3, self.setting.frames + max(PAIR), *self.setting.source)
        self.clips = [
            torch.randint(256, shape, dtype=torch.uint8, generator=generator).to(device)
            for _ in PAIR
        ]

    def step(self, way: Way) -> Step:
        """A step with weights and an optimiser of its own."""
        layout = OF_TORCH[way.layout]
        network = make_objective(self.objective, self.backbone, self.videos, self.device)
        network.to(memory_format=layout)  # type: ignore[call-overload]
        network.view_passes = way.passes
        sizes = self.setting.pixels, self.setting.frames
        views = (
            plain_views(self.clips, *sizes)
            if way.views == "plain"
            else our_views(self.clips, *sizes, layout)
        )
        if way.run == "compiled":
            for module in network.modules():
                if isinstance(module, Backbone):  # BYOL has two
                    module.compile(dynamic=False, backend=self.compiler)
        starts = torch.arange(self.per_video).repeat(self.videos, 1)
        kind = Captured if way.run == "captured" else Step
        return kind(network, views, starts, way.precision, self.device)

    def why_left_out(self, way: Way) -> str | None:
        """Why a way cannot be measured here; None if it can."""
        if way.run != "captured":
            return None
        return "no GPU" if self.device.type == "cpu" else NOT_CAPTURED.get(self.objective)


def wait(device: torch.device) -> None:
    """Until the device has done everything."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def timed(step: Step) -> tuple[float, float]:
    """Seconds of one step, and its loss."""
    wait(step.device)
    began = time.perf_counter()
    loss = step(Clock(step.device, waits=False))
    wait(step.device)
    return time.perf_counter() - began, float(loss)


def free(device: torch.device) -> None:
    """Give back what nothing refers to."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def start_ways(case: Case, names: list[str]) -> tuple[dict[str, Step], dict[str, Row]]:
    """The steps that run, warmed up, and the beginning of each way's row; one that fails has its
    error there and leaves the others alone.
    """
    steps: dict[str, Step] = {}
    rows: dict[str, Row] = {}
    for name in names:
        row = rows[name] = {"backbone": case.backbone, "objective": case.objective, "way": name}
        if reason := case.why_left_out(WAYS[name]):
            row["left_out"] = reason
            continue
        try:
            steps[name], (row["first_s"], row["first_loss"]) = warmed_up(case, WAYS[name])
        except Exception as error:  # memory, a compiler, a capture: each has errors of its own
            row["error"] = f"{type(error).__name__}: {error}".replace("\n", " ")[:300]
        free(case.device)  # outside of the handler, whose error holds the step that failed
    return steps, rows


def warmed_up(case: Case, way: Way) -> tuple[Step, tuple[float, float]]:
    """A step that has run WARM_UP times, with the seconds and the loss of the first."""
    step = case.step(way)
    first = timed(step)
    for _ in range(WARM_UP - 1):
        timed(step)
    return step, first


def measure(case: Case, names: list[str], turns: int) -> tuple[list[Row], dict[str, Step]]:
    """A row for each way, and the steps."""
    steps, rows = start_ways(case, names)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(turns):
        for name, step in steps.items():
            seconds[name].append(timed(step)[0])
    # As the captured one replays, its arithmetic cannot be counted; it is the same.
    flops = next((s.flops() for s in steps.values() if type(s) is Step), 0)
    for name, step in steps.items():
        typical = median(seconds[name])
        rows[name] |= {
            **case.setting._asdict(),
            "ms": 1e3 * typical,
            "turns_ms": [1e3 * value for value in seconds[name]],
            "over_plain": speed_over(seconds, name, "plain"),
            "over_bf16": speed_over(seconds, name, "bf16"),
            "tflop": flops / 1e12,
            "of_bf16_rate": flops / typical / top_speed(case.device, "bf16"),
            **parts_and_memory(step),
        }
    return list(rows.values()), steps


def speed_over(seconds: dict[str, list[float]], name: str, other: str) -> float | None:
    """How many times as fast a way is as another: the median over turns; None without the other."""
    if other not in seconds:
        return None
    return median_ratio(seconds[other], seconds[name])


def parts_and_memory(step: Step) -> Row:
    """Milliseconds of each part of a step, and the most memory that it had."""
    if step.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    clock = Clock(step.device)
    step(clock)
    gpu = step.device.type == "cuda"
    return {
        "parts_ms": {name: 1e3 * value for name, value in clock.seconds.items()},
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if gpu else None,
    }


def slowest_kernels(step: Step, count: int = 10) -> list[Row]:
    """The kernels (on a CPU, operations) that take most of a step, with their share of all."""
    gpu = step.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    with profile(activities=activities) as profiled:
        whole, _ = timed(step)
    field = "self_device_time_total" if gpu else "self_cpu_time_total"
    events = [event for event in profiled.key_averages() if of_device(event, step.device)]
    total = sum(getattr(event, field) for event in events)
    events.sort(key=lambda event: -getattr(event, field))
    return [
        {
            "kernel": event.key[:160],
            "calls": event.count,
            "ms": getattr(event, field) / 1e3,
            "share": getattr(event, field) / total,
        }
        for event in events[:count]
    ] + [{"kernel": "all", "ms": total / 1e3, "share_of_the_step": total / 1e6 / whole}]


def of_device(event: Any, device: torch.device) -> bool:
    """Whether an event of a profiler is the device's own work; the regions that the optimiser marks
    are shown as such and would count twice.
    """
    kind = DeviceType.CUDA if device.type == "cuda" else DeviceType.CPU
    return event.device_type == kind and not event.is_user_annotation


def main() -> int:
    """Measure each case, write after each to ``--out``; status 1 where a way failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--cases", nargs="+", required=True, metavar="BACKBONE:OBJECTIVE")
    default = ["plain", "fp32", "bf16", "bf16_contiguous", "bf16_one_pass", "bf16_cuda_graph"]
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=default)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=600, help="begin no case that ends later")
    parser.add_argument("--compiler", choices=["inductor", "aot_eager"], default="inductor")
    parser.add_argument("--quick", action="store_true", help="r3d_tiny and 16 pixels")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    began, device = time.perf_counter(), torch.device(arguments.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    report = Report(arguments.out, device, settings_of(arguments))
    report.content["bf16_tflop_per_s"] = top_speed(device, "bf16") / 1e12
    longest = 0.0
    for text in arguments.cases:
        backbone, _, objective = text.partition(":")
        spent = time.perf_counter() - began
        if spent + longest > arguments.seconds:
            report.add({"backbone": backbone, "objective": objective, "left_out": "no time left"})
            continue
        case = Case(backbone, objective, arguments.quick, device, arguments.compiler)
        rows, steps = measure(case, arguments.ways, arguments.turns)
        if "kernels" not in report.content and "bf16" in steps:
            report.content["kernels"] = slowest_kernels(steps["bf16"])
        report.add(*rows)
        for row in rows:
            print("  ".join(str(row[name]) for name in PRINTED if name in row), flush=True)
        steps.clear()
        free(device)
        longest = max(longest, time.perf_counter() - began - spent)
    return int(report.failed)


def settings_of(arguments: argparse.Namespace) -> Row:
    """The arguments, and what torch does with float32."""
    tf32 = {
        "conv": torch.backends.cudnn.allow_tf32,
        "matmul": torch.backends.cuda.matmul.allow_tf32,
    }
    return {**vars(arguments), "out": str(arguments.out), "tensor_float_32": tf32}


if __name__ == "__main__":
    raise SystemExit(main())
