"""What a training loop needs to know of where it runs, in one small object."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch
import torch.distributed as dist

from vididi.errors import ConfigError

Metrics = Mapping[str, float | int | str]


class StoppedEarly(Exception):
    """The run was told to end after an epoch; everything of that epoch is written."""


class Context(Protocol):
    """Where a training loop runs.

    Every worker calls ``report``; rank 0 of ``world_size`` alone writes files. ``nodes``: over how
    many machines the workers are.
    """

    rank: int
    world_size: int
    nodes: int
    device: torch.device

    def report(self, metrics: Metrics) -> None:
        """Hand the metrics of an epoch, or of the end, to whoever watches."""


@dataclass
class LocalContext:
    """A run of its own, alone or one of torchrun's workers."""

    rank: int = 0
    world_size: int = 1
    nodes: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def report(self, metrics: Metrics) -> None:
        """Print the metrics of rank 0: one line, which a terminal gets in lines that fit it."""
        if self.rank == 0:
            print(
                _in_lines([f"{name} {_short(value)}" for name, value in metrics.items()]),
                flush=True,
            )


def _in_lines(parts: Sequence[str]) -> str:
    """Parts beside each other, none of them broken, each line after the first indented."""
    line = "  ".join(parts)
    if not sys.stdout.isatty():
        return line
    width = shutil.get_terminal_size().columns
    whole = "  ".join(part.replace(" ", "\0") for part in parts)
    lines = textwrap.wrap(
        whole, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines).replace("\0", " ")


def _short(value: float | int | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def device_kind(device: str | None) -> str:
    """``cpu`` or ``cuda``: the one asked for, or a GPU where there is one."""
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def local_context(device: str | None = None) -> Iterator[LocalContext]:
    """The context of this process: torchrun's environment if it is there, else one worker alone.

    Args:
        device: ``cpu`` or ``cuda``; a GPU where there is one if left out.

    Raises:
        ConfigError: ``cuda`` where torch can use no GPU.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    nodes = world_size // int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    rank, local_rank = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    kind = device_kind(device)
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "--device: 'cuda' is not there; this machine has no GPU that torch can use"
        )

    torch_device = torch.device(f"cuda:{local_rank}") if kind == "cuda" else torch.device(kind)
    if torch_device.type == "cuda":
        torch.cuda.set_device(torch_device)
    if world_size > 1:
        dist.init_process_group("nccl" if torch_device.type == "cuda" else "gloo")

    try:
        yield LocalContext(rank, world_size, nodes, torch_device)
    finally:
        if world_size > 1:
            dist.destroy_process_group()


Value = TypeVar("Value")


def broadcast_from_rank_0(value: Value, context: Context) -> Value:
    """Rank 0's value, on every worker."""
    if context.world_size == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def rank_0_first(prepare: Callable[[], Value], context: Context) -> Value:
    """What ``prepare`` returns, on every worker; rank 0 calls it before the others do.

    They then find that there is nothing left to do.
    """
    if context.rank == 0:
        value = prepare()
    barrier(context)
    return value if context.rank == 0 else prepare()


def barrier(context: Context) -> None:
    """Wait until every worker is here."""
    if context.world_size > 1:
        dist.barrier()
