"""A paper's table with what was measured beside it."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vididi.analysis.floor import nothing_learned, on_derivatives, order_name
from vididi.analysis.formats import Sheet, write_csv, write_latex, write_markdown
from vididi.analysis.grouping import (
    INITIAL_WEIGHTS,
    by_protocol,
    describe_protocol,
    differences,
    not_the_paper_s,
    protocol,
    with_differences,
)
from vididi.analysis.paper import (
    PERCENT,
    Column,
    Match,
    OtherReading,
    PaperTable,
    Row,
    Split,
)
from vididi.analysis.reading import Run, notes_of, one_run_per_cell, read_all
from vididi.analysis.samples import THREE_SPLITS, Gain, Samples, Ways, collect, gain, interval
from vididi.analysis.video_groups import VideoGroups
from vididi.analysis.whose_boxes import whose_boxes
from vididi.protocols import protocol_of
from vididi.runs.mirror import push
from vididi.words import written

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
class Measured:
    """One row of the finished table; ``row`` is the paper's, if it is one."""

    label: str
    runs: list[Run]
    about: list[str] = field(default_factory=list)
    row: Row | None = None
    split: Split = None  # instead of the split of the paper's columns
    metric: str | None = None  # instead of the metric of all columns
    reading: str = ""  # another one than the default, of the paper's row ``read``
    read: Row | None = None
    few_metrics: bool = False  # what it was not measured by is no gap
    without_weights: bool = False  # so its numbers are of no seed

    def reads(self, column: Column) -> str | None:
        """The metric that counts in a column."""
        return column.metric and (self.metric or column.metric)

    def samples(
        self, column: Column, ways: Ways, way: int = 0, split: Split = None
    ) -> Samples | None:
        """What its runs measured for a column, on ``split`` instead of the column's if given."""
        if column.metric is None:
            return None
        runs = [run for run in self.runs if matches(run, column.match)]
        return collect(
            runs, replace(column, metric=self.reads(column)), split or column.split, way, ways
        )


def matches(run: Run, match: Match, table: PaperTable | None = None) -> bool:
    """Whether a run's configuration has these values.

    Data that no row of ``table`` names counts as its ``home``.
    """
    return all(_value(run, key, table) == value for key, value in match.items())


def is_row(run: Run, match: Match, table: PaperTable) -> bool:
    """Whether a run is the row of this match.

    Unless the match speaks of it, that is a pretrained encoder that began at random.
    """
    if "training.epochs" not in match and not run.pretrained:
        return False
    if (
        not match.keys() & {"backbone.weights", *INITIAL_WEIGHTS}
        and run.config.get("backbone.weights") is not None
    ):
        return False
    return matches(run, match, table)


def stands_in(run: Run, row: Row, table: PaperTable) -> bool:
    """Whether a run is counted in a row.

    One that is a row of the paper's text is in no row of the printed table that asks for less.
    """
    return (
        row.match is not None
        and is_row(run, row.match, table)
        and not any(
            other.text
            and row.match.items() < (other.match or {}).items()
            and is_row(run, other.match or {}, table)
            for other in table.rows
        )
    )


def label_of(row: Row) -> str:
    """A row's label, with where its number is from if that is not the table itself."""
    if row.text:
        return f"{row.label} (in the text, {row.text})"
    return f"{row.label} (quoted)" if row.quoted else row.label


def _value(run: Run, key: str, table: PaperTable | None) -> Any:
    value = run.config.get(key)
    return (
        table.home
        if key == "data.name" and table is not None and value not in table.pretraining_data
        else value
    )


