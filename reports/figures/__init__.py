"""The figures by name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vbench.core.errors import BadInput, unknown_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vbench.records.record import Record
    from vbench.reports.figures.style import Drawing


@dataclass(frozen=True)
class Entry:
    """One figure.

    ``needs``: "records" of any number of runs; or files of one run: "embeddings", "images", or "perturbation"
    (a learnt perturbation or kept images). ``metric``, ``query``: whether one can be chosen.
    """

    name: str
    summary: str
    needs: str
    metric: bool = False
    query: bool = False

    @property
    def module(self) -> Any:
        """The module that draws it, imported on first use because it imports matplotlib."""
        return import_module(f"vbench.reports.figures.{self.name}")


_ENTRIES = (
    Entry("cmc", "CMC curves before and after attacks", "records"),
    Entry("eps", "a metric against the budget eps", "records", metric=True),
    Entry("transfer", "surrogate x victim matrix as a heat map", "records", metric=True),
    Entry("cost", "damage against gradient evaluations or queries", "records", metric=True),
    Entry("tsne", "t-SNE of embeddings before and after, by identity and modality", "embeddings"),
    Entry("strips", "queries with the best of their gallery, right or wrong", "images", query=True),
    Entry("spectrum", "a pair rebuilt from its amplitude, from its phase", "images", query=True),
    Entry("perturbation", "the change itself: amplified, and its spectrum", "perturbation", query=True),
)

FIGURES = {entry.name: entry for entry in _ENTRIES}


def find(name: str) -> Entry:
    """The figure of that name; raises BadInput, with the nearest name, for an unknown one."""
    if name not in FIGURES:
        raise unknown_name("figure", name, FIGURES)
    return FIGURES[name]


def draw(
    name: str,
    records: Sequence[Record],
    runs: Path,
    metric: str | None = None,
    width: str | None = None,
    query: int | None = None,
    title: bool = False,
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """Draw the named figure of ``records``, with the files that their runs kept under ``runs``.

    ``width``: "column" or "full", else the figure's default; ``metric`` and ``query`` (the number of a kept
    query) for figures with that option. ``title`` draws the title; ``labels`` are names to draw instead of
    the printed ones, by label or name of a model or attack. Raises BadInput for an unknown name, for an
    option that the figure does not have, for unsuitable records, and for kept files that are missing or
    broken.
    """
    from vbench.reports.rows import HEADINGS

    entry = find(name)
    for what, given in (("metric", metric), ("query", query)):
        if given is not None and not getattr(entry, what):
            raise BadInput(f"figure {name} has no {what} to choose; leave --{what} away")
    if metric is not None and metric not in HEADINGS:
        raise unknown_name("metric", metric, HEADINGS)
    from vbench.reports.figures.panels import one
    from vbench.reports.figures.style import draw_title

    arguments: tuple[Any, ...] = (records,)
    if entry.needs != "records":
        record = one(records, name)
        arguments = record, *_kept(entry, record, runs, query)
    figure = _draw(entry, arguments, {"width": width, **({"metric": metric} if metric else {})}, labels)
    if title:
        draw_title(figure)
    return figure


def _draw(
    entry: Entry, given: tuple[Any, ...], more: dict[str, Any], labels: Mapping[str, str] | None = None
) -> Figure:
    """Draw with printed names; settings that they leave out are in the title."""
    from vbench.reports.printed import printed, protocol_words, short_names

    records = given[0] if isinstance(given[0], Sequence) else [given[0]]
    names = [(one.label or str(one.config["attack"]["name"]), one.victim_name) for one in records]
    short, notes = short_names([name for both in names for name in both], labels)
    renamed = [
        one.model_copy(
            update={
                "label": short[attack],
                "victim_label": short[victim],
                "surrogate": (labels or {}).get(one.surrogate, printed(one.surrogate)),
                "protocol": protocol_words(one.protocol),
            }
        )
        for one, (attack, victim) in zip(records, names, strict=True)
    ]
    figure = entry.module.draw(renamed if given[0] is records else renamed[0], *given[1:], **more)
    if notes:
        figure.set_label(f"{figure.get_label()}\n{'; '.join(notes.values())}")
    return figure


def supported(records: Sequence[Record]) -> list[tuple[Entry, Sequence[Record]]]:
    """Every figure that can be drawn from records without kept files, with the records it shows."""
    entries = [entry for entry in FIGURES.values() if entry.needs == "records"]
    return [(entry, same) for entry in entries for same in entry.module.drawable(records)]


def drawable(
    records: Sequence[Record],
    runs: Path,
    kept: bool = False,
    metric: str = "r1",
    most: int | None = None,
) -> list[Drawing]:
    """All figures that can be drawn from records, as SVG for one page; their ids never collide.

    CMC and cost per victim and setting, ``metric`` against eps for attacks with several budgets, transfer
    matrices if there are transfer attacks. With ``kept``, also those of single runs with files under
    ``runs``; a broken file is left out, with a line on standard error. ``most`` limits the others, which take
    a tenth of a second each. Raises BadInput if a record's stored ranks are broken.
    """
    found = []
    for entry, same in supported(records)[:most]:
        found.append(_drawing(entry, same, (same,), {"metric": metric} if entry.metric else {}))
    for entry in FIGURES.values():
        if kept and entry.needs != "records":
            found += [drawing for record in records for drawing in _of_one(entry, record, runs)]
    return found


def _of_one(entry: Entry, record: Record, runs: Path) -> list[Drawing]:
    from vbench.core.progress import say
    from vbench.records.files import missing

    # Learnt perturbations are always stored, and would fill a page with one picture per victim.
    what = "embeddings" if entry.needs == "embeddings" else "images"
    if missing(runs, record, [what]):
        return []
    try:
        return [_drawing(entry, [record], (record, *_kept(entry, record, runs, None)), {})]
    except BadInput as error:
        say(f"no figure {entry.name} of run {record.id}: {error}")
        return []


def _kept(entry: Entry, record: Record, runs: Path, query: int | None) -> tuple[Any, ...]:
    """The arguments of a figure of one run, after the record itself."""
    from vbench.records.files import read_embeddings, read_images

    if entry.needs == "embeddings":
        return (read_embeddings(runs, record),)
    if entry.needs == "images":
        return read_images(runs, record), query
    return (entry.module.change_of(record, runs, query),)


def _drawing(
    entry: Entry, records: Sequence[Record], given: tuple[Any, ...], more: dict[str, Any]
) -> Drawing:
    from vbench.reports.figures.style import Drawing, inline, title_of

    figure = _draw(entry, given, more)
    (title, facts), alt = title_of(figure), entry.module.alt(*given, **more)
    about = " ".join([*more.values(), *(record.id for record in records)])
    prefix = f"{entry.name}-{hashlib.sha256(about.encode()).hexdigest()[:8]}"
    return Drawing(entry.name, title, facts, alt, inline(figure, prefix, title, alt))
