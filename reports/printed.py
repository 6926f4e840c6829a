"""Published figures alone: one table a protocol, what sources disagree on side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from vbench.reports.flat import to_csv, to_json
from vbench.reports.published import NOT_IDS, Published, References
from vbench.reports.rows import HEADINGS
from vbench.reports.select import KNOWN_METRICS
from vbench.reports.style import style_of


def printed_report(
    figures: Sequence[Published], style: str = "markdown", metrics: Sequence[str] | None = None
) -> str:
    """Figures as their sources print them, percent; "csv" and "json" have one row a figure.

    A row is a victim, an attack and a budget; a cell holds every source's figure with its number, in the
    order of the file. Raises BadInput for an unknown style.
    """
    wanted = [one for one in figures if metrics is None or one.metric in metrics]
    if style in ("csv", "json"):
        lines = [asdict(one) for one in wanted]
        return to_csv(lines) if style == "csv" else to_json(lines)
    page = style_of(style)
    protocols = list(dict.fromkeys(one.protocol for one in wanted))
    tables = []
    for protocol in protocols:
        same = [one for one in wanted if one.protocol == protocol]
        columns = [metric for metric in KNOWN_METRICS if any(one.metric == metric for one in same)]
        rows: dict[tuple[str, str, str], list[Published]] = {}
        for one in same:
            rows.setdefault((one.victim, one.attack, one.budget), []).append(one)
        references = References()
        lines = [
            [
                *(page.escape(name) for name in (key[0], key[1] or "(clean)", key[2])),
                *(
                    page.escape(references.figures([one for one in found if one.metric == metric]))
                    for metric in columns
                ),
            ]
            for key, found in sorted(rows.items(), key=lambda item: item[0])
        ]
        header = ["victim", "attack", "budget", *(HEADINGS.get(metric, "ASR") for metric in columns)]
        sides = ["left"] * 3 + ["right"] * len(columns)
        about = f" ({NOT_IDS[protocol]})" if protocol in NOT_IDS else ""
        title = f"published, not measured here: {protocol}{about}; percent, budget empty where not stated"
        notes = references.notes()
        tables.append(page.table(header, lines, sides, title, ["published", protocol], notes))
    return page.join(tables)
