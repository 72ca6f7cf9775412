"""``--estimate``: what cells will take in time, memory, disk and money, from steps that are
measured on this machine. Nothing is trained to its end, prepared or kept.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from rich.console import Console
from tabulate import tabulate

from vididi.commands.inputs import given_shards, one_data_set
from vididi.config import Config
from vididi.errors import ConfigError, DataError
from vididi.estimate import (
    CellEstimate,
    Measures,
    duration,
    end_to_end,
    exactly,
    from_finished,
    span_of,
    spread_text,
    wall_time,
)
from vididi.provenance import machine
from vididi.runs.mirror import local_path
from vididi.runs.outcome import DONE, outcome_and_result
from vididi.sweep import Cell, Sweep
from vididi.terminal import one_line
from vididi.words import counted, size_text

if TYPE_CHECKING:
    from vididi.data.shards import ShardSet
    from vididi.data.survey import SampleVideo
    from vididi.data.video import Video
    from vididi.measuring import MadeUpVideos

MOTION_SAMPLE = 5  # videos of the motion set that are made to see how large they are
EXAMPLES_MEASURED = 5  # points of a search


def add_estimate(group: Any) -> None:
    """Give a group of arguments ``--estimate`` and ``--price``."""
    group.add_argument(
        "--estimate",
        action="store_true",
        help=(
            "measure a few steps here; print time, memory and disk of what is not finished; then"
            " stop"
        ),
    )
    group.add_argument(
        "--price",
        type=float,
        metavar="AMOUNT",
        help=(
            "with --estimate: of one hour of this whole machine, all its GPUs, in any currency, as"
            " in --estimate --price 2.50"
        ),
    )


def check_price(arguments: argparse.Namespace) -> None:
    """Raise ConfigError for a price that is none, or that nothing asks for."""
    price = arguments.price
    if price is None:
        return
    if not arguments.estimate:
        raise ConfigError(f"--price {price:g}: is for --estimate; give both")
    if not (math.isfinite(price) and price >= 0):
        raise ConfigError(f"--price {price:g}: must be a number of 0 or more, per hour of machine")


@dataclass(frozen=True)
class KnownData:
    """What is known of the videos of some cells before they are run.

    Attributes:
        source: as vididi.measuring.measure_apart takes it. said: what the steps are measured on.
        shards: None where they are not prepared; then sample has what some of ``count`` videos
            became, where any could be prepared. made: whether these are made first.
    """

    source: str | MadeUpVideos
    said: str
    shards: ShardSet | None = None
    count: int = 0
    sample: list[SampleVideo] = field(default_factory=list)
    made: bool = False


@dataclass(frozen=True)
class Left:
    """A cell that is to be run: what it is alike by, its state, and the share of its training that
    is still to do.
    """

    cell: Cell
    key: str
    state: str
    share: float = 1.0


def estimate_sweep(
    arguments: argparse.Namespace, console: Console, sweep: Sweep, cells: list[Cell]
) -> None:
    """Print what the cells that are not finished will take."""
    data = look_at_data(one_data_set(cells), arguments)
    runs = (local_path(arguments.runs) / sweep.name).resolve()
    known = data.shards if not sweep.searching else None
    folders: list[Path | None] = [
        cell.find_folder(runs, known.manifest.checksum) if known else None for cell in cells
    ]
    if sweep.searching:
        cells = cells[:EXAMPLES_MEASURED]
        search, epochs = sweep.search, cells[0].config.training.epochs
        most = search.trials * max(1, epochs)
        points = math.ceil(min(most, search.budget or most) / max(1, epochs))
        console.print(
            f"search: {counted(len(cells), 'point')} drawn as examples, as which all"
            f" {counted(points, 'point')} are counted; those that are finished are not taken off"
        )
        cells = [cells[i % len(cells)] for i in range(points)]
        folders = [None] * points
    again = arguments.command == "rerun" and not sweep.searching
    stops = sweep.stopping is not None
    missing = [f"evaluation {entry.title}" for entry in sweep.evaluations]
    missing += ["what early stopping saves"] if stops else []
    if arguments.address:
        missing.append(f"the cluster at {arguments.address}: it is as if this machine ran all")
    if "://" in str(arguments.runs):
        missing.append(f"what lies in {arguments.runs} and was not fetched before")
    estimate_cells(console, cells, folders, data, arguments.price, runs, missing, stops, again)


def estimate_cells(
    console: Console,
    cells: Sequence[Cell],
    folders: Sequence[Path | None],
    data: KnownData,
    price: float | None,
    runs: Path,
    missing: Sequence[str] = (),
    stopping: bool = True,
    only_failed: bool = False,
) -> None:
    """Measure what the cells that are not finished have in common, and print what they will take.

    Args:
        folders: the run folder of each, None where it is not known. runs: where they are made.
        missing: what else is not in it. stopping: whether cells that were stopped early stay so.
        only_failed: count no cell but those that failed.
    """
    left, finished = divide(cells, folders, stopping)
    left = [one for one in left if one.state == "failed"] if only_failed else left
    done = len(cells) - len(left)
    if not left:
        console.print(f"estimate: {counted(done, 'cell')} finished or not asked for, none to run")
        return
    groups = list(dict.fromkeys(one.key for one in left))
    # One that does not fit here is refused before anything is measured.
    needing = Counter(one.cell.resources.model_dump_json() for one in left)
    beside = [min(at_once(one.cell), needing[one.cell.resources.model_dump_json()]) for one in left]
    measured = []
    for number, group in enumerate(groups):
        cell = representative([one.cell for one in left if one.key == group])
        console.print(
            f"measuring {number + 1} of {counted(len(groups), 'configuration')}: {cell.title}, on"
            f" {data.said}"
        )
        measured.append(_measure(cell, data))
        console.print(f"  {measured_text(measured[-1])}")
    estimates = [
        _cell_estimate(one, number, groups.index(one.key), measured, finished.get(one.key, []))
        for one, number in zip(left, beside, strict=True)
    ]
    console.print(cells_table(left, estimates))
    if done:
        console.print(f"not counted: {counted(done, 'cell')} that finished before or do not run")
    for line in summary(left, estimates, measured, data, price, runs):
        console.print(line)
    console.print(f"not in it: {'; '.join([*not_in_it(left, estimates, data), *missing])}")


# --- Which cells ----------------------------------------------------------------------------------


def divide(
    cells: Sequence[Cell], folders: Sequence[Path | None], stopping: bool
) -> tuple[list[Left], dict[str, list[float]]]:
    """The cells that are to run, and by ``alike`` the seconds of those that finished on this
    machine in one go.
    """
    from vididi.runs.run_folder import RunFolder

    left: list[Left] = []
    finished: dict[str, list[float]] = {}
    here = json.loads(json.dumps(machine()))
    for cell, folder in zip(cells, folders, strict=True):
        key = alike(cell)
        if folder is None or not folder.is_dir():
            left.append(Left(cell, key, "to run"))
            continue
        became, result = outcome_and_result(folder, stopping)
        if became not in DONE:
            epochs = max(1, cell.config.training.epochs)
            share = 1 - min(1.0, RunFolder(folder).epochs / epochs)
            left.append(Left(cell, key, became or "half-done", share))
        elif result and result.get("machine") == here and not result.get("resumed_from_step"):
            finished.setdefault(key, []).append(result["seconds"])
    return left, finished


def alike(cell: Cell) -> str:
    """What cells share whose steps take as long: all but the seed, the schedule of orders, the
    coefficients of the objective and of the optimiser, and the data, which are the same.
    """
    content = cell.config.to_dict()
    for section in ("data", "prepare", "schedule"):
        del content[section]
    del content["training"]["seed"]
    for section in ("objective", "optimiser"):
        values = content[section]
        content[section] = {
            key: value for key, value in values.items() if not isinstance(value, float)
        }
    needs = cell.resources
    return json.dumps([content, needs.workers, needs.gpus_per_worker], sort_keys=True)


def representative(cells: Sequence[Cell]) -> Cell:
    """The cell to measure: with the highest order, whose views cost most to make."""
    return max(cells, key=lambda cell: cell.config.schedule.order)


# --- Data -----------------------------------------------------------------------------------------


def look_at_data(config: Config, arguments: argparse.Namespace) -> KnownData:
    """The prepared data of a resolved configuration, or what can be known without them.

    Raises:
        DataError: the videos are not there, or none of a sample can be prepared.
    """
    from vididi.data.shards import ShardSet
    from vididi.prepared import find_data

    folder = given_shards(arguments)
    place = find_data(config) if folder is None else None
    if place is not None and place.shards is not None:
        folder = place.shards
    if folder is not None:
        shards = ShardSet.open(folder)
        return KnownData(str(folder), f"the prepared data, {shards.summary}", shards)
    assert place is not None
    return _made_up(config, place.videos)


def _made_up(config: Config, videos: Sequence[Video]) -> KnownData:
    """What is known of data that are not prepared, from a few videos that are prepared as a
    sample.
    """
    from vididi.data.encode import Settings
    from vididi.data.survey import prepare_sample
    from vididi.measuring import MadeUpVideos

    settings = Settings(**config.prepare.model_dump())
    if videos:
        sample = prepare_sample(videos, settings)
        rows = [(video.video_id, video.split, video.class_name) for video in videos]
    else:
        sample, rows = _motion(config.data.options, settings)
    if not sample:
        raise DataError(
            "data: none of the videos that were tried can be prepared; vididi prepare says why"
        )
    ids, splits, classes = zip(*rows, strict=True)
    frames, sizes = [one.frames for one in sample], [(one.height, one.width) for one in sample]
    made_up = MadeUpVideos(ids, splits, classes, frames, sizes)
    said = (
        f"random clips, as the data are not prepared; a sample of {len(sample)} of"
        f" {counted(len(rows), 'video')} was"
    )
    return KnownData(made_up, said, None, len(rows), sample, made=not videos)


def _motion(
    options: dict[str, Any], settings: Any
) -> tuple[list[SampleVideo], list[tuple[str, str, str]]]:
    """A sample of the motion set that is not made yet, and its rows as far as they matter."""
    from vididi.data.motion import LAWS, motion
    from vididi.data.survey import prepare_sample

    with tempfile.TemporaryDirectory() as place:
        few = {**options, "train": min(MOTION_SAMPLE, options["train"]), "test": 0}
        sample = prepare_sample(motion(Path(place), **few), settings)
    laws = list(LAWS)
    rows = [
        (f"{split}/{laws[i % len(laws)]}/{i:06d}", split, laws[i % len(laws)])
        for split in ("train", "test")
        for i in range(options[split])
    ]
    return sample, rows


# --- What is measured, as numbers and text --------------------------------------------------------


def _measure(cell: Cell, data: KnownData) -> Measures:
    from vididi.measuring import measure_apart

    needs = cell.resources
    return measure_apart(cell.config, data.source, needs.on_gpus, needs.workers)


def at_once(cell: Cell) -> int:
    """Cells like this one that this machine runs beside each other.

    Raises:
        ResourceError: not even one.
    """
    from vididi.cluster.resources import local_concurrency

    return local_concurrency(cell.resources, *_machine())


@lru_cache
def _machine() -> tuple[int, float, float]:
    """Cores, GPUs and bytes of memory."""
    import torch

    memory = machine()["memory_gb"] * 2**30 or math.inf
    return len(os.sched_getaffinity(0)), float(torch.cuda.device_count()), memory


def _cell_estimate(
    one: Left, beside: int, number: int, measured: Sequence[Measures], before: Sequence[float]
) -> CellEstimate:
    """Of one cell.

    Args:
        beside: cells at once. number: of its configuration in ``measured``. before: seconds of
            cells like it that finished.
    """
    needs = one.cell.resources
    if before:
        seconds = from_finished(before, one.share)
    else:
        seconds = measured[number].seconds(one.share)
        if needs.workers > 1:  # Ray Train starts processes of their own for each
            seconds = end_to_end(seconds, exactly(measured[number].start))
    return CellEstimate(
        one.cell.title, seconds, needs.model_dump_json(), beside, len(before), number
    )


def measured_text(measured: Measures) -> str:
    """What one configuration's process measured, in a line."""
    steps, clips = span_of(measured.steps), span_of(measured.clips)
    parts = [
        f"{spread_text(steps)} a step, of {counted(len(measured.steps), 'step')}"
        if measured.steps
        else "no steps",
        f"{spread_text(clips)} a clip of evaluation" if measured.clips else "no evaluation",
        f"{duration(measured.checkpoint)} a checkpoint",
        f"{size_text(measured.memory)} of memory"
        + (f", {size_text(measured.gpu_memory)} of the GPU's" if measured.gpu_memory else ""),
        f"{duration(measured.start)} until its process could begin",
    ]
    return "; ".join(parts)


