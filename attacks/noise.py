"""Random noise of the whole budget, the baseline that every attack must beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from vbench.attacks.base import Context, PerImageAttack
from vbench.attacks.steps import direction
from vbench.core.settings import param
from vbench.core.types import Modality
from vbench.victims.base import Victim


@dataclass(frozen=True)
class Noise(PerImageAttack):
    """Uniform noise in [-eps, eps], or its sign at full eps; for L2 a random direction of length eps."""

    name: ClassVar[str] = "noise"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "random noise: the floor every attack must beat"
    needs: ClassVar[frozenset[str]] = frozenset()
    norms: ClassVar[frozenset[str]] = frozenset({"linf", "l2"})
    PRESETS: ClassVar[Mapping[str, Mapping[str, object]]] = {"v1": {}}
    EFFORTS: ClassVar[Mapping[str, Mapping[str, object]]] = {"standard": {}, "published": {}}

    kind: Literal["uniform", "sign"] = param("uniform", "uniform in [-eps, eps], or +-eps, equally likely")

    def craft(self, victim: Victim, images: Tensor, modality: Modality, context: Context) -> Tensor:
        noise = context.uniform(images)
        if context.threat.norm == "l2":
            noise = direction(noise, "l2") * context.threat.epsilon
        elif self.kind == "sign":
            noise = noise.sign() * context.threat.epsilon
        return images + noise
