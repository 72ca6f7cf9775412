"""The four networks of ViDiDi Table 2, torchvision's without pooling and classifier."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from vididi.backbones.backbone import Backbone


class Layers(Backbone):
    """Some layers of a torchvision network, one after another.

    They keep the names that they have there, so that weights fit both.
    """

    def __init__(self, network: nn.Module, *names: str) -> None:
        super().__init__()
        for name in names:
            self.add_module(name, network.get_submodule(name))

    def feature_map(self, clips: Tensor) -> Tensor:
        """``[B, 3, T, H, W]`` -> ``[B, D, T', h, w]``, before the mean.

        Space shrinks 16 times, in S3D 32 times.
        """
        for layer in self.children():
            clips = layer(clips)
        return clips


def r3d_18() -> tuple[Backbone, int]:
    """R3D-18: all kernels 3x3x3; 512 features (ViDiDi E.2)."""
    from torchvision.models.video import r3d_18 as make

    return _without_classifier(make)


def r2plus1d_18() -> tuple[Backbone, int]:
    """R(2+1)D-18: each 3x3x3 kernel as 1x3x3 and 3x1x1; 512 features (ViDiDi E.2)."""
    from torchvision.models.video import r2plus1d_18 as make

    return _without_classifier(make)


def mc3_18() -> tuple[Backbone, int]:
    """MC3-18: 3x3x3 kernels in the first stage, 1x3x3 in the others; 512 features (ViDiDi E.2)."""
    from torchvision.models.video import mc3_18 as make

    return _without_classifier(make)


def _without_classifier(make: Callable[[], nn.Module]) -> tuple[Backbone, int]:
    return Layers(make(), "stem", "layer1", "layer2", "layer3", "layer4"), 512


def s3d(*, norm_momentum: float = 0.001) -> tuple[Backbone, int]:
    """S3D: an Inception of 1xkxk and kx1x1 kernels; 1024 features (ViDiDi E.2).

    ``MINIMUM`` has its limits.

    torchvision averages over windows of 2x7x7, which a clip of 112 pixels does not fill; here the
    mean is over all positions, whatever the clip's size. At 16 frames of 224 pixels the two are the
    same.

    Args:
        norm_momentum: the weight of the newest batch in the running statistics of batch
            normalisation, above 0 and at most 1. torchvision's 0.001 forgets the initial statistics
            only over thousands of steps: give short runs more, 0.1 being what torch's batch
            normalisation has by default.

    Raises:
        ValueError: ``norm_momentum`` is outside its range.
    """
    from torchvision.models.video import s3d as make

    if not 0 < norm_momentum <= 1:
        raise ValueError(
            f"norm_momentum: {norm_momentum} is not valid; it must be above 0 and at most 1"
        )
    network = make(norm_layer=partial(nn.BatchNorm3d, eps=0.001, momentum=norm_momentum))
    return Layers(network, "features"), 1024
