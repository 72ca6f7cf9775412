"""``cluster check``: a file of `ray up` is looked at before it is used."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.padding import Padding
from rich.text import Text

from vididi.terminal import PlainConsole, visible
from vididi.words import counted

if TYPE_CHECKING:
    from vididi.cluster.check.cluster_file import ClusterFile, ClusterFinding

CLUSTER: dict[str, Any] = {
    "description": "Files of `ray up`, which describe a cluster (docs/cluster.md).",
    "epilog": "example: vididi cluster check ray_cluster.yaml",
}
CLUSTER_CHECK: dict[str, Any] = {
    "formatter_class": argparse.RawDescriptionHelpFormatter,
    "description": (
        "Say what is wrong with a file of `ray up` before it is used: values to be filled in, YAML,"
        " Ray's schema, keys\nand credentials, storage, images, and whether a sweep's cells fit."
        " Starts nothing, and asks the network nothing\nwithout --ask. Exit status: 0 no problem,"
        " 1 some, 2 it cannot be read."
    ),
    "epilog": (
        "example: vididi cluster check ray_cluster.yaml --sweep"
        " sweeps/paper/vididi_table_1_ucf101.yaml --runs s3://bucket/runs"
    ),
}
STYLES = {"problem": "bold red", "warning": "yellow", "note": "dim"}


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Give a parser the command ``check`` of cluster files."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    check = commands.add_parser(
        "check", help="say what is wrong with a file before `ray up`", **CLUSTER_CHECK
    )
    check.add_argument("file", type=Path, metavar="FILE", help="such as ray_cluster.yaml")
    check.add_argument(
        "--sweep",
        type=Path,
        metavar="SWEEP.yaml",
        help="a sweep whose cells are to fit on the nodes: a file, or one that vididi ships",
    )
    check.add_argument(
        "--runs",
        default="/mnt/shared/runs",
        metavar="DIR",
        help="where run folders are to go, on the nodes or in a store (/mnt/shared/runs)",
    )
    check.add_argument("--shards", metavar="DIR", help="where prepared data are to lie, likewise")
    check.add_argument(
        "--ask",
        action="store_true",
        help="ask AWS too: machines of the region, roles, buckets, quotas; needs boto3",
    )
    check.set_defaults(run=check_file_command)


def check_file_command(arguments: argparse.Namespace) -> int:
    """Print every finding; returns the exit status, 1 where there is a problem."""
    from vididi.cluster.check.cluster_check import check_cluster_file
    from vididi.commands.sweep_files import sweep_file
    from vididi.sweep import load_sweep

    sweep = load_sweep(sweep_file(arguments.sweep)[0]) if arguments.sweep else None
    read = check_cluster_file(
        arguments.file, sweep, arguments.runs, arguments.shards, arguments.ask
    )
    print_findings(read)
    return 1 if any(finding.level == "problem" for finding in read.findings) else 0


def print_findings(read: ClusterFile, console: PlainConsole | None = None) -> None:
    """Each finding in a block of lines on a terminal, and on one line, FILE:LINE first, elsewhere.

    Args:
        console: where to; a plain one of standard output by default.
    """
    console = console or PlainConsole()
    for finding in read.findings:
        if console.is_terminal:
            _print_block(console, finding)
        else:
            line = f":{finding.line}" if finding.line else ""
            where = f"{finding.where}: " if finding.where else ""
            advice = f" {finding.advice}" if finding.advice else ""
            text = f"{read.path}{line}: {finding.level}: {where}{_sentence(finding.text)}{advice}"
            console.print(" ".join(text.split()))
    problems, warnings = (
        sum(finding.level == level for finding in read.findings) for level in ("problem", "warning")
    )
    console.print(f"{read.path}: {counted(problems, 'problem')}, {counted(warnings, 'warning')}")


def _print_block(console: PlainConsole, finding: ClusterFinding) -> None:
    width = min(console.width, 80 if "COLUMNS" not in os.environ else console.width)
    place = ", ".join(filter(None, (f"line {finding.line}" if finding.line else "", finding.where)))
    head = Text.assemble((finding.level, STYLES[finding.level]), f"  {visible(place)}".rstrip())
    console.print(head, soft_wrap=False, width=width, overflow="fold")
    body = [Text(visible(_sentence(finding.text)))]
    if finding.advice:
        body.append(Text(visible(finding.advice), style="italic"))
    for text in body:
        console.print(Padding(text, (0, 0, 0, 4)), soft_wrap=False, width=width, overflow="fold")


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."
