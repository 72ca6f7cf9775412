"""Print a paper's table: ``python analysis/paper_table.py vididi_table_1 runs/frameworks``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vididi.analysis.formats import with_lines
from vididi.analysis.own_table import shown_table, sweep_tables
from vididi.analysis.paper import load_paper_table, table_names
from vididi.analysis.reading import find_runs, read_all
from vididi.analysis.tables import sheets, write_parts
from vididi.analysis.video_groups import BY_GROUP_HELP, VideoGroups
from vididi.errors import ConfigError, VididiError
from vididi.runs.mirror import pulled
from vididi.terminal import Parser, say, say_error, terminal_width


def main(argv: list[str] | None = None) -> int:
    """Exit status as of ``print_table``; 0 for ``--list``."""
    parser = Parser(
        description="A paper's table, measured beside printed; also as Markdown, CSV and LaTeX.",
        epilog=(
            "example: vididi table --list\n"
            "         vididi table vididi_table_6 runs/clips --out tables\n"
            "         vididi table runs/clips         all that was measured"
        ),
    )
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="which table; --list names them. Without it: all that the runs measured",
    )
    add_folders(parser, nargs="?")
    parser.add_argument(
        "--list", action="store_true", help="print the names and titles of all tables and stop"
    )
    arguments = parser.parse_args(argv)
    if arguments.list:
        for name in table_names():
            say(f"{name:<16} {load_paper_table(name).title}")
        return 0
    if arguments.name is None or (arguments.runs is None and arguments.name in table_names()):
        parser.error("NAME and RUNS are needed, or RUNS alone (or --list)")
    if arguments.runs is None:
        return print_own_table(arguments.name, arguments.out, arguments.by_group)
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
        table, runs = load_paper_table(name), _folder_at(location)
        folders, width = find_runs(runs), terminal_width()
        by = None if by_group is None else VideoGroups.named(by_group)
        finished = read_all(folders)
        parts = list(sheets(table, finished.runs, by))
        text = write_parts(table, parts, finished.left_out, out or runs)
        if width is not None:
            text = with_lines(shown_table(table, parts, width, all_rows=True), finished.left_out)
        say(text)
    except (VididiError, ValueError) as error:
        say_error(error)
        return 2
    return 0 if folders else 1


def print_own_table(location: str, out: Path | None, by_group: str | None = None) -> int:
    """Print all that runs measured, as a sweep prints it at its end, and write it as results.txt,
    .md, .csv and .tex. Exit status as of ``print_table``.
    """
    try:
        if by_group is not None:
            raise ConfigError("--by-group: is of a paper's table; give NAME too")
        runs = _folder_at(location)
        folders = find_runs(runs)
        if not folders:
            say(
                f"{location}: there is no finished run in it; `vididi status SWEEP.yaml` says how"
                " far a sweep is",
                file=sys.stderr,
            )
            return 1
        say(sweep_tables(None, folders, out or runs, None, terminal_width()))
    except (VididiError, ValueError) as error:
        say_error(error)
        return 2
    return 0


def _folder_at(location: str) -> Path:
    """A folder of run folders, as it is on this machine."""
    runs = pulled(location)
    if not runs.is_dir():
        raise ConfigError(
            f"{location}: there is no such folder; give one that holds run folders, such as"
            " runs/NAME of a sweep (`vididi table --list` names the papers' tables)"
        )
    return runs