def cells_table(left: Sequence[Left], estimates: Sequence[CellEstimate]) -> str:
    """A line for each cell that is to run; those of a search are examples, each once."""
    each = {estimate.title: (one, estimate) for one, estimate in zip(left, estimates, strict=True)}
    rows = [
        (
            one_line(estimate.title),
            one.state,
            spread_text(estimate.seconds),
            f"{counted(estimate.finished, 'cell')} like it that finished here"
            if estimate.finished
            else f"steps of configuration {estimate.alike + 1}",
        )
        for one, estimate in each.values()
    ]
    heads = ("cell", "state", "time", "from")
    return tabulate(rows, heads, tablefmt="simple", disable_numparse=True)


def summary(
    left: Sequence[Left],
    estimates: Sequence[CellEstimate],
    measured: Sequence[Measures],
    data: KnownData,
    price: float | None,
    runs: Path,
) -> list[str]:
    """Time, memory, disk, and money where a price is given, of all cells."""
    wall = wall_time(estimates, [one.start for one in measured])
    beside = " and ".join(str(n) for n in sorted({one.at_once for one in estimates}))
    lines = [f"time: {counted(len(left), 'cell')}, {beside} at a time: {spread_text(wall)}"]
    if data.sample:
        cores = os.cpu_count() or 1
        once = span_of([one.seconds for one in data.sample]).times(data.count / cores)
        wall = end_to_end(once, wall)
        lines[0] += (
            f", with preparing, {spread_text(once)} before it in"
            f" {counted(cores, 'process', 'processes')}: {spread_text(wall)}"
        )
    lines.append(_memory(left, estimates, measured))
    lines += _disk(estimates, measured, data, runs)
    if price is not None:
        low, high = (price * seconds / 3600 for seconds in (wall.low, wall.high))
        middle = price * wall.middle / 3600
        lines.append(
            f"money: {middle:.2f} ({low:.2f} to {high:.2f}) at {price:g} per hour of this machine"
        )
    return lines


