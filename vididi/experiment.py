"""From a configuration to a finished run folder: the only place where names become objects."""

from __future__ import annotations

import inspect
import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from torch import nn

from vididi import RULES, __version__
from vididi.backbones import BACKBONES, MINIMUM
from vididi.backbones.weights import WEIGHTS_OPTIONS, file_sha256
from vididi.config import BF16_NEEDS_GPU, DEFAULT, ClipConfig, Closed, Component, Config, build_config, explain, flatten
from vididi.data.plan import Chain, EvaluationPlan, Interrupted, PretrainPlan, frame_counts
from vididi.data.prepare import TIMEOUT_S, Progress, Run, Settings, prepare
from vididi.data.sampling import SAMPLINGS, Sampling
from vididi.data.shards import ShardSet, check_no_overlap
from vididi.data.sources import SOURCES, Listing
from vididi.data.storage import Folder, cache_folder
from vididi.data.stream import Batch, Stream
from vididi.data.video import Video
from vididi.draws import Use, key, permutation
from vididi.errors import ConfigError, DamagedError, DataError, HeldError, TrainingError, VididiError
from vididi.evaluation import first_hits, recall_at, silhouette_table
from vididi.evaluation.features import FeatureView, measure_batches, spread
from vididi.evaluation.online import knn_accuracy, probe_accuracy
from vididi.finite import about, check_finite, check_weights
from vididi.objectives import OBJECTIVES, Objective
from vididi.optim import OPTIMISERS
from vididi.runs import mirror
from vididi.runs.readers import RESULT, queries_table, read_cell, read_config, read_run_result
from vididi.runs.run_folder import RunFolder
from vididi.training.context import Context, StoppedEarly, from_first
from vididi.training.loop import EpochLog, Job, State, train
from vididi.training.recorder import Recorder
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
KS = (1, 5, 10)


# --- Configuration -------------------------------------------------------------------------------------------------


