"""Checks that the numbers of trials, queries, controls and members are consistent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean

import numpy as np

from vbench.core.errors import BadInput
from vbench.data.protocols import Protocol
from vbench.records.record import Record, TrialMetrics, loses
from vbench.reports.rows import DEPTHS
from vbench.reports.verify.configuration import declared_attack, protocol_of, queries_of, trial_names

#: More queries than any data set has; limits the size of unpacked arrays.
_MOST_QUERIES = 100_000

_MOST_TRIALS = 100

_TRIAL_ROUNDING = 1e-9


def every_list(record: Record) -> Iterator[tuple[str, Sequence[TrialMetrics]]]:
    """Every list of trials in a record, with the name of its field."""
    yield "clean", record.clean
    yield "adversarial", record.adversarial
    for index, control in enumerate(record.controls):
        if record.level == "model" and control.name.startswith("within "):
            # Each image of a modality is a query there.
            continue
        yield f"controls[{index}].trials", control.trials
    for index, member in enumerate(record.members):
        yield f"members[{index}].trials", member.trials


def check_trial_lists(record: Record) -> Iterator[str]:
    """Every list has the trials of the protocol, over the same queries."""
    protocol = protocol_of(record)
    # A data set that is not vbench's own has the trials of its clean ranking, each once.
    own = dict.fromkeys(trial.trial for trial in record.clean)
    expected = trial_names(protocol) if protocol else list(own)
    if not 0 < len(expected) <= _MOST_TRIALS:
        yield f"clean: {len(expected)} trials"
        return
    for where, trials in every_list(record):
        found = [trial.trial for trial in trials]
        if found != expected:
            yield f"{where}: trials {_some(found)}, {record.protocol} has {_some(expected)}"
            continue
        yield from _counted(where, trials, record, protocol)


def _counted(
    where: str, trials: Sequence[TrialMetrics], record: Record, protocol: Protocol | None
) -> Iterator[str]:
    total = record.clean[0].queries + record.clean[0].skipped
    published = None if record.synthetic or protocol is None else queries_of(protocol)
    for index, (trial, clean) in enumerate(zip(trials, record.clean, strict=False)):
        here = f"{where}[{index}]"
        if trial.queries < 1 or trial.skipped < 0 or trial.queries + trial.skipped > _MOST_QUERIES:
            yield f"{here}.queries: {trial.queries} with {trial.skipped} skipped"
        elif (trial.queries, trial.skipped) != (clean.queries, clean.skipped):
            stated = f"{trial.queries} queries and {trial.skipped} skipped"
            yield f"{here}.queries: {stated}, clean has {clean.queries} and {clean.skipped}"
        elif trial.queries + trial.skipped != total:
            answered = trial.queries + trial.skipped
            yield f"{here}.queries: {answered} with those skipped, the first trial has {total}"
        elif protocol is not None and published is not None and total != published:
            yield (
                f"{here}.queries: {total} with those skipped, {protocol.layout} has {published}; "
                "is it synthetic data, or a part of the set?"
            )


def check_trials(record: Record) -> Iterator[str]:
    """Shares are multiples of one query, and the CMC never falls."""
    for where, trials in every_list(record):
        for index, trial in enumerate(trials):
            yield from _one(f"{where}[{index}]", trial)
    hits = sum(round(trial.r1 * trial.queries) for trial in record.clean)
    rates = {"asr": record.asr, **{f"members[{i}].asr": one.asr for i, one in enumerate(record.members)}}
    for where, rate in rates.items():
        if (rate is None) != (hits == 0):
            yield f"{where}: {rate}, with {hits} clean queries at Rank-1"
        elif rate is not None:
            yield from _share(where, rate, hits)


def _one(where: str, trial: TrialMetrics) -> Iterator[str]:
    for name in (*DEPTHS, "tied_share"):
        yield from _share(f"{where}.{name}", getattr(trial, name), trial.queries)
    for name in ("map", "minp"):
        # Every query that counts has a match.
        if not 0 < getattr(trial, name) <= 1 + _TRIAL_ROUNDING:
            yield f"{where}.{name}: {getattr(trial, name):.6g} is outside (0, 1]"
    for low, high in pairwise(DEPTHS):
        if getattr(trial, low) > getattr(trial, high) + _TRIAL_ROUNDING:
            yield f"{where}.{high}: {getattr(trial, high):.6g} is below {low}, {getattr(trial, low):.6g}"


def _share(where: str, share: float, queries: int) -> Iterator[str]:
    count = share * queries
    if not 0 <= share <= 1 + _TRIAL_ROUNDING:
        yield f"{where}: {share:.6g} is outside [0, 1]"
    elif abs(count - round(count)) > 1e-6 * queries:
        yield f"{where}: {share:.8g} of {queries} queries is {count:.4f}, no whole number"


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(name[:40] for name in names[:3])}{' ...' if len(names) > 3 else ''} ({len(names)})"


_ARRAYS = {"clean_rank": "<i4", "clean_ap": "<f4", "adversarial_rank": "<i4", "adversarial_ap": "<f4"}

_MEMBER = {"member": "<i4"}

#: Average precisions are stored as 32-bit floats.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Queries:
    """The unpacked arrays of a record, trials x queries; ``member`` for batteries only."""

    clean_rank: np.ndarray
    clean_ap: np.ndarray
    adversarial_rank: np.ndarray
    adversarial_ap: np.ndarray
    member: np.ndarray | None = None


def _unpack(record: Record) -> Queries | list[str]:
    """The arrays, or the reasons against them."""
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


def check_queries(record: Record) -> Iterator[str]:
    """Ranks and average precisions are valid, and every metric and share follows from them."""
    found = _unpack(record)
    if isinstance(found, list):
        yield from found
        return
    gone = found.clean_rank == 0
    for when in ("clean", "adversarial"):
        rank, precision = getattr(found, f"{when}_rank"), getattr(found, f"{when}_ap").astype(float)
        if (rank < 0).any() or ((rank == 0) != gone).any():
            yield f"per_query.{when}_rank: negative, or other queries without a match than clean_rank has"
            return
        if (np.isnan(precision) != gone).any():
            yield f"per_query.{when}_ap: NaN does not stand where {when}_rank is 0"
            return
        if ((precision <= 0) | (precision > 1)).any():
            yield f"per_query.{when}_ap: values outside (0, 1]"
            return
        yield from _trials(when, getattr(record, when), rank, precision)
    hits = found.clean_rank == 1
    rate = float((found.adversarial_rank[hits] > 1).mean()) if hits.any() else None
    if _differ(record.asr, rate):
        yield f"asr: {record.asr}, its queries give {rate}"
    yield from _winners(record, found)


def _trials(
    when: str, trials: Sequence[TrialMetrics], rank: np.ndarray, precision: np.ndarray
) -> Iterator[str]:
    valid = rank > 0
    counted = valid.sum(1)
    values = {name: rank <= depth for name, depth in DEPTHS.items()} | {"map": precision}
    means = {name: np.where(valid, one, 0.0).sum(1) / np.maximum(counted, 1) for name, one in values.items()}
    expected = {"queries": counted, "skipped": rank.shape[1] - counted, **means}
    for name, found in expected.items():
        for index, trial in enumerate(trials):
            said = getattr(trial, name)
            if _differ(said, found[index]):
                yield f"{when}[{index}].{name}: {said:.6g}, its queries give {found[index]:.6g}"


def _differ(stated: float | None, found: float | None) -> bool:
    if stated is None or found is None:
        return stated is not found
    return abs(stated - found) > _ROUNDING


#: How far a drop may lie outside its interval, in widths of it: both metrics are bootstrapped.
_TOLERANCE = 0.15


def check_intervals(record: Record) -> Iterator[str]:
    """There is an ordered interval for Rank-1 and mAP, and it contains the drop."""
    if record.drop_interval.keys() != {"r1", "map"}:
        yield f"drop_interval: of {', '.join(sorted(record.drop_interval)) or 'nothing'}; needs r1 and map"
        return
    for metric, (low, high) in record.drop_interval.items():
        drop = record.mean("clean", metric) - record.mean("adversarial", metric)
        slack = _TOLERANCE * (high - low) + 1e-6
        if not -1 <= low <= high <= 1:
            yield f"drop_interval.{metric}: [{low:.6g}, {high:.6g}] is not an interval of a drop"
        elif not low - slack <= drop <= high + slack:
            yield f"drop_interval.{metric}: [{low:.6g}, {high:.6g}] does not contain the drop, {drop:.6g}"


#: Controls of an attack that changes features, in this order.
CONTROLS = (
    "modules, d = 0",
    "random modules, d = 0",
    "random modules + d",
    "d alone (pixel level)",
    "modules on the other side, d = 0",
)


#: Controls of an attack that trains the victim; the last is what its verdict compares with.
_TRAINED = (
    "tampered, clean images",
    "d on the untouched victim",
    "without AQAL: clean images",
    "without modules: clean images",
    "without perturbation: clean images",
    "without AQAL and perturbation: clean images",
)


def _check_trained(record: Record) -> Iterator[str]:
    """An attack that trains the victim has all its controls, and its verdict follows from them."""
    rank1 = {one.name: mean(trial.r1 for trial in one.trials) for one in record.controls if one.trials}
    lacking = [name for name in _TRAINED if name not in rank1]
    if lacking:
        yield f"controls: {', '.join(lacking)} are missing"
        return
    before, clean, attacked = rank1[_TRAINED[-1]], rank1[_TRAINED[0]], record.mean("adversarial", "r1")
    found = "sabotage" if loses(before, clean) else "backdoor" if loses(before, attacked) else "no effect"
    if record.verdict != found:
        yield f"verdict: {record.verdict or 'none'}, by its controls it is {found}"


def check_controls(record: Record) -> Iterator[str]:
    """A built-in attack that changes features has all its controls, and its verdict follows from them."""
    if record.level == "model" and declared_attack(record.config["attack"]["name"]):
        yield from _check_trained(record)
        return
    if record.verdict:
        yield f"verdict: {record.verdict}, but the attacker trained nothing"
    tampers, found = record.level == "feature", tuple(control.name for control in record.controls)
    if declared_attack(record.config["attack"]["name"]) and found != (CONTROLS if tampers else ()):
        expected = ", ".join(CONTROLS) if tampers else "none"
        yield f"controls: {', '.join(found)[:200] or 'none'}; at {record.level} level: {expected}"
    if not tampers and record.stealthy is not None:
        yield f"stealthy: {record.stealthy}, but at pixel level the victim is not tampered with"
    for control in record.controls:
        if tampers and control.name == CONTROLS[0] and control.trials:
            before, after = record.mean("clean", "r1"), mean(trial.r1 for trial in control.trials)
            if record.stealthy is loses(before, after):
                lost = 100 * (before - after)
                yield f"stealthy: {record.stealthy}, tampering alone costs {lost:.2f} points of Rank-1"


def check_members(record: Record) -> Iterator[str]:
    """A battery has all its members, each as declared, none stronger in mAP, and their shares add up."""
    if declared_attack(record.config["attack"]["name"]):
        yield from _as_declared(record)
    if not record.members:
        return
    for name in ("won", "won_lost"):
        shares = [getattr(member, name) for member in record.members]
        if name == "won_lost" and all(share is None for share in shares):
            continue
        if None in shares or min(shares) < 0 or abs(sum(shares) - 1) > _ROUNDING:
            yield f"members.{name}: {shares} are not shares that add up to one"
    for index, member in enumerate(record.members):
        own = mean(trial.map for trial in member.trials)
        if own < record.mean("adversarial", "map") - _ROUNDING:
            yield (
                f"members[{index}].trials: mAP {own:.6f} of {member.label} is below that of the worst case, "
                f"{record.mean('adversarial', 'map'):.6f}"
            )


def _as_declared(record: Record) -> Iterator[str]:
    expected = {}
    for card in record.config["attack"].get("members", []):
        declared = declared_attack(card["name"])
        if declared:
            known = declared.knowledge(card["settings"])
            expected[declared.label(card["settings"])] = (declared.facts["universal"], known)
    for name in record.left_out.keys() - expected:
        yield f"left_out: {name[:80]} is no member; there are {', '.join(expected) or 'none'}"
    wanted = [name for name in expected if name not in record.left_out]
    found = [member.label for member in record.members]
    if found != wanted:
        yield f"members: {', '.join(found)[:200] or 'none'}; should be {', '.join(wanted) or 'none'}"
        return
    for index, member in enumerate(record.members):
        if (member.universal, member.knowledge) != expected[member.label]:
            yield (
                f"members[{index}].knowledge: {member.knowledge}, universal {member.universal}; "
                f"{member.label} has {expected[member.label][1]}, universal {expected[member.label][0]}"
            )


def _winners(record: Record, found: Queries) -> Iterator[str]:
    """The shares that members win equal those computed from the queries."""
    if found.member is None:
        return
    count, member = len(record.members), found.member
    if ((member < 0) | (member >= count)).any():
        yield f"per_query.member: positions outside 0 .. {count - 1}"
        return
    if protocol_of(record) is None:
        # A data set that is not vbench's own may order its queries differently in each trial.
        return
    if (member != member[0]).any():
        yield "per_query.member: differs between trials; a query has one image in all trials"
        return
    matched = (found.clean_rank > 0).any(0)
    gone = (found.clean_rank == 1) & (found.adversarial_rank > 1)
    won = np.bincount(member[0][matched], minlength=count) / max(1, matched.sum())
    lost = np.bincount(member[gone], minlength=count) / gone.sum() if gone.any() else [None] * count
    for index, one in enumerate(record.members):
        for name, share in (("won", won[index]), ("won_lost", lost[index])):
            said = getattr(one, name)
            if _differ(said, share):
                yield f"members[{index}].{name}: {said}, the queries give {share}"


def check_cost(record: Record) -> Iterator[str]:
    """Costs are not negative, and values that are stated twice agree."""
    found = record.cost
    for name, value in found.items():
        if value < 0:
            yield f"cost.{name}: {value:.6g} is negative"
    if record.config["threat"]["side"] != "query" or "attack_evaluations" not in found:
        return
    images = record.clean[0].queries + record.clean[0].skipped
    each = found.get("evaluations_per_image", 0.0)
    if abs(each * images - found["attack_evaluations"]) > _ROUNDING * max(1.0, found["attack_evaluations"]):
        yield (
            f"cost.evaluations_per_image: {each:.6g} of {images} queries is not attack_evaluations, "
            f"{found['attack_evaluations']:.6g}"
        )
