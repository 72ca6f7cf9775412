"""Run a sweep: ``python run_sweep.py sweeps/ablation.yaml``. Parse, resolve, print the plan, hand over, print the table."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from analysis.compare import best_arm, compare
from analysis.paper import load_paper_table
from analysis.runs import Run, find_runs, read_finished
from analysis.tables import write_results, write_tables
from vididi.cli import overrides, run_at
from vididi.config import build_config, nest
from vididi.errors import ConfigError, HeldError, VididiError
from vididi.mirror import local_path, place_of, pull, pulled
from vididi.screen import INTERRUPTED, ScreenWatcher, SweepScreen, read_result, read_stopped, report_unfinished
from vididi.search import Point, Stopping, digest, rounded
from vididi.sweep import Cell, Sweep, cell_at, distinct, examples, expand, load_sweep, point_of, size

EXAMPLES = 20  # points of a search that are tried before it begins
SHOWN = 10  # lines about cells that are the same


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
        "--runs", default="runs", metavar="URI", help="where run folders go (default: runs): storage that all nodes share, or s3://..."
    )
    parser.add_argument("--shards", metavar="URI", help="prepared data, a folder or s3://... (default: prepared once into the cache)")
    parser.add_argument("--address", metavar="ADDRESS", help="of a running Ray cluster, or 'auto'; default: this machine alone")
    parser.add_argument("--no-stopping", action="store_true", help="stop no cell early; those that were stopped go on")
    parser.add_argument(
        "--audit-stopping",
        nargs="?",
        const="",
        choices=("", "asha", "median"),
        metavar="RULE",
        help="train nothing: which of the finished cells the file's rule (or asha, or median) would have stopped, and at what cost",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 all cells finished (or were stopped early), 1 some failed or are unfinished, 2 the sweep cannot be run as written,
    130 it was interrupted."""
    arguments = parse_arguments(argv)
    console = Console(soft_wrap=True)
    try:
        status = run(arguments, console)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except VididiError as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", markup=False, highlight=False)
        return 2
    if status == INTERRUPTED:
        command = shlex.join(["python", "run_sweep.py", *(sys.argv[1:] if argv is None else argv)])
        console.print(f"interrupted; nothing finished is lost. To go on:  {command}", markup=False, highlight=False)
    return status


def run(arguments: argparse.Namespace, console: Console) -> int:
    sweep = load_sweep(arguments.spec)
    paper = load_paper_table(sweep.table) if sweep.table else None
    if arguments.no_stopping:
        sweep = sweep.model_copy(update={"stopping": None})
    changes, searching = overrides(arguments.set), sweep.search.name != "grid"
    if searching and (arguments.only or arguments.seeds):
        raise ConfigError("--only, --seeds: are for grids; a search draws its cells")
    if searching:
        cells, faults = examples(sweep, EXAMPLES, changes)
    else:
        cells, faults = expand(sweep, changes, arguments.only, parse_seeds(arguments.seeds)), []
        excluded = size(sweep, arguments.only, parse_seeds(arguments.seeds)) - len(cells)
    from vididi.experiment import (
        ensure_prepared,
        make_plans,
        resolve,
        resolve_component,
    )  # imports torch, so not before the file is known to be good

    cells = [replace(cell, config=resolve(cell.config, cell.resources.workers)) for cell in cells]
    cells, same = distinct(cells)
    if searching:
        print_search(console, sweep, cells[0], faults)
    else:
        print_left_out(console, excluded, same)
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
    runs = (local_path(arguments.runs) / sweep.name).resolve()
    pull(runs)
    if arguments.audit_stopping is not None:
        return audit_stopping(sweep, arguments.audit_stopping, cells, shards, runs, console)
    if searching:
        with only_search(runs):
            status, cells = run_search(sweep, changes, cells[0], shards, runs, arguments.address, console)
    else:
        status = run_cells(sweep, cells, shards, runs, arguments.address, console)
    if status == INTERRUPTED:
        return status
    if sweep.evaluations:
        status = max(status, run_evaluations(sweep, cells, shards, others, runs, arguments.address, console))
    pull(runs)
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


