"""Checks that the numbers of trials, queries, controls and members are consistent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from vbench.core.errors import BadInput
from vbench.data.protocols import Protocol
from vbench.metrics.statistics import bootstrap_drop
from vbench.records.record import STEALTH_LOSS, Record, TrialMetrics
from vbench.reports.verify.configuration import protocol_of, queries_of, trial_names
from vbench.reports.verify.declared import declared_attack

DEPTHS = {"r1": 1, "r5": 5, "r10": 10, "r20": 20}

#: More queries than any data set has; limits the size of unpacked arrays.
_MOST_QUERIES = 100_000

_MOST_TRIALS = 100

_TRIAL_ROUNDING = 1e-9

_CAMERAS: Mapping[str, Mapping[str | None, int]] = {
    "sysu": {"all": 4, "indoor": 2},
    "llcm": {"ir2vis": 9, "vis2ir": 8},
}


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


def most_matches(record: Record) -> int | None:
    """Most gallery images of one identity; None if the protocol does not determine it."""
    protocol = protocol_of(record)
    if protocol is None:
        return None
    if protocol.layout == "regdb":
        return None if record.synthetic else 10
    if protocol.layout == "llcm":
        return _CAMERAS["llcm"][protocol.direction]
    cameras = _CAMERAS["sysu"][protocol.mode] if protocol.direction == "ir2vis" else 2
    return cameras * protocol.shots_per_camera


def check_trial_lists(record: Record) -> Iterator[str]:
    """Every list has the trials of the protocol, over the same queries."""
    protocol = protocol_of(record)
    expected = trial_names(protocol) if protocol else _own_names(record)
    if not 0 < len(expected) <= _MOST_TRIALS:
        yield f"clean: {len(expected)} trials"
        return
    for where, trials in every_list(record):
        found = [trial.trial for trial in trials]
        if found != expected:
            yield f"{where}: trials {_some(found)}, {record.protocol} has {_some(expected)}"
            continue
        yield from _counted(where, trials, record, protocol)


def _own_names(record: Record) -> list[str]:
    """The trials of a data set that is not vbench's own: those of the clean ranking, each once."""
    return list(dict.fromkeys(trial.trial for trial in record.clean))


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
    """Shares are multiples of one query, the CMC never falls, means are within their bounds."""
    matches = most_matches(record)
    for where, trials in every_list(record):
        for index, trial in enumerate(trials):
            yield from _one(f"{where}[{index}]", trial, matches)


def _one(where: str, trial: TrialMetrics, matches: int | None) -> Iterator[str]:
    for name in ("r1", "r5", "r10", "r20", "map", "minp", "tied_share"):
        value = getattr(trial, name)
        if not 0 <= value <= 1 + _TRIAL_ROUNDING:
            yield f"{where}.{name}: {value:.6g} is outside [0, 1]"
            return
    for name in ("r1", "r5", "r10", "r20", "tied_share"):
        count = getattr(trial, name) * trial.queries
        if abs(count - round(count)) > 1e-6 * max(1, trial.queries):
            stated = f"{getattr(trial, name):.8g} of {trial.queries} queries"
            yield f"{where}.{name}: {stated} is {count:.4f}, no whole number"
    for low, high in zip(("r1", "r5", "r10"), ("r5", "r10", "r20"), strict=True):
        if getattr(trial, low) > getattr(trial, high) + _TRIAL_ROUNDING:
            yield f"{where}.{high}: {getattr(trial, high):.6g} is below {low}, {getattr(trial, low):.6g}"
    for name in ("map", "minp"):
        if getattr(trial, name) <= 0:
            yield f"{where}.{name}: 0, but every query that counts has a match"
    if matches is None:
        return
    # A first match at rank 1 gives an AP of at least 1/m; an INP is m matches divided by the rank of the
    # last.
    if trial.map < trial.r1 / matches - _TRIAL_ROUNDING:
        yield f"{where}.map: {trial.map:.6g}, at least {trial.r1 / matches:.6g} with the stated r1"
    if trial.minp > matches * trial.map + _TRIAL_ROUNDING:
        yield f"{where}.minp: {trial.minp:.6g}, at most {matches * trial.map:.6g} with the stated map"


