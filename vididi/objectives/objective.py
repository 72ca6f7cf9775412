"""What every objective is to the training loop, and the checks that the losses share.

Shapes: B videos of this worker, K clips per video, D embedding. The first view holds clips 0, 2,
... of each video, the second clips 1, 3, ..., video by video: with K = 2 both are ``[B, C, T, H,
W]``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from vididi.backbones.view_passes import ViewPasses, normalised_apart


class Objective(nn.Module):
    """A self-supervised loss together with its heads and the backbone that it trains.

    ``gather`` turns this worker's rows ``[B, ...]`` into all workers' ``[world * B, ...]``, with
    gradient; alone, it is the identity. The loss is that of the whole global batch on every worker.

    The class attributes are the recipe of the objective's paper: what a configuration gets where it
    says nothing.
    """

    default_augment: ClassVar[str] = "vididi"
    default_sampling: ClassVar[str] = "uniform"
    default_clips: ClassVar[int] = 2
    max_clips: ClassVar[int] = 2  # per video
    samplings: ClassVar[tuple[str, ...]] = ()  # the ones that it can use; empty for any
    takes_one_pass: ClassVar[bool] = False  # whether its forward has views embedded by embed_both

    backbone: nn.Module
    gather: Callable[[Tensor], Tensor]
    view_passes: ViewPasses

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.gather = _identity
        self.view_passes = "two"

    def forward(
        self, view_a: Tensor, view_b: Tensor, starts: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The loss of two views of the same videos.

        Args:
            view_a, view_b: ``[B * K / 2, C, T, H, W]``, see above.
            starts: ``[B, K]`` on the CPU, the source frame at which each clip begins.

        Returns:
            scalars by name; ``loss`` is the one to minimise.
        """
        raise NotImplementedError

    def embed_both(
        self, view_a: Tensor, view_b: Tensor, *networks: nn.Module
    ) -> tuple[Tensor, Tensor]:
        """What comes of each view by these networks, one after the other; the first takes clips.

        Each view is normalised by its own batch. With ``view_passes`` of ``one`` both go through at
        once all the same, and only rounding differs (view_passes.py).
        """

        def embed(clips: Tensor) -> Tensor:
            for network in networks:
                clips = network(clips)
            return clips

        if self.view_passes == "two":
            return embed(view_a), embed(view_b)
        with normalised_apart(networks, view_a, view_b) as both:
            z_a, z_b = embed(both).split([len(view_a), len(view_b)])
        return z_a, z_b

    def after_step(self, step: int, steps: int) -> None:
        """Called after the optimiser's 0-based ``step`` of ``steps``.

        For what is not learned by gradient.
        """

    def check_share(self, videos: int) -> None:
        """Raise ValueError unless a worker can hold ``videos`` videos of a batch."""

    def check_batch(self, view_a: Tensor, view_b: Tensor) -> None:
        """Raise ValueError unless the views have the same shape but for T, and hold enough videos.

        That is 2 or more with the other workers' share.
        """
        without_time = [(*view.shape[:2], *view.shape[3:]) for view in (view_a, view_b)]
        if without_time[0] != without_time[1]:
            raise ValueError(
                f"view_a, view_b: shapes {tuple(view_a.shape)} and {tuple(view_b.shape)}; both must"
                " be the same but for T"
            )
        if len(view_a) < 2 and self.gather is _identity:
            raise ValueError(
                f"view_a: a batch of {len(view_a)}; the heads normalise over videos and need at"
                " least 2"
            )


def _identity(z: Tensor) -> Tensor:
    return z


def check_embeddings(
    z_a: Tensor, z_b: Tensor, names: tuple[str, str] = ("z_a", "z_b"), min_batch: int = 2
) -> None:
    """Raise ValueError unless both are finite ``[B, D]`` of the same shape, B >= ``min_batch``.

    Finite as check_finite_outside_graph looks at it.
    """
    a, b = names
    if z_a.ndim != 2 or z_a.shape != z_b.shape:
        raise ValueError(
            f"{a}, {b}: shapes {tuple(z_a.shape)} and {tuple(z_b.shape)}; both must be the same"
            " [B, D]"
        )
    if z_a.shape[0] < min_batch:
        raise ValueError(
            f"{a}, {b}: a batch of {z_a.shape[0]}; this loss compares videos with each other and"
            f" needs at least {min_batch}"
        )
    check_finite_outside_graph(**{a: z_a, b: z_b})


def check_finite_outside_graph(**tensors: Tensor) -> None:
    """Raise ValueError naming the first tensor with a value that is not finite.

    Tensors inside a training graph are not read for that: it would make a GPU wait in every step.
    There, the training loop stops on the loss that they give, before the optimiser's step.
    """
    if any(z.requires_grad for z in tensors.values()):
        return
    for name, z in tensors.items():
        if not torch.isfinite(z).all():
            raise ValueError(
                f"{name}: {int((~torch.isfinite(z)).sum())} of {z.numel()} values are not finite;"
                " all must be"
            )


def full_precision(device: str) -> torch.autocast:
    """A context in which losses run in float32 even under autocast.

    Autocast would otherwise narrow their matrix products again.
    """
    return torch.autocast(device, enabled=False)


def at_least_float32(z: Tensor) -> Tensor:
    """To float32; float64 stays."""
    return z if z.dtype == torch.float64 else z.float()
