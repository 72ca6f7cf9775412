"""Measuring a frozen encoder by one feature vector per video: retrieval, silhouette and dynamics.
Nothing is trained.

Shapes: V videos, D features. What a run measures at its end (vididi/experiment.py) and what is
measured of a finished one are scored here.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import nn

from vididi.config import EVALUATION_BATCH
from vididi.data.plan import EvaluationPlan, frame_counts
from vididi.data.shards import ShardSet
from vididi.evaluation import first_hits, recall_at, silhouette_table
from vididi.evaluation.dynamics import ChangedView, dynamics
from vididi.evaluation.features import Features, FeatureView, local_extract, spread
from vididi.finite import check_finite
from vididi.protocols.task import EvaluationResult, Task, queries_of, share_of_worker
from vididi.runs.run_folder import RunFolder
from vididi.training.distributed import gather_rows

KS = (1, 5, 10)


def measure_retrieval(
    task: Task, encoder: nn.Module, width: int, folder: RunFolder
) -> EvaluationResult:
    """R@1, R@5 and R@10 of the test videos among the training videos."""
    return _score_intact(task, encoder, "retrieval")


def measure_silhouette(
    task: Task, encoder: nn.Module, width: int, folder: RunFolder
) -> EvaluationResult:
    """Silhouette scores of the test videos' classes, of the best retrieved ones and of all."""
    return _score_intact(task, encoder, "silhouette")


def measure_dynamics(
    task: Task, encoder: nn.Module, width: int, folder: RunFolder
) -> EvaluationResult:
    """Retrieval under each change of time (vididi/evaluation/dynamics.py)."""
    rows, features = video_features(task, encoder, ChangedView)
    shards, test = task.shards, is_test(task.shards, rows)
    result = score((), shards, rows, features["intact"])
    more = dynamics(features, shards.column("label")[rows], shards.column("scene")[rows], test)
    return EvaluationResult({**result.metrics, **more}, result.queries)


def _score_intact(task: Task, encoder: nn.Module, protocol: str) -> EvaluationResult:
    rows, features = video_features(task, encoder, FeatureView)
    result = score((protocol,), task.shards, rows, features["intact"])
    table = features_table(task.shards, rows, features["intact"]) if task.keeps_features else None
    return EvaluationResult(result.metrics, result.queries, features=table)


# --- Features -------------------------------------------------------------------------------------


def video_features(
    task: Task, encoder: nn.Module, view: type[FeatureView]
) -> tuple[NDArray[np.int64], Features]:
    """Features of all training and test videos; the same on every worker.

    They are computed where the task says.

    Args:
        encoder: ``[B, 3, T, H, W]`` -> ``[B, D]``.
        view: what is computed of a clip; the task's settings say of which crop.

    Returns:
        index rows ``[V]`` in rising order, and features ``[V, D]`` by name: ``intact``, and what
        ``view`` adds.

    Raises:
        DataError: there are fewer videos than workers.
        NotFiniteError: a feature is not finite.
    """
    s, shards = task.settings, task.shards
    rows = share_of_worker(
        np.concatenate([shards.rows("train"), shards.rows("test")]), task.context
    )
    plan = EvaluationPlan(rows, frame_counts(shards), s.frames, s.stride, s.clips, EVALUATION_BATCH)

    extract = task.extract or local_extract(task.open_stream)
    local_rows, parts = extract(encoder, plan, view(s.size, s.crop, s.seed), task.progress)
    features = {}
    for name, part in parts.items():
        rows, features[name] = gather_rows(local_rows, part, task.context)
    check_finite(task.protocol, **features)
    return rows, features


def is_test(shards: ShardSet, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the videos are queries, ``[V]``; the others are the gallery."""
    return shards.column("split")[rows] == "test"


def features_table(
    shards: ShardSet, rows: NDArray[np.int64], features: NDArray[np.float32]
) -> pa.Table:
    """The rows of features.parquet: ``[V]`` videos with features ``[V, D]``."""
    labels, classes = shards.column("label")[rows], np.array(shards.manifest.classes)
    columns = {
        "video_id": shards.column("video_id")[rows],
        "label": labels,
        "class": classes[labels],
        "split": shards.column("split")[rows],
    }
    return pa.table(
        {
            **columns,
            "features": pa.FixedSizeListArray.from_arrays(features.ravel(), features.shape[1]),
        }
    )


# --- Scores ---------------------------------------------------------------------------------------


def score(
    protocols: Collection[str],
    shards: ShardSet,
    rows: NDArray[np.int64],
    features: NDArray[np.float32],
    by_scene: bool = False,
) -> EvaluationResult:
    """Metrics of features, by name, and for each test video how many wrong neighbours come before
    the first right one.

    Args:
        protocols: ``retrieval``, ``silhouette``, both, or none for what goes with any:
            ``features/spread`` and the queries.
        rows: index rows ``[V]``; features: ``[V, D]``, finite.
        by_scene: with retrieval also retrieval by scene label, where every video has one.

    Raises:
        NotFiniteError: a distance is not finite.
    """
    labels, test = shards.column("label")[rows], is_test(shards, rows)
    hits = first_hits(features[test], labels[test], features[~test], labels[~test])
    metrics = {"features/spread": spread(features[test])}
    if "retrieval" in protocols:
        metrics |= {f"retrieval/R@{k}": value for k, value in recall_at(hits, KS).items()}
    if "silhouette" in protocols:
        metrics |= {
            f"silhouette/{count}": value
            for count, value in silhouette_table(features[test], labels[test], hits).items()
        }

    scenes = shards.column("scene")[rows]
    if "retrieval" in protocols and by_scene and all(scenes):
        scene_hits = first_hits(features[test], scenes[test], features[~test], scenes[~test])
        metrics["retrieval/scene_R@1"] = recall_at(scene_hits, (1,))[1]
    return EvaluationResult(metrics, queries_of(shards, rows[test], hits))
