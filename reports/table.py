"""Table: columns, cells, notes; written as plain text, markdown, LaTeX, HTML, CSV or JSON."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import zip_longest
from shutil import get_terminal_size
from textwrap import fill
from typing import Any

from vbench.core.errors import unknown_name
from vbench.core.text import one_line

FORMATS = ("markdown", "csv", "json", "latex", "plain")


@dataclass(frozen=True)
class Column:
    """A heading. A ``numeric`` column sorts by value and is right-aligned; ``hint`` explains it.

    A ``prose`` column is not narrowed to one word per line. On a phone an ``extra`` column is shown only in
    rows that are opened. On a narrow terminal the column with the largest ``spare`` above 0 goes first.
    """

    title: str
    numeric: bool = False
    hint: str = ""
    prose: bool = False
    extra: bool = False
    spare: int = 0


@dataclass(frozen=True)
class Badge:
    """A highlighted word in a cell; ``hint`` explains it, ``warn`` marks a warning."""

    text: str
    hint: str = ""
    warn: bool = False


@dataclass(frozen=True)
class Cell:
    """Content of a cell: ``lead``, ``text`` (``strong`` if it is the best), and ``small`` below them.

    A numeric column sorts by ``value``; None sorts last in both directions. ``href`` makes the text a link,
    never to an untrusted address; ``badges`` follow the text.
    """

    text: str
    value: float | None = None
    small: str = ""
    strong: bool = False
    lead: str = ""
    href: str = ""
    badges: Sequence[Badge] = ()


@dataclass(frozen=True)
class Group:
    """A row with its sub-rows: sorting and filtering keep ``below`` under ``cells``.

    ``name`` is its accessible name. ``facets``: its value for each of the page's filters. ``more``: content
    shown when the row is opened, None if it cannot be opened.
    """

    name: str
    cells: Sequence[Cell]
    below: Sequence[Sequence[Cell]] = ()
    facets: Mapping[str, str] = field(default_factory=dict)
    more: Any = None


@dataclass(frozen=True)
class Table:
    """One table, whatever it is written as.

    ``anchor``: id within a page, or what a LaTeX label is made of. ``badges`` precede the caption, ``notes``
    follow the table. The filters of a page apply to tables that are ``filtered``. ``flat`` makes what CSV and
    JSON have instead, a row per run. ``starred``: whether plain text marks strong cells with an asterisk. A
    ``narrow`` table fits a column of a paper, so LaTeX does not scale it, and has space between its groups.
    """

    anchor: str
    caption: str
    columns: Sequence[Column]
    groups: Sequence[Group]
    badges: Sequence[str] = ()
    legend: str = ""
    notes: Sequence[str] = ()
    filtered: bool = True
    flat: Callable[[], Sequence[Mapping[str, object]]] = tuple
    starred: bool = True
    narrow: bool = False

    @property
    def lines(self) -> list[Sequence[Cell]]:
        """The cells of every line."""
        return [line for group in self.groups for line in (group.cells, *group.below)]


def _cell(shown: object) -> Cell:
    return shown if isinstance(shown, Cell) else Cell("" if shown is None else str(shown))


def simple(
    caption: str,
    columns: Sequence[str | Column],
    lines: Iterable[Sequence[object]],
    anchor: str = "",
    **more: Any,
) -> Table:
    """A table of plain lines; ``more`` are fields of :class:`Table`. CSV and JSON have a row for each."""
    heads = [one if isinstance(one, Column) else Column(one) for one in columns]
    groups = [Group("", [_cell(one) for one in line]) for line in lines]

    def rows() -> list[dict[str, object]]:
        names = [head.title for head in heads]
        return [dict(zip(names, (cell.text for cell in one.cells), strict=True)) for one in groups]

    return Table(anchor, caption, heads, groups, **{"flat": rows, **more})


@dataclass(frozen=True)
class Facet:
    """A filter: shows rows whose facet ``name`` has the selected one of ``values``."""

    name: str
    label: str
    values: Sequence[str]


def facets(tables: Iterable[Table], labels: Mapping[str, str]) -> list[Facet]:
    """The useful filters: those of ``labels`` (name -> label) in which rows of the tables differ."""
    rows = [group.facets for table in tables for group in table.groups]
    found = [
        Facet(name, label, list(dict.fromkeys(row[name] for row in rows if name in row)))
        for name, label in labels.items()
    ]
    return [facet for facet in found if len(facet.values) > 1]


def check_format(style: str, known: Sequence[str] = FORMATS) -> None:
    """Raise :class:`BadInput` for an unknown format."""
    if style not in known:
        raise unknown_name("format", style, known)


#: Columns of the widest table in plain text, unless all its columns are asked for.
WIDEST = 100

#: Characters that a column of text gets at least, as long as columns can be left out for it.
_LEAST = 16

#: What is left to a column of text where there is no such column; half of it before a number is wrapped.
_NARROWEST = 8


def write(tables: Sequence[Table], style: str, wide: bool = False) -> str:
    """The tables as "plain", "markdown", "latex", "html", "csv" or "json" text; BadInput for another.

    Plain text fits the terminal and has at most :data:`WIDEST` columns, unless ``wide``: text is wrapped.
    """
    check_format(style, (*FORMATS, "html"))
    if style in ("csv", "json"):
        from vbench.reports.frame import to_csv, to_json  # which loads NumPy and pydantic

        rows = [dict(row) for table in tables for row in table.flat()]
        return to_csv(rows) if style == "csv" else to_json(rows)
    if style == "html":
        return "".join(map(_html, tables))
    if style == "latex":
        return "\n\n".join(_latex(tables))
    if style == "markdown":
        return "\n\n".join(map(_markdown, tables))
    width = None if wide else _width()
    return "\n\n".join(_plain(table, width) for table in tables)


def _width() -> int:
    """The columns of the terminal, at most :data:`WIDEST`, which is the width of output that is piped."""
    return min(WIDEST, get_terminal_size((WIDEST, 24)).columns) if sys.stdout.isatty() else WIDEST


def _cells(table: Table, escape: Callable[[str], str], strong: str) -> list[list[str]]:
    """The cells as escaped text; ``strong`` holds the text of a strong cell."""
    return [
        [
            escape(cell.lead) + (strong.format(escape(cell.text)) if cell.strong else escape(cell.text))
            for cell in line
        ]
        for line in table.lines
    ]


def _body(table: Table, escape: Callable[[str], str], strong: str, form: str) -> str:
    from tabulate import tabulate  # here, so that commands without such a table start at once

    # The side of each column is given, so that tabulate leaves numbers as they were written.
    sides = ["right" if column.numeric else "left" for column in table.columns]
    heads = [escape(column.title) for column in table.columns]
    lines = _cells(table, escape, strong)
    return tabulate(lines, heads, tablefmt=form, colalign=sides, disable_numparse=True)


def _caption(table: Table) -> str:
    return " ".join(filter(None, [*table.badges, "; ".join(filter(None, [table.caption, table.legend]))]))


def _plain(table: Table, width: int | None) -> str:
    heads = [one_line(column.title) for column in table.columns]
    rows = [heads, *_cells(table, one_line, "{} *" if table.starred else "{}")]
    shown, widths = _fitted(table.columns, rows, width)
    columns = [table.columns[place] for place in shown]
    lines: list[Sequence[str]] = []
    for number, row in enumerate(rows if any(heads) else rows[1:]):
        cells = [_wrapped(row[place], most) for place, most in zip(shown, widths, strict=True)]
        lines += list(zip_longest(*cells, fillvalue=""))
        lines += [["-" * most for most in widths]] if number == 0 and any(heads) else []
    body = "\n".join(_line(line, columns, widths) for line in lines)
    hidden = [head for place, head in enumerate(heads) if place not in shown]
    notes = [note.replace("Bold:", "*:") for note in table.notes]
    notes += [f"No room for {', '.join(hidden)}: --wide shows all columns."] if hidden else []
    texts = (fill(one_line(text), width or 110, break_on_hyphens=False) for text in (_caption(table), *notes))
    caption, *below = texts
    return "\n\n".join(filter(None, [caption, body, *below]))


def _fitted(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None
) -> tuple[list[int], list[int]]:
    """Positions of the columns that are shown, and the width of each, so that the rows fit ``width``."""
    natural = [max(1, *map(len, cells)) for cells in zip(*rows, strict=True)]
    shown = list(range(len(columns)))
    if width is None:
        return shown, natural

    def needed() -> int:
        least = (natural[at] if columns[at].numeric else min(natural[at], _LEAST) for at in shown)
        return sum(least) + 2 * (len(shown) - 1)

    while needed() > width and any(columns[at].spare for at in shown):
        shown.remove(max(shown, key=lambda at: columns[at].spare))
    widths = {at: natural[at] for at in shown}
    # Text is narrowed first, then headings of numbers, then numbers are wrapped, but never broken, and last
    # names are: rather the table is too wide.
    heading, *body = [[max(map(len, _parts(cell.rstrip()))) for cell in row] for row in rows]
    heading = [min(one, _NARROWEST) for one in heading]
    whole = [max([heading[at], *(len(row[at]) for row in rows[1:])]) for at in range(len(columns))]
    parts = [max([heading[at], *(row[at] for row in body)]) for at in range(len(columns))]
    narrower = ((natural, _NARROWEST), (whole, _NARROWEST), (parts, _NARROWEST), (parts, _NARROWEST // 2))
    for least, text in narrower:
        while sum(widths.values()) + 2 * (len(shown) - 1) > width:
            floor = {at: least[at] if columns[at].numeric else min(natural[at], text) for at in shown}
            wider = [at for at in shown if widths[at] > floor[at]]
            if not wider:
                break
            widths[max(wider, key=lambda at: widths[at])] -= 1
    return shown, list(widths.values())


def _line(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    padded = (
        cell.rjust(most) if column.numeric else cell.ljust(most)
        for cell, column, most in zip(cells, columns, widths, strict=True)
    )
    return "  ".join(padded).rstrip()


def _parts(text: str) -> list[str]:
    return re.split(r"(?<=[ ,])|(?=\[)", text)


def _wrapped(text: str, width: int) -> list[str]:
    """Text in lines of at most ``width``, broken at spaces, after commas and before brackets where it can."""
    found = [""]
    for part in _parts(text) if len(text) > width else [text]:
        if found[-1] and len(found[-1]) + len(part.rstrip()) > width:
            found.append("")
        for start in range(0, len(part.rstrip()) or 1, width):
            piece = part[start : start + width]
            found[-1:] = [found[-1] + piece] if start == 0 else [found[-1], piece]
    return [line.rstrip() for line in found]


# "<" is escaped only where it could open a tag: "<0.001" stays readable. A bracket after a bracket would make
# a link, "_" at the edge of a word emphasis, "&" before a name a character.
_SPECIAL = re.compile(
    r"([\\`*|~]|<(?=[A-Za-z/!?])|(?<=\])[(\[]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|&(?=#?\w+;))"
)


def escape_markdown(text: str) -> str:
    """Text as markdown shows it literally, in one line."""
    return _SPECIAL.sub(r"\\\1", one_line(text))


def _markdown(table: Table) -> str:
    caption = escape_markdown(_caption(table))
    body = _body(table, escape_markdown, "**{}**", "pipe")
    # Two spaces at the end of a line break it.
    below = "  \n".join(escape_markdown(note) for note in table.notes)
    return "\n\n".join(filter(None, [f"**{caption}**" if caption else "", body, below]))


_LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # A cell that starts with a bracket would be read as the optional length of \\.
    "[": "{[}",
    "]": "{]}",
    "±": r"$\pm$",
    "→": r"$\to$",
    "·": r"$\cdot$",
    "L_inf": r"$L_\infty$",
}

_ANY = re.compile("->|" + "|".join(re.escape(plain) for plain in _LATEX_SPECIAL))


def latex_escape(text: str) -> str:
    """Text escaped for LaTeX, in one line; "->" and "→" become an arrow."""
    return _ANY.sub(lambda found: _LATEX_SPECIAL.get(found[0], r"$\to$"), one_line(text))


def _latex(tables: Sequence[Table]) -> list[str]:
    """``table`` environments whose labels differ; they need booktabs, and graphicx unless narrow."""
    seen: Counter[str] = Counter()
    found = []
    for table in tables:
        label = latex_label(table.anchor)
        seen[label] += 1
        label += f"-{seen[label]}" if seen[label] > 1 else ""
        found.append(_latex_one(table, label))
    return found


def _latex_one(table: Table, label: str) -> str:
    sides = "".join("r" if column.numeric else "l" for column in table.columns)
    rows = [" & ".join(line) + r" \\" for line in _cells(table, _latex_cell, r"\textbf{{{}}}")]
    if table.narrow:
        starts = {id(group.cells) for group in table.groups[1:]}
        rows = [
            (r"\addlinespace" + "\n" if id(line) in starts else "") + row
            for line, row in zip(table.lines, rows, strict=True)
        ]
    notes = [rf"\par\smallskip{{\footnotesize {latex_escape(note)}\par}}" for note in table.notes]
    return "\n".join(
        [
            r"% \usepackage{booktabs}" if table.narrow else r"% \usepackage{booktabs,graphicx}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex_escape(_caption(table))}}}",
            rf"\label{{{label}}}",
            r"\small\setlength{\tabcolsep}{4pt}" if table.narrow else r"\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{{sides}}}",
            r"\toprule",
            " & ".join(_latex_cell(column.title) for column in table.columns) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}" if table.narrow else r"\end{tabular}}",
            *notes,
            r"\end{table}",
        ]
    )


def _latex_cell(text: str) -> str:
    # The space before a row's name has no meaning in LaTeX; the one before an arrow has.
    return latex_escape(text.lstrip() if text.startswith("  ") else text) if text.strip() else ""


def latex_label(anchor: str) -> str:
    """A label of letters, digits and hyphens: "tab:vbench-sysu-all-8-255"."""
    return "tab:vbench-" + re.sub(r"[^a-z0-9]+", "-", anchor.lower()).strip("-")


_BADGE = (
    '<span style="background:#b45309;color:#fff;border-radius:3px;padding:0 5px;font-weight:bold" '
    'title="synthetic images, not photographs: no result on a real data set">{}</span> '
)


def _escape_html(text: str) -> str:
    return escape(one_line(text))


def _html(table: Table) -> str:
    """For a notebook: styles in the elements, all text escaped."""
    badges = "".join(_BADGE.format(_escape_html(one)) for one in table.badges)
    caption = "; ".join(filter(None, [table.caption, table.legend]))
    sides = ["right" if column.numeric else "left" for column in table.columns]
    heads = [_element("th", column.title, side) for column, side in zip(table.columns, sides, strict=True)]
    body = ""
    for group in table.groups:
        for line in (group.cells, *group.below):
            # What belongs to the row above it is faded.
            style = "" if line is group.cells else ";opacity:0.75"
            cells = zip(line, sides, strict=True)
            shown = (
                _element(
                    "td", cell.lead + cell.text, side + (";font-weight:bold" if cell.strong else "") + style
                )
                for cell, side in cells
            )
            body += f"<tr>{''.join(shown)}</tr>"
    notes = "".join(f"<div>{_escape_html(note)}</div>" for note in table.notes)
    return (
        f'<div style="margin:0.6em 0 0.3em">{badges}{_escape_html(caption)}</div>'
        f"<table><thead><tr>{''.join(heads)}</tr></thead><tbody>{body}</tbody></table>{notes}"
    )


def html_page(title: str, body: str) -> str:
    """A document around the HTML of tables; it loads nothing."""
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{_escape_html(title)}</title>\n'
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _element(tag: str, text: str, style: str) -> str:
    shown = _escape_html(text.replace("->", "→"))
    return f'<{tag} style="text-align:{style};white-space:nowrap">{shown}</{tag}>'
