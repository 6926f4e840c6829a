"""One run: clean evaluation, attack, adversarial evaluation, record."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from vbench.attacks.base import REFERENCE, AnyEdits, Attack, Battery, UniversalAttack
from vbench.attacks.build import attack_card, label
from vbench.attacks.perturbation import Perturbation
from vbench.attacks.returned import own_perturbation
from vbench.core.arithmetic import default_arithmetic
from vbench.core.environment import environment
from vbench.core.errors import BadInput
from vbench.core.isolation import contained, twin, untouched
from vbench.core.processes import check_equal
from vbench.core.seeds import check_seed, torch_generator
from vbench.core.threat import ThreatModel, show_budget
from vbench.core.types import Side
from vbench.metrics import RankMetrics
from vbench.metrics.change import PerturbationSize
from vbench.records.record import (
    IDENTITY,
    Asked,
    ControlRecord,
    Record,
    TrialMetrics,
    config_id,
    precision_text,
)
from vbench.run.bench import Bench
from vbench.run.controls import TAMPERED, judged, measure_controls, stealthy, within_modalities
from vbench.run.craft import Meter, Plan, craft_side
from vbench.run.keep import Keeper
from vbench.run.summary import clean_gate, paired, tie_warnings, trial_metrics
from vbench.run.worst_case import Outcome, WorstCase
from vbench.victims.base import Victim, example_tensor
from vbench.victims.precision import precision_card
from vbench.victims.transformer import Attention


@dataclass(frozen=True)
class Run:
    """One configuration on a bench; ``perturbation`` replays a learnt one instead of fitting.

    With ``source``, the bench of a surrogate over the same images, this is a transfer attack: fitted and
    crafted on the surrogate, evaluated on the victim of ``bench``, to which the attacker has no access.
    """

    bench: Bench
    attack: Attack
    threat: ThreatModel
    seed: int = 0
    perturbation: Perturbation | None = None
    source: Bench | None = None
    ignore_gates: bool = False

    @property
    def _origin(self) -> Bench:
        return self.source or self.bench

    @property
    def images(self) -> int:
        """The number of images that are attacked."""
        lists = {Side.QUERY: self.bench.dataset.query, Side.GALLERY: self.bench.dataset.gallery}
        return sum(len(lists[side]) for side in self.threat.sides)

    def config(self) -> dict[str, Any]:
        """The full configuration, JSON-able; its hash names the record."""
        config = {
            "identity": IDENTITY,
            "victim": self.bench.victim_card(),
            "dataset": self.bench.data_card(training=looks_at_training(self.attack)),
            "attack": attack_card(self.attack),
            "threat": self.threat.card(),
            "seed": self.seed,
            "perturbation": self.perturbation.digest if self.perturbation else None,
        }
        return {**config, "surrogate": self.source.victim_card()} if self.source else config

    def asked(self) -> Asked:
        """Inputs of the run that are not in its configuration."""
        files = self.source is not None and self.source.asked.weights
        changes = {"surrogate_weights": files, "ignore_gates": self.ignore_gates}
        return self.bench.asked.model_copy(update=changes)

    def fit_id(self) -> str:
        """A hash of all that a universal attack's fit depends on; equal ids mean equal perturbations."""
        return fit_of(self.config())

    def fits(self) -> list[str]:
        """The :meth:`fit_id` of every fit of this run: the attack's, or those of its members."""
        runs = self._runs() if self.perturbation is None else []
        return [run.fit_id() for run in runs if isinstance(run.attack, UniversalAttack)]

    def _runs(self) -> list[Run]:
        if not isinstance(self.attack, Battery):
            return [self]
        members, _ = self.attack.applicable(self._origin.victim, self.threat)
        return [replace(self, attack=member) for member in members]

    def check(self) -> None:
        """Raise :class:`BadInput`, before any work, if attack, victim and budget do not fit together."""
        check_seed(self.seed)
        attack, victim = self.attack, self._origin.victim
        with untouched(f"attack '{attack.name}'", victim):
            check_fit(attack, self.threat, victim, self.source is not None, self.perturbation)

    @default_arithmetic()
    def execute(
        self,
        quiet: bool = False,
        learnt: dict[str, Perturbation] | None = None,
        keeper: Keeper | None = None,
        recorded: Recorded = lambda run: None,
    ) -> tuple[Record, Perturbation | None]:
        """Do the run. Returns its record and, for a universal attack, the perturbation.

        ``learnt`` maps :meth:`fit_id` to perturbations of earlier fits, which are reused; new ones are added.
        ``keeper`` collects embeddings and images. ``recorded`` finds the record of a run: a training that is
        a control of this one is not repeated.

        Attack and victim run as copies; changes outside them are undone. Raises :class:`BadInput` if victim
        and attack do not fit together; :class:`VbenchError` if the clean Rank-1 is at chance level and
        ``ignore_gates`` is not given, or if attack or victim fail, and then nothing is added to ``learnt``.
        """
        self.check()
        if not self.ignore_gates:
            clean_gate(self.bench)
        # Computed before any code of the attack runs.
        config = self.config()
        check_equal(f"weights, data or settings of {label(self.attack)}", config_id(config))
        who, found = f"attack '{self.attack.name}'", dict(learnt or {})
        keep_images = keeper is not None and "images" in keeper.wanted
        worst = WorstCase(self.bench) if isinstance(self.attack, Battery) else None
        with untouched(who, self.bench.victim, self._origin.victim):
            own = replace(self, attack=twin(self.attack, who))
            for run in own._runs():
                perturbation, cost = run._fit(quiet, found)
                bench, edits = run._handed_over(perturbation), run._edits(perturbation)
                clean = {side: known.embeddings for side, known in bench.clean.items()}
                outcome = Outcome(clean, PerturbationSize(), cost, perturbation, edits, tested=bench)
                plan = Plan(run.attack, self.threat, self.seed, perturbation, edits)
                for side in self.threat.sides:
                    crafted = craft_side(
                        bench, side, plan, outcome.size, self.source, quiet, keep=keep_images
                    )
                    outcome.add(side, crafted)
                if worst:
                    worst.add(run.attack, outcome)
            done = self._record(own.attack, config, worst or outcome, found, quiet, keeper, recorded)
        if learnt is not None:
            learnt.update(found)
        return done

    def _record(
        self,
        own: Attack,
        config: dict[str, Any],
        found: Outcome | WorstCase,
        learnt: dict[str, Perturbation],
        quiet: bool,
        keeper: Keeper | None,
        recorded: Recorded,
    ) -> tuple[Record, Perturbation | None]:
        """The record of what ``own``, the copy of the attack that was run, has done; and what it learnt."""
        bench, attack = self.bench, self.attack
        worst = found if isinstance(found, WorstCase) else None
        outcome = found.outcome() if isinstance(found, WorstCase) else found
        perturbation, adversarial = outcome.perturbation, bench.rank(outcome.embeddings)
        size = outcome.size.card()
        controls = measure_controls(bench, own, self.threat, self.seed, perturbation, quiet)
        retrains, verdict = isinstance(own, UniversalAttack) and own.retrains, ""
        if retrains:
            started = time.monotonic()
            controls, verdict = replace(self, attack=own)._of_retrained(
                outcome, adversarial, learnt, quiet, recorded
            )
            outcome.cost["control_seconds"] = time.monotonic() - started
        record = Record(
            id=config_id(config),
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            config=config,
            asked=self.asked(),
            protocol=bench.dataset.protocol,
            synthetic=bench.dataset.synthetic,
            knowledge=sorted(attack.knowledge),
            universal=attack.universal,
            label=label(attack),
            victim_label=bench.victim_label(),
            clean=trial_metrics(bench, bench.clean_trials),
            adversarial=trial_metrics(bench, adversarial),
            controls=controls,
            members=worst.members() if worst else [],
            left_out=self._left_out(),
            chance=bench.chance,
            level="model" if retrains else "feature" if outcome.edits else "pixel",
            verdict=verdict,
            stealthy=stealthy(bench, controls) if outcome.edits else None,
            size=size,
            cost=outcome.cost,
            fit_log=dict(perturbation.fit_log) if perturbation else {},
            environment={
                **environment(example_tensor(bench.victim).device),
                "precision": _precision(self._origin),
            },
            surrogate=self.source.victim.name if self.source else "",
            warnings=[
                *bench.dataset.notes,
                *bench.victim.remarks,
                *_fit_warnings(perturbation),
                *_resize_warnings(perturbation),
                *_overspent(size),
                *([] if retrains or outcome.edits else _unchanged(size, self.threat)),
                *tie_warnings(adversarial),
                *self._unrepeatable(),
            ],
            **paired(bench.clean_trials, adversarial, self.seed),
        )
        if worst:
            record.per_query["member"] = worst.per_trial()
            record.warnings += [f"{name} is left out: {reason}" for name, reason in record.left_out.items()]
        record.seal()
        if keeper is not None:
            keeper.take(bench, outcome, adversarial, record)
        return record, perturbation

    def _unrepeatable(self) -> list[str]:
        """What of the run a GPU adds up in any order: the gradients of bilinear resizing and of attention."""
        victim = self._origin.victim
        found = {
            "input diversity": any(getattr(run.attack, "diversity", 0) for run in self._runs()),
            "attention": any(isinstance(module, Attention) for module in victim.modules()),
        }
        named = " and ".join(name for name, there in found.items() if there)
        if not named or example_tensor(victim).device.type != "cuda":
            return []
        return [f"{named} on a GPU: the same seed need not give the same bits"]

    def _left_out(self) -> dict[str, str]:
        if not isinstance(self.attack, Battery):
            return {}
        _, others = self.attack.applicable(self._origin.victim, self.threat)
        return {label(member): reason for member, reason in others}

    def _fit(
        self, quiet: bool, found: dict[str, Perturbation]
    ) -> tuple[Perturbation | None, dict[str, float]]:
        if not isinstance(self.attack, UniversalAttack):
            return None, {}
        if self.perturbation is not None:
            return self.perturbation.resized(self.bench.victim.input_size, self.threat), {}
        known = found.get(self.fit_id())
        if known is not None:
            cost = known.fit_log.get("cost")
            return known, dict(cost) if isinstance(cost, dict) else {}
        who, victim, training = (
            f"attack '{self.attack.name}'",
            twin(self._origin.victim),
            self._origin.training,
        )
        generator, threat = torch_generator(self.seed), replace(self.threat)
        with contained(who, generator.initial_seed()), Meter(victim) as meter:
            learnt = self.attack.fit(victim, training, threat, generator, quiet)
        learnt = own_perturbation(who, learnt, self._origin.victim.input_size)
        cost = {
            "fit_evaluations": meter.evaluations,
            "fit_seconds": meter.seconds,
            "peak_memory": meter.peak_memory,
        }
        facts = {
            "attack": self.attack.name,
            "settings": self.attack.settings(),
            "threat": self.threat.card(),
            "victim": self._origin.victim_card(),
            "dataset": self.bench.data_card(training=True),
            "seed": self.seed,
            "digest": learnt.digest,
            "fit": self.fit_id(),
        }
        learnt = replace(learnt.with_provenance(**facts), fit_log={**learnt.fit_log, "cost": dict(cost)})
        found[self.fit_id()] = learnt
        return learnt, cost

    def _of_retrained(
        self,
        outcome: Outcome,
        attacked: list[RankMetrics],
        found: dict[str, Perturbation],
        quiet: bool,
        recorded: Recorded,
    ) -> tuple[list[ControlRecord], str]:
        """Controls of an attacker who trains the victim, and the verdict; fits the variants of the attack."""
        assert isinstance(self.attack, UniversalAttack) and outcome.tested is not None
        ranked = {
            TAMPERED: outcome.tested.clean_trials,
            "d on the untouched victim": self.bench.rank(
                self._embeddings(self.bench, outcome.perturbation, quiet)
            ),
            **within_modalities(self.bench, "untouched"),
            **within_modalities(outcome.tested, "tampered"),
        }
        rows = {name: trial_metrics(self.bench, trials) for name, trials in ranked.items()}
        known = self._recorded_trainings(recorded)
        for name, variant in self.attack.variants().items():
            run = self._training_of(variant)
            fit = run.fit_id()
            if fit not in known:
                learnt, _ = run._fit(quiet, found)
                bench = run._handed_over(learnt)
                known[fit] = (trial_metrics(bench, bench.clean_trials), None)
                if learnt is not None and any(bool(delta.any()) for delta in learnt.deltas.values()):
                    shown = bench.rank(run._embeddings(bench, learnt, quiet))
                    known[fit] = (known[fit][0], trial_metrics(bench, shown))
            clean, perturbed = known[fit]
            rows[f"{name}: clean images"] = clean
            if perturbed is not None:
                rows[name] = perturbed
        reference = rows[f"{REFERENCE}: clean images"]
        verdict = judged(reference, rows[TAMPERED], trial_metrics(self.bench, attacked))
        return [ControlRecord(name=name, trials=trials) for name, trials in rows.items()], verdict

    def _training_of(self, variant: UniversalAttack) -> Run:
        """The run of a variant of the attack, which learns also where this run replays."""
        return replace(self, attack=variant, perturbation=None)

    def _recorded_trainings(
        self, recorded: Recorded
    ) -> dict[str, tuple[list[TrialMetrics], list[TrialMetrics] | None]]:
        """Results on clean and, if there is a perturbation, attacked images, by :meth:`fit_id`.

        They are those of recorded runs of this attack's variants, and of the controls of these runs.
        """
        assert isinstance(self.attack, UniversalAttack)
        known = {}
        for variant in self.attack.variants().values():
            run = self._training_of(variant)
            record = recorded(run)
            controls = {one.name: one.trials for one in record.controls} if record else {}
            if record is None or TAMPERED not in controls:
                continue
            attacked = record.adversarial if record.size.get("linf_levels") else None
            known[run.fit_id()] = (controls[TAMPERED], attacked)
            for name, other in variant.variants().items():
                if f"{name}: clean images" in controls:
                    shown = (controls[f"{name}: clean images"], controls.get(name))
                    known.setdefault(self._training_of(other).fit_id(), shown)
        return known

    def _embeddings(self, bench: Bench, learnt: Perturbation | None, quiet: bool) -> dict[Side, Tensor]:
        """Embeddings of both sides by the victim of ``bench``, with ``learnt`` on the attacked ones."""
        embeddings = {side: known.embeddings for side, known in bench.clean.items()}
        for side in self.threat.sides:
            plan = Plan(self.attack, self.threat, self.seed, learnt)
            embeddings[side] = craft_side(bench, side, plan, PerturbationSize(), quiet=quiet).embeddings
        return embeddings

    def _handed_over(self, perturbation: Perturbation | None) -> Bench:
        """The bench of the victim under test: what an attacker made of it, if the attack trains it."""
        attack = self.attack
        if perturbation is None or not isinstance(attack, UniversalAttack) or not attack.retrains:
            return self.bench
        with contained(f"attack '{attack.name}'", self.seed):
            victim = attack.tampered(deepcopy(perturbation), twin(self.bench.victim))
        return self.bench.with_victim(victim)

    def _edits(self, perturbation: Perturbation | None) -> AnyEdits:
        attack = self.attack
        if perturbation is None or not isinstance(attack, UniversalAttack) or attack.retrains:
            return {}
        with contained(f"attack '{attack.name}'", self.seed):
            return attack.edits(deepcopy(perturbation), twin(self.bench.victim))


