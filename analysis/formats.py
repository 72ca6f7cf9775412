"""A sheet of cells as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, field

WIDTH = 160  # of the printed table; what is wider goes on below
Parts = list[tuple[str, "Sheet"]]


@dataclass
class Sheet:
    """Cells by row and column; columns of one group stay beside each other where a wide sheet is broken.

    Args:
        head: the names of the columns that tell the rows from each other.
        notes: said below it.
    """

    head: list[str]
    notes: list[str] = field(default_factory=list)
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
        return [*self.head, *(column for group in self.groups.values() for column in group)]

    def said(self) -> list[list[str]]:
        """The columns of each group that have something in some row."""
        found = [[column for column in group if any(row.get(column) for row in self.rows)] for group in self.groups.values()]
        return [group for group in found if group]

    def cells(self, columns: Iterable[str]) -> list[list[str]]:
        columns = list(columns)
        return [[row.get(column, "") for column in columns] for row in self.rows]

    def width(self, columns: Iterable[str]) -> int:
        """Characters of a Markdown table of these columns."""
        return 1 + sum(3 + max(len(column), *(len(row.get(column, "")) for row in self.rows)) for column in columns)

    def blocks(self) -> list[list[str]]:
        """The columns, broken into tables that are no wider than WIDTH where a group allows it. Rows are named in each."""
        blocks = [list(self.head)]
        for group in self.said():
            if blocks[-1] != self.head and self.width([*blocks[-1], *group]) > WIDTH:
                blocks.append(list(self.head))
            blocks[-1] += group
        return blocks


def write_markdown(head: list[str], parts: Parts, legend: str) -> str:
    """``head``, then for each sheet its line, its tables and its notes. ``legend`` explains intervals, if there are any."""
    lines = list(head)
    for line, sheet in parts:
        lines += ["", line]
        for block in sheet.blocks() if sheet.rows else []:
            lines += ["", *_markdown_table(block, sheet.cells(block), len(sheet.head))]
        lines += ["", *(f"{note}." for note in sheet.notes)] if sheet.notes else []
    if legend and any(column.endswith("95%") for _, sheet in parts for group in sheet.said() for column in group):
        lines += ["", legend]
    return "\n".join(lines)


def _markdown_table(header: list[str], cells: list[list[str]], left: int) -> list[str]:
    """Lines of equal width; the first ``left`` columns are flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    lines = [
        [f"{cell:<{w}}" if i < left else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        for row in (header, *cells)
    ]
    rule = [f"{'-' * (w - 1)}{'-' if i < left else ':'}" for i, w in enumerate(widths)]
    return [f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:])]


def write_csv(parts: Parts) -> str:
    """One table of all sheets: every column that one of them has, and before them each sheet's line, if there is more to say."""
    columns = list(dict.fromkeys(column for _, sheet in parts for column in sheet.columns))
    lead = ["protocol"] if any(line for line, _ in parts) else []
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*lead, *columns])
    for line, sheet in parts:
        writer.writerows([*([line] if lead else []), *cells] for cells in sheet.cells(columns))
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
    """Text for LaTeX: its special characters escaped, the signs that occur in the papers as commands."""
    return "".join(LATEX.get(character, character) for character in text)


def write_latex(name: str, caption: str, parts: Parts) -> str:
    """A booktabs table for each sheet, without the intervals. Needs the packages booktabs and amssymb."""
    lines = ["% \\usepackage{booktabs, amssymb}"]
    for number, (line, sheet) in enumerate(parts, 1):
        columns = [*sheet.head, *(c for group in sheet.said() for c in group if not c.endswith("95%"))]
        lines += ["\\begin{table}", "\\centering", f"\\caption{{{escape(caption)} {escape(line)}}}"]
        lines.append(f"\\label{{tab:{name.replace('_', '-')}{f'-{number}' if number > 1 else ''}}}")
        lines.append(f"\\begin{{tabular}}{{{'l' * len(sheet.head)}{'r' * (len(columns) - len(sheet.head))}}}")
        lines += ["\\toprule", _latex_row(columns), "\\midrule", *map(_latex_row, sheet.cells(columns)), "\\bottomrule"]
        lines += ["\\end{tabular}", "\\end{table}"]
    return "\n".join(lines) + "\n"


def _latex_row(cells: Iterable[str]) -> str:
    # A row that began with a bracket would be taken for the length that \\ or a rule may have before it.
    return " & ".join(f"{{{escape(cell)}}}" if cell.startswith(("[", "*")) else escape(cell) for cell in cells) + r" \\"
