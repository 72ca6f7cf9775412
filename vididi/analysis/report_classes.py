"""Test videos by class: how many of each an encoder finds, and what it takes the others for.

From the queries that a run and its evaluations stored, and where these do not say what was taken
for the right class (retrieval), from the features beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vididi.analysis.reading import Measurement, Run
from vididi.errors import ConfigError, DamagedError
from vididi.evaluation.retrieval import centred, nearest_labels
from vididi.protocols import EVALUATIONS
from vididi.protocols.settings import RetrievalSettings
from vididi.runs.file_names import FEATURES
from vididi.runs.mirror import has, pull_file
from vididi.runs.readers import read_feature_table, read_queries, read_table
from vididi.words import written

CONFUSIONS_NAMED = 3  # of a matrix, the most frequent in words


@dataclass(frozen=True)
class Confusion:
    """What the test videos of each class were taken for, summed over an arm's runs.

    ``counts`` ``[K, K]``: row the class, column what it was taken for.
    """

    arm: str
    classes: list[str]
    counts: NDArray[np.int64]

    @property
    def frequent(self) -> list[str]:
        """The most frequent mistakes, in words."""
        wrong = self.counts - np.diag(np.diag(self.counts))
        order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS_NAMED]
        pairs = [divmod(int(flat), len(self.classes)) for flat in order]
        return [
            f"{self.classes[row]} for {self.classes[column]}"
            f" ({wrong[row, column]} of {self.counts[row].sum()})"
            for row, column in pairs
            if wrong[row, column]
        ]


@dataclass(frozen=True)
class ByClass:
    """One way of measuring, by class.

    Args:
        title: which measurement. arms: the columns.
        videos: test videos by class. recall: by class, the mean over runs of each arm; None where
            an arm was not measured.
        confusions: of the arms for which it is known. why_not: why it is not of the others.
    """

    title: str
    arms: list[str]
    videos: dict[str, int]
    recall: dict[str, list[float | None]]
    confusions: list[Confusion]
    why_not: str


def by_class(arms: Mapping[str, Sequence[Run]], classes: Sequence[str]) -> list[ByClass]:
    """Each way in which the arms' runs were measured and queries were stored, by class.

    Args:
        classes: names by label, as the prepared set has them; none: those that the features have,
            else numbers.
    """
    names: dict[str, Measurement] = {
        m.name: m
        for runs in arms.values()
        for run in runs
        for m in run.measurements
        if m.queries is not None
    }
    titles = _titles(list(names.values()))
    return [_one_way(name, title, arms, classes) for name, title in zip(names, titles, strict=True)]


def _one_way(
    name: str, title: str, arms: Mapping[str, Sequence[Run]], classes: Sequence[str]
) -> ByClass:
    measured = {
        arm: [(run, m) for run in runs for m in run.measurements if m.name == name and m.queries]
        for arm, runs in arms.items()
    }
    measured = {arm: pairs for arm, pairs in measured.items() if pairs}
    labelled = _class_names([run for pairs in measured.values() for run, _ in pairs], name, classes)

    videos: dict[str, int] = {}
    recall: dict[str, list[float | None]] = {}
    confusions, reasons = [], dict[str, None]()
    for column, (arm, pairs) in enumerate(measured.items()):
        for label, (count, value) in _recall([m for _, m in pairs]).items():
            class_name = labelled.get(label, f"class {label}")
            videos[class_name] = count
            recall.setdefault(class_name, [None] * len(measured))[column] = value
        try:
            confusions.append(_confusion(arm, pairs, labelled))
        except (ConfigError, DamagedError) as error:
            reasons[str(error)] = None
    return ByClass(title, list(measured), videos, recall, confusions, "; ".join(list(reasons)[:1]))


def _titles(measurements: Sequence[Measurement]) -> list[str]:
    """By protocol and data, and by the settings in which those that have the same differ; those
    that differ in none, as they are of other videos, by the evaluation's name.
    """
    plain = [_plain_title(m) for m in measurements]
    titles = [
        title + _told_apart(m, [o for o, t in zip(measurements, plain, strict=True) if t == title])
        for m, title in zip(measurements, plain, strict=True)
    ]
    return [
        f"{title}, {m.name}" if titles.count(title) > 1 else title
        for m, title in zip(measurements, titles, strict=True)
    ]


def _plain_title(m: Measurement) -> str:
    if not m.name:
        return f"Nearest neighbours at the end of each run, on {m.data}"
    return f"{m.result.get('protocol', 'evaluation')} on {m.data}"


def _told_apart(m: Measurement, alike: Sequence[Measurement]) -> str:
    differ = [
        key
        for key, value in m.settings.items()
        if any(other.settings.get(key, value) != value for other in alike)
    ]
    told = ", ".join(f"{key} {written(m.settings[key])}" for key in differ)
    return f": {told}" if told else ""


def _recall(measured: Sequence[Measurement]) -> dict[int, tuple[int, float]]:
    """By label, how many test videos and which share was right, the mean over runs."""
    shares: dict[int, list[float]] = {}
    counts: dict[int, int] = {}
    for m in measured:
        assert m.queries is not None
        queries = read_queries(m.queries)
        right = queries.found(1)
        if right is None:
            continue
        for label in np.unique(queries.labels).tolist():
            chosen = queries.labels == label
            counts[label] = int(chosen.sum())
            shares.setdefault(label, []).append(float(right[chosen].mean()))
    return {label: (counts[label], float(np.mean(values))) for label, values in shares.items()}


def _folder(run: Run, name: str) -> Path:
    return run.folder / "evaluations" / name if name else run.folder


def _class_names(runs: Sequence[Run], name: str, classes: Sequence[str]) -> dict[int, str]:
    """Class names by label; empty where nothing says them."""
    for run in runs:
        folder = _folder(run, name)
        if not has(folder / FEATURES) or not pull_file(folder / FEATURES):
            continue
        try:
            table = read_feature_table(folder)
        except DamagedError:
            continue
        if table is not None:
            pairs = zip(table["label"].to_pylist(), table["class"].to_pylist(), strict=True)
            return dict(pairs)
    return dict(enumerate(classes))


def _confusion(
    arm: str, pairs: Sequence[tuple[Run, Measurement]], labelled: Mapping[int, str]
) -> Confusion:
    """Raises ConfigError where the files do not say what videos were taken for, DamagedError."""
    taken = [_predictions(run, m) for run, m in pairs]
    labels = sorted({int(label) for part in taken for both in part for label in both})
    place = {label: index for index, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), dtype=np.int64)
    for true, predicted in taken:
        rows = [place[int(label)] for label in true]
        columns = [place[int(label)] for label in predicted]
        np.add.at(counts, (rows, columns), 1)
    return Confusion(arm, [labelled.get(label, f"class {label}") for label in labels], counts)


def _predictions(run: Run, m: Measurement) -> tuple[NDArray, NDArray]:
    """The label of each test video, and the one that it was taken for, ``[Q]`` each."""
    assert m.queries is not None
    table = read_table(m.queries, ("label",))
    if table is not None and "predicted" in table.column_names:
        return table["label"].to_numpy(), table["predicted"].to_numpy()

    protocol = EVALUATIONS.get(m.result.get("protocol", ""))
    if protocol is not None and not issubclass(protocol.settings, RetrievalSettings):
        raise ConfigError(
            f"queries.parquet of {m.result['protocol']} says whether a video was right, and not"
            " what it was taken for"
        )
    folder = _folder(run, m.name)
    if not has(folder / FEATURES) or not pull_file(folder / FEATURES):
        raise ConfigError(
            "no features.parquet beside queries.parquet, which does not say what a video was taken"
            " for; `vididi evaluate retrieval` keeps features"
        )
    features = read_feature_table(folder)
    assert features is not None
    column = features["features"].combine_chunks()
    x = column.flatten().to_numpy().reshape(len(column), -1)
    test = np.array(features["split"].to_pylist()) == "test"
    labels = features["label"].to_numpy()
    x = centred(x, test, m.settings.get("centre") or "none")
    distance: Any = m.settings.get("distance") or "cosine"
    return labels[test], nearest_labels(x[test], x[~test], labels[~test], distance)
