"""Panels of comparable records and their data; pictures; choice of records."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import mean

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from PIL import Image

from vbench.core.errors import BadInput
from vbench.core.text import count_of, first_of, one_line
from vbench.core.threat import parse_budget
from vbench.records.files import KeptImages
from vbench.records.record import Record
from vbench.reports.distinct import (
    attack_facts,
    attack_marks,
    seeds_key,
    told_apart,
    victim_facts,
    victim_key,
)
from vbench.reports.figures.style import PALETTE, Legend, in_lines, new_figure, width_of
from vbench.reports.rows import DEPTHS, setting

#: Most panels that are readable.
MOST = 12


def victim_of(record: Record) -> str:
    """Name of a record's victim in figures."""
    return one_line(record.victim_name)


def attack_of(record: Record) -> str:
    """Name of a record's attack in figures, which marks transfer and reused perturbations."""
    label = record.label or record.config["attack"]["name"]
    label += f" from {record.surrogate}" if record.surrogate else ""
    return one_line(label) + (" (replayed)" if record.config.get("perturbation") else "")


@dataclass(frozen=True)
class Facet:
    """One panel: records that may be compared, their common facts by name, and what names their attacks."""

    facts: dict[str, str]
    records: list[Record]
    named: Callable[[Record], str] = attack_of

    @property
    def title(self) -> str:
        """Its facts in one line."""
        return "; ".join(self.facts.values())


def _named(records: Sequence[Record]) -> Callable[[Record], str]:
    """:func:`attack_of`, with the version or source where attacks of a name differ in it.

    It is the name in all panels, as they share a legend.
    """

    def facts(record: Record) -> dict[str, object]:
        return attack_facts(record, "surrogate", "perturbation", "training")

    def key(record: Record) -> Hashable:
        return attack_of(record), *map(str, facts(record).values())

    told = {
        key: f", {mark}" if mark else "" for key, mark in told_apart(records, key, attack_of, facts).items()
    }
    return lambda record: attack_of(record) + one_line(told[key(record)])


def budget_of(record: Record) -> Fraction:
    """The budget of a record; raises BadInput if it is invalid."""
    threat = record.config["threat"]
    return parse_budget(threat["eps"], threat["norm"])


def facts_of(record: Record) -> dict[str, str]:
    """Facts that a figure must state, in the words of the tables: victim, protocol, budget."""
    where = setting(record)
    badge = "SYNTHETIC " if where.synthetic else ""
    found = {
        "victim": victim_of(record),
        "protocol": f"{badge}{one_line(where.protocol)} ({count_of(where.trials, 'trial')})",
        "budget": where.threat,
    }
    return {**found, "access": "transfer attacks"} if record.surrogate else found


def apart(record: Record) -> Hashable:
    """The key of comparable records: setting, victim, and whether the attack is a transfer."""
    return setting(record), victim_key(record), bool(record.surrogate)


def facets(
    records: Sequence[Record],
    apart: Callable[[Record], Hashable] = apart,
    facts: Callable[[Record], dict[str, str]] = facts_of,
    more: Callable[[Record], Mapping[str, object]] = victim_facts,
) -> list[Facet]:
    """Records in panels, grouped by ``apart``, in the order of victims and budgets.

    ``facts``: the facts of a record that must be stated and do not vary within a panel; of those in ``more``
    as many as tell panels apart.
    """
    found: dict[Hashable, list[Record]] = {}
    for record in records:
        found.setdefault(apart(record), []).append(record)
    named = _named(records)
    panels = sorted((Facet(facts(same[0]), same, named) for same in found.values()), key=_order(records))
    told = told_apart(
        records,
        apart,
        lambda record: tuple(facts(record).values()),
        lambda record: {"data": setting(record).fingerprint, **more(record)},
    )
    for panel in panels:
        if mark := told[apart(panel.records[0])]:
            panel.facts["apart"] = one_line(mark)
    return panels


