"""TensorBoard as a logger: the events files of a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vididi.loggers.logger import Ending


class TensorBoardFiles:
    """Writes vididi.training.events.Events."""

    def __init__(self, folder: Path, recorded: Mapping[int, Mapping[str, float]]) -> None:
        # Imports tensorboard, which not every process that may record needs.
        from vididi.training.events import Events

        self.events = Events(folder, recorded)
        self.parameters: Mapping[str, Any] | None = None

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """See Logger."""
        self.events.scalars(values, step)

    def text(self, tag: str, text: str) -> None:
        """See Logger."""
        self.events.text(tag, text)

    def image(self, tag: str, png: bytes, width: int, height: int) -> None:
        """See Logger."""
        self.events.image(tag, png, width, height)

    def hparams(self, parameters: Mapping[str, Any]) -> None:
        """Kept until the end: a board takes a run that has them for one that succeeded."""
        self.parameters = parameters

    def close(self, ending: Ending, reason: str = "") -> None:
        """See Logger."""
        if ending == "finished" and self.parameters is not None:
            self.events.hparams(self.parameters)
        self.events.close()
