"""The settings of the protocols that evaluate a finished encoder: typed, closed, with the papers' recipes. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from vididi.config import MOST_CLIPS, MOST_EPOCHS, MOST_FRAMES, MOST_PIXELS, MOST_VIDEOS, Closed, Component, flatten, nest, validate
from vididi.errors import ConfigError

# Crop, resize and flip alone (CVRL 4.1: "standard data augmentations of cropping, resizing, and flipping").
CROP_AND_FLIP = {"name": "cvrl", "jitter": 0.0, "gray": 0.0, "blur": 0.0}
# CORP 4.1: "the same as in pre-training except that color jittering and Gaussian blur are removed".
NO_JITTER_NO_BLUR = {"name": "corp", "jitter": 0.0, "blur": 0.0}


class FeatureSettings(Closed):
    """Features of whole videos, and what is measured on them: retrieval, silhouette, dynamics. What is left open is the run's own."""

    clips: int | None = Field(None, ge=1, le=MOST_CLIPS, description="clips per video, averaged (ViDiDi E.4: 10)")
    frames: int | None = Field(None, ge=1, le=MOST_FRAMES, description="frames of a clip (ViDiDi E.4: 16)")
    stride: int | None = Field(None, ge=1, le=MOST_FRAMES)
    size: int | None = Field(None, ge=8, le=MOST_PIXELS, description="height and width")
    crop: float | None = Field(None, gt=0, le=1, description="side of the random crop over the short side")
    seed: int | None = Field(None, ge=0, description="of the random crops")


class ClassificationSettings(Closed):
    """Training a linear classifier on an encoder, frozen or trained along, and testing it."""

    frozen: bool = Field(description="whether the encoder stays as it is, batch statistics included")
    labels: float = Field(1.0, gt=0, le=1, description="share of the training videos that is used")
    balance: Literal["classes", "proportions"] = Field(
        "classes", description="which share: equally many of each class (CVRL), or the proportions of the classes kept (CORP)"
    )
    features: Literal["as_is", "l2", "zscore"] = Field("as_is", description="what is done to a feature before the classifier")
    dropout: float = Field(0.0, ge=0, lt=1)
    epochs: int = Field(100, ge=1, le=MOST_EPOCHS)
    batch_size: int = Field(128, ge=2, le=MOST_VIDEOS, description="videos per step")
    optimiser: Component = Component(name="sgd")
    warmup_epochs: int = Field(0, ge=0)
    steps: tuple[int, ...] | None = Field(None, description="epochs after which the rate falls to a tenth; half a cosine where left out")
    augment: Component = Component(**CROP_AND_FLIP)
    frames: int | None = Field(None, ge=1, le=MOST_FRAMES, description="frames of a clip; the run's own where left out")
    stride: int | None = Field(None, ge=1, le=MOST_FRAMES)
    size: int | None = Field(None, ge=8, le=MOST_PIXELS)
    clips: int = Field(10, ge=1, le=MOST_CLIPS, description="clips of a test video, over which predictions are averaged")
    crops: Literal["random", "centre", "three"] = Field(
        "three", description="of each test clip; three lie side by side along the longer side"
    )
    crop: float = Field(0.75, gt=0, le=1, description="side of a random crop over the short side")
    test_every: int = Field(
        0, ge=0, le=MOST_EPOCHS, description="also test after every this many epochs, on one centre clip of each video; 0: never"
    )
    seed: int = Field(0, ge=0)
    precision: Literal["fp32", "bf16"] = "fp32"
    keep_encoder: bool = Field(False, description="leave the tuned encoder in the evaluation's folder, as tuned.safetensors")

    @model_validator(mode="after")
    def _fits(self) -> ClassificationSettings:
        _check_epochs(self.epochs, self.warmup_epochs, self.steps or ())
        if self.keep_encoder and self.frozen:
            raise ValueError("keep_encoder: True needs frozen False; a frozen encoder stays the run's own encoder.safetensors")
        return self


