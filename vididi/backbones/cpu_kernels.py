"""The kernels of convolutions whose filters are one pixel wide and high, on CPUs.

torch takes its own kernel for them, and not oneDNN's, where a batch has fewer than 16 clips and
torch one thread (`use_mkldnn` in aten/src/ATen/native/Convolution.cpp, torch 2.11 and 2.14), and
its own takes up to six times as long. It never does so where a convolution is dilated. Where a
filter has a length of one, dilation moves nothing, so a dilation of 2 there asks for oneDNN and
changes no more than rounding. With more clips or threads not even that.
"""

from __future__ import annotations

from torch import nn


def ask_for_onednn(network: nn.Module, wanted: bool = True) -> None:
    """Have oneDNN's kernels for all of a network's convolutions that are one pixel wide and high.

    Args:
        wanted: else make the convolutions again what they were, for other devices and for graphs
            that others read.
    """
    for conv in network.modules():
        # A stride asks for oneDNN already.
        if (
            isinstance(conv, nn.Conv3d)
            and conv.kernel_size[1:] == (1, 1)
            and set(conv.stride) == {1}
        ):
            conv.dilation = tuple(  # type: ignore[assignment]
                dilation if size > 1 else 2 if wanted else 1
                for size, dilation in zip(conv.kernel_size, conv.dilation, strict=True)
            )
