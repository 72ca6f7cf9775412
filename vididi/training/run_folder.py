"""A run folder: everything one cell leaves behind. Only rank 0 writes, and always aside first, then by renaming.

One in an object store is worked on in a mirror (vididi.mirror): each file is pushed when it is written, and the result last.

config.yaml           the resolved configuration
cell.json             which cell of which sweep it is, and the checksum of its data
metrics.jsonl         one line per epoch
events.out.tfevents.* the same for TensorBoard, and the hyperparameters
checkpoint.pt         weights, optimiser state and step; what a half-done run goes on from
encoder.safetensors   the trained backbone
best.safetensors      the backbone of the best epoch by an online measure, if asked for; its metadata say which epoch
queries.parquet       per test video: the rank of its first correct neighbour
result.json           the measurements; its presence means that the run is finished
stopped.json          at which epoch the run was stopped early, and why, if it was
error.txt             why the last attempt failed, if it did
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from vididi import RESULT_VERSION, mirror
from vididi.errors import HeldError
from vididi.lease import holding

EVENTS = "events.out.tfevents.*"
LOCK_WAIT_S = 20.0
ERROR_WAIT_S = 5.0  # the processes of a cell that failed are about to end


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; what was written is flushed to disk and takes the place of ``path`` at the end."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    yield aside
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    aside.rename(path)
    mirror.push(path)


def write_atomically(path: Path, content: str) -> None:
    """Write a text file aside, then rename."""
    with replacing(path) as aside:
        aside.write_text(content)


class RunFolder:
    """Reading and writing one run folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def result(self) -> dict[str, Any] | None:
        path = self.path / "result.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def begin(self, config_yaml: str, cell: Mapping[str, Any]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / "config.yaml", config_yaml)
        write_atomically(self.path / "cell.json", json.dumps(cell, indent=2) + "\n")
        self.forget("error.txt", "stopped.json")

    def forget(self, *names: str) -> None:
        """Remove files that are there."""
        for name in names:
            if (self.path / name).is_file():
                mirror.remove(self.path / name)

    @contextmanager
    def locked(self, wait_s: float | None = None) -> Iterator[None]:
        """Hold the folder against other processes; the system releases it however this process ends.

        A process of a killed sweep may take a moment to die, so wait a little. A folder in a store is pulled, and whatever is written
        there while it is held is in the store at the end.

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
                        raise HeldError(f"{self.path}: another process is running this cell") from None
                    time.sleep(0.5)
            with holding(self.path, patience, for_dead=wait_s is None):
                yield

    def save_checkpoint(self, content: dict[str, Any]) -> None:
        with replacing(self.path / "checkpoint.pt") as aside:
            torch.save(content, aside)

    def load_checkpoint(self, device: torch.device) -> dict[str, Any] | None:
        path = self.path / "checkpoint.pt"
        return torch.load(path, map_location=device, weights_only=True) if mirror.fetch(path) else None

    def save_encoder(self, weights: dict[str, Tensor], name: str = "encoder.safetensors") -> None:
        with replacing(self.path / name) as aside:
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, aside)

    def save_best(self, weights: dict[str, Tensor], metric: str, value: float, epoch: int) -> None:
        """Keep an encoder as the best one so far."""
        told = {"epoch": str(epoch), metric: repr(value)}
        with replacing(self.path / "best.safetensors") as aside:
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, aside, told)

    def best(self, metric: str) -> float | None:
        """The value of the encoder that is kept as the best one by ``metric``."""
        path = self.path / "best.safetensors"
        if not mirror.fetch(path):
            return None
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
        return float(told[metric]) if metric in told else None

    @property
    def stopped(self) -> dict[str, Any] | None:
        """Where and why the run was stopped early, if it was."""
        path = self.path / "stopped.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def told_to_stop(self) -> bool:
        """Whether a sweep has marked the folder as stopped while this process works in it."""
        return mirror.fetch(self.path / "stopped.json", of_others=True)

    def save_stopped(self, content: Mapping[str, Any]) -> None:
        write_atomically(self.path / "stopped.json", json.dumps(content, indent=2) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """What was recorded of each epoch so far, the last record of an epoch counting."""
        records = {record["epoch"]: record for record in map(json.loads, _whole_lines(self.path / "metrics.jsonl"))}
        return [records[epoch] for epoch in sorted(records)]

    @property
    def epochs(self) -> int:
        """How many epochs were trained."""
        return max((int(record["epoch"]) for record in self.metrics()), default=0)

    def load_encoder(self, name: str = "encoder.safetensors") -> dict[str, Tensor]:
        return load_file(self.path / name)

    def save_queries(self, queries: pa.Table) -> None:
        self._save_table("queries.parquet", queries)

    @property
    def has_features(self) -> bool:
        return mirror.has(self.path / "features.parquet")

    def save_features(self, features: pa.Table) -> None:
        self._save_table("features.parquet", features)

    def _save_table(self, name: str, table: pa.Table) -> None:
        with replacing(self.path / name) as aside:
            pq.write_table(table, aside)

    def save_result(self, result: Mapping[str, Any]) -> None:
        write_atomically(self.path / "result.json", json.dumps({"version": RESULT_VERSION, **result}, indent=2) + "\n")

    def save_error(self, text: str) -> None:
        """Say why the last attempt failed, unless another process is making one."""
        try:
            with self.locked(ERROR_WAIT_S):
                write_atomically(self.path / "error.txt", text)
        except HeldError:
            pass


def _whole_lines(path: Path) -> list[str]:
    """The lines of a file that may not be there; one cut short by a kill has no newline."""
    if not path.is_file():
        return []
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


class Recorder:
    """metrics.jsonl and TensorBoard of one run, in step. What a restart would write again is cut off first."""

    def __init__(self, folder: RunFolder, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder.path / "metrics.jsonl"
        kept = [line for line in _whole_lines(self.path) if json.loads(line)["step"] <= step]
        write_atomically(self.path, "".join(kept))
        before = set(folder.path.glob(EVENTS))
        self.board = SummaryWriter(str(folder.path), purge_step=step + 1 if step else None)
        self.events = set(folder.path.glob(EVENTS)) - before

    def epoch(self, metrics: Mapping[str, float | int | str]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(metrics) + "\n")
        mirror.push(self.path)
        self.scalars({name: value for name, value in metrics.items() if isinstance(value, float)}, int(metrics["step"]))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.board.add_scalar(name, value, step)
        self.board.flush()
        self._push_events()

    def hparams(self, parameters: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """HParams in this run's own events file; SummaryWriter.add_hparams would open a second one in a sub-folder."""
        from torch.utils.tensorboard.summary import hparams

        plain = {name: value if isinstance(value, (bool, int, float, str)) else str(value) for name, value in parameters.items()}
        for summary in hparams(plain, dict.fromkeys(metrics, 0.0)):
            self.board._get_file_writer().add_summary(summary)

    def close(self) -> None:
        self.board.close()
        self._push_events()

    def _push_events(self) -> None:
        for path in self.events:
            mirror.push(path)
