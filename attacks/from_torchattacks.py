"""``torchattacks:NAME``: the L_inf and L2 attacks of torchattacks on a victim's identity classifier."""

from __future__ import annotations

from typing import ClassVar

import torchattacks
from torch import Tensor

from vbench.attacks.classification import Classifier
from vbench.attacks.libraries import LibraryAttack, Rule, adapt, known
from vbench.core.settings import constructor
from vbench.core.threat import ThreatModel

_L2 = ("l2",)
_BOTH = ("linf", "l2")
_L0 = "it changes few pixels by any amount (L0); the threat models are linf and l2"

RULES: dict[str, Rule | str] = {
    "VANILA": "it changes nothing",
    "GN": "its Gaussian noise has no budget; use the attack 'noise'",
    "FGSM": Rule(whole={}),
    "BIM": Rule(whole={}),
    "RFGSM": Rule(),
    "PGD": Rule(whole={"random_start": False}),
    "EOTPGD": Rule(whole={"random_start": False}),
    "FFGSM": Rule(),
    "TPGD": Rule(),
    "MIFGSM": Rule(whole={}),
    "UPGD": Rule(whole={"random_start": False}),
    "APGD": Rule(_BOTH),
    "APGDT": Rule(_BOTH),
    "DIFGSM": Rule(square=("linf",)),
    "TIFGSM": Rule(square=("linf",)),
    "Jitter": Rule(),
    "NIFGSM": Rule(whole={}),
    "PGDRS": Rule(),
    "SINIFGSM": Rule(whole={}),
    "VMIFGSM": Rule(),
    "VNIFGSM": Rule(),
    "SPSA": Rule(gradients=False),
    "JSMA": _L0,
    "EADL1": "it searches the smallest L1 change; the threat models are linf and l2",
    "EADEN": Rule(_L2),
    "PIFGSM": Rule(whole={}),
    "PIFGSMPP": Rule(whole={}),
    "CW": Rule(_L2),
    "PGDL2": Rule(_L2, whole={"random_start": False}),
    "DeepFool": Rule(_L2),
    "PGDRSL2": Rule(_L2),
    "SparseFool": _L0,
    "OnePixel": _L0,
    "Pixle": _L0,
    "FAB": Rule(_BOTH),
    "AutoAttack": Rule(_BOTH, square=("l2",)),
    # The library's 0.8 gives squares wider than an upright image; this is the paper's value for ImageNet.
    "Square": Rule(_BOTH, gradients=False, defaults={"p_init": 0.05}),
    "MultiAttack": "it takes attacks, not settings; use the attack 'ensemble'",
    "LGV": "it trains copies of the victim and needs training data",
}

_FIXED = frozenset({"model", "norm", "seed", "verbose"})


def offered() -> dict[str, type]:
    """Every attack of the installed torchattacks by name."""
    found = {name: value for name, value in vars(torchattacks).items() if isinstance(value, type)}
    return {name: value for name, value in found.items() if issubclass(value, torchattacks.attack.Attack)}


class TorchattacksAttack(LibraryAttack):
    """One attack of torchattacks on the predicted training identity."""

    version: ClassVar[int] = 1
    library: ClassVar[str] = "torchattacks"

    def run(
        self, classifier: Classifier, images: Tensor, labels: Tensor, threat: ThreatModel, seed: int
    ) -> Tensor:
        given = self.arguments(threat)
        wanted = set(constructor(self.engine).__code__.co_varnames)
        if "norm" in wanted:
            given["norm"] = "Linf" if threat.norm == "linf" else "L2"
        if "seed" in wanted:
            given["seed"] = seed
        if "n_classes" in given:
            given["n_classes"] = min(given["n_classes"], classifier.victim.num_classes)
        return self.engine(classifier, **given)(images, labels)


def attack(name: str) -> type[LibraryAttack]:
    """The class behind ``torchattacks:name``; :class:`vbench.core.errors.BadInput` when it cannot apply."""
    engine = known("torchattacks", name, RULES, offered())
    return adapt(TorchattacksAttack, "torchattacks", name, engine, RULES, _FIXED)
