"""UCF101 and HMDB51: text files that name the videos of three splits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from vididi.data.sources.lists import (
    Listed,
    as_videos,
    check_typos,
    existing_folder,
    list_file,
    malformed,
    matching_files,
    nearest,
    note_misspelt_files,
    numbered_lines,
    one_spelling,
)
from vididi.data.sources.walk import VideoFolder, normalised_name
from vididi.data.video import Video
from vididi.errors import DataError

HMDB51_USE = {"0": None, "1": "train", "2": "test"}
GAP = r"[ \t]*[ \t,;][ \t]*"  # between columns


def ucf101(cache: Path, *, videos: Path, splits: Path, split: Literal[1, 2, 3] = 1) -> list[Video]:
    """UCF101 by its official lists.

    UCF101TrainTestSplits-RecognitionTask.zip unpacks to ucfTrainTestlist/, with

        trainlist01.txt  ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1
        testlist01.txt   ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi
        classInd.txt     1 ApplyEyeMakeup        (optional; the lists are compared with it)

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
        if not (match := re.fullmatch(rf"(\d+){GAP}(.+)", text)):
            raise malformed(path, f"line {line}", f"{text!r} is not NUMBER CLASS")
        numbers[match[2]] = match[1]
    return numbers


def _ucf101_list(path: Path, split: str, numbers: dict[str, str]) -> Iterator[Listed]:
    names = {normalised_name(name): name for name in numbers}
    for line, text in numbered_lines(path):
        match = re.fullmatch(rf"([^/ \t]+)/([^/ \t]+?)(?:{GAP}(\d+))?", text)
        if not match:
            raise malformed(
                path, f"line {line}", f"{text!r} is not CLASS/FILE, or CLASS/FILE NUMBER"
            )
        written, name, number = match.groups()

        # HandStandPushups is HandstandPushups.
        class_name = written if written in numbers else names.get(normalised_name(written), written)
        if numbers and class_name not in numbers:
            raise malformed(path, f"line {line}", _unknown_class(class_name, numbers))
        if numbers and number and int(number) != int(numbers[class_name]):
            raise malformed(
                path,
                f"line {line}",
                f"class {class_name!r} has number {number}, but {numbers[class_name]} in"
                " classInd.txt",
            )
        yield Listed(f"{written}/{name}", class_name, split, path, f"line {line}")


def _unknown_class(name: str, numbers: dict[str, str]) -> str:
    near = nearest(name, numbers)
    return f"class {name!r} is not one of the {len(numbers)} in classInd.txt" + (
        f"; is {near!r} meant?" if near else ""
    )


def hmdb51(cache: Path, *, videos: Path, splits: Path, split: Literal[1, 2, 3] = 1) -> list[Video]:
    """HMDB51 by its official lists.

    test_train_splits.rar unpacks to testTrainMulti_7030_splits/, with

        brush_hair_test_split1.txt   April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1

    One file for each class and split; 1 is a training video, 2 a test video, and 0 is used in
    neither.

    Args:
        videos: the folder of the 51 class folders, or one above it.
        splits: testTrainMulti_7030_splits/ or the folder above it.
        split: which of the three.
    """
    root = existing_folder("splits", splits)
    files = {path.name: path for path in matching_files(root, r".+_test_split[123]\.txt")}
    if not files:
        raise DataError(
            f"data.splits: missing list: neither {root} nor a folder in it holds"
            f" <class>_test_split{split}.txt"
        )

    classes = sorted({re.sub(r"_test_split[123]\.txt$", "", name) for name in files})
    missing = [
        name
        for class_name in classes
        if (name := f"{class_name}_test_split{split}.txt") not in files
    ]
    if missing:
        raise DataError(
            f"data.splits: missing list: {root} holds no {', '.join(missing[:5])}, but other splits"
            f" of {len(missing)} such classes"
        )

    listed = [
        row
        for class_name in classes
        for row in _hmdb51_list(files[f"{class_name}_test_split{split}.txt"], class_name)
    ]
    return _located(videos, listed)


def _hmdb51_list(path: Path, class_name: str) -> Iterator[Listed]:
    for line, text in numbered_lines(path):
        match = re.fullmatch(rf"([^/]+?){GAP}([012])", text)
        if not match:
            raise malformed(path, f"line {line}", f"{text!r} is not FILE and 0, 1 or 2")
        split = HMDB51_USE[match[2]]
        if split is not None:
            yield Listed(f"{class_name}/{match[1]}", class_name, split, path, f"line {line}")


def _located(videos: Path, listed: list[Listed]) -> list[Video]:
    files = VideoFolder(
        existing_folder("videos", videos), {row.class_name for row in listed}, suffixes=True
    )
    listed = one_spelling(listed, files.folders)
    notes = [*files.tree.notes, *check_typos(listed, files)]

    def locate(row: Listed) -> Path:
        return files.find(row.name, row.class_name) or files.root / row.video_id

    located = as_videos(listed, files.root, locate, notes)
    located.notes += note_misspelt_files(located, files)
    return located
