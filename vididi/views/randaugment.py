"""RandAugment as torchvision has it: its pool of 14 operators and their magnitudes.

Cubuk et al., NeurIPS workshops 2020.

Images are uint8 ``[..., 3, S, S]``: the paper's operators and torchvision's are defined on 256
levels. All go through torchvision.transforms.v2.functional, with its defaults: nearest neighbour,
black outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

LEVELS = 31  # a magnitude is one of 0..30, and 30 is the strongest


def _torchvision() -> ModuleType:
    """torchvision's functions of images.

    Importing torchvision takes every process a second of CPU, and few of them augment this way.
    """
    from torchvision.transforms.v2 import functional

    return functional


@dataclass(frozen=True)
class Operator:
    """One of the pool.

    Attributes:
        apply: (images, strength) -> images.
        strengths: side of the images in pixels -> the strength of each magnitude, ``[LEVELS]``.
        signed: whether the strength is as often negative.
    """

    apply: Callable[[Tensor, float], Tensor]
    strengths: Callable[[int], Tensor] = lambda size: torch.zeros(LEVELS)
    signed: bool = False

    def __call__(self, images: Tensor, magnitude: int, negative: bool) -> Tensor:
        """uint8 ``[..., 3, S, S]`` -> the same, at ``magnitude`` of its strengths."""
        strength = float(self.strengths(images.shape[-1])[magnitude])
        return self.apply(images, -strength if negative and self.signed else strength)


def _up_to(strongest: float) -> Callable[[int], Tensor]:
    return lambda size: torch.linspace(0.0, strongest, LEVELS)


def _pixels(size: int) -> Tensor:
    return torch.linspace(0.0, 150.0 / 331.0 * size, LEVELS)


def _bits(size: int) -> Tensor:
    return (8 - torch.arange(LEVELS) / ((LEVELS - 1) / 4)).round()


def _affine(images: Tensor, **changes: Any) -> Tensor:
    return _torchvision().affine(
        images, **{"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0], **changes}
    )


def _degrees(slope: float) -> float:
    return math.degrees(math.atan(slope))


POOL = {
    "Identity": Operator(lambda x, _: x),
    "ShearX": Operator(
        lambda x, slope: _affine(x, shear=[_degrees(slope), 0.0], center=[0, 0]),
        _up_to(0.3),
        signed=True,
    ),
    "ShearY": Operator(
        lambda x, slope: _affine(x, shear=[0.0, _degrees(slope)], center=[0, 0]),
        _up_to(0.3),
        signed=True,
    ),
    "TranslateX": Operator(
        lambda x, pixels: _affine(x, translate=[int(pixels), 0]), _pixels, signed=True
    ),
    "TranslateY": Operator(
        lambda x, pixels: _affine(x, translate=[0, int(pixels)]), _pixels, signed=True
    ),
    "Rotate": Operator(lambda x, angle: _torchvision().rotate(x, angle), _up_to(30.0), signed=True),
    "Brightness": Operator(
        lambda x, change: _torchvision().adjust_brightness(x, 1.0 + change),
        _up_to(0.9),
        signed=True,
    ),
    "Color": Operator(
        lambda x, change: _torchvision().adjust_saturation(x, 1.0 + change),
        _up_to(0.9),
        signed=True,
    ),
    "Contrast": Operator(
        lambda x, change: _torchvision().adjust_contrast(x, 1.0 + change), _up_to(0.9), signed=True
    ),
    "Sharpness": Operator(
        lambda x, change: _torchvision().adjust_sharpness(x, 1.0 + change), _up_to(0.9), signed=True
    ),
    "Posterize": Operator(lambda x, bits: _torchvision().posterize(x, int(bits)), _bits),
    "Solarize": Operator(
        lambda x, share: _torchvision().solarize(x, 255 * share),
        lambda size: torch.linspace(1.0, 0.0, LEVELS),
    ),
    "AutoContrast": Operator(lambda x, _: _torchvision().autocontrast(x)),
    "Equalize": Operator(lambda x, _: _torchvision().equalize(x)),
}
