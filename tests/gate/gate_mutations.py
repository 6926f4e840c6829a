"""Ways to break vbench, one line each, applied to the running code: what a gate must not let pass."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from mutated import mutated

from vbench.attacks import steps, updates
from vbench.run import craft
from vbench.run.bench import Bench
from vbench.victims import base, layers

PGD, METRIC = "pgd", "metric_ifgsm"
UAP, FSAM = "uap[evaluations=1600,batch=16]", "fsam_uap[preset=strong,fsam=true,evaluations=3200]"


@dataclass(frozen=True)
class Mutation:
    """``old`` becomes ``new`` in the source of ``where``; ``attack`` is one that it breaks.

    ``seen`` are some of the figures, or of the words of a failure, that must tell.
    """

    what: str
    attack: str
    where: Callable
    old: str
    new: str
    seen: tuple[str, ...]

    def applied(self) -> AbstractContextManager[None]:
        """The mutated code runs inside, wherever the function was imported to."""
        return mutated(self.where, self.old, self.new)


STRENGTH = ("drop_r1", "drop_map", "asr")

MUTATIONS = (
    Mutation(
        "a step goes down",
        METRIC,
        steps.ascend,
        "current + step_size * direction",
        "current - step_size * direction",
        STRENGTH,
    ),
    Mutation(
        "an update of a universal perturbation goes down",
        UAP,
        updates.learn_delta,
        "delta + step_size",
        "delta - step_size",
        STRENGTH,
    ),
    Mutation(
        "an update of the paper's attack goes down",
        FSAM,
        updates.learn_delta,
        "delta + step_size",
        "delta - step_size",
        ("drop_map",),
    ),
    Mutation(
        "steps are not projected",
        METRIC,
        steps.ascend,
        "threat.project(images, current + step_size * direction(velocity, threat.norm))",
        "current + step_size * direction(velocity, threat.norm)",
        ("asked",),
    ),
    Mutation(
        "a universal perturbation is not projected",
        UAP,
        updates.learn_delta,
        ".clamp(-eps, eps)",
        "",
        ("asked",),
    ),
    Mutation(
        "the runner does not project",
        "noise",
        craft._enforced,
        "threat.enforce(clean, adversarial)",
        "(clean + 2 * (adversarial - clean)).clamp(0, 1)",
        ("8-bit grid",),
    ),
    Mutation(
        "pixels are not normalised",
        "noise",
        layers.Normalise.forward,
        "return (images - self.mean) / self.std",
        "return images",
        ("r1", "map"),
    ),
    Mutation(
        "modalities are swapped",
        "noise",
        Bench.modality,
        "side is Side.QUERY",
        "side is not Side.QUERY",
        ("r1", "map"),
    ),
    Mutation(
        "victims are in training mode",
        "noise",
        base.frozen,
        "victim.eval()",
        "victim.train()",
        ("r1", "map"),
    ),
    Mutation(
        "half of the steps",
        METRIC,
        steps.IterativeAttack.schedule,
        "steps = self.steps\n",
        "steps = self.steps // 2\n",
        ("evaluations",),
    ),
    Mutation(
        "steps of half the size",
        PGD,
        steps.IterativeAttack.schedule,
        "reach * threat.epsilon / steps",
        "reach * threat.epsilon / steps / 2",
        STRENGTH,
    ),
    Mutation(
        "half of the updates",
        UAP,
        updates.updates_for,
        "(evaluations - before) // per_update",
        "(evaluations - before) // per_update // 2",
        ("fit_evaluations",),
    ),
)
