"""Tables of a board: by victim, by attack, each attack on each victim, every run."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean as mean

from vbench.records.record import Record
from vbench.reports.leaderboard.boards import Board, Standing, same_victims
from vbench.reports.leaderboard.collect import Entry, Result
from vbench.reports.leaderboard.names import Slugs
from vbench.reports.rows import best
from vbench.reports.table import Badge, Cell, Column, Group, Table
from vbench.reports.verify import Mark

DISPUTED = Badge(
    "results differ",
    "Different results of one configuration were submitted; the range is shown, sorted by the end that is "
    "worse for the attack, and never in bold.",
    warn=True,
)

DOUBTED = Badge(
    "clean differs",
    "Another record contradicts the clean results of this victim, or whether the images are synthetic; "
    "see the page of refusals and doubts.",
    warn=True,
)

CHECKED = Badge(
    "checked",
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


def map_below(standing: Standing) -> str:
    """mAP after the attack, as text below a Rank-1."""
    return f"mAP {standing.row.after['map']:.1f}"


def number(value: float | None, small: str = "") -> Cell:
    """A number with one decimal; empty for None."""
    # Adding zero turns -0.0 into 0.0.
    return Cell("" if value is None else f"{round(value, 1) + 0.0:.1f}", value, small)


def badge(mark: Mark) -> Badge:
    """The badge of a mark."""
    return Badge(mark.value, mark.meaning)


def badges_of(results: Sequence[Result]) -> tuple[Badge, ...]:
    """Badges of the verification of results, each once."""
    marks = [mark for mark in Mark if any(mark in result.marks for result in results)]
    checked = () if Mark.TOTALS_ONLY in marks else (CHECKED,)
    doubted = (DOUBTED,) if any(result.doubts for result in results) else ()
    return (*checked, *(badge(mark) for mark in marks), *doubted)


def cautions(same: Sequence[Standing]) -> tuple[Badge, ...]:
    """Badges of some standings together, without that of an ordinary, checked result."""
    disputed = () if all(one.agrees for one in same) else (DISPUTED,)
    found = badges_of([result for one in same for result in results_of(one)])
    return (*disputed, *(one for one in found if one is not CHECKED))


def whose_attack(same: Sequence[Standing]) -> tuple[Badge, ...]:
    """The badge of an attack that is not vbench's own, even if its name is similar or equal."""
    return _only(same, Mark.FOREIGN_ATTACK, Mark.LIBRARY_ATTACK)


def whose_victim(same: Sequence[Standing]) -> tuple[Badge, ...]:
    """The badges of a victim that is not vbench's own, or whose clean results are in doubt."""
    doubted = (DOUBTED,) if any(one.doubted for one in same) else ()
    return (*_only(same, Mark.FOREIGN_VICTIM), *doubted)


def _only(same: Sequence[Standing], *marks: Mark) -> tuple[Badge, ...]:
    there = {mark for one in same for result in results_of(one) for mark in result.marks}
    return tuple(badge(mark) for mark in marks if mark in there)


def results_of(standing: Standing) -> list[Result]:
    """All results of a standing."""
    return [result for entry in standing.entries for result in entry.results]


INDEX, REFUSED, CSV, JSONL = "index.html", "refused.html", "records.csv", "records.jsonl"


class Links:
    """Links to the pages of boards, their runs, victims and attacks; all in one folder."""

    def __init__(self) -> None:
        self._slugs = {kind: Slugs() for kind in ("board", "runs", "victim", "attack")}

    def board(self, board: Board) -> str:
        """Tables by victim and by attack."""
        return self._page("board", board.key)

    def runs(self, board: Board) -> str:
        """Every run on a board."""
        return self._page("runs", board.key)

    def victim(self, record: Record) -> str:
        """All results of victims of this name."""
        return self._page("victim", record.config["victim"]["name"])

    def attack(self, record: Record) -> str:
        """All results of attacks of this name."""
        return self._page("attack", record.config["attack"]["name"])

    def _page(self, kind: str, text: str) -> str:
        return f"{kind}-{self._slugs[kind].of(text)}.html"


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
        worst = [_worst([one for one in same if one.knowledge == kind]) for kind in kinds]
        cells = [_victim(same, links), clean(same), *worst, Cell(str(len(same)), len(same))]
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
    return after(lowest, "r1", f"{map_below(lowest)}, {lowest.attack}")


