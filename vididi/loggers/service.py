"""A service as a logger: a run goes on in the service's run that an earlier process began, sends
each point once, and does not mind when the service fails.

loggers.json in the run folder remembers, by service, its run, what was sent, how the run ended and
what failed last.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from vididi.checksums import sealed_json
from vididi.errors import DamagedError
from vididi.loggers.choices import LOGGERS, TENSORBOARD, check_installed, services
from vididi.loggers.logger import Ending, Logger, RunName, Service
from vididi.loggers.tensorboard_files import TensorBoardFiles
from vididi.news import tell
from vididi.runs import readers
from vididi.runs.file_names import SENT
from vididi.runs.outcome import outcome
from vididi.runs.run_folder import write_atomically
from vididi.sweep import SHOWN
from vididi.terminal import one_line
from vididi.values import cut

Recorded = Mapping[int, Mapping[str, float]]


class _OfService(BaseModel):
    """What loggers.json holds of one service."""

    model_config = ConfigDict(extra="ignore")
    run: str | None = None
    row: int = 0  # how many points of time were sent
    steps: dict[str, int] = {}  # of each metric the last that was sent
    images: list[str] = []
    ended: str | None = None
    fault: str | None = None


class _Kept(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, _OfService]


def _read(folder: Path) -> dict[str, _OfService]:
    try:
        content = readers.read_mapping(folder / SENT, _Kept)
    except DamagedError:  # its run begins again at the service
        return {}
    return {name: _OfService(**values) for name, values in (content or {}).items()}


class ServiceLogger:
    """One service, for one run."""

    def __init__(self, name: str, about: RunName, recorded: Recorded, prefix: str = "") -> None:
        """Begin the service's run, or go on in it.

        Args:
            recorded: what earlier attempts recorded; what the service lacks of it is sent.
            prefix: of the names of all metrics; those that have one are measured anew, and sent
                whatever was sent before.
        """
        self.name, self.about, self.prefix = name, about, prefix
        self.kept = _read(about.folder).get(name, _OfService())
        self.service: Service | None = None
        if prefix:
            steps = {key: at for key, at in self.kept.steps.items() if not key.startswith(prefix)}
            self.kept = self.kept.model_copy(update={"steps": steps})
        self._try(self._begin)
        for step, values in recorded.items():
            self.scalars(values, step)

    def _begin(self) -> None:
        check_installed([self.name])
        self.service = _make(self.name, self.about, self.kept.run)
        self._keep(run=self.service.run, ended=None, fault=None)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """See Logger. What was sent of the step before is not sent again."""
        named = {f"{self.prefix}{name}": value for name, value in values.items()}
        last = self.kept.steps
        new = {name: value for name, value in named.items() if step > last.get(name, -1)}
        if self.service is None or not new:
            return
        service, row, before = self.service, max(self.kept.row + 1, step), self.kept
        # First kept, then sent: a process that dies between has sent it no time, not twice.
        self._keep(steps={**last, **dict.fromkeys(new, step)}, row=row)
        if not self._try(lambda: service.scalars(new, step, row)):
            self._keep(steps=before.steps, row=before.row)

    def text(self, tag: str, text: str) -> None:
        """See Logger."""
        self._with(lambda service: service.text(tag, text))

    def image(self, tag: str, png: bytes, width: int, height: int) -> None:
        """See Logger. It is sent once."""
        if self.service is None or tag in self.kept.images:
            return
        row = self.kept.row + 1
        self._keep(images=[*self.kept.images, tag], row=row)
        self._with(lambda service: service.image(tag, png, row))

    def hparams(self, parameters: Mapping[str, Any]) -> None:
        """See Logger."""
        self._with(lambda service: service.hparams(parameters))

    def close(self, ending: Ending, reason: str = "") -> None:
        """See Logger."""
        if self._with(lambda service: service.close(ending, cut(one_line(reason)))):
            self._keep(ended=ending)
        self.service = None

    def _with(self, action: Callable[[Service], None]) -> bool:
        service = self.service
        return service is not None and self._try(lambda: action(service))

    def _try(self, action: Callable[[], None]) -> bool:
        """Whether it went well; if not, that is said once and the service is left alone."""
        try:
            action()
        except Exception as error:
            self.service = None
            reason = cut(one_line(str(error) or type(error).__name__))
            self._keep(fault=reason)
            tell(
                f"{self.about.folder.name}: {self.name} failed, and the run goes on without it:"
                f" {reason}"
            )
            return False
        return True

    def _keep(self, **changes: Any) -> None:
        self.kept = self.kept.model_copy(update=changes)
        folder = self.about.folder
        content = {**_read(folder), self.name: self.kept}
        plain = {name: kept.model_dump() for name, kept in content.items()}
        write_atomically(folder / SENT, sealed_json(json.dumps(plain, indent=2)))


def _make(name: str, about: RunName, run: str | None) -> Service:
    """A service's run. Its package is imported here alone."""
    if name == "wandb":
        from vididi.loggers.weights_and_biases import WeightsAndBiases

        return WeightsAndBiases(about, run)
    from vididi.loggers.ml_flow import MLflow

    return MLflow(about, run)


