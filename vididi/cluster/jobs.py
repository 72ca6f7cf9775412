"""What a trial of Ray Tune has to do, and who is notified of what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from vididi.data.shards import ShardSet
from vididi.protocols import EvaluationEntry
from vididi.runs.mirror import place_of
from vididi.sweep import Cell

if TYPE_CHECKING:
    from vididi.cluster.held import Held


@dataclass(frozen=True)
class Job:
    """A cell to run, or the evaluation of one that is finished; where its results go, and what that
    folder remembers of the sweep.
    """

    cell: Cell
    folder: Path
    record: dict[str, Any]
    evaluation: EvaluationEntry | None = None
    shards: ShardSet | None = None  # where they are not the sweep's

    @property
    def title(self) -> str:
        """The cell's, and the evaluation's if it is one; names it on the screen."""
        return f"{self.cell.title} {self.evaluation.title}" if self.evaluation else self.cell.title

    @property
    def name(self) -> str:
        """The title with the cell's name for people."""
        return f"{self.cell.name} {self.evaluation.title}" if self.evaluation else self.cell.name

    def plain(self) -> dict[str, Any]:
        """Plain values for another process, without the data."""
        evaluation = self.evaluation.model_dump() if self.evaluation else None
        return {
            "config": self.cell.config.to_dict(),
            "cell": self.record,
            "evaluation": evaluation,
            "folder": place_of(self.folder),
            "hang_s": self.cell.resources.hang_s,
            "memory": self.cell.resources.memory,
            "threads": self.cell.resources.decoding_threads,
        }

    def values(self, shards: ShardSet, held: Held | None) -> dict[str, Any]:
        """Plain values and data for another process; ``shards`` and ``held`` are the sweep's."""
        data = (
            {"shards": str(self.shards.root), "held": None}
            if self.shards
            else {"shards": str(shards.root), "held": held}
        )
        return {**self.plain(), **data}


class JobsLeft(NamedTuple):
    """Folders of the jobs that came to no end in this start."""

    elsewhere: set[Path]  # another driver is at work there
    interrupted: set[Path]


class Watcher(Protocol):
    """Is notified of what happens to jobs; vididi.screen.ScreenWatcher is one."""

    def started(self, job: Job) -> None:
        """Its trial began, for the first time or again."""

    def reported(self, job: Job, metrics: dict[str, Any]) -> None:
        """It has trained another epoch; ``metrics`` has its number under ``epoch``."""

    def ended(self, job: Job, failures: int) -> None:
        """Its trial ended, after this many deaths of its process."""

    def elsewhere(self, job: Job) -> None:
        """It was left to another driver."""

    def stopping(self) -> None:
        """Ctrl-C was pressed: what runs is being ended, and nothing else begins."""

    def told(self, text: str) -> None:
        """A cell said something, and which cell it is."""

    def waiting(self, seconds: float, why: str) -> None:
        """Nothing could start for this long."""
