"""Fill the tables of docs/ablation.md from the archives beside it: run as a script after ablation.sh.

A block starts with ``<!-- part metric -->`` and ends with ``<!-- end -->``; what stands between is replaced.
"""

from __future__ import annotations

import re
from pathlib import Path

from vbench.records.record import Record
from vbench.records.store import RunStore
from vbench.reports.compare import comparison

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "ablation.md"
_BLOCK = re.compile(r"<!-- (\w+) (\w+) -->\n.*?<!-- end -->", re.DOTALL)
#: Every fit has the same number, which the page says once.
_SHARED = re.compile(r",?evaluations=6400")


def filled(text: str) -> str:
    """The page with each block made again from its archive."""
    return _BLOCK.sub(lambda block: _block(*block.groups()), text)


def _block(part: str, metric: str) -> str:
    records = [_short(record) for record in RunStore(DOCS / "ablation" / f"{part}.jsonl").read_all().records]
    return f"<!-- {part} {metric} -->\n{comparison(records, metric)}\n<!-- end -->"


def _short(record: Record) -> Record:
    label = _SHARED.sub("", record.label).replace("[]", "").replace("[,", "[")
    return record.model_copy(update={"label": label})


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
