"""R@1 of each framework, the paper's beside ours: ``python analysis/bars.py RUNS --out FILE``.

A bar chart by framework (ViDiDi Figure 1).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vididi.analysis.grouping import differences, protocol
from vididi.analysis.paper import PERCENT, Column, Match, load_paper_table
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
from vididi.analysis.tables import matches
from vididi.errors import ConfigError
from vididi.terminal import say
from vididi.words import counted

PAPER = "vididi_table_1"
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
RECALL = Column("R@1", "retrieval/R@1", PERCENT, 1)
WIDTH = 0.2  # of a bar with its margin; the paper's and ours, twice, leave a fifth between groups
FILL = 0.92  # share of WIDTH that a bar fills
HATCH = "////"  # of the paper's bars
# Inches. A figure narrower than WIDE has its legend in two columns instead of four.
HEIGHT, MIN_WIDTH, GROUP_WIDTH, AXIS_WIDTH, WIDE = 3.4, 4.2, 1.3, 1.2, 6


@dataclass(frozen=True)
class Group:
    """One framework: for each of SCHEDULES what the paper prints, and what our runs measured."""

    name: str
    printed: dict[str, float | None]
    ours: dict[str, Samples | None]


def main(argv: list[str] | None = None) -> int:
    """Exit status as of ``plots.run_main``."""
    parser = picture_parser(
        "R@1 of each framework with and without ViDiDi, the paper's beside ours (ViDiDi Figure 1)."
    )
    return run_main(_draw, parser, argv)


def _draw(arguments: argparse.Namespace) -> None:
    plt = pyplot()
    runs = finished_in(arguments.runs)
    drawn = [run for run in runs if schedule_of(run) is not None]
    if not drawn:
        raise ConfigError(
            f"of {counted(len(runs), 'run')} none is of frames alone or of ViDiDi's schedule"
        )

    groups, notes = frameworks(drawn)
    notes += one_run_per_cell(drawn)[1]
    with style():
        width = max(MIN_WIDTH, GROUP_WIDTH * len(groups) + AXIS_WIDTH)
        figure, axis = plt.subplots(figsize=(width, HEIGHT))
        draw_bars(axis, groups, _setting(drawn))
        figure.legend(
            loc="outside lower center",
            ncols=4 if width > WIDE else 2,
            handlelength=1.4,
            columnspacing=1.2,
        )
        save(figure, arguments.out)

    left_out = (
        [f"left out: {counted(len(runs) - len(drawn), 'run')} of other schedules"]
        if len(drawn) < len(runs)
        else []
    )
    for line in (*notes, *notes_of(drawn), *left_out):
        say(f"  {line}")


def schedule_of(run: Run) -> str | None:
    """Which of SCHEDULES a run has."""
    return next((name for name, match in SCHEDULES.items() if matches(run, match)), None)


def frameworks(runs: Sequence[Run]) -> tuple[list[Group], list[str]]:
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
                    printed(objective),
                    {schedule: _measured(way_runs, schedule) for schedule in SCHEDULES},
                )
            )
            notes += (
                [f"{name}{differences(ways[0][0], way) or '; written by another version'}"]
                if number > 1
                else []
            )

    return groups, notes


def printed(objective: str) -> dict[str, float | None]:
    """The paper's R@1 of a framework under each of SCHEDULES; None where it has none."""
    table = load_paper_table(PAPER)
    rows = [
        row
        for row in table.rows
        if row.match
        and (row.match["data.name"], row.match["objective.name"]) == (PRETRAINED, objective)
    ]
    return {
        schedule: next(
            (row.values[0] for row in rows if row.match and match.items() <= row.match.items()),
            None,
        )
        for schedule, match in SCHEDULES.items()
    }


def _measured(runs: Sequence[Run], schedule: str) -> Samples | None:
    """R@1 on the data of pretraining."""
    return collect(
        [run for run in runs if schedule_of(run) == schedule], RECALL, None, 0, Ways(runs)
    )


def _setting(runs: Sequence[Run]) -> str:
    data, nets = (
        sorted({str(run.config[key]) for run in runs}) for key in ("data.name", "backbone.name")
    )
    return f"paper: UCF101, r3d_18; ours: {', '.join(data)}, {', '.join(nets)}"


def draw_bars(axis: Any, groups: Sequence[Group], setting: str) -> None:
    """Bars in the order paper, ours, for frames alone and then for ViDiDi.

    Whiskers are 95% intervals, points are seeds.
    """
    for position, group in enumerate(groups):
        for number, schedule in enumerate(SCHEDULES):
            left = position + (2 * number - 1.5) * WIDTH
            _paper_bar(axis, left, group.printed[schedule], schedule)
            _our_bar(axis, left + WIDTH, group.ours[schedule], schedule)

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
    axis.set(xlim=(-0.6, len(groups) - 0.4), ylabel="R@1 (%)", title=setting)
    axis.grid(axis="y")


def _paper_bar(axis: Any, x: float, value: float | None, schedule: str) -> None:
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
        _label_bar(axis, x, value, value)


def _our_bar(axis: Any, x: float, samples: Samples | None, schedule: str) -> None:
    if samples is None:
        return

    value = PERCENT * samples.mean
    axis.bar(x, value, WIDTH * FILL, color=COLOUR[schedule])
    top, ends = value, interval(samples)
    if ends is not None:
        low, high = (PERCENT * end for end in ends)
        axis.vlines(x, low, high, color="black", linewidth=1.0)
        top = high
    if len(samples.values) > 1:
        axis.plot(
            [x] * len(samples.values),
            [PERCENT * seed_mean for seed_mean in samples.values],
            "o",
            markersize=2.5,
            color="white",
            markeredgecolor="black",
        )

    _label_bar(axis, x, value, max(top, value))


def _label_bar(axis: Any, x: float, value: float, top: float) -> None:
    axis.annotate(
        f"{value:.1f}", (x, top), (0, 1.5), textcoords="offset points", ha="center", fontsize=6.5
    )
