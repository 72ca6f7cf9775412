"""LARS (You et al. 2017), in the variant of VICReg's code."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer


class LARS(Optimizer):
    """Momentum SGD whose step for each weight matrix is scaled to the size of that matrix.

    For a parameter w with gradient g:  g <- g + weight_decay * w;  g <- g * trust * |w| / |g|  (1 where a norm is zero);
    v <- momentum * v + g;  w <- w - lr * v.  Weight decay enters before the norms and nothing is clipped. Parameters of
    one dimension (biases, normalisation) are exempt from both decay and scaling.

    Args:
        params: parameters or groups.
        lr: learning rate (ViDiDi E.3: 1.2).
        momentum: in [0, 1).
        weight_decay: ViDiDi E.3: 1e-6.
        trust: the trust coefficient.
    """

    def __init__(
        self, params: Iterable[Any], *, lr: float = 1.2, momentum: float = 0.9, weight_decay: float = 1e-6, trust: float = 0.001
    ) -> None:
        check_at_least_zero(lr=lr, weight_decay=weight_decay, trust=trust)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum: {momentum} is not valid; it must lie in [0, 1)")
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        gradient = parameter.grad
        assert gradient is not None
        if parameter.ndim > 1:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
            norm_w, norm_g = parameter.norm(), gradient.norm()
            ratio = torch.where((norm_w > 0) & (norm_g > 0), group["trust"] * norm_w / norm_g, 1.0)
            gradient = gradient * ratio
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].mul_(group["momentum"]).add_(gradient)
        parameter.add_(state["momentum"], alpha=-group["lr"])


def check_at_least_zero(**values: float) -> None:
    """Raise ValueError naming the first negative value."""
    for name, value in values.items():
        if value < 0:
            raise ValueError(f"{name}: {value} is not valid; it must be at least 0")
