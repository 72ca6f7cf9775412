"""What TensorBoard shows of a run folder, and what it should."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing import event_accumulator, plugin_event_accumulator
from tensorboard.util import tensor_util

logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of each restart
Points = dict[str, list[tuple[int, float]]]


def read_board(folder: Path) -> Points:
    """The points of each curve, as EventAccumulator and TensorBoard itself read them, which must be
    the same.
    """
    program, board = (
        plugin_event_accumulator.EventAccumulator(str(folder)),
        event_accumulator.EventAccumulator(str(folder)),
    )
    board.Reload()
    scalars = {
        tag: [(event.step, event.value) for event in board.Scalars(tag)]
        for tag in board.Tags()["scalars"]
    }
    scalars = {
        tag: points for tag, points in scalars.items() if points
    }  # a tag whose points a board forgot is still known to it
    assert shown(program) == scalars
    return scalars


def shown(program: Any) -> Points:
    """What a board that may have been running for long shows now."""
    program.Reload()
    curves = (
        program.PluginTagToContent("scalars")
        if "scalars" in program._plugin_to_tag_to_content
        else {}
    )
    points = {
        tag: [
            (event.step, float(tensor_util.make_ndarray(event.tensor_proto)))
            for event in program.Tensors(tag)
        ]
        for tag in curves
    }
    return {tag: curve for tag, curve in points.items() if curve}


def due(folder: Path) -> Points:
    """A point for each number of metrics.jsonl, and of a finished run one for each measure of
    result.json.
    """
    points: Points = {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        for tag, value in record.items():
            if isinstance(value, float):
                points.setdefault(tag, []).append((record["step"], value))
    result = (
        json.loads((folder / "result.json").read_text())
        if (folder / "result.json").is_file()
        else {}
    )
    measured = {
        tag: value
        for tag, value in result.items()
        if "/" in tag and not tag.startswith("untrained/") and isinstance(value, float)
    }
    return points | {tag: [(result["steps"], value)] for tag, value in measured.items()}


def assert_board_is_right(folder: Path) -> None:
    """Each point that is due, once and in order. A run that was killed may have been about to write
    its result.
    """
    found, expected = read_board(folder), due(folder)
    assert found.keys() >= expected.keys()
    assert found.keys() == expected.keys() or not (folder / "result.json").is_file()
    for tag, points in expected.items():
        assert [step for step, _ in found[tag]] == [step for step, _ in points], tag
        assert [value for _, value in found[tag]] == pytest.approx(
            [value for _, value in points], rel=1e-6
        ), tag
