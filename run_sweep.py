"""Run a sweep: ``python run_sweep.py sweeps/ablation.yaml``. Parse, resolve, print the plan, hand over, print the table.

run_sweep.py SWEEP.yaml             run what is not finished
run_sweep.py status SWEEP.yaml      what became of each cell so far; runs nothing
run_sweep.py extend SWEEP.yaml      more seeds of the same cells
run_sweep.py rerun SWEEP.yaml       only the cells that failed
run_sweep.py compare A B            the difference between two arms or folders of runs, with its interval
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rich.console import Console

from analysis.compare import best_arm, compare, unit
from analysis.compare import main as compare_main
from analysis.paper import load_paper_table
from analysis.runs import Run, find_runs, read_finished
from analysis.tables import column_of, write_results, write_tables
from vididi.cli import overrides, run_at
from vididi.config import build_config, nest
from vididi.data.storage import Folder, as_folder
from vididi.errors import ConfigError, VididiError
from vididi.runs.mirror import local_path, place_of, pull, pulled
from vididi.screen import INTERRUPTED, CellState, cell_states, copies, folder_states, states_table
from vididi.search import halved
from vididi.sweep import MOST_CELLS, Cell, Sweep, distinct, examples, expand, load_sweep, size, without_effect
from vididi.terminal import Parser, PlainConsole
from vididi.values import LARGEST, cut, shown
from vididi.words import counted

if TYPE_CHECKING:
    from vididi.cluster.studies import Searched
    from vididi.data.shards import ShardSet

EXAMPLES = 20  # points of a search that are tried before it begins
SHOWN = 10  # lines about cells that are the same
COMMANDS = {
    "run": "Run the cells of a sweep file that are not finished yet, and print its table.",
    "status": "Say what became of each cell of a sweep so far. Runs nothing. Exit status 0 if all are finished.",
    "extend": "Run the cells of a sweep with more seeds: the file's, and the numbers from 0 that it leaves out.",
    "rerun": "Run the cells of a sweep that failed, and no others. A search tries them again and goes on.",
}


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    command = argv[0] if argv and argv[0] in COMMANDS else "run"
    others = "Also: run_sweep.py status | extend | rerun SWEEP.yaml, run_sweep.py compare A B; each has --help."
    parser = Parser(
        prog="run_sweep.py" if command == "run" else f"run_sweep.py {command}",
        description=COMMANDS[command],
        epilog=others if command == "run" else None,
    )
    parser.set_defaults(command=command, seeds="", count=None)
    parser.add_argument("spec", type=Path, metavar="SWEEP.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a configuration value in every cell")
    parser.add_argument("--only", action="append", default=[], metavar="ARM", help="only this arm; may be given again")
    parser.add_argument(
        "--runs", default="runs", metavar="URI", help="where run folders go (default: runs): storage that all nodes share, or s3://..."
    )
    parser.add_argument("--shards", metavar="URI", help="prepared data, a folder or s3://... (default: prepared once into the cache)")
    if command == "extend":
        parser.add_argument("--seeds", dest="count", type=int, required=True, metavar="N", help="how many there are to be in all")
    else:
        parser.add_argument("--seeds", metavar="0,1,2", help="these seeds instead of the file's")
    if command == "rerun":
        parser.add_argument("--failed", action="store_true", required=True, help="those that failed")
    if command != "status":
        _add_running(parser)
    return parser.parse_args(argv[1:] if argv and argv[0] in COMMANDS else argv)


def _add_running(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="print the cells and stop")
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


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 all cells finished (or were stopped early), 1 some failed or are unfinished, 2 the sweep cannot be run as written,
    130 it was interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] == "compare":
        return compare_main(list(argv[1:]), "run_sweep.py compare")
    arguments = parse_arguments(argv)
    console = PlainConsole()
    try:
        status = report_status(arguments, console) if arguments.command == "status" else run(arguments, console)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except VididiError as error:
        PlainConsole(stderr=True).print(f"error: {error}")
        return 2
    if status == INTERRUPTED:
        command = shlex.join(["python", "run_sweep.py", *argv])
        console.print(f"interrupted; nothing finished is lost. To go on:  {command}")
    return status


def run(arguments: argparse.Namespace, console: Console) -> int:
    sweep, cells = plan(arguments, console)
    if arguments.dry_run:
        print_cells(console, cells, sweep)
        return 0
    paper = load_paper_table(sweep.table) if sweep.table else None
    shards, others = prepare(arguments, sweep, cells, console)
    runs = runs_of(arguments, sweep)
    if arguments.command == "rerun" and not sweep.searching:
        cells = failed(cells, runs, shards, console)
    if arguments.audit_stopping is not None:
        return audit(arguments.audit_stopping, sweep, cells, runs, shards, console)
    status, cells = run_all(arguments, sweep, cells, shards, runs, console)
    if status == INTERRUPTED:
        return status
    if sweep.evaluations:
        from vididi.cluster.sweeps import run_evaluations

        status = max(status, run_evaluations(sweep, cells, shards, others, runs, arguments.address, console))
    pull(runs)
    table = write_tables(paper, find_runs(runs), runs) if paper else write_results(find_runs(runs), runs)
    console.print("\n" + table)
    console.print(f"\nTensorBoard:  tensorboard --logdir {shlex.quote(str(runs))}")
    return status


def plan(arguments: argparse.Namespace, console: Console) -> tuple[Sweep, list[Cell]]:
    """The sweep and its cells, resolved, each once; of a search some examples of them."""
    sweep = load_sweep(arguments.spec)
    if sweep.table:
        load_paper_table(sweep.table)  # an unknown one is refused before anything runs
    if getattr(arguments, "no_stopping", False):
        sweep = sweep.model_copy(update={"stopping": None})
    changes, searching = overrides(arguments.set), sweep.searching
    if searching and (arguments.command == "extend" or arguments.only or arguments.seeds):
        raise ConfigError("extend, --only, --seeds: are for grids; a search draws its cells")
    seeds = parse_seeds(arguments.seeds) or extended(sweep, arguments.count)
    cells, faults = examples(sweep, EXAMPLES, changes) if searching else (expand(sweep, changes, arguments.only, seeds), [])
    excluded = 0 if searching else size(sweep, arguments.only, seeds) - len(cells)
    from vididi.components import resolve  # imports torch, so not before the file is known to be good

    cells, same = distinct([replace(cell, config=resolve(cell.config, cell.resources.workers)) for cell in cells])
    check_evaluations(sweep, cells)
    if arguments.command == "status":
        return sweep, cells
    if searching:
        print_search(console, sweep, cells[0], faults)
    else:
        print_left_out(console, excluded, same)
        for asked in without_effect(sweep, changes):
            console.print(f"exclude: {shown(asked)} leaves out no cell: none of the file's has these values, defaults aside")
    return sweep, cells


def extended(sweep: Sweep, asked: int | None) -> list[int]:
    """As many seeds as are asked for: the file's, and then those from 0 that it leaves out; none if nothing is asked for."""
    if asked is None:
        return []
    if asked < len(sweep.seeds):
        raise ConfigError(f"--seeds {asked}: is not valid; the file has {len(sweep.seeds)} already, {sweep.seeds}")
    if asked > MOST_CELLS:
        raise ConfigError(f"--seeds {asked}: is not valid; at most {MOST_CELLS}")
    more = (seed for seed in count() if seed not in sweep.seeds)
    return [*sweep.seeds, *islice(more, asked - len(sweep.seeds))]


