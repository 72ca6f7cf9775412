"""``embed`` and ``search``: video files become vectors, and find their like in a prepared set."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from vididi.collector import collector_at_rest
from vididi.commands.data_set import REJECTS, VIDEO_TIMEOUT_S
from vididi.errors import ConfigError, DataError
from vididi.terminal import PlainConsole, one_line
from vididi.words import counted

if TYPE_CHECKING:
    from vididi.data.shards import ShardSet
    from vididi.encoders import Encoder
    from vididi.feature_files import Embedded

EMBED: dict[str, Any] = {
    "description": (
        "A feature of each video, as the retrieval protocol computes it: the mean over its clips."
        " Videos that cannot be read are listed beside the features, in OUT.rejects.csv; the exit"
        " status is then 3."
    ),
    "epilog": (
        "example: vididi embed runs/clips/vididi-s0-1f2e3d4c5b6a clips/ more.mp4 \\\n"
        "             --out features.parquet"
    ),
}
SEARCH: dict[str, Any] = {
    "description": "The videos of a prepared set that are nearest to one video, by cosine.",
    "epilog": (
        "example: vididi search encoder.safetensors query.mp4 --in shards/clips \\\n"
        "             --out sheet.png"
    ),
}


def add_embed(parser: argparse.ArgumentParser) -> None:
    """Give a parser the arguments of ``embed``."""
    _add_encoder(parser)
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="videos, folders of them, or lists: .txt, a path a line; .csv with a column path",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="features.parquet, .csv, or .npy, with the paths in FILE.txt",
    )
    parser.add_argument(
        "--in",
        dest="shards",
        metavar="SHARDS",
        help=(
            "a prepared set: a video that is in it has the crops of its row there, and so the"
            " feature that an evaluation gives it; else crops are drawn by the file's content"
        ),
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=VIDEO_TIMEOUT_S,
        metavar="SECONDS",
        help=f"that decoding one video may take (default: {VIDEO_TIMEOUT_S:.0f})",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that decode (default: one per core)"
    )
    parser.set_defaults(run=embed_command)


def add_search(parser: argparse.ArgumentParser) -> None:
    """Give a parser the arguments of ``search``."""
    _add_encoder(parser)
    parser.add_argument("query", type=Path, metavar="QUERY", help="a video file")
    parser.add_argument(
        "--in",
        dest="shards",
        required=True,
        metavar="SHARDS",
        help="the prepared set to look in, a folder or s3://...",
    )
    parser.add_argument("--top", type=int, default=10, metavar="N", help="how many (default: 10)")
    parser.add_argument(
        "--out", type=Path, metavar="SHEET.png", help="a sheet of the query and what was found"
    )
    parser.set_defaults(run=search_command)


def _add_encoder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "encoder", metavar="RUN|FILE", help="a finished run, or its encoder.safetensors anywhere"
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="default: cuda where there is one"
    )


def embed_command(arguments: argparse.Namespace) -> int:
    """Write the features of videos; returns the exit status, REJECTS where some were rejected."""
    from vididi.feature_files import SUFFIXES, listed_videos, write_features, write_rejects

    out: Path = arguments.out
    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--out: {out} is not valid; it must end in {', '.join(SUFFIXES)}")
    for name, least in (("timeout", 0), ("workers", 1)):
        value = getattr(arguments, name)
        if value is not None and not (value >= least and value > 0):
            raise ConfigError(f"--{name}: {value:g} is not valid; it must be above 0")
    console = PlainConsole()
    encoder, shards = _opened(arguments)
    videos, notes = listed_videos(arguments.paths)
    console.print("\n".join([*notes, *_warnings(encoder, shards)]), end="\n" if notes else "")
    embedded, rejects = _embedded(encoder, shards, videos, arguments, console)
    table = write_rejects(out, rejects)
    if not embedded:
        raise DataError(
            f"none of {counted(len(videos), 'video')} could be embedded; the first:"
            f" {rejects[0].path}: {rejects[0].reason}"
        )
    write_features(out, embedded, encoder.width)
    console.print(
        f"{out}: {counted(len(embedded), 'video')}, {encoder.width} features each"
        + _found(embedded, shards)
    )
    if rejects:
        were = "was" if len(rejects) == 1 else "were"
        console.print(f"{table} says why {len(rejects)} {were} rejected")
    return REJECTS if rejects else 0


def _found(embedded: list[Embedded], shards: ShardSet | None) -> str:
    if shards is None:
        return ""
    return f"; {sum(video.row is not None for video in embedded)} of them are in {shards.root}"


def _warnings(encoder: Encoder, shards: ShardSet | None) -> list[str]:
    if encoder.spec.batch_norm == "recomputed" and shards is None:
        return [
            "warning: the run was evaluated with batch_norm: recomputed; without --in, the data"
            " that it was trained on, features are those of batch_norm: running\n"
        ]
    return []


def _opened(arguments: argparse.Namespace) -> tuple[Encoder, ShardSet | None]:
    """The encoder, with the statistics that its run was evaluated with, and the set of --in."""
    with collector_at_rest():
        from vididi.data.shards import ShardSet
        from vididi.data.storage import as_folder
        from vididi.encoders import Encoder
        from vididi.training.context import device_kind

    encoder = Encoder.load(arguments.encoder, device_kind(arguments.device))
    if arguments.shards is None:
        return encoder, None
    shards = ShardSet.open(as_folder(arguments.shards))
    return encoder.with_statistics(shards), shards


def _embedded(
    encoder: Encoder,
    shards: ShardSet | None,
    videos: list[Path],
    arguments: argparse.Namespace,
    console: Console,
) -> tuple[list[Embedded], list[Any]]:
    """Features of the videos, in their order, and those that have none."""
    from functools import partial

    from vididi.data.encode import Encoded, Reject, Settings, encode_video
    from vididi.data.single import as_video, row_in
    from vididi.data.workers import Failed, run_apart
    from vididi.feature_files import Embedded
    from vididi.screen import PrepareBar

    settings = encoder.settings if shards is None else Settings(**shards.manifest.prepare)
    items = [as_video(path) for path in videos]
    workers = arguments.workers or os.cpu_count() or 1
    bar = PrepareBar(console, "embedding videos")
    embedded: list[Embedded] = []
    rejects: list[Any] = []
    results = run_apart(partial(encode_video, settings=settings), items, workers, arguments.timeout)
    try:
        with closing(results):
            for video, result in zip(items, results, strict=True):
                if isinstance(result, Failed):
                    result = Reject(video.video_id, str(video.path), result.reason)
                if isinstance(result, Encoded):
                    row = None if shards is None else row_in(shards, result)
                    feature = encoder.embed(result, shards)
                    embedded.append(Embedded(video.video_id, result.source_sha256, row, feature))
                else:
                    rejects.append(result)
                bar(len(embedded) + len(rejects), len(items), len(rejects))
    finally:
        bar.progress.stop()
    return embedded, rejects


def search_command(arguments: argparse.Namespace) -> int:
    """Print the nearest videos of a set; returns the exit status."""
    if arguments.top < 1:
        raise ConfigError(f"--top: {arguments.top} is not valid; it must be at least 1")
    if arguments.out and arguments.out.suffix.lower() != ".png":
        raise ConfigError(f"--out: {arguments.out} is not valid; it must end in .png")
    from vididi.data.single import row_in
    from vididi.neighbours import kept_features, nearest_rows, neighbour_sheet
    from vididi.runs.mirror import local_path

    console = PlainConsole()
    encoder, shards = _opened(arguments)
    assert shards is not None
    query = encoder.encode(arguments.query, shards)
    own = row_in(shards, query)
    if own is not None:
        console.print(
            f"{arguments.query} is {shards.column('video_id')[own]} of the set, which is left out"
        )
    # Of a file alone nobody keeps any: the folder that it lies in is not its run.
    kept = kept_features(local_path(arguments.encoder), encoder.description, shards)
    features = _of_set(encoder, shards, console) if kept is None else kept
    rows, similar = nearest_rows(encoder.embed(query, shards), features, arguments.top, own)
    names, classes = (shards.column(name) for name in ("video_id", "class_name"))
    for rank, (row, value) in enumerate(zip(rows.tolist(), similar.tolist(), strict=True), 1):
        label = f"  {one_line(classes[row])}" if classes[row] else ""
        console.print(f"{rank:>3}  {value:.4f}  {one_line(names[row])}{label}")
    if arguments.out:
        sheet = neighbour_sheet(query, str(arguments.query), shards, rows, similar)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(arguments.out)
        console.print(f"{arguments.out}: {sheet.width} x {sheet.height} pixels")
    return 0


def _of_set(encoder: Encoder, shards: ShardSet, console: Console) -> Any:
    """The features of all videos of a set, with a bar."""
    import numpy as np

    from vididi.screen import CheckBar

    with CheckBar(console, "embedding the set", len(shards.index)) as bar:
        done = 0

        def progress(batch: int, batches: int) -> None:
            nonlocal done
            now = round(batch / batches * len(shards.index))
            bar.advance(now - done, 0)
            done = now

        report: Callable[[int, int], None] = progress
        return encoder.embed_rows(shards, np.arange(len(shards.index)), report)