def measured_rows(table: PaperTable, runs: list[Run]) -> tuple[list[Measured], list[str]]:
    """The paper's rows in its order, then runs that are no row of it, then untrained encoders.

    Runs of one row that differ in more than their seed are rows of their own; the notes say in
    what.
    """
    rows, notes, remaining = [], [], list(runs)
    for row in table.rows:
        row_runs = [run for run in runs if stands_in(run, row, table)]
        remaining = [run for run in remaining if run not in row_runs]
        label = label_of(row)
        kinds, kind_notes = _kinds(table, label, row_runs)
        notes += kind_notes
        rows.append(
            Measured(label, kinds[0][1] if kinds else [], row.about, row, row.split, row.metric)
        )
        rows += [
            Measured(name, kind, row.about, None, row.split, row.metric) for name, kind in kinds[1:]
        ]
        for reading in table.readings:
            row_runs = _runs_of_reading(table, row, reading, runs)
            remaining = [run for run in remaining if run not in row_runs]
            about = row.about if reading.about is None else reading.about
            kinds, kind_notes = _kinds(table, f"{row.label} ({reading.name})", row_runs)
            notes += kind_notes
            rows += [
                Measured(name, kind, about, None, row.split, row.metric, reading.name, row)
                for name, kind in kinds
            ]

    others: dict[str, list[Run]] = defaultdict(list)
    for run in remaining:
        others[run.cell["label"]].append(run)

    for label, row_runs in others.items():
        kinds, kind_notes = _kinds(table, f"{label} (not in the paper)", row_runs)
        notes += kind_notes
        rows += [Measured(name, kind) for name, kind in kinds]

    metrics = {column.metric for column in (*table.columns, *table.also)}
    floor = [
        Measured(f"nothing learned: {name}", [run], few_metrics=True, without_weights=True)
        for name, run in nothing_learned(runs, metrics).items()
    ]
    return rows + untrained_rows(runs, metrics) + floor, notes


def _runs_of_reading(
    table: PaperTable, row: Row, reading: OtherReading, runs: list[Run]
) -> list[Run]:
    """The runs that are a row in another reading, and were measured for a column of it: one encoder
    may be two rows of which each has a metric of its own.
    """
    match = reading.of(row, table.configuration)
    metrics = {row.metric or column.metric for column in table.columns} - {None}
    return [
        run
        for run in runs
        if match is not None
        and is_row(run, match, table)
        and any(m.value(str(metric)) is not None for m in run.measurements for metric in metrics)
    ]


def _kinds(
    table: PaperTable, label: str, runs: list[Run]
) -> tuple[list[tuple[str, list[Run]]], list[str]]:
    """Runs of one label, parted where they differ in more than their seed.

    The nearest to the paper come first, of those as near the most runs.

    Where each seed began from a file of its own, the file goes with the seed.
    """
    runs, copies = one_run_per_cell(runs)
    groups: dict[str, list[Run]] = defaultdict(list)
    file_per_seed = len({run.seed for run in runs}) == len(runs)
    for run in runs:
        groups[protocol(run, ["backbone.weights_sha256"] if file_per_seed else [])].append(run)
    deviations = {
        name: sum(run.config.get(k) != v for k, v in table.configuration.items())
        for name, (run, *_) in groups.items()
    }
    order = sorted(groups, key=lambda name: (deviations[name], -len(groups[name])))
    names = [label, *(f"{label} ({number})" for number in range(2, len(order) + 1))]
    notes = [
        with_differences(name, differences(order[0], other))
        for name, other in zip(names[1:], order[1:], strict=False)
    ]
    notes += [f"counted once: {line}" for line in copies]
    return [(name, groups[group]) for name, group in zip(names, order, strict=False)], notes


def untrained_rows(runs: list[Run], metrics: Collection[str | None]) -> list[Measured]:
    """The encoder before its first step, once for each backbone and seed, where it was measured.

    Where it was measured on derivatives too, each order is a row.
    """
    by_backbone: dict[str, dict[int, Run]] = defaultdict(dict)
    for run in runs:
        if (before := run.untrained()) is not None:
            by_backbone[str(run.config["backbone.name"])].setdefault(run.seed, before)
    names = {
        name: f"untrained {name}" if len(by_backbone) > 1 else "untrained encoder"
        for name in by_backbone
    }
    rows = []
    for name, seeds in by_backbone.items():
        untrained = [run for _, run in sorted(seeds.items())]
        orders: dict[int, list[Run]] = defaultdict(list)
        for run in untrained:
            for order, fed in on_derivatives(run, metrics).items():
                orders[order].append(fed)
        label = f"{names[name]}, {order_name(0)}" if orders else names[name]
        rows.append(Measured(label, untrained))
        rows += [
            Measured(f"{names[name]}, {order_name(order)}", fed, few_metrics=True)
            for order, fed in sorted(orders.items())
        ]
    return rows


# --- Columns --------------------------------------------------------------------------------------


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
            *_evaluations([*runs, *floor], ways),
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
            sheet.put("also", column.name, _blank_if_none(column, row.samples(column, ways)))
        sheet.put("seeds", "seeds", "" if row.without_weights else _seeds(row.runs))

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


def _blank_if_none(column: Column, samples: Samples | None) -> str:
    return value_text(column, samples) if samples else ""


def _seeds(runs: list[Run]) -> str:
    return " ".join(str(seed) for seed in sorted(run.seed for run in runs))