def check_evaluations(sweep: Sweep, cells: list[Cell]) -> None:
    """Refuse what an evaluation's settings ask for and cannot be made, before any cell is trained."""
    from vididi.components import resolve_component
    from vididi.evaluate import check_settings

    for entry in sweep.evaluations:
        if entry.data:
            resolve_component("data", entry.data)
        for cell in cells:
            try:
                check_settings(entry, cell.config)
            except ConfigError as error:
                raise ConfigError(f"evaluate: {entry.title}: {error}") from None


def prepare(arguments: argparse.Namespace, sweep: Sweep, cells: list[Cell], console: Console) -> tuple[ShardSet, dict[str, ShardSet]]:
    """The cells' data, and others by the title of the evaluation that is made on them. A cell that the data will not do for is refused."""
    from vididi.components import resolve_component
    from vididi.plans import make_plans
    from vididi.prepared import ensure_prepared
    from vididi.screen import PrepareBar

    bar = PrepareBar(console, "preparing videos")
    shards = ensure_prepared(one_data_set(cells), given_shards(arguments), bar, run=run_at(arguments.address))
    console.print("\n".join([f"data: {shards.summary}, in {shards.root}", *shards.remarks]))
    for cell in cells:
        if short := len(make_plans(cell.config, shards).too_short):
            console.print(f"{cell.title}: {short} training videos are too short, result.json will list them")
    others = {
        entry.title: ensure_prepared(cells[0].config.model_copy(update={"data": resolve_component("data", entry.data)}), None, bar)
        for entry in sweep.evaluations
        if entry.data
    }
    return shards, others


