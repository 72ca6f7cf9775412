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
from vididi.evaluation.retrieval import Centre, Distance, centred
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
    result = score((), shards, rows, features)
    more = dynamics(features, shards.column("label")[rows], shards.column("scene")[rows], test)
    return EvaluationResult({**result.metrics, **more}, result.queries)


def _score_intact(task: Task, encoder: nn.Module, protocol: str) -> EvaluationResult:
    s = task.settings
    rows, features = video_features(task, encoder, FeatureView)
    compared = (s.distance, s.centre) if protocol == "retrieval" else ("cosine", "none")
    result = score((protocol,), task.shards, rows, features, *compared)
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
    orders = getattr(s, "orders", (0,))
    plan = EvaluationPlan(
        rows,
        frame_counts(shards),
        s.frames + max(orders),
        s.stride,
        s.clips,
        EVALUATION_BATCH,
    )

    extract = task.extract or local_extract(task.open_stream)
    measure = view(s.size, s.crop, s.seed, orders, s.frames)
    local_rows, parts = extract(encoder, plan, measure, task.progress)
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
    features: Features,
    distance: Distance = "cosine",
    centre: Centre = "none",
    by_scene: bool = False,
) -> EvaluationResult:
    """Metrics of features, by name, and for each test video how many wrong neighbours come before
    the first right one.

    Args:
        protocols: ``retrieval``, ``silhouette``, both, or none for what goes with any:
            ``features/spread`` and the queries.
        rows: index rows ``[V]``; features: ``[V, D]`` by name, finite: ``intact`` of frames, and
            perhaps those of further orders, for retrieval.
        distance, centre: of retrieval.
        by_scene: with retrieval also retrieval by scene label, where every video has one.

    Raises:
        NotFiniteError: a distance is not finite.
    """
    labels, test = shards.column("label")[rows], is_test(shards, rows)
    scenes = shards.column("scene")[rows]
    search = _Search(features, test, distance, centre)
    hits = search.first_hits(labels)
    metrics = {"features/spread": spread(features["intact"][test])}
    if "retrieval" in protocols:
        metrics |= {f"retrieval/R@{k}": value for k, value in recall_at(hits, KS).items()}
        metrics |= search.across_orders(labels)
        if by_scene and all(scenes):
            metrics["retrieval/scene_R@1"] = recall_at(search.first_hits(scenes), (1,))[1]
    if "silhouette" in protocols:
        # The classes that are retrieved best, as the paper retrieves.
        nearest = _Search(features, test).first_hits(labels)
        table = silhouette_table(features["intact"][test], labels[test], nearest)
        metrics |= {f"silhouette/{count}": value for count, value in table.items()}
    return EvaluationResult(metrics, queries_of(shards, rows[test], hits))


class _Search:
    """Test videos among training videos, by features of one order or across two.

    Args:
        features: ``[V, D]`` by name; those of changed clips are not compared. test: ``[V]``.
    """

    def __init__(
        self,
        features: Features,
        test: NDArray[np.bool_],
        distance: Distance = "cosine",
        centre: Centre = "none",
    ) -> None:
        self.test, self.distance = test, distance
        self.features = {
            name: centred(part, test, centre)
            for name, part in features.items()
            if name == "intact" or name.startswith("order_")
        }

    def first_hits(
        self, names: NDArray, queries: str = "intact", gallery: str = "intact"
    ) -> NDArray[np.int64]:
        """For each test video how many wrong ones come before the first of its name ``[V]``."""
        test, q, g = self.test, self.features[queries], self.features[gallery]
        return first_hits(q[test], names[test], g[~test], names[~test], self.distance)

    def across_orders(self, labels: NDArray) -> dict[str, float]:
        """R@1 of every order among every other, but for frames among frames."""
        return {
            f"retrieval/{_metric_of_orders(queries, gallery)}": recall_at(
                self.first_hits(labels, queries, gallery), (1,)
            )[1]
            for queries in self.features
            for gallery in self.features
            if (queries, gallery) != ("intact", "intact")
        }


def _metric_of_orders(queries: str, gallery: str) -> str:
    """``order_1`` for velocity among velocity, ``order_0_in_1`` for frames among velocity."""
    q, g = (name.removeprefix("order_").replace("intact", "0") for name in (queries, gallery))
    return f"order_{q}_R@1" if q == g else f"order_{q}_in_{g}_R@1"
