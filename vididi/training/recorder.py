"""What a run records of its epochs: metrics.jsonl, and the same for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from PIL.Image import Image

from vididi.finite import finite_json
from vididi.runs import mirror, readers
from vididi.runs.file_names import METRICS
from vididi.runs.run_folder import RunFolder, write_atomically


class Recorder:
    """metrics.jsonl and TensorBoard of one run, with the same content.

    What a restart would write again is cut off first.
    """

    def __init__(self, folder: RunFolder, step: int) -> None:
        # Imports tensorboard, which not every process that may record needs.
        from vididi.training.events import Events

        self.path = folder.path / METRICS
        retained = {
            line: record
            for line, record in readers.valid_lines(folder.path)
            if record["step"] <= step
        }
        write_atomically(self.path, b"".join(retained).decode())
        self.events = Events(
            folder.path, {int(record["step"]): _scalars(record) for record in retained.values()}
        )

    def describe(self, configuration: str, sheet: Image | None) -> None:
        """What the run is, for TensorBoard alone.

        Args:
            configuration: resolved, as YAML.
            sheet: what the network sees of one video.
        """
        self.events.text("configuration", f"```yaml\n{configuration}```")
        if sheet is not None:
            png = BytesIO()
            sheet.save(png, "PNG")
            self.events.image("what the network sees", png.getvalue(), *sheet.size)

    def epoch(self, metrics: Mapping[str, float | int | str]) -> None:
        """Append the metrics of one epoch to metrics.jsonl and to TensorBoard."""
        with self.path.open("a") as file:
            file.write(finite_json(METRICS, metrics) + "\n")
        mirror.push(self.path)
        self.events.scalars(_scalars(metrics), int(metrics["step"]))

    def finish(
        self, parameters: Mapping[str, Any], metrics: Mapping[str, float], step: int
    ) -> None:
        """What was measured at the end, and the run's row among others."""
        self.events.scalars(metrics, step)
        self.events.hparams(parameters)
        self.events.close()


def _scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if isinstance(value, float)}
