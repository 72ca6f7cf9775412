"""Which runs count in a section of docs/results.md, and why others do not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vididi.analysis.grouping import differences, protocol
from vididi.analysis.reading import (
    Run,
    find_runs,
    read_all,
    read_cell_record,
    read_flat_config,
)
from vididi.analysis.sections import ResultsSection
from vididi.dotted_keys import flatten
from vididi.errors import ConfigError, DamagedError
from vididi.runs.file_names import CONFIG
from vididi.runs.outcome import condition
from vididi.runs.readers import folders_with
from vididi.sweep import Sweep
from vididi.words import counted, written

MOST_NAMED = 12  # runs that a line names one by one


@dataclass(frozen=True)
class UnfinishedRun:
    """A run folder without a result: which cell it is, and what became of it."""

    sweep: str | None
    arm: str
    point: str
    seed: int
    condition: str


@dataclass(frozen=True)
class FoundRuns:
    """Everything below some folders.

    ``left_out`` has a line for each folder that cannot be read or is a copy.
    """

    runs: list[Run]
    unfinished: list[UnfinishedRun]
    left_out: list[str]


@dataclass
class SectionRuns:
    """The runs of each row, in the order of the sweep file, and a line for whatever is left out."""

    rows: dict[str, list[Run]]
    labels: dict[str, str]
    left_out: list[str] = field(default_factory=list)

    @property
    def all(self) -> list[Run]:
        """Of all rows."""
        return [run for runs in self.rows.values() for run in runs]


def read_everything(roots: Sequence[Path]) -> FoundRuns:
    """All runs below some folders, finished or not.

    Raises:
        ConfigError: there is no such folder. DataError: a newer program wrote a file, or one cannot
            be read.
    """
    for root in roots:
        if not root.is_dir():
            raise ConfigError(f"--runs: {root}: there is no such folder")
    finished = read_all(dict.fromkeys(folder for root in roots for folder in find_runs(root)))
    begun = dict.fromkeys(folder for root in roots for folder in folders_with(root, CONFIG))
    read = {run.folder for run in finished.runs}
    left_out = []
    for line in finished.left_out:
        for root in roots:
            line = line.replace(f"{root}/", "")
        left_out.append(line.removeprefix("left out: "))
    unfinished = [run for folder in begun if folder not in read for run in _unfinished(folder)]
    return FoundRuns(finished.runs, unfinished, left_out)


def _unfinished(folder: Path) -> list[UnfinishedRun]:
    """What became of the run of a folder; nothing of a copy, or where no cell can be told."""
    try:
        cell, config = read_cell_record(folder), read_flat_config(folder)
    except DamagedError:
        return []
    state, seed = condition(folder), int(config["training.seed"])
    if state == "finished":
        return []
    return [UnfinishedRun(cell.get("sweep"), cell["arm"], _point(cell), seed, state)]


def runs_of_section(section: ResultsSection, sweep: Sweep, found: FoundRuns) -> SectionRuns:
    """The runs that count in a section; each arm's differ in nothing but the seed."""
    reasons: dict[str, list[Run]] = defaultdict(list)
    rows: dict[str, list[Run]] = defaultdict(list)
    arms = _arms(section, sweep)
    for run in found.runs:
        if run.cell.get("sweep") != sweep.name:
            continue
        reason = _why_not(section, arms, run)
        (reasons[reason] if reason else rows[_row_name(run)]).append(run)
    for name, runs in rows.items():
        rows[name], others = _one_protocol(runs)
        for reason, group in others.items():
            reasons[reason] += group

    ordered = {
        name: sorted(runs, key=lambda run: run.seed)
        for arm in arms
        for name, runs in rows.items()
        if runs and runs[0].cell["arm"] == arm
    }
    chosen = SectionRuns(ordered, {name: _label(runs[0]) for name, runs in ordered.items()})
    chosen.left_out = [
        *found.left_out,
        *(f"{_named(runs)}: {reason}" for reason, runs in reasons.items()),
        *_missing(section, sweep, arms, chosen, found),
    ]
    return chosen


def _arms(section: ResultsSection, sweep: Sweep) -> list[str]:
    return section.arms or list(sweep.arms) or [sweep.name]


def _why_not(section: ResultsSection, arms: Sequence[str], run: Run) -> str:
    """Why a run of the sweep does not count; empty if it does."""
    for key, value in flatten(section.match).items():
        if run.config.get(key) != value:
            return f"{key} is {written(run.config.get(key))}, not {written(value)}"
    if run.cell["arm"] not in arms:
        return "an arm that this section is not of"
    if run.seed not in section.seeds and not section.further_seeds:
        return "a seed that this section is not of"
    return ""


def _one_protocol(runs: list[Run]) -> tuple[list[Run], dict[str, list[Run]]]:
    """Of runs of one arm those that most are alike, and the others by what sets them apart."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[protocol(run)].append(run)
    first, *others = sorted(groups, key=lambda name: -len(groups[name]))
    reasons: dict[str, list[Run]] = defaultdict(list)
    for other in others:
        words = differences(first, other) or "another version of the program"
        reasons[f"{words}, unlike most of the arm"] += groups[other]
    return groups[first], reasons


def _missing(
    section: ResultsSection,
    sweep: Sweep,
    arms: Sequence[str],
    chosen: SectionRuns,
    found: FoundRuns,
) -> list[str]:
    """A line for each row without all planned seeds, and what became of these."""
    begun = {
        (run.arm, run.point, run.seed): run.condition
        for run in found.unfinished
        if run.sweep == sweep.name
    }
    points: dict[str, list[str]] = {arm: [] for arm in arms}
    for runs in chosen.rows.values():
        points[runs[0].cell["arm"]].append(_point(runs[0].cell))
    lines = []
    for arm in arms:
        for point in points[arm] or [""]:
            name = f"{arm} {point}".strip()
            seeds = {run.seed for run in chosen.rows.get(name, [])}
            states: dict[str, list[int]] = defaultdict(list)
            for seed in section.seeds:
                if seed not in seeds:
                    states[begun.get((arm, point, seed), "not run")].append(seed)
            lines += [
                f"{name}, seed{'s' * (len(missing) > 1)} {seeds_text(missing)}: {state}"
                for state, missing in states.items()
            ]
    return lines


def _named(runs: Sequence[Run]) -> str:
    names = [f"{_row_name(run)} seed {run.seed}" for run in runs]
    if len(names) <= MOST_NAMED:
        return ", ".join(names)
    arms = ", ".join(dict.fromkeys(_row_name(run) for run in runs))
    return f"{counted(len(names), 'run')} ({arms}; seeds {seeds_text({run.seed for run in runs})})"


def seeds_text(seeds: Iterable[int]) -> str:
    """Seeds in words: ``0, 2, 50 to 59``."""
    parts: list[list[int]] = []
    for seed in sorted(seeds):
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ", ".join(
        f"{part[0]} to {part[-1]}" if len(part) > 2 else ", ".join(map(str, part)) for part in parts
    )


def _row_name(run: Run) -> str:
    return f"{run.cell['arm']} {_point(run.cell)}".strip()


def _label(run: Run) -> str:
    return f"{run.cell['label']} {_point(run.cell)}".strip()


def _point(cell: dict[str, Any]) -> str:
    return " ".join(f"{axis}={written(value)}" for axis, value in cell["axes"].items())
