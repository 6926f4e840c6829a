"""A fixed battery of attacks for rankings, as AutoAttack for classifiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vbench.attacks.base import Attack, Battery
from vbench.attacks.black_box import Square
from vbench.attacks.bouniot import FNA, SMA
from vbench.attacks.classification import PGD
from vbench.attacks.uap import UAP


@dataclass(frozen=True)
class Ensemble(Battery):
    """The worst of five attacks for each query, without parameters.

    One of each kind, so that a victim with misleading gradients for one is still attacked by another:
    black-box (``square``), universal (``uap``), classification (``pgd``), and metric in both directions, away
    from the clean embedding (``sma``) and toward another identity (``fna``), like AutoAttack's untargeted and
    targeted members. They are the same for every victim, with default settings, whose steps scale with eps;
    the black-box attack is limited to 200 queries per image to keep it affordable. A member that cannot
    attack the victim, such as ``pgd`` without a classifier, is left out; table and record say so.

    The evaluator chooses with true identities: for each query the image with the lowest average precision,
    averaged over the trials; a tie goes to the earlier member in this order. Query side and L_inf only.
    """

    name: ClassVar[str] = "ensemble"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "the worst of five attacks for each query, as AutoAttack for classifiers"
    paper: ClassVar[str] = (
        "after Croce and Hein, Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse "
        "Parameter-free Attacks, ICML 2020"
    )

    def members(self) -> tuple[Attack, ...]:
        return (Square(queries=200), UAP(), PGD(), SMA(), FNA())
