"""Sources: functions that list videos as (path, class, split). Each entry of SOURCES is one data set.

A source is called with the cache folder and its own keyword options, and returns a list of Video.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from vididi.data.motion import motion
from vididi.data.video import Video
from vididi.errors import DataError

VIDEO_SUFFIXES = frozenset({".avi", ".mp4", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".3gp"})


def folder(cache: Path, *, videos: Path, train: str = "train", test: str = "test") -> list[Video]:
    """A folder of class folders, or one with ``train`` and ``test`` folders of class folders inside.

    Without split folders every video is in split ``train``: enough to pretrain, not to evaluate.
    """
    root = videos.expanduser().resolve()
    if not root.is_dir():
        raise DataError(f"data.videos: {root} is not a folder")
    splits = {name: root / name for name in (train, test) if (root / name).is_dir()}
    if not splits:
        return _class_folders(root, "train", root)
    if len(splits) == 1:
        raise DataError(f"data.videos: {root} holds {next(iter(splits))}/ but not both of {train}/ and {test}/")
    return _class_folders(splits[train], "train", root) + _class_folders(splits[test], "test", root)


def _class_folders(root: Path, split: Literal["train", "test"], base: Path) -> list[Video]:
    found = [
        Video(path=path, video_id=path.relative_to(base).as_posix(), class_name=path.parent.relative_to(root).as_posix(), split=split)
        for path in _files(root)
        if path.suffix.lower() in VIDEO_SUFFIXES and path.parent != root
    ]
    if not found:
        raise DataError(
            f"data.videos: no video files in class folders under {root}; known suffixes are {', '.join(sorted(VIDEO_SUFFIXES))}"
        )
    return found


def _files(root: Path) -> list[Path]:
    """All files under ``root``, through linked folders too, in the order of their paths."""
    return sorted(Path(parent) / name for parent, _, names in os.walk(root, followlinks=True) for name in names)


SOURCES: dict[str, Callable[..., list[Video]]] = {"motion": motion, "folder": folder}
