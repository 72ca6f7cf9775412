"""What a run records of its epochs: metrics.jsonl, and the same for its loggers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from PIL.Image import Image

from vididi.checksums import sealed_line
from vididi.finite import finite_json
from vididi.loggers.logger import Ending
from vididi.loggers.service import open_loggers
from vididi.runs import mirror, readers
from vididi.runs.file_names import METRICS
from vididi.runs.run_folder import RunFolder, write_atomically
from vididi.training.context import StoppedEarly


class Recorder:
    """metrics.jsonl and the loggers of one run, with the same content.

    What a restart would write again is cut off first.
    """

    def __init__(self, folder: RunFolder, step: int, cell: Mapping[str, Any] | None = None) -> None:
        """Begin to record after ``step``; ``cell`` is as of vididi.loggers.service.open_loggers."""
        self.path = folder.path / METRICS
        retained = {
            line: record
            for line, record in readers.valid_lines(folder.path)
            if record["step"] <= step
        }
        write_atomically(self.path, b"".join(retained).decode())
        recorded = {int(record["step"]): _scalars(record) for record in retained.values()}
        self.loggers = open_loggers(folder.path, cell or {}, recorded)

    def describe(
        self, configuration: str, sheet: Image | None, parameters: Mapping[str, Any] | None = None
    ) -> None:
        """What the run is, for loggers alone.

        Args:
            configuration: resolved, as YAML.
            sheet: what the network sees of one video.
            parameters: its hyperparameters.
        """
        png = BytesIO()
        if sheet is not None:
            sheet.save(png, "PNG")
        for logger in self.loggers:
            logger.text("configuration", f"```yaml\n{configuration}```")
            if sheet is not None:
                logger.image("what the network sees", png.getvalue(), *sheet.size)
            if parameters is not None:
                logger.hparams(parameters)

    def epoch(self, metrics: Mapping[str, float | int | str]) -> None:
        """Append the metrics of one epoch to metrics.jsonl and to the loggers."""
        with self.path.open("a") as file:
            file.write(sealed_line(finite_json(METRICS, metrics)))
        mirror.push(self.path)
        for logger in self.loggers:
            logger.scalars(_scalars(metrics), int(metrics["step"]))

    def finish(
        self, parameters: Mapping[str, Any], metrics: Mapping[str, float], step: int
    ) -> None:
        """What was measured at the end, and the run's row among others."""
        for logger in self.loggers:
            logger.scalars(metrics, step)
            logger.hparams(parameters)
        self.close("finished")

    def close(self, ending: Ending, reason: str = "") -> None:
        """No more is recorded, because the run ended so; nothing where it was closed before."""
        loggers, self.loggers = self.loggers, []
        for logger in loggers:
            logger.close(ending, reason)


@contextmanager
def closing(recorder: Recorder | None) -> Iterator[None]:
    """Tell a run's loggers how it ends where it does not finish: stopped early, failed, or
    interrupted.
    """
    try:
        yield
    except StoppedEarly:
        if recorder is not None:
            recorder.close("stopped")
        raise
    except Exception as error:
        if recorder is not None:
            recorder.close("failed", str(error))
        raise
    except BaseException:  # Tune ends what is stopped early so too, and then says it itself
        if recorder is not None:
            recorder.close("interrupted")
        raise


def _scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if isinstance(value, float)}