def _memory(
    left: Sequence[Left], estimates: Sequence[CellEstimate], measured: Sequence[Measures]
) -> str:
    """The configuration that takes most of it, with all that runs beside each other."""
    needs = [
        (
            measured[estimate.alike].memory * estimate.at_once * one.cell.resources.workers,
            estimate.at_once * one.cell.resources.workers,
            measured[estimate.alike],
            one.cell.resources.gpus_per_worker,
        )
        for one, estimate in zip(left, estimates, strict=True)
    ]
    total, processes, most, _ = max(needs, key=lambda need: need[0])
    here = machine()["memory_gb"]
    text = (
        f"memory: {size_text(most.memory)} at the peak of a process, times"
        f" {counted(processes, 'process', 'processes')} at a time: {size_text(total)}"
        + (f", of {size_text(here * 2**30)} that this machine has" if here else "")
    )
    shares = [
        (of.gpu_memory, int(1 / gpus + 1e-9) if 0 < gpus < 1 else 1) for *_, of, gpus in needs
    ]
    own, on_one = max(shares, key=lambda share: share[0] * share[1])
    if own:
        text += (
            f"; of a GPU {size_text(own)}, times {on_one} that share it: {size_text(own * on_one)}"
        )
    return text


def _disk(
    estimates: Sequence[CellEstimate],
    measured: Sequence[Measures],
    data: KnownData,
    runs: Path,
) -> list[str]:
    folders = [measured[estimate.alike].folder_bytes for estimate in estimates]
    each = " to ".join(dict.fromkeys(map(size_text, (min(folders), max(folders)))))
    place = runs
    while not place.is_dir():
        place = place.parent
    free = size_text(shutil.disk_usage(place).free)
    lines = [
        f"disk: run folders {size_text(sum(folders))} ({each} each, of files that were written"
        f" once here), {free} free at {runs}"
    ]
    # Cells of all kinds do not run at once, so the largest stand for all.
    beside = max(estimate.at_once for estimate in estimates)
    working = max(measured[estimate.alike].working_bytes for estimate in estimates)
    if working:
        at_once = min(beside, len(estimates))
        lines[0] += (
            f"; while {counted(at_once, 'cell')} {'runs' if at_once == 1 else 'run'}, checkpoints"
            f" take {size_text(working * at_once)} more"
        )
    if data.sample:
        sizes = [one.size for one in data.sample]
        ends = " to ".join(dict.fromkeys(map(size_text, (min(sizes), max(sizes)))))
        lines.append(
            f"disk: prepared data {size_text(mean(sizes) * data.count)}"
            f" ({counted(data.count, 'video')}, {ends} each by a sample of {len(sizes)})"
        )
    return lines


