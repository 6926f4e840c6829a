"""How an authors' released state dict maps to a victim of ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from vbench.errors import BadInput

_SHOWN = 6


@dataclass(frozen=True)
class ReleasedLayout:
    """Naming rules of one released checkpoint.

    ``renames`` are (pattern, replacement) pairs that turn our tensor names into the released ones; several
    of ours may start from one released tensor.
    ``twins`` are pairs that turn the name of a dead tensor (stored, never used) into the name of the live
    tensor it duplicates; a tensor is dead only where that live tensor exists.
    ``unused`` are patterns of released names that the authors store and never use, in training or at test.
    ``left_out`` are patterns of what a smaller variant does not use: dead where no live name matches them.
    ``classifier`` is our name of the identity classifier's C x D weight.
    ``marks`` are released names that, all present, tell this file from those of other models.
    """

    renames: tuple[tuple[str, str], ...] = ()
    twins: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    classifier: str = "classifier.weight"
    marks: tuple[str, ...] = ()

    def recognises(self, state: Mapping[str, Tensor]) -> bool:
        """Whether a released state dict bears the marks of this layout."""
        return bool(self.marks) and all(mark in state for mark in self.marks)

    def released_name(self, own: str) -> str:
        """The released name of one of our tensors."""
        return _substitute(own, self.renames)

    def is_dead(self, released: str, live: Iterable[str]) -> bool:
        """Whether a stored tensor is known to be unused, given the names that are used."""
        if any(re.search(pattern, released) for pattern in self.unused):
            return True
        if any(re.search(p, released) and not any(re.search(p, n) for n in live) for p in self.left_out):
            return True
        twin = _substitute(released, self.twins)
        return twin != released and twin in live

    def num_classes(self, state: Mapping[str, Tensor], where: str) -> int:
        """Read the number of identities off the classifier's weight; BadInput if it is not there."""
        name = self.released_name(self.classifier)
        if name not in state or state[name].ndim != 2:
            raise BadInput(
                f"{where}: no identity classifier '{name}' in it; is it a checkpoint of this victim?"
            )
        return state[name].shape[0]

    def translate(
        self, state: Mapping[str, Tensor], own: Mapping[str, Tensor], where: str
    ) -> dict[str, Tensor]:
        """Return ``state`` under our names, without dead tensors.

        ``own`` is the state dict of the victim to fill: names and shapes must fit it exactly, else BadInput
        lists the missing, unexpected and wrongly shaped tensors under the names the file uses.
        """
        names = {ours: self.released_name(ours) for ours in own}
        live = dict.fromkeys(names.values())
        missing = [name for name in live if name not in state]
        unexpected = [name for name in state if name not in live and not self.is_dead(name, live)]
        misshaped = {
            name: f"{name} {tuple(state[name].shape)} instead of {tuple(own[ours].shape)}"
            for ours, name in names.items()
            if name in state and state[name].shape != own[ours].shape
        }
        kinds = (("missing", missing), ("unexpected", unexpected), ("wrong shape", [*misshaped.values()]))
        problems = [f"{kind} ({len(found)}): {_shorten(found)}" for kind, found in kinds if found]
        if problems:
            raise BadInput(f"{where}: the tensors do not fit this victim; {'; '.join(problems)}")
        return {ours: state[name] for ours, name in names.items()}


#: The layout of our own files: same names, nothing dead.
OWN_LAYOUT = ReleasedLayout()


def _substitute(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        changed, count = re.subn(pattern, replacement, name, count=1)
        if count:
            return changed
    return name


def _shorten(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown}, and {len(names) - _SHOWN} more"
