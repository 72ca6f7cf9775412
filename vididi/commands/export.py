"""``export``: an encoder in a form that another program reads."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vididi.terminal import say

FORMS = ("safetensors", "torch_export", "standalone", "onnx")
EXPORT: dict[str, Any] = {
    "description": (
        "Write an encoder for others, with a model card beside it. What was written is loaded again"
        " and must give the same features."
    ),
    "epilog": (
        "example: vididi export runs/clips/vididi-s0-1f2e3d4c5b6a \\\n"
        "             --format standalone --out encoder/"
    ),
}


def add_export(parser: argparse.ArgumentParser) -> None:
    """Give a parser the arguments of ``export``."""
    parser.add_argument(
        "encoder", metavar="RUN|FILE", help="a finished run, or its encoder.safetensors anywhere"
    )
    parser.add_argument(
        "--format",
        required=True,
        choices=FORMS,
        help=(
            "weights that describe themselves; a graph for torch.export.load; the weights and one"
            " Python file; ONNX, with the extra export"
        ),
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="PATH", help="a folder, or a file of the format"
    )
    parser.add_argument(
        "--licence",
        metavar="ID",
        help="of the weights, as the Hub writes it, such as cc-by-4.0 (default: other)",
    )
    parser.set_defaults(run=export_command)


def export_command(arguments: argparse.Namespace) -> int:
    """Write the encoder and its card; returns the exit status."""
    from vididi.encoders import Encoder
    from vididi.exporting import export_encoder

    encoder = Encoder.load(arguments.encoder)
    for path in export_encoder(encoder, arguments.format, arguments.out, arguments.licence):
        say(path)
    return 0
