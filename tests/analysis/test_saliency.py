"""Saliency tubes, and t-SNE of the same runs, from training to picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vididi.analysis.reading import read_run
from vididi.analysis.saliency import (
    STRIP_CELL,
    class_row,
    last_maps,
    main,
    overlay,
    read_clip,
    saliency_tube,
)
from vididi.analysis.tsne import common_evaluation, read_features
from vididi.analysis.tsne import main as draw_tsne
from vididi.backbones import BACKBONES
from vididi.cli import main as vididi
from vididi.data.shards import ShardSet
from vididi.data.stream import local_stream
from vididi.errors import ConfigError
from vididi.evaluation.silhouette import silhouette_table
from vididi.experiment import run_cell
from vididi.prepared import ensure_prepared
from vididi.training.context import LocalContext


class LeftHalf(nn.Module):
    """An encoder of one convolution that is blind in the right half of its maps."""

    def __init__(self) -> None:
        super().__init__()
        self.blind = nn.Sequential(nn.Conv3d(3, 4, 3, stride=(2, 4, 4), padding=1), Mask())

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.blind(clips).mean(dim=(2, 3, 4))


class Mask(nn.Module):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        left = torch.arange(maps.shape[-1]) < maps.shape[-1] // 2
        return maps.abs() * left


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, make_config: Callable[..., Any]) -> list[Path]:
    """Base and ViDiDi, trained for an epoch, evaluated."""
    root = tmp_path_factory.mktemp("pictures")
    for arm, order in (("base", 0), ("vididi", 2)):
        config = make_config(
            {"training.epochs": 1, "clip.size": 32, "schedule.order": order, "clip.extra_frames": 2}
        )
        shards = ensure_prepared(config)
        cell = {"sweep": "s", "arm": arm, "label": arm.title(), "axes": {}, "seed": 0}
        run_cell(config, cell, root / arm, shards, local_stream(shards), LocalContext())
    assert vididi(["evaluate", "silhouette", str(root), "--no-untrained"]) == 0
    return [root / "base", root / "vididi"]


@pytest.fixture
def video(tiny_shards: ShardSet) -> str:
    return str(tiny_shards.column("video_id")[-1])


# --- Saliency -------------------------------------------------------------------------------------


def test_what_looks_at_the_left_half_is_salient_in_the_left_half() -> None:
    torch.manual_seed(0)
    for weigh in (lambda feature: feature, torch.ones_like):
        tube = saliency_tube(LeftHalf(), torch.randn(1, 3, 6, 32, 32), weigh)
        assert tube.values.shape == (6, 32, 32)
        assert tube.size == (3, 8, 8)
        assert (tube.values[:, :, :14] > 0).all()
        assert (tube.values[:, :, 18:] == 0).all()
        assert "maps of 3 x 8 x 8\n0.0 to " in tube.caption


def test_the_mean_of_a_tube_by_its_own_feature_is_the_feature_s_squared_length() -> None:
    torch.manual_seed(0)
    encoder, _ = BACKBONES["r3d_tiny"]()
    view = torch.randn(1, 3, 8, 64, 64)
    maps, feature = last_maps(encoder, view)
    assert maps.shape[2:] == (2, 4, 4)
    tube = saliency_tube(encoder, view, lambda given: given)
    assert tube.values.mean() == pytest.approx(feature.square().sum().item(), rel=1e-4)


@pytest.mark.parametrize(
    "name", [name for name in BACKBONES if name != "r3d_101"]
)  # r3d_50 with more of the same blocks
def test_every_backbone_has_last_maps_whose_mean_is_its_feature(name: str) -> None:
    torch.manual_seed(0)
    encoder, width = BACKBONES[name]()
    view = torch.randn(1, 3, 8, 64, 64)
    maps, feature = last_maps(encoder, view)
    assert maps.shape[:2] == (1, width)
    assert maps.shape[2:].numel() > 1
    with torch.no_grad():
        assert torch.equal(feature, encoder(view))
    assert not any(module._forward_hooks for module in encoder.modules())


def test_an_encoder_that_is_no_mean_of_maps_is_refused() -> None:
    class Greatest(LeftHalf):
        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            return self.blind(clips).amax(dim=(2, 3, 4))

    with pytest.raises(ConfigError, match="its feature is not the mean of its last maps"):
        last_maps(Greatest(), torch.randn(1, 3, 4, 16, 16))
    with pytest.raises(ConfigError, match="no place to point at"):
        last_maps(BACKBONES["r3d_tiny"]()[0], torch.randn(1, 3, 2, 8, 8))


def test_the_strongest_place_is_the_brightest() -> None:
    tube = np.zeros((2, 4, 4), np.float32)
    tube[1, 2, 3] = 5
    shown = overlay(np.full((2, 4, 4, 3), 100, np.uint8), tube).sum(axis=-1, dtype=int)
    assert np.unravel_index(shown.argmax(), shown.shape) == (1, 2, 3)
    assert overlay(np.zeros((1, 2, 2, 3), np.uint8), np.ones((1, 2, 2), np.float32)).shape == (
        1,
        2,
        2,
        3,
    )


def test_the_clip_is_the_middle_one(
    make_config: Callable[..., Any], tiny_shards: ShardSet, video: str
) -> None:
    clip = read_clip(make_config(), tiny_shards, video)
    assert clip.numbers.tolist() == [8, 10, 12, 14]  # 4 frames at stride 2 of 24, from start 17 / 2
    assert clip.frames.shape == (4, 16, 16, 3)
    assert clip.about.startswith(f"{video} (test, ")
    assert read_clip(make_config(), tiny_shards, video, 24).frames.shape == (4, 24, 24, 3)
    with pytest.raises(
        ConfigError,
        match="--size: 7 pixels are too few for backbone 'r3d_tiny', which needs at least 8",
    ):
        read_clip(make_config(), tiny_shards, video, 7)


@pytest.mark.parametrize("weights", ["feature", "class", "equal"])
def test_the_program_stacks_runs_in_a_strip_and_a_film(
    runs: list[Path], video: str, weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strip, film = tmp_path / "new" / "clip.png", tmp_path / "clip.mp4"
    arguments = [*map(str, runs), "--video", video, "--weights", weights]
    assert main([*arguments, "--out", str(strip), "--out", str(film)]) == 0
    assert capsys.readouterr().out == f"wrote {strip}\nwrote {film}\n"
    with Image.open(strip) as image:
        assert image.width > 4 * STRIP_CELL
        assert 3 * STRIP_CELL < image.height < 4 * STRIP_CELL
    with av.open(str(film)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 4
    assert frames[0].shape[0] > frames[0].shape[1]
    first = strip.read_bytes()
    assert main([*arguments, "--out", str(strip)]) == 0
    assert strip.read_bytes() == first


def test_class_weights_are_what_sets_a_class_s_mean_apart(
    runs: list[Path], tiny_shards: ShardSet
) -> None:
    names = tiny_shards.manifest.classes
    rows = np.stack([class_row(runs[0], name) for name in names])
    assert rows.sum(axis=0) == pytest.approx(np.zeros(rows.shape[1]), abs=1e-5)
    with pytest.raises(ConfigError, match="are of other classes than none"):
        class_row(runs[0], "none")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--video", "test/none"], "--video: 'test/none' is not one of the 36 videos"),
        (["--video", "x", "--out", "clip.gif"], "--out: clip.gif must end in .png or .mp4"),
        (["--video", "x", "--fps", "0"], "--fps: 0 is not valid"),
        (["--video", "x", "--shards", "/nowhere"], "no manifest.json"),
    ],
)
def test_faults_are_named_in_one_line(
    runs: list[Path], options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(runs[0]), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


# --- From evaluation to t-SNE ---------------------------------------------------------------------


def test_the_silhouette_in_the_picture_is_the_evaluation_s(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert draw_tsne([*map(str, runs), "--classes", "3", "--out", str(tmp_path / "tsne.png")]) == 0
    told = capsys.readouterr().out
    for folder, label in zip(runs, ("Base", "Vididi"), strict=True):
        run = read_run(folder)
        (evaluation,) = (m for m in run.measurements if m.name)
        known = read_features(run, common_evaluation([run]))
        test = known.splits == "test"
        table = silhouette_table(known.features[test], known.labels[test], known.first_hits)
        assert table == {
            name.split("/")[1]: value
            for name, value in evaluation.metrics.items()
            if name.startswith("silhouette/")
        }
        assert f"{label}: silhouette {table['3']:.3f}" in told
