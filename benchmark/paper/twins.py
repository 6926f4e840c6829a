"""One fit for both levels: the level decides what is kept of a fit, not what is learnt."""

from __future__ import annotations

import dataclasses
from typing import Any

from vbench.attacks.base import Attack
from vbench.attacks.perturbation import Perturbation
from vbench.paper.settings import has_modules


def at_feature_level(attack: Any) -> Attack | None:
    """The attack that keeps its modules, for one at pixel level that has some; None for any other."""
    if attack.name != "fsam_uap" or attack.tampers or not has_modules(attack):
        return None
    return dataclasses.replace(attack, level="feature")


def without_modules(learnt: Perturbation, attack: Attack) -> Perturbation:
    """What ``attack``, at pixel level, would have learnt where its twin learnt ``learnt``."""
    alone = dataclasses.replace(learnt, modules={})
    return alone.with_provenance(settings=attack.settings(), digest=alone.digest)
