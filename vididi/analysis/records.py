"""What was measured of one section of docs/results.md, as a small JSON file beside it: everything
that the page says in numbers, so that it can be written again without the runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from vididi.errors import DataError
from vididi.runs.readers import read_mapping

# A list of numbers over several lines. A line break is never inside a text of JSON.
_FLAT_LIST = re.compile(r"\[\n[-0-9.e,\s]*\]")
RECORD_VERSION = 1
RECORD_KEY = "vididi-record"  # in a picture's text: the digest of the record that it was made of
DIGITS = 6  # after the point, of what is recorded


class _Recorded(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Versioned(BaseModel):
    version: int


Ends = tuple[float, float]


class RecordedValue(_Recorded):
    """A metric of an arm: over which seeds, and over how many videos where each was scored."""

    mean: float
    spread: float | None = Field(description="standard deviation over seeds; null of one seed")
    interval: Ends | None
    seeds: list[int] = Field(min_length=1)
    videos: int | None


class RecordedByGroup(_Recorded):
    """The interval of a gain by groups of test videos, and in how many of them it is positive."""

    groups: int
    positive: int
    interval: Ends


class RecordedGain(_Recorded):
    """An arm less its base, over the seeds that both have, with its paired interval.

    ``by_group`` where the section asks for it; records of others do not have the key.
    """

    base: str
    value: float
    interval: Ends | None
    seeds: list[int] = Field(min_length=1)
    p: float | None
    by_group: RecordedByGroup | None = None

    @model_serializer(mode="wrap")
    def _only_what_was_asked(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = serialise(self)
        if self.by_group is None:
            del content["by_group"]
        return content


class RecordedRow(_Recorded):
    """An arm under one setting; ``paper`` is what a paper printed, by metric."""

    arm: str
    label: str
    paper: dict[str, float]
    values: dict[str, RecordedValue]
    gain: RecordedGain | None


class RecordedDifference(_Recorded):
    """An arm less the planned one, with its simultaneous interval and p-values."""

    arm: str
    value: float
    interval: Ends
    p: float
    adjusted: float


class RecordedFamily(_Recorded):
    """All comparisons with the planned arm, made together over the seeds that all have."""

    planned: str
    seeds: list[int]
    differences: list[RecordedDifference]


class RecordedOrder(_Recorded):
    """Spearman's rho with the order of a paper's table."""

    table: str
    rho: float
    interval: Ends
    arms: int
    seeds: int


class RecordedSetting(_Recorded):
    """All arms measured in one way."""

    name: str
    rows: list[RecordedRow]
    family: RecordedFamily | None
    order: RecordedOrder | None
    notes: list[str]


class RecordedOrigin(_Recorded):
    """By what some of the results were measured, and how many; ``stated`` where they do not record
    it.
    """

    what: Literal["runs", "evaluations"]
    count: int
    commit: str
    machine: str
    versions: str
    stated: bool


class SectionRecord(_Recorded):
    """All numbers of one section.

    Attributes:
        measured_by: the part of the section's definition that they depend on. data: names and
            checksums. hours: that the runs took. further_settings: measured, and not asked for.
            left_out: what does not count, and why.
    """

    version: Literal[1] = 1
    section: str
    sweep: str
    measured_by: dict[str, Any]
    data: list[str]
    runs: int
    hours: float
    origins: list[RecordedOrigin]
    settings: list[RecordedSetting]
    further_settings: list[str]
    left_out: list[str]

    @property
    def digest(self) -> str:
        """Of its content; a picture of it holds the same."""
        return sha256(self.text().encode()).hexdigest()[:16]

    def text(self) -> str:
        """The content of its file; lists of numbers are lines."""
        content = with_few_digits(self.model_dump(mode="json"))
        text = json.dumps(content, indent=1, ensure_ascii=False)
        return _FLAT_LIST.sub(lambda found: re.sub(r"\n\s*", " ", found[0]), text) + "\n"


def with_few_digits(content: Any) -> Any:
    """Plain values with every float to DIGITS after the point, or to as many significant ones where
    it is small, as a p-value.
    """
    if isinstance(content, float):
        return round(content, DIGITS) if abs(content) >= 1e-3 else float(f"{content:.{DIGITS}g}")
    if isinstance(content, Mapping):
        return {key: with_few_digits(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [with_few_digits(value) for value in content]
    return content


def record_path(folder: Path, section: str) -> Path:
    """Where the record of a section lies."""
    return folder / f"{section}.json"


def read_record(path: Path) -> SectionRecord | None:
    """A record, None where there is none.

    Raises:
        DamagedError: it is no record. DataError: a newer program wrote it, or it cannot be read.
    """
    content = read_mapping(path, _Versioned)
    if content is not None and content["version"] != RECORD_VERSION:
        raise DataError(
            f"{path}: has version {content['version']}, this program reads version {RECORD_VERSION}"
        )
    content = read_mapping(path, SectionRecord)
    return None if content is None else SectionRecord.model_validate(content)
