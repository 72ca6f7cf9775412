"""RandAugment's pool: torchvision's 14 operators with torchvision's magnitudes."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from vididi.views.randaugment import LEVELS, POOL

SIZE = 27  # a shift of 3.67 pixels, which is cut to 3
SLOPE, SHIFT = math.degrees(math.atan(0.09)), int(0.3 * 150 / 331 * SIZE)  # magnitude 9 of 0..30
CHANGE = float(torch.linspace(0, 0.9, 31)[9])


def affine(
    images: Tensor,
    shift: tuple[int, int] = (0, 0),
    shear: tuple[float, float] = (0, 0),
    center: list[float] | None = None,
) -> Tensor:
    return F.affine(
        images, angle=0, translate=list(shift), scale=1, shear=list(shear), center=center
    )


EXPECTED: dict[str, Callable[[Tensor, int], Tensor]] = {
    "Identity": lambda x, sign: x,
    "ShearX": lambda x, sign: affine(x, shear=(sign * SLOPE, 0), center=[0, 0]),
    "ShearY": lambda x, sign: affine(x, shear=(0, sign * SLOPE), center=[0, 0]),
    "TranslateX": lambda x, sign: affine(x, shift=(sign * SHIFT, 0)),
    "TranslateY": lambda x, sign: affine(x, shift=(0, sign * SHIFT)),
    "Rotate": lambda x, sign: F.rotate(x, sign * 9.0),
    "Brightness": lambda x, sign: F.adjust_brightness(x, 1 + sign * CHANGE),
    "Color": lambda x, sign: F.adjust_saturation(x, 1 + sign * CHANGE),
    "Contrast": lambda x, sign: F.adjust_contrast(x, 1 + sign * CHANGE),
    "Sharpness": lambda x, sign: F.adjust_sharpness(x, 1 + sign * CHANGE),
    "Posterize": lambda x, sign: F.posterize(x, 7),
    "Solarize": lambda x, sign: F.solarize(x, 0.7 * 255),
    "AutoContrast": lambda x, sign: F.autocontrast(x),
    "Equalize": lambda x, sign: F.equalize(x),
}


def make_images(batch: int = 3, frames: int = 4) -> Tensor:
    return torch.randint(
        30,
        220,
        (batch, frames, 3, SIZE, SIZE),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(0),
    )


def test_the_pool_is_torchvisions() -> None:
    assert list(POOL) == list(v2.RandAugment._AUGMENTATION_SPACE)
    assert len(POOL) == 14


@pytest.mark.parametrize("name", POOL)
@pytest.mark.parametrize("size", [112, 224, 97])
def test_magnitudes_are_torchvisions(name: str, size: int) -> None:
    magnitudes, signed = v2.RandAugment._AUGMENTATION_SPACE[name]
    expected = magnitudes(LEVELS, size, size)
    strengths = POOL[name].strengths(size)
    assert POOL[name].signed == signed
    assert strengths.tolist() == (
        [0.0] * LEVELS if expected is None else [float(value) for value in expected]
    )


@pytest.mark.parametrize("name", POOL)
@pytest.mark.parametrize("sign", [1, -1])
def test_an_operator_is_torchvisions_clip_by_clip(name: str, sign: int) -> None:
    images = make_images()
    before = images.clone()
    result = POOL[name](images, 9, sign < 0)
    assert torch.equal(result, torch.stack([EXPECTED[name](clip, sign) for clip in images]))
    assert result.dtype == torch.uint8
    assert torch.equal(images, before)
    assert torch.equal(result, images) == (name == "Identity")


@pytest.mark.parametrize("magnitude", [0, LEVELS - 1])
@pytest.mark.parametrize("name", POOL)
def test_the_weakest_and_the_strongest_magnitude(name: str, magnitude: int) -> None:
    images = make_images(1, 1)
    result = POOL[name](images, magnitude, True)
    assert result.shape == images.shape
    if name not in ("Identity", "AutoContrast", "Equalize"):
        assert torch.equal(result, images) == (magnitude == 0)
