"""Reading finished run folders."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vididi.config import flatten

RESULT_VERSION = 1


@dataclass(frozen=True)
class Run:
    """One finished cell: its configuration with dotted keys, its place in a sweep, its measurements."""

    folder: Path
    config: dict[str, Any]
    cell: dict[str, Any]
    result: dict[str, Any]

    @property
    def seed(self) -> int:
        return int(self.config["training.seed"])


def find_runs(root: Path) -> list[Path]:
    """Finished run folders: ``root`` itself, or those anywhere under it."""
    return sorted(path.parent for path in root.rglob("result.json") if (path.parent / "cell.json").is_file())


def read_run(folder: Path) -> Run:
    """Read one finished run folder; ValueError if a newer program wrote it."""
    result = json.loads((folder / "result.json").read_text())
    if result.get("version") != RESULT_VERSION:
        raise ValueError(f"{folder}: result.json has version {result.get('version')!r}, this program reads version {RESULT_VERSION}")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    return Run(folder, flatten(config), json.loads((folder / "cell.json").read_text()), result)


def read_finished(folders: Iterable[Path]) -> list[Run]:
    return [read_run(folder) for folder in folders if (folder / "result.json").is_file()]
