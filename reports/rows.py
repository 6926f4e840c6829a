"""From run records to rows: what may stand in one table, and what each row says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import mean, stdev

from vbench.record import ControlRecord, Record, TrialMetrics

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

    ``control`` rows belong to the attack above them. ``knowledge`` says what the attacker knew;
    ``evaluations`` are gradient evaluations: per image, or for one fit of a universal attack.
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


def setting(record: Record) -> Setting:
    """The setting of a record."""
    data, threat = record.config["dataset"], record.config["threat"]
    norm = {"linf": "L_inf", "l2": "L2"}.get(threat["norm"], threat["norm"])
    side = "both sides" if threat["side"] == "both" else f"{threat['side']} side"
    depth = "8-bit" if threat["quantize"] else "float"
    budget = f"{norm} {threat['eps']}, {side}, {depth}"
    fingerprint = data["fingerprint"]
    trials = len(record.clean)
    return Setting(data["name"], record.synthetic, record.protocol, fingerprint, budget, trials)


def tables(records: Iterable[Record]) -> dict[Setting, list[Row]]:
    """Group records by setting, average over seeds, and put the controls under their attack."""
    grouped: dict[Setting, dict[tuple[str, ...], list[Record]]] = {}
    for record in records:
        victim = record.config["victim"]
        options = str(sorted(victim.get("options", {}).items()))
        key = (
            victim["name"],
            options,
            victim["weights"],
            record.label,
            str(record.config.get("perturbation")),
            str(record.config.get("surrogate")),
        )
        grouped.setdefault(setting(record), {}).setdefault(key, []).append(record)
    return {
        where: [row for same in groups.values() for row in _rows(same)] for where, groups in grouped.items()
    }


def _rows(records: list[Record]) -> list[Row]:
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
            _evaluations(first),
            mean(
                record.cost.get("fit_seconds", 0) + record.cost.get("attack_seconds", 0) for record in records
            ),
            len(records),
        )
    ]
    for control in first.controls:
        found = [_control(record, control.name) for record in records]
        trials = [same.trials for same in found if same is not None]
        spread = _spread_of(trials)
        rows.append(
            Row("", control.name, "", before, _mean_of(trials), spread, seeds=len(trials), control=True)
        )
    return rows


def _control(record: Record, name: str) -> ControlRecord | None:
    return next((control for control in record.controls if control.name == name), None)


def _mean_of(runs: list[list[TrialMetrics]]) -> dict[str, float]:
    return {metric: 100 * mean(_trial_mean(trials, metric) for trials in runs) for metric in HEADINGS}


def _spread_of(runs: list[list[TrialMetrics]]) -> dict[str, float]:
    if len(runs) < 2:
        return {}
    return {metric: 100 * stdev(_trial_mean(trials, metric) for trials in runs) for metric in HEADINGS}


def _trial_mean(trials: list[TrialMetrics], metric: str) -> float:
    return mean(getattr(trial, metric) for trial in trials)


def _mean_asr(records: list[Record]) -> float | None:
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
    scope = "universal" if record.universal else "per-image"
    transfer = [f"from {record.surrogate}"] if record.surrogate else []
    return ", ".join([scope, *record.knowledge, *transfer])


def _evaluations(record: Record) -> str:
    if record.universal:
        return f"{record.cost.get('fit_evaluations', 0):.0f} a fit"
    gradients, queries = (record.cost.get(f"{what}_per_image", 0) for what in ("evaluations", "queries"))
    if queries and not gradients:
        return f"0 an image, {queries:.0f} queries"
    return f"{gradients:.0f} an image"


def _seconds(record: Record) -> float:
    return record.cost.get("fit_seconds", 0.0) + record.cost.get("attack_seconds", 0.0)
