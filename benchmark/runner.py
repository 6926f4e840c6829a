"""One run: clean evaluation, attack, adversarial evaluation, record."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vbench import victim_spec
from vbench.assault import Plan, assault
from vbench.attack_spec import label
from vbench.attacks.base import Attack, Control, UniversalAttack
from vbench.attacks.perturbation import Perturbation
from vbench.embed import embed
from vbench.environment import environment
from vbench.errors import BadInput
from vbench.meter import Meter
from vbench.metrics import RankMetrics, attack_success_rate, bootstrap_drop
from vbench.packed import Packed
from vbench.record import ControlRecord, Record, TrialMetrics, config_id
from vbench.similarity import PerturbationSize
from vbench.threat import ThreatModel
from vbench.types import Side
from vbench.victims.base import Edits
from vbench.workbench import Workbench

#: A tampered system that loses at most this much Rank-1 on clean images counts as stealthy.
STEALTH_LOSS = 0.02
_TIES_WORTH_A_WARNING = 0.01


@dataclass(frozen=True)
class Run:
    """One configuration on a workbench; ``perturbation`` replays a learnt one instead of fitting.

    With ``source``, the workbench of a surrogate over the same images, everything is learnt and crafted there
    and shown to the victim of ``bench``, which the attacker never sees: a transfer attack.
    """

    bench: Workbench
    attack: Attack
    threat: ThreatModel
    seed: int = 0
    perturbation: Perturbation | None = None
    source: Workbench | None = None

    @property
    def _origin(self) -> Workbench:
        return self.source or self.bench

    @property
    def images(self) -> int:
        """How many images are attacked."""
        lists = {Side.QUERY: self.bench.dataset.query, Side.GALLERY: self.bench.dataset.gallery}
        return sum(len(lists[side]) for side in _sides(self.threat.side))

    def config(self) -> dict[str, Any]:
        """The full configuration, JSON-able; its hash names the record."""
        config = {
            "victim": self.bench.victim_card(),
            "dataset": self.bench.data_card,
            "attack": {"name": self.attack.name, "settings": self.attack.settings()},
            "threat": self.threat.card(),
            "seed": self.seed,
            "perturbation": self.perturbation.digest if self.perturbation else None,
        }
        return {**config, "surrogate": self.source.victim_card()} if self.source else config

    def fit_id(self) -> str:
        """Names what a universal attack's fit depends on: equal ids learn equal perturbations."""
        config = self.config()
        data = {name: config["dataset"][name] for name in ("split", "training")}
        victim = self._origin.victim_card()
        return config_id(
            {**config, "victim": victim, "dataset": data, "threat": {**config["threat"], "side": None}}
        )

    def check(self) -> None:
        """Raise :class:`BadInput`, before any work, if attack, victim and budget do not fit."""
        attack = self.attack
        attack.check(self._origin.victim, self.threat)
        if self.source and isinstance(attack, UniversalAttack) and attack.tampers:
            raise BadInput(
                f"{label(attack)} changes features inside the victim it is learnt on; it cannot transfer"
            )

    def execute(
        self, ignore_gates: bool = False, quiet: bool = False, learnt: Perturbation | None = None
    ) -> tuple[Record, Perturbation | None]:
        """Do the run. Returns its record and, for a universal attack, the perturbation.

        ``learnt`` is the result of an earlier fit with the same :meth:`fit_id`, to save doing it again.

        Raises :class:`BadInput` when victim and attack do not fit, or when the clean Rank-1 is at chance
        level and ``ignore_gates`` is not given; :class:`VbenchError` when attack or victim misbehave.
        """
        self.check()
        bench, attack = self.bench, self.attack
        if not ignore_gates:
            clean_gate(bench)
        config = self.config()
        perturbation, cost = self._fit(quiet, learnt)
        size = PerturbationSize()
        edits = self._edits(perturbation)
        sides = _sides(self.threat.side)
        embeddings = {side: found.embeddings for side, found in bench.clean.items()}
        for side in sides:
            plan = Plan(attack, self.threat, self.seed, perturbation, edits)
            found = assault(bench, side, plan, size, self.source, quiet)
            embeddings[side] = found.embeddings
            cost["attack_evaluations"] = cost.get("attack_evaluations", 0) + found.evaluations
            cost["attack_queries"] = cost.get("attack_queries", 0) + found.queries
            cost["attack_seconds"] = cost.get("attack_seconds", 0.0) + found.seconds
            cost["peak_memory"] = max(cost.get("peak_memory", 0), found.peak_memory)
        attacked = sum(len(bench.pixels[side]) for side in sides)
        cost["evaluations_per_image"] = cost["attack_evaluations"] / attacked
        cost["queries_per_image"] = cost["attack_queries"] / attacked
        cost["images_per_second"] = attacked / max(cost["attack_seconds"], 1e-9)
        adversarial = bench.rank(embeddings)
        controls = self._controls(perturbation, quiet)
        record = Record(
            id=config_id(config),
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            config=config,
            protocol=bench.dataset.protocol,
            synthetic=bench.dataset.synthetic,
            knowledge=sorted(attack.knowledge),
            universal=attack.universal,
            label=label(attack),
            victim_label=victim_spec.label(bench.victim),
            clean=_trials(bench, bench.clean_trials),
            adversarial=_trials(bench, adversarial),
            controls=controls,
            level="feature" if edits else "pixel",
            stealthy=_stealthy(bench, controls) if edits else None,
            size=size.card(),
            cost={name: float(value) for name, value in cost.items()},
            fit_log=dict(perturbation.fit_log) if perturbation else {},
            environment=environment(bench.victim),
            surrogate=self.source.victim.name if self.source else "",
            warnings=[
                *bench.dataset.notes,
                *_fit_warnings(perturbation),
                *_resize_warnings(perturbation),
                *_tie_warnings(adversarial),
            ],
            **_paired(bench.clean_trials, adversarial, self.seed),
        )
        return record, perturbation

    def _fit(self, quiet: bool, known: Perturbation | None) -> tuple[Perturbation | None, dict[str, float]]:
        if not isinstance(self.attack, UniversalAttack):
            if self.perturbation is not None:
                raise BadInput(f"attack '{self.attack.name}' is per-image; it cannot replay a perturbation")
            return None, {}
        if self.perturbation is not None:
            return self.perturbation.resized(self.bench.victim.input_size, self.threat), {}
        if known is not None:
            return known, dict(known.fit_log["cost"])
        training = self._origin.training
        generator = torch.Generator().manual_seed(self.seed)
        with Meter(self._origin.victim) as meter:
            learnt = self.attack.fit(self._origin.victim, training, self.threat, generator, quiet)
        cost = {
            "fit_evaluations": meter.evaluations,
            "fit_seconds": meter.seconds,
            "peak_memory": meter.peak_memory,
        }
        facts = {
            "victim": self._origin.victim_card(),
            "dataset": self.bench.data_card,
            "seed": self.seed,
            "digest": learnt.digest,
        }
        return replace(learnt.with_provenance(**facts), fit_log={**learnt.fit_log, "cost": dict(cost)}), cost

    def _edits(self, perturbation: Perturbation | None) -> Edits:
        if perturbation is None or not isinstance(self.attack, UniversalAttack):
            return {}
        return self.attack.edits(perturbation, self.bench.victim)

    def _controls(self, perturbation: Perturbation | None, quiet: bool) -> list[ControlRecord]:
        if perturbation is None or not isinstance(self.attack, UniversalAttack):
            return []
        generator = torch.Generator().manual_seed(self.seed + 1)
        return [
            ControlRecord(name=control.name, trials=_trials(self.bench, self._measure(control, quiet)))
            for control in self.attack.controls(perturbation, self.bench.victim, generator)
        ]

    def _measure(self, control: Control, quiet: bool) -> list[RankMetrics]:
        bench, attack = self.bench, self.attack
        embeddings: dict[Side, Tensor] = {side: found.embeddings for side, found in bench.clean.items()}
        edits = attack.edits(control.perturbation, bench.victim) if control.tampers else {}
        attacked = _sides(self.threat.side)
        if control.side == "other":
            for side in (Side.QUERY, Side.GALLERY):
                if side not in attacked:
                    pixels, modality = bench.pixels[side], bench.modality(side)
                    embeddings[side] = embed(bench.victim, pixels, modality, edits).embeddings
            return bench.rank(embeddings)
        for side in attacked:
            plan = Plan(attack, self.threat, self.seed, control.perturbation, edits)
            found = assault(bench, side, plan, PerturbationSize(), quiet=quiet)
            embeddings[side] = found.embeddings
        return bench.rank(embeddings)