def check_success_rate(record: Record) -> Iterator[str]:
    """The success rate is a multiple of one query, and possible with Rank-1 before and after."""
    yield from _rate("asr", record.asr, record.clean, record.adversarial)
    for index, member in enumerate(record.members):
        yield from _rate(f"members[{index}].asr", member.asr, record.clean, member.trials)


def _rate(
    where: str, asr: float | None, clean: Sequence[TrialMetrics], attacked: Sequence[TrialMetrics]
) -> Iterator[str]:
    before, after = ([round(trial.r1 * trial.queries) for trial in trials] for trials in (clean, attacked))
    hits = sum(before)
    if not hits or asr is None:
        if (asr is None) != (hits == 0):
            yield f"{where}: {asr}, with {hits} clean queries at Rank-1"
        return
    lost = asr * hits
    least = sum(max(0, b - a) for b, a in zip(before, after, strict=True))
    most = sum(min(b, t.queries - a) for b, a, t in zip(before, after, attacked, strict=True))
    if abs(lost - round(lost)) > 1e-6 * hits:
        yield f"{where}: {asr:.8g} of {hits} queries is {lost:.4f}, no whole number"
    elif not least <= round(lost) <= most:
        yield f"{where}: {asr:.6g}, r1 before and after leave [{least / hits:.6g}, {most / hits:.6g}]"


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(name[:40] for name in names[:3])}{' ...' if len(names) > 3 else ''} ({len(names)})"


_ARRAYS = {"clean_rank": "<i4", "clean_ap": "<f4", "adversarial_rank": "<i4", "adversarial_ap": "<f4"}

_MEMBER = {"member": "<i4"}

#: Average precisions are stored as 32-bit floats.
_ROUNDING = 1e-6

#: Largest gallery, and most images of one identity if the protocol does not determine it.
_DEEPEST = 100_000

_MANY_MATCHES = 1000


@dataclass(frozen=True)
class Queries:
    """The unpacked arrays of a record, trials x queries; ``member`` for batteries only."""

    clean_rank: np.ndarray
    clean_ap: np.ndarray
    adversarial_rank: np.ndarray
    adversarial_ap: np.ndarray
    member: np.ndarray | None = None


def unpack(record: Record) -> Queries | list[str] | None:
    """The arrays, None if the record has none at all, or the reasons against them."""
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


def check_queries(record: Record, found: Queries) -> Iterator[str]:
    """Ranks and average precisions are valid, of the same queries, and consistent."""
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


def recompute_metrics(record: Record, found: Queries) -> Iterator[str]:
    """Every metric of every trial equals the one computed from its queries."""
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
    # Per query the last of m matches is at rank m / INP; m is not stored, but its maximum gives bounds.
    low = per_trial(np.maximum(0, 1 - matches * (1 - precision)))
    high = per_trial(matches / np.maximum(1, rank + matches - 1))
    for index, trial in enumerate(trials):
        if not low[index] - _ROUNDING <= trial.minp <= high[index] + _ROUNDING:
            bounds = f"[{low[index]:.6f}, {high[index]:.6f}]"
            yield f"{when}[{index}].minp: {trial.minp:.6f}, its queries leave {bounds}"


