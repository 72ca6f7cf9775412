"""Encoders of run folders."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from vididi.components import _without_weights, build_state, make_encoder, read_run_config
from vididi.config import Config
from vididi.errors import TrainingError
from vididi.finite import check_weights
from vididi.runs import mirror
from vididi.runs.file_names import ENCODER
from vididi.runs.run_folder import RunFolder


def load_encoder(path: str | Path) -> nn.Module:
    """A trained backbone in evaluation mode: ``[B, 3, T, H, W]``, normalised -> ``[B, D]``.

    Args:
        path: a run folder, or a file in one: ``encoder.safetensors``, or ``best.safetensors`` of a
            run that was stopped early; also a URI such as ``s3://bucket/runs/x/cell``.

    Raises:
        TrainingError: there is no such encoder, or its weights are not finite.
    """
    file = mirror.local_path(path)
    file = file if file.suffix == ".safetensors" else file / ENCODER
    folder = file.parent
    mirror.pull(folder)
    if not mirror.pull_file(file):
        raise TrainingError(
            f"{mirror.place_of(folder)}: no {file.name}, so there is no finished run here"
        )
    encoder, _ = make_encoder(read_run_config(folder).backbone)
    encoder.load_state_dict(RunFolder(folder).load_encoder(file.name))
    check_weights(str(file), encoder)
    return encoder.eval()


def untrained_encoder(config: Config, device: torch.device) -> nn.Module:
    """The backbone with the weights that the run's seed draws.

    A file that the run began from is not read.
    """
    config = config.model_copy(update={"backbone": _without_weights(config.backbone)})
    return build_state(config, device).objective.backbone
