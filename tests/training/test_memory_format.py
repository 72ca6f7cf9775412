"""Which memory format a network is trained in, and that weights and clips are in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vididi.backbones.memory_formats import OF_TORCH
from vididi.components import build_state, resolve
from vididi.config import build_config
from vididi.data.stream import local_stream
from vididi.experiment import run_cell
from vididi.runs.readers import read_config, read_metrics
from vididi.training.context import LocalContext


@pytest.mark.parametrize(
    ("backbone", "size", "gpu", "asked", "given"),
    [
        ("r3d_18", 112, False, "auto", "contiguous"),
        ("r3d_18", 224, False, "auto", "channels_last"),
        ("r3d_18", 112, True, "auto", "channels_last"),
        ("r3d_18", 112, False, "channels_last", "channels_last"),
        ("r3d_tiny", 32, False, "auto", "channels_last"),
        ("r3d_tiny", 32, False, "contiguous", "contiguous"),
    ],
)
def test_the_format_follows_from_backbone_size_and_kind_of_device(
    backbone: str, size: int, gpu: bool, asked: str, given: str
) -> None:
    values = {
        "backbone": {"name": backbone},
        "clip": {"size": size},
        "training": {"memory_format": asked},
    }
    config = resolve(build_config(values), gpu=gpu)
    assert config.training.memory_format == given
    weights = [p for p in build_state(config).objective.backbone.parameters() if p.ndim == 5]
    large = [weight for weight in weights if min(weight.shape[1:]) > 1]
    assert large
    assert all(weight.is_contiguous(memory_format=OF_TORCH[given]) for weight in large)


def test_clips_come_in_the_format_and_losses_and_name_do_not_depend_on_it(
    tmp_path: Any, make_config: Callable[..., Any], tiny_shards: Any, monkeypatch: Any
) -> None:
    fed: list[Tensor] = []
    forward = nn.Conv3d.forward

    def look(self: nn.Conv3d, clips: Tensor) -> Tensor:
        if self.in_channels == 3 and torch.is_grad_enabled():
            fed.append(clips)
        return forward(self, clips)

    monkeypatch.setattr(nn.Conv3d, "forward", look)
    losses, names = [], set()
    for name, layout in OF_TORCH.items():
        config = make_config({"training.epochs": 2, "training.memory_format": name})
        run, stream = tmp_path / name, local_stream(tiny_shards)
        fed.clear()
        run_cell(config, {}, run, tiny_shards, stream, LocalContext())
        assert fed
        assert all(clips.is_contiguous(memory_format=layout) for clips in fed)
        assert read_config(run)["training"]["memory_format"] == name
        losses.append([record["train/loss"] for record in read_metrics(run)])
        names.add(config.identity("data"))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert len(names) == 1