def common(panels: Sequence[Facet]) -> tuple[dict[str, str], list[dict[str, str]]]:
    """The facts that all panels share, and the others of each; raises BadInput for more than :data:`MOST`."""
    if len(panels) > MOST:
        raise BadInput(
            f"that is {len(panels)} panels, and {MOST} can be read; choose records with --where or --run"
        )
    names = list(dict.fromkeys(name for panel in panels for name in panel.facts))
    shared = [name for name in names if len({panel.facts.get(name) for panel in panels}) == 1]
    own = [{name: text for name, text in panel.facts.items() if name not in shared} for panel in panels]
    return {name: panels[0].facts[name] for name in shared}, own


def titles_of(own: Sequence[Mapping[str, str]], inches: float) -> list[str]:
    """The title of each panel, ``inches`` wide: its facts that others do not share, a line or more each."""
    return ["\n".join(in_lines(fact, int(17 * inches)) for fact in facts.values()) for facts in own]


def _order(records: Sequence[Record]) -> Callable[[Facet], tuple[object, ...]]:
    """Victims and protocols in order of appearance, budgets ascending."""
    victims, protocols = ([of(record) for record in records] for of in (victim_of, lambda one: one.protocol))

    def key(panel: Facet) -> tuple[object, ...]:
        first = panel.records[0]
        threat = first.config["threat"]
        place = victims.index(victim_of(first)), protocols.index(first.protocol), bool(first.surrogate)
        return (*place, threat["norm"], threat["side"], budget_of(first))

    return key


_HEIGHT = 1.75


class Panels:
    """One axes per facet. Iterate over them to draw, then call :meth:`finish`.

    Facts that all facets share are in the figure's title, the others above their axes; "{of}" and "{on}" in
    ``subject`` become "of" and "on" the victim if all share it. ``labels``: label of an artist -> its text in
    the legend. A single panel is a column wide unless ``width`` is given.
    """

    def __init__(
        self,
        panels: Sequence[Facet],
        subject: str,
        notes: Sequence[str],
        labels: Mapping[str, str],
        width: str | None,
        handle: float = 2.6,
    ) -> None:
        shared, own = common(panels)
        inches = width_of(width or ("column" if len(panels) == 1 else "full"))
        columns = min(len(panels), 1 if inches < 5 else 3)
        rows = math.ceil(len(panels) / columns)
        titles = titles_of(own, inches / columns)
        above = 0.12 * max(title.count("\n") + 1 for title in titles) if any(titles) else 0
        named = {word: f" {word} {shared['victim']}" if "victim" in shared else "" for word in ("of", "on")}
        shared.pop("victim", None)
        self._labels, self._legend = list(labels), Legend(list(labels.values()), inches, handle)
        height = rows * (_HEIGHT + above) + self._legend.height
        self.figure = new_figure(inches, height, subject.format(**named), [*shared.values(), *notes])
        grid = self.figure.subplots(rows, columns, squeeze=False, sharex=False, sharey=True)
        self._axes = list(grid.flat)
        self._first = [row[0] for row in grid]
        self._panels, self._titles = panels, titles

    def __iter__(self) -> Iterator[tuple[Axes, Facet]]:
        for axes, panel, title in zip(self._axes, self._panels, self._titles, strict=False):
            axes.set_title(title, loc="left")
            yield axes, panel

    def label(self, x: str, y: str) -> None:
        """Label both axes of every panel, the vertical one once per row."""
        for axes in self._axes[: len(self._panels)]:
            axes.set_xlabel(x)
        for axes in self._first:
            axes.set_ylabel(y)

    def limits(self, least: float, x: tuple[float, float], y: tuple[float, float]) -> None:
        """Set the limits of all panels; the horizontal axis has a 0 and is logarithmic from ``least`` on."""
        for axes in self._axes[: len(self._panels)]:
            axes.set_xscale("symlog", linthresh=least, linscale=0.5)
            axes.set_xlim(*x)
            axes.set_ylim(*y)
            # Decades below the start of the logarithmic scale would stand on the 0.
            axes.set_xticks([0, *(10.0**k for k in range(round(math.log10(least)), 12) if 10.0**k < x[1])])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(_plain))

    def finish(self) -> Figure:
        """Remove unused axes and add the legend."""
        for axes in self._axes[len(self._panels) :]:
            axes.remove()
        entries: dict[str, Artist] = {}
        for axes in self._axes[: len(self._panels)]:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                entries.setdefault(label, handle)
        self._legend.write(self.figure, [entries[label] for label in self._labels])
        return self.figure


