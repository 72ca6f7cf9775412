"""Setting damaged files aside: what is renamed, what is made again and what is not, on a disk and
in a store.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from made_up_machines import machine, objects, put

from vididi.config import Config, build_config
from vididi.data.plan import Plan
from vididi.data.shards import ShardSet
from vididi.data.stream import Batch, Stream, local_stream
from vididi.errors import DataError
from vididi.experiment import run_cell
from vididi.runs import mirror
from vididi.runs.mend import mend_evaluation, mend_run
from vididi.runs.outcome import damage, outcome
from vididi.runs.readers import read_cell, read_config, read_metrics
from vididi.runs.run_folder import RunFolder
from vididi.training import loop
from vididi.training.context import LocalContext

CELL = {"sweep": "tests", "arm": "a", "label": "A", "axes": {}, "seed": 0}


@pytest.fixture(scope="module")
def config(make_config: Callable[..., Config]) -> Config:
    return make_config({"training.epochs": 2})


@pytest.fixture(scope="module")
def trained(
    config: Config, tiny_shards: ShardSet, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished run, in a folder of a cell's name."""
    folder = (
        tmp_path_factory.mktemp("runs") / f"a-s0-{config.identity(tiny_shards.manifest.checksum)}"
    )
    run_cell(config, CELL, folder, tiny_shards, local_stream(tiny_shards), LocalContext())
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / trained.name))


def mended(folder: Path, config: Config, shards: ShardSet) -> list[str]:
    said: list[str] = []
    mend_run(folder, config, CELL, shards.manifest.checksum, said.append)
    return said


def counted(shards: ShardSet) -> tuple[Stream, list[int]]:
    """A stream of batches, and where in the plan it was asked to begin."""
    starts: list[int] = []

    def open_stream(plan: Plan, start: int) -> Iterator[Batch]:
        starts.append(start)
        return local_stream(shards)(plan, start)

    return open_stream, starts


def content(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def measured(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if "/" in key}


def test_a_sound_folder_is_left_alone_and_one_that_is_not_there_too(
    run: Path, config: Config, tiny_shards: ShardSet
) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.iterdir()}
    assert mended(run, config, tiny_shards) == []
    assert {path: path.stat().st_mtime_ns for path in run.iterdir()} == before
    assert mended(run.with_name("none"), config, tiny_shards) == []
    assert not run.with_name("none").exists()


@pytest.mark.parametrize("lost", [(), ("checkpoint.pt",), ("checkpoint.pt", "encoder.safetensors")])
@pytest.mark.parametrize("file", ["result.json", "queries.parquet"])
def test_a_damaged_result_is_measured_again_and_trained_again_only_where_nothing_else_is_left(
    run: Path,
    trained: Path,
    config: Config,
    tiny_shards: ShardSet,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    lost: tuple[str, ...],
) -> None:
    steps: list[int] = []
    step = loop.train_step
    monkeypatch.setattr(
        loop, "train_step", lambda *arguments: [steps.append(1), step(*arguments)][1]
    )
    whole = (run / file).read_bytes()
    (run / file).write_bytes(whole[:40])
    for name in lost:
        (run / name).unlink()
    (line,) = mended(run, config, tiny_shards)
    assert line.startswith(f"{run / file}: is not ")
    assert line.endswith(f"; set aside as {file}.damaged-1")
    assert (run / f"{file}.damaged-1").read_bytes() == whole[:40]
    assert (outcome(run), (run / "result.json.replaced-1").exists()) == (
        None,
        file == "queries.parquet",
    )
    stream, starts = counted(tiny_shards)
    again = run_cell(config, CELL, run, tiny_shards, stream, LocalContext())
    assert len(steps) == (6 if "encoder.safetensors" in lost else 0)
    assert starts == [0 if "encoder.safetensors" in lost else 6]
    assert measured(again) == measured(content(trained, "result.json"))
    assert (damage(run), outcome(run)) == ({}, "finished")
    assert read_metrics(run)[-1]["step"] == 6
    assert (run / "queries.parquet").read_bytes() == (trained / "queries.parquet").read_bytes()


def test_an_encoder_in_a_folder_of_another_name_is_not_taken_for_the_cell_s(
    run: Path, config: Config, tiny_shards: ShardSet
) -> None:
    other = run.rename(run.with_name("by-hand"))
    for name in ("result.json", "checkpoint.pt"):
        (other / name).unlink()
    stream, starts = counted(tiny_shards)
    run_cell(config, CELL, other, tiny_shards, stream, LocalContext())
    assert starts == [0]
    (other / "config.yaml").write_text("")
    (line,) = mended(other, config, tiny_shards)
    assert line.endswith("left as it is, for the folder's name does not say which cell this is")


