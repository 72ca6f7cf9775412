"""AVA v2.2 by its official lists: key frames of films, with boxes round persons and what these do.

    -5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,80,1      one action of one box: film, second, x1, y1,
                                                       x2, y2, action, person
    -5KQ66BBWC4,0903                                    an excluded key frame: film, second

A row is a key frame with a window of frames round it. It has no class; the actions are those of its
boxes.
"""

from __future__ import annotations

import logging
import math
import re
from collections import defaultdict
from pathlib import Path

from vididi.data.actions import read_actions
from vididi.data.sources.lists import (
    Listing,
    existing_folder,
    list_file,
    malformed,
    matching_files,
    numbered_lines,
)
from vididi.data.sources.walk import VideoFolder
from vididi.data.video import Actions, Box, Boxes, Moment, Video
from vididi.errors import DataError

SECONDS = range(902, 1799)  # of a film; those that may be key frames
ACTIONS = range(1, 81)  # ids that the annotations may have
LISTS = {"train": "train", "test": "val"}  # our split: the lists' name for it
EDITIONS = ("v2.2", "v2.1")
COLUMNS = "video_id,second,x1,y1,x2,y2,action_id,person_id"

KeyFrame = tuple[str, int]  # film and second
Person = tuple[float, float, float, float, int]  # corners and the person's number
# Of each box its actions, and of each of these the line.
Annotated = dict[KeyFrame, dict[Person, dict[int, int]]]

log = logging.getLogger(__name__)


