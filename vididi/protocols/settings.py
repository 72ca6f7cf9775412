"""The settings of the protocols that evaluate a finished encoder: typed and closed. Imports no
torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from vididi.config import (
    MOST_CLIPS,
    MOST_EPOCHS,
    MOST_FRAMES,
    MOST_PIXELS,
    MOST_VIDEOS,
    BatchNorm,
    Closed,
    Component,
    Orders,
    check_orders,
)
from vididi.data.sampling import ShortVideos
from vididi.introduced import Introduced, without_introduced

# Crop, resize and flip alone (CVRL 4.1: "standard data augmentations of cropping, resizing, and
# flipping").
CROP_AND_FLIP = {"name": "cvrl", "jitter": 0.0, "gray": 0.0, "blur": 0.0}


class FeatureSettings(Closed):
    """Features of whole videos, for retrieval, silhouette and dynamics.

    What is left open is the run's own.
    """

    clips: int | None = Field(
        None, ge=1, le=MOST_CLIPS, description="clips per video, averaged (ViDiDi E.4: 10)"
    )
    frames: int | None = Field(
        None, ge=1, le=MOST_FRAMES, description="of a clip [frames] (ViDiDi E.4: 16)"
    )
    stride: int | None = Field(
        None, ge=1, le=MOST_FRAMES, description="one source frame of every `stride`"
    )
    size: int | None = Field(None, ge=8, le=MOST_PIXELS, description="height and width [pixels]")
    crop: float | None = Field(
        None, gt=0, le=1, description="side of the random crop over the short side"
    )
    seed: int | None = Field(None, ge=0, description="of the random crops")
    batch_norm: Annotated[BatchNorm | None, Introduced("running")] = Field(
        None,
        description=(
            "statistics of batch normalisation: as training left them, or recomputed on the"
            " training videos of the run"
        ),
    )


class RetrievalSettings(FeatureSettings):
    """Which features are compared with which, and how."""

    orders: Annotated[Orders | None, Introduced([0])] = Field(
        None, description="of derivatives that are measured, and across"
    )
    distance: Annotated[Literal["cosine", "euclidean"] | None, Introduced("cosine")] = Field(
        None, description="by which neighbours are near (ViDiDi E.4: cosine)"
    )
    centre: Annotated[Literal["none", "train", "each_split"] | None, Introduced("none")] = Field(
        None, description="what is subtracted from features first; each_split is transductive"
    )

    @field_validator("orders")
    @classmethod
    def _orders_are_distinct(cls, orders: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if orders is None else check_orders(orders)


class ClassificationSettings(Closed):
    """Training a linear classifier on an encoder, frozen or trained along, and testing it."""

    frozen: bool = Field(
        description="whether the encoder stays as it is, batch statistics included"
    )
    labels: float = Field(1.0, gt=0, le=1, description="share of the training videos that is used")
    balance: Literal["classes", "proportions"] = Field(
        "classes",
        description=(
            "which share: equally many of each class (CVRL), or the proportions of the classes kept"
            " (CORP)"
        ),
    )
    features: Literal["as_is", "l2", "zscore"] = Field(
        "as_is", description="what is done to a feature before the classifier"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="before the classifier")
    epochs: int = Field(
        100, ge=1, le=MOST_EPOCHS, description="through the training videos that are used"
    )
    batch_size: int = Field(128, ge=2, le=MOST_VIDEOS, description="videos per step")
    optimiser: Component = Field(Component(name="sgd"), description="and its options")
    warmup_epochs: int = Field(0, ge=0, description="linear warm-up of the rate [epochs]")
    steps: tuple[int, ...] | None = Field(
        None,
        description="epochs after which the rate falls to a tenth; half a cosine where left out",
    )
    cosine: Annotated[Literal["remaining", "whole"], Introduced("remaining")] = Field(
        "remaining", description="what the cosine spans: the epochs after warm-up, or all"
    )
    augment: Component = Field(Component(**CROP_AND_FLIP), description="of training clips")
    frames: int | None = Field(
        None, ge=1, le=MOST_FRAMES, description="of a clip; the run's own where left out [frames]"
    )
    stride: int | None = Field(
        None,
        ge=1,
        le=MOST_FRAMES,
        description="one source frame of every `stride`; the run's own where left out",
    )
    size: int | None = Field(
        None,
        ge=8,
        le=MOST_PIXELS,
        description="height and width of a clip; the run's own where left out [pixels]",
    )
    test_size: Annotated[int | None, Introduced(None)] = Field(
        None,
        ge=8,
        le=MOST_PIXELS,
        description=(
            "height and width of a test crop; those of a training clip where left out [pixels]"
        ),
    )
    short_videos: Annotated[ShortVideos, Introduced("first_frame")] = Field(
        "first_frame",
        description="where a training clip begins in a video that is too short for one",
    )
    clips: int = Field(
        10,
        ge=1,
        le=MOST_CLIPS,
        description="clips of a test video, over which predictions are averaged",
    )
    crops: Literal["random", "centre", "three"] = Field(
        "three", description="of each test clip; three lie side by side along the longer side"
    )
    crop: float = Field(0.75, gt=0, le=1, description="side of a random crop over the short side")
    test_every: int = Field(
        0,
        ge=0,
        le=MOST_EPOCHS,
        description=(
            "also test after every this many epochs, on one centre clip of each video; 0: never"
        ),
    )
    seed: int = Field(0, ge=0, description="of the classifier's weights and every draw")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16 autocast, on GPUs only")
    keep_encoder: bool = Field(
        False,
        description="leave the tuned encoder in the evaluation's folder, as tuned.safetensors",
    )

    @model_validator(mode="after")
    def _fits(self) -> ClassificationSettings:
        _check_epochs(self.epochs, self.warmup_epochs, self.steps or ())
        if self.steps is not None and self.cosine != "remaining":
            raise ValueError(f"cosine: {self.cosine!r} means nothing with steps, {[*self.steps]}")
        if self.keep_encoder and self.frozen:
            raise ValueError(
                "keep_encoder: True needs frozen False; a frozen encoder stays the run's own"
                " encoder.safetensors"
            )
        return self


# Of proposed boxes: the person boxes that SlowFast (section 5), whom CVRL's detection follows, is
# tested in, and DETECTION_SCORE_THRESH of PySlowFast's published models on AVA (configs/AVA/c2).
# PySlowFast's own default is 0.9.
BOX_SCORE = 0.8


class DetectionSettings(Closed):
    """Training an encoder to say what the persons in given boxes do (AVA), and testing it in given
    or in proposed boxes.
    """

    dropout: float = Field(0.5, ge=0, lt=1, description="before the classifier")
    epochs: int = Field(20, ge=1, le=MOST_EPOCHS, description="through the key frames")
    batch_size: int = Field(32, ge=1, le=MOST_VIDEOS, description="key frames per step")
    optimiser: Component = Field(Component(name="adamw"), description="and its options")
    warmup_epochs: int = Field(0, ge=0, description="linear warm-up of the rate [epochs]")
    steps: tuple[int, ...] = Field(
        (), description="epochs after which the rate falls to `factor` of what it was"
    )
    factor: float = Field(0.1, gt=0, le=1, description="of the rate, at each of `steps`")
    flip: float = Field(
        0.5, ge=0, le=1, description="probability of mirroring a training clip with its boxes"
    )
    frames: int | None = Field(
        None,
        ge=1,
        le=MOST_FRAMES,
        description="of a clip round the key frame; the run's own where left out [frames]",
    )
    stride: int | None = Field(
        None, ge=1, le=MOST_FRAMES, description="frames of the film from one to the next"
    )
    size: int | None = Field(
        None, ge=8, le=MOST_PIXELS, description="short side of the whole frame [pixels]"
    )
    test: Literal["each", "last"] = Field(
        "each", description="after which epoch; after each of them the best one is reported too"
    )
    limit: int = Field(
        50,
        ge=0,
        description=(
            "the best-scored predictions of a key frame that count, as in AVA's script; 0: all"
        ),
    )
    boxes: Annotated[str | None, Introduced(None)] = Field(
        None,
        min_length=1,
        description=(
            "a file of proposed boxes of persons, in AVA's layout with scores, to test in; those of"
            " the annotation, as in training, where left out"
        ),
    )
    boxes_sha256: Annotated[str | None, Introduced(None)] = Field(
        None,
        pattern=r"^[0-9A-Fa-f]{64}$",
        description="what that file must be, in hexadecimal; filled in where left out",
    )
    box_score: Annotated[float | None, Introduced(None)] = Field(
        None,
        ge=0,
        le=1,
        description=f"the least score of a proposed box that is tested; {BOX_SCORE} where left out",
    )
    seed: int = Field(0, ge=0, description="of the classifier's weights and every draw")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16 autocast, on GPUs only")

    @model_validator(mode="after")
    def _fits(self) -> DetectionSettings:
        _check_epochs(self.epochs, self.warmup_epochs, self.steps)
        for name in ("boxes_sha256", "box_score"):
            if self.boxes is None and (value := getattr(self, name)) is not None:
                raise ValueError(
                    f"{name}: {value} is not valid; it must come with boxes, the file that it is"
                    " about"
                )
        return self


def _check_epochs(epochs: int, warmup: int, steps: tuple[int, ...]) -> None:
    if warmup >= epochs:
        raise ValueError(f"warmup_epochs: {warmup} must be less than the {epochs} epochs")
    if list(steps) != sorted({step for step in steps if 0 < step < epochs}):
        raise ValueError(
            f"steps: {list(steps)} is not valid; they are epochs in rising order, more than 0 and"
            f" less than {epochs}"
        )


ProtocolSettings = FeatureSettings | ClassificationSettings | DetectionSettings


def named_settings(model: type[Closed], values: Mapping[str, Any]) -> dict[str, Any]:
    """Of an evaluation's settings, as plain values, those that its name is made of.

    Not among them is what came later and has its introduction value (vididi.introduced), and where
    a file lies whose digest says what is in it.
    """
    named = without_introduced(model, values)
    if named.get("boxes_sha256"):
        named.pop("boxes", None)
    return named
