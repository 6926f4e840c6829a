"""Is the interval of a drop the one that its queries give?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vbench.metrics.paired import bootstrap_drop
from vbench.record import Record
from vbench.reports.verify.queries import Queries

_METRICS = ("r1", "map")
#: Of the interval's width: two bootstraps of the same queries differ by less.
_TOLERANCE = 0.15
_NORMAL = 1.959964


def stated(record: Record) -> Iterator[str]:
    """There is an interval for Rank-1 and mAP, in order, and the drop lies in it."""
    if record.drop_interval.keys() != set(_METRICS):
        yield f"drop_interval: of {', '.join(sorted(record.drop_interval)) or 'nothing'}; needs r1 and map"
        return
    for metric, (low, high) in record.drop_interval.items():
        drop = record.mean("clean", metric) - record.mean("adversarial", metric)
        slack = _TOLERANCE * (high - low) + 1e-6
        if not -1 <= low <= high <= 1:
            yield f"drop_interval.{metric}: [{low:.6g}, {high:.6g}] is no interval of a drop"
        elif not low - slack <= drop <= high + slack:
            yield f"drop_interval.{metric}: [{low:.6g}, {high:.6g}] does not hold the drop, {drop:.6g}"


def given(record: Record, found: Queries) -> Iterator[str]:
    """The interval is, but for chance, that of the queries.

    Most are settled by the normal approximation, which costs nothing; the bootstrap is drawn again for those
    that it does not confirm.
    """
    pairs = {
        "r1": tuple(
            np.where(rank == 0, np.nan, rank == 1) for rank in (found.clean_rank, found.adversarial_rank)
        ),
        "map": (found.clean_ap.astype(float), found.adversarial_ap.astype(float)),
    }
    if all(
        _near(record.drop_interval[metric], _approximate(*pairs[metric]), pairs[metric][0].shape[1])
        for metric in _METRICS
    ):
        return
    # As the run did it: both metrics from one generator, in this order.
    generator = np.random.default_rng(record.config["seed"])
    for metric in _METRICS:
        again, said = bootstrap_drop(*pairs[metric], generator), record.drop_interval[metric]
        if not _near(said, again, pairs[metric][0].shape[1]):
            yield (
                f"drop_interval.{metric}: [{said[0]:.4f}, {said[1]:.4f}], its queries give "
                f"[{again[0]:.4f}, {again[1]:.4f}]"
            )


def _approximate(clean: np.ndarray, adversarial: np.ndarray) -> tuple[float, float]:
    drop = clean - adversarial
    valid = ~np.isnan(drop)
    counted = valid.sum(1, keepdims=True)
    drop = np.where(valid, drop, 0.0)
    mean = drop.sum(1, keepdims=True) / counted
    # What each query adds to the mean over trials, were it there once more.
    influence = (np.where(valid, drop - mean, 0.0) / counted).mean(0)
    half = _NORMAL * float(np.sqrt((influence**2).sum()))
    centre = float(mean.mean())
    return centre - half, centre + half


def _near(said: tuple[float, float], found: tuple[float, float], queries: int) -> bool:
    slack = _TOLERANCE * (found[1] - found[0]) + 1 / (2 * queries)
    return all(abs(one - other) <= slack for one, other in zip(said, found, strict=True))
