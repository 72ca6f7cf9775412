"""A paper's table with what was measured beside it, as text, Markdown and CSV."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tabulate import tabulate

from analysis.runs import Run, read_finished

PAPERS = Path(__file__).parent / "papers"
# What may differ between runs of one protocol besides the table's own axes. Where the data lay is not part of a
# protocol; which data it was is (the checksum).
_NOT_PROTOCOL = ("data.", "prepare.", "training.seed")


@dataclass(frozen=True)
class Column:
    """``metric`` of result.json, printed as value x scale with ``decimals``."""

    name: str
    metric: str
    scale: float
    decimals: int

    def text(self, values: list[float]) -> str:
        """The mean, and the deviation over seeds where there are two or more."""
        if not values:
            return ""
        mean = f"{statistics.mean(values) * self.scale:.{self.decimals}f}"
        return f"{mean} ± {statistics.stdev(values) * self.scale:.{self.decimals}f}" if len(values) > 1 else mean


@dataclass(frozen=True)
class Row:
    label: str
    values: list[float]
    match: dict[str, Any]

    def matches(self, run: Run) -> bool:
        return all(run.config.get(key) == value for key, value in self.match.items())


@dataclass(frozen=True)
class PaperTable:
    """A table as a paper prints it, and which configuration each row is."""

    name: str
    title: str
    setting: str
    columns: list[Column]
    also: list[Column]
    axes: list[str]
    baseline: str
    rows: list[Row]


def load_paper_table(name: str) -> PaperTable:
    """A table of analysis/papers by file name without suffix.

    Raises:
        vididi.errors.ConfigError: there is no such table; it names those there are.
    """
    path = PAPERS / f"{name}.yaml"
    if not path.is_file():
        from vididi.errors import ConfigError

        raise ConfigError(f"table: {name!r} is not valid; it is one of {', '.join(sorted(p.stem for p in PAPERS.glob('*.yaml')))}")
    content = yaml.safe_load(path.read_text())
    columns, also = ([Column(**column) for column in content.pop(kind)] for kind in ("columns", "also"))
    return PaperTable(name=name, columns=columns, also=also, rows=[Row(**row) for row in content.pop("rows")], **content)


def by_protocol(table: PaperTable, runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs that may stand in one table: the same in everything but the table's axes and the seed. The most runs first."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[protocol(run, table.axes)].append(run)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def protocol(run: Run, axes: Iterable[str] = ()) -> str:
    """Everything that a run's numbers depend on but its seed and the values of ``axes``, as text."""
    own = {key: value for key, value in run.config.items() if key not in axes and not key.startswith(_NOT_PROTOCOL)}
    return json.dumps([own, run.result["data_checksum"]], sort_keys=True)


def describe_protocol(run: Run) -> str:
    """One line that says how a run was made."""
    c = run.config
    return (
        f"{c['data.name']} data, {c['backbone.name']}, {c['objective.name']}, {c['optimiser.name']}, {c['training.epochs']} epochs, "
        f"batch {c['training.batch_size']}, {c['clip.frames']} x {c['clip.size']} x {c['clip.size']}, stride {c['clip.stride']}; "
        f"retrieval with {c['evaluation.clips']} clips of {c['evaluation.frames']} frames"
    )


def differences(first: str, other: str) -> str:
    """What sets a protocol apart from the first one (both as by_protocol names them)."""
    (ours, our_data), (theirs, their_data) = json.loads(other), json.loads(first)
    keys = [key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)]
    parts = [f"{key} {ours.get(key)} instead of {theirs.get(key)}" for key in sorted(keys)]
    parts += ["other videos"] if our_data != their_data else []
    return f"; with {', '.join(parts)}" if parts else ""


@dataclass(frozen=True)
class Measured:
    """One row of the finished table."""

    label: str
    paper: list[float] | None
    runs: list[Run]

    def values(self, column: Column) -> list[float]:
        return [run.result[column.metric] for run in self.runs if run.result.get(column.metric) is not None]


def measured_rows(table: PaperTable, runs: list[Run]) -> list[Measured]:
    """The paper's rows in its order, with or without runs, then runs that are no row of the paper, then untrained."""
    rows, left = [], list(runs)
    for row in table.rows:
        own = [run for run in left if row.matches(run)]
        left = [run for run in left if not row.matches(run)]
        rows.append(Measured(row.label, row.values, own))
    others: dict[str, list[Run]] = defaultdict(list)
    for run in left:
        others[run.cell["label"]].append(run)
    return rows + [Measured(f"{label} (not in the paper)", None, own) for label, own in others.items()] + untrained_row(runs)


