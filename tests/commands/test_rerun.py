"""Which cells ``rerun --failed`` is about."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.finished_sweep import CHECKSUM, write_finished
from tests.tiny_sweep import BASE
from vididi.commands.running import failed
from vididi.runs.run_folder import RunFolder
from vididi.sweep import expand, load_sweep
from vididi.terminal import PlainConsole
from vididi.workspace import Workspace


def test_a_cell_that_failed_stays_one_while_it_is_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Interrupted, it has an error no more; the same command must go on with it, and with no cell
    that was interrupted before it failed.
    """
    text = f"name: tiny\n{BASE}arms: {{done: {{}}, failed: {{order: 1}}, begun: {{order: 2}}}}\n"
    (tmp_path / "tiny.yaml").write_text(text)
    sweep = load_sweep(tmp_path / "tiny.yaml")
    done, broken, begun = cells = [cell.resolved() for cell in expand(sweep)]
    shards: Any = SimpleNamespace(manifest=SimpleNamespace(checksum=CHECKSUM))
    work = Workspace(sweep, cells, shards, tmp_path / "runs", PlainConsole())
    write_finished([done], sweep.name, work.runs)
    for cell in (broken, begun):
        RunFolder(work.folder(cell)).begin(cell.config.to_yaml(), cell.describe(sweep.name))
    folder = RunFolder(work.folder(broken))
    folder.save_error("the loss is not finite\n")
    assert failed(work) == [broken]
    folder.begin(broken.config.to_yaml(), broken.describe(sweep.name))
    assert failed(work) == [broken]
    folder.save_error("no more\n")
    assert failed(work) == [broken]
    assert capsys.readouterr().out.splitlines() == [
        "1 of 3 cells failed",
        "0 of 3 cells failed, 1 being tried again",
        "1 of 3 cells failed",
    ]
