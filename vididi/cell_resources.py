"""What one cell of a sweep needs of machines. Imports neither torch nor Ray."""

from __future__ import annotations

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from vididi.config import Closed


class Resources(Closed):
    """What one cell needs. Resources change how fast a result comes, not the result, and are not
    part of its name.
    """

    workers: int = Field(
        1, ge=1, description="training workers; more than one runs under Ray Train"
    )
    cpus_per_worker: int = Field(
        1,
        ge=1,
        description="cores that Ray sets aside; as many threads of a worker decode, 2 at least",
    )
    gpus_per_worker: float = Field(
        0, ge=0, description="may be a fraction, so that cells share a GPU"
    )
    concurrency: int | None = Field(
        None, ge=1, description="cells at a time; as many as fit if left out"
    )
    hold_data: bool = Field(
        False,
        description=(
            "hold all frames once in each node's object store, instead of streaming them to each"
            " cell"
        ),
    )
    max_failures: int = Field(2, ge=0, description="restarts of a cell whose process or node died")
    hang_s: float = Field(
        60,
        ge=0,
        description=(
            "end a process that takes longer for a step, and than 20 times its median step, and"
            " start its cell again; 30 times as long between steps; 0: never [seconds]"
        ),
    )
    memory: float | None = Field(
        None,
        gt=0,
        description=(
            "of a worker's own process, which is ended above it and starts again; no limit if left"
            " out [GiB]"
        ),
    )
    ray_restarts: int = Field(
        3, ge=0, description="restarts of the program's own Ray where that died"
    )
    wait_s: float = Field(
        600, gt=0, description="give up when no cell could start for so long [seconds]"
    )

    @field_validator("gpus_per_worker")
    @classmethod
    def _gpus_are_whole_or_shared(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise PydanticCustomError(
                "whole_or_shared", "it must be a fraction below 1, or a whole number"
            )
        return gpus

    @property
    def decoding_threads(self) -> int:
        """Of each worker. They free Python's lock, and wait for frames as well."""
        return max(2, self.cpus_per_worker)

    @property
    def on_gpus(self) -> bool:
        """Whether its workers have any."""
        return self.gpus_per_worker > 0

    @property
    def summary(self) -> str:
        """For people: ``2 x (1 CPUs, 0 GPUs)``."""
        memory = f", {self.memory:g} GiB" if self.memory else ""
        return (
            f"{self.workers} x ({self.cpus_per_worker} CPUs, {self.gpus_per_worker:g} GPUs{memory})"
        )
