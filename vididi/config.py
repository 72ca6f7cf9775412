"""The whole configuration of one run: typed, closed and hashable. Imports no torch.

Sections with a ``name`` (data, sampling, augment, objective, backbone, optimiser) are components:
the name is a key of that kind's dict, and every other key is a keyword option of the entry.
vididi.components.resolve checks them against the entry's signature and fills in its defaults, so an
option is declared in one place only, where it is used.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from vididi.errors import ConfigError
from vididi.files import check_regular
from vididi.introduced import Introduced, without_introduced
from vididi.kinds import misfit
from vididi.names import NAME, NAME_RULE
from vididi.pairing import Mix, Schedule, Selection
from vididi.values import load, not_yaml, shown

BF16_NEEDS_GPU = (
    "training.precision: 'bf16' is for GPUs; on CPUs weight gradients of 3D convolutions become"
    " non-finite"
)


# What no run comes near; beyond them index arrays, thread counts or numbers of steps would not fit
# their types, or memory.
MOST_EPOCHS, MOST_VIDEOS, MOST_FRAMES = 10**8, 10**7, 10**5
MOST_CLIPS, MOST_PIXELS, MOST_THREADS = 10**4, 2**14, 2**12
EVALUATION_BATCH = 8  # videos whose features are computed, or that are tested, at once
BatchNorm = Literal["running", "recomputed"]
Orders = tuple[Annotated[int, Field(ge=0, le=9)], ...]
AtEnd = Literal[
    "retrieval", "silhouette"
]  # the protocols by which a run measures its own encoder at its end


class Closed(BaseModel):
    """Immutable; an unknown key is an error, and so is a value of another kind, such as true where
    a number is due.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _of_its_kind(cls, value: Any, info: ValidationInfo) -> Any:
        assert info.field_name
        if why := misfit(cls.model_fields[info.field_name].annotation, value):
            raise PydanticCustomError("kind", "{why}", {"why": why})
        return value


