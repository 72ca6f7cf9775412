"""How far apart a video's two clips are: ``python analysis/intervals.py --out intervals.png``.

By each sampling (CVRL Figure 3).
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vididi.analysis.plots import COLOURS, image_path, pyplot, run_main, save, style
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
ROWS, PANEL_WIDTH, HEIGHT = 2, 2.3, 3.6  # of panels; inches of a panel, and of the figure


def main(argv: list[str] | None = None) -> int:
    """Exit status as of ``plots.run_main``."""
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

    with style():
        figure, axes = plt.subplots(
            ROWS,
            len(PANELS) // ROWS,
            figsize=(PANEL_WIDTH * len(PANELS) / ROWS, HEIGHT),
            sharex=True,
            sharey=True,
        )
        for axis, (title, name, options) in zip(axes.flat, PANELS, strict=True):
            gaps = intervals(name, options, frames, length, stride, arguments.seed)
            axis.stairs(
                *density(gaps, starts),
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
    """How many frames apart the two clips of each of many videos begin, ``[VIDEOS]``.

    They are drawn as pretraining draws them.
    """
    keys = key(Use.CLIP, seed, 0, np.arange(VIDEOS)[:, None], np.arange(2))
    starts = SAMPLINGS[name](**options)(keys, np.full(VIDEOS, frames), length, stride)
    return np.abs(starts[:, 1] - starts[:, 0])


def density(
    gaps: NDArray[np.int64], starts: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """P(t) over t / starts in BINS steps, and the edges of the steps.

    A step is of whole frames, and counts by how many it has.
    """
    edges = np.rint(np.linspace(0, starts, BINS + 1)).astype(int)
    return np.histogram(gaps, edges)[0] / np.diff(edges) * starts / len(gaps), edges / starts
