"""Maps the names of a released state dict to those of our victims."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from vbench.core.errors import BadInput, shortened
from vbench.victims.checkpoint import choose

_SHOWN = 6


@dataclass(frozen=True)
class ReleasedLayout:
    """Naming rules of one released checkpoint.

    ``renames`` are (pattern, replacement) pairs that turn our tensor names into the released ones; several of
    ours may be filled from one released tensor. ``twins`` are pairs that turn the name of a dead tensor
    (stored, never used) into the name of the live tensor it duplicates; a tensor is dead only where that live
    tensor exists. ``unused`` are patterns of released names that the authors store and never use, in training
    or at test. ``left_out`` are patterns of tensors that a smaller variant does not use: dead if no live name
    matches them. ``classifier`` is our name of the identity classifier's C x D weight, whose C rows are the
    number of classes of a victim with the option ``num_classes``. ``marks`` are released names that together
    identify files of this model.
    """

    renames: tuple[tuple[str, str], ...] = ()
    twins: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    classifier: str = "classifier.weight"
    marks: tuple[str, ...] = ()

    def recognises(self, state: Mapping[str, Tensor]) -> bool:
        """Whether a released state dict has all marks of this layout."""
        return bool(self.marks) and all(mark in state for mark in self.marks)

    def released_name(self, own: str) -> str:
        """The released name of one of our tensors."""
        return _substitute(own, self.renames)

    def dead(self, stored: Iterable[str], live: Iterable[str]) -> set[str]:
        """The stored names that are known to be unused, given the names that are used."""
        live = dict.fromkeys(live)
        left_out = [rule for rule in self.left_out if not any(re.search(rule, name) for name in live)]

        def is_dead(name: str) -> bool:
            twin = _substitute(name, self.twins)
            named = any(re.search(rule, name) for rule in (*self.unused, *left_out))
            return named or (twin != name and twin in live)

        return {name for name in stored if is_dead(name)}

    def num_classes(self, state: Mapping[str, Tensor], where: str) -> int:
        """The number of identities, from the shape of the classifier's weight; BadInput if it is missing."""
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
        lists the missing, unexpected and wrongly shaped tensors under the names the file uses. Batch
        counters, which are not used at test time, may be missing or superfluous. Tensors are converted to the
        dtypes of ``own``; BadInput names a tensor that cannot be, or whose values are not finite.
        """
        names = {ours: self.released_name(ours) for ours in own}
        live = dict.fromkeys(names.values())
        missing = [name for name in live if name not in state and not is_counter(name)]
        others = [name for name in state if name not in live and not is_counter(name)]
        dead = self.dead(others, live)
        unexpected = [name for name in others if name not in dead]
        misshaped = {
            name: f"{name} {tuple(state[name].shape)} instead of {tuple(own[ours].shape)}"
            for ours, name in names.items()
            if name in state and state[name].shape != own[ours].shape
        }
        kinds = (("missing", missing), ("unexpected", unexpected), ("wrong shape", [*misshaped.values()]))
        problems = [f"{kind} ({len(found)}): {_shorten(found)}" for kind, found in kinds if found]
        if problems:
            raise Misfit(f"{where}: the tensors do not fit this victim; {'; '.join(problems)}")
        return {
            ours: _as_type_of(own[ours], state[name], f"{where}: its tensor '{name}'")
            if name in state
            else own[ours]
            for ours, name in names.items()
        }


class Misfit(BadInput):
    """Tensors whose names or shapes do not fit the victim."""


#: The layout of our own files: same names, no unused tensors.
OWN_LAYOUT = ReleasedLayout()


def _substitute(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        changed, count = re.subn(pattern, replacement, name, count=1)
        if count:
            return changed
    return name


def _as_type_of(own: Tensor, stored: Tensor, said: str) -> Tensor:
    """The stored tensor in the dtype of the victim's tensor of the same shape."""
    if stored.is_complex() and not own.is_complex():
        raise BadInput(f"{said} is of complex numbers, and this victim's is not")
    whole = not (stored.is_floating_point() or stored.is_complex())
    if whole and own.is_floating_point():
        raise BadInput(f"{said} is of {stored.dtype}, and this victim's of {own.dtype}; is it quantised?")
    converted = stored.to(own.dtype)
    if not own.is_floating_point() and not own.is_complex():
        if not torch.equal(converted.to(stored.dtype), stored):
            raise BadInput(
                f"{said} is of {stored.dtype}, and its numbers are none of this victim's {own.dtype}"
            )
        return converted
    odd = ~_finite(converted)
    # A mask may hold infinite values, in the victim and in its file.
    if bool(odd.any()) and bool(_finite(own.detach().to(odd.device))[odd].any()):
        raise BadInput(f"{said} holds numbers that are not finite in {own.dtype}; was its training sound?")
    return converted


def _finite(tensor: Tensor) -> Tensor:
    small = tensor.is_floating_point() and tensor.element_size() < 4
    return torch.isfinite(tensor.float() if small else tensor)


