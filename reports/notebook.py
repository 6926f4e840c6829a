"""Tables of records as HTML, for a notebook's output cell."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from vbench.record import Record
from vbench.reports.render import alignment, cells, header, title
from vbench.reports.rows import Row, Setting, tables

if TYPE_CHECKING:
    from vbench.lost import Failure

_BADGE = (
    '<span style="background:#b45309;color:#fff;border-radius:3px;padding:0 5px;font-weight:bold" '
    'title="drawn people, not photographs: no figure of a real data set">SYNTHETIC</span> '
)


def html(records: Sequence[Record], lost: Sequence[Failure] = ()) -> str:
    """One table a setting, as :func:`vbench.reports.render.report` has them; all text is escaped."""
    found = [_table(where, rows) for where, rows in tables(records).items()] or ["<div>no record</div>"]
    return "".join([*found, *(f"<div>lost: {escape(str(one))}</div>" for one in lost)])


def _table(where: Setting, rows: Sequence[Row]) -> str:
    # The badge says it in place of the word.
    above = title(where, rows).removeprefix("SYNTHETIC ")
    badge = _BADGE if where.synthetic else ""
    head = "".join(_cell("th", name, side) for name, side in zip(header(), alignment(), strict=True))
    body = "".join(f"<tr>{_line(row)}</tr>" for row in rows)
    caption = f'<div style="margin:0.6em 0 0.3em">{badge}{escape(above)}</div>'
    return f"{caption}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _line(row: Row) -> str:
    # A control belongs to the row above it.
    faded = ";opacity:0.75" if row.control else ""
    arrow = [cell.replace("->", "→") for cell in cells(row)]
    return "".join(_cell("td", text, side + faded) for text, side in zip(arrow, alignment(), strict=True))


def _cell(tag: str, text: str, style: str) -> str:
    return f'<{tag} style="text-align:{style};white-space:nowrap">{escape(text)}</{tag}>'
