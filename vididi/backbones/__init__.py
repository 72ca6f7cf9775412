"""3D backbones.

Each entry makes ``(module, feature width)``; the module is a Backbone, and maps ``[B, 3, T, H, W]``
to ``[B, width]``.

The keyword-only parameters of an entry are its options. All take weights from a file
(``weights.py``), and may keep statistics of normalisation for each order (``norm_by_order.py``).
None of them downloads anything.
"""

from __future__ import annotations

from vididi.backbones.backbone import Backbone
from vididi.backbones.norm_by_order import known_orders, with_norm
from vididi.backbones.r3d_tiny import r3d_tiny
from vididi.backbones.resnet3d import c2d_50, i3d_50, r3d_50, r3d_101
from vididi.backbones.torchvision_video import mc3_18, r2plus1d_18, r3d_18, s3d
from vididi.backbones.weights import with_weights

BACKBONES = {
    name: with_weights(with_norm(entry))
    for name, entry in {
        "r3d_tiny": r3d_tiny,
        "r3d_18": r3d_18,
        "r2plus1d_18": r2plus1d_18,
        "mc3_18": mc3_18,
        "s3d": s3d,
        "r3d_50": r3d_50,
        "r3d_101": r3d_101,
        "c2d_50": c2d_50,
        "i3d_50": i3d_50,
    }.items()
}

# The least (frames, pixels of the shorter side) that a backbone takes.
# Networks that pad everywhere would run on a single pixel; 8 pixels is where we draw the line for
# those that say nothing else.
# S3D: its last max pool has no padding, so that below 17 pixels or 5 frames it raises. From 5 to 7
# frames its gradients corrupt memory on CPUs with AVX-512 (first convolution over time, 7x1x1 with
# stride 2; oneDNN in torch 2.11 and 2.14).
MINIMUM: dict[str, tuple[int, int]] = {**dict.fromkeys(BACKBONES, (1, 8)), "s3d": (8, 17)}

__all__ = ["BACKBONES", "MINIMUM", "Backbone", "known_orders"]