def _shorten(names: list[str]) -> str:
    shown = ", ".join(shortened(name) for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown}, and {len(names) - _SHOWN} more"


T = TypeVar("T")

#: Attributes of torch's wrappers that hold the wrapped module (parallel, compiled, sharded, checkpointed).
_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
#: Buffers that count training batches and are not used afterwards; files of old torch have none.
COUNTER = "num_batches_tracked"
#: Most parts of a name in a prefix.
_DEEPEST = 12


def is_counter(name: str) -> bool:
    """Whether a tensor is the batch counter of a batch normalisation."""
    return name.rpartition(".")[2] == COUNTER


def bare(state: Mapping[str, T]) -> dict[str, T]:
    """The state without the wrappers' parts of its names and without their common prefix."""
    state = _unwrapped(state)
    for _ in range(_DEEPEST):
        if len(state) < 2 or not all("." in name for name in state):
            break
        first = next(iter(state)).partition(".")[0]
        if any(name.partition(".")[0] != first for name in state):
            break
        state = {name.partition(".")[2]: value for name, value in state.items()}
    return state


def under_names(
    wanted: Iterable[str], state: Mapping[str, T], where: str
) -> tuple[dict[str, T], str, list[str]] | None:
    """The state under the ``wanted`` names, if all of them are in it.

    Its names are taken unchanged, or without the wrappers' parts and one prefix ("model.", "module.net.").
    Also returns the prefix, and the names of tensors without it, which are left out. None if no prefix fits;
    raises BadInput if several do.
    """
    inner, needed = _unwrapped(state), [name for name in wanted if not is_counter(name)]
    fits = [
        prefix
        for prefix, count in _prefixes(needed, inner).items()
        if count >= len(needed) and all(prefix + name in inner for name in needed)
    ]
    if not needed or not fits:
        return None
    if "" in fits:
        return inner, "", []
    if len(fits) > 1:
        starts = [prefix.removesuffix(".") for prefix in fits]
        raise BadInput(f"{where}: several parts of it fit this victim; {choose(starts, where)}")
    (prefix,) = fits
    inside = {name.removeprefix(prefix): value for name, value in inner.items() if name.startswith(prefix)}
    return inside, prefix, [name for name in inner if not name.startswith(prefix)]


def as_wanted(wanted: Iterable[str], state: Mapping[str, T], where: str) -> tuple[dict[str, T], str]:
    """The state under the ``wanted`` names, as far as they are in it, and a note on what was left out, or "".

    Like :func:`under_names`, but also ignores wrappers in the wanted names, and a prefix that all of them
    have and none in the file. If nothing fits, the nearest prefix is removed, so that missing tensors can be
    named.
    """
    ours = _unwrapped({name: name for name in wanted})
    found = under_names(ours, state, where) or _without_own_prefix(ours, state) or _nearest(ours, state)
    inside, prefix, outside = found
    note = ""
    if outside:
        some = shortened(", ".join(outside[:4]) + (", ..." if len(outside) > 4 else ""))
        note = f"tensors named '{shortened(prefix, 60)}...' were taken; left out ({len(outside)}): {some}"
    return {ours.get(name, name): value for name, value in inside.items()}, note


def _without_own_prefix(
    ours: Mapping[str, str], state: Mapping[str, T]
) -> tuple[dict[str, T], str, list[str]] | None:
    """The state for a victim that keeps its network in one attribute, if the file holds just that network."""
    inner, shorter = bare(state), bare(dict.fromkeys(ours))
    start = next(iter(ours), "").removesuffix(next(iter(shorter), ""))
    counted = {name for name in inner if not is_counter(name)}
    if not start or counted != {name for name in shorter if not is_counter(name)}:
        return None
    # The names of a single layer would fit any other layer.
    if not any("." in name for name in shorter):
        return None
    return {start + name: value for name, value in inner.items()}, "", []


def _nearest(ours: Mapping[str, str], state: Mapping[str, T]) -> tuple[dict[str, T], str, list[str]]:
    inner = _unwrapped(state)
    counts = _prefixes(ours, inner)
    prefix = max(counts, key=lambda one: (counts[one], one == ""), default="")
    return {name.removeprefix(prefix): value for name, value in inner.items()}, "", []


def _prefixes(wanted: Iterable[str], names: Iterable[str]) -> Counter[str]:
    """Prefix -> number of names that are this prefix followed by a wanted name."""
    known, counts = set(wanted), Counter[str]()
    for name in names:
        rest = name
        for _ in range(_DEEPEST):
            if rest in known:
                counts[name.removesuffix(rest)] += 1
            _, dot, rest = rest.partition(".")
            if not dot:
                break
    return counts


def _unwrapped(state: Mapping[str, T]) -> dict[str, T]:
    """The state without the wrappers' parts of its names; unchanged if two names would become equal."""
    inner = {_without_wrappers(name): value for name, value in state.items()}
    return inner if len(inner) == len(state) else dict(state)


def _without_wrappers(name: str) -> str:
    *path, last = name.split(".")
    return ".".join([part for part in path if part not in _WRAPPERS] + [last])
