"""The ``vididi`` command."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from vididi import __version__
from vididi.checks import check_positive
from vididi.commands.arguments import COMMANDS, add_arguments, overrides
from vididi.commands.inputs import run_at
from vididi.commands.results import PICTURES, compare, plot, table
from vididi.config import build_config, flatten, nest, read_yaml, validate
from vididi.errors import ConfigError, DamagedError, DataError, VididiError
from vididi.protocols import EVALUATIONS, EvaluationEntry, EvaluationProtocol
from vididi.terminal import Parser, PlainConsole, one_line, say
from vididi.words import counted

# What the help lists, group by group. A command of a sweep has the arguments of run_sweep.py's
# (vididi/commands/arguments.py).
HELP = {
    "prepared data": {
        "prepare": "decode videos once, into Parquet shards",
        "check": "compare every frame of a prepared data set with what its index says",
        "show": "draw what the network sees of one video",
    },
    "sweeps, over Ray": {
        "sweep": "run the cells of a sweep file that are not finished, and print its table",
        "status": "what became of each cell so far; runs nothing",
        "extend": "run the cells with more seeds",
        "rerun": "run only the cells that failed",
    },
    "single runs": {
        "pretrain": "one run of a configuration, without a sweep and without Ray",
        "evaluate": "measure finished encoders by a protocol of the papers",
    },
    "results": {
        "table": "one of the papers' tables from run folders, measured beside printed",
        "compare": "the difference between two arms or folders of runs, with its interval",
        "plot": "a picture of run folders: " + ", ".join(PICTURES),
    },
}

# Programs of their own, whose arguments are read only where they are asked for.
PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "table": table,
    "compare": partial(compare, prog="vididi compare"),
    "plot": plot,
}


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 the run failed, 2 it cannot be run as written, 3 videos were rejected
    while preparing; those of the commands over a sweep are run_sweep.py's."""
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in PROGRAMS:
        return PROGRAMS[argv[0]](argv[1:])
    parser = make_parser()
    _complete(parser)
    arguments = parser.parse_args(argv, argparse.Namespace(command_line=["vididi", *argv]))
    if not hasattr(arguments, "run"):
        parser.print_help()
        return 0
    try:
        return arguments.run(arguments)
    except VididiError as error:
        PlainConsole(stderr=True).print(f"error: {error}")
        return 2 if isinstance(error, ConfigError) else 1


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = Parser(
        prog="vididi",
        usage="%(prog)s [-h] [--version] COMMAND ...",
        description="Self-supervised video pretraining with temporal derivatives.\n\n" + _listed(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Each command has --help.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(prog="vididi", metavar="COMMAND", help=argparse.SUPPRESS)
    _add_prepare(commands.add_parser("prepare"))
    _add_check(commands.add_parser("check", **CHECK))
    _add_show(commands.add_parser("show"))
    _add_pretrain(commands.add_parser("pretrain"))
    _add_evaluate(commands.add_parser("evaluate"))
    for command, about in COMMANDS.items():
        name = "sweep" if command == "run" else command
        _add_sweep(commands.add_parser(name, description=about), command)
    for name in PROGRAMS:
        commands.add_parser(name)  # so that a list of commands has it; main calls it
    return parser


def _complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks what may come next, where argcomplete is installed: ``eval
    "$(register-python-argcomplete vididi)"``.
    """
    if "_ARGCOMPLETE" not in os.environ:  # which that sets in the shell's question alone
        return
    from argcomplete import autocomplete

    autocomplete(parser)


def _listed() -> str:
    """The commands by group, a line each."""
    groups = (
        f"{group}:\n" + "\n".join(f"  {name:<10}{text}" for name, text in texts.items())
        for group, texts in HELP.items()
    )
    return "\n\n".join(groups)


def _add_sweep(parser: argparse.ArgumentParser, command: str) -> None:
    add_arguments(parser, command)
    parser.set_defaults(run=sweep)


def sweep(arguments: argparse.Namespace) -> int:
    """``sweep``, ``status``, ``extend`` and ``rerun``: what run_sweep.py does with the same
    arguments.
    """
    from vididi.commands.program import execute

    return execute(arguments, "vididi", arguments.command_line)


REJECTS = 3  # exit status of a preparation that is complete but for rejected videos
SOURCE_PATHS = ("videos", "splits", "list")


def _add_prepare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        help=(
            "motion, folder (of class folders), csv, or a data set by name, such as ucf101"
            " (docs/data.md)"
        ),
    )
    parser.add_argument(
        "--videos",
        type=Path,
        metavar="DIR",
        help="where the videos are, for sources that read files",
    )
    parser.add_argument(
        "--splits",
        type=Path,
        metavar="DIR",
        help="where the data set's official lists are, for sources that have them",
    )
    parser.add_argument(
        "--list",
        type=Path,
        metavar="FILE",
        help="the list of source csv: path,label or path,label,split",
    )
    parser.add_argument(
        "--out", required=True, metavar="URI", help="where the shards go, a folder or s3://..."
    )
    parser.add_argument("--short-side", type=int, default=150, help="pixels (default: 150)")
    parser.add_argument("--quality", type=int, default=95, help="JPEG quality (default: 95)")
    parser.add_argument(
        "--decoder",
        choices=("pyav", "decord"),
        default="pyav",
        help="decord: PyAV where it fails (default: pyav)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the source: seed=1 or data.seed=1",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="that one video may take (default: 600)",
    )
    parser.add_argument(
        "--address",
        metavar="ADDRESS",
        help=(
            "decode on the Ray cluster at ADDRESS, or 'auto'; default: on all cores of this"
            " machine, or 'auto' where RAY_ADDRESS is set"
        ),
    )
    parser.add_argument(
        "--strict", action="store_true", help="a rejected video is an error (status 1; without: 3)"
    )
    parser.set_defaults(run=prepare)


CHECK: dict[str, Any] = {
    "formatter_class": argparse.RawDescriptionHelpFormatter,
    "description": (
        "Compare manifest, index and shards with each other, the frames of each video with their"
        " frames_sha256, and each\nframe's size with the index. Exit status: 0 all is as it was"
        " prepared, 1 something is not; each bad video is named."
    ),
    "epilog": "example: vididi check shards/ucf101-2",
}


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shards", metavar="SHARDS", help="a prepared data set, a folder or s3://..."
    )
    parser.set_defaults(run=check)


SHOW_OPTIONS = {
    "frames": "clip.frames",
    "stride": "clip.stride",
    "size": "clip.size",
    "augment": "augment.name",
    "seed": "training.seed",
}


def _add_show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shards", metavar="SHARDS", help="a prepared data set, a folder or s3://..."
    )
    parser.add_argument(
        "--video", required=True, metavar="ID", help="video_id of one of its videos"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="CLIP.png", help="the sheet")
    parser.add_argument(
        "--epoch", type=int, default=0, help="whose clips and augmentation, from 0 (default: 0)"
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="CONFIG.yaml",
        help="show what this run sees, instead of the options below",
    )
    parser.add_argument("--frames", type=int, help="T, frames of a view (default: 8)")
    parser.add_argument("--stride", type=int, help="one source frame of every STRIDE (default: 3)")
    parser.add_argument("--size", type=int, help="height and width of a view (default: 112)")
    parser.add_argument("--augment", metavar="NAME", help="augmentation (default: vididi)")
    parser.add_argument("--seed", type=int, help="seed of the run (default: 0)")
    parser.set_defaults(run=show)


def _add_pretrain(parser: argparse.ArgumentParser) -> None:
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
    parser.set_defaults(run=pretrain)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    protocols = parser.add_subparsers(required=True, metavar="PROTOCOL", dest="protocol")
    for name, protocol in EVALUATIONS.items():
        _add_protocol(protocols.add_parser(name, help=protocol.help), protocol)
    _add_ava_map(
        protocols.add_parser(
            "ava-map", help="mean average precision of a file of predictions in AVA's layout"
        )
    )


def _add_protocol(parser: argparse.ArgumentParser, protocol: EvaluationProtocol) -> None:
    recipes = list(protocol.recipes)
    parser.add_argument(
        "folders",
        nargs="+",
        metavar="RUN",
        help="run folders, or folders (s3://...) that hold some; results go into them",
    )
    parser.add_argument(
        "--shards",
        metavar="URI",
        help="another prepared data set, a folder or s3://... (default: the run's own)",
    )
    if recipes:
        parser.add_argument(
            "--recipe",
            choices=recipes,
            default=recipes[0],
            help=f"which paper's (default: {recipes[0]})",
        )
    else:
        parser.set_defaults(recipe=None)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting, such as epochs=20",
    )
    parser.add_argument(
        "--no-untrained",
        action="store_true",
        help="do not measure the encoder before its first step too",
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="default: cuda where there is one"
    )
    what = "actors that compute features" if protocol.shares == "features" else "runs at a time"
    parser.add_argument(
        "--address",
        metavar="ADDRESS",
        help="measure on the Ray cluster at ADDRESS, or 'auto'; default: on this machine",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help=f"{what} (default: as many as the cluster has room for)",
    )
    parser.add_argument(
        "--cpus-per-worker", type=int, metavar="N", help="CPUs of each (default: 1)"
    )
    parser.add_argument(
        "--gpus-per-worker",
        type=float,
        metavar="N",
        help="GPUs of each, or a fraction (default: 1 where there are any)",
    )
    parser.set_defaults(run=evaluate)


def _add_ava_map(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ground-truth",
        type=Path,
        required=True,
        metavar="GT.csv",
        help="such as ava_val_v2.2.csv",
    )
    parser.add_argument(
        "--predictions",
        type=Path,
        required=True,
        metavar="PRED.csv",
        help="video_id,second,x1,y1,x2,y2,action_id,score",
    )
    parser.add_argument(
        "--labels",
        type=Path,
        required=True,
        metavar="LIST.pbtxt",
        help="the actions that are scored, AVA's list of the 60",
    )
    parser.add_argument(
        "--excluded", type=Path, metavar="FILE.csv", help="key frames to leave out: video_id,second"
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=50,
        metavar="N",
        help="the best-scored N of a key frame; 0: all (default: 50, AVA's)",
    )
    parser.add_argument(
        "--ignore-unannotated",
        action="store_true",
        help=(
            "leave out predictions in key frames that the ground truth does not list; default: they"
            " are false positives"
        ),
    )
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the result there too")
    parser.set_defaults(run=evaluate_ava_map)


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


def prepare(arguments: argparse.Namespace) -> int:
    try:
        check_positive(timeout=arguments.timeout)
    except ValueError as error:
        raise ConfigError(f"--{error}") from None
    from vididi.components import resolve
    from vididi.data.storage import as_folder
    from vididi.prepared import ensure_prepared, is_made_of
    from vididi.screen import PrepareBar

    console = PlainConsole()
    values = {
        "data": {"name": arguments.source, **_source_options(arguments)},
        "prepare": {
            "short_side": arguments.short_side,
            "quality": arguments.quality,
            "decoder": arguments.decoder,
        },
    }
    config = resolve(build_config(values, "vididi prepare"))
    address = arguments.address or ("auto" if os.environ.get("RAY_ADDRESS") else None)
    bar = PrepareBar(console, "preparing videos")
    try:
        shards = ensure_prepared(
            config, as_folder(arguments.out), bar, arguments.timeout, run_at(address)
        )
    finally:
        bar.progress.stop()
    m = shards.manifest
    if not is_made_of(m, config):
        raise DataError(
            f"{shards.root}: already holds another data set, {m.source} prepared with {m.prepare};"
            " give another folder"
        )
    console.print("\n".join([f"{shards.summary}, in {shards.root}", *shards.remarks]))
    if m.rejects:
        console.print(
            f"{shards.root / 'rejects.csv'} says why {m.rejects}"
            f" {'was' if m.rejects == 1 else 'were'} rejected"
        )
    if (shards.root / "notes.csv").is_file():
        console.print(
            f"{shards.root / 'notes.csv'} says what was chosen of videos that hold several"
        )
    if m.rejects and arguments.strict:
        raise DataError(
            f"--strict: {counted(m.rejects, 'video')} {'was' if m.rejects == 1 else 'were'}"
            " rejected"
        )
    return REJECTS if m.rejects else 0


def check(arguments: argparse.Namespace) -> int:
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
    found = (
        f"{bad} of {videos} are bad"
        if bad
        else f"all {shards.manifest.frames} frames of {videos} are as they were"
    )
    console.print(f"{shards.root}: {found}")
    return 1 if bad else 0


def show(arguments: argparse.Namespace) -> int:
    given = {
        key: value
        for name, key in SHOW_OPTIONS.items()
        if (value := getattr(arguments, name)) is not None
    }
    if arguments.config and given:
        raise ConfigError(
            f"--config: says {', '.join(given)} already; leave out the options for them, or"
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

    values = read_yaml(arguments.config) if arguments.config else nest(given)
    config = view_config(values, str(arguments.config or "vididi show"))
    sheet = contact_sheet(
        config, ShardSet.open(as_folder(arguments.shards)), arguments.video, arguments.epoch
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(arguments.out)
    say(f"{arguments.out}: {sheet.width} x {sheet.height} pixels")
    return 0


def pretrain(arguments: argparse.Namespace) -> int:
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
    from vididi.training.context import first_alone, local_context

    config = resolve(config, int(os.environ.get("WORLD_SIZE", "1")))
    out = local_path(arguments.out).resolve()
    shards_folder = as_folder(arguments.shards) if arguments.shards else None
    with local_context(arguments.device) as context:
        bar = PrepareBar(PlainConsole(stderr=True), "preparing videos")
        shards = first_alone(lambda: ensure_prepared(config, shards_folder, bar), context)
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

        first_alone(mend, context)
        result = run_cell(config, cell, out, shards, local_stream(shards), context)
        if context.rank == 0:
            say(f"finished: {arguments.out} in {result['seconds']:.0f} s")
    return 0


def evaluate(arguments: argparse.Namespace) -> int:
    untrained = not arguments.no_untrained
    values = {
        "protocol": arguments.protocol,
        "recipe": arguments.recipe,
        "settings": overrides(arguments.set),
        "untrained": untrained,
    }
    entry = validate(EvaluationEntry, values, "vididi evaluate")
    resources = _evaluation_resources(arguments)
    from vididi.components import read_run_config
    from vididi.data.shards import ShardSet
    from vididi.data.storage import as_folder
    from vididi.prepared import ensure_prepared
    from vididi.protocols.finished import find_encoders
    from vididi.runs.mirror import pulled

    found = [run for folder in arguments.folders for run in find_encoders(pulled(folder))]
    runs = _readable(found)
    given = ShardSet.open(as_folder(arguments.shards)) if arguments.shards else None

    def data() -> dict[Path, ShardSet]:
        return {
            run: given or ensure_prepared(read_run_config(run), run=run_at(arguments.address))
            for run in runs
        }

    if arguments.address and entry.measured_by.shares != "features":
        from vididi.cluster.evaluations import evaluate_runs

        status = evaluate_runs(data(), entry, resources, arguments.address, PlainConsole())
    else:
        status = _evaluate_one_by_one(data, entry, resources, arguments)
    return max(status, int(len(runs) < len(found)))


def _readable(runs: list[Path]) -> list[Path]:
    """Those of some runs whose configuration can be read; the others are named.

    Raises:
        DamagedError: none can.
    """
    from vididi.components import read_run_config

    faults: dict[Path, DamagedError] = {}
    for run in runs:
        try:
            read_run_config(run)
        except DamagedError as error:
            faults[run] = error
    if len(faults) == len(runs):
        raise next(iter(faults.values()))
    for fault in faults.values():
        say(f"left out: {fault}", file=sys.stderr)
    return [run for run in runs if run not in faults]


def _evaluate_one_by_one(
    data: Callable[[], dict[Path, Any]],
    entry: EvaluationEntry,
    resources: dict[str, Any],
    arguments: argparse.Namespace,
) -> int:
    """In this process, or torchrun's; with an address it asks the whole cluster for the features of
    one run after another.
    """
    from vididi.data.stream import local_stream
    from vididi.protocols.finished import evaluate_run
    from vididi.protocols.task import make_task
    from vididi.runs.mend import mend_evaluation
    from vididi.screen import EvaluationScreen
    from vididi.training.context import first_alone, local_context

    console = PlainConsole(quiet=int(os.environ.get("RANK", "0")) > 0)
    device = "cpu" if arguments.address else arguments.device
    with (
        local_context(device) as context,
        _pool(arguments.address, resources, console) as pool,
        EvaluationScreen(console) as screen,
    ):
        for run, shards in first_alone(data, context).items():
            task = make_task(run, entry, shards, local_stream(shards), context, screen.report)
            first_alone(
                partial(mend_evaluation, run / "evaluations" / task.name, screen.console.print),
                context,
            )
            task = replace(
                task, extract=pool.extract(shards) if pool else None, progress=screen.progress
            )
            screen.begin(f"{run.name} {task.name}", getattr(task.settings, "epochs", None))
            screen.end(evaluate_run(run, task, entry.recipe, entry.untrained))
    return 0


def _evaluation_resources(arguments: argparse.Namespace) -> dict[str, Any]:
    """What --workers and its like say; None where they are left out."""
    names = ("workers", "cpus_per_worker", "gpus_per_worker")
    resources = {name: getattr(arguments, name) for name in names}
    given = [name for name, value in resources.items() if value is not None]
    if arguments.address and arguments.device:
        raise ConfigError(
            "--device: is of this machine; on a cluster --gpus-per-worker says whether GPUs are"
            " used"
        )
    for name in given:
        option = f"--{name.replace('_', '-')}"
        if not arguments.address:
            raise ConfigError(f"{option}: is of a cluster; give its --address too")
        if resources[name] < (0 if name == "gpus_per_worker" else 1):
            raise ConfigError(
                f"{option}: {resources[name]:g} is not valid; it must be at least"
                f" {0 if name == 'gpus_per_worker' else 1}"
            )
    return resources


@contextmanager
def _pool(address: str | None, resources: dict[str, Any], console: Console) -> Iterator[Any]:
    """Actors that compute features on the cluster at ``address``; without one None."""
    if address is None:
        yield None
        return
    from vididi.cluster.connection import connected
    from vididi.cluster.inference import Pool

    with connected(address):
        pool = Pool.on_cluster(**resources)
        console.print(f"features: {pool.summary} on the cluster")
        yield pool


def evaluate_ava_map(arguments: argparse.Namespace) -> int:
    if arguments.limit < 0:
        raise ConfigError(f"--limit: {arguments.limit} is not valid; it must be at least 0")
    from vididi.data.actions import read_actions
    from vididi.evaluation.ava_files import read_excluded, read_ground_truth, read_predictions
    from vididi.evaluation.ava_map import ava_map
    from vididi.evaluation.ava_table import ava_map_table

    result = ava_map(
        read_ground_truth(arguments.ground_truth),
        read_predictions(arguments.predictions),
        read_actions(arguments.labels),
        read_excluded(arguments.excluded) if arguments.excluded else (),
        limit=arguments.limit or None,
        ignore_unannotated=arguments.ignore_unannotated,
    )
    say(ava_map_table(result))
    if arguments.out:
        _write_json(arguments.out, result.to_dict())
    return 0


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Aside first, then by renaming: a file that is there is whole."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps(content, indent=2) + "\n")
        aside.replace(path)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        raise DataError(f"--out: {path} cannot be written: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
