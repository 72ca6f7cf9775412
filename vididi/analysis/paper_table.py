"""Print a paper's table: ``python analysis/paper_table.py vididi_table_1 runs/frameworks``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vididi.analysis.paper import load_paper_table, table_names
from vididi.analysis.reading import find_runs
from vididi.analysis.tables import write_tables
from vididi.analysis.video_groups import BY_GROUP_HELP, VideoGroups
from vididi.errors import ConfigError, VididiError
from vididi.runs.mirror import pulled
from vididi.terminal import Parser, say


def main(argv: list[str] | None = None) -> int:
    """Exit status as of ``print_table``; 0 for ``--list``."""
    parser = Parser(
        description="A paper's table, measured beside printed; also as Markdown, CSV and LaTeX."
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="which table; --list names them")
    add_folders(parser, nargs="?")
    parser.add_argument(
        "--list", action="store_true", help="print the names and titles of all tables and stop"
    )
    arguments = parser.parse_args(argv)
    if arguments.list:
        for name in table_names():
            say(f"{name:<16} {load_paper_table(name).title}")
        return 0
    if arguments.name is None or arguments.runs is None:
        parser.error("NAME and RUNS are needed (or --list)")
    return print_table(arguments.name, arguments.runs, arguments.out, arguments.by_group)


def main_of_table(name: str, description: str, argv: list[str] | None) -> int:
    """A door to one table: only the folders are asked for."""
    parser = Parser(
        description=f"{description}, measured beside printed; also as Markdown, CSV and LaTeX."
    )
    add_folders(parser)
    arguments = parser.parse_args(argv)
    return print_table(name, arguments.runs, arguments.out, arguments.by_group)


def add_folders(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    """The arguments RUNS, --out and --by-group."""
    parser.add_argument(
        "runs", nargs=nargs, metavar="RUNS", help="a folder (s3://...) that holds run folders"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where the table goes as .md, .csv and .tex (default: RUNS)",
    )

    parser.add_argument("--by-group", metavar="GROUP", help=BY_GROUP_HELP)


def print_table(name: str, location: str, out: Path | None, by_group: str | None = None) -> int:
    """Print a table and write it as .md, .csv and .tex.

    ``by_group``: how test videos are put together for intervals (vididi/analysis/video_groups.py).

    Exit status: 0 printed, 1 there were no finished runs, 2 there is no such folder or table, or a
    result cannot be read.
    """
    try:
        runs = pulled(location)
        if not runs.is_dir():
            raise ConfigError(f"{location}: there is no such folder")
        folders = find_runs(runs)
        by = None if by_group is None else VideoGroups.named(by_group)
        say(write_tables(load_paper_table(name), folders, out or runs, by))
    except (VididiError, ValueError) as error:
        say(f"error: {error}", file=sys.stderr)
        return 2
    return 0 if folders else 1
