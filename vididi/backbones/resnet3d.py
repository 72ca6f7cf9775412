"""3D ResNets of bottleneck blocks: CVRL's R3D-50 and R3D-101, and C2D and I3D.

C2D and I3D are those of Non-local Neural Networks.

They differ in one thing, which kernels reach over time. Parameters have the names of torchvision's
2D ResNets, so that 2D weights are inflated by name (``weights.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from vididi.backbones.backbone import Backbone

EXPANSION = 4  # a block's last convolution has four times as many filters as its first two


class Bottleneck(nn.Module):
    """1x1x1 or 3x1x1, 1x3x3, 1x1x1 with a shortcut (CVRL Table 1, conv2 to conv5).

    The spatial stride is in the middle.

    Args:
        channels_in: channels of the input.
        channels: filters of the first two convolutions; the output has ``4 * channels``.
        kernel: length of the first convolution in time, odd.
        stride: stride of the middle convolution in space.
    """

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        channels_out = EXPANSION * channels
        self.conv1 = nn.Conv3d(
            channels_in, channels, (kernel, 1, 1), padding=(kernel // 2, 0, 0), bias=False
        )
        self.bn1 = nn.BatchNorm3d(channels)
        self.conv2 = nn.Conv3d(
            channels, channels, (1, 3, 3), (1, stride, stride), padding=(0, 1, 1), bias=False
        )
        self.bn2 = nn.BatchNorm3d(channels)
        self.conv3 = nn.Conv3d(channels, channels_out, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(channels_out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            shortcut = nn.Conv3d(channels_in, channels_out, 1, (1, stride, stride), bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm3d(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, channels_in, T, H, W]`` -> ``[B, 4 * channels, T, H', W']``."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNet3D(Backbone):
    """conv1, max pool, four stages of bottleneck blocks, and the mean over time and space.

    Space shrinks 32 times: by 2 in conv1, in the max pool and in each stage but the first. Time
    shrinks by 2, in conv1 (CVRL Table 1); with ``temporal_pool`` 8 times, in conv1, in the max
    pool, which is then 3x3x3, and in a max pool of 3x1x1 after the first stage (Non-local Neural
    Networks, Table 1). Sizes are rounded up; every size from 1 up runs.

    Args:
        stem: length of conv1 in time, odd.
        stages: for each of the four stages, the length in time of each of its blocks.
        width: factor on the number of all filters, at least 1.

    Raises:
        ValueError: ``width`` is below 1.
    """

    def __init__(
        self,
        stem: int,
        stages: Sequence[Sequence[int]],
        *,
        width: int = 1,
        temporal_pool: bool = False,
    ) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width: {width} is not valid; it must be at least 1")

        channels = 64 * width
        pool = 3 if temporal_pool else 1
        self.conv1 = nn.Conv3d(
            3, channels, (stem, 7, 7), stride=2, padding=(stem // 2, 3, 3), bias=False
        )
        self.bn1 = nn.BatchNorm3d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d(
            (pool, 3, 3), (2 if temporal_pool else 1, 2, 2), padding=(pool // 2, 1, 1)
        )
        self.layer1 = _stage(channels, channels, stages[0], stride=1)
        self.maxpool2: nn.Module = (
            nn.MaxPool3d((3, 1, 1), (2, 1, 1), padding=(1, 0, 0))
            if temporal_pool
            else nn.Identity()
        )
        self.layer2 = _stage(4 * channels, 2 * channels, stages[1], stride=2)
        self.layer3 = _stage(8 * channels, 4 * channels, stages[2], stride=2)
        self.layer4 = _stage(16 * channels, 8 * channels, stages[3], stride=2)
        self.features = 32 * channels
        self.apply(_initialise)

    def feature_map(self, clips: Tensor) -> Tensor:
        """The last stage before the mean.

        ``[B, 3, T, H, W]`` -> ``[B, 2048 * width, T / 2 or T / 8, H / 32, W / 32]``.
        """
        x = self.maxpool(self.relu(self.bn1(self.conv1(clips))))
        x = self.layer2(self.maxpool2(self.layer1(x)))
        return self.layer4(self.layer3(x))


def _stage(channels_in: int, channels: int, kernels: Sequence[int], stride: int) -> nn.Sequential:
    first = Bottleneck(channels_in, channels, kernels[0], stride)
    return nn.Sequential(
        first, *(Bottleneck(EXPANSION * channels, channels, kernel, 1) for kernel in kernels[1:])
    )


def _initialise(module: nn.Module) -> None:
    """As torchvision's video ResNets; batch normalisation begins at 1 and 0 by itself."""
    if isinstance(module, nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def r3d_50(*, width: int = 1) -> tuple[Backbone, int]:
    """CVRL's R3D-50, the slow pathway of SlowFast (CVRL Table 1); 2048 x width features.

    Kernels of 3x1x1 are in the last two stages.

    Args:
        width: factor on the number of all filters, at least 1 (CVRL Table 2: 1, 2, 4).

    Raises:
        ValueError: ``width`` is below 1.
    """
    return _with_width(ResNet3D(5, [[1] * 3, [1] * 4, [3] * 6, [3] * 3], width=width))


def r3d_101(*, width: int = 1) -> tuple[Backbone, int]:
    """CVRL's R3D-101: ``r3d_50`` with 23 blocks in the third stage (CVRL Table 2).

    Args:
        width: see r3d_50.
    """
    return _with_width(ResNet3D(5, [[1] * 3, [1] * 4, [3] * 23, [3] * 3], width=width))


def c2d_50(*, temporal_pool: bool = False) -> tuple[Backbone, int]:
    """C2D ResNet-50: no kernel reaches over time; 2048 features.

    CORP 4.3; Non-local Neural Networks 4.1, Table 1.

    As everything but the strides treats frames apart, conv1 sees every second frame only.

    Args:
        temporal_pool: False shrinks time as CVRL does, by 2 in conv1 (CORP 3.1); True as Non-local
            Neural Networks do, 8 times, with two max pools over three frames after conv1.
    """
    return _with_width(
        ResNet3D(1, [[1] * 3, [1] * 4, [1] * 6, [1] * 3], temporal_pool=temporal_pool)
    )


def i3d_50(*, temporal_pool: bool = False) -> tuple[Backbone, int]:
    """I3D ResNet-50: 3x1x1 in every second block; 2048 features.

    CORP 3.1; Non-local Neural Networks 3.3, I3D 3x1x1.

    All blocks of the first stage have it, as in that paper's code.

    Args:
        temporal_pool: see c2d_50.
    """
    return _with_width(
        ResNet3D(
            5, [[3, 3, 3], [3, 1, 3, 1], [3, 1, 3, 1, 3, 1], [1, 3, 1]], temporal_pool=temporal_pool
        )
    )


def _with_width(network: ResNet3D) -> tuple[Backbone, int]:
    return network, network.features
