"""``extend --until-resolved``: more seeds, looked at after every few.

It ends when each arm's difference to one arm is resolved, or with as many seeds as there may be.

Looking again and again finds differences where there are none, so all looks share 5% of error
(vididi/analysis/power.py), and those that were made are kept beside the run folders:

    looks.json   {"looks": [{"seeds": 5, "level": 0.0125, "against": ARM, "metric": METRIC,
                             "p": {ARM: p, ...}}, ...]}
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import BaseModel
from rich.console import Console

from vididi.checksums import sealed_json
from vididi.commands.cells import plan
from vididi.commands.inputs import runs_of
from vididi.commands.results import adjusted_p_values, finished_runs, level_of_look, look_table
from vididi.commands.running import run_work
from vididi.data.storage import write_durably
from vididi.errors import ConfigError
from vididi.runs import mirror, readers
from vididi.runs.file_names import LOOKS
from vididi.sweep import Cell
from vididi.terminal import PlainConsole
from vididi.words import counted
from vididi.workspace import Workspace


@dataclass(frozen=True)
class Look:
    """A look at the differences of all arms to one.

    Attributes:
        seeds: how many all arms had. level: at which all comparisons were tested together.
        p: of each arm, adjusted by Holm.
    """

    seeds: int
    level: float
    against: str
    metric: str
    p: dict[str, float]

    @property
    def resolved(self) -> set[str]:
        """The arms whose difference stands at this look."""
        return {arm for arm, p in self.p.items() if p <= self.level}


def run_until_resolved(arguments: argparse.Namespace, console: Console, program: str) -> int:
    """Run the sweep with more and more seeds; returns the exit status of the last time.

    Raises:
        ConfigError: --look-every and --until-resolved do not fit, or the sweep has axes or no such
            arm.
    """
    most, every = arguments.until_resolved, arguments.look_every
    if not 2 <= every <= most:
        raise ConfigError(
            f"--look-every: {every} is not valid with --until-resolved {most}; it must be from 2 to"
            f" {most}"
        )
    arguments.count = every
    sweep, cells = plan(arguments, PlainConsole(quiet=True))
    against = _reference(cells, arguments.against)
    looks = read_looks(runs_of(arguments, sweep))
    _check_same_question(looks, arguments.metric, against)

    for seeds in [*range(every, most, every), most]:
        arguments.count = seeds
        status, work = run_work(arguments, console, program)
        if status or work is None:
            return status
        if not looks or seeds > looks[-1].seeds:  # else it was looked at then
            looks.append(_look(work, looks, seeds, most, arguments.metric, against))
            _write(work.runs, looks)
        resolved = set[str]().union(*(look.resolved for look in looks))
        _report(console, looks[-1], resolved, most)
        if resolved >= looks[-1].p.keys():
            break
    return 0


def _reference(cells: Sequence[Cell], against: str | None) -> str:
    """The arm that others are compared with."""
    arms = list(dict.fromkeys(cell.arm for cell in cells))
    if any(cell.axes for cell in cells):
        raise ConfigError("--until-resolved: is of arms; this sweep crosses them with axes")
    if len(arms) < 2 or (against or arms[0]) not in arms:
        raise ConfigError(
            f"--against: {against or arms[0]!r} is not valid; it is one of the sweep's two or more"
            f" arms, {', '.join(arms)}"
        )
    return against or arms[0]


def _check_same_question(looks: Sequence[Look], metric: str, against: str) -> None:
    for look in looks:
        if (look.against, look.metric) != (against, metric):
            raise ConfigError(
                f"--until-resolved: earlier looks at these runs were at {look.metric} against"
                f" {look.against}; other questions need seeds of their own (--runs)"
            )


def _look(
    work: Workspace, looks: Sequence[Look], seeds: int, most: int, metric: str, against: str
) -> Look:
    runs = finished_runs(map(work.folder, work.cells))
    arms = dict.fromkeys(cell.arm for cell in work.cells)
    by_arm = {arm: [run for run in runs if run.cell["arm"] == arm] for arm in arms}
    level = level_of_look(seeds, most, [(look.seeds, look.level) for look in looks])
    p = adjusted_p_values(by_arm.pop(against), by_arm, metric, against)
    return Look(seeds, level, against, metric, p)


def _report(console: Console, look: Look, resolved: set[str], most: int) -> None:
    left = [arm for arm in look.p if arm not in resolved]
    console.print(
        f"\nlook after {counted(look.seeds, 'seed')}, at {100 * look.level:.3g}% of the 5% of all"
        f" looks, {look.metric} against {look.against} (p adjusted by Holm):"
    )
    console.print(look_table(look.p, resolved), markup=False, highlight=False)
    if not left:
        console.print("every difference is resolved")
    elif look.seeds < most:
        console.print(f"not resolved yet: {', '.join(left)}", markup=False)
    else:
        console.print(f"not resolved with {most} seeds: {', '.join(left)}", markup=False)


class _Kept(BaseModel):
    looks: list[Look]


def read_looks(runs: Path) -> list[Look]:
    """The looks that were made at the runs in a folder.

    Raises:
        DamagedError: the file is damaged; without it looks would not count.
    """
    content = readers.read_mapping(runs / LOOKS, _Kept)
    return _Kept.model_validate(content).looks if content else []


def _write(runs: Path, looks: Sequence[Look]) -> None:
    content = {"looks": [asdict(look) for look in looks]}
    write_durably(runs / LOOKS, sealed_json(json.dumps(content, indent=2)))
    mirror.push(runs / LOOKS)
