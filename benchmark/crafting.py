"""Crafting adversarial images with somebody's attack, on copies of all that it is given."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from vbench.attacks.base import Attack, Context, Gallery, PerImageAttack
from vbench.attacks.perturbation import Perturbation
from vbench.attacks.returned import own_images
from vbench.errors import VbenchError
from vbench.meter import Meter
from vbench.sandbox import contained
from vbench.threat import ThreatModel
from vbench.types import Side
from vbench.victims.base import Edits, Victim
from vbench.workbench import Workbench


class Crafter:
    """Changes images of one side with one attack, on ``victim``, a copy of the victim of ``source``.

    ``perturbation`` is what a universal attack learnt.
    """

    def __init__(
        self,
        source: Workbench,
        victim: Victim,
        side: Side,
        attack: Attack,
        threat: ThreatModel,
        perturbation: Perturbation | None,
    ) -> None:
        self._source = source
        self._victim = victim
        self._side = side
        self._attack = attack
        self._threat = threat
        self._perturbation = perturbation
        self._draws = False

    def craft(self, images: Tensor, rows: slice, seeds: tuple[int, ...]) -> tuple[Tensor, Meter]:
        """Adversarial versions of the images of these rows, nobody else's, and what they cost.

        Global random state starts from the first image's seed; an attack that draws from it is given each
        image alone, so that chance does not depend on the batch.
        """
        if not isinstance(self._attack, PerImageAttack):
            if self._perturbation is None:
                raise VbenchError(
                    f"attack '{self._attack.name}' is universal and has no perturbation to apply"
                )
            with Meter(self._victim) as meter:
                return self._perturbation.apply(images), meter
        meter = Meter(self._victim)
        if not self._draws:
            found, self._draws = self._crafted(images, rows, seeds, meter)
            if not self._draws or len(images) == 1:
                return found, meter
            meter = Meter(self._victim)
        found = [
            self._crafted(images[i : i + 1], slice(row, row + 1), seeds[i : i + 1], meter)[0]
            for i, row in enumerate(range(rows.start, rows.stop))
        ]
        return torch.cat(found), meter

    def _crafted(
        self, images: Tensor, rows: slice, seeds: tuple[int, ...], meter: Meter
    ) -> tuple[Tensor, bool]:
        """Adversarial images, and whether the attack drew from global random state."""
        who, modality = f"attack '{self._attack.name}'", self._source.modality(self._side)
        context = self._context(images, rows, seeds)
        with contained(who, seeds[0]) as ran, meter:
            found = self._attack.perturb(self._victim, images.clone(), modality, context)
        return own_images(who, found, images), ran.drew

    def _context(self, images: Tensor, rows: slice, seeds: tuple[int, ...]) -> Context:
        known = self._source.clean[self._side]
        return Context(
            replace(self._threat),
            seeds,
            known.embeddings[rows].to(images, copy=True),
            {modality: one.clone() for modality, one in self._prototypes.items()},
            self._gallery(rows) if "gallery" in self._attack.knowledge else None,
            known.predictions[rows].clone() if known.predictions is not None else None,
        )

    @cached_property
    def _prototypes(self) -> dict:
        return dict(self._source.prototypes()) if "training" in self._attack.knowledge else {}

    def _gallery(self, rows: slice) -> Gallery:
        other = Side.GALLERY if self._side is Side.QUERY else Side.QUERY
        found = self._source.clean[other].embeddings.clone()
        ids, query_ids = self._source.ids(other), self._source.ids(self._side)[rows]
        return Gallery(found, ids.to(found.device, copy=True), query_ids.to(found.device, copy=True))


def contained_edits(who: str, edits: Edits) -> Edits:
    """Edits that are given a copy of each feature map, and whose errors name ``who``."""

    def contain(edit):
        def edited(features: Tensor) -> Tensor:
            with contained(who):
                found = edit(features.clone())
            if not isinstance(found, Tensor):
                raise VbenchError(f"{who}: an edit must return a feature map, not a {type(found).__name__}")
            return found

        return edited

    return {stage: contain(edit) for stage, edit in edits.items()}
