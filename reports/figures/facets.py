"""What may share axes: records of one victim and setting; each other victim or setting is a panel."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from vbench.budget import parse_budget
from vbench.errors import BadInput
from vbench.printable import one_line
from vbench.record import Record
from vbench.reports.rows import setting, victim_key

#: More panels than this nobody reads, nor can they be read.
MOST = 12


@dataclass(frozen=True)
class Facet:
    """One panel: records that may be compared, and what they have in common, by name."""

    facts: dict[str, str]
    records: list[Record]


def victim_of(record: Record) -> str:
    """What a figure calls a record's victim."""
    return one_line(record.victim_label or record.config["victim"]["name"])


def attack_of(record: Record) -> str:
    """What a figure calls a record's attack: transfer and replay are other attacks than the white-box one."""
    label = record.label or record.config["attack"]["name"]
    label += f" from {record.surrogate}" if record.surrogate else ""
    return one_line(label) + (" (replayed)" if record.config.get("perturbation") else "")


def budget_of(record: Record) -> Fraction:
    """The budget of a record; raises BadInput where it is none."""
    threat = record.config["threat"]
    return parse_budget(threat["eps"], threat["norm"])


def facts_of(record: Record) -> dict[str, str]:
    """What a figure must say of a record, in the words of the tables: victim, protocol, budget."""
    where = setting(record)
    badge = "SYNTHETIC " if where.synthetic else ""
    trials = f"{where.trials} trial{'s' if where.trials != 1 else ''}"
    found = {
        "victim": victim_of(record),
        "protocol": f"{badge}{one_line(where.protocol)} ({trials})",
        "budget": where.threat,
    }
    return {**found, "access": "transfer attacks"} if record.surrogate else found


def apart(record: Record) -> Hashable:
    """What keeps records apart: setting, victim, and whether the attack was crafted on the victim itself."""
    return setting(record), victim_key(record), bool(record.surrogate)


def facets(
    records: Sequence[Record],
    apart: Callable[[Record], Hashable] = apart,
    facts: Callable[[Record], dict[str, str]] = facts_of,
) -> list[Facet]:
    """Records in panels, those together for which ``apart`` is equal, in the order of victims and budgets.

    ``facts``: what must be said of a record and does not vary within a panel.
    """
    found: dict[Hashable, list[Record]] = {}
    for record in records:
        found.setdefault(apart(record), []).append(record)
    panels = sorted((Facet(facts(same[0]), same) for same in found.values()), key=_order(records))
    said = [tuple(panel.facts.values()) for panel in panels]
    for panel, words in zip(panels, said, strict=True):
        if said.count(words) > 1:
            # Two sets of images under one protocol, or two sets of weights under one name.
            first = panel.records[0]
            panel.facts["data"] = one_line(f"data {setting(first).fingerprint[:8]}")
            panel.facts["weights"] = one_line(f"weights {first.config['victim']['weights'][:8]}")
    return panels


def common(panels: Sequence[Facet]) -> tuple[dict[str, str], list[dict[str, str]]]:
    """What all panels share, and of each what it does not; raises BadInput for more than :data:`MOST`."""
    if len(panels) > MOST:
        raise BadInput(
            f"that is {len(panels)} panels, and {MOST} can be read; choose records with --where or --run"
        )
    names = list(dict.fromkeys(name for panel in panels for name in panel.facts))
    shared = [name for name in names if len({panel.facts.get(name) for panel in panels}) == 1]
    own = [{name: text for name, text in panel.facts.items() if name not in shared} for panel in panels]
    return {name: panels[0].facts[name] for name in shared}, own


def _order(records: Sequence[Record]) -> Callable[[Facet], tuple[object, ...]]:
    """Victims and protocols in the order they come, budgets from the smallest on."""
    victims, protocols = ([of(record) for record in records] for of in (victim_of, lambda one: one.protocol))

    def key(panel: Facet) -> tuple[object, ...]:
        first = panel.records[0]
        threat = first.config["threat"]
        place = victims.index(victim_of(first)), protocols.index(first.protocol), bool(first.surrogate)
        return (*place, threat["norm"], threat["side"], budget_of(first))

    return key
