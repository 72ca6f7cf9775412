"""A metric by length of pretraining: ``python analysis/training_length.py RUNS --out FILE``.

A line for each data set of pretraining, and where a run is one of the paper's the number that it
prints (CVRL Figure 4).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from vididi.analysis.paper import PERCENT, load_paper_table
from vididi.analysis.plots import (
    COLOURS,
    INK,
    MARKERS,
    finished_in,
    legend_text,
    picture_parser,
    pyplot,
    run_main,
    save,
    style,
)
from vididi.analysis.reading import Run, one_run_per_cell
from vididi.analysis.table_rows import matches
from vididi.analysis.tables import column_of
from vididi.errors import ConfigError
from vididi.words import counted

PAPER = "cvrl_figure_4"
FIGURE_SIZE = (4.6, 3.2)  # inches
Points = dict[str, dict[int, list[float]]]  # line -> steps -> a value of each seed


def main(argv: list[str] | None = None) -> int:
    """Exit status as of ``plots.run_main``."""
    parser = picture_parser(
        "A metric against the number of pretraining steps, a line for each label and data set of"
        " pretraining (CVRL Figure 4: linear/top1 on the validation videos of Kinetics-400 after"
        " pretraining on Kinetics-400 and 600).",
        "example: vididi plot training_length runs --metric retrieval/R@1 \\\n"
        "             --out length.png",
    )
    parser.add_argument("--metric", default="linear/top1", help="default: linear/top1")
    parser.add_argument(
        "--data",
        metavar="NAME",
        help="data set that it is measured on (default: the one of pretraining)",
    )
    return run_main(_draw, parser, argv)


def _draw(arguments: argparse.Namespace) -> None:
    plt = pyplot()
    runs = finished_in(arguments.runs)
    points = points_of(runs, arguments.metric, arguments.data)
    if not points:
        raise ConfigError(
            f"--metric: of {counted(len(runs), 'run')} none has measured {arguments.metric} on"
            f" {arguments.data or 'its own data'}"
        )

    with style():
        figure, axis = plt.subplots(figsize=FIGURE_SIZE)
        scale = column_of(arguments.metric).scale
        draw_lines(axis, points, scale)
        draw_printed(axis, list(points), printed_points(runs, arguments.metric, arguments.data))
        axis.legend()
        axis.set(
            xlabel="pretraining steps",
            ylabel=arguments.metric + (" (%)" if scale == PERCENT else ""),
            title=f"measured on {arguments.data or 'the data of pretraining'}",
        )
        save(figure, arguments.out)


def points_of(runs: Sequence[Run], metric: str, data: str | None) -> Points:
    """What the runs measured, by line and number of steps.

    Raises:
        ConfigError: a run measured it in several ways, or on several splits.
    """
    points: Points = defaultdict(lambda: defaultdict(list))
    for run in one_run_per_cell(runs, lambda run: run.cell["label"])[0]:
        measurements = [m for m in run.measurements if m.data == (data or run.data)]
        values = {value for m in measurements if (value := m.value(metric)) is not None}
        if len(values) > 1:
            raise ConfigError(
                f"{run.folder}: measured {metric} in several ways,"
                f" {', '.join(f'{value:.3f}' for value in sorted(values))}"
            )
        for value in values:
            points[_line_of(run)][int(run.result["steps"])].append(value)
    return points


def _line_of(run: Run) -> str:
    return legend_text(f"{run.cell['label']}, pretrained on {run.data}")


def printed_points(
    runs: Sequence[Run], metric: str, data: str | None
) -> dict[tuple[str, int], float]:
    """What the paper prints, already scaled, of the runs that are a row of its figure.

    By line and number of steps.
    """
    table = load_paper_table(PAPER)
    return {
        (_line_of(run), int(run.result["steps"])): value
        for run in runs
        for row in table.rows
        for column, value in zip(table.columns, row.values, strict=True)
        if (column.metric, column.data) == (metric, data or run.data)
        and value is not None
        and matches(run, row.match or {})
    }


def draw_lines(axis: Any, points: Points, scale: float) -> None:
    """Means times ``scale``, with a dot for each seed where there are several."""
    for number, (label, line) in enumerate(points.items()):
        colour, steps = COLOURS[number % len(COLOURS)], sorted(line)
        axis.plot(
            steps,
            [scale * np.mean(line[step]) for step in steps],
            color=colour,
            marker=MARKERS[number % len(MARKERS)],
            label=label,
        )
        for step in steps:
            if len(line[step]) > 1:
                axis.plot(
                    [step] * len(line[step]),
                    [scale * value for value in line[step]],
                    ".",
                    color=colour,
                    markersize=3,
                )
    axis.grid(visible=True)


def draw_printed(axis: Any, lines: list[str], printed: dict[tuple[str, int], float]) -> None:
    """The paper's numbers, as hollow marks of their line's shape and colour."""
    if not printed:
        return
    for (line, step), value in printed.items():
        number = lines.index(line)
        axis.plot(
            [step],
            [value],
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            markerfacecolor="none",
            markersize=9,
            linestyle="none",
        )
    axis.plot([], [], "o", color=INK, markerfacecolor="none", markersize=9, label="hollow: paper")
