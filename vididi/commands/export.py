"""``export``: an encoder in a form that another program reads."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vididi.collector import collector_at_rest
from vididi.errors import ConfigError
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
        "--out",
        type=Path,
        metavar="PATH",
        help="a folder, or a file of the format; may be left out with --push",
    )
    parser.add_argument(
        "--licence",
        metavar="ID",
        help="of the weights, as the Hub writes it, such as cc-by-4.0 (default: other)",
    )
    group = parser.add_argument_group("to the Hugging Face Hub, with the extra hub")
    group.add_argument(
        "--push",
        metavar="OWNER/NAME",
        help="upload it there in one commit; a repository that is missing is made",
    )
    group.add_argument(
        "--public", action="store_true", help="make it for everybody to see (default: private)"
    )
    group.add_argument(
        "--dry-run", action="store_true", help="list what would be uploaded, with sizes; then stop"
    )
    parser.set_defaults(run=export_command)


def export_command(arguments: argparse.Namespace) -> int:
    """Write the encoder and its card, and push them; returns the exit status."""
    _check_places(arguments)
    with collector_at_rest():
        from vididi.encoders import Encoder
        from vididi.exporting import export_encoder
        from vididi.hub import check_repository, hub_api, hub_files, push_files, sizes_text

    api = None
    if arguments.push:
        check_repository(arguments.push)
        api = None if arguments.dry_run else hub_api()
    encoder = Encoder.load(arguments.encoder)
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(TemporaryDirectory()))
        out = arguments.out or temporary / "export"
        written = export_encoder(encoder, arguments.format, out, arguments.licence)
        for path in written if arguments.out else ():
            say(path)
        if not arguments.push:
            return 0
        files = hub_files(written, encoder.description, temporary)
        say(sizes_text(files))
        if api is None:
            say(f"nothing was uploaded to {arguments.push}: --dry-run")
            return 0
        say(f"pushed to {push_files(files, arguments.push, api, private=not arguments.public)}")
    return 0


def _check_places(arguments: argparse.Namespace) -> None:
    """Raise ConfigError where it is not said where the encoder goes."""
    if arguments.out is None and arguments.push is None:
        raise ConfigError("--out: is missing; give PATH, or --push OWNER/NAME")
    for option in ("public", "dry_run"):
        if getattr(arguments, option) and not arguments.push:
            raise ConfigError(f"--{option.replace('_', '-')}: is of --push OWNER/NAME; give it too")
