"""RegDB's ten splits as one question: papers print the mean over them."""

from __future__ import annotations

from collections.abc import Sequence

from vbench.data.protocols import all_protocols

SPLITS = 10


def expand(protocols: Sequence[str]) -> list[str]:
    """Replace "regdb/vis2ir" by its ten splits; keeps order, drops repeats.

    >>> expand(["regdb/vis2ir"])[:2]
    ['regdb/vis2ir/trial-1', 'regdb/vis2ir/trial-2']
    """
    found: list[str] = []
    for one in protocols:
        splits = [text for text in all_protocols("regdb") if text.startswith(f"{one}/trial-")]
        found += splits or [one]
    return list(dict.fromkeys(found))


def question(protocol: str) -> str:
    """The protocol without the number of a split.

    >>> question("regdb/vis2ir/trial-3"), question("sysu/all/single/ir2vis/seed10")
    ('regdb/vis2ir', 'sysu/all/single/ir2vis/seed10')
    """
    head, found, _ = protocol.partition("/trial-")
    return head if found else protocol
