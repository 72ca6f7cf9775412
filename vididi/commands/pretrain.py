"""``pretrain``: one run of a configuration, without a sweep and without Ray."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from vididi.commands.arguments import overrides
from vididi.config import build_config, flatten, nest, read_yaml
from vididi.startup_checks import warn_of_backbone
from vididi.terminal import PlainConsole, say


def add_pretrain(parser: argparse.ArgumentParser) -> None:
    """Give a parser the arguments of ``pretrain``."""
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml")
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
    parser.set_defaults(run=pretrain_command)


def pretrain_command(arguments: argparse.Namespace) -> int:
    """Train and measure one run, under torchrun too; returns the exit status."""
    values = flatten(read_yaml(arguments.config)) | flatten(overrides(arguments.set))
    config = build_config(nest(values), str(arguments.config))
    from vididi.components import resolve
    from vididi.data.storage import as_folder
    from vididi.data.stream import local_stream
    from vididi.experiment import run_cell
    from vididi.prepared import ensure_prepared
    from vididi.runs.mend import mend_run
    from vididi.runs.mirror import local_path, pull
    from vididi.screen import PrepareBar
    from vididi.training.context import local_context, rank_0_first

    if text := warn_of_backbone(config, gpu=False if arguments.device == "cpu" else None):
        say(text, file=sys.stderr)
    config = resolve(config, int(os.environ.get("WORLD_SIZE", "1")))
    out = local_path(arguments.out).resolve()
    shards_folder = as_folder(arguments.shards) if arguments.shards else None
    with local_context(arguments.device) as context:
        bar = PrepareBar(PlainConsole(stderr=True), "preparing videos")
        shards = rank_0_first(lambda: ensure_prepared(config, shards_folder, bar), context)
        cell: dict[str, Any] = {
            "sweep": None,
            "arm": out.name,
            "label": out.name,
            "axes": {},
            "seed": config.training.seed,
        }
        if context.rank == 0 and shards.remarks:
            bar.progress.console.print("\n".join(shards.remarks))

        def mend() -> None:
            pull(out)
            mend_run(out, config, cell, shards.manifest.checksum, print)

        rank_0_first(mend, context)
        result = run_cell(config, cell, out, shards, local_stream(shards), context)
        if context.rank == 0:
            say(f"finished: {arguments.out} in {result['seconds']:.0f} s")
    return 0
