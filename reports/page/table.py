"""What a sortable, filterable table of a page is made of; ``templates/table.html.j2`` writes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Column:
    """A heading. A ``numeric`` column sorts by value and stands right; ``hint`` says what it means.

    A ``prose`` column is not squeezed to a word a line.
    """

    title: str
    numeric: bool = False
    hint: str = ""
    prose: bool = False


@dataclass(frozen=True)
class Badge:
    """A word that stands out in a cell; ``hint`` says what it means, ``warn`` that it matters."""

    text: str
    hint: str = ""
    warn: bool = False


@dataclass(frozen=True)
class Cell:
    """What a cell shows: ``lead``, ``text`` (``strong`` where it is the best), and ``small`` below them.

    ``value`` is what a numeric column sorts by; None sorts last both ways. ``href`` makes the text a link,
    to a name that the page's maker chose; ``badges`` stand behind it.
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
    """A row and what belongs to it: sorting and filtering keep ``below`` under ``cells``.

    ``name`` is what the row is called where its cells are not read. ``facets``: what it is in each of the
    page's filters. ``more``: whatever the page shows when the row is opened, None for one that does not open.
    """

    name: str
    cells: Sequence[Cell]
    below: Sequence[Sequence[Cell]] = ()
    facets: Mapping[str, str] = field(default_factory=dict)
    more: Any = None


@dataclass(frozen=True)
class Table:
    """``anchor``: its id within the page. ``badges`` stand before the caption, ``notes`` below the table.

    The filters of the page hold for tables that are ``filtered``.
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
    """A filter: rows are kept whose facet ``name`` is the chosen one of ``values``."""

    name: str
    label: str
    values: Sequence[str]


def facets(tables: Iterable[Table], labels: Mapping[str, str]) -> list[Facet]:
    """The filters worth offering: those of ``labels`` (name -> label) by which rows of the tables differ."""
    rows = [group.facets for table in tables for group in table.groups]
    found = [
        Facet(name, label, list(dict.fromkeys(row[name] for row in rows if name in row)))
        for name, label in labels.items()
    ]
    return [facet for facet in found if len(facet.values) > 1]