def print_left_out(console: Console, excluded: int, same: list[str]) -> None:
    if excluded:
        console.print(f"exclude: {excluded} cells are left out", highlight=False)
    for line in same[:SHOWN]:
        console.print(line, markup=False, highlight=False)
    if len(same) > SHOWN:
        console.print(f"and {len(same) - SHOWN} more that are the same cell as another", highlight=False)


def print_search(console: Console, sweep: Sweep, example: Cell, faults: list[str]) -> None:
    """What a search may cost, and whether its space is sound."""
    search, epochs = sweep.search, example.config.training.epochs
    most = search.trials * epochs if search.budget is None else min(search.trials * epochs, search.budget)
    stopping = f"; early stopping: {sweep.stopping.summary}" if sweep.stopping else ""
    console.print(
        f"search: {search.name} with seed {search.seed}, {search.trials} points of up to {epochs} epochs, {most} epochs at most{stopping}",
        highlight=False,
    )
    if faults:
        console.print(
            f"{len(faults)} of {EXAMPLES} points drawn as a test make no cell, such as {faults[0]}", markup=False, highlight=False
        )


def print_cells(console: Console, cells: list[Cell], sweep: Sweep) -> None:
    for cell in cells:
        console.print(cell.summary, markup=False, highlight=False)
    then = f"; then of each: {', '.join(entry.title for entry in sweep.evaluations)}" if sweep.evaluations else ""
    drawn = " as examples" if sweep.search.name != "grid" else ""
    console.print(f"{len(cells)} cells{drawn}{then}", highlight=False)


def read_curve(folder: Path, metric: str) -> list[dict[str, Any]]:
    """The epochs of a run in which a metric was measured."""
    from vididi.training.run_folder import RunFolder

    return [record for record in RunFolder(folder).metrics() if metric in record]


def run_cells(sweep: Sweep, cells: list[Cell], shards: Any, runs: Path, address: str | None, console: Console) -> int:
    from vididi.cluster.tune import Job, run_jobs

    runs.mkdir(parents=True, exist_ok=True)
    screen = SweepScreen(console)
    jobs: dict[Path, Job] = {}
    ended: dict[Path, Cell] = {}
    for cell in cells:
        folder = cell.find_folder(runs, shards.manifest.checksum)
        result, stopped = read_result(folder), sweep.stopping and read_stopped(folder)
        screen.add(cell.title, "finished" if result else "stopped" if stopped else "waiting", cell.config.training.epochs, result)
        if result or stopped:
            ended[folder] = cell
        else:
            jobs[folder] = Job(cell, folder, cell.describe(sweep.name))
    finished = sum(read_result(folder) is not None for folder in ended)
    early = f", {len(ended) - finished} stopped early before" if len(ended) > finished else ""
    counts = f"{len(cells)} cells, {finished} finished before{early}, {len(jobs)} to run"
    console.print(f"sweep {sweep.name}: {counts}, in {place_of(runs)}", highlight=False)
    curves = [read_curve(folder, sweep.stopping.metric) for folder in ended] if sweep.stopping else []
    elsewhere: set[Path] = set()
    if jobs:
        with screen:
            elsewhere = run_jobs(list(jobs.values()), shards, runs, ScreenWatcher(screen), address, sweep.stopping, curves)  # type: ignore[arg-type]
    if sweep.stopping:
        report_stopping({**ended, **{folder: job.cell for folder, job in jobs.items()}}, console)
    return report_unfinished(jobs, console, elsewhere=elsewhere)


