"""The protocols that evaluate a finished encoder, as a table: everything that asks what a protocol
is reads EVALUATIONS.

    settings.py, recipes.py            what can be set, and what the papers set
    frozen.py, classify.py, detect.py  measuring functions: of retrieval, silhouette and dynamics;
                                       of linear, semi and finetune; detection
    unlearned.py                       of features that nothing has learned
    task.py                            what a measuring function gets and gives
    finished.py                        a finished run, from its folder to a result

This file and the first two import no torch: a measuring function is named here, and imported when
it is called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field, model_validator

from vididi.config import Closed, Component, validate
from vididi.dotted_keys import flatten, nest
from vididi.errors import ConfigError
from vididi.protocols import recipes
from vididi.protocols.settings import (
    ClassificationSettings,
    DetectionSettings,
    FeatureSettings,
    ProtocolSettings,
    RetrievalSettings,
)


@dataclass(frozen=True)
class EvaluationProtocol:
    """What the program knows of a protocol.

    Args:
        settings: a model with at least ``frames``, ``stride`` and ``size``, those of the clips.
        help: one line for the command line.
        measure: ``module:function``, called as ``function(task, encoder, width, folder)``, which
            gives an EvaluationResult (vididi.protocols.task); every worker calls it.
        shares: what several workers may have in common: ``features``, each computes those of some
            whole videos, and on a cluster a pool of actors does; ``batches``, all workers of a cell
            take an equal part of each batch; ``nothing``, one works alone.
        recipes: by name, values of the settings; the first is used where none is named.
        needs: what the data set must have: ``classes`` of videos, or ``boxes`` with actions.
        keeps_features: whether the features are worth keeping, for pictures of them.
        by_labels: whether the share of the labels that is used is part of the metrics' names, in
            per cent: ``semi_10/top1``.
        hits: what stands between a metric's slash and k where the metric is the share of test
            videos with ``first_hit`` below k
            in queries.parquet: ``R@`` of ``retrieval/R@5``; None where there are no such metrics.
        percent: whether tables print its metrics, which are shares of 1, as percentages.

    Raises:
        ValueError: the settings lack a field that is used wherever there is such a protocol.
    """

    settings: type[Closed]
    help: str
    measure: str
    shares: Literal["features", "batches", "nothing"]
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    needs: Literal["classes", "boxes"] = "classes"
    keeps_features: bool = False
    by_labels: bool = False
    hits: Literal["R@", "top"] | None = None
    percent: bool = True

    def __post_init__(self) -> None:
        needed = [
            "frames",
            "stride",
            "size",
            *["batch_size"] * (self.shares == "batches"),
            *["labels"] * self.by_labels,
        ]
        if missing := [name for name in needed if name not in self.settings.model_fields]:
            raise ValueError(
                f"settings: {self.settings.__name__} has no {' and no '.join(missing)}"
            )


FROZEN, CLASSIFY = "vididi.protocols.frozen", "vididi.protocols.classify:measure_classification"

EVALUATIONS: dict[str, EvaluationProtocol] = {
    "retrieval": EvaluationProtocol(
        RetrievalSettings,
        "nearest neighbours of test videos among training videos: R@1, R@5, R@10 (ViDiDi E.4)",
        f"{FROZEN}:measure_retrieval",
        "features",
        keeps_features=True,
        hits="R@",
    ),
    "silhouette": EvaluationProtocol(
        FeatureSettings,
        "how well classes are separated: ViDiDi's Table 7",
        f"{FROZEN}:measure_silhouette",
        "features",
        keeps_features=True,
        percent=False,
    ),
    "dynamics": EvaluationProtocol(
        FeatureSettings,
        "how much of the representation is motion: retrieval of frozen, reversed and shuffled"
        " clips",
        f"{FROZEN}:measure_dynamics",
        "features",
    ),
    "unlearned": EvaluationProtocol(
        FeatureSettings,
        "how far features go that nothing has learned: a middle frame, where something moves, how",
        "vididi.protocols.unlearned:measure_unlearned",
        "features",
    ),
    "linear": EvaluationProtocol(
        ClassificationSettings,
        "a linear classifier on the frozen encoder",
        CLASSIFY,
        "batches",
        recipes.LINEAR,
        hits="top",
    ),
    "semi": EvaluationProtocol(
        ClassificationSettings,
        "fine-tuning with a small share of the labels",
        CLASSIFY,
        "batches",
        recipes.SEMI,
        by_labels=True,
        hits="top",
    ),
    "finetune": EvaluationProtocol(
        ClassificationSettings,
        "fine-tuning with all labels",
        CLASSIFY,
        "batches",
        recipes.FINETUNE,
        hits="top",
    ),
    "detection": EvaluationProtocol(
        DetectionSettings,
        "what the persons in given or proposed boxes do: mean average precision on AVA (needs"
        " --shards of a set with boxes)",
        "vididi.protocols.detect:measure_detection",
        "nothing",
        recipes.DETECTION,
        needs="boxes",
    ),
}
PROTOCOLS = tuple(EVALUATIONS)


class EvaluationEntry(Closed):
    """An evaluation that a sweep makes of each finished cell."""

    protocol: str = Field(description="what is measured")
    recipe: str | None = Field(
        None, description="of the protocol's papers; its first where left out"
    )
    data: Component | None = Field(None, description="another data set than the cell's own")
    settings: dict[str, Any] = Field({}, description="changes to the recipe, by key")
    untrained: bool = Field(True, description="measure an encoder with random weights too")

    @model_validator(mode="after")
    def _possible(self) -> EvaluationEntry:
        try:
            protocol_settings(self.protocol, self.recipe, flatten(self.settings))
        except ConfigError as error:
            head, *lines = str(error).split("\n  ")
            raise ValueError("\n  ".join(f"settings.{line}" for line in lines) or head) from None
        return self

    @property
    def measured_by(self) -> EvaluationProtocol:
        """What the program knows of its protocol."""
        return EVALUATIONS[self.protocol]

    def check_workers(self, workers: int) -> None:
        """Raise ConfigError if so many workers of a cell cannot share its batches."""
        if self.measured_by.shares != "batches":
            return
        settings: Any = protocol_settings(self.protocol, self.recipe, flatten(self.settings))
        if settings.batch_size % workers:
            raise ConfigError(
                f"{self.title}: batch_size: {settings.batch_size} does not divide over {workers}"
                " workers"
            )

    @property
    def title(self) -> str:
        """What tells it from the sweep's others.

        The protocol, the share of the labels, the data set, its split and whose boxes.
        """
        settings = protocol_settings(self.protocol, self.recipe, flatten(self.settings))
        share = getattr(settings, "labels", 1)
        name = self.protocol if share == 1 else f"{self.protocol} {100 * share:g}%"
        boxes = " in proposed boxes" if getattr(settings, "boxes", None) else ""
        if self.data is None:
            return f"{name}{boxes}"
        split = self.data.options.get("split")
        return f"{name} on {self.data.name}" + (f" split {split}" if split else "") + boxes


def protocol_settings(
    protocol: str, recipe: str | None, changes: Mapping[str, Any]
) -> ProtocolSettings:
    """The settings of a protocol: a recipe, with changes by dotted key.

    Args:
        recipe: one of the protocol's; by default its first.

    Raises:
        ConfigError: an unknown protocol, recipe or key, or a value that is not valid.
    """
    if protocol not in EVALUATIONS:
        raise ConfigError(
            f"protocol: {protocol!r} is not valid; it is one of {', '.join(EVALUATIONS)}"
        )
    known = EVALUATIONS[protocol]
    if recipe is not None and recipe not in known.recipes:
        raise ConfigError(
            f"recipe: {recipe!r} is not valid for {protocol}; it is one of"
            f" {', '.join(known.recipes) or 'none'}"
        )
    values = known.recipes[recipe or next(iter(known.recipes))] if known.recipes else {}
    model: Any = settings_model(protocol)
    return validate(model, nest({**flatten(values), **changes}), f"vididi evaluate {protocol}")


def settings_model(protocol: str) -> type[Closed]:
    """The model of a protocol's settings. Raises KeyError where there is no such protocol."""
    return EVALUATIONS[protocol].settings


