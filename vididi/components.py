"""Components of a configuration: the only place where names become objects."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import torch
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from torch import nn

from vididi.backbones import BACKBONES, MINIMUM
from vididi.backbones.memory_formats import OF_TORCH, fastest
from vididi.backbones.view_passes import one_pass_is_faster
from vididi.backbones.weights import WEIGHTS_OPTIONS, file_sha256
from vididi.config import DEFAULT, ClipConfig, Closed, Component, Config, build_config, explain
from vididi.data.sampling import SAMPLINGS, Sampling
from vididi.data.sources import SOURCES
from vididi.draws import Use, key
from vididi.errors import ConfigError
from vididi.objectives import OBJECTIVES, Objective
from vididi.optim import OPTIMISERS
from vididi.runs.file_names import CONFIG
from vididi.runs.readers import needed, read_config
from vididi.training.loop import State
from vididi.values import shown
from vididi.views import AUGMENTATIONS
from vididi.views.compose import Augment

COMPONENTS: dict[str, Mapping[str, Callable]] = {
    "data": SOURCES,
    "sampling": SAMPLINGS,
    "augment": AUGMENTATIONS,
    "objective": OBJECTIVES,
    "backbone": BACKBONES,
    "optimiser": OPTIMISERS,
}


def resolve(config: Config, workers: int = 1, gpu: bool = False) -> Config:
    """The configuration with every component's name and options checked, and defaults filled in.

    Where the configuration leaves sampling, augmentation or clips per video open, they become those
    of the objective's paper. Everything but the data is then built once on the meta device, so that
    a value that an entry refuses is refused before anything runs.

    Args:
        workers: over how many the batch will be divided. gpu: whether each of them has one.

    Raises:
        ConfigError: an unknown name or option, or a value that is not valid; it says what is.
    """
    objective = resolve_component("objective", config.objective)
    config = _follow_objective(config, OBJECTIVES[objective.name])
    sections = {kind: resolve_component(kind, getattr(config, kind)) for kind in COMPONENTS}
    sections["backbone"] = _pin_weights(sections["backbone"])
    config = config.model_copy(update=sections)
    config = _choose_arithmetic(config, workers, gpu)

    state = _on_meta(config)
    with _about("objective", config.objective):
        state.objective.check_share(config.training.batch_size // workers)

    make_augment(config.augment, config.clip.size)
    make_sampling(config)
    _check_views(config)
    return config


def _choose_arithmetic(config: Config, workers: int, gpu: bool) -> Config:
    """The configuration with what was measured to be faster, where it leaves that open.

    Raises:
        ConfigError: it asks for views in one pass, and they cannot be.
    """
    training, clip = config.training, config.clip
    found: dict[str, str] = {}
    if training.memory_format == "auto":
        found["memory_format"] = fastest(config.backbone.name, clip.size, gpu)
    against = _against_one_pass(config)
    if training.view_passes == "auto":
        pairs = training.batch_size // workers * (clip.per_video or 2) // 2
        numbers = pairs * clip.frames * clip.size**2
        one = not against and one_pass_is_faster(config.backbone.name, numbers, gpu)
        found["view_passes"] = "one" if one else "two"
    elif training.view_passes == "one" and against:
        raise ConfigError(f"training.view_passes: 'one' is not valid with {against}")
    return config.model_copy(update={"training": training.model_copy(update=found)})


def _against_one_pass(config: Config) -> str:
    """What of a configuration does not let both views be one batch; empty if nothing."""
    if not OBJECTIVES[config.objective.name].takes_one_pass:
        return f"objective {config.objective.name!r}, which embeds each view by itself"
    if config.clip.view_length == "shrinking" and config.schedule.order:
        return "clip.view_length 'shrinking', whose views have different lengths"
    return ""


def least_bytes(config: Config) -> int:
    """What a finished run of a resolved configuration has on disk at least: the weights of its
    checkpoint, without the optimiser's state, and its encoder [bytes].
    """
    objective = _on_meta(config).objective
    tensors = [*objective.state_dict().values(), *objective.backbone.state_dict().values()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _on_meta(config: Config) -> State:
    """What build_state makes, without numbers; not to be changed, as most cells of a sweep have it
    in common: making one takes 10 ms.
    """
    parts = [getattr(config, kind) for kind in ("backbone", "objective", "optimiser")]
    entries: tuple[Mapping[str, Any], ...] = (BACKBONES, OBJECTIVES, OPTIMISERS)
    made_of = (
        config.training.memory_format,
        config.training.view_passes,
        *(part.model_dump_json() for part in parts),
        *(of[part.name] for of, part in zip(entries, parts, strict=True)),
    )
    if made_of not in _MADE:
        if len(_MADE) == MOST_MADE:
            _MADE.clear()
        with torch.device("meta"):
            _MADE[made_of] = build_state(config)
    return _MADE[made_of]


_MADE: dict[tuple[Any, ...], State] = {}
MOST_MADE = 64


def _follow_objective(config: Config, objective: type[Objective]) -> Config:
    """The configuration with the recipe of the objective's paper where it said nothing."""
    changes: dict[str, Any] = {}
    for kind, name in (
        ("sampling", objective.default_sampling),
        ("augment", objective.default_augment),
    ):
        section = getattr(config, kind)
        if section.name == DEFAULT:
            changes[kind] = Component(name=name, **section.options)

    clips = config.clip.per_video or objective.default_clips
    if clips > objective.max_clips:
        raise ConfigError(
            f"clip.per_video: {clips} is not valid with objective {config.objective.name!r}; at"
            f" most {objective.max_clips}"
        )
    changes["clip"] = ClipConfig(**{**dict(config.clip), "per_video": clips})
    config = config.model_copy(update=changes)

    if objective.samplings and config.sampling.name not in objective.samplings:
        valid = " or ".join(map(repr, objective.samplings))
        raise ConfigError(
            f"sampling.name: {config.sampling.name!r} is not valid with objective"
            f" {config.objective.name!r}; it is {valid}"
        )
    return config


