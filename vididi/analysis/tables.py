"""A paper's table with what was measured beside it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vididi.analysis.formats import (
    Parts,
    Sheet,
    with_lines,
    write_csv,
    write_files,
    write_latex,
    write_markdown,
)
from vididi.analysis.grouping import (
    by_protocol,
    describe_protocol,
    differences,
    not_the_paper_s,
    with_differences,
)
from vididi.analysis.paper import (
    PERCENT,
    Column,
    PaperTable,
    Split,
)
from vididi.analysis.reading import Run, notes_of, read_all
from vididi.analysis.samples import THREE_SPLITS, Gain, Samples, Ways, gain, interval
from vididi.analysis.table_rows import Measured, measured_rows
from vididi.analysis.video_groups import VideoGroups
from vididi.analysis.whose_boxes import whose_boxes
from vididi.protocols import protocol_of

NO_RUNS = "no runs"
NOTHING_LEARNED = (
    "nothing learned: features without weights, of the same clips; top-1 is that of ridge"
    " regression in closed form (docs/evaluation.md)"
)
LEGEND = (
    "95%: the bootstrap's interval over test videos, and over seeds where there are several"
    " (docs/tables.md). beyond noise: whether the gain's interval excludes 0; of one seed it says"
    " nothing about another seed."
)


# --- Rows -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """A column, and in which of the group's ways it was measured.

    ``paper`` is its index among the paper's columns.
    """

    column: Column
    way: int = 0
    paper: int | None = None

    @property
    def ours(self) -> str:
        """The header over what was measured; what the paper has no column for needs no "ours"."""
        return f"{self.column.name} ours" if self.paper is not None else self.column.name

    def samples(self, row: Measured, ways: Ways) -> Samples | None:
        """What the runs of a row measured for the column; None if nothing."""
        return row.samples(self.column, ways, self.way, None if self.paper is None else row.split)


def other_sources(
    columns: Iterable[Column], splits: set[Split], rows: Iterable[Measured], ways: Ways
) -> list[Source]:
    """The metrics of ``columns`` where measured on other data, on other splits or otherwise."""
    columns = [column for column in columns if column.metric is not None]
    sources: dict[tuple[Any, ...], Source] = {}
    for row, m in [
        (candidate, m) for candidate in rows for run in candidate.runs for m in run.measurements
    ]:
        for column in columns:
            metric = row.reads(column)
            if metric is None or m.value(metric) is None:
                continue
            way = ways.number(m, metric)
            same = [c for c in columns if c.metric == column.metric and c.data == m.data]
            column_splits = {
                s
                for c in same
                for s in (c.split, *(splits - {None} if c.split is not None else ()))
            }
            if same and not way and (column_splits & {None, m.split} or "mean" in column_splits):
                continue
            key = (column.metric, m.data, m.split, way)
            sources.setdefault(key, Source(_column_elsewhere(column, m.data, m.split, way), way))

    return list(sources.values())


def _column_elsewhere(column: Column, data: str, split: int | None, way: int) -> Column:
    metric = str(column.metric).removeprefix("retrieval/").replace("/", " ")
    name = " ".join(
        [metric, data, *([f"split {split}"] if split else []), *([f"({way + 1})"] if way else [])]
    )
    return Column(name, column.metric, column.scale, column.decimals, data, split)


def value_text(column: Column, samples: Samples | None, split: Split = None) -> str:
    """The mean, and the deviation over seeds where there are two or more.

    With how many splits there are where some are missing.
    """
    if samples is None:
        return NO_RUNS
    values = samples.values
    mean = column.scaled(statistics.mean(values))
    text = f"{mean} ± {column.scaled(statistics.stdev(values))}" if len(values) > 1 else mean
    missing = split == "mean" and len(samples.splits) < len(THREE_SPLITS)
    return f"{text} ({len(samples.splits)} of {len(THREE_SPLITS)} splits)" if missing else text


def interval_text(column: Column, ends: tuple[float, float] | None, sign: str = "") -> str:
    """An interval as "low to high", scaled as the column; empty for none."""
    return f"{column.scaled(ends[0], sign)} to {column.scaled(ends[1], sign)}" if ends else ""


def table_sheet(table: PaperTable, runs: list[Run], by: VideoGroups | None = None) -> Sheet:
    """For each column the paper's number and ours, then gains, then what the paper has not."""
    rows, notes = measured_rows(table, runs)
    ways = Ways(runs, by)
    ways.join(run for row in rows for run in row.runs)
    floor = [run for row in rows if row.without_weights for run in row.runs]
    paper_sources = [Source(column, paper=i) for i, column in enumerate(table.columns)]
    extra_sources = other_sources(table.columns, {row.split for row in table.rows}, rows, ways)
    gain_source = _gain_source(paper_sources, extra_sources, rows, ways)
    sheet = Sheet(
        [table.head, *table.about],
        notes=[
            *notes,
            *([NOTHING_LEARNED] if floor else []),
            *ways_notes([*runs, *floor], ways),
            *notes_of(runs),
        ],
        caveats=whose_boxes(table, runs),
    )
    layout = _layout(paper_sources, extra_sources, rows, ways)

    for row in rows:
        sheet.start([row.label, *(row.about or [""] * len(table.about))])
        for source, sources in layout:
            if source.paper is not None:
                name = source.column.name
                sheet.put(
                    name,
                    f"{name} paper",
                    source.column.number(row.row.values[source.paper]) if row.row else "",
                )
            for measured_source in sources:
                _measured_cells(sheet, measured_source, row, ways)
        _gain_cells(sheet, table, gain_source, row, rows, ways)
        for column in table.also:
            sheet.put("also", column.name, blank_if_none(column, row.samples(column, ways)))
        sheet.put("seeds", "seeds", "" if row.without_weights else seeds_of_row(row.runs))

    return sheet