def not_in_it(
    left: Sequence[Left], estimates: Sequence[CellEstimate], data: KnownData
) -> list[str]:
    """What no measurement says anything of, by name."""
    workers = max(one.cell.resources.workers for one in left)
    configs = [one.cell.config for one in left]
    processes = max(
        estimate.at_once * one.cell.resources.workers
        for one, estimate in zip(left, estimates, strict=True)
    )
    parts = [
        # Of two idle cores; they matter where cells take seconds.
        "Ray's own memory, its start (some 10 s), and what it takes a cell to begin (some 3 s, 15 s"
        " with several workers)",
        "anything else that this machine does then and did not do now, or the other way round",
    ]
    if processes > 1:
        parts.append(f"how far {processes} processes at a time slow each other")
    if workers > 1:
        parts.append(f"what {workers} workers tell each other in each step")
    if data.shards is None:
        parts.append("reading and decoding frames in each step")
        parts.append("the picture of a video's views in each run folder")
    if any(config.evaluation.protocols for config in configs):
        parts.append("scores of features once they are there (neighbours, silhouette)")
    if any(config.evaluation.online.every for config in configs):
        parts.append("neighbours and probes on the way")
    if data.made:
        parts.append("making the videos of the motion set")
    return [*parts, "cells that fail and run again"]