def untrained_row(runs: list[Run]) -> list[Measured]:
    """The encoder before its first step, once per seed, where it was measured."""
    found = {run.seed: run for run in runs if "untrained/retrieval/R@1" in run.result}
    untrained = [
        Run(
            run.folder,
            run.config,
            run.cell,
            {key.removeprefix("untrained/"): value for key, value in run.result.items() if key.startswith("untrained/")},
        )
        for _, run in sorted(found.items())
    ]
    return [Measured("untrained encoder", None, untrained)] if untrained else []


def table_cells(table: PaperTable, rows: list[Measured]) -> tuple[list[str], list[list[str]]]:
    """Header and cells: for each column the paper's number and ours, then ours that the paper has not."""
    gain = table.columns[0]
    header = ["Method"]
    for column in table.columns:
        header += [f"{column.name} paper", f"{column.name} ours"]
    header += [f"{gain.name} gain paper", f"{gain.name} gain ours", *(f"{column.name} ours" for column in table.also), "seeds"]
    base = next(row for row in rows if row.label == table.baseline)
    cells = []
    for row in rows:
        line = [row.label]
        for i, column in enumerate(table.columns):
            line += [f"{row.paper[i]:.{column.decimals}f}" if row.paper else "", column.text(row.values(column)) or "no runs"]
        line += gain_cells(gain, row, base)
        line += [column.text(row.values(column)) for column in table.also]
        cells.append([*line, " ".join(str(run.seed) for run in sorted(row.runs, key=lambda run: run.seed))])
    return header, cells


def gain_cells(column: Column, row: Measured, base: Measured) -> list[str]:
    """The difference to the baseline row, the paper's and ours."""
    paper = f"{row.paper[0] - base.paper[0]:+.{column.decimals}f}" if row.paper and base.paper else ""
    ours, baseline = row.values(column), base.values(column)
    gain = f"{(statistics.mean(ours) - statistics.mean(baseline)) * column.scale:+.{column.decimals}f}" if ours and baseline else ""
    return [paper, gain]


def render(table: PaperTable, runs: list[Run]) -> tuple[str, str]:
    """Markdown and CSV of all runs, a table for each protocol among them."""
    markdown = [f"## {table.title}", "", f"Paper: {table.setting}."]
    out = io.StringIO()
    sheet = csv.writer(out)
    groups = by_protocol(table, runs)
    for number, (name, group) in enumerate(groups.items(), 1):
        header, cells = table_cells(table, measured_rows(table, group))
        protocol = describe_protocol(group[0]) + differences(next(iter(groups)), name)
        markdown += ["", f"Ours{f' ({number} of {len(groups)} protocols)' if len(groups) > 1 else ''}: {protocol}.", ""]
        markdown.append(
            tabulate(cells, header, tablefmt="github", disable_numparse=True, colalign=("left", *["right"] * (len(header) - 1)))
        )
        if number == 1:
            sheet.writerow(["protocol", *header])
        sheet.writerows([protocol, *line] for line in cells)
    if not groups:
        markdown += ["", "No finished runs."]
    return "\n".join(markdown), out.getvalue()


RESULTS = [
    Column("R@1", "retrieval/R@1", 100, 1),
    Column("R@5", "retrieval/R@5", 100, 1),
    Column("R@10", "retrieval/R@10", 100, 1),
    Column("silhouette all", "silhouette/all", 1, 3),
    Column("spread", "features/spread", 1, 3),
]


def write_results(folders: Iterable[Path], out: Path) -> str:
    """For a sweep that is no paper's table: what was measured, a row per arm and point, as results.md and results.csv.

    Runs that differ in more than their seed never share a row.
    """
    arms: dict[tuple[str, str], dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in read_finished(folders):
        point = " ".join(f"{axis}={value}" for axis, value in run.cell["axes"].items())
        arms[run.cell["label"], point][protocol(run)].append(run)
    rows = [
        (label, point + differences(next(iter(groups)), name), Measured(label, None, runs))
        for (label, point), groups in arms.items()
        for name, runs in groups.items()
    ]
    columns = [column for column in RESULTS if any(row.values(column) for _, _, row in rows)]
    header = ["Arm", "Point", *(column.name for column in columns), "seeds"]
    cells = [
        [label, point, *(column.text(row.values(column)) for column in columns), " ".join(str(run.seed) for run in row.runs)]
        for label, point, row in rows
    ]
    out.mkdir(parents=True, exist_ok=True)
    with (out / "results.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *cells])
    markdown = tabulate(cells, header, tablefmt="github", disable_numparse=True) if cells else "No finished runs."
    (out / "results.md").write_text(markdown + "\n")
    return markdown


def write_tables(table: PaperTable, folders: Iterable[Path], out: Path) -> str:
    """Write NAME.md and NAME.csv under ``out``; the Markdown is returned."""
    markdown, sheet = render(table, read_finished(folders))
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{table.name}.md").write_text(markdown + "\n")
    (out / f"{table.name}.csv").write_text(sheet)
    return markdown
