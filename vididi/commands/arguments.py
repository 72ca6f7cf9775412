"""The arguments of the commands over a sweep file, for ``vididi`` and run_sweep.py alike."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from vididi.commands.estimating import add_estimate
from vididi.config import parse_value
from vididi.errors import ConfigError
from vididi.interrupts import GRACE_S
from vididi.loggers.choices import LoggerName
from vididi.readings import CHOICES
from vididi.terminal import Parser
from vididi.values import LARGEST, cut

COMMANDS = {
    "run": "Run the cells of a sweep file that are not finished yet, and print its table.",
    "status": (
        "Say what became of each cell of a sweep so far. Runs nothing. Exit status 0 if all are"
        " finished."
    ),
    "extend": (
        "Run the cells of a sweep with more seeds: the file's, and the numbers from 0 that it"
        " leaves out."
    ),
    "rerun": (
        "Run the cells of a sweep that failed, and no others. A search tries them again and"
        " goes on."
    ),
}


EXAMPLES = {
    "run": ("clips.yaml --shards shards/clips --dry-run", "ablation --only base --only vididi"),
    "status": ("clips.yaml --shards shards/clips",),
    "extend": (
        "clips.yaml --shards shards/clips --seeds 6",
        "ablation --until-resolved 20 --against base",
    ),
    "rerun": ("clips.yaml --shards shards/clips --failed",),
}


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Those of run_sweep.py, but for its ``compare``."""
    command = argv[0] if argv and argv[0] in COMMANDS else "run"
    others = (
        "\n\nAlso: run_sweep.py status | extend | rerun SWEEP.yaml, run_sweep.py compare A B; each"
        " has --help."
    )
    parser = Parser(
        prog="run_sweep.py" if command == "run" else f"run_sweep.py {command}",
        description=COMMANDS[command],
    )
    add_arguments(parser, command)
    parser.epilog = (parser.epilog or "") + (others if command == "run" else "")
    return parser.parse_args(argv[1:] if argv and argv[0] in COMMANDS else argv)


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """Give a parser the arguments of one of the COMMANDS, in groups."""
    parser.set_defaults(command=command, seeds="", count=None, until_resolved=None)
    called = "python %(prog)s" if parser.prog.startswith("run_sweep.py") else "%(prog)s"
    parser.epilog = "example: " + "\n         ".join(
        f"{called} {example}" for example in EXAMPLES[command]
    )
    parser.add_argument(
        "spec",
        type=Path,
        metavar="SWEEP.yaml",
        help="a sweep file, or else the name of one that vididi ships",
    )
    _add_cell_options(parser.add_argument_group("which cells"), command)
    _add_folder_options(parser.add_argument_group("data and run folders"))
    if command != "status":
        _add_run_options(parser.add_argument_group("how they run"))
        _add_table_options(parser.add_argument_group("the tables at its end"))
        example = "such as SWEEP.yaml --estimate --price 2.50: a price per hour of this machine"
        _add_preview_options(parser.add_argument_group("instead of running", example))


def _add_cell_options(group: argparse._ArgumentGroup, command: str) -> None:
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a configuration value in every cell; 'data={name: csv, ...}' replaces all"
        " of a section",
    )
    group.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="ARM",
        help="only this arm; may be given again",
    )
    group.add_argument(
        "--reading",
        choices=CHOICES,
        help=(
            "of a sweep with a paper's table: as the file reads the paper (default), as the paper"
            " prints it, or as its authors' code has it; what that changes is printed"
        ),
    )
    if command == "extend":
        _add_extent(group)
    else:
        group.add_argument("--seeds", metavar="0,1,2", help="these seeds instead of the file's")
    if command == "rerun":
        group.add_argument("--failed", action="store_true", required=True, help="those that failed")


