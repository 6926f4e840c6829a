"""The metrics that a gate compares, and how they are displayed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vbench.records.record import Record, TrialMetrics

#: Verdicts for a rise and for a fall.
Words = tuple[str, str]

_HIGHER: Words = ("higher", "lower")

_STRONGER: Words = ("stronger", "weaker")


@dataclass(frozen=True)
class Metric:
    """``value``: computed from clean trials or a record; None if it has none.

    ``resolution``: largest effect of one query on the value, from the same source. ``scale`` and ``digits``
    are for display: shares in percent. ``words``: verdicts for a rise and for a fall. ``clean``: name of the
    victim's metric that this one is a drop of. ``share``: whether it is in [0, 1].
    """

    name: str
    label: str
    value: Callable[[Any], float | None]
    resolution: Callable[[Any], float]
    words: Words = _HIGHER
    scale: float = 1.0
    digits: int = 2
    clean: str = ""
    share: bool = False

    def reach(self, mean: float, clean: float | None) -> float:
        """Largest possible distance of a result from ``mean``; ``clean``: the victim's value for a drop.

        A drop can become 0 (no effect) or the whole clean value. A quantity without an upper limit can
        become 0, which must be detected.
        """
        if self.share or self.clean:
            most = 1.0 if self.share or clean is None else clean
            return max(mean, most - mean)
        return mean if mean > 0 else math.inf

    def shown(self, value: float, sign: str = "") -> str:
        """A value of this metric as displayed in tables; with ``sign`` "+" a rise has a sign, too."""
        return f"{self.scale * value:{sign}.{self.digits}f}"


def _mean(trials: Sequence[TrialMetrics], name: str) -> float:
    return sum(getattr(trial, name) for trial in trials) / len(trials)


def _one_query(trials: Sequence[TrialMetrics]) -> float:
    """One query as a share of the queries of a trial; the same query counts in every trial."""
    return 1 / _mean(trials, "queries")


def _one_hit(record: Record) -> float:
    """One query as a share of the queries with a correct clean Rank-1."""
    query = _one_query(record.clean)
    return query / max(_mean(record.clean, "r1"), query)


def _drop(name: str) -> Callable[[Record], float]:
    return lambda record: record.mean("clean", name) - record.mean("adversarial", name)


def _one_image(record: Record) -> float:
    return _one_query(record.clean) * record.size["l2"]


def _spent(name: str) -> Callable[[Record], float | None]:
    return lambda record: record.cost.get(name)


def _count(_: Record) -> float:
    """For counts, which are whole numbers up to the rounding of a mean."""
    return 1e-6


def _rounding(_: Record) -> float:
    return 0.01


def _half_a_level(_: Record) -> float:
    return 0.5


#: Metrics of a victim on a protocol, computed from its clean trials.
CLEAN = (
    Metric("r1", "clean Rank-1, %", lambda trials: _mean(trials, "r1"), _one_query, scale=100, share=True),
    Metric("map", "clean mAP, %", lambda trials: _mean(trials, "map"), _one_query, scale=100, share=True),
)

#: Metrics of an attack, computed from its record.
ATTACKED = (
    Metric(
        "drop_r1",
        "drop in Rank-1, points",
        _drop("r1"),
        lambda r: _one_query(r.clean),
        _STRONGER,
        100,
        clean="r1",
    ),
    Metric(
        "drop_map",
        "drop in mAP, points",
        _drop("map"),
        lambda r: _one_query(r.clean),
        _STRONGER,
        100,
        clean="map",
    ),
    Metric("asr", "ASR, %", lambda record: record.asr, _one_hit, _STRONGER, 100, share=True),
    Metric("l2", "L2 of the change", lambda record: record.size.get("l2"), _one_image, digits=3),
    Metric(
        "linf",
        "largest change, levels",
        lambda record: record.size.get("linf_levels"),
        _half_a_level,
        digits=1,
    ),
    Metric("asked", "largest change handed over, budgets", lambda r: r.size.get("asked"), _rounding),
    Metric("evaluations", "gradients an image", _spent("evaluations_per_image"), _count, digits=1),
    Metric("fit_evaluations", "gradients a fit", _spent("fit_evaluations"), _count, digits=0),
    Metric("queries", "queries an image", _spent("queries_per_image"), _count, digits=1),
)

METRICS = {metric.name: metric for metric in (*CLEAN, *ATTACKED)}

#: The metrics of an attack's strength.
STRENGTH = ("drop_r1", "drop_map", "asr")


def independent(record: Record) -> bool:
    """Whether queries have independent random numbers: each image crafted on its own, the gallery clean."""
    return not record.universal and not record.members and record.config["threat"]["side"] == "query"


def drop_r1(record: Record) -> np.ndarray:
    """Terms of the drop in Rank-1, one per query; 0 for queries without a match."""
    clean, adversarial, valid = _ranks(record)
    return _mean_over_trials((clean == 1).astype(float) - (adversarial == 1), valid)


def drop_map(record: Record) -> np.ndarray:
    """Terms of the drop in mAP, one per query."""
    clean, adversarial = (record.per_query[f"{which}_ap"].unpack() for which in ("clean", "adversarial"))
    return _mean_over_trials(np.nan_to_num(clean - adversarial), _ranks(record)[2])


def lost(record: Record) -> np.ndarray:
    """Terms of the success rate, one per query: its lost correct matches over all correct clean matches."""
    clean, adversarial, valid = _ranks(record)
    hit = (clean == 1) & valid
    return (hit & (adversarial != 1)).sum(0) / max(hit.sum(), 1)


#: Metric name -> the function that gives its terms per query.
PARTS: dict[str, Callable[[Record], np.ndarray]] = {"drop_r1": drop_r1, "drop_map": drop_map, "asr": lost}


def _ranks(record: Record) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    clean, adversarial = (record.per_query[f"{which}_rank"].unpack() for which in ("clean", "adversarial"))
    return clean, adversarial, clean > 0


def _mean_over_trials(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Trials x queries -> queries: each one's term in the mean over valid queries, then over trials."""
    share = valid / np.maximum(valid.sum(1, keepdims=True), 1)
    return (values * share).mean(0)
