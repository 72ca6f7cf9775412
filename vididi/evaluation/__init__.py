"""Evaluation of frozen encoders. Retrieval, silhouette and AVA's mean average precision need numpy
only.
"""

from vididi.evaluation.ava_map import AvaMap, AvaRows, ava_map
from vididi.evaluation.retrieval import ABSENT, first_hits, recall_at, retrieval_recall
from vididi.evaluation.silhouette import silhouette, silhouette_table

__all__ = [
    "ABSENT",
    "AvaMap",
    "AvaRows",
    "ava_map",
    "first_hits",
    "recall_at",
    "retrieval_recall",
    "silhouette",
    "silhouette_table",
]
