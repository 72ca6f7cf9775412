"""Disks that are full: one sentence that names the place, and the same command goes on."""

from __future__ import annotations

import errno
import io
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from jobs_here import run_jobs_here
from safetensors.torch import save_file
from small_disk import enlarge, small_disk
from tiny_sweep import BASE

import run_sweep
from vididi.cli import main
from vididi.data.shards import ShardSet
from vididi.disks import writing_to
from vididi.news import telling
from vididi.runs.run_folder import RunFolder

PAGE = 4096
WRITERS: dict[str, Callable[[Path], object]] = {
    "python": lambda path: path.write_bytes(bytes(1 << 20)),
    "arrow": lambda path: pq.write_table(
        pa.table({"x": [bytes(range(256)) * 4096]}), path, compression="none"
    ),
    "torch": lambda path: torch.save({"x": torch.rand(1 << 18)}, path),
    "safetensors": lambda path: save_file({"x": torch.rand(1 << 18)}, path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_a_full_disk_refuses_names_the_place(name: str, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64 * PAGE) as disk:
        file = disk / "file"
        with pytest.raises(OSError, match="No space left") as caught, writing_to(file):
            WRITERS[name](file)
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(file))


def test_other_errors_stay_as_they_are(tmp_path: Path) -> None:
    for error in (
        ValueError("write"),
        RuntimeError("no"),
        KeyError("x"),
        io.UnsupportedOperation(),
    ):
        with pytest.raises(type(error)) as caught, writing_to(tmp_path):
            raise error
        assert caught.value is error
    with pytest.raises(FileNotFoundError) as missing, writing_to(tmp_path):
        (tmp_path / "none").read_text()
    assert missing.value.filename == str(tmp_path / "none")


def test_preparing_goes_on_when_there_is_space_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--short-side", "64", "--quality", "100", "--set", "train=60", "--set", "test=10"]
    monkeypatch.setenv("VIDIDI_CACHE", str(cache))
    assert main(["prepare", "motion", "--out", str(tmp_path / "whole"), *options]) == 0
    bytes_of_set = sum(file.stat().st_size for file in (tmp_path / "whole").iterdir())
    capsys.readouterr()
    with small_disk(tmp_path / "disk", bytes_of_set // 2) as disk:
        command = ["prepare", "motion", "--out", str(disk / "set"), *options]
        assert main(command) == 1
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert said.startswith(f"error: --out: {disk / 'set.partial'}: No space left on device; ")
        assert said.endswith("free some space, and give the same command again")
        enlarge(disk, 3 * bytes_of_set)
        assert main(command) == 0
        assert not (disk / "set.partial").exists()
        whole, other = (ShardSet.open(place) for place in (tmp_path / "whole", disk / "set"))
        assert other.manifest.checksum == whole.manifest.checksum


SWEEP = f"""name: full{BASE}  training: {{epochs: 1, batch_size: 12}}
  evaluation: {{clips: 2, frames: 4, stride: 2}}
arms: {{base: {{order: 0}}, vididi: {{order: 2}}}}
"""


def test_a_sweep_that_a_disk_has_no_room_for_is_refused_before_it_begins(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VIDIDI_CACHE", str(cache))
    (tmp_path / "full.yaml").write_text(SWEEP)
    run_jobs_here(monkeypatch)
    with small_disk(tmp_path / "disk", 4 * PAGE) as disk:
        command = [str(tmp_path / "full.yaml"), "--runs", str(disk)]
        assert run_sweep.main(command) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        begin = rf"error: runs: {disk}/full has \d+ KB free, and 2 cells take (\d+) KB at least; "
        least = re.match(begin, said)
        assert least, said
        assert not any(disk.glob("full/*/config.yaml"))
        enlarge(disk, 8 << 20)
        assert run_sweep.main(command) == 0
        kept = ("checkpoint.pt", "encoder.safetensors")
        written = sum(file.stat().st_size for name in kept for file in disk.glob(f"full/*/{name}"))
        assert written / 3 < 1000 * int(least[1]) < written


def test_a_reason_that_can_be_written_nowhere_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that has become read-only."""
    folder = RunFolder(tmp_path / "base-s0")
    folder.path.mkdir()
    folder.save_error("first\n")

    def refused(path: Path, *_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr("vididi.runs.run_folder.write_atomically", refused)
    heard: list[str] = []
    with telling(heard.append):
        folder.save_error("the disk is read-only\n")
    assert heard == ["base-s0: the disk is read-only"]
    assert (folder.path / "error.txt").read_text() == "first\n"
