"""Records of measurements as Markdown: docs/results.md, and the blocks of README.md.

Whatever a record shows is said in the same words: that the planned arm is best, that it is not, and
that it is not known.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vididi.analysis.formats import Sheet, markdown_line, markdown_text, sheet_lines
from vididi.analysis.paper import load_paper_table
from vididi.analysis.recording import is_trained
from vididi.analysis.records import (
    RecordedFamily,
    RecordedGain,
    RecordedRow,
    RecordedSetting,
    RecordedValue,
    SectionRecord,
)
from vididi.analysis.section_runs import seeds_text
from vididi.analysis.sections import ResultsDefinition, ResultsSection, ResultsSetting
from vididi.analysis.tables import column_of, interval_text
from vididi.words import counted

OTHER_MACHINE = (
    "Another machine, or other versions, gives other digits: what should be found again are the"
    " differences that lie outside their intervals."
)
LEGEND = (
    "`±` is the standard deviation over seeds, and `seeds` how many there are. `95%` is the"
    " bootstrap's interval over seeds and, where each video was scored, over test videos"
    " ([tables.md](tables.md)). A gain is over the base arm, paired over the seeds that both have;"
    " `p` is of the paired t-test over these seeds. Comparisons that were planned are made"
    " together: their intervals hold all true differences at once in 95 of 100 sweeps, and `p"
    " (Holm)` is corrected for their number. Shares are in percent, differences of them in points."
)


@dataclass(frozen=True)
class MeasuredSection:
    """A section of the definition, and what was measured of it."""

    section: ResultsSection
    record: SectionRecord

    @property
    def primary(self) -> RecordedSetting:
        """The first setting of the definition that was measured."""
        return self.record.settings[0]

    def definition(self, setting: RecordedSetting) -> ResultsSetting:
        """What a recorded setting is."""
        return next(s for s in self.section.settings if s.name == setting.name)

    def metric(self, setting: RecordedSetting) -> str:
        """What arms are compared by under a setting."""
        return self.definition(setting).metric

    def title(self, setting: RecordedSetting) -> str:
        """A setting's title, marked where it was declared as the primary one."""
        primary = ", primary" if setting.name == self.section.settings[0].name else ""
        return self.definition(setting).title + primary

    def column(self, setting: RecordedSetting, metric: str) -> str:
        """The title of a metric's column."""
        return self.section.columns_of(self.definition(setting)).get(metric, metric)


# --- The page -------------------------------------------------------------------------------------


def render_page(
    definition: ResultsDefinition, measured: Sequence[MeasuredSection], pictures: Mapping[str, str]
) -> str:
    """All of docs/results.md.

    Args:
        pictures: by a section's name, where its picture lies relative to the page.
    """
    lines = [
        "<!-- Written by `vididi results`; what is changed by hand is lost. -->",
        f"# {definition.title}",
        "",
        definition.head.strip(),
        "",
        LEGEND,
        "",
        OTHER_MACHINE,
    ]
    if not measured:
        lines += ["", "No section has a record yet."]
    for one in measured:
        lines += ["", *_section_lines(one, pictures.get(one.section.name))]
    return "\n".join(lines) + "\n"


def _section_lines(one: MeasuredSection, picture: str | None) -> list[str]:
    section = one.section
    lines = [f'<a id="{section.name}"></a>', "", f"## {section.title}", "", section.says.strip()]
    lines += _picture_lines(section, picture)
    lines += ["", *findings(one), "", f"**What it does not say.** {section.says_not.strip()}"]
    for setting in one.record.settings:
        lines += ["", f"### {section.name}: {one.title(setting)}"]
        lines += sheet_lines(setting_sheet(one, setting))
        lines += _family_lines(one, setting)
    if len(one.record.settings) > 1:
        lines += ["", f"### {section.name}: settings tried", *_settings_tried(one)]
    return [*lines, "", f"### {section.name}: where the numbers are from", "", *_origin_lines(one)]


def _picture_lines(section: ResultsSection, picture: str | None) -> list[str]:
    if picture is None or section.picture is None:
        return []
    text = markdown_text(section.picture.text)
    return ["", f"![{text}]({picture})", "", f"{text} Made by `{section.picture.command}`."]


