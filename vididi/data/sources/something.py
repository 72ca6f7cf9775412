"""Something-Something V2 by its JSON lists."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vididi.data.sources.lists import (
    Listed,
    as_videos,
    existing_folder,
    list_file,
    malformed,
    matching_files,
    nearest,
    read_list,
)
from vididi.data.sources.walk import VideoFolder
from vididi.data.video import Video

PREFIX = "something-something-v2-"


def something_something_v2(cache: Path, *, videos: Path, splits: Path) -> list[Video]:
    """Something-Something V2; a video's class is its template without the brackets.

    The validation list is our split ``test``.

        train.json, validation.json  [{"id": "78687", "template": "Holding [something] next to
                                     [something]", ...}, ...]
        labels.json                  {"Holding something next to something": "45", ...}
                                     (optional; checked against)

    Args:
        videos: 20bn-something-something-v2/, which holds ``<id>.webm``, or a folder above it.
        splits: the folder of the JSON files, or the one above it. Names are those of the current
            release (labels/train.json) or of the first (something-something-v2-train.json).
    """
    root = existing_folder("splits", splits)
    classes = _classes(root)
    lists = {"train": _list(root, "train"), "test": _list(root, "validation")}
    listed = [row for split, path in lists.items() for row in _entries(path, split, classes)]
    files = VideoFolder(existing_folder("videos", videos), (), suffixes=False)

    def locate(row: Listed) -> Path:
        return files.find(row.video_id, row.class_name) or files.root / f"{row.video_id}.webm"

    return as_videos(listed, files.root, locate, files.tree.notes)


def _list(root: Path, name: str) -> Path:
    return list_file(root, f"{PREFIX}{name}.json", f"{name}.json")


def _classes(root: Path) -> set[str]:
    """The names in labels.json; empty without that file."""
    if not matching_files(root, rf"({PREFIX})?labels\.json"):
        return set()
    path = _list(root, "labels")
    content = _parse(path)
    if not isinstance(content, dict):
        raise malformed(path, "line 1", "not an object of class name to number")
    return set(content)


def _entries(path: Path, split: str, classes: set[str]) -> Iterator[Listed]:
    content = _parse(path)
    if not isinstance(content, list):
        raise malformed(path, "line 1", "not a list of objects with id and template")
    for number, entry in enumerate(content, 1):
        position = f"entry {number}"
        video_id, template = (
            (entry.get("id"), entry.get("template")) if isinstance(entry, dict) else (None, None)
        )
        if (
            not isinstance(video_id, str | int)
            or not isinstance(template, str)
            or not str(video_id)
            or not template
        ):
            raise malformed(
                path, position, f"not an object with id and template: {json.dumps(entry)[:200]}"
            )
        if "/" in str(video_id):
            raise malformed(path, position, f"id {video_id!r} is not the name of a video")
        class_name = template.replace("[", "").replace("]", "").strip()
        if classes and class_name not in classes:
            near = nearest(class_name, classes)
            hint = f"; is {near!r} meant?" if near else ""
            raise malformed(
                path,
                position,
                f"class {class_name!r} is not one of the {len(classes)} in the list of"
                f" labels{hint}",
            )
        yield Listed(str(video_id), class_name, split, path, position)


def _parse(path: Path) -> Any:
    try:
        return json.loads(read_list(path))
    except json.JSONDecodeError as error:
        raise malformed(path, f"line {error.lineno}", f"not JSON: {error.msg}") from None
