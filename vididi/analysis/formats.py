"""A sheet of cells as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vididi.runs.mirror import push
from vididi.terminal import one_line

WIDTH = 160  # characters of the printed table; what is wider goes on below
Parts = list[tuple[str, "Sheet"]]


@dataclass
class Sheet:
    """Cells by row and column.

    Columns of one group stay beside each other where a wide sheet is broken.

    Args:
        head: the names of the columns that tell the rows from each other.
        notes: said below it.
        caveats: said below it, before the notes, and below a LaTeX table too.
    """

    head: list[str]
    notes: list[str] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)
    groups: dict[str, list[str]] = field(default_factory=dict)
    rows: list[dict[str, str]] = field(default_factory=list)

    def start(self, texts: list[str]) -> None:
        """Begin a row."""
        self.rows.append(dict(zip(self.head, texts, strict=True)))

    def put(self, group: str, column: str, text: str) -> None:
        """Fill a cell of the last row."""
        columns = self.groups.setdefault(group, [])
        if column not in columns:
            columns.append(column)
        self.rows[-1][column] = text

    @property
    def columns(self) -> list[str]:
        """All columns, those of ``head`` first."""
        return [*self.head, *(column for group in self.groups.values() for column in group)]

    def filled_columns(self) -> list[list[str]]:
        """The columns of each group that have something in some row."""
        filled = [
            [column for column in group if any(row.get(column) for row in self.rows)]
            for group in self.groups.values()
        ]
        return [group for group in filled if group]

    def cells(self, columns: Iterable[str]) -> list[list[str]]:
        """The texts of these columns, row by row; empty where a row has none."""
        columns = list(columns)
        return [[row.get(column, "") for column in columns] for row in self.rows]

    def width(self, columns: Iterable[str]) -> int:
        """Characters of a Markdown table of these columns."""
        # A bar before each column and after the last, a blank at either side of a text.
        return 1 + sum(
            3 + max(len(column), *(len(row.get(column, "")) for row in self.rows))
            for column in columns
        )

    def blocks(self) -> list[list[str]]:
        """The columns, broken into tables no wider than WIDTH where a group allows it.

        Each table names its rows.
        """
        blocks = [list(self.head)]
        for group in self.filled_columns():
            if blocks[-1] != self.head and self.width([*blocks[-1], *group]) > WIDTH:
                blocks.append(list(self.head))
            blocks[-1] += group
        return blocks


# What Markdown would not show as it is: a backslash before a mark, a bar, and what begins HTML, an
# entity, code, emphasis or a link.
_MARKS = re.compile(
    r"\\(?=[!-/:-@\[-`{-~])|\||<(?=[A-Za-z/!?])|&(?=#?\w+;)|[`*~]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])"
)
_BLOCK = re.compile(r"^(\d*)([#>+=.)-])")  # what would begin a heading, a quotation or a list
_FORMULA = re.compile(r"[=+\-@\t\r\n]")


def markdown_text(text: str) -> str:
    """Text for a cell of a Markdown table, or for the middle of a line: on one line, its marks
    escaped.
    """
    return _MARKS.sub(lambda match: f"\\{match[0]}", one_line(text).strip())


def markdown_line(text: str) -> str:
    """Text for a line of Markdown that is a paragraph of its own."""
    return _BLOCK.sub(r"\1\\\2", markdown_text(text))


def csv_text(text: str) -> str:
    """Text for a cell of a CSV file that holds no number.

    What a spreadsheet would run as a formula gets an apostrophe before it.
    """
    text = text.encode(errors="backslashreplace").decode()
    return f"'{text}" if _FORMULA.match(text) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def write_markdown(head: list[str], parts: Parts, legend: str) -> str:
    """``head``, then for each sheet its line, its tables and its notes.

    ``legend`` explains intervals, if there are any.
    """
    lines = list(head)
    for line, sheet in parts:
        lines += ["", markdown_line(line), *sheet_lines(sheet)]
    if legend and any(
        column.endswith("95%")
        for _, sheet in parts
        for group in sheet.filled_columns()
        for column in group
    ):
        lines += ["", legend]
    return "\n".join(lines)


def sheet_lines(sheet: Sheet) -> list[str]:
    """The lines of Markdown of a sheet's tables and notes, an empty one before each part."""
    lines = []
    for block in sheet.blocks() if sheet.rows else []:
        lines += ["", *_markdown_table(block, sheet.cells(block), len(sheet.head))]
    for said in (sheet.caveats, sheet.notes):
        lines += ["", *(markdown_line(f"{note}.") for note in said)] if said else []
    return lines


