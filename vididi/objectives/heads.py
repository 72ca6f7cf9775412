"""Heads: projectors, and CORP's relations between pairs of embeddings."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

MAX_LAYERS = 1000  # hidden ones of a perceptron; more are a slip


def mlp(
    width_in: int,
    hidden: int,
    width_out: int,
    hidden_layers: int,
    *,
    last_bias: bool = True,
    norm_momentum: float = 0.1,
) -> nn.Sequential:
    """A multi-layer perceptron with batch normalisation and ReLU after hidden layers (ViDiDi E.2).

    ``hidden_layers`` of 0 is a linear layer; ViDiDi's "3-layer MLP" has 2, CVRL's default head 3
    (its Table 6). ``norm_momentum`` is the share of a batch in the running statistics.
    """
    for name, value in (("width_in", width_in), ("hidden", hidden), ("out", width_out)):
        if value < 1:
            raise ValueError(f"{name}: {value} is not valid; it must be at least 1")
    if not 0 <= hidden_layers <= MAX_LAYERS:
        raise ValueError(
            f"hidden_layers: {hidden_layers} is not valid; it must be 0 to {MAX_LAYERS}"
        )
    if not 0 < norm_momentum <= 1:
        raise ValueError(
            f"norm_momentum: {norm_momentum} is not valid; it must be above 0 and at most 1"
        )
    modules: list[nn.Module] = []
    for _ in range(hidden_layers):
        # The bias is left out where batch normalisation, which has its own, follows.
        norm = nn.BatchNorm1d(hidden, momentum=norm_momentum)
        modules += [nn.Linear(width_in, hidden, bias=False), norm, nn.ReLU()]
        width_in = hidden
    return nn.Sequential(*modules, nn.Linear(width_in, width_out, bias=last_bias))


class DecouplingAttention(nn.Module):
    """CORP's eq. 8 without its sums: ``[G x * G y, P x * Q y - Q x * P y]``.

    The first ``symmetric`` (n) outputs do not change when x and y change places, the other
    ``antisymmetric`` (l) change sign. Weights begin as standard normal, so that for unit vectors
    the outputs begin at the scale of one.

    Args:
        width: D of the embeddings.

    Raises:
        ValueError: one of the three is below 1.
    """

    def __init__(self, width: int, *, symmetric: int = 64, antisymmetric: int = 64) -> None:
        super().__init__()
        for name, value in (
            ("width", width),
            ("symmetric", symmetric),
            ("antisymmetric", antisymmetric),
        ):
            if value < 1:
                raise ValueError(f"{name}: {value} is not valid; it must be at least 1")
        self.g = _projection(width, symmetric)
        self.p = _projection(width, antisymmetric)
        self.q = _projection(width, antisymmetric)
        self.width_out = symmetric + antisymmetric

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """``[..., D]`` and ``[..., D]``, broadcast against each other -> ``[..., n + l]``."""
        return torch.cat(
            [self.g(x) * self.g(y), self.p(x) * self.q(y) - self.q(x) * self.p(y)], dim=-1
        )


class MixedAttention(nn.Module):
    """CORP's eq. 1, multi-head attention: ``<U_i x, V_i y>`` for each of ``heads`` heads.

    For its Table 6c.
    """

    def __init__(self, width: int, *, heads: int = 128) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(
                f"heads: {heads} is not valid; it must divide the width of the embedding, {width}"
            )
        self.u, self.v = _projection(width, width), _projection(width, width)
        self.width_out = heads

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """``[..., D]`` and ``[..., D]``, broadcast against each other -> ``[..., heads]``."""
        return (self.u(x) * self.v(y)).unflatten(-1, (self.width_out, -1)).sum(dim=-1)


def _projection(width_in: int, width_out: int) -> nn.Linear:
    layer = nn.Linear(width_in, width_out, bias=False)
    nn.init.normal_(layer.weight)
    return layer


class Relation(nn.Module):
    """CORP's eqs. 2 and 4: attention between two embeddings, and a small perceptron on top of it.

    The perceptron has no batch normalisation: its rows are pairs, whose number grows with the
    square of the clips.
    """

    def __init__(
        self,
        width: int,
        classes: int,
        attention: Literal["decoupling", "mixed"],
        symmetric: int,
        antisymmetric: int,
        heads: int,
        layers: int,
    ) -> None:
        super().__init__()
        if attention not in ("decoupling", "mixed"):
            raise ValueError(
                f"attention: {attention!r} is not valid; it is 'decoupling' or 'mixed'"
            )
        if layers not in (1, 2):
            raise ValueError(f"perceptron_layers: {layers} is not valid; it is 1 or 2")
        self.attention = (
            MixedAttention(width, heads=heads)
            if attention == "mixed"
            else DecouplingAttention(width, symmetric=symmetric, antisymmetric=antisymmetric)
        )
        between = self.attention.width_out
        first: list[nn.Module] = [nn.Linear(between, between), nn.ReLU()] if layers == 2 else []
        self.perceptron = nn.Sequential(*first, nn.Linear(between, classes))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """``[..., D]`` and ``[..., D]``, broadcast -> logits ``[..., classes]``."""
        return self.perceptron(self.attention(x, y))
