"""3D backbones. Each entry makes ``(module, feature width)``; the module maps ``[B, 3, T, H, W]`` to ``[B, width]``."""

from __future__ import annotations

from torch import nn

from vididi.backbones.r3d_tiny import r3d_tiny


def r3d_18() -> tuple[nn.Module, int]:
    """torchvision's R3D-18 with the classifier cut off: 512 features (ViDiDi E.2)."""
    from torchvision.models.video import r3d_18 as torchvision_r3d_18

    network = torchvision_r3d_18()
    network.fc = nn.Identity()
    return network, 512


BACKBONES = {"r3d_tiny": r3d_tiny, "r3d_18": r3d_18}

__all__ = ["BACKBONES"]
