"""One clip as frames, velocity and acceleration, above the R@1 of arms: ``python analysis/clip.py
SHARDS --video ID --record FILE --out FILE``.

The clip is a video's middle one, its centre square, as evaluation takes it and without
augmentation; what training sees of a video is drawn by ``vididi show``. Bars are of a record of
docs/results.md, so that the picture can be made without the runs, or of run folders.

Shapes: C = 3, T frames, S the size of the clip.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vididi.analysis.compare import RECALL_AT_1
from vididi.analysis.grouping import check_one_arm
from vididi.analysis.plots import (
    COLOURS,
    finished_in,
    image_path,
    legend_text,
    pyplot,
    run_main,
    save,
    style,
)
from vididi.analysis.reading import Run
from vididi.analysis.recording import is_trained, recorded_value
from vididi.analysis.records import RECORD_KEY, RecordedValue, SectionRecord, read_record
from vididi.analysis.tables import column_of
from vididi.checks import check_positive
from vididi.data.plan import EvaluationPlan, frame_counts
from vididi.data.shards import FrameReader, ShardSet
from vididi.data.storage import as_folder
from vididi.data.stream import Buffers, decode, fetch
from vididi.errors import ConfigError
from vididi.runs.mirror import local_path
from vididi.terminal import Parser, one_line
from vididi.viewer import ORDERS, find_video, limit_of, to_pixels
from vididi.views.compose import differentiate, square_view
from vididi.words import counted

CENTRE = 0.5  # position of the square along a frame's longer side
BASE_COLOUR, COLOUR = COLOURS[4], "#4477AA"  # light enough for a black whisker
WIDTH, BAR_HEIGHT, BARS_MARGIN = 7.6, 0.24, 0.75  # inches: figure, a bar, what is about the bars
NAMES_WIDTH = 1.1  # inches, of the rows' names


@dataclass(frozen=True)
class Bar:
    """What is drawn of one arm; ``base`` is one that sees frames alone."""

    label: str
    value: RecordedValue
    base: bool


def main(argv: list[str] | None = None) -> int:
    """Exit status as of ``plots.run_main``."""
    parser = Parser(
        description="One clip of a video as frames, velocity and acceleration, above a bar of R@1"
        " for each arm with its 95% interval.",
        epilog=(
            "example: vididi plot clip shards/clips --video test/jump/a.mp4 \\\n"
            "             --runs runs/clips --out clip.png"
        ),
    )
    parser.add_argument(
        "shards", metavar="SHARDS", help="a prepared data set, a folder or s3://..."
    )
    parser.add_argument(
        "--video", required=True, metavar="ID", help="video_id of one of its videos"
    )
    parser.add_argument("--frames", type=int, default=8, help="of the clip (default: 8)")
    parser.add_argument(
        "--stride", type=int, default=2, help="one source frame of every STRIDE (default: 2)"
    )
    parser.add_argument(
        "--size", type=int, help="height and width (default: the short side of the set)"
    )
    _add_bars(parser)
    parser.add_argument(
        "--out", type=image_path, required=True, metavar="FILE.png", help="the picture"
    )
    return run_main(_draw, parser, argv)


def _add_bars(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--record", type=Path, metavar="FILE.json", help="bars of a record of docs/results.md"
    )
    source.add_argument(
        "--runs",
        nargs="+",
        type=local_path,
        metavar="RUNS",
        help="bars of run folders, or of folders (s3://...) that hold some",
    )
    parser.add_argument(
        "--setting", metavar="NAME", help="of the record (default: its first, the primary one)"
    )
    parser.add_argument(
        "--arms", nargs="+", metavar="ARM", help="only these, in this order (default: all)"
    )
    parser.add_argument(
        "--metric", default=RECALL_AT_1, help=f"of the bars (default: {RECALL_AT_1})"
    )


def _draw(arguments: argparse.Namespace) -> None:
    plt = pyplot()
    texts = {}
    if arguments.record:
        record = read_record(arguments.record)
        if record is None:
            raise ConfigError(f"--record: {arguments.record}: there is no such file")
        bars, setting = bars_of_record(record, arguments.setting, arguments.metric)
        texts[RECORD_KEY] = record.digest
    else:
        if arguments.setting:
            raise ConfigError("--setting: is of a record; runs are drawn as they ended")
        bars, setting = bars_of_runs(finished_in(arguments.runs), arguments.metric), ""
    bars = _chosen(bars, arguments.arms)

    shards = ShardSet.open(as_folder(arguments.shards))
    about, views = views_of_clip(
        shards, arguments.video, arguments.frames, arguments.stride, arguments.size
    )
    with style():
        cell = (WIDTH - NAMES_WIDTH) / arguments.frames
        heights = [cell * len(ORDERS) + 0.25, BAR_HEIGHT * len(bars) + BARS_MARGIN]
        figure = plt.figure(figsize=(WIDTH, sum(heights)))
        above, below = figure.subfigures(2, 1, height_ratios=heights)
        draw_clip(above, views, about)
        draw_arms(below.subplots(), list(bars.values()), arguments.metric, setting)
        save(figure, arguments.out, **texts)


# --- The clip -------------------------------------------------------------------------------------


def views_of_clip(
    shards: ShardSet, video_id: str, frames: int, stride: int, size: int | None
) -> tuple[str, list[NDArray[np.float32]]]:
    """Words about a video's middle clip, and its values of each order, ``[T, S, S, C]``.

    Each order has as many frames; its differences are of the frames that follow.

    Raises:
        ConfigError: there is no such video, or a number is not positive.
    """
    try:
        check_positive(frames=frames, stride=stride, **({} if size is None else {"size": size}))
    except ValueError as error:
        raise ConfigError(f"--{error}") from None
    row = find_video(shards, video_id)
    size = size or int(shards.manifest.prepare["short_side"])
    length = frames + len(ORDERS) - 1
    request = EvaluationPlan(
        np.array([row]), frame_counts(shards), length, stride, clips=1, batch_size=1
    )[0]
    batch = decode(fetch(FrameReader(shards), request), request, shards, Buffers())
    pixels = torch.from_numpy(batch.clips[:, 0]).permute(0, 4, 1, 2, 3)
    clip = square_view(pixels, batch.sizes, size, CENTRE)
    views = [
        differentiate(clip, order)[0, :, :frames].permute(1, 2, 3, 0).numpy()
        for order in range(len(ORDERS))
    ]
    classes = shards.manifest.classes
    name = classes[int(shards.column("label")[row])] if classes else "no class"
    return f"{video_id} ({name}), one frame of every {stride}", views


def draw_clip(figure: Any, views: Sequence[NDArray[np.float32]], about: str) -> None:
    """A row of thumbnails for each order; differences are about mid-grey, the largest black or
    white.
    """
    figure.suptitle(one_line(about), fontsize=9)
    axes = figure.subplots(len(views), len(views[0]), squeeze=False)
    for order, (row, values) in enumerate(zip(axes, views, strict=True)):
        limit = limit_of([list(views)], order)
        for axis, pixels in zip(row, to_pixels(values, order, limit), strict=True):
            axis.imshow(pixels, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            for side in axis.spines.values():
                side.set_visible(False)
        row[0].set_ylabel(ORDERS[order], rotation=0, ha="right", va="center")


# --- The bars -------------------------------------------------------------------------------------


def bars_of_record(
    record: SectionRecord, name: str | None, metric: str
) -> tuple[dict[str, Bar], str]:
    """The arms of a record by name, and the setting in words.

    Raises:
        ConfigError: the record has no such setting, or none of its arms has the metric there.
    """
    by_name = {setting.name: setting for setting in record.settings}
    setting = by_name.get(name or record.settings[0].name)
    if setting is None:
        raise ConfigError(f"--setting: {name!r} is not valid; it is one of {', '.join(by_name)}")
    bases = {record.measured_by.get("base"), *record.measured_by.get("bases", {}).values()}
    bars = {
        row.arm: Bar(row.label, row.values[metric], row.arm in bases or not is_trained(row))
        for row in setting.rows
        if metric in row.values
    }
    if not bars:
        raise ConfigError(f"--metric: {metric} is not in setting {setting.name} of the record")
    return bars, f"setting {setting.name}"


def bars_of_runs(runs: Sequence[Run], metric: str) -> dict[str, Bar]:
    """The arms of run folders by name.

    Raises:
        ConfigError: no run has the metric. ValueError: runs of one arm differ in more than the
            seed.
    """
    by_arm: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_arm[run.cell["arm"]].append(run)
    bars = {}
    for arm, group in by_arm.items():
        check_one_arm(arm, group)
        value = recorded_value(group, metric)
        if value is not None:
            alone = group[0].config.get("schedule.order") == 0
            bars[arm] = Bar(group[0].cell["label"], value, alone)
    if not bars:
        raise ConfigError(f"--metric: {metric} is in none of {counted(len(runs), 'run')}")
    return bars


def _chosen(bars: dict[str, Bar], arms: Sequence[str] | None) -> dict[str, Bar]:
    for arm in arms or []:
        if arm not in bars:
            raise ConfigError(f"--arms: {arm!r} is not valid; it is one of {', '.join(bars)}")
    return {arm: bars[arm] for arm in arms or bars}


def draw_arms(axis: Any, bars: Sequence[Bar], metric: str, setting: str) -> None:
    """A bar for each arm, the first on top; lines are 95% intervals."""
    column = column_of(metric)
    end = max(
        column.scale * (bar.value.interval[1] if bar.value.interval else bar.value.mean)
        for bar in bars
    )
    for place, bar in enumerate(bars):
        value, mean = bar.value, column.scale * bar.value.mean
        axis.barh(place, mean, 0.72, color=BASE_COLOUR if bar.base else COLOUR)
        right = mean
        if value.interval is not None:
            low, right = (column.scale * bound for bound in value.interval)
            axis.hlines(place, low, right, color="black", linewidth=1.0)
        spread = "" if value.spread is None else f" ± {column.scaled(value.spread)}"
        text = f"{column.scaled(value.mean)}{spread} ({counted(len(value.seeds), 'seed')})"
        end_of_bar = (max(right, mean), place)
        axis.annotate(text, end_of_bar, (4, 0), textcoords="offset points", va="center", fontsize=7)
    axis.set_yticks(range(len(bars)), [legend_text(bar.label) for bar in bars])
    axis.tick_params(axis="y", length=0)
    axis.invert_yaxis()
    axis.grid(axis="x")
    name = metric.removeprefix("retrieval/")
    percent = " (%)" if column.scale != 1 else ""
    axis.set_xlabel(f"{name}{percent}{', ' * bool(setting)}{setting}; lines are 95% intervals")
    axis.set_xlim(min(0.0, *(column.scale * bar.value.mean for bar in bars)), 1.3 * end)
