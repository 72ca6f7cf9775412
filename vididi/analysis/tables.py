"""A paper's table with what was measured beside it."""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vididi.analysis.formats import Sheet, write_csv, write_latex, write_markdown
from vididi.analysis.paper import Column, Match, PaperTable, Row, Split
from vididi.analysis.reading import Run, each_cell_once, notes_of, read_all
from vididi.analysis.samples import THREE_SPLITS, Gain, Samples, Ways, collect, gain, interval
from vididi.config import ON_THE_WAY
from vididi.protocols import protocol_of
from vididi.runs.mirror import push
from vididi.words import counted, written

# What may differ between runs of one protocol besides the table's own axes. Where data and weights
# lay is not part of a protocol; which ones they were is (the checksum, the digest).
_NOT_PROTOCOL = ("data", "prepare", "training.seed", "backbone.weights", *map(".".join, ON_THE_WAY))
_BEGINNING = tuple(
    f"backbone.weights_{name}" for name in ("from", "sha256", "key", "prefix", "inflate")
)
# All that tells encoders from each other that were not pretrained, and what a run measures at its
# end.
_WITHOUT_PRETRAINING = (
    "backbone",
    "clip.size",
    *(f"evaluation.{key}" for key in ("clips", "frames", "stride", "crop", "seed")),
)
NO_RUNS = "no runs"
LEGEND = (
    "95%: the bootstrap's interval over test videos, and over seeds where there are several"
    " (docs/tables.md). beyond noise: whether the gain's interval excludes 0; of one seed it says"
    " nothing about another seed."
)


# --- Which runs may stand together ----------------------------------------------------------------


def protocol(run: Run, axes: Iterable[str] = (), data: str | None = None) -> str:
    """Everything that a run's numbers depend on but its seed and the values of ``axes``, as
    text.
    """
    left_out = (*axes, *_NOT_PROTOCOL)
    own = {
        key: value
        for key, value in run.config.items()
        if value is not None and not _covers(left_out, key)
    }
    own = own if run.pretrained else _without_pretraining(own)
    return json.dumps([own, data or run.result["data_checksum"], run.pretrained], sort_keys=True)


def _without_pretraining(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if _covers(_WITHOUT_PRETRAINING, key)}


def _covers(axes: Iterable[str], key: str) -> bool:
    """Whether a configuration key is one of ``axes`` or lies in a section that is one."""
    return any(key == axis or key.startswith(f"{axis}.") for axis in axes)


