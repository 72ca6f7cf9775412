"""What sources share: finding and reading list files, and turning what lists say into videos."""

from __future__ import annotations

import csv
import io
import os
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from vididi.data.sources.walk import MAX_NAMED, VideoFolder, normalised_name, note
from vididi.data.video import Video
from vididi.errors import DataError
from vididi.files import check_regular

# Share of letters that agree, of names that may be the same one misspelt; FAR: where there is
# other evidence.
NEAR, FAR = 0.75, 0.6
MAX_COMPARED = 100_000  # pairs of names, some seconds
RARE = 10  # times as many videos as a class whose name may be a misspelt one
NEAR_FILE = 0.9  # as NEAR, of the names of files


@dataclass(frozen=True)
class Listed:
    """One video as a list names it. ``position``: where in the list, such as "line 3".

    ``group``: of the column that says what is held out together, else empty.
    """

    video_id: str
    class_name: str
    split: str
    list_file: Path
    position: str
    group: str = ""

    @property
    def name(self) -> str:
        """Of the file, without folders."""
        return self.video_id.rpartition("/")[2]

    @property
    def where(self) -> str:
        """The list and the position in it, for messages."""
        return f"{self.list_file}, {self.position}"


class Listing(list[Video]):
    """The videos of a source. ``notes``: what it left out or holds to be odd, a sentence each.

    ``groups``: of each video, where whole groups were held out, else empty.
    """

    def __init__(
        self, videos: Iterable[Video], notes: Iterable[str] = (), groups: Iterable[str] = ()
    ) -> None:
        super().__init__(videos)
        self.notes = [*notes]
        self.groups = [*groups]


# --- Lists ----------------------------------------------------------------------------------------


def existing_folder(option: str, path: Path) -> Path:
    """The absolute path of a folder that an option gives."""
    path = path.expanduser().resolve()
    if not path.is_dir():
        raise DataError(f"data.{option}: {path} is not a folder")
    return path


def list_file(splits: Path, *names: str) -> Path:
    """The one file with one of ``names``, in ``splits`` or in a folder right inside it.

    Raises:
        DataError: there is none, or several.
    """
    files = matching_files(splits, "|".join(re.escape(name) for name in names))
    if not files:
        raise DataError(
            f"data.splits: missing list: neither {splits} nor a folder in it holds"
            f" {' or '.join(names)}"
        )
    if len(files) > 1:
        raise DataError(
            f"data.splits: {splits} holds several such lists, {' and '.join(map(str, files))}; keep"
            " one, or give its own folder"
        )
    return files[0]


def matching_files(splits: Path, pattern: str) -> list[Path]:
    """The files in ``splits`` whose full name matches; if there are none, those in its folders.

    Hidden ones do not count.
    """
    for paths in (splits.glob("[!.]*"), splits.glob("[!.]*/[!.]*")):
        files = sorted(
            path for path in paths if re.fullmatch(pattern, path.name) and path.is_file()
        )
        if files:
            return files
    return []