def run_search(
    sweep: Sweep, changes: dict[str, Any], example: Cell, shards: Any, runs: Path, address: str | None, console: Console
) -> tuple[int, list[Cell]]:
    """Run a search from wherever it got to, then what it is to be confirmed by. Exit status, and the cells that it drew."""
    from vididi.cluster import tune
    from vididi.cluster.search import CellSearch, StoredStudy
    from vididi.experiment import make_plans, resolve

    search, checksum = sweep.search, shards.manifest.checksum
    runs.mkdir(parents=True, exist_ok=True)
    known = read_finished(folder for place in search.warm_start for folder in find_runs(existing(place, "search.warm_start")))
    baseline = grid_best(search, checksum) if search.confirm else []
    screen = SweepScreen(console)

    def cell_of(point: Point) -> Cell:
        cell = cell_at(sweep, point, overrides=changes)
        if cell is None:
            raise ConfigError("exclude: leaves this point out")
        cell = replace(cell, config=resolve(cell.config, cell.resources.workers))
        make_plans(cell.config, shards)
        return cell

    def make(point: Point) -> Any:
        cell = cell_of(point)
        identity = cell.config.identity(checksum)
        folder = next((run.folder for run in known if run.folder.name.endswith(f"-{identity}")), cell.find_folder(runs, checksum))
        if cell.title not in screen.lines:
            result = read_result(folder)
            screen.add(cell.title, "finished" if result else "waiting", cell.config.training.epochs, result)
        return tune.Job(cell, folder, cell.describe(sweep.name))

    # Whatever the values depend on is part of the study's name; how many of them there are to be is not.
    definition = [search.model_dump(include={"name", "seed", "metrics", "space"}), sweep.model_dump(include={"base", "exclude", "seeds"})]
    study = StoredStudy(search, runs, f"{sweep.name}-{digest([*definition, changes, checksum])}")
    found = [(run, known_point(sweep, run, cell_of, checksum)) for run in known]
    points = {place_of(run.folder): (point, run.result) for run, point in found if point is not None}
    study.tell_known(points)
    again = study.take_back()
    cells = CellSearch(study, make, example.config.training.epochs)
    said = f", {len(points)} of {len(known)} runs known before" if known else ""
    console.print(
        f"search {sweep.name}: {study.drawn} of {search.trials} points drawn before, {again} of them half-done{said}, in {place_of(runs)}",
        highlight=False,
    )
    curves = [read_curve(folder, sweep.stopping.metric) for folder in cells.cells] if sweep.stopping else []
    watcher: Any = ScreenWatcher(screen)
    elsewhere: set[Path] = set()
    if not cells.ended:
        with screen:
            elsewhere = tune.run_search(cells, example.resources, shards, runs, watcher, address, sweep.stopping, [c for c in curves if c])
    drawn = {folder: job for folder, job in cells.cells.items() if read_result(folder) is None}
    status = report_unfinished({folder: job for folder, job in drawn.items() if not read_stopped(folder)}, console, elsewhere=elsewhere)
    if cells.interrupted:
        return INTERRUPTED, []
    report_search(study, cells, console)
    if sweep.stopping:
        report_stopping({folder: job.cell for folder, job in cells.cells.items()}, console)
    if search.confirm:
        status = max(status, confirm(sweep, study, make, baseline, shards, runs, address, console))
    return status, [job.cell for job in cells.cells.values()]


def existing(place: str, field: str) -> Path:
    folder = pulled(place)
    if not folder.is_dir():
        raise ConfigError(f"{field}: {place!r} is not a folder; it is one that holds finished runs")
    return folder


@contextmanager
def only_search(runs: Path) -> Iterator[None]:
    """Hold the study of a runs folder, which takes one process at a time."""
    from vididi.training.run_folder import RunFolder

    with ExitStack() as held:
        try:
            held.enter_context(RunFolder(runs / ".search").locked())
        except HeldError:
            raise ConfigError(f"{place_of(runs)}: another process is running a search in this folder") from None
        pull(runs)
        yield


