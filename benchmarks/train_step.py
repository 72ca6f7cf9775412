"""The two-view training step of objectives and backbones, in ratios to a plain eager step.

Torch only; each step is taken apart into its parts.

    python benchmarks/train_step.py --out benchmarks/results/train_step_cpu.json
    python benchmarks/train_step.py --device cuda --precision bf16 --batch 64 --out
    benchmarks/results/train_step_cuda.json

The plain step is what a direct port does: torchvision's transforms clip by clip, cropped while the
pixels are bytes, then float32, the default memory format, torch's own choice of kernels, a pass of
the network for each view. Ours augments the batch at once, has the backbone's memory format
(vididi/backbones/memory_formats.py), asks for oneDNN's kernels on CPUs (cpu_kernels.py), takes both
views in one pass where that is faster (view_passes.py) and, with ``--precision bf16``, runs under
autocast. Both have the same objective, backbone, optimiser and pair (1, 0), and are
measured by turns in one process.
Utilisation is the arithmetic of the networks (counted by torch's FlopCounterMode, forward and
backward) over time and over the speed of the faster of a large matrix product and a large 3D
convolution of the same precision, measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from augmentation import of_torchvision
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vididi.backbones import BACKBONES
from vididi.backbones.cpu_kernels import ask_for_onednn
from vididi.backbones.memory_formats import OF_TORCH, fastest
from vididi.backbones.view_passes import one_pass_is_faster
from vididi.draws import Use, key
from vididi.objectives import OBJECTIVES, Objective
from vididi.optim import LARS
from vididi.views import AUGMENTATIONS, differentiate

PAIR = (1, 0)
PARTS = ("augment", "differentiate", "forward", "backward", "optimiser")


class Clock:
    """Seconds per named part; waits for the device at both ends of each, unless ``waits`` is off:
    then parts are only named, and a step runs as it does in training.
    """

    def __init__(self, device: torch.device, waits: bool = True) -> None:
        self.device, self.seconds = device, dict.fromkeys(PARTS, 0.0)
        self.waits = waits and device.type == "cuda"

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the seconds that the block takes to the part ``name``."""
        self._wait()
        began = time.perf_counter()
        yield
        self._wait()
        self.seconds[name] += time.perf_counter() - began

    def _wait(self) -> None:
        if self.waits:
            torch.cuda.synchronize()


class Step:
    """One model with its optimiser and its way to make views."""

    def __init__(
        self,
        objective: Objective,
        views: Callable[[Clock], list[Tensor]],
        starts: Tensor,
        precision: str,
        device: torch.device,
    ) -> None:
        self.objective, self.views, self.starts, self.precision, self.device = (
            objective,
            views,
            starts,
            precision,
            device,
        )
        self.optimiser = LARS([p for p in objective.parameters() if p.requires_grad], lr=0.01)

    def __call__(self, clock: Clock) -> Tensor:
        """One step: views, forward, backward, optimiser, each timed by ``clock``; its loss."""
        loss = self.backward(self.views(clock), clock)
        with clock.part("optimiser"):
            self.optimiser.step()
            self.objective.after_step(0, 10)
        return loss

    def backward(self, views: list[Tensor], clock: Clock) -> Tensor:
        """The loss of two views, without its graph; every parameter has its gradient."""
        with clock.part("forward"):
            loss = self.loss_of(views)
        with clock.part("backward"):
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
        return loss.detach()

    def loss_of(self, views: list[Tensor]) -> Tensor:
        """The loss of two views, in the step's precision."""
        bf16 = self.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            return self.objective(*views, self.starts)["loss"]

    def flops(self) -> int:
        """Floating point operations of one forward and backward of the networks."""
        clock = Clock(self.device)
        views = self.views(clock)  # those on a GPU are matrix products too, which are not meant
        with FlopCounterMode(display=False) as counter:
            self.backward(views, clock)
        return counter.get_total_flops()


def make_objective(name: str, backbone: str, videos: int, device: torch.device) -> Objective:
    """An objective of ``name`` on a backbone with its default options, in training mode."""
    torch.manual_seed(0)
    network, width = BACKBONES[backbone]()
    make: Callable[..., Objective] = OBJECTIVES[name]
    options = {"group": min(8, videos)} if name == "corp_m" else {}
    return make(network, width, **options).to(device).train()


