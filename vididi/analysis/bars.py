"""Each framework with and without ViDiDi, the paper's beside ours: ``python analysis/bars.py RUNS
--out FILE``.

A bar chart by framework, a panel for each data set: action recognition after fine-tuning (ViDiDi
Figure 1), or another metric.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from vididi.analysis.grouping import differences, protocol
from vididi.analysis.paper import PERCENT, Column, Match, PaperTable, load_paper_table
from vididi.analysis.plots import (
    COLOURS,
    finished_in,
    picture_parser,
    pyplot,
    run_main,
    save,
    style,
)
from vididi.analysis.reading import Run, notes_of, one_run_per_cell
from vididi.analysis.samples import Samples, Ways, collect, interval
from vididi.analysis.table_rows import matches
from vididi.analysis.tables import column_of
from vididi.errors import ConfigError
from vididi.terminal import say
from vididi.words import counted

FIGURE_1 = "finetune/top1"
# Where the papers' numbers of a metric stand, and how its axis is called.
TABLES = {FIGURE_1: "vididi_figure_1", "retrieval/R@1": "vididi_table_1"}
AXES = {FIGURE_1: "top-1 after fine-tuning (%)", "retrieval/R@1": "R@1 (%)"}
PRETRAINED = "ucf101"  # of the paper's rows; those on other data have one framework only
# As the papers write them, in their order; an objective that no paper has follows under its own
# name.
NAMES = {
    "simclr": "SimCLR",
    "byol": "BYOL",
    "vicreg": "VICReg",
    "cvrl": "CVRL",
    "corp_f": "CORP_f",
    "corp_m": "CORP_m",
}
SCHEDULES: dict[str, Match] = {
    "frames alone": {"schedule.order": 0},
    "with ViDiDi": {
        "schedule.order": 2,
        "schedule.selection": "scheduled",
        "schedule.mix": "both_ways",
        "schedule.reverse": False,
    },
}
COLOUR = {"frames alone": COLOURS[4], "with ViDiDi": "#4477AA"}  # light enough for a black whisker
WIDTH = 0.2  # of a bar with its margin; the paper's and ours, twice, leave a fifth between groups
FILL = 0.92  # share of WIDTH that a bar fills
HATCH = "////"  # of the paper's bars
# Inches. A figure narrower than WIDE has its legend in two columns instead of four.
HEIGHT, MIN_WIDTH, GROUP_WIDTH, AXIS_WIDTH, WIDE = 3.4, 4.2, 1.3, 1.2, 6


@dataclass(frozen=True)
class BarPanel:
    """What was measured on one split of one data set.

    ``paper`` is the place of the paper's column in its table; None if it has none.
    """

    title: str
    column: Column
    paper: int | None


@dataclass(frozen=True)
class Group:
    """One framework: for each of SCHEDULES what the paper prints, and what our runs measured."""

    name: str
    printed: dict[str, float | None]
    ours: dict[str, Samples | None]


def main(argv: list[str] | None = None) -> int:
    """Exit status as of ``plots.run_main``."""
    parser = picture_parser(
        "Each framework with and without ViDiDi, the paper's beside ours, a panel for each data set"
        " that it was measured on: top-1 after fine-tuning (ViDiDi Figure 1), or another metric.",
        "example: vididi plot bars runs --metric retrieval/R@1 --out bars.png",
    )
    parser.add_argument(
        "--metric",
        default=FIGURE_1,
        help=f"such as {' or '.join(TABLES)}, of which the paper has numbers (default: {FIGURE_1})",
    )
    parser.add_argument(
        "--data", nargs="+", metavar="NAME", help="only these data sets, such as ucf101 hmdb51"
    )
    return run_main(_draw, parser, argv)


def _draw(arguments: argparse.Namespace) -> None:
    plt = pyplot()
    runs, metric = finished_in(arguments.runs), arguments.metric
    scheduled = [run for run in runs if schedule_of(run) is not None]
    if not scheduled:
        raise ConfigError(
            f"of {counted(len(runs), 'run')} none is of frames alone or of ViDiDi's schedule"
        )
    panels = panels_of(scheduled, metric, arguments.data)
    where = {(panel.column.data, panel.column.split) for panel in panels}
    drawn = [run for run in scheduled if where & places(run, metric)]

    groups = [frameworks(drawn, panel) for panel in panels]
    with style():
        per_panel = max(MIN_WIDTH / len(panels), GROUP_WIDTH * len(groups[0][0]))
        width = per_panel * len(panels) + AXIS_WIDTH
        figure, axes = plt.subplots(
            1, len(panels), figsize=(width, HEIGHT), sharey=True, squeeze=False
        )
        for axis, panel, (panel_groups, _) in zip(axes.flat, panels, groups, strict=True):
            draw_bars(axis, panel_groups, panel)
        axes.flat[0].set_ylabel(AXES.get(metric, metric + _unit(panels[0].column)))
        figure.suptitle(_setting(drawn, panels), fontsize=9)
        handles, labels = axes.flat[0].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=4 if width > WIDE else 2,
            handlelength=1.4,
            columnspacing=1.2,
        )
        save(figure, arguments.out)

    notes = [*groups[0][1], *one_run_per_cell(drawn)[1], *notes_of(drawn)]
    for line in (*notes, *_left_out(runs, scheduled, drawn, metric)):
        say(f"  {line}")


def _left_out(
    runs: Sequence[Run], scheduled: Sequence[Run], drawn: Sequence[Run], metric: str
) -> list[str]:
    lines = []
    if len(scheduled) < len(runs):
        lines.append(f"left out: {counted(len(runs) - len(scheduled), 'run')} of other schedules")
    if len(drawn) < len(scheduled):
        without = counted(len(scheduled) - len(drawn), "run")
        lines.append(f"left out: {without} without {metric} on this data")
    return lines


def schedule_of(run: Run) -> str | None:
    """Which of SCHEDULES a run has."""
    return next((name for name, match in SCHEDULES.items() if matches(run, match)), None)


def places(run: Run, metric: str) -> set[tuple[str, int | None]]:
    """The data sets and splits on which a run measured a metric."""
    return {(m.data, m.split) for m in run.measurements if m.value(metric) is not None}


def panels_of(runs: Sequence[Run], metric: str, names: Collection[str] | None) -> list[BarPanel]:
    """A panel for each data set and split that the metric was measured on, the paper's first.

    Beside data of pretraining that the paper has not stand its numbers on UCF101.

    Raises:
        ConfigError: it was measured on none of the data sets ``names``, or, without them, on none.
    """
    measured = set().union(*(places(run, metric) for run in runs))
    if not measured:
        others = [name for name in TABLES if any(places(run, name) for run in runs)]
        raise ConfigError(
            f"--metric: of {counted(len(runs), 'run')} none has measured {metric}"
            + "".join(f"; --metric {name} was measured" for name in others)
        )
    there = sorted({data for data, _ in measured})
    if unknown := [name for name in names or () if name not in there]:
        raise ConfigError(
            f"--data: {', '.join(unknown)} is not valid; {metric} was measured on"
            f" {', '.join(there)}"
        )
    table = load_paper_table(TABLES[metric]) if metric in TABLES else None
    pretraining = {run.data for run in runs}
    panels = [
        _panel(table, metric, data, split, data in pretraining)
        for data, split in measured
        if not names or data in names
    ]
    return sorted(panels, key=_place_of)


def _place_of(panel: BarPanel) -> tuple[bool, int, str]:
    """The paper's columns in its order, then others by name."""
    return panel.paper is None, panel.paper or 0, panel.title


