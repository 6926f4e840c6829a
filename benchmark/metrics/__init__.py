"""Ranking metrics and paired statistics."""

from vbench.metrics.embeddings import rank_embeddings, ranking_distance
from vbench.metrics.paired import attack_success_rate, bootstrap_drop
from vbench.metrics.ranking import rank_metrics
from vbench.metrics.result import RankMetrics

__all__ = [
    "RankMetrics",
    "attack_success_rate",
    "bootstrap_drop",
    "rank_embeddings",
    "rank_metrics",
    "ranking_distance",
]
