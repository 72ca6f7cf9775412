"""``prepare``, ``check`` and ``show``: a prepared data set is made, verified and looked at."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from vididi.checks import check_positive
from vididi.commands.arguments import overrides
from vididi.commands.inputs import as_typed, run_at
from vididi.config import build_config, read_yaml
from vididi.dotted_keys import nest
from vididi.errors import ConfigError, DataError
from vididi.interrupts import going_on
from vididi.terminal import PlainConsole, one_line, say
from vididi.words import counted

if TYPE_CHECKING:
    from vididi.data.shards import ShardSet

REJECTS = 3  # exit status of a preparation that is complete but for rejected videos


SOURCE_PATHS = ("videos", "splits", "list")
VIDEO_TIMEOUT_S = 600.0


PREPARE: dict[str, Any] = {
    "description": (
        "Decode videos once into a prepared data set: JPEG frames in Parquet shards, an index and a"
        " manifest. It goes on where it was killed. Exit status: 0 all videos, 3 some were"
        " rejected, which rejects.csv lists."
    ),
    "epilog": (
        "example: vididi prepare folder --videos clips --out shards/clips --short-side 40\n"
        "         vididi prepare csv --videos clips --list clips.csv --out shards/clips\n"
        "         vididi prepare ucf101 --videos UCF-101 --splits ucfTrainTestlist \\\n"
        "             --out shards/ucf101-2 --set split=2"
    ),
}


def add_prepare(parser: argparse.ArgumentParser) -> None:
    """Give a parser the arguments of ``prepare``, in groups."""
    parser.add_argument(
        "source",
        help=(
            "motion, folder (of class folders), csv, or a data set by name, such as ucf101"
            " (docs/data.md)"
        ),
    )
    _add_source_options(parser.add_argument_group("the source"))
    _add_frame_options(parser.add_argument_group("the prepared set"))
    _add_decoding_options(parser.add_argument_group("how it is made"))
    parser.set_defaults(run=prepare_command)


def _add_source_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--videos",
        type=Path,
        metavar="DIR",
        help="where the videos are, for sources that read files",
    )
    group.add_argument(
        "--splits",
        type=Path,
        metavar="DIR",
        help="where the data set's official lists are, for sources that have them",
    )
    group.add_argument(
        "--list",
        type=Path,
        metavar="FILE",
        help="the list of source csv: path,label or path,label,split",
    )
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the source: seed=1 or data.seed=1",
    )


def _add_frame_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--out", required=True, metavar="URI", help="where the shards go, a folder or s3://..."
    )
    group.add_argument("--short-side", type=int, default=150, help="pixels (default: 150)")
    group.add_argument("--quality", type=int, default=95, help="JPEG quality (default: 95)")
    group.add_argument(
        "--decoder",
        choices=("pyav", "decord"),
        default="pyav",
        help="decord: PyAV where it fails (default: pyav)",
    )


def _add_decoding_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--timeout",
        type=float,
        default=VIDEO_TIMEOUT_S,
        metavar="SECONDS",
        help=f"that one video may take (default: {VIDEO_TIMEOUT_S:.0f})",
    )
    group.add_argument(
        "--address",
        metavar="ADDRESS",
        help=(
            "decode on the Ray cluster at ADDRESS, or 'auto'; default: on all cores of this"
            " machine, or 'auto' where RAY_ADDRESS is set"
        ),
    )
    group.add_argument(
        "--strict", action="store_true", help="a rejected video is an error (status 1; without: 3)"
    )


def _source_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The source's options; paths absolute, so that what the manifest says of them holds in any
    folder.
    """
    options = {
        name.removeprefix("data."): value for name, value in overrides(arguments.set).items()
    }
    options |= {
        name: value for name in SOURCE_PATHS if (value := getattr(arguments, name)) is not None
    }
    return options | {
        name: str(Path(str(options[name])).expanduser().absolute())
        for name in SOURCE_PATHS
        if name in options
    }


def prepare_command(arguments: argparse.Namespace) -> int:
    """Make a prepared set; returns the exit status, REJECTS where videos were rejected."""
    try:
        check_positive(timeout=arguments.timeout)
    except ValueError as error:
        raise ConfigError(f"--{error}") from None
    going_on(arguments.command_line)
    from vididi.components import resolve
    from vididi.data.storage import as_folder
    from vididi.prepared import ensure_prepared, is_made_of
    from vididi.screen import PrepareBar

    address = arguments.address or ("auto" if os.environ.get("RAY_ADDRESS") else None)
    console = PlainConsole()
    bar = PrepareBar(console, "preparing videos")
    try:
        config = resolve(build_config(_prepare_values(arguments), "vididi prepare"))
        shards = ensure_prepared(
            config, as_folder(arguments.out), bar, arguments.timeout, run_at(address)
        )
    except (ConfigError, DataError) as error:
        given = [name for name in SOURCE_PATHS if getattr(arguments, name) is not None]
        typed = {name: f"--{name}" for name in given}
        raise type(error)(as_typed(str(error), typed)) from None
    finally:
        bar.progress.stop()

    manifest = shards.manifest
    if not is_made_of(manifest, config):
        raise DataError(
            f"{shards.root}: already holds another data set, {manifest.source} prepared with"
            f" {manifest.prepare}; give another folder"
        )
    _print_prepared(shards, console)
    if len(shards.index):
        look = ["vididi", "show", arguments.out, "--video", shards.column("video_id")[0]]
        console.print(f"next:  {shlex.join([*look, '--out', 'clip.png'])}")
    if manifest.rejects and arguments.strict:
        raise DataError(f"--strict: {counted(manifest.rejects, 'video')} {_were(manifest.rejects)}")
    return REJECTS if manifest.rejects else 0