def _panel(
    table: PaperTable | None, metric: str, data: str, split: int | None, pretraining: bool
) -> BarPanel:
    plain = column_of(metric)
    column = Column(plain.name, metric, plain.scale, plain.decimals, data, split)
    columns = [] if table is None else [c for c in table.columns if c.metric == metric]
    of_data = [c for c in columns if c.data == data]
    name = of_data[0].name.partition(" ")[0] if of_data else data
    title = name if split is None else f"{name}, split {split}"
    found = next((c for c in of_data if c.split == split), None)
    if table is not None and not of_data and pretraining:
        found = next(c for c in columns if c.data == table.home)
        title = f"{data} (paper: {found.name.partition(' ')[0]})"
    return BarPanel(
        title, column, None if table is None or found is None else table.columns.index(found)
    )


def frameworks(runs: Sequence[Run], panel: BarPanel) -> tuple[list[Group], list[str]]:
    """A group of bars for each framework, and for each way to run it.

    Both bars of ours differ in nothing but the schedule.

    The notes say what sets a framework's second way apart from its first, which has the most runs.
    """
    runs_by_framework: dict[str, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in one_run_per_cell(runs)[0]:
        runs_by_framework[run.config["objective.name"]][protocol(run, ["schedule"])].append(run)

    groups, notes = [], []
    paper_order = list(NAMES)
    for objective in sorted(
        runs_by_framework,
        key=lambda name: (paper_order.index(name) if name in NAMES else len(paper_order), name),
    ):
        ways = sorted(runs_by_framework[objective].items(), key=lambda item: -len(item[1]))
        for number, (way, way_runs) in enumerate(ways, 1):
            name = NAMES.get(objective, objective) + (f" ({number})" if number > 1 else "")
            groups.append(
                Group(
                    name,
                    printed(objective, panel),
                    {schedule: _measured(way_runs, schedule, panel) for schedule in SCHEDULES},
                )
            )
            notes += (
                [f"{name}{differences(ways[0][0], way) or '; written by another version'}"]
                if number > 1
                else []
            )

    return groups, notes


def printed(objective: str, panel: BarPanel) -> dict[str, float | None]:
    """What the paper prints of a framework under each of SCHEDULES; None where it has none."""
    if panel.paper is None:
        return dict.fromkeys(SCHEDULES)
    rows = [
        row
        for row in load_paper_table(TABLES[str(panel.column.metric)]).rows
        if row.match
        and (row.match["data.name"], row.match["objective.name"]) == (PRETRAINED, objective)
    ]
    return {
        schedule: next(
            (
                row.values[panel.paper]
                for row in rows
                if row.match and match.items() <= row.match.items()
            ),
            None,
        )
        for schedule, match in SCHEDULES.items()
    }


def _measured(runs: Sequence[Run], schedule: str, panel: BarPanel) -> Samples | None:
    return collect(
        [run for run in runs if schedule_of(run) == schedule],
        panel.column,
        panel.column.split,
        0,
        Ways(runs),
    )


def _unit(column: Column) -> str:
    return " (%)" if column.scale == PERCENT else ""


def _setting(runs: Sequence[Run], panels: Sequence[BarPanel]) -> str:
    data, nets = (
        sorted({str(run.config[key]) for run in runs}) for key in ("data.name", "backbone.name")
    )
    ours = f"{', '.join(data)}, {', '.join(nets)}"
    with_paper = any(panel.paper is not None for panel in panels)
    return (
        f"paper's pretrained on UCF101, r3d_18; ours on {ours}"
        if with_paper
        else f"pretrained on {ours}"
    )


def draw_bars(axis: Any, groups: Sequence[Group], panel: BarPanel) -> None:
    """Bars in the order paper, ours, for frames alone and then for ViDiDi.

    Whiskers are 95% intervals, points are seeds.
    """
    for position, group in enumerate(groups):
        for number, schedule in enumerate(SCHEDULES):
            left = position + (2 * number - 1.5) * WIDTH
            _paper_bar(axis, left, group.printed[schedule], schedule, panel.column)
            _our_bar(axis, left + WIDTH, group.ours[schedule], schedule, panel.column)

    for schedule in SCHEDULES:  # bars of no height, for the legend alone
        axis.bar(
            0,
            0,
            color="white",
            edgecolor=COLOUR[schedule],
            hatch=HATCH,
            label=f"{schedule}, paper",
        )
        axis.bar(0, 0, color=COLOUR[schedule], label=f"{schedule}, ours")

    axis.set_xticks(range(len(groups)), [group.name for group in groups])
    axis.tick_params(axis="x", length=0)
    axis.set(xlim=(-0.6, len(groups) - 0.4), title=panel.title)
    axis.grid(axis="y")


def _paper_bar(axis: Any, x: float, value: float | None, schedule: str, column: Column) -> None:
    if value is not None:
        axis.bar(
            x,
            value,
            WIDTH * FILL,
            color="white",
            edgecolor=COLOUR[schedule],
            hatch=HATCH,
            linewidth=0.8,
        )
        _label_bar(axis, x, value, value, column)


def _our_bar(axis: Any, x: float, samples: Samples | None, schedule: str, column: Column) -> None:
    if samples is None:
        return

    value = column.scale * samples.mean
    axis.bar(x, value, WIDTH * FILL, color=COLOUR[schedule])
    top, ends = value, interval(samples)
    if ends is not None:
        low, high = (column.scale * end for end in ends)
        axis.vlines(x, low, high, color="black", linewidth=1.0)
        top = high
    if len(samples.values) > 1:
        axis.plot(
            [x] * len(samples.values),
            [column.scale * seed_mean for seed_mean in samples.values],
            "o",
            markersize=2.5,
            color="white",
            markeredgecolor="black",
        )

    _label_bar(axis, x, value, max(top, value), column)


def _label_bar(axis: Any, x: float, value: float, top: float, column: Column) -> None:
    axis.annotate(
        column.number(value),
        (x, top),
        (0, 1.5),
        textcoords="offset points",
        ha="center",
        fontsize=6.5,
    )
