"""What every query adds to a metric of a run: the parts whose sum is the metric."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vbench.record import Record


def independent(record: Record) -> bool:
    """Whether chance of one query is none of another's: each image crafted on its own, the gallery clean."""
    return not record.universal and not record.members and record.config["threat"]["side"] == "query"


def drop_r1(record: Record) -> np.ndarray:
    """Parts of the drop in Rank-1, one a query; queries without a match add nothing."""
    clean, adversarial, valid = _ranks(record)
    return _mean_over_trials((clean == 1).astype(float) - (adversarial == 1), valid)


def drop_map(record: Record) -> np.ndarray:
    """Parts of the drop in mAP, one a query."""
    clean, adversarial = (record.per_query[f"{which}_ap"].unpack() for which in ("clean", "adversarial"))
    return _mean_over_trials(np.nan_to_num(clean - adversarial), _ranks(record)[2])


def lost(record: Record) -> np.ndarray:
    """Parts of the success rate: each query's lost hits of all hits there were."""
    clean, adversarial, valid = _ranks(record)
    hit = (clean == 1) & valid
    return (hit & (adversarial != 1)).sum(0) / max(hit.sum(), 1)


#: By name of the metric.
PARTS: dict[str, Callable[[Record], np.ndarray]] = {"drop_r1": drop_r1, "drop_map": drop_map, "asr": lost}


def _ranks(record: Record) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    clean, adversarial = (record.per_query[f"{which}_rank"].unpack() for which in ("clean", "adversarial"))
    return clean, adversarial, clean > 0


def _mean_over_trials(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Trials x queries to queries: what each adds to the mean over queries, then over trials."""
    share = valid / np.maximum(valid.sum(1, keepdims=True), 1)
    return (values * share).mean(0)
