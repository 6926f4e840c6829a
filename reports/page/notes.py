"""Sections of the page: warnings, threat models, environments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vbench.core.text import count_of, first_of
from vbench.core.threat import budget_text, read_fraction
from vbench.records.record import Record
from vbench.records.store import older_note
from vbench.reports.rows import Row
from vbench.reports.table import Cell, Column, Group, Table
from vbench.reports.tables import Entry


@dataclass(frozen=True)
class Notice:
    """A warning, the number of rows that have it, and their names."""

    text: str
    count: int
    rows: Sequence[str]


def warnings(entries: Sequence[Entry]) -> list[Notice]:
    """The warnings in records, each once, with the rows that have it."""
    found: dict[str, list[str]] = {}
    for _, row in entries:
        for text in dict.fromkeys(text for record in row.records for text in record.warnings):
            found.setdefault(text, []).append(f"{row.attack} on {row.victim}")
    return [Notice(text, len(rows), list(dict.fromkeys(rows))) for text, rows in found.items()]


def cautions(records: Sequence[Record], entries: Sequence[Entry], broken: Sequence[str]) -> list[str]:
    """Cautions about the whole page; ``broken``: files that could not be read, each with the reason."""
    rows = [row for _, row in entries if row.records]
    said = []
    synthetic = sum(record.synthetic for record in records)
    if synthetic:
        which = "All data" if synthetic == len(records) else f"The data of {synthetic} of {len(records)} runs"
        said.append(f"{which} are SYNTHETIC. Their results say nothing about real data sets.")
    single = [row for row in rows if row.seeds == 1 and row.records[0].universal]
    if single:
        which = f"{count_of(len(single), 'row')} of a universal attack {_have(single)}"
        said.append(f"{which} one seed: the spread of fits is unknown.")
    for what, found in (("vbench", _versions(records, "vbench")), ("torch", _versions(records, "torch"))):
        if len(found) > 1:
            said.append(f"The runs were made with {len(found)} versions of {what}: {', '.join(found)}.")
    floats = [row for row in rows if not row.records[0].config["threat"].get("quantize", True)]
    if floats:
        said.append(
            f"{count_of(len(floats), 'row')} {_have(floats)} unrounded images, which no image file can hold."
        )
    knowing = [row for row in rows if {"gallery", "evaluation"} & set(row.records[0].knowledge)]
    if knowing:
        said.append(
            f"{count_of(len(knowing), 'row')} use true identities of the test set, which no attacker has."
        )
    said += older_note(records)
    changed = [record.id for record in records if record.fault() is not None]
    if changed:
        said.append(f"{len(changed)} runs were changed after they were written: {first_of(changed, 5)}.")
    if broken:
        said.append(f"{len(broken)} files could not be read: {first_of(broken, 5, '; ')}.")
    return said


def _versions(records: Sequence[Record], package: str) -> list[str]:
    found = (record.environment.get("versions") for record in records)
    return sorted({str(one[package]) for one in found if isinstance(one, dict) and package in one})


def _have(rows: Sequence[Row]) -> str:
    return "have" if len(rows) != 1 else "has"


_SIDES = {
    "query": "query images",
    "gallery": "gallery images",
    "both": "query and gallery images",
}

_DEPTHS = {True: "rounded to 8 bits, as in any stored image", False: "float: no image file holds it"}

#: Meaning of the words in the column "knowledge".
GLOSSARY = {
    "per-image": "Crafts each image independently, with access to the model (white-box) unless stated.",
    "universal": "Learns once, on training identities; the same perturbation, or generator, for every image.",
    "training": "Knows labelled images of the training identities.",
    "gallery": "Knows the embeddings and identities of the images that it will be ranked against.",
    "evaluation": "The worst of several attacks for each query, by true identities: a bound, not an attack.",
    "from": "Transfer: crafted on another model, the surrogate, without access to the victim.",
    "black box": "Queries the victim for embeddings or rankings, without gradients; the cost says how often.",
    "feature level": "Also changes feature maps inside the model; a stealthy one keeps clean accuracy.",
}


@dataclass(frozen=True)
class Card:
    """A threat model. ``facts``: (term, text). ``attackers``: (their knowledge, their attacks)."""

    title: str
    facts: Sequence[tuple[str, str]]
    attackers: Sequence[tuple[str, str]]


def cards(entries: Iterable[Entry]) -> list[Card]:
    """One card per budget (norm, eps, side, rounding), in order of appearance."""
    found: dict[str, list[Row]] = {}
    for where, row in entries:
        if row.records:
            found.setdefault(where.threat, []).append(row)
    return [_card(title, rows) for title, rows in found.items()]


def glossary(found: Sequence[Card]) -> list[tuple[str, str]]:
    """The words used on the cards, with their meaning."""
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
        (
            "protocols",
            ", ".join(dict.fromkeys(f"{one.protocol}{' (SYNTHETIC)' * one.synthetic}" for one in records)),
        ),
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
    """What is perturbed: images at the victim's input size, before normalisation."""
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


@dataclass(frozen=True)
class Environments:
    """``shared``: (name, value) of all runs. ``table``: the rest, one row per environment; None for one."""

    shared: Sequence[tuple[str, str]]
    table: Table | None


def environments(records: Sequence[Record]) -> Environments:
    """The environments of records, the most frequent first."""
    counts: dict[tuple[tuple[str, str], ...], int] = {}
    for record in records:
        key = tuple(_flat(record).items())
        counts[key] = counts.get(key, 0) + 1
    found = [(dict(key), count) for key, count in sorted(counts.items(), key=lambda item: -item[1])]
    names = list(dict.fromkeys(name for one, _ in found for name in one))
    differing = [name for name in names if len({one.get(name, "not recorded") for one, _ in found}) > 1]
    shared = [(name, found[0][0][name]) for name in names if name not in differing]
    if not differing:
        return Environments(shared, None)
    groups = [
        Group(
            f"environment {number}",
            [*(Cell(one.get(name, "not recorded")) for name in differing), Cell(str(count), count)],
        )
        for number, (one, count) in enumerate(found, 1)
    ]
    columns = [*(Column(name) for name in differing), Column("runs", True)]
    caption = f"{len(found)} environments; what they do not share"
    return Environments(shared, Table("environments", caption, columns, groups, filtered=False))


def _flat(record: Record) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in record.environment.items():
        if isinstance(value, dict):
            found |= {str(inner): str(text) for inner, text in value.items()}
        else:
            found[name.replace("_", " ")] = str(value)
    return found