def network_seconds(objective: Objective, views: list[Tensor], device: torch.device) -> float:
    """How long forward and backward of two views of pairs of clips take."""
    clock = Clock(device)
    with clock.part("forward"):
        loss = objective(*views, torch.zeros(len(views[0]), 2))["loss"]
    with clock.part("backward"):
        loss.backward()
    return sum(clock.seconds.values())


def plain_views(clips: list[Tensor], size: int, frames: int) -> Callable[[Clock], list[Tensor]]:
    """torchvision's transforms with ViDiDi's list (E.1), one clip after another."""
    transform = of_torchvision(size)

    def make(clock: Clock) -> list[Tensor]:
        views = []
        for pixels, order in zip(clips, PAIR, strict=True):
            with clock.part("augment"):
                augmented = torch.stack(
                    [transform(clip.transpose(0, 1)) for clip in pixels[:, :, : frames + order]]
                ).transpose(1, 2)
            with clock.part("differentiate"):
                views.append(torch.diff(augmented, n=order, dim=2).contiguous())
        return views

    return make


def our_views(
    clips: list[Tensor], size: int, frames: int, layout: torch.memory_format
) -> Callable[[Clock], list[Tensor]]:
    """The project's views: the whole batch at once, in the backbone's memory format."""
    augment = AUGMENTATIONS["vididi"](size)
    sizes = np.broadcast_to(np.array(clips[0].shape[-2:]), (len(clips[0]), 2))

    def make(clock: Clock) -> list[Tensor]:
        views = []
        for view, (pixels, order) in enumerate(zip(clips, PAIR, strict=True)):
            with clock.part("augment"):
                augmented = augment(
                    pixels[:, :, : frames + order],
                    sizes,
                    key(Use.AUGMENT, 0, 0, np.arange(len(pixels)), view),
                    view,
                )
            with clock.part("differentiate"):
                views.append(differentiate(augmented, order).contiguous(memory_format=layout))
        return views

    return make


