"""The one state dict in what a torch.save file holds, and what lies beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vbench.errors import BadInput, shortened, unknown_name

#: Entries that hold the model itself, whatever lies beside them: averaged weights, an optimiser, a loss.
_USUAL = ("net", "state_dict", "model", "model_state_dict", "model_state", "network", "weights", "params")
#: How deep state dicts are looked for, and how deep what lies beside them may be nested.
_LEVELS, _DEEPEST = 3, 50
#: How many entries of what lies beside the tensors are kept, and how many characters of a text.
_ENTRIES, _CHARACTERS = 10_000, 1000
#: As many characters count as an entry.
_A_LINE = 100
_LARGEST_INTEGER = 1 << 64

#: What a dict holds: tensors, tensors and numpy arrays, or some tensors among other things.
_TENSORS, _ARRAYS, _SOME = range(3)

#: An entry of a file: the keys that lead to it.
Entry = tuple[str, ...]


@dataclass(frozen=True)
class Checkpoint:
    """Tensors of a weights file and what is stored beside them (JSON-able).

    ``notes``: what a reader must know of how the file was read, such as which of two state dicts was taken.
    """

    state: dict[str, Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def find_state(content: Any, entry: str | None, where: str) -> Checkpoint:
    """The state dict in the content of a file: the content itself, or an entry of it up to three levels down.

    ``entry`` names one ("model_ema", "checkpoint.model"), or what the names of the wanted tensors begin with.
    Without it the only state dict is taken, or the only one under a usual name; a note says so. Raises
    BadInput that begins with ``where`` when there is none, no single one, or tensors that do not hold what
    they say.
    """
    found = _candidates(content, where)
    if entry is None:
        taken = _the_one(found, where)
    else:
        taken = next((one for one in found if _label(one) == entry), None)
        if taken is None:
            return _beginning_with(entry, found, where)
    state, others = {}, {}
    for name, value in found[taken].items():
        (state if isinstance(name, str) and _is_array(value) else others)[name] = value
    notes = []
    if len(found) > 1 and entry is None:
        rest = ", ".join(f"'{_label(one)}'" for one in found if one != taken)
        notes.append(f"it holds {len(found)} state dicts; '{_label(taken)}' was taken, not {shortened(rest)}")
    if any(str(name).endswith("_packed_params") for name in others):
        raise BadInput(f"{where}: the state of a quantised model; save that of the model before quantisation")
    if others and taken:
        others = {".".join((*taken, str(name))): value for name, value in others.items()}
    beside = {} if not taken else {key: value for key, value in content.items() if key != taken[0]}
    facts = _Facts(where).of({**beside, **others})
    if len(taken) > 1 or len(found) > 1:
        facts["entry"] = _label(taken)
    return Checkpoint(to_tensors(state, where), facts, tuple(notes))


def to_tensors(state: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """Plain tensors on the CPU; BadInput for values that are no numbers or more than the file holds.

    A tensor that repeats a few stored numbers could be of any size.
    """
    return {name: _to_tensor(name, value, where) for name, value in state.items()}


def _to_tensor(name: str, value: Any, where: str) -> Tensor:
    said = f"{where}: its tensor {shortened(repr(name))}"
    if not isinstance(value, Tensor):
        return _from_numpy(np.asarray(value), said)
    if value.is_quantized:
        raise BadInput(f"{said} is quantised; save it as tensor.dequantize()")
    if value.is_nested or value.layout != torch.strided:
        raise BadInput(f"{said} is sparse; save it as tensor.to_dense()")
    if value.device.type != "cpu":
        raise BadInput(f"{said} has no values (device {value.device}); save it from a model with weights")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise BadInput(f"{said} does not hold what its shape says; save it as tensor.clone()")
    return value.detach()


def _from_numpy(array: np.ndarray, said: str) -> Tensor:
    if array.dtype.kind not in "biufc":
        raise BadInput(f"{said} is a numpy array of {array.dtype}, not of numbers; save it as a torch tensor")
    native = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
    try:
        return torch.from_numpy(native)
    except TypeError as error:
        raise BadInput(f"{said} is a numpy array of {array.dtype}, which torch does not have") from error


def _candidates(content: Any, where: str) -> dict[Entry, Mapping[Any, Any]]:
    """Entries that hold tensors, of the purest kind there is: tensors alone, with arrays, with others."""
    if not isinstance(content, dict):
        raise BadInput(
            f"{where}: holds a {type(content).__name__}, not a dict of named tensors; save model.state_dict()"
        )
    if 2 * sum(isinstance(value, Tensor) for value in content.values()) > len(content):
        dicts: dict[Entry, dict[Any, Any]] = {(): content}
    else:
        dicts = dict(_dicts(content))
    kinds = {id(one): _kind(one) for one in dicts.values()}
    for kind in (_TENSORS, _ARRAYS, _SOME):
        found = {label: one for label, one in dicts.items() if kinds[id(one)] == kind}
        named = {label: one for label, one in found.items() if any(isinstance(name, str) for name in one)}
        if named:
            return named
        if found:
            names = shortened(", ".join(f"{name!r}"[:40] for name in list(next(iter(found.values())))[:4]))
            raise BadInput(
                f"{where}: the names of its tensors are no text ({names}); save model.state_dict()"
            )
    entries = shortened(", ".join(str(key)[:40] for key in list(content)[:9] if isinstance(key, str | int)))
    raise BadInput(f"{where}: no state dict among its entries: {entries or 'none'}")


def _kind(one: Mapping[Any, Any]) -> int | None:
    if one and all(isinstance(value, Tensor) for value in one.values()):
        return _TENSORS
    if one and all(map(_is_array, one.values())):
        return _ARRAYS
    return _SOME if any(isinstance(value, Tensor) for value in one.values()) else None


def _dicts(
    content: dict[Any, Any], label: Entry = (), seen: set[int] | None = None
) -> Iterator[tuple[Entry, dict[Any, Any]]]:
    seen = set() if seen is None else seen
    # The state of an optimiser is a dict of tensors too.
    if "param_groups" in content:
        return
    yield label, content
    if len(label) < _LEVELS and id(content) not in seen:
        seen.add(id(content))
        for key, value in content.items():
            if isinstance(value, dict) and isinstance(key, str):
                yield from _dicts(value, (*label, key), seen)


def _the_one(found: Mapping[Entry, Any], where: str) -> Entry:
    if len(found) == 1:
        return next(iter(found))
    usual = [one for one in found if one and one[-1] in _USUAL]
    highest = [one for one in usual if len(one) == min(map(len, usual))]
    if len(highest) == 1:
        return highest[0]
    raise BadInput(f"{where}: holds {len(found)} state dicts; {choose(map(_label, found), where)}")


def choose(entries: Any, where: str) -> str:
    """How to choose one of several parts of a file, for the end of a line."""
    names = list(entries)
    known = shortened(", ".join(f"'{name}'" for name in names))
    return f"choose one of {known}, as in '{where}::{shortened(names[0], 60)}'"


def _beginning_with(entry: str, found: Mapping[Entry, Mapping[Any, Any]], where: str) -> Checkpoint:
    """The tensors of a single state dict whose names begin with ``entry``, without that beginning."""
    start = f"{entry}."
    states = list(found.values())
    inside = {
        name.removeprefix(start): value
        for name, value in (states[0] if len(states) == 1 else {}).items()
        if isinstance(name, str) and name.startswith(start) and _is_array(value)
    }
    if not inside:
        raise unknown_name(f"state dict in {where}", entry, [_label(one) for one in found if one])
    return Checkpoint(to_tensors(inside, where), {"entry": entry})


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray | np.generic)


def _label(entry: Entry) -> str:
    return ".".join(entry)


class _Facts:
    """Copies of what lies beside the tensors, as JSON-able values: no more of it than one could want.

    What is too much, or no plain value, is named by its type. A few lists that share each other would be
    10^12 entries written out.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._left = _ENTRIES

    def of(self, content: Mapping[Any, Any]) -> dict[str, Any]:
        kept = {}
        # Lists last: one that takes all there is leaves no number out.
        for key, value in sorted(content.items(), key=lambda item: isinstance(item[1], list | tuple)):
            if self._left > 0 and isinstance(key, str | int):
                kept[self._text(str(key))] = self._plain(value)
        return kept

    def _plain(self, value: Any, depth: int = 0) -> Any:
        self._left -= 1
        if depth > _DEEPEST:
            raise BadInput(f"{self._where}: what lies beside its tensors is nested without end")
        if self._left > 0:
            if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
                if value.size <= self._left:
                    return self._plain(value.tolist(), depth)
            elif isinstance(value, str):
                return self._text(value)
            elif isinstance(value, list | tuple) and len(value) <= self._left:
                return [self._plain(item, depth + 1) for item in value]
            elif isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
                return f"<integer of {value.bit_length()} bits>"
            elif isinstance(value, bool | int | float | None):
                return value
        return f"<{type(value).__name__}>"

    def _text(self, value: str) -> str:
        self._left -= len(value[:_CHARACTERS]) // _A_LINE
        # A lone half of a surrogate pair can be written nowhere.
        return value[:_CHARACTERS].encode("utf-8", "backslashreplace").decode()
