"""How a picture is to be turned and mirrored, from the display matrix of its file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vididi.errors import DataError

MIN_TURN = 0.0175  # the sine of a degree: players take less for none


def orientation_of(picture: Any) -> tuple[bool, int, int]:
    """How a picture is to be shown.

    Returned are whether it is transposed, and then the step of its rows and of its columns, 1 or
    -1.

    From the display matrix, which sends the point (x, y) to (a x + c y, b x + d y). Its scale is
    left out, as the pixels' aspect is, and a matrix of zeros says nothing.

    Raises:
        DataError: it turns the picture by another angle than a multiple of 90 degrees.
    """
    from av.sidedata.sidedata import Type

    matrix = picture.side_data.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return False, 1, 1
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    small = max(map(abs, (a, b, c, d))) * MIN_TURN
    if not small:
        return False, 1, 1
    if abs(a) > small < abs(d) and abs(b) <= small >= abs(c):
        return False, _sign(d), _sign(a)
    if abs(b) > small < abs(c) and abs(a) <= small >= abs(d):
        return True, _sign(b), _sign(c)
    raise DataError(
        f"rotation: its metadata turns pictures by the matrix {a / 65536:g} {b / 65536:g}"
        f" {c / 65536:g} {d / 65536:g}; turns by multiples of 90 degrees can be applied, and"
        " mirroring"
    )


def _sign(number: int) -> int:
    return 1 if number > 0 else -1


def upright(frame: NDArray[Any], orientation: tuple[bool, int, int]) -> NDArray[np.uint8]:
    """The frame ``[H, W, 3]`` as ``orientation_of`` says that it is to be shown."""
    transposed, down, right = orientation
    return (frame.transpose(1, 0, 2) if transposed else frame)[::down, ::right]
