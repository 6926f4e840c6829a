"""Verifies a record from its content alone."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydantic import ValidationError

from vbench.data.protocols import LAYOUTS
from vbench.records.record import SCHEMA, Record
from vbench.reports.verify import configuration, results
from vbench.reports.verify.configuration import (
    complaints,
    crafted_on,
    declared_attack,
    of_library,
    same_version,
)
from vbench.victims.registry import VICTIMS


class Mark(str, Enum):
    """Something that could not be checked or needs attention; the value is shown as a badge."""

    TOTALS_ONLY = "not recomputed"
    FOREIGN_DATA = "contributor's data"
    FOREIGN_ATTACK = "contributor's attack"
    LIBRARY_ATTACK = "library attack"
    FOREIGN_VICTIM = "contributor's model"
    FOREIGN_SURROGATE = "contributor's surrogate"
    OLDER_IDENTITY = "older record"
    OTHER_VERSION = "other version"
    TIES = "decided by ties"

    @property
    def meaning(self) -> str:
        """One sentence that explains the badge."""
        return _MEANINGS[self]


_MEANINGS = {
    Mark.TOTALS_ONLY: "The record has no per-query values, like all of archives: its numbers are "
    "possible and consistent, but could not be recomputed.",
    Mark.FOREIGN_DATA: "vbench does not read the data set itself; its protocol and trials are as stated.",
    Mark.FOREIGN_ATTACK: "The attack is not one of vbench: what it knows and its settings are as stated.",
    Mark.LIBRARY_ATTACK: "The attack is one of torchattacks or ART; its settings are as stated.",
    Mark.FOREIGN_VICTIM: "The victim is not one of vbench; its options and its name are as stated.",
    Mark.FOREIGN_SURROGATE: "The attack was crafted on a model that is not one of vbench.",
    Mark.OLDER_IDENTITY: "Its id was made before ids covered the content of images, the code of plugins and "
    "the arithmetic: it identifies less, and changes of the record cannot be detected.",
    Mark.OTHER_VERSION: "Made with another version of vbench, whose attack or victim is another or has other "
    "settings.",
    Mark.TIES: "More than 1 % of the queries depend on equal distances: their result is gallery order, "
    "not ranking.",
}


@dataclass(frozen=True)
class Verdict:
    """``reasons`` against a record, each naming the field and both values; empty if it is accepted."""

    reasons: Sequence[str] = ()
    marks: Sequence[Mark] = ()

    @property
    def stands(self) -> bool:
        """Whether the record is accepted."""
        return not self.reasons


#: Most characters of JSON in a record, without its per-query values.
LARGEST_REST = 1 << 20

# Invisible characters, and those that change the direction of text: a name could look like another.
_UNSEEN = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)

_LONGEST_TEXT = 2000


def parse(text: bytes) -> Record | list[str]:
    """The record in ``text``, or the reasons why there is none."""
    try:
        record = Record.model_validate_json(text, strict=True)
    except ValidationError as error:
        return complaints(error)
    if record.schema_version != SCHEMA:
        return [
            f"schema_version: {record.schema_version}, this vbench knows {SCHEMA}; "
            "a record of a newer vbench needs a newer vbench"
        ]
    reasons = list(_invalid_values(record.model_dump(exclude={"per_query"}), ""))[:5]
    if not reasons and len(record.model_dump_json(exclude={"per_query"})) > LARGEST_REST:
        reasons = [f"the record holds more than {LARGEST_REST >> 20} MiB besides its per-query values"]
    return reasons or record


def _invalid_values(value: Any, where: str) -> Iterator[str]:
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{where}: {value} is not finite"
    elif isinstance(value, str):
        if _UNSEEN.search(value):
            yield f"{where}: holds characters that cannot be seen"
        elif len(value) > _LONGEST_TEXT:
            yield f"{where}: {len(value)} characters of text, at most {_LONGEST_TEXT}"
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _invalid_values(key, f"{where or 'record'}, a name in it")
            yield from _invalid_values(one, f"{where}.{key}" if where else str(key))
    elif isinstance(value, (list, tuple)):
        for index, one in enumerate(value):
            yield from _invalid_values(one, f"{where}[{index}]")


#: Each stage is checked if the one before it gives no reason.
_STAGES = (
    (configuration.check_protocol, configuration.check_date, configuration.check_threat),
    (
        configuration.check_size,
        configuration.check_attack,
        configuration.check_victim,
        results.check_trial_lists,
    ),
    (
        results.check_trials,
        results.check_intervals,
        results.check_controls,
        results.check_members,
        results.check_cost,
    ),
)

_MOST_TIES = 0.01


def verify(record: Record, file_name: str | None = None) -> Verdict:
    """Check a record from its content alone; docs/leaderboard.md says what this can and cannot show.

    ``file_name``: name of the record's own file, None for a line of an archive. The verdict has reasons if
    the record contradicts itself, breaks its budget or does not match its hash. Never raises, whatever an
    untrusted record holds.
    """
    try:
        return _verdict(record, file_name)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        return Verdict([f"record: cannot be checked ({type(error).__name__}: {str(error)[:120]})"])


def _verdict(record: Record, file_name: str | None) -> Verdict:
    reasons = configuration.problems(record.config) or list(configuration.check_id(record, file_name))
    for checks in _STAGES:
        if reasons:
            return Verdict(reasons)
        reasons = [reason for check in checks for reason in check(record)]
    marks = _marks(record)
    if record.per_query:
        reasons = reasons or list(results.check_queries(record))
    elif not reasons:
        marks.append(Mark.TOTALS_ONLY)
    reasons = reasons or list(configuration.check_digest(record))
    if any(trial.tied_share > _MOST_TIES for trial in record.adversarial):
        marks.append(Mark.TIES)
    return Verdict(reasons, marks)


def _marks(record: Record) -> list[Mark]:
    """Marks for an attack, victim or version that is not this vbench's own."""
    attack, found = record.config["attack"], [Mark.OLDER_IDENTITY] if record.older else []
    if record.config["dataset"]["name"] not in LAYOUTS:
        found.append(Mark.FOREIGN_DATA)
    declared = declared_attack(attack["name"])
    if declared is None or "source" in attack:
        found.append(Mark.LIBRARY_ATTACK if of_library(attack["name"]) else Mark.FOREIGN_ATTACK)
    victim = record.config["victim"]
    known = VICTIMS.get(victim["name"])
    if known is None or "source" in victim:
        found.append(Mark.FOREIGN_VICTIM)
    if any(str(card["name"]) not in VICTIMS for card in crafted_on(record)):
        found.append(Mark.FOREIGN_SURROGATE)
    other_settings = not same_version(record) and declared and declared.problems(attack["settings"])
    versions = [(attack, declared and declared.facts["version"]), (victim, known and known.version)]
    # Records of older kinds do not state versions.
    if other_settings or any(own and card.get("version", own) != own for card, own in versions):
        found.append(Mark.OTHER_VERSION)
    return found
