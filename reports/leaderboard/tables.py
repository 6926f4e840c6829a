"""Boards of comparable results, and their tables: by victim, by attack, each on each victim, every run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean as mean
from statistics import stdev

from vbench.attacks.registry import ATTACKS
from vbench.core.text import first_of
from vbench.records.record import Record
from vbench.reports.distinct import attack_marks, seeds_key, victim_key, victim_names
from vbench.reports.leaderboard.collect import Entry, Result
from vbench.reports.leaderboard.names import Slugs
from vbench.reports.printed import CODE, printed, protocol_words, read_paper
from vbench.reports.rows import HEADINGS, Row, Setting, best, rows_of, setting
from vbench.reports.table import Badge, Cell, Column, Group, Table
from vbench.reports.verify import Mark
from vbench.reports.verify.configuration import declared_attack
from vbench.victims.registry import VICTIMS


@dataclass(frozen=True)
class Standing:
    """Runs of one attack on one victim that differ only in their seed."""

    setting: Setting
    entries: tuple[Entry, ...]
    #: What tells the attack from others of its name on the board.
    mark: str = ""

    @property
    def record(self) -> Record:
        """One of its records, for the facts that all share."""
        return self.entries[0].record

    @cached_property
    def victim(self) -> tuple[str, ...]:
        """The key of the victim."""
        return victim_key(self.record)

    @cached_property
    def attack(self) -> str:
        """Label of the attack, with another version than today's and the source of its perturbation."""
        return _attack_name(self.record) + self.mark

    @cached_property
    def knowledge(self) -> str:
        """The attacker's knowledge: only attacks of equal knowledge are compared."""
        return access(self.record)

    @cached_property
    def agrees(self) -> bool:
        """Whether the results of every run agree, on all machines."""
        return all(entry.agrees for entry in self.entries)

    @property
    def results(self) -> list[Result]:
        """All results of its entries."""
        return [result for entry in self.entries for result in entry.results]

    @property
    def doubted(self) -> bool:
        """Whether another record contradicts these about the same victim and images."""
        return any(result.doubts for result in self.results)

    @cached_property
    def row(self) -> Row:
        """Values in percent, mean over seeds; if results differ, the one worst for the attack."""
        first = rows_of([entry.record for entry in self.entries])[0]
        after = {metric: self._seeds("adversarial", metric) for metric in HEADINGS}
        rates = [100 * result.record.asr for result in self.results if result.record.asr is not None]
        return replace(
            first,
            knowledge=self.knowledge,
            before={metric: mean(self._seeds("clean", metric)) for metric in HEADINGS},
            after={
                metric: mean(values) if self.agrees else self.span(metric)[1]
                for metric, values in after.items()
            },
            spread={metric: stdev(values) for metric, values in after.items() if len(values) > 1},
            asr=(mean(rates) if self.agrees else min(rates)) if rates else None,
        )

    def span(self, metric: str) -> tuple[float, float]:
        """Smallest and largest result after the attack, percent."""
        found = [bound for entry in self.entries for bound in entry.span("adversarial", metric)]
        return 100 * min(found), 100 * max(found)

    def _seeds(self, which: str, metric: str) -> list[float]:
        return [100 * entry.mean(which, metric) for entry in self.entries]


