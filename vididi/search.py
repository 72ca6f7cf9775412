"""What a search draws from, and when a cell is stopped early: plain values and pure functions.
Imports neither torch nor Ray.

A space is gone through in its order; a dimension whose ``when`` does not hold is left out
(define-by-run), so a space can be conditional: the weights of pairs are drawn only where the
selection is weighted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from random import Random
from statistics import fmean, variance
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from vididi.config import MOST_EPOCHS, Closed
from vididi.values import shown
from vididi.words import counted

Point = dict[str, Any]
Seed = Annotated[int, Field(ge=0)]
# significant ones that a drawn number keeps, so that names stay short and near repeats are repeats
DIGITS = 3


class Dimension(Closed):
    """One value of a space: exactly one distribution, and what must have been drawn before for it
    to be drawn at all.
    """

    choice: list[Any] | None = Field(None, min_length=1, description="one of these values")
    uniform: tuple[float, float] | None = Field(
        None, description="a number between low and high, evenly"
    )
    log: tuple[float, float] | None = Field(
        None, description="a number between low and high, above 0, evenly in its logarithm"
    )
    integer: tuple[int, int] | None = Field(
        None, description="a whole number from low to high, both included"
    )
    when: dict[str, Any] = Field(
        {}, description="values drawn before with which alone it is drawn; a list: any of them"
    )

    @model_validator(mode="after")
    def _one_distribution(self) -> Dimension:
        kinds = [
            name
            for name in ("choice", "uniform", "log", "integer")
            if getattr(self, name) is not None
        ]
        if len(kinds) != 1:
            raise ValueError(
                f"distribution: {' and '.join(kinds) or 'none'} is given; it is one of choice,"
                " uniform, log, integer"
            )
        if self.kind == "choice":
            if any(not isinstance(value, str | bool | int | float | None) for value in self.bounds):
                raise ValueError(
                    f"choice: {self.choice} is not valid; choices are numbers, words, true, false"
                    " or null"
                )
        elif not self.bounds[0] < self.bounds[1] or (self.kind == "log" and self.bounds[0] <= 0):
            raise ValueError(
                f"{self.kind}: {list(self.bounds)} is not valid; it is [low, high], for log above 0"
            )
        return self

    @property
    def kind(self) -> str:
        """How it is drawn: choice, uniform, log or integer."""
        return next(
            name
            for name in ("choice", "uniform", "log", "integer")
            if getattr(self, name) is not None
        )

    @property
    def bounds(self) -> Any:
        """The choices, or low and high."""
        return getattr(self, self.kind)

    def holds(self, value: Any) -> bool:
        """Whether it could have been drawn."""
        if self.kind == "choice":
            return any(
                value == choice and isinstance(value, bool) == isinstance(choice, bool)
                for choice in self.bounds
            )
        number = isinstance(
            value, int if self.kind == "integer" else int | float
        ) and not isinstance(value, bool)
        return number and self.bounds[0] <= value <= self.bounds[1]

    def drawn_by(self, random: Random) -> Any:
        """A value drawn evenly."""
        if self.kind == "choice":
            return random.choice(self.bounds)
        low, high = self.bounds
        if self.kind == "integer":
            return random.randint(low, high)
        return (
            math.exp(random.uniform(math.log(low), math.log(high)))
            if self.kind == "log"
            else random.uniform(low, high)
        )


class Confirm(Closed):
    """What becomes of a search's best: trained anew with other seeds, and held against the best arm
    of a finished grid.
    """

    against: str = Field(description="the runs folder of the grid")
    top: int = Field(1, ge=1, description="how many of the search's best the choice is made from")
    choose_seeds: list[Seed] = Field(
        [],
        description=(
            "seeds by which one is chosen, the worse half going after each; left out, the first"
        ),
    )
    seeds: list[Seed] = Field(min_length=1, description="fresh seeds of the comparison")
    margin: float = Field(
        0.03, ge=0, description="the bound of the difference should lie above minus this"
    )

    @model_validator(mode="after")
    def _fresh(self) -> Confirm:
        if used := set(self.seeds) & set(self.choose_seeds):
            raise ValueError(
                f"seeds: {sorted(used)} are in choose_seeds too; a comparison needs fresh ones"
            )
        if self.top > 1 and not self.choose_seeds:
            raise ValueError(f"top: {self.top} needs choose_seeds, by which one is chosen")
        return self


class Search(Closed):
    """How the cells of a sweep are found: listed, or drawn from a space."""

    name: Literal["grid", "optuna", "random"] = Field(
        "grid", description="grid: arms and axes; the others draw from the space"
    )
    trials: int = Field(
        20,
        ge=1,
        description="cells that it trains in all, with those of earlier starts of the same search",
    )
    budget: int | None = Field(
        None, ge=1, description="of training in all; no cell starts that could go beyond [epochs]"
    )
    seed: int = Field(0, ge=0, description="of the draws")
    metrics: dict[str, Literal["max", "min"]] = Field(
        {"retrieval/R@1": "max"}, min_length=1, description="of a result.json"
    )
    space: dict[str, Dimension] = Field({}, description="what is drawn, in this order, by key")
    warm_start: list[str] = Field(
        [],
        description=(
            "folders whose finished runs are told to the search where they are points of its space"
        ),
    )
    confirm: Confirm | None = Field(None, description="what becomes of the best")

    @model_validator(mode="before")
    @classmethod
    def _a_word(cls, values: Any) -> Any:
        return {"name": values} if isinstance(values, str) else values

    @model_validator(mode="after")
    def _consistent(self) -> Search:
        if self.name == "grid":
            if options := sorted(self.model_fields_set - {"name"}):
                raise ValueError(
                    f"{options[0]}: is for optuna and random; a grid has arms and axes"
                )
            return self
        if not self.space:
            raise ValueError(f"space: is missing; {self.name} draws from it")
        known: list[str] = []
        for name, dimension in self.space.items():
            for other, condition in dimension.when.items():
                if other not in known:
                    raise ValueError(
                        f"space.{name}.when.{other}: is not drawn before it; what is:"
                        f" {', '.join(known) or 'nothing'}"
                    )
                if impossible := [
                    value for value in _listed(condition) if not self.space[other].holds(value)
                ]:
                    raise ValueError(
                        f"space.{name}.when.{other}: {shown(impossible[0])} is never drawn"
                    )
            known.append(name)
        return self


class Stopping(Closed):
    """Which cells are stopped early, judged by a metric that is measured while they train.

    name: ``asha`` keeps at epochs grace, grace x reduction, ... the best 1 / reduction of those
        that got there (Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys
        2020). ``median`` stops a cell whose best value so far is worse than the median of the other
        cells' running means (Golovin et al., Google Vizier, KDD 2017, section 3.2.1).
    """

    name: Literal["asha", "median"]
    metric: Literal["online/knn", "online/probe"] = Field(
        "online/knn", description="measured while cells train; see evaluation.online"
    )
    grace: int = Field(4, ge=1, le=MOST_EPOCHS, description="that every cell gets [epochs]")
    reduction: float = Field(
        3, ge=1.01, description="asha: one of so many goes on at each of its epochs"
    )
    least: int = Field(3, ge=1, description="median: cells that there must be to compare with")

    @property
    def summary(self) -> str:
        """For people: ``asha on online/knn, grace 4 epochs, reduction 3``."""
        detail = (
            f"reduction {self.reduction:g}"
            if self.name == "asha"
            else f"of {counted(self.least, 'cell')} or more"
        )
        return f"{self.name} on {self.metric}, grace {counted(self.grace, 'epoch')}, {detail}"


def draw(space: Mapping[str, Dimension], suggest: Callable[[str, Dimension], Any]) -> Point:
    """A point of the space, whose values ``suggest`` gives one by one, as they were given."""
    point: Point = {}
    for name, dimension in space.items():
        if fits(dimension.when, point):
            point[name] = suggest(name, dimension)
    return point


def fits(condition: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Whether each of ``asked`` is there with its value, or with one of its list of values."""
    return all(
        name in values and any(same(values[name], value) for value in _listed(accepted))
        for name, accepted in condition.items()
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def same(a: Any, b: Any) -> bool:
    """Whether two plain values are equal; a boolean equals no number."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)  # 1 is not true


def rounded(point: Point) -> Point:
    """The same with fewer digits."""
    return {
        name: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
        for name, value in point.items()
    }


def read_point(space: Mapping[str, Dimension], values: Mapping[str, Any]) -> Point | None:
    """The point of the space that a configuration's ``values`` (by the space's names) are, or None
    if they are none.
    """
    point = draw(space, lambda name, _: values.get(name))
    return point if all(space[name].holds(value) for name, value in point.items()) else None


def digest(content: Any) -> str:
    """Eight hex digits of plain values."""
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def halved(candidates: int, rounds: int) -> list[int]:
    """How many of the candidates take part in each round, the worse half of them going after it.
    The last two meet in all that follow.

    Sequential halving: Karnin, Koren, Somekh, Almost Optimal Exploration in Multi-Armed Bandits,
    ICML 2013.
    """
    left = [candidates]
    while len(left) < rounds:
        left.append(min(left[-1], max(2, (left[-1] + 1) // 2)))
    return left


def shrunk(values: Sequence[Sequence[float]]) -> list[float]:
    """What several points are worth, each estimated from one value per seed: their means, drawn to
    the mean of all by how noisy they are.

    The best of many single values is mostly a lucky one. Efron and Morris, Data Analysis Using
    Stein's Estimator and its Generalizations, JASA 1975, with the deviation between seeds taken
    from all points that have several. Where none has, the means as they are.

    Args:
        values: of each point, at least one.
    """
    means = [fmean(point_values) for point_values in values]
    degrees = sum(len(point_values) - 1 for point_values in values)
    if degrees == 0 or len(values) < 2:
        return means
    noise = (
        sum(
            (value - mean) ** 2
            for point_values, mean in zip(values, means, strict=True)
            for value in point_values
        )
        / degrees
    )
    spread = max(
        0.0, variance(means) - noise * fmean(1 / len(point_values) for point_values in values)
    )
    middle = fmean(means)
    trust = [
        spread / (spread + noise / len(point_values)) if spread else 0.0 for point_values in values
    ]
    return [middle + weight * (mean - middle) for weight, mean in zip(trust, means, strict=True)]
