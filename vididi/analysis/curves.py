"""Pretraining curves (CVRL Figure 5, CORP Figure 3): ``python analysis/curves.py runs/ablation
--out curves.png``.
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
    look,
    picture_parser,
    pyplot,
    run_main,
    runs_in,
    save,
)
from vididi.analysis.reading import each_once, named_identity, read_cell, read_flat_config, tell
from vididi.errors import ConfigError, DamagedError
from vididi.runs.file_names import CELL, CONFIG, METRICS
from vididi.runs.readers import folders_with, is_there, read_metrics
from vididi.terminal import say

COLUMNS = 3
LAST = ("gradient_norm", "lr")  # of how it was trained, after what it reached
NAMES = {"lr": "learning rate", "gradient_norm": "norm of the gradient"}
# What may differ between the runs of one arm.
_NOT_ARM = ("training.seed", "data.", "prepare.")


@dataclass(frozen=True)
class Curve:
    """What one run wrote after each epoch: metric -> epoch -> value; which arm it belongs to, and
    which cell it is.
    """

    folder: Path
    label: str
    arm: str
    metrics: dict[str, dict[int, float]]
    cell: str


@dataclass(frozen=True)
class Band:
    """A metric of one arm's runs at the epochs ``[E]`` that all of them have: values ``[runs,
    E]``.
    """

    epochs: list[int]
    values: NDArray[np.float64]


def main(argv: list[str] | None = None) -> int:
    parser = picture_parser(
        "Loss, its terms, accuracies, online metrics and learning rate over the epochs of"
        " pretraining (CVRL Figure 5, CORP Figure 3). Runs of one arm are drawn as their mean, with"
        " a band from the lowest to the highest seed. Unfinished runs count too."
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help="only these panels, such as loss and lr (default: all)",
    )
    return run_main(_draw, parser, argv)


def _draw(arguments: argparse.Namespace) -> None:
    plt = pyplot()
    curves = read_curves(runs_in(arguments.runs, find_curves))
    panels = panel_names(curves)
    if unknown := [name for name in arguments.metrics or () if name not in panels]:
        raise ConfigError(
            f"--metrics: {', '.join(unknown)} is not valid; the runs have {', '.join(panels)}"
        )
    panels = arguments.metrics or panels
    arms = by_arm(curves)
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    with look():
        figure, axes = plt.subplots(
            rows, columns, figsize=(2.7 * columns + 0.3, 2.1 * rows + 0.6), squeeze=False
        )
        for axis, panel in zip(axes.flat, panels, strict=False):
            draw_panel(axis, panel, arms)
        for axis in axes.flat[len(panels) :]:
            axis.set_visible(False)
        _legend(figure, arms, columns)
        save(figure, arguments.out)
    for line in notes(arms):
        say(f"  {line}")


# --- Reading --------------------------------------------------------------------------------------


def find_curves(root: Path) -> list[Path]:
    """Run folders with metrics, finished or not: ``root`` itself, or those anywhere under it."""
    begun = (CELL, CONFIG)
    return [
        folder
        for folder in folders_with(root, METRICS)
        if any(is_there(folder / name) for name in begun)
    ]


def read_curves(folders: Sequence[Path]) -> list[Curve]:
    """The curves of some folders; damaged ones, those without a whole epoch and copies are named
    and left out.

    Raises:
        ConfigError: no run is left.
    """
    curves, left_out = [], []
    for folder in folders:
        try:
            curves.append(read_curve(folder))
        except (DamagedError, ConfigError) as error:
            left_out.append(str(error))
    curves, copies = each_once(
        curves,
        lambda curve: (curve.cell, named_identity(curve.folder)),
        lambda curve: named_identity(curve.folder),
    )
    tell(f"left out: {line}" for line in (*left_out, *copies))
    if not curves:
        raise ConfigError(f"none of the {len(folders)} runs can be read")
    return curves


def read_curve(folder: Path) -> Curve:
    """What a run wrote after each epoch. A last line that was cut short is left out, as it is when
    the run goes on.

    Raises:
        DamagedError: a file of the run is damaged or missing. ConfigError: it has no whole epoch
            yet.
    """
    cell, config = read_cell(folder), read_flat_config(folder)
    own = {key: value for key, value in config.items() if not key.startswith(_NOT_ARM)}
    point = "".join(f", {axis}={value}" for axis, value in cell["axes"].items())
    metrics: dict[str, dict[int, float]] = defaultdict(dict)
    for told in read_metrics(folder):
        for name, value in told.items():
            if (panel := _panel(name)) is not None and isinstance(value, int | float):
                metrics[panel][told["epoch"]] = float(value)
    if not metrics:
        raise ConfigError(f"{folder}: metrics.jsonl has no whole epoch yet")
    arm, whole = ([cell["label"], own], [cell.get("sweep"), cell["arm"], cell["label"], config])
    title = legend_text(f"{cell['label']}{point}")
    return Curve(
        folder,
        title,
        json.dumps(arm, sort_keys=True),
        dict(metrics),
        json.dumps(whole, sort_keys=True),
    )


def _panel(name: str) -> str | None:
    """Metrics of training by their bare name, online ones by their whole name; others, such as
    times, have no panel.
    """
    if name.startswith("train/"):
        return name.removeprefix("train/")
    return name if name.startswith("online/") else None


def panel_names(curves: Iterable[Curve]) -> list[str]:
    """The loss first, then its terms and accuracies, online metrics, and how it was trained."""
    names = list(dict.fromkeys(name for curve in curves for name in curve.metrics))

    def place(name: str) -> int:
        return (
            LAST.index(name) + 3
            if name in LAST
            else 0
            if name == "loss"
            else 2
            if name.startswith("online/")
            else 1
        )

    return sorted(names, key=place)


def by_arm(curves: Iterable[Curve]) -> dict[str, list[Curve]]:
    """Runs that differ in nothing but their seed, by label; where arms have the same label,
    numbered.
    """
    groups: dict[str, list[Curve]] = defaultdict(list)
    for curve in curves:
        groups[curve.arm].append(curve)
    named: dict[str, list[Curve]] = {}
    for own in groups.values():
        label, number = (
            own[0].label,
            1 + sum(other[0].label == own[0].label for other in named.values()),
        )
        named[label if number == 1 else f"{label} ({number})"] = own
    return named


def band(curves: Sequence[Curve], panel: str) -> Band | None:
    """A metric of an arm, or None where it has none."""
    having = [curve.metrics[panel] for curve in curves if panel in curve.metrics]
    if not having:
        return None
    epochs = sorted(set.intersection(*(set(values) for values in having)))
    return Band(epochs, np.array([[values[epoch] for epoch in epochs] for values in having]))


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


def draw_panel(axis: Any, panel: str, arms: dict[str, list[Curve]]) -> None:
    for number, (label, curves) in enumerate(arms.items()):
        if (found := band(curves, panel)) is None:
            continue
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
        axis.plot(
            found.epochs,
            found.values.mean(axis=0),
            color=colour,
            linestyle=dash,
            linewidth=1.3,
            label=label,
        )
        if len(found.values) > 1:
            axis.fill_between(
                found.epochs,
                found.values.min(axis=0),
                found.values.max(axis=0),
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
