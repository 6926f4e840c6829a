"""A battery: attacks that are run side by side, of which every query meets the worst."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from vbench.attacks.base import Attack, UniversalAttack
from vbench.errors import BadInput
from vbench.threat import ThreatModel
from vbench.types import Side
from vbench.victims.base import Victim

#: The knowledge that chooses among members: true identities and galleries. No attacker has it.
EVALUATION = "evaluation"


@dataclass(frozen=True)
class Battery(Attack):
    """A fixed list of attacks; the result is the worst case over them, query by query.

    Every member is run as it would be alone, with the same seed and under the same threat model. Of each
    query the image of one member is kept, and the kept images are ranked once, so that all metrics speak of
    one set of images, one for each query. Kept is the image with the lowest average precision, averaged over
    the trials in which the query has a match and weighted as the mAP weights them; equal values keep the
    member that stands earlier in the list. So the reported mAP is the lowest that any choice of one image a
    query could reach, and never above a member's own; the other metrics follow from the same images.

    AutoAttack calls an input robust when no member breaks it, and every member's answer is final there. The
    answer to a query depends on the gallery as well, and a protocol draws several: choosing in each trial
    anew would need a different image for each gallery, where an attacker submits one. Which one is chosen by
    true identities, so this is an evaluator's worst case and no attacker's knowledge.

    For images of the gallery there is no such choice: each stands in the rankings of all queries.
    """

    universal: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def members(self) -> tuple[Attack, ...]:
        """The attacks, in the order in which ties are given; each changes pixels alone."""

    @property
    def knowledge(self) -> frozenset[str]:
        return frozenset({EVALUATION}).union(*(member.knowledge for member in self.members()))

    def applicable(
        self, victim: Victim, threat: ThreatModel
    ) -> tuple[list[Attack], list[tuple[Attack, str]]]:
        """The members that can attack this victim, and the others, each with the reason."""
        fit, left_out = [], []
        for member in self.members():
            try:
                member.check(victim, threat)
                fit.append(member)
            except BadInput as error:
                left_out.append((member, str(error)))
        return fit, left_out

    def check(self, victim: Victim, threat: ThreatModel) -> None:
        """Refuse a side without a worst case per query, a budget, or a victim that no member can attack."""
        super().check(victim, threat)
        if threat.side is not Side.QUERY:
            raise BadInput(
                f"attack '{self.name}' keeps the worst image of each query, and there is no such choice for "
                "gallery images: each stands in every ranking; use --side query"
            )
        for member in self.members():
            if isinstance(member, Battery) or (isinstance(member, UniversalAttack) and member.tampers):
                raise BadInput(f"attack '{self.name}': '{member.name}' does more than change pixels")
        fit, left_out = self.applicable(victim, threat)
        if not fit:
            reasons = "; ".join(reason for _, reason in left_out)
            raise BadInput(f"attack '{self.name}' has no member for {victim.name}: {reasons}")
