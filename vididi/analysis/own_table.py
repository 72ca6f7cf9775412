"""What a sweep measured, whatever a paper has of it: every metric, gains over a baseline, and what
learned nothing. Then, where the sweep is a paper's table, that one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vididi.analysis.floor import LINEAR, R1, nothing_learned
from vididi.analysis.formats import (
    WIDTH,
    Parts,
    Sheet,
    markdown_line,
    with_lines,
    write_csv,
    write_files,
    write_latex,
    write_markdown,
)
from vididi.analysis.grouping import differences, protocol, with_differences
from vididi.analysis.paper import PERCENT, Column, PaperTable
from vididi.analysis.reading import Finished, Run, notes_of, one_run_per_cell, read_all
from vididi.analysis.samples import Ways, gain, interval
from vididi.analysis.table_rows import Measured, untrained_rows
from vididi.analysis.tables import (
    LEGEND,
    NO_RUNS,
    NOTHING_LEARNED,
    Source,
    blank_if_none,
    column_of,
    head_of,
    interval_text,
    other_sources,
    seeds_of_row,
    sheets,
    ways_notes,
    write_parts,
)
from vididi.analysis.text_tables import write_text
from vididi.words import counted, written

RESULTS = [
    Column("R@1", "retrieval/R@1", PERCENT, 1),
    Column("R@5", "retrieval/R@5", PERCENT, 1),
    Column("R@10", "retrieval/R@10", PERCENT, 1),
    Column("silhouette all", "silhouette/all", 1, 3),
    Column("spread", "features/spread", 1, 3),
]
ITS_LEGEND = (
    "95%: the bootstrap's interval over test videos, and over seeds where there are several"
    " (docs/tables.md); of one seed it says nothing about another seed."
)
NONE_FINISHED = "No finished runs."


@dataclass(frozen=True)
class _Point:
    """The runs of one row: of an arm, at a point of the axes, that differ in their seed alone."""

    label: str
    axes: str
    said: str  # the axes, and what sets the runs apart from others of the same arm and point
    runs: list[Run]

    @property
    def measured(self) -> Measured:
        return Measured(self.label, self.runs)


# --- The sheet ------------------------------------------------------------------------------------


def results_sheet(runs: list[Run], against: str | None = None) -> Sheet:
    """What was measured, a row per arm and point; then untrained encoders and what learned nothing.

    Runs that differ in more than their seed never share a row.

    Args:
        against: the arm, by name or label, that gains are over; None: there are no gains.
    """
    runs, copied = one_run_per_cell(runs, lambda run: (run.cell["label"], str(run.cell["axes"])))
    points = _points(runs)
    ways = Ways(runs)
    floor = [
        Measured(f"nothing learned: {name}", [run], without_weights=True)
        for name, run in nothing_learned(runs, {R1, LINEAR}).items()
    ]
    ways.join(run for row in floor for run in row.runs)
    sources = _sources(runs, floor, ways)
    below = [*untrained_rows(runs, {source.column.metric for source in sources}), *floor]
    ways.join(run for row in below for run in row.runs)

    bases = [point for point in points if against in (point.runs[0].cell["arm"], point.label)]
    sheet = Sheet(
        ["Arm", "Point"],
        notes=[
            *_about_gains(against, points, bases),
            *([NOTHING_LEARNED] if floor else []),
            *ways_notes(runs, ways),
            *notes_of(runs),
            *(f"counted once: {line}" for line in copied),
        ],
    )
    for point in points:
        sheet.start([point.label, point.said])
        base = _base_of(point, bases, points)
        _fill(sheet, point.measured, base.measured if base else None, sources, ways)
    for row in below:
        sheet.start([row.label, ""])
        _fill(sheet, row, None, sources, ways)
    return sheet


def _sources(runs: list[Run], floor: list[Measured], ways: Ways) -> list[Source]:
    """The columns: what runs measured at their end, then what was measured later or otherwise.

    What has learned nothing is told as rows, so its own metrics are no columns.
    """
    own, later = dict[str, None](), dict[str, None]()
    for m in (m for run in runs for m in run.measurements):
        names = (name for name in m.metrics if not name.startswith("unlearned/"))
        (later if m.name else own).update(dict.fromkeys(names))
    ends = [*RESULTS, *(_of_run_end(m) for m in own if m not in {c.metric for c in RESULTS})]

    rows = [Measured("", [_evaluated(run) for run in runs])]
    others = other_sources([column_of(metric) for metric in later], set(), rows, ways)
    # Below stand numbers of the columns that there are, and in columns of their own the others.
    there = {(source.column.metric, source.column.data, source.way) for source in others}
    there |= {(column.metric, run.data, 0) for column in ends for run in runs}
    columns = [column_of(metric) for metric in (R1, LINEAR)]
    others += [
        source
        for source in other_sources(columns, set(), floor, ways)
        if (source.column.metric, source.column.data, source.way) not in there
    ]
    return [*(Source(column) for column in ends), *others]


def _of_run_end(metric: str) -> Column:
    """A column of what all runs measured at their end, named as RESULTS are."""
    return replace(column_of(metric), name=metric.removeprefix("retrieval/").replace("/", " "))


def _points(runs: Iterable[Run]) -> list[_Point]:
    arms: dict[tuple[str, str], dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        point = " ".join(f"{axis}={written(value)}" for axis, value in run.cell["axes"].items())
        arms[run.cell["label"], point][protocol(run)].append(run)
    return [
        _Point(label, axes, with_differences(axes, differences(next(iter(groups)), name)), group)
        for (label, axes), groups in arms.items()
        for name, group in groups.items()
    ]


def _base_of(point: _Point, bases: list[_Point], points: list[_Point]) -> _Point | None:
    """The row that a row's gain is over: the baseline's at the same point of the axes, or, where
    there is no other arm, its first; None for that row itself.
    """
    if len({other.label for other in points}) == 1:
        found = bases[:1]
    else:
        found = [base for base in bases if base.axes == point.axes]
    return None if not found or (point in bases and point in found) else found[0]


def _about_gains(against: str | None, points: list[_Point], bases: list[_Point]) -> list[str]:
    if against is None or not points:
        return []
    if not bases:
        return [f"gain: none, as {against} has no finished runs"]
    if len({point.label for point in points}) > 1:
        return [f"gain: over {against}, at the same point"]
    return [f"gain: over {against} {bases[0].said}".rstrip()] if len(points) > 1 else []


def _fill(
    sheet: Sheet, row: Measured, base: Measured | None, sources: list[Source], ways: Ways
) -> None:
    """A row's cells: of each metric its value, and its gain over ``base``, with their intervals."""
    for source in sources:
        column, samples = source.column, source.samples(row, ways)
        name = column.name
        sheet.put(name, name, blank_if_none(column, samples))
        ends = interval(samples) if samples else None
        sheet.put(name, f"{name} 95%", interval_text(column, ends))
        more = None
        if base is not None and not str(column.metric).endswith("_epoch"):
            more = gain(samples, source.samples(base, ways))
        if more is not None:
            sheet.put(name, f"{name} gain", column.scaled(more.value, "+"))
            sheet.put(name, f"{name} gain 95%", interval_text(column, more.interval, "+"))
    sheet.put("seeds", "seeds", "" if row.without_weights else seeds_of_row(row.runs))


