"""Comparable results: one board per setting and level, with one standing per victim and attack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean as mean
from statistics import stdev

from vbench.records.record import Record
from vbench.reports.leaderboard.collect import Entry
from vbench.reports.rows import HEADINGS, Row, Setting, rows_of, setting, victim_key
from vbench.reports.verify.configuration import declared_attack


@dataclass(frozen=True)
class Standing:
    """Runs of one attack on one victim that differ only in their seed."""

    setting: Setting
    entries: tuple[Entry, ...]

    @property
    def record(self) -> Record:
        """One of its records, for the facts that all share."""
        return self.entries[0].record

    @cached_property
    def victim(self) -> tuple[str, ...]:
        """The key of the victim."""
        return victim_key(self.record)

    @cached_property
    def attack(self) -> str:
        """Label of the attack, with the source of a reused or transferred perturbation."""
        record, replayed = self.record, self.record.config.get("perturbation")
        source = f" from {record.surrogate}" if record.surrogate else ""
        return record.label + source + (f" replayed {replayed[:8]}" if replayed else "")

    @cached_property
    def knowledge(self) -> str:
        """The attacker's knowledge: only attacks of equal knowledge are compared."""
        return access(self.record)

    @cached_property
    def agrees(self) -> bool:
        """Whether the results of every run agree, on all machines."""
        return all(entry.agrees for entry in self.entries)

    @property
    def doubted(self) -> bool:
        """Whether another record contradicts these about the same victim and images."""
        return any(result.doubts for entry in self.entries for result in entry.results)

    @cached_property
    def row(self) -> Row:
        """Values in percent, mean over seeds; if results differ, the one worst for the attack."""
        first = rows_of([entry.record for entry in self.entries])[0]
        after = {metric: self._seeds("adversarial", metric) for metric in HEADINGS}
        stated = [result.record.asr for entry in self.entries for result in entry.results]
        rates = [100 * rate for rate in stated if rate is not None]
        return replace(
            first,
            knowledge=self.knowledge,
            before={metric: mean(self._seeds("clean", metric)) for metric in HEADINGS},
            after={
                metric: mean(values) if self.agrees else self.span(metric)[1]
                for metric, values in after.items()
            },
            spread={metric: stdev(values) for metric, values in after.items() if len(values) > 1},
            asr=(mean(rates) if self.agrees else min(rates)) if rates else None,
        )

    def span(self, metric: str) -> tuple[float, float]:
        """Smallest and largest result after the attack, percent."""
        found = [bound for entry in self.entries for bound in entry.span("adversarial", metric)]
        return 100 * min(found), 100 * max(found)

    def _seeds(self, which: str, metric: str) -> list[float]:
        return [100 * entry.mean(which, metric) for entry in self.entries]


@dataclass(frozen=True)
class Board:
    """Comparable standings: equal data, protocol, budget, side, trials and level."""

    setting: Setting
    level: str
    standings: tuple[Standing, ...]

    @property
    def key(self) -> str:
        """A unique text for this board."""
        where = self.setting
        kind = " synthetic" if where.synthetic else ""
        threat = where.threat.replace("L_inf", "linf").replace(" sides", "").replace(" side", "")
        return f"{where.protocol} {threat} {self.level}{kind} {where.trials} {where.fingerprint}"

    @property
    def title(self) -> str:
        """Its title, without the SYNTHETIC badge."""
        level = "" if self.level == "pixel" else f", {self.level} level"
        return f"{self.setting.protocol}, {self.setting.threat}{level}"

    @property
    def entries(self) -> list[Entry]:
        """Every configuration on it."""
        return [entry for standing in self.standings for entry in standing.entries]

    def victims(self) -> dict[tuple[str, ...], list[Standing]]:
        """Standings of each victim, victims by name."""
        found: dict[tuple[str, ...], list[Standing]] = {}
        for standing in sorted(self.standings, key=lambda one: one.victim):
            found.setdefault(standing.victim, []).append(standing)
        return found

    def attacks(self) -> dict[tuple[str, str], list[Standing]]:
        """Standings of each (knowledge, attack): by knowledge, then in order of appearance."""
        found: dict[tuple[str, str], list[Standing]] = {}
        for standing in sorted(self.standings, key=lambda one: _rank(one.knowledge)):
            found.setdefault((standing.knowledge, standing.attack), []).append(standing)
        return found

    def knowledge(self) -> list[str]:
        """Every kind of knowledge on it."""
        return list(dict.fromkeys(knowledge for knowledge, _ in self.attacks()))


def boards(entries: Iterable[Entry]) -> list[Board]:
    """Boards of entries, real data first; results of different boards are not comparable."""
    found: dict[tuple[Setting, str], dict[tuple[object, ...], list[Entry]]] = {}
    for entry in entries:
        record = entry.record
        same = (
            *victim_key(record),
            record.label,
            str(record.config.get("perturbation")),
            str(record.config.get("surrogate")),
            tuple(record.left_out),
        )
        found.setdefault((setting(record), record.level), {}).setdefault(same, []).append(entry)
    made = [
        Board(where, level, tuple(Standing(where, tuple(same)) for same in groups.values()))
        for (where, level), groups in found.items()
    ]
    return sorted(
        made, key=lambda board: (board.setting.synthetic, board.setting.protocol, -len(board.entries))
    )


def access(record: Record) -> str:
    """An attacker's knowledge and abilities as one phrase: attacks are compared if it is equal."""
    known = rows_of([record])[0].knowledge
    declared = declared_attack(record.config["attack"]["name"])
    if declared is not None and declared.blind:
        known = f"blind, {known}"
    elif (declared is not None and declared.black_box) or record.cost.get("queries_per_image", 0) > 0:
        known = known if record.members else f"black box, {known}"
    return f"{known}, replayed" if record.config.get("perturbation") else known


def _rank(knowledge: str) -> tuple[int, str]:
    starts = ("blind", "black box", "universal", "per-image", "evaluation")
    place = next((index for index, start in enumerate(starts) if knowledge.startswith(start)), len(starts))
    return place, knowledge


def same_victims(found: Sequence[Standing]) -> frozenset[tuple[str, ...]]:
    """The victims of some standings."""
    return frozenset(standing.victim for standing in found)
