"""One HTML page about the runs of a sweep: ``vididi report runs/ablation --out report.html``.

Its numbers come from the run folders alone. The page is one file that asks no network for anything:
pictures are data in it, and its style and script are ours (report_page/).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vididi.analysis.formats import Sheet
from vididi.analysis.own_table import ITS_LEGEND, results_sheet, rows_with_runs
from vididi.analysis.paper import PaperTable, load_paper_table, table_names
from vididi.analysis.plots import run_main
from vididi.analysis.reading import Finished, Run, find_runs, read_all
from vididi.analysis.report_classes import ByClass, by_class
from vididi.analysis.report_data import PreparedData, prepared_data
from vididi.analysis.report_facts import (
    arm_title,
    arms_without_runs,
    commands,
    environments,
    metrics_at_end,
    parallel_coordinates,
    unfinished_under,
    value_of,
)
from vididi.analysis.report_pictures import (
    Drawn,
    all_pictures,
    attempt,
    confusion_pictures,
    curve_pictures,
)
from vididi.analysis.tables import LEGEND, column_of, head_of, sheets
from vididi.data.storage import as_folder
from vididi.errors import ConfigError
from vididi.runs.mirror import local_path, place_of, pull
from vididi.shipped import SWEEPS
from vididi.sweep import Sweep, load_sweep
from vididi.terminal import Parser, one_line, say

PAGE = Path(__file__).parent / "report_page"
MOST_ARMS = 12  # in tables and pictures by arm; all are in the first table
MOST_PICTURED = 6
INTERVAL = " 95%"
DESCRIPTION = (
    "One self-contained HTML page about run folders: tables, curves, classes, pictures, data,"
    " machines, what did not end well, and the commands that make it again."
)
EXAMPLE = (
    "example: vididi report runs/ablation --out ablation.html\n"
    "         vididi report runs/ablation --no-pictures --out quick.html"
)


def main(argv: list[str] | None = None) -> int:
    """Exit status as of ``plots.run_main``."""
    return run_main(_write, _parser(), argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        description=DESCRIPTION,
        epilog=EXAMPLE,
    )
    parser.add_argument(
        "runs",
        nargs="+",
        type=local_path,
        metavar="RUNS",
        help="run folders, or folders (s3://...) that hold some, such as a sweep's",
    )
    parser.add_argument(
        "--out",
        type=_page_path,
        default=Path("report.html"),
        metavar="FILE.html",
        help="the page (default: report.html)",
    )
    _add_what_is_beside(parser)
    parser.add_argument(
        "--video", metavar="ID", help="of saliency and of what the network sees (default: a first)"
    )
    parser.add_argument(
        "--evaluation",
        metavar="NAME",
        help="whose features t-SNE is of, where runs have several: a folder in RUN/evaluations, or"
        " run for what runs kept at their end",
    )
    parser.add_argument(
        "--no-pictures",
        action="store_true",
        help="leave out what has to be computed: t-SNE, saliency, what the network sees",
    )
    return parser


def _add_what_is_beside(parser: argparse.ArgumentParser) -> None:
    """Arguments of what is not in the run folders: sweep file, paper's table, videos."""
    parser.add_argument(
        "--sweep",
        type=Path,
        metavar="SWEEP.yaml",
        help="the runs' sweep file, which names the paper's table and the arm that gains are over"
        " (default: the shipped one of the runs' sweep name, if there is one)",
    )
    parser.add_argument(
        "--table", metavar="NAME", help="the paper's table (default: the one that the sweep names)"
    )
    parser.add_argument(
        "--against", metavar="ARM", help="the arm that gains are over (default: the sweep's first)"
    )
    parser.add_argument(
        "--shards",
        action="append",
        default=[],
        metavar="URI",
        help="the runs' prepared videos, for pictures and rejects (default: those in the cache)",
    )


