"""Whose boxes the measured numbers of a table of detection are of."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import Any

from vididi.analysis.paper import PaperTable
from vididi.analysis.reading import Run
from vididi.protocols import PROTOCOLS, settings_model

GIVEN = (
    "Detection here is of given boxes, the annotation's, in training and in testing: no person is"
    " looked for"
)


def whose_boxes(table: PaperTable, runs: Iterable[Run]) -> list[str]:
    """A line for the boxes of a table's measured numbers; where runs were tested in different ones,
    a line for each, with the names of its runs.

    Papers that say "Faster R-CNN" do not say whose boxes they test in. A result that was written
    before there was a choice is of given boxes.
    """
    metrics = {column.metric for column in (*table.columns, *table.also)}
    folders: dict[str, dict[str, None]] = {}
    for run in runs:
        for m in run.measurements:
            protocol = m.result.get("protocol")
            if protocol not in PROTOCOLS or "boxes" not in settings_model(protocol).model_fields:
                continue
            if metrics & m.metrics.keys():
                line = _line(m.result.get("settings", {}))
                folders.setdefault(line, {})[run.folder.name] = None
    if len(folders) < 2:
        return list(folders)
    return [f"{line}: {', '.join(names)}" for line, names in folders.items()]


def _line(settings: dict[str, Any]) -> str:
    if not settings.get("boxes_sha256"):
        return GIVEN
    return (
        f"Detection here is tested in proposed boxes, those of {PurePath(settings['boxes']).name}"
        f" (SHA-256 {settings['boxes_sha256']}) with a score of {settings['box_score']:g} or more,"
        " and trained in the annotation's"
    )
