"""A folder of class folders."""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import replace
from pathlib import Path

from vididi.data.sources.held_out import HeldOut, groups_of, held_out, hold_out
from vididi.data.sources.lists import Listing, existing_folder
from vididi.data.sources.walk import VIDEO_SUFFIXES, Tree, note, walk
from vididi.data.video import Video, printable
from vididi.errors import DataError


def folder(
    cache: Path,
    *,
    videos: Path,
    train: str = "train",
    test: str = "test",
    test_share: float | None = None,
    group: str | None = None,
    seed: int = 0,
) -> Listing:
    """A folder of class folders, or of ``train`` and ``test`` folders of class folders.

    Without split folders every video is in split ``train``, enough to pretrain, not to evaluate,
    unless ``test_share`` of each class is held out. Videos that lie elsewhere are of no class; they
    are left out and named.

    Args:
        videos: the folder.
        train, test: the names of the split folders in it.
        test_share: of each class's videos, held out in whole groups.
        group: a pattern of video ids; its one pair of parentheses matches the group.
        seed: of what is held out.
    """
    asked = held_out(test_share, group, seed)
    pattern = asked.pattern if asked else None
    root = existing_folder("videos", videos)
    split_folders = _split_folders(root, train, test)
    if split_folders and asked:
        raise DataError(
            f"data.test_share: {test_share} is for a folder without a split; {root} has {train}/"
            f" and {test}/ already"
        )

    tree = walk(root)
    parts = (
        {split: _part(name) for split, name in (("train", train), ("test", test))}
        if split_folders
        else {"train": ""}
    )
    listed = [video for split, part in parts.items() for video in _class_folders(tree, split, part)]

    used = {str(video.path) for video in listed}
    loose = [path for path in tree.videos if str(root / path) not in used]
    where = "in no class folder" + (
        f" of {' or '.join(f'{part}/' for part in parts.values())}" if split_folders else ""
    )
    listed = _one_spelling(listed)
    notes = [*note(loose, "videos", f"left out: {where}"), *tree.notes]
    return _hold_out(asked, pattern, listed, notes) if asked else Listing(listed, notes)


def _hold_out(
    asked: HeldOut, pattern: re.Pattern[str] | None, listed: list[Video], notes: list[str]
) -> Listing:
    """The videos with the splits that they are drawn into, counts before the notes."""
    groups = groups_of([video.video_id for video in listed], pattern)
    splits, counts = hold_out(asked, [video.class_name for video in listed], groups)
    drawn = (replace(video, split=split) for video, split in zip(listed, splits, strict=True))
    return Listing(drawn, [*counts, *notes], groups)


def _split_folders(root: Path, train: str, test: str) -> list[str]:
    """The names of both, or none; DataError where there is one of them."""
    present = [name for name in (train, test) if (root / name).is_dir()]
    if len(present) == 1:
        raise DataError(
            f"data.videos: {root} holds {present[0]}/ but not both of {train}/ and {test}/"
        )
    return present


def _part(name: str) -> str:
    """A split folder's path below the folder of videos, empty if it is that folder."""
    path = os.path.normpath(name)
    return "" if path == "." else path


def _class_folders(tree: Tree, split: str, part: str) -> list[Video]:
    """The videos in class folders of a split's folder, which is ``part`` of the tree."""
    base = tree.root / part
    listed = [
        Video(
            path,
            printable(path.relative_to(tree.root).as_posix()),
            printable(path.parent.relative_to(base).as_posix()),
            split,
        )
        for path in sorted(
            tree.root / path for path in tree.videos if not part or path.startswith(f"{part}/")
        )
        if path.parent != base
    ]

    if not listed:
        known = ", ".join(sorted(VIDEO_SUFFIXES))
        raise DataError(
            "; ".join(
                [
                    (
                        f"data.videos: no video files in class folders under {base}; known suffixes"
                        f" are {known}"
                    ),
                    *tree.notes,
                ]
            )
        )
    return listed


def _one_spelling(videos: list[Video]) -> list[Video]:
    """The videos, with one class for folders whose names differ in the normal form of accents.

    Macs write one form, PCs the other.
    """
    names = {video.class_name for video in videos}
    composed = {name: unicodedata.normalize("NFC", name) for name in names}
    both = {name for name in names if composed[name] != name and composed[name] in names}
    return [
        replace(video, class_name=composed[video.class_name]) if video.class_name in both else video
        for video in videos
    ]
