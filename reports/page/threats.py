"""Threat-model cards: what the attacker of each budget may change, must obey and knows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vbench.budget import budget_text, read_fraction
from vbench.record import Record
from vbench.reports.rows import Row
from vbench.reports.sheets import Entry

_SIDES = {
    "query": "query images",
    "gallery": "gallery images",
    "both": "query and gallery images",
}
_DEPTHS = {True: "rounded to 8 bits, as in any stored image", False: "float: no image file holds it"}
#: What words of the column "knowledge" mean.
GLOSSARY = {
    "per-image": "Crafts each image on its own, with the model at hand (white-box) unless it says otherwise.",
    "universal": "Learns once, on training identities; the same perturbation, or generator, for every image.",
    "training": "Knows labelled images of the training identities.",
    "gallery": "Knows the embeddings and identities of the images that it will be ranked against.",
    "evaluation": "The worst of several attacks for each query, by true identities: a bound, no attacker.",
    "from": "Transfer: crafted on another model, the surrogate; the victim is never asked.",
    "black box": "Asks the victim for embeddings or rankings and sees no gradient; the price says how often.",
    "feature level": "Also changes feature maps inside the model; a stealthy one spares clean accuracy.",
}


@dataclass(frozen=True)
class Card:
    """``facts``: (term, text). ``attackers``: (what they know, which attacks)."""

    title: str
    facts: Sequence[tuple[str, str]]
    attackers: Sequence[tuple[str, str]]


def cards(entries: Iterable[Entry]) -> list[Card]:
    """A card a budget (norm, eps, side, rounding), in the order in which they come."""
    found: dict[str, list[Row]] = {}
    for where, row in entries:
        if row.records:
            found.setdefault(where.threat, []).append(row)
    return [_card(title, rows) for title, rows in found.items()]


def glossary(found: Sequence[Card]) -> list[tuple[str, str]]:
    """The words that the cards use, with what they mean."""
    used = " ".join(kind for card in found for kind, _ in card.attackers)
    return [(word, meaning) for word, meaning in GLOSSARY.items() if word in used]


def _card(title: str, rows: Sequence[Row]) -> Card:
    records = [record for row in rows for record in row.records]
    threat = records[0].config["threat"]
    facts = [
        ("may change", _SIDES.get(threat["side"], str(threat["side"]))),
        ("budget", _budget(threat["norm"], budget_text(threat))),
        ("output", _DEPTHS[bool(threat["quantize"])]),
        ("image size", _sizes(records)),
        ("largest change seen", _largest(records)),
        ("protocols", ", ".join(dict.fromkeys(_protocol(record) for record in records))),
    ]
    kinds: dict[str, list[str]] = {}
    for row in rows:
        kinds.setdefault(_kind(row), []).append(row.records[0].config["attack"]["name"])
    attackers = [(kind, ", ".join(dict.fromkeys(map(str, names)))) for kind, names in kinds.items()]
    return Card(title, [(term, text) for term, text in facts if text], attackers)


def _kind(row: Row) -> str:
    first = row.records[0]
    more = ["black box"] if first.cost.get("queries_per_image") else []
    more += ["feature level"] if first.level == "feature" else []
    return ", ".join([row.knowledge, *more])


def _budget(norm: str, eps: str) -> str:
    if norm != "linf":
        return f"Euclidean norm over one image at most {eps}, pixels in [0, 1]"
    try:
        levels = float(read_fraction(eps) * 255)
    except ValueError:
        return f"each pixel value by at most {eps}"
    return f"each pixel value by at most {eps}: {levels:g} of 255 levels"


def _sizes(records: Sequence[Record]) -> str:
    """Where the perturbation lives: images of the size that the victim takes, before normalisation."""
    sizes: dict[str, list[str]] = {}
    for record in records:
        victim = record.config["victim"]
        size = (victim.get("options") or {}).get("input_size")
        if isinstance(size, list):
            sizes.setdefault("x".join(map(str, size)), []).append(str(victim["name"]))
    return "; ".join(f"{size} ({', '.join(dict.fromkeys(names))})" for size, names in sizes.items())


def _largest(records: Sequence[Record]) -> str:
    levels = [record.size["linf_levels"] for record in records if "linf_levels" in record.size]
    psnr = [record.size["psnr_db"] for record in records if "psnr_db" in record.size]
    said = [f"{max(levels):.0f} levels"] if levels else []
    return ", ".join([*said, *([f"PSNR {min(psnr):.1f} dB at least"] if psnr else [])])


def _protocol(record: Record) -> str:
    return f"{record.protocol} (SYNTHETIC)" if record.synthetic else record.protocol
