"""From run records to rows: what may stand in one table, and what each row says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean as mean
from statistics import stdev
from typing import Any

from vbench.budget import budget_text
from vbench.record import MemberRecord, Record, TrialMetrics

METRICS = ("r1", "r10", "map", "minp")
HEADINGS = {"r1": "Rank-1", "r5": "Rank-5", "r10": "Rank-10", "r20": "Rank-20", "map": "mAP", "minp": "mINP"}


@dataclass(frozen=True)
class Setting:
    """What rows of one table share: results that differ in any of these are never put in one column."""

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
        trials = f"{self.trials} trial{'s' if self.trials != 1 else ''}"
        return f"{badge}{self.protocol} ({trials})   {self.threat}"


@dataclass(frozen=True)
class Row:
    """One line of a table, in percent. ``seeds`` runs were averaged; ``spread`` is their standard deviation.

    ``control`` rows belong to the attack above them: its controls, or the members of a battery, each with the
    share of queries and of lost Rank-1 that it wins. ``knowledge`` says what the attacker knew;
    ``evaluations`` are gradient evaluations, per image or for one fit of a universal attack, and what a black
    box asked.
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
    #: Trials of each seed, clean and attacked; the records behind the row (none for a control).
    clean: Sequence[list[TrialMetrics]] = ()
    attacked: Sequence[list[TrialMetrics]] = ()
    records: Sequence[Record] = ()


def setting(record: Record) -> Setting:
    """The setting of a record."""
    data, threat = record.config["dataset"], budget(record.config["threat"])
    trials = len(record.clean)
    return Setting(data["name"], record.synthetic, record.protocol, data["fingerprint"], threat, trials)


def budget(threat: Mapping[str, Any]) -> str:
    """The card of a threat model in a few words."""
    norm = {"linf": "L_inf", "l2": "L2"}.get(threat["norm"], threat["norm"])
    side = "both sides" if threat["side"] == "both" else f"{threat['side']} side"
    depth = "8-bit" if threat["quantize"] else "float"
    return f"{norm} {budget_text(threat)}, {side}, {depth}"


def tables(records: Iterable[Record]) -> dict[Setting, list[Row]]:
    """Group records by setting, average over seeds, and put the controls under their attack."""
    return {
        where: [row for same in groups for row in rows_of(same)] for where, groups in grouped(records).items()
    }


def grouped(records: Iterable[Record]) -> dict[Setting, list[list[Record]]]:
    """Records of each setting, those together that differ in their seed alone."""
    found: dict[Setting, dict[tuple[str, ...], list[Record]]] = {}
    for record in records:
        key = (
            *victim_key(record),
            record.label,
            str(record.config.get("perturbation")),
            str(record.config.get("surrogate")),
        )
        found.setdefault(setting(record), {}).setdefault(key, []).append(record)
    return {where: list(groups.values()) for where, groups in found.items()}


def victim_key(record: Record) -> tuple[str, ...]:
    """What makes two records' victims the same: name, options, weights and precision."""
    victim = record.config["victim"]
    options = str(sorted(victim.get("options", {}).items()))
    return victim["name"], options, victim["weights"], str(victim.get("precision"))


def rows_of(records: list[Record]) -> list[Row]:
    """The row of records that differ in their seed alone, and those of its controls and members."""
    first = records[0]
    before = _mean_of([record.clean for record in records])
    rows = [
        Row(
            first.victim_label or first.config["victim"]["name"],
            _attack_name(records),
            _knowledge(first),
            before,
            _mean_of([record.adversarial for record in records]),
            _spread_of([record.adversarial for record in records]),
            _mean_asr(records),
            _evaluations(first.universal, first.cost),
            mean(_seconds(record.cost) for record in records),
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
    share = f"wins {100 * mean(member.won for member in found):.1f} %"
    lost = [member.won_lost for member in found if member.won_lost is not None]
    if lost:
        share += f", of lost Rank-1 {100 * mean(lost):.1f} %"
    return Row(
        "",
        f"{first.label}: {share}",
        ", ".join([_scope(first.universal), *first.knowledge]),
        battery.before,
        _mean_of(trials),
        _spread_of(trials),
        _mean_asr(found),
        _evaluations(first.universal, first.cost),
        mean(_seconds(member.cost) for member in found),
        len(found),
        control=True,
        clean=battery.clean,
        attacked=trials,
    )


def _mean_of(runs: list[list[TrialMetrics]]) -> dict[str, float]:
    return {metric: 100 * mean(_trial_mean(trials, metric) for trials in runs) for metric in HEADINGS}


def _spread_of(runs: list[list[TrialMetrics]]) -> dict[str, float]:
    if len(runs) < 2:
        return {}
    return {metric: 100 * stdev(_trial_mean(trials, metric) for trials in runs) for metric in HEADINGS}


def _trial_mean(trials: list[TrialMetrics], metric: str) -> float:
    return mean(getattr(trial, metric) for trial in trials)


def _mean_asr(records: Sequence[Record | MemberRecord]) -> float | None:
    rates = [record.asr for record in records if record.asr is not None]
    return 100 * mean(rates) if rates else None


def _attack_name(records: list[Record]) -> str:
    """The attack's label; at feature level with whether clean accuracy survives the tampering."""
    verdicts = [record.stealthy for record in records if record.stealthy is not None]
    if records[0].level != "feature" or not verdicts:
        return records[0].label
    stealthy = sum(verdicts)
    if stealthy in (0, len(verdicts)):
        return f"{records[0].label} ({'stealthy' if stealthy else 'destructive'})"
    return f"{records[0].label} (stealthy with {stealthy} of {len(verdicts)} seeds, else destructive)"


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
