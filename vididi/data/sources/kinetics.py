"""Kinetics-400, -600 and -700 by their official CSV lists, and K200-40k, a subset of Kinetics-400.

    label,youtube_id,time_start,time_end,split
    testifying,---QUuC4vJs,84,94,validate

The lists are the data sets' own (DeepMind's archives: train.csv, validate.csv, test.csv; the
ActivityNet crawler's: kinetics-400_train.csv, kinetics-400_val.csv; CVDF's: train.csv, val.csv).
Columns are found by their names; others are ignored. A clip's file is ``<id>_<start>_<end>`` with
times of six digits and any video suffix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Literal

from vididi.data.sources.lists import (
    Listed,
    as_videos,
    check_typos,
    csv_lines,
    existing_folder,
    list_file,
    malformed,
    one_spelling,
)
from vididi.data.sources.walk import VideoFolder
from vididi.data.video import Video
from vididi.draws import Use, permutation
from vididi.errors import DataError

HeldOut = Literal["validation", "test"]

COLUMNS = ("label", "youtube_id", "time_start", "time_end")
# What releases call a split: in the names of list files, in their column "split", and as a folder
# of videos.
ALIASES = {"train": ("train",), "validation": ("validate", "val", "validation"), "test": ("test",)}


def kinetics400(
    cache: Path, *, videos: Path, splits: Path, held_out: HeldOut = "validation"
) -> list[Video]:
    """Kinetics-400; its validation list is our split ``test``.

    Args:
        videos: clips in class folders (spaces or underscores), in split folders, both or neither.
        splits: the folder of the CSV files.
        held_out: ``test`` evaluates on the test list instead, where it has labels.
    """
    return _located(videos, _lists(splits, 400, held_out))


def kinetics600(
    cache: Path, *, videos: Path, splits: Path, held_out: HeldOut = "validation"
) -> list[Video]:
    """Kinetics-600; as kinetics400.

    Args:
        videos, splits, held_out: see kinetics400.
    """
    return _located(videos, _lists(splits, 600, held_out))


def kinetics700(
    cache: Path, *, videos: Path, splits: Path, held_out: HeldOut = "validation"
) -> list[Video]:
    """Kinetics-700, of 2019 or 2020, whichever lists are given; as kinetics400.

    Args:
        videos, splits, held_out: see kinetics400.
    """
    return _located(videos, _lists(splits, 700, held_out))


def k200_40k(
    cache: Path,
    *,
    videos: Path,
    splits: Path,
    seed: int = 0,
    classes: int = 200,
    videos_per_class: int = 200,
) -> list[Video]:
    """K200-40k: 200 of Kinetics-400's classes with 200 training videos each.

    Split ``test`` has the classes' validation videos.

    The papers' own choice was not published, so this is drawn: from the lists and the seed alone,
    never from which files are there. Missing files are therefore missing from the 40,000, listed
    and counted, not replaced.

    Args:
        videos, splits: those of Kinetics-400.
        seed: another subset for each.
        classes: how many are drawn (ViDiDi 3.1: 200).
        videos_per_class: how many training videos of each (ViDiDi 3.1: 200) [videos].
    """
    for name, value, minimum in (
        ("seed", seed, 0),
        ("classes", classes, 1),
        ("videos_per_class", videos_per_class, 1),
    ):
        if value < minimum:
            raise ValueError(f"{name}: {value} is not valid; it must be at least {minimum}")

    listed = _lists(splits, 400, "validation")
    train = draw_subset(
        [row for row in listed if row.split == "train"], seed, classes, videos_per_class
    )
    chosen = {row.class_name for row in train}
    subset = train + [row for row in listed if row.split == "test" and row.class_name in chosen]
    return _located(videos, subset, {row.class_name for row in listed})


def draw_subset(
    train: list[Listed], seed: int, classes: int, videos_per_class: int
) -> list[Listed]:
    """``videos_per_class`` of each of ``classes`` classes, by class and then by id.

    Classes: the first of a permutation of all class names in sorted order, from (seed, 0). Videos
    of the class that is n-th in that order, from 0: the first of a permutation of its ids in sorted
    order, from (seed, 1 + n).

    Raises:
        DataError: there are fewer classes, or fewer videos of one.
    """
    by_class: dict[str, list[Listed]] = {}
    for row in sorted(train, key=lambda row: (row.class_name, row.video_id)):
        by_class.setdefault(row.class_name, []).append(row)
    names = list(by_class)
    if len(names) < classes:
        raise DataError(
            f"data.classes: {classes} classes asked for, but the training list has {len(names)}"
        )

    subset = []
    for number in sorted(permutation(len(names), Use.SUBSET, seed, 0)[:classes]):
        rows = by_class[names[number]]
        if len(rows) < videos_per_class:
            raise DataError(
                f"data.videos_per_class: {videos_per_class} videos of each class asked for, but the"
                f" training list has {len(rows)} of class {names[number]!r}"
            )
        subset += [
            rows[i]
            for i in sorted(
                permutation(len(rows), Use.SUBSET, seed, 1 + int(number))[:videos_per_class]
            )
        ]
    return subset


def _lists(splits: Path, edition: int, held_out: HeldOut) -> list[Listed]:
    root = existing_folder("splits", splits)
    paths = {use: list_file(root, *_list_names(use, edition)) for use in ("train", held_out)}
    return [row for use, path in paths.items() for row in _clips(path, use)]


def _list_names(use: str, edition: int) -> list[str]:
    prefixes = (
        "",
        f"kinetics-{edition}_",
        f"kinetics_{edition}_",
        f"kinetics{edition}_",
        f"k{edition}_",
    )
    return [f"{prefix}{alias}.csv" for prefix in prefixes for alias in ALIASES[use]]


def _clips(path: Path, use: str) -> Iterator[Listed]:
    (position, header), *lines = csv_lines(path, fits=lambda cells: {*COLUMNS} <= {*cells})
    absent = [name for name in COLUMNS if name not in header]
    if absent:
        raise malformed(
            path,
            position,
            f"no column {' and no '.join(absent)}; the columns are {', '.join(header)}, and must be"
            f" {', '.join(COLUMNS)}, separated by commas, tabs or semicolons",
        )

    for position, values in lines:
        if len(values) != len(header):
            raise malformed(
                path,
                position,
                f"{','.join(values)!r} has {len(values)} columns, not the {len(header)} of"
                f" {','.join(header)}",
            )
        row = dict(zip(header, values, strict=True))
        label, clip, start, end = (row[name] for name in COLUMNS)
        if not label or not clip or "/" in clip:
            raise malformed(path, position, f"no label or no youtube_id in {','.join(values)!r}")
        if row.get("split") and row["split"] not in ALIASES[use]:
            raise malformed(
                path,
                position,
                f"split {row['split']!r} in a list of split {use}; it is"
                f" {' or '.join(ALIASES[use])}",
            )
        try:
            video_id = f"{clip}_{int(float(start)):06d}_{int(float(end)):06d}"
        except (ValueError, OverflowError):
            raise malformed(
                path,
                position,
                f"time_start {start!r} or time_end {end!r} is not a number of seconds",
            ) from None
        # Some releases write labels with underscores; one name for both.
        yield Listed(
            video_id, label.replace("_", " "), "train" if use == "train" else "test", path, position
        )


def _located(videos: Path, listed: list[Listed], known: Iterable[str] = ()) -> list[Video]:
    """``known``: classes of the whole data set, where the list is of some."""
    files = VideoFolder(
        existing_folder("videos", videos), {row.class_name for row in listed}, suffixes=False
    )
    listed = one_spelling(listed, (name.replace("_", " ") for name in files.folders))
    notes = [*files.tree.notes, *check_typos(listed, files, [*known, *chain(*ALIASES.values())])]
    clips_of = Counter(_youtube_id(row) for row in listed)

    def locate(row: Listed) -> Path:
        folders = (
            ALIASES["train"] if row.split == "train" else (*ALIASES["validation"], *ALIASES["test"])
        )
        path = files.find(row.video_id, row.class_name, folders)
        # Of two clips of one video, a name without times tells none.
        if path is None and clips_of[_youtube_id(row)] == 1:
            path = files.find(_youtube_id(row), row.class_name, folders)
        return path or files.root / row.class_name / f"{row.video_id}.mp4"

    return as_videos(listed, files.root, locate, notes)


def _youtube_id(row: Listed) -> str:
    return row.video_id.rsplit("_", 2)[0]
