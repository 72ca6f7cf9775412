"""Encoders of run folders, and of files that travel alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from vididi.components import (
    _without_weights,
    build_state,
    make_encoder,
    read_run_config,
    resolve_component,
)
from vididi.config import EVALUATION_BATCH, Component, Config
from vididi.data.encode import Encoded, Settings
from vididi.data.plan import EvaluationPlan, frame_counts
from vididi.data.shards import ShardSet
from vididi.data.single import batch_of, content_number, encoded_array, encoded_file, row_in
from vididi.data.stream import Batch, local_stream
from vididi.description import EncoderSpec, describe, read_description, spec_of
from vididi.errors import ConfigError, DamagedError, TrainingError
from vididi.evaluation.batch_statistics import recomputed
from vididi.evaluation.features import FeatureProgress, FeatureView, measure_batches
from vididi.finite import check_finite, check_weights
from vididi.plans import statistics_plan
from vididi.runs import mirror
from vididi.runs.file_names import CONFIG, ENCODER
from vididi.runs.readers import read_run_result
from vididi.runs.run_folder import RunFolder
from vididi.runs.trust import is_whole

LEAST_FRAMES = 2  # of a video: one frame shows no motion
SLACK = 1e-3  # of normalised values beyond their range, for arithmetic


def load_encoder(path: str | Path) -> nn.Module:
    """A trained backbone in evaluation mode: ``[B, 3, T, H, W]``, normalised -> ``[B, D]``.

    Args:
        path: a run folder, or a file in one: ``encoder.safetensors``, or ``best.safetensors`` of a
            run that was stopped early; also a URI such as ``s3://bucket/runs/x/cell``.

    Raises:
        TrainingError: there is no such encoder, or its weights are not finite.
        DamagedError: the file was changed after it was written, or cannot be read.
    """
    file = _encoder_file(path)
    encoder, _ = make_encoder(read_run_config(file.parent).backbone)
    encoder.load_state_dict(RunFolder(file.parent).load_encoder(file.name))
    check_weights(str(file), encoder)
    return encoder.eval()


def _encoder_file(path: str | Path) -> Path:
    """The file of weights of a run, or that file itself, on this machine and whole. Raises
    TrainingError, DamagedError.
    """
    file = mirror.local_path(path)
    file = file if file.suffix == ".safetensors" else file / ENCODER
    folder = file.parent
    mirror.pull(folder)
    if not is_whole(file):
        raise TrainingError(
            f"{mirror.place_of(folder)}: no {file.name}, so there is no finished run here;"
            " `vididi status SWEEP.yaml` says what became of a sweep's runs"
        )
    return file


def untrained_encoder(config: Config, device: torch.device) -> nn.Module:
    """The backbone with the weights that the run's seed draws.

    A file that the run began from is not read.
    """
    config = config.model_copy(update={"backbone": _without_weights(config.backbone)})
    return build_state(config, device).objective.backbone


class Encoder:
    """A trained encoder with all that makes a feature of a video: ``Encoder.load(PATH)``.

    Attributes:
        network: ``[B, 3, T, H, W]``, normalised -> ``[B, D]``, in evaluation mode.
        width: D. spec: how a video becomes clips. description: what else is known of it
            (vididi.description).
    """

    def __init__(
        self, network: nn.Module, width: int, spec: EncoderSpec, description: Mapping[str, Any]
    ) -> None:
        self.network, self.width = network.eval(), width
        self.spec, self.description = spec, dict(description)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> Encoder:
        """The encoder of a run folder, or of a file of weights, wherever that lies.

        Args:
            path: as of load_encoder; a file that does not describe itself, as those of earlier
                versions, needs the run folder that it was written in around it.

        Raises:
            TrainingError: there is none, its weights do not fit or are not finite, or nothing says
                what it is.
            DamagedError: the file was changed after it was written, or cannot be read.
        """
        file = _encoder_file(path)
        described = read_description(file)
        if described is None:
            if not (file.parent / CONFIG).is_file():
                raise TrainingError(
                    f"{file}: does not describe itself, as files of earlier versions do not, and"
                    f" no {CONFIG} lies beside it; give the run folder that it was written in"
                )
            result = read_run_result(file.parent) or {}
            described = describe(read_run_config(file.parent), result)
        network, width = _network_of(file, described)
        return cls(network.to(device), width, spec_of(file, described), described)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.network.parameters()).device

    @property
    def settings(self) -> Settings:
        """How a video is prepared for it where no prepared set says so."""
        return Settings(self.spec.short_side, self.spec.quality, self.spec.decoder)  # type: ignore[arg-type]

    @torch.inference_mode()
    def __call__(self, clips: Tensor) -> Tensor:
        """``[B, 3, frames, size, size]``, normalised -> ``[B, D]``; ValueError for anything else.

        ``network`` takes clips of other lengths and sizes too, and checks nothing.
        """
        check_clips(clips, self.spec)
        return self.network(clips.to(self.device, torch.float32))

    def embed(
        self, video: str | Path | ArrayLike | Encoded, shards: ShardSet | None = None
    ) -> NDArray[np.float32]:
        """The feature of a video, ``[D]``: the mean over its clips, as retrieval computes it.

        Args:
            video: a file, or its frames, uint8 ``[T, H, W, 3]`` (RGB).
            shards: a prepared set: a video that is in it has the crops of its row there, and so the
                feature that an evaluation gives it; any other has crops of its content
                (vididi.data.single).

        Raises:
            DataError: the file would be rejected. ValueError: these are no frames.
            NotFiniteError: the feature is not finite.
        """
        batch = self.batch(video, shards)
        (feature,) = self._view.features(self.network, batch, batch.clips)
        check_finite("embed", feature=feature[None])
        return feature

    def transform(
        self, video: str | Path | ArrayLike | Encoded, shards: ShardSet | None = None
    ) -> Tensor:
        """The clips of a video that ``embed`` feeds, ``[clips, 3, frames, size, size]``,
        normalised. Arguments and errors are those of ``embed``.
        """
        batch = self.batch(video, shards)
        return self._view.clips(batch, batch.clips, 0, self.device)

    def batch(
        self, video: str | Path | ArrayLike | Encoded, shards: ShardSet | None = None
    ) -> Batch:
        """The clips of a video as they are before crop and normalisation."""
        encoded = self.encode(video, shards)
        row = None if shards is None else row_in(shards, encoded)
        number = content_number(encoded) if row is None else row
        s = self.spec
        return batch_of(encoded, number, s.length, s.stride, s.clips)

    def encode(
        self, video: str | Path | ArrayLike | Encoded, shards: ShardSet | None = None
    ) -> Encoded:
        """A video as a prepared set holds it: ``shards``, or one of the encoder's own settings."""
        if isinstance(video, Encoded):
            return video
        settings = self.settings if shards is None else Settings(**shards.manifest.prepare)
        if isinstance(video, str | Path):
            return encoded_file(Path(video), settings)
        frames = np.asarray(video)
        check_frames_of_video(frames)
        return encoded_array(frames, settings)

    def embed_rows(
        self,
        shards: ShardSet,
        rows: NDArray[np.int64],
        progress: FeatureProgress = lambda done, count: None,
    ) -> NDArray[np.float32]:
        """The features of videos of a prepared set, ``[V, D]``. Raises NotFiniteError."""
        s = self.spec
        plan = EvaluationPlan(
            rows, frame_counts(shards), s.length, s.stride, s.clips, EVALUATION_BATCH
        )
        batches = local_stream(shards)(plan, 0)
        _, features = measure_batches(self.network, batches, len(plan), self._view, progress)
        check_finite("embed", features=features["intact"])
        return features["intact"]

    def with_statistics(self, shards: ShardSet) -> Encoder:
        """This encoder with the batch statistics that its run was evaluated with.

        Where the run had ``batch_norm: recomputed`` they are of its training data, and this is
        another encoder; else the encoder itself.

        Raises:
            ConfigError: ``shards`` are not the data that it was trained on.
        """
        s = self.spec
        if s.batch_norm != "recomputed":
            return self
        checksum = self.description["data"]["checksum"]
        if shards.manifest.checksum != checksum:
            raise ConfigError(
                f"--in: {shards.root} has checksum {shards.manifest.checksum}; batch_norm:"
                f" recomputed needs the data that the encoder was trained on, {checksum}"
            )
        plan = statistics_plan(shards, s.length, s.stride, s.seed)
        view = self._view
        network = recomputed(self.network, local_stream(shards)(plan, 0), len(plan), view).of(0)
        spec = replace(s, batch_norm="running")
        return Encoder(network, self.width, spec, self.description)

    @property
    def _view(self) -> FeatureView:
        s = self.spec
        return FeatureView(s.size, s.crop, s.seed, (0,), s.frames)


