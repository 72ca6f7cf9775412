"""What a command over a sweep reads: the cells' prepared data, and the folder of their runs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from vididi.config import Config
from vididi.data.storage import Folder, as_folder
from vididi.errors import ConfigError, DataError
from vididi.runs.mirror import local_path, pull, pulled
from vididi.sweep import Cell, Sweep

if TYPE_CHECKING:
    from vididi.data.shards import ShardSet


def run_at(address: str | None) -> Any:
    """Where to decode, for ensure_prepared: a Ray cluster, or without an address this machine,
    which needs no Ray.
    """
    if address is None:
        return None
    from vididi.cluster.ray_prepare import over_cluster

    return over_cluster(address)


def prepare_data(
    arguments: argparse.Namespace, sweep: Sweep, cells: list[Cell], console: Console
) -> tuple[ShardSet, dict[str, ShardSet]]:
    """The cells' data, and others by the title of the evaluation that is made on them. A cell that
    the data will not do for is refused.
    """
    from vididi.components import resolve_component
    from vididi.plans import make_plans
    from vididi.prepared import ensure_prepared
    from vididi.screen import PrepareBar

    bar = PrepareBar(console, "preparing videos")
    shards = ensure_prepared(
        one_data_set(cells), given_shards(arguments), bar, run=run_at(arguments.address)
    )
    console.print("\n".join([f"data: {shards.summary}, in {shards.root}", *shards.remarks]))
    for cell in cells:
        if short := len(make_plans(cell.config, shards).too_short):
            console.print(
                f"{cell.title}: {short} training videos are too short, result.json will list them"
            )
    others = {
        entry.title: ensure_prepared(
            cells[0].config.model_copy(update={"data": resolve_component("data", entry.data)}),
            None,
            bar,
        )
        for entry in sweep.evaluations
        if entry.data
    }
    return shards, others


def as_typed(message: str, typed: Mapping[str, str]) -> str:
    """A message about ``data.videos`` is about what was typed for it.

    Args:
        typed: by the name of a source's option, such as ``--videos``.
    """
    for name, word in typed.items():
        message = message.replace(f"data.{name}:", f"{word}:")
    return message


def named_shards(arguments: argparse.Namespace) -> Folder | None:
    """The folder that ``--shards`` names, if it is given; it is not looked at."""
    return as_folder(arguments.shards) if arguments.shards else None


def given_shards(arguments: argparse.Namespace) -> Folder | None:
    """The prepared data that ``--shards`` names, if it is given.

    Raises:
        DataError: none are there. A name that was misspelt must not have them prepared once more.
    """
    folder = named_shards(arguments)
    if folder is not None and not (folder / "manifest.json").is_file():
        raise DataError(
            f"--shards: {arguments.shards} holds no prepared data set (no manifest.json); `vididi"
            f" prepare ... --out {arguments.shards}` makes one, and without --shards the data are"
            " prepared into the cache"
        )
    return folder


def one_data_set(cells: list[Cell]) -> Config:
    """A configuration with the data of all cells, which must be the same."""
    first = cells[0].config
    for cell in cells:
        if (cell.config.data, cell.config.prepare) != (first.data, first.prepare):
            raise ConfigError(
                f"arm {cell.arm!r}: data and prepare must be the same in all cells of a sweep"
            )
    return first


def runs_of(arguments: argparse.Namespace, sweep: Sweep) -> Path:
    """Where the sweep's run folders are; of those in a store, what was written there so far."""
    runs = (local_path(arguments.runs) / sweep.name).resolve()
    pull(runs)
    return runs


def existing(text: str, field: str) -> Path:
    """A folder that a sweep file names in ``field``, as it is on this machine."""
    folder = pulled(text)
    if not folder.is_dir():
        raise ConfigError(f"{field}: {text!r} is not a folder; it is one that holds finished runs")
    return folder
