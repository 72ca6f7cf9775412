"""Accuracy while a classifier is trained: ``python analysis/classifier_curves.py RUNS --out FILE``.

On training clips and on test videos (CVRL Figure 6).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vididi.analysis.paper import PERCENT
from vididi.analysis.plots import (
    COLOURS,
    finished_in,
    legend_text,
    picture_parser,
    pyplot,
    run_main,
    save,
    style,
)
from vididi.analysis.reading import Run, notes_of, one_run_per_cell
from vididi.errors import ConfigError
from vididi.protocols import classifiers
from vididi.runs.readers import read_evaluation_result
from vididi.terminal import say
from vididi.words import counted

FIGURE_SIZE = (4.6, 3.2)  # inches


@dataclass(frozen=True)
class Training:
    """The accuracies of one run's classifier by epoch.

    ``train`` of training clips after each epoch, ``test`` of test videos at the epochs where they
    were tested.
    """

    label: str
    name: str
    train: dict[int, float]
    test: dict[int, float]


def main(argv: list[str] | None = None) -> int:
    """Exit status as of ``plots.run_main``."""
    parser = picture_parser(
        "Top-1 accuracy by epoch while a classifier is trained, dashed on training clips, solid on"
        " test videos (CVRL Figure 6). Evaluate with --set test_every=1 for the solid lines. Runs"
        " of one label are drawn as their mean.",
        "example: vididi plot classifier_curves runs/clips --out accuracy.png",
    )
    parser.add_argument(
        "--protocol", choices=classifiers(), default="linear", help="default: linear"
    )
    parser.add_argument(
        "--evaluation",
        metavar="NAME",
        help="where a run has several: the folder in RUN/evaluations",
    )
    return run_main(_draw, parser, argv)


def _draw(arguments: argparse.Namespace) -> None:
    plt = pyplot()
    runs = finished_in(arguments.runs)
    runs = one_run_per_cell(runs, lambda run: run.cell["label"])[0]
    trainings = [
        training
        for run in runs
        if (training := training_of(run, arguments.protocol, arguments.evaluation))
    ]
    if not trainings:
        raise ConfigError(
            f"of {counted(len(runs), 'run')} none has a classifier's epochs; make them by vididi"
            f" evaluate {arguments.protocol}"
        )
    if len(names := sorted({training.name for training in trainings})) > 1:
        raise ConfigError(
            "the classifiers were trained in several ways; choose one by --evaluation:"
            f" {', '.join(names)}"
        )

    with style():
        figure, axis = plt.subplots(figsize=FIGURE_SIZE)
        draw_curves(axis, trainings)
        axis.set(xlabel="epoch", ylabel="top-1 (%)", title=names[0])
        save(figure, arguments.out)

    if len(trainings) < len(runs):
        say(f"  no such classifier of {len(runs) - len(trainings)} of {counted(len(runs), 'run')}")
    if not any(training.test for training in trainings):
        say("  none was tested on the way (--set test_every=1), so there are dashed lines only")

    for note in notes_of(runs):
        say(f"  {note}")


def training_of(run: Run, protocol: str, name: str | None) -> Training | None:
    """The epochs of a run's classifier.

    Raises:
        ConfigError: it has several and none is named.
    """
    trainings = {}
    # Of scores that were NaN, as notes_of says.
    doubtful = {m.name for m in run.measurements if m.notes and not m.metrics}
    for evaluation in (
        m.name
        for m in run.measurements
        if m.name.startswith(f"{protocol}-") and m.name not in doubtful
    ):
        result = read_evaluation_result(run.folder / "evaluations" / evaluation)
        if (epochs := result and result.get("epochs")) and name in (None, evaluation):
            train, test = (
                {record["epoch"]: record[key] for record in epochs if key in record}
                for key in ("train_top1", "test_top1")
            )
            trainings[evaluation] = Training(
                legend_text(str(run.cell["label"])), evaluation, train, test
            )

    if len(trainings) > 1:
        raise ConfigError(
            f"{run.folder}: has several; choose one by --evaluation: {', '.join(trainings)}"
        )

    return next(iter(trainings.values()), None)


def draw_curves(axis: Any, trainings: Sequence[Training]) -> None:
    """Mean top-1 accuracy of each arm's runs by epoch: dashed in training, solid on test videos."""
    arms: dict[str, list[Training]] = defaultdict(list)
    for training in trainings:
        arms[training.label].append(training)

    for number, (label, arm_trainings) in enumerate(arms.items()):
        colour = COLOURS[number % len(COLOURS)]
        _line(
            axis,
            [training.train for training in arm_trainings],
            color=colour,
            linestyle="--",
            linewidth=1.0,
            label=f"{label}, training",
        )
        _line(
            axis,
            [training.test for training in arm_trainings],
            color=colour,
            linestyle="-",
            linewidth=1.5,
            label=f"{label}, test",
        )

    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(visible=True)
    axis.legend()


def _line(axis: Any, runs: list[dict[int, float]], **style: Any) -> None:
    """The mean over the epochs that all runs have, if there are any."""
    epochs = sorted(set.intersection(*map(set, runs)))
    if epochs:
        axis.plot(
            epochs, [PERCENT * np.mean([run[epoch] for run in runs]) for epoch in epochs], **style
        )
