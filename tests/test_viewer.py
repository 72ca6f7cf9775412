"""vididi show: the cells of the sheet are the values that a training step gets, mapped to
colours.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from vididi.cli import main
from vididi.data.shards import ShardSet
from vididi.data.stream import Batch, local_stream
from vididi.plans import make_fit, make_plans
from vididi.training.loop import view_of
from vididi.viewer import (
    Layout,
    clips_of,
    contact_sheet,
    draw_sheet,
    find_video,
    limit_of,
    to_pixels,
    view_config,
    views_of,
)
from vididi.views.operations import MEAN, STD

MEANS, DEVIATIONS = np.array(MEAN), np.array(STD)


def training_batch(config: Any, shards: ShardSet, row: int, epoch: int) -> tuple[Any, Batch, int]:
    """The batch of a whole run's plan that holds the video at index ``row`` in ``epoch``, and where
    in it.
    """
    plan = make_plans(config, shards).pretrain
    first = epoch * plan.steps_per_epoch
    for batch in local_stream(shards)(plan, first):
        if row in batch.rows:
            return plan, batch, int(np.flatnonzero(batch.rows == row)[0])
    raise AssertionError("the video is in no batch")


def cell_of(sheet: np.ndarray, layout: Layout, view: int, order: int, frame: int) -> np.ndarray:
    left, top = layout.corner(view, order, frame)
    cell = sheet[top : top + layout.cell, left : left + layout.cell]
    small = cell[:: layout.enlarged, :: layout.enlarged]
    assert np.array_equal(cell, small.repeat(layout.enlarged, 0).repeat(layout.enlarged, 1))
    return small.astype(np.float64)


def expected_cell(values: np.ndarray, order: int, limit: float) -> np.ndarray:
    """``[S, S, 3]`` 0 to 255, from normalised values ``[3, S, S]``, written out once more."""
    shown = values.transpose(1, 2, 0) * DEVIATIONS
    return 255 * (shown + MEANS if order == 0 else 0.5 + shown / (2 * limit))


@pytest.mark.parametrize(
    ("epoch", "changes"),
    [
        (0, {}),
        (2, {"training.seed": 5}),
        (1, {"sampling.name": "interval", "augment.name": "cvrl"}),
        (1, {"clip.view_length": "shrinking"}),
    ],
)
def test_cells_are_the_values_of_the_training_step(
    make_config: Callable[..., Any], tiny_shards: ShardSet, epoch: int, changes: dict[str, Any]
) -> None:
    config, row = make_config(changes), int(tiny_shards.rows("train")[3])
    sheet = np.asarray(
        contact_sheet(config, tiny_shards, tiny_shards.column("video_id")[row], epoch)
    )
    plan, batch, place = training_batch(config, tiny_shards, row, epoch)
    layout = Layout(config.clip.frames, 3, config.clip.size, 2)
    for order in range(3):
        seen = [
            view_of(batch, which, order, epoch, make_fit(config, plan), torch.device("cpu"))[
                place
            ].numpy()
            for which in (0, 1)
        ]
        limit = max(
            float(np.abs(values * DEVIATIONS[:, None, None, None]).max()) for values in seen
        )
        for view, values in enumerate(seen):
            for frame in range(values.shape[1]):
                expected = expected_cell(values[:, frame], order, limit)
                assert (
                    np.abs(cell_of(sheet, layout, view, order, frame) - expected).max() < 0.51
                )  # rounded, never clipped


def test_views_are_differences_of_each_other(
    make_config: Callable[..., Any], tiny_shards: ShardSet
) -> None:
    config = make_config()
    plan, batch = clips_of(config, tiny_shards, int(tiny_shards.rows("train")[0]), 0)
    frames, velocity, acceleration = views_of(config, plan, batch, 0)[0]
    np.testing.assert_allclose(velocity[:-1], np.diff(frames, axis=0), atol=1e-5)
    np.testing.assert_allclose(acceleration[:-1], np.diff(velocity, axis=0), atol=1e-5)


def test_orders_without_frames_to_spare_are_left_out(
    make_config: Callable[..., Any], tiny_shards: ShardSet
) -> None:
    config = make_config({"clip.extra_frames": 1, "schedule.order": 1})
    sheet = contact_sheet(config, tiny_shards, tiny_shards.column("video_id")[0], 0)
    assert sheet.height == Layout(config.clip.frames, 2, config.clip.size, 2).height


def test_no_change_is_mid_grey_and_limits_are_black_and_white() -> None:
    still = np.zeros((2, 4, 4, 3), np.float32)
    assert limit_of([[still, still]] * 2, 1) == 0
    assert np.unique(to_pixels(still, 1, 0.0)).tolist() == [128]
    extreme = np.stack([still[0] - 1, still[0] + 1]) * np.float32(0.2) / np.float32(STD)
    assert [np.unique(half).tolist() for half in to_pixels(extreme, 1, 0.2)] == [[0], [255]]


def test_the_sheet_states_the_scale() -> None:
    """The margin changes with the limit although the cells do not."""

    def margin(size: float) -> np.ndarray:
        values = np.random.default_rng(0).uniform(-size, size, (2, 64, 64, 3)).astype(np.float32)
        image = np.asarray(
            draw_sheet([[np.zeros_like(values), values]] * 2, ["caption"], ["a", "b"])
        )
        left, top = Layout(2, 2, 64, 1).corner(0, 1, 0)
        return image[top : top + 64, :left]

    assert not np.array_equal(margin(0.5), margin(1.0))


# --- The command ----------------------------------------------------------------------------------


def fault(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["show", *arguments]) == 2
    return capsys.readouterr().err


def test_the_command_draws_what_its_options_say(tiny_shards: ShardSet, tmp_path: Path) -> None:
    video, out = tiny_shards.column("video_id")[5], tmp_path / "new" / "clip.png"
    options = [
        "--frames",
        "3",
        "--stride",
        "1",
        "--size",
        "24",
        "--augment",
        "vididi",
        "--seed",
        "4",
        "--epoch",
        "2",
    ]
    assert main(["show", str(tiny_shards.root), "--video", video, "--out", str(out), *options]) == 0
    config = view_config(
        {
            "clip": {"frames": 3, "stride": 1, "size": 24},
            "augment": {"name": "vididi"},
            "training": {"seed": 4},
        },
        "test",
    )
    assert np.array_equal(
        np.asarray(Image.open(out)), np.asarray(contact_sheet(config, tiny_shards, video, 2))
    )


def test_the_command_takes_all_from_a_run_s_configuration(
    make_config: Callable[..., Any], tiny_shards: ShardSet, tmp_path: Path
) -> None:
    config = make_config({"training.seed": 7, "objective.name": "cvrl", "clip.stride": 1})
    video = tiny_shards.column("video_id")[0]
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    arguments = [
        "show",
        str(tiny_shards.root),
        "--video",
        video,
        "--out",
        str(tmp_path / "clip.png"),
    ]
    assert main([*arguments, "--config", str(tmp_path / "config.yaml")]) == 0
    assert np.array_equal(
        np.asarray(Image.open(tmp_path / "clip.png")),
        np.asarray(contact_sheet(config, tiny_shards, video, 0)),
    )


def test_an_unknown_video_is_told_with_near_ones_and_their_number(
    tiny_shards: ShardSet, tmp_path: Path, capsys
) -> None:
    video = tiny_shards.column("video_id")[0]
    error = fault(
        capsys, str(tiny_shards.root), "--video", video[:-1] + "x", "--out", str(tmp_path / "a.png")
    )
    assert "one of the 36 videos" in error
    assert "near ones: " in error
    assert video.rsplit("/", 1)[0] in error
    assert find_video(tiny_shards, video) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "clip.jpg"], "must end in .png"),
        (["--epoch", "-1"], "--epoch: -1"),
        (["--config", "c.yaml", "--size", "32"], "--config: says clip.size already"),
        (["--frames", "0"], "clip.frames: 0"),
        (["--augment", "none-such"], "augment.name: 'none-such' is not valid"),
    ],
)
def test_faults_are_named(
    tiny_shards: ShardSet, tmp_path: Path, capsys, options: list[str], message: str
) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({}))
    base = ["--video", tiny_shards.column("video_id")[0], "--out", str(tmp_path / "a.png")]
    assert message in fault(capsys, str(tiny_shards.root), *base, *options)