@dataclass(frozen=True)
class Board:
    """Comparable standings: equal data, protocol, budget, side, trials and level."""

    setting: Setting
    level: str
    standings: tuple[Standing, ...]
    #: What tells it from boards of the same words.
    variant: str = ""

    @property
    def key(self) -> str:
        """A unique text for this board."""
        where = self.setting
        kind = " synthetic" if where.synthetic else ""
        threat = where.threat.replace("L_inf", "linf").replace(" sides", "").replace(" side", "")
        return f"{where.protocol} {threat} {self.level}{kind} {where.trials} {where.fingerprint}"

    @property
    def title(self) -> str:
        """Its title in words, without the SYNTHETIC badge."""
        level = "" if self.level == "pixel" else f", {self.level} level"
        return f"{protocol_words(self.setting.protocol)}; {self.setting.threat}{level}{self.variant}"

    @property
    def results(self) -> list[Result]:
        """Every result on it."""
        return [result for standing in self.standings for result in standing.results]

    @cached_property
    def shared(self) -> set[Mark]:
        """Marks of every result, which the page of the board says once."""
        return set.intersection(*(set(result.marks) for result in self.results))

    @property
    def badges(self) -> list[Badge]:
        """The badges of :attr:`shared`."""
        return [MARKS[mark] for mark in Mark if mark in self.shared]

    def victims(self) -> dict[tuple[str, ...], list[Standing]]:
        """Standings of each victim, victims by name."""
        found: dict[tuple[str, ...], list[Standing]] = {}
        for standing in sorted(self.standings, key=lambda one: one.victim):
            found.setdefault(standing.victim, []).append(standing)
        return found

    def attacks(self) -> dict[tuple[str, str], list[Standing]]:
        """Standings of each (knowledge, attack): by knowledge, then in order of appearance."""
        found: dict[tuple[str, str], list[Standing]] = {}
        for standing in sorted(self.standings, key=lambda one: _rank(one.knowledge)):
            found.setdefault((standing.knowledge, standing.attack), []).append(standing)
        return found

    def knowledge(self) -> list[str]:
        """Every kind of knowledge on it."""
        return list(dict.fromkeys(knowledge for knowledge, _ in self.attacks()))


def boards(entries: Iterable[Entry]) -> list[Board]:
    """Boards of entries, real data first; results of different boards are not comparable."""
    found: dict[tuple[Setting, str], dict[tuple[object, ...], list[Entry]]] = {}
    for entry in entries:
        record = entry.record
        same = (*seeds_key(record), tuple(record.left_out))
        found.setdefault((setting(record), record.level), {}).setdefault(same, []).append(entry)
    made = []
    for (where, level), groups in found.items():
        marks = attack_marks([same[0].record for same in groups.values()], _attack_name, "victim")
        standings = (
            Standing(where, tuple(same), marks[seeds_key(same[0].record, "victim")])
            for same in groups.values()
        )
        made.append(Board(where, level, tuple(standings)))
    made.sort(
        key=lambda board: (
            board.setting.synthetic,
            board.setting.protocol,
            -sum(len(one.entries) for one in board.standings),
        )
    )
    words = [(board.setting.synthetic, board.title) for board in made]
    return [
        replace(board, variant=f"; image set {words[: at + 1].count(words[at])}")
        if words.count(words[at]) > 1
        else board
        for at, board in enumerate(made)
    ]


def _attack_name(record: Record) -> str:
    replayed, card = record.config.get("perturbation"), record.config["attack"]
    today, version = (ATTACKS.get(card["name"]) or card).get("version"), card.get("version")
    other = f" (version {version})" if version != today else ""
    source = f" from {record.surrogate}" if record.surrogate else ""
    return record.label + other + source + (f" replayed {replayed[:8]}" if replayed else "")


def access(record: Record) -> str:
    """An attacker's knowledge and abilities as one phrase: attacks are compared if it is equal."""
    known = rows_of([record])[0].knowledge
    declared = declared_attack(record.config["attack"]["name"])
    if declared is not None and declared.blind:
        known = f"blind, {known}"
    elif (declared is not None and declared.black_box) or record.cost.get("queries_per_image", 0) > 0:
        known = known if record.members else f"black box, {known}"
    return f"{known}, replayed" if record.config.get("perturbation") else known


def _rank(knowledge: str) -> tuple[int, str]:
    starts = ("blind", "black box", "universal", "per-image", "evaluation")
    place = next((index for index, start in enumerate(starts) if knowledge.startswith(start)), len(starts))
    return place, knowledge


DISPUTED = Badge(
    "results differ",
    "Different results of one configuration were submitted; the range is shown, sorted by the end that is "
    "worse for the attack, and never in bold.",
    warn=True,
)

DOUBTED = Badge(
    "clean in doubt",
    "Another record contradicts the clean results of this victim, or whether the images are synthetic; "
    "see the page of refusals and doubts.",
    warn=True,
)

