"""What became of a run, or of an evaluation: decided here, from what its folder holds, and nowhere
else.

    finished    its result is there
    stopped     it was stopped early, and is to stay so
    failed      its last attempt failed, and error.txt says why
    damaged     a file of it cannot be what was written
    half-done   there is a folder, and none of the above
    waiting     there is no folder

Two questions are asked. Who runs cells asks how a run ended (`outcome`): where that is None, there
is more to do. A damaged file that would say so leaves the question open until it is set aside
(vididi.runs.mend); other damaged files do not matter then. Who shows runs asks for their
`condition`, in which any damage comes first.

That another driver is at work in a folder is in no file: who is refused the folder is told
(errors.HeldError).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from vididi.errors import DamagedError
from vididi.runs.file_names import CELL, CONFIG, ERROR, FEATURES, METRICS, QUERIES, RESULT, STOPPED
from vididi.runs.readers import (
    check_queries,
    is_there,
    read_cell,
    read_config,
    read_error,
    read_feature_table,
    read_metrics,
    read_result,
    read_stopped,
)

Outcome = Literal["finished", "stopped", "failed"]
Condition = Literal["finished", "stopped", "failed", "damaged", "half-done", "waiting"]
DONE = ("finished", "stopped")  # outcomes after which there is no more to do

_READERS: dict[str, Callable[[Path], Any]] = {
    CONFIG: read_config,
    CELL: read_cell,
    METRICS: read_metrics,
    QUERIES: check_queries,
    FEATURES: read_feature_table,
    RESULT: read_result,
    STOPPED: read_stopped,
    ERROR: read_error,
}


def _has_result(folder: Path) -> bool:
    return read_result(folder) is not None


def has_new_result(folder: Path) -> bool:
    """Whether an evaluation that has just ended left a result: one that failed left an error,
    perhaps beside an older result.
    """
    return read_error(folder) is None and _has_result(folder)


def outcome(
    folder: Path, stopping: bool = True, measured: Callable[[Path], bool] = _has_result
) -> Outcome | None:
    """How a run or an evaluation ended. None where there is more to do: it has not ended, or what
    would say how is damaged.

    Args:
        stopping: whether one that was stopped early is to stay so.
        measured: whether a folder has all results that are asked for: an evaluation may lack one
            and be made again.

    Raises:
        DataError: a file cannot be read, or a newer program wrote it.
    """
    try:
        if measured(folder):
            return "finished"
        if stopping and read_stopped(folder) is not None:
            return "stopped"
        return None if read_error(folder) is None else "failed"
    except DamagedError:
        return None


def finished(folder: Path) -> dict[str, Any] | None:
    """The result of a run or an evaluation whose outcome is "finished", else None. Raises DataError
    as outcome.
    """
    try:
        return read_result(folder)
    except DamagedError:
        return None


def outcome_and_result(
    folder: Path, stopping: bool = True
) -> tuple[Outcome | None, dict[str, Any] | None]:
    """How a run ended, as outcome, and its result if it is finished; the result is read once."""
    try:
        result = read_result(folder)
    except DamagedError:
        return None, None
    return outcome(folder, stopping, measured=lambda _: result is not None), result


def stopped(folder: Path) -> dict[str, Any] | None:
    """Where and why a run ended whose outcome is "stopped", else None. Raises DataError as
    outcome.
    """
    return read_stopped(folder) if outcome(folder) == "stopped" else None


def condition(folder: Path) -> Condition:
    """What became of a run so far, for whoever shows it. Raises DataError as outcome."""
    if damage(folder):
        return "damaged"
    return outcome(folder) or ("half-done" if folder.is_dir() else "waiting")


def damage(folder: Path) -> dict[str, DamagedError]:
    """The damaged files of a run folder or of an evaluation's, by name. Finished runs lack neither
    config.yaml nor cell.json.

    Raises:
        DataError: one cannot be read, or a newer program wrote it.
    """
    damaged = {}
    for name, read in _READERS.items():
        try:
            read(folder)
        except DamagedError as error:
            damaged[name] = error
    if folder.parent.name == "evaluations" and not any(
        is_there(folder / name) for name in (CONFIG, CELL)
    ):
        return damaged
    if is_there(folder / RESULT):
        damaged |= {
            name: DamagedError(f"{folder / name}: is missing")
            for name in (CONFIG, CELL)
            if not is_there(folder / name)
        }
    return damaged