def _page_path(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--out: {text} must end in .html")
    return path


def _write(arguments: argparse.Namespace) -> None:
    for root in arguments.runs:
        pull(root)
        if not root.is_dir():
            raise ConfigError(f"{place_of(root)}: there is no such folder")
    page = render_report(arguments)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(page, encoding="utf-8", errors="backslashreplace")
    say(f"wrote {arguments.out}")


# --- Tables ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HtmlTable:
    """A table as the page's template takes it.

    Args:
        caption: what it is, for the box that it scrolls in. head, rows: text and, below it in
            small, a second one, such as an interval. left: how many columns are texts.
    """

    caption: str
    head: list[tuple[str, str]]
    rows: list[list[tuple[str, str]]]
    left: int = 1
    notes: tuple[str, ...] = ()


def sheet_as_table(caption: str, sheet: Sheet) -> HtmlTable:
    """A sheet whose intervals stand below the numbers that they are of."""
    texts = [name for name in sheet.head if any(row.get(name) for row in sheet.rows)]
    columns: list[tuple[str, str]] = [(name, "") for name in texts]
    for group in sheet.filled_columns():
        for name in group:
            if name.endswith(INTERVAL) and len(columns) > len(texts) and not columns[-1][1]:
                columns[-1] = (columns[-1][0], name)
            else:
                columns.append((name, ""))
    head = [(name, INTERVAL.strip() if interval else "") for name, interval in columns]
    rows = [
        [
            (row.get(name, ""), row.get(interval, "") if interval else "")
            for name, interval in columns
        ]
        for row in sheet.rows
    ]
    said = tuple(f"{line}." for line in (*sheet.caveats, *sheet.notes))
    return HtmlTable(caption, head, rows, len(texts), said)


def plain_table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], left: int | None = None
) -> HtmlTable:
    """A table of texts; all columns are flush left unless ``left`` says how many."""
    return HtmlTable(
        caption,
        [(name, "") for name in head],
        [[(cell, "") for cell in row] for row in rows],
        len(head) if left is None else left,
    )


def paper_tables(table: PaperTable, runs: list[Run]) -> tuple[list[tuple[str, HtmlTable]], int]:
    """For each protocol its line and the rows that have runs, and how many rows are hidden."""
    parts, hidden = [], 0
    for number, (line, sheet) in enumerate(sheets(table, runs), 1):
        shown = rows_with_runs(sheet)
        hidden = max(hidden, len(sheet.rows) - len(shown.rows))
        parts.append((line, sheet_as_table(f"{table.title}, table {number}", shown)))
    return parts, hidden


def class_table(measured: ByClass) -> HtmlTable:
    """Recall of each class in percent, a column for each arm."""
    rows = [
        [name, str(measured.videos[name]), *("" if v is None else f"{100 * v:.1f}" for v in values)]
        for name, values in sorted(measured.recall.items())
    ]
    head = ["Class", "test videos", *measured.arms]
    return plain_table(f"Recall by class: {measured.title}", head, rows, 1)


def run_table(runs: Sequence[Run]) -> HtmlTable:
    """Every finished run with what it measured."""
    metrics = metrics_at_end(runs)
    columns = [column_of(metric) for metric in metrics]
    rows = []
    for run in runs:
        values = [value_of(run, metric) for metric in metrics]
        texts = ["" if v is None else c.scaled(v) for c, v in zip(columns, values, strict=True)]
        seconds = run.result.get("seconds")
        trained = "" if seconds is None else f"{seconds:.0f}"
        rows.append([run.folder.name, arm_title(run), str(run.seed), *texts, trained])
    return plain_table("Finished runs", ["Run", "Arm", "seed", *metrics, "seconds"], rows, 2)


# --- The page -------------------------------------------------------------------------------------


