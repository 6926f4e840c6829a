"""CMC curves before and after attacks: one panel a victim and setting."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vbench.record import Record
from vbench.reports.figures.curves import Curve, cmc, value
from vbench.reports.figures.facets import Facet, attack_of, facets
from vbench.reports.figures.panels import Panels, seeds_of, strongest
from vbench.reports.figures.style import CLEAN, DASHES, MARKERS, PALETTE, in_lines, styled

SUBJECT = "CMC{of} before and after attacks"
_ARCHIVED = "thin lines: of an archive, which keeps ranks 1, 5, 10 and 20 alone"
_MARKED = (1, 5, 10, 20, 30, 40, 50)


def draw(records: Sequence[Record], width: str | None = None) -> Figure:
    """Rank-k in percent against k, clean in black; bands are ± a standard deviation over trials and seeds.

    Curves reach rank 50, or the last rank at which any query finds its match; records without the ranks of
    their queries, from an archive, give four points and a thin line. Of many attacks the strongest are
    drawn, and the title says so. Raises BadInput for more panels than can be read.
    """
    chosen, note = strongest(records, "r1")
    names = list(dict.fromkeys(attack_of(record) for record in chosen))
    with styled():
        archived = "" if all(record.per_query for record in chosen) else _ARCHIVED
        labels = ["clean", *map(_label, names)]
        panels = Panels(facets(chosen), SUBJECT, [note, archived], labels, width)
        for axes, panel in panels:
            _panel(axes, panel, names)
        panels.label("rank k", "matched by rank k, %")
        return panels.finish()


def alt(records: Sequence[Record]) -> str:
    """Rank-1 and Rank-10 of every curve in words."""
    parts = []
    for panel in facets(strongest(records, "r1")[0]):
        clean = [value(panel.records, "clean", metric).mean for metric in ("r1", "r10")]
        parts.append(
            f"{'; '.join(panel.facts.values())}: clean Rank-1 {clean[0]:.1f}, Rank-10 {clean[1]:.1f}"
        )
        for name, same in seeds_of(panel.records).items():
            after = [value(same, "adversarial", metric).mean for metric in ("r1", "r10")]
            parts.append(f"{name} {after[0]:.1f}, {after[1]:.1f}")
    return f"{SUBJECT.format(of='')}, percent. " + "; ".join(parts) + "."


def drawable(records: Sequence[Record]) -> list[list[Record]]:
    """The records of each panel."""
    return [panel.records for panel in facets(records)]


def _panel(axes: Axes, panel: Facet, names: Sequence[str]) -> None:
    groups = seeds_of(panel.records)
    curves = {name: cmc(same, "adversarial") for name, same in groups.items()}
    # Seeds share their clean queries: one record says it all.
    clean = cmc([min(panel.records, key=lambda record: not record.per_query)], "clean")
    last = max(int(curve.ranks[-1]) for curve in (clean, *curves.values()))
    _plot(axes, clean.until(last), "clean", CLEAN, "-", None)
    for name, curve in curves.items():
        place = names.index(name) % len(PALETTE)
        _plot(axes, curve.until(last), _label(name), PALETTE[place], DASHES[place], MARKERS[place])
    axes.set_xlim(1, max(2, last))
    axes.set_xticks([tick for tick in _MARKED if tick <= last])
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


def _label(name: str) -> str:
    return in_lines(name, 40)