def _network_of(file: Path, described: Mapping[str, Any]) -> tuple[nn.Module, int]:
    """The network of a description with the weights of its file."""
    try:
        backbone = resolve_component("backbone", Component(**described["backbone"]))
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise DamagedError(f"{file}: names no backbone that this version has: {error}") from None
    network, width = make_encoder(backbone)
    try:
        network.load_state_dict(RunFolder(file.parent).load_encoder(file.name))
    except RuntimeError as error:
        raise TrainingError(f"{file}: does not fit {backbone.name}: {error}") from None
    check_weights(str(file), network)
    return network.eval(), width


# --- Checks ---------------------------------------------------------------------------------------


def check_clips(clips: Any, spec: EncoderSpec) -> None:
    """Raise ValueError, which says what is wrong and what is allowed, unless these are clips that
    an encoder of ``spec`` is fed.
    """
    allowed = f"[B, 3, {spec.frames}, {spec.size}, {spec.size}]"
    rule = f"it must be {allowed}, float and normalised, as transform gives it"
    if not isinstance(clips, Tensor):
        raise ValueError(f"clips: {type(clips).__name__} is not valid; it must be a torch.Tensor")
    shape = list(clips.shape)
    if not clips.is_floating_point():
        raise ValueError(f"clips: {str(clips.dtype).removeprefix('torch.')} is not valid; {rule}")
    if len(shape) != 5:
        raise ValueError(f"clips: shape {shape} has {len(shape)} axes, not 5; {rule}")
    if shape[1] != 3:
        where = ", so the channels come last" if shape[4] == 3 else ""
        where = ", so time comes before the channels" if shape[2] == 3 else where
        raise ValueError(f"clips: shape {shape} has no 3 channels on axis 1{where}; {rule}")
    if shape[2] != spec.frames:
        frames = "1 frame" if shape[2] == 1 else f"{shape[2]} frames"
        raise ValueError(f"clips: {frames} in shape {shape}, not {spec.frames}; {rule}")
    if shape[3:] != [spec.size, spec.size]:
        size = f"{spec.size} x {spec.size}"
        raise ValueError(f"clips: {shape[3]} x {shape[4]} pixels, not {size}; {rule}")
    _check_normalised(clips, spec, rule)


