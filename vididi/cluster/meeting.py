"""How the workers of a cell on one machine find each other: by a file of their user's alone.

torch's own store for it listens on every address of the machine.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import ray
from ray.train.backend import BackendConfig
from ray.train.torch import TorchConfig
from ray.train.torch.config import (
    _set_torch_distributed_env_vars,
    _setup_torch_process_group,
    _TorchBackend,
)

from vididi.cluster.guardian import MARK


def torch_config(backend: str) -> TorchConfig:
    """How the workers form their process group: on a Ray of our own by a file."""
    return _ByFile(backend=backend) if MARK in os.environ else TorchConfig(backend=backend)


@dataclass
class _ByFile(TorchConfig):
    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _FileBackend


class _FileBackend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        assert isinstance(backend_config, TorchConfig)
        # A name of its own each time: a group that is formed again must not read the file of the
        # one before.
        file = f"file://{os.environ[MARK]}/group-{uuid4().hex}"
        worker_group.execute(_set_torch_distributed_env_vars)
        ray.get(
            [
                worker_group.execute_single_async(
                    rank,
                    _setup_torch_process_group,
                    backend=backend_config.backend,
                    world_rank=rank,
                    world_size=len(worker_group),
                    init_method=file,
                    timeout_s=backend_config.timeout_s,
                )
                for rank in range(len(worker_group))
            ]
        )
