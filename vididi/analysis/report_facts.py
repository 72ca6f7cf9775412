"""What a report says beside numbers and pictures: which runs there are and which did not end well,
their data, machines and commits, in what they differ, and the commands that make them again.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vididi.analysis.reading import FEATURE_SETTINGS, Measurement, Run
from vididi.analysis.recording import machine_text
from vididi.analysis.report_data import PreparedData
from vididi.config import ON_THE_WAY
from vididi.errors import DamagedError
from vididi.protocols import EVALUATIONS
from vididi.runs.file_names import CELL, CONFIG, ERROR
from vididi.runs.outcome import condition, damage
from vididi.runs.readers import folders_with, read_config, read_error, read_metrics
from vididi.sweep import Sweep
from vididi.terminal import one_line
from vididi.words import written

FEATURES_OF_CLIPS = (*FEATURE_SETTINGS, "seed")
AXES_SHOWN = 12


def arm_title(run: Run) -> str:
    """An arm's label with the point of its axes, on one line."""
    point = " ".join(f"{axis}={written(value)}" for axis, value in run.cell["axes"].items())
    return one_line(f"{run.cell['label']} {point}".strip())


# --- Cells ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class UnfinishedCell:
    """A run, or an evaluation of one, that is not finished.

    ``became`` as in vididi.runs.outcome; ``epochs``: trained so far, of all, as text.
    """

    name: str
    became: str
    epochs: str
    reason: str


def unfinished_under(root: Path) -> list[UnfinishedCell]:
    """The run folders of ``root`` and below, and their evaluations, that are not finished."""
    begun = {folder for name in (CELL, CONFIG, ERROR) for folder in folders_with(root, name)}
    found = []
    for folder in sorted(begun):
        became = condition(folder)
        if became == "finished":
            continue
        evaluation = folder.parent.name == "evaluations"
        name = f"{folder.parents[1].name}: {folder.name}" if evaluation else folder.name
        epochs = "" if evaluation else _epochs(folder)
        found.append(UnfinishedCell(name, became, epochs, _reason(folder, became)))
    return found


def _epochs(folder: Path) -> str:
    try:
        config = read_config(folder) or {"training": {"epochs": "?"}}
        reached = max((record["epoch"] for record in read_metrics(folder)), default=0)
    except DamagedError:
        return ""
    return f"{reached} of {config['training']['epochs']}"


def _reason(folder: Path, became: str) -> str:
    if became == "damaged":
        return "; ".join(str(error).removeprefix(f"{folder}/") for error in damage(folder).values())
    text = (read_error(folder) or "").strip() if became == "failed" else ""
    return one_line(text.splitlines()[-1]) if text else ""


def arms_without_runs(sweep: Sweep | None, runs: Sequence[Run]) -> list[str]:
    """Arms of the sweep file that have no finished run; none of a search, which has no arms."""
    if sweep is None or sweep.searching:
        return []
    finished = {run.cell["arm"] for run in runs}
    return [
        one_line(f"{name} ({arm.label})" if arm.label else name)
        for name, arm in sweep.arms.items()
        if name not in finished
    ]


# --- Differences ----------------------------------------------------------------------------------


def differing_keys(runs: Sequence[Run]) -> list[str]:
    """Configuration keys in which the runs differ, those of the sweep's axes first."""
    keys = dict.fromkeys(axis for run in runs for axis in run.cell["axes"])
    keys |= dict.fromkeys(key for run in runs for key in run.config)
    unimportant = set(map(".".join, ON_THE_WAY))
    return [
        key
        for key in keys
        if key not in unimportant
        and any(key in run.config for run in runs)
        and len({json.dumps(run.config.get(key), sort_keys=True) for run in runs}) > 1
    ]


def metrics_at_end(runs: Iterable[Run]) -> list[str]:
    """What the runs measured at their end, in the order of their files; else what came later."""
    runs = list(runs)
    measured = [m for run in runs for m in run.measurements]
    own = [m for m in measured if not m.name and m.metrics]
    names = dict.fromkeys(name for m in own or measured for name in m.metrics)
    return sorted(names, key=lambda name: (not name.startswith("retrieval/R@"),))


def parallel_coordinates(runs: Sequence[Run]) -> dict[str, Any]:
    """What the page's script draws: a line for each run through its values and a metric."""
    keys, metrics = differing_keys(runs), metrics_at_end(runs)
    shown = keys[:AXES_SHOWN]
    lines = [
        {
            "name": run.folder.name,
            "arm": arm_title(run),
            "values": [_plain(run.config.get(key)) for key in shown],
            "metrics": {name: value_of(run, name) for name in metrics},
        }
        for run in runs
    ]
    return {"axes": shown, "hidden": keys[AXES_SHOWN:], "metrics": metrics, "runs": lines}