class Component(BaseModel):
    """An entry of one of the program's dicts, with its options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        """All its values but the name."""
        return dict(self.__pydantic_extra__ or {})


# The name of a sampling or an augmentation that follows the objective: vididi.components.resolve
# puts its paper's in.
DEFAULT = "default"


class PrepareConfig(Closed):
    """How videos become shards."""

    short_side: int = Field(
        150, ge=8, le=MOST_PIXELS, description="shorter side [pixels] (ViDiDi E.1)"
    )
    quality: int = Field(95, ge=1, le=100, description="JPEG quality of the frames")
    decoder: Literal["pyav", "decord"] = Field(
        "pyav", description="decord: PyAV where it fails; see docs/data.md, Decoding"
    )


class ClipConfig(Closed):
    """What a clip is."""

    frames: int = Field(8, ge=1, le=MOST_FRAMES, description="T, of a view [frames] (ViDiDi E.3)")
    stride: int = Field(
        3, ge=1, le=MOST_FRAMES, description="one source frame of every `stride` (ViDiDi E.3)"
    )
    size: int = Field(112, ge=8, le=MOST_PIXELS, description="side of a view [pixels] (ViDiDi E.1)")
    extra_frames: int = Field(
        2,
        ge=0,
        le=MOST_FRAMES,
        description="sampled beyond T, the same in every arm, for differentiation [frames]",
    )
    view_length: Literal["constant", "shrinking"] = Field(
        "constant", description="shrinking: a view of order k has T - k frames"
    )
    per_video: int | None = Field(
        None,
        ge=2,
        le=MOST_CLIPS,
        description="K, clips of a video per step; left out, the objective's: 4 for corp_m, else 2",
    )

    @property
    def length(self) -> int:
        """Frames that are sampled: T and the extra ones."""
        return self.frames + self.extra_frames


class ScheduleConfig(Closed):
    """The axes of ViDiDi's Table 6, or free weights over pairs; see vididi.pairing.Schedule. Where
    selection and mix are left out they are those of Algorithm 1, and ``weighted`` with weights.
    """

    order: int = Field(2, ge=0, le=9)
    mix: Mix | None = None
    selection: Selection | None = None
    reverse: bool = False
    weights: dict[str, float] | None = None

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        """Where differentiation happens at all, the defaults are those of Algorithm 1."""
        if isinstance(values, dict) and values.get("order", 2) != 0:
            values = dict(values)
            if values.get("selection") is None:
                values["selection"] = "scheduled" if values.get("weights") is None else "weighted"
            if values["selection"] == "scheduled" and values.get("mix") is None:
                values["mix"] = "both_ways"
        return values

    @model_validator(mode="after")
    def _possible(self) -> ScheduleConfig:
        self.schedule()
        return self

    @property
    def summary(self) -> str:
        """For people: ``order 2, scheduled, both_ways``."""
        parts = [
            f"order {self.order}",
            self.selection,
            self.mix,
            "reverse" if self.reverse else None,
        ]
        return ", ".join(part for part in parts if part)

    def schedule(self) -> Schedule:
        """The schedule itself. Raises ValueError where the axes do not go together."""
        return Schedule(self.order, self.mix, self.selection, self.reverse, self.weights)


NO_ACCUMULATION = (
    "gradients are not accumulated over smaller batches: these losses compare the videos of a batch"
    " with each other, so k batches of B / k are another objective than one of B. For a larger"
    " batch use more workers, or training.precision: bf16"
)
ACCUMULATION = (
    "accumulate",
    "accumulate_grad_batches",
    "accumulation_steps",
    "gradient_accumulation",
    "gradient_accumulation_steps",
)


class TrainingConfig(Closed):
    """The run itself."""

    epochs: int = Field(
        400,
        ge=0,
        le=MOST_EPOCHS,
        description="over the training videos (ViDiDi E.3); 0: evaluate the weights as they begin",
    )
    batch_size: int = Field(
        64, ge=2, le=MOST_VIDEOS, description="videos per step over all workers (ViDiDi E.3)"
    )
    warmup_epochs: int = Field(
        0, ge=0, description="linear warm-up of the rate [epochs] (ViDiDi E.3: 10 for BYOL)"
    )
    cosine: Literal["remaining", "whole"] = Field(
        "remaining", description="what the cosine spans: the epochs after warm-up, or all"
    )
    seed: int = Field(0, ge=0, description="of the weights, the order of videos and every draw")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16 autocast, on GPUs only; losses stay in fp32"
    )
    threads: int = Field(
        1,
        ge=1,
        le=MOST_THREADS,
        description="CPU threads of each worker's torch; part of the result on CPUs",
    )
    memory_format: Annotated[
        Literal["auto", "channels_last", "contiguous"], Introduced("channels_last")
    ] = Field(
        "auto",
        description="of clips and weights in the network; auto: the one that was measured to be"
        " faster, of this backbone on CPUs or GPUs",
    )
    view_passes: Annotated[Literal["auto", "one", "two"], Introduced("two")] = Field(
        "auto",
        description="of the network for the two views of a step; one: both at once, each normalised"
        " by its own batch, so that rounding alone differs; auto: what was measured to be faster",
    )
    checkpoint_epochs: int = Field(1, ge=1, description="a checkpoint after every this many epochs")
    checkpoint_steps: int | None = Field(
        None, ge=1, description="and after every this many steps, for epochs of hours"
    )

    @model_validator(mode="before")
    @classmethod
    def _no_accumulation(cls, values: Any) -> Any:
        for name in ACCUMULATION:
            if isinstance(values, dict) and name in values:
                raise ValueError(f"{name}: {values[name]!r} is not possible; {NO_ACCUMULATION}")
        return values


class OnlineConfig(Closed):
    """kNN and a linear probe while training, on some videos. They change nothing in the
    training.
    """

    every: int = Field(0, ge=0, description="measure after every this many epochs; 0: never")
    train: int = Field(
        400,
        ge=2,
        le=MOST_VIDEOS,
        description="training videos, to find neighbours among and to fit the probe on",
    )
    test: int = Field(200, ge=1, le=MOST_VIDEOS, description="test videos")
    clips: int = Field(1, ge=1, le=MOST_CLIPS, description="clips per video, averaged")
    keep_best: Literal["online/knn", "online/probe"] | None = Field(
        None, description="keep the encoder of the best epoch by this measure"
    )


def check_orders(orders: tuple[int, ...]) -> tuple[int, ...]:
    """Orders to measure on: 0 first, each once; ValueError if they are not."""
    if orders[:1] != (0,) or len(set(orders)) < len(orders):
        raise ValueError(f"it is {list(orders)}; it must be 0, then other orders, each once")
    return orders


class EvaluationConfig(Closed):
    """Features of whole videos, and what is measured on them."""

    protocols: tuple[AtEnd, ...] = Field(
        ("retrieval", "silhouette"), description="measured at the end of a run"
    )
    clips: int = Field(
        10, ge=1, le=MOST_CLIPS, description="clips per video, averaged (ViDiDi E.4)"
    )
    frames: int = Field(16, ge=1, le=MOST_FRAMES, description="of a clip [frames] (ViDiDi E.4)")
    stride: int = Field(3, ge=1, le=MOST_FRAMES, description="one source frame of every `stride`")
    crop: float = Field(
        0.75, gt=0, le=1, description="side of the random crop over the short side (112 / 150)"
    )
    batch_size: int = Field(
        EVALUATION_BATCH, ge=1, le=MOST_VIDEOS, description="videos per forward pass"
    )
    seed: int = Field(0, ge=0, description="of the random crops, the same for every arm")
    untrained: bool = Field(
        False, description="also evaluate an encoder with the random weights that the seed draws"
    )
    batch_norm: Annotated[BatchNorm, Introduced("running")] = Field(
        "running",
        description=(
            "statistics of batch normalisation: as training left them, or recomputed on training"
            " videos, for each order that is measured; of online measures too"
        ),
    )
    orders: Annotated[Orders, Introduced([0])] = Field(
        (0,), description="of derivatives that retrieval is measured on, and across"
    )
    distance: Annotated[Literal["cosine", "euclidean"], Introduced("cosine")] = Field(
        "cosine", description="of retrieval (ViDiDi E.4: cosine)"
    )
    centre: Annotated[Literal["none", "train", "each_split"], Introduced("none")] = Field(
        "none",
        description=(
            "what is subtracted from features before retrieval: nothing, the training videos' mean,"
            " or each split's own (as CoCLR's code; transductive)"
        ),
    )
    online: OnlineConfig = OnlineConfig()

    @field_validator("orders")
    @classmethod
    def _orders_are_distinct(cls, orders: tuple[int, ...]) -> tuple[int, ...]:
        return check_orders(orders)


# What changes no result, or its roundings alone: how often a checkpoint is written, how memory is
# laid out, in how many passes views are embedded, and what is measured on the way.
ON_THE_WAY = (
    ("training", "checkpoint_epochs"),
    ("training", "memory_format"),
    ("training", "view_passes"),
    ("training", "checkpoint_steps"),
    ("evaluation", "online"),
)


class Config(Closed):
    """One run."""

    data: Component = Component(name="motion")
    prepare: PrepareConfig = PrepareConfig()
    clip: ClipConfig = ClipConfig()
    sampling: Component = Component(name=DEFAULT)
    schedule: ScheduleConfig = ScheduleConfig()
    augment: Component = Component(name=DEFAULT)
    objective: Component = Component(name="vicreg")
    backbone: Component = Component(name="r3d_18")
    optimiser: Component = Component(name="lars")
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="before")
    @classmethod
    def _component_names(cls, values: Any) -> Any:
        """A section that gives options only is about its default entry."""
        if not isinstance(values, dict):
            return values
        defaults = {
            name: field.default.name
            for name, field in cls.model_fields.items()
            if isinstance(field.default, Component)
        }
        return {
            name: (
                {"name": defaults[name], **value}
                if name in defaults and isinstance(value, dict)
                else value
            )
            for name, value in values.items()
        }

    @model_validator(mode="after")
    def _fits(self) -> Config:
        if self.schedule.order > self.clip.extra_frames:
            raise ValueError(
                f"clip.extra_frames: {self.clip.extra_frames} is less than schedule.order"
                f" {self.schedule.order}"
            )
        if self.clip.view_length == "shrinking" and self.clip.frames <= self.schedule.order:
            raise ValueError(
                f"clip.frames: {self.clip.frames} is too few for view_length 'shrinking' with order"
                f" {self.schedule.order}"
            )
        if self.training.warmup_epochs and self.training.warmup_epochs >= self.training.epochs:
            raise ValueError(
                f"training.warmup_epochs: {self.training.warmup_epochs} must be less than the"
                f" {self.training.epochs} epochs"
            )
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for YAML or JSON."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """The text of config.yaml."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    def identity(self, data_checksum: str) -> str:
        """Twelve hex digits over everything that changes the result (identity_content), and the
        data's checksum.
        """
        text = json.dumps(
            {"config": self.identity_content(), "data": data_checksum}, sort_keys=True
        )
        return sha256(text.encode()).hexdigest()[:12]

    def identity_content(self) -> dict[str, Any]:
        """What the identity is over but the data, as plain values: the result's content, without
        what says nothing new.

        A key that came later counts only where it has another value than its introduction value
        (vididi.introduced).
        """
        content = without_introduced(type(self), self.result_content())
        backbone = content["backbone"]
        if backbone.get("weights") is None:  # the same name as before backbones took weights
            content["backbone"] = {
                key: value for key, value in backbone.items() if not key.startswith("weights")
            }
        elif backbone.get("weights_sha256"):
            del backbone["weights"]  # where the file lies does not change what is in it
        return content

    def result_content(self) -> dict[str, Any]:
        """Everything that changes the result but the data, as plain values.

        The data sections are left out: which videos, wherever they lie and however they were
        prepared, is what the manifest's checksum says. How often a checkpoint is written, and what
        is measured on the way, changes nothing; the memory format changes roundings, as a GPU does.
        """
        content = {
            key: value for key, value in self.to_dict().items() if key not in ("data", "prepare")
        }
        for section, key in ON_THE_WAY:
            del content[section][key]
        return content


