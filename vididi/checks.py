"""Checks of numbers that a user may give, with errors that name the field, the value and the rule.
Pure Python.
"""

from __future__ import annotations

import math


def check_positive(**values: float) -> None:
    """Raise ValueError naming the first value that is not a finite positive number."""
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name}: {value} is not valid; it must be a finite number above 0")


def check_not_negative(**values: float) -> None:
    """Raise ValueError naming the first value that is not a finite number of at least 0."""
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(
                f"{name}: {value} is not valid; it must be a finite number of at least 0"
            )
