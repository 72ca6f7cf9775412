"""How far apart a video's two clips are: ``python analysis/intervals.py [RUNS] --out FILE``.

By each sampling, with what runs of it measured and what the paper prints (CVRL Figure 3).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vididi.analysis.grouping import differences, protocol
from vididi.analysis.paper import Match, load_paper_table
from vididi.analysis.plots import (
    COLOURS,
    finished_in,
    image_path,
    pyplot,
    run_main,
    save,
    style,
)
from vididi.analysis.reading import Run, notes_of, one_run_per_cell
from vididi.analysis.samples import Samples, Ways, collect
from vididi.analysis.tables import column_of, value_text
from vididi.data.sampling import SAMPLINGS, start_count
from vididi.draws import Use, key
from vididi.errors import ConfigError
from vididi.runs.mirror import local_path
from vididi.terminal import Parser, say
from vididi.words import counted

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
SHORT_VIDEOS = "short_videos"
PAPER = "cvrl_figure_3"
VIDEOS = 200_000
BINS = 40
COLUMNS = 4  # of panels
PANEL_WIDTH, PANEL_HEIGHT, CAPTION = 2.3, 1.8, 0.2  # inches; a caption is a second line of a title


def main(argv: list[str] | None = None) -> int:
    """Exit status as of ``plots.run_main``."""
    parser = Parser(
        description=(
            "P(t), t being how far apart the starts of two clips are, by each sampling, and with"
            " RUNS what those of each measured, beside the paper's (CVRL Figure 3)."
        ),
        epilog="example: vididi plot intervals --out intervals.png",
    )
    parser.add_argument(
        "runs",
        nargs="*",
        type=local_path,
        metavar="RUNS",
        help="run folders, or folders (s3://...) that hold some",
    )
    parser.add_argument("--metric", default="linear/top1", help="of RUNS (default: linear/top1)")
    parser.add_argument("--frames", type=int, default=250, help="frames of a video (default: 250)")
    parser.add_argument("--length", type=int, default=8, help="frames of a clip (default: 8)")
    parser.add_argument(
        "--stride", type=int, default=3, help="one source frame of every STRIDE (default: 3)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")
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

    panels, captions, notes = captioned(arguments.runs, arguments.metric)
    with style():
        draw_densities(plt, panels, captions, starts, arguments)
    for note in notes:
        say(f"  {note}")


def draw_densities(
    plt: Any,
    panels: Sequence[tuple[str, str, dict[str, Any]]],
    captions: Sequence[str],
    starts: int,
    arguments: argparse.Namespace,
) -> None:
    """A density for each panel, its caption under its title; written to the file."""
    frames, length, stride = arguments.frames, arguments.length, arguments.stride
    rows = -(-len(panels) // COLUMNS)
    height = (PANEL_HEIGHT + CAPTION * any(captions)) * rows
    figure, axes = plt.subplots(
        rows,
        COLUMNS,
        figsize=(PANEL_WIDTH * COLUMNS, height),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for axis, (title, name, options), caption in zip(axes.flat, panels, captions, strict=False):
        gaps = intervals(name, options, frames, length, stride, arguments.seed)
        axis.stairs(
            *density(gaps, starts),
            fill=True,
            color=COLOURS[4],
            edgecolor=COLOURS[0],
            linewidth=0.5,
        )
        axis.set_title(f"{title}\n{caption}" if any(captions) else title)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis in axes.flat[max(0, len(panels) - COLUMNS) : len(panels)]:
        axis.tick_params(labelbottom=True)  # has no panel below it
    figure.supxlabel(
        f"interval t over the {starts} possible starts of a clip ({frames} frames)", fontsize=9
    )
    figure.supylabel("P(t)", fontsize=9)
    save(figure, arguments.out)


def captioned(
    folders: Sequence[Any], metric: str
) -> tuple[list[tuple[str, str, dict[str, Any]]], list[str], list[str]]:
    """The panels, what stands under the title of each, and notes.

    Samplings of the runs that PANELS has not follow it.

    Raises:
        ConfigError: none of the runs has measured the metric.
    """
    if not folders:
        return PANELS, [""] * len(PANELS), []
    runs = finished_in(folders)
    measured = [
        run
        for run in runs
        if _sampling_of(run)[0] in SAMPLINGS
        and any(m.value(metric) is not None for m in run.measurements)
    ]
    drawn, notes = comparable(measured)
    panels = [*PANELS, *_further_panels(drawn)]
    known = [sampling_match(name, options) for _, name, options in panels]
    ways, column = Ways(drawn), column_of(metric)
    samples = [
        collect(
            [run for run in drawn if sampling_match(*_sampling_of(run)) == match],
            column,
            None,
            0,
            ways,
        )
        for match in known
    ]
    if not any(samples):
        raise ConfigError(
            f"--metric: of {counted(len(runs), 'run')} none has measured {metric} on the data of"
            " its pretraining"
        )
    if left_out := len(runs) - len(measured):
        notes.append(
            f"left out: {counted(left_out, 'run')} without {metric}, or of no sampling known here"
        )
    captions = [
        _caption(metric, sample, match) for match, sample in zip(known, samples, strict=True)
    ]
    return panels, captions, [*notes, *notes_of(drawn)]


def _further_panels(runs: Sequence[Run]) -> list[tuple[str, str, dict[str, Any]]]:
    """A panel for each sampling of the runs that is not among PANELS."""
    known = [sampling_match(name, options) for _, name, options in PANELS]
    panels = []
    for run in runs:
        name, options = _sampling_of(run)
        if (match := sampling_match(name, options)) not in known:
            known.append(match)
            panels.append((_title(name, options), name, options))
    return panels


def comparable(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """The runs that differ in sampling and seed only, of all such groups the largest.

    The notes name the others.
    """
    unique, notes = one_run_per_cell(runs)
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in unique:
        groups[protocol(run, ["sampling"])].append(run)
    ordered = sorted(groups, key=lambda way: -len(groups[way]))
    for way in ordered[1:]:
        apart = differences(ordered[0], way) or "another version"
        notes.append(f"left out: {counted(len(groups[way]), 'run')} with {apart}")
    return (groups[ordered[0]] if ordered else []), notes


def sampling_match(name: str, options: dict[str, Any]) -> Match:
    """The configuration values of a sampling, with its defaults.

    Without those that a uniform density does not read, and without where clips begin in videos that
    are too short for one, unless it is not as always.
    """
    defaults = getattr(SAMPLINGS.get(name), "__kwdefaults__", None) or {}
    values = {**defaults, **options}
    if values.get(SHORT_VIDEOS) == defaults.get(SHORT_VIDEOS):
        values.pop(SHORT_VIDEOS, None)
    if values.get("shape") == "uniform":
        values = {"shape": "uniform"}
    return {"sampling.name": name} | {f"sampling.{key}": value for key, value in values.items()}


def _sampling_of(run: Run) -> tuple[str, dict[str, Any]]:
    values = {
        key.removeprefix("sampling."): value
        for key, value in run.config.items()
        if key.startswith("sampling.") and value is not None
    }
    return str(values.pop("name")), values


def _title(name: str, options: dict[str, Any]) -> str:
    """The name, the shape and what is not the default."""
    defaults = getattr(SAMPLINGS[name], "__kwdefaults__", None) or {}
    told = [
        f"{key} {value if isinstance(value, str) else f'{value:g}'}"
        for key, value in options.items()
        if key != "shape" and value != defaults.get(key)
    ]
    return ", ".join([name, *([options["shape"]] if "shape" in options else []), *told])


def printed_for(metric: str, match: Match) -> float | None:
    """The paper's number of a sampling; None if its text has none."""
    table = load_paper_table(PAPER)
    column = next((i for i, c in enumerate(table.columns) if c.metric == metric), None)
    if column is None:
        return None
    return next(
        (row.values[column] for row in table.rows if match.items() <= (row.match or {}).items()),
        None,
    )


def _caption(metric: str, samples: Samples | None, match: Match) -> str:
    """What was measured, and what the paper prints; empty for neither."""
    told = printed_for(metric, match)
    ours = [f"ours {value_text(column_of(metric), samples)}"] if samples else []
    paper = [] if told is None else [f"paper {told:.1f}"]
    return ", ".join([*ours, *paper])


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
