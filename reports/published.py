"""Published results."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files

from vbench.core.errors import BadInput
from vbench.core.threat import parse_budget
from vbench.records.record import Record
from vbench.reports.rows import CLEAN, HEADINGS, KNOWN_METRICS
from vbench.reports.table import Column, Table, simple, write

_SWITCHES = {"fsam": "FSAM", "sfm": "SFM", "aqal": "AQAL"}

_IN_PLACE = {"se": "SE", "eca": "ECA"}


def printed_name(record: Record) -> str:
    """The :attr:`Published.attack` that corresponds to a record, empty if there is none.

    Usually the attack's name, whatever its settings: those behind a published value are unknown. For
    ``fsam_uap`` the rows of the paper's ablation and of its attention comparison are distinguished by the
    settings they name; other variants have none.
    """
    attack = record.config["attack"]
    settings = attack.get("settings", {})
    return _of_fsam(settings) if attack["name"] == "fsam_uap" and settings else attack["name"]


def _of_fsam(settings: dict[str, object]) -> str:
    on = [name for switch, name in _SWITCHES.items() if settings.get(switch, True)]
    if not settings.get("identity", True) or settings.get("reading", "quadruple") != "quadruple":
        return ""
    attention = settings.get("attention", "cbam_spatial")
    if attention in _IN_PLACE and len(on) == len(_SWITCHES):
        return f"fsam_uap: {_IN_PLACE[attention]} in place of FSAM"
    modules = settings.get("fsam", True) or settings.get("sfm", True)
    if attention != "cbam_spatial" and modules:
        return ""
    return "fsam_uap" if len(on) == len(_SWITCHES) else f"fsam_uap: {' + '.join(['noise', *on])}"


#: Values of ``protocol`` that are not protocol ids of vbench, with the reason.
NOT_IDS = {
    "regdb/vis2ir": "mean over the ten splits",
    "regdb/ir2vis": "mean over the ten splits",
    "regdb, direction not stated": "the source does not say which way it searches",
    "not stated": "the source does not name the data",
}


@dataclass(frozen=True)
class Published:
    """One published value, in percent.

    ``attack`` is empty for clean results and vbench's name if the source runs that attack; a longer text is a
    variant. ``budget`` is empty if the source states none. ``protocol`` is a protocol id or one of
    :data:`NOT_IDS`. ``note`` says what is doubtful about the value.
    """

    victim: str
    attack: str
    protocol: str
    metric: str
    value: float
    budget: str
    source: str
    note: str


@cache
def published() -> tuple[Published, ...]:
    """Every value, in the order of the file ``published.csv`` next to this module."""
    text = files("vbench.reports").joinpath("published.csv").read_text(encoding="utf-8")
    return tuple(Published(value=float(row.pop("value")), **row) for row in csv.DictReader(text.splitlines()))


def printed_by(source: tuple[str, ...], victim: str, attack: str, protocol: str) -> dict[str, Published]:
    """Metric -> value for an attack ("" for clean), by sources whose names begin with one of ``source``."""
    return {
        one.metric: one
        for one in published()
        if one.source.startswith(source)
        and (one.victim, one.attack, one.protocol) == (victim, attack, protocol)
    }


def clean_results(victim: str) -> list[list[str]]:
    """Rows of protocol, Rank-1, mAP, mINP, source and note for a victim's clean results."""
    grouped: dict[tuple[str, str, str], dict[str, float]] = {}
    for one in published():
        if one.victim == victim and not one.attack and one.metric in ("r1", "map", "minp"):
            grouped.setdefault((one.protocol, one.source, one.note), {})[one.metric] = one.value
    return [
        [protocol, *(_figure(values.get(metric)) for metric in ("r1", "map", "minp")), source, note]
        for (protocol, source, note), values in grouped.items()
    ]


