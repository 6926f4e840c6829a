"""The command cite: BibTeX of what was run, from the paper that each class names."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from vbench.attacks.registry import attacks
from vbench.cli.output import put
from vbench.core import __version__
from vbench.core.errors import unknown_name
from vbench.core.progress import say
from vbench.core.registry import Entry
from vbench.data.registry import datasets
from vbench.reports.printed import read_paper
from vbench.reports.table import latex_escape
from vbench.victims.registry import victims

_SOFTWARE = f"""@software{{vbench,
  title = {{vbench: adversarial robustness of visible-infrared person re-identification}},
  author = {{{{The vbench developers}}}},
  year = {{2026}},
  version = {{{__version__}}}
}}"""

_JOURNALS = ("TPAMI", "TIFS", "Sensors")


def cite(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Attacks, victims, data sets.", show_default="vbench"),
    ] = None,
) -> None:
    """Print BibTeX: of vbench, or of the paper of each attack, victim or data set named."""
    entries = list(map(_entry, names or ()))
    for entry in entries:
        if not entry.paper:
            say(f"{entry.name} names no paper to cite")
    found = [bibtex(entry.name, entry.paper) for entry in entries if entry.paper]
    if found or not entries:
        put("\n\n".join(dict.fromkeys(found or [_SOFTWARE])))


def _entry(name: str) -> Entry:
    registries = (attacks, victims, datasets)
    for registry in registries:
        if ":" not in name and registry.canonical(name) in registry.names():
            entry = registry.entry(name)
            return entry if entry.origin == "vbench" else registry.describe(name)
    known = [one for registry in registries for one in registry.names()]
    raise unknown_name("attack, victim or dataset", name, known)


def bibtex(name: str, paper: str) -> str:
    """The entry of a paper given as authors, title, venue and year; of any other text as ``@misc``.

    >>> print(bibtex("caj", "Ye et al., Channel Augmented Joint Learning, ICCV 2021"))
    @inproceedings{ye2021channel,
      author = {Ye and others},
      title = {{Channel Augmented Joint Learning}},
      booktitle = {ICCV},
      year = {2021}
    }
    """
    parts = read_paper(paper)
    if parts is None:
        kind, key, fields = "misc", name, {"title": f"{{{latex_escape(paper)}}}"}
    else:
        authors, title, venue, year = parts
        words = re.findall(r"\w+", f"{authors.split()[0]} {title}".lower())
        key = f"{words[0]}{year}{words[1]}"
        kind, where = ("article", "journal") if venue in _JOURNALS else ("inproceedings", "booktitle")
        kind = kind if venue else "misc"
        fields = {
            "author": latex_escape(authors.replace(" et al.", " and others")),
            "title": f"{{{latex_escape(title)}}}",
            **({where: latex_escape(venue)} if venue else {}),
            "year": year,
        }
    body = ",\n".join(f"  {field} = {{{value}}}" for field, value in fields.items())
    return f"@{kind}{{{key},\n{body}\n}}"
