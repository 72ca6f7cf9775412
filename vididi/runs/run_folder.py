"""A run folder: everything one cell leaves behind. Only rank 0 writes, and always aside first, then
by renaming.

One in an object store is worked on in a mirror (vididi.runs.mirror): each file is pushed when it is
written, and the result last.

config.yaml           the resolved configuration
cell.json             which cell of which sweep it is, and the checksum of its data
metrics.jsonl         one line per epoch
events.out.tfevents.* the same for TensorBoard, and the hyperparameters
checkpoint.pt         weights, optimiser state and step; what a half-done run goes on from
checkpoint.previous.pt
                      the one before, for a run that finds the other one damaged; removed at the
                      end
encoder.safetensors   the trained backbone; its metadata say what it is (vididi.description)
best.safetensors      the backbone of the best epoch by an online measure, if asked for; its
                      metadata say which epoch too
queries.parquet       per test video: the rank of its first correct neighbour, null where there is
                      none
features.parquet      per video its feature, class and split, for pictures; of runs that measure
                      retrieval or silhouette at their end
result.json           the measurements; its presence means that the run is finished
stopped.json          at which epoch the run was stopped early, and why, if it was
loggers.json          of other loggers than TensorBoard: their runs, and what was sent to them
error.txt             why the last attempt failed, if it did
error.earlier.txt     why one before it failed, which was tried again
.NAME.PID             a file that a process is writing, or was when it was killed; who next holds
                      the folder removes those (vididi.runs.left_behind)
*.damaged-1           a file that a sweep found damaged and set aside (vididi.runs.mend)

All but the events files and the errors carry checksums (vididi.checksums). What reads them is
vididi.runs.readers, and of weights and checkpoints vididi.runs.trust; vididi.runs.outcome says what
became of the run.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from vididi import RESULT_VERSION
from vididi.checksums import EMPTY, KEY, seal, seal_archive, sealed_json, sealed_yaml
from vididi.disks import writing_to
from vididi.errors import DamagedError, HeldError, TrainingError
from vididi.finite import finite_json
from vididi.news import tell
from vididi.runs import mirror, readers
from vididi.runs.file_names import (
    BEST,
    CELL,
    CHECKPOINT,
    CONFIG,
    EARLIER_ERROR,
    ENCODER,
    ERROR,
    FEATURES,
    PREVIOUS,
    QUERIES,
    RESULT,
    STOPPED,
)
from vididi.runs.lease import holding
from vididi.runs.left_behind import remove_temporaries

LOCK_WAIT_S = 20.0
# Kept in each run folder until the run has finished.
PAGE, PAGE_BYTES = ".page", 4096
ERROR_WAIT_S = 5.0  # the processes of a cell that failed are about to end


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which is flushed to disk and replaces ``path`` at the end.

    The file has the mode that the umask gives a new file, whatever wrote it: safetensors writes to
    a private temporary file (0600) and renames that.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)  # of a process with this number that was killed
    temporary.touch()
    mode = temporary.stat().st_mode & 0o777
    try:
        with writing_to(path):
            yield temporary
            temporary.chmod(mode)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    temporary.rename(path)
    mirror.push(path)


def write_atomically(path: Path, content: str) -> None:
    """Write a text file under a temporary name, then rename it."""
    with replacing(path) as temporary:
        temporary.write_text(content)


@contextmanager
def while_there(folder: Path) -> Iterator[None]:
    """What fails because a run folder was deleted under its process is said to.

    Raises:
        TrainingError: it names the folder.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        gone = isinstance(error, OSError) and error.errno == errno.ESTALE
        if folder.is_dir() and not gone:
            raise
        raise TrainingError(
            f"{mirror.place_of(folder)}: the run folder was deleted while a process worked in it;"
            " the same command begins it anew"
        ) from error


def config_text(config_yaml: str) -> str:
    """The content of config.yaml."""
    return sealed_yaml(config_yaml)


def cell_text(cell: Mapping[str, Any]) -> str:
    """The content of cell.json."""
    return sealed_json(json.dumps(cell, indent=2))