def known_point(sweep: Sweep, run: Run, cell_of: Callable[[Point], Cell], checksum: str) -> Point | None:
    """The point of the space whose cell a finished run is, or None."""
    point = point_of(sweep, nest(run.config))
    try:
        return point if point is not None and run.folder.name.endswith(f"-{cell_of(point).config.identity(checksum)}") else None
    except VididiError:
        return None


def grid_best(search: Any, checksum: str) -> list[Run]:
    """The runs of the best arm of the grid that a search is held against."""
    metric, mode = next(iter(search.metrics.items()))
    place = existing(search.confirm.against, "search.confirm.against")
    runs = [run for run in read_finished(find_runs(place)) if run.result["data_checksum"] == checksum]
    best = best_arm(runs, metric, mode == "max")
    if not best:
        raise ConfigError(f"search.confirm.against: {place} has no finished run on these videos with {metric}; run that sweep first")
    return best


def report_search(study: Any, cells: Any, console: Console) -> None:
    search = study.search
    budget = f" of {search.budget}" if search.budget else ""
    counts = f"{len(cells.jobs)} cells run now, {cells.found_finished} points whose cell was finished already"
    console.print(f"search: {study.drawn} of {search.trials} points drawn, {counts}; {cells.spent}{budget} epochs spent", highlight=False)
    for reason, count in cells.refused.items():
        console.print(f"{count} points make no cell: {reason}", markup=False, highlight=False)
    metrics = list(search.metrics)
    found = study.front() if len(metrics) > 1 else [(point, [value]) for point, value in study.best(5)]
    console.print("the points that none surpasses in all metrics:" if len(metrics) > 1 else "the best points:", highlight=False)
    for point, values in found:
        measured = ", ".join(f"{metric} {value:.4g}" for metric, value in zip(metrics, values, strict=True))
        words = ", ".join(f"{name} {value}" for name, value in rounded(point).items())
        console.print(f"  {measured}: {words}", markup=False, highlight=False)


def confirm(
    sweep: Sweep, study: Any, make: Any, baseline: list[Run], shards: Any, runs: Path, address: str | None, console: Console
) -> int:
    """Train the search's best and the grid's best arm with fresh seeds, and print their difference."""
    asked, (metric, mode) = sweep.search.confirm, next(iter(sweep.search.metrics.items()))
    assert asked is not None
    plain = sweep.model_copy(update={"stopping": None})

    def finished(cells: list[Cell]) -> list[Run]:
        return read_finished(cell.find_folder(runs, shards.manifest.checksum) for cell in cells)

    candidates = [make(point).cell for point, _ in study.best(asked.top)]
    if not candidates:
        console.print("confirm: the search has no finished cell", highlight=False)
        return 1
    choosing = [with_seed(cell, seed) for cell in candidates for seed in asked.choose_seeds]
    if choosing and (status := run_cells(plain, choosing, shards, runs, address, console)):
        return status
    chosen = candidates[0]
    if choosing:
        best = best_arm(finished(choosing), metric, mode == "max")
        chosen = next(cell for cell in candidates if cell.arm == best[0].cell["arm"])
    grid = build_config(nest(baseline[0].config), str(baseline[0].folder))
    against = replace(chosen, arm=baseline[0].cell["arm"], label=baseline[0].cell["label"], config=grid)
    pair = [[with_seed(cell, seed) for seed in asked.seeds] for cell in (chosen, against)]
    if chosen.config.identity("") == against.config.identity(""):
        console.print(f"confirm: the search found the grid's best arm, {against.label}; the difference is 0", highlight=False)
        return 0
    if status := run_cells(plain, [*pair[0], *pair[1]], shards, runs, address, console):
        return status
    found = compare(finished(pair[0]), finished(pair[1]), metric, (f"{chosen.arm} ({chosen.label})", against.label))
    console.print("\nthe search's best against the grid's best arm, with fresh seeds:", highlight=False)
    console.print("\n".join(found.lines(-asked.margin)), markup=False, highlight=False)
    return 0


