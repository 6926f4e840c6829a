"""The battery that this benchmark reports: what AutoAttack is to classifiers."""

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
    """The worst of five attacks for each query, with nothing to set.

    One of each kind, so that a victim whose gradients mislead one of them still meets another: black-box
    (``square``), universal (``uap``), classification (``pgd``), and metric in both directions, away from
    where the image was (``sma``) and toward another identity (``fna``), as AutoAttack has an untargeted and a
    targeted member. They are the same for every victim, with their default settings, whose steps follow eps;
    the black box may ask 200 times an image, an allowance that keeps it affordable. A member that a victim
    cannot be attacked with, as ``pgd`` without a classifier, is left out; table and record say so.

    The choice is the evaluator's, by true identities: of each query the one image with the lowest average
    precision, averaged over the trials; a tie goes to the member earlier in this order. A member that wins
    nothing changes nothing. Query side and L_inf only.
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
