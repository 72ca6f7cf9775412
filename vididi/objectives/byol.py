"""BYOL (Grill et al. 2020) as ViDiDi uses it (appendix D.3, eq. 2; E.2, E.3)."""

from __future__ import annotations

import copy
import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from vididi.objectives.heads import mlp
from vididi.objectives.objective import (
    Objective,
    at_least_float32,
    check_embeddings,
    full_precision,
)


def byol_regression(prediction: Tensor, target: Tensor) -> Tensor:
    """Eq. 2: the sum of 2 - 2 cos over ``[B, D]`` rows, over 2B.

    With s_ii where the print has s_ij.

    Args:
        prediction: ``[B, D]`` of the online network.
        target: ``[B, D]`` of the other view, from the target network.

    Raises:
        ValueError: the shapes differ or a value is not finite.
    """
    check_embeddings(prediction, target, ("prediction", "target"), min_batch=1)
    with full_precision(prediction.device.type):
        return (
            2 - 2 * cosine_similarity(at_least_float32(prediction), at_least_float32(target), dim=1)
        ).sum() / (2 * len(prediction))


def target_momentum(step: int, steps: int, base: float) -> float:
    """tau at 0-based ``step`` of ``steps``, which rises from ``base`` to 1 (E.3).

    1 - (1 - base) (cos(pi step / steps) + 1) / 2.
    """
    return 1 - (1 - base) * (math.cos(math.pi * step / steps) + 1) / 2


class BYOL(Objective):
    """Eq. 2 in both directions, summed.

    Projector and predictor have two layers, 4096 wide, 256 out (E.2).

    The target network is a copy that gets no gradient and follows the online one by a moving
    average of its parameters after each step, at a rate that goes from 1 - ``momentum`` to 0. It
    stays in training mode: its batch statistics are its own. ``scale: full`` leaves out the half of
    eq. 2, as BYOL's own paper does.

    Args:
        hidden: width of the projector's hidden layers and the predictor's (ViDiDi E.2) [features].
        out: width of the embedding (ViDiDi E.2) [features].
        hidden_layers: of the projector, the predictor has one; 0 is a linear one (ViDiDi E.2).
        momentum: share of the target network that stays at the first step, 0 to 1; it rises to 1
            by half a cosine (ViDiDi E.3).
        scale: half: eq. 2 as printed (ViDiDi eq. 2); full: twice that.
    """

    takes_one_pass = True

    def __init__(
        self,
        backbone: nn.Module,
        feature_width: int,
        *,
        hidden: int = 4096,
        out: int = 256,
        hidden_layers: int = 1,
        momentum: float = 0.99,
        scale: Literal["half", "full"] = "half",
    ) -> None:
        super().__init__(backbone)
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum: {momentum} is not valid; it must lie in [0, 1]")
        if scale not in ("half", "full"):
            raise ValueError(
                f"scale: {scale!r} is not valid; it is 'half' (ViDiDi eq. 2) or 'full' (BYOL)"
            )
        self.projector = mlp(feature_width, hidden, out, hidden_layers)
        self.predictor = mlp(out, hidden, out, 1)
        self.target = nn.Sequential(
            copy.deepcopy(backbone), copy.deepcopy(self.projector)
        ).requires_grad_(False)
        self.momentum = momentum
        self.factor = 2 if scale == "full" else 1

    def forward(
        self, view_a: Tensor, view_b: Tensor, starts: Tensor | None = None
    ) -> dict[str, Tensor]:
        """``loss`` (eq. 2), and ``target_std``, the spread of the target embeddings."""
        self.check_batch(view_a, view_b)
        prediction_a, prediction_b = map(
            self.gather,
            self.embed_both(view_a, view_b, self.backbone, self.projector, self.predictor),
        )
        with torch.no_grad():
            target_a, target_b = map(self.gather, self.embed_both(view_a, view_b, self.target))
        loss = byol_regression(prediction_a, target_b) + byol_regression(prediction_b, target_a)
        return {"loss": self.factor * loss, "target_std": _spread(target_a)}

    @torch.no_grad()
    def after_step(self, step: int, steps: int) -> None:
        """The moving average: target <- tau target + (1 - tau) online, parameters only."""
        online: list[Tensor] = [*self.backbone.parameters(), *self.projector.parameters()]
        weight = 1 - target_momentum(step, steps, self.momentum)
        torch._foreach_lerp_(list(self.target.parameters()), online, weight)


def _spread(z: Tensor) -> Tensor:
    """The mean deviation of normalised embeddings over the batch, times the root of D.

    Near 1 when spread, 0 when collapsed.
    """
    z = nn.functional.normalize(at_least_float32(z), dim=1)
    return z.std(dim=0).mean() * z.shape[1] ** 0.5
