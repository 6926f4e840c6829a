"""The search behind ``preset=best``, and the table of docs/presets.md: ``make presets``.

``search`` runs the candidates below on development identities: queries and gallery of a synthetic set drawn
with data seed 1, on thin AGW and thin PMT, which were trained on the identities of data seed 0, as universal
attacks are here. It writes docs/presets.csv and prints, per attack, the candidate with the lowest mean mAP
over both victims and all seeds (mAP varies less than Rank-1). ``table`` runs paper, v1 and default of
every attack on the test identities of data seed 0 over three seeds, and writes the table into
docs/presets.md; v1 is left out where a fit or a thousand passes an image would be paid for it. ``effort``
runs each default once on thin AGW at the standard effort and at the published one, and writes that table.

Records land in runs/presets; what is there is not run again.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import vbench
from vbench.attacks.black_box import BlackBoxAttack
from vbench.attacks.build import build_attack, presets
from vbench.attacks.registry import attacks
from vbench.core.files import cache_folder
from vbench.data.base import Dataset, Sample
from vbench.data.open import with_queries
from vbench.data.synthetic.embedded import SyntheticSet
from vbench.records.record import Record
from vbench.records.spec import DataSpec, ModelSpec, Setup
from vbench.run.bench import Bench
from vbench.run.session import Session

DOCS = Path(__file__).parents[2] / "docs"
VICTIMS = ("agw", "pmt")
#: Every third query: the others would make the search three times as long; every ninth where an attack takes
#: a thousand passes an image.
SHARE, FEW = 3, 9

_STARTS = [f"start={start},reach={reach}" for start in (0.5, 1.0) for reach in (3.0, 6.0)]
CANDIDATES: dict[str, list[str]] = {
    "fgsm": ["start=0.0,step=1.0", "start=0.5,step=1.5"],
    "pgd": [f"start={start},reach={reach}" for start in (0.0, 1.0) for reach in (2.5, 6.0)],
    "mifgsm": [f"start={start},reach={reach},momentum=1.0" for start in (0.0, 1.0) for reach in (2.5, 6.0)],
    "metric_fgsm": [f"start={start},step={step}" for start in (0.5, 1.0) for step in (1.0, 1.5)],
    "metric_ifgsm": ["start=0.5,reach=1.25", *_STARTS],
    "metric_mifgsm": [f"{start},momentum={share}" for start in _STARTS[1::2] for share in (0.5, 1.0)],
    "odfa": ["start=none,reach=1.25", "start=none,reach=6.0", *_STARTS[1::2]],
    "sma": [_STARTS[3], f"{_STARTS[3]},momentum=0.5", "start=1.0,reach=12.0"],
    "fna": [
        f"start={start},reach=6.0,push={push},pull={pull}"
        for start in (0.0, 1.0)
        for push, pull in ((1.0, 1), (4.0, 1), (4.0, 4))
    ],
    "lta": [f"start=1.0,reach=6.0,momentum={share}" for share in (0.0, 1.0)],
    "uap": [
        "batch=16",
        "batch=64",
        "batch=16,distance=euclidean,margin=0.08",
        "batch=16,loss=list",
        "batch=16,loss=cross_entropy",
    ],
    "muap": ["batch=16", "batch=64", "batch=16,smooth=0.1"],
    "mis_ranking": [
        "batch=32",
        "batch=32,distance=euclidean,log=true,classes=true",
        "batch=16,margin=1.0,rate=0.001",
    ],
    "deepfool_uap": [
        "batch=16,rivals=1,overshoot=0.02",
        "batch=16,rivals=1,overshoot=1.0",
    ],
    "square": [f"p={p}" for p in (0.05, 0.3, 0.8)],
    "simba": [f"step={step}" for step in (0.2, 1.0, 4.0)],
}

#: Of every attack of the table; those that a class does not have are left out. The defaults are "best".
COLUMNS = ("paper", "v1", "")


def spec(name: str, settings: str) -> str:
    """An attack as text."""
    return f"{name}[{settings}]" if settings else name


def development(victim: str, share: int = SHARE) -> tuple[vbench.Victim, Dataset]:
    """A thin victim, and the development set: its training identities, and tested ones of data seed 1."""
    bench = bench_of(victim)
    trained, cache = bench.dataset, cache_folder()
    drawn = vbench.open_dataset("sysu", SyntheticSet(seed=1).write(cache, quiet=True), trained.protocol)

    def moved(samples: Iterable[Sample], root: Path) -> tuple[Sample, ...]:
        return tuple(replace(one, path=f"{root.relative_to(cache)}/{one.path}") for one in samples)

    drawn = thinned(drawn, share)
    return bench.victim, replace(
        drawn,
        root=cache,
        # The mark of synthetic data stands at the root of each set, not above them.
        synthetic=False,
        train_visible=moved(trained.train_visible, trained.root),
        train_infrared=moved(trained.train_infrared, trained.root),
        query=moved(drawn.query, drawn.root),
        gallery=moved(drawn.gallery, drawn.root),
    )


def thinned(dataset: Dataset, share: int) -> Dataset:
    """The data set with every ``share``-th query."""
    return with_queries(dataset, -(-len(dataset.query) // share))


def row(victim: str, settings: str, record: Record) -> list[object]:
    """A line of docs/presets.csv."""
    cost = record.cost
    evaluations = (
        cost.get("fit_evaluations") or cost.get("queries_per_image") or cost["evaluations_per_image"]
    )
    figures = [round(100 * record.mean("adversarial", name), 1) for name in ("r1", "map")]
    return [
        victim,
        record.config["attack"]["name"],
        settings,
        record.config["seed"],
        *figures,
        evaluations,
        round(record.seconds),
    ]


HEADINGS = ["victim", "attack", "settings", "seed", "Rank-1", "mAP", "evaluations", "seconds"]


def search(names: Sequence[str], seeds: Sequence[int], victims: Sequence[str], share: int) -> None:
    """Run the candidates of these attacks, write docs/presets.csv and print the best of each attack."""
    path = DOCS / "presets.csv"
    kept = list(csv.reader(path.open()))[1:] if path.exists() else []
    rows = {tuple(line[:4]): line for line in kept}
    for victim in victims:
        opened, dataset = development(victim, share)
        for name in names:
            for settings in CANDIDATES[name]:
                found = vbench.evaluate(
                    opened, spec(name, settings), dataset, seed=list(seeds), runs="runs/presets/search"
                )
                for record in found:
                    line = [str(cell) for cell in row(victim, settings, record)]
                    rows[tuple(line[:4])] = line
                    print(*line, sep=", ", flush=True)
                with path.open("w", newline="") as file:
                    csv.writer(file).writerows([HEADINGS, *rows.values()])
    results = defaultdict(list)
    for _, name, settings, _, _, precision, *_ in rows.values():
        results[name, settings].append(float(precision))
    for name in names:
        chosen = min((mean(results[name, one]), one) for one in CANDIDATES[name] if results[name, one])
        print(f"{name}: {chosen[1]} (mAP {chosen[0]:.1f})")


def table(names: Sequence[str], seeds: Sequence[int], victims: Sequence[str], share: int) -> str:
    """Rank-1 / mAP on the test identities as mean and spread, in markdown."""
    opened = {victim: bench_of(victim) for victim in victims}
    head = [f"{victim} {column or 'default'}" for victim in victims for column in COLUMNS]
    lines = [["attack", *head], [":--", *("--:" for _ in head)]]
    for name in names:
        cells = []
        loaded = attacks.load(name)
        known = {*presets(loaded), ""} - (set() if loaded.gradients_per_image else {"v1"})
        for victim in victims:
            for column in COLUMNS:
                shown = column in known
                cells.append(_cell(opened[victim], name, column, seeds, share) if shown else "")
        lines.append([f"`{name}`", *cells])
    return markdown(lines)


def efforts(names: Sequence[str], seed: int, share: int) -> str:
    """Rank-1 / mAP and cost of the defaults at both efforts on thin AGW, in markdown."""
    bench = bench_of("agw")
    lines = [["attack", "standard", "cost", "min", "published", "cost", "min"], [":--", *["--:"] * 6]]
    for name in names:
        cells = []
        for effort in ("standard", "published"):
            record = run(bench, name, f"effort={effort}", [seed], share)[0]
            *_, r1, precision, cost, seconds = row("agw", effort, record)
            cells += [f"{r1} / {precision}", f"{cost:,.0f}", f"{seconds / 60:.1f}"]
        lines.append([f"`{name}`", *cells])
    return markdown(lines)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bench_of(victim: str) -> Bench:
    setup = Setup(DataSpec("synthetic", "synthetic"), ModelSpec(victim), (), "auto", None, "cpu", False)
    return Session(None, False, True).bench(setup)


def run(bench: Bench, name: str, settings: str, seeds: Sequence[int], share: int) -> list[Record]:
    attack = build_attack(spec(name, settings))
    dataset = thinned(bench.dataset, FEW if isinstance(attack, BlackBoxAttack) else share)
    found = vbench.evaluate(bench.victim, attack, dataset, seed=list(seeds), runs="runs/presets/table")
    figures = [
        f"{100 * mean(one.mean('adversarial', metric) for one in found):.1f}" for metric in ("r1", "map")
    ]
    print(bench.victim.name, name, settings or "default", *figures, flush=True)
    return list(found)


def _cell(bench: Bench, name: str, column: str, seeds: Sequence[int], share: int) -> str:
    found = run(bench, name, f"preset={column}" if column else "", seeds, share)
    figures = [[100 * record.mean("adversarial", metric) for record in found] for metric in ("r1", "map")]
    spread = f" ± {stdev(figures[0]):.1f}" if len(found) > 1 else ""
    return f"{mean(figures[0]):.1f}{spread} / {mean(figures[1]):.1f}"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("search", "table", "effort"))
    parser.add_argument("--attack", action="append", choices=[*CANDIDATES, "cmps", "fsam_uap"])
    parser.add_argument("--victim", action="append", choices=VICTIMS)
    parser.add_argument("--seed", action="append", type=int)
    parser.add_argument("--share", type=int, default=SHARE, help="every n-th query")
    given = parser.parse_args()
    names, victims = given.attack or list(CANDIDATES), given.victim or VICTIMS
    if given.part == "search":
        search(names, given.seed or [0], victims, given.share)
        return
    if given.part == "table":
        made = table(names, given.seed or [0, 1, 2], victims, given.share)
    else:
        made = efforts(given.attack or [*CANDIDATES, "cmps", "fsam_uap"], *(given.seed or [0]), given.share)
    put_into_page(given.part, made)


def put_into_page(name: str, made: str) -> None:
    """Replace what stands between ``<!-- name -->`` and ``<!-- end -->`` in docs/presets.md."""
    page, block = DOCS / "presets.md", f"<!-- {name} -->\n{made}\n<!-- end -->"
    found = re.compile(rf"<!-- {name} -->.*?<!-- end -->", re.DOTALL)
    text, number = found.subn(lambda _: block, page.read_text())
    if not number:
        raise SystemExit(f"{page} has no place for the table {name}:\n{made}")
    page.write_text(text)


if __name__ == "__main__":
    main()