def _evaluated(run: Run) -> Run:
    """The run with its later evaluations only."""
    return Run(
        run.folder, run.config, run.cell, run.result, [m for m in run.measurements if m.name]
    )


# --- Files and screens ----------------------------------------------------------------------------


def write_results(folders: Iterable[Path], out: Path, against: str | None = None) -> str:
    """Write results.txt, .md, .csv and .tex under ``out``; the Markdown is returned.

    Args:
        against: the arm, by name or label, that gains are over; None: there are no gains.
    """
    finished = read_all(folders)
    return _write(_parts(finished, against), finished.left_out, out)


def _parts(finished: Finished, against: str | None) -> Parts:
    return [("" if finished.runs else NONE_FINISHED, results_sheet(finished.runs, against))]


def _write(parts: Parts, left_out: list[str], out: Path) -> str:
    markdown = with_lines(write_markdown([], parts, ITS_LEGEND).strip(), left_out)
    text = with_lines(write_text([], parts, ITS_LEGEND, WIDTH), left_out)
    latex = write_latex("results", "What was measured.", parts)
    texts = {"txt": f"{text}\n", "md": f"{markdown}\n", "csv": write_csv(parts), "tex": latex}
    write_files(out, "results", texts)
    return markdown


def sweep_tables(
    table: PaperTable | None,
    folders: Iterable[Path],
    out: Path,
    against: str | None,
    width: int | None = None,
    all_rows: bool = False,
) -> str:
    """What a sweep prints at its end: its own table, then the paper's; both are written in full.

    Args:
        table: the paper's, if the sweep is one.
        against: the arm that gains of its own table are over.
        width: of a terminal, whose tables are no wider; None: Markdown.
        all_rows: whether the paper's rows without runs are shown.
    """
    finished = read_all(folders)
    own = _parts(finished, against)
    markdown = _write(own, finished.left_out, out)
    texts = [markdown]
    if width is not None:
        texts = [with_lines(write_text([], own, ITS_LEGEND, width), finished.left_out)]
    if table is not None:
        parts: Parts = list(sheets(table, finished.runs))
        whole = write_parts(table, parts, finished.left_out, out)
        if all_rows and width is None:
            return f"{markdown}\n\n{whole}"
        texts.append(shown_table(table, parts, width, all_rows))
    return "\n\n".join(texts)


def shown_table(table: PaperTable, parts: Parts, width: int | None, all_rows: bool) -> str:
    """A paper's table as a screen has it: without the rows that have no runs, unless asked for."""
    shown = parts if all_rows else [(line, rows_with_runs(sheet)) for line, sheet in parts]
    hidden = max(
        len(whole.rows) - len(part.rows) for (_, whole), (_, part) in zip(parts, shown, strict=True)
    )
    if width is None:
        text = write_markdown(head_of(table), shown, LEGEND)
    else:
        head = [table.title, "", *head_of(table)[2:]]
        text = write_text(head, shown, LEGEND, width)
    if not hidden:
        return text
    said = (
        f"{counted(hidden, 'row')} without runs {'is' if hidden == 1 else 'are'} hidden;"
        f" --all-rows shows {'it' if hidden == 1 else 'them'}, and {table.name}.md has all"
    )
    return (
        f"{text}\n\n{markdown_line(said) if width is None else write_text([said], [], '', width)}"
    )


def rows_with_runs(sheet: Sheet) -> Sheet:
    """The sheet without the rows of which nothing was measured; gaps of the others are blank."""

    def empty(row: dict[str, Any]) -> bool:
        return NO_RUNS in row.values() and not row.get("seeds")

    rows = [
        {name: "" if text == NO_RUNS else text for name, text in row.items()}
        for row in sheet.rows
        if not empty(row)
    ]
    return replace(sheet, rows=rows)
