"""What every objective is to the training loop."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Objective(nn.Module):
    """A self-supervised loss together with its heads and the backbone that it trains.

    ``gather`` turns this worker's embeddings ``[B, D]`` into all workers' ``[world * B, D]``, with gradient; alone, it is
    the identity. The loss is that of the whole global batch on every worker.
    """

    backbone: nn.Module
    gather: Callable[[Tensor], Tensor]

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.gather = _identity

    def forward(self, view_a: Tensor, view_b: Tensor) -> dict[str, Tensor]:
        """Two views ``[B, C, T, H, W]`` of the same videos -> scalar terms by name; ``loss`` is the one to minimise."""
        raise NotImplementedError


def _identity(z: Tensor) -> Tensor:
    return z


def check_embeddings(z_a: Tensor, z_b: Tensor) -> None:
    """Raise ValueError unless both are ``[B, D]`` of the same shape with B >= 2."""
    if z_a.ndim != 2 or z_a.shape != z_b.shape:
        raise ValueError(f"z_a, z_b: shapes {tuple(z_a.shape)} and {tuple(z_b.shape)}; both must be the same [B, D]")
    if z_a.shape[0] < 2:
        raise ValueError(f"z_a, z_b: a batch of {z_a.shape[0]}; this loss compares videos with each other and needs at least 2")


def full_precision(device: str) -> torch.autocast:
    """Losses run in float32 even under autocast, which would otherwise narrow their matrix products again."""
    return torch.autocast(device, enabled=False)


def widen(z: Tensor) -> Tensor:
    """To float32; float64 stays."""
    return z if z.dtype == torch.float64 else z.float()
