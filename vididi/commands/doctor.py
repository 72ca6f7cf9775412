"""``doctor``: whether this machine has what is needed, line by line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vididi.terminal import say
from vididi.words import counted

DOCTOR: dict[str, Any] = {
    "description": (
        "Check Python, torch, the decoder, the GPU, what Ray needs to start, and folders; each line"
        " is ok, warning or problem, and says what to do. Exit status: 0 no problem, 1 some."
    ),
    "epilog": "example: vididi doctor --runs /scratch/runs --data /data/ucf101",
}


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """Give a parser the arguments of ``doctor``."""
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="of run folders (runs)"
    )
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a folder of videos, lists or shards that must be there; may be given again",
    )
    parser.set_defaults(run=doctor_command)


def doctor_command(arguments: argparse.Namespace) -> int:
    """Print every check; returns the exit status, 1 where there is a problem."""
    from vididi.data.storage import cache_folder
    from vididi.startup_checks import all_checks

    problems = 0
    for check in all_checks(arguments.runs, cache_folder(), arguments.data):
        say(f"{check.level:<8} {check.name}: {check.text}")
        problems += check.level == "problem"
    say(counted(problems, "problem"))
    return 1 if problems else 0
