"""What one start of a sweep works with, in one object that goes from the command to the rooms that
run cells.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from vididi.sweep import Cell, Sweep

if TYPE_CHECKING:
    from vididi.data.shards import ShardSet


@dataclass(frozen=True)
class Workspace:
    """A sweep that is run.

    Args:
        sweep: what its file says. cells: all of its cells, resolved; of a search, examples of them.
        shards: the cells' prepared data. runs: the folder of the sweep's run folders.
        console: where everything is printed.
        address: of a running Ray cluster (``auto`` for the one this node belongs to); None is this
            machine alone.
        changes: values by dotted key that win over the file's.
        program: that it was started with, as messages name it.
    """

    sweep: Sweep
    cells: list[Cell]
    shards: ShardSet
    runs: Path
    console: Console
    address: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    program: str = "vididi"

    @property
    def checksum(self) -> str:
        """Of the prepared data, a part of each cell's identity."""
        return self.shards.manifest.checksum

    def folder(self, cell: Cell) -> Path:
        """Where the cell's run folder is, or will be."""
        return cell.find_folder(self.runs, self.checksum)
