"""A sweep file to cells: pure functions of values. Imports neither torch nor Ray.

    cells = arms x axes x seeds

A sweep file has
    name        the run folders go to runs/<name>
    table       the paper's table printed at the end (a file of analysis/papers, without suffix)
    base        any configuration values, nested or dotted
    arms        name -> {label, resources, and values}: one row of the table each
    axes        value name -> list of values, crossed
    seeds       list of seeds
    exclude     list of mappings: a cell that has all values of one is left out; a value may be a
                list of them
    search      grid, or {name: optuna | random, ...}: points of a space instead of arms and axes
                (docs/sweeps.md)
    stopping    {name: asha | median, ...}: which cells end early (docs/sweeps.md)
    evaluate    what is measured of each encoder: retrieval and silhouette at the end of its
                pretraining, and entries {protocol, recipe, data, settings, untrained} that are run
                of each finished cell (docs/evaluation.md); a protocol's name alone is such an entry
    resources   what each cell needs
    loggers     where curves are shown: tensorboard, wandb, mlflow (docs/sweeps.md)
Values are configuration keys such as ``training.epochs`` or the short names of the ablation's axes
(vididi.sweep_keys.SHORT_NAMES).
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Annotated, Any, get_args

from pydantic import ConfigDict, Field, field_validator, model_validator

from vididi.cell_resources import Resources
from vididi.config import (
    BF16_NEEDS_GPU,
    AtEnd,
    Closed,
    Config,
    build_config,
    read_yaml,
    unknown_key,
    validate,
)
from vididi.dotted_keys import flatten, nest
from vididi.errors import ConfigError
from vididi.loggers.choices import LOGGERS, TENSORBOARD, LoggerName
from vididi.names import MOST_BYTES, NAME, check_part
from vididi.pairing import needless
from vididi.protocols import PROTOCOLS, EvaluationEntry
from vididi.search import Point, Search, Stopping, digest, draw, fits, read_point, rounded, same
from vididi.sweep_faults import Faults, cell_in_words
from vididi.sweep_keys import full_name, full_names
from vididi.values import cut, shown
from vididi.words import counted, written

LONGEST_NAME = 200  # bytes of a sweep's folder; what is made beside it is some longer
# Bytes of a cell's title, to which its folder's name adds the identity.
LONGEST_TITLE = MOST_BYTES - len("-123456789abc")
MOST_CELLS = 100_000
# Indices among the sources of a cell's values: base, arm, point, overrides.
BASE, POINT, OVERRIDES = 0, 2, 3


class Arm(Closed):
    """One row of a table: its label, and the values that make it."""

    model_config = ConfigDict(extra="allow", frozen=True)
    label: str | None = Field(None, description="its name in tables; the arm's own if left out")
    resources: dict[str, Any] = Field({}, description="where they differ from the sweep's")

    @property
    def values(self) -> dict[str, Any]:
        """Configuration values, as the file writes them."""
        return dict(self.__pydantic_extra__ or {})


class Sweep(Closed):
    """A sweep file, validated as far as that goes without its cells."""

    name: str = Field(
        pattern=NAME, max_length=LONGEST_NAME, description="its run folders go to runs/NAME"
    )
    table: str | None = Field(
        None, description="a file of analysis/papers, without suffix: printed at the end"
    )
    base: dict[str, Any] = Field({}, description="configuration values of all cells")
    axes: dict[str, list[Any]] = Field(
        {}, description="values by configuration key, crossed with the arms"
    )
    arms: dict[Annotated[str, Field(pattern=NAME)], Arm] = Field(
        {}, description="by name: one row of the table each"
    )
    seeds: list[int] = Field([0], min_length=1, description="each cell is trained with each")
    exclude: list[dict[str, Any]] = Field(
        [], description="a cell that has all values of an entry is left out; a list: any of them"
    )
    search: Search = Field(Search(), description="how cells are found: listed, or drawn")
    stopping: Stopping | None = Field(None, description="which cells end early")
    evaluate: list[AtEnd | EvaluationEntry] = Field(
        ["retrieval", "silhouette"], description="what is measured of each encoder"
    )
    resources: Resources = Field(Resources(), description="what each cell needs")
    loggers: list[LoggerName] = Field(
        list(TENSORBOARD), description="where curves are shown; changes no name of a cell"
    )

    @property
    def searching(self) -> bool:
        """Whether a search draws the cells; of a grid all are known beforehand."""
        return self.search.name != "grid"

    @property
    def protocols(self) -> list[str]:
        """What is measured at the end of pretraining."""
        return [entry for entry in self.evaluate if isinstance(entry, str)]

    @property
    def evaluations(self) -> list[EvaluationEntry]:
        """What is measured afterwards, of each finished cell."""
        return [entry for entry in self.evaluate if not isinstance(entry, str)]

    @field_validator("evaluate", mode="before")
    @classmethod
    def _names_alone(cls, entries: Any) -> Any:
        """A protocol's name alone is the entry with nothing else in it."""
        later = set(PROTOCOLS).difference(get_args(AtEnd))
        if not isinstance(entries, list):
            return entries
        return [
            {"protocol": entry} if isinstance(entry, str) and entry in later else entry
            for entry in entries
        ]

    @field_validator("axes")
    @classmethod
    def _axes_have_values(cls, axes: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for name, values in axes.items():
            if not values:
                raise ValueError(f"{name}: an axis needs at least one value")
            if any(same(value, other) for i, value in enumerate(values) for other in values[:i]):
                raise ValueError(f"{name}: {shown(values)} names a value twice")
        return axes

    @model_validator(mode="after")
    def _search_is_alone(self) -> Sweep:
        if not self.searching:
            return self
        for key in ("arms", "axes"):
            if getattr(self, key):
                raise ValueError(
                    f"{key}: are for search: grid; with {self.search.name}, what differs between"
                    " cells is search.space"
                )
        if self.search.confirm and (used := set(self.seeds) & set(self.search.confirm.seeds)):
            raise ValueError(
                f"search.confirm.seeds: {sorted(used)} are in seeds too; a comparison needs fresh"
                " ones"
            )
        return self

    @model_validator(mode="after")
    def _seeds_once(self) -> Sweep:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: {self.seeds} names a seed twice")
        if any(seed < 0 for seed in self.seeds):
            raise ValueError(f"seeds: {self.seeds} is not valid; a seed is 0 or more")
        return self


@dataclass(frozen=True)
class Cell:
    """One fully resolved configuration of a sweep, and what it needs to run.

    shown: what a screen calls it beside its seed where its title, which its folder is named after,
        has a digest: a search's cell.
    """

    arm: str
    label: str
    axes: dict[str, Any]
    seed: int
    config: Config
    resources: Resources
    shown: str = ""

    def resolved(self) -> Cell:
        """With every option of its configuration (vididi.components.resolve)."""
        from vididi.components import resolve  # imports torch

        resources = self.resources
        return replace(self, config=resolve(self.config, resources.workers, resources.on_gpus))

    @property
    def name(self) -> str:
        """For people: ``trial 7: lr 0.3, mix one_way, seed 0``, or the title."""
        return f"{self.shown}, seed {self.seed}" if self.shown else self.title

    @property
    def title(self) -> str:
        """Readable and, within a sweep, unique: ``vididi-lr=0.3-s0``."""
        axes = "".join(
            f"-{name.rsplit('.', 1)[-1]}={_word(value)}" for name, value in self.axes.items()
        )
        return f"{self.arm}{axes}-s{self.seed}"

    @property
    def summary(self) -> str:
        """One line: what it is, how it is trained, what it needs."""
        c, r = self.config, self.resources
        return (
            f"{self.title}: {self.label}; {c.schedule.summary}; {c.objective.name},"
            f" {c.backbone.name}, {c.optimiser.name}, {c.training.epochs} epochs of batch"
            f" {c.training.batch_size}; {r.summary}"
        )

    def folder_name(self, data_checksum: str) -> str:
        """Title and identity, as its run folder is called."""
        return f"{self.title}-{self.config.identity(data_checksum)}"

    def find_folder(self, runs: Path, data_checksum: str) -> Path:
        """Its run folder by identity: the one with its title, else the first, else a new one.

        Args:
            runs: the folder of the sweep's run folders.
            data_checksum: of the prepared set.
        """
        titled = runs / self.folder_name(data_checksum)
        if titled.exists():
            return titled
        return min(
            (
                path
                for path in runs.glob(f"*-{self.config.identity(data_checksum)}")
                if path.is_dir()
            ),
            default=titled,
        )

    def describe(self, sweep: str) -> dict[str, Any]:
        """What the run folder remembers of its place in the sweep."""
        return {
            "sweep": sweep,
            "arm": self.arm,
            "label": self.label,
            "axes": self.axes,
            "seed": self.seed,
        }


# Beside what `describe` gives, for one start: see varied_keys; and the cell's name for people,
# where that is not its title.
VARIED, SHOWN = "varied", "shown"
ONE_START = (VARIED, SHOWN, LOGGERS)


def point_in_words(point: Point) -> str:
    """A point of a search's space: ``lr 0.3, mix one_way``. A key is written without its section
    where that leaves no doubt.
    """
    short = {name: name.partition(".")[2] or name for name in point}
    clear = {
        name: key if list(short.values()).count(key) == 1 else name for name, key in short.items()
    }
    return ", ".join(f"{clear[name]} {written(value)}" for name, value in rounded(point).items())


def varied_keys(cells: Iterable[Cell]) -> list[str]:
    """The dotted keys that have more than one value in these cells, the seed last."""
    values = [flatten(cell.config.to_dict()) for cell in cells]
    keys = dict.fromkeys(key for of_cell in values for key in of_cell)
    found = [key for key in keys if len({json.dumps(v.get(key), default=str) for v in values}) > 1]
    return sorted(found, key=lambda key: key == "training.seed")


def _word(value: Any) -> str:
    return "".join(c if c.isalnum() or c in "._" else "_" for c in str(value))


def load_sweep(path: Path) -> Sweep:
    """Read and validate a sweep file.

    Raises:
        ConfigError: naming the file, the field, the value and what is valid.
    """
    return validate(Sweep, read_yaml(path), str(path))


def expand(
    sweep: Sweep,
    overrides: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> list[Cell]:
    """All cells of a sweep, arm by arm.

    Args:
        overrides: values that win over the file's, for every cell.
        only: names of arms; seeds: instead of the file's.

    Raises:
        ConfigError: some cells are not valid; it names each reason once, with what is valid.
    """
    arms = sweep.arms or {sweep.name: Arm()}
    if (count := size(sweep, only, seeds)) > MOST_CELLS:
        raise ConfigError(
            f"axes: with arms and seeds they make {count} cells; at most {MOST_CELLS}"
        )
    for name in only:
        if name not in arms:
            raise ConfigError(unknown_key(f"--only {name}", arms))
    cells, faults = [], Faults()
    for name, arm in arms.items():
        for point in _points(sweep.axes):
            faults.tried[name] += 1
            for seed in seeds or sweep.seeds:
                try:
                    cell = _cell(sweep, name, arm, point, seed, overrides or {})
                    if cell:
                        check_title(cell, f"arm {name!r}")
                except ConfigError as error:
                    faults.add(name, point, str(error))
                    break  # another seed has the same fault
                if cell and (not only or name in only):
                    cells.append(cell)
    if faults.points:
        raise ConfigError(str(faults))
    if not cells:
        raise ConfigError("exclude: leaves no cell")
    return cells


def size(sweep: Sweep, only: Sequence[str] = (), seeds: Sequence[int] = ()) -> int:
    """How many cells a grid has before any is excluded."""
    arms = len(set(only) or sweep.arms or [sweep.name])
    return (
        arms * math.prod(len(values) for values in sweep.axes.values()) * len(seeds or sweep.seeds)
    )


def without_effect(
    sweep: Sweep, overrides: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """The entries of a grid's ``exclude`` that leave out no cell."""
    arms = (sweep.arms or {sweep.name: Arm()}).items() if sweep.exclude else ()
    values_of_cells = [
        _values(sweep, name, arm, point, overrides or {})[0]
        for name, arm in arms
        for point in _points(sweep.axes)
    ]
    return [
        excluded
        for excluded in sweep.exclude
        if not any(fits(full_names(excluded, "exclude"), values) for values in values_of_cells)
    ]


def distinct(cells: Iterable[Cell]) -> tuple[list[Cell], list[str]]:
    """The first of the resolved cells that are equal, and a line for each other one."""
    titles: dict[str, str] = {}
    first, notes = [], []
    for cell in cells:
        identity = cell.config.identity("")
        if identity in titles:
            notes.append(f"{cell.title}: the same cell as {titles[identity]}, which runs once")
        else:
            titles[identity] = cell.title
            first.append(cell)
    return first, notes


def cell_at(
    sweep: Sweep, point: Point, seed: int | None = None, overrides: Mapping[str, Any] | None = None
) -> Cell | None:
    """The cell of a search at a point of its space; None if it is excluded.

    Args:
        seed: the sweep's first if left out.
        overrides: values that win over the file's.

    Raises:
        ConfigError: the point makes no configuration.
    """
    point = rounded(point)
    cell = _cell(sweep, "", Arm(), point, sweep.seeds[0] if seed is None else seed, overrides or {})
    if cell is None:
        return None
    label = ", ".join(
        f"{name.removeprefix('schedule.')} {written(value)}" for name, value in cell.axes.items()
    )
    cell = replace(cell, arm=f"{sweep.name}-{digest(cell.axes)}", label=label, axes={})
    check_title(cell, "search")
    return cell


def examples(
    sweep: Sweep, count: int, overrides: Mapping[str, Any] | None = None
) -> tuple[list[Cell], list[str]]:
    """Cells at random points of a search's space, and why other points make no cell.

    The search is checked by them. Points are drawn uniformly, with the search's seed.

    Raises:
        ConfigError: none of the points makes a cell.
    """
    random = Random(sweep.search.seed)
    cells, faults = [], []
    for _ in range(count):
        point = draw(sweep.search.space, lambda name, dimension: dimension.drawn_by(random))
        try:
            cell = cell_at(sweep, point, overrides=overrides)
        except ConfigError as error:
            faults.append(str(error))
        else:
            cells += [cell] if cell else []
    if not cells:
        raise ConfigError(
            f"search.space: none of {counted(count, 'point')} makes a cell\n"
            + (faults[0] if faults else "exclude leaves none of them")
        )
    return cells, faults


def point_of(sweep: Sweep, config: Mapping[str, Any]) -> Point | None:
    """The point of a search's space that a configuration (nested) is, as far as its values say."""
    return read_point(
        sweep.search.space,
        {name: _at(config, full_name(name)) for name in sweep.search.space},
    )


def _at(values: Any, path: str) -> Any:
    for part in path.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def _points(axes: Mapping[str, Iterable[Any]]) -> Iterable[dict[str, Any]]:
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def _values(
    sweep: Sweep, name: str, arm: Arm, point: Point, overrides: Mapping[str, Any]
) -> tuple[dict[str, Any], set[tuple[int, str]]]:
    """Values of a cell by dotted key, and the (source, key) pairs that mean nothing there and are
    left out.
    """
    parts = ("base", f"arm {name!r}", "axes" if name else "search.space", "--set")
    values_of = (sweep.base, arm.values, point, overrides)
    sources = [full_names(source, part) for part, source in zip(parts, values_of, strict=True)]
    idle = _needless(sources)
    whole = tuple(f"{key}." for key, value in overrides.items() if _is_whole(value))
    values: dict[str, Any] = {}
    for index, source in enumerate(sources):
        if index == OVERRIDES:
            values = {key: value for key, value in values.items() if not key.startswith(whole)}
        values |= {key: value for key, value in source.items() if (index, key) not in idle}
    return values, idle


def _is_whole(value: Any) -> bool:
    """Whether an override's value is a component with its name, not one of its options.

    It stands in the place of the file's: a sweep of one data set is pointed at another, and none
    of the first one's options stays behind.
    """
    return isinstance(value, Mapping) and "name" in value


def _cell(
    sweep: Sweep,
    name: str,
    arm: Arm,
    point: dict[str, Any],
    seed: int,
    overrides: Mapping[str, Any],
) -> Cell | None:
    """A cell; None if it is excluded."""
    where = cell_in_words(name, point)
    values, idle = _values(sweep, name, arm, point, overrides)
    for excluded in sweep.exclude:
        if fits(full_names(excluded, "exclude"), values):
            return None
    point = {axis: value for axis, value in point.items() if (POINT, full_name(axis)) not in idle}
    values |= {"training.seed": seed, "evaluation.protocols": sweep.protocols}
    if sweep.stopping:
        values["evaluation.online.keep_best"] = sweep.stopping.metric
    resources = validate(
        Resources, {**sweep.resources.model_dump(), **arm.resources}, f"{where}, resources"
    )
    config = build_config(nest(values), where)
    if config.training.batch_size % resources.workers:
        raise ConfigError(
            f"{where}: training.batch_size: {config.training.batch_size} does not divide over"
            f" {resources.workers} workers"
        )
    for entry in sweep.evaluations:
        try:
            entry.check_workers(resources.workers)
        except ConfigError as error:
            raise ConfigError(f"{where}: evaluate: {error}") from None
    if config.training.precision == "bf16" and not resources.gpus_per_worker:
        raise ConfigError(f"{where}: {BF16_NEEDS_GPU}; set resources.gpus_per_worker")
    if sweep.stopping and not 0 < config.evaluation.online.every <= sweep.stopping.grace:
        raise ConfigError(
            f"{where}: evaluation.online.every: {config.evaluation.online.every} is not valid with"
            f" stopping, which judges by {sweep.stopping.metric}; it is 1 to stopping.grace,"
            f" {sweep.stopping.grace}"
        )
    return Cell(name, arm.label or name, point, seed, config, resources)


def check_title(cell: Cell, where: str) -> None:
    """Raise ConfigError if no folder can be named after a cell."""
    length = len(cell.title.encode())
    if length > LONGEST_TITLE:
        raise ConfigError(
            f"{where}: name: {cut(cell.title)} has {length} bytes, and a folder is named after it;"
            f" at most {LONGEST_TITLE}. Shorten the arm's name or the values of the axes"
        )
    check_part(cell.title, f"{where}: name of the run folder")


def _needless(sources: Sequence[Mapping[str, Any]]) -> set[tuple[int, str]]:
    """The schedule's values that mean nothing at a cell's point: (index of the source, key).

    They are left out, so each point of crossed axes is a cell, and points that differ in nothing
    that matters are the same cell. Where an arm names such a value it is an error instead
    (vididi.pairing.check_axes).
    """
    values: dict[str, Any] = {}
    for source in sources:
        values |= source
    order = values.get("schedule.order", 2)
    options = (
        needless(order, values.get("schedule.mix"), values.get("schedule.selection"))
        if isinstance(order, int)
        else set()
    )
    indices = (
        {POINT, BASE}
        if sources[POINT].keys() & {"schedule.order", "schedule.selection"}
        else {POINT}
    )
    keys = [
        (index, key) for index in indices for key in sources[index] if key.startswith("schedule.")
    ]
    return {(index, key) for index, key in keys if key.split(".")[1] in options}
