"""``--dry-run``: the cells, which of them are finished, and whether their data are there.

Nothing is made, prepared or fetched: what lies in an object store is named and not looked at.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
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
    from vididi.data.video import Video


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
                said = "the motion set is not made yet; it is made when the sweep is run"
                return None, [said, *_motion_fit(cells)]
            if place.shards is None:
                there = f"{place.files} of {counted(place.listed, 'listed video')}"
                said = f"not prepared yet; {there} {_are(place.files)} there"
                return None, [said, *_raw_fit(cells, place.videos)]
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
    from vididi.plans import make_plans

    train = frame_counts(shards)[shards.rows("train")]
    said: dict[str, str] = {}
    for cell in _of_each_clip(cells):
        try:
            short = len(make_plans(cell.config, shards).too_short)
        except VididiError as error:
            said.setdefault(f"problem: {error}", cell.title)
            continue
        if text := _too_short(cell, train, short):
            said.setdefault(text, cell.title)
    return [f"{text} ({title})" for text, title in said.items()] or [
        "all training videos are long enough for the clips"
    ]


def _of_each_clip(cells: list[Cell]) -> list[Cell]:
    """The first cell of each way to take clips."""
    found: dict[str, Cell] = {}
    for cell in cells:
        config = cell.config
        asked = repr((config.clip, config.sampling, config.training.batch_size, config.evaluation))
        found.setdefault(asked, cell)
    return list(found.values())


def _too_short(cell: Cell, frames: NDArray[np.int64], short: int) -> str:
    """What of training videos of so many ``frames`` ``[V]`` is too short for a cell; else empty.

    Args:
        short: in how many of them its sampling cannot place the clips.
    """
    from vididi.data.sampling import span

    clip = cell.config.clip
    if short:
        what = f"{counted(short, 'training video')} {_are(short)} too short for"
        return f"{what} {_clips(cell)} and left out"
    if below := int((frames < span(clip.length, clip.stride)).sum()):
        what = f"{counted(below, 'training video')} {_are(below)} shorter than one of"
        return f"{what} {_clips(cell)}; there a clip starts over"
    return ""


def _motion_fit(cells: list[Cell]) -> list[str]:
    """``_fit`` of the motion set before it is made: all its videos are as long."""
    options = cells[0].config.data.options
    return _unprepared_fit(cells, np.full(options["train"], options["frames"]))


def _raw_fit(cells: list[Cell], videos: Sequence[Video]) -> list[str]:
    """``_fit`` of some videos that are not prepared, by what their containers say."""
    from vididi.data.survey import look_at_lengths

    train = [video for video in videos if video.split == "train"]
    if not train:
        return []
    lengths = look_at_lengths(train)
    looked = f"of {lengths.asked} that were looked at, of {counted(len(train), 'training video')}"
    told = f"frames by their containers, {looked}, spread over the list"
    more = [f"{told}: {_range(lengths.counts)}"]
    if lengths.unreadable:
        more.append(f"problem: {lengths.unreadable} {looked}, cannot be opened")
    if silent := lengths.asked - len(lengths.counts) - lengths.unreadable:
        more.append(f"{silent} {looked}, {'does' if silent == 1 else 'do'} not say how long")
    if not lengths.counts:
        return more
    return [*more, *(f"{line}, {looked}" for line in _unprepared_fit(cells, lengths.counts))]


def _range(counts: Sequence[int]) -> str:
    return f"{min(counts)} to {max(counts)}" if counts else "unknown"


def _unprepared_fit(cells: list[Cell], frames: ArrayLike) -> list[str]:
    from vididi.components import make_sampling

    counts = np.asarray(frames, dtype=np.int64)
    said: dict[str, str] = {}
    for cell in _of_each_clip(cells):
        clip = cell.config.clip
        assert clip.per_video is not None  # resolve fills it in
        possible = make_sampling(cell.config).possible(
            counts, clip.per_video, clip.length, clip.stride
        )
        if text := _too_short(cell, counts, int((~possible).sum())):
            said.setdefault(text, cell.title)
    return [f"{text} ({title})" for text, title in said.items()] or [
        "all training videos are long enough for the clips"
    ]


def _clips(cell: Cell) -> str:
    clip = cell.config.clip
    return f"{clip.per_video} clips of {clip.length} frames at stride {clip.stride}"