def build_config(values: Mapping[str, Any], where: str = "configuration") -> Config:
    """Validate plain values.

    Raises:
        ConfigError: one line per fault, each with the field, the value and what is allowed.
    """
    return validate(Config, values, where)


Model = TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], values: Any, where: str) -> Model:
    """``model.model_validate`` with errors a user can act on."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(
            f"{where}:\n" + "\n".join(f"  {line}" for line in explain(error, model))
        ) from None


# pydantic's phrases, and ours.
_PHRASES = {
    r"input should be a valid dictionary( or instance of \w+)?": (
        "it must be a mapping of keys to values"
    ),
    r"input should be a valid (list|tuple)": "it must be a list",
    r"input should be a valid integer.*": "it must be an integer",
    r"input should be a valid number.*": "it must be a number",
    r"input should be a valid boolean.*": "it must be true or false",
    r"input should be a valid string": "it must be a text",
    re.escape(f"string should match pattern '{NAME}'"): f"it must be {NAME_RULE}",
    r"(input|string) should": "it must",
    r"(dictionary|list|tuple) should have (.*) after validation, not \d+": r"it must have \2",
}
# What pydantic puts between a field's keys for a union's member.
_MEMBER = re.compile(r"(literal|function-\w+|list|dict|tuple|nullable)\[")


def _faults(error: ValidationError) -> list[dict[str, Any]]:
    """The faults of a validation error without what is pydantic's: each of a union once, for the
    member that the value may be meant for.
    """
    faults: list[dict[str, Any]] = []
    for known in error.errors():
        fault = dict[str, Any](known)
        fault["msg"] = fault["msg"][0].lower() + fault["msg"][1:]
        for theirs, ours in _PHRASES.items():
            fault["msg"] = re.sub(theirs, ours, fault["msg"])
        union = any(_MEMBER.match(str(part)) for part in fault["loc"][-1:])
        fault["loc"] = tuple(part for part in fault["loc"] if not _MEMBER.match(str(part)))
        if fault["loc"][-1:] == ("[key]",):
            fault["loc"] = fault["loc"][:-2]
        wrong = (
            isinstance(fault["input"], Mapping)
            if fault["type"] == "literal_error"
            else not isinstance(fault["input"], Mapping)
        )
        if not (union and wrong and fault["type"] in ("literal_error", "model_type")):
            faults.append(fault)
    return faults


def explain(error: ValidationError, model: type[BaseModel]) -> Iterable[str]:
    """One line per fault of a validation error."""
    for fault in _faults(error):
        location = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            yield unknown_key(location, _valid_keys(model, fault["loc"][:-1]))
        elif fault["type"] == "value_error":
            for message in str(fault["ctx"]["error"]).split("\n  "):
                yield f"{location}.{message}" if location else message
        elif fault["type"] == "missing":
            yield f"{location}: missing"
        else:
            yield f"{location}: {shown(fault['input'])} is not valid: {fault['msg']}"


def unknown_key(location: str, valid: Iterable[str]) -> str:
    """The message for a key that is not one of ``valid``, with the nearest one first."""
    valid = sorted(valid)
    last = re.split(r"[. ]", location)[-1]
    near = difflib.get_close_matches(location, valid, n=1) or difflib.get_close_matches(
        last, valid, n=1
    )
    near = near or [key for key in valid if key.endswith(f".{last}")]
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"{location}: unknown key{hint}; valid keys are {', '.join(valid) or 'none'}"


def _valid_keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        field = model.model_fields.get(str(part))
        if field is None:
            continue  # a key of a mapping, or a place in a list
        nested = _model_in(field.annotation)
        if nested is None:
            break
        model = nested
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation is, or that its values are."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_in(part))), None)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping, loaded safely, in which nothing is another value than it seems
    (vididi.values).

    Raises:
        ConfigError: the file is missing, is not YAML, is not a mapping, gives a key twice, or has a
            value that cannot be taken.
    """
    try:
        with check_regular(path).open(encoding="utf-8") as file:
            content = load(file, str(path))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file in UTF-8") from None
    except yaml.YAMLError as error:
        raise ConfigError(not_yaml(error, str(path))) from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must be a mapping of keys to values")
    return content


def parse_value(text: str) -> Any:
    """A value given on the command line, read as YAML.

    Raises:
        ConfigError: it is not YAML, or cannot be taken.
    """
    try:
        return load(text)
    except yaml.YAMLError:
        raise ConfigError(f"{shown(text)} is not a YAML value") from None
