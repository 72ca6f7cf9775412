"""What a logger is: the one interface that a run writes its curves to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

Ending = Literal["finished", "stopped", "failed", "interrupted"]


class Logger(Protocol):
    """Shows one run somewhere."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Metrics of one step."""

    def text(self, tag: str, text: str) -> None:
        """A text in Markdown."""

    def image(self, tag: str, png: bytes, width: int, height: int) -> None:
        """An image, encoded as PNG, and its size in pixels."""

    def hparams(self, parameters: Mapping[str, Any]) -> None:
        """The run's hyperparameters; given again, the last ones count."""

    def close(self, ending: Ending, reason: str = "") -> None:
        """No more is written; how the run ended, and why."""


class Service(Protocol):
    """What a service's own code does for one run of it; all of it may raise.

    Attributes:
        run: what the service calls the run, with which a later process goes on in it.
    """

    run: str

    def scalars(self, values: Mapping[str, float], step: int, row: int) -> None:
        """Metrics of one step; ``row`` counts what was sent of the run, over all processes."""

    def text(self, tag: str, text: str) -> None:
        """A text; one that is there under its tag is replaced."""

    def image(self, tag: str, png: bytes, row: int) -> None:
        """An image, encoded as PNG."""

    def hparams(self, parameters: Mapping[str, Any]) -> None:
        """The run's hyperparameters."""

    def close(self, ending: Ending, reason: str) -> None:
        """All is sent, and the run marked as ended so."""


@dataclass(frozen=True)
class RunName:
    """What a service calls a run.

    Args:
        project: its sweep. name: its cell. arm, label: of the cell.
        folder: its run folder. Files that a service keeps on this machine go beside it, into
            hidden folders, which an object store has none of.
    """

    project: str
    name: str
    arm: str
    label: str
    folder: Path

    @classmethod
    def of(cls, folder: Path, cell: Mapping[str, Any], shown: str | None = None) -> RunName:
        """That of a run folder whose cell.json has, or will have, this content.

        Args:
            shown: what the cell is called beside its seed where the folder's name is not for
                people.
        """
        arm = str(cell.get("arm") or folder.name)
        label = str(cell.get("label") or arm)
        name = f"{shown}, seed {cell.get('seed')}" if shown else folder.name
        return cls(str(cell.get("sweep") or "vididi"), name, arm, label, folder)