class DetectionSettings(Closed):
    """Training an encoder to say what the persons in given boxes do (AVA), and testing it."""

    dropout: float = Field(0.5, ge=0, lt=1, description="before the classifier")
    epochs: int = Field(20, ge=1, le=MOST_EPOCHS)
    batch_size: int = Field(32, ge=1, le=MOST_VIDEOS, description="key frames per step")
    optimiser: Component = Component(name="adamw")
    warmup_epochs: int = Field(0, ge=0)
    steps: tuple[int, ...] = Field((), description="epochs after which the rate falls to `factor` of what it was")
    factor: float = Field(0.1, gt=0, le=1)
    flip: float = Field(0.5, ge=0, le=1, description="probability of mirroring a training clip with its boxes")
    frames: int | None = Field(None, ge=1, le=MOST_FRAMES, description="frames of a clip round the key frame; the run's own where left out")
    stride: int | None = Field(None, ge=1, le=MOST_FRAMES, description="frames of the film from one to the next")
    size: int | None = Field(None, ge=8, le=MOST_PIXELS, description="short side of the whole frame")
    test: Literal["each", "last"] = Field("each", description="after which epoch; after each of them the best one is reported too")
    limit: int = Field(50, ge=0, description="the best-scored predictions of a key frame that count, as in AVA's script; 0: all")
    seed: int = Field(0, ge=0)
    precision: Literal["fp32", "bf16"] = "fp32"

    @model_validator(mode="after")
    def _fits(self) -> DetectionSettings:
        _check_epochs(self.epochs, self.warmup_epochs, self.steps)
        return self


def _check_epochs(epochs: int, warmup: int, steps: tuple[int, ...]) -> None:
    if warmup >= epochs:
        raise ValueError(f"warmup_epochs: {warmup} must be less than the {epochs} epochs")
    if list(steps) != sorted({step for step in steps if 0 < step < epochs}):
        raise ValueError(f"steps: {list(steps)} is not valid; they are epochs in rising order, more than 0 and less than {epochs}")


# Each recipe is what its paper says; docs/evaluation.md names what the papers leave open.
RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    "linear": {
        # CVRL 4.1. Its SGD has no weight decay here, as in appendix B.1.
        "cvrl": {
            "frozen": True,
            "features": "l2",
            "batch_size": 1024,
            "warmup_epochs": 5,
            "optimiser": {"name": "sgd", "lr": 32.0, "weight_decay": 0.0},
        },
        # CORP 4.1: "SGD with the momentum of 0.9 and no weight decay".
        "corp": {
            "frozen": True,
            "features": "zscore",
            "batch_size": 1024,
            "optimiser": {"name": "sgd", "lr": 0.16, "weight_decay": 0.0},
            "augment": NO_JITTER_NO_BLUR,
        },
    },
    "semi": {
        # CVRL 4.1: "without warm-up", 100 epochs on 1% (and 50 on 10%: --set epochs=50).
        "cvrl": {"frozen": False, "labels": 0.01, "batch_size": 1024, "optimiser": {"name": "sgd", "lr": 0.2, "weight_decay": 0.0}},
        "corp": {
            "frozen": False,
            "labels": 0.01,
            "balance": "proportions",
            "features": "zscore",
            "batch_size": 1024,
            "optimiser": {"name": "sgd", "lr": 0.2, "weight_decay": 0.0},
            "augment": NO_JITTER_NO_BLUR,
        },
    },
    "finetune": {
        # ViDiDi E.5.
        "vididi": {
            "frozen": False,
            "dropout": 0.5,
            "steps": (60, 80),
            "optimiser": {"name": "sgd", "lr": 0.2, "weight_decay": 1e-4},
            "crops": "random",
        },
        # CVRL 4.1, downstream tasks.
        "cvrl": {"frozen": False, "epochs": 50, "warmup_epochs": 5, "optimiser": {"name": "sgd", "lr": 0.16, "weight_decay": 0.0}},
        # CVRL 4.1, supervised learning, of a run with random weights: "the same as linear evaluation except that we train the entire
        # encoder network from scratch for 200 epochs without feature normalization", rate 0.8, dropout 0.5.
        "cvrl_supervised": {
            "frozen": False,
            "dropout": 0.5,
            "epochs": 200,
            "batch_size": 1024,
            "warmup_epochs": 5,
            "optimiser": {"name": "sgd", "lr": 0.8, "weight_decay": 0.0},
        },
    },
    "detection": {
        # ViDiDi E.6. It has no weight decay; this is the default of torch's AdamW.
        "vididi": {
            "frames": 8,
            "stride": 4,
            "steps": (5,),
            "factor": 0.5,
            "optimiser": {"name": "adamw", "lr": 0.01, "weight_decay": 0.01},
        },
        # CVRL 4.1, downstream tasks. It names no dropout, weight decay or clips, and follows SlowFast, whose dropout is 0.5.
        "cvrl": {
            "epochs": 12,
            "steps": (8, 11),
            "test": "last",
            "optimiser": {"name": "sgd", "lr": 0.2, "weight_decay": 0.0},
        },
    },
}
FEATURE_PROTOCOLS = ("retrieval", "silhouette", "dynamics")
PROTOCOLS = (*FEATURE_PROTOCOLS, *RECIPES)
SHARED = ("linear", "semi", "finetune")  # of a sweep's evaluations, those that all workers of a cell make together; one makes the others

