"""What sources share: finding list files, indexing a folder of videos once, and turning what lists say into videos."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vididi.data.video import Video
from vididi.errors import DataError

VIDEO_SUFFIXES = frozenset({".avi", ".mp4", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".3gp"})


@dataclass(frozen=True)
class Listed:
    """One video as a list names it. ``place``: where in the list, such as "line 3"."""

    video_id: str
    class_name: str
    split: str
    list_file: Path
    place: str

    @property
    def where(self) -> str:
        return f"{self.list_file}, {self.place}"


# --- Lists ---------------------------------------------------------------------------------------------------------


def existing_folder(option: str, path: Path) -> Path:
    """The absolute path of a folder that an option gives."""
    path = path.expanduser().resolve()
    if not path.is_dir():
        raise DataError(f"data.{option}: {path} is not a folder")
    return path


def list_file(splits: Path, *names: str) -> Path:
    """The one file with one of ``names``, in ``splits`` or in a folder right inside it, as archives unpack."""
    found = matching_files(splits, "|".join(re.escape(name) for name in names))
    if not found:
        raise DataError(f"data.splits: missing list: neither {splits} nor a folder in it holds {' or '.join(names)}")
    if len(found) > 1:
        raise DataError(
            f"data.splits: {splits} holds several such lists, {' and '.join(map(str, found))}; keep one, or give its own folder"
        )
    return found[0]


def matching_files(splits: Path, pattern: str) -> list[Path]:
    """The files whose whole name matches: those in ``splits``, or if there are none, those in the folders right inside it."""
    for paths in (splits.glob("*"), splits.glob("*/*")):
        found = sorted(path for path in paths if re.fullmatch(pattern, path.name) and path.is_file())
        if found:
            return found
    return []


def read_list(path: Path, option: str = "splits") -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets put a byte order mark first
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"data.{option}: {path} cannot be read: {error}") from None
    if not text.strip():
        raise DataError(f"data.{option}: {path} is empty")
    return text


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a list that are not blank, stripped, each with its number from 1."""
    for number, line in enumerate(read_list(path).splitlines(), 1):
        if line.strip():
            yield number, line.strip()


def csv_lines(path: Path, option: str = "splits") -> list[tuple[str, list[str]]]:
    """The lines of a CSV file that are not blank: "line N" and its cells, stripped. There is at least one."""
    reader = csv.reader(io.StringIO(read_list(path, option), newline=""))
    try:
        lines = [(f"line {reader.line_num}", values) for cells in reader if any(values := [cell.strip() for cell in cells])]
    except csv.Error as error:
        raise malformed(path, f"line {reader.line_num}", f"not CSV: {error}", option) from None
    if not lines:
        raise malformed(path, "line 1", "no values", option)
    return lines


def malformed(path: Path, place: str, what: str, option: str = "splits") -> DataError:
    return DataError(f"data.{option}: {path}, {place}: {what}")


# --- Files ---------------------------------------------------------------------------------------------------------


def video_paths(root: Path) -> Iterator[str]:
    """Video files under ``root``, through linked folders too, as paths below it. One walk: nothing is asked of each file."""
    start = len(str(root).rstrip("/")) + 1
    for parent, folders, names in os.walk(root, followlinks=True):
        folders.sort()
        for name in sorted(names):
            if os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES:  # noqa: PTH122  (a Path for each of 240,000 files is slow)
                yield f"{parent}/{name}"[start:]


class VideoFolder:
    """The video files under a folder by name, wherever they lie: in class folders, in split folders, or flat.

    Args:
        classes: a file in the folder of one of these is never taken for a video of another.
        suffixes: whether files are asked for with their suffix; without, any video suffix will do.
    """

    def __init__(self, root: Path, classes: Iterable[str], suffixes: bool) -> None:
        self.root = existing_folder("videos", root)
        self._classes = {_plain(name) for name in classes}
        self._paths: dict[str, list[str]] = defaultdict(list)
        for path in video_paths(self.root):
            name = path.rpartition("/")[2]
            self._paths[name if suffixes else name.rpartition(".")[0]].append(path)

    def find(self, name: str, class_name: str, split_folders: tuple[str, ...] = ()) -> Path | None:
        """The file of that name; of several, the one with most of class folder and split folder above it, then the first."""
        known = self._paths.get(name)
        if not known:
            return None
        wanted = {_plain(class_name), *split_folders}
        best, most = None, -1
        for path in known:
            parents = [_plain(part) for part in path.split("/")[:-1]]
            if parents and parents[-1] in self._classes and parents[-1] != _plain(class_name):
                continue
            agreeing = len(wanted.intersection(parents))
            if agreeing > most:
                best, most = path, agreeing
        return None if best is None else self.root / best


def _plain(name: str) -> str:
    """Class folders are written with spaces or with underscores."""
    return name.replace("_", " ").casefold()


# --- Videos --------------------------------------------------------------------------------------------------------


def as_videos(listed: list[Listed], locate: Callable[[Listed], Path], option: str = "splits") -> list[Video]:
    """The videos of a list in its order; ``locate`` says where each should be, whether it is there or not.

    Raises:
        DataError: a video or a file is listed twice, in one split or in both: which of the two is meant only the list's
            owner knows, and a test video that is trained on would spoil every number.
    """
    videos = [Video(locate(row), row.video_id, row.class_name, row.split) for row in listed]
    for kind, names in (("video", [row.video_id for row in listed]), ("file", [str(video.path) for video in videos])):
        first: dict[str, int] = {}
        twice = [(first[name], i) for i, name in enumerate(names) if first.setdefault(name, i) != i]
        if twice:
            one, other = (listed[i] for i in twice[0])
            raise DataError(
                f"data.{option}: duplicate: {len(twice)} listed more than once; the first is {kind} {names[twice[0][1]]}: "
                f"{one.where} ({one.split}, {one.class_name}) and {other.where} ({other.split}, {other.class_name})"
            )
    return videos
