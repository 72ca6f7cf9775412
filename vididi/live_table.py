"""What a live table shows of the jobs of a sweep: which lines, which columns, and how long it takes
yet. Without a terminal, so it can be drawn anywhere.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.cells import cell_len
from rich.table import Table

from vididi.terminal import one_line
from vididi.words import counted

GAP = 2  # blanks between columns
SHORTEST_NAME = 12  # characters that a cell's name keeps, whatever else there is

# What is shown of a cell, in order: its column, the metric, and how it is written; and which are
# left out first where there is no room.
CELL_METRICS = {
    "loss": ("train/loss", ".3f"),
    "s/step": ("time/seconds_per_step", ".2f"),
    "data wait": ("time/data_share", ".1%"),
    "R@1": ("retrieval/R@1", ".1%"),
    "R@5": ("retrieval/R@5", ".1%"),
    "R@10": ("retrieval/R@10", ".1%"),
    "silhouette": ("silhouette/all", ".3f"),
}
LEFT_OUT_FIRST = ("data wait", "silhouette", "R@10", "R@5", "s/step", "R@1", "loss", "time")


@dataclass
class Line:
    """The state of one job on the screen: a cell, or an evaluation of one.

    Args:
        epochs: that it trains; 1 where it trains nothing.
        evaluation: its title, if it is one; ``encoder``: the cell that it measures.
        name: what people are shown instead of its title, if it has one.
        results: what an evaluation measured.
        ended: when, on the monotonic clock; None while it has not, and of an earlier start.
        first_epoch: that it had when it began, so that a rate is of this start alone.
    """

    state: str
    epochs: int
    epoch: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    began: float | None = None
    seconds: float | None = None
    evaluation: str = ""
    encoder: str = ""
    results: dict[str, float] = field(default_factory=dict)
    ended: float | None = None
    reported: float | None = None
    first_epoch: int = 0
    name: str = ""

    @property
    def waits(self) -> bool:
        """Whether it has not begun, in this start or before."""
        return self.state == "waiting"

    @property
    def runs(self) -> bool:
        """Whether it is at work."""
        return self.state == "running"

    def seconds_per_epoch(self) -> float | None:
        """As measured; None where no epoch was."""
        if self.seconds is not None and self.state == "finished":
            trained = self.epochs - self.first_epoch
            return self.seconds / trained if trained > 0 else None
        if self.began is None or self.reported is None or self.epoch <= self.first_epoch:
            return None
        return (self.reported - self.began) / (self.epoch - self.first_epoch)

    def texts(self) -> dict[str, str]:
        """The texts of its columns."""
        seconds = self.seconds
        if seconds is None and self.began is not None:
            seconds = time.monotonic() - self.began
        if self.evaluation:
            names = {"encoder": one_line(self.encoder), "evaluation": one_line(self.evaluation)}
            shown = {"loss": number_text(self.metrics.get("loss"), ".3f")}
            shown |= {name: f"{value:.3f}" for name, value in self.results.items()}
        else:
            names, shown = {}, {}
            for column, (metric, form) in CELL_METRICS.items():
                shown[column] = number_text(self.metrics.get(metric), form)
        state = {"state": self.state, "epoch": f"{self.epoch}/{self.epochs}"}
        return {**names, **state, **shown, "time": "" if seconds is None else f"{seconds:.0f} s"}


def number_text(value: Any, form: str) -> str:
    """A number in a format; nothing for None."""
    return "" if value is None else format(value, form)


# --- Which lines ----------------------------------------------------------------------------------


def in_order_of_interest(lines: dict[str, Line]) -> list[str]:
    """Titles: those at work, then those that ended, the latest first, then those that wait."""

    def interest(title: str) -> tuple[int, float]:
        line = lines[title]
        if line.runs:
            return 0, line.began or 0.0
        return (2, 0.0) if line.waits else (1, -(line.ended or 0.0))

    return sorted(lines, key=interest)


def rest_text(lines: Iterable[Line]) -> str:
    """What the table leaves out, such as ``and 21 more: 18 waiting, 3 finished``."""
    states: dict[str, int] = {}
    for line in lines:
        states[line.state] = states.get(line.state, 0) + 1
    counts = ", ".join(f"{number} {state}" for state, number in states.items())
    return f"and {sum(states.values())} more: {counts}"


# --- How long yet ---------------------------------------------------------------------------------


def share_done(lines: Collection[Line]) -> float:
    """Of all epochs, how many were trained; a job that ended otherwise counts as done."""
    total = sum(line.epochs for line in lines)
    done = sum(line.epoch if line.runs or line.waits else line.epochs for line in lines)
    return done / total if total else 1.0


def seconds_left(lines: Collection[Line]) -> float | None:
    """About how long all takes yet, from the epochs that were measured of jobs of the same kind.

    None where nothing was measured of a kind that has epochs left.
    """
    rates: dict[str, list[float]] = {}
    for line in lines:
        if (rate := line.seconds_per_epoch()) is not None:
            rates.setdefault(line.evaluation, []).append(rate)
    left = [line for line in lines if line.runs or line.waits]
    if not left or any(line.evaluation not in rates for line in left):
        return None
    each = [
        (line.epochs - line.epoch)
        * (line.seconds_per_epoch() or statistics.mean(rates[line.evaluation]))
        for line in left
    ]
    at_once = max(sum(line.runs for line in lines), 1)
    return max(sum(each) / at_once, *each)


def time_text(seconds: float) -> str:
    """``about 12 minutes left``."""
    if seconds < 60:
        return "less than a minute left"
    if seconds < 120 * 60:
        return f"about {counted(round(seconds / 60), 'minute')} left"
    return f"about {seconds / 3600:.0f} hours left"


def progress_text(lines: Collection[Line]) -> str:
    """``3 of 45 done, about 12 minutes left``."""
    done = sum(not (line.runs or line.waits) for line in lines)
    seconds = seconds_left(lines)
    return f"{done} of {len(lines)} done" + (f", {time_text(seconds)}" if seconds else "")


# --- The table ------------------------------------------------------------------------------------


def make_table(
    lines: dict[str, Line], titles: Sequence[str], width: int, whole_names: bool = False
) -> Table:
    """The lines of these titles, no wider than ``width``.

    Columns without a text are left out, and then those that matter least.

    Args:
        whole_names: whether long names are broken rather than cut.
    """
    rows = []
    for title in titles:
        line = lines[title]
        rows.append(
            ({} if line.evaluation else {"cell": one_line(line.name or title)}) | line.texts()
        )
    columns = list(dict.fromkeys(column for row in rows for column in row))
    columns = [column for column in columns if column != "time"] + ["time"] * bool(columns)
    columns = [column for column in columns if any(row.get(column) for row in rows)]
    widths = {
        column: max(map(cell_len, [column, *(row.get(column, "") for row in rows)]))
        for column in columns
    }
    names = [column for column in columns if column in ("cell", "encoder", "evaluation")]
    columns = _that_fit(columns, names, widths, width)

    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    room = width - sum(widths[column] + GAP for column in columns if column not in names)
    for column in columns:
        if column in names:
            others = sum(min(widths[name] + GAP, room // 2) for name in names if name != column)
            share = max(room - others, 1)
            overflow: Any = "fold" if whole_names else "ellipsis"
            table.add_column(column, max_width=share, overflow=overflow, no_wrap=not whole_names)
        else:
            right = column not in ("state", "epoch")
            table.add_column(column, no_wrap=True, justify="right" if right else "left")
    for row in rows:
        table.add_row(*(row.get(column, "") for column in columns))
    return table


def _that_fit(
    columns: list[str], names: list[str], widths: dict[str, int], width: int
) -> list[str]:
    """The columns that there is room for: those of an evaluation's metrics go from the last."""
    others = [column for column in columns if column not in (*names, *LEFT_OUT_FIRST)]
    expendable = [column for column in others if column not in ("state", "epoch")][::-1]
    for column in [*expendable, *LEFT_OUT_FIRST, "epoch"]:
        taken = sum(
            (min(widths[c], 2 * SHORTEST_NAME) if c in names else widths[c]) + GAP for c in columns
        )
        if taken - GAP <= width:
            break
        columns = [other for other in columns if other != column]
    return columns
