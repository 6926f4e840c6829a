"""Style of figures: widths, fonts, colours, legends, labels; a finished figure as a file or as SVG text."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from textwrap import fill
from typing import TYPE_CHECKING, cast
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from vbench.core.errors import unknown_name
from vbench.core.text import one_line

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

#: Widths in inches: a column of a two-column paper, and the whole page.
WIDTHS = {"column": 3.4, "full": 7.0}

#: Okabe and Ito, Color Universal Design (2008), without the yellow, which is hard to see on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

#: Dashes and markers accompany the colours, so that grey prints are readable.
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))

MARKERS = ("o", "s", "^", "D", "v", "P")

RIGHT, WRONG, CLEAN, MUTED = "#009E73", "#D55E00", "#000000", "#666666"

TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 8.0, 7.0, 6.0

#: Characters per inch of text of TEXT_SIZE, and height of its line in inches.
_PER_INCH, LINE = 17, 0.14

_RC: dict[RcKeyType, object] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica", "sans-serif"],
    "font.size": TEXT_SIZE,
    "figure.titlesize": TITLE_SIZE,
    "axes.titlesize": TEXT_SIZE,
    "axes.labelsize": TEXT_SIZE,
    "xtick.labelsize": SMALL_SIZE,
    "ytick.labelsize": SMALL_SIZE,
    "legend.fontsize": SMALL_SIZE,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.4,
    "grid.color": "#dddddd",
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    # Names are untrusted; a dollar sign in one must not start a formula.
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "vbench",
    # Many publishers refuse Type 3 fonts.
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
}


@contextmanager
def styled() -> Iterator[None]:
    """Use this style for matplotlib, whatever the user's settings; they are restored afterwards."""
    with matplotlib.rc_context():
        kept = ("backend", "backend_fallback", "interactive")
        plain = {name: value for name, value in matplotlib.rcParamsDefault.items() if name not in kept}
        matplotlib.rcParams.update({**plain, **_RC})
        yield


def width_of(name: str) -> float:
    """Inches of a named width; raises BadInput for another."""
    if name not in WIDTHS:
        raise unknown_name("width", name, WIDTHS)
    return WIDTHS[name]


def new_figure(width: float, height: float, subject: str, facts: Sequence[str]) -> Figure:
    """A figure ``height`` inches high, whose label is its title: ``subject``, then one line per fact.

    The title is not drawn unless :func:`draw_title` is called, since papers have captions; a mark says
    SYNTHETIC where a fact does.
    """
    synthetic = any(fact.startswith("SYNTHETIC") for fact in facts)
    total = height + (LINE if synthetic else 0)
    figure = Figure((width, total))
    figure.set_layout_engine("constrained", rect=(0, 0, 1, height / total), w_pad=0.03, h_pad=0.03)
    figure.set_label("\n".join(one_line(text) for text in (subject, *facts) if text))
    if synthetic:
        figure.text(
            0.995, 1 - 0.02 / total, "SYNTHETIC data", size=SMALL_SIZE, color=MUTED, ha="right", va="top"
        )
    return figure


def draw_title(figure: Figure) -> None:
    """Draw a figure's title above it, which makes it higher; the mark SYNTHETIC is in the title."""
    for mark in list(figure.texts):
        mark.remove()
    width, former = figure.get_size_inches()
    layout = cast(ConstrainedLayoutEngine, figure.get_layout_engine())
    height = former * layout.get()["rect"][3]
    subject, *facts = str(figure.get_label()).split("\n")
    texts = [fill(subject, int(width * _PER_INCH * 0.82))]
    texts += [fill(fact, int(width * _PER_INCH)) for fact in facts]
    sizes = [TITLE_SIZE, *[TEXT_SIZE] * (len(texts) - 1)]
    above = [
        LINE * size / TEXT_SIZE * (text.count("\n") + 1) for text, size in zip(texts, sizes, strict=True)
    ]
    total = height + sum(above) + 0.08
    figure.set_size_inches(width, total)
    layout.set(rect=(0, 0, 1, height / total))
    top = total - 0.04
    for text, size, part in zip(texts, sizes, above, strict=True):
        weight = "bold" if text is texts[0] else "normal"
        figure.text(0.05 / width, top / total, text, size=size, weight=weight, ha="left", va="top")
        top -= part


