"""Rows of tables from records: before, after, drop, interval, best rows, p-values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, mean, stdev
from typing import Any

import numpy as np

from vbench.core.errors import BadInput, unknown_name
from vbench.core.text import count_of
from vbench.core.threat import budget_text
from vbench.metrics.statistics import flip_pvalue
from vbench.records.record import MemberRecord, Record, TrialMetrics
from vbench.reports.distinct import seeds_key, victim_key

METRICS = ("r1", "r10", "map", "minp")

HEADINGS = {"r1": "Rank-1", "r5": "Rank-5", "r10": "Rank-10", "r20": "Rank-20", "map": "mAP", "minp": "mINP"}

KNOWN_METRICS = (*HEADINGS, "asr")

#: The attack in the row of what a victim reaches before any.
CLEAN = "(clean)"

#: The attack in the row of :func:`random_order`.
RANDOM = "random order"


@dataclass(frozen=True)
class Setting:
    """The facts that rows of a table share; results that differ in any of them never share a column."""

    data: str
    synthetic: bool
    protocol: str
    fingerprint: str
    threat: str
    trials: int

    @property
    def title(self) -> str:
        """The line above a table."""
        badge = "SYNTHETIC " if self.synthetic else ""
        return f"{badge}{self.protocol} ({count_of(self.trials, 'trial')})   {self.threat}"


@dataclass(frozen=True)
class Row:
    """One line of a table, in percent. ``seeds`` runs were averaged; ``spread`` is their standard deviation.

    ``control`` rows belong to the attack above them: its controls, or the members of a battery, each with the
    share of queries and of lost Rank-1 that it wins. ``knowledge`` is what the attacker knew; ``evaluations``
    are gradient evaluations, per image or per fit of a universal attack, and queries of a black-box attack.
    """

    victim: str
    attack: str
    knowledge: str
    before: dict[str, float]
    after: dict[str, float]
    spread: dict[str, float] = field(default_factory=dict)
    asr: float | None = None
    evaluations: str = ""
    seconds: float = 0.0
    seeds: int = 1
    control: bool = False
    #: Trials of each seed, clean and attacked; the records of the row (none for a control).
    clean: Sequence[list[TrialMetrics]] = ()
    attacked: Sequence[list[TrialMetrics]] = ()
    records: Sequence[Record] = ()


def setting(record: Record) -> Setting:
    """The setting of a record."""
    data, threat = record.config["dataset"], budget(record.config["threat"])
    # A run with --queries: what it measured is not the protocol.
    fewer = f", {data['queries']} queries" if "queries" in data else ""
    protocol, trials = f"{record.protocol}{fewer}", len(record.clean)
    return Setting(data["name"], record.synthetic, protocol, data["fingerprint"], threat, trials)


def budget(threat: Mapping[str, Any]) -> str:
    """A short text for the card of a threat model."""
    norm = {"linf": "L_inf", "l2": "L2"}.get(threat["norm"], threat["norm"])
    side = "both sides" if threat["side"] == "both" else f"{threat['side']} side"
    depth = "8-bit" if threat["quantize"] else "float"
    return f"{norm} {budget_text(threat)}, {side}, {depth}"


def random_order(records: Sequence[Record]) -> list[Row]:
    """The row of what a random order of the gallery is expected to reach, whatever an attack does.

    There is none for records of versions that did not store it.
    """
    known = next((record.chance for record in records if record.chance), {})
    expected = {metric: 100 * value for metric, value in known.items()}
    return [Row("", RANDOM, "", expected, expected)] if expected.keys() >= HEADINGS.keys() else []


def chance_columns(records: Iterable[Record]) -> dict[str, dict[str, object]]:
    """The same for flat rows: columns by record id."""
    return {
        record.id: {f"{metric}_chance": value for metric, value in record.chance.items()}
        for record in records
    }


def grouped(records: Iterable[Record]) -> dict[Setting, list[list[Record]]]:
    """Records of each setting, in groups that differ only in their seed."""
    found: dict[Setting, dict[tuple[str, ...], list[Record]]] = {}
    for record in records:
        found.setdefault(setting(record), {}).setdefault(seeds_key(record), []).append(record)
    return {where: list(groups.values()) for where, groups in found.items()}


def rows_of(records: list[Record]) -> list[Row]:
    """The row of records that differ only in their seed, followed by the rows of its controls and members."""
    first = records[0]
    before = _mean_of([record.clean for record in records])
    rows = [
        Row(
            first.victim_name,
            _attack_name(records),
            _knowledge(first),
            before,
            _mean_of([record.adversarial for record in records]),
            _spread_of([record.adversarial for record in records]),
            _mean_asr(records),
            _evaluations(first.universal, first.cost),
            fmean(_seconds(record.cost) for record in records),
            len(records),
            clean=[record.clean for record in records],
            attacked=[record.adversarial for record in records],
            records=records,
        )
    ]
    clean = rows[0].clean
    for control in first.controls:
        trials = [same.trials for record in records for same in record.controls if same.name == control.name]
        spread = _spread_of(trials)
        rows.append(
            Row(
                "",
                control.name,
                "",
                before,
                _mean_of(trials),
                spread,
                seeds=len(trials),
                control=True,
                clean=clean,
                attacked=trials,
            )
        )
    for member in first.members:
        same = [one for record in records for one in record.members if one.label == member.label]
        rows.append(_member(same, rows[0]))
    return rows


def _member(found: list[MemberRecord], battery: Row) -> Row:
    first, trials = found[0], [member.trials for member in found]
    share = f"wins {100 * fmean(member.won for member in found):.1f} %"
    lost = [member.won_lost for member in found if member.won_lost is not None]
    if lost:
        share += f", of lost Rank-1 {100 * fmean(lost):.1f} %"
    return Row(
        "",
        f"{first.label}: {share}",
        ", ".join([_scope(first.universal), *first.knowledge]),
        battery.before,
        _mean_of(trials),
        _spread_of(trials),
        _mean_asr(found),
        _evaluations(first.universal, first.cost),
        fmean(_seconds(member.cost) for member in found),
        len(found),
        control=True,
        clean=battery.clean,
        attacked=trials,
    )


def _mean_of(runs: list[list[TrialMetrics]]) -> dict[str, float]:
    return {metric: 100 * fmean(_trial_mean(trials, metric) for trials in runs) for metric in HEADINGS}


def _spread_of(runs: list[list[TrialMetrics]]) -> dict[str, float]:
    if len(runs) < 2:
        return {}
    return {metric: 100 * stdev(_trial_mean(trials, metric) for trials in runs) for metric in HEADINGS}


def _trial_mean(trials: list[TrialMetrics], metric: str) -> float:
    return fmean(getattr(trial, metric) for trial in trials)


def _mean_asr(records: Sequence[Record | MemberRecord]) -> float | None:
    rates = [record.asr for record in records if record.asr is not None]
    return 100 * fmean(rates) if rates else None


def _attack_name(records: list[Record]) -> str:
    """The attack's label; at feature level with whether the tampered system keeps its clean accuracy.

    Behind it, whether the loss that the attack is named for had no effect.
    """
    verdict = verdict_of(records)
    return ", ".join([f"{records[0].label} ({verdict})" if verdict else records[0].label, *idle(records)])


def idle(records: Sequence[Record]) -> list[str]:
    """What records say of a loss that had no effect, with how many seeds if not all say it."""
    found = Counter(text for one in records for text in set(one.warnings) if "inactive (" in text)
    every = len(records)
    return [text if n == every else f"{text} with {n} of {every} seeds" for text, n in found.items()]


def verdict_of(records: Sequence[Record]) -> str:
    """The verdict on a victim that an attacker changed, with how many seeds; empty for unmodified victims."""
    words: dict[bool | None, str] = {True: "stealthy", False: "destructive"}
    found = [record.verdict or words.get(record.stealthy, "") for record in records]
    counted = Counter(filter(None, found))
    *first, last = sorted(counted, reverse=True) or [""]
    several = [f"{name} with {counted[name]} of {len(records)} seeds" for name in first]
    return ", ".join([*several, f"else {last}" if first else last])


def _knowledge(record: Record) -> str:
    known = [what for what in record.knowledge if what != "evaluation"]
    transfer = [f"from {record.surrogate}"] if record.surrogate else []
    scope = _scope(record.universal)
    if record.members:
        less = f" (no {', '.join(record.left_out)})" if record.left_out else ""
        scope = f"evaluation: worst of {len(record.members)}{less}"
    return ", ".join([scope, *known, *transfer])


def _scope(universal: bool) -> str:
    return "universal" if universal else "per-image"


def _evaluations(universal: bool, cost: dict[str, float]) -> str:
    parts = []
    if universal or "fit_evaluations" in cost:
        parts.append(f"{cost.get('fit_evaluations', 0):.0f} a fit")
    if not universal:
        parts.append(f"{cost.get('evaluations_per_image', 0):.0f} an image")
    if cost.get("queries_per_image"):
        parts.append(f"{cost['queries_per_image']:.0f} queries")
    return " + ".join(parts)


def _seconds(cost: dict[str, float]) -> float:
    return cost.get("fit_seconds", 0.0) + cost.get("attack_seconds", 0.0)


def interval(row: Row, metric: str) -> tuple[float, float] | None:
    """95 % interval of the drop in percent points; None if a record of the row has none.

    With several seeds the bounds are averaged. The mean drop varies no more than single drops do on average
    (a standard deviation is subadditive), so this interval is not too narrow.
    """
    found = [record.drop_interval.get(metric) for record in row.records]
    if not found or None in found:
        return None
    low, high = (100 * mean(bounds) for bounds in zip(*found, strict=True))
    return low, high


def best(entries: Sequence[tuple[Setting, Row]], metric: str) -> set[int]:
    """Positions of the rows to print in bold.

    Rows are compared within a setting and victim, with equal knowledge and level, if there are at least two.
    Best is the lowest value after the attack, for ASR the highest. Ties: rows whose drop interval contains
    the best row's drop; without an interval, equal values at one decimal. Controls are not compared. Overlap
    of two intervals would give too many ties, because both attacks have the same queries.
    """
    rivals: dict[tuple[object, ...], list[int]] = {}
    for index, (where, row) in enumerate(entries):
        if row.records and _strength(row, metric) is not None:
            first = row.records[0]
            key = (where, victim_key(first), row.knowledge, first.level)
            rivals.setdefault(key, []).append(index)
    return {
        index
        for same in rivals.values()
        if len(same) > 1
        for index in _winners([entries[i][1] for i in same], same, metric)
    }


def _winners(rows: Sequence[Row], positions: Sequence[int], metric: str) -> list[int]:
    measured = [(strength, row) for row in rows if (strength := _strength(row, metric)) is not None]
    top = max(measured, key=lambda pair: pair[0])[1]
    found = []
    for position, row in zip(positions, rows, strict=True):
        own = interval(row, metric)
        tied = own[1] >= _drop(top, metric) if own else _shown(row, metric) == _shown(top, metric)
        if row is top or tied:
            found.append(position)
    return found


def _strength(row: Row, metric: str) -> float | None:
    return row.asr if metric == "asr" else -row.after[metric]


def _drop(row: Row, metric: str) -> float:
    return row.before[metric] - row.after[metric]


def _shown(row: Row, metric: str) -> str:
    return f"{_strength(row, metric):.1f}"


@dataclass(frozen=True)
class Change:
    """One metric in percent: "80.0", "20.0", "± 2.0", "60.0", "[55.0, 64.0]", "(75 %)".

    ``spread`` is the standard deviation over seeds of the value after the attack, empty for one seed;
    ``interval`` is empty if records have none, ``relative`` if the clean value is 0.
    """

    clean: str
    attacked: str
    spread: str
    drop: str
    interval: str
    relative: str


def change(row: Row, metric: str) -> Change:
    """The change of a metric other than ASR."""
    before, after = row.before[metric], row.after[metric]
    bounds = interval(row, metric)
    # Adding 0 turns -0.0 into 0.0.
    drop = round(before - after, 1) + 0.0
    return Change(
        f"{before:.1f}",
        f"{after:.1f}",
        f"± {row.spread[metric]:.1f}" if row.spread else "",
        f"{drop:.1f}",
        f"[{bounds[0]:.1f}, {bounds[1]:.1f}]" if bounds else "",
        f"({round(100 * (before - after) / before) + 0:d} %)" if before else "",
    )


DEPTHS = {"r1": 1, "r5": 5, "r10": 10, "r20": 20}


def tested_metric(metrics: Sequence[str]) -> str:
    """The first metric with per-query values in records: Rank-k or mAP. Raises BadInput if there is none."""
    for metric in metrics:
        if metric in DEPTHS or metric == "map":
            return metric
    raise BadInput(f"--versus tests queries, by {', '.join((*DEPTHS, 'map'))}; name one in --metrics")


def reference(records: Sequence[Record], attack: str) -> str:
    """The label for ``--versus``: a whole label, or the name of an attack with only one label.

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


