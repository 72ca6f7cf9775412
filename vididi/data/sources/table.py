"""Any list of videos as a CSV file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from vididi.data.layout import SPLITS
from vididi.data.sources.held_out import groups_of, held_out, hold_out
from vididi.data.sources.lists import (
    FAR,
    Listed,
    Listing,
    as_videos,
    csv_lines,
    existing_folder,
    malformed,
    nearest,
)
from vididi.data.sources.walk import is_video, normalised_name, on_disk
from vididi.errors import DataError

Groups = list[str]  # csv_table has an option of the name ``list``
COLUMNS = ("path", "label", "split")
SEPARATORS = (
    "commas, tabs or semicolons separate columns, or blanks where each line is the path of a video"
    " and a label without blanks"
)
MANY = 3  # times as many videos as a label that is taken for a slip
# What a header may call a column where it does not use our name.
OTHER_NAMES = {
    "path": (
        "video",
        "file",
        "filename",
        "file_name",
        "filepath",
        "file_path",
        "video_path",
        "clip",
        "clip_path",
    ),
    "label": ("class", "class_name", "category", "action"),
}
# What a header may call the column of a label that is a number.
NUMBERS = ("target", "class_id", "class_idx", "class_index", "label_id", "y")


def csv_table(
    cache: Path,
    *,
    videos: Path,
    list: Path,
    test_share: float | None = None,
    group: str | None = None,
    seed: int = 0,
) -> Listing:
    """The videos of a CSV file of path, label and, if given, split.

        path,label,split
        clips/one.mp4,jump,train

    If the first line holds the names ``path`` and ``label``, or others of OTHER_NAMES, it is a
    header: columns come in any order, and others are ignored. Without a header every line is
    path,label or path,label,split. Without a split every video is in split ``train``, unless
    ``test_share`` of each class is held out. Columns are separated by commas, tabs or semicolons;
    or two columns by blanks, where each line is a path that ends in a suffix of videos and a label
    without blanks.

    Args:
        videos: the folder that paths are relative to and lie in; absolute paths are taken as they
            are.
        list: the CSV file.
        test_share: of each class's videos, held out in whole groups.
        group: a column of the header; or a pattern of paths, whose one pair of parentheses matches
            the group.
        seed: of what is held out.
    """
    asked = held_out(test_share, group, seed)
    column = group if asked and asked.names_column else None
    pattern = asked.pattern if asked and column is None else None
    root = existing_folder("videos", videos)
    path = list.expanduser().resolve()
    rows = [*_rows(path, column, asked.share if asked else None)]
    if not rows:
        raise malformed(path, "line 1", "no videos after the header", "list")
    _check_first(rows, root)
    _check_typos(rows)
    groups: Groups = []
    counts: Groups = []
    if asked:
        names = [row.video_id for row in rows]
        groups = [row.group for row in rows] if column else groups_of(names, pattern)
        splits, counts = hold_out(asked, [row.class_name for row in rows], groups)
        rows = [replace(row, split=split) for row, split in zip(rows, splits, strict=True)]
    found = as_videos(rows, root, lambda row: on_disk(root, row.video_id), counts, option="list")
    return Listing(found, found.notes, groups)


def _rows(path: Path, group: str | None, test_share: float | None) -> Iterator[Listed]:
    """The list's lines. ``group``: a column; ``test_share``: refused where there is a split."""
    lines = csv_lines(
        path,
        "list",
        fits=lambda cells: (
            _header(cells) is not None or (len(cells) in (2, 3) and is_video(cells[0]))
        ),
    )
    header = _header(lines[0][1])
    place = None if group is None else _group_column(path, group, header and lines[0][1])
    if header is not None:
        for name in COLUMNS:
            if header.count(name) > 1:
                raise malformed(
                    path,
                    lines[0][0],
                    f"several columns are a {name}: {','.join(lines[0][1])}",
                    "list",
                )
        del lines[0]
    else:
        _check_known(path, *lines[0])
        header = [*COLUMNS[: max(2, len(lines[0][1]))]]
    if test_share is not None and "split" in header:
        raise DataError(
            f"data.test_share: {test_share} is for a list without a split; {path} has a split"
            " already"
        )
    for position, values in lines:
        row = _row(path, position, values, header)
        if place is not None and not values[place]:
            raise malformed(path, position, f"no group in {','.join(values)!r}", "list")
        yield row if place is None else replace(row, group=values[place])


