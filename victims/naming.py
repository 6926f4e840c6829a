"""Names of tensors in wrapped models: removes ``module.``, ``model.`` and similar parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeVar

from vbench.core.errors import BadInput, shortened
from vbench.victims.checkpoint import choose

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
