"""Run a sweep: ``python run_sweep.py sweeps/ablation.yaml``. Parse, resolve, print the plan, hand over, print the table."""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from analysis.paper import load_paper_table
from analysis.runs import find_runs
from analysis.tables import write_results, write_tables
from vididi.cli import overrides, run_at
from vididi.errors import ConfigError, VididiError
from vididi.screen import ScreenWatcher, SweepScreen, read_result, report_unfinished
from vididi.sweep import Cell, Sweep, expand, load_sweep


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run_sweep.py", description="Run the cells of a sweep file that are not finished yet, and print its table."
    )
    parser.add_argument("spec", type=Path, metavar="SWEEP.yaml")
    parser.add_argument("--dry-run", action="store_true", help="print the cells and stop")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a configuration value in every cell")
    parser.add_argument("--only", action="append", default=[], metavar="ARM", help="only this arm; may be given again")
    parser.add_argument("--seeds", default="", metavar="0,1,2", help="these seeds instead of the file's")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="where run folders go (default: runs); storage that all nodes share"
    )
    parser.add_argument("--shards", metavar="URI", help="prepared data, a folder or s3://... (default: prepared once into the cache)")
    parser.add_argument("--address", metavar="ADDRESS", help="of a running Ray cluster, or 'auto'; default: this machine alone")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 all cells finished, 1 some failed or are unfinished, 2 the sweep cannot be run as written."""
    arguments = parse_arguments(argv)
    console = Console(soft_wrap=True)
    try:
        return run(arguments, console)
    except VididiError as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", markup=False, highlight=False)
        return 2


def run(arguments: argparse.Namespace, console: Console) -> int:
    sweep = load_sweep(arguments.spec)
    paper = load_paper_table(sweep.table) if sweep.table else None
    cells = expand(sweep, overrides(arguments.set), arguments.only, parse_seeds(arguments.seeds))
    from vididi.experiment import (
        ensure_prepared,
        make_plans,
        resolve,
        resolve_component,
    )  # imports torch, so not before the file is known to be good

    cells = [replace(cell, config=resolve(cell.config, cell.resources.workers)) for cell in cells]
    if arguments.dry_run:
        print_cells(console, cells, sweep)
        return 0
    from vididi.data.storage import as_folder
    from vididi.screen import PrepareBar

    folder = as_folder(arguments.shards) if arguments.shards else None
    bar = PrepareBar(console, "preparing videos")
    shards = ensure_prepared(one_data_set(cells), folder, bar, run=run_at(arguments.address))
    m = shards.manifest
    console.print(f"data: {m.summary}, in {shards.root}", highlight=False)
    for cell in cells:
        plans = make_plans(cell.config, shards)  # a cell that the data will not do for is refused before any has run
        if len(plans.too_short):
            console.print(
                f"{cell.title}: {len(plans.too_short)} training videos are too short, result.json will list them", highlight=False
            )
    others = {
        entry.title: ensure_prepared(cells[0].config.model_copy(update={"data": resolve_component("data", entry.data)}), None, bar)
        for entry in sweep.evaluations
        if entry.data
    }
    runs = (arguments.runs / sweep.name).resolve()
    status = run_cells(sweep, cells, shards, runs, arguments.address, console)
    if sweep.evaluations:
        status |= run_evaluations(sweep, cells, shards, others, runs, arguments.address, console)
    table = write_tables(paper, find_runs(runs), runs) if paper else write_results(find_runs(runs), runs)
    console.print("\n" + table, markup=False, highlight=False)
    console.print(f"\nTensorBoard:  tensorboard --logdir {shlex.quote(str(runs))}", highlight=False)
    return status


def parse_seeds(text: str) -> list[int]:
    try:
        seeds = [int(seed) for seed in text.split(",") if seed.strip()]
    except ValueError:
        raise ConfigError(f"--seeds {text}: must be whole numbers with commas between, as in --seeds 0,1,2") from None
    if any(seed < 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds {text}: seeds must be 0 or more, each given once")
    return seeds


def one_data_set(cells: list[Cell]) -> Any:
    first = cells[0].config
    for cell in cells:
        if (cell.config.data, cell.config.prepare) != (first.data, first.prepare):
            raise ConfigError(f"arm {cell.arm!r}: data and prepare must be the same in all cells of a sweep")
    return first


def print_cells(console: Console, cells: list[Cell], sweep: Sweep) -> None:
    for cell in cells:
        console.print(cell.summary, markup=False, highlight=False)
    then = f"; then of each: {', '.join(entry.title for entry in sweep.evaluations)}" if sweep.evaluations else ""
    console.print(f"{len(cells)} cells{then}", highlight=False)


def run_cells(sweep: Sweep, cells: list[Cell], shards: Any, runs: Path, address: str | None, console: Console) -> int:
    from vididi.cluster.tune import Job, run_jobs

    runs.mkdir(parents=True, exist_ok=True)
    checksum = shards.manifest.checksum
    screen = SweepScreen(console)
    jobs: dict[Path, Job] = {}
    titles: dict[str, str] = {}
    for cell in cells:
        identity = cell.config.identity(checksum)
        if identity in titles:
            console.print(f"{cell.title}: the same cell as {titles[identity]}, which runs once", highlight=False)
            continue
        titles[identity] = cell.title
        folder = cell.find_folder(runs, checksum)
        result = read_result(folder)
        screen.add(cell.title, "finished" if result else "waiting", cell.config.training.epochs, result)
        if not result:
            jobs[folder] = Job(cell, folder, cell.describe(sweep.name))
    done = len(titles) - len(jobs)
    console.print(f"sweep {sweep.name}: {len(titles)} cells, {done} finished before, {len(jobs)} to run, in {runs}", highlight=False)
    if jobs:
        with screen:
            run_jobs(list(jobs.values()), shards, runs, ScreenWatcher(screen), address)  # type: ignore[arg-type]
    return report_unfinished(jobs, console)


def run_evaluations(
    sweep: Sweep, cells: list[Cell], shards: Any, others: dict[str, Any], runs: Path, address: str | None, console: Console
) -> int:
    """Make the sweep's evaluations of every finished cell that have not been made; ``others``: data sets by title of their entry."""
    from vididi.cluster.evaluations import Evaluation, make_evaluations

    finished = {folder: cell for cell in cells if read_result(folder := cell.find_folder(runs, shards.manifest.checksum))}
    alone = {run: replace(cell, resources=cell.resources.model_copy(update={"workers": 1})) for run, cell in finished.items()}
    asked = [Evaluation(alone[run], run, entry, others.get(entry.title)) for run in alone for entry in sweep.evaluations]
    return make_evaluations(asked, shards, runs, address, console)


if __name__ == "__main__":
    sys.exit(main())