def read_list(path: Path, option: str = "splits") -> str:
    """The text of a list; lines end in ``\\n``.

    It is UTF-8, or UTF-16 where it begins with that byte order mark, as spreadsheets write it.

    Raises:
        DataError: it cannot be read, or is empty.
    """
    try:
        with check_regular(path).open("rb") as file:
            encoding = "utf-16" if file.read(2) in (BOM_UTF16_LE, BOM_UTF16_BE) else "utf-8-sig"
        text = path.read_text(encoding=encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"data.{option}: {path} cannot be read: {error}; save it as UTF-8"
        ) from None
    except OSError as error:
        raise DataError(
            f"data.{option}: {path} cannot be read: {error.strerror or error}"
        ) from None
    if not text.strip():
        raise DataError(f"data.{option}: {path} is empty")
    return text


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a list that are not blank, stripped, each with its number from 1."""
    for number, line in enumerate(read_list(path).split("\n"), 1):
        if line.strip():
            yield number, line.strip()


DELIMITERS = (",", "\t", ";")


def csv_lines(
    path: Path, option: str = "splits", fits: Callable[[list[str]], bool] = lambda cells: True
) -> list[tuple[str, list[str]]]:
    """The lines of a CSV file that are not blank: "line N" and its cells, stripped; at least one.

    Args:
        fits: whether a first line is as it should be. Columns are separated by tabs or semicolons
            where these make it so and commas do not, and where none does, two columns by blanks;
            then all lines must be so.
    """
    text = read_list(path, option)
    for mark in DELIMITERS:
        if fits(_cells(path, option, text, mark, count=1)[0][1]):
            return _cells(path, option, text, mark)

    lines = _two_columns(text)
    if not fits(lines[0][1]):
        return _cells(path, option, text, ",")
    for position, cells in lines:
        if not fits(cells):
            raise malformed(
                path,
                position,
                f"{' '.join(cells)!r} is not as {lines[0][0]}, two columns with a blank between",
                option,
            )
    return lines


def _two_columns(text: str) -> list[tuple[str, list[str]]]:
    """As ``csv_lines``, of lines whose last blanks separate two columns, as ``a video.mp4 3``."""
    numbered = ((number, line.strip()) for number, line in enumerate(text.split("\n"), 1))
    return [
        (f"line {number}", [cell.strip('"') for cell in line.rsplit(maxsplit=1)])
        for number, line in numbered
        if line
    ]


def _cells(
    path: Path, option: str, text: str, delimiter: str, count: int | None = None
) -> list[tuple[str, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        some = (
            (f"line {reader.line_num}", values)
            for cells in reader
            if any(values := [cell.strip() for cell in cells])
        )
        lines = [*islice(some, count)]
    except csv.Error as error:
        raise malformed(path, f"line {reader.line_num}", f"not CSV: {error}", option) from None

    if not lines:
        raise malformed(path, "line 1", "no values", option)
    for position, values in lines:
        # A quotation mark that is missing joins lines.
        if any("\n" in value and delimiter in value for value in values):
            raise malformed(
                path,
                position,
                "a value goes on over a line's end; is there a quotation mark too many or too few?",
                option,
            )
    return lines


def malformed(path: Path, position: str, what: str, option: str = "splits") -> DataError:
    """The error of what is wrong at a position of a list."""
    return DataError(f"data.{option}: {path}, {position}: {what}")


# --- Videos ---------------------------------------------------------------------------------------


def as_videos(
    listed: list[Listed],
    root: Path,
    locate: Callable[[Listed], Path],
    notes: Iterable[str] = (),
    option: str = "splits",
) -> Listing:
    """The videos of a list, in its order.

    ``locate`` says where under ``root`` each should be, whether it exists or not.

    Raises:
        DataError: a path leads out of ``root``, or cannot be one; or a video or a file is listed
            twice, in one split or in both: which of the two is meant only the list's owner knows,
            and a test video that is trained on would spoil every number.
    """
    for row in listed:
        _check_row(row, option)
    videos = [Video(locate(row), row.video_id, row.class_name, row.split) for row in listed]
    for row, video in zip(listed, videos, strict=True):
        if not row.video_id.startswith("/") and not _is_below(video.path, root):
            raise malformed(
                row.list_file,
                row.position,
                f"{row.video_id!r} of class {row.class_name!r} lies outside {root}",
                option,
            )

    for kind, names in (
        ("video", [row.video_id for row in listed]),
        ("file", [str(video.path) for video in videos]),
    ):
        first: dict[str, int] = {}
        twice = [(first[name], i) for i, name in enumerate(names) if first.setdefault(name, i) != i]
        if twice:
            one, other = (listed[i] for i in twice[0])
            raise DataError(
                f"data.{option}: duplicate: {len(twice)} listed more than once; the first is {kind}"
                f" {names[twice[0][1]]}: {one.where} ({one.split}, {one.class_name}) and"
                f" {other.where} ({other.split}, {other.class_name})"
            )
    return Listing(videos, [*notes, *_rare_classes(listed)])


def _check_row(row: Listed, option: str) -> None:
    """Refuse a video or class that no name can be.

    Of all lists but CSV files, also one that is not below the folder of videos.
    """
    for kind, text in (("video", row.video_id), ("class", row.class_name)):
        if "\0" in text or not _is_unicode(text):
            raise malformed(
                row.list_file,
                row.position,
                f"{kind} {text!r} has letters that no name can have",
                option,
            )
        if (
            option == "splits"
            and text.startswith((".", "/"))
            and (text[0] == "/" or os.path.normpath(text).split("/")[0] in ("..", "."))
        ):
            raise malformed(
                row.list_file,
                row.position,
                f"{kind} {text!r} is not a name below the folder of videos",
                option,
            )


def _is_unicode(text: str) -> bool:
    """Without halves of pairs of UTF-16, which JSON can hold."""
    try:
        return text.encode() is not None
    except UnicodeEncodeError:
        return False


def _is_below(path: Path, root: Path) -> bool:
    """As written: links may lead elsewhere."""
    written = str(path)
    return (os.path.normpath(written) if ".." in written else written).startswith(
        f"{str(root).rstrip('/')}/"
    )


# --- Classes --------------------------------------------------------------------------------------


def one_spelling(listed: list[Listed], folders: Iterable[str]) -> list[Listed]:
    """The list with one name for each class that it spells in several ways: that of its folder.

    Spellings differ in upper and lower case, in spaces for underscores, or in the normal form of
    accents. Where each has a folder of its own they are different classes.

    Raises:
        DataError: the folders do not say which is right.
    """
    spelt: dict[str, dict[str, Listed]] = {}
    for row in listed:
        spelt.setdefault(normalised_name(row.class_name), {}).setdefault(row.class_name, row)

    folders = {*folders}
    names: dict[str, str] = {}
    for spellings in spelt.values():
        if len(spellings) == 1 or spellings.keys() <= folders:
            continue
        right = [name for name in spellings if name in folders]
        if len(right) != 1:
            one, other, *_ = spellings.values()
            raise DataError(
                f"data.splits: class {one.class_name!r} ({one.where}) and class"
                f" {other.class_name!r} ({other.where}) differ only in how they are written, and no"
                " class folder says which is right; write one of them in all lists"
            )
        names |= dict.fromkeys(spellings, right[0])
    return (
        [replace(row, class_name=names.get(row.class_name, row.class_name)) for row in listed]
        if names
        else listed
    )


def check_typos(listed: list[Listed], files: VideoFolder, known: Iterable[str] = ()) -> list[str]:
    """Notes on classes without a folder, where a folder of no class has nearly the name.

    Args:
        known: further classes, which are no misspelling of a listed one.

    Raises:
        DataError: a class has no folder, but a video of it lies in that of another listed class of
            nearly its name.
    """
    of_class: dict[str, list[Listed]] = {}
    for row in listed:
        of_class.setdefault(row.class_name, []).append(row)

    present = {normalised_name(name): name for name in files.folders if name}
    absent = {name: rows for name, rows in of_class.items() if normalised_name(name) not in present}
    owned = {(normalised_name(row.class_name), row.name) for row in listed}
    others = present.keys() & {normalised_name(name) for name in of_class}
    for name, rows in absent.items():
        near = nearest(normalised_name(name), others, FAR)
        for row in rows if near else ():
            if near and (near, row.name) not in owned and _lies_in(near, row, files):
                what = (
                    f"class {name!r} has no folder under {files.root}, but {row.name} lies in"
                    f" {present[near]!r}; is that class meant?"
                )
                raise malformed(row.list_file, row.position, what)

    spare = present.keys() - {normalised_name(name) for name in (*of_class, *known)}
    near_names = [(name, nearest(normalised_name(name), spare)) for name in absent] if spare else []
    return note(
        [f"{name} (is {present[near]} meant?)" for name, near in near_names if near],
        "classes",
        "without a folder, but nearly",
    )


def _lies_in(folder: str, row: Listed, files: VideoFolder) -> bool:
    """Whether a file of the video's name is in a folder of that plain name."""
    return any(
        normalised_name(path.rpartition("/")[0].rpartition("/")[2]) == folder
        for path in files.with_name(row.name)
    )