def _pin_weights(backbone: Component) -> Component:
    """Add to a backbone's weights what pins them: an absolute path, and the file's digest.

    The path holds in any process; the digest enters the cell's name.
    """
    if backbone.options.get("weights") is None:
        return backbone
    path = Path(backbone.options["weights"]).expanduser().absolute()
    try:
        digest = backbone.options["weights_sha256"] or file_sha256(path)
    except OSError as error:
        raise ConfigError(f"backbone.weights: {path} cannot be read: {error.strerror}") from None
    return Component(
        name=backbone.name, **{**backbone.options, "weights": str(path), "weights_sha256": digest}
    )


def _check_views(config: Config) -> None:
    """Refuse clips that are too small for the backbone."""
    shortest = config.clip.frames - (
        config.schedule.order if config.clip.view_length == "shrinking" else 0
    )
    for field, frames in (
        ("clip.frames", shortest),
        ("evaluation.frames", config.evaluation.frames),
    ):
        check_clip(config.backbone, frames, config.clip.size, field, "clip.size")


def check_clip(
    backbone: Component, frames: int, size: int, frames_field: str, size_field: str
) -> None:
    """Raise ConfigError, which names one of the fields, if clips are too small for the backbone."""
    min_frames, min_size = MINIMUM[backbone.name]
    for field, value, minimum, unit in (
        (frames_field, frames, min_frames, "frames of a view"),
        (size_field, size, min_size, "pixels"),
    ):
        if value < minimum:
            raise ConfigError(
                f"{field}: {value} {unit} are too few for backbone {backbone.name!r}, which needs"
                f" at least {minimum}"
            )