def _plain(value: float, _: int) -> str:
    return f"{value:,.0f}" if value < 1e6 else f"{value / 1e6:,.0f} M"


def seeds_of(panel: Facet, *other: str) -> dict[str, list[Record]]:
    """Records that differ only in their seed, and in ``other`` parts, by the name of their attack."""
    marks = attack_marks(panel.records, panel.named, *other)
    found: dict[str, list[Record]] = {}
    for record in panel.records:
        found.setdefault(panel.named(record) + one_line(marks[seeds_key(record, *other)]), []).append(record)
    return found


def strongest(
    panels: Sequence[Facet], metric: str, *other: str, most: int = len(PALETTE)
) -> tuple[list[str], str]:
    """Names of the attacks to draw, in order of appearance, and a note if some are left out.

    The strongest have the lowest ``metric``, then mAP, after the attack: by their rank in each panel,
    averaged over panels, since values of different settings are not comparable. ``other``: as for
    :func:`seeds_of`.
    """
    places: dict[str, list[float]] = {}
    for panel in panels:
        left = seeds_of(panel, *other)
        order = sorted(left, key=lambda name: _left(left[name], metric))
        for name in left:
            places.setdefault(name, []).append(order.index(name) / len(order))
    if len(places) <= most:
        return list(places), ""
    best = sorted(places, key=lambda name: mean(places[name]))[:most]
    return [name for name in places if name in best], f"the {most} strongest of {len(places)} attacks"


def _left(records: Sequence[Record], metric: str) -> tuple[float, ...]:
    return tuple(mean(record.mean("adversarial", which) for record in records) for which in (metric, "map"))


