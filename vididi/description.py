"""What an encoder says of itself: how its features are computed, and where it comes from.

It travels in the metadata of ``encoder.safetensors``, so that the file is of use without its run
folder. Paths of the machine that trained it are no part of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from vididi.config import Config
from vididi.errors import DamagedError
from vididi.provenance import measured_by
from vididi.views.operations import MEAN, STD

KEY = "vididi"  # of the metadata: JSON
FORMAT = 1
LICENCE = (
    "The code that made these weights is Apache-2.0. The weights were learned from the data set"
    " named here: its terms say who may use them for what."
)


@dataclass(frozen=True)
class EncoderSpec:
    """How a video becomes the clips that an encoder is fed, and these a feature.

    frames, stride, size: of a clip ``[3, frames, size, size]``. clips: of a video, spaced evenly
    from the first to the last possible start; their features are averaged. crop: side of the
    random square crop over the short side; seed: of the crops. orders: of derivatives that were
    measured; only that the largest one makes clips longer counts here. mean, deviation: of each
    channel, taken from values in ``range``. short_side, quality, decoder: of prepared frames.
    batch_norm: whose statistics the run's own features are of.
    """

    frames: int
    stride: int
    size: int
    clips: int
    crop: float
    seed: int
    orders: tuple[int, ...] = (0,)
    mean: tuple[float, ...] = MEAN
    deviation: tuple[float, ...] = STD
    range: tuple[float, float] = (0.0, 1.0)
    short_side: int = 150
    quality: int = 95
    decoder: str = "pyav"
    batch_norm: str = "running"

    @property
    def length(self) -> int:
        """Source frames of a clip, with those that the largest order would take."""
        return self.frames + max(self.orders)

    @classmethod
    def of(cls, config: Config) -> EncoderSpec:
        """Of a resolved configuration: that of the retrieval protocol at a run's end."""
        e, prepare = config.evaluation, config.prepare
        return cls(
            e.frames,
            e.stride,
            config.clip.size,
            e.clips,
            e.crop,
            e.seed,
            tuple(e.orders),
            short_side=prepare.short_side,
            quality=prepare.quality,
            decoder=prepare.decoder,
            batch_norm=e.batch_norm,
        )


def describe(config: Config, result: Mapping[str, Any]) -> dict[str, Any]:
    """What an encoder of a resolved configuration says of itself, as plain values.

    Args:
        result: of the run: metrics, ``PROTOCOL/METRIC``, ``data_checksum``, and the versions and
            the commit of what trained it, where they are known.
    """
    content = config.to_dict()
    backbone = {name: value for name, value in content["backbone"].items() if name != "weights"}
    return {
        "format": FORMAT,
        "backbone": backbone,
        "spec": json.loads(json.dumps(asdict(EncoderSpec.of(config)))),  # lists, as they are read
        "data": {"name": config.data.name, "checksum": result.get("data_checksum")},
        "schedule": content["schedule"],
        "objective": content["objective"],
        "training": content["training"],
        "metrics": {
            name: value
            for name, value in result.items()
            if "/" in name and isinstance(value, float) and not name.startswith("untrained/")
        },
        "versions": result.get("versions") or {},
        "commit": result.get("commit"),
        "licence": LICENCE,
    }


def encoder_metadata(config: Config, result: Mapping[str, Any]) -> dict[str, str]:
    """``describe``, of what this program trained, as the metadata of a safetensors file."""
    said = describe(config, {**result, **measured_by()})
    return {"format": "pt", KEY: json.dumps(said, sort_keys=True)}


def read_description(path: Path) -> dict[str, Any] | None:
    """What a safetensors file says of itself; None where it is of a time when none did.

    Raises:
        DamagedError: it is no such file, or says what this version cannot read.
    """
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(KEY)
        content = None if text is None else json.loads(text)
    except (SafetensorError, OSError, ValueError) as error:
        raise DamagedError(f"{path}: cannot be read: {error}") from None
    if content is None:
        return None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else content
        raise DamagedError(f"{path}: describes itself in format {found}; this reads {FORMAT}")
    return content


def spec_of(path: Path, description: Mapping[str, Any]) -> EncoderSpec:
    """The part of a description that says how features are computed. Raises DamagedError."""
    said = description.get("spec")
    known = {field.name for field in fields(EncoderSpec)}
    try:
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in (said or {}).items()
        }
        return EncoderSpec(**values)
    except (TypeError, AttributeError):
        raise DamagedError(
            f"{path}: its spec is {said}; it must have {', '.join(sorted(known))}"
        ) from None
