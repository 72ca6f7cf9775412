"""What docs/results.md shows: its sections, read from docs/results/results.yaml.

A section says which runs count, how they are measured and compared, and, in words without numbers,
what its result says and does not say. Numbers come from records alone (vididi/analysis/records.py).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from vididi.analysis.compare import RECALL_AT_1
from vididi.config import Closed, read_yaml, validate
from vididi.errors import ConfigError
from vididi.introduced import introduction
from vididi.names import NAME
from vididi.protocols.settings import RetrievalSettings
from vididi.sweep import Sweep, load_sweep

_MEASURED = re.compile(r"[0-9]+\.[0-9]+|±")
# What evaluations of features differ in (docs/evaluation.md).
LATER_SETTINGS = tuple(
    name for name, field in RetrievalSettings.model_fields.items() if introduction(field)
)


class ResultsSetting(Closed):
    """One way of measuring the runs of a section.

    Settings that are not named have the value that was always meant, and clips, frames, stride,
    size and crop are the run's own.
    """

    name: str = Field(pattern=NAME, description="short, for records and pictures")
    title: str = Field(description="as the page calls it")
    settings: dict[str, Any] = Field({}, description="of the evaluation, such as batch_norm")
    metric: str = Field(RECALL_AT_1, description="what arms are compared by")
    columns: dict[str, str] | None = Field(
        None, description="metric: title of its column; the section's where left out"
    )

    @field_validator("metric")
    @classmethod
    def _metric_is_known(cls, metric: str) -> str:
        return _known(metric)

    @field_validator("columns")
    @classmethod
    def _columns_are_known(cls, columns: dict[str, str] | None) -> dict[str, str] | None:
        return (
            None
            if columns is None
            else {_known(metric): title for metric, title in columns.items()}
        )


class UnrecordedOrigin(Closed):
    """Where runs were measured that do not record it themselves; pages mark it as stated."""

    commit: str
    machine: str


class ClipPicture(Closed):
    """The picture above a section's table: ``vididi plot clip``."""

    file: str = Field(description="relative to the definition")
    command: str
    text: str = Field(description="what it shows, for who does not see it")


class ResultsSection(Closed):
    """Runs of one sweep, and what is said of them."""

    name: str = Field(pattern=NAME)
    title: str
    sweep: str = Field(description="the sweep file, relative to the repository")
    commands: list[str] = Field(min_length=1, description="that make the runs and evaluations")
    data: str = Field(description="what the videos are, and their terms")
    says: str
    says_not: str
    seeds: list[int] = Field(min_length=1, description="that were planned")
    further_seeds: bool = Field(False, description="whether runs of other seeds count too")
    arms: list[str] | None = Field(None, description="the sweep's where left out")
    match: dict[str, Any] = Field({}, description="configuration values of the runs that count")
    base: str | None = Field("base", description="the arm that all gains are over")
    bases: dict[str, str] = Field({}, description="instead: of some arms, each one's own")
    planned: str | None = Field(None, description="the arm that all others are compared with")
    table: str | None = Field(None, description="of a paper, for its numbers and its order")
    columns: dict[str, str] = {RECALL_AT_1: "R@1"}
    by_group: str | None = Field(
        None, description="gains also with an interval by these groups of test videos (--by-group)"
    )
    settings: list[ResultsSetting] = Field(min_length=1, description="the first is the primary one")
    unrecorded: UnrecordedOrigin | None = None
    picture: ClipPicture | None = None

    @field_validator("title", "says", "says_not")
    @classmethod
    def _has_no_number(cls, text: str) -> str:
        if found := _MEASURED.search(text):
            raise ValueError(
                f"{found[0]!r} is a measured number; numbers come from records, with their seeds"
            )
        return text

    @field_validator("columns")
    @classmethod
    def _columns_are_known(cls, columns: dict[str, str]) -> dict[str, str]:
        return {_known(metric): title for metric, title in columns.items()}

    @model_validator(mode="after")
    def _names_are_distinct(self) -> ResultsSection:
        lists: dict[str, list[Any]] = {
            "settings": [setting.name for setting in self.settings],
            "seeds": self.seeds,
            "arms": self.arms or [],
        }
        for key, names in lists.items():
            if twice := sorted({str(name) for name in names if names.count(name) > 1}):
                raise ValueError(f"{key}: {', '.join(twice)} is there twice")
        return self

    def base_of(self, arm: str) -> str | None:
        """The arm that the gain of another is over; None where it has no gain."""
        base = self.bases.get(arm) if self.bases else self.base
        return None if base == arm else base

    def columns_of(self, setting: ResultsSetting) -> dict[str, str]:
        """The metrics of a setting's table, and their titles."""
        return self.columns if setting.columns is None else setting.columns

    def measured_by(self) -> dict[str, Any]:
        """What a record depends on: a record of another one is none of this section."""
        words = {"title", "commands", "data", "says", "says_not", "unrecorded", "picture"}
        content = self.model_dump(mode="json", exclude=words)
        if self.by_group is None:  # as it was before there was the key
            del content["by_group"]
        for setting in content["settings"]:
            del setting["title"]
        return content


class ResultsDefinition(Closed):
    """The whole page."""

    title: str
    head: str = Field(description="what is above the first section")
    sections: list[ResultsSection]

    @model_validator(mode="after")
    def _names_are_distinct(self) -> ResultsDefinition:
        names = [section.name for section in self.sections]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"sections: {', '.join(twice)} is there twice")
        return self


def load_definition(path: Path) -> ResultsDefinition:
    """Read and validate the definition of a page of results.

    Raises:
        ConfigError: naming the file, the field, the value and what is valid.
    """
    return validate(ResultsDefinition, read_yaml(path), str(path))


def sweep_of(section: ResultsSection, root: Path) -> Sweep:
    """The sweep file of a section.

    Raises:
        ConfigError: it cannot be read, or the section names an arm that it does not have.
    """
    sweep = load_sweep(root / section.sweep)
    arms = list(sweep.arms) or [sweep.name]
    bases = [*section.bases, *section.bases.values()] if section.bases else [section.base]
    for arm in (*bases, section.planned, *(section.arms or [])):
        if arm is not None and arm not in arms:
            raise ConfigError(
                f"{section.name}: {arm!r} is no arm of {section.sweep}, which has {', '.join(arms)}"
            )
    return sweep


def _known(metric: str) -> str:
    if "/" not in metric:
        raise ValueError(f"{metric!r} is not valid; a metric of a result.json is as {RECALL_AT_1}")
    return metric