def measure(
    name: str, backbone: str, device: torch.device, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Both steps of one objective and backbone, by turns."""
    per_video = OBJECTIVES[name].default_clips
    videos = arguments.batch * 2 // per_video  # the same number of clips for every objective
    generator = torch.Generator().manual_seed(0)
    shape = (arguments.batch, 3, arguments.frames + max(PAIR), 150, 200)
    clips = [
        torch.randint(256, shape, dtype=torch.uint8, generator=generator).to(device) for _ in PAIR
    ]
    starts = torch.arange(per_video).repeat(videos, 1)
    ours = make_objective(name, backbone, videos, device)
    layout = OF_TORCH[fastest(backbone, arguments.size, device.type == "cuda")]
    ours.to(memory_format=layout)  # type: ignore[call-overload]
    numbers = arguments.batch * arguments.frames * arguments.size**2
    if one_pass_is_faster(backbone, numbers, device.type == "cuda"):
        ours.view_passes = "one"
    plain = make_objective(name, backbone, videos, device)
    ask_for_onednn(plain, wanted=False)
    steps = {
        "plain": Step(
            plain,
            plain_views(clips, arguments.size, arguments.frames),
            starts,
            "fp32",
            device,
        ),
        "ours": Step(
            ours,
            our_views(clips, arguments.size, arguments.frames, layout),
            starts,
            arguments.precision,
            device,
        ),
    }
    flops = steps["plain"].flops()
    times = run_by_turns(steps, device, arguments.steps)
    totals = {which: median(sum(parts.values()) for parts in runs) for which, runs in times.items()}
    parts = {
        which: {part: median(run[part] for run in runs) for part in PARTS}
        for which, runs in times.items()
    }
    return {
        "objective": name,
        "backbone": backbone,
        "videos": videos,
        "clips_per_video": per_video,
        "plain_seconds": totals["plain"],
        "ours_seconds": totals["ours"],
        "ratio": totals["ours"] / totals["plain"],
        "parts_over_plain_step": {
            part: {which: parts[which][part] / totals["plain"] for which in steps} for part in PARTS
        },
        "tflop_per_step": flops / 1e12,
        "utilisation": {
            "plain": flops / totals["plain"] / top_speed(device, "fp32"),
            "ours": flops / totals["ours"] / top_speed(device, arguments.precision),
        },
    }


def run_by_turns(
    steps: dict[str, Step], device: torch.device, count: int
) -> dict[str, list[dict[str, float]]]:
    """Seconds of each part in each of ``count`` turns, after one that is not counted."""
    times: dict[str, list[dict[str, float]]] = {which: [] for which in steps}
    for turn in range(count + 1):
        for which, step in steps.items():
            clock = Clock(device)
            step(clock)
            if turn > 0:  # the first pass chooses kernels and allocates
                times[which].append(clock.seconds)
    return times


_SPEEDS: dict[tuple[str, str], float] = {}


def top_speed(device: torch.device, precision: str) -> float:
    """FLOP/s of the faster of a large square matrix product and a large 3D convolution."""
    if (device.type, precision) not in _SPEEDS:
        size, width = (8192, 256) if device.type == "cuda" else (1024, 64)
        kind = {"device": device, "dtype": torch.bfloat16 if precision == "bf16" else torch.float32}
        a = torch.randn(size, size, **kind)
        clips = torch.randn(8, width, 8, 28, 28, **kind).contiguous(
            memory_format=torch.channels_last_3d
        )
        kernel = torch.randn(width, width, 3, 3, 3, **kind).contiguous(
            memory_format=torch.channels_last_3d
        )
        candidates: list[Callable[[], Tensor]] = [
            lambda: a @ a,
            lambda: torch.nn.functional.conv3d(clips, kernel, padding=1),
        ]
        _SPEEDS[device.type, precision] = max(speed(candidate, device) for candidate in candidates)
    return _SPEEDS[device.type, precision]


def speed(operation: Callable[[], Tensor], device: torch.device) -> float:
    """FLOP/s of an operation in the fastest of several calls."""
    with FlopCounterMode(display=False) as counter:
        operation()
    seconds = []
    for _ in range(8):
        clock = Clock(device)
        with clock.part("forward"):
            operation()
        seconds.append(clock.seconds["forward"])
    return counter.get_total_flops() / min(seconds)


def main() -> None:
    """Measure each backbone with each objective, print a line for each, write to ``--out``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--precision",
        choices=["fp32", "bf16"],
        default="fp32",
        help="of our step; the plain one is fp32",
    )
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES))
    parser.add_argument(
        "--backbones",
        nargs="+",
        choices=BACKBONES,
        help="all on a GPU; r3d_tiny and r3d_18 on a CPU",
    )
    parser.add_argument("--batch", type=int, default=16, help="pairs of clips")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.precision == "bf16" and arguments.device == "cpu":
        parser.error("--precision: 'bf16' is for GPUs")
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    backbones = arguments.backbones or (
        list(BACKBONES) if arguments.device == "cuda" else ["r3d_tiny", "r3d_18"]
    )
    rows = []
    print(
        f"{'objective':9} {'backbone':12} {'plain s':>8} {'ours s':>8} {'ratio':>6}  utilisation "
        " parts of ours over the plain step"
    )
    for backbone in backbones:
        for name in arguments.objectives:
            row = measure(name, backbone, device, arguments)
            rows.append(row)
            parts = "  ".join(
                f"{part} {share['ours']:.3f}"
                for part, share in row["parts_over_plain_step"].items()
            )
            seconds = f"{row['plain_seconds']:8.3f} {row['ours_seconds']:8.3f} {row['ratio']:6.3f}"
            print(
                f"{name:9} {backbone:12} {seconds}  {row['utilisation']['plain']:.2f}"
                f" {row['utilisation']['ours']:.2f}  {parts}",
                flush=True,
            )
    if arguments.out:
        settings = {name: value for name, value in vars(arguments).items() if name != "out"}
        machine = (
            torch.cuda.get_device_name()
            if device.type == "cuda"
            else f"{platform.processor() or platform.machine()}, CPU"
        )
        content = {
            "machine": machine,
            "torch": torch.__version__,
            "settings": {**settings, "backbones": backbones},
            "rows": rows,
        }
        arguments.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
