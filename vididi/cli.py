"""The ``vididi`` command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial

from vididi import __version__, collector, interrupts

if sys.argv[0].rpartition("/")[2] == "vididi" or __name__ == "__main__":
    interrupts.catch_from_the_start()  # before what is slow to import
    collector.one_program_runs()

from vididi.commands.arguments import COMMANDS, add_arguments
from vididi.commands.cluster_files import CLUSTER, add_cluster
from vididi.commands.data_set import CHECK, PREPARE, SHOW, add_check, add_prepare, add_show
from vididi.commands.doctor import DOCTOR, add_doctor
from vididi.commands.embed import EMBED, SEARCH, add_embed, add_search
from vididi.commands.evaluate import EVALUATE, add_evaluate
from vididi.commands.export import EXPORT, add_export
from vididi.commands.keys import CONFIG_COMMAND, add_config
from vididi.commands.pretrain import PRETRAIN, add_pretrain
from vididi.commands.results import (
    PICTURES,
    compare_program,
    plot_program,
    report_program,
    results_program,
    table_program,
)
from vididi.commands.split import SPLIT, add_split
from vididi.commands.starting import start
from vididi.terminal import Parser

# What the help lists, group by group. A command of a sweep has the arguments of run_sweep.py's
# (vididi/commands/arguments.py).
HELP = {
    "prepared data": {
        "prepare": "decode videos once, into Parquet shards",
        "split": "hold out a test split, class by class in whole groups, as a list",
        "check": "compare every frame of a prepared set with what its index says",
        "show": "draw what the network sees of one video",
    },
    "before anything runs": {
        "doctor": "check that this machine has all that is needed",
        "config": "what a key is, its default, unit and source; or all defaults",
        "cluster": "say what is wrong with a file of `ray up` before it is used",
    },
    "sweeps, over Ray": {
        "sweep": "run what is not finished of a sweep file, and print its table",
        "status": "what became of each cell so far; runs nothing",
        "extend": "run the cells with more seeds",
        "rerun": "run only the cells that failed",
    },
    "single runs": {
        "pretrain": "one run of a configuration, without a sweep and without Ray",
        "evaluate": "measure finished encoders by a protocol of the papers",
    },
    "encoders to carry away": {
        "embed": "video files to feature vectors, by a finished run or its encoder",
        "export": "an encoder for other programs, with a model card",
        "search": "the videos of a prepared set that are nearest to a video file",
    },
    "results": {
        "table": "a paper's table from run folders, measured beside printed",
        "compare": "the difference between two arms, with its interval",
        "results": "docs/results.md and README's blocks, from run folders or records",
        "report": "one HTML page about a sweep's runs, from run folders",
        "plot": "a picture of run folders, such as curves, bars, tsne",
    },
}

# Programs of their own, whose arguments are read only where they are asked for.
PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "table": table_program,
    "compare": partial(compare_program, prog="vididi compare"),
    "results": results_program,
    "report": report_program,
    "plot": plot_program,
}


NEXT = """\
to begin:
  vididi doctor                  is this machine ready?
  vididi sweep smoke             three small runs on built-in videos, minutes
  vididi split clips --test-share 0.2 --out clips.csv
  vididi prepare csv --videos clips --list clips.csv --out shards/clips
                                 your own videos, in folders of classes

Each command has --help with an example. An error is one message; with --debug, anywhere on the\
 line, it has its traceback too."""


def main(argv: list[str] | None = None) -> int:
    """The ``vididi`` program; ``argv`` is the command line by default.

    Returns:
        the exit status: 0 done, 1 the run failed, 2 it cannot be run as written, 3 videos were
            rejected while preparing; the commands over a sweep return run_sweep.py's. More in
            vididi/commands/starting.py.
    """
    return start(_main, sys.argv[1:] if argv is None else argv)


def _main(argv: list[str]) -> int:
    if argv and argv[0] in PROGRAMS:
        return PROGRAMS[argv[0]](argv[1:])
    parser = make_parser()
    _complete(parser)
    arguments = parser.parse_args(argv, argparse.Namespace(command_line=["vididi", *argv]))
    if not hasattr(arguments, "run"):
        parser.print_help()
        return 0
    return arguments.run(arguments)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = Parser(
        prog="vididi",
        usage="%(prog)s [-h] [--version] COMMAND ...",
        description="Self-supervised video pretraining with temporal derivatives.\n\n" + _listed(),
        epilog=NEXT,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(prog="vididi", metavar="COMMAND", help=argparse.SUPPRESS)
    add_prepare(commands.add_parser("prepare", **PREPARE))
    add_split(commands.add_parser("split", **SPLIT))
    add_check(commands.add_parser("check", **CHECK))
    add_show(commands.add_parser("show", **SHOW))
    add_doctor(commands.add_parser("doctor", **DOCTOR))
    add_config(commands.add_parser("config", **CONFIG_COMMAND))
    add_cluster(commands.add_parser("cluster", **CLUSTER))
    add_pretrain(commands.add_parser("pretrain", **PRETRAIN))
    add_evaluate(commands.add_parser("evaluate", **EVALUATE))
    add_embed(commands.add_parser("embed", **EMBED))
    add_export(commands.add_parser("export", **EXPORT))
    add_search(commands.add_parser("search", **SEARCH))
    for command, about in COMMANDS.items():
        name = "sweep" if command == "run" else command
        _add_sweep(commands.add_parser(name, description=about), command)
    for name in PROGRAMS:
        program = commands.add_parser(name)  # for lists of commands and completion; main calls it
        if name == "plot":
            program.add_argument("picture", choices=PICTURES)
    return parser


def _complete(parser: argparse.ArgumentParser) -> None:
    """Complete the shell's command line, where ``eval "$(register-python-argcomplete vididi)"`` was
    read; needs the extra ``completion``.
    """
    if "_ARGCOMPLETE" not in os.environ:  # argcomplete sets it where the shell completes
        return
    from argcomplete import autocomplete

    autocomplete(parser)


def _listed() -> str:
    """The commands by group, a line each."""
    groups = (
        f"{group}:\n" + "\n".join(f"  {name:<10}{text}" for name, text in texts.items())
        for group, texts in HELP.items()
    )
    return "\n\n".join(groups)


def _add_sweep(parser: argparse.ArgumentParser, command: str) -> None:
    add_arguments(parser, command)
    parser.set_defaults(run=sweep_command)


def sweep_command(arguments: argparse.Namespace) -> int:
    """``sweep``, ``status``, ``extend`` and ``rerun``: what run_sweep.py does with the same
    arguments.
    """
    from vididi.commands.program import execute

    return execute(arguments, "vididi", arguments.command_line)


if __name__ == "__main__":
    sys.exit(main())