def by_protocol(table: PaperTable, runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs that may stand in one table: the same in everything but the table's axes, what they
    began from and the seed.

    The most runs first. Encoders that were not pretrained stand beside all runs that are evaluated
    in the same way.
    """
    runs = list(runs)
    counts = Counter((run.data, run.result["data_checksum"]) for run in runs)
    ranked = sorted(counts, key=lambda key: -counts[key])
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        data = None
        if run.data in table.pretraining_data:
            # The data of pretraining is an axis of this table: data sets stand together, two
            # preparations of one do not.
            of_its_name = [checksum for name, checksum in ranked if name == run.data]
            data = f"preparation {of_its_name.index(run.result['data_checksum'])}"
        groups[protocol(run, (*table.axes, *_BEGINNING), data)].append(run)
    groups = dict(sorted(groups.items(), key=lambda item: -len(item[1])))
    for name in [name for name, (run, *_) in groups.items() if not run.pretrained]:
        if beside := [other for other in groups if _stands_beside(name, other)]:
            baselines = groups.pop(name)
            for other in beside:
                groups[other] += baselines
    return groups


def _stands_beside(baseline: str, other: str) -> bool:
    """Whether a protocol without pretraining is that of the other but for the pretraining."""
    (ours, our_data, _), (theirs, their_data, pretrained) = json.loads(baseline), json.loads(other)
    return pretrained and our_data == their_data and ours == _without_pretraining(theirs)


def describe_protocol(runs: list[Run], axes: Iterable[str] = ()) -> str:
    """One line that says how runs of one protocol were made."""
    c, pretrained = runs[0].config, runs[0].pretrained
    parts = [f"{' and '.join(sorted({run.data for run in runs}))} data"]
    names = (
        ("backbone.name", "objective.name", "optimiser.name") if pretrained else ("backbone.name",)
    )
    parts += [str(c[key]) for key in names if not _covers(axes, key)]
    if not pretrained:
        parts.append("not pretrained")
    elif not _covers(axes, "training.epochs"):
        parts.append(counted(c["training.epochs"], "epoch"))
    if pretrained and not _covers(axes, "training.batch_size"):
        parts.append(f"batch {c['training.batch_size']}")
    parts.append(
        f"{c['clip.frames']} x {c['clip.size']} x {c['clip.size']}, stride {c['clip.stride']}"
    )
    return (
        f"{', '.join(parts)}; retrieval with {counted(c['evaluation.clips'], 'clip')} of"
        f" {counted(c['evaluation.frames'], 'frame')}"
    )


def differences(first: str, other: str) -> str:
    """What sets a protocol apart from the first one (both as by_protocol names them); empty if they
    are the same.
    """
    (ours, our_data, *ours_is), (theirs, their_data, *theirs_is) = (
        json.loads(other),
        json.loads(first),
    )
    if ours_is != theirs_is:  # what only pretraining reads has no counterpart
        ours, theirs = _without_pretraining(ours), _without_pretraining(theirs)
    keys = [key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)]
    parts = [_instead(key, ours.get(key), theirs.get(key)) for key in sorted(keys)]
    parts += ["other videos"] if our_data != their_data else []
    return ", ".join(parts)


def _instead(key: str, ours: Any, theirs: Any) -> str:
    """How a value differs from another; None is one that is not set."""
    if ours is None:
        return f"no {key} instead of {written(theirs)}"
    return f"{key} {written(ours)}" + ("" if theirs is None else f" instead of {written(theirs)}")


def _with(text: str, apart: str) -> str:
    """A text, and then what sets it apart, if anything does."""
    return "; ".join(filter(None, (text, apart and f"with {apart}")))


def not_the_paper_s(table: PaperTable, run: Run) -> list[str]:
    """Where a run's configuration is not what the paper says of all rows."""
    named = {
        key: value for key, value in table.configuration.items() if not _covers(table.axes, key)
    }
    named = named if run.pretrained else _without_pretraining(named)
    return [
        _instead(key, run.config.get(key), value)
        for key, value in named.items()
        if run.config.get(key) != value
    ]


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
    """Whether a run's configuration has these values. Data that no row of ``table`` names counts as
    its ``home``.
    """
    return all(_value(run, key, table) == value for key, value in match.items())


def is_row(run: Run, match: Match, table: PaperTable) -> bool:
    """Whether a run is the row of this match. Unless the match speaks of it, that is a pretrained
    encoder that began at random.
    """
    if "training.epochs" not in match and not run.pretrained:
        return False
    if (
        not match.keys() & {"backbone.weights", *_BEGINNING}
        and run.config.get("backbone.weights") is not None
    ):
        return False
    return matches(run, match, table)


def _value(run: Run, key: str, table: PaperTable | None) -> Any:
    value = run.config.get(key)
    return (
        table.home
        if key == "data.name" and table is not None and value not in table.pretraining_data
        else value
    )


def measured_rows(table: PaperTable, runs: list[Run]) -> tuple[list[Measured], list[str]]:
    """The paper's rows in its order, with or without runs, then runs that are no row of the paper,
    then untrained.

    Runs of one row that differ in more than their seed are rows of their own; the notes say in
    what.
    """
    rows, notes, left = [], [], list(runs)
    for row in table.rows:
        own = [run for run in runs if row.match is not None and is_row(run, row.match, table)]
        left = [run for run in left if run not in own]
        label = f"{row.label} (quoted)" if row.quoted else row.label
        found, said = _kinds(table, label, own)
        notes += said
        rows.append(
            Measured(label, found[0][1] if found else [], row.about, row, row.split, row.metric)
        )
        rows += [
            Measured(name, kind, row.about, None, row.split, row.metric) for name, kind in found[1:]
        ]
    others: dict[str, list[Run]] = defaultdict(list)
    for run in left:
        others[run.cell["label"]].append(run)
    for label, own in others.items():
        found, said = _kinds(table, f"{label} (not in the paper)", own)
        notes += said
        rows += [Measured(name, kind) for name, kind in found]
    return rows + untrained_rows(runs), notes


def _kinds(
    table: PaperTable, label: str, runs: list[Run]
) -> tuple[list[tuple[str, list[Run]]], list[str]]:
    """Runs of one label, parted where they differ in more than their seed, the nearest to the paper
    and the most runs first.

    Where each seed began from a file of its own, the file goes with the seed.
    """
    runs, twice = each_cell_once(runs)
    groups: dict[str, list[Run]] = defaultdict(list)
    own_file = len({run.seed for run in runs}) == len(runs)
    for run in runs:
        groups[protocol(run, ["backbone.weights_sha256"] if own_file else [])].append(run)
    far = {
        name: sum(run.config.get(k) != v for k, v in table.configuration.items())
        for name, (run, *_) in groups.items()
    }
    order = sorted(groups, key=lambda name: (far[name], -len(groups[name])))
    names = [label, *(f"{label} ({number})" for number in range(2, len(order) + 1))]
    notes = [
        _with(name, differences(order[0], other))
        for name, other in zip(names[1:], order[1:], strict=False)
    ]
    notes += [f"counted once: {line}" for line in twice]
    return [(name, groups[group]) for name, group in zip(names, order, strict=False)], notes


def untrained_rows(runs: list[Run]) -> list[Measured]:
    """The encoder before its first step, once for each backbone and seed, where it was measured."""
    found: dict[str, dict[int, Run]] = defaultdict(dict)
    for run in runs:
        if (before := run.untrained()) is not None:
            found[str(run.config["backbone.name"])].setdefault(run.seed, before)
    names = {name: f"untrained {name}" if len(found) > 1 else "untrained encoder" for name in found}
    return [
        Measured(names[name], [run for _, run in sorted(seeds.items())])
        for name, seeds in found.items()
    ]


# --- Columns --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """A column, and in which of the group's ways it was measured; ``paper`` is its place among the
    paper's columns.
    """

    column: Column
    way: int = 0
    paper: int | None = None

    @property
    def ours(self) -> str:
        """The header over what was measured; what the paper has no column for needs no "ours"."""
        return f"{self.column.name} ours" if self.paper is not None else self.column.name

    def samples(self, row: Measured, ways: Ways) -> Samples | None:
        return row.samples(self.column, ways, self.way, None if self.paper is None else row.split)


def other_sources(
    columns: Iterable[Column], splits: set[Split], rows: Iterable[Measured], ways: Ways
) -> list[Source]:
    """The metrics of ``columns`` as measured on other data, other splits or in other ways than the
    columns'.
    """
    columns = [column for column in columns if column.metric is not None]
    sources: dict[tuple[Any, ...], Source] = {}
    for row, m in [(one, m) for one in rows for run in one.runs for m in run.measurements]:
        for column in columns:
            metric = row.reads(column)
            if metric is None or m.value(metric) is None:
                continue
            way = ways.number(m, metric)
            same = [c for c in columns if c.metric == column.metric and c.data == m.data]
            own_splits = {
                s
                for c in same
                for s in (c.split, *(splits - {None} if c.split is not None else ()))
            }
            if same and not way and (own_splits & {None, m.split} or "mean" in own_splits):
                continue
            key = (column.metric, m.data, m.split, way)
            sources.setdefault(key, Source(_elsewhere(column, m.data, m.split, way), way))
    return list(sources.values())


def _elsewhere(column: Column, data: str, split: int | None, way: int) -> Column:
    metric = str(column.metric).removeprefix("retrieval/").replace("/", " ")
    name = " ".join(
        [metric, data, *([f"split {split}"] if split else []), *([f"({way + 1})"] if way else [])]
    )
    return Column(name, column.metric, column.scale, column.decimals, data, split)


def value_text(column: Column, samples: Samples | None, split: Split = None) -> str:
    """The mean, the deviation over seeds where there are two or more, and how many splits where
    some are missing.
    """
    if samples is None:
        return NO_RUNS
    values = samples.values
    mean = column.scaled(statistics.mean(values))
    text = f"{mean} ± {column.scaled(statistics.stdev(values))}" if len(values) > 1 else mean
    missing = split == "mean" and len(samples.splits) < len(THREE_SPLITS)
    return f"{text} ({len(samples.splits)} of {len(THREE_SPLITS)} splits)" if missing else text


def interval_text(column: Column, ends: tuple[float, float] | None, sign: str = "") -> str:
    return f"{column.scaled(ends[0], sign)} to {column.scaled(ends[1], sign)}" if ends else ""


def table_sheet(table: PaperTable, runs: list[Run]) -> Sheet:
    """Header and cells: for each column the paper's number and ours, the gains over the baselines,
    then what the paper has not.
    """
    rows, notes = measured_rows(table, runs)
    ways = Ways(runs)
    own = [Source(column, paper=i) for i, column in enumerate(table.columns)]
    others = other_sources(table.columns, {row.split for row in table.rows}, rows, ways)
    gained = _gained(own, others, rows, ways)
    sheet = Sheet(
        [table.head, *table.about], notes=[*notes, *_evaluations(runs, ways), *notes_of(runs)]
    )
    placed = _placed(own, others, rows, ways)
    for row in rows:
        sheet.start([row.label, *(row.about or [""] * len(table.about))])
        for source, shown in placed:
            if source.paper is not None:
                name = source.column.name
                sheet.put(
                    name,
                    f"{name} paper",
                    source.column.number(row.row.values[source.paper]) if row.row else "",
                )
            for measured in shown:
                _measured_cells(sheet, measured, row, ways)
        _gain_cells(sheet, table, gained, row, rows, ways)
        for column in table.also:
            sheet.put("also", column.name, _blank_if_none(column, row.samples(column, ways)))
        sheet.put("seeds", "seeds", _seeds(row.runs))
    return sheet


def _placed(
    own: list[Source], others: list[Source], rows: list[Measured], ways: Ways
) -> list[tuple[Source, list[Source]]]:
    """The columns, and which measurements stand at each: its own; or, where all was measured on
    other data, those of its metric.
    """
    if not others or any(source.samples(row, ways) for source in own for row in rows):
        return [(source, [source]) for source in (*own, *others)]
    placed, left = [], list(others)
    for source in own:
        shown = [other for other in left if other.column.metric == source.column.metric]
        left = [other for other in left if other not in shown]
        placed.append((source, shown))
    return placed + [(source, [source]) for source in left]


def _measured_cells(sheet: Sheet, source: Source, row: Measured, ways: Ways) -> None:
    """A column's cells of one row: ours, and its interval."""
    column = source.column
    if column.metric is None:
        return
    samples = source.samples(row, ways)
    sheet.put(column.name, source.ours, value_text(column, samples, row.split or column.split))
    sheet.put(
        column.name,
        f"{column.name} 95%",
        interval_text(column, interval(samples)) if samples else "",
    )


def _gained(own: list[Source], others: list[Source], rows: list[Measured], ways: Ways) -> Source:
    """The column whose gains are told: the first of the paper's that was measured, else the same
    metric elsewhere.
    """
    measured = [
        source for source in (*own, *others) if any(source.samples(row, ways) for row in rows)
    ]
    return measured[0] if measured else own[0]


def _gain_cells(
    sheet: Sheet, table: PaperTable, source: Source, row: Measured, rows: list[Measured], ways: Ways
) -> None:
    """What a row has over its baseline, the paper's and ours."""
    if not (table.baseline or any(other.baseline for other in table.rows)):
        return
    column = source.column
    place = (
        next(i for i, c in enumerate(table.columns) if c.metric == column.metric)
        if source.paper is None
        else source.paper
    )
    title = (row.row.baseline if row.row else None) or table.baseline
    base = next(
        (other for other in rows if other.row is not None and other.row.title == title), None
    )
    printed, found = "", None
    if base is not None and base.row is not None:
        if (
            row.row is not None
            and (ours := row.row.values[place]) is not None
            and (theirs := base.row.values[place]) is not None
        ):
            printed = f"{ours - theirs:+.{column.decimals}f}"
        found = gain(source.samples(row, ways), source.samples(base, ways))
    paper = table.columns[place]
    sheet.put("gain", f"{paper.name} gain paper", printed)
    sheet.put(
        "gain",
        f"{column.name} gain{' ours' if source.paper is not None else ''}",
        column.scaled(found.value, "+") if found else "",
    )
    told = found if found and row is not base else Gain(0, None, 0)
    sheet.put("gain", f"{column.name} gain 95%", interval_text(column, told.interval, "+"))
    sheet.put("gain", "beyond noise", told.beyond_noise)


def _blank_if_none(column: Column, samples: Samples | None) -> str:
    return value_text(column, samples) if samples else ""


def _seeds(runs: list[Run]) -> str:
    return " ".join(str(seed) for seed in sorted(run.seed for run in runs))


def _evaluations(runs: list[Run], ways: Ways) -> Iterator[str]:
    """How the evaluations that were made later were made, and what sets the second way apart from
    the first.
    """
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


def sheets(table: PaperTable, runs: list[Run]) -> Iterator[tuple[str, Sheet]]:
    """For each protocol among the runs, a line that describes it and its sheet; without runs, the
    paper's side alone.
    """
    groups = by_protocol(table, runs)
    for number, (name, group) in enumerate(groups.items(), 1):
        described = _with(
            describe_protocol(group, table.axes), differences(next(iter(groups)), name)
        )
        which = f" ({number} of {len(groups)} protocols)" if len(groups) > 1 else ""
        apart = not_the_paper_s(table, group[0])
        not_paper_s = f" Not as in the paper: {', '.join(apart)}." if apart else ""
        yield f"Ours{which}: {described}.{not_paper_s}", table_sheet(table, group)
    if not groups:
        yield "No finished runs.", table_sheet(table, [])


def render(table: PaperTable, runs: list[Run]) -> tuple[str, str, str]:
    """Markdown, CSV and LaTeX of all runs, a table for each protocol among them."""
    parts = list(sheets(table, runs))
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
    Column("R@1", "retrieval/R@1", 100, 1),
    Column("R@5", "retrieval/R@5", 100, 1),
    Column("R@10", "retrieval/R@10", 100, 1),
    Column("silhouette all", "silhouette/all", 1, 3),
    Column("spread", "features/spread", 1, 3),
]