def _group_column(path: Path, group: str, names: Groups | None) -> int:
    """Where in a line the column is that names the group; upper and lower case are the same."""
    if names is None:
        raise DataError(
            f"data.group: {group!r} is no column of {path}, which has no header; a pattern of paths"
            " has one pair of parentheses"
        )
    places = [i for i, name in enumerate(names) if name.lower() == group.lower()]
    if len(places) != 1:
        raise DataError(
            f"data.group: {group!r} is {'several columns' if places else 'no column'} of {path},"
            f" which has {', '.join(names)}; a pattern of paths has one pair of parentheses"
        )
    return places[0]


def _header(cells: list[str]) -> list[str] | None:
    """Our names of the columns, if the cells are names of columns."""
    names = [cell.lower() for cell in cells]
    for name, others in (*OTHER_NAMES.items(), ("label", NUMBERS)):
        if name not in names:
            names = [name if cell in others else cell for cell in names]
    return names if {"path", "label"} <= {*names} else None


def _row(path: Path, position: str, values: list[str], header: list[str]) -> Listed:
    if len(values) != len(header):  # a comma in a name that is not quoted would move the columns
        columns = (
            f"{','.join(values)!r} has {len(values)} columns, not the {len(header)} of"
            f" {','.join(header)}"
        )
        raise malformed(path, position, f"{columns}; {SEPARATORS}", "list")
    cells = dict(zip(header, values, strict=True))
    split = cells.get("split", "train")
    if not cells["path"] or not cells["label"]:
        raise malformed(path, position, f"no path or no label in {','.join(values)!r}", "list")
    if split not in SPLITS:
        raise malformed(
            path, position, f"split {split!r} is not valid; it is {' or '.join(SPLITS)}", "list"
        )
    return Listed(os.path.normpath(cells["path"]), cells["label"], split, path, position)


def _check_first(rows: list[Listed], root: Path) -> None:
    """Refuse a first line that is no video, where all others are: a header of other names."""
    first, *others = rows
    if (
        others
        and not is_video(first.video_id)
        and all(is_video(row.video_id) for row in others)
        and not (root / first.video_id).exists()
    ):
        raise _unknown_header(first.list_file, first.position, first.video_id)


def _check_known(path: Path, position: str, cells: list[str]) -> None:
    """Refuse a first line of three columns that is no row, nor a header that is known."""
    if len(cells) == len(COLUMNS) and cells[-1] not in SPLITS and not is_video(cells[0]):
        raise _unknown_header(path, position, cells[0])


def _unknown_header(path: Path, position: str, cell: str) -> DataError:
    names = (
        "; ".join(f"{name}: {', '.join((name, *more))}" for name, more in OTHER_NAMES.items())
        + f", {', '.join(NUMBERS)}"
    )
    what = (
        f"{cell!r} is no video, so this may be a header, but not one that is known; columns may be"
        f" named {names}; split"
    )
    return malformed(path, position, what, "list")


def _check_typos(rows: list[Listed]) -> None:
    """Refuse a label that is nearly the name of its video's folder.

    That is, where the folder's name is the label of many more videos.

    One that is the name of another folder is a class.
    """
    counts = Counter(normalised_name(row.class_name) for row in rows)
    folders = [normalised_name(row.video_id.rpartition("/")[0].rpartition("/")[2]) for row in rows]
    classes = {*folders}
    for row, folder in zip(rows, folders, strict=True):
        label = normalised_name(row.class_name)
        slip = (
            label not in classes
            and counts[folder] >= MANY * counts[label]
            and abs(len(folder) - len(label)) <= 1
        )
        if slip and nearest(label, [folder], FAR):
            what = (
                f"label {row.class_name!r} of {row.video_id}: is the label meant that is named as"
                f" its folder, {folder!r}?"
            )
            raise malformed(row.list_file, row.position, what, "list")