def _layout(
    paper_sources: list[Source], extra_sources: list[Source], rows: list[Measured], ways: Ways
) -> list[tuple[Source, list[Source]]]:
    """The columns, and which measurements stand at each.

    Its own; or, where all was measured on other data, those of its metric.
    """
    if not extra_sources or any(
        source.samples(row, ways) for source in paper_sources for row in rows
    ):
        return [(source, [source]) for source in (*paper_sources, *extra_sources)]
    layout, remaining = [], list(extra_sources)
    for source in paper_sources:
        sources = [other for other in remaining if other.column.metric == source.column.metric]
        remaining = [other for other in remaining if other not in sources]
        layout.append((source, sources))
    return layout + [(source, [source]) for source in remaining]


def _measured_cells(sheet: Sheet, source: Source, row: Measured, ways: Ways) -> None:
    """A column's cells of one row: ours, and its interval."""
    column = source.column
    if column.metric is None:
        return
    samples = source.samples(row, ways)
    no_gap = samples is None and row.few_metrics
    text = "" if no_gap else value_text(column, samples, row.split or column.split)
    sheet.put(column.name, source.ours, text)
    sheet.put(
        column.name,
        f"{column.name} 95%",
        interval_text(column, interval(samples)) if samples else "",
    )


def _gain_source(
    paper_sources: list[Source], extra_sources: list[Source], rows: list[Measured], ways: Ways
) -> Source:
    """The column whose gains are shown.

    The first of the paper's that was measured, else the same metric elsewhere.
    """
    measured = [
        source
        for source in (*paper_sources, *extra_sources)
        if any(source.samples(row, ways) for row in rows)
    ]
    return measured[0] if measured else paper_sources[0]


def _baseline(table: PaperTable, row: Measured, rows: list[Measured]) -> Measured | None:
    """The row that a row's gain is over, in the same reading of the paper."""
    of_paper = row.row or row.read
    title = (of_paper.baseline if of_paper else None) or table.baseline
    found = (
        other
        for other in rows
        if (like := other.row or other.read) is not None
        and like.title == title
        and other.reading == row.reading
    )
    return next(found, None)


def _gain_cells(
    sheet: Sheet, table: PaperTable, source: Source, row: Measured, rows: list[Measured], ways: Ways
) -> None:
    """What a row has over its baseline, the paper's and ours."""
    if not (table.baseline or any(other.baseline for other in table.rows)):
        return

    column = source.column
    index = (
        next(i for i, c in enumerate(table.columns) if c.metric == column.metric)
        if source.paper is None
        else source.paper
    )
    printed, difference = "", None
    if (base := _baseline(table, row, rows)) is not None:
        if (
            row.row is not None
            and base.row is not None
            and (ours := row.row.values[index]) is not None
            and (theirs := base.row.values[index]) is not None
        ):
            printed = f"{ours - theirs:+.{column.decimals}f}"
        difference = gain(source.samples(row, ways), source.samples(base, ways))

    paper = table.columns[index]
    sheet.put("gain", f"{paper.name} gain paper", printed)
    sheet.put(
        "gain",
        f"{column.name} gain{' ours' if source.paper is not None else ''}",
        column.scaled(difference.value, "+") if difference else "",
    )
    tested = difference if difference and row is not base else Gain(0, None, 0)
    sheet.put("gain", f"{column.name} gain 95%", interval_text(column, tested.interval, "+"))
    sheet.put("gain", "beyond noise", tested.beyond_noise)