def by_arm_title(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each arm, by seed."""
    arms: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        arms[arm_title(run)].append(run)
    return {arm: sorted(group, key=lambda run: run.seed) for arm, group in arms.items()}


def best_arms(arms: dict[str, list[Run]], most: int) -> dict[str, list[Run]]:
    """At most this many arms, those with the highest mean of the first metric, in their order."""
    if len(arms) <= most:
        return arms
    metric = next(iter(metrics_at_end(run for group in arms.values() for run in group)), "")

    def mean(arm: str) -> float:
        values = [v for run in arms[arm] if (v := value_of(run, metric)) is not None]
        return sum(values) / len(values) if values else float("-inf")

    chosen = sorted(arms, key=lambda arm: -mean(arm))[:most]
    return {arm: group for arm, group in arms.items() if arm in chosen}


def _sweep_of(arguments: argparse.Namespace, runs: Sequence[Run]) -> tuple[Sweep | None, str]:
    """The runs' sweep file as it is read, and its name as a command has it."""
    if arguments.sweep is not None:
        return load_sweep(arguments.sweep), str(arguments.sweep)
    names = {str(run.cell.get("sweep")) for run in runs}
    for path in sorted(SWEEPS.rglob("*.yaml")) if len(names) == 1 else ():
        if path.stem in names and (sweep := load_sweep(path)).name in names:
            return sweep, str(path.relative_to(SWEEPS).with_suffix(""))
    return None, ""


def _paper_of(arguments: argparse.Namespace, sweep: Sweep | None) -> PaperTable | None:
    """The paper's table: the one asked for, or what the sweep names, or what lies beside the
    runs.
    """
    name = arguments.table or (sweep.table if sweep else None)
    if name is None:
        beside = [
            n for n in table_names() for root in arguments.runs if (root / f"{n}.csv").is_file()
        ]
        name = beside[0] if beside else None
    return load_paper_table(name) if name else None


def _classes(arms: dict[str, list[Run]], data: Sequence[PreparedData]) -> list[dict[str, Any]]:
    names = next((list(d.shards.manifest.classes) for d in data if d.shards is not None), [])
    sections = []
    for measured in by_class(best_arms(arms, MOST_ARMS), names):
        drawn = attempt("Confusion matrices", partial(confusion_pictures, measured.confusions))
        why = [f"No confusion matrix: {measured.why_not}."] if measured.why_not else []
        drawn = Drawn(drawn.pictures, [*drawn.why_not, *why])
        sections.append({"title": measured.title, "table": class_table(measured), "drawn": drawn})
    return sections


def _pictures(
    arguments: argparse.Namespace, arms: dict[str, list[Run]], data: Sequence[PreparedData]
) -> Drawn:
    if arguments.no_pictures:
        return Drawn([], ["Left out, as --no-pictures asks."])
    if not arms:
        return Drawn([], ["None, as no run is finished."])
    chosen = best_arms(arms, MOST_PICTURED)
    sets = {d.checksum: (d.shards, d.missing) for d in data}
    runs = [group[0] for group in chosen.values()]
    drawn = all_pictures(runs, sets, arguments.video, arguments.evaluation)
    if len(chosen) < len(arms):
        line = f"Of {len(arms)} arms the {len(chosen)} that measured most are drawn."
        drawn = Drawn(drawn.pictures, [line, *drawn.why_not])
    return drawn


def _context(arguments: argparse.Namespace, finished: Finished) -> dict[str, Any]:
    """Everything that the template shows."""
    runs = finished.runs
    sweep, sweep_file = _sweep_of(arguments, runs)
    paper = _paper_of(arguments, sweep)
    first_arm = next(iter(sweep.arms), None) if sweep and not sweep.searching else None
    against = arguments.against or first_arm
    data = prepared_data(runs, [as_folder(text) for text in arguments.shards])
    arms = by_arm_title(runs)
    unfinished = [cell for root in arguments.runs for cell in unfinished_under(root)]
    parts, hidden = paper_tables(paper, runs) if paper and runs else ([], 0)
    names = dict.fromkeys(str(run.cell.get("sweep") or run.folder.parent.name) for run in runs)
    return {
        "title": one_line(", ".join(names)) or "No finished runs",
        "runs": runs,
        "arms": arms,
        "unfinished": unfinished,
        "own": sheet_as_table("What was measured", results_sheet(runs, against)) if runs else None,
        "own_legend": ITS_LEGEND,
        "paper": paper,
        "paper_head": head_of(paper)[2:] if paper else [],
        "paper_parts": parts,
        "paper_hidden": hidden,
        "paper_legend": LEGEND,
        "curves": attempt("Training curves", lambda: curve_pictures(arguments.runs)),
        "classes": _classes(arms, data),
        "fewer_arms": len(arms) > MOST_ARMS,
        "coordinates": parallel_coordinates(runs),
        "run_table": run_table(runs),
        "drawn": _pictures(arguments, arms, data),
        "data": data,
        "rejects": _rejects_table(data),
        "cells": plain_table(
            "Cells that are not finished",
            ["Cell", "state", "epochs", "reason"],
            [[c.name, c.became, c.epochs, c.reason] for c in unfinished],
        ),
        "without_runs": arms_without_runs(sweep, runs),
        "left_out": finished.left_out,
        "environments": plain_table(
            "Environments",
            ["Commit", "versions", "machine", "device, workers, nodes", "runs"],
            environments(runs),
            4,
        ),
        "commands": _commands(arguments, runs, sweep, sweep_file, data),
    }


def _rejects_table(data: Sequence[PreparedData]) -> HtmlTable:
    rows = [[d.name, *row] for d in data for row in d.rejects]
    return plain_table("Videos that were left out", ["Data", "video", "file", "reason"], rows)


def _commands(
    arguments: argparse.Namespace,
    runs: Sequence[Run],
    sweep: Sweep | None,
    sweep_file: str,
    data: Sequence[PreparedData],
) -> list[tuple[str, str]]:
    made = commands(runs, sweep, sweep_file, data) if runs else []
    names = " ".join(root.name for root in arguments.runs)
    return [*made, ("This page", f"vididi report {names} --out {arguments.out.name}")]


def render_report(arguments: argparse.Namespace) -> str:
    """The page of the command's arguments, as HTML.

    Raises:
        ConfigError: an argument, the sweep file or the table's name is not valid. DataError: a file
            cannot be read.
    """
    finished = read_all(run for root in arguments.runs for run in find_runs(root))
    environment = Environment(
        loader=FileSystemLoader(PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    ours = {
        name: Markup((PAGE / name).read_text())  # noqa: S704  (files of this package)
        for name in ("style.css", "script.js")
    }
    return environment.get_template("page.html").render(
        style=ours["style.css"], script=ours["script.js"], **_context(arguments, finished)
    )