def given_shards(arguments: argparse.Namespace) -> Folder | None:
    return as_folder(arguments.shards) if arguments.shards else None


def runs_of(arguments: argparse.Namespace, sweep: Sweep) -> Path:
    """Where the sweep's run folders are; of those in a store, what was written there so far."""
    runs = (local_path(arguments.runs) / sweep.name).resolve()
    pull(runs)
    return runs


def run_all(
    arguments: argparse.Namespace, sweep: Sweep, cells: list[Cell], shards: ShardSet, runs: Path, console: Console
) -> tuple[int, list[Cell]]:
    """Exit status, and the cells of the sweep, which a search draws on the way."""
    if not sweep.searching:
        from vididi.cluster.sweeps import run_cells

        return run_cells(sweep, cells, shards, runs, arguments.address, console), cells
    from vididi.cluster.studies import only_search, run_search

    search, checksum = sweep.search, shards.manifest.checksum
    known = read_finished(folder for place in search.warm_start for folder in find_runs(existing(place, "search.warm_start")))
    fresh = search.confirm.seeds if search.confirm else []  # runs with these seeds must not have had a say in what was found
    known = [run for run in known if run.seed not in fresh]
    baseline = grid_best(search, checksum) if search.confirm else []
    with only_search(runs):
        again = arguments.command == "rerun"
        found = run_search(sweep, overrides(arguments.set), cells[0], known, shards, runs, arguments.address, console, again)
        if search.confirm and found.status != INTERRUPTED:
            try:
                confirm(sweep, found, baseline, shards, runs, arguments.address, console)
            except Unfinished as unfinished:
                return max(found.status, unfinished.status), found.cells
    return found.status, found.cells


def failed(cells: list[Cell], runs: Path, shards: ShardSet, console: Console) -> list[Cell]:
    """Those of the cells that failed, and those with damaged files."""
    states = cell_states(cells, runs, shards.manifest.checksum)
    found = [cell for cell, state in zip(cells, states, strict=True) if state.name in ("failed", "damaged")]
    damaged = sum(state.name == "damaged" for state in states)
    more = f", {damaged} with damaged files" if damaged else ""
    console.print(f"{len(found) - damaged} of {counted(len(cells), 'cell')} failed{more}")
    return found


def report_status(arguments: argparse.Namespace, console: Console) -> int:
    sweep, cells = plan(arguments, console)
    runs = runs_of(arguments, sweep)
    states = states_of(arguments, sweep, cells, runs)
    console.print(states_table(states), end="\n" if states else "")
    if sweep.searching:
        for path in copies(runs):
            console.print(f"left out: {path}: its name does not end in a cell's identity")
    counts = {name: sum(state.name == name for state in states) for name in dict.fromkeys(state.name for state in states)}
    said = ", ".join(f"{number} {name}" for name, number in counts.items()) or "none has begun"
    whole = f"{counted(len(states), 'cell')} so far" if sweep.searching else counted(len(cells), "cell")
    console.print(f"sweep {sweep.name}: {whole}, {said}, in {place_of(runs)}")
    return 0 if counts and set(counts) <= {"finished", "stopped early"} else 1


