"""Files of a run folder that are read again: one that was changed or torn is refused by its name,
and the run goes on from what is whole.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import torch.distributed as dist
from made_up_machines import machine
from safetensors.torch import load_file, save_file

from vididi import load_encoder
from vididi.components import build_state
from vididi.config import Config
from vididi.data.shards import ShardSet
from vididi.data.stream import local_stream
from vididi.encoders import Encoder
from vididi.errors import ConfigError, DamagedError, TrainingError
from vididi.experiment import run_cell
from vididi.runs import mirror
from vididi.runs.file_names import CHECKPOINT, PREVIOUS
from vididi.runs.outcome import damage, outcome
from vididi.runs.readers import read_metrics, valid_lines
from vididi.runs.run_folder import RunFolder
from vididi.runs.trust import is_whole, newest_checkpoint, on_rank_0
from vididi.training import loop
from vididi.training.context import LocalContext, Metrics

CELL = {"sweep": "tests", "arm": "a", "label": "A", "axes": {}, "seed": 0}
ONLINE = {
    "training.epochs": 3,
    "evaluation.online.every": 1,
    "evaluation.online.clips": 1,
    "evaluation.online.keep_best": "online/knn",
}
WEIGHTS = (CHECKPOINT, PREVIOUS, "encoder.safetensors", "best.safetensors")
SMALL = ("result.json", "cell.json", "config.yaml", "queries.parquet", "features.parquet")
Fixture = pytest.CaptureFixture[str]


class Killed(BaseException):
    """What ends a process at once."""


@pytest.fixture(scope="module")
def config(make_config: Callable[..., Config]) -> Config:
    return make_config(ONLINE)


def name_of(config: Config, shards: ShardSet) -> str:
    return f"a-s0-{config.identity(shards.manifest.checksum)}"


def run(
    config: Config, folder: Path, shards: ShardSet, context: LocalContext | None = None
) -> dict[str, Any]:
    return run_cell(config, CELL, folder, shards, local_stream(shards), context or LocalContext())


@pytest.fixture(scope="module")
def finished(
    config: Config, tiny_shards: ShardSet, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("finished") / name_of(config, tiny_shards)
    run(config, folder, tiny_shards)
    return folder


class KilledAfter(LocalContext):
    """A process that dies when it reports this epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch

    def report(self, metrics: Metrics) -> None:
        if metrics["epoch"] == self.epoch:
            raise Killed


