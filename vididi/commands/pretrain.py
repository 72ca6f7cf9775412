"""``pretrain``: one run of a configuration, without a sweep and without Ray."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from vididi.cell_resources import Resources
from vididi.collector import collector_at_rest
from vididi.commands.arguments import add_grace, add_logger, grace_of, overrides
from vididi.commands.estimating import (
    add_estimate,
    check_price,
    estimate_cells,
    look_at_data,
)
from vididi.commands.inputs import given_shards
from vididi.config import Config, build_config, read_yaml
from vididi.dotted_keys import flatten, nest
from vididi.errors import ConfigError
from vididi.interrupts import going_on
from vididi.loggers.choices import LOGGERS, TENSORBOARD, check_installed
from vididi.startup_checks import warn_of_backbone
from vididi.sweep import Cell
from vididi.terminal import PlainConsole, say

OF_A_SWEEP = ("base", "arms", "axes", "seeds", "search")  # keys that no configuration has
PRETRAIN: dict[str, Any] = {
    "description": (
        "Train and measure one run of a configuration, without a sweep and without Ray; also under"
        " torchrun. A run folder's config.yaml is such a file, and `vididi config --defaults`"
        " prints one."
    ),
    "epilog": (
        "example: vididi pretrain config.yaml --shards shards/clips --out runs/one\n"
        "         vididi pretrain config.yaml --out runs/two --set training.epochs=50\n"
        "         vididi pretrain config.yaml --out runs/one --estimate --price 2.50"
    ),
}


def add_pretrain(parser: argparse.ArgumentParser) -> None:
    """Give a parser the arguments of ``pretrain``."""
    parser.add_argument(
        "config", type=Path, metavar="CONFIG.yaml", help="the configuration of one run"
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="URI",
        help="the run folder, or s3://...; a half-done run there goes on",
    )
    parser.add_argument(
        "--shards",
        metavar="URI",
        help="prepared data, a folder or s3://... (default: prepared once into the cache)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a configuration value",
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="default: cuda where there is one"
    )
    add_estimate(parser)
    add_logger(parser, "tensorboard")
    add_grace(parser)
    parser.set_defaults(run=pretrain_command)


def pretrain_command(arguments: argparse.Namespace) -> int:
    """Train and measure one run, under torchrun too; returns the exit status."""
    check_price(arguments)
    going_on(arguments.command_line, grace_of(arguments))
    config = _read_config(arguments)
    loggers = arguments.logger or list(TENSORBOARD)
    check_installed(loggers)
    with collector_at_rest():
        from vididi.components import resolve
        from vididi.data.stream import local_stream
        from vididi.experiment import run_cell
        from vididi.prepared import count_training_videos, ensure_prepared
        from vididi.runs.mend import mend_run
        from vididi.runs.mirror import local_path, pull
        from vididi.screen import PrepareBar
        from vididi.training.context import device_kind, local_context, rank_0_first

    workers = int(os.environ.get("WORLD_SIZE", "1"))
    written, config = config, resolve(config, workers, device_kind(arguments.device) == "cuda")
    out = local_path(arguments.out).resolve()
    shards_folder = given_shards(arguments)
    gpu = False if arguments.device == "cpu" else None
    if int(os.environ.get("RANK", "0")) == 0 and warn_of_backbone(written, gpu):
        videos = count_training_videos(config, shards_folder)
        if text := warn_of_backbone(written, gpu, videos):
            say(text, file=sys.stderr)
    if arguments.estimate:
        return estimate_run(arguments, config, out, workers)
    with local_context(arguments.device) as context:
        bar = PrepareBar(PlainConsole(stderr=True), "preparing videos")
        shards = rank_0_first(lambda: ensure_prepared(config, shards_folder, bar), context)
        cell: dict[str, Any] = {"sweep": None, "arm": out.name, "label": out.name, "axes": {}}
        cell["seed"] = config.training.seed
        if context.rank == 0 and shards.remarks:
            bar.progress.console.print("\n".join(shards.remarks))

        def mend() -> None:
            pull(out)
            mend_run(out, config, cell, shards.manifest.checksum, print)

        rank_0_first(mend, context)
        started = {**cell, LOGGERS: loggers}
        result = run_cell(config, started, out, shards, local_stream(shards), context)
        if context.rank == 0:
            say(f"finished: {arguments.out} in {result['seconds']:.0f} s")
    return 0


def _read_config(arguments: argparse.Namespace) -> Config:
    values = read_yaml(arguments.config)
    if ours := [key for key in OF_A_SWEEP if key in values]:
        raise ConfigError(
            f"{arguments.config}: {', '.join(ours)}: of a sweep file, which `vididi sweep"
            f" {arguments.config}` runs; pretrain takes the configuration of one run, such as a run"
            " folder's config.yaml"
        )
    values = flatten(values) | flatten(overrides(arguments.set))
    return build_config(nest(values), str(arguments.config))


def estimate_run(arguments: argparse.Namespace, config: Config, out: Path, workers: int) -> int:
    """``pretrain --estimate``: print what the run will take; returns the exit status.

    Raises:
        ConfigError: it was started as several workers, or for a GPU that is not there.
    """
    import torch

    if workers > 1:
        raise ConfigError(
            f"--estimate: measures one worker, and torchrun started {workers}; run it without"
        )
    there = torch.cuda.is_available()
    if arguments.device == "cuda" and not there:
        raise ConfigError(
            "--device: 'cuda' is not there; this machine has no GPU that torch can use"
        )
    gpu = there and arguments.device != "cpu"
    needs = Resources(gpus_per_worker=float(gpu), concurrency=1)
    cell = Cell(out.name, out.name, {}, config.training.seed, config, needs)
    data = look_at_data(config, arguments)
    estimate_cells(PlainConsole(), [cell], [out], data, arguments.price, out)
    return 0
