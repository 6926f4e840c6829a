"""What an evaluation found: its records, what was learnt, and how they are shown."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vbench.attacks.perturbation import Perturbation
from vbench.errors import BadInput
from vbench.lost import Failure
from vbench.record import Record
from vbench.recorder import keep, stored_perturbations
from vbench.store import RunStore

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False, eq=False)
class Result:
    """Records of runs, in the order they were asked for.

    ``perturbations`` holds by record id what was learnt for it: a universal attack has one, an attack that
    crafts image by image none, a battery one for each universal member. ``failures`` are runs that were lost,
    with the reason. Printing a result gives the table of ``vbench run``; a notebook shows it as HTML.
    """

    records: tuple[Record, ...]
    perturbations: Mapping[str, tuple[Perturbation, ...]] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()

    @classmethod
    def read(cls, runs: str | Path) -> Result:
        """All records of a folder of runs, with their perturbations, or of an archive.

        What cannot be read is a warning. Raises :class:`BadInput` when there is no record at all.
        """
        store = RunStore(Path(runs))
        contents = store.read_all() if store.root.exists() else None
        if contents is None or not contents.records:
            raise BadInput(f"no readable run record in {runs}")
        tell = partial(warnings.warn, stacklevel=2)
        for note in contents.notes:
            tell(note)
        records = tuple(contents.records)
        if not store.root.is_dir():
            return cls(records)
        return cls(records, {record.id: stored_perturbations(store, record, tell) for record in records})

    @property
    def record(self) -> Record:
        """The only record; raises :class:`BadInput` when there are several, or none."""
        if len(self.records) != 1:
            raise BadInput(f"this result holds {len(self.records)} records; take one of .records")
        return self.records[0]

    @property
    def perturbation(self) -> Perturbation:
        """The only perturbation that was learnt; raises :class:`BadInput` when there are several, or none."""
        found = [one for record in self.records for one in self.perturbations.get(record.id, ())]
        if len(found) != 1:
            raise BadInput(f"this result holds {len(found)} perturbations; see .perturbations")
        return found[0]

    def where(self, text: str) -> Result:
        """The part that meets every condition, as ``vbench report --where``: "victim=agw eps=8/255"."""
        from vbench.reports.select import select

        kept = tuple(select(self.records, text))
        ids = {record.id for record in kept}
        return Result(kept, {name: found for name, found in self.perturbations.items() if name in ids})

    def to_frame(self, per: str = "run") -> pd.DataFrame:
        """A pandas table, unrounded, shares in [0, 1]: a row a "run", a "trial", or a "query" and trial.

        docs/library.md explains the columns. Raises :class:`BadInput` for another ``per``, and for queries of
        records from an archive, which keeps none.
        """
        from vbench.reports.frames import frame

        return frame(self.records, per)

    def report(
        self,
        style: str = "markdown",
        metrics: Sequence[str] | None = None,
        group: str | None = None,
        versus: str | None = None,
    ) -> str:
        """The full table of ``vbench report``: "markdown", "latex", "plain", "csv" or "json"."""
        from vbench.reports.full import report_of

        return report_of(self.records, style, metrics, group, versus)

    def save(self, runs: str | Path) -> list[Path]:
        """Store records and perturbations in a folder as ``vbench run`` does; returns the records' paths."""
        store = RunStore(Path(runs))
        return [keep(store, record, self.perturbations.get(record.id, ())) for record in self.records]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __str__(self) -> str:
        from vbench.reports.render import report

        return report(self.records, "plain", self.failures) if self.records else "no record"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from vbench.reports.notebook import html

        return html(self.records, self.failures)
