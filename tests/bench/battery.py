"""Choose the members of ``ensemble``: ``make battery``.

For each level of knowledge, every attack that an attacker of that level could run is run on the development
identities of :mod:`preset_search`, on undefended thin AGW and thin PMT. The first member is the attack that
leaves the lowest mAP; then, one after another, the attack that lowers the worst case over the members most,
averaged over both victims, as long as it gains a tenth of a point of mAP, up to five. As in the battery
itself, the worst case of a query is the image of the member with the lowest average precision, averaged over
the trials. No defended victim is in the choice. Writes docs/battery.csv and prints the members. ``figures``
makes the table of docs/presets.md instead: the batteries of vbench on the test identities.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence

import numpy as np
from preset_search import DOCS, SHARE, VICTIMS, bench_of, development, markdown, put_into_page, thinned

import vbench
from vbench.records.record import Record

_IMAGE = [
    "noise[kind=sign]",
    "fgsm",
    "pgd",
    "mifgsm",
    "metric_fgsm",
    "metric_ifgsm",
    "metric_mifgsm",
    "odfa",
    "sma",
    "lta",
]
_TRAINING = [
    "fna",
    "fna[push=1]",
    "fna[push=0]",
    "fna[pull=4]",
    "metric_ifgsm[guides=training]",
    "fna[guides=training]",
    "uap",
    "uap[loss=cross_entropy]",
    "cmps",
    "muap",
    "mis_ranking",
    "deepfool_uap",
    "fsam_uap[preset=strong]",
]
_GALLERY = ["metric_ifgsm[guides=gallery]", "fna[guides=gallery]", "fna[guides=gallery,push=1]"]
#: By what the attacker knows; each level also has the attacks of those before it.
LEVELS = {
    "black_box": ["square", "square[p=0.05]", "simba"],
    "own": _IMAGE,
    "training": _TRAINING,
    "gallery": [*_GALLERY, "square[feedback=ranking]", "simba[feedback=ranking]"],
}
MOST, GAIN = 5, 0.1


def precisions(record: Record) -> np.ndarray:
    """Average precision and share of correct first matches of every query, 2 x queries, in percent."""
    arrays = {name: record.per_query[f"adversarial_{name}"].unpack() for name in ("ap", "rank")}
    matched = arrays["rank"] > 0
    count = np.maximum(matched.sum(0), 1)
    return 100 * np.stack(
        [np.where(matched, arrays["ap"], 0).sum(0) / count, ((arrays["rank"] == 1) & matched).sum(0) / count]
    )


def worst(members: Sequence[str], results: dict[str, np.ndarray]) -> tuple[float, float]:
    """mAP and Rank-1 of the worst case over members; ``results``: attack -> 2 x queries."""
    every = np.stack([results[member] for member in members])
    chosen = every[:, 0].argmin(0)
    picked = np.take_along_axis(every, chosen[None, None], 0)[0]
    return float(picked[0].mean()), float(picked[1].mean())


def figures_table(victims: Sequence[str]) -> str:
    """Rank-1 / mAP of the batteries on every third query of the test identities, seed 0, in markdown."""
    lines = [["`members`", *victims], [":--", *("--:" for _ in victims)]]
    for level in (*LEVELS, "five"):
        cells = []
        for victim in victims:
            bench = bench_of(victim)
            record = vbench.evaluate(
                bench.victim,
                f"ensemble[members={level}]",
                thinned(bench.dataset, SHARE),
                runs="runs/presets/table",
            ).record
            found = [100 * record.mean("adversarial", metric) for metric in ("r1", "map")]
            cells.append(" / ".join(f"{figure:.1f}" for figure in found))
        print(level, *cells, flush=True)
        lines.append([f"`{level}`", *cells])
    return markdown(lines)


def main() -> None:
    """Run the attacks and choose."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", choices=("choose", "figures"), default="choose")
    parser.add_argument("--victim", action="append", choices=VICTIMS)
    parser.add_argument("--skip", action="append", default=[], help="an attack to leave out")
    given = parser.parse_args()
    victims = given.victim or VICTIMS
    if given.part == "figures":
        put_into_page("battery", figures_table(victims))
        return
    levels = {level: [one for one in more if one not in given.skip] for level, more in LEVELS.items()}
    results: dict[str, dict[str, np.ndarray]] = {}
    for victim in victims:
        opened, dataset = development(victim)
        found = results.setdefault(victim, {})
        for spec in (one for level in levels.values() for one in level):
            record = vbench.evaluate(opened, spec, dataset, runs="runs/presets/search").record
            found[spec] = precisions(record)
            print(victim, spec, *(f"{figure:.1f}" for figure in found[spec].mean(1)), flush=True)
    lines: list[list[object]] = []
    known: list[str] = []
    for level, more in levels.items():
        known += more
        members: list[str] = []
        lowest = 100.0
        while len(members) < min(MOST, len(known)):
            left = [one for one in known if one not in members]
            tried = {one: [worst([*members, one], results[victim]) for victim in victims] for one in left}
            best = min(tried, key=lambda one: float(np.mean([found[0] for found in tried[one]])))
            after = float(np.mean([found[0] for found in tried[best]]))
            if lowest - after < GAIN:
                break
            lowest = after
            members.append(best)
            figures = [f"{figure:.1f}" for found in tried[best] for figure in reversed(found)]
            lines.append([level, best, *figures])
        print(f"{level}: {', '.join(members)}")
    headings = [f"{victim} {name}" for victim in victims for name in ("Rank-1", "mAP")]
    with (DOCS / "battery.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["knowledge", "member", *headings], *lines])


if __name__ == "__main__":
    main()