def _victim(same: Sequence[Standing], links: Links) -> Cell:
    first = same[0]
    facts, page = victim_facts(first), links.victim(first.record)
    return Cell(first.row.victim, small=facts, href=page, badges=whose_victim(same))


def victim_facts(standing: Standing) -> str:
    """Weights and input size, which distinguish victims of one name."""
    card = standing.record.config["victim"]
    size = card["options"].get("input_size")
    shape = f", {size[0]}x{size[1]}" if isinstance(size, list) and len(size) == 2 else ""
    return f"weights {card['weights'][:8]}{shape}"


def clean(same: Sequence[Standing]) -> Cell:
    """Clean results; the range if records differ by more than rounding."""
    found = [result.record for one in same for result in results_of(one)]
    values = [100 * record.mean("clean", "r1") for record in found]
    precision = 100 * mean(record.mean("clean", "map") for record in found)
    if any(one.doubted for one in same) and max(values) - min(values) >= 0.05:
        return Cell(f"{min(values):.1f} to {max(values):.1f}", mean(values), f"mAP {precision:.1f}")
    return Cell(f"{mean(values):.1f}", mean(values), f"mAP {precision:.1f}")


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
        rows.append(
            Group(
                same[0].attack,
                [
                    Cell(same[0].attack, href=links.attack(same[0].record), badges=cautions(same)),
                    Cell(key[0]),
                    Cell(f"{len(same)} of {total}", len(same)),
                    Cell(f"{place} of {rivals}" if rivals > 1 else "", place if rivals > 1 else None),
                    number(mean(drop for drop, _ in drops)),
                    number(mean(_drop(one, "map") for one in same)),
                    number(mean(rates) if rates else None),
                    number(drops[-1][0], drops[-1][1]),
                    number(drops[0][0], drops[0][1]),
                    Cell(same[0].row.evaluations),
                ],
                facets={"knowledge": key[0]},
            )
        )
    note = "Means are over the victims of each attack, which differ: compare by place instead."
    differ = len({same_victims(same) for same in found.values()}) > 1
    return Table("attacks", "By attack", columns, rows, notes=[note] if differ else [])


def _places(found: dict[tuple[str, str], list[Standing]]) -> dict[tuple[str, str], tuple[int, int]]:
    """Place and number of rivals of each attack, among equal knowledge and the same victims.

    Values that are equal at one decimal have the same place. If results differ, the one worst for the attack
    counts.
    """
    groups: dict[tuple[object, ...], list[tuple[str, str]]] = {}
    for key, same in found.items():
        groups.setdefault((key[0], same_victims(same)), []).append(key)
    places = {}
    for rivals in groups.values():
        drops = {key: round(mean(_drop(one, "r1") for one in found[key]), 1) for key in rivals}
        for key in rivals:
            places[key] = (1 + sum(other > drops[key] for other in drops.values()), len(rivals))
    return places


def _drop(standing: Standing, metric: str) -> float:
    return standing.row.before[metric] - standing.row.after[metric]


_BOLD = (
    "Bold: the lowest on the victim among at least two attacks of equal knowledge, and ties: attacks whose "
    "drop interval contains the drop of the strongest."
)