class RunFolder:
    """Reading and writing one run folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def result(self) -> dict[str, Any] | None:
        """What was measured, if the run is finished. Raises DamagedError, DataError."""
        return readers.read_result(self.path)

    def begin(self, config_yaml: str, cell: Mapping[str, Any]) -> None:
        """Write the configuration and the cell, and remove an earlier attempt's end; its error is
        kept aside.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self.keep_page()
        write_atomically(self.path / CONFIG, config_text(config_yaml))
        write_atomically(self.path / CELL, cell_text(cell))
        if (error := readers.read_error(self.path)) is not None:
            write_atomically(self.path / EARLIER_ERROR, error)
        self.forget(ERROR, STOPPED)

    def forget(self, *names: str) -> None:
        """Remove files that are there."""
        for name in names:
            if (self.path / name).is_file():
                mirror.remove_file(self.path / name)

    @contextmanager
    def locked(self, wait_s: float | None = None) -> Iterator[None]:
        """Hold the folder against other processes; the system releases it however this process
        ends.

        A process of a killed sweep may take a moment to die, so wait a little. A folder in a store
        is pulled, and whatever is written there while it is held is in the store at the end.

        Args:
            wait_s: instead of LOCK_WAIT_S, and for nothing else.

        Raises:
            HeldError: another process still holds it.
        """
        patience = LOCK_WAIT_S if wait_s is None else wait_s
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as file:
            deadline = time.monotonic() + patience
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise HeldError(
                            f"{self.path}: another process is running this cell"
                        ) from None
                    time.sleep(0.5)
            remove_temporaries(self.path)
            with holding(self.path, patience, for_dead=wait_s is None):
                yield

    def save_checkpoint(self, content: dict[str, Any]) -> None:
        """Write checkpoint.pt atomically; the one before is kept as checkpoint.previous.pt.

        Whenever the process is killed, one of them is whole.
        """
        path = self.path / CHECKPOINT
        with replacing(path) as temporary:
            torch.save(content, temporary)
            seal_archive(temporary)
            if path.is_file():
                mirror.rename_file(path, self.path / PREVIOUS)

    def load_checkpoint(self, device: torch.device, name: str = CHECKPOINT) -> dict[str, Any]:
        """The content of a checkpoint that is on this machine, on ``device``. Raises
        DamagedError.
        """
        path = self.path / name
        try:
            return torch.load(path, map_location=device, weights_only=True)
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:  # of many kinds, as the file may hold anything
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise DamagedError(f"{path}: cannot be read: {reason}") from None

    def save_encoder(
        self,
        weights: dict[str, Tensor],
        name: str = ENCODER,
        metadata: dict[str, str] | None = None,
    ) -> None:
        """Write weights as safetensors, under ``name``; metadata are what the file says of
        itself (vididi.description).
        """
        with replacing(self.path / name) as temporary:
            save_file(
                {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()},
                temporary,
                {**(metadata or {}), KEY: EMPTY},
            )
            seal(temporary, ".safetensors")

    def save_best(
        self,
        weights: dict[str, Tensor],
        metric: str,
        value: float,
        epoch: int,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Keep an encoder as the best one so far, with ``metadata`` as of ``save_encoder``."""
        said = {**(metadata or {}), "epoch": str(epoch), metric: repr(value)}
        self.save_encoder(weights, BEST, said)

    def best(self, metric: str) -> float | None:
        """The value of ``metric`` of the best encoder so far; None where there is none."""
        path = self.path / BEST
        if not mirror.pull_file(path):
            return None
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        return float(metadata[metric]) if metric in metadata else None

    def stop_requested(self) -> bool:
        """Whether a sweep has marked the folder as stopped while this process works in it."""
        return mirror.pull_file(self.path / STOPPED, of_others=True)

    def save_stopped(self, content: Mapping[str, Any]) -> None:
        """Write where and by which rule the run was stopped early."""
        write_atomically(self.path / STOPPED, sealed_json(json.dumps(content, indent=2)))

    @property
    def epochs(self) -> int:
        """How many epochs were trained, as far as the records that can be read tell."""
        return max((record["epoch"] for _, record in readers.valid_lines(self.path)), default=0)

    def load_encoder(self, name: str = ENCODER) -> dict[str, Tensor]:
        """The weights of a safetensors file that is on this machine and whole
        (vididi.runs.trust). Raises DamagedError.
        """
        try:
            return load_file(self.path / name)
        except SafetensorError as error:
            raise DamagedError(f"{self.path / name}: cannot be read: {error}") from None

    def save_queries(self, queries: pa.Table) -> None:
        """Write the ranks of the test videos' neighbours (queries.parquet)."""
        self._save_table(QUERIES, queries)

    @property
    def has_features(self) -> bool:
        """Whether features.parquet is there, or in the store."""
        return mirror.has(self.path / FEATURES)

    def save_features(self, features: pa.Table) -> None:
        """Write features.parquet."""
        self._save_table(FEATURES, features)

    def _save_table(self, name: str, table: pa.Table) -> None:
        with replacing(self.path / name) as temporary:
            with pq.ParquetWriter(temporary, table.schema) as writer:
                writer.write_table(table)
                writer.add_key_value_metadata({KEY: EMPTY})
            seal(temporary, ".parquet")

    def save_result(self, result: Mapping[str, Any]) -> None:
        """Write result.json; the run is finished then. Raises NotFiniteError."""
        content = {"version": RESULT_VERSION, **result}
        write_atomically(self.path / RESULT, sealed_json(finite_json(RESULT, content, indent=2)))
        (self.path / PAGE).unlink(missing_ok=True)

    def save_error(self, text: str) -> None:
        """Write why the last attempt failed, unless another process is making one.

        It raises nothing: where the disk is full, the page that was kept for this is written, and
        where nothing can be, as on a disk that is read-only, the reason is told.
        """
        try:
            with suppress(HeldError), self.locked(ERROR_WAIT_S):
                try:
                    write_atomically(self.path / ERROR, text)
                except OSError:
                    self._write_in_page(text)
        except OSError:
            tell(f"{self.path.name}: {text.strip()}")

    def keep_page(self) -> None:
        """Keep a page of the disk for the sentence that says that it is full."""
        page = self.path / PAGE
        if not page.is_file():
            page.write_bytes(bytes(PAGE_BYTES))

    def _write_in_page(self, text: str) -> None:
        content = text.encode()[-PAGE_BYTES:]
        with (self.path / PAGE).open("r+b") as file:
            file.write(content)
            file.truncate()
        (self.path / PAGE).rename(self.path / ERROR)
        mirror.push(self.path / ERROR)
