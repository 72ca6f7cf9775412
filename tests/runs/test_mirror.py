"""Run folders in an object store, against a local server that speaks S3. Another machine is one
with a cache of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from boards import assert_board_is_right
from made_up_machines import machine, objects, put
from plain_files import plain, plain_lines
from safetensors.torch import load_file

import vididi
from vididi.analysis import paper_table
from vididi.cli import main
from vididi.data.shards import ShardSet
from vididi.data.stream import local_stream
from vididi.errors import DataError, TrainingError
from vididi.experiment import run_cell
from vididi.runs import mirror
from vididi.runs.run_folder import RunFolder
from vididi.training.context import LocalContext, Metrics

CELL = {"sweep": "tests", "arm": "a", "label": "A", "axes": {}, "seed": 0}


def names(uri: str) -> set[str]:
    """The objects of a run folder; how its file of events is called depends on the time."""
    return {"events" if "tfevents" in name else name for name in objects(uri)}


class Stop(Exception): ...


class Stopping(LocalContext):
    """Stops after an epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch

    def report(self, metrics: Metrics) -> None:
        if metrics["epoch"] == self.epoch:
            raise Stop


# --- Places ---------------------------------------------------------------------------------------


def test_a_uri_has_a_folder_on_this_machine_and_a_path_is_itself(tmp_path: Path) -> None:
    with machine(tmp_path / "here"):
        path = mirror.local_path("s3://some/runs/x")
        assert path.is_relative_to(tmp_path / "here" / "mirror")
        assert path.parent == mirror.local_path("s3://some/runs")
        assert mirror.place_of(path) == "s3://some/runs/x"
        other = mirror.local_path("s3://some/runs/x?endpoint_override=localhost:9000")
        assert other != path
        assert mirror.place_of(other) == "s3://some/runs/x?endpoint_override=localhost:9000"
    assert mirror.local_path("runs/x") == Path("runs/x")
    assert mirror.place_of(tmp_path / "x") == str(tmp_path / "x")


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("ftp://a/b", "not a known scheme"),
        *(
            (uri, "URI of a folder")
            for uri in (
                "s3://",
                "s3://a/../../b",
                "s3://..",
                "s3://a/x\0y",
                "s3://a/x\ny",
                f"s3://a/{'b' * 256}",
            )
        ),
    ],
)
def test_other_uris_are_refused(uri: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        mirror.local_path(uri)


# --- Pulling and pushing --------------------------------------------------------------------------


def test_pulling_makes_the_small_files_those_of_the_store(bucket: str, tmp_path: Path) -> None:
    place = f"{bucket}/pulled"
    for name in (
        "a/result.json",
        "a/checkpoint.pt",
        "a/evaluations/e/features.parquet",
        "a/.owner-1.json",
    ):
        put(f"{place}/{name}", name.encode())
    with machine(tmp_path):
        runs = mirror.pulled(place)
        (runs / "a" / "old.json").write_text("not in the store")
        assert sorted(
            path.name for path in runs.rglob("*") if path.is_file() and path.name[0] != "."
        ) == ["old.json", "result.json"]
        mirror.pull(runs)
        assert not (runs / "a" / "old.json").exists()
        assert mirror.has(runs / "a" / "checkpoint.pt")
        assert not (runs / "a" / "checkpoint.pt").exists()
        assert mirror.pull_file(runs / "a" / "checkpoint.pt")
        assert (runs / "a" / "checkpoint.pt").read_text() == "a/checkpoint.pt"
        assert mirror.find(runs, "checkpoint.pt") == [runs / "a" / "checkpoint.pt"]
        put(f"{place}/a/checkpoint.pt", b"a longer one than before")
        assert mirror.pull_file(runs / "a" / "checkpoint.pt")
        assert (runs / "a" / "checkpoint.pt").read_text() == "a longer one than before"


def test_an_object_that_would_lie_outside_of_the_mirror_is_refused(
    bucket: str, tmp_path: Path
) -> None:
    place = f"{bucket}/hostile/a/../../../../../evil/result.json"
    put(place, b"{}")
    with (
        machine(tmp_path / "here"),
        pytest.raises(DataError, match=r"s3://clips.*: .*evil/result\.json.* is not valid"),
    ):
        mirror.pulled(f"{bucket}/hostile")
    assert not [*tmp_path.rglob("evil*")]


def test_what_is_the_same_is_not_pulled_again(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with machine(tmp_path):
        folder = RunFolder(mirror.local_path(f"{bucket}/same/a"))
        folder.path.mkdir(parents=True)
        told = {"data_checksum": "x", "steps": 1}
        folder.save_result(told)
        monkeypatch.setattr(mirror.Mirror, "download", lambda *_: pytest.fail("pulled again"))
        mirror.pull(folder.path)
        assert folder.result == {"version": 1, **told}


def test_a_folder_in_which_this_machine_is_at_work_is_left_alone(
    bucket: str, tmp_path: Path
) -> None:
    with machine(tmp_path):
        folder = RunFolder(mirror.local_path(f"{bucket}/busy/a"))
        with folder.locked():
            (folder.path / "metrics.jsonl").write_text("not pushed yet")
            put(f"{bucket}/busy/b/result.json", b"{}")
            mirror.pull(folder.path.parent)
            assert (folder.path / "metrics.jsonl").read_text() == "not pushed yet"
            assert (folder.path.parent / "b" / "result.json").is_file()
        mirror.pull(folder.path.parent)
        assert not (folder.path / "metrics.jsonl").exists()


def test_what_is_pushed_is_what_the_file_held_then_and_in_that_order(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed: list[tuple[str, bytes]] = []
    go = threading.Event()

    def upload(self: mirror.Mirror, file: Any, path: Path) -> None:
        go.wait(20)
        pushed.append((path.name, file.read()))

    with machine(tmp_path):
        folder = RunFolder(mirror.local_path(f"{bucket}/order/a"))
        with folder.locked():
            monkeypatch.setattr(mirror.Mirror, "upload", upload)
            for epoch in (1, 2):
                folder.save_checkpoint({"epoch": epoch})
                folder.save_result({"epoch": epoch})
            assert not pushed, "training does not wait"
            go.set()
    assert [name for name, _ in pushed] == ["checkpoint.pt", "result.json"] * 2
    assert [json.loads(content)["epoch"] for name, content in pushed if name == "result.json"] == [
        1,
        2,
    ]
    assert pushed[0][1] != pushed[2][1]


def test_a_store_that_fails_stops_the_cell_and_no_result_comes_after_it(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "RETRY_S", ())
    real = mirror.Mirror.upload

    def upload(self: mirror.Mirror, file: Any, path: Path) -> None:
        if path.name == "checkpoint.pt":
            raise TrainingError("no room")
        real(self, file, path)

    monkeypatch.setattr(mirror.Mirror, "upload", upload)
    with machine(tmp_path):
        folder = RunFolder(mirror.local_path(f"{bucket}/failing/a"))
        with pytest.raises(TrainingError, match="no room"), folder.locked():  # noqa: PT012
            folder.save_checkpoint({})
            folder.save_result({})
    assert objects(f"{bucket}/failing/a") == {}


# --- Whole runs -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(
    make_config: Callable[..., Any], tiny_shards: ShardSet, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The run that was never stopped, on a disk."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run_cell(make_config(), CELL, folder, tiny_shards, local_stream(tiny_shards), LocalContext())
    return folder


def assert_same_run(folder: Path, whole: Path) -> None:
    """Bit for bit, but for what a clock measured."""
    results = [plain(place / "result.json") for place in (folder, whole)]
    measured = [
        {name: value for name, value in result.items() if "/" in name} for result in results
    ]
    assert measured[0] == measured[1]
    lines = [plain_lines(place / "metrics.jsonl") for place in (folder, whole)]
    assert [(line["step"], line["train/loss"]) for line in lines[0]] == [
        (line["step"], line["train/loss"]) for line in lines[1]
    ]
    assert_board_is_right(folder)
    weights = [load_file(place / "encoder.safetensors") for place in (folder, whole)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_a_run_stopped_on_one_machine_goes_on_on_another(
    bucket: str, whole: Path, make_config: Callable[..., Any], tiny_shards: ShardSet, tmp_path: Path
) -> None:
    uri = f"{bucket}/moved/cell"
    arguments = tiny_shards, local_stream(tiny_shards)
    with machine(tmp_path / "one"), pytest.raises(Stop):
        run_cell(make_config(), CELL, mirror.local_path(uri), *arguments, Stopping(2))
    assert names(uri) == {
        "config.yaml",
        "cell.json",
        "metrics.jsonl",
        "checkpoint.pt",
        "checkpoint.previous.pt",
        "events",
    }
    with machine(tmp_path / "two"):
        result = run_cell(make_config(), CELL, mirror.local_path(uri), *arguments, LocalContext())
        assert result["resumed_from_step"] == 2 * result["steps"] / 3
    assert names(uri) == {
        "events" if "tfevents" in path.name else path.name
        for path in whole.iterdir()
        if path.name[0] != "."
    }
    with machine(tmp_path / "three"):
        folder = mirror.pulled(uri)
        assert mirror.pull_file(folder / "encoder.safetensors")
        assert_same_run(folder, whole)
        assert run_cell(make_config(), CELL, folder, *arguments, LocalContext()) == plain(
            folder / "result.json"
        )
        assert vididi.load_encoder(uri)(torch.zeros(1, 3, 4, 16, 16)).shape[0] == 1
    with machine(tmp_path / "one"):  # whose mirror has an older state
        assert (
            run_cell(make_config(), CELL, mirror.local_path(uri), *arguments, LocalContext())[
                "steps"
            ]
            == result["steps"]
        )


KILLED = """
import os, signal, sys
from vididi.runs import mirror
from vididi.cli import main
from vididi.training.context import LocalContext

def report(self, metrics):
    if metrics["epoch"] == 2:
        mirror.settle(mirror.local_path(sys.argv[1]))
        os.kill(os.getpid(), signal.SIGKILL)

LocalContext.report = report
main(["pretrain", sys.argv[2], "--out", sys.argv[1], "--shards", sys.argv[3], "--device", "cpu"])
"""


def test_a_killed_program_loses_nothing_that_was_pushed(
    bucket: str,
    whole: Path,
    tiny_shards: ShardSet,
    repo_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uri, config, shards = f"{bucket}/killed/cell", str(whole / "config.yaml"), str(tiny_shards.root)
    environment = {
        **os.environ,
        "PYTHONPATH": str(repo_root),
        "VIDIDI_CACHE": str(tmp_path / "one"),
    }
    command = [sys.executable, "-c", KILLED, uri, config, shards]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert any(name.startswith(".owner-") for name in objects(uri))
    shutil.rmtree(tmp_path / "one")
    with machine(tmp_path / "two"):
        assert main(["pretrain", config, "--out", uri, "--shards", shards, "--device", "cpu"]) == 0
        assert f"finished: {uri}" in capsys.readouterr().out
        assert_same_run(mirror.local_path(uri), whole)
        assert RunFolder(mirror.local_path(uri)).result["resumed_from_step"] == 6  # type: ignore[index]
    assert not any(name.startswith(".") for name in objects(uri))


def test_an_error_is_forgotten_in_the_store_when_the_cell_begins_again(
    bucket: str, make_config: Callable[..., Any], tiny_shards: ShardSet, tmp_path: Path
) -> None:
    uri = f"{bucket}/failed/cell"
    with machine(tmp_path / "one"):
        RunFolder(mirror.local_path(uri)).save_error("no room")
        assert objects(uri) == {"error.txt": b"no room"}
    with machine(tmp_path / "two"), pytest.raises(Stop):
        run_cell(
            make_config(),
            CELL,
            mirror.local_path(uri),
            tiny_shards,
            local_stream(tiny_shards),
            Stopping(1),
        )
    assert "error.txt" not in objects(uri)


def test_evaluations_and_tables_of_a_store(
    bucket: str,
    whole: Path,
    tiny_shards: ShardSet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uri = f"{bucket}/evaluated"
    for name in (
        "config.yaml",
        "cell.json",
        "result.json",
        "queries.parquet",
        "encoder.safetensors",
    ):
        put(f"{uri}/cell/{name}", (whole / name).read_bytes())
    settings = [
        "--set",
        "epochs=2",
        "--set",
        "warmup_epochs=1",
        "--set",
        "batch_size=12",
        "--set",
        "clips=1",
    ]
    for protocol, more in (("retrieval", []), ("linear", settings)):
        command = [
            "evaluate",
            protocol,
            uri,
            "--shards",
            str(tiny_shards.root),
            "--device",
            "cpu",
            *more,
        ]
        with machine(tmp_path / protocol):
            assert main(command) == 0
        with machine(tmp_path / f"{protocol}-again"):  # it is known there too
            assert main(command) == 0
            run = mirror.local_path(f"{uri}/cell")
            assert not (run / "encoder.safetensors").exists()
    made = {name.split("/")[-1] for name in objects(uri) if "/evaluations/" in name}
    board = {name for name in made if name.startswith(("events.out.tfevents", "projector_"))}
    assert board
    assert made - board == {"result.json", "queries.parquet", "features.parquet"}
    capsys.readouterr()
    with machine(tmp_path / "table"):
        assert paper_table.main(["vididi_table_6", uri]) == 0
    assert "Ours: motion" in capsys.readouterr().out
    assert {"vididi_table_6.md", "vididi_table_6.csv", "vididi_table_6.tex"} <= set(objects(uri))
    with machine(tmp_path / "nothing"):
        assert paper_table.main(["vididi_table_6", f"{bucket}/nothing"]) == 2
    assert f"{bucket}/nothing: there is no such folder" in capsys.readouterr().err
