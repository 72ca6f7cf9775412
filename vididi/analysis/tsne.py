"""t-SNE of a model's best-retrieved classes: ``python analysis/tsne.py RUN RUN --out tsne.png``.

ViDiDi Figures 3 and 6 to 9.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vididi.analysis.plots import (
    COLOURS,
    MARKERS,
    extra,
    finished_in,
    image_path,
    legend_text,
    pyplot,
    run_main,
    save,
    style,
    titles,
)
from vididi.analysis.reading import Measurement, Run, print_to_stderr
from vididi.errors import ConfigError, DamagedError
from vididi.evaluation.silhouette import best_retrieved_classes, silhouette
from vididi.finite import check_finite
from vididi.runs.file_names import FEATURES, QUERIES
from vididi.runs.mirror import has, local_path, pull_file
from vididi.runs.readers import read_feature_table, read_queries
from vididi.terminal import Parser, say

RUN_END = "run"  # stands for an evaluation's name: what a run kept at its end
PERPLEXITY = 30.0  # van der Maaten and Hinton: 5 to 50
# Inches: the side of a panel, its title, and a row of its legend.
PANEL, TITLE_HEIGHT, LEGEND_ROW_HEIGHT = 3.4, 0.45, 0.17
LEGEND_COLUMNS = 2


@dataclass(frozen=True)
class Features:
    """The features of every video, as an evaluation stored them.

    Label ``[V]``, class name ``[V]``, split ``[V]``, features ``[V, D]``; and of its queries, the
    test videos, the label ``[Q]`` and how many wrong neighbours were nearer than the first right
    one ``[Q]``.
    """

    labels: NDArray[Any]
    classes: NDArray[Any]
    splits: NDArray[Any]
    features: NDArray[np.float32]
    query_labels: NDArray[Any]
    first_hits: NDArray[Any]


@dataclass(frozen=True)
class Panel:
    """One model's best-retrieved classes.

    Their videos in the plane ``[N, 2]``, the class of each ``[N]``, and the classes' silhouette.
    """

    title: str
    positions: NDArray[np.float64]
    classes: NDArray[Any]
    order: list[str]  # of the classes, the best retrieved first
    silhouette: float


def main(argv: list[str] | None = None) -> int:
    """Exit status as of ``plots.run_main``."""
    parser = Parser(
        description=(
            "t-SNE of the videos of the classes that each model retrieves best, side by side"
            " (ViDiDi Figures 3, 6 to 9)."
        ),
        epilog="example: vididi plot tsne runs/clips --classes 2 --out tsne.png",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        type=local_path,
        metavar="RUN",
        help="run folders, or folders (s3://...) of some, in this order",
    )
    parser.add_argument(
        "--classes",
        type=int,
        default=5,
        metavar="N",
        help="how many classes; the paper has 5 and 10 (default: 5)",
    )
    parser.add_argument(
        "--split", choices=("test", "train"), default="test", help="whose videos (default: test)"
    )
    parser.add_argument(
        "--evaluation",
        metavar="NAME",
        help=(
            "a folder in RUN/evaluations, or run for what runs kept at their end; needed where the"
            " choice is not plain"
        ),
    )
    parser.add_argument("--seed", type=int, default=0, help="of t-SNE (default: 0)")
    parser.add_argument(
        "--out", type=image_path, required=True, metavar="FILE.png", help="the picture"
    )

    return run_main(_draw, parser, argv)


def _draw(arguments: argparse.Namespace) -> None:
    if arguments.classes < 2:
        raise ConfigError(
            f"--classes: {arguments.classes} is not valid; a silhouette needs at least 2"
        )

    pyplot()  # first, as reading may take a while
    extra("sklearn.manifold")
    runs = with_features(finished_in(arguments.runs))
    name = arguments.evaluation or common_evaluation(runs)
    features = features_of(runs, name)
    runs = [run for run in runs if run.folder in features]
    panels = [
        make_panel(title, features[run.folder], arguments.classes, arguments.split, arguments.seed)
        for run, title in zip(runs, titles(runs), strict=True)
    ]

    with style():
        save(tsne_figure(panels), arguments.out)

    for panel in panels:
        say(f"  {panel.title}: silhouette {panel.silhouette:.3f} of {', '.join(panel.order)}")


# --- Features -------------------------------------------------------------------------------------


def with_features(runs: Sequence[Run]) -> list[Run]:
    """The runs without those whose features are lost to a damaged evaluation, which are named."""
    without = [run for run in runs if run.left_out and not _with_features(run)]
    print_to_stderr(f"left out: {run.folder}: has no other features" for run in without)
    return [run for run in runs if run not in without]


def evaluations_in_common(runs: Sequence[Run]) -> list[str]:
    """The evaluations with features that all runs have; RUN_END where there is nothing else.

    Raises:
        ConfigError: a run has none, or they have none in common.
    """
    evaluations = [_with_features(run) for run in runs]
    for run, by_name in zip(runs, evaluations, strict=True):
        if not by_name:
            raise ConfigError(
                f"{run.folder}: no features; `vididi evaluate retrieval {run.folder}` makes them"
            )

    names = [name for name in evaluations[0] if all(name in by_name for by_name in evaluations)]
    names = [name for name in names if name != RUN_END] or names
    if not names:
        everything = "; ".join(
            f"{run.folder.name}: {', '.join(by_name)}"
            for run, by_name in zip(runs, evaluations, strict=True)
        )
        raise ConfigError(
            f"the runs have no evaluation in common ({everything}); `vididi evaluate retrieval"
            " RUN...` makes one of all"
        )
    return names


def common_evaluation(runs: Sequence[Run]) -> str:
    """The evaluation with features that all runs have.

    Of several made in the same way on the same videos, the first. What runs kept at their end
    (RUN_END) counts where they have no evaluation in common.

    Raises:
        ConfigError: a run has none, they have none in common, or there are different ones to choose
            from.
    """
    names = evaluations_in_common(runs)
    evaluations = _with_features(runs[0])
    variants = {
        (m.checksum, json.dumps(m.settings, sort_keys=True))
        for name, m in evaluations.items()
        if name in names
    }
    if len(variants) > 1:
        raise ConfigError(f"--evaluation: must say which, as there are {', '.join(names)}")

    return names[0]


def _with_features(run: Run) -> dict[str, Measurement]:
    """The measurements whose features were kept, by the evaluation's name."""
    return {
        m.name or RUN_END: m
        for m in run.measurements
        if has(_folder_of(run, m.name or RUN_END) / FEATURES)
    }