def metric_prefix(protocol: str, settings: Any) -> str:
    """What stands before the slash in the names of a protocol's metrics."""
    return f"{protocol}_{100 * settings.labels:g}" if EVALUATIONS[protocol].by_labels else protocol


def protocol_of(metric: str) -> EvaluationProtocol | None:
    """The protocol that a metric of a result.json is of; None of others as ``features/spread``."""
    prefix = metric.partition("/")[0]
    name, _, share = prefix.rpartition("_")
    if name in EVALUATIONS and EVALUATIONS[name].by_labels and share:
        return EVALUATIONS[name]
    known = EVALUATIONS.get(prefix)
    return known if known and not known.by_labels else None


def hits_within(metric: str) -> int | None:
    """k, where a metric is a share of test videos with ``first_hit`` below k; else None.

    ``first_hit`` is that of queries.parquet.
    """
    known, name = protocol_of(metric), metric.partition("/")[2]
    if (
        known is None
        or known.hits is None
        or not (match := re.fullmatch(rf"{re.escape(known.hits)}(\d+)", name))
    ):
        return None
    return int(match[1])


def classifiers() -> list[str]:
    """The protocols that train a classifier, whose results have its epochs."""
    return [
        name
        for name, known in EVALUATIONS.items()
        if issubclass(known.settings, ClassificationSettings)
    ]
