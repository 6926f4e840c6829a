"""All lines of an audit, in the order in which they explain each other."""

from __future__ import annotations

import datetime

from vbench import victim_spec
from vbench.arithmetic import undisturbed
from vbench.audit import forward, gradients, ladder, storage, strength
from vbench.audit.evidence import Evidence, rank1
from vbench.audit.record import Audit
from vbench.audit.statistics import LEAST_IDENTITIES
from vbench.data.base import Dataset
from vbench.environment import environment
from vbench.errors import BadInput
from vbench.progress import track
from vbench.record import IDENTITY, config_id
from vbench.threat import ThreatModel
from vbench.victims.base import example_tensor
from vbench.workbench import Workbench

# The budget looks at every attack that was measured, so it comes last.
PROBES = (*forward.PROBES, *gradients.PROBES, *strength.PROBES, *ladder.PROBES, *storage.PROBES)


def check_identities(dataset: Dataset) -> None:
    """Raise :class:`BadInput` for queries of too few identities to tell anything from chance."""
    identities = len({sample.pid for sample in dataset.query})
    if identities < LEAST_IDENTITIES:
        raise BadInput(
            f"{len(dataset.query)} queries of {identities} identities tell nothing from chance; "
            f"raise --queries until there are {LEAST_IDENTITIES} identities"
        )


@undisturbed()
def audit(
    bench: Workbench, threat: ThreatModel, seed: int, queries_in_protocol: int, quiet: bool = False
) -> Audit:
    """Ask every line of the victim of ``bench``, on all queries of its dataset.

    What an attack cannot do on this victim is a failed line, never an exception. Raises :class:`BadInput`
    for too few identities to tell anything from chance, :class:`VbenchError` where clean images cannot be
    embedded or ranked.
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
        victim_label=victim_spec.label(bench.victim),
        protocol=bench.dataset.protocol,
        synthetic=bench.dataset.synthetic,
        queries=len(bench.dataset.query),
        queries_in_protocol=queries_in_protocol,
        trials=len(bench.dataset.trials),
        rank1=rank1(clean),
        checks=checks,
        environment=environment(example_tensor(bench.victim).device),
    )
