"""Pretraining curves: ``python analysis/curves.py runs/ablation --out curves.png``.

CVRL Figure 5, CORP Figure 3.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vididi.analysis.plots import (
    COLOURS,
    DASHES,
    legend_text,
    picture_parser,
    pyplot,
    run_main,
    runs_in,
    save,
    style,
)
from vididi.analysis.reading import (
    deduplicate,
    identity_in_name,
    print_to_stderr,
    read_cell_record,
    read_flat_config,
)
from vididi.errors import ConfigError, DamagedError
from vididi.runs.file_names import CELL, CONFIG, METRICS
from vididi.runs.readers import folders_with, is_there, read_metrics
from vididi.terminal import say

COLUMNS = 3
# Inches: a panel, and what the figure has around the panels.
PANEL_WIDTH, PANEL_HEIGHT, MARGIN_WIDTH, MARGIN_HEIGHT = 2.7, 2.1, 0.3, 0.6
LAST = ("gradient_norm", "lr")  # of how it was trained, after what it reached
NAMES = {
    "lr": "learning rate",
    "gradient_norm": "norm of the gradient",
    "regularisation": "regularisation loss",
}
# What may differ between the runs of one arm.
_NOT_ARM = ("training.seed", "data.", "prepare.")


@dataclass(frozen=True)
class Curve:
    """What one run wrote after each epoch.

    ``metrics`` are metric -> epoch -> value. ``arm`` is the same for the runs of one arm, ``cell``
    for copies of one run.
    """

    folder: Path
    label: str
    arm: str
    metrics: dict[str, dict[int, float]]
    cell: str


@dataclass(frozen=True)
class Band:
    """A metric of one arm's runs ``[runs, E]`` at the epochs ``[E]`` that all of them have."""

    epochs: list[int]
    values: NDArray[np.float64]


def main(argv: list[str] | None = None) -> int:
    """Exit status as of ``plots.run_main``."""
    parser = picture_parser(
        "Loss, its terms, accuracies, online metrics and learning rate over the epochs of"
        " pretraining (CVRL Figure 5, CORP Figure 3). Runs of one arm are drawn as their mean, with"
        " a band from the lowest to the highest seed. Unfinished runs count too.",
        "example: vididi plot curves runs/clips --out curves.png",
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help="only these panels, such as loss and lr (default: all)",
    )
    return run_main(_draw, parser, argv)


def _draw(arguments: argparse.Namespace) -> None:
    pyplot()  # first, as reading may take a while
    curves = read_curves(runs_in(arguments.runs, find_curves))
    panels = panel_names(curves)
    if unknown := [name for name in arguments.metrics or () if name not in panels]:
        raise ConfigError(
            f"--metrics: {', '.join(unknown)} is not valid; the runs have {', '.join(panels)}"
        )

    panels = arguments.metrics or panels
    arms = by_arm(curves)
    with style():
        save(curves_figure(panels, arms), arguments.out)

    for line in notes(arms):
        say(f"  {line}")


# --- Reading --------------------------------------------------------------------------------------


def find_curves(root: Path) -> list[Path]:
    """Run folders with metrics, finished or not: ``root`` itself, or those anywhere under it."""
    files_of_a_start = (CELL, CONFIG)
    return [
        folder
        for folder in folders_with(root, METRICS)
        if any(is_there(folder / name) for name in files_of_a_start)
    ]


def read_curves(folders: Sequence[Path]) -> list[Curve]:
    """The curves of some folders.

    Damaged runs, those without a whole epoch and copies are named and left out.

    Raises:
        ConfigError: no run is left.
    """
    curves, left_out = [], []
    for folder in folders:
        try:
            curves.append(read_curve(folder))
        except (DamagedError, ConfigError) as error:
            left_out.append(str(error))
    curves, copies = deduplicate(
        curves,
        lambda curve: (curve.cell, identity_in_name(curve.folder)),
        lambda curve: identity_in_name(curve.folder),
    )
    print_to_stderr(f"left out: {line}" for line in (*left_out, *copies))
    if not curves:
        raise ConfigError(f"none of the {len(folders)} runs can be read")
    return curves


