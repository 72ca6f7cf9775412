"""The list of ViDiDi's E.1 over a batch of clips, ours beside torchvision's and kornia's.

    python benchmarks/augmentation.py --out benchmarks/results/augmentation.json

Clips of 150 x 200 pixels become 112 x 112, on one thread, by turns; what counts is the median CPU
time. torchvision's transforms have a clip at a time and crop while the pixels are bytes, which is
their faster order; kornia's (left out where it is not installed) have the whole batch as floats.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from by_turns import cpu_seconds, times_as_fast
from torch import Tensor
from torchvision.transforms import v2

from vididi.draws import Use, key
from vididi.provenance import measured_by
from vididi.views import AUGMENTATIONS

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def of_torchvision(size: int) -> v2.Compose:
    """The list for one clip, uint8 ``[T, 3, H, W]`` to float32 ``[T, 3, size, size]``."""
    jitter = v2.ColorJitter(0.2, 0.2, 0.2, 0.05)
    return v2.Compose(
        [
            v2.RandomResizedCrop((size, size), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.RandomApply([v2.GaussianBlur(3, (0.1, 2.0))]),
            v2.RandomApply([jitter], p=0.8),
            v2.RandomGrayscale(0.5),
            v2.Normalize(MEAN, STD),
        ]
    )


def of_kornia(size: int) -> Callable[[Tensor], Tensor]:
    """The list for a batch, float32 ``[B, 3, T, H, W]`` to ``[B, 3, T, size, size]``."""
    from kornia import augmentation as kornia

    return kornia.VideoSequential(
        kornia.RandomResizedCrop((size, size), scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)),
        kornia.RandomHorizontalFlip(p=0.5),
        kornia.RandomGaussianBlur((3, 3), (0.1, 2.0), p=0.5),
        kornia.ColorJitter(0.2, 0.2, 0.2, 0.05, p=0.8),
        kornia.RandomGrayscale(p=0.5),
        kornia.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
        data_format="BCTHW",
        same_on_frame=True,
    )


def contenders(clips: Tensor, size: int) -> dict[str, Callable[[int], Any]]:
    """What each does to the batch in one turn."""
    ours, plain = AUGMENTATIONS["vididi"](size), of_torchvision(size)
    sizes = np.broadcast_to(np.array(clips.shape[-2:]), (len(clips), 2))
    numbers = np.arange(len(clips))
    ways: dict[str, Callable[[int], Any]] = {
        "ours": lambda turn: ours(clips, sizes, key(Use.AUGMENT, 0, turn, numbers, 0), 0),
        "torchvision": lambda turn: torch.stack([plain(clip.transpose(0, 1)) for clip in clips]),
    }
    if importlib.util.find_spec("kornia"):
        kornia = of_kornia(size)
        ways["kornia"] = lambda turn: kornia(clips.float().div_(255))
    return ways


def measure(clips: Tensor, size: int, turns: int) -> dict[str, Any]:
    """CPU seconds of each, and how many times as fast ours is."""
    seconds = cpu_seconds(contenders(clips, size), turns)
    return {
        "seconds": {name: median(times) for name, times in seconds.items()},
        "times_as_fast": times_as_fast(seconds, "ours"),
    }


def smooth_clips(count: int, frames: int, height: int, width: int) -> Tensor:
    """Seeded uint8 ``[count, 3, frames, height, width]``, smooth as pictures are."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3 * frames, height // 10, width // 10, generator=generator)
    whole = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    pixels = whole.clamp_(0, 1).mul_(255).to(torch.uint8)
    return pixels.view(count, 3, frames, height, width)


def main() -> None:
    """Measure, print, write to ``--out``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="4 clips, one turn")
    parser.add_argument("--out", type=Path, help="a JSON file")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.clips, arguments.turns = 4, 1
    torch.set_num_threads(1)
    torch.manual_seed(0)
    clips = smooth_clips(arguments.clips, arguments.frames, 150, 200)
    measured = measure(clips, arguments.size, arguments.turns)
    settings = {name: getattr(arguments, name) for name in ("clips", "frames", "size", "turns")}
    for name, times in measured["times_as_fast"].items():
        print(f"augmentation, {arguments.clips} clips: {times:.2f} times as fast as {name}")
    if arguments.out:
        content = {**measured_by(), "settings": settings, **measured}
        arguments.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
