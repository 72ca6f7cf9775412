"""Two workers evaluate as one does: the same batches, statistics and results."""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from vididi.data.shards import ShardSet
from vididi.data.stream import local_stream
from vididi.errors import ConfigError
from vididi.experiment import run_cell
from vididi.protocols import EvaluationEntry
from vididi.protocols.finished import evaluate_run
from vididi.protocols.task import Task, make_task
from vididi.runs.run_folder import RunFolder
from vididi.training.context import LocalContext

WORKERS = 2
QUICK = {
    "epochs": 2,
    "batch_size": 8,
    "clips": 2,
    "warmup_epochs": 1,
    "test_every": 1,
    "optimiser": {"name": "sgd", "lr": 0.05},
}
ENTRIES = {
    "finetune": EvaluationEntry(
        protocol="finetune",
        settings={**QUICK, "steps": [1], "warmup_epochs": 0, "dropout": 0.0, "keep_encoder": True},
    ),
    "linear": EvaluationEntry(protocol="linear", recipe="corp", settings=QUICK, untrained=False),
    "retrieval": EvaluationEntry(protocol="retrieval"),
    "dynamics": EvaluationEntry(protocol="dynamics", untrained=False),
}


def task_of(run: Path, name: str, shards: ShardSet, context: LocalContext) -> Task:
    return make_task(
        run, ENTRIES[name], shards, local_stream(shards), context, lambda metrics: None
    )


def work(rank: int, run: Path, shards: ShardSet, meeting: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=WORKERS)
    context = LocalContext(rank, WORKERS)
    for name, entry in ENTRIES.items():
        result = evaluate_run(
            run, task_of(run, name, shards, context), entry.recipe, entry.untrained
        )
        again = evaluate_run(
            run, task_of(run, name, shards, context), entry.recipe, entry.untrained
        )
        assert {**again, "version": None} == {**json.loads(json.dumps(result)), "version": None}
    entry = EvaluationEntry(protocol="linear", settings={**QUICK, "batch_size": 9})
    odd = make_task(run, entry, shards, local_stream(shards), context, lambda metrics: None)
    with pytest.raises(ConfigError, match="batch_size: 9 does not divide over 2 workers"):
        evaluate_run(run, odd, None, False)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, make_config: Callable[..., Any], tiny_shards: ShardSet
) -> tuple[Path, Path]:
    """The run that one worker evaluated, and the one that two did."""
    place = tmp_path_factory.mktemp("workers")
    alone, two = place / "alone", place / "two"
    run_cell(
        make_config({"training.epochs": 1}),
        {"arm": "base"},
        alone,
        tiny_shards,
        local_stream(tiny_shards),
        LocalContext(),
    )
    shutil.copytree(alone, two)
    mp.spawn(work, (two, tiny_shards, place / "meeting"), nprocs=WORKERS)
    for name, entry in ENTRIES.items():
        evaluate_run(
            alone, task_of(alone, name, tiny_shards, LocalContext()), entry.recipe, entry.untrained
        )
    return alone, two


def found(run: Path, name: str) -> tuple[Path, dict[str, Any]]:
    (path,) = run.glob(f"evaluations/{name}-*/result.json")
    return path.parent, json.loads(path.read_text())


def names_in(folder: Path) -> set[str]:
    """What a folder holds; events are called after time and process."""
    return {re.sub(r"(events\.out\.tfevents).*", r"\1", path.name) for path in folder.iterdir()}


@pytest.mark.parametrize("name", ENTRIES)
def test_two_workers_measure_what_one_does(name: str, runs: tuple[Path, Path]) -> None:
    (alone, one), (two, both) = (found(run, name) for run in runs)
    assert alone.name == two.name
    assert both["metrics"] == pytest.approx(one["metrics"], abs=1e-3)
    assert (both["untrained"] or {}) == pytest.approx(one["untrained"] or {}, abs=1e-3)
    tables = [pq.read_table(folder / "queries.parquet") for folder in (alone, two)]
    rounded = [name for name in ("first_hit", "predicted") if name in tables[0].column_names]
    assert tables[0].drop(rounded) == tables[1].drop(rounded)
    assert names_in(alone) == names_in(two)


@pytest.mark.parametrize("name", ["finetune", "linear"])
def test_two_workers_train_as_one(name: str, runs: tuple[Path, Path]) -> None:
    one, two = (found(run, name)[1]["epochs"] for run in runs)
    assert [epoch["step"] for epoch in two] == [3, 6]
    for key in ("loss", "train_top1", "test_top1", "lr"):
        assert [epoch[key] for epoch in two] == pytest.approx(
            [epoch[key] for epoch in one], abs=2e-4
        )


def work_on_a_full_disk(rank: int, run: Path, shards: ShardSet, meeting: Path, write: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=WORKERS)

    def full(folder: RunFolder, *_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder.path / "new"))

    setattr(RunFolder, write, full)
    said = "nothing"
    task = task_of(run, "linear", shards, LocalContext(rank, WORKERS))
    try:
        evaluate_run(run, task, None, False)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    (run / f"said-{rank}").write_text(said)
    dist.destroy_process_group()


@pytest.mark.parametrize("write", ["save_checkpoint", "save_result"])
def test_what_rank_0_cannot_write_ends_both_workers(
    runs: tuple[Path, Path], tiny_shards: ShardSet, tmp_path: Path, write: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs[0], run, ignore=shutil.ignore_patterns("evaluations"))
    mp.spawn(work_on_a_full_disk, (run, tiny_shards, tmp_path / "meeting", write), nprocs=WORKERS)
    for rank in range(WORKERS):
        said = (run / f"said-{rank}").read_text()
        assert said.startswith("TrainingError: "), said
        assert "No space left on device" in said