def _evaluations(runs: list[Run], ways: Ways) -> Iterator[str]:
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


def render_table(
    table: PaperTable, runs: list[Run], by: VideoGroups | None = None
) -> tuple[str, str, str]:
    """Markdown, CSV and LaTeX of all runs, a table for each protocol among them."""
    parts = list(sheets(table, runs, by))
    head = [
        f"## {table.title}",
        "",
        f"Paper: {table.setting}.",
        *(f"Print: {note}." for note in table.notes),
    ]
    markdown = write_markdown(head, parts, LEGEND)
    return (
        markdown,
        write_csv(parts),
        write_latex(table.name, f"{table.title}. {table.setting}.", parts),
    )


RESULTS = [
    Column("R@1", "retrieval/R@1", PERCENT, 1),
    Column("R@5", "retrieval/R@5", PERCENT, 1),
    Column("R@10", "retrieval/R@10", PERCENT, 1),
    Column("silhouette all", "silhouette/all", 1, 3),
    Column("spread", "features/spread", 1, 3),
]


def results_sheet(runs: list[Run]) -> Sheet:
    """What was measured, a row per arm and point.

    Runs that differ in more than their seed never share a row.
    """
    arms: dict[tuple[str, str], dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    runs, copied = one_run_per_cell(runs, lambda run: (run.cell["label"], str(run.cell["axes"])))
    for run in runs:
        point = " ".join(f"{axis}={written(value)}" for axis, value in run.cell["axes"].items())
        arms[run.cell["label"], point][protocol(run)].append(run)

    ways = Ways(runs)
    later = dict.fromkeys(
        metric for run in runs for m in run.measurements if m.name for metric in m.metrics
    )
    others = other_sources(
        [column_of(metric) for metric in later],
        set(),
        [Measured("", [_evaluated(run) for run in runs])],
        ways,
    )
    copy_notes = [f"counted once: {line}" for line in copied]
    sheet = Sheet(["Arm", "Point"], notes=[*_evaluations(runs, ways), *notes_of(runs), *copy_notes])

    for (label, point), groups in arms.items():
        for name, group in groups.items():
            row = Measured(label, group)
            sheet.start([label, with_differences(point, differences(next(iter(groups)), name))])
            for source in (*(Source(column) for column in RESULTS), *others):
                samples = source.samples(row, ways)
                name = source.column.name
                sheet.put(name, name, _blank_if_none(source.column, samples))
                sheet.put(
                    name,
                    f"{name} 95%",
                    interval_text(source.column, interval(samples)) if samples else "",
                )
            sheet.put("seeds", "seeds", _seeds(group))

    return sheet


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


def _evaluated(run: Run) -> Run:
    """The run with its later evaluations only."""
    return Run(
        run.folder, run.config, run.cell, run.result, [m for m in run.measurements if m.name]
    )


def write_results(folders: Iterable[Path], out: Path) -> str:
    """For a sweep that is no paper's table: what was measured, as results.md and results.csv."""
    finished = read_all(folders)
    parts = [("" if finished.runs else "No finished runs.", results_sheet(finished.runs))]
    markdown = _with_lines(write_markdown([], parts, LEGEND).strip(), finished.left_out)
    _write(out, "results", markdown, write_csv(parts))
    return markdown


def write_tables(
    table: PaperTable, folders: Iterable[Path], out: Path, by: VideoGroups | None = None
) -> str:
    """Write NAME.md, NAME.csv and NAME.tex under ``out``; the Markdown is returned."""
    finished = read_all(folders)
    markdown, sheet, latex = render_table(table, finished.runs, by)
    markdown = _with_lines(markdown, finished.left_out)
    _write(out, table.name, markdown, sheet, latex)
    return markdown


def _with_lines(markdown: str, left_out: list[str]) -> str:
    """A table, and below it which runs it leaves out."""
    return (
        "\n\n".join([markdown, "\n".join(f"- {line}" for line in left_out)])
        if left_out
        else markdown
    )


def _write(out: Path, name: str, markdown: str, sheet: str, latex: str | None = None) -> None:
    out.mkdir(parents=True, exist_ok=True)
    texts = {"md": markdown + "\n", "csv": sheet} | ({} if latex is None else {"tex": latex})
    for suffix, text in texts.items():
        (out / f"{name}.{suffix}").write_text(text)
        push(out / f"{name}.{suffix}")


def unit(metric: str) -> str:
    """What follows a printed number: " points" (of 100) for a share, nothing for a silhouette."""
    return " points" if column_of(metric).scale == PERCENT else ""
