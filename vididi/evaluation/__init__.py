"""Evaluation of frozen encoders. Retrieval and silhouette need numpy only."""

from vididi.evaluation.retrieval import first_hits, recall_at, retrieval_recall
from vididi.evaluation.silhouette import silhouette, silhouette_table

__all__ = ["first_hits", "recall_at", "retrieval_recall", "silhouette", "silhouette_table"]
