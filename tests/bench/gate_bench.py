"""How often the gate cries wolf, what it sees, how long it takes: run as a script.

Every try is a re-run of tests/gate/baseline.json with seeds that nothing else has. Attacks without chance
give the same figures with any seed and are left out; bounds are those of the whole baseline.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tabulate import tabulate

from vbench.gate.baseline import Baseline, Measured, read_baseline, resolved
from vbench.gate.compare import Taken, Takings, check_against, compare, measure

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

from gate.conftest import only  # noqa: E402
from gate.gate_mutations import MUTATIONS  # noqa: E402

FILE = TESTS / "gate" / "baseline.json"
#: Far from the seeds of the baseline.
FIRST = 10_000


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=100, help="0: only what it sees, and its time")
    parser.add_argument("--seeds", type=int, default=3, help="of one try")
    options = parser.parse_args()
    baseline = read_baseline(FILE)
    if options.tries:
        _wolf(_chancy(baseline), options.tries, options.seeds)
    _mutations(baseline)
    start = time.perf_counter()
    gate, _ = check_against(baseline, FILE.parent, baseline.seeds, device="cpu", quiet=True)
    took = time.perf_counter() - start
    moved = f"{len(gate.moved)} of {len(gate.rows)} moved"
    print(f"\nwhole gate, {len(baseline.seeds)} seeds: {took:.0f} s; {moved}")


def _wolf(baseline: Baseline, tries: int, seeds: int) -> None:
    request = resolved(baseline, FILE.parent, None, None, quiet=True)
    found = measure(request, range(FIRST, FIRST + tries * seeds), "cpu", quiet=True)
    green = [compare(baseline, part, ()).green for part in _split(found, tries, seeds)]
    print(f"other seeds, against the baseline: green in {sum(green)} of {tries} tries of {seeds} seeds")
    # Any part of the same seeds could have been the baseline.
    n = len(baseline.seeds)
    alarms = count = 0
    for place in range(tries * seeds // n):
        own = _baseline_of(baseline, _slice(found, slice(place * n, place * n + n)))
        taken = range(place * n, place * n + n)
        for start in range(0, tries * seeds, seeds):
            if start in taken or start + seeds - 1 in taken:
                continue
            count += 1
            alarms += not compare(own, _slice(found, slice(start, start + seeds)), ()).green
    print(
        f"against {tries * seeds // n} baselines of {n} of these seeds: red in {alarms} of {count} tries "
        f"({100 * alarms / count:.2f} %; promised: at most {100 * baseline.false_alarm:.2g} %)"
    )


def _mutations(baseline: Baseline) -> None:
    rows = []
    for mutation in MUTATIONS:
        with mutation.applied():
            part = only(baseline, (mutation.attack,))
            gate, _ = check_against(part, FILE.parent, baseline.seeds[:5], device="cpu", quiet=True)
        told = [row.metric.label.split(",")[0] if row.metric else row.note for row in gate.moved]
        rows.append([mutation.what, mutation.attack.partition("[")[0], "; ".join(told) or "NOT SEEN"])
    print()
    header = ["one line changed", "attack", "what moved, with five seeds"]
    print(tabulate(rows, header, maxcolwidths=[None, None, 60]))


def _chancy(baseline: Baseline) -> Baseline:
    varied = [one.attack for one in baseline.attacks if len(set(one.metrics["drop_map"].values)) > 1]
    return only(baseline, varied)


def _split(found: Takings, tries: int, seeds: int) -> Iterator[Takings]:
    return (_slice(found, slice(place * seeds, place * seeds + seeds)) for place in range(tries))


def _slice(found: Takings, rows: slice) -> Takings:
    return Takings(found.victims, [_rows(one, rows) for one in found.attacks], found.environment)


def _rows(one: Taken, rows: slice) -> Taken:
    whole = (one.values, one.resolutions, one.parts)
    cut = ({name: values[rows] for name, values in part.items()} for part in whole)
    return Taken(one.place, one.config, *cut)


def _baseline_of(baseline: Baseline, found: Takings) -> Baseline:
    attacks: Sequence[Measured] = [one.measured() for one in found.attacks]
    return baseline.model_copy(update={"attacks": attacks})


if __name__ == "__main__":
    main()
