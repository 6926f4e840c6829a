"""vbench: how far an unseen perturbation breaks visible-infrared person re-identification.

Everything named in ``__all__`` is loaded on first use, so that ``import vbench`` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vbench.core import __version__, lazy

if TYPE_CHECKING:
    from vbench.api import Result, evaluate, load_victim
    from vbench.attacks.base import Attack, PerImageAttack, UniversalAttack
    from vbench.attacks.build import build_attack
    from vbench.attacks.perturbation import Perturbation
    from vbench.attacks.registry import list_attacks
    from vbench.core.errors import BadInput, VbenchError
    from vbench.core.settings import param
    from vbench.core.threat import ThreatModel
    from vbench.core.types import Modality, Side
    from vbench.data import Dataset, open_dataset
    from vbench.records.record import Record
    from vbench.records.store import RunStore
    from vbench.victims.base import Victim, VictimOutput
    from vbench.victims.registry import list_victims
    from vbench.victims.wrap import wrap

#: Name -> module.
_HOMES = {
    "Attack": "attacks.base",
    "BadInput": "core.errors",
    "Dataset": "data",
    "Modality": "core.types",
    "PerImageAttack": "attacks.base",
    "Perturbation": "attacks.perturbation",
    "Record": "records.record",
    "Result": "api",
    "RunStore": "records.store",
    "Side": "core.types",
    "ThreatModel": "core.threat",
    "UniversalAttack": "attacks.base",
    "VbenchError": "core.errors",
    "Victim": "victims.base",
    "VictimOutput": "victims.base",
    "build_attack": "attacks.build",
    "evaluate": "api",
    "list_attacks": "attacks.registry",
    "list_victims": "victims.registry",
    "load_victim": "api",
    "open_dataset": "data",
    "param": "core.settings",
    "wrap": "victims.wrap",
}

__all__ = [
    "Attack",
    "BadInput",
    "Dataset",
    "Modality",
    "PerImageAttack",
    "Perturbation",
    "Record",
    "Result",
    "RunStore",
    "Side",
    "ThreatModel",
    "UniversalAttack",
    "VbenchError",
    "Victim",
    "VictimOutput",
    "__version__",
    "build_attack",
    "evaluate",
    "list_attacks",
    "list_victims",
    "load_victim",
    "open_dataset",
    "param",
    "wrap",
]


__getattr__ = lazy("vbench", _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
