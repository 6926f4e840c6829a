"""Batteries of attacks for rankings, as AutoAttack for classifiers: a bound for a level of knowledge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from vbench.attacks.base import Attack, Battery
from vbench.attacks.build import build_attack
from vbench.core.settings import param

Knowledge = Literal["black_box", "own", "training", "gallery", "five"]

#: What each choice runs, in the order that breaks ties: docs/battery.csv; "gallery" has three more, for
#: victims on which the only one chosen there fails.
_MEMBERS: Mapping[str, tuple[str, ...]] = {
    "black_box": ("square", "square[p=0.05]", "simba"),
    "own": ("metric_mifgsm", "odfa", "mifgsm", "lta", "square"),
    "training": ("metric_mifgsm", "fna[push=1]", "fna[guides=training]", "odfa", "fna[pull=4]"),
    "gallery": ("metric_ifgsm[guides=gallery]", "fna[guides=gallery]", "metric_mifgsm", "fna[push=1]"),
    "five": (
        "square[preset=v1,queries=200]",
        "uap[preset=v1]",
        "pgd[preset=v1]",
        "sma[preset=v1]",
        "fna[preset=v1]",
    ),
}


@dataclass(frozen=True)
class Ensemble(Battery):
    """The worst of several attacks for each query: a bound on what attackers with some knowledge can do.

    ``members`` says what they know: "black_box" only the embeddings of what they submit, "own" the victim and
    the attacked image, "training" also images of other identities, "gallery" also the gallery and which of
    its images show the person. Each has all attacks of less knowledge to choose from; those that add most to
    the worst case on undefended victims were taken, one after another (``make battery``, docs/presets.md). No
    defended victim was in the choice. "five" are the five attacks of version 1, each as it was then:
    ``square`` with 200 queries, ``uap``, ``pgd``, ``sma`` and ``fna``.

    They are the same for every victim, with settings whose steps scale with eps. A member that cannot attack
    the victim, such as ``pgd`` without a classifier, is left out; table and record say so. The evaluator
    chooses with true identities: for each query the image with the lowest average precision, averaged over
    the trials; a tie goes to the earlier member. Query side and L_inf only.
    """

    name: ClassVar[str] = "ensemble"
    version: ClassVar[int] = 4
    summary: ClassVar[str] = "the worst of several attacks for each query, as AutoAttack for classifiers"
    paper: ClassVar[str] = (
        "after Croce and Hein, Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse "
        "Parameter-free Attacks, ICML 2020"
    )
    PRESETS: ClassVar[Mapping[str, Mapping[str, object]]] = {"v1": {"members": "five"}}

    members: Knowledge = param(
        "training", "what the members know: black_box, own, training, gallery; or five"
    )

    def attacks(self) -> tuple[Attack, ...]:
        return tuple(build_attack(spec) for spec in _MEMBERS[self.members])