@pytest.mark.parametrize("damage_of", ["empty", "folder", "gone", "link"])
def test_configuration_and_cell_are_written_anew(
    run: Path, config: Config, tiny_shards: ShardSet, damage_of: str
) -> None:
    before = (run / "result.json").read_bytes()
    for name in ("config.yaml", "cell.json"):
        (run / name).unlink()
        if damage_of == "empty":
            (run / name).touch()
        elif damage_of == "folder":
            (run / name).mkdir()
        elif damage_of == "link":
            (run / name).symlink_to("nowhere")
    assert len(mended(run, config, tiny_shards)) == 2
    assert build_config(read_config(run) or {}) == config
    assert read_cell(run) == {**CELL, "data_checksum": tiny_shards.manifest.checksum}
    assert [path.name for path in run.glob("config.yaml.*")] == ["config.yaml.damaged-1"] * (
        damage_of != "gone"
    )
    assert (run / "result.json").read_bytes() == before
    assert outcome(run) == "finished"


def test_metrics_keep_their_valid_lines_and_nothing_is_overwritten(
    run: Path, config: Config, tiny_shards: ShardSet
) -> None:
    whole = (run / "metrics.jsonl").read_bytes()
    first, second = whole.splitlines(keepends=True)
    for number in (1, 2):
        damaged = first + bytes(50) + b"\n" * number + second
        (run / "metrics.jsonl").write_bytes(damaged)
        assert mended(run, config, tiny_shards)[0].endswith(
            f"set aside as metrics.jsonl.damaged-{number}"
        )
        assert (run / "metrics.jsonl").read_bytes() == whole
        assert (run / f"metrics.jsonl.damaged-{number}").read_bytes() == damaged
    assert outcome(run) == "finished"


def test_a_run_whose_early_stop_is_damaged_goes_on(
    run: Path, config: Config, tiny_shards: ShardSet
) -> None:
    (run / "result.json").unlink()
    (run / "stopped.json").write_text("{}")
    assert mended(run, config, tiny_shards)[0].endswith("set aside as stopped.json.damaged-1")
    assert outcome(run) is None


def test_a_damaged_evaluation_is_set_aside(tmp_path: Path) -> None:
    folder = tmp_path / "evaluations" / "linear-0"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text("[]")
    said: list[str] = []
    mend_evaluation(folder, said.append)
    assert [path.name for path in folder.iterdir() if path.name != ".lock"] == [
        "result.json.damaged-1"
    ]
    assert said == [
        f"{folder / 'result.json'}: must be a mapping of keys to values, not list; set aside as"
        " result.json.damaged-1"
    ]


def test_a_folder_that_another_process_holds_and_storage_that_is_away_are_left_alone(
    run: Path, config: Config, tiny_shards: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "result.json").write_text("")
    monkeypatch.setattr("vididi.runs.mend.WAIT_S", 0.0)
    with RunFolder(run).locked():
        assert mended(run, config, tiny_shards) == []
    assert (run / "result.json").read_text() == ""

    def away(path: Path, *_: object, **__: object) -> object:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(Path, "open", away)
    with pytest.raises(DataError, match="cannot be read: Input/output error"):
        mended(run, config, tiny_shards)
    assert [path.name for path in run.glob("*.damaged-*")] == []


# --- In a store -----------------------------------------------------------------------------------


def test_in_a_store_the_damaged_object_has_another_name_and_a_damaged_mirror_is_fetched_again(
    bucket: str, tmp_path: Path, config: Config, tiny_shards: ShardSet
) -> None:
    name = f"a-s0-{config.identity(tiny_shards.manifest.checksum)}"
    uri = f"{bucket}/runs/{name}"
    result = json.dumps({"version": 1, "data_checksum": "x", "steps": 6}).encode()
    files = {
        "config.yaml": config.to_yaml().encode(),
        "cell.json": json.dumps(CELL).encode(),
        "result.json": result,
    }
    for file, text in files.items():
        put(f"{uri}/{file}", text)
    put(f"{uri}/metrics.jsonl", b'{"epoch": 1, "step": 3}\n\0\0\n')
    with machine(tmp_path / "here"):
        folder = mirror.pulled(uri)
        before = (folder / "result.json").stat()
        (folder / "result.json").write_bytes(
            bytes(len(result))
        )  # of the same size and time: a pull would not notice
        os.utime(folder / "result.json", ns=(before.st_atime_ns, before.st_mtime_ns))
        (line,) = mended(folder, config, tiny_shards)
        assert line.endswith("set aside as metrics.jsonl.damaged-1")
        assert outcome(folder) == "finished"
    expected = {
        **files,
        "metrics.jsonl": b'{"epoch": 1, "step": 3}\n',
        "metrics.jsonl.damaged-1": b'{"epoch": 1, "step": 3}\n\0\0\n',
    }
    assert objects(uri) == expected
    put(f"{uri}/result.json", b"")
    with machine(tmp_path / "there"):
        folder = mirror.pulled(uri)
        assert mended(folder, config, tiny_shards)[0].endswith(
            "is empty; set aside as result.json.damaged-1"
        )
        assert not (folder / "result.json").exists()
    del expected["result.json"]
    assert objects(uri) == {**expected, "result.json.damaged-1": b""}
