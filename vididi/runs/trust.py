"""Which checkpoint and which weights of a folder can be trusted, and what follows where one cannot.

A file whose checksum does not fit, or that cannot be read, is set aside by name, which is told
(vididi.news). One that is damaged in a mirror alone is fetched again.
Rank 0, which holds the folder, decides for all workers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vididi.checksums import fault_of
from vididi.description import read_description
from vididi.disks import refusal
from vididi.errors import DamagedError, DataError, TrainingError, VididiError
from vididi.news import tell
from vididi.runs import mirror
from vididi.runs.file_names import CHECKPOINT, PREVIOUS
from vididi.runs.mend import set_aside
from vididi.runs.run_folder import RunFolder, while_there
from vididi.training.context import Context, broadcast_from_rank_0


def is_whole(path: Path) -> bool:
    """Whether a checkpoint or a file of weights is there, on this machine now, and fits its
    checksum.

    Raises:
        DamagedError: it is there and does not fit. DataError: it cannot be read.
    """
    if not mirror.pull_file(path):
        return False
    fault = _fault(path)
    if fault is not None and mirror.mirror_of(path) is not None:
        if not mirror.fetch_again(path):
            return False
        fault = _fault(path)
    if fault is not None:
        raise DamagedError(f"{path}: {fault}")
    return True


def _fault(path: Path) -> str | None:
    try:
        return fault_of(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def whole_or_aside(path: Path) -> bool:
    """Whether a file of weights is there and whole; one that is damaged is set aside. Of rank 0
    alone. Raises DataError.
    """
    try:
        if not is_whole(path):
            return False
        read_description(path)
    except DamagedError as error:
        _aside(path, error)
        return False
    return True


def newest_checkpoint(folder: RunFolder, context: Context) -> dict[str, Any] | None:
    """The content of the newest checkpoint that is whole, on the worker's device; None where there
    is none. Every worker calls it.

    Raises:
        DataError: one cannot be read.
    """
    found: tuple[str | None, dict[str, Any] | None] = (None, None)
    if context.rank == 0:
        found = _newest(folder, context)
    name = broadcast_from_rank_0(found[0], context)
    if name is None or context.rank == 0:
        return found[1]
    if not is_whole(folder.path / name):
        raise TrainingError(f"{folder.path / name}: is not there, and rank 0 goes on from it")
    return folder.load_checkpoint(context.device, name)


def _newest(folder: RunFolder, context: Context) -> tuple[str | None, dict[str, Any] | None]:
    lost = False
    for name in (CHECKPOINT, PREVIOUS):
        path = folder.path / name
        try:
            if not is_whole(path):
                continue
            content = folder.load_checkpoint(context.device, name)
        except DamagedError as error:
            lost = True
            _aside(path, error)
            continue
        if lost:
            tell(f"{folder.path}: goes on from {name}, the one before")
        return name, content
    if lost:
        tell(f"{folder.path}: no whole checkpoint is left")
    return None, None


def _aside(path: Path, error: DamagedError) -> None:
    tell(f"{error}; set aside as {set_aside(path).name}")


def on_rank_0(folder: Path, context: Context, action: Callable[[], None]) -> None:
    """Rank 0 writes into a folder. What it fails by is raised on every worker, as the others would
    wait for it for ever. Every worker calls it.

    Raises:
        VididiError, OSError: the action's; a TrainingError where there are several workers.
        TrainingError: the folder was deleted.
    """
    if context.world_size == 1:
        with while_there(folder):
            action()
        return
    failure = None
    if context.rank == 0:
        try:
            with while_there(folder):
                action()
        except VididiError as error:
            failure = str(error)
        except OSError as error:
            failure = refusal(error) if error.filename is not None else str(error)
    failure = broadcast_from_rank_0(failure, context)
    if failure is not None:
        raise TrainingError(failure)
