"""SimCLR as ViDiDi uses it (appendix D.2, eq. 1).

An embedding is contrasted with those of the other view only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from vididi.checks import check_positive
from vididi.objectives.heads import mlp
from vididi.objectives.objective import (
    Objective,
    at_least_float32,
    check_embeddings,
    full_precision,
)


def info_nce(z_a: Tensor, z_b: Tensor, temperature: float) -> Tensor:
    """Eq. 1 with the minus sign that the print lost, over embeddings ``[B, D]`` of two views.

    Each embedding picks its partner out of the other view's B by cosine similarity over
    ``temperature``, in both directions; the mean of the 2B cross entropies.

    Args:
        z_a, z_b: ``[B, D]`` embeddings, row by row of the same videos.
        temperature: alpha of eq. 1, above 0.

    Raises:
        ValueError: the temperature is not positive, the shapes differ, B < 2, or a value is not
            finite.
    """
    return pick_partners(*cross_view_logits(z_a, z_b, temperature))


def pick_partners(logits: Tensor, partner: Tensor) -> Tensor:
    """The mean cross entropy of rows picking their column and columns picking their row."""
    return (cross_entropy(logits, partner) + cross_entropy(logits.T, partner)) / 2


def cross_view_logits(z_a: Tensor, z_b: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Cosine similarities s_ij over the temperature ``[B, B]``, and partners ``[B]``.

    ``z_a`` are the rows; computed in full precision.
    """
    check_positive(temperature=temperature)
    check_embeddings(z_a, z_b)
    with full_precision(z_a.device.type):
        logits = (
            normalize(at_least_float32(z_a), dim=1)
            @ normalize(at_least_float32(z_b), dim=1).T
            / temperature
        )
    return logits, torch.arange(len(logits), device=logits.device)


class SimCLR(Objective):
    """Eq. 1 with its projector: three layers, 2048 wide, 128 out (E.2), temperature 0.1 (E.3).

    Args:
        hidden: width of the projector's hidden layers (ViDiDi E.2) [features].
        out: width of the embedding (ViDiDi E.2) [features].
        hidden_layers: of the projector; 0 is a linear one (ViDiDi E.2).
        temperature: what similarities are divided by (ViDiDi eq. 1, E.3).
    """

    takes_one_pass = True

    def __init__(
        self,
        backbone: nn.Module,
        feature_width: int,
        *,
        hidden: int = 2048,
        out: int = 128,
        hidden_layers: int = 2,
        temperature: float = 0.1,
    ) -> None:
        super().__init__(backbone)
        check_positive(temperature=temperature)
        self.projector = mlp(feature_width, hidden, out, hidden_layers)
        self.temperature = temperature

    def forward(
        self, view_a: Tensor, view_b: Tensor, starts: Tensor | None = None
    ) -> dict[str, Tensor]:
        """``loss`` (eq. 1), and ``accuracy`` of first views picking their partner."""
        self.check_batch(view_a, view_b)
        z_a, z_b = map(self.gather, self.embed_both(view_a, view_b, self.backbone, self.projector))
        logits, partner = cross_view_logits(z_a, z_b, self.temperature)
        # The share of first views whose nearest second view is their own.
        accuracy = (logits.detach().argmax(dim=1) == partner).float().mean()
        return {"loss": pick_partners(logits, partner), "accuracy": accuracy}
