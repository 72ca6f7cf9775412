"""CVRL (Qian et al. 2021, section 3.1).

Every other clip of the batch is a negative, of either view.
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


def nt_xent(z_a: Tensor, z_b: Tensor, temperature: float) -> Tensor:
    """Eq. 1 over embeddings ``[N, D]`` of two views, as the mean over all 2N anchors.

    The paper averages N of them.

    Each embedding picks its partner out of the 2N - 1 others by cosine similarity over
    ``temperature``.

    Args:
        z_a, z_b: ``[N, D]`` embeddings, row by row of the same videos.
        temperature: tau of eq. 1, above 0.

    Raises:
        ValueError: the temperature is not positive, the shapes differ, N < 2, or a value is not
            finite.
    """
    return cross_entropy(*anchors(z_a, z_b, temperature))


def anchors(z_a: Tensor, z_b: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Logits ``[2N, 2N]`` of every embedding against every other, and each one's partner ``[2N]``.

    The logit of an embedding with itself is minus infinity.
    """
    check_positive(temperature=temperature)
    check_embeddings(z_a, z_b)
    with full_precision(z_a.device.type):
        z = normalize(at_least_float32(torch.cat([z_a, z_b])), dim=1)
        logits = z @ z.T / temperature
        itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
        partner = torch.arange(len(z), device=z.device).roll(len(z_a))
        return logits.masked_fill(itself, -torch.inf), partner


class CVRL(Objective):
    """Eq. 1 with its projector, temperature 0.1.

    The projector has three hidden layers of 2048 (its Table 6), 128 out.

    The authors' code (tensorflow/models, official/projects/video_ssl) adds the means of the two
    views' anchors, as ``sum_over_views`` does, and does not divide by the number of replicas, which
    ``sum_over_workers`` imitates: its gradient, and with SGD its rate, is that much larger, and
    with the latter the result depends on the number of workers. There the two views go through the
    network as one batch and share its statistics (``views_together``), and the projector's running
    statistics, which no measure reads, take a share of 0.003 of each batch (``norm_momentum``).

    Args:
        hidden: width of the projector's hidden layers (CVRL Table 6) [features].
        out: width of the embedding [features].
        hidden_layers: of the projector; 0 is a linear one (CVRL Table 6).
        temperature: what similarities are divided by (CVRL eq. 1).
        sum_over_workers: multiply the loss by the number of workers, as the authors' code.
        sum_over_views: add the means of the two views' anchors, as the authors' code.
        norm_momentum: share of a batch in the running statistics of the projector, above 0 to 1.
        views_together: both views go through the network as one batch, as the authors' code.
    """

    default_augment = "cvrl"
    default_sampling = "interval"
    takes_one_pass = True

    def __init__(
        self,
        backbone: nn.Module,
        feature_width: int,
        *,
        hidden: int = 2048,
        out: int = 128,
        hidden_layers: int = 3,
        temperature: float = 0.1,
        sum_over_workers: bool = False,
        sum_over_views: bool = False,
        norm_momentum: float = 0.1,
        views_together: bool = False,
    ) -> None:
        super().__init__(backbone)
        check_positive(temperature=temperature)
        self.projector = mlp(feature_width, hidden, out, hidden_layers, norm_momentum=norm_momentum)
        self.temperature = temperature
        self.sum_over_workers = sum_over_workers
        self.sum_over_views = sum_over_views
        self.views_together = views_together

    def forward(
        self, view_a: Tensor, view_b: Tensor, starts: Tensor | None = None
    ) -> dict[str, Tensor]:
        """``loss`` (eq. 1), ``accuracy`` of anchors picking their partner, and ``entropy``.

        The entropy, in nats, is that of the probabilities in eq. 1 by which an anchor picks another
        embedding, averaged over anchors; at most log(2N - 1) (Figure 5).
        """
        self.check_batch(view_a, view_b)
        z_a, z_b = map(self.gather, self._embed(view_a, view_b))
        logits, partner = anchors(z_a, z_b, self.temperature)
        loss = cross_entropy(logits, partner)
        if self.sum_over_views:
            loss = 2 * loss
        if self.sum_over_workers:
            loss = loss * (len(z_a) // len(view_a))
        picked = logits.detach()
        return {
            "loss": loss,
            "accuracy": (picked.argmax(dim=1) == partner).float().mean(),
            "entropy": torch.special.entr(picked.softmax(dim=1)).sum(dim=1).mean(),
        }

    def _embed(self, view_a: Tensor, view_b: Tensor) -> tuple[Tensor, Tensor]:
        if not self.views_together:
            return self.embed_both(view_a, view_b, self.backbone, self.projector)
        if view_a.shape != view_b.shape:
            raise ValueError(
                f"views_together: True is not valid for views of {view_a.shape[2]} and"
                f" {view_b.shape[2]} frames; both must be the same (clip.view_length: constant)"
            )
        z_a, z_b = self.projector(self.backbone(torch.cat([view_a, view_b]))).chunk(2)
        return z_a, z_b