def states_of(arguments: argparse.Namespace, sweep: Sweep, cells: list[Cell], runs: Path) -> list[CellState]:
    """What became of the sweep's cells; of a search, of those that have a folder. None where nothing has begun, which needs no data."""
    if not runs.is_dir():
        return []
    if sweep.searching:
        return folder_states(runs)
    from vididi.prepared import ensure_prepared

    shards = ensure_prepared(one_data_set(cells), given_shards(arguments))
    return cell_states(cells, runs, shards.manifest.checksum)


def audit(name: str, sweep: Sweep, cells: list[Cell], runs: Path, shards: ShardSet, console: Console) -> int:
    from vididi.cluster.audit import audit_stopping

    own = [cell.find_folder(runs, shards.manifest.checksum) for cell in cells]
    finished = read_finished(find_runs(runs) if sweep.searching else own)
    return audit_stopping(sweep, name, cells, finished, runs, console)


def parse_seeds(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not all(re.fullmatch(r"-?(0|[1-9][0-9]{0,18})", word) and int(word) <= LARGEST for word in words):
        raise ConfigError(f"--seeds {cut(text)}: must be whole numbers with commas between, as in --seeds 0,1,2, up to {LARGEST}")
    seeds = [int(word) for word in words]
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
        console.print(f"exclude: {counted(excluded, 'cell')} {'is' if excluded == 1 else 'are'} left out")
    for line in same[:SHOWN]:
        console.print(line)
    if len(same) > SHOWN:
        console.print(f"and {len(same) - SHOWN} more, each the same cell as another")


def print_search(console: Console, sweep: Sweep, example: Cell, faults: list[str]) -> None:
    """What a search may cost, and whether its space is sound."""
    search, epochs = sweep.search, example.config.training.epochs
    most = search.trials * epochs if search.budget is None else min(search.trials * epochs, search.budget)
    stopping = f"; early stopping: {sweep.stopping.summary}" if sweep.stopping else ""
    console.print(
        f"search: {search.name} with seed {search.seed}, {counted(search.trials, 'point')} of up to "
        f"{counted(epochs, 'epoch')}, {counted(most, 'epoch')} at most{stopping}"
    )
    if faults:
        console.print(f"{len(faults)} of {EXAMPLES} points drawn as a test make no cell, such as {faults[0]}")


def print_cells(console: Console, cells: list[Cell], sweep: Sweep) -> None:
    for cell in cells:
        console.print(cell.summary)
    then = f"; then of each: {', '.join(entry.title for entry in sweep.evaluations)}" if sweep.evaluations else ""
    drawn = " as examples" if sweep.searching else ""
    console.print(f"{counted(len(cells), 'cell')}{drawn}{then}")


def grid_best(search: Any, checksum: str) -> list[Run]:
    """The runs of the best arm of the grid that a search is held against."""
    metric, mode = next(iter(search.metrics.items()))
    place = existing(search.confirm.against, "search.confirm.against")
    runs = [run for run in read_finished(find_runs(place)) if run.result["data_checksum"] == checksum]
    best = best_arm(runs, metric, mode == "max")
    if not best:
        raise ConfigError(f"search.confirm.against: {place} has no finished run on these videos with {metric}; run that sweep first")
    return best


def existing(place: str, field: str) -> Path:
    folder = pulled(place)
    if not folder.is_dir():
        raise ConfigError(f"{field}: {place!r} is not a folder; it is one that holds finished runs")
    return folder


class Unfinished(Exception):
    """Cells that something else waits for did not all finish; ``status`` is the program's."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def confirm(
    sweep: Sweep, found: Searched, baseline: list[Run], shards: ShardSet, runs: Path, address: str | None, console: Console
) -> None:
    """Train the search's best and the grid's best arm with fresh seeds, and print their difference. Raises Unfinished."""
    asked, (metric, mode) = sweep.search.confirm, next(iter(sweep.search.metrics.items()))
    assert asked is not None

    def finished(cells: list[Cell]) -> list[Run]:
        from vididi.cluster.sweeps import run_cells

        folders = [found.find(cell) for cell in cells]
        new = [cell for cell, folder in zip(cells, folders, strict=True) if folder.parent == runs]
        if new and (status := run_cells(sweep.model_copy(update={"stopping": None}), new, shards, runs, address, console)):
            raise Unfinished(status)
        return read_finished(folders)

    candidates = found.best(asked.top)
    if not candidates:
        console.print("confirm: the search has no finished cell")
        raise Unfinished(1)
    grid = build_config(nest(baseline[0].config), str(baseline[0].folder))
    against = replace(candidates[0], arm=baseline[0].cell["arm"], label=baseline[0].cell["label"], config=grid)
    chosen = candidates[0]
    if asked.choose_seeds:
        if not any(same_but_seed(cell, against) for cell in candidates):
            candidates.append(against)  # what single seeds make look better must be better than it in these too
        values = compete(candidates, asked.choose_seeds, lambda cells: [run.result[metric] for run in finished(cells)], mode == "max")
        chosen = candidates[best_of(values, mode == "max")]
        print_choice(console, metric, asked.choose_seeds, candidates, values, chosen)
    if same_but_seed(chosen, against):
        console.print(
            f"confirm: the search found nothing better than the grid's best arm, {against.label}:"
            f" the difference is 0, above {column_of(metric).scaled(-asked.margin)}{unit(metric)}"
        )
        return
    both = finished([with_seed(cell, seed) for cell in (chosen, against) for seed in asked.seeds])
    ours, theirs = both[: len(asked.seeds)], both[len(asked.seeds) :]
    comparison = compare(ours, theirs, metric, (f"{chosen.arm} ({chosen.label})", against.label))
    console.print("\nthe search's best against the grid's best arm, with fresh seeds:")
    console.print("\n".join(comparison.lines(-asked.margin)))


def compete(candidates: list[Cell], seeds: list[int], measure: Callable[[list[Cell]], list[float]], largest: bool) -> list[list[float]]:
    """What each candidate reached with each seed that it took part in, the worse half of them going after each (see `halved`)."""
    values: list[list[float]] = [[] for _ in candidates]
    left = list(range(len(candidates)))
    for seed, taking_part in zip(seeds, halved(len(candidates), len(seeds)), strict=True):
        left = left[:taking_part]
        for i, value in zip(left, measure([with_seed(candidates[i], seed) for i in left]), strict=True):
            values[i].append(value)
        left.sort(key=lambda i: fmean(values[i]), reverse=largest)
    return values


def best_of(values: list[list[float]], largest: bool) -> int:
    """Which has the best mean of those that were there to the end."""
    sign = 1 if largest else -1
    return max(range(len(values)), key=lambda i: (len(values[i]), sign * fmean(values[i])))


def print_choice(
    console: Console, metric: str, over: Sequence[int], candidates: list[Cell], values: list[list[float]], chosen: Cell
) -> None:
    console.print(f"\nchosen by {metric} over seeds {', '.join(map(str, over))}:")
    for cell, own in zip(candidates, values, strict=True):
        mean, seeds = column_of(metric).scaled(fmean(own)), counted(len(own), "seed")
        console.print(f"{'*' if cell is chosen else ' '} {mean} ({seeds}): {cell.label}")


def same_but_seed(first: Cell, second: Cell) -> bool:
    return with_seed(first, 0).config.identity("") == with_seed(second, 0).config.identity("")


def with_seed(cell: Cell, seed: int) -> Cell:
    training = cell.config.training.model_copy(update={"seed": seed})
    return replace(cell, seed=seed, config=cell.config.model_copy(update={"training": training}))


if __name__ == "__main__":
    sys.exit(main())
