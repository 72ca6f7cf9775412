"""Every objective of OBJECTIVES at the sizes of tests, so that one that is added is tested without
a line here.
"""

from __future__ import annotations

import inspect
from typing import Any

from vididi.objectives import OBJECTIVES

Case = tuple[str, int, dict[str, Any]]  # objective, clips per video, options

# Options that make an objective small, where it has them. Another that needs one is a name here.
SIZES: dict[str, Any] = {"hidden": 12, "out": 8, "symmetric": 6, "antisymmetric": 6, "group": 2}


def small_options(name: str, **sizes: Any) -> dict[str, Any]:
    """Of SIZES and ``sizes``, which win, those that are options of an objective."""
    known = inspect.signature(OBJECTIVES[name]).parameters
    return {option: value for option, value in {**SIZES, **sizes}.items() if option in known}


def small_cases(**sizes: Any) -> dict[str, Case]:
    """Each objective with the clips of its paper, and CORP_m with an odd number too, by the case's
    name.
    """
    cases = {
        name: (name, objective.default_clips, small_options(name, **sizes))
        for name, objective in OBJECTIVES.items()
    }
    return {**cases, "corp_m_3_clips": ("corp_m", 3, small_options("corp_m", **sizes))}