def by_id(records: Sequence[Record], wanted: Sequence[str]) -> list[Record]:
    """The records of these ids, in the given order; a unique beginning of an id is enough.

    Raises BadInput for an unknown id, with the nearest, and for an ambiguous beginning.
    """
    found: list[Record] = []
    for text in wanted:
        same = [record for record in records if record.id == text] or [
            record for record in records if text and record.id.startswith(text)
        ]
        if not same:
            near = difflib.get_close_matches(text, [record.id for record in records], n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise BadInput(f"no run '{text}'; {hint}ids stand in the names of the record files")
        if len(same) > 1:
            ids = ", ".join(record.id for record in same[:6])
            raise BadInput(
                f"run '{text}' could be {ids}{' ...' if len(same) > 6 else ''}; give more of the id"
            )
        found += [record for record in same if record not in found]
    return found


#: Largest height of pictures in pixels: more is invisible at the size of a page and makes files large.
_ROWS = 192


def one(records: Sequence[Record], name: str) -> Record:
    """The only record; raises BadInput, with the ids, if there are several."""
    if len(records) != 1:
        ids = first_of([f"{record.id} ({attack_of(record)})" for record in records], 6)
        raise BadInput(f"figure {name} shows one run; choose it with --run: {ids}")
    return records[0]


def facts(record: Record, *more: str) -> list[str]:
    """The lines under the title: protocol, then budget and seed, then ``more``."""
    found = facts_of(record)
    seed = f"seed {record.config['seed']}"
    return [found["protocol"], f"{found['budget']}, {seed}", *more]


def row_of(kept: KeptImages, query: int | None) -> int:
    """The row of the kept query with this number; the first if None."""
    found = 0 if query is None else query
    if not 0 <= found < len(kept.before):
        raise BadInput(f"there is no kept query {found}; the run kept 0 to {len(kept.before) - 1}")
    return found


def representative(kept: KeptImages, most: int) -> list[int]:
    """Some kept queries: first those that lose most, then, less than half, random ones.

    The worst queries alone would overstate the attack.
    """
    reasons = np.array(kept.meta.chosen)
    worst, others = (np.flatnonzero((reasons == "worst") == so).tolist() for so in (True, False))
    few = min(len(others), max(most // 2, most - len(worst)))
    return [*worst[: most - few], *others[:few]]


def small(pixels: np.ndarray) -> np.ndarray:
    """uint8 H x W x 3, scaled down to at most 192 rows."""
    height, width = pixels.shape[:2]
    if height <= _ROWS:
        return pixels
    size = (max(1, round(width * _ROWS / height)), _ROWS)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def picture(axes: Axes, pixels: np.ndarray, title: str = "") -> None:
    """An image (uint8, or floats in [0, 1]) without ticks, its title above."""
    axes.imshow(pixels, interpolation="nearest")
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[:].set_visible(False)


#: Last rank of a CMC curve.
DEEPEST = 20


@dataclass(frozen=True)
class Curve:
    """Percent at ``ranks``: mean over trials and seeds, and standard deviation (None for one value).

    ``whole``: from the ranks of all queries; else only the four ranks in an archive.
    """

    ranks: np.ndarray
    mean: np.ndarray
    spread: np.ndarray | None
    whole: bool


def cmc(records: Sequence[Record], which: str) -> Curve:
    """The CMC of "clean" or "adversarial" queries up to rank 20, of records that differ only in their seed.

    Rank-k is the share, of the queries with a match, whose first match is at rank k or better, with ranks
    counted as in the record's protocol. Raises BadInput for a record whose stored ranks are broken.
    """
    stored = [_ranks(record, which) for record in records]
    whole = [ranks for ranks in stored if ranks is not None]
    if len(whole) < len(stored):
        trials = [trial for record in records for trial in getattr(record, which)]
        # Records without per-query values have only these ranks.
        shares = np.array([[getattr(trial, name) for name in DEPTHS] for trial in trials])
        return _curve(np.array(list(DEPTHS.values())), shares, whole=False)
    depth = np.arange(1, DEEPEST + 1)
    values = [
        (((trial[:, None] <= depth) & (trial[:, None] > 0)).sum(0) / max(1, (trial > 0).sum()))
        for ranks in whole
        for trial in ranks
    ]
    return _curve(depth, np.array(values), whole=True)


@dataclass(frozen=True)
class Value:
    """A metric in percent: mean over trials and seeds, and standard deviation (0 for a single value)."""

    mean: float
    spread: float


def value(records: Sequence[Record], which: str, metric: str) -> Value:
    """A metric of "clean" or "adversarial" over records that differ only in their seed."""
    found = [100 * getattr(trial, metric) for record in records for trial in getattr(record, which)]
    return Value(float(np.mean(found)), float(np.std(found, ddof=1)) if len(found) > 1 else 0.0)


def _ranks(record: Record, which: str) -> np.ndarray | None:
    packed = record.per_query.get(f"{which}_rank")
    if packed is None:
        return None
    ranks = packed.unpack()
    if ranks.ndim != 2 or not ranks.size or ranks.min() < 0:
        raise BadInput(f"record {record.id}: its {which} ranks are not trials x queries of ranks")
    return ranks


def _curve(depth: np.ndarray, values: np.ndarray, whole: bool) -> Curve:
    spread = 100 * values.std(0, ddof=1) if len(values) > 1 else None
    return Curve(depth, 100 * values.mean(0), spread, whole)
