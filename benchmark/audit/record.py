"""What an audit found, in one JSON file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from vbench.audit.check import Check, Verdict
from vbench.files import check_inside, write_atomically
from vbench.record import in_file_names

SCHEMA = 1


class Audit(BaseModel):
    """The audit of one victim on one dataset under one budget; ``id`` is the hash of ``config``.

    ``queries`` of ``queries_in_protocol`` were used; ``rank1`` is the clean one on them, in [0, 1].
    """

    model_config = ConfigDict(extra="allow")

    schema_version: int = SCHEMA
    id: str
    created: str
    config: dict[str, Any]
    victim_label: str
    protocol: str
    synthetic: bool
    queries: int
    queries_in_protocol: int
    trials: int
    rank1: float
    checks: list[Check]
    environment: dict[str, Any] = Field(default_factory=dict)

    def count(self, verdict: Verdict) -> int:
        """How many lines have this verdict."""
        return sum(check.verdict is verdict for check in self.checks)

    @property
    def holds(self) -> bool:
        """Whether no line failed."""
        return self.count(Verdict.FAIL) == 0

    def write(self, runs: Path) -> Path:
        """Store it under ``runs``/audits, apart from the run records; returns the path."""
        name = f"{in_file_names(self.config['victim']['name'])}-{self.id}.json"
        path = check_inside(runs, runs / "audits" / name)
        write_atomically(path, self.model_dump_json(indent=1) + "\n")
        return path
