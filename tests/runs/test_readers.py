"""The readers of a run folder's files: what was written is read, everything else is refused by its
path.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vididi.components import read_run_config
from vididi.config import Config, build_config
from vididi.errors import ConfigError, DamagedError, DataError
from vididi.introduced import with_introduced
from vididi.protocols.settings import ClassificationSettings
from vididi.runs.outcome import damage, finished, outcome
from vididi.runs.readers import (
    check_queries,
    folders_with,
    read_cell,
    read_config,
    read_error,
    read_evaluation_result,
    read_metrics,
    read_result,
    read_run_result,
    read_stopped,
    valid_lines,
)

REPO = Path(__file__).resolve().parents[2]
RESULT = {
    "version": 1,
    "retrieval/R@1": 0.5,
    "silhouette/all": None,
    "data_checksum": "x",
    "steps": 3,
    "seconds": 1.5,
}
MADE = {
    "version": 1,
    "protocol": "linear",
    "data": {"name": "motion", "checksum": "y"},
    "settings": {},
    "metrics": {"linear/top1": 0.5},
}
CELL = {"sweep": None, "arm": "a", "label": "A", "axes": {}, "seed": 0}
STOPPED = {"epoch": 2, "online/knn": 0.5, "rule": "asha"}


def write(folder: Path, **files: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(
            content if isinstance(content, str) else json.dumps(content)
        )
    return folder


def test_what_was_written_is_read_and_what_is_not_there_is_none(tmp_path: Path) -> None:
    assert [
        read(tmp_path / "none")
        for read in (read_result, read_cell, read_config, read_stopped, read_error)
    ] == [None] * 5
    assert (read_metrics(tmp_path), damage(tmp_path), outcome(tmp_path)) == ([], {}, None)
    folder = write(tmp_path / "run", result=RESULT, cell=CELL, stopped=STOPPED)
    (folder / "config.yaml").write_text(build_config({}).to_yaml())
    (folder / "metrics.jsonl").write_text(
        '{"epoch": 2, "step": 6}\n{"epoch": 1, "step": 3}\n{"epoch": 2, "step": 6, "x": NaN}\n{"ep'
    )
    assert (read_run_result(folder), read_cell(folder), read_stopped(folder)) == (
        RESULT,
        CELL,
        STOPPED,
    )
    assert read_config(folder) == with_introduced(Config, Config().to_dict())
    assert [sorted(record) for record in read_metrics(folder)] == [
        ["epoch", "step"],
        ["epoch", "step", "x"],
    ]
    assert (damage(folder), outcome(folder)) == ({}, "finished")
    made = write(folder / "evaluations" / "linear-0", result=MADE)
    later = with_introduced(ClassificationSettings, MADE["settings"])
    assert (read_evaluation_result(made), damage(made)) == ({**MADE, "settings": later}, {})
    with pytest.raises(DamagedError, match="is the result of an evaluation, not of a run"):
        read_run_result(made)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is empty"),
        ("{}", "version: missing"),
        ('{"version": 1', "is not JSON"),
        ("[1]", "must be a mapping of keys to values, not list"),
        ("\0\0\0", "is not JSON"),
        (json.dumps({**RESULT, "version": True}), "version: True is not valid"),
        (
            json.dumps({**RESULT, "retrieval/R@1": float("nan")}),
            "retrieval/R@1: nan is not a finite number",
        ),
        (json.dumps(RESULT).replace("0.5", "1e999"), "retrieval/R@1: inf is not a finite number"),
        (
            json.dumps({**RESULT, "retrieval/R@1": "0.5"}),
            "retrieval/R@1: '0.5' is not a finite number",
        ),
        (
            json.dumps({**RESULT, "retrieval/R@1": True}),
            "retrieval/R@1: True is not a finite number",
        ),
        (json.dumps({**RESULT, "steps": 3.5}), "steps: 3.5 is not valid"),
        (json.dumps({"version": 1, "steps": 3}), "data_checksum: missing"),
        (json.dumps({**RESULT, "data_checksum": "\ud800"}), "is not text in UTF-8"),
        (json.dumps({**MADE, "metrics": [0.5]}), "metrics: "),
        (json.dumps({**MADE, "data": {}}), "data.name: missing"),
    ],
)
def test_a_result_of_another_form_is_damaged_and_so_not_finished(
    tmp_path: Path, content: str, reason: str
) -> None:
    folder = write(tmp_path, result=content, stopped=STOPPED)
    with pytest.raises(DamagedError) as raised:
        read_result(folder)
    assert str(raised.value).startswith(f"{folder / 'result.json'}: {reason}")
    assert (finished(folder), outcome(folder)) == (None, None)
    assert str(damage(folder)["result.json"]) == str(raised.value)


def test_a_newer_version_and_storage_that_is_away_are_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path, result={"version": 2})
    for fault in (
        r"result\.json has version 2, this program reads version 1$",
        r"cannot be read: Permission denied$",
    ):
        for read in (read_result, finished, outcome, damage):
            with pytest.raises(DataError, match=fault) as raised:
                read(folder)
            assert not isinstance(raised.value, DamagedError)
        monkeypatch.setattr(Path, "stat", _refused)
    monkeypatch.undo()
    monkeypatch.setattr(os, "scandir", _refused)
    with pytest.raises(DataError, match="cannot be read"):
        folders_with(folder, "result.json")


def test_a_link_to_nothing_is_damaged_and_linked_folders_are_found_once(tmp_path: Path) -> None:
    """A run that was moved to another disk and linked is still there for all who look; a way round
    is no second run.
    """
    folder = write(tmp_path / "runs" / "own", cell=CELL)
    for name, read in (
        ("result.json", read_result),
        ("queries.parquet", check_queries),
        ("metrics.jsonl", read_metrics),
    ):
        (folder / name).symlink_to("nowhere")
        with pytest.raises(DamagedError, match=f"{name}: is a link to nothing"):
            read(folder)
    assert (
        outcome(folder),
        {"result.json", "queries.parquet", "metrics.jsonl"} - set(damage(folder)),
    ) == (None, set())
    moved = write(tmp_path / "disk" / "sweep" / "moved", result=RESULT, cell=CELL)
    for name, target in {
        "a": folder,
        "linked": moved.parent,
        "twice": moved,
        "up": tmp_path / "runs",
        "gone": tmp_path / "gone",
    }.items():
        (tmp_path / "runs" / name).symlink_to(target)
    found = folders_with(tmp_path / "runs", "cell.json")
    assert found == [tmp_path / "runs" / "linked" / "moved", folder]


def _refused(path: object, *_: object, **__: object) -> object:
    raise PermissionError(13, "Permission denied", str(path))


def test_a_configuration_of_a_newer_program_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(build_config({}).to_yaml() + "later: {x: 1}\n")
    assert (read_config(tmp_path) or {})["later"] == {"x": 1}
    with pytest.raises(ConfigError, match="later: unknown key"):
        build_config(read_config(tmp_path) or {})
    for text, reason in (
        ("training: {epochs: 3}\n", "data.name: missing"),
        ("a: !!set {x}\n", "config.yaml: line 1: a: a value of kind !!set"),
        ("a: &b [*b]\n", "config.yaml: line 1: a: an alias stands for a value that it is part of"),
    ):
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(DamagedError, match=re.escape(reason)):
            read_config(tmp_path)


def test_valid_lines_are_all_that_can_be_kept(tmp_path: Path) -> None:
    lines = [
        b'{"epoch": 1, "step": 3}\n',
        b"\0\0\0\n",
        b'{"epoch": true, "step": 6}\n',
        b"\xff\n",
        b'{"epoch": 3, "step": 9}\n',
        b'{"epoch": 4',
    ]
    (tmp_path / "metrics.jsonl").write_bytes(b"".join(lines))
    with pytest.raises(DamagedError, match=r"metrics\.jsonl: line 2 is not JSON"):
        read_metrics(tmp_path)
    assert [line for line, _ in valid_lines(tmp_path)] == [lines[0], lines[4]]


def test_an_error_is_read_whatever_it_holds(tmp_path: Path) -> None:
    (tmp_path / "error.txt").write_bytes(b"x" * 100_000 + b"\xff\0 too hot\n")
    assert (read_error(tmp_path) or "").endswith("\ufffd too hot\n")
    assert outcome(tmp_path) == "failed"
    (tmp_path / "error.txt").unlink()
    (tmp_path / "error.txt").mkdir()
    assert outcome(tmp_path) is None
    assert "is a folder, not a file" in str(damage(tmp_path)["error.txt"])
    os.mkfifo(tmp_path / "result.json")  # reading it would wait for ever
    assert "is not a regular file" in str(damage(tmp_path)["result.json"])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_bytes_are_read_or_refused_by_their_path(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """A whole file with a part of it replaced, or anything at all."""
    folder = tmp_path_factory.mktemp("any")
    whole = {
        "result.json": json.dumps(RESULT).encode(),
        "cell.json": json.dumps(CELL).encode(),
        "stopped.json": json.dumps(STOPPED).encode(),
        "config.yaml": build_config({}).to_yaml().encode(),
        "metrics.jsonl": b'{"epoch": 1, "step": 3}\n{"epoch": 2, "step": 6}\n',
        "queries.parquet": b"PAR1",
    }
    name = data.draw(st.sampled_from(sorted(whole)))
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(whole[name]))] * 2)))
    (folder / name).write_bytes(
        whole[name][:start] + data.draw(st.binary(max_size=40)) + whole[name][end:]
    )
    found = damage(folder)
    assert found.keys() <= {name, *(("config.yaml", "cell.json") if name == "result.json" else ())}
    assert all(
        str(error).startswith(f"{folder / file}: ") and len(str(error)) < 600
        for file, error in found.items()
    )
    assert outcome(folder) in (None, "finished", "stopped")
    valid_lines(folder)


@pytest.mark.parametrize(
    "kind", ["data", "backbone", "objective", "optimiser", "sampling", "augment"]
)
def test_what_only_a_newer_program_has_is_named(kind: str, tmp_path: Path) -> None:
    values = build_config({}).to_dict()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**values, kind: {"name": "later"}}))
    with pytest.raises(
        ConfigError, match=rf"config\.yaml: {kind}\.name: 'later' is not valid; it is one of "
    ) as raised:
        read_run_config(tmp_path)
    assert "\n" not in str(raised.value)