CHECKED = Badge(
    "recomputed",
    "Rank-k, mAP and ASR were recomputed from per-query values.",
)


def after(standing: Standing, metric: str, small: str = "", strong: bool = False, lead: str = "") -> Cell:
    """A metric after the attack: mean over seeds, spread, or the range if results differ."""
    value = standing.row.after[metric]
    if not standing.agrees:
        low, high = standing.span(metric)
        return Cell(f"{low:.1f} to {high:.1f}", value, small, lead=lead, badges=(DISPUTED,))
    spread = f" ± {standing.row.spread[metric]:.1f}" if standing.row.spread else ""
    return Cell(f"{value:.1f}{spread}", value, small, strong, lead)


def number(value: float | None, small: str = "") -> Cell:
    """A number with one decimal; empty for None."""
    # Adding zero turns -0.0 into 0.0.
    return Cell("" if value is None else f"{round(value, 1) + 0.0:.1f}", value, small)


MARKS = {mark: Badge(mark.value, mark.meaning) for mark in Mark}


def badges_of(results: Sequence[Result], marks: Iterable[Mark] = Mark) -> list[Badge]:
    """Badges of the verification of results, each once; ``marks``: those that are shown."""
    found = [MARKS[mark] for mark in marks if any(mark in result.marks for result in results)]
    return [*found, *([DOUBTED] if any(result.doubts for result in results) else [])]


def checks_of(results: Sequence[Result]) -> list[Badge]:
    """All badges of results, with that of checked ones."""
    found = badges_of(results)
    return found if MARKS[Mark.TOTALS_ONLY] in found else [CHECKED, *found]


class Links:
    """Pages of boards, their runs, victims and attacks; all in one folder."""

    def __init__(self) -> None:
        self._slugs: dict[str, Slugs] = defaultdict(Slugs)

    def page(self, kind: str, text: str) -> str:
        """The page of one "board" or its "runs", by the key of the board."""
        return f"{kind}-{self._slugs[kind].of(text)}.html"

    def subject(self, kind: str, record: Record) -> str:
        """The page of all results of victims, or of attacks, of one name."""
        return self.page(kind, record.config[kind]["name"])


def _victim(standing: Standing, links: Links, badges: Sequence[Badge] = ()) -> Cell:
    """A victim with weights and input size, which distinguish victims of one name."""
    card = standing.record.config["victim"]
    size = card["options"].get("input_size")
    shape = f", {size[0]}x{size[1]}" if isinstance(size, list) and len(size) == 2 else ""
    page = links.subject("victim", standing.record)
    small = f"weights {card['weights'][:8]}{shape}"
    return Cell(printed(standing.row.victim), small=small, href=page, badges=badges)


def _attack(standing: Standing, links: Links, badges: Sequence[Badge] = ()) -> Cell:
    return Cell(standing.attack, href=links.subject("attack", standing.record), badges=badges)


@dataclass(frozen=True)
class Bar:
    """A model of a chart: Rank-1 in percent, clean and under the strongest attack."""

    name: str
    clean: float
    bound: float