def blank_if_none(column: Column, samples: Samples | None) -> str:
    """As value_text, but nothing where there are no runs."""
    return value_text(column, samples) if samples else ""


def seeds_of_row(runs: list[Run]) -> str:
    """The seeds of a row's runs, in order."""
    return " ".join(str(seed) for seed in sorted(run.seed for run in runs))


def ways_notes(runs: list[Run], ways: Ways) -> Iterator[str]:
    """How later evaluations were made, and what sets the second way apart from the first."""
    later = {
        (metric.partition("/")[0], m.data)
        for run in runs
        for m in run.measurements
        if m.name
        for metric in m.metrics
    }
    for name, data, number, words in ways.describe():
        if (name, data) in later and words:
            yield (
                f"{name} on {data}: {words}"
                if not number
                else f"{name} {data} ({number + 1}): with {words}"
            )


# --- The whole ------------------------------------------------------------------------------------


def sheets(
    table: PaperTable, runs: list[Run], by: VideoGroups | None = None
) -> Iterator[tuple[str, Sheet]]:
    """For each protocol among the runs, a line that describes it and its sheet.

    Without runs, the paper's side alone. ``by``: how test videos are put together for intervals.
    """
    groups = by_protocol(table, runs)
    for number, (name, group) in enumerate(groups.items(), 1):
        described = with_differences(
            describe_protocol(group, table.axes), differences(next(iter(groups)), name)
        )
        position = f" ({number} of {len(groups)} protocols)" if len(groups) > 1 else ""
        deviations = not_the_paper_s(table, group[0])
        not_paper_s = f" Not as in the paper: {', '.join(deviations)}." if deviations else ""
        by_group = "" if by is None else f" Here {by.describe(group)}."
        yield f"Ours{position}: {described}.{not_paper_s}{by_group}", table_sheet(table, group, by)
    if not groups:
        yield "No finished runs.", table_sheet(table, [])


def head_of(table: PaperTable) -> list[str]:
    """What stands above a paper's table: its title, its setting, and what its print has wrong."""
    return [
        f"## {table.title}",
        "",
        f"Paper: {table.setting}.",
        *(f"Print: {note}." for note in table.notes),
    ]


def render_table(
    table: PaperTable, runs: list[Run], by: VideoGroups | None = None
) -> tuple[str, str, str]:
    """Markdown, CSV and LaTeX of all runs, a table for each protocol among them."""
    return render_parts(table, list(sheets(table, runs, by)))


def render_parts(table: PaperTable, parts: Parts) -> tuple[str, str, str]:
    """The same of what ``sheets`` gave."""
    return (
        write_markdown(head_of(table), parts, LEGEND),
        write_csv(parts),
        write_latex(table.name, f"{table.title}. {table.setting}.", parts),
    )


def column_of(metric: str) -> Column:
    """A column for a metric that no table names.

    A share of 1 in percent, but for an epoch and for what is on a scale of its own.
    """
    if metric.endswith("_epoch"):
        return Column(metric, metric, 1, 0)
    protocol_entry = protocol_of(metric)
    own_scale = metric.startswith("features/") or (
        protocol_entry is not None and not protocol_entry.percent
    )
    return Column(metric, metric, 1, 3) if own_scale else Column(metric, metric, PERCENT, 1)


def write_tables(
    table: PaperTable, folders: Iterable[Path], out: Path, by: VideoGroups | None = None
) -> str:
    """Write NAME.md, NAME.csv and NAME.tex under ``out``; the Markdown is returned."""
    finished = read_all(folders)
    return write_parts(table, list(sheets(table, finished.runs, by)), finished.left_out, out)


def write_parts(table: PaperTable, parts: Parts, left_out: list[str], out: Path) -> str:
    """The same of what ``sheets`` gave; ``left_out``: a line for each run that is not in it."""
    markdown, sheet, latex = render_parts(table, parts)
    markdown = with_lines(markdown, left_out)
    write_files(out, table.name, {"md": f"{markdown}\n", "csv": sheet, "tex": latex})
    return markdown


def unit(metric: str) -> str:
    """What follows a printed number: " points" (of 100) for a share, nothing for a silhouette."""
    return " points" if column_of(metric).scale == PERCENT else ""