def with_seed(cell: Cell, seed: int) -> Cell:
    training = cell.config.training.model_copy(update={"seed": seed})
    return replace(cell, seed=seed, config=cell.config.model_copy(update={"training": training}))


def report_stopping(cells: dict[Path, Cell], console: Console) -> None:
    """Which cells were stopped early and where, and what that saved."""
    stopped = {folder: found for folder in cells if not read_result(folder) and (found := read_stopped(folder))}
    for folder, found in stopped.items():
        cell, metric = cells[folder], next(key for key in found if key.startswith("online/"))
        epochs = cell.config.training.epochs
        kept = " (best encoder kept)" if (folder / "best.safetensors").is_file() else ""
        console.print(
            f"stopped early: {cell.title} at epoch {found['epoch']} of {epochs}, {metric} {found[metric]:.3f}{kept}", highlight=False
        )
    saved = sum(cells[folder].config.training.epochs - found["epoch"] for folder, found in stopped.items())
    total = sum(cell.config.training.epochs for cell in cells.values())
    console.print(
        f"early stopping: {len(stopped)} of {len(cells)} cells, {saved} of {total} epochs saved ({saved / max(total, 1):.0%})",
        highlight=False,
    )


def audit_stopping(sweep: Sweep, name: str, cells: list[Cell], shards: Any, runs: Path, console: Console) -> int:
    """Replay the curves of the finished cells under a stopping rule."""
    from vididi.cluster.stopping import replay

    asked = sweep.stopping or Stopping(name=name or "asha")  # type: ignore[arg-type]
    stopping = asked.model_copy(update={"name": name}) if name else asked
    metric, mode = next(iter(sweep.search.metrics.items()))
    own = [cell.find_folder(runs, shards.manifest.checksum) for cell in cells]
    found = [run for run in read_finished(own if sweep.search.name == "grid" else find_runs(runs)) if metric in run.result]
    curves = {run.folder.name: read_curve(run.folder, stopping.metric) for run in found}
    if not found or not all(curves.values()):
        raise ConfigError(
            f"--audit-stopping: {sum(map(bool, curves.values()))} of {len(cells)} cells in {runs} are finished and have {stopping.metric}; "
            "it is measured with --set evaluation.online.every=1 (a finished sweep is not run again, so with another --runs too)"
        )
    slots = cells[0].resources.concurrency or max(1, (os.cpu_count() or 1) // cells[0].resources.workers)
    stopped = replay(curves, stopping, slots)
    print_audit({run.folder.name: (run, stopped.get(run.folder.name)) for run in found}, metric, mode == "max", console)
    console.print(f"rule: {stopping.summary}; {slots} cells at a time, in the sweep's order", highlight=False)
    return 0


def print_audit(runs: dict[str, tuple[Run, int | None]], metric: str, largest: bool, console: Console) -> None:
    epochs = {name: int(run.config["training.epochs"]) for name, (run, _) in runs.items()}
    ranked = sorted(runs, key=lambda name: runs[name][0].result[metric], reverse=largest)
    for name in ranked:
        run, epoch = runs[name]
        fate = "would have finished" if epoch is None else f"would have been stopped at epoch {epoch} of {epochs[name]}"
        console.print(f"{name}: {metric} {run.result[metric]:.3f}, {fate}", markup=False, highlight=False)
    saved = sum(epochs[name] - epoch for name, (_, epoch) in runs.items() if epoch is not None)
    total = sum(epochs.values())
    console.print(f"saved: {saved} of {total} epochs ({saved / total:.0%})", highlight=False)
    kept = [name for name in ranked if runs[name][1] is None]
    if kept and kept[0] == ranked[0]:
        console.print(f"the best cell, {ranked[0]}, would have been kept", markup=False, highlight=False)
    else:
        left = f"the best one left is {kept[0]}, {metric} {runs[kept[0]][0].result[metric]:.3f}" if kept else "none would have been left"
        console.print(f"the best cell, {ranked[0]}, would have been lost; {left}", markup=False, highlight=False)


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
