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
VIDEO_SUFFIXES = USUAL_SUFFIXES | frozenset(
    {
        *(
            ".ts",
            ".mts",
            ".m2ts",
            ".m2t",
            ".vob",
            ".mpe",
            ".mpv",
            ".m1v",
            ".m2v",
            ".dv",
            ".mxf",
            ".y4m",
            ".ivf",
        ),
        *(
            ".wmv",
            ".asf",
            ".wtv",
            ".divx",
            ".flv",
            ".f4v",
            ".ogv",
            ".ogm",
            ".gif",
            ".mjpeg",
            ".mj2",
            ".nut",
            ".rm",
            ".rmvb",
        ),
        *(".qt", ".mp4v", ".3g2", ".3gpp", ".h264", ".264", ".h265", ".265", ".hevc"),
    }
)
NAMED = 5  # of many, in a note
LONGEST = 20  # letters of a suffix there
LEAST_LOOPED, MOST_TIMES = (
    1000,
    16,
)  # links may show each folder so many times, once there are more than a few


@dataclass
class Tree:
    """The files under ``root``, as paths below it: what is a video by its suffix, and of the rest
    how many of what.
    """

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
        """What was left out, a sentence each; none where all that is there is videos."""
        return [
            *self._others,
            *note(self.hidden_folders, "hidden folders", "left out"),
            *note(self.hidden_files, "hidden files", "left out"),
            *note(self.circles, "links", "not followed: each leads to a folder that it lies in"),
            *note(self.unreadable, "folders", "left out: cannot be read"),
        ]

    @property
    def _others(self) -> list[str]:
        named, total = self.others.most_common(NAMED), self.others.total()
        kinds = [
            f"{count} {printable(suffix)[:LONGEST] or 'without a suffix'}"
            for suffix, count in named
        ]
        if left := total - sum(count for _, count in named):
            kinds.append(f"and {left} more of other suffixes")
        what = "file is no video by its" if total == 1 else "files are no videos by their"
        return [f"{total} {what} suffix: {', '.join(kinds)}"] if total else []


def note(names: list[str], kind: str, what: str) -> list[str]:
    """A sentence that counts names and says the first few, as they can be printed; none if there
    are none.
    """
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    shown = ", ".join(map(printable, names[:NAMED]))
    kind = kind if len(names) > 1 else kind.removesuffix("es" if kind == "classes" else "s")
    return [f"{len(names)} {kind} {what}: {shown}{more}"] if names else []


def is_video(name: str) -> bool:
    """By its suffix, in upper or lower case."""
    return _suffix(name) in VIDEO_SUFFIXES


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  (a Path for each of 240,000 files is slow)


def walk(root: Path) -> Tree:
    """All that lies under ``root``, through links too; files of a folder first, both in order of
    names. Nothing is asked of each file.

    What is hidden (``.ipynb_checkpoints``, ``._a.mp4``) is left out, and so is a link to a folder
    that it lies in, without which the walk would not end. A folder that two links lead to is there
    twice.

    Raises:
        DataError: links show the same folders over and over.
    """
    tree = Tree(root)
    base = str(root).rstrip("/")
    seen: Counter[tuple[int, int]] = Counter()
    todo: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while todo:
        folder, above = todo.pop()
        try:
            status = os.stat(f"{base}/{folder}")  # noqa: PTH116
            here = status.st_dev, status.st_ino
            if here in above:
                tree.circles.append(folder)
                continue
            folders, names = _entries(f"{base}/{folder}")
        except OSError as error:
            tree.unreadable.append(f"{folder or '.'} ({error.strerror})")
            continue
        _check_seen(tree, folder, here, seen)
        prefix = f"{folder}/" if folder else ""
        for name in names:
            _sort(tree, prefix, name)
        below = above | {here}
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


def _check_seen(
    tree: Tree, folder: str, here: tuple[int, int], seen: Counter[tuple[int, int]]
) -> None:
    """Two folders with links to each other are seen twice each; ten such would be seen ten million
    times.
    """
    tree.folders.append(folder)
    seen[here] += 1
    if len(tree.folders) > LEAST_LOOPED + MOST_TIMES * len(seen):
        raise DataError(
            f"data.videos: links under {printable(tree.root)} show the same {len(seen)} folders"
            f" more than {MOST_TIMES} times each, the last one as {printable(folder)}; remove some"
            " of the links"
        )


# --- Files by name --------------------------------------------------------------------------------


class VideoFolder:
    """The video files under a folder by name, wherever they lie: in class folders, in split
    folders, or flat.

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
        self._classes = {plain(name) for name in classes}
        self._suffixes = suffixes
        self._paths: dict[str, list[str]] = defaultdict(list)
        for path in sorted(
            self.tree.videos, key=lambda path: _suffix(path) not in USUAL_SUFFIXES
        ):  # stable
            self._paths[self._key(path)].append(path)
        self._folded: dict[str, set[str]] | None = None

    def _key(self, path: str) -> str:
        name = path.rpartition("/")[2]
        return unicodedata.normalize("NFC", name if self._suffixes else name.rpartition(".")[0])

    def find(self, name: str, class_name: str, split_folders: tuple[str, ...] = ()) -> Path | None:
        """The file of that name; of several, one of a usual suffix, with most of class folder and
        split folder above it, then the first.
        """
        best, most = None, (False, -1)
        wanted = {plain(class_name), *split_folders}
        for path in self.named(name):
            parents = [plain(part) for part in path.split("/")[:-1]]
            if parents and parents[-1] in self._classes and parents[-1] != plain(class_name):
                continue
            agreeing = _suffix(path) in USUAL_SUFFIXES, len(wanted.intersection(parents))
            if agreeing > most:
                best, most = path, agreeing
        return None if best is None else self.root / best

    def named(self, name: str) -> list[str]:
        """The files of that name, in whatever folder; those that are spelt as ``name`` is go
        first.
        """
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
def plain(name: str) -> str:
    """Class folders are written with spaces or with underscores, and with accents in one of two
    forms.
    """
    return unicodedata.normalize("NFC", name.replace("_", " ")).casefold()


# --- Paths of lists -------------------------------------------------------------------------------


def on_disk(root: Path, path: str) -> Path:
    """``root / path``; as it is there where accents are written in the other normal form on the
    disk, or in the list ``\\`` for ``/``.
    """
    whole = root / path
    if (
        "\\" in path
        and not os.path.lexists(whole)
        and os.path.lexists(found := on_disk(root, path.replace("\\", "/")))
    ):
        return found
    if path.isascii() or os.path.lexists(whole):
        return whole
    found = root
    for part in Path(path).parts:
        composed = unicodedata.normalize("NFC", part)
        spelt = [name for name in _names(found) if unicodedata.normalize("NFC", name) == composed]
        found = found / (part if part in spelt or len(spelt) != 1 else spelt[0])
    return found if os.path.lexists(found) else whole


def _names(folder: Path) -> Iterator[str]:
    with suppress(OSError), os.scandir(folder) as entries:
        yield from [entry.name for entry in entries]
