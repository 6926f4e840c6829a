"""What a reader must know before quoting a figure: what runs warn of, and what shows only across them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vbench.record import Record
from vbench.reports.rows import Row
from vbench.reports.sheets import Entry
from vbench.store import older_note


@dataclass(frozen=True)
class Notice:
    """A warning, how many rows it is about, and what they are called."""

    text: str
    count: int
    rows: Sequence[str]


def warnings(entries: Sequence[Entry]) -> list[Notice]:
    """The warnings that runs recorded, each once, with the rows that have it."""
    found: dict[str, list[str]] = {}
    for _, row in entries:
        for text in dict.fromkeys(text for record in row.records for text in record.warnings):
            found.setdefault(text, []).append(f"{row.attack} on {row.victim}")
    return [Notice(text, len(rows), list(dict.fromkeys(rows))) for text, rows in found.items()]


def cautions(records: Sequence[Record], entries: Sequence[Entry], broken: Sequence[str]) -> list[str]:
    """What holds for the page as a whole; ``broken``: files that could not be read, each with the reason."""
    rows = [row for _, row in entries if row.records]
    said = []
    drawn = sum(record.synthetic for record in records)
    if drawn:
        which = "All data" if drawn == len(records) else f"The data of {drawn} of {len(records)} runs"
        said.append(f"{which} are SYNTHETIC: drawn people. Their figures say nothing of real data sets.")
    lucky = [row for row in rows if row.seeds == 1 and row.records[0].universal]
    if lucky:
        said.append(
            f"{_count(lucky)} of a universal attack {_have(lucky)} one seed: the luck of one fit is unknown."
        )
    for what, found in (("vbench", _versions(records, "vbench")), ("torch", _versions(records, "torch"))):
        if len(found) > 1:
            said.append(f"The runs were made with {len(found)} versions of {what}: {', '.join(found)}.")
    floats = [row for row in rows if not row.records[0].config["threat"].get("quantize", True)]
    if floats:
        said.append(f"{_count(floats)} {_have(floats)} unrounded images, which no image file can hold.")
    knowing = [row for row in rows if {"gallery", "evaluation"} & set(row.records[0].knowledge)]
    if knowing:
        said.append(f"{_count(knowing)} use true identities of the test set, which no attacker has.")
    said += older_note(records)
    changed = [record.id for record in records if record.fault() is not None]
    if changed:
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        said.append(
            f"{len(changed)} runs were changed after they were written: {', '.join(changed[:5])}{more}."
        )
    if broken:
        more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
        said.append(f"{len(broken)} files could not be read: {'; '.join(broken[:5])}{more}.")
    return said


def _versions(records: Sequence[Record], package: str) -> list[str]:
    found = (record.environment.get("versions") for record in records)
    return sorted({str(one[package]) for one in found if isinstance(one, dict) and package in one})


def _count(rows: Sequence[Row]) -> str:
    return f"{len(rows)} row{'s' if len(rows) != 1 else ''}"


def _have(rows: Sequence[Row]) -> str:
    return "have" if len(rows) != 1 else "has"