def note_misspelt_files(videos: list[Video], files: VideoFolder) -> list[str]:
    """A note on listed files that do not exist, but whose names may be misspelt.

    The class's folder has a file of nearly that name that is in no list.
    """
    listed = {str(video.path) for video in videos}
    existing = {str(files.root / path) for path in files.tree.videos}
    spare: dict[str, dict[str, str]] = {}  # of each folder the names without suffix, and with it
    for path in existing - listed:
        folder, _, name = path.rpartition("/")
        spare.setdefault(normalised_name(folder.rpartition("/")[2]), {})[
            name.rpartition(".")[0]
        ] = name

    misspelt = []
    for video in videos:
        names = (
            spare.get(normalised_name(video.class_name), {})
            if str(video.path) not in existing
            else {}
        )
        near = (
            video.path.stem
            if video.path.stem in names
            else nearest(video.path.stem, names, NEAR_FILE)
        )
        misspelt += [f"{video.path.name} (is {names[near]} meant?)"] if near else []
    return note(misspelt, "listed files", "not there, but nearly")


def nearest(name: str, others: Iterable[str], cutoff: float = NEAR) -> str | None:
    """The other name that is spelt most nearly like ``name``, if one is near enough for a slip.

    A name with other digits is another name.
    """
    digits = _digits(name)
    possible = [other for other in others if other != name and _digits(other) == digits]
    matches = get_close_matches(name, possible, n=1, cutoff=cutoff) if possible else []
    return matches[0] if matches else None


def _digits(name: str) -> str:
    return "".join(filter(str.isdigit, name))


def _rare_classes(listed: list[Listed]) -> list[str]:
    """Notes on the first classes that may be other ones misspelt.

    Their names are nearly those of classes of RARE times as many videos.

    None where there is a long tail of rare classes: it would say little, and take hours.
    """
    counts = Counter(row.class_name for row in listed)
    min_count, max_count = min(counts.values(), default=0), max(counts.values(), default=0)
    rare = [name for name, count in counts.items() if RARE * count <= max_count]
    often = {
        normalised_name(name): name for name, count in counts.items() if count >= RARE * min_count
    }
    if len(rare) * len(often) > MAX_COMPARED:
        return []

    near = [
        (name, often[match])
        for name in rare
        if (match := nearest(normalised_name(name), often))
        and RARE * counts[name] <= counts[often[match]]
    ]

    sentences = [
        f"class {name!r} has {counts[name]} of the listed videos, and {other!r}, which is nearly"
        f" its name, {counts[other]}; is it misspelt?"
        for name, other in near[:MAX_NAMED]
    ]
    return [
        *sentences,
        *(
            [f"{len(near) - MAX_NAMED} more classes may be misspelt"]
            if len(near) > MAX_NAMED
            else []
        ),
    ]