@dataclass(frozen=True)
class Comparison:
    """A row against the reference attack: p, and its metric minus the reference's, below 0 if stronger."""

    p: float
    difference: float


def p_values(entries: Sequence[tuple[Setting, Row]], label: str, metric: str) -> list[Comparison | None]:
    """Each row against the row of attack ``label``: same setting, victim and surrogate.

    Two-sided sign-flip test (:func:`vbench.metrics.statistics.flip_pvalue`) of each query's contribution to
    ``metric``, mean over trials and over the seeds that both have; Holm's correction over the rows (Holm, A
    Simple Sequentially Rejective Multiple Test Procedure, 1979). A query is one observation: records do not
    store its identity. None for the attack itself and for records without per-query values.
    """
    others = {(where, *_rival(row)): row for where, row in entries if row.records and _label(row) == label}
    found: list[Comparison | None] = []
    for where, row in entries:
        other = others.get((where, *_rival(row))) if row.records and _label(row) != label else None
        found.append(_compare(row.records, other.records, metric) if other else None)
    return _holm(found)


def per_query(record: Record, metric: str, which: str = "adversarial") -> np.ndarray | None:
    """Each query's contribution to a metric of "clean" or "adversarial"; their sum is the record's mean."""
    packed = record.per_query.get(f"{which}_ap" if metric == "map" else f"{which}_rank")
    if packed is None:
        return None
    values = packed.unpack()
    if metric == "map":
        valid = ~np.isnan(values)
        values = np.where(valid, values, 0.0)
    else:
        valid = values > 0
        values = valid & (values <= DEPTHS[metric])
    return (values / np.maximum(valid.sum(1, keepdims=True), 1)).sum(0) / len(values)


def _compare(row: Sequence[Record], other: Sequence[Record], metric: str) -> Comparison | None:
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
    p = flip_pvalue(mean, np.arange(len(mean)), np.random.default_rng(0))
    return Comparison(p, float(mean.sum()))


def _holm(found: list[Comparison | None]) -> list[Comparison | None]:
    ranked = sorted((one.p, index, one) for index, one in enumerate(found) if one is not None)
    adjusted, largest = list(found), 0.0
    for rank, (p, index, one) in enumerate(ranked):
        largest = max(largest, min(1.0, p * (len(ranked) - rank)))
        adjusted[index] = replace(one, p=largest)
    return adjusted


def _rival(row: Row) -> tuple[object, ...]:
    record = row.records[0] if row.records else None
    return (victim_key(record), record.surrogate) if record else ()


def _label(row: Row) -> str:
    return row.records[0].label
