"""``evaluate``: finished encoders are measured by a protocol, and AVA's predictions scored."""

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

from vididi.collector import collector_at_rest
from vididi.commands.arguments import add_grace, add_logger, grace_of, overrides
from vididi.commands.inputs import run_at
from vididi.config import validate
from vididi.errors import ConfigError, DamagedError, DataError
from vididi.interrupts import going_on
from vididi.loggers.choices import LOGGERS, TENSORBOARD, check_installed
from vididi.protocols import EVALUATIONS, EvaluationEntry, EvaluationProtocol
from vididi.terminal import PlainConsole, say

EVALUATE: dict[str, Any] = {
    "description": (
        "Measure finished encoders by a protocol of the papers, and beside each an untrained one."
        " Each PROTOCOL has --help."
    ),
    "epilog": (
        "example: vididi evaluate retrieval runs/clips\n"
        "         vididi evaluate linear runs/clips --recipe cvrl \\\n"
        "             --set epochs=20 --set batch_size=8"
    ),
}


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Give a parser the commands of ``evaluate``, one for each protocol, and ``ava-map``."""
    protocols = parser.add_subparsers(required=True, metavar="PROTOCOL", dest="protocol")
    for name, protocol in EVALUATIONS.items():
        lines = ["runs/clips", *(f"runs/clips --recipe {recipe}" for recipe in protocol.recipes)]
        parser = protocols.add_parser(
            name,
            help=protocol.help,
            description=f"Measures: {protocol.help}.",
            epilog="example: " + "\n         ".join(f"%(prog)s {line}" for line in lines),
        )
        _add_protocol(parser, protocol)
    _add_ava_map(
        protocols.add_parser(
            "ava-map",
            help="mean average precision of a file of predictions in AVA's layout",
            description="Mean average precision of a file of predictions, by AVA's rules.",
            epilog=(
                "example: %(prog)s --ground-truth ava_val_v2.2.csv \\\n"
                "             --predictions predictions.csv \\\n"
                "             --labels ava_action_list_v2.2_for_activitynet_2019.pbtxt"
            ),
        )
    )


def _add_protocol(parser: argparse.ArgumentParser, protocol: EvaluationProtocol) -> None:
    parser.add_argument(
        "folders",
        nargs="+",
        metavar="RUN",
        help="run folders, or folders (s3://...) that hold some; results go into them",
    )
    _add_measure_options(parser.add_argument_group("what is measured"), list(protocol.recipes))
    if not protocol.recipes:
        parser.set_defaults(recipe=None)
    here = parser.add_argument_group("on this machine")
    here.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    add_grace(here)
    what = "actors that compute features" if protocol.shares == "features" else "runs at a time"
    _add_cluster_options(parser.add_argument_group("on a cluster"), what)
    parser.set_defaults(run=evaluate_command)


def _add_measure_options(group: argparse._ArgumentGroup, recipes: list[str]) -> None:
    group.add_argument(
        "--shards",
        metavar="URI",
        help="another prepared data set, a folder or s3://... (default: the run's own)",
    )
    if recipes:
        group.add_argument(
            "--recipe",
            choices=recipes,
            default=recipes[0],
            help=f"which paper's (default: {recipes[0]})",
        )
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting, such as epochs=20",
    )
    group.add_argument(
        "--no-untrained",
        action="store_true",
        help="do not measure the encoder before its first step too",
    )
    add_logger(group, "tensorboard")


def _add_cluster_options(group: argparse._ArgumentGroup, workers: str) -> None:
    """``workers``: what ``--workers`` counts."""
    group.add_argument(
        "--address",
        metavar="ADDRESS",
        help="measure on the Ray cluster at ADDRESS, or 'auto'; default: on this machine",
    )
    group.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help=f"{workers} (default: as many as the cluster has room for)",
    )
    group.add_argument("--cpus-per-worker", type=int, metavar="N", help="CPUs of each (default: 1)")
    group.add_argument(
        "--gpus-per-worker",
        type=float,
        metavar="N",
        help="GPUs of each, or a fraction (default: 1 where there are any)",
    )


def evaluate_command(arguments: argparse.Namespace) -> int:
    """Measure the encoders of run folders; returns the exit status, 1 where some were left out."""
    going_on(arguments.command_line, grace_of(arguments))
    untrained = not arguments.no_untrained
    values = {
        "protocol": arguments.protocol,
        "recipe": arguments.recipe,
        "settings": overrides(arguments.set),
        "untrained": untrained,
    }
    entry = validate(EvaluationEntry, values, "vididi evaluate")
    resources = _evaluation_resources(arguments)
    check_installed(loggers := arguments.logger or list(TENSORBOARD))
    with collector_at_rest():
        from vididi.components import read_run_config
        from vididi.data.shards import ShardSet
        from vididi.data.storage import as_folder
        from vididi.prepared import ensure_prepared
        from vididi.protocols.finished import find_encoders
        from vididi.runs.mirror import pulled

    encoders = [run for folder in arguments.folders for run in find_encoders(pulled(folder))]
    runs = _readable(encoders)
    shards = ShardSet.open(as_folder(arguments.shards)) if arguments.shards else None

    def data() -> dict[Path, ShardSet]:
        return {
            run: shards or ensure_prepared(read_run_config(run), run=run_at(arguments.address))
            for run in runs
        }

    if arguments.address and entry.measured_by.shares != "features":
        from vididi.cluster.evaluations import evaluate_runs

        options = {**resources, LOGGERS: loggers}
        status = evaluate_runs(data(), entry, options, arguments.address, PlainConsole())
    else:
        status = _evaluate_one_by_one(data, entry, resources, arguments)
    return max(status, int(len(runs) < len(encoders)))


def _evaluation_resources(arguments: argparse.Namespace) -> dict[str, Any]:
    """What --workers and its like say; None where they are left out."""
    names = ("workers", "cpus_per_worker", "gpus_per_worker")
    resources = {name: getattr(arguments, name) for name in names}
    options = [name for name, value in resources.items() if value is not None]
    if arguments.address and arguments.device:
        raise ConfigError(
            "--device: is of this machine; on a cluster --gpus-per-worker says whether GPUs are"
            " used"
        )
    for name in options:
        option = f"--{name.replace('_', '-')}"
        if not arguments.address:
            raise ConfigError(f"{option}: is of a cluster; give its --address too")
        if resources[name] < (0 if name == "gpus_per_worker" else 1):
            raise ConfigError(
                f"{option}: {resources[name]:g} is not valid; it must be at least"
                f" {0 if name == 'gpus_per_worker' else 1}"
            )
    return resources


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
    from vididi.training.context import local_context, rank_0_first

    console = PlainConsole(quiet=int(os.environ.get("RANK", "0")) > 0)
    device = "cpu" if arguments.address else arguments.device
    with (
        local_context(device) as context,
        _pool(arguments.address, resources, console) as pool,
        EvaluationScreen(console) as screen,
    ):
        for run, shards in rank_0_first(data, context).items():
            task = make_task(run, entry, shards, local_stream(shards), context, screen.report)
            rank_0_first(
                partial(mend_evaluation, run / "evaluations" / task.name, screen.console.print),
                context,
            )
            task = replace(
                task, extract=pool.extract(shards) if pool else None, progress=screen.progress
            )
            screen.begin(f"{run.name} {task.name}", getattr(task.settings, "epochs", None))
            loggers = arguments.logger or TENSORBOARD
            screen.end(evaluate_run(run, task, entry.recipe, entry.untrained, loggers))
    return 0


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
    parser.set_defaults(run=ava_map_command)


def ava_map_command(arguments: argparse.Namespace) -> int:
    """Score a file of predictions by AVA's measure; returns the exit status."""
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
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(content, indent=2) + "\n")
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise DataError(f"--out: {path} cannot be written: {error}") from None
