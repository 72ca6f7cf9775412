"""What every backbone is: a feature map, and its mean."""

from __future__ import annotations

from typing import Any, Self

from torch import Tensor, nn

from vididi.backbones.cpu_kernels import ask_for_onednn
from vididi.backbones.norm_by_order import statistics_of_order


class Backbone(nn.Module):
    """A network with a feature map, whose mean over time and space is the feature of a clip."""

    def feature_map(self, clips: Tensor) -> Tensor:
        """``[B, 3, T, H, W]`` -> ``[B, D, T', h, w]``: the last stage, before the mean."""
        raise NotImplementedError

    def _apply(self, *arguments: Any, **options: Any) -> Self:
        """torch calls it for `to` and the like: convolutions have the kernels of where they are."""
        moved = super()._apply(*arguments, **options)
        ask_for_onednn(self, wanted=all(p.device.type == "cpu" for p in self.parameters()))
        return moved

    def forward(self, clips: Tensor) -> Tensor:
        """``[B, 3, T, H, W]`` -> ``[B, D]``."""
        with statistics_of_order(self, clips):
            return self.feature_map(clips).mean(dim=(2, 3, 4))
