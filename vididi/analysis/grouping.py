"""Which runs may stand in one table: their protocols, and in words what sets two apart."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from vididi.analysis.paper import PaperTable
from vididi.analysis.reading import FEATURE_SETTINGS, Run
from vididi.config import ON_THE_WAY
from vididi.words import counted, written

# What may differ between runs of one protocol besides the table's own axes. Where data and weights
# lay is not part of a protocol; which ones they were is (the checksum, the digest).
_NOT_PROTOCOL = ("data", "prepare", "training.seed", "backbone.weights", *map(".".join, ON_THE_WAY))
INITIAL_WEIGHTS = tuple(
    f"backbone.weights_{name}" for name in ("from", "sha256", "key", "prefix", "inflate")
)
# All that tells encoders from each other that were not pretrained, and what a run measures at its
# end.
_ENCODER_ALONE = (
    "backbone",
    "clip.size",
    *(f"evaluation.{key}" for key in (*FEATURE_SETTINGS, "seed")),
)


def protocol(run: Run, axes: Iterable[str] = (), data: str | None = None) -> str:
    """Everything that a run's numbers depend on but its seed and ``axes``, as text."""
    left_out = (*axes, *_NOT_PROTOCOL)
    values = {
        key: value
        for key, value in run.config.items()
        if value is not None and not _covers(left_out, key)
    }
    values = values if run.pretrained else _without_pretraining(values)
    return json.dumps([values, data or run.result["data_checksum"], run.pretrained], sort_keys=True)


def _without_pretraining(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if _covers(_ENCODER_ALONE, key)}


def _covers(axes: Iterable[str], key: str) -> bool:
    """Whether a configuration key is one of ``axes`` or lies in a section that is one."""
    return any(key == axis or key.startswith(f"{axis}.") for axis in axes)


def by_protocol(table: PaperTable, runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs that may stand in one table, by protocol, the most runs first.

    They are the same in everything but the table's axes, their initial weights and the seed.

    The most runs first. Encoders that were not pretrained stand beside all runs that are evaluated
    in the same way.
    """
    runs = list(runs)
    counts = Counter((run.data, run.result["data_checksum"]) for run in runs)
    ranked = sorted(counts, key=lambda key: -counts[key])
    groups: dict[str, list[Run]] = defaultdict(list)

    for run in runs:
        data = None
        if run.data in table.pretraining_data:
            # The data of pretraining is an axis of this table: data sets stand together, two
            # preparations of one do not.
            of_its_name = [checksum for name, checksum in ranked if name == run.data]
            data = f"preparation {of_its_name.index(run.result['data_checksum'])}"
        groups[protocol(run, (*table.axes, *INITIAL_WEIGHTS), data)].append(run)

    groups = dict(sorted(groups.items(), key=lambda item: -len(item[1])))
    for name in [name for name, (run, *_) in groups.items() if not run.pretrained]:
        if compatible := [other for other in groups if _same_but_for_pretraining(name, other)]:
            baselines = groups.pop(name)
            for other in compatible:
                groups[other] += baselines

    return groups


def _same_but_for_pretraining(baseline: str, other: str) -> bool:
    """Whether a protocol without pretraining is that of the other but for the pretraining."""
    (ours, our_data, _), (theirs, their_data, pretrained) = json.loads(baseline), json.loads(other)
    return pretrained and our_data == their_data and ours == _without_pretraining(theirs)


def describe_protocol(runs: list[Run], axes: Iterable[str] = ()) -> str:
    """One line that says how runs of one protocol were made."""
    c, pretrained = runs[0].config, runs[0].pretrained
    parts = [f"{' and '.join(sorted({run.data for run in runs}))} data"]
    names = (
        ("backbone.name", "objective.name", "optimiser.name") if pretrained else ("backbone.name",)
    )
    parts += [str(c[key]) for key in names if not _covers(axes, key)]
    if not pretrained:
        parts.append("not pretrained")
    elif not _covers(axes, "training.epochs"):
        parts.append(counted(c["training.epochs"], "epoch"))
    if pretrained and not _covers(axes, "training.batch_size"):
        parts.append(f"batch {c['training.batch_size']}")

    parts.append(
        f"{c['clip.frames']} x {c['clip.size']} x {c['clip.size']}, stride {c['clip.stride']}"
    )
    return (
        f"{', '.join(parts)}; retrieval with {counted(c['evaluation.clips'], 'clip')} of"
        f" {counted(c['evaluation.frames'], 'frame')}"
    )


def differences(first: str, other: str) -> str:
    """What sets ``other`` apart from ``first``, both named as by by_protocol; empty if nothing."""
    (ours, our_data, *ours_is), (theirs, their_data, *theirs_is) = (
        json.loads(other),
        json.loads(first),
    )
    if ours_is != theirs_is:  # what only pretraining reads has no counterpart
        ours, theirs = _without_pretraining(ours), _without_pretraining(theirs)
    keys = [key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)]
    parts = [_instead(key, ours.get(key), theirs.get(key)) for key in sorted(keys)]
    parts += ["other videos"] if our_data != their_data else []
    return ", ".join(parts)


def _instead(key: str, ours: Any, theirs: Any) -> str:
    """How a value differs from another; None is one that is not set."""
    if ours is None:
        return f"no {key} instead of {written(theirs)}"
    return f"{key} {written(ours)}" + ("" if theirs is None else f" instead of {written(theirs)}")


def with_differences(text: str, difference: str) -> str:
    """A text, and then what sets it apart, if anything does."""
    return "; ".join(filter(None, (text, difference and f"with {difference}")))


def not_the_paper_s(table: PaperTable, run: Run) -> list[str]:
    """Where a run's configuration is not what the paper says of all rows."""
    paper_values = {
        key: value for key, value in table.configuration.items() if not _covers(table.axes, key)
    }
    paper_values = paper_values if run.pretrained else _without_pretraining(paper_values)
    return [
        _instead(key, run.config.get(key), value)
        for key, value in paper_values.items()
        if run.config.get(key) != value
    ]


def check_one_arm(name: str, runs: Sequence[Run]) -> None:
    """Raise ValueError unless there are runs, of one arm, each seed once."""
    if not runs:
        raise ValueError(f"{name}: has no finished runs")
    seeds = [run.seed for run in runs]
    if len(set(seeds)) < len(seeds) or len({protocol(run) for run in runs}) > 1:
        raise ValueError(f"{name}: its runs differ in more than the seed; name one arm of them")
