"""Do the values of single queries give the stated figures?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vbench.errors import BadInput
from vbench.record import Record, TrialMetrics
from vbench.reports.verify.trials import DEPTHS, most_matches

_ARRAYS = {"clean_rank": "<i4", "clean_ap": "<f4", "adversarial_rank": "<i4", "adversarial_ap": "<f4"}
_MEMBER = {"member": "<i4"}
#: Average precisions are stored as 32-bit floats.
_ROUNDING = 1e-6
#: No gallery is deeper, and no identity has more images in one where the protocol does not say how many.
_DEEPEST = 100_000
_MANY_MATCHES = 1000


@dataclass(frozen=True)
class Queries:
    """The unpacked arrays of a record, trials x queries; ``member`` for batteries alone."""

    clean_rank: np.ndarray
    clean_ap: np.ndarray
    adversarial_rank: np.ndarray
    adversarial_ap: np.ndarray
    member: np.ndarray | None = None


def unpack(record: Record) -> Queries | list[str] | None:
    """The arrays, None where the record has none at all, or the reasons against them."""
    if not record.per_query:
        return None
    expected = {**_ARRAYS, **(_MEMBER if record.members else {})}
    if record.per_query.keys() != expected.keys():
        return [
            f"per_query: holds {', '.join(sorted(record.per_query))}; needs {', '.join(sorted(expected))}"
        ]
    shape = (len(record.clean), record.clean[0].queries + record.clean[0].skipped)
    arrays, reasons = {}, []
    for name, dtype in expected.items():
        packed = record.per_query[name]
        if packed.shape != shape or packed.dtype != dtype:
            reasons.append(
                f"per_query.{name}: {packed.dtype} of shape {packed.shape}, should be {dtype} of {shape}, "
                "trials x queries"
            )
            continue
        try:
            arrays[name] = packed.unpack()
        except BadInput as error:
            reasons.append(f"per_query.{name}: {error}")
    return reasons or Queries(**arrays)


def possible(record: Record, found: Queries) -> Iterator[str]:
    """Ranks and average precisions are such, of the same queries, and fit each other."""
    matches = most_matches(record)
    gone = found.clean_rank == 0
    for when in ("clean", "adversarial"):
        rank, precision = getattr(found, f"{when}_rank"), getattr(found, f"{when}_ap").astype(float)
        if (rank < 0).any() or ((rank == 0) != gone).any():
            yield f"per_query.{when}_rank: negative, or other queries without a match than clean_rank has"
            return
        if (np.isnan(precision) != gone).any():
            yield f"per_query.{when}_ap: NaN does not stand where {when}_rank is 0"
            return
        first, value = rank[~gone], precision[~gone]
        if (first > _DEEPEST).any():
            yield f"per_query.{when}_rank: {int(first.max())} is deeper than any gallery"
            return
        if ((value <= 0) | (value > 1)).any():
            yield f"per_query.{when}_ap: values outside (0, 1]"
            return
        low, high = _bounds(first, matches, record.protocol.startswith("regdb/"))
        odd = (value < low - _ROUNDING) | (value > high + _ROUNDING)
        if odd.any():
            one = int(np.flatnonzero(odd)[0])
            yield (
                f"per_query.{when}_ap: {int(odd.sum())} values that no first match at the rank of "
                f"{when}_rank allows, such as {value[one]:.4g} at rank {first[one]}"
            )


def given(record: Record, found: Queries) -> Iterator[str]:
    """Every figure of every trial is what its queries give."""
    matches = most_matches(record)
    for when in ("clean", "adversarial"):
        rank, precision = getattr(found, f"{when}_rank"), getattr(found, f"{when}_ap").astype(float)
        yield from _trials(when, getattr(record, when), rank, precision, matches)
    hits = found.clean_rank == 1
    rate = float((found.adversarial_rank[hits] > 1).mean()) if hits.any() else None
    if _differ(record.asr, rate):
        yield f"asr: {record.asr}, its queries give {rate}"


def _trials(
    when: str,
    trials: Sequence[TrialMetrics],
    rank: np.ndarray,
    precision: np.ndarray,
    matches: int | None,
) -> Iterator[str]:
    valid = rank > 0
    counted = valid.sum(1)
    wrong = [
        f"{when}[{index}].{name}: {getattr(trial, name)}, its queries give {count}"
        for index, trial in enumerate(trials)
        for name, count in (("queries", counted[index]), ("skipped", rank.shape[1] - counted[index]))
        if getattr(trial, name) != count
    ]
    if wrong:
        yield from wrong
        return

    def per_trial(values: np.ndarray) -> np.ndarray:
        return np.where(valid, values, 0.0).sum(1) / counted

    expected = {name: per_trial(rank <= depth) for name, depth in DEPTHS.items()}
    expected["map"] = per_trial(precision)
    for name, values in expected.items():
        for index, trial in enumerate(trials):
            if abs(getattr(trial, name) - values[index]) > _ROUNDING:
                said = getattr(trial, name)
                yield f"{when}[{index}].{name}: {said:.6f}, its queries give {values[index]:.6f}"
    if matches is None:
        return
    # Per query m matches end at rank m / INP; m is not stored, the most that there can be gives bounds.
    low = per_trial(np.maximum(0, 1 - matches * (1 - precision)))
    high = per_trial(matches / np.maximum(1, rank + matches - 1))
    for index, trial in enumerate(trials):
        if not low[index] - _ROUNDING <= trial.minp <= high[index] + _ROUNDING:
            bounds = f"[{low[index]:.6f}, {high[index]:.6f}]"
            yield f"{when}[{index}].minp: {trial.minp:.6f}, its queries leave {bounds}"


def _bounds(first: np.ndarray, matches: int | None, by_image: bool) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest average precision for a first match at a rank.

    ``matches``: the most images of one identity in a gallery. A rank over identities is no deeper than that
    over images, and rank 1 is the same of both.
    """
    most = matches or _MANY_MATCHES
    # The mean of i / (rank + i - 1) over i = 1 .. most: nothing but matches from the first one on.
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, int(first.max(initial=1)) + most + 1))])
    high = 1 - (first - 1) / most * (harmonic[first + most - 1] - harmonic[first - 1])
    if matches is None:
        return np.zeros(len(first)), high
    low = 1 / (matches * first)
    return (low if by_image else np.where(first == 1, low, 0.0)), high


def _differ(stated: float | None, found: float | None) -> bool:
    if stated is None or found is None:
        return stated is not found
    return abs(stated - found) > _ROUNDING