def ava(
    cache: Path, *, videos: Path, splits: Path, offset: float = 0.0, window: int = 73, step: int = 1
) -> list[Video]:
    """AVA v2.2: a row per annotated key frame that is not excluded, film by film; the validation
    list is split ``test``.

    Args:
        videos: the films, ``<id>`` with any video suffix.
        splits: the folder of the official CSV files and of one or both lists of actions.
        offset: where in the film the files begin: 900 for files that were cut to seconds 900 to
            1800 [seconds].
        window: source frames round a key frame [frames]; half of them before it, one more where
            the number is even. The 73 have 36 frames on either side: room for 16 frames at stride 4
            that begin 32 before the key frame, and for two more, wherever these are put.
        step: keep one frame of every ``step`` of the window, counted from the key frame.
    """
    for name, value in (("window", window), ("step", step)):
        if value < 1:
            raise ValueError(f"{name}: {value} is not valid; it must be at least 1")
    if not 0 <= offset < math.inf:
        raise ValueError(f"offset: {offset} is not valid; it is a number of seconds, at least 0")

    root = existing_folder("splits", splits)
    actions = _actions(root)
    known = {number for number, _ in actions.names}
    lists = {
        split: list_file(root, *(f"ava_{name}_{edition}.csv" for edition in EDITIONS))
        for split, name in LISTS.items()
    }

    annotated = {split: _annotations(path, known) for split, path in lists.items()}
    _check_apart(annotated, lists)

    files = VideoFolder(existing_folder("videos", videos), (), suffixes=False)
    listed = Listing([], files.tree.notes)
    for split, rows in annotated.items():
        for film, seconds in _by_film(_without_excluded(rows, root, LISTS[split])).items():
            path = files.find(film, "") or files.root / f"{film}.mp4"
            for second in seconds:
                moment = Moment(second - offset, window // 2, (window - 1) // 2, step)
                boxes = Boxes(second, _people(rows[film, second]), actions)
                video_id = f"{film}/{second:04d}"
                listed.append(Video(path, video_id, "", split, moment=moment, boxes=boxes))
    return listed


def _people(actions_of: dict[Person, dict[int, int]]) -> tuple[Box, ...]:
    """The boxes of a key frame."""
    return tuple(Box(*person, tuple(sorted(ids))) for person, ids in actions_of.items())


# --- Key frames -----------------------------------------------------------------------------------


def _annotations(path: Path, known: set[int]) -> Annotated:
    """The annotations of a list that say something.

    Left out are lines that repeat another, boxes without an area, and key frames without a box.

    These are counted in a warning.
    """
    rows: Annotated = {}
    repeated, without_area, without_box = [], [], []
    for number, line in numbered_lines(path):
        try:
            if len(values := line.split(",")) == 2:  # as AVA-Kinetics has it
                _key_frame(*(value.strip() for value in values))
                without_box.append(number)
                continue
            key_frame, person, action = _annotation(line, known)
        except ValueError as error:
            raise malformed(path, f"line {number}", str(error)) from None
        x1, y1, x2, y2, _ = person
        if x1 == x2 or y1 == y2:
            without_area.append(number)
        elif number != rows.setdefault(key_frame, {}).setdefault(person, {}).setdefault(
            action, number
        ):
            repeated.append(number)

    left_out = (
        (repeated, "repeat an earlier line"),
        (without_area, "have a box without an area"),
        (without_box, "have no box"),
    )
    for lines, what in left_out:
        if lines:
            log.warning(
                "ava: left out %d lines of %s that %s: %s",
                len(lines),
                path,
                what,
                ", ".join(map(str, lines[:20])),
            )
    return rows


def _annotation(line: str, known: set[int]) -> tuple[KeyFrame, Person, int]:
    """One line of a list; ValueError says what is wrong with it."""
    values = [value.strip() for value in line.split(",")]
    if len(values) != 8:
        raise ValueError(f"{line!r} has {len(values)} columns, not the 8 of {COLUMNS}")
    key_frame = _key_frame(*values[:2])
    try:
        x1, y1, x2, y2 = map(float, values[2:6])
    except ValueError:
        raise ValueError(f"box {','.join(values[2:6])} is not four numbers") from None
    if not (0 <= x1 <= x2 <= 1 and 0 <= y1 <= y2 <= 1):
        raise ValueError(
            f"box {','.join(values[2:6])} does not have 0 <= x1 <= x2 <= 1 and 0 <= y1 <= y2 <= 1"
        )
    action, person = values[6:]
    if not (action.isdecimal() and int(action) in known):
        raise ValueError(f"action {action!r} is not one of the {len(known)} in the list of actions")
    if not person.isdecimal():
        raise ValueError(f"person {person!r} is not a number")
    return key_frame, (x1, y1, x2, y2, int(person)), int(action)


def _key_frame(film: str, second: str) -> KeyFrame:
    if not film or "/" in film:
        raise ValueError(f"video_id {film!r} is not the name of a film")
    match = re.fullmatch(r"([0-9]+)(?:\.0*)?", second)
    if not (match and int(match[1]) in SECONDS):
        raise ValueError(
            f"second {second!r} is not a whole number from {SECONDS[0]} to {SECONDS[-1]}"
        )
    return film, int(match[1])


def _without_excluded(rows: Annotated, root: Path, name: str) -> Annotated:
    path = list_file(
        root, *(f"ava_{name}_excluded_timestamps_{edition}.csv" for edition in EDITIONS)
    )
    excluded = set()
    # The list of a set of one's own may exclude nothing.
    for number, line in numbered_lines(path) if path.stat().st_size else ():
        values = [value.strip() for value in line.split(",")]
        if len(values) != 2:
            raise malformed(
                path,
                f"line {number}",
                f"{line!r} has {len(values)} columns, not the 2 of video_id,second",
            )
        try:
            excluded.add(_key_frame(*values))
        except ValueError as error:
            raise malformed(path, f"line {number}", str(error)) from None

    included = {
        key_frame: people for key_frame, people in rows.items() if key_frame not in excluded
    }
    if len(included) < len(rows):
        lines = sum(
            len(does)
            for key_frame in rows.keys() - included.keys()
            for does in rows[key_frame].values()
        )
        log.warning(
            "ava: left out %d key frames (%d lines) of the %s list that %s excludes",
            len(rows) - len(included),
            lines,
            name,
            path,
        )
    return included


def _by_film(rows: Annotated) -> dict[str, list[int]]:
    """The seconds of each film, both in the order of the list."""
    films: dict[str, list[int]] = defaultdict(list)
    for film, second in rows:
        films[film].append(second)
    return films


def _check_apart(annotated: dict[str, Annotated], lists: dict[str, Path]) -> None:
    train, test = ({film for film, _ in annotated[split]} for split in ("train", "test"))
    if both := sorted(train & test):
        raise DataError(
            f"data.splits: {len(both)} films are in {lists['train']} and in {lists['test']}; the"
            f" first is {both[0]}"
        )


# --- Actions --------------------------------------------------------------------------------------


def _actions(root: Path) -> Actions:
    """All actions that the lists name, and those that are evaluated.

    The evaluated ones have a list of their own; without it they are all.
    """
    edition = rf"ava_action_list_(?:{'|'.join(map(re.escape, EDITIONS))})"
    every, evaluated = (
        _names(_one(root, pattern))
        for pattern in (rf"{edition}\.pbtxt", rf"{edition}_for_activitynet_\d+\.pbtxt")
    )
    if not every and not evaluated:
        raise DataError(
            f"data.splits: missing list: neither {root} nor a folder in it holds"
            " ava_action_list_v2.2.pbtxt or ava_action_list_v2.2_for_activitynet_2019.pbtxt"
        )
    if not every:  # many keep only the list of the 60, but the annotations have more
        every = {number: f"action {number}" for number in ACTIONS}
    return Actions(tuple(sorted({**every, **evaluated}.items())), tuple(sorted(evaluated or every)))


def _one(root: Path, pattern: str) -> Path | None:
    """The file that matches, if there is one."""
    files = matching_files(root, pattern)
    return list_file(root, *sorted({path.name for path in files})) if files else None


def _names(path: Path | None) -> dict[int, str]:
    try:
        return read_actions(path) if path else {}
    except DataError as error:
        raise DataError(f"data.splits: {error}") from None
