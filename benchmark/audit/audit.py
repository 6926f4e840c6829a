"""All lines of an audit, in the order in which they explain each other, and the record of it."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from vbench import victim_spec
from vbench.audit import forward, gradients, ladder, storage, strength
from vbench.audit.check import Check, Verdict
from vbench.audit.evidence import Evidence, rank1
from vbench.audit.statistics import LEAST_IDENTITIES
from vbench.environment import environment
from vbench.errors import BadInput
from vbench.files import write_atomically
from vbench.progress import track
from vbench.record import config_id
from vbench.threat import ThreatModel
from vbench.workbench import Workbench

SCHEMA = 1

# The budget looks at every attack that was measured, so it comes last.
PROBES = (*forward.PROBES, *gradients.PROBES, *strength.PROBES, *ladder.PROBES, *storage.PROBES)


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
        safe = "".join(c if c.isalnum() or c in "_-" else "-" for c in self.config["victim"]["name"])
        path = runs / "audits" / f"{safe[:80]}-{self.id}.json"
        write_atomically(path, self.model_dump_json(indent=1) + "\n")
        return path


def audit(
    bench: Workbench, threat: ThreatModel, seed: int, queries_in_protocol: int, quiet: bool = False
) -> Audit:
    """Ask every line of the victim of ``bench``, on all queries of its dataset.

    What an attack cannot do on this victim is a failed line, never an exception. Raises :class:`BadInput`
    for too few identities to tell anything from chance, :class:`VbenchError` where clean images cannot be
    embedded or ranked.
    """
    evidence = Evidence(bench, threat, seed)
    identities = len(set(evidence.ids.tolist()))
    if identities < LEAST_IDENTITIES:
        raise BadInput(
            f"{len(evidence.ids)} queries of {identities} identities tell nothing from chance; "
            f"raise --queries until there are {LEAST_IDENTITIES} identities"
        )
    clean = evidence.clean
    checks = [probe.ask(evidence) for probe in track(PROBES, f"audit of {bench.victim.name}", quiet=quiet)]
    config = {
        "victim": bench.victim_card(),
        "dataset": bench.data_card,
        "threat": threat.card(),
        "seed": seed,
        "queries": len(bench.dataset.query),
    }
    return Audit(
        id=config_id(config),
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        config=config,
        victim_label=victim_spec.label(bench.victim),
        protocol=bench.dataset.protocol,
        synthetic=bench.dataset.synthetic,
        queries=len(bench.dataset.query),
        queries_in_protocol=queries_in_protocol,
        trials=len(bench.dataset.trials),
        rank1=rank1(clean),
        checks=checks,
        environment=environment(bench.victim),
    )
