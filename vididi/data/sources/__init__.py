"""Sources: functions that list videos as (path, class, split). Each entry of SOURCES is one data
set.

A source is called with the cache folder and its own keyword options, and returns a list of Video,
or a Listing, which has notes on what was left out too. It says what a data set's lists say: a file
that a list names and that is not there is listed all the same, so that preparing it gives a reject.
"""

from __future__ import annotations

from collections.abc import Callable

from vididi.data.motion import motion
from vididi.data.sources.ava import ava
from vididi.data.sources.folder import folder
from vididi.data.sources.grid import grid
from vididi.data.sources.kinetics import k200_40k, kinetics400, kinetics600, kinetics700
from vididi.data.sources.lists import Listing
from vididi.data.sources.something import something_something_v2
from vididi.data.sources.split_files import hmdb51, ucf101
from vididi.data.sources.table import csv_table
from vididi.data.video import Video

__all__ = ["SOURCES", "Listing", "folder"]

SOURCES: dict[str, Callable[..., list[Video]]] = {
    "motion": motion,
    "folder": folder,
    "csv": csv_table,
    "ucf101": ucf101,
    "hmdb51": hmdb51,
    "kinetics400": kinetics400,
    "kinetics600": kinetics600,
    "kinetics700": kinetics700,
    "k200_40k": k200_40k,
    "something_something_v2": something_something_v2,
    "ava": ava,
    "grid": grid,
}
