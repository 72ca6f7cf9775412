"""r3d_tiny: a residual 3D network small enough to pretrain on one CPU core in a minute or two."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vididi.backbones.backbone import Backbone


class Block(nn.Module):
    """Two 3x3x3 convolutions with a shortcut, as in ResNet's basic block.

    The stride applies to time and space alike.
    """

    def __init__(self, width_in: int, width_out: int, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(width_in, width_out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm3d(width_out)
        self.conv2 = nn.Conv3d(width_out, width_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm3d(width_out)
        self.shortcut: nn.Module = nn.Identity()
        if width_in != width_out or stride != (1, 1, 1):
            self.shortcut = nn.Sequential(
                nn.Conv3d(width_in, width_out, 1, stride, bias=False), nn.BatchNorm3d(width_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """``[B, width_in, T, H, W]`` -> ``[B, width_out, T', H', W']``."""
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class R3DTiny(Backbone):
    """Stem and three stages of one block, widths w, 2w, 4w, 8w."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(3, width, (3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2), bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(),
        )
        self.stages = nn.Sequential(
            Block(width, 2 * width, (2, 2, 2)),
            Block(2 * width, 4 * width, (2, 2, 2)),
            Block(4 * width, 8 * width, (1, 2, 2)),
        )

    def feature_map(self, clips: Tensor) -> Tensor:
        """``[B, 3, T, H, W]`` -> ``[B, 8 * width, T / 4, H / 16, W / 16]``, before the mean."""
        return self.stages(self.stem(clips))


def r3d_tiny(*, width: int = 8) -> tuple[Backbone, int]:
    """``width`` channels in the stem, features of 8 x width.

    Any T >= 1 and frames from 8 pixels up.

    Args:
        width: of the stem, at least 1 [channels].
    """
    if width < 1:
        raise ValueError(f"width: {width} is not valid; it must be at least 1")
    return R3DTiny(width), 8 * width