def ranked(board: Board, links: Links) -> tuple[Table, list[Bar]]:
    """Models by their Rank-1 under the strongest attack that was run, highest first; and a chart of it."""
    columns = [
        Column("Rank", True),
        Column("Model"),
        Column("Defence", hint="none: no model here was trained or changed against attacks"),
        Column("Clean", True, "Rank-1 before any attack, percent; mAP below"),
        Column("Bound", True, "lowest Rank-1 after any attack, percent; mAP below"),
        Column("Strongest attack"),
        Column("Attacks", True, "number of attacks run on it: with more, a bound can only fall"),
        Column("Paper and year"),
        Column("Code"),
        Column("Newest", hint="date of the newest record, as stated"),
    ]
    found = []
    for same in board.victims().values():
        lowest = min(same, key=lambda one: one.row.after["r1"])
        found.append((round(lowest.row.after["r1"], 1), lowest, same))
    found.sort(key=lambda one: -one[0])
    groups, bars = [], []
    for bound, lowest, same in found:
        name = lowest.record.config["victim"]["name"]
        rank = 1 + sum(other > bound for other, *_ in found)
        authors, _, *venue = (read_paper(VICTIMS[name].paper) if name in VICTIMS else None) or ("", "")
        code = CODE.get(name, "")
        newest = max(result.record.created for one in same for result in one.results)[:10]
        cells = [
            Cell(str(rank), rank),
            _victim(lowest, links, badges_of(lowest.results, [Mark.FOREIGN_VICTIM])),
            Cell("none"),
            clean(same),
            after(lowest, "r1", f"mAP {lowest.row.after['map']:.1f}", strong=rank == 1),
            Cell(printed(lowest.attack), small=lowest.knowledge),
            Cell(str(len(same)), len(same)),
            Cell(", ".join(filter(None, [authors, " ".join(venue)]))),
            Cell("repository" if code else "", href=code),
            Cell(newest),
        ]
        groups.append(Group(lowest.row.victim, cells))
        bars.append(Bar(printed(lowest.row.victim), lowest.row.before["r1"], bound))
    note = (
        "A bound is only as low as the attacks that were run; compare models with the same number of attacks."
    )
    badges = ["SYNTHETIC"] if board.setting.synthetic else []
    return Table("ranked", board.title, columns, groups, badges, notes=[note]), bars


_WORST = "lowest Rank-1 after an attack with this knowledge"


def by_victim(board: Board, links: Links) -> Table:
    """One row per victim: clean, and the lowest result under attacks of each kind of knowledge."""
    kinds = board.knowledge()
    columns = [
        Column("Victim"),
        Column("Clean", True, "Rank-1 before any attack; mAP below"),
        *(Column(f"Worst: {kind}", True, _WORST) for kind in kinds),
        Column("Attacks", True, "number of attacks run on it"),
    ]
    rows = []
    for same in board.victims().values():
        results = [result for one in same for result in one.results]
        victim = _victim(same[0], links, badges_of(results, [Mark.FOREIGN_VICTIM]))
        worst = [_worst([one for one in same if one.knowledge == kind]) for kind in kinds]
        cells = [victim, clean(same), *worst, Cell(str(len(same)), len(same))]
        rows.append(Group(same[0].row.victim, cells))
    legend = (
        "Rank-1 in percent, below it mAP and the attack; mean over trials, and over seeds with their "
        "standard deviation."
    )
    return Table("victims", "By victim", columns, rows, legend=legend)


def _worst(same: Sequence[Standing]) -> Cell:
    if not same:
        return Cell("")
    lowest = min(same, key=lambda one: one.row.after["r1"])
    return after(lowest, "r1", f"mAP {lowest.row.after['map']:.1f}, {lowest.attack}")


def clean(same: Sequence[Standing]) -> Cell:
    """Clean results; the range if records differ by more than rounding."""
    found = [result.record for one in same for result in one.results]
    values = [100 * record.mean("clean", "r1") for record in found]
    precision = 100 * mean(record.mean("clean", "map") for record in found)
    differ = any(one.doubted for one in same) and max(values) - min(values) >= 0.05
    text = f"{min(values):.1f} to {max(values):.1f}" if differ else f"{mean(values):.1f}"
    return Cell(text, mean(values), f"mAP {precision:.1f}")


