"""``split``: a list with a test split of videos that have none."""

from __future__ import annotations

import argparse
import csv
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from vididi.commands.inputs import as_typed
from vididi.errors import ConfigError, DataError
from vididi.terminal import PlainConsole

if TYPE_CHECKING:
    from vididi.data.sources import Listing

DRAWN = ("test_share", "group", "seed")  # options of the sources, and of the command
# What the sources' options are called here.
TYPED = {"videos": "VIDEOS", "list": "--list", "test_share": "--test-share", "group": "--group"}
CACHE = Path()  # neither source keeps anything there
SPLIT: dict[str, Any] = {
    "description": (
        "Hold out a share of the videos of each class, in whole groups, and write all of them as a"
        " list for source csv. Prints the videos and groups of each class on either side."
    ),
    "epilog": (
        "example: vididi split clips --test-share 0.2 --out clips.csv\n"
        "         vididi split clips --test-share 0.2 --group '_(g[0-9]+)_' \\\n"
        "             --out clips.csv\n"
        "         vididi prepare csv --videos clips --list clips.csv --out shards/clips"
    ),
}


def add_split(parser: argparse.ArgumentParser) -> None:
    """Give a parser the arguments of ``split``."""
    parser.add_argument("videos", type=Path, metavar="VIDEOS", help="a folder of class folders")
    parser.add_argument(
        "--list",
        type=Path,
        metavar="FILE",
        help="a CSV file of path and label in VIDEOS, instead of class folders",
    )
    parser.add_argument(
        "--test-share",
        type=float,
        required=True,
        metavar="SHARE",
        help="of each class's videos, such as 0.2",
    )
    parser.add_argument(
        "--group",
        metavar="REGEX",
        help=(
            "what stays on one side: a pattern of paths below VIDEOS, whose one pair of parentheses"
            " matches the group; or a column of --list (default: each video by itself)"
        ),
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="LIST.csv", help="the list to be written"
    )
    parser.set_defaults(run=split_command)


def split_command(arguments: argparse.Namespace) -> int:
    """Write the list and print its counts; returns the exit status."""
    out: Path = arguments.out.expanduser().absolute()
    if out.exists():
        raise ConfigError(f"--out: {out}: is there already; give another name")
    if not out.parent.is_dir():
        raise ConfigError(f"--out: {out.parent} is not a folder")
    listing = _listing(arguments)
    _write(out, listing, arguments.videos)
    console = PlainConsole()
    console.print(_table(listing))
    console.print("\n".join([*listing.notes, f"written: {out}"]))
    videos = arguments.videos
    prepare = ["prepare", "csv", "--videos", str(videos), "--list", str(arguments.out)]
    following = ["vididi", *prepare, "--out", f"shards/{videos.absolute().name}"]
    console.print(f"next:  {shlex.join(following)}")
    return 0


def _listing(arguments: argparse.Namespace) -> Listing:
    """The videos with their splits; errors name the command's options."""
    from vididi.data.sources import folder
    from vididi.data.sources.table import csv_table

    drawn: dict[str, Any] = {name: getattr(arguments, name) for name in DRAWN}
    try:
        if arguments.list:
            return csv_table(CACHE, videos=arguments.videos, list=arguments.list, **drawn)
        return folder(CACHE, videos=arguments.videos, **drawn)
    except ValueError as error:
        raise ConfigError(f"--{str(error).replace('test_share', 'test-share', 1)}") from None
    except DataError as error:
        raise DataError(as_typed(str(error), TYPED)) from None


def _write(out: Path, listing: Listing, videos: Path) -> None:
    """Write the list, unless source csv would read another one than was meant.

    Raises:
        DataError: a name is lost in a list: one that is no text, or begins or ends with a blank.
    """
    from vididi.data.sources.table import csv_table

    partial = out.with_name(f"{out.name}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label", "split", "group"])
            for video, group in zip(listing, listing.groups, strict=True):
                writer.writerow([video.video_id, video.class_name, video.split, group])
        read = csv_table(CACHE, videos=videos, list=partial)
        for one, other in zip(listing, read, strict=True):
            if one != other:
                raise DataError(
                    f"{one.path}: would be read from the list as {other.path}, class"
                    f" {other.class_name!r}; give file and folder names that a list can hold"
                )
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def _table(listing: Listing) -> Table:
    """Videos and groups of each class and split."""
    from vididi.data.sources.held_out import count_sides

    sides = dict(zip(listing.groups, (video.split for video in listing), strict=True))
    total, by_class = count_sides([video.class_name for video in listing], listing.groups, sides)
    table = Table(box=box.SIMPLE)
    table.add_column("class")
    for head in ("train", "groups", "test", "groups", "share"):
        table.add_column(head, justify="right")
    for name, one in [*by_class.items(), ("all", total)]:
        counts = (one.train, one.train_groups, one.test, one.test_groups)
        table.add_row(name, *map(str, counts), f"{one.share:.3f}")
    return table
