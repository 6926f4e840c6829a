"""Tables as plain text, markdown, LaTeX and HTML; the short before/after table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from textwrap import fill
from typing import TYPE_CHECKING, Any, Literal

from tabulate import tabulate

from vbench.core.errors import unknown_name
from vbench.core.text import one_line
from vbench.records.record import Record
from vbench.reports.frame import flat, to_csv, to_json
from vbench.reports.rows import HEADINGS, METRICS, Row, Setting, tables

if TYPE_CHECKING:
    from vbench.records.record import Failure


# "<" is escaped only where it could open a tag: "<0.001" stays readable. A bracket after a bracket would make
# a link.
_SPECIAL = re.compile(r"([\\`*|]|<(?=[A-Za-z/!?])|(?<=\])[(\[])")


class Page:
    """Plain text; bold numbers have an asterisk. ``escape`` is for untrusted text."""

    def escape(self, text: str) -> str:
        """Text escaped so that this page shows it literally, in one line."""
        return one_line(text)

    def strong(self, text: str, bold: bool) -> str:
        """Escaped text, in bold if so."""
        return f"{text} *" if bold else text

    def table(
        self,
        header: Sequence[str],
        lines: Sequence[Sequence[str]],
        sides: Sequence[str],
        title: str,
        slug: Sequence[str],
        notes: Sequence[str],
    ) -> str:
        """A table under its title, notes below. Cells are escaped already, title and notes are not."""
        body = tabulate(lines, header, tablefmt="simple", colalign=sides, disable_numparse=True)
        below = [fill(self.escape(note.replace("Bold:", "*:")), 110) for note in notes]
        return "\n\n".join([self.escape(title), body, *below])

    def join(self, tables: Sequence[str]) -> str:
        """Tables of one page."""
        return "\n\n".join(tables)


class Markdown(Page):
    """Pipe tables as code hosts render them."""

    def escape(self, text: str) -> str:
        return _SPECIAL.sub(r"\\\1", one_line(text))

    def strong(self, text: str, bold: bool) -> str:
        return f"**{text}**" if bold else text

    def table(self, header, lines, sides, title, slug, notes) -> str:
        body = tabulate(lines, header, tablefmt="pipe", colalign=sides, disable_numparse=True)
        # Two spaces at the end of a line are a line break.
        below = "  \n".join(self.escape(note) for note in notes)
        return "\n\n".join([f"**{self.escape(title)}**", body, *([below] if below else [])])


class Latex(Page):
    """``table`` environments with caption and label; labels of one page differ."""

    def __init__(self) -> None:
        self._labels: list[str] = []

    def escape(self, text: str) -> str:
        return latex_escape(text.lstrip()) if text.strip() else ""

    def strong(self, text: str, bold: bool) -> str:
        return rf"\textbf{{{text}}}" if bold else text

    def table(self, header, lines, sides, title, slug, notes) -> str:
        label = latex_label(*slug)
        self._labels.append(label)
        count = self._labels.count(label)
        label += f"-{count}" if count > 1 else ""
        return latex_environment(header, lines, sides, title, label, notes)


_PAGES = {"markdown": Markdown, "latex": Latex, "plain": Page}


def style_of(name: str) -> Page:
    """A fresh page; raises BadInput for an unknown style."""
    if name not in _PAGES:
        raise unknown_name("format", name, (*_PAGES, "html", "csv", "json", "jsonl"))
    return _PAGES[name]()


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
}

_ANY = re.compile("->|" + "|".join(re.escape(plain) for plain in _LATEX_SPECIAL))


def latex_escape(text: str) -> str:
    """Text escaped for LaTeX, in one line; "->" and "→" become an arrow."""
    return _ANY.sub(lambda found: _LATEX_SPECIAL.get(found[0], r"$\to$"), one_line(text))


def latex_environment(
    header: Sequence[str],
    lines: Sequence[Sequence[str]],
    sides: Sequence[str],
    caption: str,
    label: str,
    notes: Sequence[str] = (),
) -> str:
    """A whole ``table``: cells escaped already, caption and notes not yet; sides are "left" or "right".

    Needs booktabs, and graphicx for a width that fits any column.
    """
    columns = "".join(side[0] for side in sides)
    rows = [" & ".join(line) + r" \\" for line in lines]
    return "\n".join(
        [
            r"% \usepackage{booktabs,graphicx}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex_escape(caption)}}}",
            rf"\label{{{label}}}",
            r"\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(header) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}}",
            *(rf"\par\smallskip{{\footnotesize {latex_escape(note)}\par}}" for note in notes),
            r"\end{table}",
        ]
    )


def latex_label(*parts: str) -> str:
    """A label of letters, digits and hyphens: "tab:vbench-sysu-all-8-255"."""
    return "tab:vbench-" + re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower()).strip("-")


Format = Literal["markdown", "csv", "json", "latex", "plain"]

FORMATS = ("markdown", "csv", "json", "latex", "plain")

_ARROW = " -> "

_TEXTS = ("victim", "attack", "knowledge")


def report(records: Sequence[Record], style: str = "markdown", lost: Sequence[Failure] = ()) -> str:
    """Before/after tables of records, one per setting, so that different protocols never share a column.

    Values are percent, mean over trials and seeds, with the standard deviation over several seeds. "csv" and
    "json" have one row per record, unrounded. ``lost`` runs are listed below a plain table. Raises BadInput
    for an unknown format.
    """
    check_format(style)
    if style in ("csv", "json"):
        return to_csv(flat(records)) if style == "csv" else to_json(flat(records))
    found = [_table(where, rows, style) for where, rows in tables(records).items()]
    if lost and style == "plain":
        found.append("\n".join(["lost:", *(f"  {one}" for one in lost)]))
    return "\n\n".join(found)


def check_format(style: str) -> None:
    """Raise :class:`BadInput` for an unknown format."""
    if style not in FORMATS:
        raise unknown_name("format", style, FORMATS)


def title(where: Setting, rows: Sequence[Row]) -> str:
    """The line above a table of these rows."""
    seeds = max(row.seeds for row in rows)
    spread = f", mean ± sd of up to {seeds} seeds" if seeds > 1 else ""
    return f"{where.title}; before -> after, %{spread}"


def header() -> list[str]:
    """Headings of the columns."""
    return [*_TEXTS, *(HEADINGS[metric] for metric in METRICS), "ASR", "gradient evaluations", "s"]


def cells(row: Row) -> list[str]:
    """One line of a table, as text."""
    return [*_labels(row), *_figures(row), *_cost(row)]


def alignment() -> list[str]:
    """Alignment of each column; given so that tabulate does not reformat numbers."""
    return ["left"] * len(_TEXTS) + ["right"] * (len(header()) - len(_TEXTS))


def _table(where: Setting, rows: Sequence[Row], style: str) -> str:
    page = style_of(style)
    lines = [[page.escape(cell) for cell in cells(row)] for row in rows]
    return page.table(header(), lines, alignment(), title(where, rows), (where.protocol, where.threat), ())


def _labels(row: Row) -> list[str]:
    return [row.victim, f"  · {row.attack}" if row.control else row.attack, row.knowledge]


def _figures(row: Row) -> list[str]:
    cells = []
    for metric in METRICS:
        spread = f" ± {row.spread[metric]:.1f}" if row.spread else ""
        cells.append(f"{row.before[metric]:.1f}{_ARROW}{row.after[metric]:.1f}{spread}")
    return cells


def _cost(row: Row) -> list[str]:
    if not row.evaluations:
        return ["", "", ""]
    asr = "" if row.asr is None else f"{row.asr:.1f}"
    return [asr, row.evaluations, f"{row.seconds:.1f}"]


_BADGE = (
    '<span style="background:#b45309;color:#fff;border-radius:3px;padding:0 5px;font-weight:bold" '
    'title="synthetic images, not photographs: no result on a real data set">SYNTHETIC</span> '
)


def html(records: Sequence[Record], lost: Sequence[Failure] = ()) -> str:
    """The tables of :func:`vbench.reports.table.report` as HTML; all text is escaped."""
    found = [_notebook_table(where, rows) for where, rows in tables(records).items()] or [
        "<div>no record</div>"
    ]
    return "".join([*found, *(f"<div>lost: {escape(str(one))}</div>" for one in lost)])


def _notebook_table(where: Setting, rows: Sequence[Row]) -> str:
    # The badge replaces the word SYNTHETIC.
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


@dataclass(frozen=True)
class Column:
    """A heading. A ``numeric`` column sorts by value and is right-aligned; ``hint`` explains it.

    A ``prose`` column is not narrowed to one word per line.
    """

    title: str
    numeric: bool = False
    hint: str = ""
    prose: bool = False


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
    """``anchor``: id within the page. ``badges`` precede the caption, ``notes`` follow the table.

    The filters of the page apply to tables that are ``filtered``.
    """

    anchor: str
    caption: str
    columns: Sequence[Column]
    groups: Sequence[Group]
    badges: Sequence[str] = ()
    legend: str = ""
    notes: Sequence[str] = ()
    filtered: bool = True


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