def _folder_of(run: Run, evaluation: str) -> Path:
    """Where an evaluation's files are."""
    return run.folder if evaluation == RUN_END else run.folder / "evaluations" / evaluation


def features_of(runs: Sequence[Run], name: str) -> dict[Path, Features]:
    """What an evaluation kept of each run, by folder; damaged ones are named and left out.

    Raises:
        ConfigError: it kept nothing of a run, or nothing that can be read.
    """
    features = {}
    for run in runs:
        try:
            features[run.folder] = read_features(run, name)
        except DamagedError as error:
            print_to_stderr([f"left out: {error}"])
    if not features:
        raise ConfigError(f"none of the {len(runs)} runs has features that can be read")
    return features


def read_features(run: Run, name: str) -> Features:
    """The features that an evaluation kept.

    Raises:
        ConfigError: it kept none. DamagedError: they, or its queries, cannot be read.
    """
    if name not in (evaluations := _with_features(run)):
        existing = (
            f"it has {', '.join(evaluations)}"
            if evaluations
            else f"`vididi evaluate retrieval {run.folder}` makes some"
        )
        raise ConfigError(f"{run.folder}: no features of evaluation {name!r}; {existing}")

    folder = _folder_of(run, name)
    pull_file(folder / FEATURES)
    table, queries = read_feature_table(folder), read_queries(folder / QUERIES)
    if table is None:
        raise DamagedError(f"{folder / FEATURES}: is missing")
    if queries.first_hit is None:
        raise DamagedError(f"{folder / QUERIES}: has no column first_hit")

    features = table["features"].combine_chunks()
    result = Features(
        labels=table["label"].to_numpy(),
        classes=np.array(table["class"].to_pylist()),
        splits=np.array(table["split"].to_pylist()),
        features=features.flatten().to_numpy().reshape(len(features), -1),
        query_labels=queries.labels,
        first_hits=queries.first_hit,
    )
    check_finite(f"{folder / FEATURES}", features=result.features)
    return result


