"""Any list of videos as a CSV file."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path

from vididi.data.shards import SPLITS
from vididi.data.sources.files import Listed, as_videos, existing_folder, malformed, read_list
from vididi.data.video import Video

COLUMNS = ("path", "label", "split")


def table(cache: Path, *, videos: Path, list: Path) -> list[Video]:
    """The videos of a CSV file of path, label and, if given, split.

        path,label,split
        clips/one.mp4,jump,train

    If the first line holds the names ``path`` and ``label`` it is a header: columns come in any order, and others are ignored.
    Without a header every line is path,label or path,label,split. Without a split every video is in split ``train``.

    Args:
        videos: the folder that paths are relative to; absolute paths are taken as they are.
        list: the CSV file.
    """
    root = existing_folder("videos", videos)
    path = list.expanduser().resolve()
    rows = [*_rows(path)]
    if not rows:
        raise malformed(path, "line 1", "no videos after the header", "list")
    return as_videos(rows, lambda row: root / row.video_id, "list")


def _rows(path: Path) -> Iterator[Listed]:
    reader = csv.reader(io.StringIO(read_list(path, "list")))
    columns: dict[str, int] = {}
    for cells in reader:
        place, values = f"line {reader.line_num}", [cell.strip() for cell in cells]
        if not any(values):
            continue
        if not columns:
            header = [value.lower() for value in values]
            if {"path", "label"} <= {*header}:
                columns = {name: header.index(name) for name in COLUMNS if name in header}
                continue
            columns = dict(zip(COLUMNS, range(len(values)), strict=False))
        yield _row(path, place, values, columns)


def _row(path: Path, place: str, values: list[str], columns: dict[str, int]) -> Listed:
    if len(columns) < 2 or len(values) <= max(columns.values()):
        raise malformed(path, place, f"{','.join(values)!r} is not path,label or path,label,split", "list")
    found = {name: values[column] for name, column in columns.items()}
    split = found.get("split", "train")
    if not found["path"] or not found["label"]:
        raise malformed(path, place, f"no path or no label in {','.join(values)!r}", "list")
    if split not in SPLITS:
        raise malformed(path, place, f"split {split!r} is not valid; it is {' or '.join(SPLITS)}", "list")
    return Listed(os.path.normpath(found["path"]), found["label"], split, path, place)
