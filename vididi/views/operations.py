"""What one augmentation does to a batch of clips: arithmetic, without any random choice.

Every function agrees with torchvision.transforms.v2.functional applied clip by clip.

Shapes: B clips, C = 3 channels, T frames, H W the padded frame size of the batch, S the output
size.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate, pad

MEAN = (0.485, 0.456, 0.406)  # ViDiDi appendix E.1, the ImageNet statistics
STD = (0.229, 0.224, 0.225)
_GRAY = (0.2989, 0.587, 0.114)  # torchvision's luma weights
# Up to so many taps a sum of shifted clips is the fastest blur, above it a product with a banded
# matrix is.
_FEW_TAPS = 7
# Of random_sized_boxes, two random numbers each (area and aspect ratio); two more place the crop.
CROP_TRIES = 10


def normalise_(clips: Tensor) -> Tensor:
    """``[B, 3, T, H, W]`` in [0, 1] to zero mean and unit deviation per channel (ViDiDi E.1), in
    place.
    """
    mean = torch.tensor(MEAN, dtype=clips.dtype, device=clips.device).view(1, 3, 1, 1, 1)
    std = torch.tensor(STD, dtype=clips.dtype, device=clips.device).view(1, 3, 1, 1, 1)
    return clips.sub_(mean).div_(std)


def normalise(clips: Tensor) -> Tensor:
    """As ``normalise_``, of a copy."""
    return normalise_(clips.clone())


def resize_matrix(
    start: NDArray, length: NDArray, size: int, width: int, flip: NDArray | None = None
) -> NDArray[np.float64]:
    """Weights ``[B, size, width]`` that crop an axis and resize it to ``size``.

    The crop is ``[start, start + length)``.

    The triangle filter of Pillow and of torchvision's antialiased bilinear resize: support grows
    with the scale when shrinking, weights are cut at the crop's borders and normalised. ``flip``
    [B] mirrors the output.
    """
    scale = np.asarray(length, dtype=np.float64)[:, None, None] / size
    support = np.maximum(scale, 1.0)
    centre = (np.arange(size)[None, :, None] + 0.5) * scale
    position = np.arange(width)[None, None, :] - np.asarray(start)[:, None, None]
    weights = np.maximum(0.0, 1.0 - np.abs((position + 0.5 - centre) / support))
    weights *= (position >= 0) & (position < np.asarray(length)[:, None, None])
    weights /= weights.sum(axis=2, keepdims=True)
    if flip is not None:
        weights[flip] = weights[flip][:, ::-1]
    return weights


def crop_resize(clips: Tensor, boxes: NDArray, size: int, flip: NDArray | None = None) -> Tensor:
    """Crop each clip to its box and resize it to ``size`` x ``size``.

    Args:
        clips: ``[B, C, T, H, W]``, floating point, or uint8, which is scaled to [0, 1].
        boxes: ``[B, 4]`` top, left, height, width in pixels.
        size: output height and width.
        flip: ``[B]`` bool, mirror left and right.

    Returns:
        ``[B, C, T, size, size]`` floating point.
    """
    # The products do 30 times the arithmetic, which an accelerator has to spare for one launch
    # instead of B; on a CPU the clip by clip way is 6 times as fast from 150 x 200 pixels to 112 x
    # 112.
    return (_crop_resize_clip_by_clip if clips.device.type == "cpu" else crop_resize_product)(
        clips, boxes, size, flip
    )


def _crop_resize_clip_by_clip(
    clips: Tensor, boxes: NDArray, size: int, flip: NDArray | None
) -> Tensor:
    mirrored = np.zeros(len(boxes), dtype=bool) if flip is None else flip
    resized = []
    for clip, (top, left, height, width), mirror in zip(
        clips, boxes.tolist(), mirrored, strict=True
    ):
        crop = _as_float(clip[:, :, top : top + height, left : left + width])
        crop = interpolate(crop, size=(size, size), mode="bilinear", antialias=True)
        resized.append(crop.flip(-1) if mirror else crop)
    return torch.stack(resized)


def crop_resize_product(
    clips: Tensor, boxes: NDArray, size: int, flip: NDArray | None = None
) -> Tensor:
    """``crop_resize`` as one pair of matrix products.

    An antialiased bilinear resize is linear and separable, so each clip gets a [size, W] and a
    [size, H] matrix, whatever its own crop and frame size are, and the whole batch goes through in
    two batched products.
    """
    clips = _as_float(clips)
    batch, channels, frames, height, width = clips.shape
    top, left, box_height, box_width = boxes.T
    columns = torch.as_tensor(
        resize_matrix(left, box_width, size, width, flip), dtype=clips.dtype, device=clips.device
    )
    rows = torch.as_tensor(
        resize_matrix(top, box_height, size, height), dtype=clips.dtype, device=clips.device
    )
    narrowed = torch.bmm(clips.reshape(batch, -1, width), columns.transpose(1, 2))
    narrowed = narrowed.view(batch, channels * frames, height, size)
    return torch.matmul(rows[:, None], narrowed).view(batch, channels, frames, size, size)


def _as_float(clips: Tensor) -> Tensor:
    return clips if clips.is_floating_point() else clips.float().div_(255)


def gaussian_blur(clips: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Blur with one ``sigma`` [B] per clip, a kernel x kernel window and reflected borders."""
    half = kernel // 2
    taps = torch.arange(-half, half + 1, dtype=clips.dtype, device=clips.device)
    weights = torch.exp(-0.5 * (taps[None] / sigma[:, None]) ** 2)
    weights = weights / weights.sum(dim=1, keepdim=True)
    if kernel <= _FEW_TAPS:
        return _blur_axis(_blur_axis(clips, weights, -1), weights, -2)
    batch, channels, frames, height, width = clips.shape
    blurred = torch.bmm(clips.reshape(batch, -1, width), _blur_matrix(weights, width))
    blurred = blurred.view(batch, channels * frames, height, width)
    return torch.matmul(_blur_matrix(weights, height).transpose(1, 2)[:, None], blurred).view_as(
        clips
    )