def clean_gate(bench: Workbench) -> None:
    """Refuse a victim whose clean Rank-1 is no better than chance: its checkpoint did not load, most likely.

    The bound is three binomial standard deviations above a random ranking.
    """
    chance = bench.chance_rank1()
    queries = sum(int(trial.valid.sum()) for trial in bench.clean_trials) / len(bench.clean_trials)
    bound = chance + 3 * math.sqrt(chance * (1 - chance) / queries)
    rank1 = _mean_rank1(bench.clean_trials)
    if rank1 <= bound:
        raise BadInput(
            f"{bench.victim.name}: clean Rank-1 is {rank1:.1%} on {bench.dataset.protocol}, chance level is "
            f"{chance:.1%}; are these the right weights? (--ignore-gates runs anyway)"
        )


def _mean_rank1(results: list[RankMetrics]) -> float:
    return sum(found.rank(1) for found in results) / len(results)


def _sides(side: Side) -> list[Side]:
    return [Side.QUERY, Side.GALLERY] if side is Side.BOTH else [side]


def _trials(bench: Workbench, results: list[RankMetrics]) -> list[TrialMetrics]:
    return [
        TrialMetrics(
            trial=trial.name,
            **{f"r{k}": found.rank(k) for k in (1, 5, 10, 20)},
            map=found.mAP,
            minp=found.mINP,
            queries=int(found.valid.sum()),
            skipped=int((~found.valid).sum()),
            tied_share=found.tied_share,
        )
        for trial, found in zip(bench.dataset.trials, results, strict=True)
    ]


