"""Audit whether an evaluation of a victim's robustness can be trusted: all checks in order."""

from __future__ import annotations

import datetime

from vbench.audit import attacks, victim
from vbench.audit.evidence import Evidence, rank1
from vbench.audit.record import Audit
from vbench.core.arithmetic import default_arithmetic
from vbench.core.environment import environment
from vbench.core.errors import BadInput
from vbench.core.progress import track
from vbench.core.threat import ThreatModel
from vbench.data.base import Dataset
from vbench.metrics.statistics import LEAST_IDENTITIES
from vbench.records.record import IDENTITY, config_id
from vbench.run.bench import Bench
from vbench.victims.base import example_tensor
from vbench.victims.build import victim_label

# The budget check covers every attack that was measured, so it comes last.
PROBES = (*victim.PROBES, *attacks.PROBES)


def check_identities(dataset: Dataset) -> None:
    """Raise :class:`BadInput` for queries of too few identities for a significant result."""
    identities = len({sample.pid for sample in dataset.query})
    if identities < LEAST_IDENTITIES:
        raise BadInput(
            f"{len(dataset.query)} queries of {identities} identities are too few for a significant result; "
            f"raise --queries until there are {LEAST_IDENTITIES} identities"
        )


@default_arithmetic()
def audit(
    bench: Bench, threat: ThreatModel, seed: int, queries_in_protocol: int, quiet: bool = False
) -> Audit:
    """Run every check on the victim of ``bench``, on all queries of its dataset.

    An attack that does not run on this victim is a failed check, not an exception. Raises :class:`BadInput`
    for too few identities for a significant result, :class:`VbenchError` if clean images cannot be embedded
    or ranked.
    """
    check_identities(bench.dataset)
    evidence = Evidence(bench, threat, seed)
    clean = evidence.clean
    checks = [probe.ask(evidence) for probe in track(PROBES, f"audit of {bench.victim.name}", quiet=quiet)]
    config = {
        "identity": IDENTITY,
        "victim": bench.victim_card(),
        "dataset": bench.data_card(),
        "threat": threat.card(),
        "seed": seed,
        "queries": len(bench.dataset.query),
    }
    return Audit(
        id=config_id(config),
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        config=config,
        victim_label=victim_label(bench.victim),
        protocol=bench.dataset.protocol,
        synthetic=bench.dataset.synthetic,
        queries=len(bench.dataset.query),
        queries_in_protocol=queries_in_protocol,
        trials=len(bench.dataset.trials),
        rank1=rank1(clean),
        checks=checks,
        environment=environment(example_tensor(bench.victim).device),
    )
