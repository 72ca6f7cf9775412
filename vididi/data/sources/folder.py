"""A folder of class folders."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vididi.data.sources.files import VIDEO_SUFFIXES, existing_folder, video_paths
from vididi.data.video import Video
from vididi.errors import DataError


def folder(cache: Path, *, videos: Path, train: str = "train", test: str = "test") -> list[Video]:
    """A folder of class folders, or one with ``train`` and ``test`` folders of class folders inside.

    Without split folders every video is in split ``train``: enough to pretrain, not to evaluate.
    """
    root = existing_folder("videos", videos)
    splits = {name: root / name for name in (train, test) if (root / name).is_dir()}
    if not splits:
        return _class_folders(root, "train", root)
    if len(splits) == 1:
        raise DataError(f"data.videos: {root} holds {next(iter(splits))}/ but not both of {train}/ and {test}/")
    return _class_folders(splits[train], "train", root) + _class_folders(splits[test], "test", root)


def _class_folders(root: Path, split: Literal["train", "test"], base: Path) -> list[Video]:
    found = [
        Video(path=path, video_id=path.relative_to(base).as_posix(), class_name=path.parent.relative_to(root).as_posix(), split=split)
        for path in sorted(root / name for name in video_paths(root))
        if path.parent != root
    ]
    if not found:
        raise DataError(
            f"data.videos: no video files in class folders under {root}; known suffixes are {', '.join(sorted(VIDEO_SUFFIXES))}"
        )
    return found
