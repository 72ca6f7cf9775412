"""LARS (You et al. 2017), in the variant of VICReg's code."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from vididi.checks import check_not_negative


class LARS(Optimizer):
    """Momentum SGD whose step for each weight matrix is scaled to the size of that matrix.

    For a parameter w with gradient g and momentum v:

        g <- g + weight_decay * w
        g <- g * trust * |w| / |g|, or g where a norm is zero
        v <- momentum * v + g
        w <- w - lr * v

    Weight decay enters before the norms and nothing is clipped. Parameters of one dimension
    (biases, normalisation) are exempt from both decay and scaling.

    Args:
        params: parameters or groups.
        lr: learning rate (ViDiDi E.3: 1.2).
        momentum: share of the last step that stays, in [0, 1).
        weight_decay: share of a weight that its gradient gets (ViDiDi E.3: 1e-6).
        trust: the trust coefficient: length of a step at rate 1 over that of its weight.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1.2,
        momentum: float = 0.9,
        weight_decay: float = 1e-6,
        trust: float = 0.001,
    ) -> None:
        check_not_negative(lr=lr, weight_decay=weight_decay, trust=trust)
        check_momentum(momentum)
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            for together in _at_once(parameters):
                self._update(together, group)
        return loss

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Update parameters of a group."""
        matrices = [p for p in parameters if p.ndim > 1]
        gradients = dict(zip(matrices, _scaled(matrices, group), strict=True)) if matrices else {}
        for p in parameters:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        momenta = [self.state[p]["momentum"] for p in parameters]
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_add_(
            momenta, [gradients[p] if p in gradients else _gradient(p) for p in parameters]
        )
        torch._foreach_add_(parameters, momenta, alpha=-group["lr"])


def _at_once(parameters: list[Tensor]) -> Iterable[list[Tensor]]:
    """All of a GPU: a network has hundreds, and one by one each would cost several launches. Of a
    CPU each alone, which the cache holds from one operation to the next.
    """
    on_gpu = any(p.device.type != "cpu" for p in parameters)  # one: so all of the network
    return [parameters] if on_gpu else [[p] for p in parameters]


def check_momentum(momentum: float) -> None:
    """Raise ValueError unless it lies in [0, 1)."""
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum: {momentum} is not valid; it must lie in [0, 1)")


def _scaled(matrices: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
    """Gradients with weight decay, each scaled to the norm of its matrix."""
    gradients = torch._foreach_add(
        [_gradient(p) for p in matrices], matrices, alpha=group["weight_decay"]
    )
    norm_w = torch.stack(torch._foreach_norm(matrices))
    norm_g = torch.stack(torch._foreach_norm(gradients))
    ratios = torch.where((norm_w > 0) & (norm_g > 0), group["trust"] * norm_w / norm_g, 1.0)
    torch._foreach_mul_(gradients, list(ratios.unbind()))
    return list(gradients)


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