Settings = FeatureSettings | ClassificationSettings | DetectionSettings


class EvaluationEntry(Closed):
    """An evaluation that a sweep makes of each finished cell."""

    protocol: str
    recipe: str | None = None
    data: Component | None = Field(None, description="another data set than the cell's own")
    settings: dict[str, Any] = {}
    untrained: bool = Field(True, description="measure an encoder with random weights too")

    @model_validator(mode="after")
    def _possible(self) -> EvaluationEntry:
        try:
            protocol_settings(self.protocol, self.recipe, flatten(self.settings))
        except ConfigError as error:
            head, *lines = str(error).split("\n  ")
            raise ValueError("\n  ".join(f"settings.{line}" for line in lines) or head) from None
        return self

    def check_workers(self, workers: int) -> None:
        """Raise ConfigError if so many workers of a cell cannot share its batches."""
        settings = protocol_settings(self.protocol, self.recipe, flatten(self.settings))
        if self.protocol in SHARED and settings.batch_size % workers:  # type: ignore[union-attr]
            raise ConfigError(f"{self.title}: batch_size: {settings.batch_size} does not divide over {workers} workers")  # type: ignore[union-attr]

    @property
    def title(self) -> str:
        """What tells it from the sweep's others: the protocol, the share of the labels, the data set and its split."""
        share = getattr(protocol_settings(self.protocol, self.recipe, flatten(self.settings)), "labels", 1)
        name = self.protocol if share == 1 else f"{self.protocol} {100 * share:g}%"
        if self.data is None:
            return name
        split = self.data.options.get("split")
        return f"{name} on {self.data.name}" + (f" split {split}" if split else "")


def protocol_settings(protocol: str, recipe: str | None, changes: Mapping[str, Any]) -> Settings:
    """The settings of a protocol: a recipe, with changes by dotted key.

    Args:
        recipe: one of the protocol's; by default its first.

    Raises:
        ConfigError: an unknown protocol, recipe or key, or a value that is not valid.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"protocol: {protocol!r} is not valid; it is one of {', '.join(PROTOCOLS)}")
    recipes = RECIPES.get(protocol, {})
    if recipe is not None and recipe not in recipes:
        raise ConfigError(f"recipe: {recipe!r} is not valid for {protocol}; it is one of {', '.join(recipes) or 'none'}")
    values = recipes[recipe or next(iter(recipes))] if recipes else {}
    model: Any = FeatureSettings
    if recipes:
        model = DetectionSettings if protocol == "detection" else ClassificationSettings
    return validate(model, nest({**flatten(values), **changes}), f"vididi evaluate {protocol}")