def setting_sheet(one: MeasuredSection, setting: RecordedSetting, brief: bool = False) -> Sheet:
    """A row for each arm, with how many seeds it has.

    Args:
        brief: only the metric that arms are compared by.
    """
    metrics = [one.metric(setting)] if brief else [*one.section.columns_of(one.definition(setting))]
    sheet = Sheet(["Arm", "seeds"], notes=[] if brief else list(setting.notes))
    for row in setting.rows:
        count = _seeds_of(row, one.metric(setting))
        sheet.start([row.label, str(count)])
        for metric in metrics:
            _value_cells(sheet, one.column(setting, metric), metric, row, count)
        _gain_cells(sheet, one, setting, row, count)
    return sheet


def _seeds_of(row: RecordedRow, metric: str) -> int:
    """How many seeds a row has: of the metric that arms are compared by, or else at most."""
    value = row.values.get(metric)
    return len(value.seeds) if value else max(len(other.seeds) for other in row.values.values())


def _value_cells(sheet: Sheet, title: str, metric: str, row: RecordedRow, count: int) -> None:
    value, column = row.values.get(metric), column_of(metric)
    printed = row.paper.get(metric)
    sheet.put(title, f"{title} paper", "" if printed is None else column.number(printed))
    sheet.put(title, title, "" if value is None else value_text_of(metric, value, count))
    sheet.put(title, f"{title} 95%", interval_text(column, value.interval) if value else "")


def value_text_of(metric: str, value: RecordedValue, count: int | None = None) -> str:
    """Mean and spread, with the number of seeds unless it is ``count``."""
    column = column_of(metric)
    spread = "" if value.spread is None else f" ± {column.scaled(value.spread)}"
    text = f"{column.scaled(value.mean)}{spread}"
    return text if len(value.seeds) == count else f"{text} ({counted(len(value.seeds), 'seed')})"


def _gain_cells(
    sheet: Sheet, one: MeasuredSection, setting: RecordedSetting, row: RecordedRow, count: int
) -> None:
    metric = one.metric(setting)
    column, title, gain = column_of(metric), one.column(setting, metric), row.gain
    base = next((other for other in setting.rows if gain and other.arm == gain.base), None)
    ours, theirs = row.paper.get(metric), base.paper.get(metric) if base else None
    printed = "" if ours is None or theirs is None else f"{ours - theirs:+.1f}"
    sheet.put("gain", f"{title} gain paper", printed)
    seeds = f" ({counted(len(gain.seeds), 'seed')})" if gain and len(gain.seeds) != count else ""
    sheet.put("gain", f"{title} gain", column.scaled(gain.value, "+") + seeds if gain else "")
    sheet.put(
        "gain", f"{title} gain 95%", interval_text(column, gain.interval, "+") if gain else ""
    )
    if any(row.gain and row.gain.by_group for row in setting.rows):
        by = gain.by_group if gain else None
        ends = interval_text(column, by.interval, "+") if by else ""
        sheet.put("gain", f"{title} gain 95%, by group", ends)
        sheet.put("gain", "groups above 0", f"{by.positive} of {by.groups}" if by else "")
    p = "" if gain is None or gain.p is None else f"{gain.p:.2g}"
    sheet.put("gain", "p", p)


def _family_lines(one: MeasuredSection, setting: RecordedSetting) -> list[str]:
    """The planned comparisons of a setting, as a table."""
    family = setting.family
    if family is None:
        return []
    labels = {row.arm: row.label for row in setting.rows}
    metric = one.metric(setting)
    column, title = column_of(metric), one.column(setting, metric)
    sheet = Sheet(["Arm", "seeds"])
    for d in family.differences:
        sheet.start([labels[d.arm], str(len(family.seeds))])
        name = f"{title} less {labels[family.planned]}"
        sheet.put("difference", name, column.scaled(d.value, "+"))
        sheet.put("difference", "95%, all at once", interval_text(column, d.interval, "+"))
        sheet.put("difference", "p", f"{d.p:.2g}")
        sheet.put("difference", "p (Holm)", f"{d.adjusted:.2g}")
        sheet.put("difference", "result", _resolved(d.interval))
    planned = markdown_text(labels[family.planned])
    line = f"Planned: each arm less {planned}, over seeds {seeds_text(family.seeds)}."
    return ["", line, *sheet_lines(sheet)]


def _resolved(ends: tuple[float, float] | None) -> str:
    if ends is None:
        return "not known"
    return "above" if ends[0] > 0 else "below" if ends[1] < 0 else "not resolved"


