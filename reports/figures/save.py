"""A finished figure as bytes of a file, or as SVG text for a page."""

from __future__ import annotations

import io
import re
from collections import Counter
from dataclasses import dataclass
from xml.etree import ElementTree

from matplotlib.figure import Figure

from vbench.core.errors import unknown_name
from vbench.reports.figures.style import styled

FORMATS = ("png", "svg", "pdf")

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


@dataclass(frozen=True)
class Drawing:
    """A figure for a page: ``svg`` is an ``<svg>`` element, ``alt`` its text alternative."""

    name: str
    title: str
    alt: str
    svg: str


def title_of(figure: Figure) -> str:
    """The first line of a figure's title."""
    return " ".join(figure.texts[0].get_text().split())


def encode(figure: Figure, style: str) -> bytes:
    """A figure as the content of a "png", "svg" or "pdf" file; equal figures give equal bytes.

    Raises BadInput for another format.
    """
    if style not in FORMATS:
        raise unknown_name("format of a figure", style, FORMATS)
    # Dates and versions would make equal figures differ.
    metadata = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}.get(
        style, {"CreationDate": None, "Creator": None, "Producer": None}
    )
    content = io.BytesIO()
    with styled():
        figure.savefig(content, format=style, metadata=metadata)
    return content.getvalue()


def inline(figure: Figure, prefix: str, title: str, alt: str) -> str:
    """A figure as an ``<svg>`` element: transparent, its ids begin with ``prefix``, no style leaks out of it.

    Several on one page need different prefixes. ``title`` and ``alt`` are added for screen readers.
    """
    content = io.BytesIO()
    with styled():
        # Photographs are embedded as pixels; a screen needs fewer than a printer.
        figure.savefig(
            content, format="svg", dpi=150, metadata={"Date": None, "Creator": None}, transparent=True
        )
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(content.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            # A style sheet inside an inlined SVG applies to the whole page.
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    met: Counter[str] = Counter()
    for element in root.iter():
        for name, value in element.attrib.items():
            element.set(name, _renamed(name, value, prefix))
        own = element.get("id")
        if own is not None:
            # A picture that is shown twice has the same id twice; nothing refers to it.
            met[own] += 1
            element.set("id", own if met[own] == 1 else f"{own}-{met[own]}")
    root.set("style", "stroke-linejoin:round;stroke-linecap:butt;max-width:100%;height:auto")
    root.set("role", "img")
    root.set("aria-labelledby", f"{prefix}-title {prefix}-desc")
    for position, (tag, text) in enumerate((("title", title), ("desc", alt))):
        element = ElementTree.Element(f"{{{_SVG}}}{tag}", {"id": f"{prefix}-{tag}"})
        element.text = text
        root.insert(position, element)
    return ElementTree.tostring(root, encoding="unicode")


def _renamed(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return f"{prefix}-{value}"
    if name in ("href", f"{{{_XLINK}}}href") and value.startswith("#"):
        return f"#{prefix}-{value[1:]}"
    return _REFERENCE.sub(lambda found: f"url(#{prefix}-{found[1]})", value)
