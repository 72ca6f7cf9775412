"""VICReg (Bardes et al. 2022) as ViDiDi uses it (appendix D.4, eqs. 3-6)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, relu

from vididi.checks import check_not_negative, check_positive
from vididi.objectives.heads import mlp
from vididi.objectives.objective import (
    Objective,
    at_least_float32,
    check_embeddings,
    full_precision,
)


def vicreg_terms(
    z_a: Tensor, z_b: Tensor, gamma: float = 1.0, eps: float = 1e-4
) -> tuple[Tensor, Tensor, Tensor]:
    """Invariance, variance and covariance of two batches of embeddings ``[B, D]``.

    Invariance (eq. 3) is the mean over all elements, as in VICReg's code; the paper prints a sum
    over the dimensions. Variance (eq. 4) and covariance (eq. 5) are those of both branches, added.

    Args:
        z_a, z_b: ``[B, D]`` embeddings, row by row of the same videos.
        gamma: deviation that each dimension should have, 0 or more (eq. 4).
        eps: what is added to a variance before its root, above 0 (eq. 4).

    Raises:
        ValueError: the shapes differ, the batch is smaller than 2, a value is not finite, gamma is
            negative or eps not positive.
    """
    check_not_negative(gamma=gamma)
    check_positive(eps=eps)
    check_embeddings(z_a, z_b)
    with full_precision(z_a.device.type):
        z_a, z_b = at_least_float32(z_a), at_least_float32(z_b)
        invariance = mse_loss(z_a, z_b)
        variance = variance_term(z_a, gamma, eps) + variance_term(z_b, gamma, eps)
        return invariance, variance, covariance_term(z_a) + covariance_term(z_b)


def variance_term(z: Tensor, gamma: float, eps: float) -> Tensor:
    """Eq. 4: by how much each dimension's deviation falls short of ``gamma``, on average."""
    return relu(gamma - torch.sqrt(z.var(dim=0) + eps)).mean()


def covariance_term(z: Tensor) -> Tensor:
    """Eq. 5: the squared off-diagonal covariances, summed, over D."""
    centred = z - z.mean(dim=0)
    # The squares of centred.T @ centred, [D, D], have the same sum as those of centred @ centred.T,
    # [B, B], as the trace of a product of four may be turned around; the smaller one is taken.
    few = centred if len(z) < z.shape[1] else centred.T
    squared = (few @ few.T).square().sum()
    on_diagonal = centred.square().sum(dim=0).square().sum()
    return (squared - on_diagonal) / (len(z) - 1) ** 2 / z.shape[1]


class VICReg(Objective):
    """Eq. 6 with its projector: three layers, 2048 wide (E.2), coefficients 1.0, 1.0, 0.05 (E.3).

    The last layer has no bias, as in VICReg's code: every term but the invariance ignores it.
    ``invariance_reduction: sum`` is eq. 3 as printed, a sum over dimensions; ``halve_variance``
    takes the mean of both branches' hinges, as VICReg's code.

    Args:
        hidden: width of the projector's hidden layers (ViDiDi E.2) [features].
        out: width of the embedding (ViDiDi E.2) [features].
        hidden_layers: of the projector; 0 is a linear one (ViDiDi E.2).
        invariance, variance, covariance: weights of the three terms (ViDiDi eq. 6, E.3).
        gamma: deviation that each dimension should have over the batch (ViDiDi eq. 4).
        eps: what is added to a variance before its root (ViDiDi eq. 4).
        invariance_reduction: over dimensions; sum is as printed (ViDiDi eq. 3).
        halve_variance: the mean of both branches' hinges instead of their sum.
    """

    takes_one_pass = True

    def __init__(
        self,
        backbone: nn.Module,
        feature_width: int,
        *,
        hidden: int = 2048,
        out: int = 2048,
        hidden_layers: int = 2,
        invariance: float = 1.0,
        variance: float = 1.0,
        covariance: float = 0.05,
        gamma: float = 1.0,
        eps: float = 1e-4,
        invariance_reduction: Literal["mean", "sum"] = "mean",
        halve_variance: bool = False,
    ) -> None:
        super().__init__(backbone)
        check_not_negative(
            invariance=invariance, variance=variance, covariance=covariance, gamma=gamma
        )
        # With eps 0 the gradient of a collapsed dimension would be infinite.
        check_positive(eps=eps)
        if invariance_reduction not in ("mean", "sum"):
            raise ValueError(
                f"invariance_reduction: {invariance_reduction!r} is not valid; it is 'mean' or"
                " 'sum'"
            )

        self.projector = mlp(feature_width, hidden, out, hidden_layers, last_bias=False)
        self.coefficients = (invariance, variance, covariance)
        self.gamma, self.eps = gamma, eps
        self.factors = (
            out if invariance_reduction == "sum" else 1,
            0.5 if halve_variance else 1,
            1,
        )

    def forward(
        self, view_a: Tensor, view_b: Tensor, starts: Tensor | None = None
    ) -> dict[str, Tensor]:
        """``loss`` (eq. 6), and its terms before their coefficients."""
        self.check_batch(view_a, view_b)
        z_a, z_b = map(self.gather, self.embed_both(view_a, view_b, self.backbone, self.projector))
        terms = [
            factor * term
            for factor, term in zip(
                self.factors, vicreg_terms(z_a, z_b, self.gamma, self.eps), strict=True
            )
        ]
        loss = sum(weight * term for weight, term in zip(self.coefficients, terms, strict=True))
        return {"loss": loss, "invariance": terms[0], "variance": terms[1], "covariance": terms[2]}  # type: ignore[dict-item]
