"""Records for other programs: a table that no spreadsheet runs, and an archive that vbench reads again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vbench.reports.flat import flat, to_csv
from vbench.reports.leaderboard.merge import Entry
from vbench.store import to_archive


def as_csv(entries: Sequence[Entry]) -> str:
    """One row an outcome, unrounded, in [0, 1], with where it comes from and what was checked."""
    rows = []
    for entry in entries:
        for result in entry.results:
            record = result.record
            versions = record.environment.get("versions")
            more = {
                "fingerprint": record.config["dataset"]["fingerprint"],
                "checks": "; ".join(mark.value for mark in result.marks) or "checked",
                "doubts": "; ".join(result.doubts),
                "outcomes": len(entry.results),
                "sources": "; ".join(result.sources),
                "created": record.created,
                "vbench": versions.get("vbench", "") if isinstance(versions, Mapping) else "",
                "device": str(record.environment.get("device_name", "")),
            }
            # Names of members are columns there: on a site of many batteries they would be all there is.
            line = flat([record.model_copy(update={"members": []})])[0]
            rows.append({**line, **more})
    return to_csv(rows)


def as_archive(entries: Iterable[Entry]) -> str:
    """The records, one a line, without the values of single queries."""
    return to_archive(result.record for entry in entries for result in entry.results)