def by_attack(board: Board, links: Links) -> Table:
    """One row per attack: means over its victims, and its place among attacks on the same victims."""
    total = len(board.victims())
    columns = [
        Column("Attack"),
        Column("Knowledge"),
        Column("Victims", True, "how many of the victims here it was run on"),
        Column(
            "Place", True, "by mean Rank-1 drop, among attacks of equal knowledge on exactly the same victims"
        ),
        Column("Rank-1 drop", True, "points, mean over its victims"),
        Column("mAP drop", True, "points, mean over its victims"),
        Column("ASR", True, "share of correct first matches lost, percent, mean over its victims"),
        Column("Largest drop", True, "of Rank-1, and on which victim"),
        Column("Smallest drop", True, "of Rank-1, and on which victim"),
        Column("Gradients"),
    ]
    found = board.attacks()
    places = _places(found)
    rows = []
    order = sorted(found, key=lambda key: (board.knowledge().index(key[0]), -len(found[key]), places[key][0]))
    for key in order:
        same, (place, rivals) = found[key], places[key]
        drops = sorted((_drop(one, "r1"), one.row.victim) for one in same)
        rates = [one.row.asr for one in same if one.row.asr is not None]
        disputed = [] if all(one.agrees for one in same) else [DISPUTED]
        shown = [mark for mark in Mark if mark not in board.shared]
        badges = disputed + badges_of([result for one in same for result in one.results], shown)
        cells = [
            _attack(same[0], links, badges),
            Cell(key[0]),
            Cell(f"{len(same)} of {total}", len(same)),
            Cell(f"{place} of {rivals}" if rivals > 1 else "", place if rivals > 1 else None),
            number(mean(drop for drop, _ in drops)),
            number(mean(_drop(one, "map") for one in same)),
            number(mean(rates) if rates else None),
            number(*drops[-1]),
            number(*drops[0]),
            Cell(same[0].row.evaluations),
        ]
        rows.append(Group(same[0].attack, cells, facets={"knowledge": key[0]}))
    note = "Means are over the victims of each attack, which differ: compare by place instead."
    differ = len({_victims(same) for same in found.values()}) > 1
    return Table("attacks", "By attack", columns, rows, notes=[note] if differ else [])


def _places(found: dict[tuple[str, str], list[Standing]]) -> dict[tuple[str, str], tuple[int, int]]:
    """Place and number of rivals of each attack, among equal knowledge and the same victims.

    Values that are equal at one decimal have the same place. If results differ, the one worst for the attack
    counts.
    """
    groups: dict[tuple[object, ...], list[tuple[str, str]]] = {}
    for key, same in found.items():
        groups.setdefault((key[0], _victims(same)), []).append(key)
    places = {}
    for rivals in groups.values():
        drops = {key: round(mean(_drop(one, "r1") for one in found[key]), 1) for key in rivals}
        for key in rivals:
            places[key] = (1 + sum(other > drops[key] for other in drops.values()), len(rivals))
    return places


def _victims(found: Sequence[Standing]) -> frozenset[tuple[str, ...]]:
    return frozenset(standing.victim for standing in found)


def _drop(standing: Standing, metric: str) -> float:
    return standing.row.before[metric] - standing.row.after[metric]


_BOLD = (
    "Bold: the lowest on the victim among at least two attacks of equal knowledge, and ties: attacks whose "
    "drop interval contains the drop of the strongest."
)


def each(board: Board, links: Links) -> Table:
    """One row per attack, one column per victim: Rank-1 after each attack on each victim."""
    victims = board.victims()
    names = victim_names([same[0].record for same in victims.values()])
    columns = [Column("Attack"), Column("Knowledge")]
    for victim, same in victims.items():
        weights = same[0].record.config["victim"]["weights"][:8]
        hint = f"Rank-1 after the attack on {same[0].row.victim}, weights {weights}; mAP below"
        columns.append(Column(names[victim], True, hint))
    # Standings with different results do not compete for bold.
    compete = [one for one in board.standings if one.agrees]
    strong = {id(compete[index]) for index in best([(board.setting, one.row) for one in compete], "r1")}
    first = "before any attack"
    rows = [Group(first, [Cell(first), Cell(""), *map(clean, victims.values())])]
    for (knowledge, attack), same in board.attacks().items():
        there = {one.victim: one for one in same}
        marks = {mark for one in same for result in one.results for mark in result.marks}
        whose = [MARKS[mark] for mark in (Mark.FOREIGN_ATTACK, Mark.LIBRARY_ATTACK) if mark in marks]
        cells = [_attack(same[0], links, whose), Cell(knowledge)]
        for victim in victims:
            one = there.get(victim)
            small = f"mAP {one.row.after['map']:.1f}" if one else ""
            cells.append(after(one, "r1", small, id(one) in strong) if one else Cell(""))
        rows.append(Group(attack, cells))
    legend = "Rank-1 in percent, mAP below it."
    notes = [_BOLD] if strong else []
    return Table("each", "Each attack on each victim", columns, rows, legend=legend, notes=notes)