def _check_normalised(clips: Tensor, spec: EncoderSpec, rule: str) -> None:
    if not clips.numel():
        raise ValueError(f"clips: shape {list(clips.shape)} has no clip; {rule}")
    each = list(zip(spec.mean, spec.deviation, strict=True))
    low = min((spec.range[0] - mean) / deviation for mean, deviation in each)
    high = max((spec.range[1] - mean) / deviation for mean, deviation in each)
    least, most = clips.min().item(), clips.max().item()
    if not (low - SLACK <= least and most <= high + SLACK):  # NaN fails it
        raise ValueError(
            f"clips: values from {least:.4g} to {most:.4g} are not normalised, which is"
            f" {low:.4g} to {high:.4g}; {rule}"
        )


def check_frames_of_video(frames: NDArray[Any]) -> None:
    """Raise ValueError, which says what is wrong and what is allowed, unless these are the frames
    of a video.
    """
    rule = f"it must be uint8 [T, H, W, 3] (RGB) of at least {LEAST_FRAMES} frames"
    shape = list(frames.shape)
    if frames.dtype != np.uint8:
        raise ValueError(f"frames: {frames.dtype} is not valid; {rule}")
    if frames.ndim == 3:
        raise ValueError(f"frames: shape {shape} is one frame; {rule}")
    if frames.ndim != 4:
        raise ValueError(f"frames: shape {shape} has {frames.ndim} axes, not 4; {rule}")
    if shape[3] != 3:
        axis = next((str(axis) for axis in (0, 1) if shape[axis] == 3), None)
        where = f", so the channels are axis {axis}" if axis else ""
        raise ValueError(f"frames: shape {shape} has no 3 channels on axis 3{where}; {rule}")
    if shape[0] < LEAST_FRAMES or not all(shape):
        what = "is one frame" if shape[0] == 1 else "is empty"
        raise ValueError(f"frames: shape {shape} {what}; {rule}")
