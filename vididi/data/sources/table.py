"""Any list of videos as a CSV file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from vididi.data.shards import SPLITS
from vididi.data.sources.files import Listed, as_videos, csv_lines, existing_folder, malformed
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
    lines = csv_lines(path, "list")
    header = [value.lower() for value in lines[0][1]]
    if {"path", "label"} <= {*header}:
        del lines[0]
    else:
        header = [*COLUMNS[: max(2, len(header))]]
    for place, values in lines:
        yield _row(path, place, values, header)


def _row(path: Path, place: str, values: list[str], header: list[str]) -> Listed:
    if len(values) != len(header):  # a comma in a name that is not quoted would move the columns
        raise malformed(path, place, f"{','.join(values)!r} has {len(values)} columns, not the {len(header)} of {','.join(header)}", "list")
    found = dict(zip(header, values, strict=True))
    split = found.get("split", "train")
    if not found["path"] or not found["label"]:
        raise malformed(path, place, f"no path or no label in {','.join(values)!r}", "list")
    if split not in SPLITS:
        raise malformed(path, place, f"split {split!r} is not valid; it is {' or '.join(SPLITS)}", "list")
    return Listed(os.path.normpath(found["path"]), found["label"], split, path, place)
