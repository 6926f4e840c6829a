"""How a page writes text, bold and tables: markdown, LaTeX, or plain for a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from textwrap import fill

from tabulate import tabulate

from vbench.errors import unknown_name
from vbench.printable import one_line
from vbench.reports import latex

# Of "<" only what could open a tag: "<0.001" stays readable as it is.
# A bracket after a bracket makes a link, to anywhere.
_SPECIAL = re.compile(r"([\\`*|]|<(?=[A-Za-z/!?])|(?<=\])[(\[])")


class Page:
    """Plain text; bold figures carry an asterisk. ``escape`` is for anything that comes from outside."""

    def escape(self, text: str) -> str:
        """Text as this page shows it literally, in one line."""
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
        # Two spaces at the end of a line break it.
        below = "  \n".join(self.escape(note) for note in notes)
        return "\n\n".join([f"**{self.escape(title)}**", body, *([below] if below else [])])


class Latex(Page):
    """``table`` environments with caption and label; labels of one page differ."""

    def __init__(self) -> None:
        self._labels: list[str] = []

    def escape(self, text: str) -> str:
        return latex.escape(text.lstrip()) if text.strip() else ""

    def strong(self, text: str, bold: bool) -> str:
        return rf"\textbf{{{text}}}" if bold else text

    def table(self, header, lines, sides, title, slug, notes) -> str:
        label = latex.label(*slug)
        self._labels.append(label)
        count = self._labels.count(label)
        label += f"-{count}" if count > 1 else ""
        return latex.environment(header, lines, sides, title, label, notes)


_PAGES = {"markdown": Markdown, "latex": Latex, "plain": Page}


def style_of(name: str) -> Page:
    """A fresh page; raises BadInput for an unknown style."""
    if name not in _PAGES:
        raise unknown_name("format", name, (*_PAGES, "html", "csv", "json", "jsonl"))
    return _PAGES[name]()
