"""How far apart the two clips of a video are, by each sampling (CVRL Figure 3): ``python
analysis/intervals.py --out intervals.png``.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vididi.analysis.plots import COLOURS, image_path, look, pyplot, run_main, save
from vididi.data.sampling import SAMPLINGS, start_count
from vididi.draws import Use, key
from vididi.errors import ConfigError
from vididi.terminal import Parser

# A title, the sampling, its options. CVRL's figure has three falling densities, a flat one and two
# rising ones.
PANELS: list[tuple[str, str, dict[str, Any]]] = [
    ("interval, decreasing (CVRL)", "interval", {}),
    ("interval, decreasing, power 0.5", "interval", {"power": 0.5}),
    ("interval, decreasing, power 2", "interval", {"power": 2.0}),
    ("interval, uniform", "interval", {"shape": "uniform"}),
    ("interval, increasing", "interval", {"shape": "increasing"}),
    ("interval, increasing, power 2", "interval", {"shape": "increasing", "power": 2.0}),
    ("uniform (ViDiDi)", "uniform", {}),
    ("min_offset (CORP)", "min_offset", {}),
]
VIDEOS = 200_000
BINS = 40


def main(argv: list[str] | None = None) -> int:
    parser = Parser(
        description=(
            "P(t), t being how far apart the starts of two clips are, by each sampling (CVRL"
            " Figure 3)."
        )
    )
    parser.add_argument("--frames", type=int, default=250, help="frames of a video (default: 250)")
    parser.add_argument("--length", type=int, default=8, help="frames of a clip (default: 8)")
    parser.add_argument(
        "--stride", type=int, default=3, help="one source frame of every STRIDE (default: 3)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=image_path, required=True, metavar="FILE.png", help="the picture"
    )
    return run_main(_draw, parser, argv)


def _draw(arguments: argparse.Namespace) -> None:
    plt = pyplot()
    frames, length, stride = arguments.frames, arguments.length, arguments.stride
    if min(frames, length, stride) < 1:
        raise ConfigError("--frames, --length, --stride: must be at least 1")
    starts = int(start_count(np.array([frames]), length, stride)[0])
    if starts < BINS:
        raise ConfigError(
            f"--frames: {frames} leave {starts} starts for a clip, too few for a picture of {BINS}"
            " steps"
        )
    with look():
        figure, axes = plt.subplots(
            2, len(PANELS) // 2, figsize=(2.3 * len(PANELS) / 2, 3.6), sharex=True, sharey=True
        )
        for axis, (title, name, options) in zip(axes.flat, PANELS, strict=True):
            found = intervals(name, options, frames, length, stride, arguments.seed)
            axis.stairs(
                *density(found, starts),
                fill=True,
                color=COLOURS[4],
                edgecolor=COLOURS[0],
                linewidth=0.5,
            )
            axis.set_title(title)
        figure.supxlabel(
            f"interval t over the {starts} possible starts of a clip ({frames} frames)", fontsize=9
        )
        figure.supylabel("P(t)", fontsize=9)
        save(figure, arguments.out)


def intervals(
    name: str, options: dict[str, Any], frames: int, length: int, stride: int, seed: int
) -> NDArray[np.int64]:
    """How many frames apart the two clips of each of many videos begin, drawn as pretraining draws
    them.
    """
    keys = key(Use.CLIP, seed, 0, np.arange(VIDEOS)[:, None], np.arange(2))
    starts = SAMPLINGS[name](**options)(keys, np.full(VIDEOS, frames), length, stride)
    return np.abs(starts[:, 1] - starts[:, 0])


def density(
    found: NDArray[np.int64], starts: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """P(t) over t / starts in BINS steps, and their edges. A step is of whole frames, and counts by
    how many it has.
    """
    edges = np.rint(np.linspace(0, starts, BINS + 1)).astype(int)
    return np.histogram(found, edges)[0] / np.diff(edges) * starts / len(found), edges / starts
