"""The papers' tables, and figures that are told as tables: numbers as printed, and which
configuration each row is.

docs/tables.md has the format.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from vididi.shipped import PAPERS

Split = int | Literal["mean"] | None
Match = dict[str, Any]
PERCENT = 100  # the scale of a column of shares


@dataclass(frozen=True)
class Column:
    """A measurement, printed as value x ``scale`` with ``decimals``.

    Args:
        metric: its key in a result.json; None for what is printed only.
        data: the data set it is measured on; None is the one that the run was pretrained on.
        split: of ``data``; "mean" is the mean over the three splits, None is for a data set that
            has no numbered splits.
        match: what the configuration of a run must be for the run to count in this column.
    """

    name: str
    metric: str | None
    scale: float
    decimals: int
    data: str | None = None
    split: Split = None
    match: Match = field(default_factory=dict)

    def number(self, value: float | None) -> str:
        """A number that is printed already scaled; blank for none."""
        return "" if value is None else f"{value:.{self.decimals}f}"

    def scaled(self, value: float, sign: str = "") -> str:
        """A measured number, scaled."""
        return f"{value * self.scale:{sign}.{self.decimals}f}"


@dataclass(frozen=True)
class Row:
    """One line of the paper's table.

    Args:
        values: one for each column, None where the paper has a blank or a dash, or shows the number
            in a picture only.
        about: further text of the line, one for each of the table's ``about``.
        quoted: another paper's number.
        match: the configuration values that make it, or None for what this project cannot run.
        split, metric: instead of the columns'.
        baseline: the title of the row that its gain is over, instead of the table's.
        text: the section whose sentences have the number, where the printed table has no such line.
    """

    label: str
    values: list[float | None]
    about: list[str] = field(default_factory=list)
    quoted: bool = False
    match: Match | None = None
    split: Split = None
    metric: str | None = None
    baseline: str | None = None
    text: str | None = None

    @property
    def title(self) -> str:
        """What tells it from the table's other rows."""
        return ", ".join(text for text in (self.label, *self.about) if text)


@dataclass(frozen=True)
class OtherReading:
    """Another reading of a paper that contradicts itself: what else its rows may be.

    Args:
        name: what runs of it are called, after the row's label.
        match: instead of the same keys of a row, where these have the table's ``configuration``.
        about: instead of the row's.
    """

    name: str
    match: Match
    about: list[str] | None = None

    def of(self, row: Row, configuration: Match) -> Match | None:
        """The configuration values of a row in this reading; None where it has no other there."""
        if row.match is None or any(
            row.match.get(key) != configuration.get(key) for key in self.match
        ):
            return None
        return {**row.match, **self.match}


@dataclass(frozen=True)
class PaperTable:
    """A table as a paper prints it.

    Args:
        setting: what the paper says of the runs, for the reader; configuration: the same as
            configuration values.
        axes: configuration keys, or whole sections, in which the rows differ.
        baseline: the title of the row that gains are over.
        home: the value of data.name that stands for any data set which no row names
            (docs/tables.md).
        head, about: what the rows' labels and further texts are.
        also: measured beside it, where the table has no such columns.
        notes: where the print is damaged or contradicts itself.
        readings: what else the rows may be; their matches are of the default reading.
    """

    name: str
    title: str
    setting: str
    columns: list[Column]
    rows: list[Row]
    axes: list[str]
    configuration: Match = field(default_factory=dict)
    baseline: str | None = None
    home: str | None = None
    head: str = "Method"
    about: list[str] = field(default_factory=list)
    also: list[Column] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    readings: list[OtherReading] = field(default_factory=list)

    def row(self, title: str) -> int:
        """The place of a row."""
        return [row.title for row in self.rows].index(title)

    @property
    def pretraining_data(self) -> set[str]:
        """The data sets that tell rows from each other."""
        return {
            row.match["data.name"] for row in self.rows if row.match and "data.name" in row.match
        }


def table_names() -> list[str]:
    """The names of all tables, each paper's in its order, and then of its figures."""

    def place(name: str) -> tuple[str, bool, int]:
        *paper, kind, number = name.split("_")
        return paper[0], kind != "table", int(number)

    return sorted((path.stem for path in PAPERS.glob("*.yaml")), key=place)


def load_paper_table(name: str) -> PaperTable:
    """A table of analysis/papers by file name without suffix.

    Raises:
        vididi.errors.ConfigError: there is no such table; it names those there are.
    """
    if name not in table_names():
        from vididi.errors import ConfigError

        raise ConfigError(f"table: {name!r} is not valid; it is one of {', '.join(table_names())}")
    content = yaml.safe_load((PAPERS / f"{name}.yaml").read_text())
    for kind in ("columns", "also"):
        content[kind] = [Column(**column) for column in content.get(kind, [])]
    content["readings"] = [OtherReading(**reading) for reading in content.get("readings", [])]
    rows = [
        Row(**{**row, "values": _values(row["values"], content["columns"])})
        for row in content.pop("rows")
    ]
    return PaperTable(name=name, rows=rows, **content)


def _values(given: Any, columns: list[Column]) -> list[float | None]:
    """A row's numbers.

    Where they stand in a row of another table, as ``{table: NAME, row: TITLE}``, those of its
    columns of the same metric, data and split.
    """
    if isinstance(given, list):
        return given
    other = load_paper_table(given["table"])
    printed = {
        (column.metric, column.data, column.split): value
        for column, value in zip(
            other.columns, other.rows[other.row(given["row"])].values, strict=True
        )
    }
    return [printed.get((column.metric, column.data, column.split)) for column in columns]
