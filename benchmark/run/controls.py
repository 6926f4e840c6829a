"""Controls of a universal attack: measured like the attack, for comparison."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor

from vbench.attacks.base import AnyEdits, Attack, Control, UniversalAttack, edits_of
from vbench.attacks.perturbation import Perturbation
from vbench.core.errors import BadInput
from vbench.core.isolation import contained, twin
from vbench.core.seeds import SEEDS, torch_generator
from vbench.core.threat import ThreatModel
from vbench.core.types import Side
from vbench.metrics import RankMetrics, rank_embeddings
from vbench.metrics.change import PerturbationSize
from vbench.records.record import ControlRecord, TrialMetrics, loses
from vbench.run.bench import Bench
from vbench.run.craft import Plan, contained_edits, craft_side
from vbench.run.summary import mean_rank1, trial_metrics, trials_rank1
from vbench.victims.embed import embed

#: The control of an attacker who trains the victim: clean images through his weights and modules.
TAMPERED = "tampered, clean images"


def measure_controls(
    bench: Bench,
    attack: Attack,
    threat: ThreatModel,
    seed: int,
    perturbation: Perturbation | None,
    quiet: bool = False,
) -> list[ControlRecord]:
    """Results of every control that a universal attack declares for its perturbation; else empty."""
    if perturbation is None or not isinstance(attack, UniversalAttack):
        return []
    generator, who = torch_generator((seed + 1) % SEEDS), f"attack '{attack.name}'"
    with contained(who, generator.initial_seed()):
        controls = list(attack.controls(deepcopy(perturbation), twin(bench.victim), generator))
    return [
        ControlRecord(
            name=control.name,
            trials=trial_metrics(bench, _ranked(bench, attack, threat, seed, control, quiet)),
        )
        for control in controls
    ]


def stealthy(bench: Bench, controls: Sequence[ControlRecord]) -> bool | None:
    """Whether a victim with tampered features keeps its clean Rank-1; None without such a control."""
    for control in controls:
        if control.name == "modules, d = 0":
            return not loses(mean_rank1(bench.clean_trials), trials_rank1(control.trials))
    return None


def within_modalities(bench: Bench, of: str) -> dict[str, list[RankMetrics]]:
    """Rankings of each side's clean images among themselves, without shots of the query's camera.

    Those of a modality with one camera, which have no match, are left out.
    """
    found: dict[str, list[RankMetrics]] = {}
    lists = {Side.QUERY: bench.dataset.query, Side.GALLERY: bench.dataset.gallery}
    for side, samples in lists.items():
        own, ids = bench.clean[side].embeddings, bench.ids(side)
        cams = torch.tensor([sample.cam for sample in samples])
        try:
            ranked = rank_embeddings(
                own, own, ids, ids, cams, cams, protocol="llcm", similarity=bench.victim.similarity
            )
        except BadInput:
            continue
        # Galleries are chosen for rankings across modalities: here every trial is the same.
        found[f"within {bench.modality(side).value}, {of}"] = [ranked] * len(bench.dataset.trials)
    return found


def judged(
    reference: Sequence[TrialMetrics], clean: Sequence[TrialMetrics], attacked: Sequence[TrialMetrics]
) -> str:
    """The verdict on a model that an attacker trained, against the same training on ``reference``.

    "sabotage" if it loses more than 2 points of Rank-1 on clean images, else "backdoor" if it does on
    attacked ones, else "no effect".
    """
    before = trials_rank1(reference)
    if loses(before, trials_rank1(clean)):
        return "sabotage"
    return "backdoor" if loses(before, trials_rank1(attacked)) else "no effect"


def _ranked(
    bench: Bench,
    attack: UniversalAttack,
    threat: ThreatModel,
    seed: int,
    control: Control,
    quiet: bool,
) -> list[RankMetrics]:
    embeddings: dict[Side, Tensor] = {side: found.embeddings for side, found in bench.clean.items()}
    edits: AnyEdits = {}
    who = f"attack '{attack.name}'"
    if control.tampers:
        with contained(who, seed):
            edits = attack.edits(deepcopy(control.perturbation), twin(bench.victim))
    if control.side == "other":
        for side in (Side.QUERY, Side.GALLERY):
            if side not in threat.sides:
                pixels, modality = bench.pixels[side], bench.modality(side)
                own = contained_edits(who, edits_of(edits, modality))
                embeddings[side] = embed(
                    twin(bench.victim), pixels, modality, own, batch=bench.batch, quiet=quiet
                ).embeddings
        return bench.rank(embeddings)
    for side in threat.sides:
        plan = Plan(attack, threat, seed, control.perturbation, edits)
        embeddings[side] = craft_side(bench, side, plan, PerturbationSize(), quiet=quiet).embeddings
    return bench.rank(embeddings)
