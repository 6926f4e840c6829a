"""Ranking metrics and paired statistics, loaded on first use; only the ranking imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vbench.core import lazy

if TYPE_CHECKING:
    from vbench.metrics.ranking import RankMetrics, chance, rank_embeddings, rank_metrics, ranking_distance
    from vbench.metrics.statistics import attack_success_rate, bootstrap_drop

__all__ = [
    "RankMetrics",
    "attack_success_rate",
    "bootstrap_drop",
    "chance",
    "rank_embeddings",
    "rank_metrics",
    "ranking_distance",
]

_HOMES = {
    "RankMetrics": "ranking",
    "attack_success_rate": "statistics",
    "bootstrap_drop": "statistics",
    "chance": "ranking",
    "rank_embeddings": "ranking",
    "rank_metrics": "ranking",
    "ranking_distance": "ranking",
}


__getattr__ = lazy(__name__, _HOMES)