def _blur_axis(clips: Tensor, weights: Tensor, dim: int) -> Tensor:
    """Weighted sum of shifted copies along ``dim`` (-1 or -2) of ``[B, C, T, H, W]``.

    ``weights`` are ``[B, kernel]``.
    """
    kernel, length = weights.shape[1], clips.shape[dim]
    half = kernel // 2
    padding = (half, half, 0, 0) if dim == -1 else (0, 0, half, half)
    padded = pad(clips.flatten(0, 1), padding, mode="reflect").unflatten(0, clips.shape[:2])
    taps = weights.view(*weights.shape, 1, 1, 1, 1)
    blurred = taps[:, 0] * padded.narrow(dim, 0, length)
    for i in range(1, kernel):
        blurred.addcmul_(padded.narrow(dim, i, length), taps[:, i])
    return blurred


def _blur_matrix(weights: Tensor, length: int) -> Tensor:
    """``[B, length, length]``: a row vector times this is its blur, borders reflected.

    It is the blur of the unit vectors.
    """
    unit = torch.eye(length, dtype=weights.dtype, device=weights.device)
    return _blur_axis(unit.expand(len(weights), 1, 1, length, length), weights, -1)[:, 0, 0]


def to_gray(clips: Tensor) -> Tensor:
    """The luma of ``[B, 3, T, H, W]``, repeated over the three channels."""
    return _luma(clips).expand_as(clips)


def solarise(clips: Tensor, threshold: float = 0.5) -> Tensor:
    """Invert every value of at least ``threshold``."""
    return torch.where(clips >= threshold, 1 - clips, clips)


def _luma(clips: Tensor) -> Tensor:
    red, green, blue = clips.split(1, dim=1)
    return (red * _GRAY[0]).add_(green, alpha=_GRAY[1]).add_(blue, alpha=_GRAY[2])


