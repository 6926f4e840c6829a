"""Filled suites as flat rows for other programs: one a run, whatever became of it, unrounded, in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

from vbench.budget import budget_text
from vbench.paper.slot import Filled
from vbench.reports.flat import flat
from vbench.reports.paper_rows import suite_tables


def flat_rows(filled: Sequence[Filled]) -> list[dict[str, object]]:
    """Suite, row, state and reason, then the columns of a record; ``{metric}_published`` on real data.

    ``{metric}_published_before`` is the clean figure that the same source prints. A run without a record has
    no figures of ours.
    """
    lines = []
    for table in suite_tables(filled):
        for row in table.rows:
            printed: dict[str, object] = {}
            if table.real:
                for ending, clean in (("_before", True), ("", False)):
                    found = row.published(table.protocol, clean).values()
                    printed |= {f"{one.metric}_published{ending}": one.value / 100 for one in found}
            lines += [{**_about(one), **_measured(one), **printed} for one in row.filled]
    return lines


def _about(one: Filled) -> dict[str, object]:
    slot = one.slot
    state = "failed" if one.failed else "n/a" if slot.unfit else "done" if one.record else "not run"
    return {
        "suite": slot.suite.name,
        "row": slot.line.name,
        "table_level": slot.level,
        "state": state,
        "reason": one.failed or slot.unfit,
        "victim": slot.victim,
        "attack": slot.label,
        "protocol": slot.place.protocol,
        "synthetic": slot.place.synthetic,
        "eps": budget_text(dict(slot.place.threat)),
        "seed": slot.seed,
    }


def _measured(one: Filled) -> dict[str, object]:
    return flat([one.record])[0] if one.record else {}