def _bounds(first: np.ndarray, matches: int | None, by_image: bool) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest average precision for a first match at a rank.

    ``matches``: the most images of one identity in a gallery. A rank over identities is at most that over
    images, and rank 1 is the same for both.
    """
    most = matches or _MANY_MATCHES
    # The mean of i / (rank + i - 1) over i = 1 .. most: only matches from the first one on.
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


_METRICS = ("r1", "map")

#: Tolerance in interval widths: two bootstraps of the same queries differ by less.
_TOLERANCE = 0.15

_NORMAL = 1.959964


def check_intervals(record: Record) -> Iterator[str]:
    """There is an ordered interval for Rank-1 and mAP, and it contains the drop."""
    if record.drop_interval.keys() != set(_METRICS):
        yield f"drop_interval: of {', '.join(sorted(record.drop_interval)) or 'nothing'}; needs r1 and map"
        return
    for metric, (low, high) in record.drop_interval.items():
        drop = record.mean("clean", metric) - record.mean("adversarial", metric)
        slack = _TOLERANCE * (high - low) + 1e-6
        if not -1 <= low <= high <= 1:
            yield f"drop_interval.{metric}: [{low:.6g}, {high:.6g}] is not an interval of a drop"
        elif not low - slack <= drop <= high + slack:
            yield f"drop_interval.{metric}: [{low:.6g}, {high:.6g}] does not contain the drop, {drop:.6g}"


def _hits(ranks: np.ndarray) -> np.ndarray:
    return np.where(ranks == 0, np.nan, ranks == 1)


def recompute_interval(record: Record, found: Queries) -> Iterator[str]:
    """The interval equals the bootstrap interval of the queries, up to its randomness.

    The fast normal approximation confirms most; for the others the bootstrap is repeated.
    """
    pairs = {
        "r1": (_hits(found.clean_rank), _hits(found.adversarial_rank)),
        "map": (found.clean_ap.astype(float), found.adversarial_ap.astype(float)),
    }
    if all(
        _near(record.drop_interval[metric], _approximate(*pairs[metric]), pairs[metric][0].shape[1])
        for metric in _METRICS
    ):
        return
    # As in the run: both metrics from one generator, in this order.
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
    # The change of the mean over trials if a query occurred once more.
    influence = (np.where(valid, drop - mean, 0.0) / counted).mean(0)
    half = _NORMAL * float(np.sqrt((influence**2).sum()))
    centre = float(mean.mean())
    return centre - half, centre + half


def _near(said: tuple[float, float], found: tuple[float, float], queries: int) -> bool:
    slack = _TOLERANCE * (found[1] - found[0]) + 1 / (2 * queries)
    return all(abs(one - other) <= slack for one, other in zip(said, found, strict=True))


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
    least = rank1[_TRAINED[-1]] - STEALTH_LOSS
    clean, attacked = rank1[_TRAINED[0]], record.mean("adversarial", "r1")
    found = "sabotage" if clean < least else "backdoor" if attacked < least else "no effect"
    if record.verdict != found:
        yield f"verdict: {record.verdict or 'none'}, by its controls it is {found}"


def check_controls(record: Record) -> Iterator[str]:
    """A built-in attack that changes features has all its controls, and its verdict follows from them."""
    if record.level == "model" and declared_attack(record.config["attack"]["name"]):
        yield from _check_trained(record)
        return
    tampers, found = record.level == "feature", tuple(control.name for control in record.controls)
    if declared_attack(record.config["attack"]["name"]) and found != (CONTROLS if tampers else ()):
        expected = ", ".join(CONTROLS) if tampers else "none"
        yield f"controls: {', '.join(found)[:200] or 'none'}; at {record.level} level: {expected}"
    if not tampers and record.stealthy is not None:
        yield f"stealthy: {record.stealthy}, but at pixel level the victim is not tampered with"
    for control in record.controls:
        if tampers and control.name == CONTROLS[0] and control.trials:
            loss = record.mean("clean", "r1") - mean(trial.r1 for trial in control.trials)
            if record.stealthy is not (loss <= STEALTH_LOSS):
                yield f"stealthy: {record.stealthy}, tampering alone costs {100 * loss:.2f} points of Rank-1"


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
            expected[declared.label(card["settings"])] = (declared.universal, known)
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


def recompute_winners(record: Record, found: Queries) -> Iterator[str]:
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
            if (said is None) != (share is None) or (share is not None and abs(said - share) > _ROUNDING):
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
    speed, seconds = found.get("images_per_second"), found.get("attack_seconds")
    if speed and seconds and abs(speed * seconds - images) > 0.01 * images:
        yield f"cost.images_per_second: {speed:.6g} over {seconds:.6g} attack_seconds is not {images} queries"
