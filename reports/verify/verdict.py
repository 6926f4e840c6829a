"""Parses untrusted records; marks and verdicts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydantic import ValidationError

from vbench.records.record import SCHEMA, Record


class Mark(str, Enum):
    """Something that could not be checked or needs attention; the value is shown as a badge."""

    TOTALS_ONLY = "totals only"
    FOREIGN_DATA = "data not ours"
    FOREIGN_ATTACK = "attack not ours"
    LIBRARY_ATTACK = "library attack"
    FOREIGN_VICTIM = "victim not ours"
    FOREIGN_SURROGATE = "surrogate not ours"
    OLDER_IDENTITY = "older identity"
    OTHER_VERSION = "other version"
    TIES = "ties"

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
        return [_said(one) for one in error.errors(include_url=False, include_input=True)[:5]]
    if record.schema_version != SCHEMA:
        return [
            f"schema_version: {record.schema_version}, this vbench knows {SCHEMA}; "
            "a record of a newer vbench needs a newer vbench"
        ]
    rest = record.model_dump(exclude={"per_query"})
    reasons = [] if _is_valid(rest) else list(_invalid_values(rest, ""))[:5]
    if not reasons and len(record.model_dump_json(exclude={"per_query"})) > LARGEST_REST:
        reasons = [f"the record holds more than {LARGEST_REST >> 20} MiB besides its per-query values"]
    return reasons or record


def _said(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    found = repr(error["input"]) if error["type"] not in ("json_invalid", "missing") else ""
    found = f", found {found[:60]}" if found else ""
    return f"{where or 'file'}: {error['msg']}{found}"


def _is_valid(value: Any) -> bool:
    """Whether :func:`_invalid_values` yields nothing; ten times as fast."""
    kind = type(value)
    if kind is float:
        return math.isfinite(value)
    if kind is str:
        return len(value) <= _LONGEST_TEXT and not _UNSEEN.search(value)
    if kind is dict:
        return all(map(_is_valid, value)) and all(map(_is_valid, value.values()))
    return all(map(_is_valid, value)) if kind in (list, tuple) else True


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