def results_sheet(runs: list[Run]) -> Sheet:
    """What was measured, a row per arm and point. Runs that differ in more than their seed never
    share a row.
    """
    arms: dict[tuple[str, str], dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    runs, twice = each_cell_once(runs, lambda run: (run.cell["label"], str(run.cell["axes"])))
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
    copies = [f"counted once: {line}" for line in twice]
    sheet = Sheet(["Arm", "Point"], notes=[*_evaluations(runs, ways), *notes_of(runs), *copies])
    for (label, point), groups in arms.items():
        for name, group in groups.items():
            row = Measured(label, group)
            sheet.start([label, _with(point, differences(next(iter(groups)), name))])
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
    """A column for a metric that no table names: a share of 1, but for an epoch and for what is on
    a scale of its own.
    """
    if metric.endswith("_epoch"):
        return Column(metric, metric, 1, 0)
    known = protocol_of(metric)
    own_scale = metric.startswith("features/") or (known is not None and not known.percent)
    return Column(metric, metric, 1, 3) if own_scale else Column(metric, metric, 100, 1)


def _evaluated(run: Run) -> Run:
    """The run with its later evaluations only."""
    return Run(
        run.folder, run.config, run.cell, run.result, [m for m in run.measurements if m.name]
    )


def write_results(folders: Iterable[Path], out: Path) -> str:
    """For a sweep that is no paper's table: what was measured, as results.md and results.csv."""
    found = read_all(folders)
    parts = [("" if found.runs else "No finished runs.", results_sheet(found.runs))]
    markdown = _with_lines(write_markdown([], parts, LEGEND).strip(), found.left_out)
    _write(out, "results", markdown, write_csv(parts))
    return markdown


def write_tables(table: PaperTable, folders: Iterable[Path], out: Path) -> str:
    """Write NAME.md, NAME.csv and NAME.tex under ``out``; the Markdown is returned."""
    found = read_all(folders)
    markdown, sheet, latex = render(table, found.runs)
    markdown = _with_lines(markdown, found.left_out)
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
