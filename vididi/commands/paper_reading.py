"""``--reading``: a paper's sweep as the paper prints it, or as its authors' code has it
(vididi/readings.py).

A change wins over what the file says of all cells, and not over an arm's own value, an axis or
``--set``: these are what the table compares, or what the user asks for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vididi.config import build_config
from vididi.dotted_keys import flatten
from vididi.errors import ConfigError
from vididi.protocols import EvaluationEntry, protocol_settings
from vididi.readings import DEFAULT_READING, READINGS, Change
from vididi.sweep import Cell, Sweep
from vididi.sweep_keys import by_full_names, full_name
from vididi.words import counted, written


@dataclass
class Changed:
    """What a reading changed: for each change and former value, of which cells or evaluations."""

    of: dict[tuple[str, str, str, str], list[str]] = field(default_factory=dict)

    def add(self, change: Change, before: Any, whose: str) -> None:
        """Note a change of one cell or evaluation, by its title."""
        line = (change.key, written(before), written(change.value), change.source)
        self.of.setdefault(line, []).append(whose)

    def lines(self, cells: bool) -> list[str]:
        """A line for each change: of the cells, or of evaluations, by their titles."""
        return [
            (f"  {key}" if cells else f"  {', '.join(whose)}: {key}")
            + f": {before} -> {after}"
            + (f" in {counted(len(whose), 'cell')}" if cells else "")
            + f" ({source})"
            for (key, before, after, source), whose in self.of.items()
        ]


def changes_of(sweep: Sweep, reading: str) -> tuple[Change, ...]:
    """What a reading changes of the paper that the sweep has a table of; the default nothing.

    Raises:
        ConfigError: the sweep is not of a paper, or is a search, or its paper has no such reading.
    """
    if reading == DEFAULT_READING:
        return ()
    paper = (sweep.table or "").partition("_")[0]
    if paper not in READINGS:
        table = f"table {sweep.table!r} is of none" if sweep.table else "this one names no table"
        raise ConfigError(
            f"--reading {reading}: is for sweeps with a table of {_listed(READINGS)}; {table}"
        )
    if sweep.searching:
        raise ConfigError(f"--reading {reading}: is for grids; a search draws its cells")
    if reading not in READINGS[paper]:
        raise ConfigError(
            f"--reading {reading}: there is none of {paper}, whose authors' code was not found; its"
            f" readings are {_listed(READINGS[paper])}"
        )
    return READINGS[paper][reading]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def read_as(
    sweep: Sweep, cells: list[Cell], reading: str, overrides: Mapping[str, Any]
) -> tuple[Sweep, list[Cell], list[str]]:
    """A sweep and its resolved cells in a reading of its paper, and a line for each change.

    Runs lie in a folder of the reading's own, unless it changes nothing but evaluations: these have
    names of their own beside the default's, of the same encoders.

    Args:
        overrides: values by dotted key that win over the reading's.

    Raises:
        ConfigError: see changes_of.
    """
    changes = changes_of(sweep, reading)
    if reading == DEFAULT_READING:
        return sweep, cells, []
    of_cells, of_evaluations = Changed(), Changed()
    changed_cells = [_cell_as(cell, sweep, changes, overrides, of_cells) for cell in cells]
    evaluate = [
        entry if isinstance(entry, str) else _evaluation_as(entry, changes, of_evaluations)
        for entry in sweep.evaluate
    ]
    of_training = any(not change.protocols for change in changes)
    name = f"{sweep.name}-reading_{reading}" if of_training else sweep.name
    lines = [*of_cells.lines(cells=True), *of_evaluations.lines(cells=False)]
    head = f"reading {reading}, in the folder {name}" + (":" if lines else ": changes nothing here")
    sweep = sweep.model_copy(update={"name": name, "evaluate": evaluate})
    return sweep, changed_cells, [head, *lines]


def _cell_as(
    cell: Cell,
    sweep: Sweep,
    changes: Iterable[Change],
    overrides: Mapping[str, Any],
    changed: Changed,
) -> Cell:
    values = flatten(cell.config.to_dict())
    arm = sweep.arms.get(cell.arm)
    own = set(by_full_names(arm.values if arm else {}))
    own |= {*map(full_name, cell.axes), *by_full_names(overrides)}
    nested = cell.config.to_dict()
    for change in changes:
        if change.protocols or change.key in own or not change.where(values):
            continue
        if values.get(change.key) != change.value:
            section, _, option = change.key.partition(".")
            nested[section][option] = change.value
            changed.add(change, values.get(change.key), cell.title)
    config = build_config(nested, cell.title)
    return replace(cell, config=config).resolved()


def _evaluation_as(
    entry: EvaluationEntry, changes: Iterable[Change], changed: Changed
) -> EvaluationEntry:
    own = flatten(entry.settings)
    settings = protocol_settings(entry.protocol, entry.recipe, own)
    values, new = flatten(settings.model_dump(mode="json")), {}
    for change in changes:
        if entry.protocol not in change.protocols or change.key in own or not change.where(values):
            continue
        if values[change.key] != change.value:
            new[change.key] = change.value
            changed.add(change, values[change.key], entry.title)
    return entry.model_copy(update={"settings": {**entry.settings, **new}})
