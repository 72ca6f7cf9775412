"""Where the commands of a sweep meet vididi/analysis/, which reads run folders: imported when it is
asked for, as it takes a moment.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from vididi.terminal import Parser

if TYPE_CHECKING:
    from vididi.analysis.paper import PaperTable
    from vididi.analysis.reading import Run as Run


PICTURES = {
    "bars": "each framework with and without ViDiDi, beside the paper's",
    "classifier_curves": "accuracy while a classifier is trained",
    "clip": "a clip as the network sees it, above a bar for each arm",
    "curves": "loss, online metrics and rate, by epoch of pretraining",
    "intervals": "how far apart the two clips of a video are, by sampling",
    "saliency": "where each encoder looks",
    "training_length": "a metric against the number of pretraining steps",
    "tsne": "the features of videos, by class",
}


def table_program(argv: Sequence[str]) -> int:
    """``vididi table``: one of the papers' tables from run folders; returns its exit status."""
    return _program("paper_table", "vididi table", argv)


def results_program(argv: Sequence[str]) -> int:
    """``vididi results``: docs/results.md from run folders or records; returns its exit status."""
    return _program("results_files", "vididi results", argv)


def plot_program(argv: Sequence[str]) -> int:
    """``vididi plot PICTURE``: a picture of run folders; returns its exit status."""
    listed = "\n".join(f"  {picture:<18} {text}" for picture, text in PICTURES.items())
    parser = Parser(
        prog="vididi plot",
        description=f"A picture of run folders; each has --help.\n\npictures:\n{listed}",
        epilog="example: vididi plot curves runs/clips --out curves.png",
    )
    parser.add_argument("picture", choices=PICTURES, metavar="PICTURE", help="one of those above")
    picture = parser.parse_args(argv[:1]).picture
    return _program(picture, f"vididi plot {picture}", argv[1:])


def report_program(argv: Sequence[str]) -> int:
    """``vididi report``: an HTML page about run folders; returns its exit status."""
    return _program("report", "vididi report", argv)


def _program(name: str, prog: str, argv: Sequence[str]) -> int:
    """Run a program of vididi/analysis, whose messages call it ``prog``: argparse takes that from
    the process's arguments.
    """
    before, sys.argv = sys.argv, [prog, *argv]
    try:
        return import_module(f"vididi.analysis.{name}").main(list(argv))
    finally:
        sys.argv = before


def compare_program(argv: Sequence[str], prog: str) -> int:
    """The program of the difference between two arms; returns its exit status."""
    from vididi.analysis.compare import main

    return main(list(argv), prog)


def paper_table(name: str | None) -> PaperTable | None:
    """The paper's table that a sweep file names, if it names one; an unknown one is an error."""
    if not name:
        return None
    from vididi.analysis.paper import load_paper_table

    return load_paper_table(name)


def write_table(
    paper: PaperTable | None, runs: Path, against: str | None, width: int | None, all_rows: bool
) -> str:
    """The tables of the finished runs under a folder, which are written beside them too; see
    vididi/analysis/own_table.py.
    """
    from vididi.analysis.own_table import sweep_tables
    from vididi.analysis.reading import find_runs

    return sweep_tables(paper, find_runs(runs), runs, against, width, all_rows)


def finished_runs(folders: Iterable[Path]) -> list[Run]:
    """The finished ones of some run folders."""
    from vididi.analysis.reading import read_finished

    return read_finished(folders)


def finished_under(*folders: Path) -> list[Run]:
    """The finished runs in folders that hold some."""
    from vididi.analysis.reading import find_runs, read_finished

    return read_finished(run for folder in folders for run in find_runs(folder))


def find_best_arm(runs: Sequence[Run], metric: str, largest: bool) -> list[Run]:
    """The runs of the arm with the best mean of a metric; none if none has it."""
    from vididi.analysis.compare import best_arm

    return best_arm(runs, metric, largest)


def difference(
    ours: Sequence[Run], theirs: Sequence[Run], metric: str, names: tuple[str, str], bound: float
) -> list[str]:
    """What is to be said of the difference between two arms, and of whether it is above
    ``bound``.
    """
    from vididi.analysis.compare import compare

    return compare(ours, theirs, metric, names).lines(bound)


def scaled(metric: str, value: float) -> str:
    """A value of a metric as tables show it, such as 0.25 as 25.0."""
    from vididi.analysis.tables import column_of

    return column_of(metric).scaled(value)


def difference_unit(metric: str) -> str:
    """What follows a difference of such values."""
    from vididi.analysis.tables import unit

    return unit(metric)


def adjusted_p_values(
    reference: Sequence[Run], arms: Mapping[str, Sequence[Run]], metric: str, name: str
) -> dict[str, float]:
    """Of each arm's difference to the reference over the seeds that all have, by Holm."""
    from vididi.analysis.compare_several import compare_all

    family = compare_all(reference, arms, metric, name)
    return {difference.arm: difference.adjusted for difference in family.differences}


def level_of_look(seeds: int, most: int, looked: Sequence[tuple[int, float]]) -> float:
    """The level of a look; see vididi/analysis/power.py."""
    from vididi.analysis.power import error_of_look

    return error_of_look(seeds, most, looked)


def look_table(p: Mapping[str, float], resolved: Collection[str]) -> str:
    """Each arm with its p-value and whether it is resolved, as text."""
    from tabulate import tabulate

    rows = [[arm, f"{value:.2g}", "yes" if arm in resolved else "no"] for arm, value in p.items()]
    return tabulate(rows, ["arm", "p", "resolved"], disable_numparse=True)
