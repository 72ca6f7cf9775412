"""From the runs of a section to its record: each number with its seeds and its interval."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vididi.analysis.compare import compare
from vididi.analysis.compare_several import agreement, compare_all
from vididi.analysis.floor import nothing_learned
from vididi.analysis.paper import PaperTable, load_paper_table
from vididi.analysis.reading import Measurement, Run, is_introduction, notes_of
from vididi.analysis.records import (
    RecordedByGroup,
    RecordedDifference,
    RecordedFamily,
    RecordedGain,
    RecordedOrder,
    RecordedOrigin,
    RecordedRow,
    RecordedSetting,
    RecordedValue,
    SectionRecord,
)
from vididi.analysis.samples import Samples, Ways, collect, interval
from vididi.analysis.section_runs import FoundRuns, SectionRuns, runs_of_section, seeds_text
from vididi.analysis.sections import LATER_SETTINGS, ResultsSection, ResultsSetting
from vididi.analysis.table_rows import Measured, is_row, untrained_rows
from vididi.analysis.tables import column_of
from vididi.analysis.video_groups import GroupsError, NoScoresError, VideoGroups
from vididi.errors import ConfigError
from vididi.protocols import PROTOCOLS, settings_model
from vididi.protocols.settings import FeatureSettings
from vididi.sweep import Sweep
from vididi.words import counted, written

UNTRAINED = "untrained"  # an arm's name begins so where it is of something that was not trained

# Settings of features that are the run's own where nothing else is asked for.
_OF_RUN = {
    **{key: f"evaluation.{key}" for key in ("clips", "frames", "stride", "crop")},
    "size": "clip.size",
}


def is_trained(row: RecordedRow) -> bool:
    """Whether a row is an arm of the sweep."""
    return row.arm.split("/")[0] != UNTRAINED


def record_section(section: ResultsSection, sweep: Sweep, found: FoundRuns) -> SectionRecord | None:
    """Everything that is said of a section in numbers; None where it has no run.

    Raises:
        ConfigError: runs do not record where they were measured, and the section does not state it;
            or none has measured what the section shows.
    """
    chosen = runs_of_section(section, sweep, found)
    if not chosen.rows:
        return None
    table = load_paper_table(section.table) if section.table else None
    settings = [_setting(section, setting, chosen, table) for setting in section.settings]
    measured = [setting for setting in settings if setting.rows]
    if not measured:
        raise ConfigError(
            f"{section.name}: none of {counted(len(chosen.all), 'run')} was measured with any of"
            f" its settings, {', '.join(setting.name for setting in section.settings)}"
        )
    record = SectionRecord(
        section=section.name,
        sweep=sweep.name,
        measured_by=section.measured_by(),
        data=sorted({f"{run.data} ({run.result['data_checksum'][:12]})" for run in chosen.all}),
        runs=len(chosen.all),
        hours=sum(float(run.result.get("seconds", 0)) for run in chosen.all) / 3600,
        origins=_origins(section, chosen.all),
        settings=measured,
        further_settings=_further_settings(section, chosen.all),
        left_out=[*chosen.left_out, *notes_of(chosen.all)],
    )
    return SectionRecord.model_validate(json.loads(record.text()))


# --- One setting ----------------------------------------------------------------------------------


def _setting(
    section: ResultsSection,
    setting: ResultsSetting,
    chosen: SectionRuns,
    table: PaperTable | None,
) -> RecordedSetting:
    arms = {name: _measured_so(runs, setting) for name, runs in chosen.rows.items()}
    rows, notes = [], []
    for name, runs in arms.items():
        values = {metric: recorded_value(runs, metric) for metric in section.columns_of(setting)}
        measured = {metric: value for metric, value in values.items() if value is not None}
        notes += _without(chosen.labels[name], chosen.rows[name], measured, setting.metric)
        if measured:
            paper = _printed(table, runs[0], measured) if table else {}
            over_base = _gain(section, arms, name, setting.metric)
            rows.append(
                RecordedRow(
                    arm=name,
                    label=chosen.labels[name],
                    paper=paper,
                    values=measured,
                    gain=over_base,
                )
            )
    if rows:
        rows += _without_learning(arms, chosen.rows, section, setting)
    with_metric = {name: having(runs, setting.metric) for name, runs in arms.items()}
    with_metric = {name: runs for name, runs in with_metric.items() if runs}
    family, why = _family(section, with_metric, setting.metric)
    order, why_not = _order(table, with_metric, setting.metric)
    return RecordedSetting(
        name=setting.name,
        rows=rows,
        family=family,
        order=order,
        notes=[*notes, *(why + why_not if rows else [])],
    )


def having(runs: Iterable[Run], metric: str) -> list[Run]:
    """The runs that measured a metric."""
    return [run for run in runs if any(m.value(metric) is not None for m in run.measurements)]


def _measured_so(runs: Iterable[Run], setting: ResultsSetting) -> list[Run]:
    """The runs with those of their measurements that a setting is, where there are any."""
    measured = [
        replace(run, measurements=[m for m in run.measurements if _fits(run, m, setting.settings)])
        for run in runs
    ]
    return [run for run in measured if run.measurements]


def _fits(run: Run, m: Measurement, settings: Mapping[str, Any]) -> bool:
    if (m.data, m.checksum) != (run.data, run.result["data_checksum"]):
        return False
    if any(_plain(m.settings.get(key)) != _plain(value) for key, value in settings.items()):
        return False
    return not _unlike_usual(run, m, leave=settings)


def _unlike_usual(run: Run, m: Measurement, leave: Iterable[str] = ()) -> dict[str, Any]:
    """The settings of features in which a measurement is not as it always was, or not as its run
    measures.
    """
    name = m.result.get("protocol")
    if name in PROTOCOLS and not issubclass(settings_model(name), FeatureSettings):
        return {}
    leave = set(leave)
    late = {
        key: m.settings[key]
        for key in LATER_SETTINGS
        if key in m.settings and not is_introduction(key, m.settings[key])
    }
    other = {
        key: m.settings[key]
        for key, of_run in _OF_RUN.items()
        if m.settings.get(key) is not None and m.settings[key] != run.config.get(of_run)
    }
    return {key: value for key, value in {**late, **other}.items() if key not in leave}


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def recorded_value(runs: Sequence[Run], metric: str) -> RecordedValue | None:
    """What runs of one arm measured, with its interval; None if nothing."""
    samples = collect(runs, column_of(metric), None, 0, Ways(runs))
    return None if samples is None else _recorded(samples)


def _recorded(samples: Samples) -> RecordedValue:
    values, scores = samples.values, samples.scores()
    return RecordedValue(
        mean=samples.mean,
        spread=statistics.stdev(values) if len(values) > 1 else None,
        interval=interval(samples),
        seeds=samples.seeds,
        videos=sum(part.shape[1] for part in scores) if scores else None,
    )


def _without(
    label: str, runs: Sequence[Run], measured: Mapping[str, RecordedValue], metric: str
) -> list[str]:
    """Which seeds of an arm were not measured in this way, if others were."""
    value = measured.get(metric)
    if value is None:
        return []
    missing = {run.seed for run in runs} - set(value.seeds)
    return [f"{label}: not measured so of seeds {seeds_text(missing)}"] if missing else []


def _printed(table: PaperTable, run: Run, metrics: Collection[str]) -> dict[str, float]:
    """What a paper printed of the arm that a run is."""
    row = next((row for row in table.rows if row.match and is_row(run, row.match, table)), None)
    if row is None:
        return {}
    by_metric: dict[str, float] = {}
    for column, value in zip(table.columns, row.values, strict=True):
        if column.metric is not None and column.metric in metrics and value is not None:
            by_metric.setdefault(column.metric, value)
    return by_metric


def _gain(
    section: ResultsSection, arms: Mapping[str, Sequence[Run]], name: str, metric: str
) -> RecordedGain | None:
    base_name = section.base_of(name)
    ours, base = (having(arms.get(arm or "", []), metric) for arm in (name, base_name))
    if base_name is None or not {run.seed for run in ours} & {run.seed for run in base}:
        return None
    found = compare(ours, base, metric, (name, base_name))
    return RecordedGain(
        base=base_name,
        value=found.gain.value,
        interval=found.gain.interval,
        seeds=found.seeds,
        p=found.p,
        by_group=_by_group(section, ours, base, metric),
    )


def _by_group(
    section: ResultsSection, ours: Sequence[Run], base: Sequence[Run], metric: str
) -> RecordedByGroup | None:
    """A gain by the section's groups of test videos; None where there are none to be asked for, or
    the metric is of no single video, as of velocity among velocity.

    Raises:
        GroupsError: they are not known, too few, or not of the same videos.
    """
    if section.by_group is None:
        return None
    try:
        found = compare(ours, base, metric, by=VideoGroups.named(section.by_group))
    except NoScoresError:
        return None
    gains, ends = found.group_gains, found.gain.interval
    if gains is None or ends is None:
        raise GroupsError(
            f"{section.name}: by_group: {section.by_group!r} gives no interval; arms were asked"
            " other videos, or several splits"
        )
    return RecordedByGroup(groups=len(gains), positive=int((gains > 0).sum()), interval=ends)


def _without_learning(
    runs: Mapping[str, list[Run]],
    every: Mapping[str, list[Run]],
    section: ResultsSection,
    setting: ResultsSetting,
) -> list[RecordedRow]:
    """The encoder before its first step, and features without weights, where they were measured.

    The latter have no statistics that a setting could change, so they are of all measurements of
    the same runs, ``every``; a distance or centre of another kind is another measure.
    """
    metrics = section.columns_of(setting)
    below = untrained_rows([run for group in runs.values() for run in group], metrics)
    if not {"distance", "centre"} & setting.settings.keys():
        of_every = [run for group in every.values() for run in group]
        below += [
            Measured(f"nothing learned: {name}", [run])
            for name, run in nothing_learned(of_every, metrics).items()
        ]
    rows = []
    for row in below:
        values = {metric: recorded_value(row.runs, metric) for metric in metrics}
        measured = {metric: value for metric, value in values.items() if value is not None}
        if measured:
            arm = f"{UNTRAINED}/{row.label}"
            rows.append(RecordedRow(arm=arm, label=row.label, paper={}, values=measured, gain=None))
    return rows


def _family(
    section: ResultsSection, arms: Mapping[str, list[Run]], metric: str
) -> tuple[RecordedFamily | None, list[str]]:
    """The planned comparisons, or why there are none."""
    planned = section.planned
    if planned is None or len(arms) < 2:
        return None, []
    if planned not in arms:
        return None, [f"comparisons: {planned} was not measured so"]
    others = {name: runs for name, runs in arms.items() if name != planned}
    try:
        family = compare_all(arms[planned], others, metric, planned)
    except ValueError as error:
        return None, [f"comparisons with {planned}: {error}"]
    differences = [
        RecordedDifference(
            arm=d.arm, value=d.value, interval=d.interval, p=d.p, adjusted=d.adjusted
        )
        for d in family.differences
    ]
    return RecordedFamily(planned=planned, seeds=family.seeds, differences=differences), []


def _order(
    table: PaperTable | None, arms: Mapping[str, list[Run]], metric: str
) -> tuple[RecordedOrder | None, list[str]]:
    """The agreement with a paper's order, or why there is none."""
    if table is None or all(column.metric != metric for column in table.columns):
        return None, []
    try:
        found = agreement(table, arms, metric)
    except ValueError as error:
        return None, [f"order: {error}"]
    return (
        RecordedOrder(
            table=table.name,
            rho=found.rho,
            interval=found.interval,
            arms=found.arms,
            seeds=found.seeds,
        ),
        [],
    )


