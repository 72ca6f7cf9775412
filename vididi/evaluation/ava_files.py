"""Reading files in AVA's layout: predictions, ground truth and lists of excluded key frames for
``ava_map``, and boxes that a detector of persons proposed.

-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,80,1       ground truth: film, second, x1, y1, x2, y2,
                                                    action, person
-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,80,0.85    prediction: the same with a score
-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,,0.97      proposed box: any action or none, and how sure
                                                    the detector is that this is a person
-5KQ66BBWC4,0903                                    excluded key frame; among the others, a key
                                                    frame without a box
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vididi.errors import DataError
from vididi.evaluation.ava_map import AvaRows, BadRow
from vididi.files import check_regular

BOX = "video_id,second,x1,y1,x2,y2,action_id"
Row = tuple[str, float, float, float, float, float, int, float]


def read_ground_truth(path: Path) -> AvaRows:
    """Rows of 8 columns, or of 7, whose person is then 1, as in AVA's script.

    Rows of 2 columns are key frames without a box.

    Raises:
        DataError: the file cannot be read, or a line is malformed; names file and line.
    """
    return _read(path, f"{BOX},person_id", (8, 7, 2))


def read_predictions(path: Path) -> AvaRows:
    """Rows of 8 columns; those of 2 say nothing.

    Raises:
        DataError: the file cannot be read, or a line is malformed; names file and line.
    """
    return _read(path, f"{BOX},score", (8, 2))


def read_excluded(path: Path) -> set[tuple[str, float]]:
    """Key frames, film and second.

    Raises:
        DataError: the file cannot be read, or a line is malformed; names file and line.
    """
    frames = set()
    for line, cells in _lines(path):
        try:
            if len(cells) != 2:
                raise ValueError(f"{len(cells)} columns, not the 2 of video_id,second")
            frames.add(_key_frame(cells))
        except ValueError as error:
            raise DataError(f"{path}, line {line}: {error}") from None
    return frames


# --- Proposed boxes -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Proposals:
    """Boxes that a detector of persons proposed, each once, in the order of its file.

    Args:
        films: ``[N]``, names; second: ``[N]``. The two make the key frame.
        corners: ``[N, 4]``, x1, y1, x2, y2 as fractions of width and height.
        lines: of the file that have a box. Not among the N are those ``below_score``, those
            ``without_area`` (the numbers of their lines) and those ``repeated``, the same box with
            another action.
    """

    films: tuple[str, ...]
    second: NDArray[np.float64]
    corners: NDArray[np.float64]
    lines: int
    below_score: int
    without_area: tuple[int, ...]
    repeated: int


def read_proposals(path: Path, least: float) -> Proposals:
    """The boxes with a score of ``least`` or more: rows of 8 columns, whose action says nothing;
    those of 2 are key frames without a box.

    Raises:
        DataError: the file cannot be read, or a line is malformed, whatever its score; names file
            and line.
    """
    boxes: dict[tuple[str, float, float, float, float, float], None] = {}
    lines, below_score, repeated = 0, 0, 0
    without_area = []
    for line, cells in _lines(path):
        try:
            if len(cells) == 2:
                _key_frame(cells)
                continue
            box, score = _proposal(cells)
        except ValueError as error:
            raise DataError(f"{path}, line {line}: {error}") from None
        lines += 1
        _, _, x1, y1, x2, y2 = box
        if score < least:
            below_score += 1
        elif x1 == x2 or y1 == y2:
            without_area.append(line)
        elif box in boxes:
            repeated += 1
        else:
            boxes[box] = None
    numbers = np.array([box[1:] for box in boxes], dtype=np.float64).reshape(-1, 5)
    films = tuple(box[0] for box in boxes)
    return Proposals(
        films, numbers[:, 0], numbers[:, 1:], lines, below_score, tuple(without_area), repeated
    )


def _proposal(cells: list[str]) -> tuple[tuple[str, float, float, float, float, float], float]:
    """Film, second and corners of a line, and its score; ValueError says what is wrong with it."""
    if len(cells) != 8:
        raise ValueError(
            f"{len(cells)} columns, not the 8 of {BOX},score, nor the 2 of a key frame without a"
            " box"
        )
    film, second = _key_frame(cells)
    x1, y1, x2, y2 = (
        _number(name, cell) for name, cell in zip(BOX.split(",")[2:6], cells[2:6], strict=True)
    )
    for name, low, high in (("x", x1, x2), ("y", y1, y2)):
        if not 0 <= low <= high <= 1:
            raise ValueError(
                f"{name}1 {low} and {name}2 {high} are not 0 <= {name}1 <= {name}2 <= 1"
            )
    score = _number("score", cells[7])
    if not 0 <= score <= 1:
        raise ValueError(f"score {score} is not from 0 to 1")
    return (film, second, x1, y1, x2, y2), score


# --- Boxes ----------------------------------------------------------------------------------------


def _read(path: Path, columns: str, lengths: tuple[int, ...]) -> AvaRows:
    """All rows.

    Arrow reads millions in a second but does not say where a fault is; what it refuses is read
    again line by line.
    """
    rows = _read_by_arrow(path, lengths)
    return _read_by_line(path, columns, lengths) if rows is None else rows


def _read_by_arrow(path: Path, lengths: tuple[int, ...]) -> AvaRows | None:
    import pyarrow as pa
    from pyarrow import csv as arrow

    kinds = [
        pa.dictionary(pa.int32(), pa.string()),
        pa.float64(),
        *[pa.float64()] * 4,
        pa.int64(),
        pa.float64(),
    ]
    for length in (length for length in lengths if length > 2):
        names = [*BOX.split(","), "value"][:length]
        types = dict(zip(names, kinds, strict=False))
        try:
            table = arrow.read_csv(
                check_regular(path),
                read_options=arrow.ReadOptions(column_names=names),
                convert_options=arrow.ConvertOptions(
                    column_types=types, null_values=[], strings_can_be_null=False
                ),
            )
        except (pa.ArrowInvalid, OSError):
            continue
        film = table.column(0).unify_dictionaries().combine_chunks()
        films = tuple(film.dictionary.to_pylist()) if len(table) else ()
        if any(name != name.strip() or not name for name in films):
            return None
        film_indices = (
            film.indices.to_numpy().astype(np.int64) if len(table) else np.zeros(0, dtype=np.int64)
        )
        corners = np.stack([table.column(column).to_numpy() for column in range(2, 6)], axis=1)
        value = table.column(7).to_numpy() if length == 8 else np.ones(len(table))
        try:
            return AvaRows(
                films,
                film_indices,
                table.column(1).to_numpy(),
                corners,
                table.column(6).to_numpy(),
                value,
            )
        except BadRow:
            return None
    return None


def _read_by_line(path: Path, columns: str, lengths: tuple[int, ...]) -> AvaRows:
    rows, lines, empty = [], [], set()
    for line, cells in _lines(path):
        try:
            if len(cells) == 2:
                empty.add(_key_frame(cells))
                continue
            rows.append(_row(cells, columns, lengths))
        except ValueError as error:
            raise DataError(f"{path}, line {line}: {error}") from None
        lines.append(line)
    try:
        return AvaRows.of(rows, empty)
    except BadRow as error:
        raise DataError(f"{path}, line {lines[error.row]}: {error.what}") from None


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines of a CSV file that are not blank: number from 1, and cells, stripped."""
    try:
        with check_regular(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            for cells in reader:
                if any(stripped := [cell.strip() for cell in cells]):
                    yield reader.line_num, stripped
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None


def _row(cells: list[str], columns: str, lengths: tuple[int, ...]) -> Row:
    if len(cells) not in lengths:
        raise ValueError(
            f"{len(cells)} columns, not the 8 of {columns}, nor the 2 of a key frame without a box"
        )
    names = columns.split(",")
    x1, y1, x2, y2 = (
        _number(name, cell) for name, cell in zip(names[2:6], cells[2:6], strict=True)
    )
    value = _number(names[7], cells[7]) if len(cells) == 8 else 1.0
    return *_key_frame(cells), x1, y1, x2, y2, _integer("action_id", cells[6]), value


def _key_frame(cells: list[str]) -> tuple[str, float]:
    if not re.fullmatch(r"[0-9]{1,10}(\.[0-9]*)?", cells[1]):
        raise ValueError(f"second {cells[1]!r} is not a number of seconds")
    return _film(cells[0]), float(cells[1])


def _film(cell: str) -> str:
    if not cell:
        raise ValueError("video_id is empty")
    return cell


def _integer(name: str, cell: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", cell):
        raise ValueError(f"{name} {cell!r} is not a whole number")
    return int(cell)


def _number(name: str, cell: str) -> float:
    try:
        if "_" in cell:  # which float() takes
            raise ValueError
        return float(cell)
    except ValueError:
        raise ValueError(f"{name} {cell!r} is not a number") from None