# --- The plane ------------------------------------------------------------------------------------


def make_panel(title: str, features: Features, count: int, split: str, seed: int) -> Panel:
    """The ``count`` best-retrieved classes, and where t-SNE puts their videos of ``split``.

    The test videos say which classes those are.

    Raises:
        ConfigError: there are fewer classes, or the encoder gives every video the same feature.
    """
    best = best_retrieved_classes(features.first_hits, features.query_labels, count)
    if len(best) < count:
        raise ConfigError(
            f"--classes: {count} is not valid; the test videos have {len(best)} classes"
        )
    chosen = (features.splits == split) & np.isin(features.labels, best)
    x, labels, names = features.features[chosen], features.labels[chosen], features.classes[chosen]
    if not np.ptp(x, axis=0).any():
        raise ConfigError(f"{title}: every video has the same feature, so there is nothing to draw")
    order = [str(features.classes[features.labels == label][0]) for label in best]
    return Panel(title, tsne(x, seed), names, order, silhouette(x, labels))


def tsne(features: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """``[N, D]`` -> ``[N, 2]``, the same for the same features and seed.

    Distances are Euclidean, as the silhouette's. One thread, because sums over several end in other
    last digits each time, which t-SNE's descent makes large.
    """
    # t-SNE looks at three times the perplexity of neighbours.
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    with extra("threadpoolctl").threadpool_limits(1):
        return (
            extra("sklearn.manifold")
            .TSNE(perplexity=perplexity, init="pca", random_state=seed)
            .fit_transform(features)
        )


def tsne_figure(panels: Sequence[Panel]) -> Any:
    """The figure of all panels, side by side."""
    classes = max(len(panel.order) for panel in panels)
    # With the title and the legend.
    height = PANEL + TITLE_HEIGHT + LEGEND_ROW_HEIGHT * -(-classes // LEGEND_COLUMNS)
    size = (PANEL * len(panels), height)
    figure, axes = pyplot().subplots(1, len(panels), figsize=size, squeeze=False)
    draw_panels(axes[0], panels)
    return figure


def draw_panels(axes: Sequence[Any], panels: Sequence[Panel]) -> None:
    """A class that several panels have looks the same in all of them."""
    classes = list(dict.fromkeys(name for panel in panels for name in panel.order))
    for axis, panel in zip(axes, panels, strict=True):
        for name in panel.order:
            style = classes.index(name)
            x, y = panel.positions[panel.classes == name].T
            marker = MARKERS[(style + style // len(COLOURS)) % len(MARKERS)]
            axis.scatter(
                x,
                y,
                s=16,
                c=COLOURS[style % len(COLOURS)],
                marker=marker,
                linewidths=0.4,
                edgecolors="white",
                label=legend_text(name),
            )
        axis.set_title(f"{panel.title}\nsilhouette {panel.silhouette:.3f}")
        axis.set(xticks=[], yticks=[])
        axis.spines[["top", "right"]].set_visible(True)
        axis.set_box_aspect(1)
        axis.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.02),
            ncols=LEGEND_COLUMNS,
            handletextpad=0.2,
            columnspacing=1.0,
        )
