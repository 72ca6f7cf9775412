"""Two views in one pass of a network, in which each keeps batch statistics of its own.

One pass reads the weights once instead of twice, and adds to their gradient once. What ties clips
of a batch to each other in a network is batch normalisation alone; here each normalisation takes
the batch apart, so that the arithmetic is that of a pass for each view, but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vididi.backbones.norm_by_order import also_known, statistics_of_order

Views = tuple[Tensor, ...]
ViewPasses = Literal["one", "two"]

# Up to how many numbers in a view's batch, clips x frames x pixels of one colour, one pass is the
# faster one on CPUs (benchmarks/results/view_passes.json). On GPUs none was measured.
ONE_UP_TO = {
    "r3d_tiny": 1 << 19,
    **dict.fromkeys(("r3d_18", "r2plus1d_18", "mc3_18"), 1 << 16),
    **dict.fromkeys(("s3d", "r3d_50", "r3d_101", "c2d_50", "i3d_50"), 1 << 18),
}


def one_pass_is_faster(backbone: str, numbers: int, gpu: bool) -> bool:
    """Whether the entry of that name trains faster with both views in one pass.

    Args:
        numbers: in one colour of a worker's batch of one view.
    """
    return not gpu and numbers <= ONE_UP_TO.get(backbone, 0)


@contextmanager
def normalised_apart(networks: Iterable[nn.Module], *views: Tensor) -> Iterator[Tensor]:
    """The views ``[B, 3, T, H, W]``, which may differ in B, as one batch for these networks.

    Within it, batch normalisations that train take statistics of each view apart, one view after
    the other. A network that works otherwise across a batch, or whose normalisations do not get one
    row of each clip in the order of the batch, gives something else than it does view by view.

    Raises:
        ValueError: views differ in more than B; or, in the pass, a normalisation gets another
            number of rows than there are clips.
    """
    if len({view.shape[1:] for view in views}) > 1:
        shapes = " and ".join(str(tuple(view.shape)) for view in views)
        raise ValueError(
            f"view_passes: 'one' is not valid for views of shapes {shapes}; all must be the same"
            " but for the number of clips"
        )
    norms = [
        module
        for network in networks
        for module in network.modules()
        if isinstance(module, _BatchNorm) and module.training
    ]
    batch = torch.cat(views)
    for norm in norms:
        norm.__dict__["forward"] = partial(_view_by_view, norm, norm.forward, views)
    try:
        with also_known(batch):
            yield batch
    finally:
        for norm in norms:
            del norm.__dict__["forward"]


def _view_by_view(
    norm: nn.Module, forward: Callable[[Tensor], Tensor], views: Views, rows: Tensor
) -> Tensor:
    clips = [len(view) for view in views]
    if len(rows) != sum(clips):
        raise ValueError(
            f"view_passes: 'one' is not valid with a network that normalises {len(rows)} rows of"
            f" {sum(clips)} clips; it must be one row of each"
        )
    parts = []
    for view, part in zip(views, rows.split(clips), strict=True):
        with statistics_of_order(norm, view):
            parts.append(forward(part))
    return torch.cat(parts)
