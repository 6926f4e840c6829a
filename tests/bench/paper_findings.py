"""The measurements of docs/paper-findings.md: ``make findings``.

``screening`` runs three rows of the paper's ablation on AGW with one seed, at each level, in ten readings of
what the text leaves open, one change at a time, and writes docs/paper_screening.csv. ``rows`` runs its eight
rows at each level and writes docs/paper_rows.csv; name further victims with --victim. ``page`` fills the
tables of the page from both files. Without a part, all three. With ``--level`` the files hold that level
alone. What is recorded in runs/findings is not run again.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

from vbench.records.spec import spec_of
from vbench.reports.frame import to_csv
from vbench.reports.published import Published, printed_by
from vbench.run.session import Session
from vbench.sweep.paper import ABLATION, Settings, Slot, fill, slots_of
from vbench.sweep.paper_table import paper_report

DOCS, RUNS = Path(__file__).parents[2] / "docs", Path("runs/findings")
PAGE, ROWS, SCREENING = (
    DOCS / name for name in ("paper-findings.md", "paper_rows.csv", "paper_screening.csv")
)
LEVELS = ("pixel", "feature", "model")
NOISE, PLAIN, WHOLE = "noise", "noise + AQAL", "noise + FSAM + SFM + AQAL"

#: Reading -> its settings, and the rows that they change. A row that they do not change is that of "default".
READINGS: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "default": ({}, (NOISE, PLAIN, WHOLE)),
    "d fixed": ({"delta": "fixed"}, (NOISE, PLAIN, WHOLE)),
    "d lowers L_total": ({"delta": "total"}, (NOISE, PLAIN, WHOLE)),
    "from random weights": ({"start": "scratch"}, (NOISE, PLAIN, WHOLE)),
    "4 + 4 images": ({"images": "4+4", "batch": "128"}, (NOISE, PLAIN, WHOLE)),
    "x1 after the first FSAM": ({"anchors": "x1_first"}, (WHOLE,)),
    "x1 clean": ({"anchors": "clean"}, (PLAIN, WHOLE)),
    "D on whole maps": ({"space": "maps"}, (PLAIN, WHOLE)),
    "D on unit length": ({"space": "embedding"}, (PLAIN, WHOLE)),
    "alpha 2": ({"margin": "2"}, (PLAIN, WHOLE)),
}

_KEPT = [
    "reading",
    "table_level",
    "victim",
    "row",
    "attack",
    "seed",
    "state",
    "reason",
    "r1_before",
    "r1_after",
    "map_before",
    "map_after",
    "r1_chance",
    "map_chance",
    "verdict",
    "active_triples",
]

#: Heading -> the columns that may hold it: what tells readings apart.
_CONTROLS = {
    "clean images, attacked system": ("r1 of tampered, clean images", "r1 of modules, d = 0"),
    "d on the untouched victim": ("r1 of d on the untouched victim", "r1 of d alone (pixel level)"),
    "within visible": ("r1 of within visible, tampered",),
    "within infrared": ("r1 of within infrared, tampered",),
    "trained without AQAL": ("r1 of without AQAL",),
    "without modules": ("r1 of without modules",),
    "without d": ("r1 of without perturbation: clean images",),
    "without AQAL and d": ("r1 of without AQAL and perturbation: clean images",),
}

Line = Mapping[str, str]


def slots(
    session: Session, level: str, victims: Sequence[str], settings: Settings, seeds: Sequence[int]
) -> list[Slot]:
    """The eight rows at a level."""
    like = spec_of({"dataset": "synthetic", "attack": "fsam_uap", "side": "query"})
    suite = "model" if level == "model" else "ablation"
    return slots_of(session, {suite: victims}, like, {}, settings, seeds=seeds, levels=(level,))


def run(groups: Mapping[str, Sequence[Slot]], session: Session, target: Path) -> None:
    """Do the runs of each reading that have no record, and write one file with all."""
    lines = []
    for reading, found in groups.items():
        done = fill(found, session, f"findings, {reading}")
        for line in json.loads(paper_report(found, "json", chance=True)):
            kept = [name for name in line if name in _KEPT or name.startswith("r1 of ")]
            shown = {name: _rounded(line[name]) for name in kept}
            lines.append({**dict.fromkeys(_KEPT), **shown, "reading": reading})
        if not done:
            raise SystemExit("interrupted; the same command continues")
    target.write_text(to_csv(lines))


def _rounded(value: object) -> object:
    return round(value, 5) if isinstance(value, float) else value


def screening(session: Session, levels: Sequence[str], epochs: int) -> None:
    """One seed, three rows, ten readings; ``epochs`` of training at level model."""
    groups: dict[str, list[Slot]] = {}
    for level in levels:
        for reading, (change, rows) in READINGS.items():
            # Only where a victim is trained can it start from random weights.
            if "start" in change and level != "model":
                continue
            common = {**change, **({"epochs": str(epochs)} if level == "model" else {})}
            found = slots(session, level, ["agw"], Settings("paper", common), (0,))
            groups.setdefault(reading, []).extend(one for one in found if one.line.name in rows)
    run(groups, session, SCREENING)


def rows(session: Session, levels: Sequence[str], victims: Sequence[str]) -> None:
    """Three seeds, eight rows, each level."""
    found = [one for level in levels for one in slots(session, level, victims, Settings(), (0, 1, 2))]
    run({"default": found}, session, ROWS)


def page() -> None:
    """Replace what stands between ``<!-- NAME LEVEL -->`` and ``<!-- end -->``."""
    makers = {"rows": (ROWS, rows_table), "screening": (SCREENING, screening_table)}

    def block(found: re.Match[str]) -> str:
        name, level = found.groups()
        path, make = makers[name]
        if not path.exists():
            return found[0]
        lines = [one for one in csv.DictReader(path.open()) if one["table_level"] == level]
        if not lines:
            return found[0]
        return f"<!-- {name} {level} -->\n{make(lines)}\n<!-- end -->"

    text = re.sub(r"<!-- (rows|screening) (\w+) -->\n.*?<!-- end -->", block, PAGE.read_text(), flags=re.S)
    PAGE.write_text(text)


def rows_table(lines: Sequence[Line]) -> str:
    """A table for each victim: each row with the published values, mean and sd over seeds, controls."""
    return "\n\n".join(
        "\n".join(_rows_of([one for one in lines if one["victim"] == victim], victim))
        for victim in dict.fromkeys(one["victim"] for one in lines)
    )


def _rows_of(lines: Sequence[Line], victim: str) -> Iterator[str]:
    controls = [name for name, keys in _CONTROLS.items() if any(_mean(lines, key) for key in keys)]
    yield _cells(
        [victim, "published", "Rank-1", "mAP", "above chance", "active triples", "verdict", *controls]
    )
    yield _cells([":--", *["--:"] * 5, ":--", *["--:"] * len(controls)])
    protocol = "sysu/all/single/ir2vis/seed10"
    printed = printed_by(ABLATION.source, "agw", "", protocol)
    clean = [_mean(lines, f"{metric}_before") for metric in ("r1", "map")]
    yield _cells(["clean", _printed(printed), *clean, *[""] * (3 + len(controls))])
    for line in ABLATION.lines:
        same = [one for one in lines if one["row"] == line.name]
        if not any(one["r1_after"] for one in same):
            continue
        above = 100 * fmean(float(one["r1_after"]) - float(one["r1_chance"]) for one in same)
        shares = [float(one["active_triples"]) for one in same if one["active_triples"]]
        measured = [next(filter(None, (_mean(same, key) for key in _CONTROLS[c])), "") for c in controls]
        yield _cells(
            [
                line.name,
                _printed(printed_by(ABLATION.source, "agw", line.published, protocol)),
                *(_mean(same, f"{metric}_after") for metric in ("r1", "map")),
                f"{above:.1f}",
                f"{fmean(shares):.3f}" if shares else "",
                " / ".join(dict.fromkeys(one["verdict"] for one in same if one["verdict"])),
                *measured,
            ]
        )


def screening_table(lines: Sequence[Line]) -> str:
    """A row for each reading and row of the ablation."""
    controls = [name for name, keys in _CONTROLS.items() if any(_mean(lines, key) for key in keys)]
    heads = ["reading", "row", "Rank-1", "mAP", "active triples", "verdict", *controls]
    table = [_cells(heads), _cells([":--", ":--", "--:", "--:", "--:", ":--", *["--:"] * len(controls)])]
    for one in lines:
        measured = [next(filter(None, (_mean([one], key) for key in _CONTROLS[c])), "") for c in controls]
        values = [_mean([one], "r1_after") or one["reason"] or one["state"], _mean([one], "map_after")]
        share = f"{float(one['active_triples']):.3f}" if one["active_triples"] else ""
        table.append(_cells([one["reading"], one["row"], *values, share, one["verdict"], *measured]))
    return "\n".join(table)


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _mean(lines: Sequence[Line], key: str) -> str:
    values = [100 * float(one[key]) for one in lines if one.get(key)]
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{fmean(values):.1f}{spread}" if values else ""


def _printed(found: Mapping[str, Published]) -> str:
    return " / ".join(f"{found[metric].value:.2f}" for metric in ("r1", "map") if metric in found)


def main() -> None:
    """Run the part that is asked for, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="?", choices=("screening", "rows", "page"))
    parser.add_argument("--victim", action="append", help="for rows, repeatable; agw without it")
    parser.add_argument("--level", action="append", choices=LEVELS, help="repeatable; all without it")
    parser.add_argument("--epochs", type=int, default=6, help="of the screening at level model")
    given = parser.parse_args()
    session, levels = Session(RUNS), given.level or LEVELS
    if given.part in (None, "screening"):
        screening(session, levels, given.epochs)
    if given.part in (None, "rows"):
        rows(session, levels, given.victim or ["agw"])
    if given.part in (None, "page"):
        page()


if __name__ == "__main__":
    main()
