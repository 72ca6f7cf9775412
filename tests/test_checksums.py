"""Checksums in files: other programs read the files as before, and no bit can change unnoticed."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from vididi.checksums import (
    CHANGED,
    EMPTY,
    content_fault,
    fault_of,
    line_fault,
    seal,
    seal_archive,
    sealed_json,
    sealed_line,
    sealed_yaml,
    whole_at_end,
)

VALUES = {"version": 1, "data_checksum": "a" * 64, "retrieval/R@1": 0.5, "name": "é"}


def write_json(path: Path) -> None:
    path.write_text(sealed_json(json.dumps(VALUES, indent=2)))


def write_yaml(path: Path) -> None:
    path.write_text(sealed_yaml(f"data: {{name: motion}}\nweights: {{sha256: {'b' * 64}}}\n"))


def write_parquet(path: Path) -> None:
    table = pa.table({"video_id": ["a", "b"], "first_hit": [0, 3]})
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"checksum": EMPTY})
    seal(path)


def write_safetensors(path: Path) -> None:
    said = {"vididi": json.dumps({"data": {"checksum": "c" * 64}}), "checksum": EMPTY}
    save_file({"weight": torch.arange(6.0), "bias": torch.ones(2)}, path, said)
    seal(path)


def write_archive(path: Path) -> None:
    torch.save({"weight": torch.arange(6.0), "step": 3}, path)
    seal_archive(path)


FILES: dict[str, Callable[[Path], None]] = {
    "result.json": write_json,
    "config.yaml": write_yaml,
    "queries.parquet": write_parquet,
    "encoder.safetensors": write_safetensors,
    "checkpoint.pt": write_archive,
}


def refused_by_its_reader(path: Path) -> bool:
    """Whether a program that knows nothing of checksums refuses it."""
    try:
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".yaml":
            yaml.safe_load(path.read_text())
        elif path.suffix == ".parquet":
            pq.ParquetFile(path).read()
        elif path.suffix == ".safetensors":
            load_file(path)
        else:
            torch.load(path, weights_only=True)
    except Exception:
        return True
    return False


@pytest.mark.parametrize("name", FILES)
def test_other_programs_read_a_file_with_a_checksum(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    FILES[name](path)
    assert fault_of(path) is None
    assert len(re.findall(rb"sha256:[0-9a-f]{64}", path.read_bytes())) == 1
    assert not refused_by_its_reader(path)
    if name == "result.json":
        content = json.loads(path.read_text())
        assert list(content)[-1] == "checksum"
        assert {key: value for key, value in content.items() if key != "checksum"} == VALUES
    elif name == "config.yaml":
        assert yaml.safe_load(path.read_text())["data"] == {"name": "motion"}
    elif name == "queries.parquet":
        assert pq.ParquetFile(path).read()["first_hit"].to_pylist() == [0, 3]
    elif name == "encoder.safetensors":
        assert torch.equal(load_file(path)["weight"], torch.arange(6.0))
    else:
        assert zipfile.ZipFile(path).testzip() is None
        assert torch.load(path, weights_only=True)["step"] == 3


@pytest.mark.parametrize("name", FILES)
def test_no_bit_of_a_file_can_change_unnoticed(tmp_path: Path, name: str) -> None:
    """One seeded bit of every byte: the checksum, or the program that reads the file, refuses
    it.
    """
    path, draws = tmp_path / name, Random(name)
    FILES[name](path)
    whole, unnoticed = path.read_bytes(), []
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << draws.randrange(8)
        path.write_bytes(changed)
        if fault_of(path) is None and not refused_by_its_reader(path):
            unnoticed.append(place)
    assert unnoticed == []


@pytest.mark.parametrize("name", FILES)
def test_a_torn_file_is_refused_wherever_it_was_cut(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    FILES[name](path)
    whole = path.read_bytes()
    # The checksum of a YAML file is whole from here on; before that nothing is left but a comment.
    first = whole.index(b"\n") if name == "config.yaml" else 0
    for length in range(first, len(whole)):
        path.write_bytes(whole[:length])
        assert fault_of(path) is not None or refused_by_its_reader(path), length


@pytest.mark.parametrize("name", FILES)
def test_a_file_without_a_checksum_is_of_an_earlier_version(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "result.json":
        path.write_text(json.dumps(VALUES))
    elif name == "config.yaml":
        path.write_text(f"weights: {{sha256: {'b' * 64}}}\nmore_sha256: {'c' * 64}\n")
    elif name == "queries.parquet":
        pq.write_table(pa.table({"video_id": ["a"]}), path)
    elif name == "encoder.safetensors":
        save_file({"weight": torch.ones(3)}, path, {"data": "d" * 64})
    else:
        torch.save({"step": 3}, path)
    assert fault_of(path) is None
    if name in ("result.json", "config.yaml"):
        assert content_fault(path.read_bytes(), path.suffix) is None


def test_a_line_has_a_checksum_of_its_own() -> None:
    line = sealed_line(json.dumps({"epoch": 1, "step": 3, "train/loss": 0.25})).encode()
    content = json.loads(line)
    assert list(content) == ["epoch", "step", "train/loss", "crc32"]
    assert line_fault(line) is None
    assert line_fault(b'{"epoch": 1, "step": 3}\n') is None
    draws = Random(0)
    for place in range(len(line) - 1):
        changed = bytearray(line)
        changed[place] ^= 1 << draws.randrange(8)
        try:
            json.loads(changed)
        except ValueError:
            continue
        assert line_fault(bytes(changed)) is not None, place
    assert whole_at_end(line[:-1])
    assert not any(whole_at_end(line[:length]) for length in range(len(line) - 1))


def test_what_was_changed_by_hand_is_said_to_be(tmp_path: Path) -> None:
    write_json(path := tmp_path / "result.json")
    path.write_text(path.read_text().replace("0.5", "0.9"))
    assert fault_of(path) == CHANGED
    assert content_fault(path.read_bytes(), ".json") == CHANGED