def _prepare_values(arguments: argparse.Namespace) -> dict[str, Any]:
    """The configuration that the arguments say."""
    return {
        "data": {"name": arguments.source, **_source_options(arguments)},
        "prepare": {
            "short_side": arguments.short_side,
            "quality": arguments.quality,
            "decoder": arguments.decoder,
        },
    }


def _print_prepared(shards: ShardSet, console: Console) -> None:
    """What a prepared set holds, and where its rejects and notes are listed."""
    rejects = shards.manifest.rejects
    console.print("\n".join([f"{shards.summary}, in {shards.root}", *shards.remarks]))
    if rejects:
        console.print(f"{shards.root / 'rejects.csv'} says why {rejects} {_were(rejects)}")
    if (shards.root / "notes.csv").is_file():
        console.print(
            f"{shards.root / 'notes.csv'} says what was chosen of videos that hold several"
        )


def _were(rejects: int) -> str:
    return f"{'was' if rejects == 1 else 'were'} rejected"


CHECK: dict[str, Any] = {
    "description": (
        "Compare manifest, index and shards with each other, the frames of each video with their"
        " frames_sha256, and each frame's size with the index. Exit status: 0 all is as it was"
        " prepared, 1 something is not; each bad video is named."
    ),
    "epilog": "example: vididi check shards/clips",
}


def add_check(parser: argparse.ArgumentParser) -> None:
    """Give a parser the arguments of ``check``."""
    parser.add_argument(
        "shards", metavar="SHARDS", help="a prepared data set, a folder or s3://..."
    )
    parser.set_defaults(run=check_command)


def check_command(arguments: argparse.Namespace) -> int:
    """Compare each frame with the index, and print bad videos; returns the exit status."""
    from vididi.data.shards import ShardSet
    from vididi.data.storage import as_folder
    from vididi.data.verify import check_frames
    from vididi.screen import CheckBar

    shards, console = ShardSet.open(as_folder(arguments.shards)), PlainConsole()
    bad = 0
    with CheckBar(console, "checking videos", len(shards.index)) as bar:
        for count, faults in check_frames(shards):
            for video, reason in faults:
                console.print(f"{one_line(video)}: {reason}")
            bad += len(faults)
            bar.advance(count, len(faults))
    videos = f"{len(shards.index)} videos"
    verdict = (
        f"{bad} of {videos} are bad"
        if bad
        else f"all {shards.manifest.frames} frames of {videos} are as they were"
    )
    console.print(f"{shards.root}: {verdict}")
    return 1 if bad else 0


SHOW_OPTIONS = {
    "frames": "clip.frames",
    "stride": "clip.stride",
    "size": "clip.size",
    "augment": "augment.name",
    "seed": "training.seed",
}


SHOW: dict[str, Any] = {
    "description": (
        "Draw what the network sees of one video: two augmented clips, their velocities and their"
        " accelerations."
    ),
    "epilog": (
        "example: vididi show shards/clips --video train/jump/a.mp4 --out clip.png \\\n"
        "             --frames 8 --stride 2 --size 32\n"
        "         vididi show shards/clips --video train/jump/a.mp4 --out clip.png \\\n"
        "             --config one.yaml"
    ),
}


def add_show(parser: argparse.ArgumentParser) -> None:
    """Give a parser the arguments of ``show``, in groups."""
    parser.add_argument(
        "shards", metavar="SHARDS", help="a prepared data set, a folder or s3://..."
    )
    parser.add_argument(
        "--video",
        required=True,
        metavar="ID",
        help="which of its videos, by the path below --videos of `vididi prepare`",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="CLIP.png", help="the sheet")
    parser.add_argument(
        "--epoch", type=int, default=0, help="whose clips and augmentation, from 0 (default: 0)"
    )
    parser.add_argument_group("as a run sees it").add_argument(
        "--config",
        type=Path,
        metavar="CONFIG.yaml",
        help="its configuration, instead of the options below",
    )
    group = parser.add_argument_group("or by options")
    group.add_argument("--frames", type=int, help="T, frames of a view (default: 8)")
    group.add_argument("--stride", type=int, help="one source frame of every STRIDE (default: 3)")
    group.add_argument("--size", type=int, help="height and width of a view (default: 112)")
    group.add_argument("--augment", metavar="NAME", help="augmentation (default: vididi)")
    group.add_argument("--seed", type=int, help="seed of the run (default: 0)")
    parser.set_defaults(run=show_command)


def show_command(arguments: argparse.Namespace) -> int:
    """Write the sheet of one video; returns the exit status."""
    options = {
        key: value
        for name, key in SHOW_OPTIONS.items()
        if (value := getattr(arguments, name)) is not None
    }
    if arguments.config and options:
        raise ConfigError(
            f"--config: says {', '.join(options)} already; leave out the options for them, or"
            " --config"
        )
    if arguments.epoch < 0:
        raise ConfigError(f"--epoch: {arguments.epoch} is not valid; epochs count from 0")
    if arguments.out.suffix.lower() != ".png":
        raise ConfigError(
            f"--out: {arguments.out} must end in .png, which keeps the pixels as they are"
        )
    from vididi.data.shards import ShardSet
    from vididi.data.storage import as_folder
    from vididi.viewer import contact_sheet, view_config

    values = read_yaml(arguments.config) if arguments.config else nest(options)
    config = view_config(values, str(arguments.config or "vididi show"))
    sheet = contact_sheet(
        config, ShardSet.open(as_folder(arguments.shards)), arguments.video, arguments.epoch
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(arguments.out)
    say(f"{arguments.out}: {sheet.width} x {sheet.height} pixels")
    return 0