def each(board: Board, links: Links) -> Table:
    """One row per attack, one column per victim: Rank-1 after each attack on each victim."""
    victims = board.victims()
    names = [same[0].row.victim for same in victims.values()]
    columns = [Column("Attack"), Column("Knowledge")]
    for (_, same), name in zip(victims.items(), names, strict=True):
        weights = same[0].record.config["victim"]["weights"][:8]
        title = f"{name} {weights}" if names.count(name) > 1 else name
        columns.append(
            Column(title, True, f"Rank-1 after the attack on {name}, weights {weights}; mAP below")
        )
    strong = _strong(board)
    rows = [
        Group(
            "before any attack", [Cell("before any attack"), Cell(""), *(clean(v) for v in victims.values())]
        )
    ]
    for (knowledge, attack), same in board.attacks().items():
        there = {one.victim: one for one in same}
        whose = whose_attack(same)
        cells = [Cell(attack, href=links.attack(same[0].record), badges=whose), Cell(knowledge)]
        for victim in victims:
            one = there.get(victim)
            cells.append(after(one, "r1", map_below(one), id(one) in strong) if one else Cell(""))
        rows.append(Group(attack, cells))
    legend = "Rank-1 in percent, mAP below it."
    return Table(
        "each", "Each attack on each victim", columns, rows, legend=legend, notes=[_BOLD] * bool(strong)
    )


def _strong(board: Board) -> set[int]:
    """Ids of the standings that are best on their victim; those with different results are left out."""
    compete = [one for one in board.standings if one.agrees]
    return {id(compete[index]) for index in best([(board.setting, one.row) for one in compete], "r1")}


_MOST_SOURCES = 5

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
    badges = badges_of([result]) + (() if entry.agrees else (DISPUTED,))
    shown, more = result.sources[:_MOST_SOURCES], len(result.sources) - _MOST_SOURCES
    sources = "; ".join(shown) + (f" and {more} more" if more > 0 else "")
    return Group(
        record.id,
        [
            Cell(standing.row.victim, small=victim_facts(standing), href=links.victim(record)),
            Cell(standing.attack, href=links.attack(record)),
            Cell(standing.knowledge),
            Cell(str(record.config["seed"]), record.config["seed"]),
            *(_change(record.mean("clean", m), record.mean("adversarial", m)) for m in ("r1", "map")),
            number(None if record.asr is None else 100 * record.asr),
            Cell("", badges=badges),
            Cell(record.id, small=sources),
            Cell(record.created[:10], small=made_with(result)),
        ],
        facets={
            "victim": standing.row.victim,
            "attack": record.config["attack"]["name"],
            "knowledge": standing.knowledge,
            "checks": badges[0].text if badges else "",
        },
    )


def _change(before: float, after: float) -> Cell:
    return Cell(f"{100 * after:.1f}", after, lead=f"{100 * before:.1f} → ")


def made_with(result: Result) -> str:
    """Version and device as the record states them; they cannot be checked."""
    environment = result.record.environment
    versions = environment.get("versions")
    version = versions.get("vbench", "") if isinstance(versions, dict) else ""
    device = environment.get("device_name") or environment.get("device") or ""
    return ", ".join(str(part)[:60] for part in (f"vbench {version}" if version else "", device) if part)


def everywhere(
    found: Sequence[tuple[Board, Standing]], anchor: str, caption: str, links: Links, badges: Sequence[str]
) -> Table:
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
            Cell(board.title, small=f"data {board.setting.fingerprint[:8]}", href=links.board(board)),
            Cell(row.victim, small=victim_facts(standing), href=links.victim(standing.record)),
            Cell(standing.attack, href=links.attack(standing.record)),
            Cell(standing.knowledge),
            *(after(standing, m, lead=f"{row.before[m]:.1f} → ") for m in ("r1", "map")),
            number(row.asr),
            Cell(str(len(standing.entries)), len(standing.entries)),
            Cell("", badges=badges_of(results_of(standing))),
        ]
        facets = {"board": board.title, "victim": row.victim, "knowledge": standing.knowledge}
        rows.append(Group(f"{standing.attack} on {row.victim}", cells, facets=facets))
    return Table(anchor, caption, columns, rows, badges=badges)
