"""UCF101 and HMDB51: text files that name the videos of three splits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from vididi.data.sources.files import (
    Listed,
    VideoFolder,
    as_videos,
    existing_folder,
    list_file,
    malformed,
    matching_files,
    numbered_lines,
)
from vididi.data.video import Video
from vididi.errors import DataError

HMDB51_USE = {"0": None, "1": "train", "2": "test"}


def ucf101(cache: Path, *, videos: Path, splits: Path, split: Literal[1, 2, 3] = 1) -> list[Video]:
    """UCF101 by its official lists (UCF101TrainTestSplits-RecognitionTask.zip, which unpacks to ucfTrainTestlist/).

        trainlist01.txt  ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1
        testlist01.txt   ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi
        classInd.txt     1 ApplyEyeMakeup        (optional; where it is there, the lists are held against it)

    Args:
        videos: UCF-101/ or a folder above it.
        splits: ucfTrainTestlist/ or the folder above it.
        split: which of the three.
    """
    root = existing_folder("splits", splits)
    numbers = _class_numbers(root)
    lists = {use: list_file(root, f"{use}list{split:02d}.txt") for use in ("train", "test")}
    listed = [row for use, path in lists.items() for row in _ucf101_list(path, use, numbers)]
    return _located(videos, listed)


def _class_numbers(splits: Path) -> dict[str, str]:
    """Class name to its number in classInd.txt; empty without that file."""
    if not matching_files(splits, r"classInd\.txt"):
        return {}
    path, numbers = list_file(splits, "classInd.txt"), {}
    for line, text in numbered_lines(path):
        number, _, name = text.partition(" ")
        if not number.isdecimal() or not name.strip():
            raise malformed(path, f"line {line}", f"{text!r} is not NUMBER CLASS")
        numbers[name.strip()] = number
    return numbers


def _ucf101_list(path: Path, split: str, numbers: dict[str, str]) -> Iterator[Listed]:
    for line, text in numbered_lines(path):
        video_id, _, number = text.partition(" ")
        class_name, slash, name = video_id.partition("/")
        if not (class_name and slash and name) or "/" in name or not (number == "" or number.strip().isdecimal()):
            raise malformed(path, f"line {line}", f"{text!r} is not CLASS/FILE, or CLASS/FILE NUMBER")
        if numbers and class_name not in numbers:
            raise malformed(path, f"line {line}", f"class {class_name!r} is not one of the {len(numbers)} in classInd.txt")
        if numbers and number and number.strip() != numbers[class_name]:
            raise malformed(path, f"line {line}", f"class {class_name!r} has number {number}, but {numbers[class_name]} in classInd.txt")
        yield Listed(video_id, class_name, split, path, f"line {line}")


def hmdb51(cache: Path, *, videos: Path, splits: Path, split: Literal[1, 2, 3] = 1) -> list[Video]:
    """HMDB51 by its official lists (test_train_splits.rar, which unpacks to testTrainMulti_7030_splits/).

        brush_hair_test_split1.txt   April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1

    One file for each class and split; 1 is a training video, 2 a test video, and 0 is used in neither.

    Args:
        videos: the folder of the 51 class folders, or one above it.
        splits: testTrainMulti_7030_splits/ or the folder above it.
        split: which of the three.
    """
    root = existing_folder("splits", splits)
    found = {path.name: path for path in matching_files(root, r".+_test_split[123]\.txt")}
    if not found:
        raise DataError(f"data.splits: missing list: neither {root} nor a folder in it holds <class>_test_split{split}.txt")
    classes = sorted({re.sub(r"_test_split[123]\.txt$", "", name) for name in found})
    missing = [name for class_name in classes if (name := f"{class_name}_test_split{split}.txt") not in found]
    if missing:
        raise DataError(
            f"data.splits: missing list: {root} holds no {', '.join(missing[:5])}, but other splits of {len(missing)} such classes"
        )
    listed = [row for class_name in classes for row in _hmdb51_list(found[f"{class_name}_test_split{split}.txt"], class_name)]
    return _located(videos, listed)


def _hmdb51_list(path: Path, class_name: str) -> Iterator[Listed]:
    for line, text in numbered_lines(path):
        name, _, use = text.rpartition(" ")
        if not name or use not in HMDB51_USE:
            raise malformed(path, f"line {line}", f"{text!r} is not FILE and 0, 1 or 2")
        split = HMDB51_USE[use]
        if split is not None:
            yield Listed(f"{class_name}/{name.strip()}", class_name, split, path, f"line {line}")


def _located(videos: Path, listed: list[Listed]) -> list[Video]:
    files = VideoFolder(videos, {row.class_name for row in listed}, suffixes=True)

    def locate(row: Listed) -> Path:
        return files.find(row.video_id.rpartition("/")[2], row.class_name) or files.root / row.video_id

    return as_videos(listed, locate)
