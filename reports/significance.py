"""Is one attack stronger than another? A paired test on the queries that both attacked.

A test needs a pair, and which pair matters only the reader knows, so it is asked for: ``--versus uap`` adds
one column with the p of each row against that attack on the same victim. All pairs at once would be many
tests that nobody asked and no table could show.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vbench.errors import BadInput, unknown_name
from vbench.metrics.flips import flip_pvalue
from vbench.record import Record
from vbench.reports.rows import HEADINGS, Row, Setting, victim_key

_DEPTHS = {"r1": 1, "r5": 5, "r10": 10, "r20": 20}


def tested_metric(metrics: Sequence[str]) -> str:
    """The first metric that records keep of every query: Rank-k or mAP. Raises BadInput if there is none."""
    for metric in metrics:
        if metric in _DEPTHS or metric == "map":
            return metric
    raise BadInput(f"--versus tests queries, by {', '.join((*_DEPTHS, 'map'))}; name one in --metrics")


def reference(records: Sequence[Record], attack: str) -> str:
    """The label that ``--versus`` means: a whole label, or a name that only one label has.

    Raises BadInput for an attack without a record, and for a name that several settings share.
    """
    labels = list(dict.fromkeys(record.label for record in records))
    if attack in labels:
        return attack
    named = list(dict.fromkeys(r.label for r in records if r.config["attack"]["name"] == attack))
    if not named:
        raise unknown_name("attack of --versus", attack, labels)
    if len(named) > 1:
        raise BadInput(f"--versus {attack} could be {' or '.join(named)}; name one of them")
    return named[0]


def p_values(entries: Sequence[tuple[Setting, Row]], label: str, metric: str) -> list[float | None]:
    """p of each row against the row of attack ``label``: same setting, victim and surrogate.

    Two-sided sign-flip test (:func:`vbench.metrics.flips.flip_pvalue`) of what each query adds to ``metric``,
    mean over trials and over the seeds that both have; Holm's correction over the rows (Holm, A Simple
    Sequentially Rejective Multiple Test Procedure, 1979). A query is one observation: records do not say
    whose image it is. None for the attack itself and where a record keeps no queries.
    """
    others = {(where, *_who(row)): row for where, row in entries if row.records and _label(row) == label}
    found: list[float | None] = []
    for where, row in entries:
        other = others.get((where, *_who(row))) if row.records and _label(row) != label else None
        found.append(_p(row.records, other.records, metric) if other else None)
    return _holm(found)


def per_query(record: Record, metric: str) -> np.ndarray | None:
    """What each query adds to a metric after the attack: length queries, summing to the record's mean."""
    packed = record.per_query.get("adversarial_ap" if metric == "map" else "adversarial_rank")
    if packed is None:
        return None
    values = packed.unpack()
    if metric == "map":
        valid = ~np.isnan(values)
        values = np.where(valid, values, 0.0)
    else:
        valid = values > 0
        values = valid & (values <= _DEPTHS[metric])
    return (values / valid.sum(1, keepdims=True)).sum(0) / len(values)


def _p(row: Sequence[Record], other: Sequence[Record], metric: str) -> float | None:
    first, second = ({record.config["seed"]: record for record in same} for same in (row, other))
    differences = []
    for seed in first.keys() & second.keys():
        pair = per_query(first[seed], metric), per_query(second[seed], metric)
        if pair[0] is None or pair[1] is None or pair[0].shape != pair[1].shape:
            return None
        differences.append(pair[0] - pair[1])
    if not differences:
        return None
    mean = np.mean(differences, axis=0)
    return flip_pvalue(mean, np.arange(len(mean)), np.random.default_rng(0))


def _holm(found: list[float | None]) -> list[float | None]:
    ranked = sorted((p, index) for index, p in enumerate(found) if p is not None)
    adjusted, largest = list(found), 0.0
    for rank, (p, index) in enumerate(ranked):
        largest = max(largest, min(1.0, p * (len(ranked) - rank)))
        adjusted[index] = largest
    return adjusted


def _who(row: Row) -> tuple[object, ...]:
    record = row.records[0] if row.records else None
    return (victim_key(record), record.surrogate) if record else ()


def _label(row: Row) -> str:
    return row.records[0].label


def heading(label: str, metric: str) -> str:
    """Heading of the column."""
    return f"p vs {label} ({HEADINGS[metric]})"
