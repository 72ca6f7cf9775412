"""What the small files of a run folder must hold to be read; vididi.runs.readers checks them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat


class _Form(BaseModel):
    """What a file must hold to be read. A boolean is no number; there may be more in it."""

    model_config = ConfigDict(extra="allow", strict=True)


class RunResultForm(_Form):
    """result.json of a run."""

    data_checksum: str
    steps: int = Field(ge=0)
    seconds: FiniteFloat = 0.0
    rules: int = Field(1, ge=1)
    videos_dropped_per_epoch: int = Field(0, ge=0)
    videos_too_short: list[str] = []


class _Data(_Form):
    name: str
    checksum: str
    split: int | None = None


class _ClassifierEpoch(_Form):
    epoch: int
    loss: float = 0.0
    train_top1: FiniteFloat = 0.0
    test_top1: FiniteFloat = 0.0


Numbers = dict[str, FiniteFloat | None]


class EvaluationResultForm(_Form):
    """result.json of an evaluation."""

    protocol: str
    rules: int = Field(1, ge=1)
    data: _Data
    settings: dict[str, Any] = {}
    metrics: Numbers
    untrained: Numbers | None = None
    per_class: Numbers | None = None
    epochs: list[_ClassifierEpoch] = []
    notes: list[str] = []


class CellForm(_Form):
    """cell.json."""

    sweep: str | None = None
    arm: str
    label: str
    axes: dict[str, Any]


class StoppedForm(_Form):
    """stopped.json."""

    epoch: int = Field(ge=0)


class RecordForm(_Form):
    """A line of metrics.jsonl."""

    epoch: int
    step: int
