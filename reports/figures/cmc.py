"""CMC curves before and after attacks: one panel per victim and setting."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vbench.records.record import Record
from vbench.reports.figures.panels import (
    DEEPEST,
    Curve,
    Facet,
    Panels,
    cmc,
    facets,
    seeds_of,
    strongest,
    value,
)
from vbench.reports.figures.style import CLEAN, DASHES, MARKERS, PALETTE, in_lines, styled

SUBJECT = "CMC{of} before and after attacks"
_ARCHIVED = "thin lines: from an archive, which has only ranks 1, 5, 10 and 20"
_MARKED = (1, 5, 10, 20)


def draw(records: Sequence[Record], width: str | None = None) -> Figure:
    """Rank-k in percent against k, clean in black; bands are ± a standard deviation over trials and seeds.

    Curves end at rank 20; the legend has Rank-1, of each panel in order. Records without per-query ranks,
    from an archive, give four points and a thin line. With many attacks only the strongest are drawn,
    and the title says so. Raises BadInput for more panels than can be read.
    """
    panels = facets(records)
    names, note = strongest(panels, "r1")
    archived = "" if all(record.per_query for record in records) else _ARCHIVED
    found = [_curves(panel, names) for panel in panels]
    firsts = {name: " / ".join(_first(curves.get(name)) for curves in found) for name in ("clean", *names)}
    labels = {
        name: in_lines(f"{name}{', Rank-1' if name == 'clean' else ''} {shown} %", 60)
        for name, shown in firsts.items()
    }
    with styled():
        page = Panels(panels, SUBJECT, [note, archived], labels, width)
        for (axes, _), curves in zip(page, found, strict=True):
            _panel(axes, curves, names)
        page.label("rank k", "matched by rank k, %")
        return page.finish()


def _first(curve: Curve | None) -> str:
    return "–" if curve is None else f"{curve.mean[0]:.1f}"


def alt(records: Sequence[Record]) -> str:
    """Rank-1 and Rank-10 of every curve in words."""
    parts = []
    panels = facets(records)
    names, _ = strongest(panels, "r1")
    for panel in panels:
        clean = [value(panel.records, "clean", metric).mean for metric in ("r1", "r10")]
        parts.append(f"{panel.title}: clean Rank-1 {clean[0]:.1f}, Rank-10 {clean[1]:.1f}")
        for name, same in _drawn(panel, names).items():
            after = [value(same, "adversarial", metric).mean for metric in ("r1", "r10")]
            parts.append(f"{name} {after[0]:.1f}, {after[1]:.1f}")
    return f"{SUBJECT.format(of='')}, percent. " + "; ".join(parts) + "."


def drawable(records: Sequence[Record]) -> list[list[Record]]:
    """The records of each panel."""
    return [panel.records for panel in facets(records)]


def _drawn(panel: Facet, names: Sequence[str]) -> dict[str, list[Record]]:
    return {name: same for name, same in seeds_of(panel).items() if name in names}


def _curves(panel: Facet, names: Sequence[str]) -> dict[str, Curve]:
    # All seeds have the same clean queries, so one record with per-query ranks is enough.
    clean = cmc([min(panel.records, key=lambda record: not record.per_query)], "clean")
    return {"clean": clean} | {name: cmc(same, "adversarial") for name, same in _drawn(panel, names).items()}


def _panel(axes: Axes, curves: dict[str, Curve], names: Sequence[str]) -> None:
    for name, curve in curves.items():
        if name == "clean":
            _plot(axes, curve, name, CLEAN, "-", None)
            continue
        place = names.index(name) % len(PALETTE)
        _plot(axes, curve, name, PALETTE[place], DASHES[place], MARKERS[place])
    axes.set_xlim(1, DEEPEST)
    axes.set_xticks(_MARKED)
    axes.set_ylim(0, 102)


def _plot(axes: Axes, curve: Curve, label: str, colour: str, dash: object, marker: str | None) -> None:
    axes.plot(
        curve.ranks,
        curve.mean,
        color=colour,
        linestyle=dash,
        linewidth=1.2 if curve.whole else 0.6,
        marker=marker or ("o" if not curve.whole else None),
        markevery=[at for at, rank in enumerate(curve.ranks) if rank in _MARKED],
        clip_on=False,
        label=label,
    )
    if curve.spread is not None and curve.whole:
        low, high = curve.mean - curve.spread, curve.mean + curve.spread
        axes.fill_between(curve.ranks, low, high, color=colour, alpha=0.15, linewidth=0)