def _settings_tried(one: MeasuredSection) -> list[str]:
    """How the arms come out under each setting that was tried, the primary one first."""
    sheet = Sheet(["Setting", "seeds"])
    for setting in one.record.settings:
        metric = one.metric(setting)
        ranked = _ranked(setting, metric)
        seeds = max((len(value.seeds) for _, value in ranked), default=0)
        sheet.start([one.title(setting), str(seeds)])
        order = setting.order
        sheet.put("order", "rho", f"{order.rho:+.2f}" if order else "")
        sheet.put("order", "rho 95%", _ends_text(order.interval) if order else "")
        sheet.put("order", "rho, seeds", str(order.seeds) if order else "")
        sheet.put("best", "compared by", one.column(setting, metric))
        if ranked:
            row, value = ranked[0]
            sheet.put("best", "best arm", f"{row.label}: {value_text_of(metric, value, seeds)}")
        place = _place(ranked, one.section.planned)
        if place is not None:
            row, value = ranked[place]
            text = f"{place + 1} of {len(ranked)}: {value_text_of(metric, value, seeds)}"
            sheet.put("planned", row.label, text)
    return sheet_lines(sheet)


def _ends_text(ends: tuple[float, float]) -> str:
    return f"{ends[0]:+.2f} to {ends[1]:+.2f}"


def _origin_lines(one: MeasuredSection) -> list[str]:
    """Commands, data, machine, commits, and what is left out."""
    record, section = one.record, one.section
    lines = ["```", *section.commands, f"vididi results --only {section.name} --runs runs", "```"]
    lines += ["", f"- Data: {section.data.strip()} Prepared sets: {', '.join(record.data)}."]
    lines += [
        f"- {counted(record.runs, 'run')} of sweep `{record.sweep}`, {record.hours:.1f} hours of"
        f" runs in all. Seeds planned: {seeds_text(section.seeds)}"
        f"{', and any further ones' if section.further_seeds else ''}."
    ]
    for origin in record.origins:
        stated = " (stated; these results do not record it)" if origin.stated else ""
        lines.append(
            f"- {counted(origin.count, origin.what.removesuffix('s'))}: commit"
            f" {_commit_text(origin.commit)} on {markdown_text(origin.machine)}{stated};"
            f" {markdown_text(origin.versions)}."
        )
    measured = {setting.name for setting in record.settings}
    missing = [setting.title for setting in section.settings if setting.name not in measured]
    lines += [f"- Not measured: {'; '.join(missing)}."] * bool(missing)
    if record.further_settings:
        lines.append(f"- Measured too, and not shown: {'; '.join(record.further_settings)}.")
    lines += [f"- Left out: {markdown_text(line)}." for line in record.left_out]
    return lines if record.left_out else [*lines, "- Left out: nothing."]


def _commit_text(commit: str) -> str:
    name, dirty, _ = commit.partition("-dirty")
    return f"`{name[:12]}`" + (" with changes" if dirty else "")


# --- Sentences ------------------------------------------------------------------------------------


def findings(one: MeasuredSection) -> list[str]:
    """What the primary setting shows, in sentences that any outcome has."""
    setting = one.primary
    ranked = _ranked(setting, one.metric(setting))
    where = "" if len(one.section.settings) == 1 else f" ({one.title(setting)})"
    lines = [f"**Found**{where}:", ""]
    declared = one.section.settings[0]
    sentences = [
        *(
            [f"The primary setting, {declared.title}, has **not** been measured."]
            if setting.name != declared.name
            else []
        ),
        *_place_sentence(one, ranked),
        *_gain_sentence(one, ranked),
        *_family_sentence(one),
        *_order_sentences(one),
    ]
    return lines + [f"- {sentence}" for sentence in sentences]


def _ranked(setting: RecordedSetting, metric: str) -> list[tuple[RecordedRow, RecordedValue]]:
    """The trained arms that have a metric, the highest mean first."""
    measured = [
        (row, row.values[metric])
        for row in setting.rows
        if is_trained(row) and metric in row.values
    ]
    return sorted(measured, key=lambda pair: -pair[1].mean)


def _place(ranked: Sequence[tuple[RecordedRow, RecordedValue]], arm: str | None) -> int | None:
    return next((i for i, (row, _) in enumerate(ranked) if row.arm == arm), None)


def _place_sentence(
    one: MeasuredSection, ranked: Sequence[tuple[RecordedRow, RecordedValue]]
) -> list[str]:
    if not ranked:
        return []
    metric = one.metric(one.primary)
    title = one.column(one.primary, metric)

    def said(place: int) -> str:
        row, value = ranked[place]
        return f"{markdown_text(row.label)}, {title} {value_text_of(metric, value)}"

    place = _place(ranked, one.section.planned)
    highest = f"The highest mean of {counted(len(ranked), 'arm')}: {said(0)}."
    if place is None or len(ranked) < 2:
        return [highest]
    if place == 0:
        return [f"{highest} The next: {said(1)}."]
    label = markdown_text(ranked[place][0].label)
    return [f"{label} is **not** the best arm: it is number {place + 1}. {highest} {said(place)}."]