def resolve(config: Config, workers: int = 1) -> Config:
    """Check every component's name and options against the program's entries, and fill in their defaults.

    Where the configuration leaves sampling, augmentation or clips per video open, they become those of the objective's
    paper. Everything but the data is then built once on the meta device, so that a value that an entry refuses is refused
    before anything runs.

    Args:
        workers: over how many the batch will be divided.

    Raises:
        ConfigError: an unknown name or option, or a value that is not valid; it says what is.
    """
    objective = resolve_component("objective", config.objective)
    config = _follow_objective(config, OBJECTIVES[objective.name])
    sections = {kind: resolve_component(kind, getattr(config, kind)) for kind in COMPONENTS}
    sections["backbone"] = _pin_weights(sections["backbone"])
    config = config.model_copy(update=sections)
    with torch.device("meta"):
        state = build_state(config)
    with _about("objective", config.objective):
        state.objective.check_share(config.training.batch_size // workers)
    make_augment(config.augment, config.clip.size)
    make_sampling(config)
    _check_views(config)
    return config


def _follow_objective(config: Config, objective: type[Objective]) -> Config:
    """The configuration with the recipe of the objective's paper where it said nothing."""
    changes: dict[str, Any] = {}
    for kind, name in (("sampling", objective.default_sampling), ("augment", objective.default_augment)):
        section = getattr(config, kind)
        if section.name == DEFAULT:
            changes[kind] = Component(name=name, **section.options)
    clips = config.clip.per_video or objective.default_clips
    if clips > objective.most_clips:
        raise ConfigError(f"clip.per_video: {clips} is not valid with objective {config.objective.name!r}; at most {objective.most_clips}")
    changes["clip"] = ClipConfig(**{**dict(config.clip), "per_video": clips})
    config = config.model_copy(update=changes)
    if objective.samplings and config.sampling.name not in objective.samplings:
        valid = " or ".join(map(repr, objective.samplings))
        raise ConfigError(f"sampling.name: {config.sampling.name!r} is not valid with objective {config.objective.name!r}; it is {valid}")
    return config


def _pin_weights(backbone: Component) -> Component:
    """Weights from a file by its absolute path, which holds in any process, and its digest, which enters the cell's name."""
    if backbone.options.get("weights") is None:
        return backbone
    path = Path(backbone.options["weights"]).expanduser().absolute()
    try:
        digest = backbone.options["weights_sha256"] or file_sha256(path)
    except OSError as error:
        raise ConfigError(f"backbone.weights: {path} cannot be read: {error.strerror}") from None
    return Component(name=backbone.name, **{**backbone.options, "weights": str(path), "weights_sha256": digest})


def _check_views(config: Config) -> None:
    """Refuse clips that are too small for the backbone."""
    shortest = config.clip.frames - (config.schedule.order if config.clip.view_length == "shrinking" else 0)
    for field, frames in (("clip.frames", shortest), ("evaluation.frames", config.evaluation.frames)):
        check_clip(config.backbone, frames, config.clip.size, field, "clip.size")


def check_clip(backbone: Component, frames: int, size: int, frames_field: str, size_field: str) -> None:
    """Raise ConfigError, which names one of the fields, if clips are too small for the backbone."""
    least_frames, least_size = MINIMUM[backbone.name]
    for field, value, least, unit in ((frames_field, frames, least_frames, "frames of a view"), (size_field, size, least_size, "pixels")):
        if value < least:
            raise ConfigError(f"{field}: {value} {unit} are too few for backbone {backbone.name!r}, which needs at least {least}")


@contextmanager
def _about(kind: str, component: Component) -> Iterator[None]:
    """What an entry refuses, or cannot be made with, becomes a ConfigError that names its section."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"{kind}.{error}") from None
    except (ArithmeticError, MemoryError, OSError, RuntimeError, TypeError) as error:  # such as torch's, of a size beyond 64 bits
        given = ", ".join(f"{name}: {shown(value)}" for name, value in component.options.items())
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ConfigError(f"{kind}: {component.name!r} cannot be made with {given or 'no options'}: {reason}") from error


def resolve_component(kind: str, component: Component) -> Component:
    """The component with all options of its entry's signature, validated."""
    entries = COMPONENTS[kind]
    if component.name not in entries:
        raise ConfigError(f"{kind}.name: {component.name!r} is not valid; it is one of {', '.join(entries)}")
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


def options_model(entry: Callable) -> type[BaseModel]:
    """The keyword-only parameters of an entry as a closed model: names, types and defaults from its signature."""
    function: Callable = entry.__init__ if inspect.isclass(entry) else entry  # type: ignore[misc]
    hints = get_type_hints(function)
    fields: dict[str, Any] = {
        name: (hints[name], ... if parameter.default is inspect.Parameter.empty else parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    return create_model("Options", __base__=Options, **fields)


# --- Data ----------------------------------------------------------------------------------------------------------


def ensure_prepared(
    config: Config, shards: Folder | None = None, progress: Progress | None = None, timeout: float = TIMEOUT_S, run: Run | None = None
) -> ShardSet:
    """The prepared data of a resolved configuration, prepared now if it is not there yet.

    Args:
        shards: a folder of shards, or a place in an object store; without it, a folder under the cache named after the data
            and prepare sections and the videos that the source lists, so that a folder with other videos in it is prepared anew.
        timeout: seconds that one video may take.
        run: decodes the videos elsewhere than in processes of this machine.

    Raises:
        DataError: the videos are not there or cannot be read, or a test video is also in the training split.
        ResourceError: ``run`` cannot do its work.
    """
    videos = None
    if shards is None:
        videos = list_videos(config)
        shards = cache_folder() / "shards" / f"{config.data.name}-{_preparation_digest(config, videos)}"
    if not (shards / "manifest.json").is_file():
        if isinstance(shards, Path) and shards.exists() and any(shards.iterdir()):
            raise DataError(f"{shards}: holds no manifest.json, so it is not a (completely) prepared data set")
        videos, content = videos or list_videos(config), config.to_dict()
        settings = Settings(**content["prepare"])
        prepare(videos, shards, settings, content["data"], progress, timeout=timeout, run=run, aside=_aside(shards), notes=videos.notes)
    found = ShardSet.open(shards)
    check_no_overlap(found)
    return found


def _aside(shards: Folder) -> Path:
    """Where a set is worked on: beside it, or for one in a store under the cache, in a folder named after the place."""
    if isinstance(shards, Path):
        return shards.with_name(f"{shards.name}.partial")
    return cache_folder() / "shards" / f"{sha256(str(shards).encode()).hexdigest()[:12]}.partial"


def list_videos(config: Config) -> Listing:
    """The videos of the data section; the motion set is made by this if need be."""
    with _about("data", config.data):
        options = options_model(SOURCES[config.data.name]).model_validate(config.data.options)
        found = SOURCES[config.data.name](cache_folder(), **dict(options))
        return found if isinstance(found, Listing) else Listing(found)


def _preparation_digest(config: Config, videos: list[Video]) -> str:
    content = config.to_dict()
    listed = [[video.video_id, video.split, _size(video.path), *video.details] for video in videos]
    return sha256(json.dumps([content["data"], content["prepare"], listed]).encode()).hexdigest()[:12]


def _size(path: Path) -> int | None:
    """Of a file; None where there is none, or its name is longer than a name can be."""
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None


@dataclass(frozen=True)
class Plans:
    """All batches of a run in one chain: training, interrupted for what is measured on the way, then evaluation."""

    pretrain: PretrainPlan
    evaluation: EvaluationPlan
    too_short: NDArray[np.int64]  # training videos in which the sampling cannot place its clips
    online: EvaluationPlan
    online_every: int  # epochs; 0: never

    @property
    def whole(self) -> Chain:
        return Chain((self._training, self.evaluation))

    def place(self, step: int) -> int:
        """The number in ``whole`` of the batch of a training step."""
        return step if isinstance(self._training, PretrainPlan) else self._training.place(step)

    @property
    def _training(self) -> PretrainPlan | Interrupted:
        return Interrupted(self.pretrain, self.online, self.online_every) if self.online_every else self.pretrain


def make_plans(config: Config, shards: ShardSet, rank: int = 0, world_size: int = 1) -> Plans:
    """The plans of worker ``rank``. Evaluation deals the videos out to the workers in turn.

    Raises:
        DataError: the data does not do for the configuration: too few videos for a batch, or no test split or no classes to evaluate on.
    """
    counts = frame_counts(shards)
    e, t = config.evaluation, config.training
    sampling = make_sampling(config)
    assert config.clip.per_video is not None  # resolve fills it in
    rows = shards.rows("train")
    possible = sampling.possible(counts[rows], config.clip.per_video, config.clip.length, config.clip.stride)
    if possible.sum() < t.batch_size <= len(rows):
        raise DataError(
            f"{shards.root}: {possible.sum()} of {len(rows)} training videos are long enough for {config.clip.per_video} clips of "
            f"{config.clip.length} frames under sampling {config.sampling.name!r}, fewer than training.batch_size {t.batch_size}"
        )
    pretrain = PretrainPlan(
        rows[possible],
        counts,
        config.clip.length,
        config.clip.stride,
        t.batch_size,
        t.epochs,
        t.seed,
        rank,
        world_size,
        config.clip.per_video,
        sampling,
    )
    asked = [*e.protocols, *(["online"] if e.online.every else [])]
    if asked and len(shards.rows("test")) == 0:
        raise DataError(f"{shards.root}: there is no test split to evaluate on; set evaluation.protocols to [] to pretrain only")
    if asked and not shards.manifest.classes:
        raise DataError(f"{shards.root}: has no classes for {' and '.join(asked)}; set evaluation.protocols to [] to pretrain only")
    videos = np.concatenate([rows, shards.rows("test")]) if e.protocols else np.empty(0, np.int64)
    evaluation = EvaluationPlan(videos[rank::world_size], counts, e.frames, e.stride, e.clips, e.batch_size)
    some = np.concatenate([_some(shards.rows(split), most) for split, most in (("train", e.online.train), ("test", e.online.test))])
    online = EvaluationPlan(some[rank::world_size], counts, e.frames, e.stride, e.online.clips, e.batch_size)
    return Plans(pretrain, evaluation, rows[~possible], online, e.online.every)


def _some(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many videos, the same in every run."""
    return np.sort(rows[permutation(len(rows), Use.ONLINE)[:most]])


def make_sampling(config: Config) -> Sampling:
    with _about("sampling", config.sampling):
        return SAMPLINGS[config.sampling.name](**config.sampling.options)


def make_augment(component: Component, size: int) -> Augment:
    with _about("augment", component):
        return AUGMENTATIONS[component.name](size, **component.options)


# --- Training ------------------------------------------------------------------------------------------------------


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
    objective.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return State(objective, make_optimiser(config.optimiser, objective))


def make_optimiser(component: Component, module: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of all of ``module`` that may be trained."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    with _about("optimiser", component):
        return OPTIMISERS[component.name](trained, **component.options)


def run_cell(
    config: Config, cell: Mapping[str, Any], path: Path, shards: ShardSet, open_stream: Stream, context: Context
) -> dict[str, Any]:
    """Pretrain and evaluate one resolved configuration, from wherever an earlier attempt got to.

    Args:
        cell: what the run folder should remember of its place in a sweep.
        path: the run folder; written by rank 0 only.
        open_stream: makes this worker's stream of batches from a plan.

    Returns:
        the content of result.json, on every worker.

    Raises:
        TrainingError: the folder holds a run of another configuration or on other data, or does not say which.
        StoppedEarly: on every worker, where a sweep has marked the folder as stopped.
    """
    folder, checksum = RunFolder(path), shards.manifest.checksum
    with ExitStack() as held:
        done = claim(folder, context, held, partial(_check_same_run, path, config, checksum))
        if done is not None:
            return done
        if context.rank == 0:
            folder.begin(config.to_yaml(), {**cell, "data_checksum": checksum})
        with about(path.name):
            return _run(config, folder, shards, open_stream, context)


def claim(folder: RunFolder, context: Context, held: ExitStack, check: Callable[[], None] = lambda: None) -> dict[str, Any] | None:
    """Rank 0 locks the folder for as long as ``held`` is open; every worker learns whether there is a result already.

    Args:
        check: rank 0 calls it when the folder is locked.
    """
    found: tuple[str, Any] = ("", None)
    if context.rank == 0:
        try:
            held.enter_context(folder.locked())
            check()
            found = ("result", folder.result)
        except HeldError as error:
            found = ("held", str(error))
        except VididiError as error:  # of the store that the folder is in
            found = ("error", str(error))
    kind, value = from_first(found, context)
    if kind == "held":
        raise HeldError(value)
    if kind == "error":
        raise TrainingError(value)
    return value


def _check_same_run(path: Path, config: Config, checksum: str) -> None:
    """Raise TrainingError where a folder holds another run: its numbers, or its checkpoint, would pass for this one's.

    A folder that a sweep named says by its name which run it holds. Keys that only one of the two has are of another version.
    """
    if path.name.endswith(f"-{config.identity(checksum)}") or not any(mirror.has(path / name) for name in (RESULT, "checkpoint.pt")):
        return
    advice = "give another folder, or move this one away"
    try:
        there, cell, done = read_run_config(path), read_cell(path) or {}, read_run_result(path) or {}
    except DamagedError as error:
        raise TrainingError(f"{error}; nothing says which run this is: {advice}") from None
    old, new = flatten(there.identity_content()), flatten(config.identity_content())
    if other := sorted(key for key in old.keys() & new.keys() if old[key] != new[key]):
        differences = "; ".join(f"{key}: {shown(old[key])} there, {shown(new[key])} asked for" for key in other)
        raise TrainingError(f"{path}: holds a run of another configuration ({differences}); {advice}")
    if checksum != (data := done.get("data_checksum") or cell.get("data_checksum") or checksum):
        raise TrainingError(f"{path}: holds a run on other data (checksum {data} there, {checksum} asked for); {advice}")


def _run(config: Config, folder: RunFolder, shards: ShardSet, open_stream: Stream, context: Context) -> dict[str, Any]:
    began = time.perf_counter()
    torch.set_num_threads(config.training.threads)
    if config.training.precision == "bf16" and context.device.type == "cpu":
        raise ConfigError(BF16_NEEDS_GPU)
    plans = make_plans(config, shards, context.rank, context.world_size)
    state = build_state(config, context.device)
    untrained = {}
    if config.evaluation.untrained:
        random = untrained_encoder(config, context.device)
        with about("the untrained encoder"):
            untrained = evaluate(config, random, shards, open_stream(plans.evaluation, 0), plans, context).metrics
        del random  # its memory is for the training
    _restore(state, folder, context)
    if state.step == 0 and folder.path.name.endswith(f"-{config.identity(shards.manifest.checksum)}"):
        _restore_encoder(state, folder, len(plans.pretrain))
    recorder = Recorder(folder, state.step) if context.rank == 0 else None
    batches = open_stream(plans.whole, plans.place(state.step))
    started = state.step
    look = partial(_measure_online, config, state, shards, batches, plans, context)
    on_epoch, on_step = _epoch_end(config, state, folder, recorder, context, look), _step_end(config, state, folder, context)
    train(state, batches, make_job(config, plans.pretrain), context, on_epoch, on_step)
    measured = evaluate(config, state.objective.backbone, shards, batches, plans, context)
    result = {
        "rules": RULES,
        **measured.metrics,
        **{f"untrained/{name}": value for name, value in untrained.items()},
        "data_checksum": shards.manifest.checksum,
        "steps": state.step,
        "resumed_from_step": started or None,
        "workers": context.world_size,
        "nodes": context.nodes,
        "device": str(context.device.type),
        "seconds": time.perf_counter() - began,
        "videos_dropped_per_epoch": plans.pretrain.dropped,
        **({"classes_without_videos": shards.empty_classes} if shards.empty_classes else {}),
        "videos_too_short": shards.column("video_id")[plans.too_short].tolist(),
        "videos_wrapped": {"pretrain": plans.pretrain.wrapped, "evaluation": plans.evaluation.wrapped},
        "versions": {"vididi": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    if recorder is not None:
        _finish(config, state, folder, recorder, measured, result)
    context.report({"epoch": config.training.epochs, "step": state.step, **measured.metrics})
    return result


def make_job(config: Config, plan: PretrainPlan) -> Job:
    return Job(
        schedule=config.schedule.schedule(),
        augment=make_augment(config.augment, config.clip.size),
        frames=config.clip.frames,
        seed=config.training.seed,
        epochs=config.training.epochs,
        steps_per_epoch=plan.steps_per_epoch,
        warmup_epochs=config.training.warmup_epochs,
        cosine=config.training.cosine,
        view_length=config.clip.view_length,
        precision=config.training.precision,
    )


def _restore(state: State, folder: RunFolder, context: Context) -> None:
    checkpoint = folder.load_checkpoint(context.device)
    if checkpoint is None:
        return
    try:
        state.objective.load_state_dict(checkpoint["objective"])
        state.optimiser.load_state_dict(checkpoint["optimiser"])
        state.step, state.log = checkpoint["step"], EpochLog(**checkpoint["log"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise TrainingError(f"{folder.path / 'checkpoint.pt'}: does not fit this configuration: {error}") from None


def _restore_encoder(state: State, folder: RunFolder, steps: int) -> None:
    """The trained encoder of a run that has lost its result and its checkpoint: what is left to do is to evaluate it.

    The encoder is written at the end, so one that is there is trained. One that cannot be read or does not fit is trained again.
    """
    weights, backbone = folder.trained_encoder(), state.objective.backbone
    shapes = {name: tensor.shape for name, tensor in backbone.state_dict().items()}
    if weights is not None and {name: tensor.shape for name, tensor in weights.items()} == shapes:
        backbone.load_state_dict(weights)
        state.step = steps


def _save(state: State, folder: RunFolder) -> None:
    weights, optimiser = state.objective.state_dict(), state.optimiser.state_dict()
    folder.save_checkpoint({"objective": weights, "optimiser": optimiser, "step": state.step, "log": asdict(state.log)})


def _epoch_end(
    config: Config, state: State, folder: RunFolder, recorder: Recorder | None, context: Context, look: Callable[[int], dict[str, float]]
) -> Callable[[dict, int], None]:
    def on_epoch(metrics: dict, epoch: int) -> None:
        metrics = {**metrics, **look(epoch)}
        if recorder is not None:
            recorder.epoch(metrics)
            _keep_best(config, state, folder, metrics, epoch)
            if epoch % config.training.checkpoint_epochs == 0 or epoch == config.training.epochs:
                _save(state, folder)
            if config.evaluation.online.keep_best:
                mirror.settle(folder.path)  # a cell that is stopped in its report must leave a whole folder
        context.report(metrics)
        # A cell of one worker is stopped in its report.
        stoppable = config.evaluation.online.keep_best and context.world_size > 1
        if stoppable and from_first(context.rank == 0 and folder.told_to_stop(), context):
            raise StoppedEarly(f"stopped early after epoch {epoch}")

    return on_epoch


def _keep_best(config: Config, state: State, folder: RunFolder, metrics: dict, epoch: int) -> None:
    metric = config.evaluation.online.keep_best
    if metric is None or metric not in metrics:
        return
    best = folder.best(metric)
    if best is None or not metrics[metric] <= best:  # of NaN that an earlier version kept
        folder.save_best(state.objective.backbone.state_dict(), metric, metrics[metric], epoch)


def _measure_online(
    config: Config, state: State, shards: ShardSet, batches: Iterator[Batch], plans: Plans, context: Context, epoch: int
) -> dict[str, float]:
    """What is measured after this epoch, if anything; the batches for it are the next ones."""
    if not plans.online_every or epoch % plans.online_every:
        return {}
    began = time.perf_counter()
    view = FeatureView(config.clip.size, config.evaluation.crop, config.evaluation.seed)
    rows, looked = measure_batches(state.objective.backbone, batches, len(plans.online), view)
    state.objective.train()
    rows, features = gather_rows(rows, looked["intact"], context)
    labels, test = shards.column("label")[rows], shards.column("split")[rows] == "test"
    parts = features[test], labels[test], features[~test], labels[~test]
    with about(f"after epoch {epoch}"):
        found = {"online/knn": knn_accuracy(*parts), "online/probe": probe_accuracy(*parts)}
    return {**found, "time/online_seconds": time.perf_counter() - began}


def _step_end(config: Config, state: State, folder: RunFolder, context: Context) -> Callable[[], None]:
    every = config.training.checkpoint_steps

    def on_step() -> None:
        if every is not None and state.step % every == 0 and context.rank == 0:
            _save(state, folder)

    return on_step


def _finish(config: Config, state: State, folder: RunFolder, recorder: Recorder, measured: Measured, result: dict[str, Any]) -> None:
    metrics = {name: value for name, value in measured.metrics.items() if isinstance(value, float)}
    recorder.finish(flatten(config.to_dict()), metrics, state.step)
    folder.save_encoder(state.objective.backbone.state_dict())
    if measured.queries is not None:
        folder.save_queries(measured.queries)
    folder.save_result(result)


# --- Evaluation ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """Metrics by name, and one row per test video (video_id, label, first_hit) where retrieval was measured."""

    metrics: dict[str, float]
    queries: pa.Table | None


def evaluate(config: Config, encoder: nn.Module, shards: ShardSet, batches: Iterator[Batch], plans: Plans, context: Context) -> Measured:
    """Run the configured protocols on frames (order 0); the same result on every worker.

    Raises:
        NotFiniteError: a feature is not finite.
    """
    e = config.evaluation
    if not e.protocols:
        return Measured({}, None)
    view = FeatureView(config.clip.size, e.crop, e.seed)
    rows, found = measure_batches(encoder, batches, len(plans.evaluation), view)
    rows, features = gather_rows(rows, found["intact"], context)
    check_finite(" and ".join(e.protocols), features=features)
    labels, test = shards.column("label")[rows], shards.column("split")[rows] == "test"
    hits = first_hits(features[test], labels[test], features[~test], labels[~test])
    metrics = {"features/spread": spread(features[test])}
    if "retrieval" in e.protocols:
        metrics |= {f"retrieval/R@{k}": value for k, value in recall_at(hits, KS).items()}
    if "silhouette" in e.protocols:
        metrics |= {f"silhouette/{count}": value for count, value in silhouette_table(features[test], labels[test], hits).items()}
    scenes = shards.column("scene")[rows]
    if "retrieval" in e.protocols and all(scenes):
        scene_hits = first_hits(features[test], scenes[test], features[~test], scenes[~test])
        metrics["retrieval/scene_R@1"] = recall_at(scene_hits, (1,))[1]
    queries = queries_table(shards.column("video_id")[rows][test], labels[test], hits)
    return Measured(metrics, queries)


def gather_rows(rows: NDArray, found: NDArray, context: Context) -> tuple[NDArray, NDArray]:
    """What all workers found ``[V, ...]`` by index rows ``[V]``, in index order, so that ties do not depend on the number of workers."""
    if context.world_size > 1:
        parts: list[Any] = [None] * context.world_size
        torch.distributed.all_gather_object(parts, (rows, found))
        rows, found = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    order = np.argsort(rows)
    return rows[order], found[order]


def load_encoder(path: str | Path) -> nn.Module:
    """A trained backbone in evaluation mode: ``[B, 3, T, H, W]``, normalised -> ``[B, D]``.

    Args:
        path: a run folder, or a file in one: ``encoder.safetensors``, or ``best.safetensors`` of a run that was stopped early; also
            a URI such as ``s3://bucket/runs/x/cell``.

    Raises:
        TrainingError: there is no such encoder, or its weights are not finite.
    """
    file = mirror.local_path(path)
    file = file if file.suffix == ".safetensors" else file / "encoder.safetensors"
    folder = file.parent
    mirror.pull(folder)
    if not mirror.fetch(file):
        raise TrainingError(f"{mirror.place_of(folder)}: no {file.name}, so there is no finished run here")
    encoder, _ = make_encoder(read_run_config(folder).backbone)
    encoder.load_state_dict(RunFolder(folder).load_encoder(file.name))
    check_weights(str(file), encoder)
    return encoder.eval()


def read_run_config(run: Path) -> Config:
    """The configuration of a run.

    Raises:
        DamagedError: there is none that can be read. ConfigError: it is one of another program.
    """
    path = run / "config.yaml"
    values = read_config(run)
    if values is None:
        raise DamagedError(f"{path}: is missing")
    config = build_config(values, str(path))
    for kind in COMPONENTS:
        section = getattr(config, kind)
        try:
            _ = section.name == DEFAULT or resolve_component(kind, section)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
    return config


def make_encoder(backbone: Component) -> tuple[nn.Module, int]:
    """A backbone for weights to come, and its feature width."""
    # The file that pretraining began from may be gone; its weights would be overwritten anyway.
    backbone = _without_weights(backbone)
    return BACKBONES[backbone.name](**backbone.options)


def untrained_encoder(config: Config, device: torch.device) -> nn.Module:
    """The backbone with the weights that the run's seed draws, also where the run began from a file, which is not read."""
    config = config.model_copy(update={"backbone": _without_weights(config.backbone)})
    return build_state(config, device).objective.backbone


def _without_weights(backbone: Component) -> Component:
    return Component(name=backbone.name, **{name: value for name, value in backbone.options.items() if name not in WEIGHTS_OPTIONS})