def _paired(clean: list[RankMetrics], adversarial: list[RankMetrics], seed: int) -> dict[str, Any]:
    ranks = [
        torch.stack([found.first_match_rank for found in group]).numpy() for group in (clean, adversarial)
    ]
    precisions = [
        torch.stack([found.average_precision for found in group]).numpy() for group in (clean, adversarial)
    ]
    hits = [np.where(rank == 0, np.nan, rank == 1) for rank in ranks]
    generator = np.random.default_rng(seed)
    success = attack_success_rate(*ranks)
    return {
        "asr": None if math.isnan(success) else success,
        "drop_interval": {
            "r1": bootstrap_drop(*hits, generator),
            "map": bootstrap_drop(*precisions, generator),
        },
        "per_query": {
            "clean_rank": Packed.pack(ranks[0]),
            "adversarial_rank": Packed.pack(ranks[1]),
            "clean_ap": Packed.pack(precisions[0]),
            "adversarial_ap": Packed.pack(precisions[1]),
        },
    }


def _stealthy(bench: Workbench, controls: list[ControlRecord]) -> bool | None:
    for control in controls:
        if control.name == "modules, d = 0":
            clean = _mean_rank1(bench.clean_trials)
            tampered = sum(trial.r1 for trial in control.trials) / len(control.trials)
            return clean - tampered <= STEALTH_LOSS
    return None


def _fit_warnings(perturbation: Perturbation | None) -> list[str]:
    return list(perturbation.fit_log.get("warnings", ())) if perturbation else []


def _resize_warnings(perturbation: Perturbation | None) -> list[str]:
    resized = perturbation.provenance.get("resized") if perturbation else None
    return [f"the perturbation was learnt at another size: {resized}"] if resized else []


def _tie_warnings(results: list[RankMetrics]) -> list[str]:
    share = max(found.tied_share for found in results)
    if share <= _TIES_WORTH_A_WARNING:
        return []
    return [f"{share:.1%} of queries hang on a tie of distances: their result is gallery order, not ranking"]
