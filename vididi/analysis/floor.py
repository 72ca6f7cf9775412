"""What has learned nothing, for the rows below a table's arms: features without weights
(vididi/protocols/unlearned.py), and untrained encoders on derivatives.

Their measurements are told as the metrics that a table has columns for: R@1 as that of retrieval,
and the accuracy of the classifier as that of linear evaluation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import replace

from vididi.analysis.reading import Measurement, Run

R1, LINEAR = "retrieval/R@1", "linear/top1"
_FEATURE = re.compile(r"unlearned/(?P<feature>\w+)_(?P<measure>R@1|linear)")
_METRICS = {"R@1": R1, "linear": LINEAR}
_ORDER = re.compile(r"retrieval/order_(\d+)_R@1")
_ORDERS = {0: "frames", 1: "velocity", 2: "acceleration"}
# Of an encoder, which these features do without. A distance of another kind stays another way.
_OF_ENCODERS = ("batch_norm", "orders")


def order_name(order: int) -> str:
    """What is fed to an encoder, such as ``velocity``."""
    return _ORDERS.get(order, f"order {order}")


def nothing_learned(runs: Iterable[Run], metrics: Collection[str | None]) -> dict[str, Run]:
    """A run for each feature that has no weights, by its name, with what was measured of it.

    It is the same for all runs with the same clips, so each way of measuring counts once.

    Args:
        metrics: those of the table's columns.
    """
    found: dict[str, tuple[Run, dict[str, Measurement]]] = {}
    for run in runs:
        for m in run.measurements:
            for feature, values in _by_feature(m).items():
                shown = {name: value for name, value in values.items() if name in metrics}
                if not shown:
                    continue
                settings = {k: v for k, v in m.settings.items() if k not in _OF_ENCODERS}
                _, ways = found.setdefault(feature, (run, {}))
                key = json.dumps([m.data, m.split, m.checksum, settings], sort_keys=True)
                ways.setdefault(key, _told_as(replace(m, settings=settings), shown))
    return {
        feature.replace("_", " "): replace(run, measurements=list(ways.values()))
        for feature, (run, ways) in found.items()
    }


def _by_feature(m: Measurement) -> dict[str, dict[str, float]]:
    """The metrics of each feature, under the names of the columns."""
    features: dict[str, dict[str, float]] = {}
    for name, value in m.metrics.items():
        if match := _FEATURE.fullmatch(name):
            features.setdefault(match["feature"], {})[_METRICS[match["measure"]]] = value
    return features


def on_derivatives(untrained: Run, metrics: Collection[str | None]) -> dict[int, Run]:
    """An untrained encoder fed derivatives, by order: R@1 of each order among itself.

    Args:
        untrained: as Run.untrained gives it. metrics: those of the table's columns.
    """
    orders: dict[int, list[Measurement]] = {}
    for m in untrained.measurements if R1 in metrics else []:
        for name, value in m.metrics.items():
            if match := _ORDER.fullmatch(name):
                orders.setdefault(int(match[1]), []).append(_told_as(m, {R1: value}))
    return {order: replace(untrained, measurements=ms) for order, ms in sorted(orders.items())}


def _told_as(m: Measurement, metrics: dict[str, float]) -> Measurement:
    return replace(m, metrics=metrics, untrained={}, queries=None, per_class={}, notes=())
