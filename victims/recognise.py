"""Whose checkpoint a file is, when it is not the one that was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from torch import Tensor

from vbench.errors import BadInput
from vbench.victims.base import Victim
from vbench.victims.catalogue import VICTIMS
from vbench.victims.naming import under_names
from vbench.victims.released import ReleasedLayout

#: What people load by mistake besides another victim.
_OTHERS = {
    "a plain ImageNet ResNet": ReleasedLayout(marks=("conv1.weight", "layer4.0.conv1.weight", "fc.weight")),
    "a plain ImageNet ViT": ReleasedLayout(marks=("cls_token", "blocks.0.attn.qkv.weight", "head.weight")),
}

_SPOKEN_WITH_A_VOWEL = "aefhilmnorsx"


def refuse_other_models(victim_class: type[Victim], state: Mapping[str, Tensor], where: str) -> None:
    """Raise BadInput if a released state dict bears the marks of other models and not this one's."""
    if victim_class.released is not None and victim_class.released.recognises(state):
        return
    found = models_of(state)
    if found:
        raise BadInput(
            f"{where}: this looks like {' or '.join(found)}, not like a checkpoint of {victim_class.name}"
        )


def models_of(state: Mapping[str, Tensor]) -> list[str]:
    """What a released state dict looks like: "a DDAG checkpoint (victim ddag)", or a plain backbone."""
    found = []
    for name, facts in VICTIMS.items():
        module, _, attribute = facts.target.partition(":")
        layout = getattr(import_module(module), attribute).released
        if layout is not None and _bears(layout, state):
            article = "an" if name[0] in _SPOKEN_WITH_A_VOWEL else "a"
            found.append(f"{article} {name.upper()} checkpoint (victim {name})")
    return found or [name for name, layout in _OTHERS.items() if _bears(layout, state)]


def _bears(layout: ReleasedLayout, state: Mapping[str, Tensor]) -> bool:
    """Whether the marks of a layout are in a state, under any wrapper or prefix."""
    try:
        return under_names(layout.marks, state, "") is not None
    except BadInput:
        return True
