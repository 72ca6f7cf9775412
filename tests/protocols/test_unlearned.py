"""Features that nothing has learned: what they are, and what they find."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vididi.data.stream import local_stream
from vididi.experiment import run_cell
from vididi.prepared import ensure_prepared
from vididi.protocols import protocol_settings
from vididi.protocols.finished import evaluate_run
from vididi.protocols.task import Task, complete_settings
from vididi.protocols.unlearned import difference_grid, middle_frame, signed_differences
from vididi.training.context import LocalContext


def test_each_is_what_it_says() -> None:
    view = torch.zeros(2, 3, 5, 8, 8)
    view[0, :, 3, 6:, :2] = 6.0  # one corner is bright in frame 3
    assert torch.equal(middle_frame(view), view[:, :, 2])
    grid = difference_grid(view)
    assert grid.shape == (2, 1, 4, 4, 4)
    assert grid[0, 0, :, 3, 0].tolist() == [0, 0, 6, 6]  # it comes and goes
    assert grid.sum() == 12
    signed = signed_differences(view)
    assert signed.shape == (2, 4, 8, 8)
    assert signed[0, :, 7, 0].tolist() == [0, 0, 6, -6]
    assert difference_grid(view[:, :, :2]).shape == (2, 1, 1, 4, 4)


@pytest.mark.parametrize("clips", [1, 2])
def test_a_run_s_clips_are_measured_by_them(
    clips: int, make_config: Callable[..., Any], tmp_path: Path
) -> None:
    config = make_config({"training.epochs": 0, "evaluation.protocols": []})
    shards = ensure_prepared(config)
    folder, stream, context = tmp_path / "a-s0", local_stream(shards), LocalContext()
    run_cell(config, {"arm": "a"}, folder, shards, stream, context)
    settings = complete_settings(protocol_settings("unlearned", None, {"clips": clips}), config)
    task = Task("unlearned", settings, shards, stream, context, lambda metrics: None)
    result = evaluate_run(folder, task, None, untrained=False)
    assert set(result["metrics"]) == {
        f"unlearned/{feature}_{measure}"
        for feature in ("middle_frame", "difference_grid", "signed_differences")
        for measure in ("R@1", "linear")
    }
    assert all(0 <= value <= 1 for value in result["metrics"].values())
    again = evaluate_run(folder, task, None, untrained=False)
    assert again["seconds"] == result["seconds"]  # it is not measured again
