"""In which memory format a backbone trains faster: a table of measurements, so that the same cell
has the same arithmetic on every machine of a kind.

``channels_last`` keeps the values of one pixel beside each other, ``contiguous`` those of one
channel. Which is faster depends on the convolutions of torch's libraries, and not on much else:
benchmarks/memory_format.py measures it over sizes and batches.
"""

from __future__ import annotations

from typing import Literal

import torch

MemoryFormat = Literal["channels_last", "contiguous"]
OF_TORCH: dict[str, torch.memory_format] = {
    "channels_last": torch.channels_last_3d,
    "contiguous": torch.contiguous_format,
}
# Up to which side of a clip [pixels] contiguous is the faster one on CPUs; sides up to 112 were
# measured (benchmarks/results/memory_format.json). Everywhere else it is channels_last.
CONTIGUOUS_UP_TO = {"r3d_18": 112, "r3d_101": 32}


def fastest(backbone: str, size: int, gpu: bool) -> MemoryFormat:
    """The format in which the entry of that name trains faster, on GPUs or on CPUs.

    Args:
        size: the side of a clip [pixels].
    """
    small = size <= CONTIGUOUS_UP_TO.get(backbone, 0)
    return "contiguous" if small and not gpu else "channels_last"
