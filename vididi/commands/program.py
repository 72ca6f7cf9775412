"""The commands over a sweep file as a program: arguments in, exit status out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from vididi import interrupts
from vididi.cell_status import INTERRUPTED
from vididi.commands.arguments import grace_of, parse_arguments
from vididi.commands.looks import run_until_resolved
from vididi.commands.results import compare_program
from vididi.commands.running import run
from vididi.commands.starting import start
from vididi.commands.states import report_status
from vididi.errors import VididiError
from vididi.terminal import PlainConsole, say_error


def main(argv: Sequence[str] | None = None) -> int:
    """run_sweep.py. Exit status: see execute, and start."""
    return start(_run_sweep, sys.argv[1:] if argv is None else argv)


def _run_sweep(argv: list[str]) -> int:
    if argv and argv[0] == "compare":
        return compare_program(argv[1:], "run_sweep.py compare")
    return execute(parse_arguments(argv), "run_sweep.py", ["python", "run_sweep.py", *argv])


def execute(arguments: argparse.Namespace, program: str, command_line: Sequence[str]) -> int:
    """Do what the arguments of one of the COMMANDS ask for.

    Args:
        program: as messages name it. command_line: what was typed, to be given again.

    Returns:
        the exit status: 0 all cells finished (or were stopped early), 1 some failed or are
            unfinished, 2 the sweep cannot be run as written, 130 it was interrupted (start makes
            another of it where that was not Ctrl-C).
    """
    console = PlainConsole()
    try:
        interrupts.going_on(command_line, grace_of(arguments))
        status = (
            report_status(arguments, console)
            if arguments.command == "status"
            else run_until_resolved(arguments, console, program)
            if arguments.until_resolved is not None
            else run(arguments, console, program)
        )
    except KeyboardInterrupt:
        status = INTERRUPTED
    except VididiError as error:
        if interrupts.asked() is None:
            say_error(error)
            return 2
        status = INTERRUPTED  # what it ended in then is no fault of the sweep's
    if status == INTERRUPTED:
        console.print(interrupts.farewell())
    return status
