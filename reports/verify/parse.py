"""From bytes to a record, strictly: types as they are, figures finite, text that can be shown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from vbench.record import SCHEMA, Record

#: The most that a record may hold beside its per-query values, in characters of JSON.
LARGEST_REST = 1 << 20

# Characters that cannot be seen, and those that turn the direction of a line: a name could pass for another.
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
    reasons = [] if _fit(rest) else list(_unfit(rest, ""))[:5]
    if not reasons and len(record.model_dump_json(exclude={"per_query"})) > LARGEST_REST:
        reasons = [f"the record holds more than {LARGEST_REST >> 20} MiB beside its per-query values"]
    return reasons or record


def _said(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    found = repr(error["input"]) if error["type"] not in ("json_invalid", "missing") else ""
    found = f", found {found[:60]}" if found else ""
    return f"{where or 'file'}: {error['msg']}{found}"


def _fit(value: Any) -> bool:
    """Whether :func:`_unfit` has nothing to say; ten times as fast."""
    kind = type(value)
    if kind is float:
        return math.isfinite(value)
    if kind is str:
        return len(value) <= _LONGEST_TEXT and not _UNSEEN.search(value)
    if kind is dict:
        return all(map(_fit, value)) and all(map(_fit, value.values()))
    return all(map(_fit, value)) if kind in (list, tuple) else True


def _unfit(value: Any, where: str) -> Iterator[str]:
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{where}: {value} is not finite"
    elif isinstance(value, str):
        if _UNSEEN.search(value):
            yield f"{where}: holds characters that cannot be seen"
        elif len(value) > _LONGEST_TEXT:
            yield f"{where}: {len(value)} characters of text, at most {_LONGEST_TEXT}"
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _unfit(key, f"{where or 'record'}, a name in it")
            yield from _unfit(one, f"{where}.{key}" if where else str(key))
    elif isinstance(value, (list, tuple)):
        for index, one in enumerate(value):
            yield from _unfit(one, f"{where}[{index}]")
