"""Reads, verifies and merges records; finds contradictions."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean as mean
from typing import BinaryIO

from vbench.core.errors import BadInput
from vbench.core.text import first_of, one_line
from vbench.records.record import Record
from vbench.records.store import LARGEST
from vbench.reports.leaderboard.names import MARK, is_site, shown_roots
from vbench.reports.rows import HEADINGS
from vbench.reports.verify import Mark, parse, verify

#: Folder of the results of ``vbench audit``, which are not records.
_NOT_RECORDS = "audits"


@dataclass(frozen=True)
class Result:
    """An accepted record without its per-query values, its files (and lines) as shown, and its marks.

    ``doubts``: contradictions with other records.
    """

    record: Record
    sources: tuple[str, ...]
    marks: tuple[Mark, ...]
    doubts: list[str] = field(default_factory=list)

    @property
    def version(self) -> str:
        """The version of vbench that the record states; it cannot be checked."""
        versions = self.record.environment.get("versions")
        return versions.get("vbench", "") if isinstance(versions, dict) else ""


@dataclass(frozen=True)
class Refused:
    """A refused record or file, and why."""

    source: str
    reasons: tuple[str, ...]


@dataclass
class Collected:
    """All accepted and refused records."""

    found: list[Result] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)

    def add(self, source: str, text: bytes, file_name: str | None) -> None:
        """Verify and add the record in one file or line."""
        record = parse(text)
        if not isinstance(record, Record):
            self.refuse(source, *record)
            return
        checked = verify(record, file_name)
        if not checked.stands:
            self.refuse(source, *checked.reasons)
            return
        # A thousand records with per-query values would need too much memory.
        self.found.append(Result(record.without_queries(), (source,), tuple(checked.marks)))

    def refuse(self, source: str, *reasons: str) -> None:
        """Add a refusal; untrusted text is made safe to print."""
        self.refused.append(Refused(source, tuple(one_line(reason) for reason in reasons)))


def collect(roots: Sequence[Path]) -> Collected:
    """Read and verify every ``*.json`` and ``*.jsonl`` in and under some folders; or single such files.

    Links are not followed; hidden folders, earlier sites and ``audits`` are skipped. Raises :class:`BadInput`
    for a root that does not exist; a bad file inside one is only refused.
    """
    collected = Collected()
    for root, name in zip(roots, shown_roots(roots), strict=True):
        if root.is_dir():
            for path in _files(root, name, collected):
                _read(path, _below(path, root, name), collected)
        elif root.is_file() and root.suffix in (".json", ".jsonl"):
            _read(root, name, collected)
        else:
            what = "is neither a folder nor a .json or .jsonl file" if root.exists() else "does not exist"
            raise BadInput(f"{root} {what}; give folders of run records, as vbench run writes them")
    return collected


def _files(root: Path, name: str, collected: Collected) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        collected.refuse(_below(Path(error.filename), root, name), error.strerror or str(error))

    for folder, folders, files in os.walk(root, onerror=unreadable):
        here = Path(folder)
        folders[:] = sorted(
            one for one in folders if not (one.startswith(".") or one == _NOT_RECORDS or is_site(here / one))
        )
        for linked in [one for one in folders if (here / one).is_symlink()]:
            collected.refuse(_below(here / linked, root, name), "a link to a folder; links are not followed")
            folders.remove(linked)
        for one in sorted(files):
            if one.endswith((".json", ".jsonl")) and not one.startswith(".") and one != MARK:
                yield here / one


def _below(path: Path, root: Path, name: str) -> str:
    return f"{name}/{one_line(path.relative_to(root).as_posix())}"


def _read(path: Path, source: str, collected: Collected) -> None:
    archive = path.suffix == ".jsonl"
    try:
        # Opens neither a link nor a pipe, which would never end.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                collected.refuse(source, "not a regular file")
            elif archive:
                _read_lines(file, source, collected)
            else:
                text = file.read(LARGEST + 1)
                if len(text) > LARGEST:
                    collected.refuse(source, _too_large("file"))
                else:
                    collected.add(source, text, path.name)
    except OSError as error:
        linked = "a link; links are not followed" if path.is_symlink() else None
        collected.refuse(source, linked or error.strerror or str(error))


def _read_lines(file: BinaryIO, source: str, collected: Collected) -> None:
    number = 0
    while line := file.readline(LARGEST + 1):
        number += 1
        if len(line) > LARGEST:
            collected.refuse(f"{source}:{number}", f"{_too_large('line')}; the rest of the file is not read")
            return
        if line.strip():
            collected.add(f"{source}:{number}", line, None)


def _too_large(what: str) -> str:
    return f"the {what} is larger than {LARGEST >> 20} MiB; no run record is"


#: Largest difference, in [0, 1], that is attributed to rounding on different machines.
TOLERANCE = 0.005

#: Fields of a record that are results; the others say where, when, how fast and on what.
_OUTCOME = {"clean", "adversarial", "controls", "members", "asr", "stealthy", "verdict", "level"}


@dataclass(frozen=True)
class Entry:
    """All different results of one configuration, oldest first; usually one."""

    results: tuple[Result, ...]

    @property
    def record(self) -> Record:
        """One record, for the configuration, which is the same in all."""
        return self.results[0].record

    def mean(self, which: str, metric: str) -> float:
        """Mean over results of a metric of "clean" or "adversarial", in [0, 1]."""
        return mean(result.record.mean(which, metric) for result in self.results)

    def span(self, which: str, metric: str) -> tuple[float, float]:
        """Smallest and largest result."""
        found = [result.record.mean(which, metric) for result in self.results]
        return min(found), max(found)

    @property
    def agrees(self) -> bool:
        """Whether all results are equal up to rounding, before and after the attack."""
        return all(
            high - low <= TOLERANCE
            for which in ("clean", "adversarial")
            for low, high in (self.span(which, metric) for metric in HEADINGS)
        )


def merge(found: Iterable[Result]) -> list[Entry]:
    """Entries by configuration, in the order of their oldest records.

    Equal results become one that names every file, with the marks of the copy that could be checked best.
    Different results are all kept; none is preferred, and the date, which can be forged, only determines
    their order.
    """
    entries: dict[str, dict[str, Result]] = {}
    for one in sorted(found, key=lambda one: (one.record.created, one.sources)):
        results = entries.setdefault(one.record.id, {})
        outcome = one.record.model_dump_json(include=_OUTCOME)
        known = results.get(outcome, one)
        best = one if len(one.marks) < len(known.marks) else known
        sources = one.sources if known is one else (*known.sources, *one.sources)
        results[outcome] = replace(best, sources=sources)
    return [Entry(tuple(results.values())) for results in entries.values()]


def disputed(entries: Sequence[Entry]) -> list[str]:
    """One line for each configuration whose results differ by more than rounding, with all sources."""
    lines = []
    for entry in entries:
        if entry.agrees:
            continue
        said = "; ".join(
            f"{_change(one.record, 'r1')}, {_change(one.record, 'map')} in {', '.join(one.sources)}"
            for one in entry.results
        )
        record = entry.record
        lines.append(f"{record.label} on {record.victim_label}, {record.protocol}, id {record.id}: {said}")
    return lines


def _change(record: Record, metric: str) -> str:
    before, after = (100 * record.mean(which, metric) for which in ("clean", "adversarial"))
    return f"{HEADINGS[metric]} {before:.2f} -> {after:.2f}"


def find_doubts(entries: Sequence[Entry]) -> None:
    """Add to the ``doubts`` of each result the others it contradicts.

    Both sides are marked and kept: records do not show which is right, and a false record must not be able to
    remove a true one from a board.
    """
    results = [result for entry in entries for result in entry.results]
    for same in _groups(results, _victim_and_images):
        _doubt_clean(same)
    for same in _groups(results, lambda record: record.config["dataset"]["fingerprint"]):
        _doubt_synthetic(same)


def _groups(results: Iterable[Result], key: Callable[[Record], Hashable]) -> list[list[Result]]:
    found: dict[Hashable, list[Result]] = {}
    for result in results:
        found.setdefault(key(result.record), []).append(result)
    return list(found.values())


def _victim_and_images(record: Record) -> Hashable:
    """Everything that determines the clean ranking of a victim."""
    data = record.config["dataset"]
    return json.dumps(record.config["victim"], sort_keys=True), data["fingerprint"], data["protocol"]


def _doubt_clean(results: Sequence[Result]) -> None:
    """Clean results of one victim on the same images must be equal up to rounding."""
    said: dict[tuple[float, ...], list[Result]] = {}
    for result in results:
        means = (mean(getattr(trial, metric) for trial in result.record.clean) for metric in HEADINGS)
        figures = (*means, *(float(trial.queries) for trial in result.record.clean))
        near = next((known for known in said if _near(known, figures)), figures)
        said.setdefault(near, []).append(result)
    if len(said) == 1:
        return
    record = results[0].record
    listed = "; ".join(
        f"Rank-1 {100 * figures[0]:.2f}, mAP {100 * figures[4]:.2f} over {figures[len(HEADINGS)]:.0f} "
        f"queries in {first_of([source for result in same for source in result.sources], 3)}"
        for figures, same in said.items()
    )
    victim = f"{record.victim_label}, weights {record.config['victim']['weights']}"
    line = f"clean results of {victim} on {record.protocol} differ: {listed}"
    for result in results:
        result.doubts.append(line)


def _doubt_synthetic(results: Sequence[Result]) -> None:
    """The same images must not be both synthetic and real."""
    kinds = {result.record.synthetic for result in results}
    if len(kinds) == 1:
        return
    synthetic, real = (
        first_of([source for one in results if one.record.synthetic is kind for source in one.sources], 3)
        for kind in (True, False)
    )
    fingerprint = results[0].record.config["dataset"]["fingerprint"]
    line = f"images {fingerprint} are called synthetic in {synthetic}, and real in {real}"
    for result in results:
        result.doubts.append(line)


def _near(one: Sequence[float], other: Sequence[float]) -> bool:
    return len(one) == len(other) and all(abs(a - b) <= TOLERANCE for a, b in zip(one, other, strict=True))
