"""What lies under a folder of videos: one walk, which ends in any tree and names what it does not
take for a video.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from vididi.data.video import printable
from vididi.errors import DataError

# Where files of one name differ in their suffix alone, such as a preview a.gif beside a.mp4, these
# go first.
USUAL_SUFFIXES = frozenset(
    (".avi", ".mp4", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".3gp")
)
# Containers that FFmpeg reads, and streams without one. Never pictures (but for .gif), sound, text
# or playlists.
# fmt: off
VIDEO_SUFFIXES = USUAL_SUFFIXES | {
    ".ts", ".mts", ".m2ts", ".m2t", ".vob", ".mpe", ".mpv", ".m1v", ".m2v", ".dv", ".mxf", ".y4m",
    ".ivf", ".wmv", ".asf", ".wtv", ".divx", ".flv", ".f4v", ".ogv", ".ogm", ".gif", ".mjpeg",
    ".mj2", ".nut", ".rm", ".rmvb", ".qt", ".mp4v", ".3g2", ".3gpp", ".h264", ".264", ".h265",
    ".265", ".hevc",
}
# fmt: on
MAX_NAMED = 5  # of many, in a note
MAX_SUFFIX = 20  # letters of a suffix in a note
# Links may lead to each folder MAX_VISITS times on average, once there are MIN_FOLDERS.
MIN_FOLDERS, MAX_VISITS = 1000, 16


@dataclass
class Tree:
    """The files under ``root``, as paths below it: videos by suffix, and counts of the rest."""

    root: Path
    videos: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)  # suffix -> files
    hidden_folders: list[str] = field(default_factory=list)
    hidden_files: list[str] = field(default_factory=list)
    circles: list[str] = field(default_factory=list)  # links to a folder that they lie in
    unreadable: list[str] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """What was left out, a sentence each; none where all files are videos."""
        return [
            *self._others,
            *note(self.hidden_folders, "hidden folders", "left out"),
            *note(self.hidden_files, "hidden files", "left out"),
            *note(self.circles, "links", "not followed: each leads to a folder that it lies in"),
            *note(self.unreadable, "folders", "left out: cannot be read"),
        ]

    @property
    def _others(self) -> list[str]:
        most_frequent, total = self.others.most_common(MAX_NAMED), self.others.total()
        kinds = [
            f"{count} {printable(suffix)[:MAX_SUFFIX] or 'without a suffix'}"
            for suffix, count in most_frequent
        ]
        if left := total - sum(count for _, count in most_frequent):
            kinds.append(f"and {left} more of other suffixes")
        what = "file is no video by its" if total == 1 else "files are no videos by their"
        return [f"{total} {what} suffix: {', '.join(kinds)}"] if total else []


def note(names: list[str], kind: str, what: str) -> list[str]:
    """A sentence that counts names and says the first few; none if there are no names."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    first = ", ".join(map(printable, names[:MAX_NAMED]))
    kind = kind if len(names) > 1 else kind.removesuffix("es" if kind == "classes" else "s")
    return [f"{len(names)} {kind} {what}: {first}{more}"] if names else []


def is_video(name: str) -> bool:
    """By its suffix, in upper or lower case."""
    return _suffix(name) in VIDEO_SUFFIXES


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  (a Path for each of 240,000 files is slow)


def walk(root: Path) -> Tree:
    """All that lies under ``root``, through links too, in order of names, files of a folder first.

    No file is opened or asked for its state. What is hidden (``.ipynb_checkpoints``, ``._a.mp4``)
    is left out, and so is a link to a folder that it lies in, without which the walk would not end.
    A folder that two links lead to is listed twice.

    Raises:
        DataError: links show the same folders over and over.
    """
    tree = Tree(root)
    base = str(root).rstrip("/")
    visits: Counter[tuple[int, int]] = Counter()
    todo: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]

    while todo:
        folder, above = todo.pop()
        try:
            status = os.stat(f"{base}/{folder}")  # noqa: PTH116
            folder_id = status.st_dev, status.st_ino
            if folder_id in above:
                tree.circles.append(folder)
                continue
            folders, names = _entries(f"{base}/{folder}")
        except OSError as error:
            tree.unreadable.append(f"{folder or '.'} ({error.strerror})")
            continue
        _count_visit(tree, folder, folder_id, visits)

        prefix = f"{folder}/" if folder else ""
        for name in names:
            _sort(tree, prefix, name)
        below = above | {folder_id}
        for name in reversed(folders):
            if name.startswith("."):
                tree.hidden_folders.append(f"{prefix}{name}")
            else:
                todo.append((f"{prefix}{name}", below))
    return tree


def _entries(folder: str) -> tuple[list[str], list[str]]:
    """The folders and the other names in it, in order; a link that leads nowhere is a name."""
    folders: list[str] = []
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            is_folder = False
            with suppress(OSError):  # a link to itself
                is_folder = entry.is_dir()
            (folders if is_folder else names).append(entry.name)
    return sorted(folders), sorted(names)


