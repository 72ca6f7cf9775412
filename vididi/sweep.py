"""A sweep file to cells: pure functions of values. Imports neither torch nor Ray.

    cells = arms x axes x seeds

A sweep file has
    name        the run folders go to runs/<name>
    table       the paper's table printed at the end (a file of analysis/papers, without suffix)
    base        any configuration values, nested or dotted
    arms        name -> {label, resources, and values}: one row of the table each
    axes        value name -> list of values, crossed
    seeds       list of seeds
    search      grid
    evaluate    what is measured of each encoder: retrieval and silhouette at the end of its pretraining, and entries
                {protocol, recipe, data, settings, untrained} that are run of each finished cell (docs/evaluation.md)
    resources   what each cell needs
Values are configuration keys such as ``training.epochs`` or the short names of the ablation's axes (SHORT_NAMES).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from vididi.config import BF16_NEEDS_GPU, Closed, Component, Config, build_config, flatten, nest, read_yaml, unknown_key, validate
from vididi.errors import ConfigError
from vididi.protocols import EvaluationEntry

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"  # becomes part of a folder's name
SHORT_NAMES = {
    "order": "schedule.order",
    "mix": "schedule.mix",
    "selection": "schedule.selection",
    "reverse": "schedule.reverse",
    "framework": "objective.name",
    "backbone": "backbone.name",
}


# Values that a sweep gives by keys of its own.
SWEEP_KEYS = {"training.seed": "`seeds` (or --seeds)", "evaluation.protocols": "`evaluate`"}


class Resources(Closed):
    """What one cell needs. Resources change how fast a result comes, not the result, and are not part of its name."""

    workers: int = Field(1, ge=1, description="training workers; more than one runs under Ray Train")
    cpus_per_worker: int = Field(1, ge=1)
    gpus_per_worker: float = Field(0, ge=0, description="may be a fraction, so that cells share a GPU")
    concurrency: int | None = Field(None, ge=1, description="cells at a time; as many as fit if left out")
    hold_data: bool = Field(False, description="hold all frames once in each node's object store, instead of streaming them to each cell")
    max_failures: int = Field(2, ge=0, description="restarts of a cell whose process or node died")
    wait_s: float = Field(600, gt=0, description="give up when no cell could start for this long")

    @property
    def summary(self) -> str:
        return f"{self.workers} x ({self.cpus_per_worker} CPUs, {self.gpus_per_worker:g} GPUs)"


class Arm(Closed):
    """One row of a table: its label, and the values that make it."""

    model_config = ConfigDict(extra="allow", frozen=True)
    label: str | None = None
    resources: dict[str, Any] = {}

    @property
    def values(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


class Sweep(Closed):
    """A sweep file, validated as far as that goes without its cells."""

    name: str = Field(pattern=NAME)
    table: str | None = None
    base: dict[str, Any] = {}
    axes: dict[str, list[Any]] = {}
    arms: dict[Annotated[str, Field(pattern=NAME)], Arm] = {}
    seeds: list[int] = Field([0], min_length=1)
    search: Literal["grid"] = "grid"
    evaluate: list[Literal["retrieval", "silhouette"] | EvaluationEntry] = ["retrieval", "silhouette"]
    resources: Resources = Resources()

    @property
    def protocols(self) -> list[str]:
        """What is measured at the end of pretraining."""
        return [entry for entry in self.evaluate if isinstance(entry, str)]

    @property
    def evaluations(self) -> list[EvaluationEntry]:
        """What is measured afterwards, of each finished cell."""
        return [entry for entry in self.evaluate if not isinstance(entry, str)]

    @field_validator("axes")
    @classmethod
    def _axes_have_values(cls, axes: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for name, values in axes.items():
            if not values:
                raise ValueError(f"{name}: an axis needs at least one value")
            if any(value in values[:i] for i, value in enumerate(values)):
                raise ValueError(f"{name}: {values} names a value twice")
        return axes

    @model_validator(mode="after")
    def _seeds_once(self) -> Sweep:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: {self.seeds} names a seed twice")
        if any(seed < 0 for seed in self.seeds):
            raise ValueError(f"seeds: {self.seeds} is not valid; a seed is 0 or more")
        return self


@dataclass(frozen=True)
class Cell:
    """One fully resolved configuration of a sweep, and what it needs to run."""

    arm: str
    label: str
    axes: dict[str, Any]
    seed: int
    config: Config
    resources: Resources

    @property
    def title(self) -> str:
        """Readable and, within a sweep, unique: ``vididi-lr=0.3-s0``."""
        axes = "".join(f"-{name.rsplit('.', 1)[-1]}={_word(value)}" for name, value in self.axes.items())
        return f"{self.arm}{axes}-s{self.seed}"

    @property
    def summary(self) -> str:
        """One line: what it is, how it is trained, what it needs."""
        c, r = self.config, self.resources
        return (
            f"{self.title}: {self.label}; {c.schedule.summary}; {c.objective.name}, {c.backbone.name}, {c.optimiser.name}, "
            f"{c.training.epochs} epochs of batch {c.training.batch_size}; {r.summary}"
        )

    def folder_name(self, data_checksum: str) -> str:
        return f"{self.title}-{self.config.identity(data_checksum)}"

    def find_folder(self, runs: Path, data_checksum: str) -> Path:
        """Its run folder: the one that exists for the same identity, under whatever title, else a new one."""
        return next(runs.glob(f"*-{self.config.identity(data_checksum)}"), runs / self.folder_name(data_checksum))

    def describe(self, sweep: str) -> dict[str, Any]:
        """What the run folder remembers of its place in the sweep."""
        return {"sweep": sweep, "arm": self.arm, "label": self.label, "axes": self.axes, "seed": self.seed}


def _word(value: Any) -> str:
    return "".join(c if c.isalnum() or c in "._" else "_" for c in str(value))


def load_sweep(path: Path) -> Sweep:
    """Read and validate a sweep file.

    Raises:
        ConfigError: naming the file, the field, the value and what is valid.
    """
    return validate(Sweep, read_yaml(path), str(path))


def expand(sweep: Sweep, overrides: Mapping[str, Any] | None = None, only: Sequence[str] = (), seeds: Sequence[int] = ()) -> list[Cell]:
    """All cells of a sweep, arm by arm.

    Args:
        overrides: values that win over the file's, for every cell.
        only: names of arms; seeds: instead of the file's.

    Raises:
        ConfigError: one for all cells that cannot be, each named once with what is valid.
    """
    arms = sweep.arms or {sweep.name: Arm()}
    for name in only:
        if name not in arms:
            raise ConfigError(unknown_key(f"--only {name}", arms))
    cells, faults = [], []
    for name, arm in arms.items():
        for point in _points(sweep.axes):
            for seed in seeds or sweep.seeds:
                try:
                    cell = _cell(sweep, name, arm, point, seed, overrides or {})
                except ConfigError as error:
                    faults.append(str(error))
                    break  # another seed has the same fault
                if not only or name in only:
                    cells.append(cell)
    if faults:
        raise ConfigError("\n".join(dict.fromkeys(faults)))
    return cells


def _points(axes: Mapping[str, Iterable[Any]]) -> Iterable[dict[str, Any]]:
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def _cell(sweep: Sweep, name: str, arm: Arm, point: dict[str, Any], seed: int, overrides: Mapping[str, Any]) -> Cell:
    where = f"arm {name!r}" + (f" at {', '.join(f'{axis}={value}' for axis, value in point.items())}" if point else "")
    values: dict[str, Any] = {}
    for source in (sweep.base, arm.values, point, overrides):
        values |= _full_names(source, where)
    values |= {"training.seed": seed, "evaluation.protocols": sweep.protocols}
    resources = validate(Resources, {**sweep.resources.model_dump(), **arm.resources}, f"{where}, resources")
    config = build_config(nest(values), where)
    if config.training.batch_size % resources.workers:
        raise ConfigError(f"{where}: training.batch_size: {config.training.batch_size} does not divide over {resources.workers} workers")
    if config.training.precision == "bf16" and not resources.gpus_per_worker:
        raise ConfigError(f"{where}: {BF16_NEEDS_GPU}; set resources.gpus_per_worker")
    return Cell(name, arm.label or name, point, seed, config, resources)


def _full_names(source: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Values by dotted configuration key; an error for a key that is not one, is given twice or is the sweep's own."""
    values: dict[str, Any] = {}
    for name, value in flatten(source).items():
        full = SHORT_NAMES.get(name, name)
        if full in SWEEP_KEYS:
            raise ConfigError(f"{where}: {name}: is what the sweep's {SWEEP_KEYS[full]} is for; set it there")
        if full.partition(".")[0] not in Config.model_fields or "." not in full:
            raise ConfigError(f"{where}: {unknown_key(name, ['label', 'resources', *SHORT_NAMES, *configuration_keys()])}")
        if full in values:
            raise ConfigError(f"{where}: {full}: is given twice")
        values[full] = value
    return values


def configuration_keys() -> list[str]:
    """Every dotted key of the configuration; a component's options are its entry's and end in ``*`` here."""
    keys = []
    for name, field in Config.model_fields.items():
        section = field.annotation
        assert isinstance(section, type)
        if issubclass(section, Component):
            keys += [f"{name}.name", f"{name}.*"]
        else:
            keys += [f"{name}.{key}" for key in section.model_fields]  # type: ignore[attr-defined]
    return keys
