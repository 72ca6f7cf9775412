"""How much of a representation is motion: retrieval of frozen, reversed and shuffled clips.

Ours; no paper has it.

    frozen      every frame of every clip, of queries and gallery, is the clip's middle frame: what
                is left is appearance
    reversed    the queries' frames run backwards, the gallery's forwards
    shuffled    the queries' frames are in random order, the gallery's as they were

``motion``, the one number, is R@1 of intact clips less R@1 of frozen ones: how many queries are
found only because something moves.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import nn

from vididi.data.stream import Batch
from vididi.draws import Use, permutation
from vididi.evaluation.features import Features, FeatureView
from vididi.evaluation.retrieval import retrieval_recall
from vididi.finite import check_finite

# (batch, seed) -> its clips [B, K, N, H, W, 3], with other frames
Change = Callable[[Batch, int], NDArray[np.uint8]]


def frozen(batch: Batch, seed: int) -> NDArray[np.uint8]:
    """Each frame of a clip is its middle one."""
    middle = batch.clips.shape[2] // 2
    return np.repeat(batch.clips[:, :, middle : middle + 1], batch.clips.shape[2], axis=2)


def reversed_in_time(batch: Batch, seed: int) -> NDArray[np.uint8]:
    """Each clip backwards."""
    return np.ascontiguousarray(batch.clips[:, :, ::-1])


def shuffled(batch: Batch, seed: int) -> NDArray[np.uint8]:
    """Each clip in an order of its own, which follows from the seed, the video and the clip."""
    clips = np.empty_like(batch.clips)
    for i, row in enumerate(batch.rows):
        for k in range(clips.shape[1]):
            clips[i, k] = batch.clips[
                i, k, permutation(clips.shape[2], Use.FRAME_ORDER, seed, int(row), k)
            ]
    return clips


CHANGES: dict[str, Change] = {
    "intact": lambda batch, seed: batch.clips,
    "frozen": frozen,
    "reversed": reversed_in_time,
    "shuffled": shuffled,
}


class ChangedView(FeatureView):
    """As a Measure it gives the features of a batch under each of CHANGES."""

    def __call__(self, encoder: nn.Module, batch: Batch) -> Features:
        """Features ``[B, D]`` by change."""
        return {
            name: self.features(encoder, batch, change(batch, self.seed))
            for name, change in CHANGES.items()
        }


def dynamics(
    features: dict[str, NDArray], labels: NDArray, scenes: NDArray, test: NDArray[np.bool_]
) -> dict[str, float]:
    """R@1 under each change, and ``motion``.

    Where every video has a scene label, also R@1 by scene, and by class less that by scene.

    Args:
        features: ``[V, D]`` by change; labels, scenes: ``[V]``; test: ``[V]``, which videos are
            queries.

    Raises:
        NotFiniteError: a feature is not finite.
    """
    check_finite("dynamics", **features)

    def recall(queries: str, gallery: str, names: NDArray = labels) -> float:
        return retrieval_recall(
            features[queries][test], names[test], features[gallery][~test], names[~test], (1,)
        )[1]

    recalls = {
        "intact_R@1": recall("intact", "intact"),
        "frozen_R@1": recall("frozen", "frozen"),
        "reversed_R@1": recall("reversed", "intact"),
        "shuffled_R@1": recall("shuffled", "intact"),
    }
    recalls["motion"] = recalls["intact_R@1"] - recalls["frozen_R@1"]
    if all(scenes):
        recalls["scene_R@1"] = recall("intact", "intact", scenes)
        recalls["class_over_scene"] = recalls["intact_R@1"] - recalls["scene_R@1"]
    return {f"dynamics/{name}": value for name, value in recalls.items()}
