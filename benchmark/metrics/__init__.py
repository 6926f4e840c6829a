"""Ranking metrics and paired statistics; what ranks needs torch, and only that is loaded when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vbench.metrics.ranking import RankMetrics, rank_embeddings, rank_metrics, ranking_distance
    from vbench.metrics.statistics import attack_success_rate, bootstrap_drop

__all__ = [
    "RankMetrics",
    "attack_success_rate",
    "bootstrap_drop",
    "rank_embeddings",
    "rank_metrics",
    "ranking_distance",
]

_HOMES = {
    "RankMetrics": "ranking",
    "attack_success_rate": "statistics",
    "bootstrap_drop": "statistics",
    "rank_embeddings": "ranking",
    "rank_metrics": "ranking",
    "ranking_distance": "ranking",
}


def __getattr__(name: str) -> Any:
    """Load a name from its module on first use, so that reports read records without torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