def _sort(tree: Tree, prefix: str, name: str) -> None:
    if name.startswith("."):
        tree.hidden_files.append(f"{prefix}{name}")
    elif is_video(name):
        tree.videos.append(f"{prefix}{name}")
    else:
        tree.others[_suffix(name)] += 1


def _count_visit(
    tree: Tree, folder: str, folder_id: tuple[int, int], visits: Counter[tuple[int, int]]
) -> None:
    """Add a folder to the tree; DataError if links lead to the same folders over and over.

    Two folders with links to each other are visited twice each; ten such would be visited ten
    million times.
    """
    tree.folders.append(folder)
    visits[folder_id] += 1
    if len(tree.folders) > MIN_FOLDERS + MAX_VISITS * len(visits):
        raise DataError(
            f"data.videos: links under {printable(tree.root)} show the same {len(visits)} folders"
            f" more than {MAX_VISITS} times each, the last one as {printable(folder)}; remove some"
            " of the links"
        )


# --- Files by name --------------------------------------------------------------------------------


class VideoFolder:
    """The video files under a folder by name: in class folders, in split folders, or flat.

    Letters with accents may be written in either normal form of Unicode, in lists and on the disk.

    Args:
        classes: a file in the folder of one of these is never taken for a video of another.
        suffixes: whether files are asked for with their suffix; without, any video suffix will do.
            With it, upper and lower case are the same where that leaves one file; names without a
            suffix are ids, where case counts.
    """

    def __init__(self, root: Path, classes: Iterable[str], suffixes: bool) -> None:
        self.root = root
        self.tree = walk(root)
        self.folders = {name.rpartition("/")[2] for name in self.tree.folders}
        self._classes = {normalised_name(name) for name in classes}
        self._suffixes = suffixes
        self._paths: dict[str, list[str]] = defaultdict(list)
        # The sort is stable.
        for path in sorted(self.tree.videos, key=lambda path: _suffix(path) not in USUAL_SUFFIXES):
            self._paths[self._key(path)].append(path)
        self._folded: dict[str, set[str]] | None = None

    def _key(self, path: str) -> str:
        name = path.rpartition("/")[2]
        return unicodedata.normalize("NFC", name if self._suffixes else name.rpartition(".")[0])

    def find(self, name: str, class_name: str, split_folders: tuple[str, ...] = ()) -> Path | None:
        """The file of that name, None if there is none.

        Of several, one of a usual suffix, with most of class folder and split folder above it,
        then the first.
        """
        best, best_score = None, (False, -1)
        expected_folders = {normalised_name(class_name), *split_folders}

        for path in self.with_name(name):
            parents = [normalised_name(part) for part in path.split("/")[:-1]]
            if (
                parents
                and parents[-1] in self._classes
                and parents[-1] != normalised_name(class_name)
            ):
                continue
            score = _suffix(path) in USUAL_SUFFIXES, len(expected_folders.intersection(parents))
            if score > best_score:
                best, best_score = path, score
        return None if best is None else self.root / best

    def with_name(self, name: str) -> list[str]:
        """The files of that name, in whatever folder; those spelt as ``name`` is go first."""
        key = unicodedata.normalize("NFC", name)
        known = self._paths.get(key)
        if not known and self._suffixes:
            spellings = self._by_fold().get(key.casefold(), set())
            known = (
                [path for other in spellings for path in self._paths[other]]
                if len(spellings) == 1
                else None
            )
        if not known or len(known) == 1 or name.isascii():
            return known or []
        return sorted(known, key=lambda path: name not in path.rpartition("/")[2])

    def _by_fold(self) -> dict[str, set[str]]:
        if self._folded is None:
            self._folded = defaultdict(set)
            for key in self._paths:
                self._folded[key.casefold()].add(key)
        return self._folded


@lru_cache(maxsize=1 << 16)  # asked for the same few hundred classes for each video
def normalised_name(name: str) -> str:
    """A name by which class names are compared.

    They are written with spaces or underscores, in upper or lower case, and with accents in either
    normal form of Unicode.
    """
    return unicodedata.normalize("NFC", name.replace("_", " ")).casefold()


# --- Paths of lists -------------------------------------------------------------------------------


def on_disk(root: Path, path: str) -> Path:
    """``root / path`` as it is on the disk.

    There accents may be written in the other normal form, and lists may have ``\\`` for ``/``.
    """
    path_as_listed = root / path
    if (
        "\\" in path
        and not os.path.lexists(path_as_listed)
        and os.path.lexists(existing := on_disk(root, path.replace("\\", "/")))
    ):
        return existing

    if path.isascii() or os.path.lexists(path_as_listed):
        return path_as_listed
    existing = root
    for part in Path(path).parts:
        composed = unicodedata.normalize("NFC", part)
        spelt = [
            name for name in _names(existing) if unicodedata.normalize("NFC", name) == composed
        ]
        existing = existing / (part if part in spelt or len(spelt) != 1 else spelt[0])
    return existing if os.path.lexists(existing) else path_as_listed


def _names(folder: Path) -> Iterator[str]:
    with suppress(OSError), os.scandir(folder) as entries:
        yield from [entry.name for entry in entries]