@pytest.fixture(scope="module")
def half_done(
    config: Config, tiny_shards: ShardSet, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run that was killed after its second epoch."""
    folder = tmp_path_factory.mktemp("half") / name_of(config, tiny_shards)
    with pytest.raises(Killed):
        run(config, folder, tiny_shards, KilledAfter(2))
    return folder


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / folder.name))


def flip(path: Path, draws: Random) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[draws.randrange(len(content))] ^= 1 << draws.randrange(8)
    path.write_bytes(content)


def steps_of(folder: Path) -> dict[str, int]:
    return {
        name: torch.load(folder / name, weights_only=True)["step"]
        for name in (CHECKPOINT, PREVIOUS)
        if (folder / name).exists()
    }


def assert_same_weights(one: Path, other: Path, name: str = "encoder.safetensors") -> None:
    first, second = load_file(one / name), load_file(other / name)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


# --- What is written ------------------------------------------------------------------------------


def test_two_checkpoints_are_kept_until_a_run_is_finished(half_done: Path, finished: Path) -> None:
    assert steps_of(half_done) == {CHECKPOINT: 6, PREVIOUS: 3}
    assert steps_of(finished) == {CHECKPOINT: 9}


def test_what_is_read_again_carries_a_checksum_and_other_programs_read_it(finished: Path) -> None:
    for name in (*SMALL, CHECKPOINT, "encoder.safetensors", "best.safetensors"):
        assert (finished / name).read_bytes().count(b"sha256:") >= 1, name
        assert is_whole(finished / name)
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert all(list(line)[-1] == "crc32" for line in lines)
    assert not any("crc32" in record for record in read_metrics(finished))
    result = json.loads((finished / "result.json").read_text())
    assert "checksum" not in (RunFolder(finished).result or {})
    assert {key: result[key] for key in result if key != "checksum"} == RunFolder(finished).result
    assert pq.read_table(finished / "queries.parquet").column_names[:2] == ["video_id", "label"]
    assert load_file(finished / "encoder.safetensors")


@pytest.mark.parametrize("moment", range(4))
def test_a_process_that_is_killed_while_it_writes_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Killed before each of the calls that change the folder: the file is written aside, the old
    one renamed, and the new one.
    """
    folder = RunFolder(tmp_path)
    folder.save_checkpoint({"step": 1})
    folder.save_checkpoint({"step": 2})
    calls, rename, save = [], Path.rename, torch.save

    def killed_at(act: Callable[..., Any], *arguments: Any) -> Any:
        calls.append(act)
        if len(calls) > moment:
            os._exit(9)
        return act(*arguments)

    if (child := os.fork()) == 0:
        monkeypatch.setattr(Path, "rename", lambda *a: killed_at(rename, *a))
        monkeypatch.setattr(torch, "save", lambda *a: killed_at(save, *a))
        folder.save_checkpoint({"step": 3})
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (9 if moment < 3 else 0)
    content = newest_checkpoint(folder, LocalContext())
    assert content == {"step": [2, 2, 2, 3][moment]}
    folder.save_checkpoint({"step": 4})
    assert newest_checkpoint(folder, LocalContext()) == {"step": 4}


# --- One bit --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [CHECKPOINT, PREVIOUS, "best.safetensors"])
def test_a_flipped_bit_of_a_half_done_run_is_refused_by_name(
    half_done: Path, tmp_path: Path, name: str
) -> None:
    folder, draws = copied(half_done, tmp_path), Random(name)
    whole = (folder / name).read_bytes()
    for _ in range(60):
        flip(folder / name, draws)
        with pytest.raises(DamagedError) as raised:
            is_whole(folder / name)
        assert str(raised.value).startswith(f"{folder / name}: was changed after it was written")
        (folder / name).write_bytes(whole)
    assert is_whole(folder / name)


@pytest.mark.parametrize("name", ["encoder.safetensors", "best.safetensors"])
def test_an_encoder_with_a_flipped_bit_is_not_loaded_embedded_or_exported(
    finished: Path, tmp_path: Path, name: str
) -> None:
    folder, draws = copied(finished, tmp_path), Random(name)
    path, whole = folder / name, (folder / name).read_bytes()
    for _ in range(60):
        flip(path, draws)
        for use in (load_encoder, Encoder.load):
            with pytest.raises(DamagedError, match=f"^{path}: "):
                use(path)
        path.write_bytes(whole)
    alone = shutil.copy(path, tmp_path / "alone.safetensors")
    assert Encoder.load(alone).width == Encoder.load(path).width


def test_a_run_does_not_begin_from_an_encoder_with_a_flipped_bit(
    finished: Path, tmp_path: Path, make_config: Callable[..., Config]
) -> None:
    path = Path(shutil.copy(finished / "encoder.safetensors", tmp_path))
    begun = make_config({"backbone.weights": str(path)})
    build_state(begun, torch.device("cpu"))
    flip(path, Random(5))
    with pytest.raises(ConfigError, match="was changed after it was written"):
        build_state(begun, torch.device("cpu"))


@pytest.mark.parametrize("name", SMALL)
def test_a_flipped_bit_of_a_small_file_is_refused_by_name(
    finished: Path, tmp_path: Path, name: str
) -> None:
    folder, draws = copied(finished, tmp_path), Random(name)
    whole = (folder / name).read_bytes()
    for _ in range(60):
        flip(folder / name, draws)
        assert str(damage(folder)[name]).startswith(f"{folder / name}: ")
        assert outcome(folder) == (None if name == "result.json" else "finished")
        (folder / name).write_bytes(whole)
    assert damage(folder) == {}


def test_a_flipped_bit_of_the_metrics_costs_its_line(finished: Path, tmp_path: Path) -> None:
    folder, draws = copied(finished, tmp_path), Random(0)
    path, expected = folder / "metrics.jsonl", read_metrics(finished)
    whole = path.read_bytes()
    for place in [*(draws.randrange(len(whole)) for _ in range(200)), len(whole) - 1]:
        changed = bytearray(whole)
        changed[place] ^= 1 << draws.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(DamagedError, match=f"^{path}: line "):
            read_metrics(folder)
        kept = [record for _, record in valid_lines(folder)]
        assert len(kept) >= len(expected) - 2
        assert all(record in expected for record in kept)


# --- Torn -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [CHECKPOINT, "encoder.safetensors", *SMALL])
def test_a_torn_file_is_refused_by_name(finished: Path, tmp_path: Path, name: str) -> None:
    folder, draws = copied(finished, tmp_path), Random(name)
    path, whole = folder / name, (folder / name).read_bytes()
    for length in (0, 1, len(whole) - 1, *(draws.randrange(len(whole)) for _ in range(17))):
        path.write_bytes(whole[:length])
        if name in SMALL:
            assert str(damage(folder)[name]).startswith(f"{path}: "), length
        elif name == CHECKPOINT:
            assert newest_checkpoint(RunFolder(folder), LocalContext()) is None
        else:
            with pytest.raises(DamagedError, match=f"^{path}: "):
                load_encoder(folder)


def test_torn_metrics_are_those_before(finished: Path, tmp_path: Path) -> None:
    folder, expected = copied(finished, tmp_path), read_metrics(finished)
    path = folder / "metrics.jsonl"
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        found = read_metrics(folder)
        assert found == expected[: len(found)]
    path.write_bytes(whole[:-1])
    assert read_metrics(folder) == expected, "it lacks nothing but the end of its line"


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "[]",
        "null",
        "",
        "0",
        '{"version": 1}',
        '{"version": 1, "steps": "9", "data_checksum": "x"}',
    ],
)
def test_what_is_no_result_is_not_finished_and_set_aside(
    finished: Path, tmp_path: Path, config: Config, tiny_shards: ShardSet, content: str
) -> None:
    from vididi.runs.mend import mend_run

    folder, said = copied(finished, tmp_path), []
    (folder / "result.json").write_text(content)
    assert outcome(folder) is None
    mend_run(folder, config, CELL, tiny_shards.manifest.checksum, said.append)
    assert said[0].startswith(f"{folder / 'result.json'}: ")
    assert said[0].endswith("; set aside as result.json.damaged-1")
    assert (folder / "result.json.damaged-1").read_text() == content