@contextmanager
def _about(kind: str, component: Component) -> Iterator[None]:
    """Turn what an entry refuses, or cannot be made with, into a ConfigError of its section."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"{kind}.{error}") from None
    except (
        ArithmeticError,
        MemoryError,
        OSError,
        RuntimeError,
        TypeError,
    ) as error:  # such as torch's, of a size beyond 64 bits
        options = ", ".join(f"{name}: {shown(value)}" for name, value in component.options.items())
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ConfigError(
            f"{kind}: {component.name!r} cannot be made with {options or 'no options'}: {reason}"
        ) from error


def resolve_component(kind: str, component: Component) -> Component:
    """The component with all options of its entry's signature, validated."""
    entries = COMPONENTS[kind]
    if component.name not in entries:
        raise ConfigError(
            f"{kind}.name: {component.name!r} is not valid; it is one of {', '.join(entries)}"
        )
    model = options_model(entries[component.name])
    try:
        options = model.model_validate(component.options)
    except ValidationError as error:
        lines = "\n".join(f"  {kind}.{line}" for line in explain(error, model))
        raise ConfigError(f"{kind} {component.name!r}:\n{lines}") from None
    return Component(name=component.name, **options.model_dump(mode="json"))


class Options(Closed):
    """The base of all entries' options. Their defaults are taken as they are written."""

    model_config = ConfigDict(validate_default=False)


@cache  # making one takes milliseconds, and a sweep asks for seven of each cell
def options_model(entry: Callable) -> type[BaseModel]:
    """The keyword-only parameters of an entry as a closed model: names, types and defaults."""
    function: Callable = entry.__init__ if inspect.isclass(entry) else entry  # type: ignore[misc]
    hints = get_type_hints(function)
    fields: dict[str, Any] = {
        name: (
            hints[name],
            ... if parameter.default is inspect.Parameter.empty else parameter.default,
        )
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    return create_model("Options", __base__=Options, **fields)


def read_run_config(run: Path) -> Config:
    """The configuration of a run, whose components this program has, to make something of it.

    Who only shows or compares runs needs no torch, and takes the plain values of
    vididi.runs.readers.read_config instead.

    Raises:
        DamagedError: there is none that can be read. ConfigError: it is one of another program.
    """
    path = run / CONFIG
    config = build_config(needed(path, read_config(run)), str(path))
    for kind in COMPONENTS:
        section = getattr(config, kind)
        try:
            _ = section.name == DEFAULT or resolve_component(kind, section)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
    return config


def make_sampling(config: Config) -> Sampling:
    """The sampling of a resolved configuration."""
    with _about("sampling", config.sampling):
        return SAMPLINGS[config.sampling.name](**config.sampling.options)


def make_augment(component: Component, size: int) -> Augment:
    """An augmentation to clips of ``size`` by ``size`` pixels."""
    with _about("augment", component):
        return AUGMENTATIONS[component.name](size, **component.options)


def make_optimiser(component: Component, module: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of all of ``module`` that may be trained."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    with _about("optimiser", component):
        return OPTIMISERS[component.name](trained, **component.options)


def make_encoder(backbone: Component) -> tuple[nn.Module, int]:
    """A backbone for weights to come, and its feature width."""
    # The file that pretraining began from may be gone; its weights would be overwritten anyway.
    backbone = _without_weights(backbone)
    return BACKBONES[backbone.name](**backbone.options)


def backbone_entry(name: str) -> Callable:
    """The entry of a backbone, for who wants its code."""
    return BACKBONES[name]


def _without_weights(backbone: Component) -> Component:
    return Component(
        name=backbone.name,
        **{name: value for name, value in backbone.options.items() if name not in WEIGHTS_OPTIONS},
    )


def build_state(config: Config, device: torch.device | None = None) -> State:
    """Backbone, objective and optimiser with weights that follow from the seed alone.

    Raises:
        ConfigError: an entry refuses a value; it names the section, the option and the rule.
    """
    torch.manual_seed(int(key(Use.INITIAL_WEIGHTS, config.training.seed)) >> 1)
    with _about("backbone", config.backbone):
        backbone, width = BACKBONES[config.backbone.name](**config.backbone.options)
    with _about("objective", config.objective):
        make_objective: Callable[..., Objective] = OBJECTIVES[config.objective.name]
        objective = make_objective(backbone, width, **config.objective.options)
    if device is not None:
        objective.to(device)
    objective.to(memory_format=OF_TORCH[config.training.memory_format])  # type: ignore[call-overload]
    objective.view_passes = "one" if config.training.view_passes == "one" else "two"
    return State(objective, make_optimiser(config.optimiser, objective))