def _blend(clips: Tensor, base: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(base, clips, factor.view(-1, 1, 1, 1, 1)).clamp_(0.0, 1.0)


def adjust_brightness(clips: Tensor, factor: Tensor) -> Tensor:
    """Scale intensities by ``factor`` [B]."""
    return (clips * factor.view(-1, 1, 1, 1, 1)).clamp_(0.0, 1.0)


def adjust_contrast(clips: Tensor, factor: Tensor) -> Tensor:
    """Blend each frame with its mean luma by ``factor`` [B]."""
    return _blend(clips, _luma(clips).mean(dim=(-1, -2), keepdim=True), factor)


def adjust_saturation(clips: Tensor, factor: Tensor) -> Tensor:
    """Blend each pixel with its luma by ``factor`` [B]."""
    return _blend(clips, _luma(clips), factor)


def adjust_hue(clips: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by ``shift`` [B], in turns of the colour circle (-0.5 to 0.5)."""
    red, green, blue = clips.unbind(dim=1)
    high = torch.maximum(torch.maximum(red, green), blue)
    chroma = high - torch.minimum(torch.minimum(red, green), blue)

    # The hue has a formula for each channel that may be the highest. Signs, 0 or 1, choose one
    # exactly; on CPUs comparisons, torch.where and torch.remainder take 3 to 20 times as long.
    not_red, not_green = (high - red).sign_(), (high - green).sign_()
    hue = (red - green).mul_(not_green).addcmul_(blue - red, 1 - not_green)
    hue.mul_(not_red).addcmul_(green - blue, 1 - not_red)
    hue.div_((1 - chroma.sign()).add_(chroma))  # of a gray pixel 0 / 1
    hue.add_(not_green.add_(1).mul_(not_red), alpha=2)
    hue.div_(6).add_(shift.view(-1, 1, 1, 1))
    hue.sub_(hue.floor()).mul_(6)

    # HSV -> RGB, channel n: value - chroma * clip(min(k, 4 - k), 0, 1), k = (n + 6 hue) mod 6.
    turned = torch.empty_like(clips)
    for channel, n in enumerate((5, 3, 1)):
        k = hue + n
        k.sub_((k / 6).floor_().mul_(6))
        turned[:, channel] = high - torch.minimum(k, 4 - k).clamp_(0, 1).mul_(chroma)
    return turned


def random_sized_boxes(
    sizes: NDArray, draws: NDArray, scale: tuple[float, float], ratio: tuple[float, float]
) -> NDArray[np.int64]:
    """Random area and aspect ratio (Inception crops), as torchvision's RandomResizedCrop.

    The aspect ratio is log-uniform. After ten tries that do not fit, the largest centred crop.

    Args:
        sizes: ``[B, 2]`` height and width.
        draws: ``[B, 22]`` uniform numbers.

    Returns:
        ``[B, 4]`` top, left, height, width.
    """
    height, width = sizes[:, :1].astype(np.float64), sizes[:, 1:].astype(np.float64)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * draws[:, 0 : 2 * CROP_TRIES : 2])
    log_low, log_high = (math.log(end) for end in ratio)
    aspect = np.exp(log_low + (log_high - log_low) * draws[:, 1 : 2 * CROP_TRIES : 2])
    h, w = np.rint(np.sqrt(area / aspect)), np.rint(np.sqrt(area * aspect))
    fits = (h > 0) & (w > 0) & (h <= height) & (w <= width)
    # The first try that fits the frame, else the largest crop of an allowed aspect ratio.
    first = fits.argmax(axis=1)[:, None]
    h, w = np.take_along_axis(h, first, 1), np.take_along_axis(w, first, 1)
    none = ~fits.any(axis=1, keepdims=True)
    h = np.where(none, np.minimum(height, np.rint(width / ratio[0])), h)
    w = np.where(none, np.minimum(width, np.rint(height * ratio[1])), w)
    top, left = (
        np.floor((height - h + 1) * draws[:, -2:-1]),
        np.floor((width - w + 1) * draws[:, -1:]),
    )
    top, left = np.where(none, (height - h) // 2, top), np.where(none, (width - w) // 2, left)

    return np.concatenate([top, left, h, w], axis=1).astype(np.int64)


def centre_boxes(sizes: NDArray) -> NDArray[np.int64]:
    """The centred squares of the short side as boxes ``[B, 4]`` (top, left, height, width).

    ``sizes`` ``[B, 2]`` are height and width of the frames.
    """
    side = sizes.min(axis=1, keepdims=True)
    # Half to even, as torchvision's center_crop.
    corner = np.rint((sizes - side) / 2).astype(np.int64)
    return np.concatenate([corner, side, side], axis=1).astype(np.int64)
