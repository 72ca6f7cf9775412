"""Which runs stand in which row of a table: a row's match, other readings, runs of no row, and what
learned nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

from vididi.analysis.floor import nothing_learned, on_derivatives, order_name
from vididi.analysis.grouping import (
    INITIAL_WEIGHTS,
    differences,
    protocol,
    with_differences,
)
from vididi.analysis.paper import (
    Column,
    Match,
    OtherReading,
    PaperTable,
    Row,
    Split,
)
from vididi.analysis.reading import Run, one_run_per_cell
from vididi.analysis.samples import Samples, Ways, collect


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