# --- The whole section ----------------------------------------------------------------------------


def _further_settings(section: ResultsSection, runs: Sequence[Run]) -> list[str]:
    """Ways in which retrieval was measured too, and which no setting of the section is."""
    counts: Counter[str] = Counter()
    for run in runs:
        for m in run.measurements:
            if not any(metric.startswith("retrieval/") for metric in m.metrics):
                continue
            if any(_fits(run, m, setting.settings) for setting in section.settings):
                continue
            unlike = _unlike_usual(run, m)
            words = [f"{key} {written(value)}" for key, value in sorted(unlike.items())]
            words += [f"on {m.data}"] if m.data != run.data else []
            counts[", ".join(words) or "as the run measures itself"] += 1
    return [f"{words} ({counted(count, 'run')})" for words, count in sorted(counts.items())]


def _origins(section: ResultsSection, runs: Sequence[Run]) -> list[RecordedOrigin]:
    """By which commits, machines and versions the section was measured.

    Raises:
        ConfigError: a result does not record it, and the section does not state it.
    """
    counts: Counter[tuple[str, str, str, str, bool]] = Counter()
    for run in runs:
        counts["runs", *_origin(section, run, run.result)] += 1
        for m in run.measurements:
            if m.name and any(_fits(run, m, setting.settings) for setting in section.settings):
                counts["evaluations", *_origin(section, run, m.result)] += 1
    return [
        RecordedOrigin(
            what="runs" if what == "runs" else "evaluations",
            count=count,
            commit=commit,
            machine=machine,
            versions=versions,
            stated=stated,
        )
        for (what, commit, machine, versions, stated), count in sorted(counts.items())
    ]


def _origin(
    section: ResultsSection, run: Run, result: Mapping[str, Any]
) -> tuple[str, str, str, bool]:
    versions = ", ".join(f"{name} {v}" for name, v in sorted(result.get("versions", {}).items()))
    commit, machine = result.get("commit"), result.get("machine")
    if commit and machine:
        return str(commit), machine_text(machine), versions, False
    if section.unrecorded is None:
        raise ConfigError(
            f"{section.name}: {run.folder.name} does not record by which commit and machine it was"
            " measured; state both as the section's unrecorded: {commit: ..., machine: ...}"
        )
    stated = section.unrecorded
    return (
        str(commit or stated.commit),
        machine_text(machine) if machine else stated.machine,
        versions,
        True,
    )


def machine_text(machine: Mapping[str, Any]) -> str:
    """A machine as a result.json records it, in words."""
    memory = machine.get("memory_gb")
    parts = [
        machine.get("gpu"),
        machine.get("processor"),
        machine.get("instructions"),
        counted(int(machine.get("cores") or 0), "core"),
        f"{memory:.0f} GB" if memory else None,
        machine.get("system"),
    ]
    return ", ".join(str(part) for part in parts if part)
