"""Choosing runs by the beginning of their ids."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from vbench.errors import BadInput
from vbench.record import Record


def by_id(records: Sequence[Record], wanted: Sequence[str]) -> list[Record]:
    """The records of these ids, in the order asked; the beginning of an id will do where only one has it.

    Raises BadInput for an id that no record has, with the nearest, and for a beginning that several have.
    """
    found: list[Record] = []
    for text in wanted:
        same = [record for record in records if record.id == text] or [
            record for record in records if text and record.id.startswith(text)
        ]
        if not same:
            near = difflib.get_close_matches(text, [record.id for record in records], n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise BadInput(f"no run '{text}'; {hint}ids stand in the names of the record files")
        if len(same) > 1:
            ids = ", ".join(record.id for record in same[:6])
            raise BadInput(
                f"run '{text}' could be {ids}{' ...' if len(same) > 6 else ''}; give more of the id"
            )
        found += [record for record in same if record not in found]
    return found
