"""A sheet of cells as plain text of a given width, as a terminal shows it."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable
from dataclasses import replace

from rich.cells import cell_len
from rich.table import Table

from vididi.analysis.formats import Parts, Sheet
from vididi.terminal import PlainConsole, one_line

GAP = 2  # blanks between columns
LONGEST_WORD = 10  # characters of a column's name beside each other, where it may be broken


def write_text(head: list[str], parts: Parts, legend: str, width: int, note_lines: int = 2) -> str:
    """``head``, then for each sheet its line, its tables and its notes; no line over ``width``.

    Args:
        legend: explains intervals, if there are any.
        note_lines: of each note, how many lines are shown.
    """
    lines = [line for text in head for line in _wrapped(text, width)]
    for line, sheet in parts:
        lines += [*(["", *_wrapped(line, width)] if line else []), *_sheet_text(sheet, width)]
        for said, most in ((sheet.caveats, None), (sheet.notes, note_lines)):
            notes = [line for note in said for line in _wrapped(f"{note}.", width, most)]
            lines += ["", *notes] if notes else []
    if legend and any("95%" in column for _, sheet in parts for column in _filled(sheet)):
        lines += ["", *_wrapped(legend, width)]
    return "\n".join(lines).strip("\n")


def _wrapped(text: str, width: int, most: int | None = None) -> list[str]:
    wrapped = textwrap.wrap(one_line(text), width, max_lines=most, placeholder=" ...")
    return wrapped or [""]


def _filled(sheet: Sheet) -> list[str]:
    return [column for group in sheet.filled_columns() for column in group]


def _sheet_text(sheet: Sheet, width: int) -> list[str]:
    """The lines of a sheet's tables, an empty one before each."""
    lines = []
    for table in _tables(sheet, width) if sheet.rows else []:
        console = PlainConsole(file=io.StringIO(), width=width, color_system=None)
        console.print(table, soft_wrap=False)
        lines += ["", *(line.rstrip() for line in console.file.getvalue().splitlines())]  # type: ignore[attr-defined]
    return lines


def _tables(sheet: Sheet, width: int) -> Iterable[Table]:
    """The sheet, broken into tables of this width, of which each names its rows.

    A group of columns is broken only where it is too wide for a table of its own.
    """
    sheet = replace(
        sheet, rows=[{name: one_line(text) for name, text in row.items()} for row in sheet.rows]
    )
    head = [
        name
        for number, name in enumerate(sheet.head)
        if not number or any(row.get(name) for row in sheet.rows)
    ]
    widths = _head_widths(sheet, head, width)
    room = width - sum(widths.values()) - GAP * len(head)

    def takes(columns: Iterable[str]) -> int:
        return sum(_column_width(sheet, column) + GAP for column in columns) - GAP

    blocks: list[list[str]] = [[]]
    for group in sheet.filled_columns():
        for columns in [group] if takes(group) <= room else [[column] for column in group]:
            if blocks[-1] and takes([*blocks[-1], *columns]) > room:
                blocks.append([])
            blocks[-1] += columns
    return [_table(sheet, widths, block) for block in blocks]


def _head_widths(sheet: Sheet, head: list[str], width: int) -> dict[str, int]:
    """Of the columns that name the rows: what they take, but together no more than half."""
    natural = {
        name: max(cell_len(name), *(cell_len(row.get(name, "")) for row in sheet.rows))
        for name in head
    }
    share = max(width // 2 // len(head) - GAP, 1)
    spare = sum(max(share - taken, 0) for taken in natural.values())
    long = sum(taken > share for taken in natural.values())
    return {
        name: taken if taken <= share else min(taken, share + spare // long)
        for name, taken in natural.items()
    }


def _named(column: str) -> str:
    """A column's name, broken at blanks."""
    return "\n".join(textwrap.wrap(column, LONGEST_WORD, break_long_words=False))


def _column_width(sheet: Sheet, column: str) -> int:
    names = _named(one_line(column)).splitlines() or [""]
    return max(map(cell_len, [*names, *(row.get(column, "") for row in sheet.rows)]))


def _table(sheet: Sheet, head: dict[str, int], columns: list[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for name, taken in head.items():
        table.add_column(name, width=taken, overflow="fold", vertical="top")
    for column in columns:
        table.add_column(_named(one_line(column)), justify="right", no_wrap=True)
    for row in sheet.cells([*head, *columns]):
        table.add_row(*row)
    return table