#: The record of a run, if there is one.
Recorded = Callable[[Run], Record | None]


def looks_at_training(attack: Attack) -> bool:
    """Whether an attack may depend on the training images."""
    return attack.universal or "training" in attack.knowledge


def fit_of(config: dict[str, Any], attack: dict[str, Any] | None = None) -> str:
    """A hash of the parts of a configuration that a fit depends on, for its attack or the given card."""
    data = {name: config["dataset"].get(name) for name in ("split", "training")}
    return config_id(
        {
            **config,
            "victim": config.get("surrogate") or config["victim"],
            "dataset": data,
            "attack": attack or config["attack"],
            "threat": {**config["threat"], "side": None},
        }
    )


def _precision(bench: Bench) -> str:
    card = precision_card(bench.victim)
    return precision_text(card) or str(card["dtype"])


def check_fit(
    attack: Attack,
    threat: ThreatModel,
    origin: Victim,
    transferred: bool,
    perturbation: Perturbation | None = None,
) -> None:
    """Raise :class:`BadInput` if an attack cannot be crafted on ``origin``.

    ``transferred``: it is evaluated on another victim. ``perturbation``: to be replayed instead of fitting.
    """
    attack.check(origin, threat)
    if perturbation is not None and not isinstance(attack, UniversalAttack):
        raise BadInput(f"attack '{attack.name}' learns nothing; it cannot replay a perturbation")
    if transferred and isinstance(attack, UniversalAttack) and attack.tampers:
        raise BadInput(
            f"{label(attack)} changes features inside the victim it is fitted on; it cannot transfer"
        )


def _fit_warnings(perturbation: Perturbation | None) -> list[str]:
    found = perturbation.fit_log.get("warnings") if perturbation else None
    return [str(one) for one in found] if isinstance(found, list) else []


def _overspent(size: dict[str, float]) -> list[str]:
    # Floating-point error can exceed the budget slightly.
    if size["asked"] <= 1.01:
        return []
    return [f"the attack returned changes of up to {size['asked']:.2f} budgets; they were cut to the budget"]


def _unchanged(size: dict[str, float], threat: ThreatModel) -> list[str]:
    if size["linf_levels"] > 0:
        return []
    budget = f"{threat.norm} {show_budget(threat.eps, threat.norm)}"
    return [f"attack inactive (no pixel of any image changed within {budget})"]


def _resize_warnings(perturbation: Perturbation | None) -> list[str]:
    resized = perturbation.provenance.get("resized") if perturbation else None
    return [f"the perturbation was learnt at another size: {resized}"] if resized else []