def _add_extent(group: argparse._ArgumentGroup) -> None:
    either = group.add_mutually_exclusive_group(required=True)
    either.add_argument(
        "--seeds", dest="count", type=int, metavar="N", help="how many there are to be in all"
    )
    either.add_argument(
        "--until-resolved",
        type=int,
        metavar="MOST",
        help="as many as it takes to resolve each arm's difference to --against, MOST at most",
    )
    group.add_argument(
        "--look-every", type=int, default=5, metavar="N", help="look after so many (default: 5)"
    )
    group.add_argument(
        "--metric", default="retrieval/R@1", help="of a result.json (default: retrieval/R@1)"
    )


def _add_folder_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--runs",
        default="runs",
        metavar="URI",
        help="where run folders go (default: runs): storage that all nodes share, or s3://...",
    )
    group.add_argument(
        "--shards",
        metavar="URI",
        help="prepared data, a folder or s3://... (default: prepared once into the cache)",
    )


def _add_run_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--address",
        metavar="ADDRESS",
        help="of a running Ray cluster, or 'auto'; default: this machine alone",
    )
    group.add_argument(
        "--no-stopping",
        action="store_true",
        help="stop no cell early; those that were stopped go on",
    )
    add_logger(group, "the sweep file's, or else tensorboard")
    add_grace(group)


def add_grace(group: argparse._ArgumentGroup | argparse.ArgumentParser) -> None:
    """Give a parser the option ``--grace``."""
    group.add_argument(
        "--grace",
        type=float,
        default=GRACE_S,
        metavar="SECONDS",
        help=(
            "after Ctrl-C, SIGTERM or SIGHUP: how long what runs may take to write its checkpoint"
            f" and end (default: {GRACE_S:g})"
        ),
    )


def grace_of(arguments: argparse.Namespace) -> float | None:
    """The seconds of ``--grace``, None of a command that has no such option.

    Raises:
        ConfigError: it is below 0, or not finite.
    """
    grace: float | None = getattr(arguments, "grace", None)
    if grace is not None and not 0 <= grace < float("inf"):
        raise ConfigError(f"--grace: {grace:g} is not valid; it must be 0 or more seconds")
    return grace


def add_logger(group: argparse._ArgumentGroup | argparse.ArgumentParser, default: str) -> None:
    """Give a parser the option ``--logger``; None where it is left out."""
    group.add_argument(
        "--logger",
        action="append",
        choices=get_args(LoggerName),
        help=f"where curves are shown; may be given again (default: {default})",
    )


def _add_table_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--against",
        metavar="ARM",
        help="the arm that others are compared with (default: the first)",
    )
    group.add_argument(
        "--all-rows",
        action="store_true",
        help="show a paper's rows without runs, too",
    )


def _add_preview_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="print the cells, which are finished, and whether their data are there; then stop",
    )
    add_estimate(group)
    group.add_argument(
        "--audit-stopping",
        nargs="?",
        const="",
        choices=("", "asha", "median"),
        metavar="RULE",
        help=(
            "train nothing: which of the finished cells the file's rule (or asha, or median) would"
            " have stopped, and at what cost"
        ),
    )


def overrides(texts: list[str]) -> dict[str, Any]:
    """KEY=VALUE arguments as values by dotted key."""
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: must be KEY=VALUE, as in --set training.epochs=12")
        try:
            values[name.strip()] = parse_value(value)
        except ConfigError as error:
            raise ConfigError(f"--set {name.strip()}: {error}") from None
    return values


def parse_seeds(text: str) -> list[int]:
    """``--seeds 0,1,2``; none of an empty text."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not all(
        re.fullmatch(r"-?(0|[1-9][0-9]{0,18})", word) and int(word) <= LARGEST for word in words
    ):
        raise ConfigError(
            f"--seeds {cut(text)}: must be whole numbers with commas between, as in --seeds 0,1,2,"
            f" up to {LARGEST}"
        )
    seeds = [int(word) for word in words]
    if any(seed < 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds {text}: seeds must be 0 or more, each given once")
    return seeds