def read_curve(folder: Path) -> Curve:
    """What a run wrote after each epoch.

    A last line that was cut short is left out, as it is when the run goes on.

    Raises:
        DamagedError: a file of the run is damaged or missing. ConfigError: it has no whole epoch
            yet.
    """
    cell, config = read_cell_record(folder), read_flat_config(folder)
    arm_config = {key: value for key, value in config.items() if not key.startswith(_NOT_ARM)}
    point = "".join(f", {axis}={value}" for axis, value in cell["axes"].items())
    metrics: dict[str, dict[int, float]] = defaultdict(dict)

    for record in read_metrics(folder):
        for name, value in record.items():
            if (panel := _panel(name)) is not None and isinstance(value, int | float):
                metrics[panel][record["epoch"]] = float(value)

    if not metrics:
        raise ConfigError(f"{folder}: metrics.jsonl has no whole epoch yet")

    arm = [cell["label"], arm_config]
    whole_cell = [cell.get("sweep"), cell["arm"], cell["label"], config]
    return Curve(
        folder,
        legend_text(f"{cell['label']}{point}"),
        json.dumps(arm, sort_keys=True),
        dict(metrics),
        json.dumps(whole_cell, sort_keys=True),
    )


def _panel(name: str) -> str | None:
    """Metrics of training by their bare name, online ones by their full name.

    Others, such as times, have no panel.
    """
    if name.startswith("train/"):
        return name.removeprefix("train/")
    return name if name.startswith("online/") else None


def panel_names(curves: Iterable[Curve]) -> list[str]:
    """The loss first, then its terms and accuracies, online metrics, and how it was trained."""
    names = list(dict.fromkeys(name for curve in curves for name in curve.metrics))

    def rank(name: str) -> tuple[bool, int, bool, bool]:
        how_trained = LAST.index(name) if name in LAST else 0
        return name in LAST, how_trained, name.startswith("online/"), name != "loss"

    return sorted(names, key=rank)


def by_arm(curves: Iterable[Curve]) -> dict[str, list[Curve]]:
    """Runs that differ in nothing but their seed, by label; equal labels are numbered."""
    groups: dict[str, list[Curve]] = defaultdict(list)
    for curve in curves:
        groups[curve.arm].append(curve)

    arms: dict[str, list[Curve]] = {}
    for arm_curves in groups.values():
        label = arm_curves[0].label
        number = 1 + sum(other[0].label == label for other in arms.values())
        arms[label if number == 1 else f"{label} ({number})"] = arm_curves
    return arms


def band(curves: Sequence[Curve], panel: str) -> Band | None:
    """A metric of an arm, or None where it has none."""
    series = [curve.metrics[panel] for curve in curves if panel in curve.metrics]
    if not series:
        return None
    epochs = sorted(set.intersection(*(set(values) for values in series)))
    return Band(epochs, np.array([[values[epoch] for epoch in epochs] for values in series]))


def notes(arms: dict[str, list[Curve]]) -> list[str]:
    """Which runs have more epochs than are drawn."""
    lines = []
    for label, curves in arms.items():
        last = {
            curve.folder.name: max(max(values) for values in curve.metrics.values())
            for curve in curves
        }
        if len(set(last.values())) > 1:
            lines.append(
                f"{label}: drawn to epoch {min(last.values())}, the last that all have"
                f" ({max(last.values())} the furthest)"
            )
    return lines


# --- Drawing --------------------------------------------------------------------------------------


def curves_figure(panels: Sequence[str], arms: dict[str, list[Curve]]) -> Any:
    """The figure of all panels, with one legend below them."""
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    size = (PANEL_WIDTH * columns + MARGIN_WIDTH, PANEL_HEIGHT * rows + MARGIN_HEIGHT)
    figure, axes = pyplot().subplots(rows, columns, figsize=size, squeeze=False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        draw_panel(axis, panel, arms)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    _legend(figure, arms, columns)
    return figure


def draw_panel(axis: Any, panel: str, arms: dict[str, list[Curve]]) -> None:
    """A metric of each arm: the mean over its runs, and a band from the lowest to the highest."""
    for number, (label, curves) in enumerate(arms.items()):
        if (arm_band := band(curves, panel)) is None:
            continue
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
        axis.plot(
            arm_band.epochs,
            arm_band.values.mean(axis=0),
            color=colour,
            linestyle=dash,
            linewidth=1.3,
            label=label,
        )
        if len(arm_band.values) > 1:
            axis.fill_between(
                arm_band.epochs,
                arm_band.values.min(axis=0),
                arm_band.values.max(axis=0),
                color=colour,
                alpha=0.2,
                linewidth=0,
            )

    axis.set(title=NAMES.get(panel, panel.replace("_", " ")), xlabel="epoch")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(visible=True)


def _legend(figure: Any, arms: dict[str, list[Curve]], columns: int) -> None:
    """Each arm once, although not every panel has every arm."""
    lines = {line.get_label(): line for axis in figure.axes for line in axis.get_lines()}
    figure.legend(
        [lines[label] for label in arms if label in lines],
        [label for label in arms if label in lines],
        loc="outside lower center",
        ncols=columns,
    )