# --- Going on -------------------------------------------------------------------------------------


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    taken: list[int] = []
    step = loop.train_step
    monkeypatch.setattr(
        loop, "train_step", lambda *arguments: [taken.append(1), step(*arguments)][1]
    )
    return taken


@pytest.mark.parametrize("how", ["flip", "cut", "empty"])
@pytest.mark.parametrize(("lost", "trained"), [((CHECKPOINT,), 6), ((CHECKPOINT, PREVIOUS), 9)])
def test_a_run_goes_on_from_the_checkpoint_before_or_begins_anew_to_the_same_end(
    half_done: Path,
    finished: Path,
    tmp_path: Path,
    config: Config,
    tiny_shards: ShardSet,
    capsys: Fixture,
    steps: list[int],
    lost: tuple[str, ...],
    trained: int,
    how: str,
) -> None:
    folder, draws = copied(half_done, tmp_path), Random(how)
    for name in lost:
        size = (folder / name).stat().st_size
        if how == "flip":
            flip(folder / name, draws)
        else:
            os.truncate(folder / name, draws.randrange(size) if how == "cut" else 0)
    run(config, folder, tiny_shards)
    said = capsys.readouterr().err
    for name in lost:
        assert f"{folder / name}: " in said
        assert f"set aside as {name}.damaged-1" in said
        assert (folder / f"{name}.damaged-1").exists()
    assert (f"goes on from {PREVIOUS}, the one before" in said) == (len(lost) == 1)
    assert ("no whole checkpoint is left" in said) == (len(lost) == 2)
    assert len(steps) == trained
    assert_same_weights(finished, folder)
    assert_same_weights(finished, folder, "best.safetensors")
    assert steps_of(folder) == {CHECKPOINT: 9}
    assert [record["step"] for record in read_metrics(folder)] == [3, 6, 9]


def test_a_damaged_best_encoder_is_set_aside(
    half_done: Path, tmp_path: Path, config: Config, tiny_shards: ShardSet, capsys: Fixture
) -> None:
    folder = copied(half_done, tmp_path)
    flip(folder / "best.safetensors", Random(1))
    run(config, folder, tiny_shards)
    assert "set aside as best.safetensors.damaged-1" in capsys.readouterr().err
    assert is_whole(folder / "best.safetensors")


def test_a_damaged_encoder_of_a_run_without_checkpoint_is_trained_again(
    finished: Path,
    tmp_path: Path,
    config: Config,
    tiny_shards: ShardSet,
    capsys: Fixture,
    steps: list[int],
) -> None:
    folder = copied(finished, tmp_path)
    for name in ("result.json", CHECKPOINT):
        (folder / name).unlink()
    flip(folder / "encoder.safetensors", Random(2))
    run(config, folder, tiny_shards)
    assert "set aside as encoder.safetensors.damaged-1" in capsys.readouterr().err
    assert len(steps) == 9
    assert_same_weights(finished, folder)


