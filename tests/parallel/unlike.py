"""Attacks that do not go the same way on every process."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from vbench.attacks.base import PerImageAttack, UniversalAttack
from vbench.attacks.perturbation import Perturbation
from vbench.core.errors import VbenchError
from vbench.core.settings import param


@dataclass(frozen=True)
class Fails(PerImageAttack):
    """Fails on the second process alone, after the first batch."""

    name: ClassVar[str] = "fails"
    summary: ClassVar[str] = "fails on one process"

    how: Literal["error", "bug", "death"] = param("error", "an error with a line, one without, or none")

    def craft(self, victim, images, modality, context):
        with torch.no_grad():
            victim(images, modality)
        if os.environ.get("RANK") == "1":
            if self.how == "death":
                os._exit(9)
            raise VbenchError("its own disk is full") if self.how == "error" else KeyError("a bug")
        with torch.no_grad():
            victim(images, modality)
        return images


@dataclass(frozen=True)
class Learns(UniversalAttack):
    """Learns something else on every process."""

    name: ClassVar[str] = "learns"
    summary: ClassVar[str] = "differs between processes"

    def learn(self, victim, train, threat, generator, quiet):
        return Perturbation(torch.full((3, *victim.input_size), 1e-3 * int(os.environ.get("RANK", 0))))
