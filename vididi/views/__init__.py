"""Views: augmentation, temporal derivatives, their order, and the pairing schedules."""

from vididi.pairing import CYCLES, SCHEDULES, Schedule
from vididi.views.augment import AUGMENTATIONS
from vididi.views.compose import (
    differentiate,
    evaluation_view,
    make_view,
    square_view,
    whole_view,
)

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