def test_a_folder_of_an_earlier_version_is_read_as_it_was(
    half_done: Path, finished: Path, tmp_path: Path, config: Config, tiny_shards: ShardSet
) -> None:
    """No file of it has a checksum."""
    folder = copied(half_done, tmp_path)
    (folder / PREVIOUS).unlink()
    torch.save(torch.load(folder / CHECKPOINT, weights_only=True), folder / CHECKPOINT)
    save_file(load_file(folder / "best.safetensors"), folder / "best.safetensors")
    records = [{k: v for k, v in record.items() if k != "crc32"} for record in read_metrics(folder)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    for name in ("config.yaml", "cell.json"):
        text = (folder / name).read_text()
        (folder / name).write_text(
            text.partition("\n")[2]
            if name == "config.yaml"
            else json.dumps({k: v for k, v in json.loads(text).items() if k != "checksum"})
        )
    assert damage(folder) == {}
    assert is_whole(folder / CHECKPOINT)
    run(config, folder, tiny_shards)
    assert_same_weights(finished, folder)


# --- A folder that is gone ------------------------------------------------------------------------


class Deleting(LocalContext):
    """Deletes the run folder after the first epoch."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def report(self, metrics: Metrics) -> None:
        if metrics["epoch"] == 1:
            shutil.rmtree(self.folder)


def test_a_folder_that_is_deleted_under_its_run_is_named(
    tmp_path: Path, config: Config, tiny_shards: ShardSet
) -> None:
    folder = tmp_path / name_of(config, tiny_shards)
    with pytest.raises(TrainingError) as raised:
        run(config, folder, tiny_shards, Deleting(folder))
    assert str(raised.value) == (
        f"{folder.name}: {folder}: the run folder was deleted while a process worked in it; the"
        " same command begins it anew"
    )
    assert not folder.exists()
    run(config, folder, tiny_shards)
    assert outcome(folder) == "finished"


def worker(rank: int, folder: Path, meeting: Path, said: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    run_folder, context = RunFolder(folder), LocalContext(rank, 2)
    found = newest_checkpoint(run_folder, context)
    dist.barrier()
    if rank == 0:
        shutil.rmtree(folder)
    try:
        on_rank_0(folder, context, lambda: run_folder.save_checkpoint({"step": 3}))
    except TrainingError as error:
        (said / str(rank)).write_text(f"{found} {error}")
    dist.destroy_process_group()  # else a process may end by SIGABRT, once in some dozen times


def test_what_rank_0_finds_and_what_it_fails_by_is_every_worker_s(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    (said := tmp_path / "said").mkdir()
    for step in (1, 2):
        folder.save_checkpoint({"step": step})
    flip(folder.path / CHECKPOINT, Random(6))
    torch.multiprocessing.spawn(worker, (folder.path, tmp_path / "meeting", said), nprocs=2)
    texts = [(said / str(rank)).read_text() for rank in (0, 1)]
    assert texts[0] == texts[1]
    assert texts[0].startswith("{'step': 1} ")
    assert f"{folder.path}: the run folder was deleted" in texts[0]


# --- In a store -----------------------------------------------------------------------------------


def test_in_a_store_both_checkpoints_are_kept_and_a_damaged_mirror_is_fetched_again(
    bucket: str, tmp_path: Path
) -> None:
    uri = f"{bucket}/runs/cell"
    with machine(tmp_path / "here"):
        folder = RunFolder(mirror.local_path(uri))
        with folder.locked():
            folder.save_checkpoint({"step": 1})
            folder.save_checkpoint({"step": 2})
    with machine(tmp_path / "there"):
        folder = RunFolder(mirror.pulled(uri))
        with folder.locked():
            assert newest_checkpoint(folder, LocalContext()) == {"step": 2}
            assert is_whole(folder.path / PREVIOUS)
            assert steps_of(folder.path) == {CHECKPOINT: 2, PREVIOUS: 1}
        for name in (CHECKPOINT, PREVIOUS):
            before = (folder.path / name).stat()
            flip(folder.path / name, Random(3))
            os.utime(folder.path / name, ns=(before.st_atime_ns, before.st_mtime_ns))
            assert is_whole(folder.path / name), "it is fetched again"
        before = (folder.path / CHECKPOINT).stat()
        flip(folder.path / CHECKPOINT, Random(4))
        with folder.locked():
            mirror.push(folder.path / CHECKPOINT)
        with folder.locked():
            assert newest_checkpoint(folder, LocalContext()) == {"step": 1}
    with machine(tmp_path / "elsewhere"):
        folder = RunFolder(mirror.pulled(uri))
        assert not mirror.has(folder.path / CHECKPOINT)
        assert mirror.has(folder.path / f"{CHECKPOINT}.damaged-1")
        assert is_whole(folder.path / PREVIOUS)


def test_what_rank_0_cannot_write_ends_every_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str | None] = []

    def broadcast(value: str | None, context: LocalContext) -> str | None:
        if context.rank == 0:
            sent.append(value)
        return sent[-1]

    monkeypatch.setattr("vididi.runs.trust.broadcast_from_rank_0", broadcast)

    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "checkpoint.pt"))

    for rank in (0, 1):
        with pytest.raises(TrainingError, match=r"checkpoint\.pt: No space left on device; "):
            on_rank_0(tmp_path, LocalContext(rank=rank, world_size=2), full)
    with pytest.raises(OSError, match="No space left"):
        on_rank_0(tmp_path, LocalContext(), full)