_CHANGE = "before → after, percent, mean over trials; sorts by after"

_ASR = "share of the queries with a correct first match that lose it, percent"


def runs(board: Board, links: Links) -> Table:
    """Every result of every configuration of a board, with its provenance."""
    columns = [
        Column("Victim"),
        Column("Attack"),
        Column("Knowledge"),
        Column("Seed", True),
        Column("Rank-1", True, _CHANGE),
        Column("mAP", True, _CHANGE),
        Column("ASR", True, _ASR),
        Column("Checks"),
        Column("Record", hint="id, and the files that hold it, below the submitted folders"),
        Column("Made", hint="date, vbench version and device, as stated"),
    ]
    rows = [
        _run(standing, entry, result, links)
        for standing in sorted(board.standings, key=lambda one: (one.victim, one.knowledge, one.attack))
        for entry in standing.entries
        for result in entry.results
    ]
    return Table("runs", "Runs", columns, rows)


def _run(standing: Standing, entry: Entry, result: Result, links: Links) -> Group:
    record = result.record
    badges = checks_of([result]) + ([] if entry.agrees else [DISPUTED])
    changes = [(record.mean("clean", metric), record.mean("adversarial", metric)) for metric in ("r1", "map")]
    environment = record.environment
    device = environment.get("device_name") or environment.get("device") or ""
    made = [f"vbench {result.version}" if result.version else "", device]
    cells = [
        _victim(standing, links),
        _attack(standing, links),
        Cell(standing.knowledge),
        Cell(str(record.config["seed"]), record.config["seed"]),
        *(Cell(f"{100 * last:.1f}", last, lead=f"{100 * first:.1f} → ") for first, last in changes),
        number(None if record.asr is None else 100 * record.asr),
        Cell("", badges=badges),
        Cell(record.id, small=first_of(result.sources, 5, "; ")),
        Cell(record.created[:10], small=", ".join(str(part)[:60] for part in made if part)),
    ]
    facets = {
        "victim": standing.row.victim,
        "attack": record.config["attack"]["name"],
        "knowledge": standing.knowledge,
        "checks": badges[0].text,
    }
    return Group(record.id, cells, facets=facets)


def of_kind(synthetic: bool, columns: Sequence[Column], rows: Sequence[Group]) -> Table:
    """A table of synthetic data alone, or of real data alone."""
    if synthetic:
        return Table("synthetic", "Drawn data", columns, rows, badges=["SYNTHETIC"])
    return Table("real", "Real data", columns, rows)


def everywhere(found: Sequence[tuple[Board, Standing]], synthetic: bool, links: Links) -> Table:
    """Standings of several boards in one table, for the page of a victim or of an attack."""
    columns = [
        Column("Board"),
        Column("Victim"),
        Column("Attack"),
        Column("Knowledge"),
        Column("Rank-1", True, _CHANGE),
        Column("mAP", True, _CHANGE),
        Column("ASR", True, _ASR),
        Column("Seeds", True),
        Column("Checks"),
    ]
    rows = []
    for board, standing in found:
        row = standing.row
        cells = [
            Cell(
                board.title,
                href=links.page("board", board.key),
            ),
            _victim(standing, links),
            _attack(standing, links),
            Cell(standing.knowledge),
            *(after(standing, m, lead=f"{row.before[m]:.1f} → ") for m in ("r1", "map")),
            number(row.asr),
            Cell(str(len(standing.entries)), len(standing.entries)),
            Cell("", badges=checks_of(standing.results)),
        ]
        facets = {"board": board.title, "victim": row.victim, "knowledge": standing.knowledge}
        rows.append(Group(f"{standing.attack} on {row.victim}", cells, facets=facets))
    return of_kind(synthetic, columns, rows)
