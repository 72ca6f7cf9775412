"""``--dry-run``: the cells, which of them are finished, and whether their data are there.

Nothing is made, prepared or fetched: what lies in an object store is named and not looked at.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from vididi.commands.cells import print_cells
from vididi.commands.inputs import given_shards, one_data_set
from vididi.errors import VididiError
from vididi.runs.mirror import local_path
from vididi.runs.outcome import outcome
from vididi.sweep import Cell, Sweep
from vididi.words import counted

if TYPE_CHECKING:
    from vididi.data.shards import ShardSet


def preview(
    arguments: argparse.Namespace, console: Console, sweep: Sweep, cells: list[Cell]
) -> None:
    """Print the cells with what became of them so far, and what is known of their data."""
    shards, lines = _data(arguments, cells)
    if sweep.searching:
        print_cells(console, cells, sweep)
    else:
        runs = (local_path(arguments.runs) / sweep.name).resolve()
        states = _states(cells, runs, shards, stopping=sweep.stopping is not None)
        print_cells(console, cells, sweep, states)
        counts = ", ".join(f"{number} {state}" for state, number in Counter(states).items())
        console.print(f"runs: {counts}, in {arguments.runs}{_unseen(arguments.runs)}")
    console.print("\n".join(f"data: {line}" for line in lines))


def _unseen(uri: str) -> str:
    return " (as fetched before; the store was not looked at)" if "://" in str(uri) else ""


def _states(cells: list[Cell], runs: Path, shards: ShardSet | None, stopping: bool) -> list[str]:
    """Of each cell: finished, stopped, failed, half-done or to run.

    A run is of one data set; without one that is prepared no cell has begun.
    """
    if shards is None or not runs.is_dir():
        return ["to run"] * len(cells)
    folders = [cell.find_folder(runs, shards.manifest.checksum) for cell in cells]
    return [
        outcome(folder, stopping) or ("half-done" if folder.is_dir() else "to run")
        for folder in folders
    ]


def _data(arguments: argparse.Namespace, cells: list[Cell]) -> tuple[ShardSet | None, list[str]]:
    """The prepared set, if it is here, and sentences on the data."""
    from vididi.data.shards import ShardSet
    from vididi.prepared import find_data

    config = one_data_set(cells)
    if "://" in (arguments.shards or ""):
        return None, [f"{arguments.shards} is in a store, which was not looked at"]
    try:
        folder = given_shards(arguments)
        if folder is None:
            place = find_data(config)
            if place.made:
                return None, ["the motion set is not made yet; it is made when the sweep is run"]
            if place.shards is None:
                there = f"{place.files} of {counted(place.listed, 'listed video')}"
                return None, [f"not prepared yet; {there} {_are(place.files)} there"]
            folder = place.shards
        shards = ShardSet.open(folder)
    except VididiError as error:
        return None, [f"problem: {error}"]
    return shards, [f"{shards.summary}, in {shards.root}", *_fit(cells, shards)]


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _fit(cells: list[Cell], shards: ShardSet) -> list[str]:
    """Whether the videos are long enough for the clips, and do for what is measured; each thing
    once, with the first cell that it is of.
    """
    from vididi.data.plan import frame_counts
    from vididi.data.sampling import span
    from vididi.plans import make_plans

    train = frame_counts(shards)[shards.rows("train")]
    said: dict[str, str] = {}
    seen: set[str] = set()
    for cell in cells:
        config = cell.config
        asked = repr((config.clip, config.sampling, config.training.batch_size, config.evaluation))
        if asked in seen:
            continue
        seen.add(asked)
        try:
            short = len(make_plans(config, shards).too_short)
        except VididiError as error:
            said.setdefault(f"problem: {error}", cell.title)
            continue
        if short:
            what = f"{counted(short, 'training video')} {_are(short)} too short for"
            said.setdefault(f"{what} {_clips(cell)} and left out", cell.title)
        elif below := int((train < span(config.clip.length, config.clip.stride)).sum()):
            what = f"{counted(below, 'training video')} {_are(below)} shorter than one of"
            said.setdefault(f"{what} {_clips(cell)}; there a clip starts over", cell.title)
    return [f"{text} ({title})" for text, title in said.items()] or [
        "all training videos are long enough for the clips"
    ]


def _clips(cell: Cell) -> str:
    clip = cell.config.clip
    return f"{clip.per_video} clips of {clip.length} frames at stride {clip.stride}"
