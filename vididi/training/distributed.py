"""Many workers, one result: gathering with gradient and synchronised batch normalisation.

The convention: every worker computes the loss of the whole global batch from gathered embeddings,
and gradients of parameters are averaged over workers (DistributedDataParallel). What a worker's
embeddings get back is then the *sum* of all workers' gradients for them: sum over W identical
losses, divided by W in the average, is the gradient of one worker with the whole batch. Scaling
either place by 1/W once more is the classic bug.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vididi.training.context import Context


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)
        return grad.chunk(dist.get_world_size())[dist.get_rank()]


def gather(x: Tensor) -> Tensor:
    """Each worker's ``[B, D]`` -> ``[world * B, D]`` in rank order, on every worker.

    The gradient of a worker's rows is the sum of all workers' gradients for them.
    """
    return _Gather.apply(x)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        grad = grad.clone()
        dist.all_reduce(grad)
        return grad


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over all workers' batches, on any device.

    torch's own refuses CPU tensors.

    Input ``[B, C, ...]`` with the same B on every worker.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"input: shape {tuple(input.shape)}; it must be [B, C, ...]")

    def forward(self, input: Tensor) -> Tensor:
        """The same shape; statistics of all workers in training, the running ones otherwise."""
        self._check_input_dim(input)
        if not self.training:
            return super().forward(input)
        axes = [0, *range(2, input.ndim)]
        count = input.numel() // input.shape[1] * dist.get_world_size()
        shape = (1, -1, *(1,) * (input.ndim - 2))
        mean = _Sum.apply(input.sum(dim=axes)) / count
        centred = input - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(dim=axes)) / count
        self._update_running(mean.detach(), variance.detach() * count / (count - 1))
        normalised = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return normalised

    @torch.no_grad()
    def _update_running(self, mean: Tensor, unbiased: Tensor) -> None:
        if (
            self.running_mean is not None
            and self.running_var is not None
            and self.num_batches_tracked is not None
        ):
            self.num_batches_tracked += 1
            # As torch's: without a momentum each batch has the same weight.
            weight = self.momentum
            if weight is None:
                weight = 1 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean, weight)
            self.running_var.lerp_(unbiased, weight)


def data_parallel(module: nn.Module) -> nn.Module:
    """What to call instead of ``module``, so that gradients are averaged over the workers.

    Batch statistics become those of all workers.
    """
    synchronise_batch_norm(module)
    # Buffers are equal on all workers already, because batch statistics are.
    return DistributedDataParallel(module, broadcast_buffers=False)


def mean_over_workers(x: Tensor) -> Tensor:
    """The mean of what the workers hold, on every worker, without gradient."""
    x = x.detach().clone()
    dist.all_reduce(x)
    return x / dist.get_world_size()


def gather_rows(rows: NDArray, values: NDArray, context: Context) -> tuple[NDArray, NDArray]:
    """All workers' ``values`` ``[V, ...]`` by index rows ``[V]``, on every worker.

    In index order, so that ties do not depend on the number of workers.
    """
    if context.world_size > 1:
        parts: list[Any] = [None] * context.world_size
        dist.all_gather_object(parts, (rows, values))
        rows, values = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    order = np.argsort(rows)
    return rows[order], values[order]


def synchronise_batch_norm(module: nn.Module) -> nn.Module:
    """Replace every batch normalisation in ``module`` by its synchronised twin.

    The twin has the same weights.

    On CUDA by torch's SyncBatchNorm, elsewhere by ours. State dictionaries keep their names.
    """
    if next(module.parameters()).is_cuda:
        return torch_s_sync_batch_norm(module)
    return _convert(module)


def torch_s_sync_batch_norm(module: nn.Module) -> nn.Module:
    """torch's conversion, with all buffers: by itself it keeps those alone that torch knows."""
    before = {
        name: norm
        for name, norm in module.named_modules()
        if isinstance(norm, nn.modules.batchnorm._BatchNorm)
    }
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for name, norm in before.items():
        converted.get_submodule(name)._buffers = norm._buffers
    return converted


def _convert(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        twin = SyncBatchNorm(
            module.num_features,
            module.eps,
            module.momentum,
            module.affine,
            module.track_running_stats,
        )
        # The same tensors, not copies: an optimiser may hold them already.
        twin._parameters, twin._buffers = module._parameters, module._buffers
        return twin.train(module.training)
    for name, child in module.named_children():
        setattr(module, name, _convert(child))
    return module