def _gain_sentence(
    one: MeasuredSection, ranked: Sequence[tuple[RecordedRow, RecordedValue]]
) -> list[str]:
    place = _place(ranked, one.section.planned)
    rows = [ranked[place][0]] if place is not None else [row for row, _ in ranked]
    labels = {row.arm: markdown_text(row.label) for row in one.primary.rows}
    return [
        f"{labels[row.arm]} less {labels[gain.base]}: {_gain_text(one, gain)}."
        for row in rows
        if (gain := row.gain) is not None
    ]


def _gain_text(one: MeasuredSection, gain: RecordedGain) -> str:
    column = column_of(one.metric(one.primary))
    ends = f", 95% {interval_text(column, gain.interval, '+')}" if gain.interval else ""
    seeds = counted(len(gain.seeds), "shared seed")
    result = {
        "above": "above 0",
        "below": "**below 0**",
        "not resolved": "**not resolved** from 0",
        "not known": "without an interval",
    }[_resolved(gain.interval)]
    return f"{column.scaled(gain.value, '+')}{ends} ({seeds}), {result}"


def _family_sentence(one: MeasuredSection) -> list[str]:
    family = one.primary.family
    if family is None:
        return []
    labels = {row.arm: row.label for row in one.primary.rows}
    planned = markdown_text(labels[family.planned])
    groups = {
        "above": _arms_where(family, labels, "below"),  # differences are the other arm's less it
        "below": _arms_where(family, labels, "above"),
        "not resolved from": _arms_where(family, labels, "not resolved"),
    }
    parts = [f"{word} {', '.join(arms)}" for word, arms in groups.items() if arms]
    return [
        f"Of {counted(len(family.differences), 'planned comparison')} over"
        f" {counted(len(family.seeds), 'seed')}, {planned} is {'; '.join(parts)}."
    ]


def _arms_where(family: RecordedFamily, labels: Mapping[str, str], word: str) -> list[str]:
    return [
        markdown_text(labels[d.arm]) for d in family.differences if _resolved(d.interval) == word
    ]


def _order_sentences(one: MeasuredSection) -> list[str]:
    order = one.primary.order
    lines = []
    if order is not None:
        title = markdown_text(load_paper_table(order.table).title)
        lines.append(
            f"Spearman's rho with the order of {title}:"
            f" {order.rho:+.2f}, 95% {_ends_text(order.interval)} ({counted(order.arms, 'arm')},"
            f" {counted(order.seeds, 'seed')})."
        )
    orders = [setting.order for setting in one.record.settings if setting.order]
    if len(orders) > 1:
        low, high = min(o.rho for o in orders), max(o.rho for o in orders)
        seeds = min(o.seeds for o in orders)
        lines.append(
            f"Over {len(orders)} settings that were tried, rho is from {low:+.2f} to {high:+.2f}"
            f" (at least {counted(seeds, 'seed')})."
        )
    return lines


# --- Blocks of README -----------------------------------------------------------------------------


def render_block(one: MeasuredSection, picture: str | None, page: str) -> str:
    """A section in short, for README: picture, findings, the primary setting's table, and where it
    is from.

    Args:
        page: where docs/results.md lies, relative to the file that the block is in.
    """
    setting, record = one.primary, one.record
    lines = _picture_lines(one.section, picture)[1:]
    lines += [""] * bool(lines) + findings(one)
    lines += sheet_lines(setting_sheet(one, setting, brief=True))
    commits = " and ".join(_distinct(_commit_text(o.commit) for o in record.origins))
    machines = " and ".join(_distinct(markdown_text(o.machine) for o in record.origins))
    first, *others = one.section.commands
    evaluations = " and the evaluations that the page names" if others else ""
    lines += [
        "",
        markdown_line(one.section.data.strip()),
        f"Measured by `{first}`{evaluations}; commit {commits}, on {machines}. {OTHER_MACHINE}"
        f" [More, and what it does not say]({page}#{one.section.name}).",
    ]
    return "\n".join(lines)


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def relative_to_page(file: Path, page: Path) -> str:
    """Where a file lies, as a link in a page says it."""
    return Path(os.path.relpath(file.resolve(), page.resolve().parent)).as_posix()