class References:
    """Numbers of sources: the same source with the same note has one number within a page or table."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], int] = {}

    def figures(self, found: Sequence[Published]) -> str:
        """The values of one cell with their source numbers: "42.64 [1], 36.02 [2, 3]"."""
        numbers: dict[float, list[int]] = {}
        for one in found:
            number = self._found.setdefault((one.source, one.note), len(self._found) + 1)
            numbers.setdefault(one.value, []).append(number)
        return ", ".join(
            f"{value:.2f} [{', '.join(map(str, sorted(set(refs))))}]" for value, refs in numbers.items()
        )

    def notes(self) -> list[str]:
        """A line for each number: the source and its note."""
        return [
            f"[{number}] {source}{f': {note}' if note else ''}"
            for (source, note), number in self._found.items()
        ]


class PublishedCells:
    """The published values for a measured row; none for synthetic data.

    They match if protocol and victim are equal, the attack has the same name (for ``fsam_uap`` the same row
    of the paper, see :func:`printed_name`), and the budget is equal, if the source states one. Published
    attacks are white-box and change queries; other rows get only the clean values. RegDB is published as the
    mean of ten splits, so a single split has no published value.
    """

    def __init__(self, metrics: Sequence[str]) -> None:
        self._metrics = [metric for metric in metrics if metric in HEADINGS]
        self._references = References()

    def cell(self, record: Record) -> str:
        """ "Rank-1 47.50 [1] → 42.64 [2], 36.02 [3]; mAP ...", empty if nothing is printed."""
        if record.synthetic or "queries" in record.config["dataset"]:
            return ""
        parts = []
        for metric in self._metrics:
            same = [
                one
                for one in published()
                if one.metric == metric
                and one.protocol == record.protocol
                and one.victim == record.config["victim"]["name"]
            ]
            clean = self._references.figures([one for one in same if not one.attack])
            after = self._references.figures([one for one in same if one.attack and _is_of(one, record)])
            if clean or after:
                parts.append(f"{HEADINGS[metric]} {clean}{f' → {after}' if after else ''}")
        return "; ".join(parts)

    def notes(self) -> list[str]:
        """The sources, if any cell has one."""
        notes = self._references.notes()
        return ["Published, as printed (settings are the source's own): " + "; ".join(notes)] if notes else []


def _is_of(one: Published, record: Record) -> bool:
    threat = record.config["threat"]
    if record.surrogate or threat["side"] != "query" or one.attack != printed_name(record):
        return False
    if not one.budget:
        return True
    return threat["norm"] == "linf" and parse_budget(one.budget) == parse_budget(threat["eps"])


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def printed_report(
    figures: Sequence[Published], style: str = "markdown", metrics: Sequence[str] | None = None
) -> str:
    """Values as published, percent; "csv" and "json" have one row per value.

    A row is a victim, an attack and a budget; a cell holds the value and number of every source, in the order
    of the file. Raises BadInput for an unknown style, and where nothing is left to show.
    """
    wanted = [one for one in figures if metrics is None or one.metric in metrics]
    if not wanted:
        raise BadInput("no published value of these metrics; leave --metrics or --where out")
    if style in ("csv", "json"):
        return write([Table("", "", (), (), flat=lambda: [asdict(one) for one in wanted])], style)
    protocols = list(dict.fromkeys(one.protocol for one in wanted))
    return write(
        [_printed(name, [one for one in wanted if one.protocol == name]) for name in protocols], style
    )


def _printed(protocol: str, figures: Sequence[Published]) -> Table:
    metrics = [metric for metric in KNOWN_METRICS if any(one.metric == metric for one in figures)]
    rows: dict[tuple[str, str, str], list[Published]] = {}
    for one in figures:
        rows.setdefault((one.victim, one.attack, one.budget), []).append(one)
    references = References()
    lines = []
    for (victim, attack, limit), found in sorted(rows.items()):
        shown = [references.figures([one for one in found if one.metric == metric]) for metric in metrics]
        lines.append([victim, attack or CLEAN, limit, *shown])
    about = f" ({NOT_IDS[protocol]})" if protocol in NOT_IDS else ""
    heads = [Column(HEADINGS.get(metric, "ASR"), True) for metric in metrics]
    return simple(
        f"published, not measured here: {protocol}{about}; percent, budget empty where not stated",
        ["victim", "attack", "budget", *heads],
        lines,
        f"published {protocol}",
        notes=references.notes(),
    )
