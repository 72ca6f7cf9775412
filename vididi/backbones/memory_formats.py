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
# On CPUs; not here: channels_last. See benchmarks/results/memory_format.json.
CONTIGUOUS_ON_CPUS = ("r3d_18",)


def fastest(backbone: str, gpu: bool) -> MemoryFormat:
    """The format in which the entry of that name trains faster on GPUs, or on CPUs."""
    return "contiguous" if backbone in CONTIGUOUS_ON_CPUS and not gpu else "channels_last"
