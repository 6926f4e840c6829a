"""Are the figures of every trial possible, and do they fit each other?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vbench.data.protocols import Protocol
from vbench.record import Record, TrialMetrics
from vbench.reports.verify.identity import protocol_of, queries_of, trial_names

DEPTHS = {"r1": 1, "r5": 5, "r10": 10, "r20": 20}
#: More queries than any set has; keeps what is unpacked small.
_MOST_QUERIES = 100_000
_MOST_TRIALS = 100
_ROUNDING = 1e-9
_CAMERAS = {"sysu": {"all": 4, "indoor": 2}, "llcm": {"ir2vis": 9, "vis2ir": 8}}


def every_list(record: Record) -> Iterator[tuple[str, Sequence[TrialMetrics]]]:
    """Every list of trials in a record with its name there."""
    yield "clean", record.clean
    yield "adversarial", record.adversarial
    for index, control in enumerate(record.controls):
        yield f"controls[{index}].trials", control.trials
    for index, member in enumerate(record.members):
        yield f"members[{index}].trials", member.trials


def most_matches(record: Record) -> int | None:
    """How many gallery images of one identity there can be; None where the protocol does not say."""
    protocol = protocol_of(record)
    if protocol is None:
        return None
    if protocol.layout == "regdb":
        return None if record.synthetic else 10
    if protocol.layout == "llcm":
        return _CAMERAS["llcm"][protocol.direction]
    cameras = _CAMERAS["sysu"][protocol.mode] if protocol.direction == "ir2vis" else 2
    return cameras * protocol.shots_per_camera


def listed(record: Record) -> Iterator[str]:
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
    """The trials of a set that is not ours: those of the clean ranking, each once."""
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
            stated = trial.queries + trial.skipped
            yield f"{here}.queries: {stated} with those skipped, the first trial has {total}"
        elif published is not None and total != published:
            yield (
                f"{here}.queries: {total} with those skipped, {protocol.layout} has {published}; "
                "is it drawn data, or a part of the set?"
            )


def possible(record: Record) -> Iterator[str]:
    """Shares are shares of the stated number of queries, CMC never falls, means stay within their bounds."""
    matches = most_matches(record)
    for where, trials in every_list(record):
        for index, trial in enumerate(trials):
            yield from _one(f"{where}[{index}]", trial, matches)


def _one(where: str, trial: TrialMetrics, matches: int | None) -> Iterator[str]:
    for name in ("r1", "r5", "r10", "r20", "map", "minp", "tied_share"):
        value = getattr(trial, name)
        if not 0 <= value <= 1 + _ROUNDING:
            yield f"{where}.{name}: {value:.6g} is no share, it lies outside [0, 1]"
            return
    for name in ("r1", "r5", "r10", "r20", "tied_share"):
        count = getattr(trial, name) * trial.queries
        if abs(count - round(count)) > 1e-6 * max(1, trial.queries):
            stated = f"{getattr(trial, name):.8g} of {trial.queries} queries"
            yield f"{where}.{name}: {stated} is {count:.4f}, no whole number"
    for low, high in zip(("r1", "r5", "r10"), ("r5", "r10", "r20"), strict=True):
        if getattr(trial, low) > getattr(trial, high) + _ROUNDING:
            yield f"{where}.{high}: {getattr(trial, high):.6g} is below {low}, {getattr(trial, low):.6g}"
    for name in ("map", "minp"):
        if getattr(trial, name) <= 0:
            yield f"{where}.{name}: 0, but every query that counts has a match"
    if matches is None:
        return
    # A first match at rank 1 is worth 1/m at least; an mINP divides m matches by the rank of the last.
    if trial.map < trial.r1 / matches - _ROUNDING:
        yield f"{where}.map: {trial.map:.6g}, at least {trial.r1 / matches:.6g} with the stated r1"
    if trial.minp > matches * trial.map + _ROUNDING:
        yield f"{where}.minp: {trial.minp:.6g}, at most {matches * trial.map:.6g} with the stated map"


def succeeded(record: Record) -> Iterator[str]:
    """The success rate counts queries, within what the Rank-1 before and after leave open."""
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
