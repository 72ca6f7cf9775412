"""AVA's mean average precision as a table for people."""

from __future__ import annotations

import math

from tabulate import tabulate

from vididi.evaluation.ava_map import AvaMap
from vididi.terminal import one_line


def ava_map_table(result: AvaMap) -> str:
    """A line for each action, the mean in per cent, and what the mean leaves out."""
    rows = [
        (s.action, one_line(s.name), s.ground_truth, s.predictions, _per_cent(s.average_precision))
        for s in result.actions
    ]
    scored = len(rows) - len(result.without_ground_truth)
    total = (
        "",
        f"mAP, the mean of {scored}",
        result.counts["ground_truth"],
        result.counts["predictions"],
        f"{100 * result.mean:.2f}",
    )
    header = ("id", "action", "boxes", "predictions", "AP %")
    table = tabulate(
        [*rows, total],
        header,
        tablefmt="simple",
        disable_numparse=True,
        colalign=("right", "left", "right", "right", "right"),
    )
    return "\n".join([table, *result.notes])


def _per_cent(fraction: float) -> str:
    """Empty for an action without boxes, whose average precision is NaN."""
    return "" if math.isnan(fraction) else format(100 * fraction, ".2f")