def value_of(run: Run, metric: str) -> float | None:
    """A metric of the run's end, else of the first evaluation that has it."""
    values = (m.value(metric) for m in run.measurements)
    return next((value for value in values if value is not None), None)


def _plain(value: Any) -> Any:
    """A number, or the value as it stands in a YAML file."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else one_line(written(value))


# --- Provenance -----------------------------------------------------------------------------------


def environments(runs: Iterable[Run]) -> list[list[str]]:
    """Commit, versions, machine, workers, and how many runs: a row for each that differs."""
    rows = Counter(_environment(run.result) for run in runs)
    return [[*row, str(count)] for row, count in rows.items()]


def _environment(result: Mapping[str, Any]) -> tuple[str, ...]:
    versions = result.get("versions") or {}
    texts = (
        result.get("commit") or "not recorded",
        ", ".join(f"{name} {version}" for name, version in versions.items()) or "not recorded",
        machine_text(result["machine"]) if result.get("machine") else "not recorded",
        f"{result.get('device', '?')}, {result.get('workers', '?')} on {result.get('nodes', '?')}",
    )
    return tuple(one_line(str(text)) for text in texts)


# --- Commands -------------------------------------------------------------------------------------


def commands(
    runs: Sequence[Run], sweep: Sweep | None, sweep_file: str, data: Sequence[PreparedData]
) -> list[tuple[str, str]]:
    """What makes the runs and the report again: a sentence and a command each."""
    lines = []
    commits = dict.fromkeys(str(run.result["commit"]) for run in runs if run.result.get("commit"))
    for commit in commits:
        changed = ", which had changes that are not in it" * commit.endswith("-dirty")
        lines.append((f"The code{changed}", f"git checkout {commit.removesuffix('-dirty')}"))
    lines += [
        *(
            (f"The data, {prepared.name}", prepared.shards.manifest.command)
            for prepared in data
            if prepared.shards is not None and prepared.shards.manifest.command
        ),
        *_sweep_commands(runs, sweep, sweep_file),
        *_evaluation_commands(runs),
    ]
    return lines


def _sweep_commands(
    runs: Sequence[Run], sweep: Sweep | None, sweep_file: str
) -> list[tuple[str, str]]:
    names = dict.fromkeys(run.cell.get("sweep") for run in runs)
    lines = []
    for name in names:
        if sweep is None or sweep.name != name:
            continue
        seeds = ",".join(map(str, sorted({run.seed for run in runs})))
        finished = {run.cell["arm"] for run in runs}
        some = [f" --only {arm}" for arm in sweep.arms if arm in finished]
        only = "" if finished >= set(sweep.arms) else "".join(some)
        more = "" if sweep.searching else f"{only} --seeds {seeds}"
        lines.append((f"The sweep {name}", f"vididi sweep {shlex.quote(sweep_file)}{more}"))
    first = runs[0].folder
    config = shlex.quote(f"{first.parent.name}/{first.name}/{CONFIG}")
    lines.append(
        ("One run alone, from its own configuration", f"vididi pretrain {config} --out runs/again")
    )
    return lines


def _evaluation_commands(runs: Sequence[Run]) -> list[tuple[str, str]]:
    names: dict[str, tuple[Run, Measurement]] = {}
    for run in runs:
        for m in run.measurements:
            if m.name and m.result.get("protocol") in EVALUATIONS:
                names.setdefault(m.name, (run, m))
    return [
        (f"The evaluation {name}", _evaluation_command(run, m)) for name, (run, m) in names.items()
    ]


def _evaluation_command(run: Run, m: Measurement) -> str:
    """With the settings that are not the run's own; of classifiers the recipe, whose other settings
    stand in result.json.
    """
    command = ["vididi", "evaluate", m.result["protocol"], run.folder.parent.name]
    if recipe := m.result.get("recipe"):
        command += ["--recipe", recipe]
    for key in FEATURES_OF_CLIPS:
        own = run.config.get(f"evaluation.{key}")
        value = (m.result.get("settings") or {}).get(key)
        if value is not None and value != own:
            command += ["--set", f"{key}={json.dumps(value)}".replace('"', "")]
    return shlex.join(command)
