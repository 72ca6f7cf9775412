"""Disks that are full: one sentence that names the place, and the same command goes on."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from small_disk import enlarge, small_disk

from vididi.cli import main
from vididi.data.shards import ShardSet
from vididi.disks import writing_to

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
