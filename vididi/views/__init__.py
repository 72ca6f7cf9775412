"""Views: temporal derivatives, pairing schedules, augmentation, and the order in which they are
applied.
"""

from vididi.pairing import CYCLES, SCHEDULES, Schedule
from vididi.views.augment import AUGMENTATIONS
from vididi.views.compose import evaluation_view, make_view, square_view, whole_view
from vididi.views.derivatives import differentiate

__all__ = [
    "AUGMENTATIONS",
    "CYCLES",
    "SCHEDULES",
    "Schedule",
    "differentiate",
    "evaluation_view",
    "make_view",
    "square_view",
    "whole_view",
]