def _markdown_table(header: list[str], cells: list[list[str]], left_aligned: int) -> list[str]:
    """Lines of equal width; all but the first ``left_aligned`` columns are flush right."""
    header, *cells = ([markdown_text(cell) for cell in row] for row in (header, *cells))
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    lines = [
        [
            f"{cell:<{w}}" if i < left_aligned else f"{cell:>{w}}"
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        for row in (header, *cells)
    ]
    rule = [f"{'-' * (w - 1)}{'-' if i < left_aligned else ':'}" for i, w in enumerate(widths)]
    return [f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:])]


def write_csv(parts: Parts) -> str:
    """One table of all sheets, with every column that one of them has.

    Before the columns stands each sheet's line, if there is more to say.
    """
    columns = list(dict.fromkeys(column for _, sheet in parts for column in sheet.columns))
    lead = ["protocol"] if any(line for line, _ in parts) else []
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*lead, *map(csv_text, columns)])
    for line, sheet in parts:
        for row in sheet.cells(columns):
            cells = [
                csv_text(cell) if column in sheet.head else cell
                for column, cell in zip(columns, row, strict=True)
            ]
            writer.writerow([*([csv_text(line)] if lead else []), *cells])
    return out.getvalue()


LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "✓": r"$\checkmark$",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "§": r"\S{}",
}


def escape(text: str) -> str:
    """Text for LaTeX, on one line.

    Special characters are escaped; the signs that occur in the papers become commands.
    """
    return "".join(LATEX.get(character, character) for character in one_line(text))


def write_latex(name: str, caption: str, parts: Parts) -> str:
    """A booktabs table for each sheet, without the intervals and the notes.

    Needs the packages booktabs and amssymb.
    """
    lines = ["% \\usepackage{booktabs, amssymb}"]
    for number, (line, sheet) in enumerate(parts, 1):
        columns = [
            *sheet.head,
            *(c for group in sheet.filled_columns() for c in group if not c.endswith("95%")),
        ]
        lines += ["\\begin{table}", "\\centering", f"\\caption{{{escape(caption)} {escape(line)}}}"]
        lines.append(f"\\label{{tab:{name.replace('_', '-')}{f'-{number}' if number > 1 else ''}}}")
        lines.append(
            f"\\begin{{tabular}}{{{'l' * len(sheet.head)}{'r' * (len(columns) - len(sheet.head))}}}"
        )
        lines += [
            "\\toprule",
            _latex_row(columns),
            "\\midrule",
            *map(_latex_row, sheet.cells(columns)),
            "\\bottomrule",
        ]
        lines.append("\\end{tabular}")
        lines += [f"\\par\\footnotesize {escape(f'{caveat}.')}" for caveat in sheet.caveats]
        lines.append("\\end{table}")
    return "\n".join(lines) + "\n"


def _latex_row(cells: Iterable[str]) -> str:
    # A row that began with a bracket would be taken for the length that \\ or a rule may have
    # before it.
    return (
        " & ".join(
            f"{{{escape(cell)}}}" if cell.startswith(("[", "*")) else escape(cell) for cell in cells
        )
        + r" \\"
    )


def with_lines(text: str, left_out: list[str]) -> str:
    """A table, and below it which runs it leaves out."""
    return "\n\n".join([text, "\n".join(f"- {line}" for line in left_out)]) if left_out else text


def write_files(out: Path, name: str, texts: Mapping[str, str]) -> None:
    """Write texts as NAME.SUFFIX under ``out``, by suffix."""
    out.mkdir(parents=True, exist_ok=True)
    for suffix, text in texts.items():
        (out / f"{name}.{suffix}").write_text(text)
        push(out / f"{name}.{suffix}")
