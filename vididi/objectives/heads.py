"""Projection heads."""

from __future__ import annotations

from torch import nn


def mlp(width_in: int, hidden: int, width_out: int, layers: int, *, last_bias: bool = True) -> nn.Sequential:
    """A multi-layer perceptron with batch normalisation and ReLU after every hidden layer (ViDiDi E.2).

    ``layers`` counts the linear layers: 3 is two hidden layers and an output.
    """
    for name, value in (("width_in", width_in), ("hidden", hidden), ("width_out", width_out), ("layers", layers)):
        if value < 1:
            raise ValueError(f"{name}: {value} is not valid; it must be at least 1")
    modules: list[nn.Module] = []
    for _ in range(layers - 1):
        # The bias is left out where batch normalisation, which has its own, follows.
        modules += [nn.Linear(width_in, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()]
        width_in = hidden
    return nn.Sequential(*modules, nn.Linear(width_in, width_out, bias=last_bias))