def in_lines(label: str, width: int) -> str:
    """A long name in several lines, broken after commas if it has some."""
    spaced = re.sub(r",(?=\S)", ", ", label).replace("[", " [")
    if len(label) <= width:
        return label
    return fill(spaced, width, break_long_words=True, break_on_hyphens=False)


@dataclass(frozen=True)
class Legend:
    """A legend under the axes of a figure ``width`` inches wide, with as many columns as fit.

    ``handle``: length of the line sample next to a label, in letters.
    """

    labels: Sequence[str]
    width: float
    handle: float = 2.6

    @property
    def columns(self) -> int:
        """How many columns fit."""
        longest = max(max(map(len, label.split("\n"))) for label in self.labels)
        inches = 0.17 + SMALL_SIZE / 72 * self.handle + longest * 0.049
        return max(1, min(len(self.labels), int(self.width / inches)))

    @property
    def height(self) -> float:
        """Inches that the legend needs."""
        rows = -(-len(self.labels) // self.columns)
        # Columns are filled one after the other; the tallest determines the height.
        columns = [self.labels[start : start + rows] for start in range(0, len(self.labels), rows)]
        lines = max(sum(label.count("\n") + 1 for label in column) for column in columns)
        return 0.1 + 0.122 * lines + 0.01 * rows

    def write(self, figure: Figure, handles: Sequence[Artist]) -> None:
        """Add it to the figure, one handle per label."""
        figure.legend(
            handles,
            self.labels,
            loc="outside lower left",
            ncols=self.columns,
            handlelength=self.handle,
            columnspacing=1.0,
        )


#: Sides of a point where its name may stand, the preferred first: lines away, and to the right, left, middle.
_SIDES = sorted(product(range(-6, 7), (1, -1, 0)), key=lambda side: abs(side[0]) + 2 * (side[1] == 0))


def write_labels(axes: Axes, places: Sequence[tuple[float, float, str]]) -> None:
    """Write a name next to each (x, y, name); call it after the layout of the axes.

    A name stands where it covers the fewest markers and other names; a thin line leads to one further off.
    """
    if not places:
        return
    points = 72 / axes.figure.dpi
    marks = axes.transData.transform([(x, y) for x, y, _ in places]) * points
    frame = np.array(axes.get_window_extent().extents) * points
    taken = [np.concatenate([mark - 3, mark + 3]) for mark in marks]
    for (x, y, name), mark in zip(places, marks, strict=True):
        text = axes.text(0, 0, name, size=SMALL_SIZE)
        half = np.array(text.get_window_extent().size) * points / 2
        text.remove()
        offsets = [
            np.array([side * (half[0] + 5), line * (2 * half[1] + 1)])
            for line, side in _SIDES
            if line or side
        ]
        boxes = [np.concatenate([mark + offset - half, mark + offset + half]) for offset in offsets]
        best = int(np.argmin([_covered(box, taken) + _outside(box, frame) for box in boxes]))
        taken.append(boxes[best])
        far = abs(offsets[best][1]) > 2 * half[1] + 2
        lead = (
            {"arrowstyle": "-", "color": MUTED, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 2} if far else None
        )
        axes.annotate(
            name,
            (x, y),
            tuple(offsets[best]),
            textcoords="offset points",
            size=SMALL_SIZE,
            ha="center",
            va="center",
            arrowprops=lead,
        )


def _covered(box: np.ndarray, taken: Sequence[np.ndarray]) -> float:
    """Area, in square points, that a box (left, bottom, right, top) shares with others."""
    shared = [np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]) for other in taken]
    return sum(float(np.prod(np.clip(sides, 0, None))) for sides in shared)


def _outside(box: np.ndarray, frame: np.ndarray) -> float:
    """How far a box stands out of the axes: much worse than covering something."""
    return 1000 * float(
        np.clip(frame[:2] - box[:2], 0, None).sum() + np.clip(box[2:] - frame[2:], 0, None).sum()
    )


FORMATS = ("png", "svg", "pdf")

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


@dataclass(frozen=True)
class Drawing:
    """A figure for a page: its ``svg`` element, its facts ``about`` it, and its text alternative ``alt``."""

    name: str
    title: str
    about: str
    alt: str
    svg: str


def title_of(figure: Figure) -> tuple[str, str]:
    """A figure's title, and its facts in one line."""
    title, *facts = str(figure.get_label()).split("\n")
    return title, "; ".join(facts)


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