# --- Opening --------------------------------------------------------------------------------------


def open_loggers(folder: Path, cell: Mapping[str, Any], recorded: Recorded) -> list[Logger]:
    """The loggers of a run.

    Args:
        cell: what the folder remembers of the sweep, and under LOGGERS the names of the loggers.
        recorded: what earlier attempts recorded and this one will not, by step.
    """
    names = cell.get(LOGGERS, TENSORBOARD)
    about = RunName.of(folder, cell, cell.get(SHOWN))
    board: list[Logger] = [TensorBoardFiles(folder, recorded)] if "tensorboard" in names else []
    return [*board, *(ServiceLogger(name, about, recorded) for name in services(names))]


@contextmanager
def evaluation_loggers(run: Path, folder: Path, names: Sequence[str]) -> Iterator[list[Logger]]:
    """The loggers of an evaluation, closed at the end: a service has it in the run that it is of,
    under ``evaluations/NAME/``.

    Args:
        run: the run folder. folder: the evaluation's.
    """
    board: list[Logger] = [TensorBoardFiles(folder, {})] if "tensorboard" in names else []
    with _held(run, names):
        # A folder of another program may have a cell that only a service asks for.
        cell = (readers.read_cell(run) if services(names) else None) or {}
        about, prefix = RunName.of(run, cell), f"evaluations/{folder.name}/"
        opened = [ServiceLogger(name, about, {}, prefix) for name in services(names)]
        loggers: list[Logger] = [*board, *opened]
        yield loggers
        for logger in loggers:
            logger.close("finished")


@contextmanager
def _held(run: Path, names: Sequence[str]) -> Iterator[None]:
    """One process at a time: evaluations of one run are made side by side."""
    if not services(names):
        yield
        return
    with (run / ".loggers").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# --- After the fact -------------------------------------------------------------------------------


def mark_ended(cells: Mapping[Path, Mapping[str, Any]], names: Sequence[str]) -> None:
    """Tell the services of runs that ended without a word: whose process died, that were stopped
    early or that failed before they began.

    Args:
        cells: what each run folder remembers of the sweep.
    """
    for folder, cell in cells.items():
        became = outcome(folder) if services(names) and folder.is_dir() else None
        if became not in ("failed", "stopped"):
            continue
        for name in services(names):
            if _read(folder).get(name, _OfService()).ended != became:
                logger = ServiceLogger(name, RunName.of(folder, cell, cell.get(SHOWN)), {})
                reason = (readers.read_error(folder) or "").strip() if became == "failed" else ""
                logger.close(became, reason)  # type: ignore[arg-type]


def fault_lines(folders: Sequence[Path], names: Sequence[str]) -> list[str]:
    """A line for each service that failed, with the reason of the first run of which it did."""
    lines = []
    for name in services(names):
        faults = [kept.fault for folder in folders if (kept := _read(folder).get(name))]
        told = [fault for fault in faults if fault]
        if told:
            lines.append(f"{name}: failed in {len(told)} of {len(folders)} runs: {told[0]}")
    return lines
